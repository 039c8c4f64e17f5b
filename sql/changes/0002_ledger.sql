-- The ledger: what was loaded, from where, and how far. A batch's row is written by the
-- transaction that writes its data, so that either both are there or neither is.
--
-- Targets are recorded by name: the history outlives the tables.

create type sqlkit.row_counts as (
    rows_read bigint,
    rows_inserted bigint,
    rows_updated bigint,
    rows_unchanged bigint,
    rows_ignored bigint,
    rows_duplicate bigint,
    rows_rejected bigint
);

comment on type sqlkit.row_counts is
'What became of the rows of a batch: read is the sum of all the others.';

create type sqlkit.source_range as (
    start_offset bigint,
    end_offset bigint,
    first_line bigint,
    last_line bigint,
    stored_offset bigint,
    stored_sha256 text,
    is_last boolean
);

comment on type sqlkit.source_range is
'A contiguous piece of a source: decoded bytes [start_offset, end_offset), physical lines first_line to
last_line, how many stored bytes were read to get there and their SHA-256, and whether the source ends there.';

create table sqlkit.run (
    run_id bigint generated always as identity,
    kind text not null,
    target text not null,
    policy text,
    key_columns name[],
    options jsonb not null default '{}',
    state text not null default 'running',
    client text,
    database_user name not null default current_user,
    started_at timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    error_code text,
    error_message text,
    bytes_before bigint,
    bytes_after bigint,
    wal_bytes bigint,
    backend_pid integer,
    backend_started_at timestamptz,
    is_direct boolean,
    constraint run_pkey primary key (run_id),
    constraint run_kind_check check (kind in ('load', 'merge')),
    constraint run_state_check check (state in ('running', 'done', 'failed')),
    constraint run_finished_check check ((state = 'running') = (finished_at is null))
);

create index run_target_idx on sqlkit.run (target, run_id);

comment on table sqlkit.run is
'One call of load or merge. Counters are those of its batches: see sqlkit.run_summary.';
comment on column sqlkit.run.target is 'schema.table, quoted as SQL wants it';
comment on column sqlkit.run.client is 'host:pid of the program that runs it';
comment on column sqlkit.run.heartbeat_at is 'when the program was last seen to be alive';
comment on column sqlkit.run.backend_pid is 'the server process that the program talks to, as far as it is known';
comment on column sqlkit.run.is_direct is
'true: that process ends when the program does; false: a proxy stands between, and only heartbeat_at tells that the
program is alive; null: nobody has said';
comment on column sqlkit.run.bytes_before is 'size of the target with indexes and TOAST, when the run began';
comment on column sqlkit.run.bytes_after is 'the same when it ended';
comment on column sqlkit.run.wal_bytes is
'WAL that the whole server wrote during the run: an upper bound where others write too';

create table sqlkit.source (
    source_id bigint generated always as identity,
    target text not null,
    name text not null,
    format text not null,
    size_bytes bigint,
    fingerprint text,
    generation integer not null default 1,
    layout jsonb,
    state text not null default 'loading',
    next_offset bigint not null default 0,
    next_line bigint not null default 1,
    stored_offset bigint not null default 0,
    stored_sha256 text,
    created_at timestamptz not null default clock_timestamp(),
    loaded_at timestamptz,
    constraint source_pkey primary key (source_id),
    constraint source_target_fingerprint_generation_key unique (target, fingerprint, generation),
    constraint source_state_check check (state in ('loading', 'loaded')),
    constraint source_offset_check check (next_offset >= 0 and next_line >= 1 and stored_offset >= 0),
    constraint source_loaded_check check ((state = 'loaded') = (loaded_at is not null))
);

comment on table sqlkit.source is
'A source as it was loaded into one target, known by its content: how far it has come, and where to continue.';
comment on column sqlkit.source.name is 'the path or address it was last read from; never holds a secret';
comment on column sqlkit.source.size_bytes is 'bytes as stored (compressed), where known';
comment on column sqlkit.source.fingerprint is
'SHA-256 of the bytes as stored; null for a stream that can be read only once';
comment on column sqlkit.source.generation is 'counts up each time the same content is loaded again on purpose';
comment on column sqlkit.source.layout is
'how its records are written (format, dialect, encoding, columns), so that rejects can be written like them';
comment on column sqlkit.source.next_offset is 'decoded bytes committed: the next batch begins here';
comment on column sqlkit.source.next_line is 'the physical line at next_offset';
comment on column sqlkit.source.stored_offset is 'stored bytes read to get there';
comment on column sqlkit.source.stored_sha256 is 'SHA-256 of these first stored bytes';

create table sqlkit.batch (
    batch_id bigint generated always as identity,
    run_id bigint not null,
    source_id bigint,
    first_line bigint,
    last_line bigint,
    start_offset bigint,
    end_offset bigint,
    rows_read bigint not null,
    rows_inserted bigint not null default 0,
    rows_updated bigint not null default 0,
    rows_unchanged bigint not null default 0,
    rows_ignored bigint not null default 0,
    rows_duplicate bigint not null default 0,
    rows_rejected bigint not null default 0,
    seconds_decode double precision not null default 0,
    seconds_copy double precision not null default 0,
    seconds_merge double precision not null default 0,
    wal_bytes bigint,
    committed_at timestamptz not null default clock_timestamp(),
    constraint batch_pkey primary key (batch_id),
    constraint batch_run_id_fkey foreign key (run_id) references sqlkit.run (run_id) on delete cascade,
    constraint batch_source_id_fkey foreign key (source_id) references sqlkit.source (source_id),
    constraint batch_source_id_start_offset_key unique (source_id, start_offset),
    constraint batch_counters_add_up_check check (
        rows_read = rows_inserted + rows_updated + rows_unchanged
        + rows_ignored + rows_duplicate + rows_rejected
    ),
    constraint batch_range_check check (start_offset <= end_offset)
);

create index batch_run_id_idx on sqlkit.batch (run_id);

comment on table sqlkit.batch is
'One contiguous piece of a source that was committed, written in the transaction of its data.';
comment on column sqlkit.batch.source_id is 'null where the rows were staged by hand';
comment on column sqlkit.batch.first_line is 'physical line of the source where it begins, from 1';
comment on column sqlkit.batch.rows_unchanged is 'the target held the very same row already: nothing was written';
comment on column sqlkit.batch.rows_ignored is 'the policy, a trigger or a rule kept what was there';
comment on column sqlkit.batch.rows_duplicate is 'another row of the batch with the same key took its place';
comment on column sqlkit.batch.wal_bytes is
'WAL that the whole server wrote during the merge: an upper bound where others write too';

create table sqlkit.stage (
    stage_id bigint generated always as identity,
    name name not null,
    target text not null,
    run_id bigint,
    created_at timestamptz not null default clock_timestamp(),
    constraint stage_pkey primary key (stage_id),
    constraint stage_name_key unique (name),
    constraint stage_run_id_fkey foreign key (run_id) references sqlkit.run (run_id) on delete set null
);

create index stage_run_id_idx on sqlkit.stage (run_id);

comment on table sqlkit.stage is 'The stages that exist in schema sqlkit_stage, for which target, and whose they are.';
comment on column sqlkit.stage.run_id is 'the run that uses it; null for a stage made by hand';
