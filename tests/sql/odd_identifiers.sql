-- Every function that is given a name or a relation, on the way of a row, with names that quoting has to get right.
-- What needs more than a target has a file odd_identifiers.sql of its own.
begin;
select plan(234);

create function pg_temp.go_all_the_way(p_name name)
returns setof text
language plpgsql
as $go_all_the_way$
declare
    v_key name := left('k' || p_name, 62);
    v_other name := left('o' || p_name, 62);
    v_target regclass;
    v_stages regclass[];
    v_run_id bigint;
    v_source_id bigint;
    v_indexes jsonb;
    v_counts sqlkit.row_counts;
begin
    perform sqlkit_test.create_schema(p_name);
    execute pg_catalog.format(
        'create table %1$I.%1$I ('
        '%2$I integer, %3$I integer, constraint %2$I primary key (%2$I), constraint %3$I check (%3$I operator(pg_catalog.>) 0))',
        p_name,
        v_key,
        v_other
    );
    execute pg_catalog.format('create index %2$I on %1$I.%1$I (%2$I)', p_name, v_other);
    v_target := pg_catalog.format('%1$I.%1$I', p_name)::regclass;

    return next is(sqlkit.describe_target(v_target) -> 'key', to_jsonb(array[v_key]), p_name || ': describe_target');
    return next is(sqlkit.find_key(v_target, array[v_key]), array[v_key], p_name || ': find_key');

    v_run_id := sqlkit.start_run('load', v_target, 'newer', array[v_key], '{}', p_name);
    select s.source_id
    into v_source_id
    from sqlkit.open_source(v_target, p_name, 'csv', 1, p_name) as s;
    return next is(
        (
            select (r.target = s.target and r.key_columns = array[v_key])
            from sqlkit.run as r, sqlkit.source as s
            where r.run_id = v_run_id and s.source_id = v_source_id
        ),
        true,
        p_name || ': start_run and open_source'
    );
    perform sqlkit.note_version(v_source_id, p_name);
    return next is(sqlkit.find_version(v_target, p_name), p_name::text, p_name || ': find_version');

    return next is(
        sqlkit.add_columns(v_target, array[v_key], array['text'], v_run_id), '{}'::name[], p_name || ': add_columns'
    );
    perform sqlkit.note_watermark(v_source_id, p_name, v_key, v_other, p_name);
    perform sqlkit.set_watermark(v_target, p_name, v_key, v_other);
    return next is(sqlkit.find_watermark(v_target, p_name, v_key), v_other::text, p_name || ': watermarks');
    return next is(
        (
            select w.value
            from sqlkit.find_watermarks(v_target, array[p_name::text], v_key) as w
        ),
        v_other::text,
        p_name || ': of many'
    );

    v_indexes := sqlkit.begin_first_load(v_target);
    execute pg_catalog.format('insert into %s values (1, 1), (2, 1), (1, 2)', v_target);
    return next is(
        sqlkit_test.shown(sqlkit.finish_first_load(v_target, v_indexes, 3, 'newer', array[v_key], v_other)),
        '3 read, 2 inserted, 1 duplicate',
        p_name || ': begin_first_load and finish_first_load'
    );
    return next is(
        (
            select count(*)
            from pg_catalog.pg_index as i
            where i.indrelid = v_target
        ),
        2::bigint,
        p_name || ': with both indexes'
    );

    return next is(
        sqlkit.find_policy_key(v_target, 'update', array[v_key]), array[v_key], p_name || ': find_policy_key'
    );
    perform set_config('sqlkit.indexes', 'rebuild', true);
    v_indexes := sqlkit.begin_rebuild(v_target, 1);
    perform set_config('sqlkit.indexes', 'auto', true);
    perform sqlkit.finish_rebuild(v_target, v_indexes);
    return next is(
        (
            select string_agg(c.relname, ',' order by i.indisunique)
            from pg_catalog.pg_index as i
            join pg_catalog.pg_class as c on c.oid = i.indexrelid
            where i.indrelid = v_target and v_indexes #>> '{0,name}' = v_other
        ),
        v_other || ',' || v_key,
        p_name || ': begin_rebuild and finish_rebuild'
    );

    v_stages := array[
        sqlkit.create_stage(v_target, array[v_other, v_key], p_name, '{}', v_run_id),
        sqlkit.create_stage(v_target, array[v_key, v_other], v_other, array[v_other], v_run_id)
    ];
    execute pg_catalog.format('insert into %s values (9, 1)', v_stages[1]);
    return next lives_ok(pg_catalog.format('select sqlkit.check_stages(%L, 1)', v_stages), p_name || ': check_stages');
    return next is(
        sqlkit_test.shown(
            sqlkit.merge_batch(
                v_run_id, v_source_id, (0, 10, 1, 1, 10, null, false), v_stages[1:1], v_target, 'newer', array[v_key], v_other
            )
        ),
        '1 read, 1 updated',
        p_name || ': merge_batch'
    );
    perform sqlkit.empty_stages(v_stages);
    return next lives_ok(pg_catalog.format('select sqlkit.check_stages(%L, 0)', v_stages), p_name || ': empty_stages');
    execute pg_catalog.format('insert into %s values (9, 1)', v_stages[1]);
    return next is(
        sqlkit_test.shown(sqlkit.merge_stage(v_stages[1], 'newer', array[v_key], v_other)),
        '1 read, 1 unchanged',
        p_name || ': merge_stage'
    );
    perform sqlkit.drop_stage(v_stages[2]);
    return next is(sqlkit.drop_stages(v_run_id), 1::bigint, p_name || ': drop_stage and drop_stages');

    v_stages := array[sqlkit.create_stage(v_target, array[v_key, v_other])];
    execute pg_catalog.format('insert into %s values (4, 0)', v_stages[1]);
    return next is(
        sqlkit.screen_stage(
            sqlkit.plan_screen(v_target, array[v_key, v_other], '{}', 'update', array[v_key]), v_stages[1]
        ) #>> '{broken,0,2}',
        '23514',
        p_name || ': plan_screen and screen_stage'
    );
    perform sqlkit.drop_stage(v_stages[1]);

    v_stages := array[sqlkit.create_text_stage(v_target, array[v_key, v_other], v_run_id)];
    execute pg_catalog.format(
        'insert into %s values (2, 2, %2$L, null, null, %3$L, %2$L), (3, 3, %2$L, null, null, %3$L, %3$L)',
        v_stages[1],
        'x',
        '7'
    );
    v_counts := sqlkit.merge_text_batch(
        v_run_id, v_source_id, (10, 20, 2, 3, 20, null, true), v_stages[1], v_target, 'newer', array[v_key], v_other, null
    );
    return next is(
        sqlkit_test.shown(v_counts),
        '2 read, 1 inserted, 1 rejected',
        p_name || ': create_text_stage and merge_text_batch'
    );
    return next results_eq(
        pg_catalog.format('select target, column_name::text from sqlkit.reject_summary where run_id = %s', v_run_id),
        pg_catalog.format('values (%L, %L)', pg_catalog.format('%1$I.%1$I', p_name), v_other),
        p_name || ': the rejects name target and column'
    );

    v_stages := array[sqlkit.stage_query(v_target, pg_catalog.format('table %s', v_target), v_run_id, p_name)];
    return next is(
        (sqlkit.refresh_batch(v_run_id, v_stages[1], 'mirror', array[v_key], p_key => array[v_key])).rows_unchanged,
        3::bigint,
        p_name || ': stage_query and refresh_batch'
    );
    return next is(
        (sqlkit.refresh_stage(v_stages[1], 'mirror', p_key => array[v_key])).rows_unchanged,
        3::bigint,
        p_name || ': refresh_stage'
    );
    perform sqlkit.drop_stage(v_stages[1]);

    perform sqlkit.finish_run(v_run_id);
    return next results_eq(
        pg_catalog.format('select action from sqlkit.repair_runs(%L::regclass) where run_id = %s', v_target, v_run_id),
        $$values ('dropped')$$,
        p_name || ': repair_runs'
    );

    perform sqlkit.follow_changes(v_target);
    execute pg_catalog.format('update %1$s set %2$I = %2$I', v_target, v_other);
    return next is(
        (select pg_catalog.count(*) from pg_catalog.pg_trigger as t where t.tgrelid = v_target),
        1::bigint,
        p_name || ': follow_changes'
    );
end;
$go_all_the_way$;

select pg_temp.go_all_the_way(n.name)
from sqlkit_test.odd_identifiers() as n (name);

create function pg_temp.contradict(p_name name)
returns text
language plpgsql
as $contradict$
declare
    v_key name := left('v' || p_name, 62);
    v_other name := left('o' || p_name, 62);
    v_flag name := left('f' || p_name, 62);
    v_target regclass;
begin
    execute pg_catalog.format(
        'create table %1$I.%2$I '
        '(%1$I text primary key, %3$I integer, %4$I timestamptz, %5$I timestamptz, %6$I integer)',
        p_name, v_key, v_other, left('s' || p_name, 62), left('e' || p_name, 62), v_flag
    );
    v_target := pg_catalog.format('%I.%I', p_name, v_key)::regclass;
    execute pg_catalog.format(
        'insert into %s values (%L, 1, %L, %L), (%L, 1, %L, %L)',
        v_target, p_name || '1', '2026-01-01', '2026-01-03', p_name || '2', '2026-01-02', '2026-01-04'
    );
    perform sqlkit.define_overlap(
        p_name, v_target, array[v_other], left('s' || p_name, 62), left('e' || p_name, 62),
        p_exempt => array[p_name], p_changed_by => left('s' || p_name, 62)
    );
    perform sqlkit.define_distance(
        'far' || p_name, v_target, array[v_other], '1 hour', left('s' || p_name, 62), left('e' || p_name, 62),
        p_across => array[p_name]
    );
    perform sqlkit.define_duplicate('twin' || p_name, v_target, array[v_other], '{}');
    perform sqlkit.define_disagreement('same' || p_name, v_target, v_target);
    return concat_ws(
        ' ',
        sqlkit.detect_conflicts(p_name), sqlkit.detect_conflicts(p_name), sqlkit.detect_conflicts('far' || p_name),
        sqlkit.detect_conflicts('twin' || p_name), sqlkit.detect_conflicts('twin' || p_name),
        sqlkit.detect_conflicts('same' || p_name), (sqlkit.flag_conflicts(p_name, v_flag)).rows_updated,
        (
            select string_agg(concat_ws(',', c.problem, c.second_row ->> p_name = p_name || '2'), ',')
            from sqlkit.check_constraint(v_target, pg_catalog.format('unique (%I)', v_other)) as c
        )
    );
end;
$contradict$;

select
    is(
        pg_temp.contradict(n.name),
        '(1,0,0,1,t) (0,0,0,1,f) (0,0,0,0,t) (1,0,0,1,t) (0,0,0,1,f) (0,0,0,0,t) 2 unique,t',
        n.name || ': conflicts'
    )
from sqlkit_test.odd_identifiers() as n (name);

create function pg_temp.look_up(p_name name)
returns text
language plpgsql
as $look_up$
declare
    v_id name := left('i' || p_name, 62);
    v_dimension regclass;
    v_stage regclass;
begin
    execute pg_catalog.format(
        'create table %1$I.%2$I (%2$I bigint generated by default as identity primary key, %1$I text unique, %3$I text)',
        p_name, v_id, left('d' || p_name, 62)
    );
    v_dimension := pg_catalog.format('%I.%I', p_name, v_id)::regclass;
    execute pg_catalog.format('create table %I.%I (%1$I text, %3$I bigint)', p_name, left('t' || p_name, 62), v_id);
    v_stage := sqlkit.create_stage(pg_catalog.format('%I.%I', p_name, left('t' || p_name, 62))::regclass, p_name => v_id);
    execute pg_catalog.format('insert into %s values (%L, null), (%2$L, null), (%3$L, null)', v_stage, p_name, p_name || 'y');
    perform sqlkit.follow_keys(v_dimension, v_id, array[p_name]);
    perform sqlkit.add_lookup(
        v_stage, v_id, v_dimension, array[p_name], array[p_name],
        p_defaults => pg_catalog.jsonb_build_object(left('d' || p_name, 62), p_name)
    );
    return concat_ws(
        ' ',
        sqlkit.resolve_keys(
            v_stage, v_id, v_dimension, v_id, array[p_name],
            p_defaults => pg_catalog.jsonb_build_object(left('d' || p_name, 62), p_name)
        ),
        (
            select string_agg(v.id, ',')
            from sqlkit.resolve_values(
                jsonb_build_array(jsonb_build_array(p_name)), v_dimension, v_id, array[p_name]
            ) as v
        ),
        sqlkit.lookup_version(v_dimension),
        sqlkit_test.shown(sqlkit.merge_stage(v_stage, 'append'))
    );
end;
$look_up$;

select is(pg_temp.look_up(n.name), '(3,3,0,2) 1 1 3 read, 3 inserted', n.name || ': lookups')
from sqlkit_test.odd_identifiers() as n (name);

create function pg_temp.transform(p_name name)
returns text
language plpgsql
as $transform$
declare
    v_raw regclass := sqlkit.create_raw_table(pg_catalog.format('%I.%I', p_name, left('raw' || p_name, 62)));
begin
    execute pg_catalog.format('alter table %s alter column changed_in set default %L', v_raw, '3');
    execute pg_catalog.format('create table %I.%I (%1$I text primary key)', p_name, left('core' || p_name, 62));
    execute pg_catalog.format('insert into %s (raw_data) values (%L)', v_raw, jsonb_build_object(p_name, 'x'));
    return sqlkit.apply_transform(
        v_raw,
        pg_catalog.format('%I.%I', p_name, left('core' || p_name, 62))::regclass,
        pg_catalog.format('select raw_data ->> %1$L as %1$I from pg_temp.sqlkit_changed', p_name),
        p_name => p_name
    );
end;
$transform$;

select is(pg_temp.transform(n.name), '(1,1,1,0,0,0,0,0)', n.name || ': transforms')
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
