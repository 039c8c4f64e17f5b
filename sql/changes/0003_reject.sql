-- Rows that were refused: kept with their place, their text and the reason, until somebody settles them.

create table sqlkit.reject (
    reject_id bigint generated always as identity,
    run_id bigint not null,
    batch_id bigint,
    source_id bigint,
    first_line bigint,
    last_line bigint,
    raw text not null,
    column_name text,
    sqlstate text not null,
    message text not null,
    state text not null default 'open',
    created_at timestamptz not null default clock_timestamp(),
    settled_at timestamptz,
    settled_by_run_id bigint,
    constraint reject_pkey primary key (reject_id),
    constraint reject_run_id_fkey foreign key (run_id) references sqlkit.run (run_id) on delete cascade,
    constraint reject_batch_id_fkey foreign key (batch_id) references sqlkit.batch (batch_id) on delete cascade,
    constraint reject_source_id_fkey foreign key (source_id) references sqlkit.source (source_id),
    constraint reject_settled_by_run_id_fkey foreign key (settled_by_run_id)
    references sqlkit.run (run_id) on delete set null,
    constraint reject_state_check check (state in ('open', 'replayed', 'dismissed')),
    constraint reject_settled_check check ((state = 'open') = (settled_at is null))
);

create index reject_run_id_idx on sqlkit.reject (run_id);
create index reject_batch_id_idx on sqlkit.reject (batch_id);
create index reject_source_id_idx on sqlkit.reject (source_id);
create index reject_settled_by_run_id_idx on sqlkit.reject (settled_by_run_id);

comment on table sqlkit.reject is 'Rows that were refused, each with its place, its text and the reason.';
comment on column sqlkit.reject.batch_id is
'the batch without it; null where its whole batch was refused because the limit was passed: then it is only told';
comment on column sqlkit.reject.first_line is 'physical line of the source where the record begins, from 1';
comment on column sqlkit.reject.raw is 'the record as it stands in the source, without its line end';
comment on column sqlkit.reject.column_name is 'the column at fault, where there is one';
comment on column sqlkit.reject.state is 'open, replayed (by run settled_by_run_id) or dismissed';
