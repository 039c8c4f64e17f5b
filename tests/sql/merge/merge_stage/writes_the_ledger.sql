begin;
select plan(10);

create table item (id integer primary key, name text);
create table other (id integer primary key);
select sqlkit.create_stage('item', p_name => 'mine');
insert into sqlkit_stage.mine values (1, 'one'), (2, 'two'), (1, 'uno');

select is(
    sqlkit.merge_stage('sqlkit_stage.mine', 'update'),
    (3, 2, 0, 0, 0, 1, 0)::sqlkit.row_counts,
    'the counters come back'
);
select is_empty('select * from sqlkit_stage.mine', 'the stage is empty, and stays');
select results_eq(
    'select kind, target, policy, state from sqlkit.run',
    $$values ('merge', 'public.item', 'update', 'done')$$,
    'a run'
);
select results_eq(
    'select rows_read, rows_inserted, rows_updated, rows_unchanged, rows_ignored, rows_duplicate, rows_rejected '
    'from sqlkit.run_summary',
    'values (3::bigint, 2::bigint, 0::bigint, 0::bigint, 0::bigint, 1::bigint, 0::bigint)',
    'with its counters'
);
select results_eq(
    'select source_id, seconds_merge > 0, wal_bytes > 0 from sqlkit.batch',
    'values (null::bigint, true, true)',
    'a batch without a source'
);
select ok(
    (select bytes_before >= 0 and bytes_after > bytes_before and wal_bytes > 0 from sqlkit.run),
    'sizes before and after'
);
insert into sqlkit_stage.mine values (3, 'three');
select is(
    (sqlkit.merge_stage('sqlkit_stage.mine')).rows_inserted, 1::bigint, 'the same stage serves again'
);

-- Several merges in one transaction, also into different targets, and settings come back.
set local work_mem = '1234kB';
select is(
    sqlkit_test.shown(sqlkit_test.merge('other', 'values (1), (1)')),
    '2 read, 1 inserted, 1 duplicate',
    'a target after the other'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('other', 'values (1), (2), (2)')),
    '3 read, 1 inserted, 1 unchanged, 1 duplicate',
    'the same target again'
);
select is(current_setting('work_mem'), '1234kB', 'work_mem is the caller''s again');

select * from finish();
rollback;
