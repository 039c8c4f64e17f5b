-- Before a constraint is added: the rows that would break it.

create or replace function sqlkit._read_constraint(p_target regclass, p_definition text, p_search_path text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $read_constraint$
declare
    v_table text := format('sqlkit_stage.%I', 'constraint_' || pg_current_xact_id());
    v_statement text := format('alter table %s add constraint read_constraint %s', v_table, p_definition);
    v_constraint jsonb;
begin
    -- PostgreSQL reads the definition, on an empty table of the same columns. Taking that back gives up the locks
    -- of a foreign key, too.
    execute format('create unlogged table %s (like %s including generated)', v_table, sqlkit._table_name(p_target));
    -- The names in it are the caller's.
    perform set_config('search_path', p_search_path, true);
    execute v_statement;
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    select jsonb_build_object(
        'kind', c.contype,
        'expression', pg_get_expr(c.conbin, c.conrelid),
        'condition', (
            select pg_get_expr(i.indpred, i.indrelid)
            from pg_index as i
            where i.indexrelid = c.conindid and c.contype <> 'f'
        ),
        'nulls_equal', (
            select i.indnullsnotdistinct
            from pg_index as i
            where i.indexrelid = c.conindid and c.contype <> 'f'
        ),
        'has_period', coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false),
        'is_of_children', (
            select t.relkind = 'p' or (c.contype = 'c' and not c.connoinherit)
            from pg_class as t
            where t.oid = p_target
        ),
        'is_full_match', c.confmatchtype = 'f',
        -- A CHECK may look at no column.
        'columns', (
            select coalesce(jsonb_agg(
                case
                    when c.contype in ('p', 'u', 'x') then pg_get_indexdef(c.conindid, k.position::integer, false)
                    else (
                        select quote_ident(a.attname)
                        from pg_attribute as a
                        where a.attrelid = c.conrelid and a.attnum = k.attnum
                    )
                end
                order by k.position
            ), '[]')
            from unnest(c.conkey) with ordinality as k (attnum, position)
        ),
        'types', (
            select jsonb_agg(y.typtype order by k.attnum)
            from pg_attribute as k
            join pg_type as y on y.oid = k.atttypid
            where k.attrelid = c.conindid
        ),
        'operators', (
            select jsonb_agg(format('operator(%I.%s)', n.nspname, o.oprname) order by k.position)
            from unnest(coalesce(c.conexclop, c.conpfeqop)) with ordinality as k (id, position)
            join pg_operator as o on o.oid = k.id
            join pg_namespace as n on n.oid = o.oprnamespace
        ),
        'other', sqlkit._table_name(nullif(c.confrelid, 0)),
        'other_columns', (
            select jsonb_agg(quote_ident(a.attname) order by k.position)
            from unnest(c.confkey) with ordinality as k (attnum, position)
            join pg_attribute as a on a.attrelid = c.confrelid and a.attnum = k.attnum
        )
    )
    into v_constraint
    from pg_constraint as c
    where c.conrelid = v_table::regclass and c.conname = 'read_constraint';
    raise exception 'the table was only made to be read';
exception
    when raise_exception then
        if v_constraint is null then
            raise;
        end if;
        return v_constraint;
end;
$read_constraint$;

comment on function sqlkit._read_constraint(regclass, text, text) is
'What a constraint, written as after ALTER TABLE .. ADD CONSTRAINT name, would ask of the rows of a table.
Locks: what adding a foreign key locks of the table that it refers to, for a moment.
Raises: whatever PostgreSQL says to the definition.';


create or replace function sqlkit.check_constraint(
    p_target regclass,
    p_definition text,
    p_limit bigint default null,
    p_search_path text default current_setting('search_path')
)
returns table (problem text, first_row jsonb, second_row jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
set row_security = off
as $check_constraint$
declare
    v_constraint jsonb := sqlkit._read_constraint(p_target, p_definition, p_search_path);
    v_kind text := v_constraint ->> 'kind';
    v_columns jsonb := v_constraint -> 'columns';
    v_last integer := jsonb_array_length(v_columns);
    -- Rows of tables that inherit are looked at by a CHECK alone, unless it says NO INHERIT.
    v_table text := case
        when (v_constraint ->> 'is_of_children')::boolean then '' else 'only '
    end || sqlkit._table_name(p_target);
    v_queries text[] := array[]::text[];
    v_query text;
    v_rest text;
begin
    if v_kind in ('p', 'u', 'x') then
        v_query := format(
            -- No column is called as the row is.
            'select sqlkit_row as r, sqlkit_row.ctid as place, %s from %s as sqlkit_row where %s and %s',
            sqlkit._numbered_list(v_columns, '%1$s as c%2$s'),
            v_table,
            coalesce('(' || (v_constraint ->> 'condition') || ')', 'true'),
            -- A null is in nobody's way.
            case
                when (v_constraint ->> 'nulls_equal')::boolean then 'true'
                else sqlkit._numbered_list(v_columns, '(%1$s) is not null', ' and ')
            end
        );
    end if;

    if v_kind = 'p' then
        v_queries := v_queries || format(
            'select ''null'', to_jsonb(t.*), null::jsonb from %s as t where %s',
            v_table, sqlkit._numbered_list(v_columns, '%1$s is null', ' or ')
        );
    end if;
    if v_kind = 'c' then
        v_queries := v_queries || format(
            'select ''check'', to_jsonb(t.*), null::jsonb from %s as t where (%s) is false',
            v_table, v_constraint ->> 'expression'
        );
    elsif v_kind = 'f' and not (v_constraint ->> 'has_period')::boolean then
        v_queries := v_queries || format(
            'select ''reference'', to_jsonb(t.*), null::jsonb from %1$s as t '
            'where (%2$s) and not exists (select from %3$s as o where %4$s)',
            v_table,
            sqlkit._numbered_list(
                v_columns, 't.%1$s is not null',
                case when (v_constraint ->> 'is_full_match')::boolean then ' or ' else ' and ' end
            ),
            v_constraint ->> 'other',
            (
                select string_agg(
                    format(
                        'o.%s %s t.%s',
                        v_constraint -> 'other_columns' ->> k.n, v_constraint -> 'operators' ->> k.n, v_columns ->> k.n
                    ),
                    ' and '
                )
                from generate_series(0, v_last - 1) as k (n)
            )
        );
    elsif v_kind in ('p', 'u') and v_constraint ->> 'operators' is null then
        v_queries := v_queries || format(
            'select ''unique'', to_jsonb(s.first), to_jsonb(s.r) from ('
            'select s.r, first_value(s.r) over w as first, row_number() over w as n from (%s) as s '
            'window w as (partition by %s order by s.place)) as s where s.n > 1',
            v_query, sqlkit._numbered_list(v_columns, 's.c%2$s')
        );
    elsif v_kind in ('p', 'u', 'x') then
        if (v_constraint ->> 'has_period')::boolean then
            -- Whatever the other columns hold: nulls, too.
            v_queries := v_queries || format(
                'select ''empty'', to_jsonb(t.*), null::jsonb from %s as t where isempty(%s)',
                v_table, v_columns ->> (v_last - 1)
            );
        end if;
        v_query := format('select s.*, row_number() over (order by s.place) as n from (%s) as s', v_query);
        -- Ranges that may not overlap where all else is equal: only rows that touch another one are tried.
        if
            v_constraint -> 'operators' ->> (v_last - 1) = 'operator(pg_catalog.&&)'
            and v_constraint -> 'types' ->> (v_last - 1) = 'r'
            and v_last > 1
            and not exists (
                select
                from jsonb_array_elements_text(v_constraint -> 'operators') with ordinality as o (name, position)
                where o.position < v_last and o.name !~ '\.=\)$'
            )
        then
            select string_agg(format('s.c%s', k.n), ', ')
            into v_rest
            from generate_series(1, v_last - 1) as k (n);
            v_query := format(
                'select s.* from (select s.*, max(upper(s.c%1$s)) over w as reach, '
                'bool_or(upper_inf(s.c%1$s)) over w as is_open, lead(lower(s.c%1$s)) over w as next_lo '
                'from (%2$s) as s where not isempty(s.c%1$s) window w as (partition by %3$s '
                'order by s.c%1$s rows between unbounded preceding and 1 preceding)) as s '
                'where s.reach >= lower(s.c%1$s) or s.next_lo <= upper(s.c%1$s) or s.is_open '
                'or lower_inf(s.c%1$s) or upper_inf(s.c%1$s)',
                v_last, v_query, v_rest
            );
        end if;
        v_queries := v_queries || format(
            'select ''exclusion'', to_jsonb(a.r), to_jsonb(b.r) from (%1$s) as a join (%1$s) as b on a.n < b.n and %2$s',
            'select s.* from candidate as s',
            (
                select string_agg(format('a.c%s %s b.c%1$s', o.position, o.name), ' and ')
                from jsonb_array_elements_text(v_constraint -> 'operators') with ordinality as o (name, position)
            )
        );
        v_queries[1] := format('with candidate as materialized (%s) %s', v_query, v_queries[1]);
    else
        raise exception using
            errcode = '0A000',
            message = 'constraints of this kind cannot be checked beforehand',
            detail = format('Table: %s; definition: %s.', sqlkit._table_name(p_target), p_definition),
            hint = 'Checked are CHECK, UNIQUE, PRIMARY KEY, EXCLUDE, WITHOUT OVERLAPS and FOREIGN KEY without PERIOD.';
    end if;
    for problem, first_row, second_row in
        execute format('%s limit %L', array_to_string(v_queries, ' union all '), p_limit)
    loop
        return next;
    end loop;
end;
$check_constraint$;

comment on function sqlkit.check_constraint(regclass, text, bigint, text) is
'Lists the rows that would break a constraint, so many at most, before it is added: CHECK, UNIQUE, PRIMARY KEY, EXCLUDE,
WITHOUT OVERLAPS and FOREIGN KEY, written as after ALTER TABLE .. ADD CONSTRAINT name. Problems are check, null, unique,
exclusion, empty (a range that WITHOUT OVERLAPS refuses) and reference; where two rows are in each other''s way, both are
shown, the further ones of a unique key each with the first. Names in the definition are found by p_search_path, the
caller''s unless said.
Locks: what adding a foreign key locks of the table that it refers to, for a moment. Raises: 0A000 for a foreign key
with PERIOD, 42501 where row security would hide rows, and whatever PostgreSQL says to the definition.';
