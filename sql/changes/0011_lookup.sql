-- Lookups: natural keys become surrogate ids. What a cache of them has to know of changes.

create type sqlkit.lookup_counts as (
    rows_read bigint,
    rows_resolved bigint,
    rows_unresolved bigint,
    keys_created bigint
);

comment on type sqlkit.lookup_counts is
'What became of the natural keys of a stage: read is the sum of resolved and unresolved; keys_created is how many rows
were made in the dimension.';

create table sqlkit.lookup (
    dimension text,
    version bigint not null default 1,
    changed_at timestamptz not null default clock_timestamp(),
    constraint lookup_pkey primary key (dimension)
);

comment on table sqlkit.lookup is
'Dimensions whose changes are followed by sqlkit.follow_keys(): a cache that knows another version knows nothing.';
comment on column sqlkit.lookup.dimension is 'schema.table, quoted as SQL wants it';
