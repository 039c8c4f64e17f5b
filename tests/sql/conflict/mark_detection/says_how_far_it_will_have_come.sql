-- How far a detection in parts will have come is known before it begins.
begin;
select plan(4);

create table visit (id integer primary key, carer integer, starts integer, ends integer, is_dirty boolean);
insert into visit values (1, 1, 3, 4);
select sqlkit.define_overlap('number', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.define_overlap('value', 'visit', array['carer'], 'starts', 'ends', p_changed_by => 'starts');
select sqlkit.define_overlap('flag', 'visit', array['carer'], 'starts', 'ends', p_changed_by => 'is_dirty');
select cmp_ok(
    (sqlkit.mark_detection('number') ->> 'horizon')::xid8,
    '<=',
    pg_current_xact_id(),
    'what this transaction writes is new'
);
select is(sqlkit.mark_detection('value') - 'rule', '{"watermark": "3"}', 'a value');
select is(sqlkit.mark_detection('flag') - 'rule', '{}', 'a flag says it by itself');
select throws_ok($$select sqlkit.mark_detection('none')$$, 'SK802', null, 'no such rule');

select * from finish();
rollback;
