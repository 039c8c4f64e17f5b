begin;
select plan(7);

create table price (id integer primary key);
create function pg_temp.run(p_rows bigint, p_seconds integer, p_peak_bytes bigint)
returns bigint
language plpgsql
as $run$
declare
    v_run_id bigint := sqlkit.start_run('load', 'price', 'update');
begin
    perform sqlkit.record_batch(
        v_run_id, null, row(0, 100, 1, 10, 100, null, false)::sqlkit.source_range,
        row(p_rows, p_rows, 0, 0, 0, 0, 0)::sqlkit.row_counts
    );
    perform sqlkit.note_memory(v_run_id, p_peak_bytes);
    perform sqlkit.finish_run(v_run_id);
    update sqlkit.run as r
    set finished_at = r.started_at + make_interval(secs => p_seconds)
    where r.run_id = v_run_id;
    return v_run_id;
end;
$run$;

select pg_temp.run(1000, 10, 1000) as first_id \gset
select pg_temp.run(4000, 20, 3000) as second_id \gset
select is(
    (
        select count(*) from sqlkit.run_speed as s
        where s.speed_ratio is null and s.rows_per_second > 0
    ),
    2::bigint,
    'without a baseline there is nothing to compare'
);
select is(sqlkit.set_baseline(:first_id), 'public.price', 'it says whose baseline it is');
select results_eq(
    'select baseline_run_id, round(speed_ratio::numeric, 3), memory_ratio from sqlkit.run_speed order by run_id',
    format(
        'values (%s::bigint, 1.000, 1::double precision), (%s, 2.000, 3)', :first_id, :first_id
    ),
    'the second is twice as fast, and takes three times the memory'
);
select sqlkit.note_memory(:second_id, 10);
select is(
    (
        select r.client_peak_bytes from sqlkit.run as r
        where r.run_id = :second_id
    ), 3000::bigint, 'a peak does not sink'
);
select lives_ok(format('select sqlkit.set_baseline(%s)', :second_id), 'another takes its place');
select results_eq(
    'select run_id from sqlkit.baseline', format('values (%s::bigint)', :second_id), 'a target has one'
);
select sqlkit.start_run('load', 'price') as running_id \gset
select throws_ok(
    format('select sqlkit.set_baseline(%s)', :running_id), 'SK401', null, 'a run that goes on is none'
);

select * from finish();
rollback;
