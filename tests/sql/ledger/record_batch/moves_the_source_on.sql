begin;
select plan(10);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
select source_id as source from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a') \gset

select sqlkit.record_batch(
    :run,
    :source,
    (0, 500, 1, 20, 80, 'digest of 80', false)::sqlkit.source_range,
    (19, 1, 2, 3, 4, 9, 0)::sqlkit.row_counts,
    0.1,
    0.2,
    0.3,
    4096
) as batch \gset
select results_eq(
    'select first_line, last_line, start_offset, end_offset, rows_read, rows_inserted, rows_updated, rows_unchanged, '
    'rows_ignored, rows_duplicate, rows_rejected, seconds_decode, seconds_copy, seconds_merge, wal_bytes '
    'from sqlkit.batch',
    $$values (
        1::bigint, 20::bigint, 0::bigint, 500::bigint, 19::bigint, 1::bigint, 2::bigint, 3::bigint, 4::bigint, 9::bigint,
        0::bigint, 0.1::double precision, 0.2::double precision, 0.3::double precision, 4096::bigint
    )$$,
    'the batch is there'
);
select results_eq(
    'select next_offset, next_line, stored_offset, stored_sha256, state from sqlkit.source',
    $$values (500::bigint, 21::bigint, 80::bigint, 'digest of 80', 'loading')$$,
    'the source stands after it'
);
select throws_ok(
    format(
        'select sqlkit.record_batch(%s, %s, (0, 500, 1, 20, 80, null, false)::sqlkit.source_range, '
        '(0, 0, 0, 0, 0, 0, 0)::sqlkit.row_counts)',
        :run, :source
    ),
    'SK402',
    null,
    'the same part again'
);
select throws_ok(
    format(
        'select sqlkit.record_batch(%s, %s, (500, 600, 21, 30, 90, null, false)::sqlkit.source_range, '
        '(2, 1, 0, 0, 0, 0, 0)::sqlkit.row_counts)',
        :run, :source
    ),
    '23514',
    null,
    'counts that do not add up'
);
select is((select next_offset from sqlkit.source), 500::bigint, 'move nothing');
select lives_ok(
    format(
        'select sqlkit.record_batch(%s, %s, (500, 600, 21, 30, 100, null, true)::sqlkit.source_range, '
        '(1, 1, 0, 0, 0, 0, 0)::sqlkit.row_counts)',
        :run, :source
    ),
    'the last part'
);
select ok(
    (select state = 'loaded' and loaded_at is not null from sqlkit.source), 'the source is loaded'
);
select lives_ok(
    format('select sqlkit.record_batch(%s, null, null, (1, 1, 0, 0, 0, 0, 0)::sqlkit.row_counts)', :run),
    'rows that were staged by hand have no source'
);
select results_eq(
    'select batches, rows_read, rows_inserted, rows_duplicate from sqlkit.run_summary',
    'values (3::bigint, 21::bigint, 3::bigint, 9::bigint)',
    'the summary adds up'
);
select throws_ok(
    'select sqlkit.record_batch(-1, null, null, (1, 1, 0, 0, 0, 0, 0)::sqlkit.row_counts)',
    '23503',
    null,
    'no such run'
);

select * from finish();
rollback;
