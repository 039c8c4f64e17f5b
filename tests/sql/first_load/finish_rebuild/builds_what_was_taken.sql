begin;
select plan(5);

create table item (id integer primary key, name text);
create index item_name_idx on item (name);
select set_config('sqlkit.indexes', 'rebuild', true);
select lives_ok($$select sqlkit.finish_rebuild('item', null)$$, 'null: nothing was taken, nothing is done');
create temporary table taken as
select sqlkit.begin_rebuild('item', 1) as indexes;
select hasnt_index('item', 'item_name_idx', 'taken away');
select sqlkit.finish_rebuild('item', t.indexes)
from taken as t;
select has_index('item', 'item_name_idx', array['name'], 'built again');
select cmp_ok(
    current_setting('sqlkit.seconds_indexes')::double precision, '>', 0.0::double precision, 'it tells how long it took'
);
select is(
    (
        select s.setting from pg_catalog.pg_settings as s
        where s.name = 'maintenance_work_mem'
    ),
    (
        select s.reset_val from pg_catalog.pg_settings as s
        where s.name = 'maintenance_work_mem'
    ),
    'with more memory, which is given back'
);

select * from finish();
rollback;
