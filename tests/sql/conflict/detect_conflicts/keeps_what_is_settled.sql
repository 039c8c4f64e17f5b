-- A conflict lives: it is found, settled, changed, gone, back. Finding it again changes nothing.
begin;
select plan(14);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
insert into visit values (1, 1, 0, 4), (2, 1, 2, 6), (3, 1, 5, 9), (4, 2, 0, 9), (5, 2, 9, 10);
select sqlkit.define_overlap('life', 'visit', array['carer'], 'starts', 'ends');
select is(sqlkit.detect_conflicts('life')::text, '(2,0,0,2,t)', 'two pairs');
create temporary table before as select * from sqlkit.conflict;
select is(sqlkit.detect_conflicts('life', true)::text, '(0,0,0,2,t)', 'and no more');
select results_eq('select * from sqlkit.conflict', 'select * from before', 'nothing of them has changed');
select is(
    sqlkit.settle_conflicts(array(select conflict_id from sqlkit.conflict), 'ignored', 'as agreed'),
    2::bigint,
    'both are ignored'
);
select is(sqlkit.detect_conflicts('life', true)::text, '(0,0,0,0,t)', 'and stay so');

update visit set ends = 3
where id = 1;
select is(sqlkit.detect_conflicts('life')::text, '(0,1,0,1,f)', 'a row changed: its conflict is open again');
select results_eq(
    $$select first_key, state, measure, note from sqlkit.conflict order by conflict_id$$,
    $$values ('{"id": 1}'::jsonb, 'open', 1::double precision, null), ('{"id": 2}', 'ignored', 1, 'as agreed')$$,
    'the other is as it was'
);
delete from visit
where id = 3;
update visit set starts = 3
where id = 2;
select is(sqlkit.detect_conflicts('life')::text, '(0,0,2,0,f)', 'a row is deleted, a row gives way: both are gone');
select is((
    select count(*) from sqlkit.conflict
    where gone_at is not null
), 2::bigint, 'which is told');
update visit set carer = 2
where id = 1;
select is(sqlkit.detect_conflicts('life')::text, '(1,0,0,1,f)', 'a row that moves conflicts where it comes to');
update visit set carer = 2
where id = 2;
update visit set carer = 1
where id = 1;
select is(sqlkit.detect_conflicts('life')::text, '(1,0,1,1,f)', 'and not where it came from');
update visit set starts = 2, carer = 1
where id = 2;
select is(sqlkit.detect_conflicts('life')::text, '(0,1,1,1,f)', 'what was gone is back');
select results_eq(
    $$
    select action, state_before, measure_before
    from sqlkit.conflict_event join sqlkit.conflict using (conflict_id)
    where first_key = '{"id": 1}' and second_key = '{"id": 2}'
    order by conflict_event_id
    $$,
    $$values
    ('ignored', 'open', 2::double precision), ('changed', 'ignored', 2), ('gone', 'open', 1), ('back', 'resolved', 1)$$,
    'its history'
);
select throws_ok($$select sqlkit.detect_conflicts('death')$$, 'SK802', null, 'a rule that is not there');

select * from finish();
rollback;
