-- needs: pgstattuple
begin;
select plan(11);

create table price (id integer primary key, note text);
insert into price select
    i,
    repeat('x', 50)
from generate_series(1, 4000) as i;
select throws_ok(
    $$select * from sqlkit.measure_bloat('price')$$, 'SK701', null, 'without pgstattuple it says so'
);
select sqlkit_test.create_schema('Exten sions');
select sqlkit_test.as_admin('create extension pgstattuple schema "Exten sions"');
select sqlkit_test.as_admin(pg_catalog.format('grant pg_stat_scan_tables to %I', session_user));
select is(
    (
        select array_agg(m.kind order by m.kind)
        from sqlkit.measure_bloat('price') as m
        where coalesce(m.bloat_ratio, 0) < 0.1
    ),
    '{index,table,toast}',
    'a table, its TOAST and its indexes, wherever the extension lies'
);
delete from price
where id > 1000;
select ok(
    (
        select m.bloat_ratio between 0.7 and 0.8 and m.live_rows = 1000 and m.dead_bytes > 100000
        from sqlkit.measure_bloat('price') as m
        where m.kind = 'table'
    ),
    'three quarters are dead'
);
select is(
    (select array_agg(m.relation::text) from sqlkit.measure_bloat('price_pkey') as m),
    '{price_pkey}',
    'an index alone'
);
create table nothing (id integer primary key);
select is(
    (select array_agg(m.bloat_bytes order by m.kind) from sqlkit.measure_bloat('nothing') as m),
    '{0,0}',
    'an empty table and its index have none'
);
create index price_hash on price using hash (id);
create view price_view as select id
from price;
select throws_ok(
    $$select * from sqlkit.measure_bloat('price_hash')$$,
    '42809', 'the bloat of public.price_hash cannot be measured', 'an index that is no btree'
);
select throws_ok($$select * from sqlkit.measure_bloat('price_view')$$, '42809', null, 'a view');
select sqlkit_test.as_admin(
    $$update pg_index set indisvalid = false where indexrelid = 'public.price_pkey'::regclass$$
);
select is(
    (select array_agg(m.kind order by m.kind) from sqlkit.measure_bloat('price') as m),
    '{table,toast}',
    'an index that is no btree is passed over, and so is one that is invalid'
);
create table parted (id integer primary key) partition by range (id);
create table part_1 partition of parted for values from (0) to (10);
create table part_2 partition of parted for values from (10) to (20);
insert into parted select i from generate_series(0, 19) as i;
select is(
    (select array_agg(m.relation::text) from sqlkit.measure_bloat('parted') as m),
    '{part_1,part_1_pkey,part_2,part_2_pkey}',
    'of a partitioned table all partitions'
);
select is(
    (select array_agg(m.relation::text) from sqlkit.measure_bloat('parted_pkey') as m),
    '{part_1_pkey,part_2_pkey}',
    'of a partitioned index, too'
);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select set_config('role', :'role', true);
select throws_ok(
    $$select * from sqlkit.measure_bloat('price')$$, '42501', null, 'who may not scan is told by PostgreSQL'
);
reset role;

select * from finish();
rollback;
