begin;
select plan(22);

create table "an item" (
    id integer constraint item_pkey primary key,
    code text constraint item_code_key unique,
    name text,
    price integer
);
create index "the name" on "an item" (name);
comment on index "the name" is 'by name';
create index item_price_idx on "an item" (price) where price > 0;
create index item_low_idx on "an item" (lower(name) desc) with (fillfactor = 70);
alter table "an item" cluster on "the name";
insert into "an item" select
    n,
    n::text,
    'name ' || n,
    n % 100
from generate_series(1, 1000) as n;
analyze "an item";

create function pg_temp.indexes()
returns setof text
language sql
begin atomic
    select
        format(
            '%s %s %s %s %s',
            pg_get_indexdef(i.indexrelid),
            i.indisvalid,
            i.indisclustered,
            c.reloptions,
            obj_description(c.oid, 'pg_class')
        )
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as c on c.oid = i.indexrelid
    where i.indrelid = '"an item"'::regclass
    order by 1;
end;
create temporary table before as select i.line from pg_temp.indexes() as i (line);

select is(sqlkit.begin_rebuild('"an item"', 19999), null, 'fewer rows than rebuild_rows');
select sqlkit_test.as_admin($$insert into sqlkit.refresh_threshold (name, value) values ('rebuild_rows', 100)$$);
select is(sqlkit.begin_rebuild('"an item"', 99), null, 'the threshold is a row of a table');
select is(sqlkit.begin_rebuild('"an item"', 110), null, 'a smaller share than rebuild_share');
select is(sqlkit.begin_rebuild('"an item"'), null, 'nobody knows how many');
select set_config('sqlkit.indexes', 'keep', true);
select is(sqlkit.begin_rebuild('"an item"', 1000000), null, 'kept, where the setting says so');
select set_config('sqlkit.indexes', 'burn', true);
select throws_ok($$select sqlkit.begin_rebuild('"an item"', 1)$$, '22023', null, 'another word');
select set_config('sqlkit.indexes', '', true);

create temporary table taken as select sqlkit.begin_rebuild('"an item"', 180) as indexes;
select is(
    (select array_agg(i.value ->> 'name' order by i.value ->> 'name') from taken, jsonb_array_elements(indexes) as i),
    '{item_low_idx,item_price_idx,the name}',
    'enough of them: all that is no key is taken away'
);
select is((select count(*) from pg_temp.indexes()), 2::bigint, 'keys stay');
select lives_ok('select sqlkit.finish_rebuild(''"an item"'', indexes) from taken', 'built again');
select set_eq('select * from pg_temp.indexes()', 'select line from before', 'as they were');

-- By the size of the input, where the number of rows is not known.
select is(
    sqlkit.begin_rebuild('"an item"', p_bytes => pg_catalog.pg_relation_size('"an item"') / 10),
    null,
    'a tenth of its size'
);
truncate taken;
insert into taken select sqlkit.begin_rebuild('"an item"', p_bytes => pg_catalog.pg_relation_size('"an item"'));
select isnt((select indexes from taken), null, 'as much as there is');
select sqlkit.finish_rebuild('"an item"', indexes) from taken;

-- A merge does so by itself.
create function pg_temp.places() returns text language sql as $$
select string_agg(c.oid::text, ',' order by c.oid)
from pg_catalog.pg_index as i join pg_catalog.pg_class as c on c.oid = i.indexrelid
where i.indrelid = '"an item"'::regclass
$$;
create temporary table placed as select pg_temp.places() as oids;
select is(
    sqlkit_test.shown(sqlkit_test.merge(
        '"an item"', $$select n, n::text, 'name ' || n, n % 100 from generate_series(951, 1050) as n$$
    )),
    '100 read, 50 inserted, 50 unchanged',
    'few rows are written'
);
select is(pg_temp.places(), (select oids from placed), 'and the indexes stay');
select is(
    sqlkit_test.shown(sqlkit_test.merge(
        '"an item"', $$select n, n::text, 'name ' || n, n % 99 from generate_series(501, 2000) as n$$
    )),
    '1500 read, 950 inserted, 550 updated',
    'many rows are written'
);
select isnt(pg_temp.places(), (select oids from placed), 'and indexes are built anew');
select set_eq('select * from pg_temp.indexes()', 'select line from before', 'each as it was');
select is((
    select count(*) from "an item"
    where name = 'name 1999'
), 1::bigint, 'and knows the new rows');

-- Where it must not be.
select set_config('sqlkit.indexes', 'rebuild', true);
create function pg_temp.look() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger look before insert on "an item" for each row execute function pg_temp.look();
select is(sqlkit.begin_rebuild('"an item"', 1000000), null, 'a trigger may look for rows');
drop trigger look on "an item";
alter table "an item" add constraint self foreign key (price) references "an item" (id)
deferrable initially deferred not valid;
select is(sqlkit.begin_rebuild('"an item"', 1000000), null, 'constraints that wait');
alter table "an item" drop constraint self;
create table parted (id integer, name text) partition by hash (id);
create index on parted (name);
select is(sqlkit.begin_rebuild('parted', 1000000), null, 'partitions');
create table bare (id integer primary key);
select is(sqlkit.begin_rebuild('bare', 1000000), null, 'nothing but a key');

select * from finish();
rollback;
