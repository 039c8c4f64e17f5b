begin;
select plan(4);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
select sqlkit.start_run('load', 'item') as other \gset
update sqlkit.run set heartbeat_at = '2000-01-01';

select lives_ok(format('select sqlkit.touch_run(%s)', :run), 'a run that is under way');
select results_eq(
    $$select run_id from sqlkit.run where heartbeat_at > now() - interval '1 minute'$$,
    format('values (%s::bigint)', :run),
    'was heard of just now, and no other'
);
select sqlkit.finish_run(:run);
update sqlkit.run set heartbeat_at = '2000-01-01';
select sqlkit.touch_run(:run);
select is_empty(
    $$select from sqlkit.run where heartbeat_at > '2001-01-01'$$, 'one that is closed stays as it was'
);
select lives_ok('select sqlkit.touch_run(-1)', 'one that is not there is no error: it may have been cleared away');

select * from finish();
rollback;
