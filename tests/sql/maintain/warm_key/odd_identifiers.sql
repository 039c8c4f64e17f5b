-- needs: pg_prewarm
-- Every name may be anything.
begin;
select plan(9);

select sqlkit_test.create_schema('odd prewarm');
select sqlkit_test.as_admin('create extension pg_prewarm schema "odd prewarm"');

create function pg_temp.warm(p_name name)
returns bigint
language plpgsql
as $warm$
begin
    execute pg_catalog.format('create table public.%1$I (%1$I integer primary key)', p_name);
    return (
        select count(*)
        from sqlkit.warm_key(pg_catalog.format('public.%I', p_name)::regclass, array[p_name])
    );
end;
$warm$;

select is(pg_temp.warm(n.name), 1::bigint, n.name || ': warm_key')
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
