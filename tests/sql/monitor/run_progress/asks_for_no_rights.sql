-- Who watches sees how things stand with tables in whose schemas he has no business.
begin;
select plan(4);

select sqlkit_test.create_schema('Closed "shop"');
create table "Closed ""shop""".price (id integer primary key);
insert into "Closed ""shop""".price values (1);
select sqlkit.start_run('load', '"Closed ""shop""".price', 'update', '{id}') as run_id \gset
select sqlkit.create_stage('"Closed ""shop""".price', p_run_id => :run_id);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.as_admin(pg_catalog.format('revoke all on schema sqlkit_stage from %I', :'role'));
select set_config('role', :'role', true);

select throws_ok($$select '"Closed ""shop""".price'::regclass$$, '42501', null, 'he has none');
select is(
    (select p.target from sqlkit.run_progress as p), '"Closed ""shop""".price', 'a run and its stage'
);
select is(
    (
        select m.value from sqlkit.collect_metrics() as m
        where m.name = 'sqlkit_storage_bytes' and m.labels ->> 'part' = 'index'
    ), 16384::double precision, 'storage of its target'
);
select isnt_empty(
    $$select from sqlkit.find_problems(8192) as p where p.relation like '"Closed%'
    union all select from sqlkit.plan_maintenance() as p where p.relation like '"Closed%'
    union all select from sqlkit.storage union all select from sqlkit.bloat union all select from sqlkit.dead_rows
    union all select from sqlkit.waiting_lock union all select from sqlkit.slow_batch$$,
    'and all else that is to be seen'
);
reset role;

select * from finish();
rollback;
