begin;
select plan(2);

create table item (id integer primary key);
create function pg_temp.run(p_rows bigint, p_options jsonb default '{}')
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
    perform sqlkit.finish_run(v_run_id);
    update sqlkit.run set started_at = finished_at - interval '10 seconds' where run_id = v_run_id;
    return v_run_id;
end;
$run$;
select is_empty('select from sqlkit.strategy_speed', 'nothing was loaded, nothing is to be told');
select pg_temp.run(1000) as first \gset
select pg_temp.run(2000) as second \gset
select pg_temp.run(700, '{"strategy": "insert"}') as inserted \gset
select pg_temp.run(0) as idle \gset
select sqlkit.set_baseline(:first);
select results_eq(
    'select target, kind, strategy, runs, round(usual_rows_per_second), run_id, round(speed_ratio)
    from sqlkit.strategy_speed order by strategy',
    format(
        $$values ('public.item', 'load', 'auto', 2::bigint, 150::double precision, %s::bigint, 2::double precision),
        ('public.item', 'load', 'insert', 1, 70, %s, null)$$,
        :second, :inserted
    ),
    'of each strategy the newest run that read rows'
);

select * from finish();
rollback;
