begin;
select plan(4);

create table item (id integer primary key);
create function pg_temp.run(p_rows bigint, p_memory bigint, p_options jsonb default '{}')
returns bigint
language plpgsql
as $run$
declare
    v_run_id bigint := sqlkit.start_run('load', 'item', p_options => p_options);
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

select results_eq(
    'select run_id, round(rows_per_second), speed_ratio from sqlkit.run_speed order by run_id',
    format(
        'values (%s::bigint, 100::double precision, null::double precision), (%s, 200, null)', :first, :second
    ),
    'rows a second; nothing to compare with'
);
select sqlkit.set_baseline(:first);
select results_eq(
    format('select round(speed_ratio), memory_ratio from sqlkit.run_speed where run_id = %s', :second),
    'values (2::double precision, 3::double precision)',
    'twice as fast as the baseline, with three times its memory'
);
select sqlkit.start_run('load', 'item') as third \gset
select is_empty(
    format('select from sqlkit.run_speed where run_id = %s', :third), 'a run that goes on has no speed yet'
);

select pg_temp.run(700, 50, '{"strategy": "insert"}') as inserted \gset
select pg_temp.run(0, 50) as idle \gset
select results_eq(
    format(
        'select rows_per_second, speed_ratio from sqlkit.run_speed where run_id in (%s, %s) order by run_id',
        :inserted, :idle
    ),
    'values (70::double precision, null::double precision), (null, null)',
    'another strategy is not compared with it, and what read no rows has no speed'
);

select * from finish();
rollback;
