-- Helpers of the SQL tests, beside pgTAP, which lies in schema public. Loaded once into the
-- template that every test file's database is copied from.

create schema sqlkit_test;

comment on schema sqlkit_test is 'Helpers of the SQL tests; never part of a deployment';

-- A role without any privilege of its own. Roles belong to the whole server and tests run side by
-- side, so the name is the database's own; the test's rollback removes it.
create function sqlkit_test.create_plain_role(p_login boolean default false)
returns name
language plpgsql
set search_path = pg_catalog, pg_temp
as $function$
declare
    v_role name := 'plain_' || current_database();
begin
    execute format('create role %I %s', v_role, case when p_login then 'login' else 'nologin' end);
    -- pgTAP keeps its results in temporary tables that a test goes on writing as that role.
    execute format('grant temporary on database %I to %I', current_database(), v_role);
    return v_role;
end;
$function$;

-- Names that quoting has to get right, for tests that go through all of them.
create function sqlkit_test.odd_identifiers()
returns setof name
language sql
immutable
return unnest(array[
    'UpperCase',
    'with space',
    'quo"te',
    'apos''trophe',
    'per%cent',
    'back\slash',
    'select',
    'עברית',
    repeat('x', 63)
]::name[]);
