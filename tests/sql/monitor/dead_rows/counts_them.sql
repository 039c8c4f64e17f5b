begin;
select plan(2);

create table price (id integer primary key);
insert into price
select i
from generate_series(1, 100) as i;
delete from price
where id <= 25;
select pg_stat_force_next_flush();

-- What this transaction did counts only when it is committed: nothing is known yet.
select results_eq(
    $$select live_rows, dead_rows, dead_share is null, vacuumed_at, analyzed_at from sqlkit.dead_rows
    where table_name = 'price'::regclass$$,
    $$values (0::bigint, 0::bigint, true, null::timestamptz, null::timestamptz)$$,
    'a table of which nothing is known yet has no share'
);
create temporary table note (id integer);
select is_empty(
    $$select from sqlkit.dead_rows where table_name in ('note'::regclass, 'pg_class'::regclass)$$,
    'temporary tables and those of the system are left out'
);

select * from finish();
rollback;
