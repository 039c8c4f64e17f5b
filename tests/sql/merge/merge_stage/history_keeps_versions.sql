begin;
select plan(32);

-- What an address was called, from when on. GiST knows the equality of addresses without an extension.
create table item (
    address inet not null,
    name text,
    seen timestamptz not null,
    valid tstzrange not null,
    constraint item_excl exclude using gist (address inet_ops with =, valid with &&)
);

create function pg_temp.merged(p_rows text) returns text language sql as $$
select sqlkit_test.shown(
    sqlkit_test.merge('item', p_rows, 'history', array['address', 'name', 'seen'], p_order_by => 'seen')
)
$$;
create function pg_temp.versions(p_address inet) returns text language sql as $$
select string_agg(
    concat(to_char(lower(i.valid), 'MM-DD'), ' ', i.name, coalesce(' ' || to_char(upper(i.valid), 'MM-DD'), '')),
    ', ' order by i.valid
)
from item as i where i.address = p_address
$$;

select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, 'a', '2024-01-01'::timestamptz), ('10.0.0.2', 'x', '2024-01-01')$$),
    '2 read, 2 inserted',
    'the first versions'
);
select is(pg_temp.versions('10.0.0.1'), '01-01 a', 'valid until further notice');
select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, 'b', '2024-03-01'::timestamptz), ('10.0.0.2', 'x', '2024-03-01')$$),
    '2 read, 1 inserted, 1 unchanged',
    'what is valid already is not written'
);
select is(pg_temp.versions('10.0.0.1'), '01-01 a 03-01, 03-01 b', 'another version ends the one before');
select is(pg_temp.versions('10.0.0.2'), '01-01 x', 'and an unchanged row ends nothing');

create temporary table before as select
    i.ctid as place,
    i.xmin as writer,
    i.address,
    i.valid
from item as i;
select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, 'late', '2024-02-01'::timestamptz)$$),
    '1 read, 1 inserted',
    'one that belongs between two'
);
select is(pg_temp.versions('10.0.0.1'), '01-01 a 02-01, 02-01 late 03-01, 03-01 b', 'lasts until the next');
select is(
    (select count(*) from item as i join before as b on b.place = i.ctid and b.valid = i.valid),
    2::bigint,
    'other versions stay where they are'
);
select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, 'first', '2023-12-01'::timestamptz)$$),
    '1 read, 1 inserted',
    'one before all others'
);
select is(
    pg_temp.versions('10.0.0.1'), '12-01 first 01-01, 01-01 a 02-01, 02-01 late 03-01, 03-01 b', 'lasts until the first'
);
select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, 'right', '2024-02-01'::timestamptz)$$),
    '1 read, 1 updated',
    'one that begins when another does corrects it'
);
select is(
    pg_temp.versions('10.0.0.1'), '12-01 first 01-01, 01-01 a 02-01, 02-01 right 03-01, 03-01 b', 'in its place'
);
select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, 'a', '2024-01-15'::timestamptz)$$),
    '1 read, 1 unchanged',
    'a late one that says what was valid then changes nothing'
);
select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, null, '2024-04-01'::timestamptz)$$),
    '1 read, 1 inserted',
    'null is a value'
);
select is(
    pg_temp.merged($$values ('10.0.0.1'::inet, null, '2024-04-02'::timestamptz)$$), '1 read, 1 unchanged', 'like others'
);

-- Several versions of a key at once.
select is(
    pg_temp.merged($$
        values ('10.0.0.3'::inet, 'a', '2024-01-01'::timestamptz), ('10.0.0.3', 'b', '2024-02-01'),
        ('10.0.0.3', 'b', '2024-02-02'), ('10.0.0.3', 'c', '2024-03-01'), ('10.0.0.4', 'z', '2024-01-01')
    $$),
    '5 read, 4 inserted, 1 unchanged',
    'several versions of a key in one batch'
);
select is(pg_temp.versions('10.0.0.3'), '01-01 a 02-01, 02-01 b 03-01, 03-01 c', 'one after the other');
select is(
    pg_temp.merged($$
        values ('10.0.0.3'::inet, 'C', '2024-03-01'::timestamptz), ('10.0.0.3', 'd', '2024-04-01'),
        ('10.0.0.3', 'B', '2024-02-15'), ('10.0.0.3', 'b', '2024-02-20'), ('10.0.0.3', 'D', '2024-04-01')
    $$),
    '5 read, 3 inserted, 2 updated',
    'in any order, as if they came one by one'
);
select is(
    pg_temp.versions('10.0.0.3'),
    '01-01 a 02-01, 02-01 b 02-15, 02-15 B 02-20, 02-20 b 03-01, 03-01 C 04-01, 04-01 D',
    'where each belongs'
);

-- A version that was ended by hand leaves a gap.
update item set valid = tstzrange(lower(valid), '2024-06-01')
where address = '10.0.0.2';
select is(
    pg_temp.merged($$values ('10.0.0.2'::inet, 'back', '2024-08-01'::timestamptz), ('10.0.0.2', 'x', '2024-02-01')$$),
    '2 read, 1 inserted, 1 unchanged',
    'a row that comes back after its end'
);
select is(pg_temp.versions('10.0.0.2'), '01-01 x 06-01, 08-01 back', 'begins anew');
select is(
    pg_temp.merged($$values ('10.0.0.2'::inet, 'gap', '2024-07-01'::timestamptz), ('10.0.0.2', 'y', '2024-05-01')$$),
    '2 read, 2 inserted',
    'late rows in the gap and before it'
);
select is(
    pg_temp.versions('10.0.0.2'), '01-01 x 05-01, 05-01 y 06-01, 07-01 gap 08-01, 08-01 back', 'end where they have to'
);
select is(
    pg_temp.merged($$values ('10.0.0.2'::inet, 'p', '2024-06-10'::timestamptz), ('10.0.0.2', 'p', '2024-06-11'),
        ('10.0.0.2', 'q', '2024-06-12')$$),
    '3 read, 2 inserted, 1 unchanged',
    'several into one gap'
);

-- Without a column for it, versions begin now.
create table plain (
    address inet,
    name text,
    price numeric,
    valid tstzrange,
    constraint plain_excl exclude using gist (address inet_ops with =, valid with &&)
);
alter table plain alter address set not null, alter valid set not null;
create function pg_temp.merged_now(p_rows text) returns text language sql as $$
select sqlkit_test.shown(sqlkit_test.merge('plain', p_rows, 'history', array['address', 'name']))
$$;
select is(
    pg_temp.merged_now($$values ('10.0.0.1'::inet, 'a'), ('10.0.0.1', 'b'), ('10.0.0.2', 'x')$$),
    '3 read, 2 inserted, 1 duplicate',
    'of a key that is twice the last one is taken'
);
select is(
    pg_temp.merged_now($$values ('10.0.0.1'::inet, 'c'), ('10.0.0.2', 'x')$$),
    '2 read, 1 inserted, 1 unchanged',
    'a new version'
);
select results_eq(
    'select name, upper_inf(valid) from plain order by name',
    $$values ('b', false), ('c', true), ('x', true)$$,
    'ends the one before'
);
select ok(
    (
        select upper(b.valid) = lower(c.valid) and lower(c.valid) > transaction_timestamp()
        from plain as b, plain as c
        where b.name = 'b' and c.name = 'c'
    ),
    'at the moment of the merge'
);

-- Whole numbers and days are moments too.
create table numbered (
    address inet not null,
    name text,
    version integer not null,
    valid int4range not null,
    exclude using gist (address inet_ops with =, valid with &&)
);
select is(
    sqlkit_test.shown(sqlkit_test.merge(
        'numbered', $$values ('10.0.0.1'::inet, 'a', 1), ('10.0.0.1', 'c', 5), ('10.0.0.1', 'b', 3)$$, 'history',
        array['address', 'name', 'version'], p_order_by => 'version'
    )),
    '3 read, 3 inserted',
    'versions by number'
);
select results_eq(
    'select name, valid from numbered order by valid',
    $$values ('a', '[1,3)'::int4range), ('b', '[3,5)'), ('c', '[5,)')$$,
    'in their order'
);

-- The constraint holds whatever else writes.
select throws_ok(
    $$insert into item values ('10.0.0.3', 'second', '2024-09-01', '[2024-09-01,)')$$, '23P01', null,
    'two current versions of a key cannot be'
);
select is(
    (
        select count(*) from item as i join item as j
            on j.address = i.address and j.valid && i.valid and j.ctid <> i.ctid
    ),
    0::bigint,
    'nothing overlaps'
);

select * from finish();
rollback;
