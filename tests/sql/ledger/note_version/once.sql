begin;
select plan(3);

create table item (id integer primary key);

select source_id as first from sqlkit.open_source('item', 's3://b/a.csv', 'csv', 100, 'hash a') \gset
select sqlkit.note_version(:first, 'v1');
select sqlkit.note_version(:first, 'v1');
select sqlkit.note_version(:first, 'v2');
select results_eq(
    'select source_id, version from sqlkit.source_version order by version',
    format($$values (%s::bigint, 'v1'), (%s, 'v2')$$, :first, :first),
    'each version once'
);
select throws_ok(
    'select sqlkit.note_version(-1, ''v1'')', '23503', null, 'a source that there is not'
);
select sqlkit_test.as_admin(pg_catalog.format('delete from sqlkit.source where source_id = %s', :first));
select is_empty('select * from sqlkit.source_version', 'gone with its source');

select * from finish();
rollback;
