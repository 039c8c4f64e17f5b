-- Rules on the way in, the first half: how a row of a batch gives way to another one, by being cut or refused.

create or replace function sqlkit._trimmed_interval(
    p_rule sqlkit.conflict_rule,
    p_target regclass,
    p_columns name[],
    out range_type regtype,
    out span text,
    out assignments text,
    out is_expressible text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $trimmed_interval$
declare
    v_bounds text := coalesce(p_rule.definition ->> 'bounds', '[)');
    v_starts name := p_rule.definition ->> 'starts';
    v_ends name := p_rule.definition ->> 'ends';
    v_range name := p_rule.definition ->> 'range';
    v_is_discrete boolean;
begin
    if p_rule.kind <> 'overlap' or not (p_columns @> array_remove(array[v_starts, v_ends, v_range], null)) then
        return;
    end if;
    if v_range is not null then
        range_type := sqlkit._type_of(p_target, v_range);
        span := format('m.%I', v_range);
        assignments := format('%1$I = p.span', v_range);
        is_expressible := 'true';
        return;
    end if;
    select r.rngtypid::regtype, r.rngcanonical <> 0
    into range_type, v_is_discrete
    from pg_range as r
    where r.rngsubtype = sqlkit._type_of(p_target, v_starts)
    order by r.rngtypid
    limit 1;
    if range_type is null or (v_bounds in ('[]', '()') and not v_is_discrete) then
        -- Half of [1, 3] that begins after 2 has no bounds of this kind.
        range_type := null;
        return;
    end if;
    span := format('%s(m.%I, m.%I, %L)', range_type, v_starts, v_ends, v_bounds);
    assignments := format(
        '%1$I = lower(p.span)%3$s, %2$I = upper(p.span)%4$s',
        v_starts, v_ends,
        case when v_is_discrete and v_bounds ^@ '(' then ' - 1' else '' end,
        case when v_is_discrete and v_bounds ~ '\]$' then ' - 1' else '' end
    );
    -- What was unbounded and is cut has one bound of its own, and of the other's.
    is_expressible := case
        when v_is_discrete then 'true'
        else format(
            '(lower_inf(p.span) or lower_inc(p.span) = %L) and (upper_inf(p.span) or upper_inc(p.span) = %L)',
            v_bounds ^@ '[', v_bounds ~ '\]$'
        )
    end;
end;
$trimmed_interval$;

comment on function sqlkit._trimmed_interval(sqlkit.conflict_rule, regclass, name[]) is
'How the interval of a row m is cut: its range type, it as a range, what to set to p.span, and whether that can be
said; range_type is null if rows of this rule cannot be cut.';


create or replace function sqlkit._yield_to_met(
    p_rule sqlkit.conflict_rule,
    p_target regclass,
    p_columns name[],
    p_conflicts text
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $yield_to_met$
declare
    v_trim record := sqlkit._trimmed_interval(p_rule, p_target, p_columns);
    v_can_trim boolean := p_conflicts = 'trim' and v_trim.range_type is not null;
    v_refused bigint;
    v_span text;
    v_others bigint[];
    r_row record;
begin
    create temporary table sqlkit_yielded (
        sqlkit_row bigint,
        other_row bigint,
        is_refused boolean,
        span text
    ) on commit drop;
    alter table pg_temp.sqlkit_yielded add constraint sqlkit_yielded_pkey primary key (sqlkit_row);
    -- Of two rows the later one gives way, unless the earlier one has done so already. Only rows that met another
    -- come by here.
    for r_row in
        select
            m.second_row,
            array_agg(m.first_row order by m.first_row) as others
        from pg_temp.sqlkit_met as m
        group by m.second_row
        order by m.second_row
    loop
        select array_agg(o.id order by o.id)
        into v_others
        from unnest(r_row.others) as o (id)
        where not exists (
            select
            from pg_temp.sqlkit_yielded as y
            where y.sqlkit_row = o.id and y.is_refused
        );
        continue when v_others is null;
        v_span := null;
        if v_can_trim then
            -- What the others leave of it, and of that the first piece.
            execute format(
                'select p.span::text from (select unnest(multirange(%1$s) - coalesce('
                '(select range_agg(coalesce(y.span::%2$s, %1$s)) from pg_temp.sqlkit_meeting as m '
                'left join pg_temp.sqlkit_yielded as y on y.sqlkit_row = m.sqlkit_row '
                'where m.sqlkit_row = any ($2)), ''{}'')) as span '
                'from pg_temp.sqlkit_meeting as m where m.sqlkit_row = $1) as p '
                'where %3$s order by p.span limit 1',
                v_trim.span, v_trim.range_type, v_trim.is_expressible
            )
            into v_span
            using r_row.second_row, v_others;
        end if;
        insert into pg_temp.sqlkit_yielded (sqlkit_row, other_row, is_refused, span)
        values (r_row.second_row, v_others[1], v_span is null, v_span);
    end loop;

    with gone as (
        delete from pg_temp.sqlkit_sound as s
        using pg_temp.sqlkit_yielded as y, pg_temp.sqlkit_meeting as m
        where y.is_refused and m.sqlkit_row = y.sqlkit_row and s.sqlkit_line = m.sqlkit_line
        returning s.sqlkit_line, y.other_row
    )

    insert into pg_temp.sqlkit_refused (line, column_name, sqlstate, message)
    select
        g.sqlkit_line,
        coalesce(
            p_rule.definition ->> 'starts', p_rule.definition ->> 'range', p_rule.definition -> 'resource' ->> 0
        ),
        'SK806',
        format('contradicts %s by rule %s', o.sqlkit_who, p_rule.name)
    from gone as g
    join pg_temp.sqlkit_meeting as o on o.sqlkit_row = g.other_row;
    get diagnostics v_refused = row_count;

    if v_can_trim then
        execute format(
            'with p as (select m.sqlkit_line, y.span::%1$s as span, %2$s as whole, y.other_row '
            'from pg_temp.sqlkit_yielded as y join pg_temp.sqlkit_meeting as m on m.sqlkit_row = y.sqlkit_row '
            'where not y.is_refused), '
            'cut as (update pg_temp.sqlkit_sound as s set %3$s from p where s.sqlkit_line = p.sqlkit_line) '
            'insert into pg_temp.sqlkit_trimmed (line, rule, message, span_before, span_after) '
            'select p.sqlkit_line, $1, format(''overlaps %%s'', o.sqlkit_who), p.whole::text, p.span::text '
            'from p join pg_temp.sqlkit_meeting as o on o.sqlkit_row = p.other_row',
            v_trim.range_type, v_trim.span, v_trim.assignments
        )
        using p_rule.name;
    end if;
    drop table pg_temp.sqlkit_yielded;
    return v_refused;
end;
$yield_to_met$;

comment on function sqlkit._yield_to_met(sqlkit.conflict_rule, regclass, name[], text) is
'Moves the rows of pg_temp.sqlkit_sound that contradict a row of the target or an earlier one of the batch to
pg_temp.sqlkit_refused, or cuts off what overlaps and notes that in pg_temp.sqlkit_trimmed. Returns how many it moved.';
