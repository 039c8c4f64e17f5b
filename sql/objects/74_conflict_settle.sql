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
            -- One that a detection closes meanwhile is left alone.
            where c.conflict_id = any (p_conflicts) and c.state <> p_state and c.gone_at is null
            -- In the order in which a detection locks them.
            order by c.conflict_id
            for no key update
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
    v_key_columns name[];
    v_key jsonb;
    v_type regtype := sqlkit._type_of(v_target, p_column);
    v_table text;
    v_match text;
    v_differs text := sqlkit._operator(v_target, p_column, '<>');
    v_run_id bigint;
    v_counts sqlkit.row_counts := (0, 0, 0, 0, 0, 0, 0);
    v_start timestamptz := clock_timestamp();
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
begin
    perform sqlkit._refuse_columns(v_target, array[p_column]);
    perform sqlkit._check_target(v_target);
    if
        p_column = any (v_rule.key_columns || v_rule.changed_by || sqlkit._compared_columns(v_rule))
        or v_type not in (
            'boolean'::regtype, 'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype,
            'real'::regtype, 'double precision'::regtype
        )
    then
        raise exception using
            errcode = 'SK808',
            message = format('conflicts cannot be written into column %I', p_column),
            detail = format('Rule: %s; table: %s; type: %s.', v_rule.name, v_rule.target, v_type),
            hint = 'Name a boolean or a number that the rule does not look at.';
    end if;
    v_key_columns := sqlkit.find_key(v_target, v_rule.key_columns);
    v_key := to_jsonb(v_key_columns);
    v_table := case when sqlkit._is_plain(v_target) then 'only ' else '' end || sqlkit._table_name(v_target);
    perform set_config('sqlkit.search_path', p_search_path, true);
    v_run_id := sqlkit.start_run('merge', v_target, 'update', v_key_columns);
    -- What conflicts say of a row has to be true until it is written.
    execute format('lock table %s in share row exclusive mode', v_target);
    execute format(
        $query$
        create temporary table sqlkit_flagged on commit drop as
        select %1$s, (%2$s)::%3$s as value
        from sqlkit.conflict as c
        cross join lateral (values (c.first_key), (c.second_key)) as v (key)
        cross join lateral jsonb_to_record(v.key) as w (%4$s)
        -- Not what is missing here, whose key may be none of the column's type.
        where c.conflict_rule_id = %5$s and c.state = 'open' and c.facts ->> 'missing' is distinct from %7$L
        group by %6$s
        $query$,
        sqlkit._numbered_list(v_key, 'w.%1$I as k%2$s'),
        case
            when v_type = 'boolean'::regtype then 'true'
            when v_type in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) then 'count(*)'
            else 'coalesce(sum(c.measure), 0)'
        end,
        v_type,
        sqlkit._typed_list(v_target, v_key),
        v_rule.conflict_rule_id,
        sqlkit._numbered_list(v_key, 'w.%1$I'),
        v_rule.target
    );
    analyze pg_temp.sqlkit_flagged;
    -- Two passes in the order of the table, which cost what a plain update does: a join that looks for the rows
    -- first, and an update that looks for them again by their place, take half as long again.
    v_match := sqlkit._equal_list(v_target, v_key, 't.%1$I', 'w.k%2$s');
    v_counts.rows_updated := sqlkit._write(format(
        'update %1$s as t set %2$I = w.value from pg_temp.sqlkit_flagged as w '
        'where %3$s and (t.%2$I is null or t.%2$I %4$s w.value)',
        v_table, p_column, v_match, v_differs
    )) + sqlkit._write(format(
        'update %1$s as t set %2$I = %3$L where (t.%2$I is null or t.%2$I %5$s %3$L) '
        'and not exists (select from pg_temp.sqlkit_flagged as w where %4$s)',
        v_table, p_column, case when v_type = 'boolean'::regtype then 'false' else '0' end, v_match, v_differs
    ));
    v_counts.rows_read := v_counts.rows_updated;
    drop table pg_temp.sqlkit_flagged;
    perform sqlkit.record_batch(
        v_run_id,
        null,
        null,
        v_counts,
        p_seconds_merge => extract(epoch from clock_timestamp() - v_start),
        p_wal_bytes => pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    perform sqlkit.finish_run(
        v_run_id, p_wal_bytes => pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    return v_counts;
end;
$flag_conflicts$;

comment on function sqlkit.flag_conflicts(text, name, text) is
'Writes into a column of a rule''s table which rows are in an open conflict: a boolean says whether, an integer in how
many, another number how much (the sum of their measures). Only rows where that is not said yet are written, set
by set, in the order of the table, whose triggers run under p_search_path, the caller''s unless said.
Writes: the target, sqlkit.run, sqlkit.batch. Locks: SHARE ROW EXCLUSIVE on the target until commit.
Raises: SK201 if the rule is about a view, SK203 if its key has no unique index, SK204 no such column, SK802 no rule, SK808 if
the column is no boolean or number, or one that the rule looks at.';


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
