-- Helpers of the SQL tests, beside pgTAP, which lies in schema public. Loaded once into the
-- template that every test file's database is copied from.

create schema sqlkit_test;

comment on schema sqlkit_test is 'Helpers of the SQL tests; never part of a deployment';

-- What a test has to prepare, and whoever runs it may not do: it runs as a superuser.
create function sqlkit_test.as_admin(p_statement text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
begin
    execute p_statement;
end;
$function$;

-- A role without any privilege of its own, which whoever runs the tests may become. Roles belong to
-- the whole server and tests run side by side, so the name is the database's own; the test's
-- rollback removes it.
create function sqlkit_test.create_plain_role(p_login boolean default false)
returns name
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    v_role name := 'plain_' || current_database();
begin
    execute format('create role %I %s', v_role, case when p_login then 'login' else 'nologin' end);
    -- pgTAP keeps its results in temporary tables that a test goes on writing as that role.
    execute format('grant temporary on database %I to %I', current_database(), v_role);
    if not pg_has_role(session_user, v_role, 'member') then
        execute format('grant %I to %I', v_role, session_user);
    end if;
    return v_role;
end;
$function$;

-- A schema that belongs to whoever runs the tests, and who may not be allowed to make one himself.
create function sqlkit_test.create_schema(p_name name)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
begin
    execute format('create schema %I authorization %I', p_name, session_user);
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

-- Rows to a stage, merged, and the stage dropped: what most tests of the merge need. p_rows is a
-- query, p_columns the columns of the target that it gives (all that can be loaded if null).
create function sqlkit_test.merge(
    p_target regclass,
    p_rows text,
    p_policy text default 'update',
    p_columns name[] default null,
    p_key name[] default null,
    p_order_by name default null
)
returns sqlkit.row_counts
language plpgsql
as $function$
declare
    v_stage regclass := sqlkit.create_stage(p_target, p_columns);
    v_counts sqlkit.row_counts;
begin
    execute format('insert into %s %s', v_stage, p_rows);
    v_counts := sqlkit.merge_stage(v_stage, p_policy, p_key, p_order_by);
    perform sqlkit.drop_stage(v_stage);
    return v_counts;
end;
$function$;

-- The same for a refresh.
create function sqlkit_test.refresh(
    p_target regclass,
    p_rows text,
    p_strategy text,
    p_scope name[] default null,
    p_delete_share double precision default 1,
    p_columns name[] default null,
    p_key name[] default null
)
returns sqlkit.refresh_result
language plpgsql
as $function$
declare
    v_stage regclass := sqlkit.create_stage(p_target, p_columns);
    v_result sqlkit.refresh_result;
begin
    execute format('insert into %s %s', v_stage, p_rows);
    v_result := sqlkit.refresh_stage(v_stage, p_strategy, p_scope, p_delete_share, p_key => p_key);
    perform sqlkit.drop_stage(v_stage);
    return v_result;
end;
$function$;

-- The same counts, with their names, and only those that are not zero.
create function sqlkit_test.shown(p_counts sqlkit.row_counts)
returns text
language sql
immutable
return (
    select string_agg(format('%s %s', c.value, replace(c.key, 'rows_', '')), ', ')
    from json_each_text(row_to_json(p_counts)) as c
    where c.value <> '0'
);

create function sqlkit_test.shown(p_result sqlkit.refresh_result)
returns text
language sql
immutable
return (
    select
        concat_ws(
            ': ',
            (p_result).strategy,
            string_agg(format('%s %s', c.value, replace(c.key, 'rows_', '')), ', ')
            filter (where c.key <> 'strategy' and c.value <> '0')
        )
    from json_each_text(row_to_json(p_result)) as c
);

-- What a role needs of sqlkit itself to load: nothing of the target.
create function sqlkit_test.grant_sqlkit(p_role name)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
begin
    execute format('grant usage on schema sqlkit, sqlkit_test to %I', p_role);
    execute format('grant usage, create on schema sqlkit_stage to %I', p_role);
    execute format('grant select, insert, update, delete on all tables in schema sqlkit to %I', p_role);
    execute format('grant usage on all sequences in schema sqlkit to %I', p_role);
    execute format('grant execute on all functions in schema sqlkit, sqlkit_test to %I', p_role);
end;
$function$;

create function sqlkit_test.grant_on(p_table regclass, p_role name, p_privileges text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $function$
begin
    execute format('grant %s on %s to %I', p_privileges, p_table, p_role);
end;
$function$;
