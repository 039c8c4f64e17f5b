begin;
select plan(18);

create table here (
    id integer, part text, price numeric, note json, made integer generated always as (1) stored, primary key (id, part)
);
create table there (part text, id integer, price numeric, note json, more text);
insert into here
select
    n.g as id,
    'p' as part,
    n.g as price,
    '{"a": 1}'
from generate_series(1, 1000) as n (g);
insert into there
select
    'p' as part,
    n.g as id,
    n.g as price,
    '{"a": 1}',
    'x'
from generate_series(1, 1000) as n (g);

create function pg_temp.told(p_key name[] default null, p_columns name[] default null, p_buckets integer default 4096)
returns text
language sql
return (
    select
        format(
            '%s and %s rows: %s only here, %s only there, %s differ in %s', c.rows_left, c.rows_right, c.only_left,
            c.only_right, c.different, c.columns_different
        )
    from sqlkit.compare_tables('here', 'there', p_key, p_columns, p_buckets => p_buckets) as c
);

select is(pg_temp.told(), '1000 and 1000 rows: 0 only here, 0 only there, 0 differ in {}', 'the same');
update there set price = 7.0
where id = 7;
delete from there
where id = 8;
insert into there values ('q', 9, null, null);
update here set note = null
where id = 10;
-- What two rows exchange, and what two rows are given alike, does not cancel out.
update there set price = case id when 21 then 22 else 21 end
where id in (21, 22);
update there set price = 5
where id in (31, 32);
select is(
    pg_temp.told(), '1000 and 1000 rows: 1 only here, 1 only there, 6 differ in {"note": 1, "price": 5}', 'what differs'
);
select is(
    pg_temp.told(p_buckets => 1),
    '1000 and 1000 rows: 1 only here, 1 only there, 6 differ in {"note": 1, "price": 5}', 'in one bucket'
);
select is(
    pg_temp.told(p_buckets => 0),
    '1000 and 1000 rows: 1 only here, 1 only there, 6 differ in {"note": 1, "price": 5}', 'in no bucket at all'
);
select is(
    pg_temp.told(p_columns => '{id,part,note}'),
    '1000 and 1000 rows: 1 only here, 1 only there, 1 differ in {"note": 1}', 'in some columns'
);
select is(
    pg_temp.told(p_key => '{id}'), '1000 and 1000 rows: 1 only here, 1 only there, 6 differ in {"note": 1, "price": 5}',
    'by a key that repeats'
);
select is(
    (
        select array_agg(e.value order by e.value ->> 'where', e.value #>> '{key,id}')
        from sqlkit.compare_tables('here', 'there', p_limit => 100) as c, jsonb_array_elements(c.examples) as e
        where e.value #>> '{key,id}' in ('7', '8', '9', '10')
    ),
    array[
        '{"where": "both", "key": {"id": "10", "part": "p"}, "left": {"note": null}, "right": {"note": "{\"a\": 1}"}}',
        '{"where": "both", "key": {"id": "7", "part": "p"}, "left": {"price": "7"}, "right": {"price": "7.0"}}',
        '{"where": "left", "key": {"id": "8", "part": "p"}}',
        '{"where": "right", "key": {"id": "9", "part": "q"}}'
    ]::jsonb[],
    'the differences'
);
select is(
    (select jsonb_array_length(c.examples) from sqlkit.compare_tables('here', 'there', p_limit => 3) as c),
    3,
    'some of them'
);
select is(
    (select c.buckets_different from sqlkit.compare_tables('here', 'there', p_buckets => 1) as c), 1, 'and where'
);

-- Without a key rows are counted.
create table one (a integer, b text);
create table two (a integer, b text);
insert into one values (1, 'a'), (1, 'a'), (null, 'b'), (null, null);
insert into two values (1, 'a'), (null, 'b'), (null, null), (null, null);
create view shown as select * from two;
select is(
    (select array[c.only_left, c.only_right, c.different] from sqlkit.compare_tables('one', 'two') as c),
    '{1,1,0}', 'how often a row is there'
);
select is(
    (select array[c.only_left, c.only_right, c.different] from sqlkit.compare_tables('two', 'shown') as c),
    '{0,0,0}', 'a view'
);
truncate two;
select is(
    (select array[c.rows_left, c.rows_right, c.only_left] from sqlkit.compare_tables('one', 'two') as c),
    '{4,0,4}', 'against an empty one'
);
truncate one;
select is(
    (select array[c.rows_left, c.rows_right, c.only_left] from sqlkit.compare_tables('one', 'two') as c),
    '{0,0,0}', 'both empty'
);

create table other (z integer);
select throws_ok($$select * from sqlkit.compare_tables('one', 'other')$$, 'SK204', null, 'nothing in common');
select throws_ok($$select * from sqlkit.compare_tables('one', 'two', '{z}')$$, 'SK204', null, 'no such key');
select throws_ok(
    $$select * from sqlkit.compare_tables('one', 'two', p_columns => '{z}')$$, 'SK204', null, 'no such column'
);

set local transaction_read_only = on;
select lives_ok($$select * from sqlkit.compare_tables('here', 'there')$$, 'nothing is written');
select is(
    (select c.rows_right from sqlkit.compare_tables('here', 'there', p_limit => -1) as c),
    1000::bigint,
    'a limit below 0'
);

select * from finish();
rollback;
