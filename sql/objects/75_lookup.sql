-- Lookups: natural keys become surrogate ids of a dimension, set by set. One insert makes the missing ones, and one
-- join finds all of them.

create or replace function sqlkit._key_expressions(p_dimension regclass, p_keys name[], p_values text[])
returns text[]
language sql
stable
return (
    select array_agg(format('(%s)::%s', v.expression, format_type(a.atttypid, a.atttypmod)) order by v.position)
    from unnest(p_keys, p_values) with ordinality as v (name, expression, position)
    join pg_attribute as a on a.attrelid = p_dimension and a.attname = v.name
);

comment on function sqlkit._key_expressions(regclass, name[], text[]) is
'Expressions, cast to the types of the columns of a dimension that they are keys of.';


create or replace function sqlkit._create_keys(
    p_from text,
    p_expressions text[],
    p_dimension regclass,
    p_keys name[],
    p_defaults jsonb
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $create_keys$
declare
    v_keys jsonb := to_jsonb(p_keys);
begin
    -- In the order of the key, so that two loaders that make the same ones wait for each other, and not crosswise.
    return sqlkit._write(format(
        'insert into %1$s (%2$s%3$s) select %4$s%5$s from (select distinct %6$s from %7$s) as s '
        'where %8$s and not exists (select from %1$s as t where %9$s) order by %4$s on conflict (%2$s) do nothing',
        sqlkit._table_name(p_dimension),
        sqlkit._column_list(p_keys, '%I'),
        (select string_agg(format(', %I', d.key), '' order by d.key) from jsonb_each(p_defaults) as d),
        sqlkit._numbered_list(v_keys, 's.k%2$s'),
        (
            select string_agg(format(', %L::%s', d.value, format_type(a.atttypid, a.atttypmod)), '' order by d.key)
            from jsonb_each_text(p_defaults) as d
            join pg_attribute as a on a.attrelid = p_dimension and a.attname = d.key
        ),
        sqlkit._numbered_list(to_jsonb(p_expressions), '%1$s as k%2$s'),
        p_from,
        sqlkit._numbered_list(v_keys, 's.k%2$s is not null', ' and '),
        sqlkit._equal_list(p_dimension, v_keys, 't.%1$I', 's.k%2$s')
    ));
end;
$create_keys$;

comment on function sqlkit._create_keys(text, text[], regclass, name[], jsonb) is
'Inserts the keys that expressions over a relation give and that a dimension does not have, with the values named for
other columns, and returns how many. Whoever inserts the same ones at the same time is waited for, and none is made
twice. Writes: the dimension.';


create or replace function sqlkit.resolve_keys(
    p_stage regclass,
    p_column name,
    p_dimension regclass,
    p_id name,
    p_keys name[],
    p_from name[] default null,
    p_create boolean default true,
    p_defaults jsonb default '{}',
    p_placeholder text default null,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.lookup_counts
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
set work_mem = '64MB'
as $resolve_keys$
declare
    v_counts sqlkit.lookup_counts := (0, 0, 0, 0);
    v_from name[] := coalesce(p_from, p_keys);
    v_expressions text[];
    v_columns text;
    v_resolved text;
begin
    perform sqlkit.find_key(p_dimension, p_keys);
    if not exists (
        select
        from sqlkit.stage as s
        join pg_class as c on c.relname = s.name and c.relnamespace = 'sqlkit_stage'::regnamespace
        where c.oid = p_stage
    ) then
        raise exception using
            errcode = 'SK208',
            message = 'there is no such stage',
            detail = format('Relation: %s.', p_stage),
            hint = 'Make one with sqlkit.create_stage().';
    end if;
    perform sqlkit._refuse_columns(p_stage, v_from || p_column);
    perform sqlkit._refuse_columns(
        p_dimension, p_id || array(select d.key::name from jsonb_each(p_defaults) as d)
    );
    perform set_config('sqlkit.search_path', p_search_path, true);
    perform set_config('work_mem', sqlkit._memory_for_load('work_mem'), true);
    v_expressions := sqlkit._key_expressions(
        p_dimension, p_keys,
        array(select format('s.%I', f.name) from unnest(v_from) with ordinality as f (name, n) order by f.n)
    );
    if p_create then
        v_counts.keys_created := sqlkit._create_keys(
            format('only %s as s', p_stage), v_expressions, p_dimension, p_keys, p_defaults
        );
    end if;

    -- Input order is the physical order of a stage, which an update would spoil: it is filled anew.
    select
        string_agg(quote_ident(a.attname), ', ' order by a.attnum),
        string_agg(
            case
                when a.attname = p_column
                    then format('coalesce(t.%I, %L) as %I', p_id, p_placeholder, p_column)
                else format('s.%I', a.attname)
            end,
            ', ' order by a.attnum
        )
    into v_columns, v_resolved
    from pg_attribute as a
    where a.attrelid = p_stage and a.attnum > 0 and not a.attisdropped;
    execute format(
        'create temporary table sqlkit_resolved on commit drop as '
        'select %s, t.%I is not null as sqlkit_is_resolved from only %s as s left join %s as t on %s order by s.ctid',
        v_resolved,
        p_id,
        p_stage,
        p_dimension,
        sqlkit._equal_list(p_dimension, to_jsonb(p_keys), 't.%1$I', null, v_expressions)
    );
    select
        count(*),
        count(*) filter (where r.sqlkit_is_resolved)
    into v_counts.rows_read, v_counts.rows_resolved
    from pg_temp.sqlkit_resolved as r;
    v_counts.rows_unresolved := v_counts.rows_read - v_counts.rows_resolved;
    execute format('truncate table %s', p_stage);
    execute format('insert into %s (%s) select %2$s from pg_temp.sqlkit_resolved', p_stage, v_columns);
    drop table pg_temp.sqlkit_resolved;
    return v_counts;
end;
$resolve_keys$;

comment on function sqlkit.resolve_keys(
    regclass, name, regclass, name, name[], name[], boolean, jsonb, text, text
) is
'Fills a column of a stage with the surrogate ids (p_id) of a dimension, found by its natural key p_keys, whose values
stand in the columns p_from of the stage, of the same names unless said, in the same order. A unique index covers the
natural key. Keys that the dimension does not have are made, once, whoever else makes them at the same time, unless
p_create is false; p_defaults gives their other columns values, such as {"is_placeholder": true} for a dimension that
comes later. Where nothing is found (a null in the key; not to be made) the column is null, or p_placeholder. The
dimension''s triggers run under p_search_path, the caller''s unless said.
Writes: the dimension, the stage. Locks: ACCESS EXCLUSIVE on the stage. Raises: SK203 if no unique index covers the
natural key, SK204 no such column, SK208 no stage, 22P02 and its like for a key that is not of the column''s type.';


create or replace function sqlkit.resolve_values(
    p_values jsonb,
    p_dimension regclass,
    p_id name,
    p_keys name[],
    p_create boolean default true,
    p_defaults jsonb default '{}',
    p_search_path text default current_setting('search_path')
)
returns table (id text)
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $resolve_values$
declare
    v_expressions text[];
    v_from text;
begin
    perform sqlkit.find_key(p_dimension, p_keys);
    perform sqlkit._refuse_columns(
        p_dimension, p_id || array(select d.key::name from jsonb_each(p_defaults) as d)
    );
    perform set_config('sqlkit.search_path', p_search_path, true);
    v_expressions := sqlkit._key_expressions(
        p_dimension, p_keys,
        array(select format('s.value ->> %s', k.n) from generate_series(0, cardinality(p_keys) - 1) as k (n))
    );
    v_from := format('pg_catalog.jsonb_array_elements(%L) with ordinality as s (value, position)', p_values);
    if p_create then
        perform sqlkit._create_keys(v_from, v_expressions, p_dimension, p_keys, p_defaults);
    end if;
    for id in execute format(
        'select t.%I::text from %s left join %s as t on %s order by s.position',
        p_id,
        v_from,
        p_dimension,
        sqlkit._equal_list(p_dimension, to_jsonb(p_keys), 't.%1$I', null, v_expressions)
    )
    loop
        return next;
    end loop;
end;
$resolve_values$;

comment on function sqlkit.resolve_values(jsonb, regclass, name, name[], boolean, jsonb, text) is
'The surrogate ids of natural keys, one for each in the same order, as text; null where there is none. p_values is an
array of keys, each an array of as many values as p_keys has columns. The rest is as for resolve_keys().
Writes: the dimension. Raises: SK203 if no unique index covers the natural key, SK204 no such column, 22P02 and its like
for a key that is not of the column''s type.';


create or replace function sqlkit._note_changed_keys()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $note_changed_keys$
begin
    update sqlkit.lookup
    set
        version = version + 1,
        changed_at = clock_timestamp()
    where dimension = sqlkit._table_name(tg_relid);
    return null;
end;
$note_changed_keys$;

comment on function sqlkit._note_changed_keys() is
'The trigger of follow_keys(). Runs with its owner''s rights: whoever writes a dimension need not be a loader.
Writes: sqlkit.lookup.';


create or replace function sqlkit.follow_keys(p_dimension regclass, p_id name, p_keys name[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $follow_keys$
begin
    perform sqlkit._refuse_columns(p_dimension, p_keys || p_id);
    insert into sqlkit.lookup (dimension)
    values (sqlkit._table_name(p_dimension))
    on conflict (dimension) do update
    set version = lookup.version + 1;
    execute format(
        'create or replace trigger sqlkit_follow_keys after update of %s or delete or truncate on %s '
        'for each statement execute function sqlkit._note_changed_keys()',
        sqlkit._column_list(p_keys || p_id, '%I'),
        sqlkit._table_name(p_dimension)
    );
end;
$follow_keys$;

comment on function sqlkit.follow_keys(regclass, name, name[]) is
'Has every statement that may give a natural key another id, or none, counted: caches of the dimension then begin
anew. New keys disturb none. Writers of that kind wait for each other until they commit.
Writes: sqlkit.lookup. Locks: SHARE ROW EXCLUSIVE on the dimension, to make a trigger, which its owner may.
Raises: SK204 no such column.';


create or replace function sqlkit.lookup_version(p_dimension regclass)
returns bigint
language sql
stable
return (
    select l.version
    from sqlkit.lookup as l
    where l.dimension = sqlkit._table_name(p_dimension)
);

comment on function sqlkit.lookup_version(regclass) is
'Counts the changes of a dimension that follow_keys() follows; null if it does not.';
