-- What makes no sense is refused before pg_cron is asked; where that is missing or elsewhere, the remedy is said.
begin;
select plan(8);

create function pg_temp.try(p_statement text)
returns text
language plpgsql
as $try$
declare
    v_message text;
    v_hint text;
begin
    execute p_statement;
    return 'no error';
exception
    when sqlstate 'SK701' then
        get stacked diagnostics v_message = message_text, v_hint = pg_exception_hint;
        return v_message || '; ' || v_hint;
end;
$try$;

select throws_ok($$select sqlkit.schedule_maintenance('0 3 * * *')$$, 'SK701', null, 'without pg_cron');
select alike(
    pg_temp.try($$select sqlkit.schedule_maintenance('0 3 * * *')$$),
    pg_catalog.format(
        'the extension pg_cron is not installed%%cron.database_name = %L, restart%%create extension pg_cron%%',
        pg_catalog.current_database()
    ),
    'the server has to be told of it'
);
select pg_catalog.set_config('cron.database_name', pg_catalog.current_database(), true);
select is(
    pg_temp.try($$select sqlkit.schedule_maintenance('0 3 * * *')$$),
    'the extension pg_cron is not installed in this database; create extension pg_cron;',
    'one statement is missing'
);
select pg_catalog.set_config('cron.database_name', 'Else where', true);
select is(
    pg_temp.try($$select sqlkit.schedule_maintenance('0 3 * * *')$$),
    pg_catalog.format(
        'pg_cron works in database "Else where", not in this one; Set cron.database_name = %L and restart the '
        'server, or have sqlkit optimize called from outside.',
        pg_catalog.current_database()
    ),
    'it works in one database'
);
select throws_ok($$select sqlkit.schedule_maintenance(null)$$, '22023', null, 'no schedule');
select throws_ok(
    $$select sqlkit.schedule_maintenance('0 3 * * *', p_actions => '{vacuum,pray}')$$,
    '22023', 'there is no such maintenance: {vacuum,pray}', 'no such action'
);
select throws_ok(
    $$select sqlkit.schedule_maintenance('0 3 * * *', p_budget => '90 seconds')$$,
    '22023', 'a budget of 00:01:30 is too little', 'nothing would be begun'
);
select throws_ok(
    $$select sqlkit.schedule_maintenance('0 3 * * *', p_name => 'step 7')$$,
    '22023', null, 'a name that jobs of single statements have'
);

select * from finish();
rollback;
