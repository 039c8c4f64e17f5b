-- Settings that keep autovacuum away, and what comes of it: rows that are too old.
begin;
select plan(6);

create table item (id integer primary key, note text) with (
    autovacuum_vacuum_threshold = 3000000, toast.autovacuum_enabled = off
);
create table fine (id integer) with (autovacuum_vacuum_threshold = 5, autovacuum_vacuum_scale_factor = 0);
create view pg_temp.found as
select
    p.weight,
    p.problem,
    p.relation,
    p.statement
from sqlkit.find_problems() as p
where p.relation in ('public.item', 'public.fine', 'pg_catalog.pg_class', 'the server', 'database template1');

select results_eq(
    'select problem, statement from found',
    $$values
    ('autovacuum is off', 'alter table public.item reset (toast.autovacuum_enabled)'),
    (
        'autovacuum comes late',
        'alter table public.item set (autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.02)'
    )$$,
    'what is set for a table'
);
do $$
declare
    r_found record;
begin
    for r_found in select f.statement from pg_temp.found as f loop
        execute r_found.statement;
    end loop;
end $$;
select is_empty('select from found', 'the remedies help');

-- Ages are counted back from the next transaction.
create function pg_temp.grow_old(p_table text, p_column text, p_next bigint, p_age bigint)
returns void
language sql
begin atomic
    select sqlkit_test.as_admin(format(
        'update pg_class set %I = %L where oid = %L::regclass',
        p_column, (p_next - p_age + 4294967296) % 4294967296, p_table
    ));
end;
select pg_temp.grow_old('public.item', 'relfrozenxid', pg_current_xact_id()::text::bigint, 230000000);
select pg_temp.grow_old('public.fine', 'relfrozenxid', pg_current_xact_id()::text::bigint, 190000000);
select pg_temp.grow_old('pg_catalog.pg_class', 'relfrozenxid', pg_current_xact_id()::text::bigint, 1100000000);
select results_eq(
    'select weight, problem, statement from found',
    $$values
    (100, 'old transaction ids', 'vacuum (freeze) pg_catalog.pg_class'),
    (60, 'old transaction ids', 'vacuum (freeze) public.item')$$,
    'older than autovacuum should have let them grow, in the catalog too; younger is well'
);
select sqlkit_test.as_admin(format(
    $$update pg_database set datfrozenxid = %L, datallowconn = false where datname = 'template1'$$,
    (pg_current_xact_id()::text::bigint - 500000000 + 4294967296) % 4294967296
));
select results_eq(
    $$select weight, problem, statement from found where relation = 'database template1'$$,
    $$values (
        80, 'old transaction ids',
        'alter database template1 allow_connections on; /* there */ vacuum (freeze)'
    )$$,
    'so is another database, since all of them share the ids'
);
select sqlkit_test.as_admin(format(
    $$update pg_database set datfrozenxid = %L where datname = 'template1'$$, pg_current_xact_id()
));
-- What PostgreSQL does not freeze, as another access method keeps it, has no age.
select sqlkit_test.as_admin($$update pg_class set relfrozenxid = '0', relminmxid = '0' where relname = 'item'$$);
select is_empty($$select from found where relation = 'public.item'$$, 'what has no age is not old');

select sqlkit_test.as_admin('set local track_counts = off');
select results_eq(
    $$select weight, problem, statement from found where relation = 'the server'$$,
    $$values (85, 'autovacuum is off', 'alter system set track_counts = on; select pg_reload_conf()')$$,
    'without counts it does not know where to go'
);

select * from finish();
rollback;
