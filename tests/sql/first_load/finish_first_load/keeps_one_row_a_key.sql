begin;
select plan(15);

create function pg_temp.first_load(
    p_rows text,
    p_policy text,
    p_order_by name default null
)
returns text
language plpgsql
as $first_load$
declare
    v_indexes jsonb;
    v_rows bigint;
    v_counts sqlkit.row_counts;
begin
    truncate item;
    v_indexes := sqlkit.begin_first_load('item');
    execute 'insert into item ' || p_rows;
    get diagnostics v_rows = row_count;
    v_counts := sqlkit.finish_first_load('item', v_indexes, v_rows, p_policy, '{a,b}', p_order_by);
    return sqlkit_test.shown(v_counts);
end;
$first_load$;

create table item (a integer, b text, name text, seen integer, primary key (b, a));
create index item_name_idx on item (name);

select is(
    pg_temp.first_load($$values (1, 'x', 'one', 1), (2, 'x', 'two', 1)$$, 'update'),
    '2 read, 2 inserted',
    'no key is repeated'
);
select is(
    pg_temp.first_load(
        $$values (1, 'x', 'one', 1), (2, 'x', 'two', 1), (1, 'x', 'uno', 1), (1, 'x', 'eins', 1)$$, 'update'
    ),
    '4 read, 2 inserted, 2 duplicate',
    'update'
);
select results_eq('select name from item order by a', $$values ('eins'), ('two')$$, 'the last one stays');
select is(
    pg_temp.first_load(
        $$values (1, 'x', 'one', 1), (2, 'x', 'two', 1), (1, 'x', 'uno', 1), (1, 'x', 'eins', 1)$$, 'ignore'
    ),
    '4 read, 2 inserted, 2 duplicate',
    'ignore'
);
select results_eq('select name from item order by a', $$values ('one'), ('two')$$, 'the first one stays');
select is(
    pg_temp.first_load(
        $$values (1, 'x', 'one', 1), (1, 'x', 'uno', 3), (1, 'x', 'e', 3), (1, 'x', 'u', null), (2, 'x', 'n', null)$$,
        'newer',
        'seen'
    ),
    '5 read, 2 inserted, 3 duplicate',
    'newer'
);
select results_eq('select name from item order by a', $$values ('uno'), ('n')$$, 'the first of the greatest stays');
select throws_ok(
    $$select pg_temp.first_load('values (1, ''x'', ''a'', 1), (1, ''x'', ''b'', 1)', 'error')$$,
    '23505',
    null,
    'error'
);
select throws_ok(
    $$select pg_temp.first_load('values (1, ''x'', ''a'', 1), (1, ''x'', ''b'', 1)', 'append')$$,
    '23505',
    null,
    'append'
);
select index_is_primary('public', 'item', 'item_pkey', 'after all that the key is there');
select has_index('item', 'item_name_idx', 'and the other index');
select throws_ok(
    $$select sqlkit.finish_first_load('item', '[]', 0, 'update')$$, 'SK202', null, 'no key'
);

-- Another unique index than the primary key is the key; what breaks the other is an error, as ever.
create table two_keys (id integer primary key, code text unique, name text);
select sqlkit.begin_first_load('two_keys') as indexes \gset
insert into two_keys values (1, 'a', 'one'), (2, 'a', 'two'), (3, null, 'n'), (4, null, 'm');
select is(
    sqlkit_test.shown(sqlkit.finish_first_load('two_keys', :'indexes', 4, 'update', '{code}')),
    '4 read, 3 inserted, 1 duplicate',
    'by a unique constraint; nulls are no duplicates'
);
select results_eq(
    'select id from two_keys order by id', 'values (2), (3), (4)', 'the last of the code'
);
truncate two_keys;
select sqlkit.begin_first_load('two_keys') as indexes \gset
insert into two_keys values (1, 'a', 'one'), (1, 'b', 'two');
select throws_ok(
    format('select sqlkit.finish_first_load(''two_keys'', %L, 2, ''update'', ''{code}'')', :'indexes'),
    '23505',
    null,
    'the primary key holds too'
);

select * from finish();
rollback;
