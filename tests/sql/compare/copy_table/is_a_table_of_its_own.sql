begin;
select plan(9);

create table thing (
    id serial primary key,
    other integer generated always as identity,
    name text unique default 'none' check (name <> ''),
    twice integer generated always as (id * 2) stored
);
insert into thing (name) values ('a'), ('b');
create temporary table made as
select sqlkit.start_run('compare', 'thing') as run_id;
select lives_ok(
    'create temporary table copied as select sqlkit.copy_table(''thing'', m.run_id, true) as name from made as m',
    'it is made'
);

create function pg_temp.ask(p_query text)
returns bigint
language plpgsql
as $ask$
declare
    v_found bigint;
begin
    execute replace(p_query, 'COPY', (select c.name::text from copied as c)) into v_found;
    return v_found;
end;
$ask$;

select is(pg_temp.ask('select count(*) from COPY'), 2::bigint, 'with the rows');
select is(
    pg_temp.ask('select c.only_left + c.only_right + c.different from sqlkit.compare_tables(''thing'', ''COPY'') as c'),
    0::bigint, 'the same ones'
);
select is(pg_temp.ask('insert into COPY (id, name) values (9, ''z'') returning id'), 9::bigint, 'it takes rows');
select
    throws_ok(
        'select pg_temp.ask(''insert into COPY (id, name) values (9, ''''y'''')'')', '23505', null, 'it has the key'
    );
select
    throws_ok(
        'select pg_temp.ask(''insert into COPY (id, name) values (8, '''''''')'')', '23514', null, 'and the checks'
    );
select lives_ok('select pg_temp.ask(''insert into COPY (id) values (default) returning id'')', 'numbers of its own');
select is((select last_value from thing_id_seq), 2::bigint, 'the table''s sequence is left alone');
create view seen as select 1 as one;
select throws_ok('select sqlkit.copy_table(''seen'', (select m.run_id from made as m))', 'SK201', null, 'a view');

select * from finish();
rollback;
