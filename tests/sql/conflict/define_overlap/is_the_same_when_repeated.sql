-- Deployment scripts define their rules again and again.
begin;
select plan(5);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
insert into visit values (1, 1, 0, 2), (2, 1, 1, 3), (3, 1, 2, 3);
select sqlkit.define_overlap('twice', 'visit', array['carer'], 'starts', 'ends') as rule_id \gset
select is((sqlkit.detect_conflicts('twice')).pairs_opened, 2::bigint, 'two pairs');
select is(
    sqlkit.define_overlap('twice', 'visit', array['carer'], 'starts', 'ends'), :rule_id::bigint, 'it is the same rule'
);
select isnt((select mark from sqlkit.conflict_rule), null, 'and goes on where it was');
select sqlkit.define_overlap('twice', 'visit', array['carer'], 'starts', 'ends', p_bounds => '[]');
select is((select mark from sqlkit.conflict_rule), null, 'one that says something else looks at everything again');
select is(
    sqlkit.detect_conflicts('twice')::text, '(1,2,0,3,t)', 'whole numbers reach one further: the facts are others'
);

select * from finish();
rollback;
