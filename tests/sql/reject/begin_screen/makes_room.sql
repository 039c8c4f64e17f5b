begin;
select plan(3);

create table item (id integer primary key);
select sqlkit.plan_screen('item', '{id}', '{}', 'append') as plan \gset
select sqlkit.begin_screen(:'plan');
insert into pg_temp.sqlkit_text (sqlkit_first_line, id)
values (2, 'x');
insert into pg_temp.sqlkit_typed
values (1);
select isnt_empty('select from pg_temp.sqlkit_text', 'records in doubt');
select sqlkit.begin_screen(:'plan');
select is_empty(
    'select from pg_temp.sqlkit_text union all select from pg_temp.sqlkit_typed', 'the next piece finds it empty'
);
select is_empty('select from item', 'the target is not touched');

select * from finish();
rollback;
