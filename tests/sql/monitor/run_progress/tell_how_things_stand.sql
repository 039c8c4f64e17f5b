-- What the views of monitoring say of a run that goes on, of one that ended, and of their table.
begin;
select plan(14);

create table price (id integer primary key, note text);
select sqlkit.start_run('load', 'price', 'update', '{id}', p_client => 'here:1') as run_id \gset

create function pg_temp.record(p_run_id bigint, p_rows bigint, p_seconds double precision)
returns bigint
language sql
return sqlkit.record_batch(
    p_run_id, null, row(0, 100, 1, 10, 100, null, false)::sqlkit.source_range,
    row(p_rows, p_rows, 0, 0, 0, 0, 0)::sqlkit.row_counts, 0.1, p_seconds, 0
);

select pg_temp.record(:run_id, 1000, 1);
select results_eq(
    $$select run_id, kind, target, rows_committed, rows_per_second > 0, seconds >= 0, client from sqlkit.run_progress$$,
    format($$values (%s::bigint, 'load', 'public.price', 1000::bigint, true, true, 'here:1')$$, :run_id),
    'a run that goes on'
);
select matches(
    (select p.doing from sqlkit.run_progress as p), '^select', 'and what the server does for it'
);
select is(
    (select count(distinct m.minute_at) from sqlkit.rows_per_minute as m), 60::bigint, 'an hour has sixty minutes'
);
select results_eq(
    $$select sum(rows_read), sum(rows_written), count(*) from sqlkit.rows_per_minute where target is not null$$,
    $$values (1000::numeric, 1000::numeric, 1::bigint)$$,
    'in one of them rows came'
);
select is_empty('select from sqlkit.run_speed', 'it has no speed before it ended');
select is_empty('select from sqlkit.slow_batch', 'one batch alone is not slow');
select pg_temp.record(:run_id, 1000, 1.1);
select pg_temp.record(:run_id, 1000, 5) as slow_batch_id \gset
select pg_temp.record(:run_id, 0, 5);
select results_eq(
    'select batch_id, rows_read from sqlkit.slow_batch',
    format('values (%s::bigint, 1000::bigint)', :slow_batch_id),
    'one that took five times as long as others is'
);

insert into sqlkit.reject (run_id, first_line, raw, sqlstate, message)
select
    :run_id,
    k,
    'secret',
    '22P02',
    'bad'
from generate_series(1, 3) as k;
select results_eq(
    'select run_id, target, rejects from sqlkit.open_reject',
    format($$values (%s::bigint, 'public.price', 3::bigint)$$, :run_id),
    'open rejects are counted'
);
select sqlkit.finish_run(:run_id);
select is_empty('select from sqlkit.run_progress', 'a run that ended does not go on');

insert into price select
    k,
    repeat('x', 100)
from generate_series(1, 1000) as k;
select results_eq(
    $$select total_bytes = heap_bytes + index_bytes + toast_bytes
        + pg_table_size('price'::regclass) - pg_relation_size('price'::regclass) - toast_bytes,
    indexes ? 'price_pkey', heap_bytes >= 106496
    from sqlkit.storage where table_name = 'price'::regclass$$,
    'values (true, true, true)',
    'storage by part'
);
select is(
    (
        select count(*) from sqlkit.dead_rows as d
        where d.table_name = 'price'::regclass
    ), 1::bigint,
    'dead rows of each table'
);
select is_empty('select from sqlkit.waiting_lock', 'nobody waits here');

-- A reader sees all of it, and no row.
select sqlkit_test.create_plain_role() as role \gset
select throws_ok(
    format('set local role %I; select * from sqlkit.run_progress', :'role'), '42501', null, 'not everybody may look'
);
reset role;
select ok(
    not exists (
        select
        from pg_catalog.pg_attribute as a
        where a.attrelid = 'sqlkit.open_reject'::regclass and a.attname in ('raw', 'message')
    ),
    'the view of rejects holds nothing of a row'
);

select * from finish();
rollback;
