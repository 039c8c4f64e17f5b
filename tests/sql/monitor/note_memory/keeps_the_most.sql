begin;
select plan(3);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
select sqlkit.note_memory(:run, 200);
select is((select client_peak_bytes from sqlkit.run), 200::bigint, 'what it took');
select sqlkit.note_memory(:run, 100);
select is((select client_peak_bytes from sqlkit.run), 200::bigint, 'the most of all');
select lives_ok('select sqlkit.note_memory(-1, 100)', 'a run that is not there takes none');

select * from finish();
rollback;
