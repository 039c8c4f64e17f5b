-- Small sources share a batch: what each of them gave to it.

create table sqlkit.batch_part (
    batch_id bigint not null,
    source_id bigint not null,
    first_line bigint not null,
    last_line bigint not null,
    start_offset bigint not null,
    end_offset bigint not null,
    rows_read bigint not null,
    constraint batch_part_pkey primary key (batch_id, source_id),
    constraint batch_part_source_id_start_offset_key unique (source_id, start_offset),
    constraint batch_part_batch_id_fkey foreign key (batch_id) references sqlkit.batch (batch_id) on delete cascade,
    constraint batch_part_source_id_fkey foreign key (source_id) references sqlkit.source (source_id),
    constraint batch_part_range_check check (start_offset <= end_offset)
);

comment on table sqlkit.batch_part is
'What each source gave to a batch that several share. What became of the rows is counted for the batch as a whole.';
comment on column sqlkit.batch_part.first_line is 'physical line of the source where the part begins, from 1';
comment on column sqlkit.batch.source_id is
'null where the rows were staged by hand, and where several sources share the batch: sqlkit.batch_part has them';
