-- The queries for the pairs of rules: of each kind one, and the choice between them.

create or replace function sqlkit._compared(p_definition jsonb)
returns text[]
language sql
stable
return (
    select array_agg(
        case
            when p_definition -> 'normalised' ? k.name
                then format(
                    'lower(regexp_replace(btrim(%s), ''\s+'', '' '', ''g''))',
                    format(
                        -- Only there do characters have more than one way of being written.
                        case when getdatabaseencoding() = 'UTF8' then 'normalize(t.%I::text)' else 't.%I::text' end,
                        k.name
                    )
                )
            else format('t.%I', k.name)
        end
        order by k.position
    )
    from jsonb_array_elements_text(p_definition -> 'resource') with ordinality as k (name, position)
);

comment on function sqlkit._compared(jsonb) is
'The expressions of a row t that tell which resource it belongs to, in order: columns, or normalised columns.';


create or replace function sqlkit._equal_list(
    p_relation regclass,
    p_columns jsonb,
    p_left text,
    p_right text,
    p_expressions text[] default null,
    p_as_text jsonb default '[]'
)
returns text
language sql
stable
return (
    select string_agg(
        format(p_left, k.name, k.position)
        || case
            when p_as_text ? k.name then ' operator(pg_catalog.=) '
            else ' ' || coalesce(sqlkit._operator(p_relation, k.name::name, '='), '=') || ' '
        end
        || coalesce(p_expressions[k.position], format(p_right, k.name, k.position)),
        ' and '
        order by k.position
    )
    from jsonb_array_elements_text(p_columns) with ordinality as k (name, position)
);

comment on function sqlkit._equal_list(regclass, jsonb, text, text, text[], jsonb) is
'The condition under which columns, put through two templates (%1$I the name, %2$s the position), are equal; the right
side may be expressions in their place. Those of p_as_text are text on both sides.';


create or replace function sqlkit._duplicate_candidates(
    p_target regclass,
    p_key jsonb,
    p_definition jsonb,
    p_filter text
)
returns text
language sql
stable
return format(
    -- Each further row with the first one: as many pairs as there are rows too many, not their square.
    $query$
    select s.*
    from (
        select s.*, row_number() over w as n%1$s
        from (select %2$s, %3$s%4$s from %5$s as t where %6$s and (%7$s)) as s
        window w as (partition by %8$s order by %9$s)
    ) as s
    where s.n > 1
    $query$,
    sqlkit._numbered_list(p_key, ', first_value(s.k%2$s) over w as f%2$s', '')
    || sqlkit._numbered_list(p_definition -> 'normalised', ', first_value(s.v%2$s) over w as g%2$s', ''),
    sqlkit._numbered_list(p_key, 't.%1$I as k%2$s'),
    sqlkit._numbered_list(to_jsonb(sqlkit._compared(p_definition)), '%1$s as r%2$s'),
    sqlkit._numbered_list(p_definition -> 'normalised', ', t.%1$I as v%2$s', ''),
    sqlkit._table_name(p_target),
    sqlkit._numbered_list(p_definition -> 'resource', 't.%1$I is not null', ' and '),
    p_filter,
    sqlkit._numbered_list(p_definition -> 'resource', 's.r%2$s'),
    sqlkit._numbered_list(p_key, 's.k%2$s')
);

comment on function sqlkit._duplicate_candidates(regclass, jsonb, jsonb, text) is
'A query for those rows t that another one is like, each with the first one that is, among those that meet a condition,
for rules of kind duplicate.';


create or replace function sqlkit._duplicate_pairs(p_key jsonb, p_definition jsonb, p_candidates text)
returns text
language sql
immutable
return format(
    $query$
    select
        jsonb_build_object(%1$s) as resource,
        jsonb_build_object(%2$s) as first_key,
        jsonb_build_object(%3$s) as second_key,
        null::double precision as measure,
        jsonb_build_array(jsonb_build_object(%4$s), jsonb_build_object(%5$s)) as facts
    from %6$s as s
    $query$,
    sqlkit._numbered_list(p_definition -> 'resource', '%1$L::text, s.r%2$s'),
    sqlkit._numbered_list(p_key, '%1$L::text, s.f%2$s'),
    sqlkit._numbered_list(p_key, '%1$L::text, s.k%2$s'),
    sqlkit._numbered_list(p_definition -> 'normalised', '%1$L::text, s.g%2$s'),
    sqlkit._numbered_list(p_definition -> 'normalised', '%1$L::text, s.v%2$s'),
    p_candidates
);

comment on function sqlkit._duplicate_pairs(jsonb, jsonb, text) is
'A query for the pairs that rules of kind duplicate find, from a relation that holds what _duplicate_candidates() gives.';


create or replace function sqlkit._tells_changes(p_relation regclass)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $tells_changes$
declare
    v_is_local boolean;
    v_is_distributed boolean := false;
    v_distributed regclass := to_regclass('pg_catalog.pg_dist_partition');
begin
    -- Rows of foreign and of distributed tables bear the transaction numbers of other servers.
    select coalesce(bool_and(c.relkind in ('r', 'p', 'm')), false)
    into v_is_local
    from pg_class as c
    where c.oid = p_relation or c.oid in (select t.relid from pg_partition_tree(p_relation) as t);
    if v_distributed is not null then
        execute format('select exists (select from %s where logicalrelid = $1)', v_distributed)
        into v_is_distributed
        using p_relation;
    end if;
    return v_is_local and not v_is_distributed;
end;
$tells_changes$;

comment on function sqlkit._tells_changes(regclass) is
'Whether the rows of a relation bear the numbers of this server''s transactions: those that wrote them.';


create or replace function sqlkit._constant_values(
    p_query text,
    p_relation regclass,
    p_column name,
    p_most bigint
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $constant_values$
declare
    v_values text;
    v_number bigint;
begin
    execute format(
        'select array_agg(v.value)::text, count(*) from (select * from (%s) as v (value) limit %s) as v',
        p_query, p_most + 1
    )
    into v_values, v_number;
    if v_number > p_most then
        return 'true';
    end if;
    return (
        select format(
            't.%I %s any (%L::%s[])',
            a.attname,
            sqlkit._operator(p_relation, a.attname, '='),
            coalesce(v_values, '{}'),
            format_type(a.atttypid, a.atttypmod)
        )
        from pg_attribute as a
        where a.attrelid = p_relation and a.attname = p_column
    );
end;
$constant_values$;

comment on function sqlkit._constant_values(text, regclass, name, bigint) is
'The condition that a column of rows t has one of the values of a query, as constants: a foreign server gets to see
those, and no join with a local table. true if there are more than p_most.';


create or replace function sqlkit._known_elsewhere(
    p_relation regclass,
    p_other regclass,
    p_key name,
    p_definition jsonb
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $known_elsewhere$
begin
    -- What the local table does not have cannot disagree with it, unless it may not be missing there.
    if (p_definition ->> 'missing')::boolean or sqlkit._tells_changes(p_relation) or not sqlkit._tells_changes(p_other)
    then
        return 'true';
    end if;
    return sqlkit._constant_values(
        format('select distinct o.%I from %s as o', p_key, sqlkit._table_name(p_other)), p_relation, p_key, 100000
    );
end;
$known_elsewhere$;

comment on function sqlkit._known_elsewhere(regclass, regclass, name, jsonb) is
'For a rule of kind disagree: the condition under which a row t of a foreign table or view matters, since the local
one of the rule has its key; true if that cannot be said.';


create or replace function sqlkit._disagree_candidates(
    p_target regclass,
    p_other regclass,
    p_key jsonb,
    p_definition jsonb,
    p_filter text
)
returns text
language sql
stable
return format(
    $query$
    select %15$s, %2$s%3$s, t.is_there as is_here, o.is_there
    from (select %1$s%4$s, true as is_there from %5$s as t where %6$s and (%7$s) and %8$s) as t
    full join (select %9$s%10$s, true as is_there from %11$s as t where %6$s and (%7$s) and %12$s) as o on %13$s
    where %14$s
    $query$,
    sqlkit._numbered_list(p_key, 't.%1$I as k%2$s'),
    sqlkit._numbered_list(p_key, 'o.l%2$s'),
    sqlkit._numbered_list(p_definition -> 'columns', ', t.v%2$s, o.o%2$s', ''),
    sqlkit._numbered_list(p_definition -> 'columns', ', t.%1$I as v%2$s', ''),
    sqlkit._table_name(p_target),
    sqlkit._numbered_list(p_key, 't.%1$I is not null', ' and '),
    p_filter,
    sqlkit._known_elsewhere(p_target, p_other, (p_key ->> 0)::name, p_definition),
    sqlkit._numbered_list(p_key, 't.%1$I as l%2$s'),
    sqlkit._numbered_list(p_definition -> 'columns', ', t.%1$I as o%2$s', ''),
    sqlkit._table_name(p_other),
    sqlkit._known_elsewhere(p_other, p_target, (p_key ->> 0)::name, p_definition),
    sqlkit._equal_list(p_target, p_key, 't.k%2$s', 'o.l%2$s'),
    case
        when (p_definition ->> 'missing')::boolean then 't.is_there is null or o.is_there is null or '
        else 't.is_there and o.is_there and '
    end
    || '(' || sqlkit._numbered_list(p_definition -> 'columns', 't.v%2$s is distinct from o.o%2$s', ' or ') || ')',
    sqlkit._numbered_list(p_key, 't.k%2$s')
);

comment on function sqlkit._disagree_candidates(regclass, regclass, jsonb, jsonb, text) is
'A query for the rows that two tables do not agree about, from both, among their rows t that meet a condition, for rules
of kind disagree.';


create or replace function sqlkit._disagree_pairs(
    p_target regclass,
    p_other regclass,
    p_key jsonb,
    p_definition jsonb,
    p_candidates text
)
returns text
language sql
stable
return format(
    $query$
    select
        jsonb_build_object(%1$s) as resource,
        jsonb_build_object(%1$s) as first_key,
        jsonb_build_object(%1$s) as second_key,
        case when s.is_here and s.is_there then (%2$s)::double precision end as measure,
        case
            when s.is_here is null then jsonb_build_object('missing', %3$L::text)
            when s.is_there is null then jsonb_build_object('missing', %4$L::text)
            else %5$s
        end as facts
    from %6$s as s
    $query$,
    sqlkit._numbered_list(p_key, '%1$L::text, coalesce(s.k%2$s, s.l%2$s)'),
    sqlkit._numbered_list(p_definition -> 'columns', '(s.v%2$s is distinct from s.o%2$s)::integer', ' + '),
    sqlkit._table_name(p_target),
    sqlkit._table_name(p_other),
    sqlkit._numbered_list(
        p_definition -> 'columns',
        'case when s.v%2$s is distinct from s.o%2$s '
        || 'then jsonb_build_object(%1$L::text, jsonb_build_array(s.v%2$s, s.o%2$s)) else ''{}'' end',
        ' || '
    ),
    p_candidates
);

comment on function sqlkit._disagree_pairs(regclass, regclass, jsonb, jsonb, text) is
'A query for the pairs that rules of kind disagree find, from a relation that holds what _disagree_candidates() gives.';


create or replace function sqlkit._conflict_candidates(p_rule sqlkit.conflict_rule, p_filter text default 'true')
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $conflict_candidates$
begin
    return case p_rule.kind
        when 'duplicate'
            then sqlkit._duplicate_candidates(
                p_rule.target::regclass, to_jsonb(p_rule.key_columns), p_rule.definition, p_filter
            )
        when 'disagree'
            then sqlkit._disagree_candidates(
                p_rule.target::regclass, p_rule.other::regclass, to_jsonb(p_rule.key_columns), p_rule.definition, p_filter
            )
        else sqlkit._interval_candidates(
            p_rule.kind, p_rule.target::regclass, to_jsonb(p_rule.key_columns), p_rule.definition, p_filter
        )
    end;
end;
$conflict_candidates$;

comment on function sqlkit._conflict_candidates(sqlkit.conflict_rule, text) is
'A query for what pairs are made of: the few among the rows t that meet a condition that contradict another one, or may.';


create or replace function sqlkit._conflict_pairs(p_rule sqlkit.conflict_rule, p_candidates text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $conflict_pairs$
begin
    return case p_rule.kind
        when 'duplicate'
            then sqlkit._duplicate_pairs(to_jsonb(p_rule.key_columns), p_rule.definition, p_candidates)
        when 'disagree'
            then sqlkit._disagree_pairs(
                p_rule.target::regclass, p_rule.other::regclass, to_jsonb(p_rule.key_columns), p_rule.definition,
                p_candidates
            )
        else sqlkit._interval_pairs(
            p_rule.kind, p_rule.target::regclass, to_jsonb(p_rule.key_columns), p_rule.definition, p_candidates
        )
    end;
end;
$conflict_pairs$;

comment on function sqlkit._conflict_pairs(sqlkit.conflict_rule, text) is
'A query for the pairs that a rule finds: resource, keys, measure, facts. p_candidates: the relation that holds what
_conflict_candidates() gives.';


create or replace function sqlkit._find_conflicts(p_rule sqlkit.conflict_rule)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_conflicts$
begin
    return format(
        'with candidate as materialized (%s) %s',
        sqlkit._conflict_candidates(p_rule),
        sqlkit._conflict_pairs(p_rule, 'candidate')
    );
end;
$find_conflicts$;

comment on function sqlkit._find_conflicts(sqlkit.conflict_rule) is
'One query for all pairs that a rule finds: resource, keys, measure, facts.';
