-- Rows of several sources, in stages that streams have filled by turns.
begin;
select plan(6);

select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" ("Key of it" integer primary key, "No 1" text);
select sqlkit.create_stage('"Odd."."It""em"', p_name => 'Left') as left_stage \gset
select sqlkit.create_stage('"Odd."."It""em"', p_name => 'Right') as right_stage \gset
insert into sqlkit_stage."Left" values (1, 'file 0'), (2, 'file 0'), (1, 'file 3');
insert into sqlkit_stage."Right" values (1, 'file 1'), (2, 'file 2');
select sqlkit.start_run('load', '"Odd."."It""em"') as run \gset
select
    pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'source_id', s.source_id, 'start_offset', 0, 'end_offset', 10, 'first_line', 1, 'last_line', 2,
        'stored_offset', 10, 'rows_read', case f.number when 0 then 2 else 1 end
    )) as parts
from pg_catalog.generate_series(0, 3) as f (number)
cross join lateral sqlkit.open_source(
    '"Odd."."It""em"', 'file ' || f.number, 'csv', 10, 'hash ' || f.number
) as s \gset

create function pg_temp.merge(p_run bigint, p_parts jsonb, p_policy text)
returns sqlkit.row_counts
language sql
return sqlkit.merge_shared_batch(
    p_run, p_parts, array['sqlkit_stage."Left"'::regclass, 'sqlkit_stage."Right"'::regclass],
    '"Odd."."It""em"', p_policy, '{"Key of it"}',
    p_pieces => '[
        {"stage": 0, "piece": 0, "rows": 2}, {"stage": 1, "piece": 1, "rows": 1}, {"stage": 1, "piece": 2, "rows": 1},
        {"stage": 0, "piece": 3, "rows": 1}
    ]'
);
select throws_ok(
    pg_catalog.format('select pg_temp.merge(%s, %L, %L)', :run, :'parts', 'error'), 'SK303', null, 'what merging raises'
);
select is(
    sqlkit_test.shown(pg_temp.merge(:run, :'parts', 'update')), '5 read, 2 inserted, 3 duplicate', 'counted as a whole'
);
select results_eq(
    'select * from "Odd."."It""em" order by 1', $$values (1, 'file 3'), (2, 'file 2')$$, 'the last source wins'
);
select results_eq(
    'select rows_read from sqlkit.batch_part order by source_id',
    'values (2::bigint), (1), (1), (1)',
    'the rows of each source'
);
select is(
    (
        select count(*) from sqlkit.source
        where state = 'loaded'
    ), 4::bigint, 'all are loaded'
);
select throws_ok(
    pg_catalog.format('select pg_temp.merge(%s, %L, %L)', :run, :'parts', 'update'),
    'SK402',
    null,
    'which they are once'
);

select * from finish();
rollback;
