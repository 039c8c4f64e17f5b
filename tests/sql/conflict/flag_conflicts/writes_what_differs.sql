-- Which rows are in an open conflict, whether, in how many, how much.
begin;
select plan(7);

create table visit (
    id integer primary key, carer integer, starts integer, ends integer, is_bad boolean, number integer, much numeric
);
insert into visit values (1, 1, 0, 4), (2, 1, 2, 6), (3, 1, 3, 5), (4, 2, 0, 9);
select sqlkit.define_overlap('flags', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.detect_conflicts('flags');
select is(sqlkit_test.shown(sqlkit.flag_conflicts('flags', 'is_bad')), '4 read, 4 updated', 'whether');
select is(sqlkit_test.shown(sqlkit.flag_conflicts('flags', 'is_bad')), null, 'said already');
select is((sqlkit.flag_conflicts('flags', 'number')).rows_updated, 4::bigint, 'in how many');
select is((sqlkit.flag_conflicts('flags', 'much')).rows_updated, 4::bigint, 'how much');
select results_eq(
    'select id, is_bad, number, much from visit order by id',
    'values (1, true, 2, 3::numeric), (2, true, 2, 4), (3, true, 2, 3), (4, false, 0, 0)',
    'the end state'
);
select is((select count(*) from sqlkit.stage), 0::bigint, 'no stage is left');
select throws_ok($$select sqlkit.flag_conflicts('flags', 'nothing')$$, 'SK204', null, 'no such column');

select * from finish();
rollback;
