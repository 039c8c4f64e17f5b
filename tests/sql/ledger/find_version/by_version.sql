begin;
select plan(6);

create table item (id integer primary key);
create table "Ödd ""ones" (id integer primary key);

select source_id as first from sqlkit.open_source('item', 's3://b/a.csv', 'csv', 100, 'hash a') \gset
select is(sqlkit.find_version('item', 'v1'), null, 'nothing is known yet');
select sqlkit.note_version(:first, 'v1');
select is(sqlkit.find_version('item', 'v1'), 'hash a', 'known by its version');
select is(sqlkit.find_version('"Ödd ""ones"', 'v1'), null, 'not for another target');
select is(sqlkit.find_version('item', 'v2'), null, 'nor by another version');

select source_id as second from sqlkit.open_source('"Ödd ""ones"', 's3://b/a.csv', 'csv', 100, 'hash a') \gset
select sqlkit.note_version(:second, 'v1');
select is(sqlkit.find_version('"Ödd ""ones"', 'v1'), 'hash a', 'one version for two targets');

select sqlkit.forget_sources('item');
select is(sqlkit.find_version('item', 'v1'), null, 'what was forgotten is not known by its version either');

select * from finish();
rollback;
