-- Targets that follow their sources: columns that a source has, and its target has not yet.

create or replace function sqlkit.add_columns(p_target regclass, p_columns name[], p_types text[], p_run_id bigint)
returns name[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $add_columns$
declare
    v_added name[] := array[]::name[];
    r_column record;
begin
    for r_column in
        select
            c.name,
            c.type
        from unnest(p_columns, p_types) with ordinality as c (name, type, position)
        where
            not exists (
                select 1 as found
                from pg_attribute as a
                where a.attrelid = p_target and a.attname = c.name and a.attnum > 0 and not a.attisdropped
            )
        order by c.position
    loop
        -- Whatever is more than the name of a type is an error here.
        perform r_column.type::regtype;
        execute format(
            'alter table %s add column if not exists %I %s', sqlkit._table_name(p_target), r_column.name, r_column.type
        );
        v_added := v_added || r_column.name;
        update sqlkit.run
        set reasons = reasons || format('column %I %s was added to the table', r_column.name, r_column.type)
        where run_id = p_run_id;
    end loop;
    return v_added;
end;
$add_columns$;

comment on function sqlkit.add_columns(regclass, name[], text[], bigint) is
'Adds the columns that a table does not have yet, with their types, which may be null, and notes them in the run;
those that were added. Writes: the catalog, sqlkit.run. Locks: ACCESS EXCLUSIVE on the table, until commit.
Raises: 42704 for a type that there is not, 42601 for what is no type.';
