-- What runs change of tables for as long as they last, so that it is put back whatever becomes of them.

create table sqlkit.tuned_table (
    run_id bigint not null,
    relation text not null,
    relation_oid oid not null,
    autovacuum_before text,
    changed_at timestamptz not null default clock_timestamp(),
    constraint tuned_table_pkey primary key (run_id, relation),
    constraint tuned_table_run_id_fkey foreign key (run_id) references sqlkit.run (run_id)
);

comment on table sqlkit.tuned_table is
'Tables whose autovacuum a run has switched off. Its end puts it back, or the next run of the target, or
sqlkit.repair_runs(): then the row is gone.';
comment on column sqlkit.tuned_table.relation_oid is 'finds it where it was renamed';
comment on column sqlkit.tuned_table.autovacuum_before is
'autovacuum_enabled as it stood among the options of the table; null where it did not';
