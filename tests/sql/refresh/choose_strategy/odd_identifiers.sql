-- Every name may be anything.
begin;
select plan(9);

select sqlkit_test.as_admin($$insert into sqlkit.refresh_threshold (name, value) values ('small_rows', 0)$$);
create function pg_temp.choose_odd(p_name name)
returns text
language plpgsql
as $choose_odd$
declare
    v_stage regclass;
begin
    perform sqlkit_test.create_schema(p_name);
    execute pg_catalog.format('create table %1$I.%1$I (%1$I integer primary key, "%2$s" text)', p_name, 'an""other');
    execute pg_catalog.format('insert into %1$I.%1$I values (1), (2)', p_name);
    v_stage := sqlkit.create_stage(pg_catalog.format('%1$I.%1$I', p_name)::regclass, p_name => p_name);
    execute pg_catalog.format('insert into sqlkit_stage.%1$I values (1), (2)', p_name);
    return is(
        (select c.strategy from sqlkit.choose_strategy(v_stage, p_key => array[p_name]) as c),
        'mirror',
        p_name
    );
end;
$choose_odd$;
select pg_temp.choose_odd(n.name)
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
