begin;
select plan(13);

create table item (id integer primary key);
create table other (id integer primary key);

select source_id as first from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a') \gset
select results_eq(
    'select target, name, format, size_bytes, fingerprint, generation, state, next_offset, next_line '
    'from sqlkit.source',
    $$values ('public.item', 'a.csv', 'csv', 100::bigint, 'hash a', 1, 'loading', 0::bigint, 1::bigint)$$,
    'a new one'
);
select is(
    (sqlkit.open_source('item', 'renamed.csv', 'csv', 100, 'hash a')).source_id,
    :first::bigint,
    'the same content under another name is the same'
);
select isnt(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash b')).source_id,
    :first::bigint,
    'another content under the same name is not'
);
select isnt(
    (sqlkit.open_source('other', 'a.csv', 'csv', 100, 'hash a')).source_id,
    :first::bigint,
    'nor the same content for another target'
);
select is(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', true)).source_id,
    :first::bigint,
    'once more: what is half loaded goes on'
);

update sqlkit.source set state = 'loaded', loaded_at = now()
where source_id = :first;
select is(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a')).state, 'loaded', 'what was loaded says so'
);
select source_id as second from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', true) \gset
select results_eq(
    format('select generation, state, next_offset from sqlkit.source where source_id = %s', :second),
    $$values (2, 'loading', 0::bigint)$$,
    'once more: from the beginning'
);
select is(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a')).source_id,
    :second::bigint,
    'the newest is meant from now on'
);
select is(
    (
        select state from sqlkit.source
        where source_id = :first
    ), 'loaded', 'the first stays as it was'
);

-- What can be read only once has no fingerprint and is always new.
select source_id as stream from sqlkit.open_source('item', '-', 'csv') \gset
select isnt(
    (sqlkit.open_source('item', '-', 'csv')).source_id, :stream::bigint, 'a stream is never known'
);
select is(
    (
        select count(*) from sqlkit.source
        where name = '-' and generation = 1
    ), 2::bigint, 'nor does it count up'
);
select throws_ok($$select sqlkit.open_source(null, 'a.csv', 'csv')$$, '23502', null, 'no target');
select throws_ok($$select sqlkit.open_source('item', null, 'csv')$$, '23502', null, 'no name');

select * from finish();
rollback;
