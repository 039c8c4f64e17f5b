begin;
select plan(7);

create table price (id integer primary key);
select sqlkit.start_run('load', 'price', 'update', '{id}') as run_id \gset

select results_eq(
    format('select r.backend_pid, r.is_direct from sqlkit.run as r where r.run_id = %s', :run_id),
    'values (pg_backend_pid(), null::boolean)',
    'who starts a run is known, though not how'
);
select ok(sqlkit.attach_run(:run_id, pg_backend_pid()), 'it is there');
select is(
    (
        select r.is_direct
        from sqlkit.run as r
        where r.run_id = :run_id
    ),
    true,
    'nothing stands between'
);
select ok(sqlkit.attach_run(:run_id, 1), 'by way of a proxy');
select is(
    (
        select r.is_direct
        from sqlkit.run as r
        where r.run_id = :run_id
    ),
    false,
    'something stands between'
);

select sqlkit.finish_run(:run_id, 'SK403', 'taken for dead');
select sqlkit.attach_run(:run_id, pg_backend_pid());
select results_eq(
    format(
        'select r.state, r.finished_at, r.error_code, r.error_message from sqlkit.run as r where r.run_id = %s', :run_id
    ),
    $$values ('running', null::timestamptz, null, null)$$,
    'who was taken for dead may come back'
);
select ok(not sqlkit.attach_run(-1), 'there is no such run');

select * from finish();
rollback;
