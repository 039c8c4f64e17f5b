-- A trigger may refuse a row with the SQLSTATE of a privilege that is missing.
begin;
select plan(5);

create table item (id integer primary key, price integer);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.grant_on('item', :'role', 'select, insert');
create function public.deny()
returns trigger
language plpgsql
as $deny$
begin
    if new.price > 100 then
        raise insufficient_privilege using message = 'not for you';
    end if;
    return new;
end;
$deny$;

create function pg_temp.merge_text(p_policy text)
returns text
language plpgsql
as $merge_text$
declare
    v_stage regclass := sqlkit.create_text_stage('public.item', '{id,price}');
    v_run_id bigint := sqlkit.start_run('load', 'public.item', p_policy);
    v_source_id bigint;
begin
    select o.source_id into v_source_id from sqlkit.open_source('public.item', v_run_id::text, 'csv') as o;
    execute pg_catalog.format(
        'insert into %s values (2, 2, ''1'', null, null, 1, 5), (3, 3, ''2'', null, null, 2, 500)', v_stage
    );
    return sqlkit_test.shown(sqlkit.merge_text_batch(
        v_run_id, v_source_id, (0, 100, 2, 3, 100, null, true), v_stage, 'public.item', p_policy, p_limit => null
    ));
end;
$merge_text$;

select is(sqlkit._may_deny_rows('item'), false, 'a table denies no row by itself');
create trigger deny before insert or update on item for each row execute function deny();
select is(sqlkit._may_deny_rows('item'), true, 'a trigger may');
select set_config('role', :'role', true);
select is(pg_temp.merge_text('append'), '2 read, 1 inserted, 1 rejected', 'the other row is loaded');
select throws_ok($$select pg_temp.merge_text('ignore')$$, '42501', null, 'unless the role lacks a privilege for all');
reset role;
select results_eq(
    $$select r.raw, r.sqlstate, r.message from sqlkit.reject as r where r.raw = '2'$$,
    $$values ('2', '42501', 'not for you')$$,
    'it is kept with what the trigger says'
);

select * from finish();
rollback;
