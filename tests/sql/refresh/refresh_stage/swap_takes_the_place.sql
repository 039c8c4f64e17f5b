-- A new table takes the place of the old one: what depends on the old one is told of it, or it is refused.
begin;
select plan(24);

create table item (id integer generated always as identity primary key, name text unique, price numeric);
create index item_price_idx on item (price desc);
insert into item (name, price) select
    'n' || i,
    i
from generate_series(1, 10) as i;
create view item_view as select
    id,
    upper(name) as title
from item;
create view item_view_view as select title
from item_view;
create function item_count()
returns bigint
language sql
return (select count(*) from public.item);
create function item_names()
returns setof text
language plpgsql
as $item_names$
begin
    return query select name from public.item order by 1;
end;
$item_names$;
create temporary table before as select
    'item'::regclass::oid as id,
    'item_view'::regclass::oid as view_id,
    sqlkit._signature('item') as signature;

select is(
    sqlkit_test.shown(sqlkit_test.refresh(
        'item',
        $$select i, 'new ' || i, i from generate_series(2, 10) as i union all values (4, 'last', 1)$$,
        'swap'
    )),
    'swap: 10 read, 9 inserted, 1 duplicate, 10 deleted',
    'counters'
);
select isnt('item'::regclass::oid, (select id from before), 'it is another table');
select is(sqlkit._signature('item'), (select signature from before), 'like the old one');
select results_eq('select name from item where id = 4', $$values ('last')$$, 'of repeated keys the last');
select is((select view_id from before), 'item_view'::regclass::oid, 'a view is the same as ever');
select is((select count(*) from item_view_view), 9::bigint, 'and shows the new rows');
select is(item_count(), 9::bigint, 'a function that was parsed reads the new table');
select is((select count(*) from item_names()), 9::bigint, 'one that is parsed as it runs does too');
insert into item (name) values ('next') returning id \gset
select is(:id, 11, 'its identity goes on where it stood');
select is((select count(*) from sqlkit.stage), 0::bigint, 'nothing is left');
select is_empty(
    $$select relname from pg_catalog.pg_class where relname like 'sqlkit\_%' and relkind in ('r', 'i', 'S')$$,
    'under no name of ours'
);
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item limit 5', 'swap', null, 0.4)$$,
    'SK304',
    null,
    'the guard'
);
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item', 'swap', '{id}')$$, 'SK210', null, 'there is no scope'
);
select throws_ok(
    $$select sqlkit_test.refresh('item', $q$values (1, 'a', 1), (2, 'a', 1)$q$, 'swap')$$,
    '23505',
    null,
    'what the constraints refuse'
);
select is((select count(*) from item), 10::bigint, 'changes nothing');

-- What cannot be told of another table.
create materialized view item_stored as select id
from item;
create table referring (id integer constraint to_item references item (id));
create function of_item(item)
returns integer
language sql
return ($1).id;
create table holding (it item);
select is(
    array_length(sqlkit._swap_obstacles('item'), 1),
    4,
    array_to_string(sqlkit._swap_obstacles('item'), ', ')
);
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item', 'swap')$$,
    'SK210',
    'public.item cannot be refreshed by strategy swap',
    'and refused beforehand'
);
select isnt_empty('select from item_stored', 'so that it is there still');

create table part (id integer) partition by range (id);
create table part_1 partition of part for values from (1) to (9);
create table parent (id integer);
create table child () inherits (parent);
create type pair as (a integer, b integer);
create table typed of pair;
create table tree (id integer primary key, parent integer constraint up references tree);
select is((sqlkit._swap_obstacles(k.relation::regclass))[1], k.reason, k.relation)
from (
    values
    ('part', 'it is partitioned or foreign'),
    ('part_1', 'it is a partition'),
    ('parent', 'it inherits, or is inherited from'),
    ('child', 'it inherits, or is inherited from'),
    ('typed', 'it is a table of a composite type'),
    ('tree', 'constraint up on table public.tree depends on it')
) as k (relation, reason);

select * from finish();
rollback;
