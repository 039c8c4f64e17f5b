begin;
select plan(5);

create table "Pri""ce" (id integer primary key);
select sqlkit.start_run('load', '"Pri""ce"', 'update') as run_id \gset
select sqlkit.record_batch(
    :run_id, null, row(0, 100, 1, 10, 100, null, false)::sqlkit.source_range,
    row(10, 6, 4, 0, 0, 0, 0)::sqlkit.row_counts, 1, 2, 3
);
select sqlkit.finish_run(:run_id);

select ok(
    (
        select bool_and(m.name ~ '^sqlkit_[a-z_]+$' and m.kind in ('counter', 'gauge') and m.help <> '')
        from sqlkit.collect_metrics() as m
    ),
    'names, kinds and help are as Prometheus wants them'
);
select results_eq(
    $$select labels ->> 'outcome', value from sqlkit.collect_metrics()
    where name = 'sqlkit_rows_total' and value > 0 order by 1$$,
    $$values ('inserted', 6::double precision), ('updated', 4)$$,
    'rows by what became of them'
);
select results_eq(
    $$select value from sqlkit.collect_metrics() where name = 'sqlkit_runs_total'
    and labels = '{"kind": "load", "target": "public.\"Pri\"\"ce\"", "state": "done"}'$$,
    $$values (1::double precision)$$,
    'labels tell what of'
);
select ok(
    (select count(*) = count(distinct m.name || m.labels::text) from sqlkit.collect_metrics() as m),
    'no sample is there twice'
);
select set_eq(
    'select distinct name from sqlkit.collect_metrics()',
    array[
        'sqlkit_runs_total', 'sqlkit_runs_running', 'sqlkit_rows_total', 'sqlkit_batch_seconds_total',
        'sqlkit_last_success_timestamp_seconds', 'sqlkit_open_rejects', 'sqlkit_waiting_locks', 'sqlkit_dead_rows',
        'sqlkit_storage_bytes'
    ],
    'all that there is to say of a table that nobody has analyzed'
);

select * from finish();
rollback;
