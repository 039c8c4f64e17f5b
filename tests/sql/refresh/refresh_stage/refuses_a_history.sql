-- needs: btree_gist
-- A refresh knows of no versions.
begin;
select plan(7);

select sqlkit_test.as_admin('create extension btree_gist schema public');
create table "a price" (
    id integer not null,
    amount integer,
    valid int4range not null,
    constraint "one version" exclude using gist (id with =, valid with &&)
);
insert into "a price" values (1, 1, '[1,2)'), (1, 2, '[2,)');
select sqlkit.create_stage('"a price"', '{id,amount}') as stage \gset
select
    throws_like(
        pg_catalog.format('select sqlkit.refresh_stage(%L, %L, p_key => %L)', :'stage', s.name, '{id}'),
        '%keeps versions of rows by column valid, and the new content has none',
        s.name || ' refuses'
    )
from pg_catalog.unnest(array['auto', 'truncate', 'swap', 'mirror']) as s (name);
select throws_ok(
    pg_catalog.format('select sqlkit.refresh_stage(%L, %L, p_delete_share => 1)', :'stage', 'truncate'),
    'SK212', null, 'SK212'
);
select is((select count(*) from "a price"), 2::bigint, 'nothing is lost');
select is(
    sqlkit_test.shown(sqlkit_test.refresh('"a price"', $$values (1, 3, '[1,)'::int4range)$$, 'truncate')),
    'truncate: 1 read, 1 inserted, 2 deleted',
    'with its ranges it is content like any other'
);

select * from finish();
rollback;
