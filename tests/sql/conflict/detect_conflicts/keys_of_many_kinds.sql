-- Keys and resources may be of any type and of several columns, and their names may be anything.
begin;
select plan(16);

create table visit (
    day date,
    number numeric(6, 2),
    tags text[],
    place text,
    room uuid,
    span tstzrange,
    primary key (day, number, tags)
);
insert into visit values
(
    '2026-01-01',
    1.50,
    '{a,"b c"}',
    'x',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    '[2026-01-01 10:00+02, 2026-01-01 11:00+02)'
),
('2026-01-01', 1.50, '{a,"b"}', 'x', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '[2026-01-01 08:30Z, infinity)'),
('2026-01-02', 1.50, '{}', 'y', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '(,)');
select sqlkit.define_overlap('many', 'visit', array['place', 'room'], p_range => 'span');
set local timezone = 'Asia/Jerusalem';
select is((sqlkit.detect_conflicts('many')).pairs_opened, 1::bigint, 'found');
set local timezone = 'America/New_York';
select is(sqlkit.detect_conflicts('many', true)::text, '(0,0,0,1,t)', 'the same, whichever time the reader lives in');
select results_eq(
    'select resource, first_key, second_key, measure from sqlkit.conflict',
    $$values (
        '{"place": "x", "room": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}'::jsonb,
        '{"day": "2026-01-01", "number": 1.50, "tags": ["a", "b"]}'::jsonb,
        '{"day": "2026-01-01", "number": 1.50, "tags": ["a", "b c"]}'::jsonb,
        30::double precision
    )$$,
    'with keys and resource'
);
alter table visit add column is_bad boolean;
select is((sqlkit.flag_conflicts('many', 'is_bad')).rows_updated, 3::bigint, 'the flag of every row is set');
select is((
    select count(*) from visit
    where is_bad
), 2::bigint, 'of two to true');
update visit set span = 'empty'
where tags = '{a,b}';
select is(sqlkit.detect_conflicts('many')::text, '(0,0,1,0,f)', 'gone');
select is((sqlkit.flag_conflicts('many', 'is_bad')).rows_updated, 2::bigint, 'and back to false');

create function pg_temp.detect_odd(p_name name)
returns text
language plpgsql
as $detect_odd$
declare
    v_other name := left('o' || p_name, 62);
    v_target regclass;
begin
    perform sqlkit_test.create_schema(p_name);
    execute format(
        'create table %1$I.%1$I (%1$I text primary key, %2$I integer, %3$I timestamptz, %4$I timestamptz)',
        p_name, v_other, left('s' || p_name, 62), left('e' || p_name, 62)
    );
    v_target := format('%1$I.%1$I', p_name)::regclass;
    execute format(
        'insert into %s values (%L, 1, %L, %L), (%L, 1, %L, %L)',
        v_target, p_name || '1', '2026-01-01', '2026-01-03', p_name || '2', '2026-01-02', '2026-01-04'
    );
    perform sqlkit.define_overlap(
        p_name, v_target, array[v_other], left('s' || p_name, 62), left('e' || p_name, 62),
        p_exempt => array[p_name], p_changed_by => left('s' || p_name, 62)
    );
    perform sqlkit.define_duplicate('d' || p_name, v_target, array[v_other], '{}');
    perform sqlkit.define_disagreement('s' || p_name, v_target, v_target);
    return concat_ws(
        ' ', sqlkit.detect_conflicts(p_name), sqlkit.detect_conflicts(p_name), sqlkit.detect_conflicts('d' || p_name),
        sqlkit.detect_conflicts('d' || p_name), sqlkit.detect_conflicts('s' || p_name),
        sqlkit.detect_conflicts(p_name, p_part => 1, p_parts => 1),
        (sqlkit.flag_conflicts(p_name, v_other)).rows_updated
    );
end;
$detect_odd$;

select
    is(
        pg_temp.detect_odd(n.name), '(1,0,0,1,t) (0,0,0,1,f) (1,0,0,1,t) (0,0,0,1,f) (0,0,0,0,t) (0,0,0,1,f) 0', n.name
    )
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
