begin;
select plan(12);

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
