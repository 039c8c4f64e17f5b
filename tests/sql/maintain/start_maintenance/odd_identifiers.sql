-- A plan for tables of any name: its statements run as they are, and the ledger knows what they were about.
begin;
select plan(3);

create function pg_temp.try(p_name name)
returns text
language plpgsql
as $try$
declare
    v_table text := format('public.%I', p_name);
    v_run_id bigint;
    r_step record;
begin
    execute format('create table %s (id integer primary key)', v_table);
    execute format('insert into %s values (1)', v_table);
    select p.*
    into r_step
    from sqlkit.plan_maintenance(array[v_table::regclass], '{analyze}') as p;
    v_run_id := sqlkit.start_maintenance(v_table::regclass, r_step.action, r_step.relation, r_step.statement);
    execute r_step.statement;
    perform sqlkit.finish_maintenance(v_run_id);
    return r_step.relation;
end;
$try$;

select is_empty(
    $$select from sqlkit_test.odd_identifiers() as o (name) where pg_temp.try(o.name) <> format('public.%I', o.name)$$,
    'statements of the plan run'
);
select is(
    (
        select count(*) from sqlkit.maintenance as m
        where m.state = 'done' and m.target = m.relation and m.bytes_after > 0
    ),
    (select count(*) from sqlkit_test.odd_identifiers()),
    'the ledger has their names and sizes'
);
select ok(
    (
        select bool_and(c.reltuples = 1::real) from pg_catalog.pg_class as c
        where c.relname in (select sqlkit_test.odd_identifiers())
    ),
    'and the right tables were analyzed'
);

select * from finish();
rollback;
