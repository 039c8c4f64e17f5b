begin;
select plan(17);

create table item (
    a integer,
    b integer,
    c integer not null unique,
    d text,
    e text,
    f integer,
    constraint item_pkey primary key (b, a)
);
create unique index item_d_idx on item (d) include (e);
create unique index item_partial_idx on item (f) where f > 0;
create unique index item_expression_idx on item (lower(e));
create index item_plain_idx on item (a);
create table keyless (a integer);

select is(sqlkit.find_key('item'), '{b,a}'::name[], 'the primary key, in its order');
select is(sqlkit.find_key('item', '{a,b}'), '{b,a}'::name[], 'named in another order');
select is(sqlkit.find_key('item', '{c}'), '{c}'::name[], 'a unique constraint');
select is(sqlkit.find_key('item', '{d}'), '{d}'::name[], 'a unique index, without what it includes');
select is(sqlkit.find_key('item', '{c,c}'), '{c}'::name[], 'a column named twice');
select throws_ok($$select sqlkit.find_key('keyless')$$, 'SK202', null, 'no primary key');
select throws_ok($$select sqlkit.find_key('item', '{d,e}')$$, 'SK203', null, 'a column that is only included');
select throws_ok($$select sqlkit.find_key('item', '{f}')$$, 'SK203', null, 'a partial index');
select throws_ok($$select sqlkit.find_key('item', '{e}')$$, 'SK203', null, 'an index on an expression');
select throws_ok($$select sqlkit.find_key('item', '{a}')$$, 'SK203', null, 'an index that is not unique');
select throws_ok($$select sqlkit.find_key('item', '{}')$$, 'SK203', null, 'no column at all');
select throws_ok($$select sqlkit.find_key('item', '{a,b,c}')$$, 'SK203', null, 'more than any index has');
select throws_ok(
    $$select sqlkit.find_key('item', '{a,"No such",ctid}')$$,
    'SK204',
    'key columns that the target does not have: "No such", ctid',
    'columns that are not there'
);
select throws_ok($$select sqlkit.find_key('pg_catalog.pg_settings')$$, 'SK201', null, 'no table');

alter table item drop column d;
select throws_ok($$select sqlkit.find_key('item', '{d}')$$, 'SK204', null, 'a column that was dropped');

create table part (a integer primary key) partition by hash (a);
select is(sqlkit.find_key('part'), '{a}'::name[], 'of a partitioned table');
create table late (a integer, constraint late_key unique (a) deferrable initially deferred);
select is(sqlkit.find_key('late', '{a}'), '{a}'::name[], 'a deferrable constraint');

select * from finish();
rollback;
