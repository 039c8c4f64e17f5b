-- Maintenance: a plan of statements, each with its reason and whatever stands against it now. Nothing here executes
-- them, since VACUUM and REINDEX CONCURRENTLY refuse to run inside a function: sqlkit optimize does, or psql by
-- \gexec. Each statement is a run in the ledger.

create or replace function sqlkit._lagging_replica(p_lag_bytes bigint)
returns text
language sql
stable
begin atomic
select
    format(
        'replica %s is %s behind',
        coalesce(nullif(r.application_name, ''), r.client_addr::text, r.pid::text),
        pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn))
    ) as lagging
from pg_stat_replication as r
where
    not pg_is_in_recovery()
    and r.replay_lsn is not null
    and pg_wal_lsn_diff(
        case when not pg_is_in_recovery() then pg_current_wal_lsn() end, r.replay_lsn
    ) > p_lag_bytes
order by r.replay_lsn
limit 1;
end;

comment on function sqlkit._lagging_replica(bigint) is
'The replica that is furthest behind, if by more bytes of WAL than so; null if none is.';


create or replace function sqlkit._may_maintain(p_table regclass)
returns boolean
language sql
stable
begin atomic
select
    pg_has_role(c.relowner, 'usage')
    or case
        when current_setting('server_version_num')::integer >= 170000
            then has_table_privilege(c.oid, 'maintain')
        else false
    end as may_maintain
from pg_class as c
where c.oid = p_table;
end;

comment on function sqlkit._may_maintain(regclass) is
'Whether the caller may vacuum, analyze and reindex a table: as its owner, or by MAINTAIN from PostgreSQL 17 on.';


create or replace function sqlkit._maintainer(p_table regclass)
returns text
language sql
stable
begin atomic
select
    format(
        'session %s works at it%s',
        l.pid,
        coalesce((select ': ' || left(a.query, 60) as query from pg_stat_activity as a
where a.pid = l.pid), '')
    ) as maintainer
from pg_locks as l
where
    l.relation = p_table
    and l.database = (select d.oid from pg_database as d
where d.datname = current_database())
    -- What VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY take, and what is stronger.
    and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ExclusiveLock', 'AccessExclusiveLock')
    and l.granted
    and l.pid <> pg_backend_pid()
order by l.pid
limit 1;
end;

comment on function sqlkit._maintainer(regclass) is
'The session that holds a lock on a table which maintenance would wait for: autovacuum, another maintenance, DDL; null
if there is none.';


create or replace function sqlkit._expected_seconds(p_action text, p_relation text, p_bytes bigint)
returns double precision
language sql
stable
begin atomic
with past as (
    select
        r.run_id,
        r.options ->> 'relation' as relation,
        (r.options ->> 'bytes_before')::bigint as bytes,
        extract(epoch from r.finished_at - r.started_at) as seconds
    from sqlkit.run as r
    where r.kind = 'maintenance' and r.state = 'done' and r.options ->> 'action' = p_action
    order by r.run_id desc
    limit 100
)

select
    coalesce(
        -- This one the last time, by its size; else the speed of this kind of work on others.
        (
            select p.seconds * p_bytes / greatest(p.bytes, 8192) as seconds
            from past as p
            where p.relation = p_relation
            order by p.run_id desc
            limit 1
        ),
        (select sum(p.seconds) * p_bytes / greatest(sum(p.bytes), 8192) as seconds from past as p)
    )::double precision as seconds;
end;

comment on function sqlkit._expected_seconds(text, text, bigint) is
'How long a statement will take, by what the ledger has of its like; null if there is nothing.';


create or replace function sqlkit._shell_word(p_text text)
returns text
language sql
immutable
return case
    when p_text ~ '^[A-Za-z0-9_.]+$' then p_text
    else '''' || replace(p_text, '''', '''\''''') || ''''
end;

comment on function sqlkit._shell_word(text) is
'A text as a shell wants it that is to take it for one word as it stands.';


create or replace function sqlkit.plan_maintenance(
    p_tables regclass[] default null,
    p_actions text[] default '{clean,vacuum,analyze,reindex,rewrite}',
    p_least_bytes bigint default 1048576,
    p_least_ratio double precision default 0.3,
    p_patience interval default '5 minutes',
    p_lag_bytes bigint default 268435456,
    p_free_bytes bigint default null
)
returns table (
    action text,
    table_name regclass,
    relation text,
    statement text,
    reason text,
    total_bytes bigint,
    gain_bytes bigint,
    lock text,
    expected_seconds double precision,
    obstacle text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $plan_maintenance$
declare
    v_version integer := current_setting('server_version_num')::integer;
    v_held text := sqlkit._held_horizon(p_patience);
    v_lagging text := sqlkit._lagging_replica(p_lag_bytes);
    v_vacuum text := case when v_version >= 160000 then ', skip_database_stats' else '' end;
    v_repack boolean := v_version >= 190000;
    v_squeeze boolean := exists (select from pg_extension as e where e.extname = 'pg_squeeze');
    v_pg_repack boolean := exists (select from pg_extension as e where e.extname = 'pg_repack');
    v_wrong regclass;
begin
    select t.oid
    into v_wrong
    from unnest(p_tables) as t (oid)
    join pg_class as c on c.oid = t.oid
    join pg_namespace as n on n.oid = c.relnamespace
    where
        c.relkind not in ('r', 'm', 'p')
        or c.relpersistence = 't'
        or n.nspname in ('pg_catalog', 'information_schema', 'sqlkit_stage')
    limit 1;
    if found then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s is no table to maintain', sqlkit._table_name(v_wrong)),
            hint = 'Name tables, partitioned tables and materialized views, that are neither temporary nor the system''s.';
    end if;
    return query
    with user_table as (
        select
            c.oid,
            -- Before 16 an index that is built while the table is empty makes it 0.
            c.reltuples < 0 or (
                c.reltuples = 0
                and coalesce(
                    pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid),
                    pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)
                ) is null
            ) as is_unknown,
            pg_partition_root(c.oid)::oid as root_oid,
            sqlkit._table_name(c.oid) as name,
            n.nspname,
            c.relname,
            greatest(age(nullif(c.relfrozenxid, '0'::xid)), age(nullif(t.relfrozenxid, '0'::xid))) as xid_age,
            pg_relation_size(c.oid) as bytes,
            pg_stat_get_live_tuples(c.oid) as live_rows,
            pg_stat_get_dead_tuples(c.oid) as dead_rows,
            pg_stat_get_ins_since_vacuum(c.oid) as rows_since_vacuum,
            pg_stat_get_mod_since_analyze(c.oid) as rows_since_analyze,
            coalesce(
                pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)
            ) as vacuumed_at
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        left join pg_class as t on t.oid = c.reltoastrelid
        where
            c.relkind in ('r', 'm')
            and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'sqlkit_stage')
            and not sqlkit._is_locked_away(c.oid)
            and (
                p_tables is null
                or c.oid = any(p_tables)
                or exists (
                    select
                    from unnest(p_tables) as k (root)
                    cross join lateral pg_partition_tree(k.root) as p
                    where p.relid = c.oid
                )
            )
    ),

    -- Nobody but ANALYZE looks at a partitioned table as a whole, and autovacuum does not.
    partitioned as (
        select
            c.oid,
            sqlkit._table_name(c.oid) as name,
            c.reltuples < 0 or (c.reltuples = 0 and pg_stat_get_last_analyze_time(c.oid) is null) as is_unknown,
            c.reltuples as known_rows,
            sum(sqlkit._live_rows(t.oid)) as live_rows,
            sum(t.bytes)::bigint as bytes
        from pg_class as c
        join user_table as t on t.root_oid = c.oid
        where p_tables is null or c.oid = any(p_tables)
        group by c.oid
    ),

    finding (action, position, table_oid, relation, statement, reason, total_bytes, gain_bytes, lock, needed) as (
        select
            'clean',
            1,
            t.oid,
            sqlkit._table_name(x.oid),
            case
                when x.relname ~ '_cc(new|old)[0-9]*$'
                    then format('drop index concurrently if exists %s', sqlkit._table_name(x.oid))
                else format('reindex index concurrently %s', sqlkit._table_name(x.oid))
            end,
            'an interrupted statement left it invalid',
            pg_relation_size(x.oid),
            case when x.relname ~ '_cc(new|old)[0-9]*$' then pg_relation_size(x.oid) else 0 end,
            'SHARE UPDATE EXCLUSIVE',
            case when x.relname ~ '_cc(new|old)[0-9]*$' then 0 else 2 * pg_relation_size(x.oid) end
        from user_table as t
        join pg_class as r on r.oid = t.oid
        join pg_index as i on i.indrelid in (t.oid, r.reltoastrelid)
        join pg_class as x on x.oid = i.indexrelid
        where not i.indisvalid and x.relkind = 'i'
        union all
        select
            'vacuum',
            2,
            t.oid,
            t.name,
            format(
                'vacuum (%s%s) %s',
                concat_ws(', ', case when f.is_old then 'freeze' end, 'analyze'), v_vacuum, t.name
            ),
            case
                when f.is_old then format('its oldest row is %s transactions old', t.xid_age)
                when f.is_dead then format('%s dead rows beside %s live ones', t.dead_rows, t.live_rows)
                when f.is_grown then format('%s rows were inserted since', t.rows_since_vacuum)
                else 'it was never vacuumed'
            end,
            t.bytes,
            -- Free for new rows; the file stays as it is, but for an empty end.
            (t.bytes * t.dead_rows::numeric / greatest(1, t.dead_rows + t.live_rows))::bigint,
            'SHARE UPDATE EXCLUSIVE',
            0
        from user_table as t
        cross join lateral (
            select
                t.xid_age > 0.5 * current_setting('autovacuum_freeze_max_age')::bigint as is_old,
                t.dead_rows > 500 and t.dead_rows > 0.1 * t.live_rows as is_dead,
                t.rows_since_vacuum > 1000 and t.rows_since_vacuum > 0.2 * t.live_rows as is_grown,
                t.vacuumed_at is null and t.bytes >= p_least_bytes as is_new
        ) as f
        where f.is_old or f.is_dead or f.is_grown or f.is_new
        union all
        select
            'analyze',
            3,
            t.oid,
            t.name,
            format('analyze %s', t.name),
            case
                when t.is_unknown then 'it was never analyzed'
                else format('%s rows were changed since', t.rows_since_analyze)
            end,
            t.bytes,
            0,
            'SHARE UPDATE EXCLUSIVE',
            0
        from user_table as t
        where
            (t.rows_since_analyze > 500 and t.rows_since_analyze > 0.1 * t.live_rows)
            or (t.is_unknown and t.bytes > 0)
        union all
        select
            'analyze',
            3,
            p.oid,
            p.name,
            format('analyze %s', p.name),
            case
                when p.is_unknown then 'as a whole it was never analyzed'
                else format('it had %s rows then, and has %s', p.known_rows, p.live_rows)
            end,
            p.bytes,
            0,
            'SHARE UPDATE EXCLUSIVE',
            0
        from partitioned as p
        where
            case
                when p.is_unknown then p.bytes > 0
                else abs(p.live_rows - p.known_rows) > greatest(500, 0.1 * p.known_rows)
            end
        union all
        select
            case b.kind when 'index' then 'reindex' else 'rewrite' end,
            case b.kind when 'index' then 4 else 5 end,
            t.oid,
            r.name,
            case
                when b.kind = 'index' then format('reindex index concurrently %s', r.name)
                when v_repack then format('repack (concurrently) %s', t.name)
                when v_squeeze then format('select squeeze.squeeze_table(%L, %L)', t.nspname, t.relname)
                else format(
                    'pg_repack --dbname=%s --table=%s',
                    sqlkit._shell_word(current_database()), sqlkit._shell_word(t.name)
                )
            end,
            format(
                '%s percent bloat, by statistics of %s confidence', round(100 * r.bloat / b.total_bytes), b.confidence
            ),
            b.total_bytes,
            r.bloat,
            case b.kind
                when 'index' then 'SHARE UPDATE EXCLUSIVE'
                else 'SHARE UPDATE EXCLUSIVE, in the end shortly ACCESS EXCLUSIVE'
            end,
            2 * (b.total_bytes - r.bloat)
        from user_table as t
        join sqlkit.bloat as b on b.table_name = t.oid
        cross join lateral (
            select
                n.name,
                -- What the last rewriting left for a row is the least that another one would leave.
                least(
                    b.bloat_bytes,
                    (
                        select
                            b.total_bytes - (x.options ->> 'bytes_after')::bigint
                            * greatest(1, b.live_rows::numeric / nullif((x.options ->> 'live_rows')::bigint, 0))
                        from sqlkit.run as x
                        where
                            x.kind = 'maintenance'
                            and x.state = 'done'
                            and x.options ->> 'relation' = n.name
                            and x.options ->> 'action' in ('reindex', 'rewrite')
                        order by x.run_id desc
                        limit 1
                    )
                )::bigint as bloat
            from sqlkit._table_name(b.relation) as n (name)
        ) as r
        where
            (b.kind = 'index' or (b.kind = 'table' and (v_repack or v_squeeze or v_pg_repack)))
            and r.bloat >= greatest(p_least_bytes, 1)
            and r.bloat >= p_least_ratio * b.total_bytes
            and b.confidence in ('high', 'medium')
            and not exists (
                select from pg_index as i where i.indexrelid = b.relation and (not i.indisvalid or i.indisexclusion)
            )
    )

    select
        f.action,
        f.table_oid::regclass,
        f.relation,
        f.statement,
        f.reason,
        f.total_bytes,
        f.gain_bytes,
        f.lock,
        sqlkit._expected_seconds(f.action, f.relation, f.total_bytes),
        case
            when not sqlkit._may_maintain(f.table_oid) then 'it belongs to another role'
            when f.action <> 'analyze' and v_held is not null then v_held
            when f.action not in ('analyze', 'clean') and v_lagging is not null then v_lagging
            when f.action = 'rewrite' and not v_repack and not v_squeeze
                then 'a program of its own does that: run it by hand'
            when p_free_bytes < f.needed
                then format(
                    'it takes up to %s of disk for a while, and %s are free',
                    pg_size_pretty(f.needed), pg_size_pretty(p_free_bytes)
                )
            else sqlkit._maintainer(f.table_oid)
        end
    from finding as f
    where
        f.action = any(p_actions)
        -- VACUUM analyzes by the way, and ANALYZE of a partitioned table all of its partitions.
        and not (
            f.action = 'analyze'
            and exists (
                select
                from finding as v
                where
                    (v.action = 'vacuum' and 'vacuum' = any(p_actions) and v.table_oid = f.table_oid)
                    or (
                        v.action = 'analyze'
                        and v.table_oid <> f.table_oid
                        and v.table_oid = pg_partition_root(f.table_oid)
                    )
            )
        )
    order by f.position, f.gain_bytes desc, f.relation, f.statement;
end;
$plan_maintenance$;

comment on function sqlkit.plan_maintenance(
    regclass[], text[], bigint, double precision, interval, bigint, bigint
) is
'What is to be done for the tables given (with their partitions) or all, in the order in which to do it: statement,
reason, bytes that it is expected to gain (for VACUUM: to free within the file), lock, seconds by earlier runs, and
obstacle, which says why not to do it now: a horizon held for longer than p_patience, a session that works at the
table, a replica more than p_lag_bytes of WAL behind, less disk than p_free_bytes tells, rights. Actions are clean
(what interrupted statements left), vacuum, analyze, reindex and rewrite (by REPACK, pg_squeeze or pg_repack, where
they are). Indexes and tables are rewritten for p_least_bytes and p_least_ratio of bloat.
In psql: select statement from sqlkit.plan_maintenance() where obstacle is null \gexec
Writes: nothing. Locks: none. Raises: 42809 for what is no table, temporary, or the system''s.';


create or replace function sqlkit._bloat_of(p_table regclass, p_relation text)
returns bigint
language sql
stable
begin atomic
select b.bloat_bytes
from sqlkit.bloat as b
where b.table_name = p_table and b.relation = to_regclass(p_relation);
end;

comment on function sqlkit._bloat_of(regclass, text) is
'The bloat of a table or of an index of it, as sqlkit.bloat estimates it; null where there is no estimate.';


create or replace function sqlkit.start_maintenance(
    p_table regclass,
    p_action text,
    p_relation text,
    p_statement text,
    p_client text default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $start_maintenance$
begin
    return sqlkit.start_run(
        'maintenance',
        p_table,
        p_options => jsonb_build_object(
            'action', p_action,
            'relation', p_relation,
            'statement', p_statement,
            'bytes_before', pg_relation_size(to_regclass(p_relation)),
            'bloat_before', sqlkit._bloat_of(p_table, p_relation),
            'live_rows', sqlkit._live_rows(p_table)::bigint
        ),
        p_client => p_client
    );
end;
$start_maintenance$;

comment on function sqlkit.start_maintenance(regclass, text, text, text, text) is
'Opens a run for a statement of plan_maintenance(), with size and bloat of what it works at, and returns its id.
Writes: sqlkit.run.';


create or replace function sqlkit.finish_maintenance(
    p_run_id bigint,
    p_error_code text default null,
    p_error_message text default null
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $finish_maintenance$
begin
    perform sqlkit.finish_run(p_run_id, p_error_code, p_error_message);
    update sqlkit.run as r
    set options = r.options || jsonb_build_object(
        'bytes_after', coalesce(pg_relation_size(to_regclass(r.options ->> 'relation')), 0),
        'bloat_after', sqlkit._bloat_of(to_regclass(r.target), r.options ->> 'relation')
    )
    where r.run_id = p_run_id;
end;
$finish_maintenance$;

comment on function sqlkit.finish_maintenance(bigint, text, text) is
'Closes a run of start_maintenance(), with size and bloat of what it worked at: done, or failed where an error code is given.
Writes: sqlkit.run. Raises: SK401 if the run is unknown or closed.';


create or replace view sqlkit.maintenance as
select
    r.run_id,
    r.started_at,
    r.target,
    r.options ->> 'action' as action,
    r.options ->> 'relation' as relation,
    r.options ->> 'statement' as statement,
    r.state,
    extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at)::double precision as seconds,
    (r.options ->> 'bytes_before')::bigint as bytes_before,
    (r.options ->> 'bytes_after')::bigint as bytes_after,
    (r.options ->> 'bloat_before')::bigint as bloat_before,
    (r.options ->> 'bloat_after')::bigint as bloat_after,
    r.error_code,
    r.error_message
from sqlkit.run as r
where r.kind = 'maintenance';

comment on view sqlkit.maintenance is
'Statements of maintenance that were run, with size and estimated bloat of what they worked at, before and after.';
