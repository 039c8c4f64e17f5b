-- What is described, executed one after the other, leaves what the merge leaves.
begin;
select plan(14);

create table item (id integer primary key, name text, version integer);
create function pg_temp.described(p_policy text, p_order_by name default null)
returns text[]
language sql
return array(
    select d.statement
    from sqlkit.describe_merge('item', '{id,name,version}', p_policy, p_order_by => p_order_by) as d (statement)
);
create function pg_temp.apply(p_policy text, p_order_by name default null)
returns text
language plpgsql
as $apply$
declare
    v_statement text;
    v_rows text;
    v_counts sqlkit.row_counts;
begin
    truncate item;
    insert into item values (1, 'a', 1), (2, null, 1), (3, 'c', 9);
    foreach v_statement in array pg_temp.described(p_policy, p_order_by) loop
        execute v_statement;
    end loop;
    drop table if exists pg_temp.sqlkit_difference;
    select pg_catalog.string_agg(i::text, ' ' order by i.id) into v_rows from item as i;
    truncate item;
    insert into item values (1, 'a', 1), (2, null, 1), (3, 'c', 9);
    -- The stage is emptied by a merge, which the next one is not to see.
    begin
        perform sqlkit.merge_stage('sqlkit_stage.stage', p_policy, p_order_by => p_order_by);
        if v_rows is distinct from (select pg_catalog.string_agg(i::text, ' ' order by i.id) from item as i) then
            v_rows := 'different';
        end if;
        raise exception using errcode = 'ZZ000';
    exception
        when sqlstate 'ZZ000' then return v_rows;
    end;
end;
$apply$;

select sqlkit.create_stage('item', '{id,name,version}', 'stage');
insert into sqlkit_stage.stage values (1, 'a', 1), (2, 'b', 2), (3, 'z', 3), (4, 'd', 4);
select is(pg_temp.apply('update'), '(1,a,1) (2,b,2) (3,z,3) (4,d,4)', 'update');
select is(pg_temp.apply('newer', 'version'), '(1,a,1) (2,b,2) (3,c,9) (4,d,4)', 'newer');
select is(pg_temp.apply('fill'), '(1,a,1) (2,b,1) (3,c,9) (4,d,4)', 'fill');
select is(pg_temp.apply('ignore'), '(1,a,1) (2,,1) (3,c,9) (4,d,4)', 'ignore');
select is(pg_catalog.cardinality(pg_temp.described('update')), 4, 'a lock, a difference, an update, an insert');
select is(pg_catalog.cardinality(pg_temp.described('ignore')), 3, 'what updates nothing has no update');
truncate item;
select is(pg_catalog.cardinality(pg_temp.described('update')), 2, 'an empty table is filled');
select is(pg_catalog.cardinality(pg_temp.described('append')), 1, 'append takes no lock');
select throws_ok($$select pg_temp.described('newer')$$, 'SK207', null, 'what cannot be merged is not described');

create table keyless (id integer);
select throws_ok($$select pg_temp.described('other')$$, 'SK206', null, 'an unknown policy');
select throws_ok($$select sqlkit.describe_merge('keyless', '{id}')$$, 'SK202', null, 'a table without a key');
select throws_ok($$select sqlkit.describe_merge('item', '{name}')$$, 'SK204', null, 'without the key');
select throws_ok(
    $$select sqlkit.describe_merge('item', '{id,name}', p_key => '{name}')$$, 'SK203', null, 'a key that is not unique'
);
select throws_ok(
    $$select sqlkit.describe_merge('item', '{id}', 'history')$$, 'SK212', null, 'a table without history'
);

select * from finish();
rollback;
