begin;
select plan(1);

select throws_ok($$select sqlkit.unschedule_maintenance()$$, 'SK701', null, 'without pg_cron');

select * from finish();
rollback;
