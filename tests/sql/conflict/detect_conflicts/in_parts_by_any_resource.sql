-- Whatever the resource is, its rows are in one part: of many types, of several columns, normalised text, of two tables
-- whose keys have different types, and of values that are equal without being alike.
begin;
select plan(9);

create type mood as enum ('good', 'bad');
create domain short as varchar(9);
create table visit (
    id integer primary key,
    starts integer not null,
    ends integer not null,
    number numeric,
    name varchar(20),
    code short,
    feeling mood,
    days integer[],
    at timestamptz,
    ratio double precision
);
insert into visit
select
    g.id,
    0,
    9,
    -- 1.0 is 1.00, and 0 is -0.
    (g.id / 2 || case when g.id % 2 = 0 then '.0' else '.00' end)::numeric,
    case when g.id % 2 = 0 then 'Ann' else ' ann' end || g.id / 2,
    'c' || g.id / 2,
    case when g.id / 2 % 2 = 0 then 'good'::mood else 'bad'::mood end,
    array[g.id / 2],
    timestamptz '2026-01-01Z' + make_interval(days => g.id / 2),
    case when g.id / 2 = 0 then (case when g.id = 0 then '-0' else '0' end)::double precision else g.id / 2 end
from generate_series(0, 39) as g (id);
create table other (id numeric primary key, starts integer, ends integer);
insert into other
select
    v.id,
    v.starts,
    case when v.id < 10 then 0 else v.ends end
from visit as v
where v.id < 30;

create function pg_temp.compare(p_rule text)
returns text
language plpgsql
as $compare$
declare
    v_found bigint := (sqlkit.detect_conflicts(p_rule, true)).pairs_open;
    v_parts text;
begin
    -- Once more, over what is known: nothing is new, nothing is gone.
    select pg_catalog.string_agg(
        pg_catalog.concat_ws('/', n.pairs_opened, n.pairs_changed, n.pairs_closed), ' '
    )
    into v_parts
    from pg_catalog.generate_series(1, 5) as p (part)
    cross join lateral sqlkit.detect_conflicts(p_rule, true, p.part, 5) as n;
    return pg_catalog.concat_ws(' ', v_found, v_parts);
end;
$compare$;

select sqlkit.define_overlap('number', 'visit', array['number'], 'starts', 'ends');
select sqlkit.define_overlap('code', 'visit', array['code'], 'starts', 'ends');
select sqlkit.define_overlap('feeling', 'visit', array['feeling', 'days'], 'starts', 'ends');
select sqlkit.define_overlap('days', 'visit', array['days'], 'starts', 'ends');
select sqlkit.define_overlap('at', 'visit', array['at', 'number'], 'starts', 'ends');
select sqlkit.define_overlap('ratio', 'visit', array['ratio'], 'starts', 'ends');
select sqlkit.define_duplicate('name', 'visit', array['number'], array['name']);
select sqlkit.define_disagreement('same', 'visit', 'other');
select
    is(
        pg_temp.compare(r.name),
        '20 0/0/0 0/0/0 0/0/0 0/0/0 0/0/0',
        r.name
    )
from sqlkit.conflict_rule as r;

-- And from nothing, parts find what there is.
select sqlkit.define_duplicate('again', 'visit', array['number'], array['name']);
select sqlkit.detect_conflicts('again', true, p.part, 5)
from generate_series(1, 5) as p (part);
select is((
    select s.pairs_open from sqlkit.conflict_summary as s
    where s.name = 'again'
), 20::bigint, 'each pair once');
select * from finish();
rollback;
