-- Fragments of statements, built from the catalog and from nothing else: what the merge is put together from.
-- They quote every name, and no search_path decides what an operator in them means.

create or replace function sqlkit._column_list(p_columns name[], p_template text, p_separator text default ', ')
returns text
language sql
immutable
return (
    select string_agg(format(p_template, k.name), p_separator order by k.position)
    from unnest(p_columns) with ordinality as k (name, position)
);

comment on function sqlkit._column_list(name[], text, text) is
'Columns, each put through format() with a template, in their order.';


create or replace function sqlkit._type_definition(p_relation regclass, p_column name)
returns text
language sql
stable
return (
    select
        format_type(a.atttypid, a.atttypmod)
        || case when a.attcollation <> 0 then format(' collate %I.%I', n.nspname, l.collname) else '' end
    from pg_attribute as a
    left join pg_collation as l on l.oid = a.attcollation
    left join pg_namespace as n on n.oid = l.collnamespace
    where a.attrelid = p_relation and a.attname = p_column and a.attnum > 0 and not a.attisdropped
);

comment on function sqlkit._type_definition(regclass, name) is
'The type of a column with its collation, as a definition has it.';


create or replace function sqlkit._operator(p_target regclass, p_column name, p_operator text)
returns text
language sql
stable
return (
    -- Operators of an extension's type live where the type does; those of enums, arrays, ranges and composite
    -- types are PostgreSQL's own, whoever made the type; a domain has its base's.
    with recursive base as (
        select
y.oid,
y.typtype,
y.typbasetype,
y.typelem,
y.typnamespace
        from pg_attribute as a
        join pg_type as y on y.oid = a.atttypid
        where a.attrelid = p_target and a.attname = p_column
        union all
        select
y.oid,
y.typtype,
y.typbasetype,
y.typelem,
y.typnamespace
        from base as b
        join pg_type as y on y.oid = b.typbasetype
        where b.typtype = 'd'
    )

select format('operator(%I.%s)', n.nspname, p_operator)
    from base as b
    join pg_namespace as n
        on n.oid = case
            when b.typtype <> 'b' or b.typelem <> 0 then 'pg_catalog'::regnamespace
            else b.typnamespace
        end
    where b.typtype <> 'd'
);

comment on function sqlkit._operator(regclass, name, text) is
'An operator for the type of a column, written so that no search_path decides which one is meant.';


create or replace function sqlkit._key_match(p_target regclass, p_key name[])
returns text
language sql
stable
begin atomic
-- The equality of the index, not of the search_path: citext's, say, lives in another schema. Where the
-- index takes nulls for equal, arrays do so too, and unlike IS NOT DISTINCT FROM they can be hashed.
select
    string_agg(
        format(
            case
                when k.nulls_equal and not a.attnotnull
                    then 'array[s.%1$I] operator(pg_catalog.=) array[t.%1$I]'
                else 's.%1$I operator(%2$I.%3$s) t.%1$I'
            end,
            a.attname,
            n.nspname,
            o.oprname
        ),
        ' and '
        order by c.position
    )
from
    (
        select
            u.index_id,
            u.nulls_equal
        from sqlkit._unique_keys(p_target) as u
        where u.columns @> p_key and u.columns <@ p_key
        order by u.is_primary desc
        limit 1
    ) as k
join pg_index as i on i.indexrelid = k.index_id
cross join lateral unnest(i.indkey::smallint[], i.indclass::oid[])
    with ordinality as c (attnum, opclass, position)
join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = c.attnum
join pg_opclass as oc on oc.oid = c.opclass
join pg_amop as ao
    on
        ao.amopfamily = oc.opcfamily
        and ao.amoplefttype = oc.opcintype
        and ao.amoprighttype = oc.opcintype
        and ao.amopstrategy = 3
join pg_operator as o on o.oid = ao.amopopr
join pg_namespace as n on n.oid = o.oprnamespace
where c.position <= i.indnkeyatts;
end;

comment on function sqlkit._key_match(regclass, name[]) is
'The condition under which rows s (staged) and t (target) have the same key.';


create or replace function sqlkit._is_keyed(p_target regclass, p_key name[])
returns text
language sql
stable
return (
    select case
        when k.nulls_equal then 'true'
        else coalesce(
            (
                select string_agg(format('s.%I is not null', a.attname), ' and ')
                from pg_attribute as a
                where a.attrelid = p_target and a.attname = any(p_key) and not a.attnotnull
            ),
            'true'
        )
    end
    from sqlkit._unique_keys(p_target) as k
    where k.columns @> p_key and k.columns <@ p_key
    union all
    -- During a first load the index is not there.
    select 'row(' || sqlkit._column_list(p_key, 's.%I') || ') is not null'
    limit 1
);

comment on function sqlkit._is_keyed(regclass, name[]) is
'The condition under which row s can have the same key as another: a null equals nothing, unless the index
says otherwise.';


create or replace function sqlkit._difference(p_target regclass, p_columns name[])
returns text
language sql
stable
begin atomic
-- 'Unchanged' promises that writing would store the very same value. For most types equality says just
-- that, and B-tree knows for which ones (support function 4, as deduplication uses it). For the others
-- (numeric without a scale, float, citext, json, ...) the stored images are compared: 1.0 differs from 1.00.
select
    coalesce(
        string_agg(
            format(
                case
                    when e.is_exact then 's.%1$I is distinct from t.%1$I'
                    else 'row(s.%1$I)::record operator(pg_catalog.*<>) row(t.%1$I)::record'
                end,
                a.attname
            ),
            ' or '
            order by k.position
        ),
        'false'
    )
from unnest(p_columns) with ordinality as k (name, position)
join pg_attribute as a
    on a.attrelid = p_target and a.attname = k.name and a.attnum > 0 and not a.attisdropped
join pg_type as y on y.oid = a.atttypid
left join pg_collation as l on l.oid = a.attcollation
cross join lateral (
    select
        y.typnamespace = 'pg_catalog'::regnamespace
        and coalesce(l.collisdeterministic, true)
        and (
            -- A scale makes equal numerics look the same.
            (y.oid = 'pg_catalog.numeric'::regtype and a.atttypmod <> -1)
            or exists (
                select
                from pg_opclass as oc
                join pg_am as m on m.oid = oc.opcmethod and m.amname = 'btree'
                join pg_amproc as ap
                    on
                        ap.amprocfamily = oc.opcfamily
                        and ap.amproclefttype = oc.opcintype
                        and ap.amprocrighttype = oc.opcintype
                        and ap.amprocnum = 4
                where oc.opcdefault and oc.opcintype = case
                    when y.oid = 'pg_catalog.varchar'::regtype then 'pg_catalog.text'::regtype
                    else y.oid
                end
            )
        ) as is_exact
) as e;
end;

comment on function sqlkit._difference(regclass, name[]) is
'The condition under which storing the columns of row s (staged) would change row t (target).';


create or replace function sqlkit._staged_columns(p_stage regclass, p_target regclass)
returns name[]
language sql
stable
return (
    select array_agg(s.attname order by s.attnum)
    from pg_attribute as s
    join pg_attribute as t
        on
            t.attrelid = p_target
            and t.attname = s.attname
            and t.attnum > 0
            and not t.attisdropped
            and t.attgenerated = ''
    where s.attrelid = p_stage and s.attnum > 0 and not s.attisdropped
);

comment on function sqlkit._staged_columns(regclass, regclass) is
'The columns of a stage that its target has too and that can be written.';


create or replace function sqlkit._staged_rows(
    p_stages regclass[],
    p_columns name[],
    p_pieces jsonb default null,
    p_filter text default 'true'
)
returns text
language sql
stable
return (
    -- Without p_pieces: the rows, in any order. With it: also sqlkit_position, which follows the source.
    -- A stage was filled by one stream, piece after piece, so that the n-th row of the stage belongs to the
    -- last piece whose first row comes no later.
    select string_agg(
        case
            when p_pieces is null
                then format(
                    'select %s from only %s as s where %s',
                    sqlkit._column_list(p_columns, 's.%I'), sqlkit._table_name(k.stage), p_filter
                )
            else format(
                'select %1$s, ((%3$L::bigint[])[pg_catalog.width_bucket(s.sqlkit_row, %4$L::bigint[])] << 40) '
                || '+ s.sqlkit_row as sqlkit_position '
                || 'from (select %1$s, pg_catalog.row_number() over (order by s.ctid) as sqlkit_row '
                || 'from only %2$s as s where %5$s) as s',
                sqlkit._column_list(p_columns, 's.%I'),
                sqlkit._table_name(k.stage),
                p.pieces,
                p.firsts,
                p_filter
            )
        end,
        ' union all '
        order by k.position
    )
    from unnest(p_stages) with ordinality as k (stage, position)
    left join lateral (
        select
            array_agg(w.piece order by w.piece) as pieces,
            array_agg(w.first_row order by w.piece) as firsts
        from (
            select
                r.piece,
                sum(r.rows) over (order by r.piece) - r.rows + 1 as first_row
            from jsonb_to_recordset(p_pieces) as r (stage integer, piece bigint, rows bigint)
            where r.stage = k.position - 1 and r.rows > 0
        ) as w
    ) as p on true
);

comment on function sqlkit._staged_rows(regclass[], name[], jsonb, text) is
'A query for the rows of a batch, from all its stages, that meet a condition on s.';


create or replace function sqlkit._value_columns(p_target regclass, p_columns name[], p_key name[])
returns name[]
language sql
stable
return (
    -- A key is never written again, and neither is an identity column that only the server may set.
    select array_agg(k.name order by k.position)
    from unnest(p_columns) with ordinality as k (name, position)
    join pg_attribute as a on a.attrelid = p_target and a.attname = k.name and a.attidentity <> 'a'
    where k.name <> all(p_key)
);

comment on function sqlkit._value_columns(regclass, name[], name[]) is
'Of some columns, those that an update may write.';


create or replace function sqlkit._is_plain(p_target regclass)
returns boolean
language sql
stable
return (
    select c.relkind = 'r' and not c.relhassubclass
    from pg_class as c
    where c.oid = p_target
);

comment on function sqlkit._is_plain(regclass) is
'True if the rows of a table lie in that table alone: it has no partitions and no children.';


create or replace function sqlkit._absence_column(p_stage regclass, p_policy text)
returns name[]
language sql
stable
return (
    select coalesce(array_agg(s.attname), '{}')
    from pg_attribute as s
    where s.attrelid = p_stage and s.attname = 'sqlkit_absent' and p_policy = 'fill'
);

comment on function sqlkit._absence_column(regclass, text) is
'The column sqlkit_absent of a stage, if it has one and the policy heeds it: a JSON array, as text, of the columns that
a row says nothing of, which is not the same as null.';


create or replace function sqlkit._column_default(p_target regclass, p_column name)
returns text
language sql
stable
-- So that names in the expression are written with their schemas.
set search_path = pg_catalog, pg_temp
return (
    -- To the type without its length, which is for the assignment to see to: a cast would cut off in silence.
    select format(
        '(%s)::%s',
        case
            when a.attidentity = '' then pg_get_expr(d.adbin, d.adrelid)
            else format('nextval(%L::regclass)', pg_get_serial_sequence(sqlkit._table_name(p_target), a.attname))
        end,
        format_type(a.atttypid, -1)
    )
    from pg_attribute as a
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where
        a.attrelid = p_target
        and a.attname = p_column
        and a.attgenerated = ''
        and (a.atthasdef or a.attidentity <> '')
);

comment on function sqlkit._column_default(regclass, name) is
'An expression for the default of a column, of an identity column too; null if it has none.';


create or replace function sqlkit._insert_from(p_target regclass, p_columns name[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return (
    select format(
        'insert into %s (%s) overriding system value select %s from',
        sqlkit._table_name(p_target),
        string_agg(quote_ident(k.name), ', ' order by k.position),
        string_agg(
            case
                when d.expression is null then format('s.%I', k.name)
                else format(
                    'case when s.sqlkit_absent::pg_catalog.jsonb operator(pg_catalog.?) %2$L then %3$s else s.%1$I end',
                    k.name, k.name, d.expression
                )
            end,
            ', ' order by k.position
        )
    )
    from (
        -- Unless the target itself has a column of that name.
        select
            'sqlkit_absent' = any(p_columns)
            and sqlkit._type_definition(p_target, 'sqlkit_absent') is null as is_told
    ) as t
    cross join lateral unnest(p_columns) with ordinality as k (name, position)
    left join lateral (
        select sqlkit._column_default(p_target, k.name) as expression
        where t.is_told
    ) as d on true
    where not (t.is_told and k.name = 'sqlkit_absent')
);

comment on function sqlkit._insert_from(regclass, name[]) is
'The beginning of a statement that inserts columns of rows s into the target. With sqlkit_absent, those that it names
of a row get their defaults.';


create or replace function sqlkit._memory_for_load(p_setting text)
returns text
language sql
stable
return (
    -- A quarter of shared_buffers, which follows the machine's memory on any tuned server; never less than
    -- the setting is now.
    select greatest(
        (
            select m.setting::bigint
            from pg_settings as m
            where m.name = p_setting
        ),
        (
            select b.setting::bigint * 8 / 4
            from pg_settings as b
            where b.name = 'shared_buffers'
        )
    )::text || 'kB'
);

comment on function sqlkit._memory_for_load(text) is
'The value of work_mem or maintenance_work_mem to use while a batch is merged.';


create or replace function sqlkit._count_rows(p_rows text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $count_rows$
declare
    v_count bigint;
begin
    execute format('select count(*) from (%s) as s', p_rows) into v_count;
    return v_count;
end;
$count_rows$;

comment on function sqlkit._count_rows(text) is 'The number of rows that a query gives.';
