begin;
select plan(10);

-- 8 + 8 + 84 bytes a row.
create table item (id bigint, at timestamptz, name text);
insert into item
select
    n,
    now(),
    repeat('x', 83)
from generate_series(1, 20000) as n;
create unique index item_id_idx on item (id);
create temporary table size as
select s.*
from sqlkit.size_load(20000, 100) as s;
select ok(
    (
        select abs(s.bytes - pg_catalog.pg_relation_size('item')) < 0.05 * s.bytes from size as s
        where s.what = 'table'
    ), 'the table'
);
select ok(
    (
        select abs(s.bytes - pg_catalog.pg_relation_size('item_id_idx')) < 0.05 * s.bytes from size as s
        where s.what = 'indexes'
    ),
    'its index'
);
select is(
    (
        select s.bytes from size as s
        where s.what = 'WAL'
    ),
    (
        select sum(s.bytes)::bigint from size as s
        where s.what in ('table', 'indexes')
    ),
    'all of it goes through WAL'
);
select results_eq(
    $$select s.what, s.amount from sqlkit.size_load(130000000, 400, 12, 2) as s where s.what in ('memory', 'cores')
    union all select s.what, s.amount from size as s where s.what = 'memory'$$,
    $$select 'memory', pg_catalog.pg_size_pretty(4 * s.bytes / 2)
    from sqlkit.size_load(130000000, 400, 12, 2) as s where s.what = 'indexes'
    union all values ('cores', '2 to 4'), ('memory', '1024 MB')$$,
    'memory for the index of the key four times over, a GB at least, and cores'
);
select is((
    select count(*) from size as s
    where s.amount = '' or s.why = ''
), 0::bigint, 'all is told');
select is((
    select s.amount from size as s
    where s.what = 'time'
), 'unknown', 'how long: nobody knows yet');
insert into sqlkit.run (kind, target, state, started_at, finished_at)
values ('load', 'public.item', 'done', now() - interval '10 s', now());
insert into sqlkit.batch (run_id, rows_read, rows_inserted)
select
    r.run_id,
    1000000,
    1000000
from sqlkit.run as r;
select
    is((
        select s.amount from sqlkit.size_load(5000000, 100) as s
        where s.what = 'time'
    ), '50 s', 'but the ledger does');
select
    is((
        select s.bytes from sqlkit.size_load(1000, 100, 8, 0) as s
        where s.what = 'indexes'
    ), 0::bigint, 'without index');
select throws_ok($$select sqlkit.size_load(0, 100)$$, '22023', null, 'no rows');
select throws_ok($$select sqlkit.size_load(1, 0)$$, '22023', null, 'rows of no length');

select * from finish();
rollback;
