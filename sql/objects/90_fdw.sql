-- Foreign servers: made by a script that a template gives, looked at, tried, dropped.

create or replace function sqlkit._map_user(p_server name, p_options jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $map_user$
declare
    v_known jsonb;
    v_options text;
    v_track text := current_setting('pg_stat_statements.track', true);
    v_code text;
    v_message text;
    v_hint text;
begin
    -- Statements inside of functions are kept by pg_stat_statements, too, if it is told so.
    if v_track = 'all' then
        begin
            perform set_config('pg_stat_statements.track', 'none', true);
        exception
            when insufficient_privilege then
                raise exception using
                    errcode = 'insufficient_privilege',
                    message = 'pg_stat_statements would keep the password',
                    hint = format(
                        'Its setting pg_stat_statements.track is all. Have a superuser run: '
                        'grant set on parameter pg_stat_statements.track to %I.',
                        current_user
                    );
        end;
    end if;
    select coalesce((select jsonb_object_agg(o.option_name, o.option_value) from pg_options_to_table(m.umoptions) as o), '{}')
    into v_known
    from pg_user_mappings as m
    where m.srvname = p_server and m.usename = current_user;
    if v_known is not null then
        execute format('drop user mapping for current_user server %I', p_server);
    end if;
    select string_agg(format('%I %L', o.key, o.value), ', ')
    into v_options
    from jsonb_each_text(
        coalesce(v_known, '{}') || p_options
        || (select coalesce(jsonb_object_agg(s.option_name, s.secret), '{}') from pg_temp.sqlkit_secret as s)
    ) as o;
    execute format('create user mapping for current_user server %I options (%s)', p_server, v_options);
    if v_track = 'all' then
        perform set_config('pg_stat_statements.track', v_track, true);
    end if;
exception
    -- Whatever it is, it is raised anew: the context of the error, which goes to the log, has the statement.
    when others then
        get stacked diagnostics v_code = returned_sqlstate, v_message = message_text, v_hint = pg_exception_hint;
        raise exception using errcode = v_code, message = v_message, hint = v_hint;
end;
$map_user$;

comment on function sqlkit._map_user(name, jsonb) is
'Makes a user mapping for the current user, or a new one of what the old one says, with options and with what pg_temp.sqlkit_secret holds, so that a password
is in no statement that a server might log, or that pg_stat_statements might keep. Raises: what PostgreSQL says, without
the statement; 42501 if pg_stat_statements keeps statements of functions and the caller may not have it stop for this one.';


create or replace view sqlkit.foreign_server as
select
    s.srvname as name,
    w.fdwname as wrapper,
    pg_get_userbyid(s.srvowner) as owner,
    coalesce(
        (
            select jsonb_object_agg(o.option_name, o.option_value)
            from pg_options_to_table(s.srvoptions) as o
        ),
        '{}'
    ) as options,
    coalesce(
        (
            select array_agg(m.usename::text order by m.usename)
            from pg_user_mappings as m
            where m.srvid = s.oid
        ),
        '{}'
    ) as users,
    coalesce(
        (
            select array_agg(t.ftrelid::regclass::text order by t.ftrelid::regclass::text)
            from pg_foreign_table as t
            where t.ftserver = s.oid
        ),
        '{}'
    ) as tables,
    obj_description(s.oid, 'pg_foreign_server') as comment
from pg_foreign_server as s
join pg_foreign_data_wrapper as w on w.oid = s.srvfdw;

comment on view sqlkit.foreign_server is
'Foreign servers with their options (no passwords: those are in user mappings), who has a user mapping, and their
tables.';


create or replace function sqlkit._find_server(p_server name)
returns oid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_server$
declare
    v_server oid;
begin
    select s.oid
    into v_server
    from pg_foreign_server as s
    where s.srvname = p_server;
    if not found then
        raise exception using
            errcode = 'SK807',
            message = format('there is no foreign server %I', p_server),
            detail = format(
                'Servers: %s.',
                coalesce((select string_agg(s.srvname, ', ' order by s.srvname) from pg_foreign_server as s), '-')
            ),
            hint = 'Make one with sqlkit fdw add.';
    end if;
    return v_server;
end;
$find_server$;

comment on function sqlkit._find_server(name) is 'The foreign server of a name. Raises: SK807 if there is none.';


create or replace function sqlkit.check_server(p_server name)
returns table (relation text, seconds double precision, error_code text, message text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $check_server$
declare
    v_server oid := sqlkit._find_server(p_server);
    v_start timestamptz;
begin
    for relation in
        select sqlkit._table_name(t.ftrelid::regclass) as name
        from pg_foreign_table as t
        where t.ftserver = v_server
        order by name
    loop
        v_start := clock_timestamp();
        error_code := null;
        message := null;
        begin
            -- All columns, so that one that is there no more, or of another type, is told.
            execute format('select row(t.*) from %s as t limit 1', relation);
        exception
            when others then
                get stacked diagnostics error_code = returned_sqlstate, message = message_text;
        end;
        seconds := extract(epoch from clock_timestamp() - v_start);
        return next;
    end loop;
end;
$check_server$;

comment on function sqlkit.check_server(name) is
'Reads a row of each table of a foreign server: how long that took, or what is wrong (null: nothing).
Raises: SK807 no such server.';


create or replace function sqlkit.drop_server(p_server name)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $drop_server$
declare
    v_server oid := sqlkit._find_server(p_server);
    v_tables text[];
    v_user text;
begin
    select array_agg(sqlkit._table_name(t.ftrelid::regclass) order by t.ftrelid)
    into v_tables
    from pg_foreign_table as t
    where t.ftserver = v_server;
    if v_tables is not null then
        execute format('drop foreign table %s', array_to_string(v_tables, ', '));
    end if;
    for v_user in
        select case when m.umuser = 0 then 'public' else quote_ident(m.usename) end
        from pg_user_mappings as m
        where m.srvid = v_server
    loop
        execute format('drop user mapping for %s server %I', v_user, p_server);
    end loop;
    execute format('drop server %I', p_server);
    return coalesce(cardinality(v_tables), 0);
end;
$drop_server$;

comment on function sqlkit.drop_server(name) is
'Drops a foreign server with its tables and user mappings, and returns how many tables that were; nothing else that
uses them is dropped.
Locks: ACCESS EXCLUSIVE on the tables. Raises: SK807 no such server, 2BP01 if a view, say, uses one of the tables.';
