-- A batch of records that is held to the rules of its target, and to the limit of rejects.
begin;
select plan(7);

create table visit (id integer primary key, carer integer, starts date, ends date);
insert into visit values (1, 1, '2026-01-10', '2026-01-20');
select sqlkit.define_overlap('days', 'visit', array['carer'], 'starts', 'ends', p_bounds => '[]');
select sqlkit.define_distance('rest', 'visit', array['carer'], '1', 'starts', 'ends');
select sqlkit.start_run('load', 'visit', 'update') as run \gset
select source_id as source from sqlkit.open_source('visit', 'a.csv', 'csv') \gset

create function pg_temp.merge(p_conflicts text, p_limit bigint, p_policy text default 'update') returns text
language plpgsql as $$
declare
    v_stage regclass := sqlkit.create_text_stage('visit', array['id', 'carer', 'starts', 'ends']);
    v_run bigint := (select max(run_id) from sqlkit.run);
    v_source bigint := (select max(source_id) from sqlkit.source);
begin
    execute pg_catalog.format(
        'insert into %s values '
        '(2, 2, ''a'', null, null, ''2'', ''1'', ''2026-01-05'', ''2026-01-10''), '
        '(3, 4, ''b'', null, null, ''3'', ''1'', ''2026-01-12'', ''2026-01-15''), '
        '(5, 5, ''c'', null, null, ''4'', ''1'', ''nonsense'', ''2026-01-15''), '
        '(6, 6, ''d'', null, null, ''5'', ''2'', ''2026-01-12'', ''2026-01-15'')', v_stage
    );
    return sqlkit_test.shown(sqlkit.merge_checked_batch(
        v_run, v_source, (0, 100, 2, 6, 100, null, true), v_stage, 'visit', p_policy, p_conflicts, p_limit => p_limit
    ));
end;
$$;

savepoint before; -- noqa: PRS
select is(pg_temp.merge('reject', 2), null, 'too many');
select is((select count(*) from sqlkit.reject where batch_id is null), 3::bigint, 'all are told at once');
rollback to savepoint before;
select is(pg_temp.merge('trim', null), '4 read, 2 inserted, 2 rejected', 'the rest is merged');
select results_eq(
    'select r.first_line, r.last_line, r.raw, r.column_name, r.sqlstate from sqlkit.reject as r order by 1',
    $$values (3::bigint, 4::bigint, 'b', 'starts', 'SK806'), (5, 5, 'c', 'starts', '22007')$$,
    'with the place in the source'
);
select results_eq(
    'select t.first_line, t.raw, t.span_after, v.ends from sqlkit.trimmed_row as t cross join visit as v where v.id = 2',
    $$values (2::bigint, 'a', '[2026-01-05,2026-01-10)', date '2026-01-09')$$, 'both days of [] are held'
);
rollback to savepoint before;
select throws_ok($$select pg_temp.merge('no', 1)$$, 'SK805', null, 'no such way');
select throws_ok($$select pg_temp.merge('trim', 1, 'fill')$$, 'SK805', null, 'not under fill');

select * from finish();
rollback;
