-- A rule that goes takes what it found along.
begin;
select plan(3);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
insert into visit values (1, 1, 0, 4), (2, 1, 2, 6);
select sqlkit.define_overlap('short', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.detect_conflicts('short');
select sqlkit.settle_conflicts(array(select conflict_id from sqlkit.conflict), 'ignored');
select is(sqlkit.drop_rule('short'), 1::bigint, 'so many');
select is_empty(
    'select conflict_id from sqlkit.conflict union all select conflict_id from sqlkit.conflict_event', 'all of it'
);
select throws_ok($$select sqlkit.drop_rule('short')$$, 'SK802', null, 'it is not there twice');

select * from finish();
rollback;
