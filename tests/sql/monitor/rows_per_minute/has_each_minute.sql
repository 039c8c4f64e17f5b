begin;
select plan(3);

create table item (id integer primary key);
select is((select count(*) from sqlkit.rows_per_minute), 60::bigint, 'sixty of them, though nothing happened');
select sqlkit.start_run('load', 'item') as run \gset
select sqlkit.record_batch(
    :run, null, (0, 9, 1, 9, 9, null, false)::sqlkit.source_range, (9, 4, 3, 2, 0, 0, 0)::sqlkit.row_counts
);
select results_eq(
    $$select target, batches, rows_read, rows_written from sqlkit.rows_per_minute where target is not null$$,
    $$values ('public.item', 1::bigint, 9::bigint, 7::bigint)$$,
    'what was read, and what was written'
);
select sqlkit_test.as_admin($$update sqlkit.batch set committed_at = now() - interval '2 hours'$$);
select is_empty($$select from sqlkit.rows_per_minute where target is not null$$, 'of the last hour');

select * from finish();
rollback;
