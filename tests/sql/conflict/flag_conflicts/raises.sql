-- Only rows of a table that are known by a unique index can be written back to.
begin;
select plan(9);

create table visit (id integer, carer integer, starts integer, ends integer, is_bad boolean);
create view seen as select * from visit;
select sqlkit.define_overlap('view', 'seen', array['carer'], 'starts', 'ends', p_key => array['id']);
select sqlkit.define_overlap('keyless', 'visit', array['carer'], 'starts', 'ends', p_key => array['id']);
select throws_ok($$select sqlkit.flag_conflicts('view', 'is_bad')$$, 'SK201', null, 'a view');
select throws_ok($$select sqlkit.flag_conflicts('keyless', 'is_bad')$$, 'SK203', null, 'no unique index');
select throws_ok($$select sqlkit.flag_conflicts('keyless', 'bad')$$, 'SK204', null, 'no such column');
select throws_ok($$select sqlkit.flag_conflicts('none', 'is_bad')$$, 'SK802', null, 'no such rule');

create table public.stay (
    id integer primary key, room integer, starts integer, ends integer, note text, is_dirty boolean
);
select sqlkit.define_overlap('stays', 'public.stay', array['room'], 'starts', 'ends', p_changed_by => 'is_dirty');
select throws_ok($$select sqlkit.flag_conflicts('stays', 'starts')$$, 'SK808', null, 'what the rule compares');
select throws_ok($$select sqlkit.flag_conflicts('stays', 'room')$$, 'SK808', null, 'whose the rows are');
select throws_ok($$select sqlkit.flag_conflicts('stays', 'id')$$, 'SK808', null, 'by what they are known');
select throws_ok($$select sqlkit.flag_conflicts('stays', 'is_dirty')$$, 'SK808', null, 'what tells of changes');
select throws_ok($$select sqlkit.flag_conflicts('stays', 'note')$$, 'SK808', null, 'no number');

select * from finish();
rollback;
