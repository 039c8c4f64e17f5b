-- A load builds indexes anew where that is quicker; of a mirror readers are told that they go on.
begin;
select plan(5);

create table price (code integer primary key, price integer);
create index price_price_idx on price (price);
insert into price select
    n,
    2 * n
from generate_series(1, 300) as n;
analyze price;
select sqlkit_test.as_admin($$insert into sqlkit.refresh_threshold (name, value) values ('rebuild_rows', 100)$$);

create temporary table before as select 'price_price_idx'::regclass::oid as index;

select is(
    sqlkit_test.shown(sqlkit_test.refresh('price', 'select n, -n from generate_series(1, 300) as n', 'mirror')),
    'mirror: 300 read, 300 updated',
    'every row differs'
);
select is(
    'price_price_idx'::regclass::oid,
    (select b.index from before as b),
    'the index was kept, and no reader shut out'
);
select is(
    coalesce(nullif(pg_catalog.current_setting('sqlkit.indexes', true), ''), 'auto'),
    'auto',
    'the setting is what it was'
);

select pg_catalog.set_config('sqlkit.indexes', 'rebuild', true);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('price', 'select n, n from generate_series(1, 300) as n', 'mirror')),
    'mirror: 300 read, 300 updated',
    'every row differs again'
);
select isnt('price_price_idx'::regclass::oid, (select b.index from before as b), 'who asks for it has it built anew');

select * from finish();
rollback;
