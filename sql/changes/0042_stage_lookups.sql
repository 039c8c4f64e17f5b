-- A stage knows which of its columns are ids that are looked up when it is merged.

alter table sqlkit.stage add column lookups jsonb;

comment on column sqlkit.stage.lookups is 'what add_lookup() was told, in this order; null if nothing';
