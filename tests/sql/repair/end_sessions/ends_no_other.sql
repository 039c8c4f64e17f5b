begin;
select plan(2);

select is(
    sqlkit.end_sessions(array[pg_backend_pid()], array[(pg_stat_get_activity(pg_backend_pid())).backend_start]),
    0::bigint,
    'not this one'
);
select is(
    (
        select sqlkit.end_sessions(array_agg(a.pid), array_agg(a.backend_start - interval '1 second'))
        from pg_catalog.pg_stat_activity as a
    ),
    0::bigint,
    'not a process that has the id, but began at another time'
);

select * from finish();
rollback;
