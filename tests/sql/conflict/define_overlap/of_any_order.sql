-- Whatever can be sorted may be the ends of an interval; where it cannot be subtracted there is no measure.
begin;
select plan(3);

create table public.drawer (id integer primary key, cabinet integer, starts text, ends text);
insert into public.drawer values
(1, 1, 'a', 'f'), (2, 1, 'e', 'k'), (3, 1, 'k', 'p'), (4, 1, 'x', null), (5, 1, 'z', null);
select sqlkit.define_overlap('drawers', 'public.drawer', array['cabinet'], 'starts', 'ends');
select sqlkit.detect_conflicts('drawers');
select results_eq(
    'select first_key ->> ''id'', second_key ->> ''id'', measure from sqlkit.conflict order by 1',
    $$values ('1', '2', null::float8), ('4', '5', null)$$,
    'words'
);
create table public.shift (id integer primary key, worker integer, starts interval, ends interval);
insert into public.shift values (1, 1, '8:00', '10:00'), (2, 1, '9:30', '24:00');
select sqlkit.define_overlap('shifts', 'public.shift', array['worker'], 'starts', 'ends');
select is((sqlkit.detect_conflicts('shifts')).pairs_opened, 1::bigint, 'intervals since midnight');
select is(
    (
        select c.measure
        from sqlkit.conflict as c
        join sqlkit.conflict_rule as r on r.conflict_rule_id = c.conflict_rule_id
        where r.name = 'shifts'
    ),
    30.0::float8,
    'in minutes'
);

select * from finish();
rollback;
