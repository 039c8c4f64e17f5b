begin;
select plan(9);

create table public.item (id integer primary key);
select sqlkit.start_run('load', 'public.item') as run \gset
select source_id as first from sqlkit.open_source('public.item', 'a.csv', 'csv', 80, 'hash a') \gset
select source_id as second from sqlkit.open_source('public.item', 'b.csv', 'csv', 0, 'hash b') \gset
select pg_catalog.jsonb_build_array(
    pg_catalog.jsonb_build_object(
        'source_id', :first, 'start_offset', 0, 'end_offset', 500, 'first_line', 1, 'last_line', 20,
        'stored_offset', 80, 'stored_sha256', 'digest of 80', 'is_last', true, 'rows_read', 19
    ),
    pg_catalog.jsonb_build_object(
        'source_id', :second, 'start_offset', 0, 'end_offset', 0, 'first_line', 1, 'last_line', 0,
        'stored_offset', 0, 'stored_sha256', '', 'is_last', true, 'rows_read', 0
    )
) as parts \gset

select throws_ok(
    pg_catalog.format(
        'select sqlkit.record_shared_batch(%s, %L, (2, 1, 0, 0, 0, 0, 0)::sqlkit.row_counts)', :run, :'parts'
    ),
    '23514',
    null,
    'counts that do not add up'
);
select is((select max(next_offset) from sqlkit.source), 0::bigint, 'move nothing');
select throws_ok(
    pg_catalog.format(
        'select sqlkit.record_shared_batch(%s, %L, (19, 19, 0, 0, 0, 0, 0)::sqlkit.row_counts)',
        :run, :'parts'::jsonb || (:'parts'::jsonb -> 0)
    ),
    '23505',
    null,
    'the same source twice'
);
select sqlkit.record_shared_batch(
    :run, :'parts', (19, 16, 1, 1, 0, 1, 0)::sqlkit.row_counts, 0.1, 0.2, 0.3, 4096
) as batch \gset
select results_eq(
    'select batch_id, source_id, start_offset, rows_read, rows_inserted, rows_duplicate, seconds_copy, wal_bytes '
    'from sqlkit.batch',
    pg_catalog.format(
        $$values (%s::bigint, null::bigint, null::bigint, 19::bigint, 16::bigint, 1::bigint, 0.2::double precision,
        4096::bigint)$$,
        :batch
    ),
    'one batch, of no one source'
);
select results_eq(
    'select source_id, first_line, last_line, start_offset, end_offset, rows_read from sqlkit.batch_part order by 1',
    pg_catalog.format(
        $$values (%s::bigint, 1::bigint, 20::bigint, 0::bigint, 500::bigint, 19::bigint), (%s, 1, 0, 0, 0, 0)$$,
        :first, :second
    ),
    'what each gave to it'
);
select results_eq(
    'select next_offset, next_line, stored_offset, stored_sha256, state from sqlkit.source order by source_id',
    $$values (500::bigint, 21::bigint, 80::bigint, 'digest of 80', 'loaded'), (0, 1, 0, '', 'loaded')$$,
    'all are loaded'
);
select throws_ok(
    pg_catalog.format(
        'select sqlkit.record_shared_batch(%s, %L, (19, 19, 0, 0, 0, 0, 0)::sqlkit.row_counts)', :run, :'parts'
    ),
    'SK402',
    null,
    'the same once more'
);
select is(
    (select rows_read from sqlkit.run_summary), 19::bigint, 'the summary counts them once'
);
select sqlkit_test.as_admin('delete from sqlkit.run');
select is((select count(*) from sqlkit.batch_part), 0::bigint, 'they go with their run');

select * from finish();
rollback;
