begin;
select plan(11);

-- A null equals nothing: rows with one in their key are new, each time.
create table loose (a integer, b integer, name text, constraint loose_a_b_key unique (a, b));
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'loose', $$values (1, 1, 'x'), (1, null, 'y'), (1, null, 'y'), (1, 1, 'z')$$, p_key => '{a,b}'
        )
    ),
    '4 read, 3 inserted, 1 duplicate',
    'nulls are no duplicates of each other'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('loose', $$values (1, 1, 'z'), (1, null, 'y'), (null, null, 'n')$$, p_key => '{b,a}')
    ),
    '3 read, 2 inserted, 1 unchanged',
    'nor of what is there'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('loose', $$values (1, null, 'y'), (1, null, 'q')$$, 'fill', p_key => '{a,b}')),
    '2 read, 2 inserted',
    'fill'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('loose', $$values (1, null, 'y')$$, 'error', p_key => '{a,b}')),
    '1 read, 1 inserted',
    'error'
);
select is((select count(*) from loose), 8::bigint, 'all of them');

-- Unless the index says otherwise.
create table tight (a integer, b text, name text, constraint tight_a_b_key unique nulls not distinct (a, b));
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'tight',
            $$values (1, 'x', 'a'), (1, null, 'b'), (1, null, 'c'), (null, null, 'd'), (null, null, 'e')$$,
            p_key => '{a,b}'
        )
    ),
    '5 read, 3 inserted, 2 duplicate',
    'nulls not distinct: they are one key'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'tight', $$values (1, null, 'c'), (null, null, 'new'), (null, 'x', 'f')$$, p_key => '{a,b}'
        )
    ),
    '3 read, 1 inserted, 1 updated, 1 unchanged',
    'and are found again'
);
select results_eq(
    'select a, b, name from tight order by a nulls first, b nulls first',
    $$values (null::integer, null, 'new'), (null, 'x', 'f'), (1, null, 'c'), (1, 'x', 'a')$$,
    'the end state'
);
select throws_ok(
    $$select sqlkit_test.merge('tight', $q$values (null::integer, null::text, 'z')$q$, 'error', p_key => '{a,b}')$$,
    'SK302',
    null,
    'error finds them too'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'tight',
            $$values (null::integer, null::text, 'y'), (2, null, 'g'), (2, null, 'h')$$,
            'ignore',
            p_key => '{a,b}'
        )
    ),
    '3 read, 1 inserted, 1 ignored, 1 duplicate',
    'ignore'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'tight', $$values (3, null::text, null), (3, null, 'first'), (3, null, 'second')$$, 'fill', p_key => '{a,b}'
        )
    ),
    '3 read, 1 inserted, 2 duplicate',
    'fill'
);

select * from finish();
rollback;
