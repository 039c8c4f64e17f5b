-- Rows that were trimmed on the way in, so that they contradict no other.

create table sqlkit.trimmed_row (
    trimmed_row_id bigint generated always as identity,
    run_id bigint not null,
    batch_id bigint not null,
    source_id bigint,
    first_line bigint,
    last_line bigint,
    raw text not null,
    rule text not null,
    message text not null,
    span_before text not null,
    span_after text not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint trimmed_row_pkey primary key (trimmed_row_id),
    constraint trimmed_row_run_id_fkey foreign key (run_id) references sqlkit.run (run_id) on delete cascade,
    constraint trimmed_row_batch_id_fkey foreign key (batch_id) references sqlkit.batch (batch_id) on delete cascade,
    constraint trimmed_row_source_id_fkey foreign key (source_id) references sqlkit.source (source_id)
);

create index trimmed_row_run_id_idx on sqlkit.trimmed_row (run_id);
create index trimmed_row_batch_id_idx on sqlkit.trimmed_row (batch_id);
create index trimmed_row_source_id_idx on sqlkit.trimmed_row (source_id);

comment on table sqlkit.trimmed_row is
'Rows whose interval was cut while they were loaded, each with its place, its text, and what was cut.';
comment on column sqlkit.trimmed_row.first_line is 'physical line of the source where the record begins, from 1';
comment on column sqlkit.trimmed_row.raw is 'the record as it stands in the source, without its line end';
comment on column sqlkit.trimmed_row.rule is 'the conflict rule that it would have broken';
comment on column sqlkit.trimmed_row.message is 'which row it overlapped';
comment on column sqlkit.trimmed_row.span_before is 'its interval in the source, as a range';
comment on column sqlkit.trimmed_row.span_after is 'its interval in the target, as a range';
