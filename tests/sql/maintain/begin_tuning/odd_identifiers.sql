-- Every name may be anything.
begin;
select plan(27);

create function pg_temp.tune(p_name name)
returns setof text
language plpgsql
as $tune$
declare
    v_target regclass;
    v_run_id bigint;
begin
    execute pg_catalog.format('create table public.%1$I (%1$I integer primary key)', p_name);
    v_target := pg_catalog.format('public.%I', p_name)::regclass;
    v_run_id := sqlkit.start_run('load', v_target);
    return next alike(
        (sqlkit.begin_tuning(v_run_id, v_target, array[p_name]))[1], '%is off until the run ends', p_name || ': begin_tuning'
    );
    return next is((select count(*) from sqlkit.advise_fillfactor(v_target)), 0::bigint, p_name || ': advise_fillfactor');
    return next is(sqlkit.end_tuning(v_run_id), 1::bigint, p_name || ': end_tuning');
end;
$tune$;

select t.line
from sqlkit_test.odd_identifiers() as n (name)
cross join lateral pg_temp.tune(n.name) as t (line);

select * from finish();
rollback;
