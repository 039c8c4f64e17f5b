-- Tuning of a run: what helps while it lasts. Settings of the session are local to a transaction, and end with it.
-- Autovacuum of the target is switched off where all sessions see it, so that is written down first.

create or replace function sqlkit.tune_transaction(p_synchronous_commit text default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $tune_transaction$
begin
    perform set_config(s.name, sqlkit._memory_for_load(s.name), true)
    from unnest(array['work_mem', 'maintenance_work_mem']) as s (name);
    if p_synchronous_commit is not null then
        perform set_config('synchronous_commit', p_synchronous_commit, true);
    end if;
end;
$tune_transaction$;

comment on function sqlkit.tune_transaction(text) is
'Gives this transaction memory for sorts, hashes and indexes: a quarter of shared_buffers each, if it has less.
p_synchronous_commit, where it is said, says how its commit waits. Ends with the transaction.
Raises: 22023 if synchronous_commit takes no such value.';


create or replace function sqlkit._tunable_tables(p_target regclass)
returns setof regclass
language sql
stable
begin atomic
select c.oid::regclass as relation
from pg_class as c
where
    c.relkind = 'r'
    and to_regclass('pg_catalog.pg_dist_partition') is null
    and (c.oid = p_target or c.oid in (select p.relid from pg_partition_tree(p_target) as p))
order by c.oid;
end;

comment on function sqlkit._tunable_tables(regclass) is
'The tables that hold the rows of a target: itself, or its partitions. None where other nodes hold them.';


create or replace function sqlkit._autovacuum_of(p_table oid)
returns text
language sql
stable
begin atomic
select o.option_value
from pg_class as c
cross join lateral pg_options_to_table(c.reloptions) as o
where c.oid = p_table and o.option_name = 'autovacuum_enabled';
end;

comment on function sqlkit._autovacuum_of(oid) is
'Option autovacuum_enabled of a table; null where it is not among its options.';


create or replace function sqlkit._switch_autovacuum_off(p_run_id bigint, p_table regclass)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
-- An autovacuum that runs gives way after deadlock_timeout, a second unless said otherwise.
set lock_timeout = '3s'
as $switch_autovacuum_off$
declare
    v_name text := sqlkit._table_name(p_table);
    v_before text;
    v_is_tuned boolean;
begin
    if not (select pg_has_role(c.relowner, 'usage') from pg_class as c where c.oid = p_table) then
        return 'is left on: the table belongs to another role';
    end if;
    -- Who else begins or ends is waited for here.
    execute format('lock table only %s in share update exclusive mode', v_name);
    select t.autovacuum_before, true
    into v_before, v_is_tuned
    from sqlkit.tuned_table as t
    where t.relation = v_name
    limit 1;
    if v_is_tuned is null then
        v_before := sqlkit._autovacuum_of(p_table);
        if not v_before::boolean then
            return 'is off anyway';
        end if;
        execute format('alter table only %s set (autovacuum_enabled = off)', v_name);
    end if;
    insert into sqlkit.tuned_table (run_id, relation, relation_oid, autovacuum_before)
    values (p_run_id, v_name, p_table, v_before)
    on conflict do nothing;
    return 'is off until the run ends';
exception
    when lock_not_available then
        return 'is left on: its lock was not to be had';
end;
$switch_autovacuum_off$;

comment on function sqlkit._switch_autovacuum_off(bigint, regclass) is
'Switches autovacuum of a table off for a run, and says what came of it. Writes: the table''s options,
sqlkit.tuned_table. Locks: SHARE UPDATE EXCLUSIVE on the table until commit, waited for 3 seconds.';


create or replace function sqlkit.advise_fillfactor(p_target regclass)
returns table (present integer, advised integer, why text, statement text)
language sql
stable
begin atomic
with told as (
    select
        sqlkit._fillfactor(c.oid) as present,
        pg_stat_get_tuples_updated(c.oid) as updated,
        pg_stat_get_tuples_hot_updated(c.oid) as hot,
        -- What a run changes at a time.
        (
            select percentile_cont(0.5) within group (order by s.rows_updated) as rows
            from (
                select r.rows_updated
                from sqlkit.run_summary as r
                where r.target = sqlkit._table_name(c.oid) and r.state = 'done' and r.rows_updated > 0
                order by r.run_id desc
                limit 10
            ) as s
        ) / greatest(pg_stat_get_live_tuples(c.oid), 1) as share
    from pg_class as c
    where c.oid = p_target and c.relkind = 'r'
),

advice as (
    select
        t.present,
        t.updated,
        t.hot,
        t.share,
        greatest(70, 5 * floor((100 - 100 * least(t.share, 1)) / 5))::integer as advised
    from told as t
)

select
    a.present,
    least(a.advised, 95) as advised,
    format(
        '%s%% of %s updates moved their row to another page and wrote to every index; a run changes %s%% of the rows',
        round(100 - 100.0 * a.hot / a.updated), a.updated, round((100 * a.share)::numeric, 1)
    ) as why,
    format('alter table %s set (fillfactor = %s)', sqlkit._table_name(p_target), least(a.advised, 95)) as statement
from advice as a
where a.updated >= 1000 and a.hot < 0.5 * a.updated and least(a.advised, 95) < a.present and a.share > 0;
end;

comment on function sqlkit.advise_fillfactor(regclass) is
'Advises room for changed rows on the pages of a table, where most of its updates moved the row: as large as the share
of the rows that its runs change at a time. No row where nothing is to be advised. Takes effect for pages written
later. Changes nothing. Raises: 42P01 if there is no such table.';


create or replace function sqlkit._key_indexes(p_target regclass, p_key name[])
returns setof regclass
language sql
stable
begin atomic
select x.oid::regclass as index_name
from sqlkit._unique_keys(p_target) as k
join pg_class as x on x.oid = k.index_id or x.oid in (select p.relid from pg_partition_tree(k.index_id) as p)
where
    x.relkind = 'i'
    and case when p_key is null then k.is_primary else k.columns @> p_key and k.columns <@ p_key end
order by x.oid;
end;

comment on function sqlkit._key_indexes(regclass, name[]) is
'The indexes by which rows of a key (the primary key if none is said) are found: one, or one a partition.';


create or replace function sqlkit.warm_key(p_target regclass, p_key name[] default null)
returns table (index_name regclass, bytes bigint, seconds double precision)
language plpgsql
set search_path = pg_catalog, pg_temp
as $warm_key$
declare
    v_schema name;
    v_started timestamptz;
begin
    select n.nspname
    into v_schema
    from pg_extension as e
    join pg_namespace as n on n.oid = e.extnamespace
    where e.extname = 'pg_prewarm';
    if v_schema is null then
        raise exception using
            errcode = 'SK701',
            message = 'reading an index into memory needs the extension pg_prewarm',
            detail = format('Target: %s.', sqlkit._table_name(p_target)),
            hint = 'create extension pg_prewarm; or leave --warm out.';
    end if;
    for index_name in
        select k.index_name
        from sqlkit._key_indexes(p_target, p_key) as k (index_name)
    loop
        v_started := clock_timestamp();
        execute format('select %I.pg_prewarm($1) * $2', v_schema)
        into bytes
        using index_name, current_setting('block_size')::bigint;
        seconds := extract(epoch from clock_timestamp() - v_started);
        return next;
    end loop;
end;
$warm_key$;

comment on function sqlkit.warm_key(regclass, name[]) is
'Reads the index of a key into shared_buffers by pg_prewarm, and says how much that was and how long it took. Worth it
after a restart, for a load that finds its rows by the index. Locks: ACCESS SHARE.
Raises: SK701 without pg_prewarm, 42P01 if there is no such table.';


create or replace function sqlkit._warming_offer(p_target regclass, p_key name[])
returns text
language sql
stable
begin atomic
select
    format(
        'offer: --warm reads the index of the key, %s, into memory before the first merge',
        pg_size_pretty(sum(pg_relation_size(k.index_name)))
    ) as offer
from sqlkit._key_indexes(p_target, p_key) as k (index_name)
where exists (select from pg_extension as e
where e.extname = 'pg_prewarm')
having
    sum(pg_relation_size(k.index_name)) between 1048576 and (
        select s.setting::bigint * 8192 / 2 as bytes
        from pg_settings as s
        where s.name = 'shared_buffers'
    );
end;

comment on function sqlkit._warming_offer(regclass, name[]) is
'What warm_key() would read, where pg_prewarm is and it fits into half of shared_buffers; null otherwise.';


create or replace function sqlkit.begin_tuning(p_run_id bigint, p_target regclass, p_key name[] default null)
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $begin_tuning$
declare
    v_notes text[];
begin
    select array_agg(
        format('tune: autovacuum of %s %s', sqlkit._table_name(t.relation), s.outcome) order by t.relation
    )
    into v_notes
    from sqlkit._tunable_tables(p_target) as t (relation)
    cross join lateral sqlkit._switch_autovacuum_off(p_run_id, t.relation) as s (outcome);
    v_notes := array_cat(v_notes, array[
        format(
            'tune: work_mem %s, maintenance_work_mem %s in each transaction', sqlkit._memory_for_load('work_mem'),
            sqlkit._memory_for_load('maintenance_work_mem')
        )
    ]);
    v_notes := array_cat(v_notes, array(
        select format('advice: %s (now %s): %s', a.statement, a.present, a.why)
        from sqlkit.advise_fillfactor(p_target) as a
    ));
    v_notes := array_remove(v_notes || sqlkit._warming_offer(p_target, p_key), null);
    update sqlkit.run as r
    set reasons = v_notes
    where r.run_id = p_run_id;
    return v_notes;
end;
$begin_tuning$;

comment on function sqlkit.begin_tuning(bigint, regclass, name[]) is
'Switches autovacuum of a target (of its partitions) off for as long as a run lasts, if the caller owns it, and says
what was done and what is advised: fillfactor, warming up. finish_run() puts it back; where that was not reached, the
next run of the target or repair_runs() does. Each transaction of the run calls tune_transaction().
Writes: the target''s options, sqlkit.tuned_table, sqlkit.run. Locks: SHARE UPDATE EXCLUSIVE on the target until
commit, waited for 3 seconds. Raises: 23503 if there is no such run, 42P01 if there is no such table.';


create or replace function sqlkit._switch_autovacuum_back(p_run_id bigint, p_relation text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $switch_autovacuum_back$
declare
    v_tuned sqlkit.tuned_table;
    v_table text;
begin
    select t.*
    into v_tuned
    from sqlkit.tuned_table as t
    where t.run_id = p_run_id and t.relation = p_relation
    for update skip locked;
    if not found then
        return null;
    end if;
    -- A swap has put another table there, options and all; another name leaves the table what it is.
    select sqlkit._table_name(c.oid)
    into v_table
    from pg_class as c
    where
        c.oid in (to_regclass(v_tuned.relation)::oid, v_tuned.relation_oid)
        and not sqlkit._autovacuum_of(c.oid)::boolean
    order by c.oid = v_tuned.relation_oid
    limit 1;
    if v_table is not null then
        execute format('lock table only %s in share update exclusive mode', v_table);
        if not exists (
            select
            from sqlkit.tuned_table as t
            where t.relation = v_tuned.relation and t.run_id <> v_tuned.run_id
        ) then
            execute case
                when v_tuned.autovacuum_before is null
                    then format('alter table only %s reset (autovacuum_enabled)', v_table)
                else format('alter table only %s set (autovacuum_enabled = %L)', v_table, v_tuned.autovacuum_before)
            end;
        end if;
    end if;
    delete from sqlkit.tuned_table as t
    where t.run_id = p_run_id and t.relation = p_relation;
    return 'autovacuum put back';
exception
    when lock_not_available or object_in_use then
        return 'in use';
    when insufficient_privilege then
        return 'of another role';
end;
$switch_autovacuum_back$;

comment on function sqlkit._switch_autovacuum_back(bigint, text) is
'Puts autovacuum of a table back as it was before a run, unless another run still wants it off or somebody has set it
meanwhile; what came of it, null if there is nothing to do. Writes: the table''s options, sqlkit.tuned_table.
Locks: SHARE UPDATE EXCLUSIVE on the table until commit, waited for a second.';


create or replace function sqlkit.end_tuning(p_run_id bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $end_tuning$
declare
    v_back bigint := 0;
    r_tuned record;
begin
    for r_tuned in
        select t.relation
        from sqlkit.tuned_table as t
        where t.run_id = p_run_id
        order by t.relation_oid
    loop
        if sqlkit._switch_autovacuum_back(p_run_id, r_tuned.relation) = 'autovacuum put back' then
            v_back := v_back + 1;
        end if;
    end loop;
    return v_back;
end;
$end_tuning$;

comment on function sqlkit.end_tuning(bigint) is
'Puts back what begin_tuning() has changed, as far as its locks are to be had, and returns of how many tables. What is
left, repair_runs() puts back. Writes: the tables'' options, sqlkit.tuned_table. Locks: SHARE UPDATE EXCLUSIVE on them
until commit. Raises: nothing.';
