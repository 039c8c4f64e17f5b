-- Merging: a batch is applied to its target set by set. One join finds what is new and what has changed;
-- only that is written.

create or replace function sqlkit._check_policy(
    p_policy text,
    p_target regclass,
    p_columns name[],
    p_key name[],
    p_order_by name
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $check_policy$
declare
    v_missing text;
begin
    if p_policy is null or p_policy not in ('append', 'ignore', 'update', 'newer', 'fill', 'error', 'history') then
        raise exception using
            errcode = 'SK206',
            message = format('there is no policy %L', p_policy),
            detail = format('Target: %s.', sqlkit._table_name(p_target)),
            hint = 'Policies are append, ignore, update, newer, fill, error and history.';
    end if;
    select string_agg(quote_ident(k.name), ', ' order by k.position)
    into v_missing
    from unnest(p_key) with ordinality as k (name, position)
    where k.name <> all(p_columns);
    if v_missing is not null then
        raise exception using
            errcode = 'SK204',
            message = format('key columns that the input does not have: %s', v_missing),
            detail = format('Input: %s.', sqlkit._column_list(p_columns, '%I')),
            hint = 'Load the columns of the key, or choose another key.';
    end if;
    if
        (p_policy = 'newer' and p_order_by is null)
        or (p_policy in ('newer', 'history') and p_order_by <> all(p_columns))
    then
        raise exception using
            errcode = 'SK207',
            message = case
                when p_order_by is null then 'policy newer needs a column to order by'
                else format('column %I, by which the newer row is known, is not in the input', p_order_by)
            end,
            detail = format('Input: %s.', sqlkit._column_list(p_columns, '%I')),
            hint = 'Name a column that grows with each version of a row, such as updated_at.';
    end if;
end;
$check_policy$;

comment on function sqlkit._check_policy(text, regclass, name[], name[], name) is
'Raises SK206 unknown policy, SK204 key column not in the input, SK207 no column to order by.';


create or replace function sqlkit._single_rows(
    p_stages regclass[],
    p_columns name[],
    p_pieces jsonb,
    p_policy text,
    p_key name[],
    p_key_is_unique text,
    p_order_by name,
    p_order_operator text,
    p_filter text
)
returns text
language sql
stable
return (
    -- One row for each key: the one that loading the rows one by one would have left.
    select format(
        case
            when p_policy = 'fill'
                then
                    'select %1$s from (%2$s) as s where %3$s group by %4$s'
                    || ' union all select %5$s from (%2$s) as s where not (%3$s)'
            else
                'select %5$s from (select distinct on (%4$s) s.* from (%2$s) as s where %3$s order by %4$s, %6$s) as s'
                || ' union all select %5$s from (%2$s) as s where not (%3$s)'
        end,
        (
            select string_agg(
                case
                    when k.name = any(p_key) then format('s.%I', k.name)
                    -- What the first row has nothing of gets its default, as if the others came later.
                    when k.name = any(sqlkit._absence_column(p_stages[1], p_policy))
                        then '(array_agg(s.sqlkit_absent order by s.sqlkit_position))[1] as sqlkit_absent'
                    -- Arrays of arrays would be one array: they go there and back as text.
                    else format(
                        '(array_agg(s.%1$I%2$s order by s.sqlkit_position) filter (where s.%1$I is not null))[1]%3$s '
                        'as %1$I',
                        k.name,
                        case when y.typcategory = 'A' then '::text' end,
                        case when y.typcategory = 'A' then '::' || format_type(a.atttypid, a.atttypmod) end
                    )
                end,
                ', '
                order by k.position
            )
            from unnest(p_columns) with ordinality as k (name, position)
            join pg_attribute as a on a.attrelid = p_stages[1] and a.attname = k.name
            join pg_type as y on y.oid = a.atttypid
        ),
        sqlkit._staged_rows(
            p_stages,
            p_columns,
            coalesce(p_pieces, '[{"stage": 0, "piece": 0, "rows": 1000000000000}]'),
            p_filter
        ),
        p_key_is_unique,
        sqlkit._column_list(p_key, 's.%I'),
        sqlkit._column_list(p_columns, 's.%I'),
        case p_policy
            when 'update' then 's.sqlkit_position desc'
            when 'newer' then format('s.%I using %s nulls last, s.sqlkit_position', p_order_by, p_order_operator)
            else 's.sqlkit_position'
        end
    )
);

comment on function sqlkit._single_rows(regclass[], name[], jsonb, text, name[], text, name, text, text) is
'A query for the rows of a batch with one row for each key, chosen as the policy has it.';


create or replace function sqlkit._count_repeated(
    p_rows text,
    p_target regclass,
    p_key name[],
    p_is_keyed text
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
-- One sort of 64-bit numbers in parallel; aggregating so many groups by hash costs three times as much.
set enable_hashagg = off
set work_mem = '64MB'
as $count_repeated$
declare
    v_is_hashable boolean;
    v_count bigint;
    v_distinct bigint;
begin
    select bool_and(exists (
        select
        from pg_opclass as oc
        join pg_am as m on m.oid = oc.opcmethod and m.amname = 'hash'
        where
            oc.opcdefault
            and oc.opcintype = case
                when y.oid = 'pg_catalog.varchar'::regtype then 'pg_catalog.text'::regtype
                when y.typtype = 'e' then 'pg_catalog.anyenum'::regtype
                else y.oid
            end
    ))
    into v_is_hashable
    from pg_attribute as a
    join pg_type as t on t.oid = a.atttypid
    join pg_type as y on y.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
    where a.attrelid = p_target and a.attname = any(p_key);

    if v_is_hashable then
        -- As many hashes as rows: no key is repeated. Fewer: look closer, for hashes may collide.
        execute format(
            'select count(*), (select count(*) from ('
            'select distinct hash_record_extended(row(%1$s), 0) from (%2$s) as s where %3$s) as h) '
            'from (%2$s) as s where %3$s',
            sqlkit._column_list(p_key, 's.%I'), p_rows, p_is_keyed
        )
        into v_count, v_distinct;
        if v_count = v_distinct then
            return 0;
        end if;
    end if;
    execute format(
        'select coalesce(sum(g.rows - 1), 0) from ('
        'select count(*) as rows from (%2$s) as s where %3$s group by %1$s) as g',
        sqlkit._column_list(p_key, 's.%I'), p_rows, p_is_keyed
    )
    into v_count;
    return v_count;
end;
$count_repeated$;

comment on function sqlkit._count_repeated(text, regclass, name[], text) is
'How many rows of a query would be left over if each key were kept once. Rows whose key is not complete
(p_is_keyed) repeat nothing.';


create or replace function sqlkit._difference_statement(
    p_rows text,
    p_target regclass,
    p_policy text,
    p_columns name[],
    p_key name[],
    p_order_by name,
    p_with_unmet boolean
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $difference_statement$
declare
    v_wanted text;
    v_is_newer text := 'true';
    v_difference text := sqlkit._difference(p_target, sqlkit._value_columns(p_target, p_columns, p_key));
begin
    if p_policy = 'newer' then
        v_is_newer := format(
            'coalesce(s.%1$I %2$s t.%1$I, t.%1$I is null and s.%1$I is not null)',
            p_order_by,
            sqlkit._operator(p_target, p_order_by, '>')
        );
    end if;
    v_wanted := case p_policy
        when 'update' then v_difference
        when 'newer' then format('%s or %s', v_is_newer, v_difference)
        when 'fill' then coalesce(
            sqlkit._column_list(
                sqlkit._value_columns(p_target, p_columns, p_key),
                '(t.%1$I is null and s.%1$I is not null)',
                ' or '
            ),
            'false'
        )
        when 'ignore' then 'false'
        when 'error' then 'true'
    end;
    return format(
        'create temporary table sqlkit_difference on commit drop as '
        'select %1$s, t.ctid as sqlkit_ctid, %2$s as sqlkit_is_wanted, %3$s as sqlkit_is_staged '
        'from (%4$s) as s %5$s join %6$s%7$s as t on %8$s where t.ctid is null or %9$s%10$s',
        sqlkit._column_list(p_columns, 's.%I'),
        v_is_newer,
        case when p_with_unmet then 's.sqlkit_is_staged' else 'true' end,
        case
            when p_with_unmet then format('select s.*, true as sqlkit_is_staged from (%s) as s', p_rows)
            else p_rows
        end,
        case when p_with_unmet then 'full' else 'left' end,
        case when sqlkit._is_plain(p_target) then 'only ' else '' end,
        p_target,
        sqlkit._key_match(p_target, p_key),
        v_wanted,
        case when p_with_unmet then ' or s.sqlkit_is_staged is null' else '' end
    );
end;
$difference_statement$;

comment on function sqlkit._difference_statement(text, regclass, text, name[], name[], name, boolean) is
'The statement of _find_difference().';


create or replace function sqlkit._find_difference(
    p_rows text,
    p_target regclass,
    p_policy text,
    p_columns name[],
    p_key name[],
    p_order_by name,
    p_batch_bytes bigint,
    p_with_unmet boolean
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- The planner expects the filter to keep most rows, and charges for each that a worker would hand over: it
-- would not use any. Measured, the parallel join takes half the time.
set parallel_tuple_cost = 0
set parallel_setup_cost = 0
set min_parallel_table_scan_size = 0
set work_mem = '4MB'
as $find_difference$
declare
    v_start timestamptz := clock_timestamp();
    v_bytes bigint := least(p_batch_bytes, pg_table_size(p_target));
begin
    -- Hash tables that stay in the processor's cache beat those that need no temporary files (measured: 4 MB
    -- is a third faster than 256 MB), as long as they do not become thousands.
    perform set_config(
        'work_mem', greatest(4096, least(262144, v_bytes / 1024 / 128))::text || 'kB', true
    );
    execute sqlkit._difference_statement(
        p_rows, p_target, p_policy, p_columns, p_key, p_order_by, p_with_unmet
    );
    perform set_config('sqlkit.seconds_lookup', extract(epoch from clock_timestamp() - v_start)::text, true);
end;
$find_difference$;

comment on function sqlkit._find_difference(text, regclass, text, name[], name[], name, bigint, boolean) is
'Joins the rows of a query with the target and keeps, in pg_temp.sqlkit_difference, those that are new
(sqlkit_ctid is null) or that the policy would write (sqlkit_is_wanted), or that differ and are kept as they are.
With p_with_unmet, also a row for each of the target''s that none was for (sqlkit_is_staged is null).
p_batch_bytes is the size of the batch. The setting sqlkit.seconds_lookup tells the transaction how long it took.';


create or replace function sqlkit._write(p_statement text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $write$
declare
    v_rows bigint;
begin
    -- The target's triggers, defaults and checks are its owner's: they find their tables where they would if
    -- the caller wrote by himself. The statement is qualified in all its parts.
    perform set_config('search_path', coalesce(current_setting('sqlkit.search_path', true), ''), true);
    execute p_statement;
    get diagnostics v_rows = row_count;
    return v_rows;
end;
$write$;

comment on function sqlkit._write(text) is
'Executes a statement that writes the target, under the caller''s search_path (setting sqlkit.search_path), and
returns the number of rows that it wrote. Writes: the target.';


create or replace function sqlkit._write_statement(
    p_target regclass,
    p_policy text,
    p_columns name[],
    p_key name[],
    p_is_update boolean
)
returns text
language sql
stable
return case
    when p_is_update then format(
        'update %1$s%2$s as t set %3$s from (select s.* from pg_temp.sqlkit_difference as s '
        'where s.sqlkit_is_staged and s.sqlkit_ctid is not null and s.sqlkit_is_wanted '
        'order by %4$s offset 0) as s where %5$s',
        case when sqlkit._is_plain(p_target) then 'only ' else '' end,
        sqlkit._table_name(p_target),
        sqlkit._column_list(
            sqlkit._value_columns(p_target, p_columns, p_key),
            case p_policy when 'fill' then '%1$I = coalesce(t.%1$I, s.%1$I)' else '%1$I = s.%1$I' end
        ),
        sqlkit._column_list(p_key, 's.%I'),
        -- Where rows lie in many tables, a place alone does not tell which row is meant.
        case
            when sqlkit._is_plain(p_target) then 't.ctid operator(pg_catalog.=) s.sqlkit_ctid'
            else sqlkit._key_match(p_target, p_key)
        end
    )
    else format(
        '%s pg_temp.sqlkit_difference as s where s.sqlkit_ctid is null order by %s',
        sqlkit._insert_from(p_target, p_columns),
        sqlkit._column_list(p_key, 's.%I')
    )
end;

comment on function sqlkit._write_statement(regclass, text, name[], name[], boolean) is
'The statement of _write_difference().';


create or replace function sqlkit._write_difference(
    p_target regclass,
    p_policy text,
    p_columns name[],
    p_key name[],
    p_is_update boolean
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
-- Each row is fetched by its place, in the order of the key: new entries then fall into index pages that
-- are at hand. Measured against a hash join of places, half the time.
set enable_hashjoin = off
set enable_mergejoin = off
set enable_memoize = off
set work_mem = '64MB'
as $write_difference$
begin
    if p_is_update and not sqlkit._is_plain(p_target) then
        -- Rows are found by their keys.
        perform set_config('enable_hashjoin', 'on', true);
    end if;
    return sqlkit._write(sqlkit._write_statement(p_target, p_policy, p_columns, p_key, p_is_update));
end;
$write_difference$;

comment on function sqlkit._write_difference(regclass, text, name[], name[], boolean) is
'Writes what _find_difference() found: updates the rows that are there, or inserts those that are not.
Returns how many rows it wrote. Writes: the target.';


create or replace function sqlkit._refuse_existing(p_rows text, p_key name[], p_number bigint, p_repeated boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_existing$
declare
    v_keys text;
begin
    execute format(
        'select string_agg(s.keys, %3$L) from ('
        'select row(%2$s)::text as keys from (%1$s) as s limit 5) as s',
        p_rows,
        sqlkit._column_list(p_key, 's.%I'),
        ', '
    )
    into v_keys;
    if p_repeated then
        raise exception using
            errcode = 'SK303',
            message = format('%s rows repeat a key of the same batch', p_number),
            detail = format('Keys (%s): %s.', sqlkit._column_list(p_key, '%I'), v_keys),
            hint = 'Choose another policy, or remove the repeated rows from the input.';
    end if;
    raise exception using
        errcode = 'SK302',
        message = format('%s rows with the keys of the input exist already', p_number),
        detail = format('Keys (%s): %s.', sqlkit._column_list(p_key, '%I'), v_keys),
        hint = 'Choose another policy, or remove the rows from the input.';
end;
$refuse_existing$;

comment on function sqlkit._refuse_existing(text, name[], bigint, boolean) is
'Raises SK303 for keys that are repeated, SK302 for keys that exist, and shows some of them.';


create or replace function sqlkit._merge(
    p_stages regclass[],
    p_target regclass,
    p_policy text,
    p_key name[] default null,
    p_order_by name default null,
    p_pieces jsonb default null,
    p_filter text default 'true'
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge$
declare
    v_counts sqlkit.row_counts := (0, 0, 0, 0, 0, 0, 0);
    v_columns name[];
    v_key name[];
    v_rows text;
    v_is_keyed text;
    v_batch_bytes bigint;
    v_target_rows bigint;
    v_unmet bigint;
    v_distinct bigint;
    v_new bigint;
    v_changed bigint;
    v_kept bigint;
    v_indexes jsonb;
    v_is_repetition_known boolean := false;
    v_target_is_empty boolean;
begin
    perform sqlkit._check_target(p_target);
    v_columns := sqlkit._staged_columns(p_stages[1], p_target);
    v_key := sqlkit.find_policy_key(p_target, p_policy, p_key);
    perform sqlkit._check_policy(p_policy, p_target, v_columns, v_key, p_order_by);
    v_columns := v_columns || sqlkit._absence_column(p_stages[1], p_policy);
    v_rows := sqlkit._staged_rows(p_stages, v_columns, p_filter => p_filter);
    v_counts.rows_read := coalesce(
        (select sum(p.rows) from jsonb_to_recordset(p_pieces) as p (rows bigint)),
        sqlkit._count_rows(v_rows)
    );

    if p_policy = 'append' then
        v_counts.rows_inserted := sqlkit._write(
            format('%s (%s) as s', sqlkit._insert_from(p_target, v_columns), v_rows)
        );
        v_counts.rows_ignored := v_counts.rows_read - v_counts.rows_inserted;
        return v_counts;
    elsif p_policy = 'history' then
        return sqlkit._merge_history(
            p_stages, p_target, v_columns, v_key, p_order_by, p_pieces, p_filter, v_counts
        );
    end if;

    -- Readers go on; writers wait, so that what the join saw is still true when it is written.
    execute format('lock table %s in share row exclusive mode', p_target);
    v_is_keyed := sqlkit._is_keyed(p_target, v_key);
    select sum(pg_table_size(k.stage))
    into v_batch_bytes
    from unnest(p_stages) as k (stage);

    -- PHASE: find what the target does not hold already. Where the target is not much larger than the batch,
    -- a full join tells on the way whether a key is repeated: more matches than target rows that were met.
    if
        v_is_keyed = 'true'
        and p_filter = 'true'
        and p_policy <> 'error'
        and current_setting('server_version_num')::integer >= 160000
        and pg_table_size(p_target) < 2 * v_batch_bytes
    then
        v_target_rows := sqlkit._count_rows(format(
            'select from %s%s', case when sqlkit._is_plain(p_target) then 'only ' else '' end, p_target
        ));
    end if;
    if v_target_rows > 0 then
        perform sqlkit._find_difference(
            v_rows, p_target, p_policy, v_columns, v_key, p_order_by, v_batch_bytes, true
        );
        select
            count(*) filter (where d.sqlkit_is_staged is null),
            count(*) filter (where d.sqlkit_is_staged and d.sqlkit_ctid is null)
        into v_unmet, v_new
        from pg_temp.sqlkit_difference as d;
        -- Every row that is not new met one row of the target. New rows are looked at by themselves.
        v_is_repetition_known := v_counts.rows_read - v_new = v_target_rows - v_unmet
            and sqlkit._count_repeated(
                'select s.* from pg_temp.sqlkit_difference as s where s.sqlkit_ctid is null', p_target, v_key, 'true'
            ) = 0;
        if not v_is_repetition_known then
            drop table pg_temp.sqlkit_difference;
        end if;
    end if;

    if not v_is_repetition_known then
        v_counts.rows_duplicate := sqlkit._count_repeated(v_rows, p_target, v_key, v_is_keyed);
        if v_counts.rows_duplicate > 0 then
            if p_policy = 'error' then
                perform sqlkit._refuse_existing(
                    format(
                        'select %2$s from (%1$s) as s where %3$s group by %2$s having count(*) > 1',
                        v_rows, sqlkit._column_list(v_key, 's.%I'), v_is_keyed
                    ),
                    v_key, v_counts.rows_duplicate, true
                );
            end if;
            execute 'create temporary table sqlkit_single on commit drop as '
                || sqlkit._single_rows(
                    p_stages, v_columns, p_pieces, p_policy, v_key, v_is_keyed, p_order_by,
                    sqlkit._operator(p_target, p_order_by, '>'), p_filter
                );
            v_rows := format(
                'select %s from pg_temp.sqlkit_single as s', sqlkit._column_list(v_columns, 's.%I')
            );
        end if;
        execute format('select not exists (select from %s)', p_target) into v_target_is_empty;
        if v_target_is_empty then
            if p_filter = 'true' then
                v_indexes := sqlkit.begin_rebuild(p_target, v_counts.rows_read - v_counts.rows_duplicate);
            end if;
            v_counts.rows_inserted := sqlkit._write(format(
                '%s (%s) as s order by %s',
                sqlkit._insert_from(p_target, v_columns),
                v_rows,
                sqlkit._column_list(v_key, 's.%I')
            ));
            v_counts.rows_ignored := v_counts.rows_read - v_counts.rows_duplicate - v_counts.rows_inserted;
            perform sqlkit.finish_rebuild(p_target, v_indexes);
            if v_counts.rows_duplicate > 0 then
                drop table pg_temp.sqlkit_single;
            end if;
            return v_counts;
        end if;
        perform sqlkit._find_difference(
            v_rows, p_target, p_policy, v_columns, v_key, p_order_by, v_batch_bytes, false
        );
    end if;
    v_distinct := v_counts.rows_read - v_counts.rows_duplicate;
    select
        count(*) filter (where d.sqlkit_ctid is null),
        count(*) filter (where d.sqlkit_ctid is not null and d.sqlkit_is_wanted),
        count(*) filter (where d.sqlkit_ctid is not null and not d.sqlkit_is_wanted)
    into v_new, v_changed, v_kept
    from pg_temp.sqlkit_difference as d
    where d.sqlkit_is_staged;
    if p_policy = 'error' and v_changed > 0 then
        perform sqlkit._refuse_existing(
            'select s.* from pg_temp.sqlkit_difference as s where s.sqlkit_ctid is not null',
            v_key, v_changed, false
        );
    end if;

    -- PHASE: write it. Where bad rows are looked for, piece by piece, indexes stay.
    if p_filter = 'true' then
        v_indexes := sqlkit.begin_rebuild(p_target, v_new + v_changed);
    end if;
    if v_changed > 0 then
        v_counts.rows_updated := sqlkit._write_difference(p_target, p_policy, v_columns, v_key, true);
    end if;
    if v_new > 0 then
        v_counts.rows_inserted := sqlkit._write_difference(p_target, p_policy, v_columns, v_key, false);
    end if;
    perform sqlkit.finish_rebuild(p_target, v_indexes);

    -- What a trigger or a rule held back was ignored, and what is neither new nor wanted is unchanged, but for
    -- policy ignore, which does not look.
    v_counts.rows_ignored := (v_new - v_counts.rows_inserted) + (v_changed - v_counts.rows_updated) + v_kept;
    v_counts.rows_unchanged := v_distinct - v_new - v_changed - v_kept;
    if p_policy = 'ignore' then
        v_counts.rows_ignored := v_counts.rows_ignored + v_counts.rows_unchanged;
        v_counts.rows_unchanged := 0;
    end if;
    drop table pg_temp.sqlkit_difference;
    if v_counts.rows_duplicate > 0 then
        drop table pg_temp.sqlkit_single;
    end if;
    return v_counts;
end;
$merge$;

comment on function sqlkit._merge(regclass[], regclass, text, name[], name, jsonb, text) is
'Applies the rows of one or more stages that meet a condition on s to a target under a policy, and counts what
became of each.
p_pieces tells which rows came first where several stages were filled by turns: a list of
{"stage": index, "piece": position in the source, "rows": number}; without it the first stage is taken in the
order in which it was filled.
Writes: the target. Locks: SHARE ROW EXCLUSIVE on the target until commit, except for policy append.
Raises: SK201 to SK207 and SK212 for what cannot be merged, SK302 and SK303 under policy error, and whatever the
target''s own constraints and triggers raise.';


create or replace function sqlkit.merge_screened_batch(
    p_run_id bigint,
    p_source_id bigint,
    p_range sqlkit.source_range,
    p_stages regclass[],
    p_target regclass,
    p_policy text,
    p_key name[] default null,
    p_order_by name default null,
    p_pieces jsonb default null,
    p_seconds_decode double precision default 0,
    p_seconds_copy double precision default 0,
    p_rows_rejected bigint default 0,
    p_limit bigint default null,
    p_share double precision default null,
    -- A default is evaluated by the caller: this is his, and not the function's own.
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_screened_batch$
declare
    v_counts sqlkit.row_counts;
    v_start timestamptz := clock_timestamp();
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
begin
    -- First of all, since whoever else loads this source must wait here and not redo the work.
    if p_source_id is not null then
        perform sqlkit.claim_batch(p_source_id, (p_range).start_offset);
    end if;
    perform sqlkit.check_reject_limit(
        p_run_id,
        p_rows_rejected + coalesce(
            (select sum(p.rows) from jsonb_to_recordset(p_pieces) as p (rows bigint)), 0
        )::bigint,
        p_rows_rejected,
        p_limit,
        p_share
    );
    perform set_config('sqlkit.search_path', p_search_path, true);
    -- For who wants to know: see _find_difference() and finish_rebuild().
    perform set_config('sqlkit.seconds_lookup', '0', true);
    perform set_config('sqlkit.seconds_indexes', '0', true);
    perform sqlkit._resolve_lookups(p_stages);
    v_counts := sqlkit._merge(p_stages, p_target, p_policy, p_key, p_order_by, p_pieces);
    v_counts.rows_read := v_counts.rows_read + p_rows_rejected;
    v_counts.rows_rejected := p_rows_rejected;
    perform sqlkit.record_batch(
        p_run_id,
        p_source_id,
        p_range,
        v_counts,
        p_seconds_decode,
        p_seconds_copy,
        extract(epoch from clock_timestamp() - v_start),
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    return v_counts;
end;
$merge_screened_batch$;

comment on function sqlkit.merge_screened_batch(
    bigint, bigint, sqlkit.source_range, regclass[], regclass, text, name[], name, jsonb, double precision,
    double precision, bigint, bigint, double precision, text
) is
'Merges the stages of a batch like merge_batch(), from which p_rows_rejected rows were kept away as it was
screened; they are counted, and sqlkit.keep_rejects() says what they were, in the same transaction.
Writes: the target, sqlkit.batch, sqlkit.source. Locks: as merge_batch(). Raises: SK301 if the run now has more
rejects than p_limit or p_share (0 to 1) of its rows, and what merge_batch() raises.';


create or replace function sqlkit.merge_batch(
    p_run_id bigint,
    p_source_id bigint,
    p_range sqlkit.source_range,
    p_stages regclass[],
    p_target regclass,
    p_policy text,
    p_key name[] default null,
    p_order_by name default null,
    p_pieces jsonb default null,
    p_seconds_decode double precision default 0,
    p_seconds_copy double precision default 0,
    -- A default is evaluated by the caller: this is his, and not the function's own.
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_batch$
begin
    return sqlkit.merge_screened_batch(
        p_run_id,
        p_source_id,
        p_range,
        p_stages,
        p_target,
        p_policy,
        p_key,
        p_order_by,
        p_pieces,
        p_seconds_decode,
        p_seconds_copy,
        p_search_path => p_search_path
    );
end;
$merge_batch$;

comment on function sqlkit.merge_batch(
    bigint, bigint, sqlkit.source_range, regclass[], regclass, text, name[], name, jsonb, double precision,
    double precision, text
) is
'Merges the stages of a batch into the target and records the batch: one call, one transaction.
p_pieces tells which rows came first where several stages were filled by turns: a list of
{"stage": index, "piece": position in the source, "rows": number}.
Writes: the target, sqlkit.batch, sqlkit.source. Locks: the source''s row, then SHARE ROW EXCLUSIVE on the
target (not for append), until commit. Raises: SK402 if another process loaded this part, SK201 to SK204,
SK206, SK207, SK212 under policy history, SK302 and SK303 under policy error, and the target''s own errors.';


create or replace function sqlkit.merge_shared_batch(
    p_run_id bigint,
    p_parts jsonb,
    p_stages regclass[],
    p_target regclass,
    p_policy text,
    p_key name[] default null,
    p_order_by name default null,
    p_pieces jsonb default null,
    p_seconds_decode double precision default 0,
    p_seconds_copy double precision default 0,
    -- A default is evaluated by the caller: this is his, and not the function's own.
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_shared_batch$
declare
    v_counts sqlkit.row_counts;
    v_start timestamptz := clock_timestamp();
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
begin
    -- First of all, since whoever else loads one of these sources must wait here and not redo the work.
    perform sqlkit.claim_parts(p_parts);
    perform set_config('sqlkit.search_path', p_search_path, true);
    -- For who wants to know: see _find_difference() and finish_rebuild().
    perform set_config('sqlkit.seconds_lookup', '0', true);
    perform set_config('sqlkit.seconds_indexes', '0', true);
    v_counts := sqlkit._merge(p_stages, p_target, p_policy, p_key, p_order_by, p_pieces);
    perform sqlkit.record_shared_batch(
        p_run_id,
        p_parts,
        v_counts,
        p_seconds_decode,
        p_seconds_copy,
        extract(epoch from clock_timestamp() - v_start),
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    return v_counts;
end;
$merge_shared_batch$;

comment on function sqlkit.merge_shared_batch(
    bigint, jsonb, regclass[], regclass, text, name[], name, jsonb, double precision, double precision, text
) is
'Merges the stages of a batch that several sources share, like merge_batch(); p_parts are as in
record_shared_batch(), and the pieces of p_pieces are in the order of the sources.
Writes: the target, sqlkit.batch, sqlkit.batch_part, sqlkit.source. Locks: the sources'' rows, then as merge_batch().
Raises: SK402 if another process loaded one of the sources, and what merge_batch() raises.';


create or replace function sqlkit.merge_stage(
    p_stage regclass,
    p_policy text default 'update',
    p_key name[] default null,
    p_order_by name default null,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_stage$
declare
    v_counts sqlkit.row_counts;
    v_target regclass := sqlkit._stage_target(p_stage);
    v_run_id bigint;
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
begin
    v_run_id := sqlkit.start_run('merge', v_target, p_policy, p_key);
    v_counts := sqlkit.merge_batch(
        v_run_id,
        null,
        null,
        array[p_stage],
        v_target,
        p_policy,
        p_key,
        p_order_by,
        p_search_path => p_search_path
    );
    perform sqlkit.finish_run(
        v_run_id, p_wal_bytes => pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    execute format('truncate table %s', p_stage);
    return v_counts;
end;
$merge_stage$;

comment on function sqlkit.merge_stage(regclass, text, name[], name, text) is
'Applies the rows of a stage to its target, empties the stage, and returns what became of the rows:
read = inserted + updated + unchanged + ignored + duplicate. The key is the primary key unless named.
Policies: append (no key), ignore (the first stays), update (the last wins), newer (the greatest p_order_by
wins), fill (only nulls are overwritten; see below), error (nothing may exist), history (versions are kept, each valid from
the moment in p_order_by, or from now, until the next one).
Under fill a stage may say of a row that it has nothing of a column, which is not a null: make it with a column
sqlkit_absent in p_left_out too, for a JSON array of such columns. A new row gets their defaults.
The target''s triggers and defaults run under p_search_path, the caller''s unless said.
Writes: the target, sqlkit.run, sqlkit.batch. Locks: SHARE ROW EXCLUSIVE on the target until commit, except
for append; ACCESS EXCLUSIVE where its indexes are built anew, see begin_rebuild(). Raises: SK201 to SK204, SK206 to SK208, SK212 under policy history, SK302 and SK303 under policy error, and the target''s own errors.';
