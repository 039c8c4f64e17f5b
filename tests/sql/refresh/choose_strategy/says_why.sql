-- Auto measures, and each threshold is a row of a table.
begin;
select plan(27);

create table item (id integer primary key, name text);
insert into item select
    i,
    'n' || i
from generate_series(1, 2000) as i;
analyze item;
create function pg_temp.chosen(p_query text, p_scope name[] default null, p_target text default 'public.item')
returns text
language plpgsql
as $chosen$
declare
    v_stage regclass := sqlkit.stage_query(p_target::regclass, p_query);
    v_strategy text;
    v_reasons text[];
begin
    select c.strategy, c.reasons
    into v_strategy, v_reasons
    from sqlkit.choose_strategy(v_stage, p_scope) as c;
    perform sqlkit.drop_stage(v_stage);
    perform set_config('sqlkit_test.reasons', array_to_string(v_reasons, E'\n'), true);
    return v_strategy;
end;
$chosen$;

select is(pg_temp.chosen('select * from item'), 'mirror', 'a small table is mirrored');
select matches(current_setting('sqlkit_test.reasons'), 'at most 20000 rows \(small_rows\)', 'and it says so');
select matches(current_setting('sqlkit_test.reasons'), 'rows: 2000 in the table, 2000 in the new', 'with the figures');

select sqlkit_test.as_admin($$insert into sqlkit.refresh_threshold (name, value) values ('small_rows', 100)$$);
select is(pg_temp.chosen('select * from item'), 'mirror', 'nothing changed');
select matches(current_setting('sqlkit_test.reasons'), 'by a sample: 0.0%', 'as a sample says');
select is(
    pg_temp.chosen($$select id, name || case when id % 25 = 0 then 'x' else '' end as name from item$$),
    'mirror',
    'few rows changed'
);
select matches(
    current_setting('sqlkit_test.reasons'),
    'sample: 4\.0%[^\n]+\nmirror: at most 5% \(mirror_share\)',
    'and that is few'
);
select is(
    pg_temp.chosen($$select id, name || case when id % 10 = 0 then 'x' else '' end as name from item$$),
    'truncate',
    'with a tenth changed a new content is quicker written as a whole'
);
select is(pg_temp.chosen($$select id, name || 'x' as name from item$$), 'truncate', 'everything changed');
select matches(current_setting('sqlkit_test.reasons'), 'sample: 100.0%', 'as a sample says');
select is(pg_temp.chosen($$select id + 10000 as id, name from item$$), 'truncate', 'all keys are others');
select is(pg_temp.chosen($$select id + 10000 as id, name from item$$, '{id}'), 'mirror', 'a scope wants a mirror');
select sqlkit_test.as_admin(
    $$insert into sqlkit.refresh_threshold (name, value) values ('swap_seconds', 5), ('row_microseconds', 1000)$$
);
select is(pg_temp.chosen($$select id + 10000 as id, name from item$$), 'truncate', 'with one index it is soon over');
select matches(current_setting('sqlkit_test.reasons'), 'truncate: about 4\.0 s', 'as is told');
create index item_name on item (name);
create index item_upper on item (upper(name));
select is(pg_temp.chosen($$select id + 10000 as id, name from item$$), 'swap', 'with three of them readers would wait');
select matches(
    current_setting('sqlkit_test.reasons'),
    'indexes: 3\n[^|]*truncate: about 8\.0 s\nswap: more than 5 s \(swap_seconds\)',
    'and that is why'
);
drop index item_name, item_upper;
select sqlkit_test.as_admin(
    $$delete from sqlkit.refresh_threshold where name = 'row_microseconds' and not is_default$$
);
select sqlkit_test.as_admin(
    $$update sqlkit.refresh_threshold set value = 0 where name = 'swap_seconds' and not is_default$$
);
select is(pg_temp.chosen($$select id + 10000 as id, name from item$$), 'swap', 'readers may not wait');
create materialized view item_stored as select id
from item;
select is(
    pg_temp.chosen($$select id, name || case when id % 10 = 0 then 'x' else '' end as name from item$$),
    'mirror',
    'where there is no swap, readers are worth some time'
);
select matches(
    current_setting('sqlkit_test.reasons'), 'sample: 10\.0%[^\n]+\n.*mirror: at most 30% \(mirror_share_readers\)',
    'and it says so'
);
select is(pg_temp.chosen($$select id, name || 'x' as name from item$$), 'truncate', 'but not any');
drop materialized view item_stored;
select sqlkit_test.as_admin(
    $$update sqlkit.refresh_threshold set value = 1 where name = 'mirror_share' and is_default$$
);
select is(pg_temp.chosen($$select id + 10000 as id, name from item$$), 'mirror', 'the thresholds are data');

create table empty_one (id integer primary key, name text);
select is(pg_temp.chosen('select * from item', null, 'empty_one'), 'truncate', 'an empty table is filled');
create table keyless (id integer, name text);
insert into keyless select * from item;
select is(pg_temp.chosen('select * from item', null, 'keyless'), 'swap', 'without a key there is no mirror');
create view keyless_rows as select k
from keyless as k;
create materialized view keyless_stored as select id
from keyless;
select is(
    pg_temp.chosen('select * from item', null, 'keyless'), 'truncate', 'and no swap where something hangs on the table'
);

select throws_ok($$select sqlkit.choose_strategy('item')$$, 'SK208', null, 'it takes a stage');
select sqlkit.create_stage('item', p_name => 'item_today');
select throws_ok(
    $$select sqlkit.choose_strategy('sqlkit_stage.item_today', p_key => '{name}')$$, 'SK203', null, 'a key that is none'
);
select throws_ok(
    $$select sqlkit.choose_strategy('sqlkit_stage.item_today', p_key => '{nil}')$$, 'SK204', null, 'nor a column'
);

select * from finish();
rollback;
