-- Repair: what a program that died leaves behind is put in order by the next run of the same target, or by
-- repair_runs(). A batch is one transaction, so that data and indexes never need mending: what can be left are runs
-- that nobody closed, stages, and autovacuum that a run has switched off.

create or replace function sqlkit.attach_run(p_run_id bigint, p_backend_pid integer default null)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $attach_run$
begin
    update sqlkit.run
    set
        state = 'running',
        finished_at = null,
        error_code = null,
        error_message = null,
        heartbeat_at = clock_timestamp(),
        backend_pid = pg_backend_pid(),
        backend_started_at = (select a.backend_start from pg_stat_get_activity(pg_backend_pid()) as a),
        is_direct = (p_backend_pid = pg_backend_pid())
    where run_id = p_run_id;
    return found;
end;
$attach_run$;

comment on function sqlkit.attach_run(bigint, integer) is
'Says that the program behind a run is at the other end of this session, after it has begun or connected again;
a run that was closed meanwhile goes on. p_backend_pid is the server process that the program''s library believes
to talk to: where it is another than this one, a proxy stands between. Returns false if there is no such run: a
server that took over may not have heard of it. Writes: sqlkit.run.';


create or replace function sqlkit._is_alive(p_run sqlkit.run, p_grace interval)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $is_alive$
begin
    return
        -- Something is done with a stage of it: whoever that is must not be disturbed.
        exists (
            select
            from sqlkit.stage as s
            join pg_class as c on c.relname = s.name and c.relnamespace = to_regnamespace('sqlkit_stage')
            join pg_locks as l on l.locktype = 'relation' and l.relation = c.oid
            join pg_database as d on d.oid = l.database and d.datname = current_database()
            where s.run_id = (p_run).run_id and l.pid is distinct from pg_backend_pid()
        )
        or (
            (p_run).is_direct is not false
            and exists (
                select
                from pg_stat_activity as a
                where
                    a.pid = (p_run).backend_pid
                    -- Not everyone may see when another role's session began.
                    and coalesce(a.backend_start, (p_run).backend_started_at) = (p_run).backend_started_at
            )
        )
        or ((p_run).is_direct is not true and (p_run).heartbeat_at > clock_timestamp() - p_grace);
end;
$is_alive$;

comment on function sqlkit._is_alive(sqlkit.run, interval) is
'Whether the program behind a run is there: its server process is, or, where a proxy hides it, it was heard of
within the time of grace, or one of its stages is in use.';


create or replace function sqlkit._drop_unused_stage(p_name name)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $drop_unused_stage$
declare
    v_stage regclass := to_regclass(format('sqlkit_stage.%I', p_name));
begin
    -- Who else is at it has it dropped when this returns.
    perform
    from sqlkit.stage as s
    where s.name = p_name
    for update skip locked;
    if not found then
        return null;
    end if;
    if v_stage is null then
        delete from sqlkit.stage where name = p_name;
        return 'forgotten';
    end if;
    perform sqlkit.drop_stage(v_stage);
    return 'dropped';
exception
    when lock_not_available then
        return 'in use';
    when insufficient_privilege then
        return 'of another role';
end;
$drop_unused_stage$;

comment on function sqlkit._drop_unused_stage(name) is
'Drops a stage, unless somebody uses it; what became of it, null if it is gone already.';


create or replace function sqlkit.drop_stages(p_run_id bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $drop_stages$
declare
    v_dropped bigint;
begin
    select count(*)
    into v_dropped
    from sqlkit.stage as s
    cross join lateral sqlkit._drop_unused_stage(s.name) as d (outcome)
    where s.run_id = p_run_id and d.outcome in ('dropped', 'forgotten');
    return v_dropped;
end;
$drop_stages$;

comment on function sqlkit.drop_stages(bigint) is
'Drops the stages of a run that nobody uses, and returns how many.
Writes: sqlkit.stage. Locks: ACCESS EXCLUSIVE on the stages.';


create or replace function sqlkit.repair_runs(
    p_target regclass default null,
    p_grace interval default '5 minutes'
)
returns table (run_id bigint, target text, stage name, action text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $repair_runs$
declare
    v_target text := sqlkit._table_name(p_target);
begin
    for run_id, target in
        select r.run_id, r.target
        from sqlkit.run as r
        where
            r.state = 'running'
            and (
                v_target is null
                or r.target = v_target
                -- A refresh of files loads them into a stage.
                or r.target in (
                    select format('sqlkit_stage.%I', s.name) from sqlkit.stage as s where s.target = v_target
                )
            )
            and not sqlkit._is_alive(r, p_grace)
        order by r.run_id
    loop
        -- Looked at once more: it may have come back, or another session may have closed it.
        update sqlkit.run as r
        set
            state = 'failed',
            finished_at = clock_timestamp(),
            error_code = 'SK403',
            error_message = 'the program behind the run is gone'
        where r.run_id = repair_runs.run_id and r.state = 'running' and not sqlkit._is_alive(r, p_grace);
        if found then
            action := 'closed';
            return next;
        end if;
    end loop;
    for run_id, target, stage in
        select s.run_id, s.target, s.name
        from sqlkit.stage as s
        join sqlkit.run as r on r.run_id = s.run_id
        where r.state <> 'running' and (v_target is null or s.target = v_target)
        order by s.stage_id
    loop
        action := sqlkit._drop_unused_stage(stage);
        if action is not null then
            return next;
        end if;
    end loop;
    stage := null;
    for run_id, target in
        select t.run_id, t.relation
        from sqlkit.tuned_table as t
        join sqlkit.run as r on r.run_id = t.run_id
        where r.state <> 'running' and (v_target is null or r.target = v_target)
        order by t.run_id, t.relation_oid
    loop
        action := sqlkit._switch_autovacuum_back(run_id, target);
        if action is not null then
            return next;
        end if;
    end loop;
end;
$repair_runs$;

comment on function sqlkit.repair_runs(regclass, interval) is
'Closes the runs whose program is gone, drops the stages of closed runs and puts back what they have tuned; of one
target, or of all. Returns what was done: closed, dropped, forgotten (there was no table any more), autovacuum put
back, in use or of another role (left as it is). Stages that were made by hand belong to no run and stay. A program
behind a proxy counts as gone when nothing was heard of it for p_grace. There is nothing else to put back: a batch is
one transaction. Writes: sqlkit.run, sqlkit.stage, sqlkit.tuned_table and options of tables. Locks: ACCESS EXCLUSIVE on
the stages it drops, SHARE UPDATE EXCLUSIVE on tuned tables, for each of which it waits a second.';


create or replace function sqlkit.end_sessions(p_pids integer[], p_started_at timestamptz[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $end_sessions$
declare
    v_ended bigint := 0;
    r_session record;
begin
    -- One by one: a planner that may move the call about would end sessions of anybody.
    for r_session in
        select a.pid
        from unnest(p_pids, p_started_at) as k (pid, started_at)
        join pg_stat_activity as a on a.pid = k.pid and a.backend_start = k.started_at
        where a.pid <> pg_backend_pid()
    loop
        begin
            if pg_terminate_backend(r_session.pid, 5000) then
                v_ended := v_ended + 1;
            end if;
        exception
            when insufficient_privilege then
                -- It was opened as another role, and is left to its end.
                null;
        end;
    end loop;
    return v_ended;
end;
$end_sessions$;

comment on function sqlkit.end_sessions(integer[], timestamptz[]) is
'Ends sessions that a program has lost touch with, so that they hold no locks against it: those whose process and
start are given. Waits until they are gone, five seconds each at most; returns how many are. Sessions of another
role are left alone.';


create or replace function sqlkit.check_stages(p_stages regclass[], p_rows bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $check_stages$
declare
    v_total bigint := 0;
    v_rows bigint;
    r_stage record;
begin
    for r_stage in
        select k.stage
        from unnest(p_stages) as k (stage)
    loop
        execute format('select count(*) from %s', r_stage.stage) into v_rows;
        v_total := v_total + v_rows;
    end loop;
    if v_total <> p_rows then
        raise exception using
            errcode = 'SK404',
            message = 'a stage does not hold the rows that were copied into it',
            detail = format('Rows copied: %s; rows there: %s.', p_rows, v_total),
            hint = 'The server was restarted meanwhile, which empties stages. Load the batch again.';
    end if;
end;
$check_stages$;

comment on function sqlkit.check_stages(regclass[], bigint) is
'Makes sure that stages hold as many rows as were copied into them: behind a proxy a server may have been restarted
without any sign of it. Raises: SK404 if they do not.';


create or replace function sqlkit.check_loaded(p_source_ids bigint[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $check_loaded$
declare
    v_missing text;
begin
    select string_agg(k.source_id::text, ', ' order by k.source_id)
    into v_missing
    from unnest(p_source_ids) as k (source_id)
    where not exists (
        select
        from sqlkit.source as s
        where s.source_id = k.source_id and s.state = 'loaded'
    );
    if v_missing is not null then
        raise exception using
            errcode = 'SK405',
            message = 'the ledger does not hold a source as loaded',
            detail = format('Sources: %s.', v_missing),
            hint = 'The server lost the last commits. Load again: what is missing is loaded.';
    end if;
end;
$check_loaded$;

comment on function sqlkit.check_loaded(bigint[]) is
'Makes sure that sources are loaded to their ends: after asynchronous commits, the last thing before a run is
closed. Raises: SK405 if one is not.';
