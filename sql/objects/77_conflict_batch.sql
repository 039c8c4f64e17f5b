-- Rules on the way in: a batch is held to the rules of its target before it is merged. What it would meet there is
-- put beside it, and the same queries that detect conflicts find them; then the rows of the batch give way, in the
-- order of their lines.

create or replace function sqlkit._check_conflict_way(p_conflicts text, p_policy text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $check_conflict_way$
begin
    if p_conflicts is null or p_conflicts not in ('reject', 'trim') then
        raise exception using
            errcode = 'SK805',
            message = format('a batch cannot be held to rules this way: %L', p_conflicts),
            detail = format('Policy: %s.', p_policy),
            hint = 'Ways are reject and trim.';
    end if;
    if p_policy in ('fill', 'history') then
        raise exception using
            errcode = 'SK805',
            message = format('policy %s cannot be held to rules: what a row says is known only when it is merged', p_policy),
            detail = format('Way: %s.', p_conflicts),
            hint = 'Use another policy, or detect the conflicts afterwards.';
    end if;
    -- A lock does not help against rows that an older snapshot does not show.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = 'SK805',
            message = 'a batch cannot be held to rules in a transaction that sees the tables as they were',
            detail = format('Isolation: %s.', current_setting('transaction_isolation')),
            hint = 'Begin one with: begin isolation level read committed.';
    end if;
end;
$check_conflict_way$;

comment on function sqlkit._check_conflict_way(text, text) is
'Raises SK805 for a way of dealing with conflicts that there is not, or not under a policy, or in a transaction whose
snapshot may be older than the lock.';


create or replace function sqlkit._compared_columns(p_rule sqlkit.conflict_rule)
returns name[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $compared_columns$
begin
    return array(
        select distinct c.name
        from (
            select jsonb_array_elements_text(d.value)::name as name
            from jsonb_each((p_rule).definition) as d
            where d.key in ('resource', 'exempt', 'across', 'place', 'columns')
            union all
            select (d.value #>> '{}')::name as name
            from jsonb_each((p_rule).definition) as d
            where d.key in ('starts', 'ends', 'range')
        ) as c
        order by c.name
    );
end;
$compared_columns$;

comment on function sqlkit._compared_columns(sqlkit.conflict_rule) is
'The columns that a rule looks at.';


create or replace function sqlkit._find_incoming(
    p_rule sqlkit.conflict_rule,
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[],
    p_order_by name
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $find_incoming$
declare
    v_wanted name[] := sqlkit._compared_columns(p_rule);
    v_computed text;
    v_single text := 'pg_temp.sqlkit_sound';
    v_keyed text;
begin
    -- What is computed is computed of all the others.
    select string_agg(
        format(', (%s)::%s as %I', pg_get_expr(d.adbin, d.adrelid), format_type(a.atttypid, a.atttypmod), a.attname), ''
    )
    into v_computed
    from pg_attribute as a
    join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = p_target and a.attname = any (v_wanted) and a.attgenerated <> '';
    if v_computed is not null then
        v_wanted := array(
            select a.attname
            from pg_attribute as a
            where a.attrelid = p_target and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        );
    end if;
    if p_policy = 'append' then
        execute format(
            'create temporary table sqlkit_incoming on commit drop as select i.*%1$s from ('
            'select s.sqlkit_line, %2$s from %3$s as s) as i',
            v_computed,
            (
                select string_agg(
                    case
                        when w.name = any (p_columns) then format('s.%I', w.name)
                        else format(
                            '(%s)::%s as %I',
                            coalesce(sqlkit._column_default(p_target, w.name), 'null'),
                            format_type(a.atttypid, a.atttypmod),
                            w.name
                        )
                    end,
                    ', '
                )
                from unnest(v_wanted) as w (name)
                join pg_attribute as a on a.attrelid = p_target and a.attname = w.name
            ),
            v_single
        );
        return;
    end if;
    -- Of rows with one key the one that will stay, as the policy has it; columns that are not loaded keep what
    -- they hold, or have their defaults; and no row of which nothing will be written.
    v_keyed := sqlkit._is_keyed(p_target, p_key);
    execute format(
        'create temporary table sqlkit_incoming on commit drop as select i.*%11$s from ('
        'select s.sqlkit_line, %1$s%2$s from ('
        '(select distinct on (%3$s) s.* from %4$s as s where %5$s order by %3$s, %6$s) '
        'union all select s.* from %4$s as s where not (%5$s)) as s '
        'left join %7$s%8$s as t on %9$s where %10$s) as i',
        sqlkit._column_list(p_key, 's.%1$I as %1$I'),
        (
            select string_agg(
                format(
                    case
                        when w.name = any (p_columns) then ', s.%1$I'
                        when d.expression is null then ', t.%1$I'
                        else ', case when t.ctid is null then %2$s else t.%1$I end as %1$I'
                    end,
                    w.name,
                    d.expression
                ),
                ''
            )
            from unnest(v_wanted) as w (name)
            cross join lateral (select sqlkit._column_default(p_target, w.name) as expression) as d
            where w.name <> all (p_key)
        ),
        sqlkit._column_list(p_key, 's.%I'),
        v_single,
        v_keyed,
        case p_policy
            when 'update' then 's.sqlkit_line desc'
            when 'newer'
                then format(
                    's.%I using %s nulls last, s.sqlkit_line',
                    p_order_by, sqlkit._operator(p_target, p_order_by, '>')
                )
            else 's.sqlkit_line'
        end,
        case when sqlkit._is_plain(p_target) then 'only ' else '' end,
        p_target,
        sqlkit._key_match(p_target, p_key),
        case p_policy
            when 'ignore' then 't.ctid is null'
            when 'newer'
                then format(
                    't.ctid is null or coalesce(s.%1$I %2$s t.%1$I, t.%1$I is null and s.%1$I is not null)',
                    p_order_by, sqlkit._operator(p_target, p_order_by, '>')
                )
            else 'true'
        end,
        v_computed
    );
end;
$find_incoming$;

comment on function sqlkit._find_incoming(sqlkit.conflict_rule, regclass, name[], text, name[], name) is
'Puts the rows of pg_temp.sqlkit_sound that a merge would write into pg_temp.sqlkit_incoming: their line, the key, and
the columns that a rule looks at, as the target would hold them.';


create or replace function sqlkit._find_met(
    p_rule sqlkit.conflict_rule,
    p_target regclass,
    p_policy text,
    p_key name[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $find_met$
declare
    v_rule sqlkit.conflict_rule := p_rule;
    v_wanted name[] := sqlkit._compared_columns(p_rule);
    v_resource jsonb := p_rule.definition -> 'resource';
    v_compared text[] := sqlkit._compared(p_rule.definition);
begin
    execute format(
        'create temporary table sqlkit_touched on commit drop as '
        'select distinct %s from pg_temp.sqlkit_incoming as t where %s',
        sqlkit._numbered_list(to_jsonb(v_compared), '%1$s as r%2$s'),
        sqlkit._numbered_list(v_resource, 't.%1$I is not null', ' and ')
    );
    analyze pg_temp.sqlkit_touched, pg_temp.sqlkit_incoming;
    -- Rows of the target come first: they are there. Then the batch, line by line.
    execute format(
        'create temporary table sqlkit_meeting on commit drop as '
        'select row_number() over (order by m.sqlkit_line nulls first) as sqlkit_row, m.* from ('
        'select s.sqlkit_line, format(''line %%s'', s.sqlkit_line) as sqlkit_who, %1$s '
        'from pg_temp.sqlkit_incoming as s '
        'union all select null, jsonb_build_object(%2$s)::text, %3$s from %4$s%5$s as t '
        'where exists (select from pg_temp.sqlkit_touched as w where %6$s)%7$s) as m',
        sqlkit._column_list(v_wanted, 's.%I'),
        sqlkit._numbered_list(to_jsonb(p_rule.key_columns), '%1$L::text, t.%1$I'),
        sqlkit._column_list(v_wanted, 't.%I'),
        case when sqlkit._is_plain(p_target) then 'only ' else '' end,
        p_target,
        sqlkit._equal_list(
            p_target, v_resource, 'w.r%2$s', null, v_compared, coalesce(p_rule.definition -> 'normalised', '[]')
        ),
        case
            when p_policy <> 'append'
                then format(
                    ' and not exists (select from pg_temp.sqlkit_incoming as s where %s)',
                    sqlkit._key_match(p_target, p_key)
                )
        end
    );
    alter table pg_temp.sqlkit_meeting add constraint sqlkit_meeting_pkey primary key (sqlkit_row);
    analyze pg_temp.sqlkit_meeting;
    v_rule.target := 'pg_temp.sqlkit_meeting';
    v_rule.key_columns := array['sqlkit_row'];
    execute format(
        'create temporary table sqlkit_met on commit drop as '
        'select (f.first_key ->> ''sqlkit_row'')::bigint as first_row, '
        '(f.second_key ->> ''sqlkit_row'')::bigint as second_row from (%s) as f '
        'join pg_temp.sqlkit_meeting as m on m.sqlkit_row = (f.second_key ->> ''sqlkit_row'')::bigint '
        'where m.sqlkit_line is not null',
        sqlkit._find_conflicts(v_rule)
    );
end;
$find_met$;

comment on function sqlkit._find_met(sqlkit.conflict_rule, regclass, text, name[]) is
'Puts the rows of pg_temp.sqlkit_incoming, and those of the target that they touch and that stay, into
pg_temp.sqlkit_meeting, and the pairs of them that a rule finds, of which the second is of the batch, into
pg_temp.sqlkit_met.';


create or replace function sqlkit._refuse_by_rule(
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[],
    p_order_by name,
    p_conflicts text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- As in a detection.
set row_security = off
set timezone = 'UTC'
set datestyle = 'ISO'
set intervalstyle = 'postgres'
as $refuse_by_rule$
declare
    v_refused bigint;
    r_rule sqlkit.conflict_rule;
begin
    -- What is found there has to be true until the batch is merged.
    execute format('lock table %s in share row exclusive mode', p_target);
    if to_regclass('pg_temp.sqlkit_trimmed') is null then
        create temporary table sqlkit_trimmed (
            line bigint,
            rule text,
            message text,
            span_before text,
            span_after text
        ) on commit drop;
    end if;
    -- Again and again, for a row that was refused may have hidden another: one of the same key before it, or the
    -- one in the target that it would have replaced.
    loop
        v_refused := 0;
        for r_rule in
            select r.*
            from sqlkit.conflict_rule as r
            where r.target = sqlkit._table_name(p_target) and r.kind <> 'disagree'
            -- What is cut may be too close then.
            order by array_position(array['overlap', 'distance', 'duplicate'], r.kind), r.conflict_rule_id
        loop
            perform sqlkit._find_incoming(r_rule, p_target, p_columns, p_policy, p_key, p_order_by);
            perform sqlkit._find_met(r_rule, p_target, p_policy, p_key);
            v_refused := v_refused + sqlkit._yield_to_met(r_rule, p_target, p_columns, p_conflicts);
            drop table
            pg_temp.sqlkit_incoming, pg_temp.sqlkit_touched, pg_temp.sqlkit_meeting, pg_temp.sqlkit_met;
        end loop;
        exit when v_refused = 0;
    end loop;
end;
$refuse_by_rule$;

comment on function sqlkit._refuse_by_rule(regclass, name[], text, name[], name, text) is
'Holds the rows of pg_temp.sqlkit_sound to the rules of the target: those that contradict a row that the target will
hold, or an earlier one, are moved to pg_temp.sqlkit_refused, or trimmed. Makes pg_temp.sqlkit_trimmed.
Locks: SHARE ROW EXCLUSIVE on the target until commit.';


create or replace function sqlkit._keep_trimmed(
    p_stage regclass,
    p_run_id bigint,
    p_batch_id bigint,
    p_source_id bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $keep_trimmed$
begin
    execute format(
        'insert into sqlkit.trimmed_row '
        '(run_id, batch_id, source_id, raw, rule, message, span_before, span_after, first_line, last_line, record) '
        'select $1, $2, $3, s.sqlkit_raw, t.rule, t.message, t.span_before, t.span_after, %s '
        'from pg_temp.sqlkit_trimmed as t '
        'join %s as s on s.sqlkit_first_line = t.line '
        'where not exists (select from pg_temp.sqlkit_refused as r where r.line = t.line) order by t.line',
        sqlkit._record_place(),
        p_stage
    )
    using p_run_id, p_batch_id, p_source_id;
end;
$keep_trimmed$;

comment on function sqlkit._keep_trimmed(regclass, bigint, bigint, bigint) is
'Records what pg_temp.sqlkit_trimmed tells of rows that were merged, with their raw text from the text stage.
Writes: sqlkit.trimmed_row.';


create or replace function sqlkit.merge_checked_stage(
    p_stage regclass,
    p_conflicts text,
    p_policy text default 'update',
    p_key name[] default null,
    p_order_by name default null,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_checked_stage$
declare
    v_counts sqlkit.row_counts;
    v_target regclass := sqlkit._stage_target(p_stage);
    v_columns name[] := sqlkit._staged_columns(p_stage, v_target);
    v_key name[];
    v_run_id bigint;
    v_batch_id bigint;
    v_start timestamptz := clock_timestamp();
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
begin
    perform sqlkit._check_conflict_way(p_conflicts, p_policy);
    if p_policy is distinct from 'append' then
        v_key := sqlkit.find_key(v_target, p_key);
    end if;
    perform sqlkit._check_policy(p_policy, v_target, v_columns, v_key, p_order_by);
    perform set_config('sqlkit.search_path', p_search_path, true);
    v_run_id := sqlkit.start_run('merge', v_target, p_policy, p_key, jsonb_build_object('conflicts', p_conflicts));
    perform sqlkit._resolve_lookups(array[p_stage]);
    create temporary table sqlkit_refused (
        line bigint,
        column_name name,
        sqlstate text,
        message text
    ) on commit drop;
    execute format(
        'create temporary table sqlkit_sound on commit drop as '
        'select row_number() over (order by s.ctid) as sqlkit_line, %1$s from only %2$s as s order by s.ctid',
        sqlkit._column_list(v_columns, 's.%I'), p_stage
    );
    execute 'create temporary table sqlkit_staged on commit drop as select s.* from pg_temp.sqlkit_sound as s';
    perform sqlkit._refuse_by_rule(v_target, v_columns, p_policy, v_key, p_order_by, p_conflicts);
    execute format(
        'create temporary table sqlkit_told on commit drop as '
        'select s.sqlkit_line as sqlkit_first_line, s.sqlkit_line as sqlkit_last_line, '
        '''empty''::int8range as sqlkit_lines, (to_jsonb(s.*) - ''sqlkit_line'')::text as sqlkit_raw '
        'from pg_temp.sqlkit_staged as s '
        'where s.sqlkit_line in ('
        'select r.line from pg_temp.sqlkit_refused as r union all select t.line from pg_temp.sqlkit_trimmed as t)'
    );
    v_counts := sqlkit._merge(
        array['pg_temp.sqlkit_sound'::regclass], v_target, p_policy, v_key, p_order_by
    );
    select count(*)
    into v_counts.rows_rejected
    from pg_temp.sqlkit_refused as r;
    v_counts.rows_read := v_counts.rows_read + v_counts.rows_rejected;
    v_batch_id := sqlkit.record_batch(
        v_run_id,
        null,
        null,
        v_counts,
        p_seconds_merge => extract(epoch from clock_timestamp() - v_start),
        p_wal_bytes => pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    perform sqlkit._keep_rejects('pg_temp.sqlkit_told', null, v_run_id, v_batch_id, null);
    perform sqlkit._keep_trimmed('pg_temp.sqlkit_told', v_run_id, v_batch_id, null);
    perform sqlkit.finish_run(
        v_run_id, p_wal_bytes => pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    drop table
    pg_temp.sqlkit_refused, pg_temp.sqlkit_sound, pg_temp.sqlkit_staged, pg_temp.sqlkit_told, pg_temp.sqlkit_trimmed;
    execute format('truncate table %s', p_stage);
    return v_counts;
end;
$merge_checked_stage$;

comment on function sqlkit.merge_checked_stage(regclass, text, text, name[], name, text) is
'Applies the rows of a stage to its target as merge_stage() does, held to the conflict rules of the target: its
overlaps, distances and duplicates. With p_conflicts reject, rows that contradict one that the target will hold, or an
earlier one of the stage, are kept in sqlkit.reject (record is their position, raw the row as JSON) and are counted
as rejected; with trim, those that overlap are cut, to the first piece that is free, which is noted in
sqlkit.trimmed_row, and only those of which nothing is left, or that cannot be cut, are rejected.
Writes: the target, sqlkit.reject, sqlkit.trimmed_row, sqlkit.run, sqlkit.batch. Locks: SHARE ROW EXCLUSIVE on the
target until commit. Raises: SK805 for another way, under policy fill, or in a transaction of
isolation REPEATABLE READ or SERIALIZABLE, and what merge_stage() raises.';
