-- Only rows of a table that are known by a unique index can be written back to.
begin;
select plan(4);

create table visit (id integer, carer integer, starts integer, ends integer, is_bad boolean);
create view seen as select * from visit;
select sqlkit.define_overlap('view', 'seen', array['carer'], 'starts', 'ends', p_key => array['id']);
select sqlkit.define_overlap('keyless', 'visit', array['carer'], 'starts', 'ends', p_key => array['id']);
select throws_ok($$select sqlkit.flag_conflicts('view', 'is_bad')$$, 'SK201', null, 'a view');
select throws_ok($$select sqlkit.flag_conflicts('keyless', 'is_bad')$$, 'SK203', null, 'no unique index');
select throws_ok($$select sqlkit.flag_conflicts('keyless', 'bad')$$, 'SK204', null, 'no such column');
select throws_ok($$select sqlkit.flag_conflicts('none', 'is_bad')$$, 'SK802', null, 'no such rule');

select * from finish();
rollback;
