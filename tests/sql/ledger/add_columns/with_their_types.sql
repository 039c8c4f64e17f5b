begin;
select plan(8);

create table item (id integer primary key, name text);
select sqlkit.start_run('load', 'item') as run \gset
select is(
    sqlkit.add_columns('item', array['name', 'price', 'at'], array['jsonb', 'numeric(10,2)', 'timestamptz'], :run),
    array['price', 'at']::name[],
    'those that it has not'
);
select col_type_is('public', 'item', 'name', 'text', 'what is there stays');
select col_type_is('public', 'item', 'price', 'numeric(10,2)', 'of the type that was said');
select is(
    (
        select reasons from sqlkit.run
        where run_id = :run
    ),
    array[
        'column price numeric(10,2) was added to the table', 'column at timestamptz was added to the table'
    ],
    'the run tells of it'
);
select throws_ok(
    pg_catalog.format('select sqlkit.add_columns(''item'', array[''x''], array[''nothing''], %s)', :run),
    '42704', null, 'no such type'
);
select throws_ok(
    pg_catalog.format('select sqlkit.add_columns(''item'', array[''x''], array[''text, drop id''], %s)', :run),
    '42601', null, 'more than a type'
);
select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" (id integer);
select is(
    sqlkit.add_columns('"Odd."."It""em"', array['Ünusual "c'], array['text'], :run),
    array['Ünusual "c']::name[],
    'of any name'
);
select has_column('Odd.', 'It"em', 'Ünusual "c', 'which is there');

select * from finish();
rollback;
