-- Lookups: natural keys become surrogate ids of a dimension, set by set. One insert makes the missing ones, and one
-- join finds all of them.

create or replace function sqlkit._key_expressions(p_dimension regclass, p_keys name[], p_values text[])
returns text[]
language sql
stable
return (
    select array_agg(
        format(
            case when c.oid is null then '(%s)::%s' else '((%s)::%s collate %I.%I)' end,
            v.expression, format_type(a.atttypid, a.atttypmod), n.nspname, c.collname
        )
        order by v.position
    )
    from unnest(p_keys, p_values) with ordinality as v (name, expression, position)
    join pg_attribute as a on a.attrelid = p_dimension and a.attname = v.name
    join pg_type as y on y.oid = a.atttypid
    -- Said only where it is not the type's own.
    left join pg_collation as c on c.oid = a.attcollation and c.oid <> y.typcollation
    left join pg_namespace as n on n.oid = c.collnamespace
);

comment on function sqlkit._key_expressions(regclass, name[], text[]) is
'Expressions, of the types and collations of the columns of a dimension that they are keys of.';


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


create or replace function sqlkit._create_missing(p_lookups jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $create_missing$
declare
    v_created bigint := 0;
    r_keys record;
begin
    for r_keys in
        select
            l.dimension,
            l.keys,
            l.defaults,
            string_agg(
                format('select %s from %s', sqlkit._numbered_list(to_jsonb(e.expressions), '%1$s as k%2$s'), l.source),
                ' union all '
            ) as found
        from jsonb_to_recordset(p_lookups) as l (
            dimension text, keys name[], "from" name[], "create" boolean, defaults jsonb, source text
        )
        cross join lateral sqlkit._staged_key(l.dimension::regclass, l.keys, l."from") as e (expressions)
        where l."create"
        group by l.dimension, l.keys, l.defaults
        -- All keys of a dimension at once, and dimensions in one order, so that loaders do not wait crosswise.
        order by l.dimension::regclass::oid
    loop
        v_created := v_created + sqlkit._create_keys(
            format('(%s) as s', r_keys.found),
            array(select format('s.k%s', k.n) from generate_series(1, cardinality(r_keys.keys)) as k (n)),
            r_keys.dimension::regclass,
            r_keys.keys,
            r_keys.defaults
        );
    end loop;
    return v_created;
end;
$create_missing$;

comment on function sqlkit._create_missing(jsonb) is
'Makes the keys that lookups may make and that their dimensions do not have, and returns how many. Beside what
add_lookup() notes, each lookup has a source: what stands after FROM, with s for its rows. Writes: the dimensions.';


create or replace function sqlkit._staged_key(p_dimension regclass, p_keys name[], p_from name[])
returns text[]
language sql
stable
return sqlkit._key_expressions(
    p_dimension, p_keys,
    (
        select array_agg(format('s.%I', f.name) order by f.n)
        from unnest(p_from) with ordinality as f (name, n)
    )
);

comment on function sqlkit._staged_key(regclass, name[], name[]) is
'The natural key of a dimension, as columns of a row s, cast to the types of the dimension.';


create or replace function sqlkit._lookup_joins(p_lookups jsonb)
returns table (column_name name, value text, found text, joined text)
language sql
stable
begin atomic
select
    l.value ->> 'column',
    format('coalesce(t%s.%I, %L)', l.n, l.value ->> 'id', l.value ->> 'placeholder'),
    format('t%s.%I is not null', l.n, l.value ->> 'id'),
    format(
        ' left join %s as t%s on %s',
        sqlkit._table_name((l.value ->> 'dimension')::regclass),
        l.n,
        sqlkit._equal_list(
            (l.value ->> 'dimension')::regclass,
            l.value -> 'keys',
            format('t%s.%%1$I', l.n),
            null,
            sqlkit._staged_key(
                (l.value ->> 'dimension')::regclass,
                array(select k.name::name from jsonb_array_elements_text(l.value -> 'keys') as k (name)),
                array(select k.name::name from jsonb_array_elements_text(l.value -> 'from') as k (name))
            )
        )
    )
from jsonb_array_elements(p_lookups) with ordinality as l (value, n);
end;

comment on function sqlkit._lookup_joins(jsonb) is
'How lookups are done for rows s: the column, its value, whether it was found, and what is joined.';


create or replace function sqlkit._fill_ids(p_stage regclass, p_lookups jsonb)
returns sqlkit.lookup_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $fill_ids$
declare
    v_counts sqlkit.lookup_counts := (0, 0, 0, 0);
    v_columns text;
    v_resolved text;
begin
    -- Input order is the physical order of a stage, which an update would spoil: it is filled anew.
    select
        string_agg(quote_ident(a.attname), ', ' order by a.attnum),
        string_agg(
            format('%s as %I', coalesce(j.value, format('s.%I', a.attname)), a.attname), ', ' order by a.attnum
        )
    into v_columns, v_resolved
    from pg_attribute as a
    left join sqlkit._lookup_joins(p_lookups) as j on j.column_name = a.attname
    where
        a.attrelid = p_stage
        and a.attnum > 0
        and not a.attisdropped
        -- What is put together of other columns is computed anew.
        and a.attgenerated = '';
    execute format(
        'create temporary table sqlkit_resolved on commit drop as '
        'select %s, %s as sqlkit_is_resolved from only %s as s%s order by s.ctid',
        v_resolved,
        (select string_agg(j.found, ' and ') from sqlkit._lookup_joins(p_lookups) as j),
        p_stage,
        (select string_agg(j.joined, '') from sqlkit._lookup_joins(p_lookups) as j)
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
$fill_ids$;

comment on function sqlkit._fill_ids(regclass, jsonb) is
'Fills the columns of a stage that lookups are for, with the ids that are there. Writes: the stage. Locks: ACCESS
EXCLUSIVE on it.';


create or replace function sqlkit._lookup(
    p_stage regclass,
    p_column name,
    p_dimension regclass,
    p_id name,
    p_keys name[],
    p_from name[],
    p_create boolean,
    p_defaults jsonb,
    p_placeholder text
)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $lookup$
begin
    perform sqlkit.find_key(p_dimension, p_keys);
    perform sqlkit._refuse_columns(p_stage, coalesce(p_from, p_keys));
    if cardinality(p_from) <> cardinality(p_keys) then
        raise exception using
            errcode = 'SK204',
            message = 'a natural key is not found by so many columns',
            detail = format(
                'Dimension: %s; key: %s; columns: %s.',
                sqlkit._table_name(p_dimension), array_to_string(p_keys, ', '), array_to_string(p_from, ', ')
            ),
            hint = 'Name one column for each of the key, in the same order.';
    end if;
    perform sqlkit._refuse_columns(
        p_dimension, p_id || array(select d.key::name from jsonb_each(p_defaults) as d)
    );
    return jsonb_build_object(
        'column', p_column,
        'dimension', sqlkit._table_name(p_dimension),
        'id', p_id,
        'keys', p_keys,
        'from', coalesce(p_from, p_keys),
        'create', p_create,
        'defaults', p_defaults,
        'placeholder', p_placeholder
    );
end;
$lookup$;

comment on function sqlkit._lookup(regclass, name, regclass, name, name[], name[], boolean, jsonb, text) is
'A lookup, as sqlkit.stage keeps it. Raises: SK203 if no unique index covers the natural key, SK204 no such column, or
not one for each of the key.';


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
    v_counts sqlkit.lookup_counts;
    v_created bigint;
    v_lookup jsonb;
begin
    perform sqlkit._stage_target(p_stage);
    perform sqlkit._refuse_columns(p_stage, array[p_column]);
    v_lookup := sqlkit._lookup(
        p_stage, p_column, p_dimension, p_id, p_keys, p_from, p_create, p_defaults, p_placeholder
    );
    perform set_config('sqlkit.search_path', p_search_path, true);
    perform set_config('work_mem', sqlkit._memory_for_load('work_mem'), true);
    v_created := sqlkit._create_missing(
        jsonb_build_array(v_lookup || jsonb_build_object('source', format('only %s as s', p_stage)))
    );
    v_counts := sqlkit._fill_ids(p_stage, jsonb_build_array(v_lookup));
    v_counts.keys_created := v_created;
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


create or replace function sqlkit.add_lookup(
    p_stage regclass,
    p_column name,
    p_dimension regclass,
    p_keys name[],
    p_from name[] default null,
    p_id name default null,
    p_create boolean default true,
    p_defaults jsonb default '{}',
    p_placeholder text default null
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $add_lookup$
declare
    v_target regclass := sqlkit._stage_target(p_stage);
    v_id name := p_id;
    v_key name[];
    v_lookup jsonb;
begin
    perform sqlkit._refuse_columns(v_target, array[p_column]);
    if v_id is null then
        v_key := sqlkit.find_key(p_dimension);
        if cardinality(v_key) > 1 then
            raise exception using
                errcode = 'SK204',
                message = 'the id of the dimension is not one column',
                detail = format('Dimension: %s; its primary key: %s.', p_dimension, array_to_string(v_key, ', ')),
                hint = 'Name the column of the id.';
        end if;
        v_id := v_key[1];
    end if;
    v_lookup := sqlkit._lookup(
        p_stage, p_column, p_dimension, v_id, p_keys, p_from, p_create, p_defaults, p_placeholder
    );
    execute format('select %L::%s', p_placeholder, sqlkit._type_definition(v_target, p_column));
    if sqlkit._type_of(p_stage, p_column) is null then
        execute format(
            'alter table %s add column %I %s',
            p_stage,
            p_column,
            -- A stage of text takes everything as text.
            case
                when sqlkit._type_of(p_stage, 'sqlkit_first_line') is null
                    then sqlkit._type_definition(v_target, p_column)
                else 'text'
            end
        );
    end if;
    update sqlkit.stage as s
    set lookups = coalesce(s.lookups, '[]') || v_lookup
    from pg_class as c
    where c.oid = p_stage and s.name = c.relname;
end;
$add_lookup$;

comment on function sqlkit.add_lookup(
    regclass, name, regclass, name[], name[], name, boolean, jsonb, text
) is
'Has a column of a stage filled with surrogate ids when it is merged, as resolve_keys() would, in the transaction that
merges it: what comes of a merge that fails is no key either. The column is added to the stage if it is not there. The
natural key p_keys of the dimension stands in the columns p_from of the stage, of the same names unless said; the id is
the dimension''s primary key unless p_id says another column. Several lookups are done in one pass. Of rows with an
error a stage of text makes no keys, and a key that is not of the dimension''s type is such an error.
Writes: sqlkit.stage. Locks: ACCESS EXCLUSIVE on the stage. Raises: SK202 if the dimension has no primary key and
p_id is not said, SK203 if no unique index covers the natural key, SK204 no such column, or a primary key of several,
SK208 no stage, 22P02 and its like for a placeholder that is not of the column''s type.';


create or replace function sqlkit._add_lookups(
    p_stage regclass,
    p_lookups jsonb,
    -- A default is evaluated by the caller: this is his, and not the function's own.
    p_search_path text default current_setting('search_path')
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $add_lookups$
declare
    v_lookups jsonb;
begin
    -- Dimensions are found where the caller finds them; nothing else is looked for there.
    perform set_config('search_path', p_search_path, true);
    v_lookups := (
        select
            pg_catalog.jsonb_agg(pg_catalog.jsonb_set(
                l.value, array['dimension'], pg_catalog.to_jsonb(sqlkit._table_name(
                    pg_catalog.jsonb_extract_path_text(l.value, 'dimension')::pg_catalog.regclass
                ))
            ))
        from pg_catalog.jsonb_array_elements(p_lookups) as l (value)
    );
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    perform sqlkit.add_lookup(
        p_stage, l."column", l.dimension::regclass, l.keys, l."from", l.id,
        coalesce(l."create", true), coalesce(l.defaults, '{}'), l.placeholder
    )
    from jsonb_to_recordset(v_lookups) as l (
        "column" name, dimension text, keys name[], "from" name[], id name, "create" boolean, defaults jsonb,
        placeholder text
    );
end;
$add_lookups$;

comment on function sqlkit._add_lookups(regclass, jsonb, text) is
'add_lookup() for each of some objects, whose keys are its parameters without p_; their dimensions are found under
p_search_path, the caller''s unless said.';


create or replace function sqlkit._only_looked_up(p_target regclass, p_lookups jsonb)
returns name[]
language sql
stable
return array(
    select distinct k.name::name
    from jsonb_array_elements(p_lookups) as l
    cross join jsonb_array_elements_text(coalesce(l.value -> 'from', l.value -> 'keys')) as k (name)
    where sqlkit._type_of(p_target, k.name::name) is null
);

comment on function sqlkit._only_looked_up(regclass, jsonb) is
'The columns that lookups need and that a target does not have.';


create or replace function sqlkit._stage_lookups(p_stage regclass)
returns jsonb
language sql
stable
return (
    select s.lookups
    from pg_class as c
    join sqlkit.stage as s on s.name = c.relname
    where c.oid = p_stage and c.relnamespace = 'sqlkit_stage'::regnamespace
);

comment on function sqlkit._stage_lookups(regclass) is 'The lookups of a stage; null if there are none.';


create or replace function sqlkit._resolve_lookups(p_stages regclass[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
set work_mem = '64MB'
as $resolve_lookups$
declare
    v_lookups jsonb;
begin
    select jsonb_agg(l.value || jsonb_build_object('source', format('only %s as s', k.stage)))
    into v_lookups
    from unnest(p_stages) as k (stage)
    cross join jsonb_array_elements(sqlkit._stage_lookups(k.stage)) as l;
    if v_lookups is null then
        return;
    end if;
    perform set_config('work_mem', sqlkit._memory_for_load('work_mem'), true);
    perform sqlkit._create_missing(v_lookups);
    perform sqlkit._fill_ids(k.stage, sqlkit._stage_lookups(k.stage))
    from unnest(p_stages) as k (stage)
    where sqlkit._stage_lookups(k.stage) is not null;
end;
$resolve_lookups$;

comment on function sqlkit._resolve_lookups(regclass[]) is
'Does the lookups of the stages of a batch: see add_lookup(). Writes: the dimensions, the stages. Locks: ACCESS
EXCLUSIVE on the stages.';


create or replace function sqlkit._refuse_keys(p_stage regclass, p_lookups jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_keys$
declare
    r_lookup record;
begin
    for r_lookup in
        select
            l.dimension::regclass as dimension,
            l.keys,
            (
                select jsonb_object_agg(k.name, k.staged)
                from unnest(l.keys, l."from") as k (name, staged)
            ) as columns,
            (
                select string_agg(format('s.%I as %I', k.staged, k.name), ', ')
                from unnest(l.keys, l."from") as k (name, staged)
            ) as staged
        from jsonb_to_recordset(p_lookups) as l (dimension text, keys name[], "from" name[])
    loop
        execute 'insert into pg_temp.sqlkit_refused (line, column_name, sqlstate, message) '
            'select e.line, ($1 ->> e.column_name)::name, e.sqlstate, e.message from ('
            || sqlkit._input_errors(
                format(
                    '(select s.sqlkit_first_line, null::text as sqlkit_sqlstate, null::text as sqlkit_message, %s '
                    'from %s as s where not exists ('
                    'select from pg_temp.sqlkit_refused as r where r.line = s.sqlkit_first_line) offset 0)',
                    r_lookup.staged,
                    p_stage
                ),
                r_lookup.dimension,
                r_lookup.keys
            )
            || ') as e (line, column_name, sqlstate, message)'
        using r_lookup.columns;
    end loop;
end;
$refuse_keys$;

comment on function sqlkit._refuse_keys(regclass, jsonb) is
'Notes in pg_temp.sqlkit_refused the rows of a text stage whose natural keys are not of the types of their dimensions.';


create or replace function sqlkit._tell_missing_keys(p_stage regclass, p_lookups jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $tell_missing_keys$
declare
    r_lookup record;
begin
    for r_lookup in
        select l.*
        from jsonb_to_recordset(p_lookups) as l ("column" name, dimension text, keys name[], "from" name[])
    loop
        execute format(
            'update pg_temp.sqlkit_refused as r set message = %1$L || concat_ws('', '', %2$s) || '')'' from %3$s as s '
            'where s.sqlkit_first_line = r.line and r.column_name = %4$L and r.sqlstate = ''23502''',
            format('no row in %s for (%s)=(', r_lookup.dimension, sqlkit._column_list(r_lookup."keys", '%I')),
            sqlkit._column_list(r_lookup."from", 'quote_nullable(left(s.%I, 100))'),
            p_stage,
            r_lookup."column"
        );
    end loop;
end;
$tell_missing_keys$;

comment on function sqlkit._tell_missing_keys(regclass, jsonb) is
'Says of rows in pg_temp.sqlkit_refused that lack an id which key of a text stage the dimension has no row for.';


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
