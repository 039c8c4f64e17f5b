-- Transforms: raw rows become rows of other tables, and only those raw rows that changed since the last time.

alter table sqlkit.run drop constraint run_kind_check;
alter table sqlkit.run
add constraint run_kind_check check (kind in ('load', 'merge', 'refresh', 'maintenance', 'transform'));

create table sqlkit.transform (
    target text,
    source text,
    name text,
    changes_seen pg_snapshot not null,
    run_id bigint,
    query_sha256 text not null,
    applied_at timestamptz not null,
    constraint transform_pkey primary key (target, source, name),
    constraint transform_run_id_fkey foreign key (run_id) references sqlkit.run (run_id) on delete set null
);

create index transform_run_id_idx on sqlkit.transform (run_id);

comment on table sqlkit.transform is
'How far each transform has come: written in the transaction that writes its rows.';
comment on column sqlkit.transform.source is 'the table with the raw rows: schema.table, quoted as SQL wants it';
comment on column sqlkit.transform.name is 'tells transforms between the same two tables apart; empty for the only one';
comment on column sqlkit.transform.changes_seen is
'transactions whose changes were applied: those that this snapshot sees, so that one which was still open then is
not missed, however late it commits';
comment on column sqlkit.transform.query_sha256 is 'SHA-256 of the query that was applied';
comment on column sqlkit.transform.applied_at is 'when it looked for changes';

create type sqlkit.transform_result as (
    rows_source bigint,
    rows_read bigint,
    rows_inserted bigint,
    rows_updated bigint,
    rows_unchanged bigint,
    rows_ignored bigint,
    rows_duplicate bigint,
    rows_rejected bigint
);

comment on type sqlkit.transform_result is
'What became of a transform: rows_source raw rows had changed, of which the query made rows_read rows, and these are
the sum of all the others.';
