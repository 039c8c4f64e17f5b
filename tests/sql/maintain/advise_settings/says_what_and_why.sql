begin;
select plan(15);

create temporary table advice as
select a.*
from sqlkit.advise_settings(17179869184, 8, 'ssd') as a;
select ok((select count(*) > 15 from advice), 'settings');
select
    is((
        select count(*) from advice
        where why = '' or rule_source = '' or advised is null
    ), 0::bigint, 'each with a reason');
select is((
    select advised from advice
    where name = 'shared_buffers'
), '4096MB', 'a quarter of the memory');
select is((
    select is_met from advice
    where name = 'shared_buffers'
), false, 'which the tests'' server has not');
select is((
    select needs_restart from advice
    where name = 'shared_buffers'
), true, 'a restart is needed');
select is((
    select needs_restart from advice
    where name = 'work_mem'
), false, 'or not');
select is((
    select is_met from advice
    where name = 'autovacuum'
), true, 'what is as it should be');
select is(
    (
        select count(*) from sqlkit.advise_settings() as a
        where a.name in ('shared_buffers', 'work_mem', 'max_parallel_workers')
    ),
    0::bigint,
    'nothing by memory and cores that nobody knows'
);
select is(
    (
        select count(*) from sqlkit.advise_settings(p_storage => 'hdd') as a
        where a.name = 'random_page_cost'
    ),
    0::bigint,
    'nor by the storage of others'
);
select results_eq(
    $$select a.name, a.advised from sqlkit.advise_settings(p_storage => 'hdd') as a
    where a.name = 'effective_io_concurrency'
    union all
    select a.name, a.advised from advice as a where a.name in ('effective_io_concurrency', 'random_page_cost')$$,
    $$values ('effective_io_concurrency', '2'), ('random_page_cost', '1.1'), ('effective_io_concurrency', '200')$$,
    'a disk that turns takes few reads at once, flash many, wherever they are'
);
select is(
    (
        select a.advised from sqlkit.advise_settings(pg_catalog.pg_size_bytes('64 GB'), 8) as a
        where a.name = 'maintenance_work_mem'
    ),
    case when current_setting('server_version_num')::integer < 170000 then '1024MB' else '2048MB' end,
    'what VACUUM can use of the memory depends on the version'
);
select is(
    (
        select a.advised from advice as a
        where a.name = 'wal_compression'
    ),
    (
        select case when 'lz4' = any(s.enumvals) then 'lz4' else 'pglz' end from pg_catalog.pg_settings as s
        where s.name = 'wal_compression'
    ),
    'what the server was built with counts'
);
-- What is advised is a value that the setting takes, and is then met.
select set_config(a.name, a.advised, true)
from advice as a
where
    a.name in (
        'work_mem',
        'maintenance_work_mem',
        'random_page_cost',
        'effective_io_concurrency',
        'max_parallel_workers_per_gather'
    );
select is(
    (
        select count(*)
        from sqlkit.advise_settings(17179869184, 8, 'ssd') as a
        where
            a.name in (
                'work_mem', 'maintenance_work_mem', 'random_page_cost', 'effective_io_concurrency',
                'max_parallel_workers_per_gather'
            )
            and a.is_met
    ),
    5::bigint,
    'followed, it is met'
);
select set_config('work_mem', '64kB', true);
select is(
    (
        select a.is_met from sqlkit.advise_settings(17179869184, 8) as a
        where a.name = 'work_mem'
    ),
    false,
    'and not when it is not'
);
select throws_ok($$select sqlkit.advise_settings(p_storage => 'tape')$$, '22023', null, 'no such storage');

select * from finish();
rollback;
