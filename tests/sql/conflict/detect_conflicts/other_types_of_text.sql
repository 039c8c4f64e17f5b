-- Normalised columns are compared as text, whatever type they are of.
-- needs: citext
begin;
select plan(4);

select sqlkit_test.as_admin('create extension citext schema public');
create table public.person (id integer primary key, name citext, room integer);
insert into public.person values (1, 'Ann Lee', 1), (2, ' ann  lee ', 1);
select sqlkit.define_duplicate('twice', 'public.person', array['room'], array['name']);
select is((sqlkit.detect_conflicts('twice'))::text, '(1,0,0,1,t)', 'found');
insert into public.person values (3, 'ANN LEE', 1), (4, 'Ann Lee', 2);
select is((sqlkit.detect_conflicts('twice'))::text, '(1,0,0,2,f)', 'among what was touched, too');
select is((sqlkit.detect_conflicts('twice', true, 1, 1))::text, '(0,0,0,2,t)', 'and in the whole');
select sqlkit.create_stage('public.person', p_name => 'person_today');
insert into sqlkit_stage.person_today values (5, 'ann lee', 2), (6, 'Bob', 1);
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.person_today', 'reject')),
    '2 read, 1 inserted, 1 rejected',
    'a batch is held to it'
);

select * from finish();
rollback;
