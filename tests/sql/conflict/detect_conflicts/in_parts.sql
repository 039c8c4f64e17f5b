-- Parts together find what one detection finds, and none of them owns what another one does.
begin;
select plan(6);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
insert into visit
select
    g.id,
    g.id % 20,
    g.id / 20 * 5,
    g.id / 20 * 5 + 3 + g.id % 4
from generate_series(1, 400) as g (id);
select sqlkit.define_overlap('whole', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.define_overlap('parts', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.detect_conflicts('whole');
select sqlkit.mark_detection('parts') as mark \gset
select sqlkit.detect_conflicts('parts', p_part => p.part, p_parts => 3)
from generate_series(1, 3) as p (part);
select cmp_ok((select count(*) from sqlkit.conflict), '>', 50::bigint, 'there are some');
select set_eq(
    $$
    select first_key, second_key, measure, facts
    from sqlkit.conflict join sqlkit.conflict_rule using (conflict_rule_id)
    where name = 'whole'
    $$,
    $$
    select first_key, second_key, measure, facts
    from sqlkit.conflict join sqlkit.conflict_rule using (conflict_rule_id)
    where name = 'parts'
    $$,
    'parts find what the whole does'
);
select is((
    select mark from sqlkit.conflict_rule
    where name = 'parts'
), null, 'they do not say that all is done');
select sqlkit.finish_detection('parts', :'mark');
select is((
    select mark from sqlkit.conflict_rule
    where name = 'parts'
), :'mark'::jsonb, 'their caller does');

-- A row that moves to a resource of another part takes its conflict along, whichever part comes first.
delete from visit;
insert into visit select
    1000 + g.id * 2,
    g.id,
    0,
    9
from generate_series(0, 19) as g (id);
insert into visit select
    1001 + g.id * 2,
    g.id,
    5,
    9
from generate_series(0, 19) as g (id);
select sqlkit.detect_conflicts('parts', true);
update visit set carer = (carer + 7) % 20;
select sqlkit.detect_conflicts('parts', p_part => p.part, p_parts => 3)
from generate_series(1, 3) as p (part);
select is(
    (
        select string_agg(format('%s %s', c.state, c.resource ->> 'carer' = v.carer::text), ',' order by c.conflict_id)
        from sqlkit.conflict as c
        join visit as v on v.id = (c.first_key ->> 'id')::integer
    ),
    repeat('open t,', 19) || 'open t',
    'each is where its rows are'
);
select is(
    sqlkit.detect_conflicts('parts', true)::text, '(0,0,0,20,t)', 'and the whole has nothing to add'
);

select * from finish();
rollback;
