-- Truncate: a target is emptied and filled anew in one transaction. It stays the same table; readers wait.

create or replace function sqlkit._lock_alone(p_target regclass, p_patience interval default '1 minute')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- Who waits for such a lock holds up all who come later: wait shortly, let them pass, and try again.
set lock_timeout = '1s'
as $lock_alone$
declare
    v_until timestamptz := clock_timestamp() + p_patience;
begin
    loop
        begin
            execute format('lock table %s in access exclusive mode', sqlkit._table_name(p_target));
            return;
        exception
            when lock_not_available then
                if clock_timestamp() > v_until then
                    raise;
                end if;
        end;
        perform pg_sleep(0.2 + random() / 2);
    end loop;
end;
$lock_alone$;

comment on function sqlkit._lock_alone(regclass, interval) is
'Takes a table for this transaction alone, a second a try, with rests between in which others get on.
Locks: ACCESS EXCLUSIVE on the table until commit. Raises: 55P03 if it is not to be had within p_patience.';


create or replace function sqlkit._refuse_strategy(p_target regclass, p_strategy text, p_reasons text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_strategy$
begin
    if cardinality(p_reasons) > 0 then
        raise exception using
            errcode = 'SK210',
            message = format('%s cannot be refreshed by strategy %s', sqlkit._table_name(p_target), p_strategy),
            detail = array_to_string(p_reasons, E'\n'),
            hint = 'Strategy mirror leaves the table in place, with all that hangs on it.';
    end if;
end;
$refuse_strategy$;

comment on function sqlkit._refuse_strategy(regclass, text, text[]) is
'Raises SK210 with a list of reasons, if there are any.';


create or replace function sqlkit._truncate_obstacles(p_target regclass)
returns text[]
language sql
stable
return (
    select coalesce(
        array_agg(
            format('foreign key %I of %s points at it', c.conname, sqlkit._table_name(c.conrelid::regclass))
            order by c.conrelid, c.conname
        ),
        '{}'
    )
    from pg_constraint as c
    where c.confrelid = p_target and c.contype = 'f' and c.conrelid <> p_target and c.conparentid = 0
);

comment on function sqlkit._truncate_obstacles(regclass) is
'Why a table cannot be emptied and filled anew; none if it can.';


create or replace function sqlkit._truncate(
    p_stage regclass,
    p_target regclass,
    p_key name[],
    p_delete_share double precision,
    p_delete_limit bigint
)
returns sqlkit.refresh_result
language plpgsql
set search_path = pg_catalog, pg_temp
-- Of repeated keys the last is taken: rows are read in the order in which they lie.
set synchronize_seqscans = off
as $truncate$
declare
    v_key name[];
    v_read bigint := sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_stage)));
    v_before bigint;
    v_indexes jsonb;
    v_columns name[] := sqlkit._staged_columns(p_stage, p_target);
    v_counts sqlkit.row_counts;
begin
    perform sqlkit._refuse_strategy(p_target, 'truncate', sqlkit._truncate_obstacles(p_target));
    v_key := sqlkit._key_or_none(p_target, p_key);
    perform sqlkit._lock_alone(p_target);
    v_before := sqlkit._count_rows(format('select from %s', sqlkit._table_name(p_target)));
    perform sqlkit._refuse_deletion(
        p_target, greatest(0, v_before - v_read), v_before, p_delete_share, p_delete_limit
    );
    perform sqlkit._write(format('truncate table %s', sqlkit._table_name(p_target)));
    if v_read >= sqlkit._threshold('rebuild_rows') and sqlkit._can_rebuild(p_target) then
        v_indexes := sqlkit._saved_indexes(p_target);
        perform sqlkit._drop_indexes(p_target, v_indexes);
        perform sqlkit._note_index_decision(format(
            '%s built after the rows: %s, at least %s (rebuild_rows)',
            jsonb_array_length(v_indexes), v_read, sqlkit._threshold('rebuild_rows')
        ));
        perform sqlkit._write(format(
            '%s only %s as s', sqlkit._insert_from(p_target, v_columns), sqlkit._table_name(p_stage)
        ));
        v_counts := sqlkit.finish_first_load(
            p_target, v_indexes, v_read, case when v_key is null then 'append' else 'update' end, v_key
        );
    else
        v_counts := sqlkit._merge(
            array[p_stage], p_target, case when v_key is null then 'append' else 'update' end, v_key
        );
    end if;
    return (
        'truncate'::text, v_counts.rows_read, v_counts.rows_inserted, v_counts.rows_updated,
        v_counts.rows_unchanged, v_counts.rows_ignored, v_counts.rows_duplicate, v_before
    );
end;
$truncate$;

comment on function sqlkit._truncate(regclass, regclass, name[], double precision, bigint) is
'Empties a target and fills it from a stage; its indexes are built afterwards where that is faster.
Writes: the target and its indexes. Locks: ACCESS EXCLUSIVE on the target until commit.
Raises: SK210 if foreign keys point at it, SK304 if it would lose more rows than may go.';


create or replace function sqlkit._key_or_none(p_target regclass, p_key name[])
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $key_or_none$
begin
    if p_key is null and not exists (select from sqlkit._unique_keys(p_target) as k where k.is_primary) then
        return null;
    end if;
    return sqlkit.find_key(p_target, p_key);
end;
$key_or_none$;

comment on function sqlkit._key_or_none(regclass, name[]) is
'The key as find_key() finds it, null for a table without primary key where none is named.
Raises: SK203, SK204.';


create or replace function sqlkit._can_rebuild(p_target regclass)
returns boolean
language sql
stable
return (
    -- What a trigger or a rule looks for it may need an index to find.
    select
        sqlkit._rebuild_obstacle(p_target) is null
        and not c.relhasrules
        and not row_security_active(p_target)
        and not exists (
            select t.oid
            from pg_trigger as t
            where t.tgrelid = p_target and not t.tgisinternal
        )
    from pg_class as c
    where c.oid = p_target
);

comment on function sqlkit._can_rebuild(regclass) is
'Whether a table can be loaded without its indexes, and get them back afterwards.';
