-- A call that loads sources once more, and is broken off between two of them: the same call goes on.
begin;
select plan(5);

create table item (id integer primary key);
create function pg_temp.is_loaded() returns boolean language sql
as $$ select state = 'loaded' from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', true) $$;

select sqlkit.start_run('load', 'item', 'append', null, '{"again": false}') as plain \gset
select source_id as first from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a') \gset
insert into sqlkit.batch (run_id, source_id, start_offset, end_offset, rows_read)
values (:plain, :first, 0, 9, 0);
update sqlkit.source set state = 'loaded', loaded_at = now()
where source_id = :first;
select is(pg_temp.is_loaded(), false, 'what another run loaded is begun anew');

select sqlkit.start_run('load', 'item', 'append', null, '{"again": true}') as again \gset
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
select sqlkit.finish_run(:again, '57014', 'killed');
select is(pg_temp.is_loaded(), true, 'nor one that was broken off');

select sqlkit.start_run('load', 'item', 'append', null, '{"again": true}') as rest \gset
select is(pg_temp.is_loaded(), true, 'while the same call goes on');
select sqlkit.finish_run(:rest);
select is(pg_temp.is_loaded(), false, 'once that ended well, all is begun anew');

select * from finish();
rollback;
