-- The view knows tables, TOAST and btree indexes, and says how far it can be trusted. One transaction: nothing is
-- vacuumed here; how good the numbers are is tested elsewhere, on many tables.
begin;
select plan(13);

create table "Odd ""Table" (id integer primary key, "te'xt" text, n bigint);
create index on "Odd ""Table" using hash (n);
select results_eq(
    $$select kind from sqlkit.bloat where table_name = '"Odd ""Table"'::regclass order by kind$$,
    $$values ('index'), ('table'), ('toast')$$,
    'a table, its TOAST and its btree index; an index of another kind has no estimate'
);
select is(
    (
        select array_agg(distinct confidence) from sqlkit.bloat
        where table_name = '"Odd ""Table"'::regclass
    ),
    '{none}',
    'without statistics nothing is said'
);
insert into "Odd ""Table" select
    i,
    'text ' || i,
    i % 100
from generate_series(1, 5000) as i;
analyze "Odd ""Table";
select pg_stat_clear_snapshot();
select results_eq(
    $$select kind, confidence, bloat_ratio < 0.1, analyzed_at is not null, statistics_age < '1 hour'
    from sqlkit.bloat where table_name = '"Odd ""Table"'::regclass and kind <> 'toast' order by kind$$,
    $$values ('index', 'high', true, true, true), ('table', 'high', true, true, true)$$,
    'freshly filled and analyzed it has no bloat'
);
select ok(
    (
        select b.total_bytes = pg_relation_size(b.relation) and b.needed_bytes = b.total_bytes - b.bloat_bytes
        from sqlkit.bloat as b
        where b.table_name = '"Odd ""Table"'::regclass and b.kind = 'table'
    ),
    'needed and bloat are the whole'
);

create table emptied (id integer primary key);
insert into emptied select i from generate_series(1, 10000) as i;
delete from emptied
where id > 1000;
analyze emptied;
select ok(
    (
        select b.bloat_ratio between 0.8 and 0.95 from sqlkit.bloat as b
        where b.relation = 'emptied'::regclass
    ),
    'what was deleted is bloat of the table'
);
select ok(
    (
        select b.bloat_ratio between 0.8 and 0.95 from sqlkit.bloat as b
        where b.relation = 'emptied_pkey'::regclass
    ),
    'and of its index'
);

create table half_full (id integer) with (fillfactor = 50);
insert into half_full select i from generate_series(1, 10000) as i;
analyze half_full;
select ok(
    (
        select b.bloat_ratio < 0.05 from sqlkit.bloat as b
        where b.relation = 'half_full'::regclass
    ),
    'what the fillfactor keeps free is no bloat'
);

create table partial (id integer, is_open boolean);
create index partial_open on partial (id) where is_open;
insert into partial select
    i,
    i % 10 = 0
from generate_series(1, 20000) as i;
analyze partial;
select ok(
    (
        select b.bloat_ratio < 0.2 and b.live_rows between 1500 and 2500
        from sqlkit.bloat as b
        where b.relation = 'partial_open'::regclass
    ),
    'a partial index is expected to have its share of the rows'
);

create table repeated (k integer);
create index repeated_plain on repeated (k) with (deduplicate_items = off);
create index repeated_once on repeated (k);
insert into repeated select i % 20 from generate_series(1, 20000) as i;
analyze repeated;
select ok(
    (
        select p.needed_bytes > 2 * o.needed_bytes
        from sqlkit.bloat as p
        cross join sqlkit.bloat as o
        where p.relation = 'repeated_plain'::regclass and o.relation = 'repeated_once'::regclass
    ),
    'keys that repeat are stored once, unless the index was told not to'
);

create table two_columns (a integer, b integer);
create index two_columns_key on two_columns (a, b);
insert into two_columns select
    i % 30,
    i % 40
from generate_series(1, 5000) as i;
analyze two_columns;
select results_eq(
    $$select kind, confidence from sqlkit.bloat where table_name = 'two_columns'::regclass order by kind$$,
    $$values ('index', 'medium'), ('table', 'high')$$,
    'of columns that may depend on each other less is known'
);

create temporary table passing (id integer);
select is_empty(
    $$select from sqlkit.bloat where table_name = 'passing'::regclass$$, 'temporary tables are passed over'
);
select is_empty(
    $$select from sqlkit.bloat where table_name = 'pg_class'::regclass$$, 'and the catalog'
);

create table partitioned (id integer primary key) partition by range (id);
create table part partition of partitioned for values from (0) to (10);
select results_eq(
    $$select table_name::text, kind from sqlkit.bloat
    where table_name in ('partitioned'::regclass, 'part'::regclass) order by kind$$,
    $$values ('part', 'index'), ('part', 'table')$$,
    'partitions are tables of their own'
);

select * from finish();
rollback;
