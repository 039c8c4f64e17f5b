-- A call that loads sources once more, and is broken off between two of them: the same call goes on.
begin;
select plan(8);

create table item (id integer primary key);
create function pg_temp.is_loaded(p_call text default 'c') returns boolean language sql
as $$ select state = 'loaded' from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', true, null, p_call) $$;

select sqlkit.start_run('load', 'item', 'append', null, '{"call": "c"}') as plain \gset
select source_id as first from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a') \gset
insert into sqlkit.batch (run_id, source_id, start_offset, end_offset, rows_read)
values (:plain, :first, 0, 9, 0);
update sqlkit.source set state = 'loaded', loaded_at = now()
where source_id = :first;
select is(pg_temp.is_loaded(), false, 'what was loaded for the first time is begun anew');

select sqlkit.start_run('load', 'item', 'append', null, '{"again": true, "call": "c"}') as again \gset
insert into sqlkit.batch (run_id, rows_read) values (:again, 0)
returning batch_id as batch \gset
insert into sqlkit.batch_part (batch_id, source_id, first_line, last_line, start_offset, end_offset, rows_read)
select
    :batch,
    source_id,
    1,
    2,
    0,
    9,
    0
from sqlkit.source
where generation = 2;
update sqlkit.source set state = 'loaded', loaded_at = now()
where generation = 2;
select is(pg_temp.is_loaded(), true, 'not what this very run did, or one beside it');
select sqlkit.start_run('load', 'item', 'append', null, '{"again": true, "call": "d"}') as other \gset
select sqlkit.finish_run(:other);
select is(pg_temp.is_loaded(), true, 'whatever else is loaded meanwhile');
select sqlkit.finish_run(:again, '57014', 'killed');
select is(pg_temp.is_loaded(), true, 'nor what one that was broken off did');

select sqlkit.start_run('load', 'item', 'append', null, '{"again": true, "call": "c"}') as rest \gset
select is(pg_temp.is_loaded(), true, 'while the same call goes on');
select sqlkit.finish_run(:rest);
select is(pg_temp.is_loaded(), false, 'once that ended well, all is begun anew');


-- Last, since what is begun here is the newest.
update sqlkit.run set state = 'failed'
where run_id = :rest;
update sqlkit.source set state = 'loaded', loaded_at = now()
where state = 'loading';
insert into sqlkit.batch (run_id, source_id, start_offset, end_offset, rows_read)
select
    :rest,
    max(source_id),
    0,
    9,
    0
from sqlkit.source;
select is(pg_temp.is_loaded(), true, 'broken off once more');
select is(pg_temp.is_loaded('d'), false, 'another call begins anew');

select * from finish();
rollback;
