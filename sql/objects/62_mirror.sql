-- Mirror: a target is made equal to a stage, and only differences are written. Rows that are not in the stage go
-- first, since a new row may claim what one of them had; then the stage is merged.

create or replace function sqlkit._find_unmet(p_stage regclass, p_target regclass, p_key name[], p_scope name[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- As in _find_difference(): in parallel, and in hash tables that stay in the processor's cache.
set parallel_tuple_cost = 0
set parallel_setup_cost = 0
set min_parallel_table_scan_size = 0
set work_mem = '4MB'
as $find_unmet$
begin
    perform set_config(
        'work_mem', greatest(4096, least(262144, pg_table_size(p_stage) / 1024 / 128))::text || 'kB', true
    );
    execute format(
        'create temporary table sqlkit_unmet on commit drop as '
        'select t.tableoid as sqlkit_table, t.ctid as sqlkit_ctid from %1$s%2$s as t %3$s '
        'where not exists (select from only %4$s as s where %5$s)',
        case when sqlkit._is_plain(p_target) then 'only ' else '' end,
        sqlkit._table_name(p_target),
        sqlkit._scope_join(p_stage, p_target, p_scope),
        sqlkit._table_name(p_stage),
        sqlkit._key_match(p_target, p_key)
    );
end;
$find_unmet$;

comment on function sqlkit._find_unmet(regclass, regclass, name[], name[]) is
'Keeps in pg_temp.sqlkit_unmet where the rows of a target lie, those in scope, whose key is not in the stage.';


create or replace function sqlkit._scope_join(p_stage regclass, p_target regclass, p_scope name[])
returns text
language sql
stable
return (
    -- Arrays, since in a scope nulls are equal, and unlike IS NOT DISTINCT FROM arrays can be hashed.
    select case
        when p_scope is null then ''
        else format(
            'join (select distinct %s from only %s as c) as c on %s',
            sqlkit._column_list(p_scope, 'c.%I'),
            sqlkit._table_name(p_stage),
            string_agg(
                format(
                    case
                        when a.attnotnull then 'c.%1$I %2$s t.%1$I'
                        else 'array[c.%1$I] operator(pg_catalog.=) array[t.%1$I]'
                    end,
                    a.attname,
                    sqlkit._operator(p_target, a.attname, '=')
                ),
                ' and '
            )
        )
    end
    from pg_attribute as a
    where a.attrelid = p_target and a.attname = any(p_scope) and a.attnum > 0 and not a.attisdropped
);

comment on function sqlkit._scope_join(regclass, regclass, name[]) is
'A join that leaves of rows t of a target those whose values in some columns occur in the stage; all without any.';


create or replace function sqlkit._check_scope(p_stage regclass, p_target regclass, p_scope name[])
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $check_scope$
declare
    v_unknown text;
begin
    select string_agg(quote_ident(k.name), ', ' order by k.position)
    into v_unknown
    from unnest(p_scope) with ordinality as k (name, position)
    where k.name is null or k.name <> all(sqlkit._staged_columns(p_stage, p_target));
    if v_unknown is not null or cardinality(p_scope) = 0 then
        raise exception using
            errcode = 'SK204',
            message = format('columns of the scope that the input does not have: %s', v_unknown),
            detail = format(
                'Input: %s.', sqlkit._column_list(sqlkit._staged_columns(p_stage, p_target), '%I')
            ),
            hint = 'Name columns that the input and the target have, such as those of the store that it is from.';
    end if;
end;
$check_scope$;

comment on function sqlkit._check_scope(regclass, regclass, name[]) is
'Raises SK204 if a column of a scope is not in the stage and in the target.';


create or replace function sqlkit._delete_unmet(p_target regclass)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
-- Each row is fetched by its place, in the order of places.
set enable_hashjoin = off
set enable_mergejoin = off
set enable_memoize = off
set work_mem = '64MB'
as $delete_unmet$
declare
    v_is_plain boolean := sqlkit._is_plain(p_target);
begin
    if not v_is_plain then
        -- Rows lie in many tables, where a place alone does not tell which row is meant.
        perform set_config('enable_hashjoin', 'on', true);
    end if;
    return sqlkit._write(format(
        'delete from %s%s as t using (select u.* from pg_temp.sqlkit_unmet as u order by u.sqlkit_ctid offset 0) as u '
        'where t.ctid operator(pg_catalog.=) u.sqlkit_ctid%s',
        case when v_is_plain then 'only ' else '' end,
        sqlkit._table_name(p_target),
        case when not v_is_plain then ' and t.tableoid operator(pg_catalog.=) u.sqlkit_table' end
    ));
end;
$delete_unmet$;

comment on function sqlkit._delete_unmet(regclass) is
'Deletes what _find_unmet() found, and returns how many rows that were. Writes: the target.';


create or replace function sqlkit._mirror(
    p_stage regclass,
    p_target regclass,
    p_key name[],
    p_scope name[],
    p_delete_share double precision,
    p_delete_limit bigint
)
returns sqlkit.refresh_result
language plpgsql
set search_path = pg_catalog, pg_temp
as $mirror$
declare
    v_key name[] := sqlkit.find_key(p_target, p_key);
    v_unmet bigint;
    v_deleted bigint := 0;
    v_indexes text := coalesce(current_setting('sqlkit.indexes', true), '');
    v_counts sqlkit.row_counts;
begin
    perform sqlkit._check_policy('update', p_target, sqlkit._staged_columns(p_stage, p_target), v_key, null);
    perform sqlkit._check_scope(p_stage, p_target, p_scope);
    -- Readers go on; writers wait, so that what the joins saw is still true when it is written.
    execute format('lock table %s in share row exclusive mode', p_target);
    perform sqlkit._find_unmet(p_stage, p_target, v_key, p_scope);
    select count(*)
    into v_unmet
    from pg_temp.sqlkit_unmet;
    if v_unmet > 0 then
        if p_delete_share < 1 or p_delete_limit is not null then
            perform sqlkit._refuse_deletion(
                p_target,
                v_unmet,
                sqlkit._count_rows(format(
                    'select from %s%s as t %s',
                    case when sqlkit._is_plain(p_target) then 'only ' else '' end,
                    sqlkit._table_name(p_target),
                    sqlkit._scope_join(p_stage, p_target, p_scope)
                )),
                p_delete_share,
                p_delete_limit
            );
        end if;
        v_deleted := sqlkit._delete_unmet(p_target);
    end if;
    drop table pg_temp.sqlkit_unmet;
    -- Indexes are not built anew either, however many rows differ: that would shut readers out.
    if v_indexes in ('', 'auto') then
        perform set_config('sqlkit.indexes', 'keep', true);
    end if;
    v_counts := sqlkit._merge(array[p_stage], p_target, 'update', v_key);
    perform set_config('sqlkit.indexes', v_indexes, true);
    if v_indexes in ('', 'auto') and sqlkit._take_index_decision() is not null then
        perform sqlkit._note_index_decision('kept: under mirror readers go on');
    end if;
    return (
        'mirror'::text, v_counts.rows_read, v_counts.rows_inserted, v_counts.rows_updated, v_counts.rows_unchanged,
        v_counts.rows_ignored, v_counts.rows_duplicate, v_deleted
    );
end;
$mirror$;

comment on function sqlkit._mirror(regclass, regclass, name[], name[], double precision, bigint) is
'Makes a target, or what of it is in scope, equal to a stage by writing the differences.
Writes: the target. Locks: SHARE ROW EXCLUSIVE on the target until commit; ACCESS EXCLUSIVE only if setting
sqlkit.indexes is rebuild.
Raises: SK202 to SK204 for what cannot be merged, SK304 if more rows would go than may.';
