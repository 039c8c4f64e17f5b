-- Two tables that should say the same: which columns do not, and which rows only one of them has.
begin;
select plan(2);

create table mine (id integer primary key, name text, price numeric, local text);
create table theirs (id integer primary key, name text, price numeric);
insert into mine values (1, 'a', 1), (2, 'b', 2), (3, 'c', null), (4, 'd', 4);
insert into theirs values (1, 'a', 1.0), (2, 'x', 3), (3, 'c', 3), (5, 'e', 5);
select sqlkit.define_disagreement('same', 'mine', 'theirs');
select is((sqlkit.detect_conflicts('same')).pairs_opened, 4::bigint, 'equal is the same');
select results_eq(
    $$select first_key, measure, facts from sqlkit.conflict order by first_key$$,
    $$values
    ('{"id": 2}'::jsonb, 2::double precision, '{"name": ["b", "x"], "price": [2, 3]}'::jsonb),
    ('{"id": 3}', 1, '{"price": [null, 3]}'),
    ('{"id": 4}', null, '{"missing": "public.theirs"}'),
    ('{"id": 5}', null, '{"missing": "public.mine"}')$$,
    'what either says'
);

select * from finish();
rollback;
