-- Every name may be anything.
begin;
select plan(9);

create function pg_temp.refresh_odd(p_name name)
returns text
language plpgsql
as $refresh_odd$
declare
    v_rows bigint;
begin
    perform sqlkit_test.create_schema(p_name);
    execute pg_catalog.format('create table %1$I.%1$I (%1$I integer primary key)', p_name);
    execute pg_catalog.format('insert into %1$I.%1$I values (1), (2)', p_name);
    execute 'call sqlkit.refresh($1, $2, p_strategy => ''mirror'', p_scope => $3, p_key => $3)'
    using
        pg_catalog.format('%1$I.%1$I', p_name)::regclass,
        pg_catalog.format('select 2 as %1$I union all select 3', p_name),
        array[p_name];
    execute pg_catalog.format('select count(*) from %1$I.%1$I where %1$I in (1, 2, 3)', p_name) into v_rows;
    return is(v_rows, 3::bigint, p_name);
end;
$refresh_odd$;
select pg_temp.refresh_odd(n.name)
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
