-- Every name may be anything.
begin;
select plan(9);

create function pg_temp.foresee_odd(p_name name)
returns text
language plpgsql
as $foresee_odd$
begin
    perform sqlkit_test.create_schema(p_name);
    execute pg_catalog.format('create table %1$I.%1$I (%1$I integer primary key)', p_name);
    execute pg_catalog.format('create view %1$I.seen as select * from %1$I.%1$I', p_name);
    return is(
        (
            select pg_catalog.concat(f.strategy, pg_catalog.cardinality(f.reasons), f.obstacles)
            from sqlkit.foresee_refresh(
                pg_catalog.format('%1$I.%1$I', p_name)::regclass, 'swap', p_key => array[p_name]
            ) as f
        ),
        'swap1{}',
        p_name
    );
end;
$foresee_odd$;
select pg_temp.foresee_odd(n.name)
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
