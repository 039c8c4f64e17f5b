-- Only when all parts are done is what they looked at not looked at again.
begin;
select plan(4);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
select sqlkit.define_overlap('parts', 'visit', array['carer'], 'starts', 'ends', p_changed_by => 'starts');
select lives_ok($$select sqlkit.finish_detection('parts', '{"watermark": "7"}')$$, 'it is done');
insert into visit values (1, 1, 3, 9), (2, 1, 4, 9), (3, 2, 6, 9), (4, 2, 7, 9);
select is(sqlkit.detect_conflicts('parts')::text, '(1,0,0,1,f)', 'up to this value');

-- A rule that is defined anew while it is detected has found nothing yet.
select sqlkit.mark_detection('parts') as mark \gset
select sqlkit.define_overlap('parts', 'visit', array['carer'], 'starts', 'ends', p_bounds => '[]');
select sqlkit.finish_detection('parts', :'mark');
select is((select r.mark from sqlkit.conflict_rule as r), null, 'what was found by another rule does not count');
select throws_ok($$select sqlkit.finish_detection('none', '{}')$$, 'SK802', null, 'no such rule');

select * from finish();
rollback;
