-- Who really waits is seen by tests with two sessions.
begin;
select plan(2);

create table item (id integer primary key);
lock table item in access exclusive mode;
select is_empty(
    $$select from sqlkit.waiting_lock where pid = pg_backend_pid()$$, 'who has what he wants waits for nothing'
);
select set_eq(
    $$select attname::text from pg_catalog.pg_attribute
    where attrelid = 'sqlkit.waiting_lock'::regclass and attnum > 0$$,
    array['pid', 'user_name', 'waits_for', 'mode', 'seconds', 'blocked_by', 'run_id', 'query'],
    'it says who waits for what and for whom'
);

select * from finish();
rollback;
