begin;
select plan(9);

create table item (id integer primary key);
create function pg_temp.record(p_source bigint, p_from bigint, p_to bigint, p_is_last boolean)
returns bigint
language sql
begin atomic
    select sqlkit.record_batch(
        (select max(run_id) from sqlkit.run),
        p_source,
        row(p_from, p_to, 1, 2, 0, null, p_is_last)::sqlkit.source_range,
        row(0, 0, 0, 0, 0, 0, 0)::sqlkit.row_counts
    );
end;
select sqlkit.start_run('load', 'item') as run \gset
select source_id as first from sqlkit.open_source('item', 's', 'mysql', null, 'hash 1') \gset
select source_id as second from sqlkit.open_source('item', 's', 'mysql', null, 'hash 2') \gset
select source_id as third from sqlkit.open_source('item', 's', 'mysql', null, 'hash 3') \gset

select sqlkit.note_watermark(:first, 's', 'at', null, '5');
select sqlkit.note_watermark(:second, 's', 'at', null, '6');
select pg_temp.record(:first, 0, 10, false);
select is(sqlkit.find_watermark('item', 's', 'at'), null, 'not before the last rows');
select pg_temp.record(:first, 10, 20, true);
select is(sqlkit.find_watermark('item', 's', 'at'), '5', 'with the last rows');
select throws_ok(
    pg_catalog.format('select pg_temp.record(%s, 0, 20, true)', :second),
    'SK411',
    'the watermark was moved by somebody else',
    'two that began from the beginning'
);
select is(sqlkit.find_watermark('item', 's', 'at'), '5', 'the second does not move it');
select is(
    (
        select state from sqlkit.source
        where source_id = :second
    ), 'loading', 'and is not loaded'
);

select sqlkit.note_watermark(:second, 's', 'at', '5', '7');
select sqlkit.note_watermark(:third, 's', 'at', '5', '5');
select pg_temp.record(:second, 0, 20, true);
select is(sqlkit.find_watermark('item', 's', 'at'), '7', 'noted once more, from where it stands');
select throws_ok(
    pg_catalog.format('select pg_temp.record(%s, 0, 20, true)', :third), 'SK411', null, 'moved meanwhile'
);
select sqlkit.note_watermark(:third, 's', 'at', '7', '7');
select lives_ok(pg_catalog.format('select pg_temp.record(%s, 0, 20, true)', :third), 'nothing was newer');
select is(sqlkit.find_watermark('item', 's', 'at'), '7', 'so that it stays');

select * from finish();
rollback;
