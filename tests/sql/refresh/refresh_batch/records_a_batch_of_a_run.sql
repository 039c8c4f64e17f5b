begin;
select plan(4);

create table item (id integer primary key, name text);
insert into item values (1, 'one'), (2, 'two');
select sqlkit.create_stage('item', p_name => 'new') as stage \gset
select sqlkit.start_run('refresh', 'item', 'mirror') as run \gset
insert into sqlkit_stage.new values (1, 'one'), (2, 'zwei'), (3, 'drei');

select throws_ok(
    pg_catalog.format('select sqlkit.refresh_batch(%s, %L, ''mirror'', p_rows => 4)', :run, :'stage'),
    'SK404',
    null,
    'a stage that has lost rows'
);
select is_empty('select from sqlkit.batch', 'is not taken for the new content');
select lives_ok(
    pg_catalog.format('select sqlkit.refresh_batch(%s, %L, ''mirror'', p_rows => 3)', :run, :'stage'),
    'one that is whole is'
);
select results_eq(
    'select run_id, rows_read, rows_inserted, rows_updated, rows_unchanged from sqlkit.batch',
    pg_catalog.format('values (%s::bigint, 3::bigint, 1::bigint, 1::bigint, 1::bigint)', :run),
    'the batch is recorded'
);

select * from finish();
rollback;
