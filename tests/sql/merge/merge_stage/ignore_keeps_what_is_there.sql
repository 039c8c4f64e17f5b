begin;
select plan(5);

create table item (id integer primary key, name text);

select is(
    sqlkit_test.shown(
        sqlkit_test.merge('item', $$values (1, 'first'), (2, 'two'), (1, 'second')$$, 'ignore')
    ),
    '3 read, 2 inserted, 1 duplicate',
    'into an empty table: of rows with the same key the first is taken'
);
select results_eq(
    'select id, name from item order by id', $$values (1, 'first'), (2, 'two')$$, 'the first stays'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'item', $$values (3, 'three'), (1, 'third'), (2, 'two'), (3, 'tres')$$, 'ignore'
        )
    ),
    '4 read, 1 inserted, 2 ignored, 1 duplicate',
    'rows with a key that exists are ignored, be they equal or not'
);
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'first'), (2, 'two'), (3, 'three')$$,
    'nothing was overwritten'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (3, 'x')$$, 'ignore')),
    '1 read, 1 ignored',
    'nothing new'
);

select * from finish();
rollback;
