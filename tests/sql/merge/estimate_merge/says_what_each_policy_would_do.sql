-- Rows are held against the target as each policy would, and nothing is written.
begin;
select plan(16);

create table bare (id integer primary key, price numeric(8, 2));
create table item (id integer primary key, name text, price numeric(8, 2), at date);
create table keyless (id integer);
create table kept (
    address inet not null, name text, seen date not null, valid daterange not null,
    exclude using gist (address inet_ops with =, valid with &&)
);
insert into kept values ('10.0.0.1', 'a', '2026-01-01', '[2026-01-01,)');
insert into item values (1, 'one', 1, '2026-01-01'), (2, null, 2, '2026-01-02'), (3, 'three', 3, null);

create function pg_temp.told(p_policy text, p_order_by name default null)
returns text
language sql
return (
    select
        format(
            '%s read: %s inserted, %s updated, %s unchanged, %s ignored, %s rejected',
            c.rows_read,
            c.rows_inserted,
            c.rows_updated,
            c.rows_unchanged,
            c.rows_ignored,
            c.rows_rejected
        )
    from sqlkit.estimate_merge(
        'item',
        '{price,id,name,at}',
        '[["1.00", "1", "one", "2026-01-01"], ["2", "2", "two", "2026-01-03"], ["3.5", "3", "three", null],
            ["4", "4", null, null]]',
        p_policy,
        p_order_by => p_order_by
    ) as c
);

set local transaction_read_only = on;
select is(pg_temp.told('update'), '4 read: 1 inserted, 2 updated, 1 unchanged, 0 ignored, 0 rejected', 'update');
select is(pg_temp.told('newer', 'at'), '4 read: 1 inserted, 1 updated, 1 unchanged, 1 ignored, 0 rejected', 'newer');
select is(pg_temp.told('fill'), '4 read: 1 inserted, 1 updated, 2 unchanged, 0 ignored, 0 rejected', 'fill');
select is(pg_temp.told('ignore'), '4 read: 1 inserted, 0 updated, 0 unchanged, 3 ignored, 0 rejected', 'ignore');
select is(pg_temp.told('error'), '4 read: 1 inserted, 0 updated, 0 unchanged, 0 ignored, 3 rejected', 'error');
select is(pg_temp.told('append'), '4 read: 4 inserted, 0 updated, 0 unchanged, 0 ignored, 0 rejected', 'append');

select throws_ok($$select pg_temp.told('other')$$, 'SK206', null, 'an unknown policy');
select throws_ok($$select pg_temp.told('newer')$$, 'SK207', null, 'nothing to order by');
select throws_ok(
    $$select sqlkit.estimate_merge('keyless', '{id}', '[["1"]]')$$, 'SK202', null, 'a table without a key'
);
select throws_ok(
    $$select sqlkit.estimate_merge('item', '{name}', '[["x"]]')$$, 'SK204', null, 'without the key'
);
select throws_ok(
    $$select sqlkit.estimate_merge('item', '{id,name}', '[["1", "x"]]', p_key => '{name}')$$,
    'SK203', null, 'a key that is not unique'
);
select throws_ok(
    $$select sqlkit.estimate_merge('sqlkit.run_summary', '{run_id}', '[["1"]]')$$, 'SK201', null, 'a view'
);
select throws_ok(
    $$select sqlkit.estimate_merge('item', '{id}', '[["x"]]')$$, '22P02', null, 'a value that is refused'
);
select throws_ok(
    $$select sqlkit.estimate_merge('bare', '{id,price}', '[["1", "x"]]')$$, '22P02', null, 'or compared with none'
);

select is(
    sqlkit_test.shown(sqlkit.estimate_merge(
        'kept', '{address,name,seen}',
        '[["10.0.0.1", "a", "2026-02-01"], ["10.0.0.1", "b", "2026-02-01"], ["10.0.0.1", "b", "2026-01-01"],
            ["10.0.0.2", "b", "2026-01-01"], ["10.0.0.1", "b", "2025-01-01"]]',
        'history', p_order_by => 'seen'
    )),
    '5 read, 3 inserted, 1 updated, 1 unchanged',
    'history'
);
select throws_ok(
    $$select sqlkit.estimate_merge('item', '{id}', '[["1"]]', 'history')$$, 'SK212', null, 'a table without history'
);

select * from finish();
rollback;
