-- Conflicts: pairs of rows that contradict each other. A rule becomes two queries: the first passes over the rows in
-- order once, and gives only those that touch another one (candidates); the second makes pairs of them. What they find
-- is compared with what is known.
--
-- The queries' own names are short and positional, so that they can clash with no column: k1.. the key,
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
            'timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype,
            'interval'::regtype
        )
            -- One infinity less another is no number.
            then format(
                'case when %2$s = %1$s then 0 else (date_part(''epoch'', %2$s) - date_part(''epoch'', %1$s)) / 60 end',
                p_from, p_to
            )
        when p_type in (
            'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype, 'real'::regtype,
            'double precision'::regtype
        )
            then format(
                'case when %2$s = %1$s then 0 else (%2$s)::double precision - (%1$s)::double precision end', p_from, p_to
            )
    end;
end;
$minutes$;

comment on function sqlkit._minutes(text, text, regtype) is
'An expression for the distance between two values: minutes for times, the difference of numbers; null for others.';


create or replace function sqlkit._gap_of(p_definition jsonb, p_type regtype)
returns text
language sql
stable
return format(
    '%L::%s',
    p_definition ->> 'gap',
    case p_type::text
        when 'timestamp with time zone' then 'interval'
        when 'timestamp without time zone' then 'interval'
        when 'date' then 'integer'
        else p_type::text
    end
);

comment on function sqlkit._gap_of(jsonb, regtype) is
'The gap of a rule of kind distance, as an expression that may be added to a value of a type.';


create or replace function sqlkit._interval_candidates(
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
as $interval_candidates$
declare
    v_is_distance boolean := p_kind = 'distance';
    v_interval record := sqlkit._interval_of(p_target, p_definition, v_is_distance);
    v_resource jsonb := p_definition -> 'resource';
    v_range name := p_definition ->> 'range';
    v_carried text;
    v_kept text;
    -- An interval is as much longer as it has to be away from the next one.
    v_reach text := case
        when v_is_distance then format('(s.hi + %s)', sqlkit._gap_of(p_definition, v_interval.bound_type))
        else 's.hi'
    end;
begin
    -- What is carried through the sort beside the interval.
    select
        string_agg(format('t.%I as %s%s, ', k.name, c.prefix, k.position), '' order by c.prefix, k.position),
        string_agg(format('s.%s%s, ', c.prefix, k.position), '' order by c.prefix, k.position)
    into v_carried, v_kept
    from (
        values
        ('k', p_key), ('r', v_resource), ('e', p_definition -> 'exempt'), ('x', p_definition -> 'across'),
        ('p', p_definition -> 'place'), ('v', case when v_range is not null then jsonb_build_array(v_range) end)
    ) as c (prefix, columns)
    cross join lateral jsonb_array_elements_text(c.columns) with ordinality as k (name, position);

    return format(
        $query$
        select
            %1$ss.lo, s.hi, %2$s as far,
            row_number() over w as n, (%2$s %3$s lead(s.lo) over w) is not false as has_next
        from (
            select s.*, max(%2$s) over w as reach, lead(s.lo) over w as next_lo%4$s
            from (select %5$s%6$s as lo, %7$s as hi from %8$s as t where %9$s and %10$s and (%11$s)) as s
            window w as (
                partition by %12$s order by s.lo nulls first
                rows between unbounded preceding and 1 preceding
            )
        ) as s
        where s.reach %3$s s.lo or %2$s %3$s s.next_lo%13$s
        window w as (order by %12$s, s.lo nulls first%14$s)
        $query$,
        v_kept,
        v_reach,
        case when v_interval.is_closed then '>=' else '>' end,
        case when not v_interval.is_bounded then ', bool_or(s.hi is null) over w as is_open' end,
        v_carried,
        v_interval.lo,
        v_interval.hi,
        sqlkit._table_name(p_target),
        sqlkit._numbered_list(v_resource, 't.%1$I is not null', ' and '),
        v_interval.is_proper,
        p_filter,
        sqlkit._numbered_list(v_resource, 's.r%2$s'),
        case when not v_interval.is_bounded then ' or s.lo is null or s.hi is null or s.is_open' end,
        case when v_is_distance then ', s.hi' when v_range is not null then ', ' || v_interval.lo_rank end
    );
end;
$interval_candidates$;

comment on function sqlkit._interval_candidates(text, regclass, jsonb, jsonb, text) is
'A query for those rows t that touch another one of their resource, among those that meet a condition, for rules of kind
overlap or distance: numbered in their order (n), how far they reach, and whether they may touch the next one.';


create or replace function sqlkit._interval_pairs(
    p_kind text,
    p_target regclass,
    p_key jsonb,
    p_definition jsonb,
    p_candidates text
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
    v_condition text := '';
    v_measure text;
    v_needed text;
begin
    if v_is_distance then
        v_needed := case
            when p_definition ->> 'travel' is null then sqlkit._gap_of(p_definition, v_interval.bound_type)
            else format(
                '%s(%s, %s)',
                p_definition ->> 'travel',
                sqlkit._numbered_list(v_place, 'a.p%2$s'),
                sqlkit._numbered_list(v_place, 'b.p%2$s')
            )
        end;
        v_condition := ' and b.lo >= a.hi and b.lo - a.hi < d.needed';
        v_measure := case
            when v_interval.bound_type in ('timestamptz'::regtype, 'timestamp'::regtype)
                then 'date_part(''epoch'', d.needed - (b.lo - a.hi)) / 60'
            when v_interval.bound_type = 'date'::regtype then '(d.needed - (b.lo - a.hi)) * 1440'
            else '(d.needed - (b.lo - a.hi))::double precision'
        end;
    else
        -- b begins no earlier than a; least() passes over an end that is null, which is no end.
        v_measure := coalesce(
            'coalesce(' || sqlkit._minutes('b.lo', 'least(a.hi, b.hi)', v_interval.bound_type) || ', ''infinity'')',
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

    -- event: the candidates' beginnings and ends in one order. As many rows as have begun when a row ends, of those
    -- numbered after it, overlap it: they stand one behind the other, and every pair is made once.
    -- offset 0: what is made of a pair is made once, and not wherever it is used.
    return format(
        $query$
        select
            p.resource,
            case when p.is_ordered then p.a_key else p.b_key end as first_key,
            case when p.is_ordered then p.b_key else p.a_key end as second_key,
            p.measure,
            case when p.is_ordered then jsonb_build_array(p.a_facts, p.b_facts)
                else jsonb_build_array(p.b_facts, p.a_facts) end as facts
        from (
            select p.*, p.a_key < p.b_key as is_ordered
            from (
                select
                    jsonb_build_object(%1$s) as resource,
                    jsonb_build_object(%2$s) as a_key,
                    jsonb_build_object(%3$s) as b_key,
                    %4$s as measure,
                    %5$s as a_facts,
                    %6$s as b_facts
                from (
                    select
                        s.n,
                        s.is_end,
                        count(*) filter (where not s.is_end)
                        over (order by %7$s%8$s, s.moment, s.rank rows unbounded preceding) as last_n
                    from (
                        select s.n, %7$s, false as is_end%9$s, s.lo as moment, %10$s as rank
                        from %11$s as s
                        union all
                        select s.n, %7$s, true%12$s, s.far, %13$s
                        from %11$s as s
                        where s.has_next
                    ) as s
                ) as v
                join %11$s as a on a.n = v.n
                cross join lateral generate_series(v.n + 1, v.last_n) as f (n)
                join %11$s as b on b.n = f.n
                %14$s
                where v.is_end and v.last_n > v.n%15$s
                offset 0
            ) as p
            offset 0
        ) as p
        $query$,
        sqlkit._numbered_list(v_resource, '%1$L::text, a.r%2$s'),
        sqlkit._numbered_list(p_key, '%1$L::text, a.k%2$s'),
        sqlkit._numbered_list(p_key, '%1$L::text, b.k%2$s'),
        v_measure,
        sqlkit._interval_facts(p_definition, 'a'),
        sqlkit._interval_facts(p_definition, 'b'),
        sqlkit._numbered_list(v_resource, 's.r%2$s'),
        case when not v_interval.is_bounded then ', s.side' end,
        case when not v_interval.is_bounded then ', case when s.lo is null then -1 else 0 end as side' end,
        case when v_is_distance then '1' else v_interval.lo_rank end,
        p_candidates,
        case when not v_interval.is_bounded then ', case when s.far is null then 1 else 0 end' end,
        case when v_is_distance then '0' else v_interval.hi_rank end,
        case when v_is_distance then format('cross join lateral (select %s as needed) as d', v_needed) end,
        v_condition
    );
end;
$interval_pairs$;

comment on function sqlkit._interval_pairs(text, regclass, jsonb, jsonb, text) is
'A query for the pairs that rules of kind overlap or distance find, from a relation that holds what
_interval_candidates() gives.';
