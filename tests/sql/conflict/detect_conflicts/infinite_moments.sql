-- Intervals that share a moment, which may be the last or the first there is, overlap by nothing.
begin;
select plan(3);

create table public.stay (id integer primary key, room integer, starts timestamptz, ends timestamptz);
insert into public.stay values
(1, 1, 'infinity', 'infinity'), (2, 1, '2025-01-01Z', 'infinity'), (3, 2, '-infinity', '-infinity'),
(4, 2, '-infinity', '2025-01-01Z'), (5, 3, '2025-01-01Z', '2025-01-02Z'), (6, 3, '2025-01-02Z', 'infinity');
select sqlkit.define_overlap('stays', 'public.stay', array['room'], 'starts', 'ends', p_bounds => '[]');
select is((sqlkit.detect_conflicts('stays')).pairs_opened, 3::bigint, 'three pairs');
select results_eq(
    'select measure from sqlkit.conflict order by resource', array[0.0, 0, 0]::float8[], 'of a moment each'
);

create table public.reach (id integer primary key, room integer, starts float8, ends float8);
insert into public.reach values (1, 1, 'infinity', 'infinity'), (2, 1, 0, 'infinity');
select sqlkit.define_overlap('reaches', 'public.reach', array['room'], 'starts', 'ends', p_bounds => '[]');
select sqlkit.detect_conflicts('reaches');
select results_eq(
    'select c.measure from sqlkit.conflict as c join sqlkit.conflict_rule as r using (conflict_rule_id) '
    'where r.name = ''reaches''',
    array[0.0]::float8[],
    'numbers too'
);

select * from finish();
rollback;
