begin;
select plan(18);

create function pg_temp.compared(p_name name)
returns setof text
language plpgsql
as $compared$
declare
    v_table regclass;
    v_copy regclass;
    v_run_id bigint;
begin
    perform sqlkit_test.create_schema(p_name);
    execute pg_catalog.format('create table %1$I.%1$I (%1$I integer primary key, other text)', p_name);
    execute pg_catalog.format('insert into %1$I.%1$I values (1, null), (2, null)', p_name);
    v_table := pg_catalog.format('%1$I.%1$I', p_name)::regclass;
    v_run_id := sqlkit.start_run('compare', v_table);
    v_copy := sqlkit.copy_table(v_table, v_run_id, true);
    return next is(
        (select c.rows_left - c.only_left from sqlkit.compare_tables(v_table, v_copy, array[p_name]) as c),
        2::bigint, p_name || ': a copy is the same'
    );
    execute pg_catalog.format('delete from %s where %I operator(pg_catalog.=) 2', v_copy, p_name);
    return next is(
        (select c.examples -> 0 -> 'key' ->> p_name from sqlkit.compare_tables(v_table, v_copy) as c),
        '2', p_name || ': what differs'
    );
end;
$compared$;

select pg_temp.compared(n.name)
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
