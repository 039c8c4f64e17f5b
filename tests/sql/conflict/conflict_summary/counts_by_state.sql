-- The rules, with the numbers of their conflicts by what became of them.
begin;
select plan(1);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
insert into visit (id, carer, starts, ends) select
    g.id,
    g.id / 2,
    0,
    g.id * 1
from generate_series(2, 9) as g (id);
select sqlkit.define_overlap('busy', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.define_overlap('idle', 'visit', array['id'], 'starts', 'ends');
select sqlkit.detect_conflicts('busy');
delete from visit
where id = 2;
select sqlkit.detect_conflicts('busy');
select sqlkit.settle_conflicts(
    array(
        select conflict_id from sqlkit.conflict
        where first_key = '{"id": 4}'
    ), 'ignored'
);
select results_eq(
    $$
    select name, pairs_open, pairs_ignored, pairs_resolved, pairs_gone, measure_open, detected_at is not null
    from sqlkit.conflict_summary
    order by name
    $$,
    $$values ('busy', 2::bigint, 1::bigint, 0::bigint, 1::bigint, 14::double precision, true),
    ('idle', 0, 0, 0, 0, null, false)$$,
    'each rule'
);

select * from finish();
rollback;
