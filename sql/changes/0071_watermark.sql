-- Incremental loads: how far each table or query of another database has been fetched.

create table sqlkit.watermark (
    target text,
    source text,
    column_name text,
    value text not null,
    moved_at timestamptz not null default clock_timestamp(),
    constraint watermark_pkey primary key (target, source, column_name)
);

comment on table sqlkit.watermark is
'How far a source has been loaded into a target, by a column that grows: moved in the transaction that writes the
last of the rows. See sqlkit.set_watermark().';
comment on column sqlkit.watermark.target is 'schema.table, quoted as SQL wants it';
comment on column sqlkit.watermark.source is
'what it is asked: the address with its table, or with the SHA-256 of the query; never holds a secret';
comment on column sqlkit.watermark.value is 'the greatest value that was there when the source was read, as it writes it';

create table sqlkit.source_watermark (
    source_id bigint,
    source text not null,
    column_name text not null,
    since text,
    value text not null,
    constraint source_watermark_pkey primary key (source_id),
    constraint source_watermark_source_id_fkey foreign key (source_id) references sqlkit.source (source_id)
    on delete cascade
);

comment on table sqlkit.source_watermark is
'Where the watermark stood when a source was read, and where it is to stand when all of it is loaded.';
comment on column sqlkit.source_watermark.since is 'null: there was none';
