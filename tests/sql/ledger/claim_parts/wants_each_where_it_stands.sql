begin;
select plan(6);

create table public.item (id integer primary key);
select source_id as first from sqlkit.open_source('public.item', 'a.csv', 'csv', 100, 'hash a') \gset
select source_id as second from sqlkit.open_source('public.item', 'b.csv', 'csv', 100, 'hash b') \gset

create function pg_temp.claim(p_first bigint, p_second bigint, p_offset bigint)
returns void
language sql
begin atomic
    select sqlkit.claim_parts(pg_catalog.jsonb_build_array(
        pg_catalog.jsonb_build_object('source_id', p_first, 'start_offset', 0),
        pg_catalog.jsonb_build_object('source_id', p_second, 'start_offset', p_offset)
    ));
end;

select lives_ok(pg_catalog.format('select pg_temp.claim(%s, %s, 0)', :first, :second), 'all at their beginning');
select throws_ok(
    pg_catalog.format('select pg_temp.claim(%s, %s, 10)', :first, :second),
    'SK402',
    'another process has loaded this part of the source',
    'ahead of one'
);
select throws_ok(pg_catalog.format('select pg_temp.claim(%s, -1, 0)', :first), 'SK402', null, 'one that is not there');
update sqlkit.source set next_offset = 5
where source_id = :second;
select throws_ok(pg_catalog.format('select pg_temp.claim(%s, %s, 0)', :first, :second), 'SK402', null, 'behind one');
select lives_ok(pg_catalog.format('select pg_temp.claim(%s, %s, 5)', :first, :second), 'each has an offset of its own');
update sqlkit.source set state = 'loaded', loaded_at = pg_catalog.now()
where source_id = :first;
select throws_ok(
    pg_catalog.format('select pg_temp.claim(%s, %s, 5)', :first, :second), 'SK402', null, 'one that is loaded'
);

select * from finish();
rollback;
