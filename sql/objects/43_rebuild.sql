-- Large loads into indexed tables: where so many rows are written that it pays, the indexes that merge and constraints
-- do not need are taken away before, and built again after. All of it is in the transaction that writes the rows:
-- whatever ends it in between leaves the indexes that were there.

create or replace function sqlkit._secondary_indexes(p_target regclass)
returns jsonb
language sql
stable
return (
    select coalesce(jsonb_agg(s.value order by s.ordinality), '[]')
    from jsonb_array_elements(sqlkit._saved_indexes(p_target)) with ordinality as s
    join pg_class as c on c.relname = s.value ->> 'name'
    join pg_index as i on i.indexrelid = c.oid
    where i.indrelid = p_target and not i.indisunique and sqlkit._can_rebuild_index(i.indexrelid)
);

comment on function sqlkit._secondary_indexes(regclass) is
'What _saved_indexes() has of the indexes that no key and no constraint needs, and that can be built again.';


create or replace function sqlkit._rows_there(p_target regclass)
returns double precision
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $rows_there$
declare
    v_class pg_class;
begin
    select c.*
    into v_class
    from pg_class as c
    where c.oid = p_target;
    if v_class.reltuples < 0 or v_class.relpages = 0 then
        return sqlkit._count_rows(format('select from only %s', p_target));
    end if;
    -- As the planner does: as dense as when it was last looked at.
    return v_class.reltuples / v_class.relpages
        * (pg_relation_size(p_target) / current_setting('block_size')::double precision);
end;
$rows_there$;

comment on function sqlkit._rows_there(regclass) is
'How many rows an ordinary table has, about, as the planner would take it.';


create or replace function sqlkit._note_index_decision(p_decision text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $note_index_decision$
begin
    perform set_config('sqlkit.index_decision', p_decision, true);
end;
$note_index_decision$;

comment on function sqlkit._note_index_decision(text) is
'Keeps what was decided about the indexes of a target until its batch is recorded, in the same transaction.';


create or replace function sqlkit._take_index_decision()
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $take_index_decision$
declare
    v_decision text := nullif(current_setting('sqlkit.index_decision', true), '');
begin
    if v_decision is not null then
        perform set_config('sqlkit.index_decision', '', true);
    end if;
    return v_decision;
end;
$take_index_decision$;

comment on function sqlkit._take_index_decision() is
'What _note_index_decision() has kept, once; null if there is nothing.';


create or replace function sqlkit._rebuild_objection(p_target regclass, p_rows bigint, p_bytes bigint)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $rebuild_objection$
declare
    v_least double precision := sqlkit._threshold('rebuild_rows');
    v_share double precision := sqlkit._threshold('rebuild_share');
    v_there double precision;
    v_rows double precision := p_rows;
begin
    if coalesce(p_rows, p_bytes) is null then
        return 'nobody knows how many rows come';
    elsif p_rows < v_least then
        return format('%s rows are fewer than %s (rebuild_rows)', p_rows, v_least);
    end if;
    v_there := sqlkit._rows_there(p_target);
    if p_rows is null then
        -- A row takes about as much in the input as in the table.
        v_rows := round(p_bytes * v_there / greatest(1, pg_relation_size(p_target)));
    end if;
    if v_rows < v_least then
        return format('about %s rows are fewer than %s (rebuild_rows)', v_rows, v_least);
    elsif v_rows < v_share * (v_there + v_rows) then
        return format(
            '%s rows are %s%% of the table, less than %s%% (rebuild_share)',
            v_rows, round((100 * v_rows / (v_there + v_rows))::numeric, 1), 100 * v_share
        );
    elsif exists (
        select
        from pg_locks as l
        where l.locktype = 'relation' and l.relation = p_target and l.granted and l.pid <> pg_backend_pid()
    ) then
        return 'others are at the table';
    end if;
    return null;
end;
$rebuild_objection$;

comment on function sqlkit._rebuild_objection(regclass, bigint, bigint) is
'Why so many rows (or bytes of input) are not enough of a table to build its indexes after them, or that somebody else
is at the table, who would have to wait; null where it pays.';


create or replace function sqlkit.begin_rebuild(
    p_target regclass,
    p_rows bigint default null,
    p_bytes bigint default null
)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
-- Who waits for such a lock holds up all who come later.
set lock_timeout = '500ms'
as $begin_rebuild$
declare
    v_way text := coalesce(nullif(current_setting('sqlkit.indexes', true), ''), 'auto');
    v_class pg_class;
    v_indexes jsonb;
    v_objection text;
begin
    if v_way not in ('auto', 'keep', 'rebuild') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('there is no way %L to treat indexes', v_way),
            hint = 'Setting sqlkit.indexes is auto, keep or rebuild.';
    end if;
    select c.*
    into v_class
    from pg_class as c
    where c.oid = p_target;
    if v_class.relkind <> 'r' or v_class.relhassubclass or to_regclass('pg_catalog.pg_dist_partition') is not null then
        return null;
    end if;
    v_indexes := sqlkit._secondary_indexes(p_target);
    if v_indexes = '[]' then
        return null;
    end if;
    v_objection := case
        when v_way = 'keep' then 'sqlkit.indexes is keep'
        when not pg_has_role(v_class.relowner, 'usage') then 'the table belongs to another role'
        -- A trigger may need an index to find what it looks for; what waits for the commit forbids to change indexes.
        when
            v_class.relhasrules
            or row_security_active(p_target)
            or exists (
                select from pg_trigger as t where t.tgrelid = p_target and (not t.tgisinternal or t.tgdeferrable)
            )
            then 'triggers, rules, row security or deferrable constraints may need them meanwhile'
        when v_way = 'auto' then sqlkit._rebuild_objection(p_target, p_rows, p_bytes)
    end;
    if v_objection is null then
        begin
            execute format('lock table only %s in access exclusive mode', p_target);
            perform sqlkit._drop_indexes(p_target, v_indexes);
        exception
            when lock_not_available or object_in_use then
                v_objection := 'the table was not to be had alone';
        end;
    end if;
    perform sqlkit._note_index_decision(
        case
            when v_objection is not null then 'kept: ' || v_objection
            else format('%s built after the rows', jsonb_array_length(v_indexes))
        end
    );
    return case when v_objection is null then v_indexes end;
end;
$begin_rebuild$;

comment on function sqlkit.begin_rebuild(regclass, bigint, bigint) is
'Takes the indexes of a table away that neither keys nor constraints need, if that pays for p_rows that are about to be
written (or p_bytes of input), and returns what finish_rebuild() needs to build them again, in the same transaction.
Returns null, and has done nothing, where they are better kept: few rows (thresholds rebuild_rows and rebuild_share of
sqlkit.refresh_threshold), others at the table, triggers, rules, row security, deferrable constraints, partitions,
another owner. Setting sqlkit.indexes decides otherwise: keep, or rebuild whatever the number of rows. What was decided
and why, the next batch that this transaction records keeps in sqlkit.batch.indexes.
Writes: the target''s indexes. Locks: ACCESS EXCLUSIVE on the target until commit, if it is to be had within half a
second. Raises: 22023 for another value of the setting.';


create or replace function sqlkit.finish_rebuild(p_target regclass, p_indexes jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $finish_rebuild$
declare
    v_memory text := current_setting('maintenance_work_mem');
    v_start timestamptz := clock_timestamp();
begin
    perform set_config('maintenance_work_mem', sqlkit._memory_for_load('maintenance_work_mem'), true);
    perform sqlkit._build_index(p_target, s.value)
    from jsonb_array_elements(p_indexes) as s;
    perform set_config('maintenance_work_mem', v_memory, true);
    perform set_config('sqlkit.seconds_indexes', extract(epoch from clock_timestamp() - v_start)::text, true);
end;
$finish_rebuild$;

comment on function sqlkit.finish_rebuild(regclass, jsonb) is
'Builds the indexes again that begin_rebuild() took away; does nothing for null. The setting sqlkit.seconds_indexes
tells the transaction how long it took.
Writes: the target''s indexes. Locks: those that begin_rebuild() took.';
