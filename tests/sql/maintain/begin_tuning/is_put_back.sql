-- Autovacuum is off while runs last, and then what it was.
begin;
select plan(24);

create function pg_temp.option_of(p_table regclass)
returns text
language sql
begin atomic
    select c.reloptions::text
    from pg_catalog.pg_class as c
    where c.oid = p_table;
end;
create table "a price" (id integer primary key, amount integer) with (fillfactor = 80);
create table unlike (id integer primary key) with (autovacuum_enabled = true);
create table off_before (id integer primary key) with (autovacuum_enabled = off);
create table parted (id integer) partition by range (id);
create table parted_1 partition of parted for values from (1) to (2);
create table parted_2 partition of parted for values from (2) to (3);
select sqlkit.start_run('load', '"a price"') as one \gset
select sqlkit.start_run('load', '"a price"') as two \gset
select sqlkit.start_run('load', 'unlike') as of_unlike \gset
select sqlkit.start_run('load', 'off_before') as of_off \gset
select sqlkit.start_run('load', 'parted') as of_parted \gset

select is(
    (sqlkit.begin_tuning(:one, '"a price"'))[1],
    'tune: autovacuum of public."a price" is off until the run ends',
    'it says what it does'
);
select is(pg_temp.option_of('"a price"'), '{fillfactor=80,autovacuum_enabled=off}', 'and does it');
select alike(
    (
        select pg_catalog.array_to_string(r.reasons, ' ')
        from sqlkit.run as r
        where r.run_id = :one
    ),
    '%autovacuum of public."a price" is off%work_mem%',
    'the ledger knows'
);
select lives_ok(
    pg_catalog.format('select sqlkit.begin_tuning(%s, %L)', :one, '"a price"'), 'once more, after a lost connection'
);
select is(
    (sqlkit.begin_tuning(:two, '"a price"'))[1],
    'tune: autovacuum of public."a price" is off until the run ends',
    'another run at the same time'
);
select sqlkit.finish_run(:one);
select is(pg_temp.option_of('"a price"'), '{fillfactor=80,autovacuum_enabled=off}', 'as long as one of them lasts');
select sqlkit.finish_run(:two, 'SK000', 'it failed');
select is(pg_temp.option_of('"a price"'), '{fillfactor=80}', 'a failure puts it back too');
select is_empty('select * from sqlkit.tuned_table', 'and nothing is remembered');

select sqlkit.begin_tuning(:of_unlike, 'unlike');
select is(pg_temp.option_of('unlike'), '{autovacuum_enabled=off}', 'switched on by name');
select is(sqlkit.end_tuning(:of_unlike), 1::bigint, 'put back by itself');
select is(pg_temp.option_of('unlike'), '{autovacuum_enabled=true}', 'is so again');
select is(
    (sqlkit.begin_tuning(:of_off, 'off_before'))[1],
    'tune: autovacuum of public.off_before is off anyway',
    'switched off before'
);
select sqlkit.finish_run(:of_off);
select is(pg_temp.option_of('off_before'), '{autovacuum_enabled=off}', 'stays off');

select is(
    (
        select count(*)
        from pg_catalog.unnest(sqlkit.begin_tuning(:of_parted, 'parted')) as n (note)
        where n.note ~ 'until the run ends'
    ),
    2::bigint,
    'of a partitioned table its partitions'
);
-- Renamed, replaced, gone, or set by somebody: what it was is not forced on another.
alter table parted_1 rename to "renamed 1";
drop table parted_2;
select is(sqlkit.end_tuning(:of_parted), 2::bigint, 'one was renamed, one dropped');
select is(pg_temp.option_of('"renamed 1"'), null, 'a renamed one is found');
select sqlkit.begin_tuning(:of_unlike, 'unlike');
drop table unlike;
create table unlike (id integer) with (autovacuum_enabled = off);
select sqlkit.finish_run(:of_unlike);
select is(pg_temp.option_of('unlike'), '{autovacuum_enabled=true}', 'so is the one that a swap has put there');
select sqlkit.start_run('load', '"a price"') as three \gset
select sqlkit.begin_tuning(:three, '"a price"');
alter table "a price" set (autovacuum_enabled = on);
select sqlkit.finish_run(:three);
select is(pg_temp.option_of('"a price"'), '{fillfactor=80,autovacuum_enabled=on}', 'what somebody set meanwhile stays');
alter table "a price" reset (autovacuum_enabled);

-- The program dies.
select sqlkit.start_run('load', '"a price"') as dead \gset
select sqlkit.begin_tuning(:dead, '"a price"');
update sqlkit.run set backend_pid = 1, is_direct = true
where run_id = :dead;
select results_eq(
    $$select r.action from sqlkit.repair_runs('"a price"') as r order by r.action$$,
    $$values ('autovacuum put back'), ('closed')$$,
    'repair puts it back'
);
select is(pg_temp.option_of('"a price"'), '{fillfactor=80}', 'as it was');

-- Whose it is not.
select sqlkit.start_run('load', '"a price"') as theirs \gset
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select set_config('role', :'role', true);
select is(
    (sqlkit.begin_tuning(:theirs, '"a price"'))[1],
    'tune: autovacuum of public."a price" is left on: the table belongs to another role',
    'another role may load, and no more'
);
select set_config('role', 'none', true);
select is_empty('select * from sqlkit.tuned_table', 'and has nothing to put back');

select throws_ok('select sqlkit.begin_tuning(0, ''"a price"'')', '23503', null, 'no such run');
select throws_ok('select sqlkit.begin_tuning(1, ''nothing'')', '42P01', null, 'no such table');

select * from finish();
rollback;
