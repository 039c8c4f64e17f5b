-- Merging from another relation: a foreign table, a view, any table. One statement, inside the database; of the
-- source only the columns that the target has are asked for, and only the rows that may be new.

create or replace function sqlkit._source_query(
    p_target regclass,
    p_source regclass,
    p_watermark name,
    p_since text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $source_query$
declare
    v_columns name[];
    v_since text := p_since;
begin
    select array_agg(t.attname order by t.attnum)
    into v_columns
    from pg_attribute as t
    join pg_attribute as s
        on s.attrelid = p_source and s.attname = t.attname and s.attnum > 0 and not s.attisdropped
    where t.attrelid = p_target and t.attnum > 0 and not t.attisdropped and t.attgenerated = '';
    if v_columns is null then
        raise exception using
            errcode = 'SK204',
            message = 'source and target have no column in common',
            detail = format('Target: %s; source: %s.', sqlkit._table_name(p_target), sqlkit._table_name(p_source)),
            hint = 'Columns are matched by name: make a view of the source that has the names of the target.';
    end if;
    if p_watermark is not null then
        perform sqlkit._refuse_columns(p_target, array[p_watermark]);
        perform sqlkit._refuse_columns(p_source, array[p_watermark]);
        if v_since is null then
            execute format('select max(t.%I)::text from %s as t', p_watermark, sqlkit._table_name(p_target))
            into v_since;
        end if;
    end if;
    return format(
        'select %s from %s as s%s',
        sqlkit._column_list(v_columns, 's.%I'),
        sqlkit._table_name(p_source),
        -- As a constant: only that does a foreign server get to see. The last value is read again, since rows that
        -- came later may have it too.
        case
            when v_since is not null
                then format(
                    ' where s.%I operator(pg_catalog.>=) %L::%s', p_watermark, v_since,
                    (
                        select format_type(a.atttypid, a.atttypmod)
                        from pg_attribute as a
                        where a.attrelid = p_source and a.attname = p_watermark
                    )
                )
        end
    );
end;
$source_query$;

comment on function sqlkit._source_query(regclass, regclass, name, text) is
'A query for the rows of a source that may be new to a target: of the columns that both have, from a watermark on.
Raises: SK204 no column in common, or no such watermark.';


create or replace function sqlkit.merge_source(
    p_target regclass,
    p_source regclass,
    p_policy text default 'update',
    p_watermark name default null,
    p_since text default null,
    p_key name[] default null,
    p_order_by name default null,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_source$
declare
    v_counts sqlkit.row_counts;
    v_stage regclass;
begin
    perform sqlkit._check_target(p_target);
    v_stage := sqlkit.stage_query(
        p_target, sqlkit._source_query(p_target, p_source, p_watermark, p_since), p_search_path => p_search_path
    );
    v_counts := sqlkit.merge_stage(v_stage, p_policy, p_key, p_order_by, p_search_path => p_search_path);
    perform sqlkit.drop_stage(v_stage);
    return v_counts;
end;
$merge_source$;

comment on function sqlkit.merge_source(regclass, regclass, text, name, text, name[], name, text) is
'Applies the rows of another relation, a foreign table say, to a target, and returns what became of them, as
merge_stage() does. Of the source only the columns are read that the target has too, and with p_watermark, a column
that grows with each change of a row, only rows that have at least the greatest value there is in the target, or
p_since; a foreign server is told both. Rows that were committed late, with a lesser value, are missed.
Writes: the target, sqlkit.run, sqlkit.batch, sqlkit.stage. Locks: SHARE ROW EXCLUSIVE on the target until commit,
except for append. Raises: SK201 no table, SK204 no column in common or no such watermark, and what merge_stage()
raises.';
