-- What becomes of conflicts: they are settled, written back to their table, counted.

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
