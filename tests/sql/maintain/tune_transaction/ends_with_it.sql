begin;
select plan(6);

create temporary table before as
select
    s.name,
    s.setting::bigint as kilobytes
from pg_catalog.pg_settings as s
where s.name in ('work_mem', 'maintenance_work_mem');
select throws_ok(
    $$do 'begin perform sqlkit.tune_transaction(); raise exception ''undone''; end'$$, 'P0001', null, 'rolled back'
);
select results_eq(
    $$select s.name, s.setting::bigint from pg_catalog.pg_settings as s
    where s.name in ('work_mem', 'maintenance_work_mem') order by s.name$$,
    'select b.name, b.kilobytes from before as b order by b.name',
    'nothing is left of it'
);
select sqlkit.tune_transaction('off');
select is(current_setting('synchronous_commit'), 'off', 'how its commit waits');
select ok(
    pg_catalog.pg_size_bytes(current_setting('work_mem'))
    >= pg_catalog.pg_size_bytes(current_setting('shared_buffers')) / 4,
    'memory for sorts'
);
select cmp_ok(
    (
        select s.setting::bigint
        from pg_catalog.pg_settings as s
        where s.name = 'maintenance_work_mem'
    ),
    '>=',
    (
        select b.kilobytes
        from before as b
        where b.name = 'maintenance_work_mem'
    ),
    'never less than there was'
);
select throws_ok($$select sqlkit.tune_transaction('perhaps')$$, '22023', null, 'another word');

select * from finish();
rollback;
