-- Refresh: a target is given a whole new content. Rows may go then, which no load does.

alter table sqlkit.run drop constraint run_kind_check;
alter table sqlkit.run add constraint run_kind_check check (kind in ('load', 'merge', 'refresh'));

comment on table sqlkit.run is
'One call of load, merge or refresh. Counters are those of its batches: see sqlkit.run_summary.';
alter table sqlkit.run add column reasons text[];

comment on column sqlkit.run.reasons is 'why strategy auto chose the strategy that it did';
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

create table sqlkit.refresh_threshold (
    name text not null,
    is_default boolean not null default false,
    value double precision not null,
    meaning text,
    constraint refresh_threshold_pkey primary key (name, is_default),
    constraint refresh_threshold_value_check check (value >= 0),
    constraint refresh_threshold_meaning_check check (is_default = (meaning is not null))
);

comment on table sqlkit.refresh_threshold is
'What strategy auto decides by. Defaults come with sqlkit; a row beside one, with is_default = false, takes its place.';

insert into sqlkit.refresh_threshold (name, is_default, value, meaning)
values
('rebuild_rows', true, 20000, 'from so many rows on, indexes are built after the rows'),
('mirror_share', true, 0.05, 'up to this share of rows that are new, changed or gone, differences are written'),
(
    'mirror_share_readers', true, 0.3,
    'the same, where a swap cannot be and readers would wait for a truncate: mirror takes longer, but nobody waits'
),
('small_rows', true, 20000, 'a table of at most so many rows is mirrored, whatever changes'),
('sample_rows', true, 10000, 'so many rows are compared to know how many have changed'),
('row_microseconds', true, 0.4, 'a row takes so long for itself, and for each index that is built over it'),
('swap_seconds', true, 2, 'readers may wait so long for a truncate, where a swap is possible');
