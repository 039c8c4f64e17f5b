begin;
select plan(2);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
create function pg_temp.record(p_run_id bigint, p_rows bigint, p_seconds double precision)
returns bigint
language sql
return sqlkit.record_batch(
    p_run_id, null, (0, 9, 1, 9, 9, null, false)::sqlkit.source_range,
    (p_rows, p_rows, 0, 0, 0, 0, 0)::sqlkit.row_counts, 0, p_seconds, 0
);
select pg_temp.record(:run, 1000, 1);
select pg_temp.record(:run, 1000, 1.5);
select pg_temp.record(:run, 1000, 0.5);
select is_empty('select from sqlkit.slow_batch', 'what takes less than twice the usual is not');
select pg_temp.record(:run, 1000, 9) as slow \gset
select results_eq(
    'select batch_id, round(seconds_per_million) from sqlkit.slow_batch',
    format('values (%s::bigint, 9000::double precision)', :slow),
    'what took many times as long for its rows is'
);

select * from finish();
rollback;
