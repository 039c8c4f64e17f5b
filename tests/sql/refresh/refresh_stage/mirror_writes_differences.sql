-- A mirror ends like a table that was emptied and filled anew, and touches only rows that differ.
begin;
select plan(20);

create table item (id integer primary key, name text, code text unique);
insert into item select
    n,
    'name ' || n,
    'c' || n
from generate_series(1, 10) as n;
create table item_before as select
    id,
    xmin as born,
    ctid as place
from item;

select is(
    sqlkit_test.shown(sqlkit_test.refresh(
        'item',
        $$select n, case n when 3 then 'other' else 'name ' || n end, 'c' || n
        from generate_series(1, 8) as n union all values (11, 'new', 'c11'), (12, 'n', 'c12'), (12, 'last', 'c12')$$,
        'mirror'
    )),
    'mirror: 11 read, 2 inserted, 1 updated, 7 unchanged, 1 duplicate, 2 deleted',
    'inserted, updated, unchanged, duplicates and deleted are told apart'
);
select results_eq(
    'select id, name from item order by id',
    $$select n, case n when 3 then 'other' else 'name ' || n end from generate_series(1, 8) as n
    union all values (11, 'new'), (12, 'last')$$,
    'the target holds the new rows and no others; of repeated keys the last'
);
select is(
    (select count(*) from item_before as b join item as i on b.id = i.id and b.place = i.ctid),
    7::bigint,
    'unchanged rows lie where they lay'
);
select results_eq(
    'select rows_read, rows_inserted, rows_updated, rows_unchanged, rows_duplicate, rows_deleted from sqlkit.batch',
    $$values (11::bigint, 2::bigint, 1::bigint, 7::bigint, 1::bigint, 2::bigint)$$,
    'the ledger has the same'
);
select results_eq(
    'select kind, target, policy, state, rows_deleted from sqlkit.run_summary',
    $$values ('refresh', 'public.item', 'mirror', 'done', 2::bigint)$$,
    'as a run of its own kind'
);

-- What one row had, another may have now.
select is(
    sqlkit_test.shown(sqlkit_test.refresh(
        'item',
        $$select i.id + 100 * (i.id % 2), i.name, i.code from item as i$$,
        'mirror'
    )),
    'mirror: 10 read, 5 inserted, 5 unchanged, 5 deleted',
    'a deleted row''s unique value is free for a new row'
);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('item', 'select * from item', 'mirror', p_delete_share => 0)),
    'mirror: 10 read, 10 unchanged',
    'the same once more writes nothing'
);

-- The guard.
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item where id > 2', 'mirror', p_delete_share => 0.09)$$,
    'SK304',
    null,
    'more than the share is refused'
);
select is((select count(*) from item), 10::bigint, 'with nothing done');
select lives_ok(
    $$select sqlkit_test.refresh('item', 'select * from item where id > 2', 'mirror', p_delete_share => 0.1)$$,
    'a tenth is no more than a tenth'
);
select throws_ok(
    $$select sqlkit_test.refresh('item', 'select * from item where false', 'mirror', p_delete_share => 0.1)$$,
    'SK304',
    null,
    'an input without rows does not empty the table'
);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('item', 'select * from item limit 0', 'mirror', p_delete_share => 1)),
    'mirror: 9 deleted',
    'unless it is said'
);
select is(
    sqlkit_test.shown(sqlkit_test.refresh('item', $$values (1, 'a', 'b')$$, 'mirror', p_delete_share => 0)),
    'mirror: 1 read, 1 inserted',
    'an empty table is filled'
);
insert into item select
    n,
    'x',
    'y' || n
from generate_series(2, 100) as n;
select sqlkit.create_stage('item', p_name => 'limited');
insert into sqlkit_stage.limited
select * from item
where id > 3;
select throws_ok(
    $$select sqlkit.refresh_stage('sqlkit_stage.limited', p_delete_share => null, p_delete_limit => 2)$$,
    'SK304',
    null,
    'a limit may be a number of rows'
);
select lives_ok(
    $$select sqlkit.refresh_stage('sqlkit_stage.limited', p_delete_share => null, p_delete_limit => 3)$$,
    'which is one that may go'
);
select is((select count(*) from sqlkit_stage.limited), 0::bigint, 'the stage is empty afterwards');

-- A part of the columns.
select is(
    sqlkit_test.shown(sqlkit_test.refresh('item', 'values (4), (5)', 'mirror', p_columns => '{id}')),
    'mirror: 2 read, 2 unchanged, 95 deleted',
    'keys alone say which rows stay'
);

select throws_ok(
    $$select sqlkit_test.refresh('item', 'values (4)', 'magic', p_columns => '{id}')$$,
    'SK209',
    null,
    'a strategy that is none'
);
select throws_ok(
    $$select sqlkit_test.refresh('item', $q$values ('x')$q$, 'mirror', p_columns => '{name}')$$,
    'SK204',
    null,
    'the key must be in the input'
);
select throws_ok($$select sqlkit.refresh_stage('item')$$, 'SK208', null, 'it takes a stage');

select * from finish();
rollback;
