-- What stores call the versions of their objects, so that what was loaded need not be fetched again
-- to be known.

create table sqlkit.source_version (
    source_id bigint not null,
    version text not null,
    constraint source_version_pkey primary key (version, source_id),
    constraint source_version_source_id_fkey foreign key (source_id) references sqlkit.source (source_id)
    on delete cascade
);

create index source_version_source_id_idx on sqlkit.source_version (source_id);

comment on table sqlkit.source_version is
'Under which versions of which addresses the content of a source was found: see sqlkit.find_version().';
comment on column sqlkit.source_version.version is
'a digest of the address, the size, and what the store calls the version; tells nothing of them';
