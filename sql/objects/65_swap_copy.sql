-- The new table beside the old one: made like it, and filled with indexes and constraints after the rows.

create or replace function sqlkit._copied_indexes(p_target regclass, p_copy regclass)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $copied_indexes$
    -- Names of indexes are unique in a schema: until the exchange they have others.
    select coalesce(
        jsonb_agg(
            i.saved
            || jsonb_build_object(
                'name', i.new_name,
                'constraint', case when not i.is_special then i.new_constraint end,
                'definition', case
                    when i.is_special
                        then format(
                            'alter table %s add constraint %I %s', sqlkit._table_name(p_copy), i.new_name,
                            pg_get_constraintdef(i.constraint_id)
                        )
                    else format('create %sindex %I on %s', i.is_unique, i.new_name, sqlkit._table_name(p_copy))
                        || substr(i.saved ->> 'definition', i.head_length + 1)
                end
            )
            order by i.position
        ),
        '[]'
    )
    from (
        select
            s.saved,
            s.position,
            o.oid as constraint_id,
            format('sqlkit_%s_%s', p_copy::oid, x.indexrelid) as new_name,
            case when o.oid is not null then format('sqlkit_%s_%s', p_copy::oid, x.indexrelid) end as new_constraint,
            -- Constraints that no index alone makes.
            coalesce(o.contype = 'x' or (to_jsonb(o) ->> 'conperiod')::boolean, false) as is_special,
            case when x.indisunique then 'unique ' else '' end as is_unique,
            length(format(
                'create %sindex %I on %s',
                case when x.indisunique then 'unique ' else '' end,
                s.saved ->> 'name',
                sqlkit._table_name(p_target)
            )) as head_length
        from jsonb_array_elements(sqlkit._saved_indexes(p_target)) with ordinality as s (saved, position)
        join pg_class as c
            on
                c.relname = s.saved ->> 'name'
                and c.relnamespace = (select t.relnamespace from pg_class as t where t.oid = p_target)
        join pg_index as x on x.indexrelid = c.oid
        left join pg_constraint as o on o.conindid = x.indexrelid and o.conrelid = p_target
    ) as i
$copied_indexes$;

comment on function sqlkit._copied_indexes(regclass, regclass) is
'The indexes of a table, to be built on a copy of it, as finish_first_load() takes them.';


create or replace function sqlkit._create_copy(p_target regclass, p_run_id bigint)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
set default_tablespace = ''
as $create_copy$
declare
    v_stage_id bigint := nextval(pg_get_serial_sequence('sqlkit.stage', 'stage_id'));
    v_name name := 'swap_' || v_stage_id;
    v_statement text;
begin
    perform sqlkit._refuse_strategy(p_target, 'swap', sqlkit._swap_obstacles(p_target));
    insert into sqlkit.stage (stage_id, name, target, run_id)
    overriding system value
    values (v_stage_id, v_name, sqlkit._table_name(p_target), p_run_id);
    select format(
        'create %stable sqlkit_stage.%I (like %s including all excluding indexes excluding statistics) using %I%s%s',
        case c.relpersistence when 'u' then 'unlogged ' else '' end,
        v_name,
        sqlkit._table_name(p_target),
        m.amname,
        (
            select ' with (' || string_agg(
                format('%s%I = %L', o.prefix, split_part(o.option, '=', 1), substr(o.option, strpos(o.option, '=') + 1)),
                ', '
            ) || ')'
            from (
                select
                    '' as prefix,
                    u as option
                from unnest(c.reloptions) as u
                union all
                select
                    'toast.',
                    u
                from unnest(t.reloptions) as u
            ) as o
        ),
        ' tablespace ' || quote_ident(s.spcname)
    )
    into v_statement
    from pg_class as c
    join pg_am as m on m.oid = c.relam
    left join pg_class as t on t.oid = c.reltoastrelid
    left join pg_tablespace as s on s.oid = c.reltablespace
    where c.oid = p_target;
    execute v_statement;
    return format('sqlkit_stage.%I', v_name)::regclass;
end;
$create_copy$;

comment on function sqlkit._create_copy(regclass, bigint) is
'Makes an empty table with the columns and checks of a target, as a stage of a run.
Writes: sqlkit.stage. Raises: SK210 if no other table can take the target''s place.';


create or replace function sqlkit._fill_copy(
    p_copy regclass,
    p_stage regclass,
    p_target regclass,
    p_key name[],
    p_delete_share double precision,
    p_delete_limit bigint
)
returns sqlkit.refresh_result
language plpgsql
set search_path = pg_catalog, pg_temp
set synchronize_seqscans = off
as $fill_copy$
declare
    v_key name[] := sqlkit._key_or_none(p_target, p_key);
    v_columns name[] := sqlkit._staged_columns(p_stage, p_target);
    v_read bigint := sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_stage)));
    v_before bigint := sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_target)));
    v_counts sqlkit.row_counts;
    r_statement record;
begin
    perform sqlkit._refuse_deletion(
        p_target, greatest(0, v_before - v_read), v_before, p_delete_share, p_delete_limit
    );
    perform sqlkit._write(format(
        'insert into %s (%s) overriding system value select %s from only %s as s',
        sqlkit._table_name(p_copy),
        sqlkit._column_list(v_columns, '%I'),
        sqlkit._column_list(v_columns, 's.%I'),
        sqlkit._table_name(p_stage)
    ));
    v_counts := sqlkit.finish_first_load(
        p_copy, sqlkit._copied_indexes(p_target, p_copy), v_read,
        case when v_key is null then 'append' else 'update' end, v_key
    );
    -- What needs the rows, or belongs to the analysis of them.
    for r_statement in
        select format(
            'alter table %s add constraint %I %s', sqlkit._table_name(p_copy), k.conname, pg_get_constraintdef(k.oid)
        ) as statement
        from pg_constraint as k
        where k.conrelid = p_target and k.contype = 'f'
        union all
        -- A copied check holds for all rows, whatever was said of the old ones.
        select format(
            'alter table %1$s drop constraint %2$I, add constraint %2$I %3$s', sqlkit._table_name(p_copy), k.conname,
            pg_get_constraintdef(k.oid)
        )
        from pg_constraint as k
        where k.conrelid = p_target and k.contype in ('c', 'n') and not k.convalidated
        union all
        select format(
            'alter table %s alter column %I set statistics %s', sqlkit._table_name(p_copy), a.attname,
            to_jsonb(a) ->> 'attstattarget'
        )
        from pg_attribute as a
        where
            a.attrelid = p_target and a.attnum > 0 and not a.attisdropped
            and (to_jsonb(a) ->> 'attstattarget')::integer >= 0
        union all
        select format(
            'alter table %s alter column %I set (%s)', sqlkit._table_name(p_copy), a.attname,
            (
                select string_agg(format('%I = %L', split_part(o, '=', 1), split_part(o, '=', 2)), ', ')
                from unnest(sqlkit._column_options(a.attoptions)) as o
            )
        )
        from pg_attribute as a
        where
            a.attrelid = p_target and a.attnum > 0 and not a.attisdropped
            and sqlkit._column_options(a.attoptions) is not null
        union all
        select format(
            'alter index sqlkit_stage.%I alter column %s set statistics %s',
            format('sqlkit_%s_%s', p_copy::oid, i.indexrelid), a.attnum, to_jsonb(a) ->> 'attstattarget'
        )
        from pg_index as i
        join pg_attribute as a on a.attrelid = i.indexrelid
        where i.indrelid = p_target and (to_jsonb(a) ->> 'attstattarget')::integer >= 0
        union all
        select format(
            'create statistics sqlkit_stage.%I%s on %s from %s',
            format('sqlkit_%s_%s', p_copy::oid, e.oid),
            ' (' || (
                select string_agg(
                    case k when 'd' then 'ndistinct' when 'f' then 'dependencies' when 'm' then 'mcv' end, ', '
                )
                from unnest(e.stxkind) as k
                where k <> 'e'
            ) || ')',
            pg_get_statisticsobjdef_columns(e.oid),
            sqlkit._table_name(p_copy)
        )
        from pg_statistic_ext as e
        where e.stxrelid = p_target
        union all
        select format(
            'alter statistics sqlkit_stage.%I set statistics %s', format('sqlkit_%s_%s', p_copy::oid, e.oid),
            to_jsonb(e) ->> 'stxstattarget'
        )
        from pg_statistic_ext as e
        where e.stxrelid = p_target and (to_jsonb(e) ->> 'stxstattarget')::integer >= 0
    loop
        execute r_statement.statement;
    end loop;
    execute format('analyze %s', sqlkit._table_name(p_copy));
    return (
        'swap'::text, v_counts.rows_read, v_counts.rows_inserted, 0::bigint, 0::bigint, 0::bigint,
        v_counts.rows_duplicate, v_before
    );
end;
$fill_copy$;

comment on function sqlkit._fill_copy(regclass, regclass, regclass, name[], double precision, bigint) is
'Gives a copy of a target the rows of a stage, then indexes and foreign keys as the target has them; what would come
of it. Writes: the copy. Locks: SHARE ROW EXCLUSIVE on tables that the target refers to, until commit.
Raises: SK304 if the target would lose more rows than may go, and what its constraints raise.';
