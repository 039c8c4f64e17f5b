-- Targets and stages: what a target looks like to a load, and the tables that batches wait in.

create or replace function sqlkit._check_target(p_target regclass)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $check_target$
declare
    v_kind "char";
begin
    select c.relkind
    into v_kind
    from pg_class as c
    where c.oid = p_target;
    if v_kind is null or v_kind not in ('r', 'p', 'f') then
        raise exception using
            errcode = 'SK201',
            message = 'the target is not a table that rows can be loaded into',
            detail = format('Target: %s.', coalesce(sqlkit._table_name(p_target), p_target::text)),
            hint = 'Name an ordinary or partitioned table.';
    end if;
end;
$check_target$;

comment on function sqlkit._check_target(regclass) is
'Raises SK201 unless the relation is an ordinary, partitioned or foreign table.';


create or replace function sqlkit.find_key(p_target regclass, p_key name[] default null)
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_key$
declare
    v_key name[];
    v_missing text;
begin
    perform sqlkit._check_target(p_target);
    if p_key is null then
        select k.columns
        into v_key
        from sqlkit._unique_keys(p_target) as k
        where k.is_primary;
        if not found then
            raise exception using
                errcode = 'SK202',
                message = 'the policy needs a key and the target has none',
                detail = format('Target: %s.', sqlkit._table_name(p_target)),
                hint = 'Add a primary key, or name the columns of a unique index as the key.';
        end if;
        return v_key;
    end if;
    select string_agg(quote_ident(k.name), ', ' order by k.position)
    into v_missing
    from unnest(p_key) with ordinality as k (name, position)
    where not exists (
        select 1
        from pg_attribute as a
        where a.attrelid = p_target and a.attname = k.name and a.attnum > 0 and not a.attisdropped
    );
    if v_missing is not null then
        raise exception using
            errcode = 'SK204',
            message = format('key columns that the target does not have: %s', v_missing),
            detail = format('Target: %s.', sqlkit._table_name(p_target)),
            hint = 'Name columns of the target as the key.';
    end if;
    select k.columns
    into v_key
    from sqlkit._unique_keys(p_target) as k
    where k.columns @> p_key and k.columns <@ p_key
    order by k.is_primary desc
    limit 1;
    if not found then
        raise exception using
            errcode = 'SK203',
            message = 'no unique index of the target covers exactly the key',
            detail = format(
                'Target: %s; key: %s.',
                sqlkit._table_name(p_target),
                (select string_agg(quote_ident(k.name), ', ') from unnest(p_key) as k (name))
            ),
            hint = 'Create a unique index on these columns, or choose another key.';
    end if;
    return v_key;
end;
$find_key$;

comment on function sqlkit.find_key(regclass, name[]) is
'The columns by which rows of a target are recognised, in the order of their index: the primary key, or the
unique index (valid, whole, without expressions) on exactly the columns named.
Raises: SK201 no table, SK202 no primary key, SK203 no such unique index, SK204 no such column.';


create or replace function sqlkit._unique_keys(p_target regclass)
returns table (index_id oid, columns name[], is_primary boolean, nulls_equal boolean)
language sql
stable
begin atomic
select
    i.indexrelid,
    (
        select array_agg(a.attname order by k.position)
        from unnest(i.indkey::smallint[]) with ordinality as k (attnum, position)
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.position <= i.indnkeyatts
    ),
    i.indisprimary,
    i.indnullsnotdistinct
from pg_index as i
where
    i.indrelid = p_target
    and i.indisunique
    and i.indisvalid
    and i.indpred is null
    and i.indexprs is null;
end;

comment on function sqlkit._unique_keys(regclass) is
'The whole, valid unique indexes of a table that have no expressions.';


create or replace function sqlkit._may_deny_rows(p_target regclass)
returns boolean
language sql
stable
return (
    row_security_active(p_target)
    or exists (
        select
        from pg_trigger as t
        where
            -- A partition may have triggers of its own.
            (t.tgrelid = p_target or t.tgrelid in (select p.relid from pg_partition_tree(p_target) as p))
            and not t.tgisinternal
            and t.tgenabled <> 'D'
            and t.tgtype & 1 = 1 -- for each row
    )
);

comment on function sqlkit._may_deny_rows(regclass) is
'Whether single rows of a target may be refused as a missing privilege is: by a row policy, or by a trigger.';


create or replace function sqlkit.describe_target(p_target regclass)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $describe_target$
declare
    v_description jsonb;
begin
    perform sqlkit._check_target(p_target);
    select jsonb_build_object(
        'name', sqlkit._table_name(p_target),
        'kind', c.relkind,
        'bytes', pg_total_relation_size(p_target),
        'heap_bytes', coalesce(
            (select sum(pg_relation_size(t.relid)) from pg_partition_tree(p_target) as t),
            pg_relation_size(p_target)
        ),
        'key', (
            select to_jsonb(k.columns)
            from sqlkit._unique_keys(p_target) as k
            where k.is_primary
        ),
        'has_row_triggers', exists (
            select 1
            from pg_trigger as t
            where
                -- A partition may have triggers of its own.
                t.tgrelid in (select p_target union all select p.relid from pg_partition_tree(p_target) as p)
                and not t.tgisinternal
                and t.tgenabled <> 'D'
                -- 1: for each row, 2: before, 4: insert. Such a trigger may drop a row in silence.
                and t.tgtype & 7 = 7
        ),
        'rows_are_independent', not c.relhasindex and not exists (
            select 1
            from pg_trigger as t
            where t.tgrelid = p_target and not t.tgisinternal and t.tgenabled <> 'D'
        ),
        'has_rules', c.relhasrules,
        'row_security', row_security_active(p_target),
        'columns', (
            select jsonb_agg(
                jsonb_build_object(
                    'name', a.attname,
                    'type', format_type(a.atttypid, a.atttypmod),
                    'is_json', a.atttypid in ('json'::regtype, 'jsonb'::regtype),
                    'is_generated', a.attgenerated <> '',
                    'has_default', a.atthasdef or a.attidentity <> '',
                    'not_null', a.attnotnull
                )
                order by a.attnum
            )
            from pg_attribute as a
            where a.attrelid = p_target and a.attnum > 0 and not a.attisdropped
        )
    )
    into v_description
    from pg_class as c
    where c.oid = p_target;
    return v_description;
end;
$describe_target$;

comment on function sqlkit.describe_target(regclass) is
'What a loader has to know of a target: name, kind, sizes in bytes, primary key, columns in order, whether
row triggers, rules or row security stand in the way of a direct COPY, and whether rows are independent: no index
and no trigger could make one transaction that inserts wait for another.
Raises: SK201 if it is not a table.';


create or replace function sqlkit.create_stage(
    p_target regclass,
    p_columns name[] default null,
    p_name name default null,
    p_left_out name[] default '{}',
    p_run_id bigint default null
)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $create_stage$
declare
    v_columns name[] := p_columns;
    v_definition text;
    v_unknown text;
    v_generated text;
    v_stage_id bigint;
    v_name name;
    v_target text;
begin
    perform sqlkit._check_target(p_target);
    v_target := sqlkit._table_name(p_target);
    if v_columns is null then
        select array_agg(a.attname order by a.attnum)
        into v_columns
        from pg_attribute as a
        where
            a.attrelid = p_target
            and a.attnum > 0
            and not a.attisdropped
            and a.attgenerated = ''
            and a.attname <> all (p_left_out);
    end if;
    select
        string_agg(
            format('%I %s', k.name, coalesce(sqlkit._type_definition(p_target, a.attname), 'text')),
            ', '
            order by k.position
        ),
        string_agg(quote_ident(k.name), ', ' order by k.position)
        filter (where a.attname is null and k.name <> all (p_left_out)),
        string_agg(quote_ident(k.name), ', ' order by k.position)
        filter (where a.attgenerated <> '')
    into v_definition, v_unknown, v_generated
    from unnest(v_columns) with ordinality as k (name, position)
    left join pg_attribute as a
        on
            a.attrelid = p_target
            and a.attname = k.name
            and a.attnum > 0
            and not a.attisdropped
            and k.name <> all (p_left_out);
    if v_unknown is not null then
        raise exception using
            errcode = 'SK204',
            message = format('columns that the target does not have: %s', v_unknown),
            detail = format('Target: %s.', v_target),
            hint = 'Name columns of the target, or list these in p_left_out too.';
    end if;
    if v_generated is not null then
        raise exception using
            errcode = 'SK205',
            message = format('generated columns cannot be loaded: %s', v_generated),
            detail = format('Target: %s.', v_target),
            hint = 'Leave them out: PostgreSQL computes them.';
    end if;
    if exists (select from sqlkit.stage as s where s.name = p_name) then
        raise exception using
            errcode = 'unique_violation',
            message = format('there is a stage %s already', p_name),
            detail = (select format('Its target: %s.', s.target) from sqlkit.stage as s where s.name = p_name),
            hint = format(
                'Go on with it, drop it (select sqlkit.drop_stage(%L);), or choose another name.',
                format('sqlkit_stage.%I', p_name)
            );
    end if;
    v_stage_id := nextval(pg_get_serial_sequence('sqlkit.stage', 'stage_id'));
    v_name := coalesce(p_name, 'stage_' || v_stage_id);
    insert into sqlkit.stage (stage_id, name, target, run_id)
    overriding system value
    values (v_stage_id, v_name, v_target, p_run_id);
    -- Autovacuum has nothing to do in a table that lives for seconds.
    execute format(
        'create unlogged table sqlkit_stage.%I (%s) with (autovacuum_enabled = false)',
        v_name,
        v_definition
    );
    return format('sqlkit_stage.%I', v_name)::regclass;
end;
$create_stage$;

comment on function sqlkit.create_stage(regclass, name[], name, name[], bigint) is
'Makes an unlogged table in sqlkit_stage that holds rows on their way to the target, and returns it. It has
the columns named, in that order and with the target''s types (all loadable columns if none are named).
Columns in p_left_out are there as text, so that COPY can read past them, and are not merged.
Writes: sqlkit.stage. Raises: SK201 no table, SK204 unknown column, SK205 generated column, 23505 or 42P07
if the name is taken.';


create or replace function sqlkit.empty_stages(p_stages regclass[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $empty_stages$
declare
    v_stages text;
begin
    select string_agg(format('sqlkit_stage.%I', c.relname), ', ')
    into v_stages
    from pg_class as c
    where c.oid = any (p_stages) and c.relnamespace = 'sqlkit_stage'::regnamespace;
    if v_stages is not null then
        execute 'truncate table ' || v_stages;
    end if;
end;
$empty_stages$;

comment on function sqlkit.empty_stages(regclass[]) is
'Empties stages for their next batch; relations that are no stages are left alone.
Locks: ACCESS EXCLUSIVE on the stages.';


create or replace function sqlkit.drop_stage(p_stage regclass)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $drop_stage$
declare
    v_name name;
begin
    delete from sqlkit.stage as s
    using pg_class as c
    where
        c.oid = p_stage
        and c.relnamespace = 'sqlkit_stage'::regnamespace
        and s.name = c.relname
    returning s.name into v_name;
    if not found then
        raise exception using
            errcode = 'SK208',
            message = 'there is no such stage',
            detail = format('Relation: %s.', p_stage),
            hint = 'List them with: select * from sqlkit.stage;';
    end if;
    execute format('drop table sqlkit_stage.%I', v_name);
end;
$drop_stage$;

comment on function sqlkit.drop_stage(regclass) is
'Drops a stage with all rows in it.
Writes: sqlkit.stage. Locks: ACCESS EXCLUSIVE on the stage. Raises: SK208 if it is not a stage.';


create or replace function sqlkit._stage_target(p_stage regclass)
returns regclass
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $stage_target$
declare
    v_target regclass;
begin
    select s.target::regclass
    into v_target
    from sqlkit.stage as s
    join pg_class as c on c.relname = s.name and c.relnamespace = 'sqlkit_stage'::regnamespace
    where c.oid = p_stage;
    if not found then
        raise exception using
            errcode = 'SK208',
            message = 'there is no such stage',
            detail = format('Relation: %s.', p_stage),
            hint = 'Make one with sqlkit.create_stage().';
    end if;
    return v_target;
end;
$stage_target$;

comment on function sqlkit._stage_target(regclass) is
'The target that a stage was made for. Raises: SK208 if it is not a stage.';
