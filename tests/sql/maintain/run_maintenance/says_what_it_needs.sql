begin;
select plan(1);

select throws_ok($$call sqlkit.run_maintenance()$$, 'SK701', null, 'without pg_cron');

select * from finish();
rollback;
