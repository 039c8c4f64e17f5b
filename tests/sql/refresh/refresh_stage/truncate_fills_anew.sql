-- A truncate empties a table and fills it; the table stays the same, and gets its indexes back.
begin;
select plan(24);

create table item (
    id integer constraint item_key primary key,
    n serial,
    name text constraint item_name_key unique,
    price numeric(8, 2)
);
create index item_price_idx on item (price) where id > 0;
comment on index item_price_idx is 'by price';
insert into item (id, name, price)
values (1, 'name 1', 1), (2, 'name 2', 2), (3, 'c', 3), (4, 'd', 4), (5, 'e', 5),
(6, 'f', 6), (7, 'g', 7), (8, 'h', 8), (9, 'i', 9), (10, 'j', 10);
create table item_before as select
    'item'::regclass::oid as id,
    (
        select pg_catalog.array_agg(pg_get_indexdef(i.indexrelid))
        from pg_catalog.pg_index as i
        where i.indrelid = 'item'::regclass
    ) as indexes;

select is(
    sqlkit_test.shown(sqlkit_test.refresh(
        'item',
        $$select i, 'new ' || i, i + case when i = 5 then 1 else 0 end from generate_series(4, 12) as i
        union all values (4, 'last', 1)$$,
        'truncate',
        p_columns => '{id,name,price}'
    )),
    'truncate: 10 read, 9 inserted, 1 duplicate, 10 deleted',
    'with its indexes in place, as it has few rows'
);
select results_eq('select name from item where id = 4', $$values ('last')$$, 'of repeated keys the last');
select is((select min(n) from item), 11, 'sequences go on');

-- Every table has many rows now.
select sqlkit_test.as_admin($$insert into sqlkit.refresh_threshold (name, value) values ('rebuild_rows', 0)$$);
select is(
    sqlkit_test.shown(sqlkit_test.refresh(
        'item',
        $$select i, 'new ' || i, i from generate_series(1, 9) as i union all values (4, 'last', 1)$$,
        'truncate',
        p_columns => '{id,name,price}'
    )),
    'truncate: 10 read, 9 inserted, 1 duplicate, 9 deleted',
    'with its indexes built afterwards'
);
select results_eq('select name from item where id = 4', $$values ('last')$$, 'of repeated keys the last');
select is((select id from item_before), 'item'::regclass::oid, 'it is the same table');
select set_eq(
    $$select pg_get_indexdef(i.indexrelid) from pg_catalog.pg_index as i where i.indrelid = 'item'::regclass$$,
    'select pg_catalog.unnest(indexes) from item_before',
    'with the same indexes'
);
select is(obj_description('item_price_idx'::regclass, 'pg_class'), 'by price', 'and their comments');
select throws_ok(
    $$select sqlkit_test.refresh('item', $q$values (1, 'a'), (2, 'a')$q$, 'truncate', p_columns => '{id,name}')$$,
    '23505',
    null,
    'another unique index is broken'
);
select is((select count(*) from item), 9::bigint, 'and nothing is changed');
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item where id < 5', 'truncate', null, 0.5)$$,
    'SK304',
    '5 of 9 rows would be deleted, and the limit is lower',
    'the guard counts how many rows fewer there would be'
);
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item', 'truncate', '{id}')$$,
    'SK210',
    null,
    'there is no scope'
);

create table keyless (name text);
insert into keyless values ('a'), ('b');
select is(
    sqlkit_test.shown(sqlkit_test.refresh('keyless', $$values ('c'), ('c')$$, 'truncate')),
    'truncate: 2 read, 2 inserted, 2 deleted',
    'it needs no key'
);

create table part (id integer, region text, primary key (id, region)) partition by list (region);
create table part_a partition of part for values in ('a');
create table part_b partition of part for values in ('b');
insert into part values (1, 'a'), (2, 'b');
select is(
    sqlkit_test.shown(sqlkit_test.refresh('part', $$values (3, 'b'), (4, 'a'), (3, 'b')$$, 'truncate')),
    'truncate: 3 read, 2 inserted, 1 duplicate, 2 deleted',
    'a partitioned table'
);

create table referring (id integer constraint to_item references item (id));
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item', 'truncate')$$,
    'SK210',
    'public.item cannot be refreshed by strategy truncate',
    'foreign keys point at it'
);
select is(
    sqlkit._truncate_obstacles('item'),
    array['foreign key to_item of public.referring points at it'],
    'they are listed'
);
select is((select count(*) from item), 9::bigint, 'beforehand');

create table tree (id integer primary key, parent integer references tree);
insert into tree values (1, null), (2, 1);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('tree', 'values (2, 1), (1, null), (3, 2)', 'truncate')),
    'truncate: 3 read, 3 inserted, 2 deleted',
    'a foreign key to itself is no hindrance'
);

create table triggered (id integer primary key, seen boolean);
insert into triggered values (1, false);
create table told (what text);
create function pg_temp.tell()
returns trigger
language plpgsql
as $tell$
begin
    if tg_op = 'TRUNCATE' then
        insert into public.told values ('truncate');
        return null;
    end if;
    new.seen := true;
    return new;
end;
$tell$;
create trigger tell before insert on triggered for each row execute function pg_temp.tell();
create trigger tell_all before truncate on triggered execute function pg_temp.tell();
select is(
    sqlkit_test.shown(sqlkit_test.refresh('triggered', 'values (1), (2)', 'truncate', p_columns => '{id}')),
    'truncate: 2 read, 2 inserted, 1 deleted',
    'triggers'
);
select is((select count(*) filter (where seen) from triggered), 2::bigint, 'see each row');
select is((select count(*) from told), 1::bigint, 'and the truncate');

select is(
    sqlkit_test.shown(sqlkit_test.refresh('keyless', $$values ('x') limit 0$$, 'truncate')),
    'truncate: 2 deleted',
    'no rows'
);
select is((select count(*) from sqlkit.run), 7::bigint, 'the ledger');
select is((select sum(rows_deleted) from sqlkit.run_summary), 28::numeric, 'counts what went');

select * from finish();
rollback;
