-- Maintenance by pg_cron. VACUUM and REINDEX CONCURRENTLY refuse to run inside a function, and beside other statements
-- of a job: so each statement of the plan becomes a job of its own that runs once, and the job that was scheduled for
-- good, run_maintenance(), waits for one before it schedules the next. It is closed when it is over, by who waits.

create or replace function sqlkit._cron_setting(p_name text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $cron_setting$
begin
    return current_setting('cron.' || p_name, true);
exception
    when insufficient_privilege then
        return null;
end;
$cron_setting$;

comment on function sqlkit._cron_setting(text) is
'A setting of pg_cron; null where it is not loaded, or does not show it to the caller, who is no member of
pg_read_all_settings.';


create or replace function sqlkit._require_cron()
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $require_cron$
declare
    v_home text := sqlkit._cron_setting('database_name');
    v_log boolean := coalesce(sqlkit._cron_setting('log_run')::boolean, true);
begin
    if v_home is distinct from current_database() and v_home is not null then
        raise exception using
            errcode = 'SK701',
            message = format('pg_cron works in database %I, not in this one', v_home),
            detail = format('The tables of %I can be maintained only by jobs of its own.', current_database()),
            hint = format(
                'Set cron.database_name = %L and restart the server, or have sqlkit optimize called from outside.',
                current_database()
            );
    end if;
    if not exists (select from pg_extension as e where e.extname = 'pg_cron') then
        raise exception using
            errcode = 'SK701',
            message = 'the extension pg_cron is not installed in this database',
            detail = case
                when v_home is null then 'The server does not load it, or does not show for which database.'
                else 'The server loads it, for this database.'
            end,
            hint = case
                when v_home is null then format(
                    'Set shared_preload_libraries = ''pg_cron'' and cron.database_name = %L, restart the server, and '
                    'create extension pg_cron; or have sqlkit optimize called from outside.',
                    current_database()
                )
                else 'create extension pg_cron;'
            end;
    end if;
    if
        sqlkit._cron_setting('use_background_workers')::boolean
        and exists (select from pg_extension as e where e.extname = 'pg_cron' and e.extversion ~ '^1\.[0-4]([.-]|$)')
    then
        raise exception using
            errcode = 'SK701',
            message = 'pg_cron before 1.5 runs background workers one after the other',
            detail = 'The job that waits for a statement to end would keep it from beginning.',
            hint = 'Set cron.use_background_workers = off and restart the server, or have sqlkit optimize called from '
                'outside.';
    end if;
    if not v_log then
        raise exception using
            errcode = 'SK701',
            message = 'pg_cron keeps no record of what it runs',
            detail = 'cron.log_run is off: nothing tells when a statement is over.',
            hint = 'Set cron.log_run = on and restart the server.';
    end if;
end;
$require_cron$;

comment on function sqlkit._require_cron() is
'Refuses, with SK701 and the remedy, where pg_cron cannot run jobs of this database.';


create or replace function sqlkit._unschedule_job(p_job text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $unschedule_job$
declare
    v_found boolean;
begin
    execute format(
        'select count(%1$I.unschedule(j.jobid)) > 0 from %1$I.job as j
        where j.jobname = $1 and j.username = current_user',
        'cron'
    )
    into v_found
    using p_job;
    return v_found;
end;
$unschedule_job$;

comment on function sqlkit._unschedule_job(text) is
'Removes the caller''s job of that name; whether there was one.';


create or replace function sqlkit._clear_steps()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $clear_steps$
begin
    execute format(
        $query$
        select count(%1$I.unschedule(j.jobid))
        from %1$I.job as j
        where
            j.jobname like 'sqlkit step %%'
            and j.username = current_user
            and not exists (
                select
                from sqlkit.run as r
                where
                    r.state = 'running'
                    and j.jobname = 'sqlkit step ' || r.run_id
                    and sqlkit._is_alive(r, '5 minutes')
            )
        $query$,
        'cron'
    );
end;
$clear_steps$;

comment on function sqlkit._clear_steps() is
'Removes the jobs of statements for which nobody waits any more.';


create or replace function sqlkit._schedule_step(
    p_tables regclass[],
    p_actions text[],
    p_least_bytes bigint,
    p_patience interval,
    p_lag_bytes bigint,
    p_since timestamptz,
    p_deadline timestamptz
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $schedule_step$
declare
    -- pg_cron looks once a second: a minute that is about to begin it may miss.
    v_fires_at timestamptz := date_trunc('minute', clock_timestamp() + interval '3 seconds') + interval '1 minute';
    v_run_id bigint;
    r_step record;
begin
    select p.*
    into r_step
    from sqlkit.plan_maintenance(
        p_tables, array_append(p_actions, 'clean'), p_least_bytes, p_patience => p_patience, p_lag_bytes => p_lag_bytes
    ) as p
    where
        p.obstacle is null
        and (
            p_deadline is null
            or v_fires_at + coalesce(p.expected_seconds, 0) * interval '1 second' < p_deadline
        )
        and not exists (
            select
            from sqlkit.run as r
            where
                r.kind = 'maintenance'
                and r.started_at >= p_since
                and r.options ->> 'statement' = p.statement
        )
    limit 1;
    if not found then
        return null;
    end if;
    v_run_id := sqlkit.start_maintenance(
        r_step.table_name, r_step.action, r_step.relation, r_step.statement, 'pg_cron'
    );
    perform sqlkit.attach_run(v_run_id, pg_backend_pid());
    execute format('select %I.schedule($1, $2, $3)', 'cron')
    using
        format('sqlkit step %s', v_run_id),
        -- Once a year: it is removed long before the second time.
        to_char(
            v_fires_at at time zone coalesce(sqlkit._cron_setting('timezone'), 'GMT'),
            'FMMI FMHH24 FMDD FMMM "*"'
        ),
        r_step.statement;
    return v_run_id;
end;
$schedule_step$;

comment on function sqlkit._schedule_step(
    regclass[], text[], bigint, interval, bigint, timestamptz, timestamptz
) is
'Schedules the first statement of the plan that nothing stands against, that was not begun since, and that is expected
to end before the deadline, for the next minute; the id of its run in the ledger, null if there is none.';


create or replace function sqlkit._finish_step(p_run_id bigint, p_lock_timeout interval, p_deadline timestamptz)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $finish_step$
declare
    v_job text := format('sqlkit step %s', p_run_id);
    v_status text;
    v_message text;
    v_pid integer;
    v_started_at timestamptz;
    v_gone_at timestamptz;
    v_code text;
    v_why text;
begin
    execute format(
        'select d.status, d.return_message, d.job_pid
        from %1$I.job as j
        join %1$I.job_run_details as d on d.jobid = j.jobid
        where j.jobname = $1 and j.username = current_user
        order by d.runid
        limit 1',
        'cron'
    )
    into v_status, v_message, v_pid
    using v_job;
    select
        r.started_at,
        r.options ->> 'cancelled',
        (r.options ->> 'gone_at')::timestamptz
    into v_started_at, v_code, v_gone_at
    from sqlkit.run as r
    where r.run_id = p_run_id;
    if v_status = 'succeeded' then
        v_code := null;
    elsif v_status = 'failed' then
        v_why := case v_code
            when '57014' then 'the budget ended while it ran'
            when '55P03' then format('it waited for a lock for more than %s', p_lock_timeout)
            else coalesce(nullif(regexp_replace(trim(e' \n' from v_message), '^ERROR:\s+', ''), ''), 'it failed')
        end;
        v_code := coalesce(v_code, 'SK000');
    elsif v_pid is null then
        -- Also where somebody else has removed the job.
        if v_started_at > clock_timestamp() - interval '3 minutes' then
            return false;
        end if;
        v_code := 'SK000';
        v_why := 'pg_cron has not begun it within three minutes: see its log, cron.max_running_jobs and cron.timezone';
    elsif not exists (select from pg_stat_activity as a where a.pid = v_pid) then
        -- pg_cron may have to look first, and may be at something else.
        if v_gone_at is null then
            update sqlkit.run as r
            set options = r.options || jsonb_build_object('gone_at', clock_timestamp())
            where r.run_id = p_run_id;
        end if;
        if coalesce(v_gone_at, clock_timestamp()) > clock_timestamp() - interval '20 seconds' then
            return false;
        end if;
        v_code := coalesce(v_code, 'SK000');
        v_why := 'its session is gone, and pg_cron does not tell how it ended';
    else
        v_code := coalesce(
            v_code,
            case
                when clock_timestamp() > p_deadline then '57014'
                when exists (
                    select from pg_locks as l
                    where l.pid = v_pid and not l.granted and l.waitstart < clock_timestamp() - p_lock_timeout
                ) then '55P03'
            end
        );
        if v_code is not null then
            update sqlkit.run as r
            set options = r.options || jsonb_build_object('cancelled', v_code)
            where r.run_id = p_run_id;
            perform pg_cancel_backend(v_pid);
        end if;
        return false;
    end if;
    perform sqlkit._unschedule_job(v_job);
    perform sqlkit.finish_maintenance(p_run_id, v_code, v_why);
    return true;
end;
$finish_step$;

comment on function sqlkit._finish_step(bigint, interval, timestamptz) is
'Closes the run of a statement that pg_cron has run, and removes its job; false while it is not over. One that waits
for a lock for longer than so, or that runs at the deadline, is cancelled.';


-- Without a pinned search_path, since it commits: every name is written out.
create or replace procedure sqlkit.run_maintenance(
    p_tables regclass[] default null,
    p_actions text[] default '{vacuum,analyze,reindex}',
    p_budget interval default '30 minutes',
    p_lock_timeout interval default '5 seconds',
    p_least_bytes bigint default 1048576,
    p_patience interval default '5 minutes',
    p_lag_bytes bigint default 268435456
)
language plpgsql
as $run_maintenance$
declare
    v_since timestamptz := pg_catalog.now();
    v_deadline timestamptz := v_since operator(pg_catalog.+) p_budget;
    v_run_id bigint;
begin
    perform sqlkit._require_cron();
    perform sqlkit.repair_runs();
    perform sqlkit._clear_steps();
    loop
        v_run_id := sqlkit._schedule_step(
            p_tables, p_actions, p_least_bytes, p_patience, p_lag_bytes, v_since, v_deadline
        );
        -- Each look is a transaction of its own: it holds back no dead row that VACUUM is to remove.
        commit;
        exit when v_run_id is null;
        while not sqlkit._finish_step(v_run_id, p_lock_timeout, v_deadline) loop
            commit;
            perform pg_catalog.pg_sleep(0.5);
            commit;
        end loop;
        commit;
    end loop;
end;
$run_maintenance$;

comment on procedure sqlkit.run_maintenance (
    regclass [], text [], interval, interval, bigint, interval, bigint
) is
'Carries out plan_maintenance() by pg_cron, one statement after the other, each at the beginning of a minute, as a job
of its own that is removed afterwards, and as a run in the ledger; returns when nothing is left to do, or the budget
(null: none) is used up: a statement that runs then is cancelled, one that took longer the last time is not begun.
What has an obstacle is left out. A statement that waits for a lock for longer than p_lock_timeout is cancelled; what a
cancelled REINDEX leaves is dropped next. Commits: call it outside transactions.
Writes: sqlkit.run, cron.job. Raises: SK701 where pg_cron cannot run jobs of this database.';


create or replace function sqlkit.schedule_maintenance(
    p_schedule text,
    p_tables regclass[] default null,
    p_actions text[] default '{vacuum,analyze,reindex}',
    p_budget interval default '30 minutes',
    p_lock_timeout interval default '5 seconds',
    p_least_bytes bigint default 1048576,
    p_patience interval default '5 minutes',
    p_lag_bytes bigint default 268435456,
    p_name text default 'maintenance'
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $schedule_maintenance$
declare
    v_wrong text := case
        when p_schedule is null then 'there is no maintenance without a schedule'
        when p_name is null or p_name = '' or p_name like 'step %' or length('sqlkit ' || p_name) > 63
            then format('a schedule cannot be named %L', p_name)
        when p_actions is null or not p_actions <@ '{clean,vacuum,analyze,reindex,rewrite}'
            then format('there is no such maintenance: %s', p_actions)
        when p_budget < interval '2 minutes' then format('a budget of %s is too little', p_budget)
        when p_lock_timeout is null or p_lock_timeout <= interval '0'
            then 'p_lock_timeout has to be more than 0: nothing waits for ever'
    end;
    v_job_id bigint;
begin
    if v_wrong is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = v_wrong,
            hint = 'A schedule is like 0 3 * * *; actions are clean, vacuum, analyze, reindex and rewrite; statements '
                'begin at whole minutes, so that a budget is two minutes at least.';
    end if;
    perform sqlkit._require_cron();
    execute format('select %I.schedule($1, $2, $3)', 'cron')
    into v_job_id
    using
        'sqlkit ' || p_name,
        p_schedule,
        format(
            'call sqlkit.run_maintenance(p_tables => %L, p_actions => %L, p_budget => %L, p_lock_timeout => %L, '
            'p_least_bytes => %L, p_patience => %L, p_lag_bytes => %L)',
            (select array_agg(sqlkit._table_name(t.oid)) from unnest(p_tables) as t (oid)),
            p_actions,
            extract(epoch from p_budget) || ' seconds',
            extract(epoch from p_lock_timeout) || ' seconds',
            p_least_bytes,
            extract(epoch from p_patience) || ' seconds',
            p_lag_bytes
        );
    return v_job_id;
end;
$schedule_maintenance$;

comment on function sqlkit.schedule_maintenance(
    text, regclass[], text[], interval, interval, bigint, interval, bigint, text
) is
'Has pg_cron call run_maintenance() at the times of p_schedule (as pg_cron takes them: minute, hour, day, month, day of
the week, in UTC unless cron.timezone says otherwise), as the calling role, and returns the id of the job. A schedule of
the same name and role is replaced. See what was done in sqlkit.maintenance and cron.job_run_details.
Writes: cron.job. Raises: SK701 where pg_cron cannot run jobs of this database, 22023 for what makes no sense, and
what pg_cron raises of a schedule that is none.';


create or replace function sqlkit.unschedule_maintenance(p_name text default 'maintenance')
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $unschedule_maintenance$
begin
    perform sqlkit._require_cron();
    perform sqlkit._clear_steps();
    return sqlkit._unschedule_job('sqlkit ' || p_name);
end;
$unschedule_maintenance$;

comment on function sqlkit.unschedule_maintenance(text) is
'Takes back schedule_maintenance() of the calling role; false if there was no such schedule. A statement that runs goes
on to its end. Writes: cron.job. Raises: SK701 where pg_cron cannot run jobs of this database.';
