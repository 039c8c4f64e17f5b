-- PostgreSQL holds rows to foreign keys and unique keys as the owner of the tables, whatever the role may see of them.
begin;
select plan(8);

create table maker (id integer primary key, name text);
insert into maker values (1, 'seen'), (2, 'hidden');
create table item (id integer primary key, maker integer references maker, price integer);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.grant_on('item', :'role', 'insert');

create function pg_temp.merge_text(p_policy text)
returns text
language plpgsql
as $merge_text$
declare
    v_stage regclass := sqlkit.create_text_stage('public.item', '{id,maker,price}');
    v_run_id bigint := sqlkit.start_run('load', 'public.item', p_policy);
    v_source_id bigint;
begin
    select o.source_id into v_source_id from sqlkit.open_source('public.item', v_run_id::text, 'csv') as o;
    execute pg_catalog.format(
        'insert into %s values (2, 2, ''1'', null, null, 1, 1, 5), (3, 3, ''2'', null, null, 2, 2, 5), '
        '(4, 4, ''3'', null, null, 3, 3, 5), (5, 5, ''4'', null, null, 4, 1, ''x'')',
        v_stage
    );
    return sqlkit_test.shown(sqlkit.merge_text_batch(
        v_run_id, v_source_id, (0, 100, 2, 5, 100, null, true), v_stage, 'public.item', p_policy, p_limit => null
    ));
end;
$merge_text$;

create function pg_temp.refused()
returns setof text
begin atomic
    select j.raw || ' ' || j.sqlstate
    from sqlkit.reject as j
    where j.run_id = (select pg_catalog.max(r.run_id) from sqlkit.run as r)
    order by j.reject_id;
end;

select set_config('role', :'role', true);
select is(
    pg_temp.merge_text('append'), '4 read, 2 inserted, 2 rejected', 'what a foreign key refers to need not be readable'
);
select results_eq('select pg_temp.refused()', array['3 23503', '4 22P02'], 'and is found by writing');
select is(pg_temp.merge_text('append'), '4 read, 4 rejected', 'nor need the table itself, to be inserted into');
select results_eq(
    'select pg_temp.refused()', array['1 23505', '2 23505', '3 23503', '4 22P02'], 'whose keys are found by writing too'
);
reset role;
delete from item;
select sqlkit_test.grant_on('maker', :'role', 'select');
select sqlkit_test.grant_on('item', :'role', 'select, update');
alter table maker enable row level security;
create policy seen on maker using (name = 'seen');
select is(
    (sqlkit.plan_screen('item', '{id,maker,price}', '{}', 'update', '{id}') ->> 'references') is null,
    false, 'who sees all of it looks'
);
select set_config('role', :'role', true);
select is(
    (sqlkit.plan_screen('item', '{id,maker,price}', '{}', 'update', '{id}') ->> 'references') is null,
    true, 'who does not leaves it'
);
select is(pg_temp.merge_text('update'), '4 read, 2 inserted, 2 rejected', 'a row that a policy hides is there');
select results_eq('select pg_temp.refused()', array['3 23503', '4 22P02'], 'and the others are not');
reset role;

select * from finish();
rollback;
