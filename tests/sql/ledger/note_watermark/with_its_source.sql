begin;
select plan(4);

create table item (id integer primary key);
select source_id as first from sqlkit.open_source('item', 's', 'mysql', null, 'hash 1') \gset
select sqlkit.note_watermark(:first, 's', 'at', null, '5');
select sqlkit.note_watermark(:first, 's', 'at', '4', '6');
select results_eq(
    'select source, column_name, since, value from sqlkit.source_watermark',
    $$values ('s', 'at', '4', '6')$$,
    'the last word counts'
);
select is(sqlkit.find_watermark('item', 's', 'at'), null, 'nothing is moved by that');
select throws_ok(
    'select sqlkit.note_watermark(-1, ''s'', ''at'', null, ''1'')', '23503', null, 'a source that there is not'
);
select sqlkit_test.as_admin('delete from sqlkit.batch');
select sqlkit_test.as_admin('delete from sqlkit.source');
select is_empty('select * from sqlkit.source_watermark', 'what was noted goes with its source');

select * from finish();
rollback;
