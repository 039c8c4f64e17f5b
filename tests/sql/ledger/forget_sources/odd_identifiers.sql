begin;
select plan(2);

create table item (id integer primary key);
select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" (id integer primary key);
select source_id as plain from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a') \gset
select sqlkit.open_source('"Odd."."It""em"', 'a.csv', 'csv', 100, 'hash a');

select is(sqlkit.forget_sources('"Odd."."It""em"'), 1::bigint, 'the sources of a table of any name');
select is(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a')).source_id, :plain::bigint, 'other targets keep theirs'
);

select * from finish();
rollback;
