begin;
select plan(3);

create table price (id integer primary key);
select s.source_id from sqlkit.open_source('price', 'a.csv', 'csv', 10, 'a') as s \gset a_
select s.source_id from sqlkit.open_source('price', 'b.csv', 'csv', 10, 'b') as s \gset b_
update sqlkit.source
set
    state = 'loaded',
    loaded_at = clock_timestamp()
where source_id = :a_source_id;

select lives_ok(format('select sqlkit.check_loaded(array[%s])', :a_source_id), 'it is loaded');
select throws_ok(
    format('select sqlkit.check_loaded(array[%s, %s])', :a_source_id, :b_source_id),
    'SK405',
    'the ledger does not hold a source as loaded',
    'one of them is not'
);
select throws_ok('select sqlkit.check_loaded(array[-1]::bigint[])', 'SK405', null, 'the ledger does not know it');

select * from finish();
rollback;
