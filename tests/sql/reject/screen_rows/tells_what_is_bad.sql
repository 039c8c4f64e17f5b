begin;
select plan(3);

create table kind (name text primary key);
insert into kind values ('fruit');
create table item (id integer primary key, kind text references kind, price numeric check (price > 0.0));
select sqlkit.plan_screen('item', '{id,kind,price}', '{}', 'append') as plan \gset
select sqlkit.begin_screen(:'plan');
insert into pg_temp.sqlkit_typed
values (1, 'fruit', 1), (1, null, null);
select is(sqlkit.screen_rows(:'plan'), '[]', 'rows are judged by themselves: keys are the merge''s');
insert into pg_temp.sqlkit_typed
values (3, 'stone', 1), (4, 'fruit', 0);
select is(sqlkit.screen_rows(:'plan') -> 0 ->> 2, '23503', 'what refers to nothing');
select is(sqlkit.screen_rows(:'plan') -> 1 ->> 2, '23514', 'what a check forbids');

select * from finish();
rollback;
