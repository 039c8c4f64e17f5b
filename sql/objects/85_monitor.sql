-- Monitoring: what goes on, what went on, how the tables stand. All of it is views, for psql and for tools; members
-- of sqlkit_reader see them. Of other roles' sessions PostgreSQL shows details to pg_read_all_stats only.

create or replace function sqlkit._relation(p_name text)
returns oid
language sql
stable
begin atomic
select c.oid
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
cross join lateral parse_ident(p_name) as i (parts)
where n.nspname = i.parts[1] and c.relname = i.parts[2];
end;

comment on function sqlkit._relation(text) is
'The relation that _table_name() names so, null if it is gone. Unlike to_regclass() it asks for no rights in its schema.';


create or replace view sqlkit.run_progress as
select
    r.run_id,
    r.kind,
    r.target,
    r.started_at,
    extract(epoch from clock_timestamp() - r.started_at)::double precision as seconds,
    extract(epoch from clock_timestamp() - r.heartbeat_at)::double precision as seconds_silent,
    coalesce(b.rows_read, 0) as rows_committed,
    coalesce(c.rows_copied, 0) as rows_copied,
    coalesce(c.bytes_copied, 0) as bytes_copied,
    coalesce(b.rows_read, 0)
    / greatest(extract(epoch from clock_timestamp() - r.started_at), 0.001)::double precision as rows_per_second,
    coalesce(
        case when c.streams > 0 then format('copy, %s streams', c.streams) end,
        i.command || ': ' || i.phase,
        v.phase,
        case when r.backend_pid is not null then a.wait end,
        'between statements'
    ) as doing,
    coalesce(
        i.blocks_done::double precision / nullif(i.blocks_total, 0),
        v.heap_blks_scanned::double precision / nullif(v.heap_blks_total, 0)
    ) as share_done,
    r.backend_pid,
    r.client
from sqlkit.run as r
left join lateral (
    select sum(x.rows_read)::bigint as rows_read
    from sqlkit.batch as x
    where x.run_id = r.run_id
) as b on true
left join lateral (
    select
        count(*) as streams,
        sum(p.tuples_processed)::bigint as rows_copied,
        sum(p.bytes_processed)::bigint as bytes_copied
    from pg_stat_progress_copy as p
    where
        p.relid = sqlkit._relation(r.target)
        or p.relid in (
            select sqlkit._relation(format('sqlkit_stage.%I', s.name))
            from sqlkit.stage as s
            where s.run_id = r.run_id
        )
) as c on true
left join pg_stat_progress_create_index as i on i.pid = r.backend_pid
left join pg_stat_progress_vacuum as v on v.pid = r.backend_pid
left join lateral (
    select
        case
            when s.wait_event_type = 'Lock' then 'waits for a lock'
            when s.state = 'active' then left(regexp_replace(s.query, '\s+', ' ', 'g'), 40)
        end as wait
    from pg_stat_activity as s
    where s.pid = r.backend_pid
) as a on true
where r.state = 'running';

comment on view sqlkit.run_progress is
'The runs that go on: rows committed, rows in COPY at this moment, speed, what the server does for them (from
pg_stat_progress_copy, _create_index and _vacuum), and how far that is. seconds_silent: since the program was heard of.';


create or replace view sqlkit.rows_per_minute as
select
    m.minute as minute_at,
    b.target,
    coalesce(b.batches, 0) as batches,
    coalesce(b.rows_read, 0) as rows_read,
    coalesce(b.rows_written, 0) as rows_written
from generate_series(
    date_trunc('minute', clock_timestamp()) - interval '59 minutes', date_trunc('minute', clock_timestamp()),
    interval '1 minute'
) as m (minute)
left join lateral (
    select
        r.target,
        count(*) as batches,
        sum(x.rows_read)::bigint as rows_read,
        sum(x.rows_inserted + x.rows_updated)::bigint as rows_written
    from sqlkit.batch as x
    join sqlkit.run as r on r.run_id = x.run_id
    where x.committed_at >= m.minute and x.committed_at < m.minute + interval '1 minute'
    group by r.target
) as b on true;

comment on view sqlkit.rows_per_minute is
'Rows of each of the last sixty minutes, by target; a minute without any has one row without target.';


create or replace function sqlkit._strategy_of(p_kind text, p_policy text, p_options jsonb)
returns text
language sql
immutable
begin atomic
select
    case p_kind
        when 'load' then coalesce(p_options ->> 'strategy', 'auto')
        when 'refresh' then p_policy
        else concat_ws(' ', p_kind, nullif(p_options ->> 'name', ''))
    end as strategy;
end;

comment on function sqlkit._strategy_of(text, text, jsonb) is
'By which strategy a run went, as it was asked for: that of a load or refresh; of a transform its name tells it apart.';


create or replace view sqlkit.run_speed as
select
    r.run_id,
    r.kind,
    r.target,
    r.policy,
    s.strategy,
    r.started_at,
    d.seconds_total,
    n.rows_read,
    d.rows_per_second,
    r.client_peak_bytes,
    b.run_id as baseline_run_id,
    e.rows_per_second as baseline_rows_per_second,
    z.client_peak_bytes as baseline_peak_bytes,
    d.rows_per_second / e.rows_per_second as speed_ratio,
    r.client_peak_bytes::double precision / nullif(z.client_peak_bytes, 0) as memory_ratio
from sqlkit.run as r
cross join lateral sqlkit._strategy_of(r.kind, r.policy, r.options) as s (strategy)
cross join lateral (
    select coalesce(sum(x.rows_read), 0)::bigint as rows_read
    from sqlkit.batch as x
    where x.run_id = r.run_id
) as n
cross join lateral (
    select
        t.seconds_total,
        nullif(n.rows_read, 0) / nullif(t.seconds_total, 0) as rows_per_second
    from (select extract(epoch from r.finished_at - r.started_at)::double precision as seconds_total) as t
) as d
left join sqlkit.baseline as b on b.target = r.target and b.kind = r.kind and b.strategy = s.strategy
left join sqlkit.run as z on z.run_id = b.run_id
left join lateral (
    select
        nullif(sum(x.rows_read), 0)::double precision
        / nullif(extract(epoch from z.finished_at - z.started_at), 0)::double precision as rows_per_second
    from sqlkit.batch as x
    where x.run_id = b.run_id
) as e on true
where r.state = 'done' and r.kind <> 'maintenance';

comment on view sqlkit.run_speed is
'Finished runs with rows a second (null where none were read) and memory, and both in proportion to the baseline of the
same target, kind and strategy: speed_ratio 2 is twice as fast, memory_ratio 2 takes twice as much. strategy: as it was
asked for; of a transform, its name.';


create or replace view sqlkit.strategy_speed as
with speed as materialized (
    select s.*
    from sqlkit.run_speed as s
    where s.rows_read > 0
)

select
    n.target,
    n.kind,
    n.strategy,
    u.runs,
    u.usual_rows_per_second,
    n.run_id,
    n.started_at,
    n.seconds_total,
    n.rows_read,
    n.rows_per_second,
    n.client_peak_bytes,
    n.baseline_run_id,
    n.speed_ratio,
    n.memory_ratio
from (
    select distinct on (s.target, s.kind, s.strategy) s.*
    from speed as s
    order by s.target, s.kind, s.strategy, s.run_id desc
) as n
join (
    select
        s.target,
        s.kind,
        s.strategy,
        count(*) as runs,
        percentile_cont(0.5) within group (order by s.rows_per_second) as usual_rows_per_second
    from speed as s
    group by s.target, s.kind, s.strategy
) as u on u.target = n.target and u.kind = n.kind and u.strategy = n.strategy;

comment on view sqlkit.strategy_speed is
'Of each target, kind of run and strategy the newest run that read rows: seconds, rows, rows a second, the peak of memory,
both in proportion to the baseline; how many such runs there were, and what rows a second they usually had.';


create or replace function sqlkit.measure_runs(p_run_ids bigint[])
returns table (
    seconds double precision,
    rows_read bigint,
    rows_per_second double precision,
    peak_bytes bigint,
    baseline_run_id bigint,
    baseline_rows_per_second double precision,
    baseline_peak_bytes bigint
)
language sql
stable
begin atomic
select
    sum(s.seconds_total),
    sum(s.rows_read)::bigint,
    sum(s.rows_read)::double precision / nullif(sum(s.seconds_total) filter (where s.rows_read > 0), 0),
    max(s.client_peak_bytes),
    max(s.baseline_run_id),
    max(s.baseline_rows_per_second),
    max(s.baseline_peak_bytes)
from sqlkit.run_speed as s
where s.run_id = any(p_run_ids)
having count(*) > 0;
end;

comment on function sqlkit.measure_runs(bigint[]) is
'How fast finished runs of one target were, added up, as the parts of a table are loaded by runs of their own; and the
baseline that they have. No row if there are no such runs.';


create or replace function sqlkit.set_baseline(p_run_id bigint)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $set_baseline$
declare
    v_target text;
begin
    insert into sqlkit.baseline as b (target, kind, strategy, run_id)
    select
        r.target,
        r.kind,
        sqlkit._strategy_of(r.kind, r.policy, r.options),
        r.run_id
    from sqlkit.run as r
    where r.run_id = p_run_id and r.state = 'done' and r.kind <> 'maintenance'
    on conflict (target, kind, strategy) do update
    set run_id = excluded.run_id, recorded_at = clock_timestamp()
    returning b.target into v_target;
    if not found then
        raise exception using
            errcode = 'SK401',
            message = 'there is no such run',
            detail = format('Run %s is unknown, or did not end well.', p_run_id),
            hint = 'List them with: select * from sqlkit.run_speed order by run_id;';
    end if;
    return v_target;
end;
$set_baseline$;

comment on function sqlkit.set_baseline(bigint) is
'Makes a finished run the one that other runs of its target, of the same kind and strategy, are compared with, and
returns the target. Writes: sqlkit.baseline. Raises: SK401 if there is no such run, or it failed or goes on.';


create or replace function sqlkit.note_memory(p_run_id bigint, p_peak_bytes bigint)
returns void
language sql
begin atomic
update sqlkit.run
set client_peak_bytes = greatest(client_peak_bytes, p_peak_bytes)
where run_id = p_run_id;
end;

comment on function sqlkit.note_memory(bigint, bigint) is
'Notes the most memory that the program behind a run has taken. Writes: sqlkit.run.';


create or replace view sqlkit.slow_batch as
select
    b.run_id,
    b.batch_id,
    r.target,
    b.committed_at,
    b.rows_read,
    b.seconds,
    b.seconds / b.rows_read * 1000000 as seconds_per_million,
    u.usual as usual_per_million
from (
    select
        x.*,
        x.seconds_copy + x.seconds_merge as seconds
    from sqlkit.batch as x
) as b
join sqlkit.run as r on r.run_id = b.run_id
join (
    select
        y.target,
        percentile_cont(0.5) within group (
            order by (x.seconds_copy + x.seconds_merge) / x.rows_read * 1000000
        ) as usual
    from sqlkit.batch as x
    join sqlkit.run as y on y.run_id = x.run_id
    where x.rows_read > 0 and x.seconds_copy + x.seconds_merge > 0
    group by y.target
) as u on u.target = r.target
where
    b.rows_read > 0
    and b.seconds >= 1
    and b.seconds / b.rows_read * 1000000 > 2 * u.usual;

comment on view sqlkit.slow_batch is
'Batches of a second and more that took more than twice the usual time for a row of their target.';


create or replace view sqlkit.dead_rows as
select
    c.oid::regclass as table_name,
    pg_stat_get_live_tuples(c.oid) as live_rows,
    pg_stat_get_dead_tuples(c.oid) as dead_rows,
    pg_stat_get_dead_tuples(c.oid)::double precision
    / nullif(pg_stat_get_live_tuples(c.oid) + pg_stat_get_dead_tuples(c.oid), 0) as dead_share,
    pg_stat_get_mod_since_analyze(c.oid) as rows_since_analyze,
    greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) as vacuumed_at,
    greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed_at
from pg_class as c
where
    c.relkind in ('r', 'm')
    and c.relpersistence <> 't'
    and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace);

comment on view sqlkit.dead_rows is
'Live and dead rows of each table, rows changed since ANALYZE, and when it was last vacuumed and analyzed.';


create or replace view sqlkit.storage as
select
    c.oid::regclass as table_name,
    pg_total_relation_size(c.oid) as total_bytes,
    pg_relation_size(c.oid) as heap_bytes,
    pg_indexes_size(c.oid) as index_bytes,
    coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) as toast_bytes,
    (
        select coalesce(jsonb_object_agg(x.relname, pg_relation_size(x.oid)), '{}')
        from pg_index as i
        join pg_class as x on x.oid = i.indexrelid
        where i.indrelid = c.oid
    ) as indexes
from pg_class as c
where
    c.relkind in ('r', 'm')
    and c.relpersistence <> 't'
    and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    -- To ask for the size of what is locked away is to wait.
    and not sqlkit._is_locked_away(c.oid);

comment on view sqlkit.storage is
'What each table takes: its heap, its TOAST with the index of that, its indexes together and one by one. A table that
somebody holds in ACCESS EXCLUSIVE is left out: its size could only be waited for.';


create or replace view sqlkit.open_reject as
select
    x.run_id,
    r.target,
    count(*) as rejects,
    min(r.started_at) as started_at
from sqlkit.reject as x
join sqlkit.run as r on r.run_id = x.run_id
where x.state = 'open'
group by x.run_id, r.target;

comment on view sqlkit.open_reject is 'How many rejects of each run nobody has replayed or dismissed; not what they hold.';


create or replace view sqlkit.waiting_lock as
select
    a.pid,
    a.usename as user_name,
    case
        when l.relation is not null
            then coalesce(sqlkit._table_name(l.relation), l.relation::text)
        else l.locktype
    end as waits_for,
    l.mode,
    extract(epoch from clock_timestamp() - l.waitstart)::double precision as seconds,
    pg_blocking_pids(a.pid) as blocked_by,
    (
        select r.run_id
        from sqlkit.run as r
        where r.state = 'running' and r.backend_pid = a.pid
        order by r.run_id desc
        limit 1
    ) as run_id,
    left(a.query, 200) as query
from pg_locks as l
join pg_stat_activity as a on a.pid = l.pid
where
    not l.granted
    and (l.database is null or l.database in (
        0, (select d.oid from pg_database as d
where d.datname = current_database())
    ));

comment on view sqlkit.waiting_lock is
'Sessions that wait for a lock in this database: for what, how long, and the sessions that hold it against them.';


create or replace function sqlkit.collect_metrics()
returns table (name text, kind text, help text, labels jsonb, value double precision)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $collect_metrics$
begin
    return query
    select
        'sqlkit_runs_total', 'counter', 'Runs by kind, target and state.',
        jsonb_build_object('kind', r.kind, 'target', r.target, 'state', r.state), count(*)::double precision
    from sqlkit.run as r
    where r.state <> 'running'
    group by r.kind, r.target, r.state
    union all
    select
        'sqlkit_runs_running', 'gauge', 'Runs that go on.', jsonb_build_object('kind', k.kind),
        (select count(*) from sqlkit.run as r where r.state = 'running' and r.kind = k.kind)::double precision
    from (values ('load'), ('merge'), ('refresh'), ('maintenance')) as k (kind)
    union all
    select
        'sqlkit_rows_total', 'counter', 'Rows read, by what became of them.',
        jsonb_build_object('target', r.target, 'outcome', c.outcome), sum(c.rows)::double precision
    from sqlkit.batch as b
    join sqlkit.run as r on r.run_id = b.run_id
    cross join lateral (
        values
        ('inserted', b.rows_inserted),
        ('updated', b.rows_updated),
        ('unchanged', b.rows_unchanged),
        ('ignored', b.rows_ignored),
        ('duplicate', b.rows_duplicate),
        ('rejected', b.rows_rejected)
    ) as c (outcome, rows)
    group by r.target, c.outcome
    union all
    select
        'sqlkit_batch_seconds_total', 'counter', 'Time that batches took, by kind of work.',
        jsonb_build_object('target', r.target, 'work', c.work), sum(c.seconds)
    from sqlkit.batch as b
    join sqlkit.run as r on r.run_id = b.run_id
    cross join lateral (
        values ('decode', b.seconds_decode), ('copy', b.seconds_copy), ('merge', b.seconds_merge)
    ) as c (work, seconds)
    group by r.target, c.work
    union all
    select
        'sqlkit_last_success_timestamp_seconds', 'gauge', 'When a run last ended well.',
        jsonb_build_object('kind', r.kind, 'target', r.target),
        extract(epoch from max(r.finished_at))::double precision
    from sqlkit.run as r
    where r.state = 'done'
    group by r.kind, r.target
    union all
    select
        'sqlkit_open_rejects', 'gauge', 'Rejects that nobody has replayed or dismissed.',
        jsonb_build_object('target', t.target), coalesce(sum(o.rejects), 0)::double precision
    from (select distinct r.target from sqlkit.run as r where r.kind in ('load', 'refresh')) as t
    left join sqlkit.open_reject as o on o.target = t.target
    group by t.target
    union all
    select
        'sqlkit_waiting_locks', 'gauge', 'Sessions that wait for a lock in this database.', '{}'::jsonb,
        (select count(*) from sqlkit.waiting_lock)::double precision
    union all
    select
        'sqlkit_dead_rows', 'gauge', 'Dead rows of targets.',
        jsonb_build_object('target', t.target), d.dead_rows::double precision
    from (select distinct r.target from sqlkit.run as r) as t
    join sqlkit.dead_rows as d on d.table_name = sqlkit._relation(t.target)
    union all
    select
        'sqlkit_storage_bytes', 'gauge', 'What targets take on disk.',
        jsonb_build_object('target', t.target, 'part', p.part), p.bytes::double precision
    from (select distinct r.target from sqlkit.run as r) as t
    join sqlkit.storage as s on s.table_name = sqlkit._relation(t.target)
    cross join lateral (
        values ('heap', s.heap_bytes), ('index', s.index_bytes), ('toast', s.toast_bytes)
    ) as p (part, bytes)
    union all
    select
        'sqlkit_bloat_bytes', 'gauge', 'Estimated bloat of targets.',
        jsonb_build_object('target', t.target, 'part', b.kind), sum(b.bloat_bytes)::double precision
    from (select distinct r.target from sqlkit.run as r) as t
    join sqlkit.bloat as b on b.table_name = sqlkit._relation(t.target)
    where b.bloat_bytes is not null
    group by t.target, b.kind;
end;
$collect_metrics$;

comment on function sqlkit.collect_metrics() is
'The numbers that a monitoring system keeps, named and labelled as Prometheus wants them: sqlkit metrics prints them.
Writes: nothing. Locks: none. Raises: nothing.';
