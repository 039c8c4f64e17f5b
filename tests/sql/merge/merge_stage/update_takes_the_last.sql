begin;
select plan(8);

create table item (id integer primary key, name text, price numeric(10, 2));

select is(
    sqlkit_test.shown(
        sqlkit_test.merge('item', $$values (1, 'a', 1), (2, 'b', 2), (1, 'c', 3), (1, 'd', null)$$)
    ),
    '4 read, 2 inserted, 2 duplicate',
    'into an empty table: of rows with the same key the last is taken'
);
select results_eq(
    'select * from item order by id',
    $$values (1, 'd', null::numeric(10, 2)), (2, 'b', 2)$$,
    'the last one wins, as a whole'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'item', $$values (1, 'x', 1), (2, 'b', 2.00), (3, 'n', 3), (1, 'd', null), (2, 'b', 2)$$
        )
    ),
    '5 read, 1 inserted, 2 unchanged, 2 duplicate',
    'what the batch changes and changes back is unchanged'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('item', $$values (1, 'd', 5), (2, null, 2), (3, 'n', 3), (4, 'm', 4)$$)
    ),
    '4 read, 1 inserted, 2 updated, 1 unchanged',
    'one of each'
);
select results_eq(
    'select * from item order by id',
    $$values (1, 'd', 5::numeric(10, 2)), (2, null, 2), (3, 'n', 3), (4, 'm', 4)$$,
    'a null takes the place of a value, and a value that of a null'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (2, 20), (5, 50)$$, p_columns => '{id,price}')),
    '2 read, 1 inserted, 1 updated',
    'a batch may have some of the columns'
);
select results_eq(
    'select * from item where id in (2, 5) order by id',
    $$values (2, null, 20::numeric(10, 2)), (5, null, 50)$$,
    'the others stay as they are'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', 'values (2), (6)', p_columns => '{id}')),
    '2 read, 1 inserted, 1 unchanged',
    'a batch of keys alone'
);

select * from finish();
rollback;
