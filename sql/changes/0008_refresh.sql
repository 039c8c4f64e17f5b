-- Refresh: a target is given a whole new content. Rows may go then, which no load does.

alter table sqlkit.run drop constraint run_kind_check;
alter table sqlkit.run add constraint run_kind_check check (kind in ('load', 'merge', 'refresh'));

comment on table sqlkit.run is
'One call of load, merge or refresh. Counters are those of its batches: see sqlkit.run_summary.';
comment on column sqlkit.run.policy is 'the policy of a load or merge, the strategy of a refresh';

alter table sqlkit.batch add column rows_deleted bigint not null default 0;
alter table sqlkit.batch add constraint batch_rows_deleted_check check (rows_deleted >= 0);

comment on column sqlkit.batch.rows_deleted is
'rows of the target that a refresh took away: they are none of those read, and not in their sum';

create type sqlkit.refresh_result as (
    strategy text,
    rows_read bigint,
    rows_inserted bigint,
    rows_updated bigint,
    rows_unchanged bigint,
    rows_ignored bigint,
    rows_duplicate bigint,
    rows_deleted bigint
);

comment on type sqlkit.refresh_result is
'What became of a refresh: read = inserted + updated + unchanged + ignored + duplicate, and the target holds as many
rows as before, and those inserted, without those deleted.';
