-- The procedure stages a query, refreshes, and clears up. What it commits is tested elsewhere.
begin;
select plan(7);

create table item (id integer primary key, name text);
create table feed as select
    i as id,
    'n' || i as name
from generate_series(1, 5) as i;

call sqlkit.refresh('item', 'select * from feed', p_strategy => 'mirror');
select is((select count(*) from item), 5::bigint, 'from a query');
call sqlkit.refresh('item', 'select * from feed where id <> 2', p_delete_share => 0.2);
select results_eq(
    'select policy, state, rows_deleted from sqlkit.run_summary order by run_id desc limit 1',
    $$values ('mirror', 'done', 1::bigint)$$,
    'auto is told as what it chose'
);
select matches(
    (select string_agg(array_to_string(reasons, ' '), '') from sqlkit.run), 'small_rows', 'with the reasons'
);
select sqlkit.create_stage('item', p_name => 'item_today');
insert into sqlkit_stage.item_today values (1, 'one');
call sqlkit.refresh('item', p_stage => 'sqlkit_stage.item_today', p_delete_share => 1);
select results_eq('select * from item', $$values (1, 'one')$$, 'from a stage');
select is((select pg_catalog.array_agg(name::text) from sqlkit.stage), array['item_today'], 'which stays');
select throws_ok(
    $$call sqlkit.refresh('feed', p_stage => 'sqlkit_stage.item_today')$$, 'SK208', null, 'if it is one of the target'
);
select throws_ok(
    $$call sqlkit.refresh('item', 'select * from feed', p_strategy => 'swap')$$,
    '2D000',
    null,
    'a swap commits, and cannot be part of a transaction'
);

select * from finish();
rollback;
