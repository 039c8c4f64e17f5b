-- Keys and resources may be of any type and of several columns.
begin;
select plan(7);

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

select * from finish();
rollback;
