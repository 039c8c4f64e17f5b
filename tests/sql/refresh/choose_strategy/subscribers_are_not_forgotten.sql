-- A swap sends subscribers nothing, so auto never takes it for a table that is published; nor a truncate that is not.
begin;
select plan(7);

create table item (id integer primary key, name text);
insert into item select
    i,
    'n' || i
from generate_series(1, 100) as i;
analyze item;
select sqlkit_test.as_admin(
    $$insert into sqlkit.refresh_threshold (name, value) values ('small_rows', 0), ('swap_seconds', 0)$$
);
create function pg_temp.chosen(p_target text default 'public.item')
returns text
language plpgsql
as $chosen$
declare
    v_stage regclass := sqlkit.stage_query(p_target::regclass, 'select id + 1000 as id, name from public.item');
    v_strategy text;
    v_reasons text[];
begin
    select c.strategy, c.reasons
    into v_strategy, v_reasons
    from sqlkit.choose_strategy(v_stage) as c;
    perform sqlkit.drop_stage(v_stage);
    perform set_config('sqlkit_test.reasons', array_to_string(v_reasons, E'\n'), true);
    return v_strategy;
end;
$chosen$;
create function pg_temp.publish(p_what text, p_operations text default 'insert, update, delete, truncate')
returns void
language plpgsql
set client_min_messages = error
as $publish$
begin
    perform sqlkit_test.as_admin('drop publication if exists feed');
    perform sqlkit_test.as_admin(format('create publication feed %s with (publish = %L)', p_what, p_operations));
end;
$publish$;

select is(pg_temp.chosen(), 'swap', 'published by nobody');
select pg_temp.publish('for table public.item');
select is(pg_temp.chosen(), 'truncate', 'published: a truncate is sent');
select matches(
    current_setting('sqlkit_test.reasons'), 'no swap: it is published, and subscribers would not be sent the new rows',
    'and it says so'
);
select pg_temp.publish('for table public.item', 'insert, update, delete');
select is(pg_temp.chosen(), 'mirror', 'published without truncates');
select pg_temp.publish('for tables in schema public');
select is(pg_temp.chosen(), 'truncate', 'published with its schema');

create table parted (id integer primary key, name text) partition by range (id);
create table part partition of parted for values from (0) to (10000);
insert into parted select * from item;
select pg_temp.publish('for table public.part', 'insert, update, delete');
select is(pg_temp.chosen('public.parted'), 'mirror', 'its partition is published');
select pg_temp.publish('for table public.parted', 'insert, update, delete');
select is(pg_temp.chosen('public.part'), 'mirror', 'or what it is a partition of');

select * from finish();
rollback;
