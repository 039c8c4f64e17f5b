-- The careful way, first half: a batch that failed stands in a stage of text, and all its bad rows are found,
-- set by set. A row of such a stage has its lines, its raw text, and what the reader found wrong with it, if
-- it is no row at all; then the columns, as text.

create or replace function sqlkit.create_text_stage(
    p_target regclass,
    p_columns name[],
    p_run_id bigint default null
)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $create_text_stage$
declare
    v_stage_id bigint := nextval(pg_get_serial_sequence('sqlkit.stage', 'stage_id'));
    v_name name := 'text_stage_' || v_stage_id;
begin
    perform sqlkit._check_target(p_target);
    insert into sqlkit.stage (stage_id, name, target, run_id)
    overriding system value
    values (v_stage_id, v_name, sqlkit._table_name(p_target), p_run_id);
    execute format(
        'create unlogged table sqlkit_stage.%I ('
        'sqlkit_first_line bigint, sqlkit_last_line bigint, sqlkit_raw text, sqlkit_sqlstate text, '
        'sqlkit_message text, %s, sqlkit_lines int8range) with (autovacuum_enabled = false)',
        v_name,
        sqlkit._column_list(p_columns, '%I text')
    );
    return format('sqlkit_stage.%I', v_name)::regclass;
end;
$create_text_stage$;

comment on function sqlkit.create_text_stage(regclass, name[], bigint) is
'Makes a stage whose columns are all text, so that it takes any record, after five columns that say where a
record stands (sqlkit_first_line, sqlkit_last_line, sqlkit_raw) and what is wrong with it if it is no row
(sqlkit_sqlstate, sqlkit_message). Where records are not told apart by their lines, both numbers are that of the record,
and a last column, sqlkit_lines, has the lines, empty if there are none. For sqlkit.merge_text_batch().
Writes: sqlkit.stage. Raises: SK201 no table.';


create or replace function sqlkit._record_place()
returns text
language sql
immutable
return
    'case when s.sqlkit_lines is null then s.sqlkit_first_line else lower(s.sqlkit_lines) end as first_line, '
    'case when s.sqlkit_lines is null then s.sqlkit_last_line else upper(s.sqlkit_lines) - 1 end as last_line, '
    'case when s.sqlkit_lines is not null then s.sqlkit_first_line end as record';

comment on function sqlkit._record_place() is
'What to select of a text stage, s, for the place of a row in its source: first_line, last_line and record.';


create or replace function sqlkit._may_lie_in_row(p_sqlstate text)
returns boolean
language sql
immutable
return (
    left(p_sqlstate, 2) in ('21', '22', '23', '27', '44', '54', 'P0')
    or left(p_sqlstate, 2) not in (
        '00', '01', '02', '03', '08', '09', '0A', '0B', '0F', '0L', '0P', '0Z', '10', '20', '24', '25', '26', '28',
        '2B', '2D', '2F', '34', '38', '39', '3B', '3D', '3F', '40', '42', '53', '55', '57', '58', '72', 'F0', 'HV',
        'SK', 'XX'
    )
);

comment on function sqlkit._may_lie_in_row(text) is
'True if an error of this SQLSTATE may lie in single rows: bad data, broken constraints, what a trigger or function of
the user''s raises, whose codes may be of classes that neither PostgreSQL nor sqlkit has.';


create or replace function sqlkit._input_error(
    p_value text,
    p_type text,
    out sqlstate_found text,
    out message text
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $input_error$
begin
    -- By the type's input function, as COPY reads it, which is how JSON becomes a record: a cast would cut off
    -- what is too long, in silence. By a cast too, since a column of JSON would take any text for a string.
    execute format(
        'select %1$L::%2$s, r.v from jsonb_to_record(jsonb_build_object(''v'', %1$L::text)) as r (v %2$s)',
        p_value,
        p_type
    );
exception
    when others then
        if not (sqlkit._may_lie_in_row(sqlstate) or left(sqlstate, 2) in ('42', '0A')) then
            raise;
        end if;
        get stacked diagnostics sqlstate_found = returned_sqlstate, message = message_text;
end;
$input_error$;

comment on function sqlkit._input_error(text, text) is
'What is wrong with a text as a value of a type; nulls if nothing is.';


create or replace function sqlkit._valid_pattern(p_type oid, p_typmod integer)
returns text
language sql
immutable
return (
    -- Servers before 16 cannot be asked whether a text is valid without raising an error. What matches such
    -- a pattern surely is; what does not has to be tried.
    case p_type
        when 'pg_catalog.int2'::regtype then '^[+-]?[0-9]{1,4}$'
        when 'pg_catalog.int4'::regtype then '^[+-]?[0-9]{1,9}$'
        when 'pg_catalog.int8'::regtype then '^[+-]?[0-9]{1,18}$'
        when 'pg_catalog.float8'::regtype then '^[+-]?[0-9]{1,15}(\.[0-9]{0,15})?$'
        when 'pg_catalog.float4'::regtype then '^[+-]?[0-9]{1,15}(\.[0-9]{0,15})?$'
        when 'pg_catalog.numeric'::regtype then
            case
                when p_typmod = -1 then '^[+-]?[0-9]{1,100}(\.[0-9]{0,100})?$'
                -- One digit less before the point than there is room for: rounding may add one.
                when (p_typmod - 4 >> 16) - (p_typmod - 4 & 2047) between 2 and 1000
                    then format(
                        '^[+-]?[0-9]{1,%s}(\.[0-9]{0,100})?$',
                        least((p_typmod - 4 >> 16) - (p_typmod - 4 & 2047) - 1, 200)
                    )
            end
        when 'pg_catalog.bool'::regtype then '^(t|f|true|false|0|1|yes|no|on|off)$'
        when 'pg_catalog.date'::regtype
            then '^(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$'
        when 'pg_catalog.timestamp'::regtype
            then
                '^(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])[ T]([01][0-9]|2[0-3]):[0-5][0-9]'
                '(:[0-5][0-9](\.[0-9]{1,6})?)?$'
        when 'pg_catalog.timestamptz'::regtype
            then
                '^(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])[ T]([01][0-9]|2[0-3]):[0-5][0-9]'
                '(:[0-5][0-9](\.[0-9]{1,6})?)?(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?$'
        when 'pg_catalog.uuid'::regtype
            then '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$'
    end
);

comment on function sqlkit._valid_pattern(oid, integer) is
'A pattern that only valid values of a type match; null if there is none.';


create or replace function sqlkit._input_checks(p_target regclass, p_columns name[])
returns table (column_name name, type_name text, doubt text, error_query text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $input_checks$
declare
    v_can_ask boolean := current_setting('server_version_num')::integer >= 160000;
    r_column record;
begin
    for r_column in
        select
            a.attname,
            format_type(a.atttypid, a.atttypmod) as type_name,
            y.typnamespace = 'pg_catalog'::regnamespace as is_builtin,
            y.typtype = 'd' as is_domain,
            a.atttypid in ('pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype) as is_json,
            case
                when a.atttypid in ('pg_catalog.varchar'::regtype, 'pg_catalog.bpchar'::regtype) and a.atttypmod > 4
                    then a.atttypmod - 4
            end as max_length,
            sqlkit._valid_pattern(a.atttypid, a.atttypmod) as pattern
        from unnest(p_columns) with ordinality as k (name, position)
        join pg_attribute as a on a.attrelid = p_target and a.attname = k.name
        join pg_type as y on y.oid = a.atttypid
        where
            -- Any text is a text. One with a length is checked like any other type.
            not (a.atttypid = 'pg_catalog.text'::regtype)
            and not (a.atttypid = 'pg_catalog.varchar'::regtype and a.atttypmod = -1)
        order by k.position
    loop
        column_name := r_column.attname;
        type_name := r_column.type_name;
        if v_can_ask and r_column.is_json then
            -- JSON that is nested too deeply raises an error all the same, and is long.
            doubt := format(
                'case when char_length(s.%1$I) > 2000 then true else not pg_input_is_valid(s.%1$I, %2$L) end',
                r_column.attname,
                r_column.type_name
            );
            error_query := format(
                'select i.sqlstate_found, i.message from sqlkit._input_error(s.%I, %L) as i '
                'where i.sqlstate_found is not null',
                r_column.attname,
                r_column.type_name
            );
        elsif v_can_ask and r_column.is_builtin then
            doubt := format('not pg_input_is_valid(s.%I, %L)', r_column.attname, r_column.type_name);
            error_query := format(
                'select i.sql_error_code, i.message from pg_input_error_info(s.%I, %L) as i '
                'where i.sql_error_code is not null',
                r_column.attname,
                r_column.type_name
            );
        elsif r_column.max_length is not null then
            -- A cast would cut the value off in silence.
            doubt := format('char_length(rtrim(s.%I)) > %s', r_column.attname, r_column.max_length);
            error_query := format(
                'select %L, %L where %s',
                '22001', format('value too long for type %s', r_column.type_name), doubt
            );
        else
            -- Types of extensions may raise where others answer.
            doubt := case
                -- A domain may forbid nulls.
                when r_column.is_domain
                    and (select i.sqlstate_found from sqlkit._input_error(null, r_column.type_name) as i) is not null
                    then 'true'
                when r_column.pattern is null then format('s.%I is not null', r_column.attname)
                else format('s.%I !~ %L', r_column.attname, r_column.pattern)
            end;
            error_query := format(
                'select i.sqlstate_found, i.message from sqlkit._input_error(s.%I, %L) as i '
                'where i.sqlstate_found is not null',
                r_column.attname,
                r_column.type_name
            );
        end if;
        return next;
    end loop;
end;
$input_checks$;

comment on function sqlkit._input_checks(regclass, name[]) is
'For each column whose type not every text belongs to: a condition that no valid row s meets, and a query for
what is wrong with a row that does.';


create or replace function sqlkit._input_errors(p_stage text, p_target regclass, p_columns name[])
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $input_errors$
declare
    v_doubts text;
    v_errors text;
begin
    select
        string_agg(c.doubt, ' or ' order by c.ordinality),
        string_agg(
            -- Nobody asks what is wrong with a value that is not in doubt.
            format(
                'select %s, %L::name, e.* from (select where %s) as d cross join lateral (%s) as e (sqlstate, message)',
                c.ordinality, c.column_name, c.doubt, c.error_query
            ),
            ' union all '
            order by c.ordinality
        )
    into v_doubts, v_errors
    from sqlkit._input_checks(p_target, p_columns) with ordinality as c;
    return format(
        'select s.sqlkit_first_line as line, null::name as column_name, s.sqlkit_sqlstate as sqlstate, '
        's.sqlkit_message as message from %s as s where s.sqlkit_sqlstate is not null',
        p_stage
    )
    -- Of several columns at fault the first is named.
    || case
        -- Any text may be a value of text.
        when v_doubts is null then ''
        else format(
            ' union all select s.sqlkit_first_line, e.column_name, e.sqlstate, e.message '
            'from %s as s cross join lateral ('
            'select e.* from (%s) as e (position, column_name, sqlstate, message) order by e.position limit 1) as e '
            'where s.sqlkit_sqlstate is null and (%s)',
            p_stage,
            v_errors,
            v_doubts
        )
    end;
end;
$input_errors$;

comment on function sqlkit._input_errors(text, regclass, name[]) is
'A query for the rows of a text stage (line, column_name, sqlstate, message) that are malformed or whose values
their columns cannot take.';


create or replace function sqlkit._refuse_input(p_stage regclass, p_target regclass, p_columns name[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_input$
begin
    execute 'insert into pg_temp.sqlkit_refused (line, column_name, sqlstate, message) '
        || sqlkit._input_errors(p_stage::text, p_target, p_columns);
end;
$refuse_input$;

comment on function sqlkit._refuse_input(regclass, regclass, name[]) is
'Notes in pg_temp.sqlkit_refused the rows of a text stage that are malformed or whose values their columns
cannot take.';


create or replace function sqlkit._may_select(p_relation regclass, p_columns name[])
returns boolean
language sql
stable
return (
    select
        has_schema_privilege(c.relnamespace, 'usage')
        and (
            select bool_and(has_column_privilege(p_relation, k.name, 'select'))
            from unnest(p_columns) as k (name)
        )
    from pg_class as c
    where c.oid = p_relation
);

comment on function sqlkit._may_select(regclass, name[]) is
'Whether some columns of a relation may be read.';


create or replace function sqlkit._constraint_checks(
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[]
)
returns table (
    condition text,
    expression text,
    column_name name,
    error_code text,
    message text,
    is_of_one_row boolean
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $constraint_checks$
declare
    v_table text := sqlkit._table_name(p_target);
    r_check record;
begin
    -- NOT NULL. Under policy fill a null leaves what is there.
    is_of_one_row := true;
    for r_check in
        select a.attname
        from pg_attribute as a
        where
            a.attrelid = p_target
            and a.attnotnull
            and a.attname = any (p_columns)
            and a.attgenerated = ''
            and (p_policy <> 'fill' or a.attname = any (p_key))
    loop
        condition := format('s.%I is null', r_check.attname);
        column_name := r_check.attname;
        error_code := '23502';
        message := format('null value in column %I of %s', r_check.attname, v_table);
        return next;
    end loop;

    -- CHECK, where all columns that it looks at are in the batch.
    for r_check in
        select
            c.conname,
            pg_get_expr(c.conbin, c.conrelid) as expression,
            (select a.attname from pg_attribute as a where a.attrelid = p_target and a.attnum = c.conkey[1])
                as column_name
        from pg_constraint as c
        where
            c.conrelid = p_target
            and c.contype = 'c'
            and coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
            and p_policy <> 'fill'
            and not exists (
                select
                from pg_attribute as a
                where a.attrelid = p_target and a.attnum = any (c.conkey) and a.attname <> all (p_columns)
            )
    loop
        condition := format(
            'not coalesce((select %s from (select %s) as %I), true)',
            r_check.expression,
            sqlkit._column_list(p_columns, 's.%1$I as %1$I'),
            (select c.relname from pg_class as c where c.oid = p_target)
        );
        column_name := r_check.column_name;
        error_code := '23514';
        message := format('violates check constraint %I of %s', r_check.conname, v_table);
        expression := r_check.expression;
        return next;
    end loop;
    expression := null;

    -- FOREIGN KEY: no such row, and, where a table refers to itself, none on its way either.
    for r_check in
        select
            c.conname,
            c.confrelid::regclass as referenced,
            c.confrelid = c.conrelid as is_own,
            f.present,
            f.match,
            f.own_match,
            f.column_name
        from pg_constraint as c
        cross join lateral (
            select
                string_agg(format('s.%I is not null', a.attname), ' and ' order by k.position) as present,
                string_agg(
                    format('r.%I operator(%I.%s) s.%I', b.attname, n.nspname, o.oprname, a.attname),
                    ' and ' order by k.position
                ) as match,
                string_agg(
                    format('o.%I operator(%I.%s) s.%I', b.attname, n.nspname, o.oprname, a.attname),
                    ' and ' order by k.position
                ) as own_match,
                (array_agg(a.attname order by k.position))[1] as column_name,
                bool_and(a.attname = any (p_columns)) as is_staged,
                bool_and(b.attname = any (p_columns)) as is_own_staged,
                array_agg(b.attname) as referenced_columns
            from unnest(c.conkey, c.confkey, c.conpfeqop)
                with ordinality as k (attnum, foreign_attnum, equality, position)
            join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.attnum
            join pg_attribute as b on b.attrelid = c.confrelid and b.attnum = k.foreign_attnum
            join pg_operator as o on o.oid = k.equality
            join pg_namespace as n on n.oid = o.oprnamespace
        ) as f
        where
            c.conrelid = p_target
            and c.contype = 'f'
            and c.confmatchtype = 's'
            and coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
            and not coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false)
            and f.is_staged
            and (c.confrelid <> c.conrelid or f.is_own_staged)
            -- PostgreSQL looks as the owner. Who does not see every row is left to what writing shows.
            and sqlkit._may_select(c.confrelid, f.referenced_columns)
            and not row_security_active(c.confrelid)
    loop
        condition := format(
            '%s and not exists (select from %s as r where %s)%s',
            r_check.present,
            r_check.referenced,
            r_check.match,
            case
                when r_check.is_own
                    then format(' and not exists (select from pg_temp.sqlkit_sound as o where %s)', r_check.own_match)
                else ''
            end
        );
        column_name := r_check.column_name;
        error_code := '23503';
        message := format('violates foreign key %I of %s: no such row in %s', r_check.conname, v_table, r_check.referenced);
        is_of_one_row := not r_check.is_own;
        return next;
    end loop;
end;
$constraint_checks$;

comment on function sqlkit._constraint_checks(regclass, name[], text, name[]) is
'The conditions under which a row s breaks a NOT NULL, CHECK or foreign key constraint of the target, and how to say
so; of a CHECK also its own expression, for a row that goes by the name of the target. Left out are foreign keys to tables
of which the role does not see every row. is_of_one_row is false where pg_temp.sqlkit_sound, all rows of the batch, is looked at too.';


create or replace function sqlkit._refuse_by_constraint(
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_by_constraint$
declare
    r_check record;
begin
    for r_check in
        select c.*
        from sqlkit._constraint_checks(p_target, p_columns, p_policy, p_key) as c
    loop
        perform sqlkit._refuse_where(r_check.condition, r_check.column_name, r_check.error_code, r_check.message);
    end loop;
end;
$refuse_by_constraint$;

comment on function sqlkit._refuse_by_constraint(regclass, name[], text, name[]) is
'Moves the rows of pg_temp.sqlkit_sound that break a NOT NULL, CHECK or foreign key constraint of the target to
pg_temp.sqlkit_refused.';


create or replace function sqlkit._unique_conditions(
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[]
)
returns table (index_name name, column_name name, is_taken text, is_behind text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $unique_conditions$
declare
    v_is_other text := case
        when p_policy = 'append' then 'true'
        else format('not coalesce(%s, false)', sqlkit._key_match(p_target, p_key))
    end;
begin
    -- Whether a row is a version of its own is known only when it is merged.
    if p_policy = 'history' then
        return;
    end if;
    return query
    select
        c.relname,
        u.columns[1],
        format(
            'exists (select from %1$s%2$s as t where %3$s and %4$s)',
            case when sqlkit._is_plain(p_target) then 'only ' else '' end,
            sqlkit._table_name(p_target),
            sqlkit._key_match(p_target, u.columns),
            v_is_other
        ),
        format(
            'exists (select from pg_temp.sqlkit_sound as t where t.sqlkit_line < s.sqlkit_line and %s and %s)',
            sqlkit._key_match(p_target, u.columns),
            v_is_other
        )
    from sqlkit._unique_keys(p_target) as u
    join pg_class as c on c.oid = u.index_id
    where
        u.columns <@ p_columns
        and (p_policy = 'append' or not (u.columns @> p_key and u.columns <@ p_key))
        -- Who may only insert is left to what writing shows.
        and sqlkit._may_select(p_target, u.columns)
    order by c.relname;
end;
$unique_conditions$;

comment on function sqlkit._unique_conditions(regclass, name[], text, name[]) is
'For each unique index of a target but the key that rows are merged by: when the values of a row s of
pg_temp.sqlkit_sound are taken by a row of the target, and when an earlier row there has them.';


create or replace function sqlkit._refuse_by_unique(
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_by_unique$
declare
    r_index record;
begin
    for r_index in
        select u.*
        from sqlkit._unique_conditions(p_target, p_columns, p_policy, p_key) as u
    loop
        perform sqlkit._refuse_where(
            r_index.is_taken,
            r_index.column_name,
            '23505',
            format('violates unique index %I: the values are taken', r_index.index_name)
        );
    end loop;
    for r_index in
        select u.*
        from sqlkit._unique_conditions(p_target, p_columns, p_policy, p_key) as u
    loop
        execute format(
            'insert into pg_temp.sqlkit_behind select s.* from pg_temp.sqlkit_sound as s where %s', r_index.is_behind
        );
        perform sqlkit._refuse_where(
            r_index.is_behind,
            r_index.column_name,
            '23505',
            format('violates unique index %I: an earlier row of the batch has the values', r_index.index_name)
        );
    end loop;
end;
$refuse_by_unique$;

comment on function sqlkit._refuse_by_unique(regclass, name[], text, name[]) is
'Moves the rows of pg_temp.sqlkit_sound that break a unique index of the target, other than by the key that they
are merged by, to pg_temp.sqlkit_refused: what the target holds, then what came before in the batch. The latter are in
pg_temp.sqlkit_behind, too, for _take_back_behind().';


create or replace function sqlkit._take_back_behind(
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[]
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $take_back_behind$
declare
    v_rows bigint;
    v_is_taken text;
begin
    if not exists (select from pg_temp.sqlkit_behind) then
        return 0;
    end if;
    if p_policy <> 'append' then
        -- Where a row of its key was merged, that is what counts, and stays so whatever comes free.
        execute format(
            'delete from pg_temp.sqlkit_behind as s where exists (select from pg_temp.sqlkit_sound as t '
            'where %s and not exists (select from pg_temp.sqlkit_refused as r where r.line = t.sqlkit_line))',
            sqlkit._key_match(p_target, p_key)
        );
    end if;
    select string_agg(u.is_taken, ' or ')
    into v_is_taken
    from sqlkit._unique_conditions(p_target, p_columns, p_policy, p_key) as u;
    execute format(
        'create temporary table sqlkit_free on commit drop as '
        'select s.* from pg_temp.sqlkit_behind as s where not coalesce(%s, false)',
        v_is_taken
    );
    get diagnostics v_rows = row_count;
    if v_rows > 0 then
        delete from pg_temp.sqlkit_behind as b
        where b.sqlkit_line in (select f.sqlkit_line from pg_temp.sqlkit_free as f);
        delete from pg_temp.sqlkit_refused as r
        where r.line in (select f.sqlkit_line from pg_temp.sqlkit_free as f);
        truncate table pg_temp.sqlkit_sound;
        insert into pg_temp.sqlkit_sound select f.* from pg_temp.sqlkit_free as f;
        perform sqlkit._refuse_by_unique(p_target, p_columns, p_policy, p_key);
    end if;
    drop table pg_temp.sqlkit_free;
    return v_rows;
end;
$take_back_behind$;

comment on function sqlkit._take_back_behind(regclass, name[], text, name[]) is
'After the rows of pg_temp.sqlkit_sound were merged: those that had been refused because an earlier row of the batch has
their values are sound again, instead, if that row was refused when it was written. Returns how many there are.';


create or replace function sqlkit._refuse_where(
    p_condition text,
    p_column name,
    p_sqlstate text,
    p_message text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_where$
begin
    execute format(
        'with gone as (delete from pg_temp.sqlkit_sound as s where %s returning s.sqlkit_line) '
        'insert into pg_temp.sqlkit_refused (line, column_name, sqlstate, message) '
        'select g.sqlkit_line, $1, $2, $3 from gone as g',
        p_condition
    )
    using p_column, p_sqlstate, p_message;
end;
$refuse_where$;

comment on function sqlkit._refuse_where(text, name, text, text) is
'Moves rows s of pg_temp.sqlkit_sound to pg_temp.sqlkit_refused, with the reason.';
