begin;
select plan(7);

select sqlkit_test.create_schema('Other');
create table "Other"."Item" (id integer primary key);
insert into "Other"."Item" values (1);

select sqlkit.start_run('load', '"Other"."Item"', 'update', '{id}', '{"again": true}', 'host:1') as run \gset
select is((select run_id from sqlkit.run), :run::bigint, 'its id comes back');
select results_eq(
    'select kind, target, policy, key_columns, options, client, state from sqlkit.run',
    $$values (
        'load', '"Other"."Item"', 'update', '{id}'::name[], '{"again": true}'::jsonb, 'host:1', 'running'
    )$$,
    'what was said is kept'
);
select ok(
    (
        select
            bytes_before = pg_total_relation_size('"Other"."Item"')
            and database_user = current_user
            and finished_at is null
            and started_at <= heartbeat_at
            and server_version = current_setting('server_version')
        from sqlkit.run
    ),
    'and what is known'
);
select lives_ok($$select sqlkit.start_run('merge', '"Other"."Item"')$$, 'most need not be said');
select throws_ok($$select sqlkit.start_run('other', '"Other"."Item"')$$, '23514', null, 'another kind');
select throws_ok($$select sqlkit.start_run('load', null)$$, '23502', null, 'no target');

update sqlkit.run set heartbeat_at = '2000-01-01';
select sqlkit.touch_run(max(run_id)) from sqlkit.run;
select is(
    (
        select count(*) from sqlkit.run
        where heartbeat_at > '2001-01-01'
    ), 1::bigint, 'touch_run says that it is alive'
);

select * from finish();
rollback;
