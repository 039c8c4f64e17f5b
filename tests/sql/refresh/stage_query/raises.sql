begin;
select plan(2);

create table item (id integer primary key);
create view a_view as
select * from item;

select throws_ok($$select sqlkit.stage_query('a_view', 'select 1 as id')$$, 'SK201', null, 'no table');
select is_empty('select * from sqlkit.stage', 'no stage is left');

select * from finish();
rollback;
