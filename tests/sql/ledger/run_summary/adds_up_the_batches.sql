begin;
select plan(5);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item', 'update') as run \gset
select sqlkit.start_run('load', 'item', 'append') as idle \gset
select sqlkit.record_batch(
    :run, null, null, (28, 1, 2, 3, 4, 5, 13)::sqlkit.row_counts, 0.25, 0.5, 1, 4096
);
select sqlkit.record_batch(:run, null, null, (1, 1, 0, 0, 0, 0, 0)::sqlkit.row_counts, 0.25, 0.5, 1, 4096);

select results_eq(
    format(
        'select batches, rows_read, rows_inserted, rows_updated, rows_unchanged, rows_ignored, rows_duplicate, '
        'rows_rejected, seconds_decode, seconds_copy, seconds_merge from sqlkit.run_summary where run_id = %s',
        :run
    ),
    $$values (
        2::bigint, 29::bigint, 2::bigint, 2::bigint, 3::bigint, 4::bigint, 5::bigint, 13::bigint,
        0.5::double precision, 1::double precision, 2::double precision
    )$$,
    'counters and timings'
);
select ok(
    (
        select rows_read = rows_inserted + rows_updated + rows_unchanged + rows_ignored + rows_duplicate + rows_rejected
        from sqlkit.run_summary
        where run_id = :run
    ),
    'rows read are the sum of what became of them'
);
select results_eq(
    format('select batches, rows_read, seconds_merge from sqlkit.run_summary where run_id = %s', :idle),
    'values (0::bigint, 0::bigint, 0::double precision)',
    'a run without batches has zeros, not nulls'
);
update sqlkit.run set started_at = clock_timestamp() - interval '1 hour'
where run_id in (:run, :idle);
update sqlkit.run set state = 'done', finished_at = started_at + interval '90 seconds'
where run_id = :run;
select results_eq(
    format('select seconds_total from sqlkit.run_summary where run_id = %s', :run),
    'values (90::double precision)',
    'from its start to its end'
);
select cmp_ok(
    (
        select seconds_total from sqlkit.run_summary
        where run_id = :idle
    ),
    '>=',
    3600::double precision,
    'and so far, while it runs'
);

select * from finish();
rollback;
