begin;
select plan(3);

create table item (id integer primary key, name text not null);
select sqlkit.plan_screen('item', '{id,name}', '{}', 'append') as plan \gset
select sqlkit.begin_screen(:'plan');
select is(sqlkit.screen_text(:'plan'), '[]', 'nothing is in doubt');
insert into pg_temp.sqlkit_text
values
(2, 2, 'a', null, null, '1', 'one'),
(3, 3, 'b', null, null, '2', null),
(4, 4, 'c', '22P04', 'short', null, null);
select is(
    sqlkit.screen_text(:'plan') -> 0 ->> 4, '23502', 'a value that is needed and lacks'
);
select is(
    sqlkit.screen_text(:'plan') -> 1, '[4, 4, "c", null, "22P04", "short"]', 'what the reader has found'
);

select * from finish();
rollback;
