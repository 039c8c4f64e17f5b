-- What was touched: by a flag, by a value that grows. (By transactions: tests/behaviour/test_conflicts.py.)
begin;
select plan(9);

create table visit (
    id integer primary key, carer integer, starts integer, ends integer, changed_at integer, is_dirty boolean
);
insert into visit values (1, 1, 0, 4, 10, true), (2, 1, 2, 6, 11, false), (3, 2, 5, 9, 12, null);

select sqlkit.define_overlap('flag', 'visit', array['carer'], 'starts', 'ends', p_changed_by => 'is_dirty');
select is(sqlkit.detect_conflicts('flag')::text, '(1,0,0,1,t)', 'the first time, at everything');
insert into visit values (4, 2, 5, 9, 9, false), (5, 1, 3, 4, 9, true);
select is(sqlkit.detect_conflicts('flag')::text, '(2,0,0,3,f)', 'where a flag is up');
select is((
    select count(*) from visit
    where is_dirty
), 0::bigint, 'and is then down');
update visit set is_dirty = true
where id = 3;
select is(sqlkit.detect_conflicts('flag')::text, '(1,0,0,4,f)', 'the whole resource of such a row');

select sqlkit.define_overlap('value', 'visit', array['carer'], 'starts', 'ends', p_changed_by => 'changed_at');
select is(sqlkit.detect_conflicts('value')::text, '(4,0,0,4,t)', 'the first time, at everything');
select is((
    select mark ->> 'watermark' from sqlkit.conflict_rule
    where name = 'value'
), '12', 'up to this value');
insert into visit values (6, 3, 1, 5, 11), (7, 3, 1, 5, 11), (8, 1, 3, 4, 12);
select is(sqlkit.detect_conflicts('value')::text, '(3,0,0,7,f)', 'what has that value may have come later');
update visit set changed_at = null
where id = 6;
select is(sqlkit.detect_conflicts('value')::text, '(1,0,0,8,f)', 'what has none too');
select is(sqlkit.detect_conflicts('value', true)::text, '(0,0,0,8,t)', 'nothing is missing');

select * from finish();
rollback;
