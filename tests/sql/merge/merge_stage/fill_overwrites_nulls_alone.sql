begin;
select plan(9);

create table item (id integer primary key, name text, price integer, tags text[], doc json, place point);

select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'item',
            $$values
            (1, null, 1, null::text[], null::json, null::point),
            (1, 'b', 2, null, null, null),
            (1, 'c', 3, '{x,y}', '{"a": 1}', '(1,2)'),
            (1, 'd', 4, '{}', '[]', '(3,4)'),
            (2, null, null, null, null, null)$$,
            'fill'
        )
    ),
    '5 read, 2 inserted, 3 duplicate',
    'inside a batch the first value of each column stays'
);
select results_eq(
    'select id, name, price, tags, doc::text, place::text from item order by id',
    $$values (1, 'b', 1, '{x,y}'::text[], '{"a": 1}', '(1,2)'), (2, null, null, null, null, null)$$,
    'of arrays, json and points too'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('item', $$values (1, 'z', 9), (2, 'two', null), (3, 'three', 3)$$, 'fill', '{id,name,price}')
    ),
    '3 read, 1 inserted, 1 updated, 1 unchanged',
    'a value stays, a null is filled'
);
select results_eq(
    'select id, name, price from item order by id',
    $$values (1, 'b', 1), (2, 'two', null), (3, 'three', 3)$$,
    'the end state'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('item', $$values (2, 'zwei', 2), (2, 'dos', 22)$$, 'fill', '{id,name,price}')
    ),
    '2 read, 1 updated, 1 duplicate',
    'one column of a row may be filled while another stays'
);
select results_eq('select name, price from item where id = 2', $$values ('two', 2)$$, 'by the first');

-- Arrays of different lengths, and empty ones, in one key.
create table tagged (id integer primary key, tags integer[]);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'tagged',
            $$values (1, null::integer[]), (1, '{1,2}'), (1, '{3}'), (2, '{}'), (2, '{4}'), (3, '{{1,2},{3,4}}')$$,
            'fill'
        )
    ),
    '6 read, 3 inserted, 3 duplicate',
    'arrays are values'
);
select results_eq(
    'select id, tags from tagged order by id',
    $$values (1, '{1,2}'::integer[]), (2, '{}'), (3, '{{1,2},{3,4}}')$$,
    'an empty array is a value, not a null'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('tagged', 'values (1), (4), (4)', 'fill', '{id}')),
    '3 read, 1 inserted, 1 unchanged, 1 duplicate',
    'a batch of keys alone'
);

select * from finish();
rollback;
