-- A transform sees the rows that other transactions have changed since it was applied last.
begin;
select plan(16);

select sqlkit.create_raw_table('public.feed');
create table price (item text primary key, price numeric(10, 2), stored_in bigint);
-- What this transaction writes itself is left for the next time: the test lets others have written it.
alter table feed disable trigger sqlkit_follow_changes;
alter table feed alter column changed_in set default '3';

create function pg_temp.apply(
    p_full boolean default false, p_policy text default 'update', p_name text default ''
)
returns text
language sql
return (
    select string_agg(pg_catalog.format('%s %s', c.value, replace(c.key, 'rows_', '')), ', ')
    from
        json_each_text(row_to_json(sqlkit.apply_transform(
            'feed',
            'price',
            'select raw_data ->> ''item'' as item, (raw_data ->> ''price'')::numeric as price, '
            'pg_catalog.current_setting(''sqlkit.run_id'')::bigint as stored_in '
            'from pg_temp.sqlkit_changed order by raw_data ->> ''day''',
            p_policy,
            p_name => p_name,
            p_full => p_full
        ))) as c
    where c.value <> '0'
);

-- Forgets what was seen of one transaction, as if it had committed since.
create function pg_temp.unsee(p_transaction text)
returns void
language sql
as $unsee$
    update sqlkit.transform
    set changes_seen = pg_catalog.format(
        '%s:%s:%s', p_transaction, pg_snapshot_xmax(changes_seen), p_transaction
    )::pg_snapshot;
$unsee$;

insert into feed (raw_data)
values ('{"item": "a", "price": "1.5", "day": 1}'), ('{"item": "b", "price": "2", "day": 1}'),
('{"item": "a", "price": "1.7", "day": 2}');
select is(pg_temp.apply(), '3 source, 3 read, 2 inserted, 1 duplicate', 'all of them at first');
select results_eq(
    'select item, price from price order by item', $$values ('a', 1.70), ('b', 2.00)$$, 'the last of each counts'
);
select is(pg_temp.apply(), null, 'nothing has changed');
select results_eq(
    'select kind, target, rows_inserted, state from sqlkit.run_summary order by run_id',
    $$values ('transform', 'public.price', 2::bigint, 'done'), ('transform', 'public.price', 0, 'done')$$,
    'both are in the ledger'
);
select ok(stored_in is not null, 'the query may ask for its run') from price
where item = 'a';

insert into feed (raw_data, changed_in) values ('{"item": "c", "price": "3", "day": 1}', '4');
select is(pg_temp.apply(), null, 'what was seen is not seen again');
select pg_temp.unsee('4');
select is(pg_temp.apply(), '1 source, 1 read, 1 inserted', 'a transaction that was open then is not missed');
-- Where nobody else writes the next transaction to come would be this one.
update feed set
    raw_data = '{"item": "c", "price": "4"}',
    changed_in = (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1000)::text::xid8
where raw_data ->> 'item' = 'c';
select is(pg_temp.apply(), null, 'one that is open now is left for the next time');

select is(
    pg_temp.apply(p_full => true),
    '4 source, 4 read, 3 updated, 1 duplicate',
    'a full one looks at all rows'
);
select is(
    pg_temp.apply(p_name => 'other'), '4 source, 4 read, 3 updated, 1 duplicate', 'each has a watermark of its own'
);

update sqlkit.transform set changes_seen = '9000000000000:9000000000000:'
where name = '';
select is(
    pg_temp.apply(), '4 source, 4 read, 3 updated, 1 duplicate',
    'what another cluster has seen means nothing here'
);

select throws_ok($$select pg_temp.apply(true, 'odd')$$, 'SK206', null, 'no such policy');

-- Whatever goes wrong, the watermark stays where it is.
insert into feed (raw_data, changed_in) values ('{"item": "d", "price": "much"}', '4');
select pg_temp.unsee('4');
create temporary table known as
select changes_seen::text from sqlkit.transform;
select throws_ok('select pg_temp.apply()', '22P02', null, 'a value that is none');
select results_eq(
    'select changes_seen::text from sqlkit.transform', 'select changes_seen from known', 'nothing counts as seen'
);
select throws_ok(
    $$select sqlkit.apply_transform('price', 'feed', 'select 1')$$, 'SK220', null, 'a source that is not followed'
);
select throws_ok(
    $$select sqlkit.apply_transform('feed', 'price', 'select 1 as amount')$$, 'SK204', null, 'no such column'
);

select * from finish();
rollback;
