-- A raw table fills in where its rows come from, and tells which of them have changed.
begin;
select plan(8);

select is(sqlkit.create_raw_table('public.feed')::text, 'feed', 'made');
select columns_are(
    'public', 'feed',
    array['raw_data', 'source_file', 'run_id', 'loaded_at', 'updated_at', 'changed_in'],
    'with what tells where a row came from'
);
insert into feed (raw_data) values ('{"a": 1}');
select
    pg_catalog.set_config('sqlkit.source_file', 'day.csv', true),
    pg_catalog.set_config('sqlkit.run_id', '7', true);
insert into feed (raw_data) values ('{"a": 2}');
select results_eq(
    'select source_file, run_id from feed order by raw_data',
    $$values (null, null), ('day.csv', 7::bigint)$$,
    'the settings say it, where there are some'
);
select ok(bool_and(loaded_at = now() and updated_at = now()), 'and when') from feed;
update feed set raw_data = '{"a": 3}'
where run_id = 7;
select ok(
    bool_and(updated_at > loaded_at and changed_in = pg_current_xact_id()), 'a change is noted'
) from feed
where run_id = 7;
select throws_ok($$select sqlkit.create_raw_table('feed')$$, 'SK201', null, 'a name without schema');
select throws_ok($$select sqlkit.create_raw_table('nowhere.feed')$$, '3F000', null, 'no such schema');
select throws_ok($$select sqlkit.create_raw_table('public.feed')$$, '42P07', null, 'there already');

select * from finish();
rollback;
