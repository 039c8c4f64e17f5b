-- The way between two places takes as long as a function says, and is asked for within reach only.
begin;
select plan(4);

create table visit (id integer primary key, carer integer, starts timestamptz, ends timestamptz, place integer);
insert into visit values
(1, 1, '2026-01-01 08:00Z', '2026-01-01 09:00Z', 10),
(2, 1, '2026-01-01 09:10Z', '2026-01-01 10:00Z', 10),
(3, 1, '2026-01-01 10:10Z', '2026-01-01 11:00Z', 20),
(4, 1, '2026-01-01 10:30Z', '2026-01-01 11:30Z', 30),
(5, 1, '2026-01-01 14:00Z', '2026-01-01 15:00Z', 99),
(6, 2, '2026-01-01 09:00Z', '2026-01-01 09:05Z', 99);
create function way(integer, integer)
returns interval
language sql
immutable
return make_interval(mins => 3 * abs($1 - $2));

select sqlkit.define_distance(
    'way', 'visit', array['carer'], '1 hour', 'starts', 'ends',
    p_travel => 'way(integer, integer)', p_place => array['place']
);
select lives_ok($$select sqlkit.detect_conflicts('way')$$, 'it is asked');
select results_eq(
    $$
    select first_key ->> 'id', second_key ->> 'id', measure
    from sqlkit.conflict
    order by conflict_id
    $$,
    $$values ('2', '3', 20::double precision), ('2', '4', 30)$$,
    'minutes that are missing; overlaps are not its business, and what is hours away is not asked for'
);

select sqlkit.define_distance('gap', 'visit', array['carer'], '15 minutes', 'starts', 'ends');
select lives_ok($$select sqlkit.detect_conflicts('gap')$$, 'a gap that is said');
select results_eq(
    $$
    select first_key ->> 'id', second_key ->> 'id', measure
    from sqlkit.conflict join sqlkit.conflict_rule using (conflict_rule_id)
    where name = 'gap'
    order by conflict_id
    $$,
    $$values ('1', '2', 5::double precision), ('2', '3', 5)$$,
    'is the same between all places'
);

select * from finish();
rollback;
