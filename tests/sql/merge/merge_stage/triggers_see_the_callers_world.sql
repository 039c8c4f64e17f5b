-- What belongs to the target finds its tables and functions as if the caller wrote by himself.
begin;
select plan(5);

select sqlkit_test.create_schema('shop');
create table shop.item (id integer primary key, name text, code text);
create table shop.changes (id integer, path text);
set local search_path = shop, public;
create function shop.next_code()
returns text
language plpgsql
as $next_code$
begin
    return 'C' || (select count(*) from changes);
end;
$next_code$;
alter table shop.item alter code set default next_code();
create function shop.note()
returns trigger
language plpgsql
as $note$
begin
    insert into changes values (new.id, current_setting('search_path'));
    return new;
end;
$note$;
create trigger note before insert or update on shop.item
for each row execute function shop.note();

select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (1, 'a'), (2, 'b')$$, p_columns => '{id,name}')),
    '2 read, 2 inserted',
    'into an empty table'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (1, 'x'), (2, 'b'), (3, 'c')$$, p_columns => '{id,name}')),
    '3 read, 1 inserted, 1 updated, 1 unchanged',
    'into one that holds rows'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (4, 'd')$$, 'append', p_columns => '{id,name}')),
    '1 read, 1 inserted',
    'appended'
);
select results_eq(
    'select id, path from changes order by id, ctid',
    $$values (1, 'shop, public'), (1, 'shop, public'), (2, 'shop, public'), (3, 'shop, public'), (4, 'shop, public')$$,
    'triggers run under the caller''s search_path'
);
select is((
    select code from item
    where id = 4
), 'C4', 'and so do defaults');

select * from finish();
rollback;
