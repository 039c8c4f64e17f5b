begin;
select plan(7);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as done \gset
select sqlkit.start_run('load', 'item') as failed \gset
select sqlkit.start_run('load', 'item') as orphan \gset
insert into item values (1);

select sqlkit.finish_run(:done, p_wal_bytes => 17);
select sqlkit.finish_run(:failed, '22P02', 'a bad number');
select results_eq(
    $$select state, error_code, error_message, wal_bytes from sqlkit.run where state <> 'running' order by run_id$$,
    $$values ('done', null, null, 17::bigint), ('failed', '22P02', 'a bad number', null)$$,
    'done or failed'
);
select ok(
    (
        select bool_and(bytes_after > bytes_before and finished_at >= started_at) from sqlkit.run
        where state <> 'running'
    ),
    'with its size and time'
);
select throws_ok(
    format('select sqlkit.finish_run(%s)', :done), 'SK401', 'there is no such run', 'only once'
);
select throws_ok('select sqlkit.finish_run(-1)', 'SK401', null, 'an unknown run');
select sqlkit.touch_run(:done);
select ok(
    (
        select heartbeat_at <= finished_at from sqlkit.run
        where run_id = :done
    ), 'a closed run is not touched any more'
);

drop table item;
select lives_ok(format('select sqlkit.finish_run(%s)', :orphan), 'the target may be gone');
select is(
    (
        select bytes_after from sqlkit.run
        where run_id = :orphan
    ), null, 'then its size is unknown'
);

select * from finish();
rollback;
