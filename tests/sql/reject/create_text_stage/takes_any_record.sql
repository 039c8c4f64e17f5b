begin;
select plan(8);

create table item (id integer primary key, price numeric(4, 1) check (price > 0), made date);
select sqlkit.start_run('load', 'item') as run \gset
select sqlkit.create_text_stage('item', '{price,id,"Not there"}', :run) as stage \gset

select results_eq(
    pg_catalog.format(
        'select attname::text collate "default", format_type(atttypid, atttypmod) from pg_catalog.pg_attribute '
        'where attrelid = %L::regclass and attnum > 0 order by attnum',
        :'stage'
    ),
    $$values
    ('sqlkit_first_line', 'bigint'),
    ('sqlkit_last_line', 'bigint'),
    ('sqlkit_raw', 'text'),
    ('sqlkit_sqlstate', 'text'),
    ('sqlkit_message', 'text'),
    ('price', 'text'),
    ('id', 'text'),
    ('Not there', 'text'),
    ('sqlkit_lines', 'int8range')$$,
    'its place first, then the columns in their order, all text, then its lines if these are another thing'
);
select lives_ok(
    pg_catalog.format($$insert into %s values (2, 3, 'raw', null, null, 'cheap', 'x', null)$$, :'stage'),
    'it takes anything'
);
select is(
    (
        select relpersistence from pg_catalog.pg_class
        where oid = :'stage'::regclass
    ), 'u', 'unlogged'
);
select results_eq(
    'select pg_catalog.format(''sqlkit_stage.%I'', name) collate "default", target, run_id from sqlkit.stage',
    pg_catalog.format($$values (%L, 'public.item', %s::bigint)$$, :'stage', :run),
    'the list of stages has it'
);
select lives_ok(pg_catalog.format('select sqlkit.drop_stage(%L)', :'stage'), 'and drops it');
select throws_ok(
    $$select sqlkit.create_text_stage('pg_catalog.pg_settings', '{name}')$$,
    'SK201',
    'the target is not a table that rows can be loaded into',
    'no table'
);
select throws_ok($$select sqlkit.create_text_stage(null, '{name}')$$, 'SK201', null, 'nothing at all');
select is_empty('select * from sqlkit.stage', 'what failed is not listed');

select * from finish();
rollback;
