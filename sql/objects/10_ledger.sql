-- Runs and batches: written by programs through these functions, read by everyone.

create or replace function sqlkit._table_name(p_relation regclass)
returns text
language sql
stable
return (
    select format('%I.%I', n.nspname, c.relname)
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = p_relation
);

comment on function sqlkit._table_name(regclass) is
'schema.table, quoted, whatever the search_path: the form in which the ledger names relations.';


create or replace function sqlkit.start_run(
    p_kind text,
    p_target regclass,
    p_policy text default null,
    p_key name[] default null,
    p_options jsonb default '{}',
    p_client text default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $start_run$
declare
    v_run_id bigint;
begin
    insert into sqlkit.run (
        kind, target, policy, key_columns, options, client, bytes_before, backend_pid, backend_started_at,
        server_version
    )
    values (
        p_kind,
        sqlkit._table_name(p_target),
        p_policy,
        p_key,
        p_options,
        p_client,
        pg_total_relation_size(p_target),
        pg_backend_pid(),
        (select a.backend_start from pg_stat_get_activity(pg_backend_pid()) as a),
        current_setting('server_version')
    )
    returning run_id into v_run_id;
    return v_run_id;
end;
$start_run$;

comment on function sqlkit.start_run(text, regclass, text, name[], jsonb, text) is
'Opens a run and returns its id. Close it with finish_run().
Writes: sqlkit.run. Raises: 23514 for a kind that is not load, merge or refresh.';


create or replace function sqlkit.touch_run(p_run_id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $touch_run$
begin
    update sqlkit.run
    set heartbeat_at = clock_timestamp()
    where run_id = p_run_id and state = 'running';
end;
$touch_run$;

comment on function sqlkit.touch_run(bigint) is
'Tells that the program behind a run is alive. Writes: sqlkit.run.';


create or replace function sqlkit.finish_run(
    p_run_id bigint,
    p_error_code text default null,
    p_error_message text default null,
    p_wal_bytes bigint default null
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $finish_run$
declare
    v_target text;
begin
    update sqlkit.run
    set
        state = case when p_error_code is null then 'done' else 'failed' end,
        finished_at = clock_timestamp(),
        error_code = p_error_code,
        error_message = p_error_message,
        wal_bytes = p_wal_bytes
    where run_id = p_run_id and state = 'running'
    returning target into v_target;
    if not found then
        raise exception using
            errcode = 'SK401',
            message = 'there is no such run',
            detail = format('Run %s is unknown, or was closed before.', p_run_id),
            hint = 'List them with: select * from sqlkit.run order by run_id;';
    end if;
    -- The target may be gone by now; its size is then unknown.
    update sqlkit.run
    set bytes_after = pg_total_relation_size(to_regclass(v_target))
    where run_id = p_run_id;
    perform sqlkit.end_tuning(p_run_id);
end;
$finish_run$;

comment on function sqlkit.finish_run(bigint, text, text, bigint) is
'Closes a run: done, or failed where an error code is given. What it has tuned is put back.
Writes: sqlkit.run, and as end_tuning(). Raises: SK401 if the run is unknown or closed.';


create or replace function sqlkit.find_source(
    p_target regclass,
    p_fingerprint text,
    p_manner jsonb default null
)
returns sqlkit.source
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_source$
begin
    return (
        select s
        from sqlkit.source as s
        where
            s.target = sqlkit._table_name(p_target)
            and s.fingerprint = p_fingerprint
            and (p_manner is null or s.manner is null or s.manner = p_manner)
        order by s.generation desc
        limit 1
    );
end;
$find_source$;

comment on function sqlkit.find_source(regclass, text, jsonb) is
'The ledger''s row for a content and a target, if it was opened before in that manner, or nobody said in which; null if
it was not.';


create or replace function sqlkit._is_of_broken_call(p_source_id bigint, p_call text)
returns boolean
language sql
stable
return (
    with loaded_by as (
        select max(b.run_id) as run_id
        from sqlkit.batch as b
        where b.source_id = p_source_id
        union all
        select max(b.run_id)
        from sqlkit.batch_part as p
        join sqlkit.batch as b on b.batch_id = p.batch_id
        where p.source_id = p_source_id
    )

    select count(*) > 0
    from sqlkit.run as r
    where
        r.run_id = (select max(l.run_id) from loaded_by as l)
        and r.state <> 'done'
        and r.options @> jsonb_build_object('again', true, 'call', p_call)
        and not exists (
            select
            from sqlkit.run as n
            where
                n.target = r.target
                and n.run_id > r.run_id
                and n.state = 'done'
                and n.options @> jsonb_build_object('call', p_call)
        )
);

comment on function sqlkit._is_of_broken_call(bigint, text) is
'Whether a source was loaded once more (--again) by a run that is under way or did not end well, of the call that asks,
which has not ended well since: then it goes on with those that are not loaded. p_call: what such runs are known by.';


create or replace function sqlkit.open_source(
    p_target regclass,
    p_name text,
    p_format text,
    p_size_bytes bigint,
    p_fingerprint text,
    p_again boolean,
    p_manner jsonb,
    p_call text default null
)
returns sqlkit.source
language plpgsql
set search_path = pg_catalog, pg_temp
as $open_source$
declare
    v_target text := sqlkit._table_name(p_target);
    v_source sqlkit.source;
    v_newest sqlkit.source;
begin
    -- Two programs that are given the same file meet here, and find one row.
    perform pg_advisory_xact_lock(
        'sqlkit.source'::regclass::oid::integer,
        hashtext(v_target || coalesce(p_fingerprint, ''))
    );
    if p_fingerprint is not null then
        v_source := sqlkit.find_source(p_target, p_fingerprint, p_manner);
        -- A load that was cut off goes on, even when sources are to be loaded once more.
        if
            v_source.source_id is not null
            and (not p_again or v_source.state = 'loading' or sqlkit._is_of_broken_call(v_source.source_id, p_call))
        then
            if v_source.manner is null and v_source.state = 'loading' then
                update sqlkit.source as s
                set manner = p_manner
                where s.source_id = v_source.source_id
                returning s.* into v_source;
            end if;
            return v_source;
        end if;
        v_newest := sqlkit.find_source(p_target, p_fingerprint);
        if v_newest.state = 'loading' and v_newest.next_offset > 0 and not p_again then
            raise exception using
                errcode = 'SK410',
                message = 'part of the source was loaded in another way',
                detail = format('Then: %s; now: %s.', v_newest.manner, p_manner),
                hint = 'Load it to its end as it was begun, or from its beginning once more: --again.';
        end if;
    end if;
    insert into sqlkit.source (target, name, format, size_bytes, fingerprint, generation, manner)
    values (
        v_target,
        p_name,
        p_format,
        p_size_bytes,
        p_fingerprint,
        coalesce(v_newest.generation, 0) + 1,
        p_manner
    )
    returning * into v_source;
    return v_source;
end;
$open_source$;

comment on function sqlkit.open_source(regclass, text, text, bigint, text, boolean, jsonb, text) is
'Returns the ledger''s row for a source and a target: the one that its fingerprint is known by, if it was opened in
the same manner (what decides how its rows are written: policy, columns and so on; null: any), or a new one.
next_offset says where to continue; state loaded says that there is nothing to do. With p_again what is loaded is begun
anew, unless a call that is known by p_call, as the option call of its run, has done so and is not at its end.
Writes: sqlkit.source. Locks: advisory, on target and fingerprint, until commit. Raises: SK410 if part of it was
loaded in another manner, unless p_again.';


create or replace function sqlkit.open_source(
    p_target regclass,
    p_name text,
    p_format text,
    p_size_bytes bigint default null,
    p_fingerprint text default null,
    p_again boolean default false
)
returns sqlkit.source
language plpgsql
set search_path = pg_catalog, pg_temp
as $open_source$
begin
    return sqlkit.open_source(p_target, p_name, p_format, p_size_bytes, p_fingerprint, p_again, null);
end;
$open_source$;

comment on function sqlkit.open_source(regclass, text, text, bigint, text, boolean) is
'The same where nobody says in which manner the source is loaded: it is known by its fingerprint alone.
Writes: sqlkit.source. Locks: advisory, on target and fingerprint, until commit.';


create or replace function sqlkit.open_sources(p_target regclass, p_sources jsonb)
returns setof sqlkit.source
language plpgsql
set search_path = pg_catalog, pg_temp
as $open_sources$
declare
    v_target text := sqlkit._table_name(p_target);
    r_source record;
begin
    -- All that open_source() will ask for, always in the same order, so that nobody waits for somebody who waits for
    -- him.
    perform pg_advisory_xact_lock('sqlkit.source'::regclass::oid::integer, l.key)
    from (
        select distinct hashtext(v_target || coalesce(s.fingerprint, '')) as key
        from jsonb_to_recordset(p_sources) as s (fingerprint text)
        order by key
    ) as l;
    for r_source in
        select s.*
        from rows from (
            jsonb_to_recordset(p_sources) as (
                name text, format text, size_bytes bigint, fingerprint text, again boolean, manner jsonb, call text
            )
        ) with ordinality as s (name, format, size_bytes, fingerprint, again, manner, call, position)
        order by s.position
    loop
        return next sqlkit.open_source(
            p_target, r_source.name, r_source.format, r_source.size_bytes, r_source.fingerprint,
            coalesce(r_source.again, false), r_source.manner, r_source.call
        );
    end loop;
end;
$open_sources$;

comment on function sqlkit.open_sources(regclass, jsonb) is
'The same for many sources at once, one row for each, in their order: p_sources is a list of {"name", "format",
"size_bytes", "fingerprint", "again", "manner", "call"}. Writes: sqlkit.source. Locks: advisory, on target and fingerprints,
until commit. Raises: SK410 if part of one was loaded in another manner, unless it is to be loaded again.';


create or replace function sqlkit.find_version(p_target regclass, p_version text)
returns text
language sql
stable
return (
    select s.fingerprint
    from sqlkit.source_version as v
    join sqlkit.source as s on s.source_id = v.source_id
    where v.version = p_version and s.target = sqlkit._table_name(p_target) and s.fingerprint is not null
    order by s.source_id desc
    limit 1
);

comment on function sqlkit.find_version(regclass, text) is
'The fingerprint of what was loaded into a target under a version, so that it need not be read to be known; null
if there is none, or its sources were forgotten.';


create or replace function sqlkit.note_version(p_source_id bigint, p_version text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $note_version$
begin
    insert into sqlkit.source_version (source_id, version)
    values (p_source_id, p_version)
    on conflict do nothing;
end;
$note_version$;

comment on function sqlkit.note_version(bigint, text) is
'Records under which version the content of a source was found. Writes: sqlkit.source_version.
Raises: 23503 for a source that there is not.';


create or replace function sqlkit.forget_sources(p_target regclass)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $forget_sources$
declare
    v_rows bigint;
begin
    update sqlkit.source as s
    set fingerprint = null
    where s.target = sqlkit._table_name(p_target) and s.fingerprint is not null;
    get diagnostics v_rows = row_count;
    delete from sqlkit.watermark as w
    where w.target = sqlkit._table_name(p_target);
    return v_rows;
end;
$forget_sources$;

comment on function sqlkit.forget_sources(regclass) is
'Makes all sources of a target unknown, so that each is loaded again from its beginning, and returns how many they
were: for a table that was emptied or made anew under the same name. The ledger keeps what was loaded. Its watermarks
are forgotten too. Writes: sqlkit.source, sqlkit.watermark.';


create or replace function sqlkit.describe_source(p_source_id bigint, p_layout jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $describe_source$
begin
    update sqlkit.source
    set layout = p_layout
    where source_id = p_source_id and layout is distinct from p_layout;
end;
$describe_source$;

comment on function sqlkit.describe_source(bigint, jsonb) is
'Records how the records of a source are written. Writes: sqlkit.source.';


create or replace function sqlkit.claim_batch(p_source_id bigint, p_start_offset bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $claim_batch$
declare
    v_source sqlkit.source;
begin
    select s.*
    into v_source
    from sqlkit.source as s
    where s.source_id = p_source_id
    for update;
    if v_source.next_offset is distinct from p_start_offset or v_source.state = 'loaded' then
        raise exception using
            errcode = 'SK402',
            message = 'another process has loaded this part of the source',
            detail = coalesce(v_source.next_offset, 0)::text,
            hint = 'Read on from the offset in the detail.';
    end if;
end;
$claim_batch$;

comment on function sqlkit.claim_batch(bigint, bigint) is
'Makes sure that a source stands at an offset, and keeps it there until the transaction ends.
Locks: the source''s row until commit. Raises: SK402, with the offset where it stands as the detail.';


create or replace function sqlkit.claim_parts(p_parts jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $claim_parts$
declare
    v_loaded bigint;
begin
    -- Always in the same order, so that nobody waits for somebody who waits for him.
    perform
    from sqlkit.source as s
    where s.source_id in (
        select p.source_id
        from jsonb_to_recordset(p_parts) as p (source_id bigint)
    )
    order by s.source_id
    for update;
    select count(*)
    into v_loaded
    from jsonb_to_recordset(p_parts) as p (source_id bigint, start_offset bigint)
    left join sqlkit.source as s on s.source_id = p.source_id
    where s.next_offset is distinct from p.start_offset or s.state = 'loaded';
    if v_loaded > 0 then
        raise exception using
            errcode = 'SK402',
            message = 'another process has loaded this part of the source',
            detail = format('So it is with %s of %s sources.', v_loaded, jsonb_array_length(p_parts)),
            hint = 'Ask where each of them stands, and go on from there.';
    end if;
end;
$claim_parts$;

comment on function sqlkit.claim_parts(jsonb) is
'Makes sure that each of several sources stands at an offset, and keeps them there until the transaction ends: a list
of {"source_id": id, "start_offset": offset}. Locks: the sources'' rows until commit, in the order of their ids.
Raises: SK402 if one of them stands elsewhere.';


create or replace function sqlkit.record_batch(
    p_run_id bigint,
    p_source_id bigint,
    p_range sqlkit.source_range,
    p_counts sqlkit.row_counts,
    p_seconds_decode double precision default 0,
    p_seconds_copy double precision default 0,
    p_seconds_merge double precision default 0,
    p_wal_bytes bigint default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $record_batch$
declare
    v_batch_id bigint;
begin
    if p_source_id is not null then
        perform sqlkit.claim_batch(p_source_id, (p_range).start_offset);
        update sqlkit.source
        set
            next_offset = (p_range).end_offset,
            next_line = (p_range).last_line + 1,
            stored_offset = (p_range).stored_offset,
            stored_sha256 = (p_range).stored_sha256,
            state = case when (p_range).is_last then 'loaded' else 'loading' end,
            loaded_at = case when (p_range).is_last then clock_timestamp() end
        where source_id = p_source_id;
        if (p_range).is_last then
            perform sqlkit._move_watermark(p_source_id);
        end if;
    end if;
    insert into sqlkit.batch (
        run_id, source_id, start_offset, end_offset, first_line, last_line,
        rows_read, rows_inserted, rows_updated, rows_unchanged, rows_ignored, rows_duplicate, rows_rejected,
        seconds_decode, seconds_copy, seconds_merge, wal_bytes, indexes
    )
    values (
        p_run_id, p_source_id,
        (p_range).start_offset, (p_range).end_offset, (p_range).first_line, (p_range).last_line,
        (p_counts).rows_read, (p_counts).rows_inserted, (p_counts).rows_updated,
        (p_counts).rows_unchanged, (p_counts).rows_ignored, (p_counts).rows_duplicate,
        (p_counts).rows_rejected,
        p_seconds_decode, p_seconds_copy, p_seconds_merge, p_wal_bytes,
        sqlkit._take_index_decision()
    )
    returning batch_id into v_batch_id;
    return v_batch_id;
end;
$record_batch$;

comment on function sqlkit.record_batch(
    bigint, bigint, sqlkit.source_range, sqlkit.row_counts, double precision, double precision,
    double precision, bigint
) is
'Records a batch and moves its source on, in the transaction that wrote the batch''s rows, and with the last of them
its watermark (see note_watermark). Rows that were staged by hand have no source. Writes: sqlkit.batch, sqlkit.source,
sqlkit.watermark. Locks: the rows of source and watermark until commit.
Raises: SK402 if the source does not stand where the range starts (another process loaded this part), SK411 if its
watermark was moved by another load, 23514 if the counts do not add up.';


create or replace function sqlkit.record_shared_batch(
    p_run_id bigint,
    p_parts jsonb,
    p_counts sqlkit.row_counts,
    p_seconds_decode double precision default 0,
    p_seconds_copy double precision default 0,
    p_seconds_merge double precision default 0,
    p_wal_bytes bigint default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $record_shared_batch$
declare
    v_batch_id bigint;
begin
    perform sqlkit.claim_parts(p_parts);
    v_batch_id := sqlkit.record_batch(
        p_run_id, null, null, p_counts, p_seconds_decode, p_seconds_copy, p_seconds_merge, p_wal_bytes
    );
    with part as (
        insert into sqlkit.batch_part (
            batch_id, source_id, first_line, last_line, start_offset, end_offset, rows_read
        )
        select v_batch_id, p.source_id, p.first_line, p.last_line, p.start_offset, p.end_offset, p.rows_read
        from jsonb_populate_recordset(null::sqlkit.batch_part, p_parts) as p
    )
    update sqlkit.source as s
    set
        next_offset = p.end_offset,
        next_line = p.last_line + 1,
        stored_offset = p.stored_offset,
        stored_sha256 = p.stored_sha256,
        state = 'loaded',
        loaded_at = clock_timestamp()
    from jsonb_to_recordset(p_parts) as p (
        source_id bigint, end_offset bigint, last_line bigint, stored_offset bigint, stored_sha256 text
    )
    where s.source_id = p.source_id;
    return v_batch_id;
end;
$record_shared_batch$;

comment on function sqlkit.record_shared_batch(
    bigint, jsonb, sqlkit.row_counts, double precision, double precision, double precision, bigint
) is
'Records a batch that several sources share, each of which ends in it, in the transaction that wrote the batch''s rows.
p_parts is a list with an object for each source, in their order: source_id, and as in sqlkit.source_range start_offset,
end_offset, first_line, last_line, stored_offset and stored_sha256; rows_read are its rows. Writes: sqlkit.batch,
sqlkit.batch_part, sqlkit.source. Locks: the sources'' rows until commit. Raises: SK402 if one of them does not stand
where its part starts (another process loaded it), 23505 for a source that is named twice, 23514 if the counts do not
add up.';


create or replace view sqlkit.run_summary as
select
    r.run_id,
    r.kind,
    r.target,
    r.policy,
    r.state,
    r.started_at,
    r.finished_at,
    r.client,
    r.error_code,
    r.error_message,
    r.bytes_before,
    r.bytes_after,
    r.wal_bytes,
    coalesce(b.batches, 0) as batches,
    coalesce(b.rows_read, 0) as rows_read,
    coalesce(b.rows_inserted, 0) as rows_inserted,
    coalesce(b.rows_updated, 0) as rows_updated,
    coalesce(b.rows_unchanged, 0) as rows_unchanged,
    coalesce(b.rows_ignored, 0) as rows_ignored,
    coalesce(b.rows_duplicate, 0) as rows_duplicate,
    coalesce(b.rows_rejected, 0) as rows_rejected,
    extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at)::double precision
        as seconds_total,
    coalesce(b.seconds_decode, 0) as seconds_decode,
    coalesce(b.seconds_copy, 0) as seconds_copy,
    coalesce(b.seconds_merge, 0) as seconds_merge,
    r.server_version,
    coalesce(b.rows_deleted, 0) as rows_deleted
from sqlkit.run as r
left join (
    select
        batch.run_id,
        count(*) as batches,
        sum(batch.rows_read)::bigint as rows_read,
        sum(batch.rows_inserted)::bigint as rows_inserted,
        sum(batch.rows_updated)::bigint as rows_updated,
        sum(batch.rows_unchanged)::bigint as rows_unchanged,
        sum(batch.rows_ignored)::bigint as rows_ignored,
        sum(batch.rows_duplicate)::bigint as rows_duplicate,
        sum(batch.rows_rejected)::bigint as rows_rejected,
        sum(batch.rows_deleted)::bigint as rows_deleted,
        sum(batch.seconds_decode) as seconds_decode,
        sum(batch.seconds_copy) as seconds_copy,
        sum(batch.seconds_merge) as seconds_merge
    from sqlkit.batch
    group by batch.run_id
) as b on b.run_id = r.run_id;

comment on view sqlkit.run_summary is 'Runs with the counters and timings of their batches added up.';
