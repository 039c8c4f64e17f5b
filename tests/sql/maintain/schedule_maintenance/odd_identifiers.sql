-- Tables of any name are taken (tests/maintain/test_schedule.py maintains one).
begin;
select plan(2);

create function pg_temp.try(p_name name)
returns text
language plpgsql
as $try$
begin
    execute pg_catalog.format('create table public.%I (id integer)', p_name);
    perform sqlkit.schedule_maintenance('0 3 * * *', array[pg_catalog.format('public.%I', p_name)::regclass]);
    return 'no error';
exception
    when sqlstate 'SK701' then
        return sqlstate;
end;
$try$;

select is_empty(
    $$select from sqlkit_test.odd_identifiers() as o (name) where pg_temp.try(o.name) <> 'SK701'$$,
    'it is only pg_cron that is missing'
);
create table public."Ta""ble %" (id integer);
select throws_ok(
    $$call sqlkit.run_maintenance('{"public.\"Ta\"\"ble %\""}')$$, 'SK701', null, 'and to run it'
);

select * from finish();
rollback;
