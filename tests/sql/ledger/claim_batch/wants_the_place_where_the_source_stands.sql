begin;
select plan(6);

create table item (id integer primary key);
select source_id as source from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a') \gset

select lives_ok(format('select sqlkit.claim_batch(%s, 0)', :source), 'at the beginning');
select throws_ok(
    format('select sqlkit.claim_batch(%s, 10)', :source),
    'SK402',
    'another process has loaded this part of the source',
    'ahead of it'
);
update sqlkit.source set next_offset = 500
where source_id = :source;
select throws_ok(format('select sqlkit.claim_batch(%s, 0)', :source), 'SK402', null, 'behind it');

create function pg_temp.told(p_source_id bigint)
returns text
language plpgsql
as $told$
declare
    v_detail text;
begin
    perform sqlkit.claim_batch(p_source_id, 0);
    return null;
exception
    when sqlstate 'SK402' then
        get stacked diagnostics v_detail = pg_exception_detail;
        return v_detail;
end;
$told$;
select is(pg_temp.told(:source), '500', 'the detail is where it stands');
update sqlkit.source set state = 'loaded', loaded_at = now()
where source_id = :source;
select throws_ok(format('select sqlkit.claim_batch(%s, 500)', :source), 'SK402', null, 'one that is loaded');
select throws_ok('select sqlkit.claim_batch(-1, 0)', 'SK402', null, 'one that is not there');

select * from finish();
rollback;
