-- Only rows whose scope occurs in the new data may go: a store of which nothing came keeps its rows.
begin;
select plan(11);

create table price (chain text, store integer, code integer, price numeric(8, 2), primary key (code, store));
create function pg_temp.fill()
returns void
language sql
as $fill$
    delete from price;
    insert into price
    select case when s < 3 then 'a' end, s, c, 10
    from generate_series(1, 4) as s, generate_series(1, 10) as c;
$fill$;

select pg_temp.fill();
select is(
    sqlkit_test.shown(sqlkit_test.refresh(
        'price',
        $$select 'a', 2, c, case c when 1 then 11 else 10 end from generate_series(1, 9) as c
        union all values ('b', 9, 1, 5)$$,
        'mirror',
        '{store}',
        0.1
    )),
    'mirror: 10 read, 1 inserted, 1 updated, 8 unchanged, 1 deleted',
    'one row of the store goes'
);
select is(
    (select count(*) filter (where store <> 2) from price),
    31::bigint,
    'those of other stores stay, a new store comes'
);
select throws_ok(
    $$select sqlkit_test.refresh(
        'price', $q$select 'a', 2, c, 1 from generate_series(1, 8) as c$q$, 'mirror', '{store}', 0.1
    )$$,
    'SK304',
    '1 of 9 rows would be deleted, and the limit is lower',
    'the share is one of the rows in scope'
);

select pg_temp.fill();
select is(
    sqlkit_test.shown(sqlkit_test.refresh('price', $$values ('a', 1, 1, 10)$$, 'mirror', '{chain,store}')),
    'mirror: 1 read, 1 unchanged, 9 deleted',
    'a scope of two columns'
);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('price', $$values ('a', 1, 1, 10)$$, 'mirror', '{chain}')),
    'mirror: 1 read, 1 unchanged, 10 deleted',
    'of one that is not in the key'
);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('price', $$values (null, 3, 1, 10)$$, 'mirror', '{chain}')),
    'mirror: 1 read, 1 unchanged, 19 deleted',
    'in a scope a null is a value like others'
);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('price', $$values (null, 3, 1, 10)$$, 'mirror')),
    'mirror: 1 read, 1 unchanged, 1 deleted',
    'without a scope all others go'
);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('price', 'select null, 1, 1, 1 where false', 'mirror', '{store}', 0)),
    'mirror',
    'nothing in, nothing in scope'
);
select throws_ok(
    $$select sqlkit_test.refresh('price', $q$values ('a', 1, 1, 10)$q$, 'mirror', '{shop}')$$,
    'SK204',
    'columns of the scope that the input does not have: shop',
    'a scope that there is not'
);
select throws_ok(
    $$select sqlkit_test.refresh('price', 'values (1, 1)', 'mirror', '{chain}', p_columns => '{code,store}')$$,
    'SK204',
    'columns of the scope that the input does not have: chain',
    'a scope must be in the input'
);
select throws_ok(
    $$select sqlkit_test.refresh('price', 'values (1, 1)', 'mirror', '{}', p_columns => '{code,store}')$$,
    'SK204',
    null,
    'a scope of no columns would be everything: it is refused'
);

select * from finish();
rollback;
