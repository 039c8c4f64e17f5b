-- History: a target that keeps every version of a row, each with the range of time in which it was valid. A row of
-- the input is a version that begins at a moment and lasts until the next one of its key.

create or replace function sqlkit._refuse_history(p_target regclass, p_message text, p_hint text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_history$
begin
    raise exception using
        errcode = 'SK212',
        message = p_message,
        detail = format('Target: %s.', sqlkit._table_name(p_target)),
        hint = p_hint;
end;
$refuse_history$;

comment on function sqlkit._refuse_history(regclass, text, text) is
'Raises SK212.';


create or replace function sqlkit._history_keys(p_target regclass)
returns setof sqlkit.history_key
language sql
stable
begin atomic
-- EXCLUDE (a WITH =, b WITH =, period WITH &&), or the key WITHOUT OVERLAPS that PostgreSQL 18 makes the same of.
select
    k.key_columns,
    k.period,
    k.key_match,
    format('%I.%I', rn.nspname, ry.typname),
    format_type(r.rngsubtype, null)
from pg_constraint as c
join pg_index as i on i.indexrelid = c.conindid
cross join lateral (
    select
        array_agg(a.attname order by u.position) filter (where o.oprname = '=') as key_columns,
        string_agg(
            format('s.%1$I operator(%2$I.%3$s) t.%1$I', a.attname, n.nspname, o.oprname), ' and ' order by u.position
        ) filter (where o.oprname = '=') as key_match,
        max(a.attname) filter (where o.oprname = '&&') as period,
        max(a.atttypid) filter (where o.oprname = '&&') as period_type,
        count(*) filter (where o.oprname = '&&') as periods,
        count(*) filter (where o.oprname = '=') as keys,
        count(*) as columns
    from unnest(c.conkey, c.conexclop) with ordinality as u (attnum, operator, position)
    left join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = u.attnum
    left join pg_operator as o on o.oid = u.operator
    left join pg_namespace as n on n.oid = o.oprnamespace
) as k
join pg_range as r on r.rngtypid = k.period_type
join pg_type as ry on ry.oid = r.rngtypid
join pg_namespace as rn on rn.oid = ry.typnamespace
where
    c.conrelid = p_target
    and c.conexclop is not null
    and i.indpred is null
    and i.indisvalid
    and k.periods = 1
    and k.keys > 0
    and k.keys + k.periods = k.columns;
end;

comment on function sqlkit._history_keys(regclass) is
'The constraints of a table that allow one version of a key at any moment: key, range column, the condition under
which rows s (staged) and t (target) have the same key, the types of the range and of its bounds.';


create or replace function sqlkit._history(p_target regclass, p_key name[])
returns sqlkit.history_key
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $history$
declare
    v_history sqlkit.history_key;
    v_number bigint;
    v_nullable text;
begin
    perform sqlkit._check_target(p_target);
    select count(*)
    into v_number
    from sqlkit._history_keys(p_target) as k
    where p_key is null or (k.key_columns @> p_key and k.key_columns <@ p_key);
    if v_number = 0 then
        perform sqlkit._refuse_history(
            p_target,
            case
                when p_key is null then 'no constraint of the target keeps versions of a key apart'
                else format(
                    'no constraint of the target keeps versions of the key apart: %s',
                    sqlkit._column_list(p_key, '%I')
                )
            end,
            'Give it a range column and a constraint on it: exclude using gist (id with =, valid with &&), or from '
            'PostgreSQL 18 on primary key (id, valid without overlaps). Most types need: create extension btree_gist.'
        );
    elsif v_number > 1 then
        perform sqlkit._refuse_history(
            p_target,
            'the target keeps versions of more than one key apart',
            'Name the columns of the key.'
        );
    end if;
    select k.*
    into v_history
    from sqlkit._history_keys(p_target) as k
    where p_key is null or (k.key_columns @> p_key and k.key_columns <@ p_key);
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
    into v_nullable
    from pg_attribute as a
    where a.attrelid = p_target and a.attname = any (v_history.key_columns || v_history.period) and not a.attnotnull;
    if v_nullable is not null then
        perform sqlkit._refuse_history(
            p_target,
            format('columns that say which version a row is may be null: %s', v_nullable),
            'Declare them NOT NULL: the constraint lets rows pass that have a null there.'
        );
    end if;
    return v_history;
end;
$history$;

comment on function sqlkit._history(regclass, name[]) is
'How a table keeps history: the key, the range column, and what _history_keys() tells. Raises: SK201 no table, SK212
if no constraint, or more than one, keeps the versions of a key apart, or a column of it may be null.';


create or replace function sqlkit.find_policy_key(p_target regclass, p_policy text, p_key name[] default null)
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_policy_key$
begin
    return case p_policy
        when 'append' then null
        when 'history' then (sqlkit._history(p_target, p_key)).key_columns
        else sqlkit.find_key(p_target, p_key)
    end;
end;
$find_policy_key$;

comment on function sqlkit.find_policy_key(regclass, text, name[]) is
'The columns by which a policy recognises rows of a target: none for append; for history those of the constraint that
keeps versions apart; else what find_key() finds.
Raises: SK201 no table, SK202 no primary key, SK203 no such unique index, SK204 no such column, SK212 no history.';


create or replace function sqlkit._history_moment(
    p_target regclass,
    p_columns name[],
    p_order_by name,
    p_period name,
    p_subtype text
)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $history_moment$
declare
    v_moment pg_attribute;
begin
    if p_period = any (p_columns) then
        perform sqlkit._refuse_history(
            p_target,
            format('column %I is written by policy history, and is in the input', p_period),
            'Leave it out; the column that says when a version begins is named by --order-by.'
        );
    end if;
    if p_order_by is null then
        if p_subtype not in ('timestamp with time zone', 'timestamp without time zone', 'date') then
            raise exception using
                errcode = 'SK207',
                message = 'policy history needs a column that says when a version begins',
                detail = format('Target: %s; %I is a range of %s.', sqlkit._table_name(p_target), p_period, p_subtype),
                hint = 'Name it: --order-by changed_at.';
        end if;
        return format('%L::timestamptz::%s', clock_timestamp(), p_subtype);
    end if;
    select a.*
    into v_moment
    from pg_attribute as a
    where a.attrelid = p_target and a.attname = p_order_by;
    if not v_moment.attnotnull then
        perform sqlkit._refuse_history(
            p_target,
            format('column %I, by which versions begin, may be null', p_order_by),
            'Declare it NOT NULL: rows without a moment are rejects then.'
        );
    end if;
    if
        format_type(v_moment.atttypid, null) <> p_subtype
        and not exists (
            select
            from pg_cast as c
            where c.castsource = v_moment.atttypid and c.casttarget = p_subtype::regtype and c.castcontext = 'i'
        )
    then
        perform sqlkit._refuse_history(
            p_target,
            format(
                'column %I, by which versions begin, is of type %s, and %I a range of %s',
                p_order_by, format_type(v_moment.atttypid, null), p_period, p_subtype
            ),
            'Give both the same type.'
        );
    end if;
    return format('s.%I::%s', p_order_by, p_subtype);
end;
$history_moment$;

comment on function sqlkit._history_moment(regclass, name[], name, name, text) is
'When the version of a row s begins: an expression of the range''s subtype, or now, where no column says it.
Raises: SK207 if neither can be, SK212 for a column that may be null or is of another type, or if the range is in the
input.';


create or replace function sqlkit._find_versions(
    p_rows text,
    p_target regclass,
    p_columns name[],
    p_history sqlkit.history_key,
    p_moment text,
    p_difference text,
    p_is_repeated boolean
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- As in _find_difference(): the planner would use no workers, and may.
set parallel_tuple_cost = 0
set parallel_setup_cost = 0
set min_parallel_table_scan_size = 0
set work_mem = '64MB'
as $find_versions$
declare
    v_only text := case when sqlkit._is_plain(p_target) then 'only ' else '' end;
    v_key text := sqlkit._column_list(p_history.key_columns, 's.%I');
begin
    -- The version that a row falls into, if there is one.
    execute format(
        'create temporary table sqlkit_covered on commit drop as '
        'select %1$s, %2$s as sqlkit_moment, t.ctid as sqlkit_ctid, t.%3$I as sqlkit_period, upper(t.%3$I) as sqlkit_ends, '
        't.ctid is null or %4$s as sqlkit_differs '
        'from (%5$s) as s left join %6$s%7$s as t on %8$s and t.%3$I @> (%2$s)%9$s',
        sqlkit._column_list(p_columns, 's.%I'),
        p_moment,
        p_history.period,
        p_difference,
        p_rows,
        v_only,
        p_target,
        p_history.key_match,
        case when not p_is_repeated then format(' where t.ctid is null or %s', p_difference) end
    );
    -- Where there is none, it lasts until the next one.
    execute format(
        'update pg_temp.sqlkit_covered as f set sqlkit_ends = n.ends from ('
        'select s.ctid as place, min(lower(t.%1$I)) as ends '
        'from pg_temp.sqlkit_covered as s join %2$s%3$s as t on %4$s and lower(t.%1$I) > s.sqlkit_moment '
        'where s.sqlkit_ctid is null group by s.ctid) as n where f.ctid = n.place',
        p_history.period, v_only, p_target, p_history.key_match
    );
    -- Of the rows that fall into the same version, each is held against the one before it.
    execute format(
        'create temporary table sqlkit_version on commit drop as '
        'select %1$s, s.sqlkit_ctid, s.sqlkit_period, s.sqlkit_moment, '
        'coalesce(lead(s.sqlkit_moment) over w, s.sqlkit_ends) as sqlkit_ends, '
        'coalesce(s.sqlkit_moment = lower(s.sqlkit_period), false) as sqlkit_is_correction, '
        's.sqlkit_ctid is not null and row_number() over w = 1 as sqlkit_is_first '
        'from (%2$s) as s window w as (partition by %3$s, s.sqlkit_ctid, s.sqlkit_ends order by s.sqlkit_moment)',
        sqlkit._column_list(p_columns, 's.%I'),
        case
            when p_is_repeated
                then format(
                    'with numbered as (select s.*, '
                    'row_number() over (order by %1$s, s.sqlkit_ctid, s.sqlkit_ends, s.sqlkit_moment) as sqlkit_number, '
                    'row_number() over (partition by %1$s, s.sqlkit_ctid, s.sqlkit_ends order by s.sqlkit_moment) '
                    'as sqlkit_place from pg_temp.sqlkit_covered as s) '
                    'select s.* from numbered as s left join numbered as t '
                    'on s.sqlkit_place > 1 and t.sqlkit_number = s.sqlkit_number - 1 '
                    'where case when s.sqlkit_place = 1 then s.sqlkit_differs else %2$s end',
                    v_key, p_difference
                )
            else 'select s.* from pg_temp.sqlkit_covered as s'
        end,
        v_key
    );
    drop table pg_temp.sqlkit_covered;
end;
$find_versions$;

comment on function sqlkit._find_versions(text, regclass, name[], sqlkit.history_key, text, text, boolean) is
'Finds what the rows of a query make of the versions of a target, and keeps in pg_temp.sqlkit_version each that is to
be written: the version that it falls into (sqlkit_ctid, sqlkit_period), when it begins and ends (null: never),
whether it begins when that does (sqlkit_is_correction), and whether it is the first to fall into it. Rows of a key
may be several, with moments that differ.';


create or replace function sqlkit._write_versions(
    p_target regclass,
    p_columns name[],
    p_history sqlkit.history_key,
    inout p_counts sqlkit.row_counts
)
language plpgsql
set search_path = pg_catalog, pg_temp
-- As in _write_difference(): rows are fetched by their places.
set enable_hashjoin = off
set enable_mergejoin = off
set enable_memoize = off
set work_mem = '64MB'
as $write_versions$
declare
    v_table text := sqlkit._table_name(p_target);
    v_only text := case when sqlkit._is_plain(p_target) then 'only ' else '' end;
    v_place text := 't.ctid operator(pg_catalog.=) s.sqlkit_ctid';
    v_key text := sqlkit._column_list(p_history.key_columns, 's.%I');
    v_new bigint;
    v_corrected bigint;
    v_written bigint;
begin
    if v_only = '' then
        -- Rows lie in many tables, where a place alone does not tell which row is meant.
        perform set_config('enable_hashjoin', 'on', true);
        v_place := format(
            '%s and t.%I operator(pg_catalog.=) s.sqlkit_period', p_history.key_match, p_history.period
        );
    end if;
    select
        count(*) filter (where not s.sqlkit_is_correction),
        count(*) filter (where s.sqlkit_is_correction)
    into v_new, v_corrected
    from pg_temp.sqlkit_version as s;
    -- Room first, then what comes there: at no time do two versions overlap.
    perform sqlkit._write(format(
        'update %1$s%2$s as t set %3$I = %4$s(pg_catalog.lower(t.%3$I), s.sqlkit_moment) '
        'from (select s.* from pg_temp.sqlkit_version as s '
        'where s.sqlkit_is_first and not s.sqlkit_is_correction order by %5$s offset 0) as s where %6$s',
        v_only, v_table, p_history.period, p_history.range_type, v_key, v_place
    ));
    if v_corrected > 0 then
        v_written := sqlkit._write(format(
            'update %1$s%2$s as t set %3$s, %4$I = %5$s(pg_catalog.lower(t.%4$I), s.sqlkit_ends) '
            'from (select s.* from pg_temp.sqlkit_version as s '
            'where s.sqlkit_is_correction order by %6$s offset 0) as s where %7$s',
            v_only,
            v_table,
            sqlkit._column_list(
                sqlkit._value_columns(p_target, p_columns, p_history.key_columns), '%1$I = s.%1$I'
            ),
            p_history.period,
            p_history.range_type,
            v_key,
            v_place
        ));
        p_counts.rows_updated := p_counts.rows_updated + v_written;
        p_counts.rows_ignored := p_counts.rows_ignored + v_corrected - v_written;
    end if;
    if v_new > 0 then
        v_written := sqlkit._write(format(
            '%s (select s.*, %s(s.sqlkit_moment, s.sqlkit_ends) as %I from pg_temp.sqlkit_version as s '
            'where not s.sqlkit_is_correction) as s order by %s, s.sqlkit_moment',
            sqlkit._insert_from(p_target, p_columns || p_history.period),
            p_history.range_type,
            p_history.period,
            v_key
        ));
        p_counts.rows_inserted := p_counts.rows_inserted + v_written;
        p_counts.rows_ignored := p_counts.rows_ignored + v_new - v_written;
    end if;
    drop table pg_temp.sqlkit_version;
end;
$write_versions$;

comment on function sqlkit._write_versions(regclass, name[], sqlkit.history_key, sqlkit.row_counts) is
'Writes what _find_versions() found: ends versions that another one follows now, corrects those that begin at the same
moment, inserts the others; and adds to the counts what was inserted, updated, or held back by a trigger.
Writes: the target.';


create or replace function sqlkit._merge_history(
    p_stages regclass[],
    p_target regclass,
    p_columns name[],
    p_key name[],
    p_order_by name,
    p_pieces jsonb,
    p_filter text,
    inout p_counts sqlkit.row_counts
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_history$
declare
    v_history sqlkit.history_key := sqlkit._history(p_target, p_key);
    v_rows text := sqlkit._staged_rows(p_stages, p_columns, p_filter => p_filter);
    v_moment text;
    v_difference text;
    v_repeated bigint;
    v_rounds integer;
begin
    v_difference := sqlkit._difference(
        p_target,
        sqlkit._value_columns(
            p_target,
            p_columns,
            array_remove(v_history.key_columns || p_order_by, null)
        )
    );
    -- Readers go on; writers wait, so that what the join saw is still true when it is written.
    execute format('lock table %s in share row exclusive mode', p_target);
    v_moment := sqlkit._history_moment(
        p_target, p_columns, p_order_by, v_history.period, v_history.subtype
    );
    v_repeated := sqlkit._count_repeated(v_rows, p_target, v_history.key_columns, 'true');
    if v_repeated = 0 then
        perform sqlkit._find_versions(v_rows, p_target, p_columns, v_history, v_moment, v_difference, false);
        p_counts := sqlkit._write_versions(p_target, p_columns, v_history, p_counts);
    elsif p_order_by is null then
        -- All begin now: the last one of a key is the one that stays.
        execute 'create temporary table sqlkit_event on commit drop as '
            || sqlkit._single_rows(
                p_stages, p_columns, p_pieces, 'update', v_history.key_columns, 'true', null, null, p_filter
            );
        p_counts.rows_duplicate := v_repeated;
        perform sqlkit._find_versions(
            'select s.* from pg_temp.sqlkit_event as s', p_target, p_columns, v_history, v_moment, v_difference, false
        );
        p_counts := sqlkit._write_versions(p_target, p_columns, v_history, p_counts);
        drop table pg_temp.sqlkit_event;
    else
        -- The end state is that of rows that come one by one, however they are cut into batches. Those of a key
        -- that follow each other in time come together; one that goes back in time begins another round.
        execute format(
            'create temporary table sqlkit_event on commit drop as '
            'select %1$s, s.sqlkit_at, count(*) filter (where s.sqlkit_goes_back) '
            'over (partition by %2$s order by s.sqlkit_position) as sqlkit_round from ('
            'select s.*, s.sqlkit_at <= lag(s.sqlkit_at) over (partition by %2$s order by s.sqlkit_position) '
            'as sqlkit_goes_back from (select s.*, %3$s as sqlkit_at from (%4$s) as s) as s) as s',
            sqlkit._column_list(p_columns, 's.%I'),
            sqlkit._column_list(v_history.key_columns, 's.%I'),
            v_moment,
            sqlkit._staged_rows(
                p_stages, p_columns, coalesce(p_pieces, '[{"stage": 0, "piece": 0, "rows": 1000000000000}]'), p_filter
            )
        );
        select max(s.sqlkit_round)
        into v_rounds
        from pg_temp.sqlkit_event as s;
        if v_rounds > 0 then
            create index on pg_temp.sqlkit_event (sqlkit_round);
        end if;
        for v_round in 0 .. v_rounds loop
            perform sqlkit._find_versions(
                format('select s.* from pg_temp.sqlkit_event as s where s.sqlkit_round = %s', v_round),
                p_target, p_columns, v_history, 's.sqlkit_at', v_difference, true
            );
            p_counts := sqlkit._write_versions(p_target, p_columns, v_history, p_counts);
        end loop;
        drop table pg_temp.sqlkit_event;
    end if;
    p_counts.rows_unchanged := p_counts.rows_read - p_counts.rows_duplicate - p_counts.rows_inserted
        - p_counts.rows_updated - p_counts.rows_ignored;
end;
$merge_history$;

comment on function sqlkit._merge_history(
    regclass[], regclass, name[], name[], name, jsonb, text, sqlkit.row_counts
) is
'Applies the rows of stages, each a version that begins at the moment in p_order_by (now, if that is null), to a target
that keeps history, and counts: inserted are new versions, updated those that existed from the same moment on with
other values, unchanged those whose values are valid then already. See _merge().
Writes: the target. Locks: SHARE ROW EXCLUSIVE on the target until commit. Raises: SK201, SK207, SK212.';
