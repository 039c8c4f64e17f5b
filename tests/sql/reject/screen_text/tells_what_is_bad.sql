begin;
select plan(5);

create table item (id integer primary key, name text not null);
select sqlkit.plan_screen('item', '{id,name}', '{}', 'append') as plan \gset
select sqlkit.begin_screen(:'plan');
select is(sqlkit.screen_text(:'plan'), '[]', 'nothing is in doubt');
insert into pg_temp.sqlkit_text
values
(2, 2, 'a', null, null, '1', 'one', null),
(3, 3, 'b', null, null, '2', null, null),
(4, 4, 'c', '22P04', 'short', null, null, '[7,9]'),
(5, 5, 'd', '22P04', 'short', null, null, 'empty');
select is(
    sqlkit.screen_text(:'plan') -> 0 ->> 4, '23502', 'a value that is needed and lacks'
);
select is(
    sqlkit.screen_text(:'plan') -> 1, '[7, 9, "c", null, "22P04", "short", 4]', 'what the reader has found'
);
select is(
    sqlkit.screen_text(:'plan') -> 2,
    '[null, null, "d", null, "22P04", "short", 5]',
    'where there are no lines'
);
select is(sqlkit.screen_text(:'plan') -> 0 ->> 6, null, 'a line says it all');

select * from finish();
rollback;
