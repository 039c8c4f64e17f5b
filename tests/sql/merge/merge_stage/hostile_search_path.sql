-- What lies in the caller's search_path, or in pg_temp, is not mistaken for what is meant.
begin;
select plan(5);

select sqlkit_test.create_schema('evil');
create function evil.always(integer, integer)
returns boolean
language sql
immutable
return true;
create function evil.always(text, text)
returns boolean
language sql
immutable
return true;
create function evil.always(tid, tid)
returns boolean
language sql
immutable
return true;
do $make_operators$
begin
    create operator evil.= (function = evil.always, leftarg = integer, rightarg = integer);
    create operator evil.= (function = evil.always, leftarg = text, rightarg = text);
    create operator evil.= (function = evil.always, leftarg = tid, rightarg = tid);
    create operator evil.<> (function = evil.always, leftarg = integer, rightarg = integer);
end
$make_operators$;
create function evil.count(text)
returns bigint
language sql
return 42;
create temporary table if not exists run (run_id integer);
create temporary table if not exists pg_class (oid oid);

select sqlkit_test.create_schema('elsewhere');
create table elsewhere.item (id integer primary key, name text);

select sqlkit.create_stage('elsewhere.item', p_name => 'hostile_stage');
insert into sqlkit_stage.hostile_stage values (1, 'one'), (2, 'two');
set local search_path = evil, public, pg_catalog;
select sqlkit_test.shown(sqlkit.merge_stage('sqlkit_stage.hostile_stage')) as into_empty \gset
insert into sqlkit_stage.hostile_stage values (1, 'one'), (2, 'zwei'), (3, 'three');
select sqlkit_test.shown(sqlkit.merge_stage('sqlkit_stage.hostile_stage')) as into_filled \gset
select current_setting('search_path') as afterwards \gset
set local search_path = '';
insert into sqlkit_stage.hostile_stage values (1, 'one'), (4, 'four');
select sqlkit_test.shown(sqlkit.merge_stage('sqlkit_stage.hostile_stage')) as with_none \gset
set local search_path = public;

select is(:'into_empty'::text, '2 read, 2 inserted', 'operators of the caller are not used');
select is(:'into_filled'::text, '3 read, 1 inserted, 1 updated, 1 unchanged', 'nor where rows are compared');
select is(:'with_none'::text, '2 read, 1 inserted, 1 unchanged', 'an empty search_path does');
select is(:'afterwards'::text, 'evil, public, pg_catalog', 'the caller''s search_path is the caller''s again');
select is(
    (select array_agg(distinct target) from sqlkit.run), array['elsewhere.item'], 'the ledger is sqlkit''s'
);

select * from finish();
rollback;
