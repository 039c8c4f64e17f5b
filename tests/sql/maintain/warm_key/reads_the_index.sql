-- needs: pg_prewarm
begin;
select plan(5);

select sqlkit_test.as_admin('create extension pg_prewarm schema public');
create table "a warm price" ("the id" integer primary key, code text, constraint "the code" unique (code));
insert into "a warm price" select
    n,
    n::text
from generate_series(1, 1000) as n;
select results_eq(
    $$select w.index_name, w.bytes from sqlkit.warm_key('"a warm price"') as w$$,
    $$values ('"a warm price_pkey"'::regclass, pg_catalog.pg_relation_size('"a warm price_pkey"'))$$,
    'the primary key''s'
);
select results_eq(
    $$select w.index_name from sqlkit.warm_key('"a warm price"', '{code}') as w$$,
    $$values ('"the code"'::regclass)$$,
    'that of another key'
);
create table parted (id integer primary key) partition by range (id);
create table parted_1 partition of parted for values from (1) to (2);
create table parted_2 partition of parted for values from (2) to (3);
select is((select count(*) from sqlkit.warm_key('parted')), 2::bigint, 'one a partition');
select is(sqlkit._warming_offer('"a warm price"', null), null, 'a small one is read soon enough');
insert into "a warm price" select
    n,
    n::text
from generate_series(1001, 60000) as n;
select alike(
    sqlkit._warming_offer('"a warm price"', null),
    'offer: --warm reads the index of the key, %B, into memory before the first merge',
    'a large one is offered'
);

select * from finish();
rollback;
