begin;
select plan(2);

select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" (id integer primary key);
select source_id as odd
from sqlkit.open_source('"Odd."."It""em"', 'a.csv', 'csv', 100, 'hash a', false, '{"map": {"a": "b"}}') \gset
select is(
    (sqlkit.find_source('"Odd."."It""em"', 'hash a', '{"map": {"a": "b"}}')).source_id, :odd::bigint, 'by its manner'
);
select is((sqlkit.find_source('"Odd."."It""em"', 'hash a')).source_id, :odd::bigint, 'in any manner');

select * from finish();
rollback;
