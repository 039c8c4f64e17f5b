begin;
select plan(4);

create table item (id integer primary key);
select source_id as first from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a') \gset
update sqlkit.source set state = 'loaded', loaded_at = now();

select is(sqlkit.forget_sources('item'), 1::bigint, 'those of the target are forgotten');
select is(sqlkit.forget_sources('item'), 0::bigint, 'once');
select results_eq(
    $$select state, next_offset from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a')$$,
    $$values ('loading', 0::bigint)$$,
    'the same content is a new source'
);
select results_eq(
    format('select name, state from sqlkit.source where source_id = %s', :first),
    $$values ('a.csv', 'loaded')$$,
    'what was loaded stays in the ledger'
);

select * from finish();
rollback;
