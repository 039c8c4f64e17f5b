-- A row policy refuses single rows, with the SQLSTATE of a privilege that is missing.
begin;
select plan(7);

create table item (id integer primary key, tenant text, price integer);
insert into item values (1, 'a', 1);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.grant_on('item', :'role', 'select, insert');
alter table item enable row level security;
create policy own on item using (tenant = 'a');

create function pg_temp.merge_text(p_policy text)
returns text
language plpgsql
as $merge_text$
declare
    v_stage regclass := sqlkit.create_text_stage('public.item', '{id,tenant,price}');
    v_run_id bigint := sqlkit.start_run('load', 'public.item', p_policy);
    v_source_id bigint;
begin
    select o.source_id into v_source_id from sqlkit.open_source('public.item', v_run_id::text, 'csv') as o;
    execute pg_catalog.format(
        'insert into %s values (2, 2, ''1'', null, null, 1, ''a'', 5), (3, 3, ''2'', null, null, 2, ''b'', 5), '
        '(4, 4, ''3'', null, null, 3, ''a'', 5)',
        v_stage
    );
    return sqlkit_test.shown(sqlkit.merge_text_batch(
        v_run_id, v_source_id, (0, 100, 2, 4, 100, null, true), v_stage, 'public.item', p_policy, p_limit => null
    ));
end;
$merge_text$;

select set_config('role', :'role', true);
select throws_ok(
    $$select pg_temp.merge_text('update')$$, '42501', null, 'a privilege that is missing is none of the rows'''
);
select throws_ok($$select pg_temp.merge_text('ignore')$$, '42501', null, 'nor one to lock the table');
select is(
    pg_temp.merge_text('append'), '3 read, 1 inserted, 2 rejected', 'only the one is refused, and what is there'
);
reset role;
select results_eq(
    $$select r.raw, r.sqlstate, r.message from sqlkit.reject as r where r.raw = '2'$$,
    $$values ('2', '42501', 'new row violates row-level security policy for table "item"')$$,
    'with what PostgreSQL says of it'
);
select sqlkit_test.grant_on('item', :'role', 'update');
select set_config('role', :'role', true);
select is(
    pg_temp.merge_text('update'), '3 read, 1 updated, 1 unchanged, 1 rejected', 'where rows are written over, too'
);
reset role;
select results_eq(
    'select id, tenant, price from item order by id', $$values (1, 'a', 5), (3, 'a', 5)$$, 'the others are there'
);
select is(pg_temp.merge_text('update'), '3 read, 1 inserted, 2 unchanged', 'who owns the table is not held to it');

select * from finish();
rollback;
