begin;
select plan(12);

create table item (id integer primary key, name text, seen integer);
insert into item values (1, 'one', 1);
create table keyless (id integer, name text);
create view a_view as
select id from item;
select source_id as source from sqlkit.open_source('item', 'a.csv', 'csv') \gset
select sqlkit.start_run('load', 'item') as run \gset

create function pg_temp.merge(
    p_rows text,
    p_policy text default 'update',
    p_target regclass default 'item',
    p_key name[] default null,
    p_columns name[] default null,
    p_start bigint default 0
)
returns sqlkit.row_counts
language plpgsql
as $merge$
declare
    v_stage regclass := sqlkit.create_stage(case p_target when 'a_view'::regclass then 'item' else p_target end, p_columns);
begin
    execute format('insert into %s %s', v_stage, p_rows);
    return sqlkit.merge_batch(
        (select r.run_id from sqlkit.run as r), (select s.source_id from sqlkit.source as s),
        (p_start, p_start + 10, 1, 1, p_start + 10, null, false),
        array[v_stage], p_target, p_policy, p_key
    );
end;
$merge$;

select throws_ok(
    $$select pg_temp.merge('values (2)', p_target => 'a_view', p_columns => '{id}')$$, 'SK201', null, 'no table'
);
select throws_ok($$select pg_temp.merge('values (2)', p_target => 'keyless')$$, 'SK202', null, 'no key');
select throws_ok(
    $$select pg_temp.merge('values (2)', p_key => '{name}')$$, 'SK203', null, 'a key that nothing makes unique'
);
select throws_ok(
    $$select pg_temp.merge('values (2)', p_key => '{"No such"}')$$, 'SK204', null, 'a key that is not there'
);
select throws_ok(
    $$select pg_temp.merge('values (''x'')', p_columns => '{name}')$$, 'SK204', null, 'or not in the input'
);
select throws_ok($$select pg_temp.merge('values (2)', 'Update')$$, 'SK206', null, 'no such policy');
select throws_ok($$select pg_temp.merge('values (2)', 'newer')$$, 'SK207', null, 'newer by nothing');
select throws_ok($$select pg_temp.merge('values (2)', 'history')$$, 'SK212', null, 'no history is kept');
select throws_ok($$select pg_temp.merge('values (1)', 'error')$$, 'SK302', null, 'a key that exists');
select throws_ok($$select pg_temp.merge('values (2), (2)', 'error')$$, 'SK303', null, 'a key that comes twice');
select throws_ok(
    $$select pg_temp.merge('values (2)', p_start => 10)$$,
    'SK402',
    'another process has loaded this part of the source',
    'a part that is not next'
);
select results_eq(
    'select (select count(*) from item), (select count(*) from sqlkit.batch), (select next_offset from sqlkit.source)',
    'values (1::bigint, 0::bigint, 0::bigint)',
    'and nothing was done'
);

select * from finish();
rollback;
