begin;
select plan(2);

create table item (id integer primary key);
create function pg_temp.run(p_rows bigint, p_memory bigint)
returns bigint
language plpgsql
as $run$
declare
    v_run_id bigint := sqlkit.start_run('load', 'item');
begin
    perform sqlkit.record_batch(
        v_run_id, null, (0, 9, 1, 9, 9, null, false)::sqlkit.source_range,
        (p_rows, p_rows, 0, 0, 0, 0, 0)::sqlkit.row_counts
    );
    perform sqlkit.note_memory(v_run_id, p_memory);
    perform sqlkit.finish_run(v_run_id);
    update sqlkit.run set started_at = finished_at - interval '10 seconds' where run_id = v_run_id;
    return v_run_id;
end;
$run$;
select pg_temp.run(1000, 100) as first \gset
select pg_temp.run(2000, 300) as second \gset
select pg_temp.run(0, 50) as idle \gset
select sqlkit.set_baseline(:first);
select results_eq(
    format(
        'select round(seconds), rows_read, round(rows_per_second), peak_bytes, baseline_run_id,
        round(baseline_rows_per_second), baseline_peak_bytes
        from sqlkit.measure_runs(array[%s, %s, %s])',
        :first, :second, :idle
    ),
    format(
        'values (30::double precision, 3000::bigint, 150::double precision, 300::bigint, %s::bigint,
        100::double precision, 100::bigint)', :first
    ),
    'runs are added up; time that read nothing does not make them slow'
);
select sqlkit.start_run('load', 'item') as running \gset
select is_empty(
    format('select from sqlkit.measure_runs(array[%s])', :running), 'of a run that goes on there is nothing to say'
);

select * from finish();
rollback;
