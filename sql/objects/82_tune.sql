-- Tuning: settings of the server, each with what it is, what is advised, why, and where the rule comes from. Nothing
-- here changes anything.

create or replace function sqlkit._requested_checkpoints()
returns double precision
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $requested_checkpoints$
declare
    v_share double precision;
begin
    -- They were counted elsewhere before PostgreSQL 17.
    execute case
        when current_setting('server_version_num')::integer >= 170000
            then 'select num_requested::float8 / nullif(num_timed + num_requested, 0) from pg_stat_checkpointer '
                'where num_timed + num_requested >= 10'
        else 'select checkpoints_req::float8 / nullif(checkpoints_timed + checkpoints_req, 0) from pg_stat_bgwriter '
            'where checkpoints_timed + checkpoints_req >= 10'
    end
    into v_share;
    return v_share;
end;
$requested_checkpoints$;

comment on function sqlkit._requested_checkpoints() is
'Which share of all checkpoints (0 to 1) came since WAL had grown to max_wal_size or somebody asked; null while there
were fewer than ten.';


create or replace function sqlkit._setting_bytes(p_value text, p_unit text)
returns double precision
language sql
immutable
return (
    p_value::double precision * case p_unit
        when 'B' then 1
        when 'kB' then 1024
        when '8kB' then 8192
        when 'MB' then 1048576
        when 'min' then 60000
        when 's' then 1000
        else 1
    end
);

comment on function sqlkit._setting_bytes(text, text) is
'The value of a setting, as pg_settings has it, in bytes, milliseconds, or as it is.';


create or replace function sqlkit.advise_settings(
    p_memory_bytes bigint default null,
    p_cores integer default null,
    p_storage text default 'ssd'
)
returns table (
    name text,
    present text,
    advised text,
    is_met boolean,
    why text,
    needs_restart boolean,
    rule_source text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $advise_settings$
declare
    v_mb constant bigint := 1048576;
    v_version integer := current_setting('server_version_num')::integer / 10000;
    v_connections integer := current_setting('max_connections')::integer;
    v_requested double precision := sqlkit._requested_checkpoints();
    v_wal_mb bigint := (select s.setting::bigint from pg_settings as s where s.name = 'max_wal_size');
    v_temporary record;
begin
    if p_storage is null or p_storage not in ('ssd', 'hdd') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('there is no storage %L', p_storage),
            hint = 'Storage is ssd or hdd.';
    end if;
    select
        d.temp_files,
        d.temp_bytes
    into v_temporary
    from pg_stat_database as d
    where d.datname = current_database();
    return query
    select
        r.name,
        current_setting(r.name),
        r.advised,
        case r.bound
            when 'least' then p.value >= a.value
            when 'most' then p.value <= a.value
            when 'about' then p.value between a.value * 0.5 and a.value * 2
            else s.setting = r.advised or (r.bound = 'any' and s.setting not in ('off', 'none'))
        end,
        r.why,
        s.context = 'postmaster',
        r.rule_source
    from (
        values
        (
            10, 'shared_buffers', 'about', p_memory_bytes / 4 / v_mb || 'MB',
            'a quarter of the memory, as long as the system has the rest for its cache',
            'PostgreSQL documentation, shared_buffers'
        ),
        (
            11, 'effective_cache_size', 'about', p_memory_bytes / 4 * 3 / v_mb || 'MB',
            'what the system and the server hold of the data together; the planner trusts indexes accordingly',
            'PostgreSQL wiki, Tuning Your PostgreSQL Server'
        ),
        (
            12, 'work_mem', 'least',
            least(256, greatest(4, p_memory_bytes / 4 / (v_connections * 2) / v_mb)) || 'MB',
            format(
                'a quarter of the memory for two sorts of each of %s connections%s', v_connections,
                case
                    when v_temporary.temp_files > 0
                        then format(
                            '; %s temporary files with %s were written so far', v_temporary.temp_files,
                            pg_size_pretty(v_temporary.temp_bytes)
                        )
                    else ''
                end
            ),
            'PostgreSQL documentation, work_mem: several operations of each session use so much'
        ),
        (
            13, 'maintenance_work_mem', 'least',
            greatest(64, least(p_memory_bytes / 16 / v_mb, case when v_version < 17 then 1024 else 2048 end)) || 'MB',
            'indexes are built and tables vacuumed in fewer passes',
            'PostgreSQL documentation, maintenance_work_mem; before 17 VACUUM uses at most 1 GB'
        ),
        (
            20, 'max_wal_size', 'least', case when v_requested > 0.1 then v_wal_mb * 4 else greatest(v_wal_mb, 4096) end || 'MB',
            case
                when v_requested > 0.1
                    then format(
                        '%s%% of the checkpoints came before their time: each makes pages be written to WAL as a whole '
                        'once more', round((100 * v_requested)::numeric)
                    )
                else 'a load writes some GB of WAL: a checkpoint in its midst costs more than the room'
            end,
            'PostgreSQL documentation, WAL Configuration: raise it where checkpoints are requested'
        ),
        (
            21, 'checkpoint_timeout', 'least', '15min',
            'fewer pages are written as a whole; recovery after a crash takes longer',
            'PostgreSQL documentation, WAL Configuration'
        ),
        (
            22, 'checkpoint_completion_target', 'least', '0.9',
            'the writes of a checkpoint are spread', 'PostgreSQL documentation, checkpoint_completion_target'
        ),
        (
            23, 'wal_compression', 'any',
            case
                when (select 'lz4' = any (s.enumvals) from pg_settings as s where s.name = 'wal_compression') then 'lz4'
                else 'pglz'
            end,
            'pages that are written to WAL as a whole take less room',
            'PostgreSQL documentation, wal_compression'
        ),
        (
            30, 'random_page_cost', 'most', case p_storage when 'ssd' then '1.1' end,
            'on flash a page costs the same wherever it is', 'PostgreSQL documentation, random_page_cost'
        ),
        (
            31, 'effective_io_concurrency', 'least', case p_storage when 'ssd' then '200' else '2' end,
            'so many reads may be on their way at once', 'PostgreSQL documentation, effective_io_concurrency'
        ),
        (
            40, 'max_worker_processes', 'least', greatest(8, p_cores)::text,
            'workers of all kinds come out of these', 'PostgreSQL documentation, max_worker_processes'
        ),
        (
            41, 'max_parallel_workers', 'least', greatest(2, p_cores)::text,
            'as many as there are cores', 'PostgreSQL documentation, max_parallel_workers'
        ),
        (
            42, 'max_parallel_workers_per_gather', 'least', least(4, greatest(1, p_cores / 2))::text,
            'the join of a merge runs in parallel', 'half of the cores, as pgtune has it'
        ),
        (
            43, 'max_parallel_maintenance_workers', 'least', least(4, greatest(1, p_cores / 2))::text,
            'indexes are built in parallel', 'half of the cores, as pgtune has it'
        ),
        (
            50, 'autovacuum', 'is', 'on', 'dead rows pile up without it, and transaction ids run out',
            'PostgreSQL documentation, Routine Vacuuming'
        ),
        (
            51, 'track_counts', 'is', 'on', 'autovacuum knows by them where to go',
            'PostgreSQL documentation, track_counts'
        ),
        (
            52, 'track_io_timing', 'is', 'on', 'time spent in reading and writing is seen; pg_test_timing tells what it costs',
            'PostgreSQL documentation, track_io_timing'
        ),
        (
            60, 'fsync', 'is', 'on', 'without it a crash of the machine may destroy the database',
            'PostgreSQL documentation, fsync'
        ),
        (
            61, 'full_page_writes', 'is', 'on', 'without it a crash of the machine may destroy pages',
            'PostgreSQL documentation, full_page_writes'
        )
    ) as r (position, name, bound, advised, why, rule_source)
    join pg_settings as s on s.name = r.name
    cross join lateral (
        select case when r.bound in ('least', 'most', 'about') then sqlkit._setting_bytes(s.setting, s.unit) end as value
    ) as p
    cross join lateral (
        select
            case
                when r.advised ~ 'MB$' then pg_size_bytes(r.advised)::double precision
                when r.advised ~ 'min$' then extract(epoch from r.advised::interval)::double precision * 1000
                when r.bound in ('least', 'most', 'about') then r.advised::double precision
            end as value
    ) as a
    where
        r.advised is not null
        -- greatest() and least() pass nulls by.
        and (p_memory_bytes is not null or r.position not between 10 and 19)
        and (p_cores is not null or r.position not between 40 and 49)
    order by r.position;
end;
$advise_settings$;

comment on function sqlkit.advise_settings(bigint, integer, text) is
'Settings of the server, one by one: what each is, what is advised for the memory, the cores and the storage (ssd or hdd)
of its machine, whether that is met, why, whether a change needs a restart, and where the rule comes from. What
depends on memory or cores is left out where they are not said. Changes nothing. Raises: 22023 for another storage.';


create or replace function sqlkit.size_load(
    p_rows bigint,
    p_row_bytes integer,
    p_key_bytes integer default 8,
    p_indexes integer default 1
)
returns table (what text, bytes bigint, amount text, why text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $size_load$
declare
    v_block constant integer := current_setting('block_size')::integer;
    v_tuple double precision;
    v_entry double precision;
    v_table bigint;
    v_index bigint;
    v_stage bigint;
    v_rate double precision;
    v_runs bigint;
begin
    if (p_rows > 0 and p_row_bytes > 0 and p_key_bytes > 0 and p_indexes >= 0) is not true then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a load has rows, and rows and keys have bytes',
            detail = format(
                'Rows: %s; bytes a row: %s; bytes a key: %s; indexes: %s.', p_rows, p_row_bytes, p_key_bytes, p_indexes
            ),
            hint = 'Say how many rows there will be, and how long one is.';
    end if;
    -- A row has a header of 24 bytes and a pointer of 4, an entry of an index 8 and 4; both are aligned to 8.
    v_tuple := 28 + ceil(p_row_bytes / 8.0) * 8;
    v_entry := 12 + ceil(p_key_bytes / 8.0) * 8;
    v_table := ceil(p_rows / greatest(1, floor((v_block - 24) / v_tuple)))::bigint * v_block;
    v_index := ceil(p_rows / floor((v_block - 40) * 0.9 / v_entry))::bigint * v_block;
    v_stage := least(v_table, greatest(268435456, least(v_table, 4294967296))) * 2;
    select
        percentile_cont(0.5) within group (order by s.rows_read / s.seconds_total),
        count(*)
    into v_rate, v_runs
    from sqlkit.run_summary as s
    where s.kind = 'load' and s.state = 'done' and s.rows_read >= 100000 and s.seconds_total > 0;
    return query
    select
        k.what,
        k.bytes::bigint,
        coalesce(k.amount, pg_size_pretty(k.bytes::bigint)),
        k.why
    from (
        values
        ('table', v_table::numeric, null::text, format('%s rows of %s bytes with their headers', p_rows, p_row_bytes)),
        ('indexes', (v_index * p_indexes)::numeric, null, format('%s, each of %s', p_indexes, pg_size_pretty(v_index))),
        ('stages', v_stage::numeric, null, 'two sets, for the batch that is read and the one that is merged; not under append'),
        (
            'WAL', (v_table + v_index * p_indexes)::numeric, null,
            'once what is written; a load into rows that are there adds pages as a whole after each checkpoint'
        ),
        (
            'storage', ((v_table + v_index * p_indexes) * 1.2)::numeric + v_stage
            + (select s.setting::numeric * 1048576 from pg_settings as s where s.name = 'max_wal_size'),
            null, 'table, indexes and a fifth for sorting and dead rows, stages, max_wal_size'
        ),
        (
            'memory', greatest(1073741824, 4 * least(v_index, 17179869184))::numeric, null,
            'the index of the key fits into shared_buffers, a quarter of it'
        ),
        ('cores', null, '2 to 4', 'one that decodes, one for each stream of COPY; the join uses more'),
        (
            'time', null,
            case when v_rate is null then 'unknown' else format('%s s', ceil(p_rows / v_rate)) end,
            case
                when v_rate is null then 'no run of 100,000 rows or more is in the ledger yet: load a part, and ask again'
                else format('at %s rows a second, the median of %s runs in the ledger', round(v_rate::numeric), v_runs)
            end
        )
    ) as k (what, bytes, amount, why);
end;
$size_load$;

comment on function sqlkit.size_load(bigint, integer, integer, integer) is
'What a planned load needs: room for table, indexes, stages and WAL, memory, cores, and the time by what the ledger
knows. p_row_bytes is what the columns of a row take, p_key_bytes those of the key. Changes nothing.
Raises: 22023 for numbers that are not positive.';
