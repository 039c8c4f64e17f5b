-- What is planned for whom; that it is carried out is tested elsewhere, since no transaction can do it.
begin;
select plan(23);

create table price (id integer primary key, amount integer) with (autovacuum_enabled = off);
create index price_amount on price (amount);
create table other (id integer primary key) with (autovacuum_enabled = off);
insert into price select
    k,
    1000000 + k
from generate_series(1, 20000) as k;
insert into other select k from generate_series(1, 100) as k;

create view pg_temp.planned as
select p.*
from sqlkit.plan_maintenance('{price,other}'::regclass[], p_least_bytes => 65536, p_patience => '1 hour') as p;

select results_eq(
    $$select action, relation, statement, reason from planned where relation = 'public.other'$$,
    $$values ('analyze', 'public.other', 'analyze public.other', 'it was never analyzed')$$,
    'what was never analyzed'
);
analyze price, other;
select pg_stat_clear_snapshot();
select results_eq(
    $$select action, relation, statement, reason, lock, obstacle from planned$$,
    -- From 16 on it may leave the database's oldest transaction to the last of many.
    format(
        $$values (
            'vacuum', 'public.price', 'vacuum (analyze%s) public.price', 'it was never vacuumed',
            'SHARE UPDATE EXCLUSIVE', null::text
        )$$,
        case when current_setting('server_version_num')::integer >= 160000 then ', skip_database_stats' end
    ),
    'what was never vacuumed, from p_least_bytes on'
);
delete from price
where id > 2000;
analyze price;
select pg_stat_clear_snapshot();
select results_eq(
    $$select action, relation, statement from planned where action <> 'vacuum' order by relation$$,
    $$values
    ('reindex', 'public.price_amount', 'reindex index concurrently public.price_amount'),
    ('reindex', 'public.price_pkey', 'reindex index concurrently public.price_pkey')$$,
    'bloated indexes are rebuilt'
);
select ok(
    (
        select bool_and(p.gain_bytes between p.total_bytes * 0.8 and p.total_bytes)
        from planned as p
        where p.action = 'reindex'
    ),
    'what they gain'
);
select results_eq(
    $$select action from planned$$, $$values ('vacuum'), ('reindex'), ('reindex')$$, 'first things first'
);
select matches(
    (
        select min(p.obstacle)
        from sqlkit.plan_maintenance(
            '{price}', '{reindex}', 8192, p_patience => '1 hour', p_free_bytes => 100
        ) as p
    ),
    '^it takes up to .* of disk for a while, and 100 bytes are free$',
    'too little disk is an obstacle'
);
select sqlkit_test.as_admin(
    $$update pg_index set indisvalid = false where indexrelid = 'public.price_amount'::regclass$$
);
select results_eq(
    $$select statement, obstacle ~ '^it takes up to .* of disk for a while, and 100 bytes are free$'
    from sqlkit.plan_maintenance('{price}', '{clean}', p_patience => '1 hour', p_free_bytes => 100)$$,
    $$values ('reindex index concurrently public.price_amount', true)$$,
    'for what an interrupted statement left invalid, too'
);
select sqlkit_test.as_admin(
    $$update pg_index set indisvalid = true where indexrelid = 'public.price_amount'::regclass$$
);
select is_empty($$select from sqlkit.plan_maintenance('{other}')$$, 'what is well needs nothing');
select is_empty(
    $$select from sqlkit.plan_maintenance('{price}', '{clean,rewrite}', 8192)$$,
    'only what was asked for; tables are rewritten only where there is what can do it'
);

-- Servers may lack both extensions; that one is there is a row of the catalog.
create function pg_temp.installed(p_name name)
returns void
language sql
begin atomic
    select sqlkit_test.as_admin(format(
        'insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) '
        'select 1, %L, e.extowner, e.extnamespace, false, 1 from pg_extension as e where e.extname = %L',
        p_name, 'plpgsql'
    ));
end;
select pg_temp.installed('pg_repack');
select results_eq(
    $$select relation, statement, obstacle from sqlkit.plan_maintenance('{price}', '{rewrite}', 8192)$$,
    format(
        $$values ('public.price', 'pg_repack --dbname=%I --table=public.price',
        'a program of its own does that: run it by hand')$$,
        current_database()
    ),
    'pg_repack is told of'
);
select sqlkit_test.as_admin($$delete from pg_extension where oid = 1$$);
select pg_temp.installed('pg_squeeze');
select results_eq(
    $$select relation, statement, lock, obstacle
    from sqlkit.plan_maintenance('{price}', '{rewrite}', 8192, p_patience => '1 hour')$$,
    $$values ('public.price', 'select squeeze.squeeze_table(''public'', ''price'')',
    'SHARE UPDATE EXCLUSIVE, in the end shortly ACCESS EXCLUSIVE', null::text)$$,
    'pg_squeeze is called'
);
select sqlkit_test.as_admin($$delete from pg_extension where oid = 1$$);

-- What was gained the last time is known the next time.
select sqlkit.start_maintenance('price', 'reindex', 'public.price_pkey', 'reindex index concurrently x') as run_id \gset
select sqlkit.finish_maintenance(:run_id);
select ok(
    (
        select m.bloat_before > 0.8 * m.bytes_before and m.bloat_after = m.bloat_before from sqlkit.maintenance as m
        where m.run_id = :run_id
    ),
    'the ledger has the bloat of what was worked at, as it was and as it is'
);
select is_empty(
    $$select from planned where relation = 'public.price_pkey'$$,
    'what a rebuild left before, another would leave again'
);
select ok(
    (
        select p.expected_seconds is not null from planned as p
        where p.relation = 'public.price_amount'
    ),
    'how long it takes is known from others'
);
select ok(
    (
        select p.expected_seconds is null from planned as p
        where p.action = 'vacuum'
    ), 'or not known'
);

create table parted (id integer) partition by range (id);
create table part partition of parted for values from (0) to (100);
insert into parted select i from generate_series(1, 50) as i;
select results_eq(
    $$select table_name::text, statement, reason from sqlkit.plan_maintenance('{parted}')$$,
    $$values ('parted', 'analyze public.parted', 'as a whole it was never analyzed')$$,
    'a partitioned table is analyzed as a whole, since autovacuum never does that'
);
select results_eq(
    $$select statement from sqlkit.plan_maintenance('{part}')$$,
    $$values ('analyze public.part')$$,
    'a partition for itself'
);
analyze parted;
insert into parted select i % 100 from generate_series(1, 1000) as i;
analyze part;
select pg_stat_clear_snapshot();
select results_eq(
    $$select action, statement, reason from sqlkit.plan_maintenance('{parted}', '{analyze}')$$,
    $$values ('analyze', 'analyze public.parted', 'it had 50 rows then, and has 1050')$$,
    'and again when it has grown'
);
analyze parted;
select pg_stat_clear_snapshot();
select is_empty($$select from sqlkit.plan_maintenance('{parted}', '{analyze}')$$, 'not when it was just done');

create temporary table fleeting (id integer);
create view parted_view as select id
from parted;
select throws_ok(
    $$select sqlkit.plan_maintenance('{fleeting}')$$, '42809', null, 'nothing is planned for what the session has'
);
select throws_ok(
    $$select sqlkit.plan_maintenance('{parted,parted_view}')$$,
    '42809', 'public.parted_view is no table to maintain', 'nor for a view'
);
select throws_ok(
    $$select sqlkit.plan_maintenance('{pg_catalog.pg_class}')$$, '42809', null, 'nor for the system'
);

create table "It's ""odd" (id integer);
insert into "It's ""odd" values (1);
select results_eq(
    $$select statement from sqlkit.plan_maintenance(array['"It''s ""odd"'::regclass])$$,
    $$values ('analyze public."It''s ""odd"')$$,
    'names are quoted'
);

select * from finish();
rollback;
