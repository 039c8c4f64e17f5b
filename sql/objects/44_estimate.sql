-- What a merge would do, without doing it.

create or replace function sqlkit.estimate_merge(
    p_target regclass,
    p_columns name[],
    p_rows jsonb,
    p_policy text default 'update',
    p_key name[] default null,
    p_order_by name default null
)
returns sqlkit.row_counts
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $estimate_merge$
declare
    v_key name[];
    v_difference text;
    v_is_updated text := 'false';
    v_is_ignored text := 'false';
    v_history sqlkit.history_key;
    v_moment text;
    v_match text;
    v_numbers bigint[];
begin
    v_key := sqlkit.find_policy_key(p_target, p_policy, p_key);
    perform sqlkit._check_policy(p_policy, p_target, p_columns, v_key, p_order_by);
    v_difference := sqlkit._difference(p_target, sqlkit._value_columns(p_target, p_columns, v_key));
    case p_policy
        when 'update' then
            v_is_updated := v_difference;
        when 'newer' then
            v_is_updated := format(
                'coalesce(s.%1$I %2$s t.%1$I, t.%1$I is null and s.%1$I is not null)',
                p_order_by,
                sqlkit._operator(p_target, p_order_by, '>')
            );
            v_is_ignored := v_difference;
        when 'fill' then
            v_is_updated := coalesce(
                sqlkit._column_list(
                    sqlkit._value_columns(p_target, p_columns, v_key),
                    '(t.%1$I is null and s.%1$I is not null)',
                    ' or '
                ),
                'false'
            );
        when 'ignore' then
            v_is_ignored := 'true';
        when 'history' then
            v_history := sqlkit._history(p_target, p_key);
            v_moment := sqlkit._history_moment(
                p_target, p_columns, p_order_by, v_history.period, v_history.subtype
            );
            v_difference := sqlkit._difference(
                p_target, sqlkit._value_columns(p_target, p_columns, array_remove(v_key || p_order_by, null))
            );
            v_is_updated := v_difference;
            -- Another version is a row of its own; only what begins at the same moment changes the one that is there.
            v_match := format(
                '%1$s and t.%2$I @> (%3$s) and (lower(t.%2$I) = (%3$s) or not (%4$s))',
                v_history.key_match, v_history.period, v_moment, v_difference
            );
        else null;
    end case;
    execute format(
        -- A row as a whole, so that values are read that nothing is compared with.
        'select array[count(m.staged), '
        'count(*) filter (where not m.is_met), '
        'count(*) filter (where m.is_met and not m.is_refused and m.is_updated), '
        'count(*) filter (where m.is_met and not (m.is_refused or m.is_updated or m.is_ignored)), '
        'count(*) filter (where m.is_met and not m.is_updated and m.is_ignored), '
        '0, '
        'count(*) filter (where m.is_met and m.is_refused)] '
        'from ('
        'select s as staged, t.ctid is not null as is_met, (%1$s) is true as is_updated, (%2$s) is true as is_ignored, '
        '%3$L::boolean as is_refused '
        'from (select %4$s from jsonb_array_elements($1) as r (value)) as s left join %5$s%6$s as t on %7$s'
        ') as m',
        v_is_updated,
        v_is_ignored,
        p_policy = 'error',
        (
            select string_agg(
                format(
                    '(r.value ->> %s)::%s as %I',
                    k.position - 1,
                    format_type(a.atttypid, a.atttypmod),
                    a.attname
                ),
                ', '
                order by k.position
            )
            from unnest(p_columns) with ordinality as k (name, position)
            join pg_attribute as a
                on a.attrelid = p_target and a.attname = k.name and a.attnum > 0 and not a.attisdropped
        ),
        case when sqlkit._is_plain(p_target) then 'only ' else '' end,
        p_target,
        coalesce(v_match, sqlkit._key_match(p_target, v_key), 'false')
    )
    into v_numbers
    using p_rows;
    return row(
        v_numbers[1], v_numbers[2], v_numbers[3], v_numbers[4], v_numbers[5], v_numbers[6], v_numbers[7]
    )::sqlkit.row_counts;
end;
$estimate_merge$;

comment on function sqlkit.estimate_merge(regclass, name[], jsonb, text, name[], name) is
'What a merge would make of some rows: a json array with an array of texts for each, in the order of the columns.
Each row is held against the target alone, so that duplicates are not told; rows that policy error would fail for
are counted as rejected. Changes nothing, and may be called in a read-only transaction.
Raises: SK201 if the target is no table, SK202, SK203 or SK204 for its key, SK206 unknown policy, SK207 nothing to
order by, SK212 no history; and what the types of the columns raise for bad values.';


create or replace function sqlkit.describe_merge(
    p_target regclass,
    p_columns name[],
    p_policy text default 'update',
    p_key name[] default null,
    p_order_by name default null,
    p_stage name default 'stage'
)
returns setof text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $describe_merge$
declare
    v_key name[] := sqlkit.find_policy_key(p_target, p_policy, p_key);
    v_rows text := format('select %s from only sqlkit_stage.%I as s', sqlkit._column_list(p_columns, 's.%I'), p_stage);
    v_is_empty boolean;
begin
    perform sqlkit._check_policy(p_policy, p_target, p_columns, v_key, p_order_by);
    if p_policy = 'append' then
        return next format('%s (%s) as s', sqlkit._insert_from(p_target, p_columns), v_rows);
        return;
    elsif p_policy = 'history' then
        return next format(
            'select sqlkit.merge_stage(%L, %L, %L, %L)',
            format('sqlkit_stage.%I', p_stage), p_policy, p_key, p_order_by
        );
        return;
    end if;
    return next format('lock table %s in share row exclusive mode', sqlkit._table_name(p_target));
    execute format('select not exists (select from %s)', sqlkit._table_name(p_target)) into v_is_empty;
    if v_is_empty then
        return next format(
            '%s (%s) as s order by %s',
            sqlkit._insert_from(p_target, p_columns), v_rows, sqlkit._column_list(v_key, 's.%I')
        );
        return;
    end if;
    return next sqlkit._difference_statement(v_rows, p_target, p_policy, p_columns, v_key, p_order_by, false);
    if p_policy in ('update', 'newer', 'fill') then
        return next sqlkit._write_statement(p_target, p_policy, p_columns, v_key, true);
    end if;
    return next sqlkit._write_statement(p_target, p_policy, p_columns, v_key, false);
end;
$describe_merge$;

comment on function sqlkit.describe_merge(regclass, name[], text, name[], name, name) is
'The statements by which the rows of a stage with these columns would be merged as the target is now, in their order:
those that merge_stage() executes where no key is repeated (policy history is that call). Changes nothing, and may be
called in a read-only transaction.
Raises: SK202, SK203 or SK204 for the key, SK206 unknown policy, SK207 nothing to order by, SK212 no history.';
