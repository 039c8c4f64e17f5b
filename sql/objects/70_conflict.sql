-- Conflicts: pairs of rows that contradict each other. A rule becomes one statement, which passes over the rows in
-- order once; only rows that touch another one go further. What it finds is compared with what is known.
--
-- The statements' own names are short and positional, so that they can clash with no column: k1.. the key,
-- r1.. the resource, e1.. exempt, x1.. across, p1.. the place.

create or replace function sqlkit._numbered_list(
    p_columns jsonb,
    p_template text,
    p_separator text default ', '
)
returns text
language sql
immutable
return coalesce(
    (
        select string_agg(format(p_template, k.name, k.position), p_separator order by k.position)
        from jsonb_array_elements_text(p_columns) with ordinality as k (name, position)
    ),
    ''
);

comment on function sqlkit._numbered_list(jsonb, text, text) is
'Names, each put through format() with a template, in which %2$s is its position; empty if there are none.';


create or replace function sqlkit._type_of(p_target regclass, p_column name)
returns regtype
language sql
stable
return (
    with recursive base as (
        select
            y.oid,
            y.typtype,
            y.typbasetype
        from pg_attribute as a
        join pg_type as y on y.oid = a.atttypid
        where a.attrelid = p_target and a.attname = p_column and a.attnum > 0 and not a.attisdropped
        union all
        select
            y.oid,
            y.typtype,
            y.typbasetype
        from base as b
        join pg_type as y on y.oid = b.typbasetype
        where b.typtype = 'd'
    )

    select b.oid::regtype
    from base as b
    where b.typtype <> 'd'
);

comment on function sqlkit._type_of(regclass, name) is
'The type of a column, of a domain the type below it; null if there is no such column.';


create or replace function sqlkit._interval_of(
    p_target regclass,
    p_definition jsonb,
    p_with_empty boolean,
    out lo text,
    out hi text,
    out lo_rank text,
    out hi_rank text,
    out is_proper text,
    out is_closed boolean,
    out is_bounded boolean,
    out bound_type regtype
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $interval_of$
declare
    v_bounds text := coalesce(p_definition ->> 'bounds', '[)');
    v_step text := '';
    v_cast text := '';
begin
    if p_definition ->> 'range' is not null then
        -- A range of numbers that have no next one may have any bounds, row by row.
        select r.rngsubtype::regtype, r.rngcanonical = 0
        into bound_type, is_closed
        from pg_range as r
        where r.rngtypid = sqlkit._type_of(p_target, (p_definition ->> 'range')::name);
        lo := format('lower(t.%I)', p_definition ->> 'range');
        hi := format('upper(t.%I)', p_definition ->> 'range');
        lo_rank := 'case when lower_inc(s.v1) then 1 else 3 end';
        hi_rank := 'case when upper_inc(s.v1) then 2 else 0 end';
        is_proper := format('isempty(t.%I) is false', p_definition ->> 'range');
        is_bounded := false;
        return;
    end if;
    bound_type := sqlkit._type_of(p_target, (p_definition ->> 'starts')::name);
    -- Where one value follows the other, any interval is one with the bounds [).
    if bound_type in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'date'::regtype) then
        v_cast := case when bound_type = 'date'::regtype then '' else '::bigint' end;
        v_step := v_cast || ' + 1';
        lo := format('t.%I%s', p_definition ->> 'starts', case when v_bounds ^@ '(' then v_step else v_cast end);
        hi := format('t.%I%s', p_definition ->> 'ends', case when v_bounds ~ '\]$' then v_step else v_cast end);
        v_bounds := '[)';
    else
        lo := format('t.%I', p_definition ->> 'starts');
        hi := format('t.%I', p_definition ->> 'ends');
    end if;
    is_closed := v_bounds = '[]';
    is_bounded := p_definition ->> 'nulls' = 'unknown' or (
        select bool_and(a.attnotnull)
        from pg_attribute as a
        where
            a.attrelid = p_target
            and a.attname in ((p_definition ->> 'starts')::name, (p_definition ->> 'ends')::name)
    );
    is_proper := format(
        case when is_bounded then '%s %s %s' else '(%s %s %s) is not false' end,
        lo, case when is_closed or p_with_empty then '<=' else '<' end, hi
    );
    lo_rank := '1';
    hi_rank := case when is_closed then '2' else '0' end;
end;
$interval_of$;

comment on function sqlkit._interval_of(regclass, jsonb, boolean) is
'The interval of a row t, as expressions: where it begins and ends, which of the ends and beginnings of one moment
come first (ranks; 0 to 3: an end before the moment, a beginning with it, an end with it, a beginning after it), and
whether it holds anything. is_closed: intervals that only share a moment may overlap; is_bounded: neither end is ever
null.';


create or replace function sqlkit._interval_facts(p_definition jsonb, p_row text)
returns text
language sql
immutable
return format(
    'jsonb_build_object(%s%s%s%s)',
    case
        when p_definition ->> 'range' is not null
            then format('%L::text, %s.v1::text', p_definition ->> 'range', p_row)
        else format(
            '%1$L::text, %3$s.lo, %2$L::text, %3$s.hi', p_definition ->> 'starts', p_definition ->> 'ends', p_row
        )
    end,
    sqlkit._numbered_list(p_definition -> 'exempt', ', %1$L::text, ' || p_row || '.e%2$s', ''),
    sqlkit._numbered_list(p_definition -> 'across', ', %1$L::text, ' || p_row || '.x%2$s', ''),
    sqlkit._numbered_list(p_definition -> 'place', ', %1$L::text, ' || p_row || '.p%2$s', '')
);

comment on function sqlkit._interval_facts(jsonb, text) is
'An expression for what a row says, as far as a rule of kind overlap or distance compares it.';


create or replace function sqlkit._minutes(p_from text, p_to text, p_type regtype)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $minutes$
begin
    -- Not as an SQL body: a dump would write these lists another way.
    return case
        when p_type in (
            'timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype
        )
            then format('(date_part(''epoch'', %2$s) - date_part(''epoch'', %1$s)) / 60', p_from, p_to)
        when p_type in (
            'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype, 'real'::regtype,
            'double precision'::regtype
        )
            then format('(%2$s)::double precision - (%1$s)::double precision', p_from, p_to)
    end;
end;
$minutes$;

comment on function sqlkit._minutes(text, text, regtype) is
'An expression for the distance between two values: minutes for times, the difference of numbers; null for others.';


create or replace function sqlkit._interval_pairs(
    p_kind text,
    p_target regclass,
    p_key jsonb,
    p_definition jsonb,
    p_filter text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $interval_pairs$
declare
    v_is_distance boolean := p_kind = 'distance';
    v_interval record := sqlkit._interval_of(p_target, p_definition, v_is_distance);
    v_resource jsonb := p_definition -> 'resource';
    v_exempt jsonb := p_definition -> 'exempt';
    v_across jsonb := p_definition -> 'across';
    v_place jsonb := p_definition -> 'place';
    v_is_time boolean := v_interval.bound_type in ('timestamptz'::regtype, 'timestamp'::regtype);
    v_is_date boolean := v_interval.bound_type = 'date'::regtype;
    v_carried text;
    v_reach text := 's.hi';
    v_gap text;
    v_condition text := '';
    v_measure text;
    v_needed text;
begin
    -- What is carried through the sort beside the interval.
    v_carried := sqlkit._numbered_list(p_key, 't.%1$I as k%2$s, ', '')
        || sqlkit._numbered_list(v_exempt, 't.%1$I as e%2$s, ', '')
        || sqlkit._numbered_list(v_across, 't.%1$I as x%2$s, ', '')
        || sqlkit._numbered_list(v_place, 't.%1$I as p%2$s, ', '')
        || case when p_definition ->> 'range' is null then '' else format('t.%I as v1, ', p_definition ->> 'range') end;

    if v_is_distance then
        -- An interval is as much longer as it has to be away from the next one.
        v_gap := format(
            '%L::%s',
            p_definition ->> 'gap',
            case
                when v_is_time then 'interval'
                when v_is_date then 'integer'
                else v_interval.bound_type::text
            end
        );
        v_reach := format('(s.hi + %s)', v_gap);
        v_needed := case
            when p_definition ->> 'travel' is null then v_gap
            else format(
                '%s(%s, %s)',
                p_definition ->> 'travel',
                sqlkit._numbered_list(v_place, 'a.p%2$s'),
                sqlkit._numbered_list(v_place, 'b.p%2$s')
            )
        end;
        v_condition := ' and b.lo >= a.hi and b.lo - a.hi < d.needed';
        v_measure := case
            when v_is_time then 'date_part(''epoch'', d.needed - (b.lo - a.hi)) / 60'
            when v_is_date then '(d.needed - (b.lo - a.hi)) * 1440'
            else '(d.needed - (b.lo - a.hi))::double precision'
        end;
    else
        -- b begins no earlier than a; least() passes over an end that is null, which is no end.
        v_measure := coalesce(
            format(
                'coalesce(%s, ''infinity'')',
                sqlkit._minutes('b.lo', 'least(a.hi, b.hi)', v_interval.bound_type)
            ),
            'null::double precision'
        );
    end if;
    v_condition := v_condition
        || sqlkit._numbered_list(v_across, ' and a.x%2$s <> b.x%2$s', '')
        || case
            when jsonb_array_length(coalesce(v_exempt, '[]')) > 0
                then format(
                    ' and row(%s) = row(%s) is not true',
                    sqlkit._numbered_list(v_exempt, 'a.e%2$s'),
                    sqlkit._numbered_list(v_exempt, 'b.e%2$s')
                )
            else ''
        end;

    -- candidate: the rows that touch another, numbered in their order.
    -- event: the same rows' beginnings and ends in one order. As many rows as have begun when a row ends, of those
    -- numbered after it, overlap it: they stand one behind the other, and every pair is made once.
    return format(
        $query$
        with candidate as materialized (
            select s.*, row_number() over (order by %1$s, s.lo nulls first%2$s) as n
            from (
                select s.*, max(%3$s) over w as reach, lead(s.lo) over w as next_lo%4$s
                from (select %5$s%6$s, %7$s as lo, %8$s as hi from %9$s as t where %10$s and %11$s and (%12$s)) as s
                window w as (
                    partition by %1$s order by s.lo nulls first
                    rows between unbounded preceding and 1 preceding
                )
            ) as s
            where s.reach %13$s s.lo or %3$s %13$s s.next_lo%14$s
        ),
        event as (
            select
                s.n,
                s.is_end,
                count(*) filter (where not s.is_end)
                over (order by %1$s, s.side, s.moment, s.rank rows unbounded preceding) as last_n
            from (
                select s.n, %15$s, false as is_end, case when s.lo is null then -1 else 0 end as side,
                    s.lo as moment, %16$s as rank
                from candidate as s
                union all
                select s.n, %15$s, true, case when %3$s is null then 1 else 0 end, %3$s, %17$s
                from candidate as s
            ) as s
        )
        select
            p.resource,
            least(p.a_key, p.b_key) as first_key,
            greatest(p.a_key, p.b_key) as second_key,
            p.measure,
            case when p.a_key < p.b_key then jsonb_build_array(p.a_facts, p.b_facts)
                else jsonb_build_array(p.b_facts, p.a_facts) end as facts
        from (
            select
                jsonb_build_object(%18$s) as resource,
                jsonb_build_object(%19$s) as a_key,
                jsonb_build_object(%20$s) as b_key,
                %21$s as measure,
                %22$s as a_facts,
                %23$s as b_facts
            from event as v
            join candidate as a on a.n = v.n
            cross join lateral generate_series(v.n + 1, v.last_n) as f (n)
            join candidate as b on b.n = f.n
            %24$s
            where v.is_end%25$s
        ) as p
        $query$,
        sqlkit._numbered_list(v_resource, 's.r%2$s'),
        case when v_is_distance then ', s.hi' when p_definition ->> 'range' is not null then ', ' || v_interval.lo_rank end,
        v_reach,
        case when not v_interval.is_bounded then ', bool_or(s.hi is null) over w as is_open' end,
        v_carried,
        sqlkit._numbered_list(v_resource, 't.%1$I as r%2$s'),
        v_interval.lo,
        v_interval.hi,
        sqlkit._table_name(p_target),
        sqlkit._numbered_list(v_resource, 't.%1$I is not null', ' and '),
        v_interval.is_proper,
        p_filter,
        case when v_interval.is_closed then '>=' else '>' end,
        case when not v_interval.is_bounded then ' or s.lo is null or s.hi is null or s.is_open' end,
        sqlkit._numbered_list(v_resource, 's.r%2$s'),
        case when v_is_distance then '1' else v_interval.lo_rank end,
        case when v_is_distance then '0' else v_interval.hi_rank end,
        sqlkit._numbered_list(v_resource, '%1$L::text, a.r%2$s'),
        sqlkit._numbered_list(p_key, '%1$L::text, a.k%2$s'),
        sqlkit._numbered_list(p_key, '%1$L::text, b.k%2$s'),
        v_measure,
        sqlkit._interval_facts(p_definition, 'a'),
        sqlkit._interval_facts(p_definition, 'b'),
        case when v_is_distance then format('cross join lateral (select %s as needed) as d', v_needed) end,
        v_condition
    );
end;
$interval_pairs$;

comment on function sqlkit._interval_pairs(text, regclass, jsonb, jsonb, text) is
'A query for the pairs of rows that rules of kind overlap or distance find among the rows t that meet a condition.';


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


create or replace function sqlkit._duplicate_pairs(
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
    select
        jsonb_build_object(%1$s) as resource,
        jsonb_build_object(%2$s) as first_key,
        jsonb_build_object(%3$s) as second_key,
        null::double precision as measure,
        jsonb_build_array(jsonb_build_object(%4$s), jsonb_build_object(%5$s)) as facts
    from (
        select s.*, row_number() over w as n%6$s
        from (select %7$s, %8$s%9$s from %10$s as t where %11$s and (%12$s)) as s
        window w as (partition by %13$s order by %14$s)
    ) as s
    where s.n > 1
    $query$,
    sqlkit._numbered_list(p_definition -> 'resource', '%1$L::text, s.r%2$s'),
    sqlkit._numbered_list(p_key, '%1$L::text, s.f%2$s'),
    sqlkit._numbered_list(p_key, '%1$L::text, s.k%2$s'),
    sqlkit._numbered_list(p_definition -> 'normalised', '%1$L::text, s.g%2$s'),
    sqlkit._numbered_list(p_definition -> 'normalised', '%1$L::text, s.v%2$s'),
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

comment on function sqlkit._duplicate_pairs(regclass, jsonb, jsonb, text) is
'A query for the pairs of rows that rules of kind duplicate find among the rows t that meet a condition.';


create or replace function sqlkit._disagree_pairs(
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
    select
        jsonb_build_object(%1$s) as resource,
        jsonb_build_object(%1$s) as first_key,
        jsonb_build_object(%1$s) as second_key,
        case when t.is_there and o.is_there then (%2$s)::double precision end as measure,
        case
            when t.is_there is null then jsonb_build_object('missing', %3$L::text)
            when o.is_there is null then jsonb_build_object('missing', %4$L::text)
            else %5$s
        end as facts
    from (select %6$s%7$s, true as is_there from %3$s as t where %8$s and (%9$s)) as t
    full join (select %6$s%7$s, true as is_there from %4$s as t where %8$s and (%9$s)) as o on %10$s
    where %11$s
    $query$,
    sqlkit._numbered_list(p_key, '%1$L::text, coalesce(t.k%2$s, o.k%2$s)'),
    sqlkit._numbered_list(p_definition -> 'columns', '(t.v%2$s is distinct from o.v%2$s)::integer', ' + '),
    sqlkit._table_name(p_target),
    sqlkit._table_name(p_other),
    sqlkit._numbered_list(
        p_definition -> 'columns',
        'case when t.v%2$s is distinct from o.v%2$s '
        || 'then jsonb_build_object(%1$L::text, jsonb_build_array(t.v%2$s, o.v%2$s)) else ''{}'' end',
        ' || '
    ),
    sqlkit._numbered_list(p_key, 't.%1$I as k%2$s'),
    sqlkit._numbered_list(p_definition -> 'columns', ', t.%1$I as v%2$s', ''),
    sqlkit._numbered_list(p_key, 't.%1$I is not null', ' and '),
    p_filter,
    (
        select string_agg(
            format(
                't.k%s %s o.k%1$s', k.position, sqlkit._operator(p_target, k.name::name, '=')
            ),
            ' and '
        )
        from jsonb_array_elements_text(p_key) with ordinality as k (name, position)
    ),
    case
        when (p_definition ->> 'missing')::boolean then 't.is_there is null or o.is_there is null or '
        else 't.is_there and o.is_there and '
    end
    || '(' || sqlkit._numbered_list(p_definition -> 'columns', 't.v%2$s is distinct from o.v%2$s', ' or ') || ')'
);

comment on function sqlkit._disagree_pairs(regclass, regclass, jsonb, jsonb, text) is
'A query for the rows that two tables do not agree about, among their rows t that meet a condition.';


create or replace function sqlkit._conflict_pairs(p_rule sqlkit.conflict_rule, p_filter text default 'true')
returns text
language sql
stable
return case p_rule.kind
    when 'duplicate'
        then sqlkit._duplicate_pairs(
            p_rule.target::regclass, to_jsonb(p_rule.key_columns), p_rule.definition, p_filter
        )
    when 'disagree'
        then sqlkit._disagree_pairs(
            p_rule.target::regclass, p_rule.other::regclass, to_jsonb(p_rule.key_columns), p_rule.definition, p_filter
        )
    else sqlkit._interval_pairs(
        p_rule.kind, p_rule.target::regclass, to_jsonb(p_rule.key_columns), p_rule.definition, p_filter
    )
end;

comment on function sqlkit._conflict_pairs(sqlkit.conflict_rule, text) is
'A query for the pairs that a rule finds among the rows t that meet a condition: resource, keys, measure, facts.';


create or replace function sqlkit._refuse_columns(p_relation regclass, p_columns name[])
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $refuse_columns$
declare
    v_missing text;
begin
    select string_agg(quote_ident(k.name), ', ' order by k.position)
    into v_missing
    from unnest(p_columns) with ordinality as k (name, position)
    where k.name is not null and sqlkit._type_of(p_relation, k.name) is null;
    if v_missing is not null then
        raise exception using
            errcode = 'SK204',
            message = format('columns that are not there: %s', v_missing),
            detail = format('Table: %s.', sqlkit._table_name(p_relation)),
            hint = 'Name columns of the table or view that the rule is about.';
    end if;
end;
$refuse_columns$;

comment on function sqlkit._refuse_columns(regclass, name[]) is
'Raises SK204 for columns that a relation does not have.';


create or replace function sqlkit._rule_key(p_target regclass)
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $rule_key$
declare
    v_key name[];
begin
    select k.columns
    into v_key
    from sqlkit._unique_keys(p_target) as k
    where k.is_primary;
    if not found then
        raise exception using
            errcode = 'SK202',
            message = 'the rule needs a key and the table has none',
            detail = format('Table: %s.', sqlkit._table_name(p_target)),
            hint = 'Name the columns by which a row is known: p_key.';
    end if;
    return v_key;
end;
$rule_key$;

comment on function sqlkit._rule_key(regclass) is
'The primary key of a table. Raises SK202 if there is none: of a view, say.';


create or replace function sqlkit._define_rule(
    p_name text,
    p_kind text,
    p_target regclass,
    p_other regclass,
    p_key name[],
    p_definition jsonb,
    p_changed_by name
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_rule$
declare
    v_rule sqlkit.conflict_rule;
    v_key name[] := coalesce(p_key, sqlkit._rule_key(p_target));
begin
    perform sqlkit._refuse_columns(p_target, v_key || p_changed_by);
    insert into sqlkit.conflict_rule as r (
        name, kind, target, other, key_columns, definition, changed_by
    )
    values (
        p_name, p_kind, sqlkit._table_name(p_target), sqlkit._table_name(p_other), v_key,
        jsonb_strip_nulls(p_definition), p_changed_by
    )
    on conflict (name) do update
    set
        kind = excluded.kind,
        target = excluded.target,
        other = excluded.other,
        key_columns = excluded.key_columns,
        definition = excluded.definition,
        changed_by = excluded.changed_by,
        -- A rule that says something else has to look at everything again.
        mark = case
            when
                (r.kind, r.target, r.other, r.key_columns, r.definition, r.changed_by)
                is not distinct from (
                    excluded.kind, excluded.target, excluded.other, excluded.key_columns, excluded.definition,
                    excluded.changed_by
                )
                then r.mark
        end
    returning r.* into v_rule;
    -- What PostgreSQL would not run is refused now, and not in the night.
    execute 'explain ' || sqlkit._conflict_pairs(v_rule);
    return v_rule.conflict_rule_id;
exception
    when syntax_error_or_access_rule_violation or data_exception or wrong_object_type then
        raise exception using
            errcode = 'SK801',
            message = format('rule %s cannot be detected: %s', p_name, sqlerrm),
            detail = format('Table: %s; definition: %s.', sqlkit._table_name(p_target), p_definition),
            hint = 'The columns have to be of types that can be sorted and subtracted; see docs/conflicts.md.';
end;
$define_rule$;

comment on function sqlkit._define_rule(text, text, regclass, regclass, name[], jsonb, name) is
'Stores a rule, or what is new about it, and returns its id.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit._check_interval(
    p_target regclass,
    p_resource name[],
    p_starts name,
    p_ends name,
    p_range name,
    p_nulls text,
    p_bounds text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $check_interval$
declare
    v_wrong text;
begin
    perform sqlkit._refuse_columns(p_target, p_resource || p_starts || p_ends || p_range);
    v_wrong := case
        when coalesce(cardinality(p_resource), 0) = 0 then 'a resource is needed'
        when (p_range is null) = (p_starts is null) or (p_starts is null) <> (p_ends is null)
            then 'either p_starts and p_ends are needed, or p_range'
        when p_range is not null and not exists (
            select
            from pg_range as r
            where r.rngtypid = sqlkit._type_of(p_target, p_range)
        ) then format('column %I is no range', p_range)
        when p_nulls is null or p_nulls not in ('unbounded', 'unknown') then 'p_nulls is unbounded or unknown'
        when p_bounds is null or p_bounds not in ('[)', '[]', '(]', '()') then 'p_bounds is [), [], (] or ()'
    end;
    if v_wrong is not null then
        raise exception using
            errcode = 'SK801',
            message = format('the rule cannot be detected: %s', v_wrong),
            detail = format('Table: %s.', sqlkit._table_name(p_target)),
            hint = 'Mend the call; see docs/conflicts.md.';
    end if;
end;
$check_interval$;

comment on function sqlkit._check_interval(regclass, name[], name, name, name, text, text) is
'Raises SK204 for columns that are not there, SK801 for intervals that make no sense.';


create or replace function sqlkit.define_overlap(
    p_name text,
    p_target regclass,
    p_resource name[],
    p_starts name default null,
    p_ends name default null,
    p_range name default null,
    p_bounds text default '[)',
    p_nulls text default 'unbounded',
    p_exempt name[] default '{}',
    p_across name[] default '{}',
    p_key name[] default null,
    p_changed_by name default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_overlap$
begin
    perform sqlkit._check_interval(p_target, p_resource, p_starts, p_ends, p_range, p_nulls, p_bounds);
    perform sqlkit._refuse_columns(p_target, p_exempt || p_across);
    return sqlkit._define_rule(
        p_name, 'overlap', p_target, null, p_key,
        jsonb_build_object(
            'resource', p_resource, 'starts', p_starts, 'ends', p_ends, 'range', p_range,
            'bounds', case when p_range is null then p_bounds end,
            'nulls', case when p_range is null then p_nulls end,
            'exempt', p_exempt, 'across', p_across
        ),
        p_changed_by
    );
end;
$define_overlap$;

comment on function sqlkit.define_overlap(
    text, regclass, name[], name, name, name, text, text, name[], name[], name[], name
) is
'A rule: no two rows of one resource may overlap. The interval is in two columns, with bounds as said and nulls that
mean unbounded (or unknown: such rows are no intervals), or in one range. Intervals that hold nothing overlap nothing,
and neither do rows whose resource has a null. Rows that are alike in all columns of p_exempt, nulls being alike to
nothing, may overlap; with p_across only rows that differ in each of these columns may not.
The key is the primary key unless named; a view needs one named. Defining a name again replaces the rule, and keeps
its conflicts. Returns its id.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit.define_distance(
    p_name text,
    p_target regclass,
    p_resource name[],
    p_gap text,
    p_starts name default null,
    p_ends name default null,
    p_range name default null,
    p_travel regprocedure default null,
    p_place name[] default '{}',
    p_exempt name[] default '{}',
    p_across name[] default '{}',
    p_key name[] default null,
    p_changed_by name default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_distance$
begin
    perform sqlkit._check_interval(p_target, p_resource, p_starts, p_ends, p_range, 'unknown', '[)');
    perform sqlkit._refuse_columns(p_target, p_place || p_exempt || p_across);
    return sqlkit._define_rule(
        p_name, 'distance', p_target, null, p_key,
        jsonb_build_object(
            'resource', p_resource, 'starts', p_starts, 'ends', p_ends, 'range', p_range, 'nulls', 'unknown',
            'gap', p_gap,
            'travel', (
                select format('%I.%I', n.nspname, p.proname)
                from pg_proc as p
                join pg_namespace as n on n.oid = p.pronamespace
                where p.oid = p_travel
            ),
            'place', p_place, 'exempt', p_exempt, 'across', p_across
        ),
        p_changed_by
    );
end;
$define_distance$;

comment on function sqlkit.define_distance(
    text, regclass, name[], text, name, name, name, regprocedure, name[], name[], name[], name[], name
) is
'A rule: between two rows of one resource that do not overlap there has to be a gap of at least p_gap: an interval
for times, days for dates, else a number. With p_travel, a function of the places of both rows (p_place of the earlier,
p_place of the later), as much as it returns, null being nothing; p_gap is then the most that it is asked about: rows
further apart are never too close. Rows without a beginning or an end are left out. The rest is as for an overlap.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit.define_duplicate(
    p_name text,
    p_target regclass,
    p_columns name[],
    p_normalised name[] default '{}',
    p_key name[] default null,
    p_changed_by name default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_duplicate$
begin
    perform sqlkit._refuse_columns(p_target, p_columns || p_normalised);
    return sqlkit._define_rule(
        p_name, 'duplicate', p_target, null, p_key,
        jsonb_build_object('resource', p_columns || p_normalised, 'normalised', p_normalised),
        p_changed_by
    );
end;
$define_duplicate$;

comment on function sqlkit.define_duplicate(text, regclass, name[], name[], name[], name) is
'A rule: no two rows may be alike in all columns of p_columns and p_normalised; the latter are compared without regard
to case, to spaces at the ends and to how many there are between words. A null is alike to nothing. Each further row
is a conflict with the first one, by key.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit.define_disagreement(
    p_name text,
    p_target regclass,
    p_other regclass,
    p_columns name[] default null,
    p_missing boolean default true,
    p_key name[] default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_disagreement$
declare
    v_key name[] := coalesce(p_key, sqlkit._rule_key(p_target));
    v_columns name[] := coalesce(
        p_columns,
        (
            select array_agg(a.attname order by a.attnum)
            from pg_attribute as a
            where
                a.attrelid = p_target
                and a.attnum > 0
                and not a.attisdropped
                and a.attname <> all (v_key)
                and sqlkit._type_of(p_other, a.attname) is not null
        )
    );
begin
    perform sqlkit._refuse_columns(p_target, v_columns);
    perform sqlkit._refuse_columns(p_other, v_columns || v_key);
    return sqlkit._define_rule(
        p_name, 'disagree', p_target, p_other, v_key,
        jsonb_build_object('resource', v_key, 'columns', v_columns, 'missing', p_missing),
        null
    );
end;
$define_disagreement$;

comment on function sqlkit.define_disagreement(text, regclass, regclass, name[], boolean, name[]) is
'A rule: two tables say the same, in the columns named (all that both have, if none are), of the rows with one key.
With p_missing, a row that only one of them has is a conflict too.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit._find_rule(p_rule text)
returns sqlkit.conflict_rule
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_rule$
declare
    v_rule sqlkit.conflict_rule;
begin
    select r.*
    into v_rule
    from sqlkit.conflict_rule as r
    where r.name = p_rule;
    if not found then
        raise exception using
            errcode = 'SK802',
            message = format('there is no conflict rule %s', p_rule),
            detail = format(
                'Rules: %s.', coalesce((select string_agg(r.name, ', ' order by r.name) from sqlkit.conflict_rule as r), '-')
            ),
            hint = 'Make one with sqlkit.define_overlap() or its sisters.';
    end if;
    return v_rule;
end;
$find_rule$;

comment on function sqlkit._find_rule(text) is 'The rule of a name. Raises SK802 if there is none.';


create or replace function sqlkit.drop_rule(p_rule text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $drop_rule$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
    v_conflicts bigint;
begin
    select count(*)
    into v_conflicts
    from sqlkit.conflict as c
    where c.conflict_rule_id = v_rule.conflict_rule_id;
    delete from sqlkit.conflict_rule
    where conflict_rule_id = v_rule.conflict_rule_id;
    return v_conflicts;
end;
$drop_rule$;

comment on function sqlkit.drop_rule(text) is
'Removes a rule with all its conflicts and their history; returns how many conflicts those were.
Writes: sqlkit.conflict_rule, sqlkit.conflict, sqlkit.conflict_event. Raises: SK802 if there is no such rule.';


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


create or replace function sqlkit.mark_detection(p_rule text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $mark_detection$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
    v_target regclass := v_rule.target::regclass;
    v_mark jsonb;
begin
    if v_rule.changed_by is null then
        -- Whatever is written by transactions from this number on was not there, or may not have been. It is a
        -- number of this server: another one that the database is restored to knows nothing of it.
        return jsonb_build_object(
            'horizon', pg_snapshot_xmin(pg_current_snapshot())::text,
            'server', (select c.system_identifier::text from pg_control_system() as c)
        );
    end if;
    if sqlkit._type_of(v_target, v_rule.changed_by) = 'boolean'::regtype then
        return '{}'::jsonb;
    end if;
    execute format(
        'select jsonb_build_object(''watermark'', max(t.%I)::text) from %s as t', v_rule.changed_by, v_target
    )
    into v_mark;
    return v_mark;
end;
$mark_detection$;

comment on function sqlkit.mark_detection(text) is
'How far a detection that begins now will have come, for finish_detection(). Only a detection in parts needs it.
Raises: SK802 if there is no such rule.';


create or replace function sqlkit.finish_detection(p_rule text, p_mark jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $finish_detection$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
begin
    update sqlkit.conflict_rule
    set
        mark = p_mark,
        detected_at = clock_timestamp()
    where conflict_rule_id = v_rule.conflict_rule_id;
end;
$finish_detection$;

comment on function sqlkit.finish_detection(text, jsonb) is
'Records that all parts of a detection are done that began with mark_detection(): the next one looks only at what has
changed since. Writes: sqlkit.conflict_rule. Raises: SK802 if there is no such rule.';


create or replace function sqlkit._changed_since(p_rule sqlkit.conflict_rule, p_relation regclass)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $changed_since$
declare
    v_horizon xid8 := (p_rule.mark ->> 'horizon')::xid8;
begin
    if p_rule.mark is null then
        return null;
    end if;
    if p_rule.changed_by is not null then
        if sqlkit._type_of(p_relation, p_rule.changed_by) = 'boolean'::regtype then
            return format('t.%I', p_rule.changed_by);
        end if;
        -- The last value may have been given to rows that came later.
        return format(
            '(t.%1$I is null or t.%1$I >= %2$L)', p_rule.changed_by, p_rule.mark ->> 'watermark'
        );
    end if;
    -- Rows bear the lower half of the number: what is half a turn old cannot be told from what is to come.
    if
        not sqlkit._tells_changes(p_relation)
        or p_rule.mark ->> 'server' is distinct from (select c.system_identifier::text from pg_control_system() as c)
        or pg_snapshot_xmax(pg_current_snapshot())::text::bigint - v_horizon::text::bigint > 1000000000
    then
        return null;
    end if;
    return format('age(t.xmin) <= %s', age(v_horizon::xid));
end;
$changed_since$;

comment on function sqlkit._changed_since(sqlkit.conflict_rule, regclass) is
'The condition under which a row t may have been written after the last detection; null if that cannot be told.';


create or replace function sqlkit._typed_list(p_relation regclass, p_columns jsonb, p_as_text jsonb default '[]')
returns text
language sql
stable
return (
    select string_agg(
        format(
            '%I %s',
            k.name,
            case when p_as_text ? k.name then 'text' else format_type(a.atttypid, a.atttypmod) end
        ),
        ', '
        order by k.position
    )
    from jsonb_array_elements_text(p_columns) with ordinality as k (name, position)
    join pg_attribute as a on a.attrelid = p_relation and a.attname = k.name::name
);

comment on function sqlkit._typed_list(regclass, jsonb, jsonb) is
'Columns of a relation with their types, as jsonb_to_record() wants them; those of p_as_text as text.';


create or replace function sqlkit._equal_list(
    p_relation regclass,
    p_columns jsonb,
    p_left text,
    p_right text,
    p_expressions text[] default null
)
returns text
language sql
stable
return (
    select string_agg(
        format(p_left, k.name, k.position)
        || ' ' || coalesce(sqlkit._operator(p_relation, k.name::name, '='), '=') || ' '
        || coalesce(p_expressions[k.position], format(p_right, k.name, k.position)),
        ' and '
        order by k.position
    )
    from jsonb_array_elements_text(p_columns) with ordinality as k (name, position)
);

comment on function sqlkit._equal_list(regclass, jsonb, text, text, text[]) is
'The condition under which columns, put through two templates (%1$I the name, %2$s the position), are equal; the right
side may be expressions in their place.';


create or replace function sqlkit._find_touched(p_rule sqlkit.conflict_rule)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $find_touched$
declare
    v_target regclass := p_rule.target::regclass;
    v_key jsonb := to_jsonb(p_rule.key_columns);
    v_resource jsonb := p_rule.definition -> 'resource';
    v_columns text := sqlkit._numbered_list(v_key, 't.%1$I as k%2$s') || ', '
        || sqlkit._numbered_list(to_jsonb(sqlkit._compared(p_rule.definition)), '%1$s as r%2$s');
    v_since text := sqlkit._changed_since(p_rule, v_target);
    v_since_other text := case when p_rule.other is not null then sqlkit._changed_since(p_rule, p_rule.other) end;
    v_is_flag boolean := p_rule.changed_by is not null
        and sqlkit._type_of(v_target, p_rule.changed_by) = 'boolean'::regtype;
begin
    if
        v_since is null
        or (p_rule.other is not null and v_since_other is null)
        -- A row that was deleted bears no number: its counterpart, alone now, looks as it did.
        or (p_rule.definition ->> 'missing')::boolean
    then
        return false;
    end if;
    execute format(
        'create temporary table sqlkit_changed on commit drop as select %s, true as is_changed from %s as t where %s%s',
        v_columns,
        p_rule.target,
        case when v_is_flag then 'false' else v_since end,
        case
            when p_rule.other is not null
                then format(
                    ' union select %s, true from %s as t where %s', v_columns, p_rule.other, v_since_other
                )
        end
    );
    if v_is_flag then
        -- In one statement, so that a flag that is raised meanwhile stays up for the next time.
        execute format(
            'with t as (update %s as t set %I = false where t.%2$I returning t.*) '
            'insert into pg_temp.sqlkit_changed select %s, true from t',
            p_rule.target, p_rule.changed_by, v_columns
        );
    end if;
    analyze pg_temp.sqlkit_changed;
    -- Besides the resources of these rows: those that their conflicts were found for, which they may have left, and
    -- those of conflicts of which a row is no more.
    execute format(
        $query$
        create temporary table sqlkit_touched on commit drop as
        select distinct s.*, jsonb_build_object(%1$s) as resource
        from (
            select %2$s from pg_temp.sqlkit_changed as s
            union all
            select %3$s
            from sqlkit.conflict as c
            cross join lateral (values (c.first_key), (c.second_key)) as v (key)
            cross join lateral jsonb_to_record(v.key) as w (%4$s)
            cross join lateral jsonb_to_record(c.resource) as q (%5$s)
            left join %6$s as t on %7$s%8$s
            left join pg_temp.sqlkit_changed as s on %12$s
            where
                c.conflict_rule_id = %9$s
                and c.gone_at is null
                and (t.%10$I is null%11$s or s.is_changed)
        ) as s
        $query$,
        sqlkit._numbered_list(v_resource, '%1$L::text, s.r%2$s'),
        sqlkit._numbered_list(v_resource, 's.r%2$s'),
        sqlkit._numbered_list(v_resource, 'q.%1$I'),
        sqlkit._typed_list(v_target, v_key),
        sqlkit._typed_list(v_target, v_resource, p_rule.definition -> 'normalised'),
        p_rule.target,
        sqlkit._equal_list(v_target, v_key, 't.%1$I', 'w.%1$I'),
        case
            when p_rule.other is not null
                then format(
                    ' left join %s as o on %s',
                    p_rule.other, sqlkit._equal_list(v_target, v_key, 'o.%1$I', 'w.%1$I')
                )
        end,
        p_rule.conflict_rule_id,
        p_rule.key_columns[1],
        case when p_rule.other is not null then format(' or o.%I is null', p_rule.key_columns[1]) end,
        sqlkit._equal_list(v_target, v_key, 's.k%2$s', 'w.%1$I')
    );
    drop table pg_temp.sqlkit_changed;
    analyze pg_temp.sqlkit_touched;
    return true;
end;
$find_touched$;

comment on function sqlkit._find_touched(sqlkit.conflict_rule) is
'Puts the resources that were touched since the last detection into pg_temp.sqlkit_touched; returns false, and makes
nothing, if that cannot be told. Writes: the flags of the target, where the rule goes by a flag.';


create or replace function sqlkit.detect_conflicts(
    p_rule text,
    p_full boolean default false,
    p_part integer default 1,
    p_parts integer default 1
)
returns sqlkit.conflict_counts
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
-- Keys and facts are kept as they look: the same value has to look the same to everybody.
set timezone = 'UTC'
set datestyle = 'ISO'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
-- One sort is most of the work: in parallel it takes half the time.
set work_mem = '64MB'
set parallel_setup_cost = 0
set parallel_tuple_cost = 0
as $detect_conflicts$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
    v_counts sqlkit.conflict_counts := (0, 0, 0, 0, true);
    v_mark jsonb;
    v_compared text[] := sqlkit._compared(v_rule.definition);
    v_resource jsonb := v_rule.definition -> 'resource';
    v_part text := 'mod(hash_record_extended(row(%s), 0) & 9223372036854775807, %s) = %s';
    v_filter text := 'true';
    v_scope text := 'true';
begin
    -- One detection of a rule at a time; its parts may run side by side, each of them once.
    if p_parts = 1 then
        perform pg_advisory_xact_lock('sqlkit.conflict_rule'::regclass::oid::integer, v_rule.conflict_rule_id::integer);
    else
        perform pg_advisory_xact_lock_shared(
            'sqlkit.conflict_rule'::regclass::oid::integer, v_rule.conflict_rule_id::integer
        );
        perform pg_advisory_xact_lock(
            'sqlkit.conflict'::regclass::oid::integer,
            hashtext(format('%s %s/%s', v_rule.conflict_rule_id, p_part, p_parts))
        );
    end if;
    v_rule := sqlkit._find_rule(p_rule);
    v_mark := sqlkit.mark_detection(p_rule);
    perform set_config('work_mem', sqlkit._memory_for_load('work_mem'), true);

    -- PHASE: which resources.
    if p_parts > 1 then
        v_filter := format(v_part, array_to_string(v_compared, ', '), p_parts, p_part - 1);
        v_scope := format(
            '(select %s from jsonb_to_record(c.resource) as q (%s))',
            format(v_part, sqlkit._numbered_list(v_resource, 'q.%1$I'), p_parts, p_part - 1),
            sqlkit._typed_list(v_rule.target::regclass, v_resource, v_rule.definition -> 'normalised')
        );
    elsif not p_full and sqlkit._find_touched(v_rule) then
        v_counts.is_full := false;
        v_filter := format(
            'exists (select from pg_temp.sqlkit_touched as w where %s)',
            sqlkit._equal_list(v_rule.target::regclass, v_resource, 'w.r%2$s', null, v_compared)
        );
        v_scope := 'c.resource in (select w.resource from pg_temp.sqlkit_touched as w)';
    end if;

    -- PHASE: find the pairs, and of them and of those known only what differs.
    execute format(
        $query$
        create temporary table sqlkit_found on commit drop as
        select c.conflict_id, c.gone_at, c.changed_at, f.*
        from (select c.* from sqlkit.conflict as c where c.conflict_rule_id = %s) as c
        full join (%s) as f on f.first_key = c.first_key and f.second_key = c.second_key
        where
            c.conflict_id is null
            or (f.first_key is null and c.gone_at is null and %s)
            or (
                f.first_key is not null
                and (c.gone_at is not null or f.facts is distinct from c.facts or f.resource is distinct from c.resource)
            )
        $query$,
        v_rule.conflict_rule_id, sqlkit._conflict_pairs(v_rule, v_filter), v_scope
    );
    perform sqlkit._refuse_doubled_pairs(v_rule);

    -- PHASE: record it.
    insert into sqlkit.conflict_event (
        conflict_id, action, state_before, measure_before, facts_before
    )
    select
        c.conflict_id,
        case
            when f.first_key is null then 'gone'
            when c.gone_at is not null then 'back'
            else 'changed'
        end,
        c.state,
        c.measure,
        c.facts
    from pg_temp.sqlkit_found as f
    join sqlkit.conflict as c on c.conflict_id = f.conflict_id
    where f.first_key is not null or c.changed_at = f.changed_at;

    update sqlkit.conflict as c
    set
        state = 'resolved',
        gone_at = clock_timestamp(),
        changed_at = clock_timestamp(),
        changed_by = current_user,
        note = null
    from pg_temp.sqlkit_found as f
    -- Another part may have found it meanwhile, with another resource.
    where c.conflict_id = f.conflict_id and f.first_key is null and c.changed_at = f.changed_at;
    get diagnostics v_counts.pairs_closed = row_count;

    update sqlkit.conflict as c
    set
        resource = f.resource,
        measure = f.measure,
        facts = f.facts,
        state = 'open',
        gone_at = null,
        changed_at = clock_timestamp(),
        changed_by = current_user,
        note = null
    from pg_temp.sqlkit_found as f
    where c.conflict_id = f.conflict_id and f.first_key is not null;
    get diagnostics v_counts.pairs_changed = row_count;

    insert into sqlkit.conflict (conflict_rule_id, resource, first_key, second_key, measure, facts)
    select
        v_rule.conflict_rule_id,
        f.resource,
        f.first_key,
        f.second_key,
        f.measure,
        f.facts
    from pg_temp.sqlkit_found as f
    where f.conflict_id is null;
    get diagnostics v_counts.pairs_opened = row_count;
    drop table pg_temp.sqlkit_found;
    if not v_counts.is_full then
        drop table pg_temp.sqlkit_touched;
    end if;

    select count(*)
    into v_counts.pairs_open
    from sqlkit.conflict as c
    where c.conflict_rule_id = v_rule.conflict_rule_id and c.state = 'open';
    if p_parts = 1 then
        perform sqlkit.finish_detection(p_rule, v_mark);
    end if;
    return v_counts;
end;
$detect_conflicts$;

comment on function sqlkit.detect_conflicts(text, boolean, integer, integer) is
'Finds all pairs of rows that a rule has for contradictory, and compares them with those that are known: new ones are
opened, those whose rows say something else now are opened again, those that are gone are closed; the others stay as
they are, settled ones too. Only resources that were touched since the last detection are looked at, unless p_full.
With p_parts, a share of the resources: call it for each p_part from 1 on, side by side in sessions of their own,
between mark_detection() and finish_detection().
Writes: sqlkit.conflict, sqlkit.conflict_event, sqlkit.conflict_rule, and the target''s flag where the rule goes by one.
Locks: advisory, on the rule, until commit. Raises: SK802 if there is no such rule, SK803 if its key is not unique.';


create or replace function sqlkit._refuse_doubled_pairs(p_rule sqlkit.conflict_rule)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_doubled_pairs$
declare
    v_key jsonb;
begin
    if exists (
        select
        from sqlkit._unique_keys(p_rule.target::regclass) as k
        where k.columns <@ p_rule.key_columns
    ) then
        return;
    end if;
    select f.first_key
    into v_key
    from pg_temp.sqlkit_found as f
    where f.first_key is not null
    group by f.first_key, f.second_key
    having count(*) > 1 or (f.first_key = f.second_key and p_rule.kind <> 'disagree')
    limit 1;
    if found then
        raise exception using
            errcode = 'SK803',
            message = format('rows of rule %s have the same key', p_rule.name),
            detail = format('Table: %s; key: %s.', p_rule.target, v_key),
            hint = 'Define the rule with a key that is unique.';
    end if;
end;
$refuse_doubled_pairs$;

comment on function sqlkit._refuse_doubled_pairs(sqlkit.conflict_rule) is
'Raises SK803 if pairs that were found show that the key of a rule is not unique.';


create or replace function sqlkit.settle_conflicts(
    p_conflicts bigint[],
    p_state text,
    p_note text default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $settle_conflicts$
declare
    v_unknown text;
    v_settled bigint;
begin
    select string_agg(k.id::text, ', ')
    into v_unknown
    from unnest(p_conflicts) as k (id)
    where not exists (select from sqlkit.conflict as c where c.conflict_id = k.id and c.gone_at is null);
    if v_unknown is not null then
        raise exception using
            errcode = 'SK804',
            message = format('no conflicts, or conflicts that are gone: %s', v_unknown),
            detail = format('State: %s.', p_state),
            hint = 'List them with: select * from sqlkit.conflict where gone_at is null;';
    end if;
    with settled as (
        update sqlkit.conflict as c
        set
            state = p_state,
            changed_at = clock_timestamp(),
            changed_by = current_user,
            note = p_note
        from (
            select c.*
            from sqlkit.conflict as c
            where c.conflict_id = any (p_conflicts) and c.state <> p_state
            for update
        ) as b
        where c.conflict_id = b.conflict_id
        returning b.*
    )

    insert into sqlkit.conflict_event (
        conflict_id, action, state_before, measure_before, facts_before, note
    )
    select
        s.conflict_id,
        p_state,
        s.state,
        s.measure,
        s.facts,
        p_note
    from settled as s;
    get diagnostics v_settled = row_count;
    return v_settled;
end;
$settle_conflicts$;

comment on function sqlkit.settle_conflicts(bigint[], text, text) is
'Says what became of conflicts: resolved, ignored, or open again; returns for how many that is new. It holds until
their rows change. Writes: sqlkit.conflict, sqlkit.conflict_event. Locks: the conflicts'' rows until commit.
Raises: SK804 for conflicts that are unknown or gone, 23514 for another state.';


create or replace function sqlkit.flag_conflicts(
    p_rule text,
    p_column name,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
set intervalstyle = 'postgres'
as $flag_conflicts$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
    v_target regclass := v_rule.target::regclass;
    v_key jsonb := to_jsonb(v_rule.key_columns);
    v_type regtype := sqlkit._type_of(v_target, p_column);
    v_stage regclass;
    v_counts sqlkit.row_counts;
begin
    perform sqlkit._refuse_columns(v_target, array[p_column]);
    v_stage := sqlkit.create_stage(v_target, v_rule.key_columns || p_column);
    -- What the stage says of a row has to be true until it is merged.
    execute format('lock table %s in share row exclusive mode', v_target);
    execute format(
        $query$
        insert into %1$s
        select %2$s, d.value
        from %3$s as t
        left join (
            select %4$s, %5$s as value
            from sqlkit.conflict as c
            cross join lateral (values (c.first_key), (c.second_key)) as v (key)
            cross join lateral jsonb_to_record(v.key) as w (%6$s)
            where c.conflict_rule_id = %7$s and c.state = 'open'
            group by %4$s
        ) as w on %8$s
        cross join lateral (select coalesce(w.value, %9$L)::%10$s as value) as d
        where t.%11$I is distinct from d.value
        $query$,
        v_stage,
        sqlkit._numbered_list(v_key, 't.%1$I'),
        v_target,
        sqlkit._numbered_list(v_key, 'w.%1$I'),
        case
            when v_type = 'boolean'::regtype then 'true'
            when v_type in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) then 'count(*)'
            else 'sum(c.measure)'
        end,
        sqlkit._typed_list(v_target, v_key),
        v_rule.conflict_rule_id,
        sqlkit._equal_list(v_target, v_key, 't.%1$I', 'w.%1$I'),
        case when v_type = 'boolean'::regtype then 'false' else '0' end,
        v_type,
        p_column
    );
    v_counts := sqlkit.merge_stage(v_stage, 'update', v_rule.key_columns, p_search_path => p_search_path);
    perform sqlkit.drop_stage(v_stage);
    return v_counts;
end;
$flag_conflicts$;

comment on function sqlkit.flag_conflicts(text, name, text) is
'Writes into a column of a rule''s table which rows are in an open conflict: a boolean says whether, an integer in how
many, another number how much (the sum of their measures). Only rows where that is not said yet are written, through
a stage and a merge; the table''s triggers run under p_search_path, the caller''s unless said.
Writes: the target, sqlkit.run, sqlkit.batch. Locks: SHARE ROW EXCLUSIVE on the target until commit.
Raises: SK201 if the rule is about a view, SK203 if its key has no unique index, SK204 no such column, SK802 no rule.';


create or replace view sqlkit.conflict_summary as
select
    r.conflict_rule_id,
    r.name,
    r.kind,
    r.target,
    r.other,
    coalesce(c.pairs_open, 0) as pairs_open,
    coalesce(c.pairs_ignored, 0) as pairs_ignored,
    coalesce(c.pairs_resolved, 0) as pairs_resolved,
    coalesce(c.pairs_gone, 0) as pairs_gone,
    c.measure_open,
    r.detected_at,
    r.created_at,
    r.created_by
from sqlkit.conflict_rule as r
left join (
    select
        conflict.conflict_rule_id,
        count(*) filter (where conflict.state = 'open') as pairs_open,
        count(*) filter (where conflict.state = 'ignored') as pairs_ignored,
        count(*) filter (where conflict.state = 'resolved' and conflict.gone_at is null) as pairs_resolved,
        count(*) filter (where conflict.gone_at is not null) as pairs_gone,
        sum(conflict.measure) filter (where conflict.state = 'open') as measure_open
    from sqlkit.conflict
    group by conflict.conflict_rule_id
) as c on c.conflict_rule_id = r.conflict_rule_id;

comment on view sqlkit.conflict_summary is
'Conflict rules with the numbers of their conflicts: open, ignored, resolved by somebody, gone by themselves.';


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
        'is_full_match', c.confmatchtype = 'f',
        'columns', (
            select jsonb_agg(
                case
                    when c.contype in ('p', 'u', 'x') then pg_get_indexdef(c.conindid, k.position::integer, false)
                    else (
                        select quote_ident(a.attname)
                        from pg_attribute as a
                        where a.attrelid = c.conrelid and a.attnum = k.attnum
                    )
                end
                order by k.position
            )
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
as $check_constraint$
declare
    v_constraint jsonb := sqlkit._read_constraint(p_target, p_definition, p_search_path);
    v_kind text := v_constraint ->> 'kind';
    v_columns jsonb := v_constraint -> 'columns';
    v_last integer := jsonb_array_length(v_columns);
    v_table text := sqlkit._table_name(p_target);
    v_queries text[] := array[]::text[];
    v_query text;
    v_rest text;
begin
    if v_kind in ('p', 'u', 'x') then
        v_query := format(
            'select t as r, t.ctid as place, %s from %s as t where %s and %s',
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
            'select ''null'', to_jsonb(t), null::jsonb from %s as t where %s',
            v_table, sqlkit._numbered_list(v_columns, '%1$s is null', ' or ')
        );
    end if;
    if v_kind = 'c' then
        v_queries := v_queries || format(
            'select ''check'', to_jsonb(t), null::jsonb from %s as t where (%s) is false',
            v_table, v_constraint ->> 'expression'
        );
    elsif v_kind = 'f' and not (v_constraint ->> 'has_period')::boolean then
        v_queries := v_queries || format(
            'select ''reference'', to_jsonb(t), null::jsonb from %1$s as t '
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
            v_queries := v_queries || format(
                'select ''empty'', to_jsonb(s.r), null::jsonb from (%s) as s where isempty(s.c%s)', v_query, v_last
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
            detail = format('Table: %s; definition: %s.', v_table, p_definition),
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
with PERIOD, and whatever PostgreSQL says to the definition.';
