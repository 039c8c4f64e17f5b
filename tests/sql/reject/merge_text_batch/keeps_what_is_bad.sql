begin;
select plan(25);

create table kind (name text primary key);
insert into kind values ('fruit');
create table item (
    id integer primary key,
    price numeric(6, 2) check (price > 0.0),
    kind text references kind,
    seen integer,
    code text unique
);
insert into item values (1, 1, 'fruit', 5, 'one');
create table keyless (id integer);
select sqlkit.start_run('load', 'item', 'update') as run \gset
select source_id as source from sqlkit.open_source('item', 'a.csv', 'csv') \gset

-- Records of a file, one a line from the second on, merged out of a text stage that is new for each batch.
create function pg_temp.merge_text(
    p_rows text[],
    p_policy text default 'update',
    p_limit bigint default null,
    p_start bigint default 0,
    p_target regclass default 'item',
    p_key name[] default null,
    p_order_by name default null,
    p_columns name[] default '{id,price,kind,seen,code}',
    p_share double precision default null
)
returns text
language plpgsql
as $merge_text$
declare
    v_stage regclass := sqlkit.create_text_stage(p_target, p_columns);
    v_run_id bigint := (select min(r.run_id) from sqlkit.run as r);
    v_source_id bigint := (select s.source_id from sqlkit.source as s);
    v_counts sqlkit.row_counts;
begin
    execute pg_catalog.format(
        'insert into %s select k.line + 1, k.line + 1, k.raw, null, null, %s '
        'from pg_catalog.unnest($1) with ordinality as k (raw, line)',
        v_stage,
        (
            select string_agg(pg_catalog.format($$nullif(split_part(k.raw, ',', %s), '')$$, n), ', ')
            from generate_series(1, cardinality(p_columns)) as n
        )
    )
    using p_rows;
    v_counts := sqlkit.merge_text_batch(
        v_run_id, v_source_id, (p_start, p_start + 100, 2, cardinality(p_rows) + 1, p_start + 100, null, false),
        v_stage, p_target, p_policy, p_key, p_order_by, p_limit, p_share
    );
    return sqlkit_test.shown(v_counts);
end;
$merge_text$;

select is(
    pg_temp.merge_text(
        array[
            '1,2.5,fruit,6,one', 'x,1,fruit,1,a', '3,cheap,fruit,1,b', '4,-1,fruit,1,c', '5,1,stone,1,d',
            '6,1,fruit,1,e', '7,12345678.9,fruit,1,f', ',1,fruit,1,g', '9,1,fruit,1,one'
        ]
    ),
    '9 read, 1 inserted, 1 updated, 7 rejected',
    'what is sound is merged'
);
select results_eq(
    'select first_line, raw, sqlstate, column_name::text from sqlkit.reject order by first_line',
    $$values
    (3::bigint, 'x,1,fruit,1,a', '22P02', 'id'),
    (4, '3,cheap,fruit,1,b', '22P02', 'price'),
    (5, '4,-1,fruit,1,c', '23514', 'price'),
    (6, '5,1,stone,1,d', '23503', 'kind'),
    (8, '7,12345678.9,fruit,1,f', '22003', 'price'),
    (9, ',1,fruit,1,g', '23502', 'id'),
    (10, '9,1,fruit,1,one', '23505', 'code')$$,
    'the rest is kept, each with its line, text, column and reason'
);
select results_eq(
    'select id, price from item order by id', 'values (1, 2.50), (6, 1.00)', 'the target has what is sound'
);
select results_eq(
    'select rows_read, rows_rejected, first_line, last_line from sqlkit.batch',
    'values (9::bigint, 7::bigint, 2::bigint, 10::bigint)',
    'the batch is recorded'
);
select is((select count(distinct batch_id) from sqlkit.reject), 1::bigint, 'and rejects say which it was');
select is((select next_offset from sqlkit.source), 100::bigint, 'the source stands after it');

select is(
    pg_temp.merge_text(array['10,1,fruit,1,j', 'x,1,fruit,1,k', 'y,1,fruit,1,l'], p_limit => 8, p_start => 100),
    null,
    'more than the limit of the run'
);
select is_empty('select from item where id = 10', 'merges nothing');
select is((select count(*) from sqlkit.batch), 1::bigint, 'records nothing');
select is((select next_offset from sqlkit.source), 100::bigint, 'leaves the source where it was');
select results_eq(
    'select first_line, raw from sqlkit.reject where batch_id is null order by 1',
    $$values (3::bigint, 'x,1,fruit,1,k'), (4, 'y,1,fruit,1,l')$$,
    'but tells what was bad'
);
select is(
    pg_temp.merge_text(array['10,1,fruit,1,j', 'x,1,fruit,1,k', 'y,1,fruit,1,l'], p_limit => 9, p_start => 100),
    '3 read, 1 inserted, 2 rejected',
    'exactly the limit'
);
select is((select count(*) from sqlkit.reject), 9::bigint, 'what was only told before is told once');
select is(
    pg_temp.merge_text(array['11,1,fruit,1,m', 'x,1,fruit,1,n'], p_share => 0.1, p_start => 200),
    null,
    'more than the share'
);
select throws_ok(
    $$select pg_temp.merge_text('{"1,1,fruit,1,a"}')$$,
    'SK402',
    'another process has loaded this part of the source',
    'a part that is loaded'
);
select throws_ok(
    $$select pg_temp.merge_text('{1}', p_start => 200, p_target => 'keyless', p_columns => '{id}')$$,
    'SK202',
    null,
    'no key'
);
select throws_ok(
    $$select pg_temp.merge_text('{"1,1,fruit,1,a"}', p_start => 200, p_key => '{seen}')$$,
    'SK203',
    null,
    'a key that nothing makes unique'
);
select throws_ok(
    $$select pg_temp.merge_text('{"1,1,fruit,1,a"}', p_start => 200, p_key => '{"No such"}')$$,
    'SK204',
    null,
    'a key that is not there'
);
select throws_ok(
    $$select pg_temp.merge_text('{1}', p_start => 200, p_columns => '{price}')$$, 'SK204', null, 'or not in the input'
);
select throws_ok(
    $$select pg_temp.merge_text('{"1,1,fruit,1,a"}', 'replace', p_start => 200)$$, 'SK206', null, 'no such policy'
);
select throws_ok(
    $$select pg_temp.merge_text('{"1,1,fruit,1,a"}', 'history', p_start => 200)$$, 'SK212', null, 'no history is kept'
);
select throws_ok(
    $$select pg_temp.merge_text('{"1,1,fruit,1,a"}', 'newer', p_start => 200)$$, 'SK207', null, 'newer by nothing'
);
select throws_ok(
    $$select pg_temp.merge_text('{"1,1,fruit,1,one","21,1,fruit,1,u"}', 'error', p_start => 200)$$,
    'SK302',
    null,
    'under policy error a key that exists: no row is bad for what another row is'
);
select throws_ok(
    $$select pg_temp.merge_text('{"21,1,fruit,1,u","21,1,fruit,1,v"}', 'error', p_start => 200)$$,
    'SK303',
    null,
    'or one that comes twice'
);
create view a_view as
select id from item;
select throws_ok(
    pg_catalog.format(
        'select sqlkit.merge_text_batch(%s, null, null, %L, ''a_view'', ''update'')',
        :run, sqlkit.create_text_stage('item', '{id}')
    ),
    'SK201',
    null,
    'no table'
);

select * from finish();
rollback;
