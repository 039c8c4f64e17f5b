-- Swap: a new table is built beside the target, like it in everything, and takes its place in a moment. The new
-- table lies in sqlkit_stage, on the list of stages: what dies before the exchange is dropped as a stage is.

create or replace function sqlkit._dependants(p_target regclass)
returns table (class_id oid, object_id oid, description text, is_kept boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $dependants$
    -- What belongs to a table is made anew with it. Views, and functions whose bodies were parsed, are told of the
    -- new table under the old name. All else would go with the old table, or keep it from going.
    with row_type as (
        select c.reltype as oid from pg_class as c where c.oid = p_target
        union all
        select y.typarray from pg_class as c join pg_type as y on y.oid = c.reltype where c.oid = p_target
    ),

    sequence as (
        select d.objid as oid
        from pg_depend as d
        where
            d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
            and d.refobjid = p_target and d.refobjsubid > 0 and d.deptype in ('a', 'i')
    ),

    found as (
        select d.classid, d.objid, bool_or(d.refclassid = 'pg_type'::regclass) as by_type
        from pg_depend as d
        where
            (d.refclassid = 'pg_class'::regclass and d.refobjid = p_target)
            or (d.refclassid = 'pg_type'::regclass and d.refobjid in (select r.oid from row_type as r))
            -- Who names a key's index or constraint, as an upsert or GROUP BY does.
            or (
                d.refclassid = 'pg_class'::regclass
                and d.refobjid in (select i.indexrelid from pg_index as i where i.indrelid = p_target)
            )
            or (
                d.refclassid = 'pg_constraint'::regclass
                and d.refobjid in (select k.oid from pg_constraint as k where k.conrelid = p_target)
            )
            or (d.refclassid = 'pg_class'::regclass and d.refobjid in (select s.oid from sequence as s))
        group by d.classid, d.objid
    ),

    outer_ones as (
        select
            f.classid,
            f.objid,
            f.by_type,
            w.ev_class as view_id
        from found as f
        left join pg_rewrite as w on f.classid = 'pg_rewrite'::regclass and w.oid = f.objid
        left join pg_class as v on v.oid = w.ev_class
        where not (
            (f.classid = 'pg_class'::regclass and exists (
                select from pg_class as c
                left join pg_index as i on i.indexrelid = c.oid
                where
                    c.oid = f.objid
                    and (
                        i.indrelid = p_target
                        or c.oid in (select s.oid from sequence as s)
                        or c.oid = (select t.reltoastrelid from pg_class as t where t.oid = p_target)
                    )
            ))
            or (f.classid = 'pg_type'::regclass and f.objid in (select r.oid from row_type as r))
            or (f.classid = 'pg_attrdef'::regclass and exists (
                -- A copy draws from the same sequence.
                select from pg_attrdef as a
                join pg_class as c on c.oid = a.adrelid
                where
                    a.oid = f.objid
                    and (c.oid = p_target or c.relnamespace = 'sqlkit_stage'::regnamespace)
            ))
            or (f.classid = 'pg_constraint'::regclass and exists (
                select from pg_constraint as k
                where k.oid = f.objid and k.conrelid = p_target
                    and (k.contype <> 'f' or k.confrelid <> p_target)
            ))
            or (f.classid = 'pg_trigger'::regclass and exists (
                select from pg_trigger as t
                where t.oid = f.objid and (t.tgrelid = p_target or t.tgisinternal)
            ))
            or (f.classid = 'pg_policy'::regclass and exists (
                select from pg_policy as y where y.oid = f.objid and y.polrelid = p_target
            ))
            or (f.classid = 'pg_statistic_ext'::regclass and exists (
                select from pg_statistic_ext as e where e.oid = f.objid and e.stxrelid = p_target
            ))
            or f.classid = 'pg_publication_rel'::regclass
            or (f.classid = 'pg_rewrite'::regclass and w.ev_class = p_target)
        )
    )

    select
        case when v.relkind = 'v' then 'pg_class'::regclass::oid else o.classid end,
        case when v.relkind = 'v' then v.oid else o.objid end,
        case
            when v.relkind = 'v' then 'view ' || sqlkit._table_name(v.oid::regclass)
            else pg_describe_object(o.classid, o.objid, 0)
        end,
        coalesce(
            (v.relkind = 'v' and pg_has_role(v.relowner, 'usage') and w.rulename = '_RETURN')
            or (
                p.prosqlbody is not null and pg_has_role(p.proowner, 'usage')
                and not exists (
                    select from row_type as r
                    where
                        r.oid = p.prorettype
                        or r.oid = any(p.proargtypes::oid[])
                        or r.oid = any(p.proallargtypes)
                )
            ),
            false
        )
    from outer_ones as o
    left join pg_rewrite as w on o.classid = 'pg_rewrite'::regclass and w.oid = o.objid
    left join pg_class as v on v.oid = w.ev_class
    left join pg_proc as p on o.classid = 'pg_proc'::regclass and p.oid = o.objid
    order by 3
$dependants$;

comment on function sqlkit._dependants(regclass) is
'What depends on a table without belonging to it, and whether it can be told of another table of the same name.';


create or replace function sqlkit._swap_obstacles(p_target regclass)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $swap_obstacles$
declare
    v_class pg_class;
begin
    select c.*
    into v_class
    from pg_class as c
    where c.oid = p_target;
    return array_remove(
        array[
            case
                when v_class.relkind <> 'r' then 'it is partitioned or foreign'
                when v_class.relispartition then 'it is a partition'
                when exists (
                    select from pg_inherits as i where p_target in (i.inhrelid, i.inhparent)
                ) then 'it inherits, or is inherited from'
                when v_class.reloftype <> 0 then 'it is a table of a composite type'
                when v_class.relpersistence = 't' then 'it is temporary'
            end,
            case when to_regclass('pg_catalog.pg_dist_partition') is not null then 'Citus may distribute it' end,
            case when not pg_has_role(v_class.relowner, 'usage') then 'another role owns it' end,
            case
                when not has_schema_privilege(v_class.relnamespace, 'create')
                    then 'you may not create tables in its schema'
            end,
            case
                when exists (
                    select from pg_publication as p where p.puballtables
                    union all
                    select from pg_publication_namespace as p where p.pnnspid = 'sqlkit_stage'::regnamespace
                ) then 'a publication of all tables would send the new table under another name'
            end,
            case
                when exists (select from pg_subscription_rel as s where s.srrelid = p_target)
                    then 'a subscription writes it'
            end,
            case
                when exists (
                    select from pg_seclabel as l
                    where l.classoid = 'pg_class'::regclass and l.objoid = p_target
                ) then 'it has security labels'
            end,
            case
                when exists (
                    select from pg_depend as d
                    where
                        d.classid = 'pg_class'::regclass and d.objid = p_target and d.deptype in ('e', 'x')
                ) then 'it belongs to an extension'
            end
        ],
        null
    ) || array(
        select d.description || ' depends on it'
        from sqlkit._dependants(p_target) as d
        where not d.is_kept
    );
end;
$swap_obstacles$;

comment on function sqlkit._swap_obstacles(regclass) is
'Why a new table cannot take the place of a table; none if it can.';


create or replace function sqlkit._privileges(p_acl aclitem[], p_kind text, p_owner oid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $privileges$
    select
        coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'grantee', case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                    'privilege', a.privilege_type,
                    'option', a.is_grantable
                )
                order by a.grantee, a.privilege_type
            ),
            '[]'
        )
    from aclexplode(coalesce(p_acl, acldefault(p_kind::"char", p_owner))) as a
$privileges$;

comment on function sqlkit._privileges(aclitem[], text, oid) is
'Who may do what with an object of a kind (as acldefault() calls it), whoever granted it.';


create or replace function sqlkit._signature(p_target regclass)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $signature$
    select jsonb_build_object(
        'table', jsonb_build_object(
            'kind', c.relkind, 'persistence', c.relpersistence, 'owner', c.relowner::regrole,
            'access method', m.amname, 'tablespace', c.reltablespace, 'options', c.reloptions,
            'toast options', t.reloptions, 'row security', c.relrowsecurity, 'forced', c.relforcerowsecurity,
            'replica identity', c.relreplident, 'comment', obj_description(c.oid, 'pg_class'),
            'privileges', sqlkit._privileges(c.relacl, 'r', c.relowner)
        ),
        'columns', (
            select jsonb_agg(
                jsonb_build_object(
                    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'collation', a.attcollation,
                    'not null', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated,
                    'default', pg_get_expr(d.adbin, d.adrelid), 'storage', a.attstorage,
                    'compression', a.attcompression, 'statistics', nullif(to_jsonb(a) ->> 'attstattarget', '-1'),
                    'options', a.attoptions, 'comment', col_description(c.oid, a.attnum),
                    'privileges', sqlkit._privileges(a.attacl, 'c', c.relowner)
                )
                order by a.attnum
            )
            from pg_attribute as a
            left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        'constraints', (
            select jsonb_object_agg(
                k.conname,
                jsonb_build_array(
                    k.contype, pg_get_constraintdef(k.oid), k.convalidated,
                    obj_description(k.oid, 'pg_constraint')
                )
            )
            from pg_constraint as k
            where k.conrelid = c.oid and k.contype <> 't'
        ),
        'indexes', (
            select jsonb_object_agg(
                x.relname,
                jsonb_build_array(
                    pg_get_indexdef(x.oid), x.reltablespace, i.indisclustered, i.indisreplident, i.indimmediate,
                    obj_description(x.oid, 'pg_class'),
                    (
                        select jsonb_agg(nullif(to_jsonb(a) ->> 'attstattarget', '-1') order by a.attnum)
                        from pg_attribute as a
                        where a.attrelid = x.oid
                    )
                )
            )
            from pg_index as i
            join pg_class as x on x.oid = i.indexrelid
            where i.indrelid = c.oid
        ),
        'triggers', (
            select jsonb_object_agg(
                g.tgname,
                jsonb_build_array(pg_get_triggerdef(g.oid), g.tgenabled, obj_description(g.oid, 'pg_trigger'))
            )
            from pg_trigger as g
            where g.tgrelid = c.oid and not g.tgisinternal
        ),
        'rules', (
            select jsonb_object_agg(
                w.rulename,
                jsonb_build_array(pg_get_ruledef(w.oid), w.ev_enabled, obj_description(w.oid, 'pg_rewrite'))
            )
            from pg_rewrite as w
            where w.ev_class = c.oid
        ),
        'policies', (
            select jsonb_object_agg(
                p.polname,
                jsonb_build_array(
                    p.polcmd, p.polpermissive, p.polroles, pg_get_expr(p.polqual, p.polrelid),
                    pg_get_expr(p.polwithcheck, p.polrelid), obj_description(p.oid, 'pg_policy')
                )
            )
            from pg_policy as p
            where p.polrelid = c.oid
        ),
        'statistics', (
            select jsonb_object_agg(
                format('%I.%I', n.nspname, e.stxname),
                jsonb_build_array(
                    pg_get_statisticsobjdef_columns(e.oid), e.stxkind, e.stxowner::regrole,
                    nullif(to_jsonb(e) ->> 'stxstattarget', '-1'), obj_description(e.oid, 'pg_statistic_ext')
                )
            )
            from pg_statistic_ext as e
            join pg_namespace as n on n.oid = e.stxnamespace
            where e.stxrelid = c.oid
        ),
        'publications', (
            select jsonb_object_agg(
                p.pubname,
                jsonb_build_array(
                    (
                        select jsonb_agg(a.attname order by a.attname)
                        from pg_attribute as a
                        where a.attrelid = c.oid and a.attnum = any(r.prattrs::smallint[])
                    ),
                    pg_get_expr(r.prqual, r.prrelid)
                )
            )
            from pg_publication_rel as r
            join pg_publication as p on p.oid = r.prpubid
            where r.prrelid = c.oid
        ),
        'sequences', (
            select jsonb_object_agg(
                format('%I.%I', n.nspname, s.relname),
                jsonb_build_array(
                    a.attname, q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmax, q.seqmin, q.seqcache,
                    q.seqcycle, s.relpersistence, obj_description(s.oid, 'pg_class'),
                    sqlkit._privileges(s.relacl, 's', s.relowner), s.relowner::regrole
                )
            )
            from pg_depend as d
            join pg_class as s on s.oid = d.objid and s.relkind = 'S'
            join pg_namespace as n on n.oid = s.relnamespace
            join pg_sequence as q on q.seqrelid = s.oid
            join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            where
                d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
                and d.refobjid = c.oid and d.deptype in ('a', 'i')
        )
    )
    from pg_class as c
    left join pg_am as m on m.oid = c.relam
    left join pg_class as t on t.oid = c.reltoastrelid
    where c.oid = p_target
$signature$;

comment on function sqlkit._signature(regclass) is
'Everything that a table is, but its rows and the numbers of its objects.';


create or replace function sqlkit._grants(
    p_relation text,
    p_acl aclitem[],
    p_kind text,
    p_owner oid,
    p_present aclitem[]
)
returns text[]
language sql
stable
return (
    -- Nothing said, on both sides: nothing to say.
    select case
        when p_acl is null and p_present is null then '{}'
        else array(
            select format('revoke all on %s from %s', p_relation, g.grantee)
            from (
                select distinct p ->> 'grantee' as grantee
                from jsonb_array_elements(sqlkit._privileges(p_present, p_kind, p_owner)) as p
            ) as g
        )
        || array(
            select format(
                'grant %s on %s to %s%s',
                p ->> 'privilege',
                p_relation,
                p ->> 'grantee',
                case when (p ->> 'option')::boolean then ' with grant option' else '' end
            )
            from jsonb_array_elements(sqlkit._privileges(p_acl, p_kind, p_owner)) as p
        )
    end
);

comment on function sqlkit._grants(text, aclitem[], text, oid, aclitem[]) is
'Statements that give an object the privileges of another, and take away those that it was made with.';


create or replace function sqlkit._copied_indexes(p_target regclass, p_copy regclass)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $copied_indexes$
    -- Names of indexes are unique in a schema: until the exchange they have others.
    select coalesce(
        jsonb_agg(
            i.saved
            || jsonb_build_object(
                'name', i.new_name,
                'constraint', case when not i.is_special then i.new_constraint end,
                'definition', case
                    when i.is_special
                        then format(
                            'alter table %s add constraint %I %s', sqlkit._table_name(p_copy), i.new_name,
                            pg_get_constraintdef(i.constraint_id)
                        )
                    else format('create %sindex %I on %s', i.is_unique, i.new_name, sqlkit._table_name(p_copy))
                        || substr(i.saved ->> 'definition', i.head_length + 1)
                end
            )
            order by i.position
        ),
        '[]'
    )
    from (
        select
            s.saved,
            s.position,
            o.oid as constraint_id,
            format('sqlkit_%s_%s', p_copy::oid, x.indexrelid) as new_name,
            case when o.oid is not null then format('sqlkit_%s_%s', p_copy::oid, x.indexrelid) end as new_constraint,
            -- Constraints that no index alone makes.
            coalesce(o.contype = 'x' or (to_jsonb(o) ->> 'conperiod')::boolean, false) as is_special,
            case when x.indisunique then 'unique ' else '' end as is_unique,
            length(format(
                'create %sindex %I on %s',
                case when x.indisunique then 'unique ' else '' end,
                s.saved ->> 'name',
                sqlkit._table_name(p_target)
            )) as head_length
        from jsonb_array_elements(sqlkit._saved_indexes(p_target)) with ordinality as s (saved, position)
        join pg_class as c
            on
                c.relname = s.saved ->> 'name'
                and c.relnamespace = (select t.relnamespace from pg_class as t where t.oid = p_target)
        join pg_index as x on x.indexrelid = c.oid
        left join pg_constraint as o on o.conindid = x.indexrelid and o.conrelid = p_target
    ) as i
$copied_indexes$;

comment on function sqlkit._copied_indexes(regclass, regclass) is
'The indexes of a table, to be built on a copy of it, as finish_first_load() takes them.';


create or replace function sqlkit._create_copy(p_target regclass, p_run_id bigint)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $create_copy$
declare
    v_stage_id bigint := nextval(pg_get_serial_sequence('sqlkit.stage', 'stage_id'));
    v_name name := 'swap_' || v_stage_id;
    v_statement text;
begin
    perform sqlkit._refuse_strategy(p_target, 'swap', sqlkit._swap_obstacles(p_target));
    insert into sqlkit.stage (stage_id, name, target, run_id)
    overriding system value
    values (v_stage_id, v_name, sqlkit._table_name(p_target), p_run_id);
    select format(
        'create %stable sqlkit_stage.%I (like %s including all excluding indexes excluding statistics) using %I%s%s',
        case c.relpersistence when 'u' then 'unlogged ' else '' end,
        v_name,
        sqlkit._table_name(p_target),
        m.amname,
        (
            select ' with (' || string_agg(
                format('%s%I = %L', o.prefix, split_part(o.option, '=', 1), substr(o.option, strpos(o.option, '=') + 1)),
                ', '
            ) || ')'
            from (
                select
                    '' as prefix,
                    u as option
                from unnest(c.reloptions) as u
                union all
                select
                    'toast.',
                    u
                from unnest(t.reloptions) as u
            ) as o
        ),
        ' tablespace ' || quote_ident(s.spcname)
    )
    into v_statement
    from pg_class as c
    join pg_am as m on m.oid = c.relam
    left join pg_class as t on t.oid = c.reltoastrelid
    left join pg_tablespace as s on s.oid = c.reltablespace
    where c.oid = p_target;
    execute v_statement;
    return format('sqlkit_stage.%I', v_name)::regclass;
end;
$create_copy$;

comment on function sqlkit._create_copy(regclass, bigint) is
'Makes an empty table with the columns and checks of a target, as a stage of a run.
Writes: sqlkit.stage. Raises: SK210 if no other table can take the target''s place.';


create or replace function sqlkit._fill_copy(
    p_copy regclass,
    p_stage regclass,
    p_target regclass,
    p_key name[],
    p_delete_share double precision,
    p_delete_limit bigint
)
returns sqlkit.refresh_result
language plpgsql
set search_path = pg_catalog, pg_temp
set synchronize_seqscans = off
as $fill_copy$
declare
    v_key name[] := sqlkit._key_or_none(p_target, p_key);
    v_columns name[] := sqlkit._staged_columns(p_stage, p_target);
    v_read bigint := sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_stage)));
    v_before bigint := sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_target)));
    v_counts sqlkit.row_counts;
    r_statement record;
begin
    perform sqlkit._refuse_deletion(
        p_target, greatest(0, v_before - v_read), v_before, p_delete_share, p_delete_limit
    );
    perform sqlkit._write(format(
        'insert into %s (%s) overriding system value select %s from only %s as s',
        sqlkit._table_name(p_copy),
        sqlkit._column_list(v_columns, '%I'),
        sqlkit._column_list(v_columns, 's.%I'),
        sqlkit._table_name(p_stage)
    ));
    v_counts := sqlkit.finish_first_load(
        p_copy, sqlkit._copied_indexes(p_target, p_copy), v_read,
        case when v_key is null then 'append' else 'update' end, v_key
    );
    -- What needs the rows, or belongs to the analysis of them.
    for r_statement in
        select format(
            'alter table %s add constraint %I %s', sqlkit._table_name(p_copy), k.conname, pg_get_constraintdef(k.oid)
        ) as statement
        from pg_constraint as k
        where k.conrelid = p_target and k.contype = 'f'
        union all
        -- A copied check holds for all rows, whatever was said of the old ones.
        select format(
            'alter table %1$s drop constraint %2$I, add constraint %2$I %3$s', sqlkit._table_name(p_copy), k.conname,
            pg_get_constraintdef(k.oid)
        )
        from pg_constraint as k
        where k.conrelid = p_target and k.contype in ('c', 'n') and not k.convalidated
        union all
        select format(
            'alter table %s alter column %I set statistics %s', sqlkit._table_name(p_copy), a.attname,
            to_jsonb(a) ->> 'attstattarget'
        )
        from pg_attribute as a
        where
            a.attrelid = p_target and a.attnum > 0 and not a.attisdropped
            and (to_jsonb(a) ->> 'attstattarget')::integer >= 0
        union all
        select format(
            'alter table %s alter column %I set (%s)', sqlkit._table_name(p_copy), a.attname,
            (
                select string_agg(format('%I = %L', split_part(o, '=', 1), split_part(o, '=', 2)), ', ')
                from unnest(a.attoptions) as o
            )
        )
        from pg_attribute as a
        where a.attrelid = p_target and a.attnum > 0 and not a.attisdropped and a.attoptions is not null
        union all
        select format(
            'alter index sqlkit_stage.%I alter column %s set statistics %s',
            format('sqlkit_%s_%s', p_copy::oid, i.indexrelid), a.attnum, to_jsonb(a) ->> 'attstattarget'
        )
        from pg_index as i
        join pg_attribute as a on a.attrelid = i.indexrelid
        where i.indrelid = p_target and (to_jsonb(a) ->> 'attstattarget')::integer >= 0
        union all
        select format(
            'create statistics sqlkit_stage.%I%s on %s from %s',
            format('sqlkit_%s_%s', p_copy::oid, e.oid),
            ' (' || (
                select string_agg(
                    case k when 'd' then 'ndistinct' when 'f' then 'dependencies' when 'm' then 'mcv' end, ', '
                )
                from unnest(e.stxkind) as k
                where k <> 'e'
            ) || ')',
            pg_get_statisticsobjdef_columns(e.oid),
            sqlkit._table_name(p_copy)
        )
        from pg_statistic_ext as e
        where e.stxrelid = p_target
        union all
        select format(
            'alter statistics sqlkit_stage.%I set statistics %s', format('sqlkit_%s_%s', p_copy::oid, e.oid),
            to_jsonb(e) ->> 'stxstattarget'
        )
        from pg_statistic_ext as e
        where e.stxrelid = p_target and (to_jsonb(e) ->> 'stxstattarget')::integer >= 0
    loop
        execute r_statement.statement;
    end loop;
    execute format('analyze %s', sqlkit._table_name(p_copy));
    return (
        'swap'::text, v_counts.rows_read, v_counts.rows_inserted, 0::bigint, 0::bigint, 0::bigint,
        v_counts.rows_duplicate, v_before
    );
end;
$fill_copy$;

comment on function sqlkit._fill_copy(regclass, regclass, regclass, name[], double precision, bigint) is
'Gives a copy of a target the rows of a stage, then indexes and foreign keys as the target has them; what would come
of it. Writes: the copy. Locks: SHARE ROW EXCLUSIVE on tables that the target refers to, until commit.
Raises: SK304 if the target would lose more rows than may go, and what its constraints raise.';


create or replace function sqlkit._exchange_statements(p_target regclass, p_copy regclass)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $exchange_statements$
declare
    v_target text := sqlkit._table_name(p_target);
    v_old text;
    v_class pg_class;
    v_copy pg_class;
    v_schema name;
begin
    select c.*
    into v_class
    from pg_class as c
    where c.oid = p_target;
    select c.*
    into v_copy
    from pg_class as c
    where c.oid = p_copy;
    select n.nspname
    into v_schema
    from pg_namespace as n
    where n.oid = v_class.relnamespace;
    v_old := format('%I.%I', v_schema, 'sqlkit_old_' || p_target::oid);
    return array(
        -- Readers of a view lock it before the table: so do we.
        select format('alter view %s owner to %I', sqlkit._table_name(v.oid::regclass), pg_get_userbyid(v.relowner))
        from sqlkit._dependants(p_target) as d
        join pg_class as v on v.oid = d.object_id and d.class_id = 'pg_class'::regclass
    )
    || format('lock table only %s in access exclusive mode', v_target)
    || format('alter table %s rename to %I', v_target, 'sqlkit_old_' || p_target::oid)
    || format('alter table %s set schema %I', sqlkit._table_name(p_copy), v_schema)
    || format('alter table %I.%I rename to %I', v_schema, v_copy.relname, v_class.relname)
    || case
        when v_class.relowner <> v_copy.relowner
            then array[format('alter table %s owner to %I', v_target, pg_get_userbyid(v_class.relowner))]
    end
    -- Sequences: that of an identity column is a new one, and goes on where the old one stands.
    || array(
        select case
            when d.deptype = 'a' then format('alter sequence %s owned by %s.%I', sqlkit._table_name(s.oid::regclass), v_target, a.attname)
            else format(
                'select setval(pg_get_serial_sequence(%L, %L), s.last_value, s.is_called) from %s as s',
                v_target, a.attname, sqlkit._table_name(s.oid::regclass)
            )
        end
        from pg_depend as d
        join pg_class as s on s.oid = d.objid and s.relkind = 'S'
        join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        where
            d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
            and d.refobjid = p_target and d.deptype in ('a', 'i')
    )
    || array(
        select case
            when d.class_id = 'pg_class'::regclass then format(
                'create or replace view %s%s as %s',
                sqlkit._table_name(v.oid::regclass),
                ' with (' || array_to_string(v.reloptions, ', ') || ')',
                pg_get_viewdef(v.oid)
            )
            else pg_get_functiondef(d.object_id)
        end
        from sqlkit._dependants(p_target) as d
        left join pg_class as v on v.oid = d.object_id and d.class_id = 'pg_class'::regclass
    )
    || format('drop table %s', v_old)
    -- Names that are free only now.
    || array(
        select case
            when k.oid is null then format('alter index %I.%I rename to %I', v_schema, n.new_name, x.relname)
            else format('alter table %s rename constraint %I to %I', v_target, n.new_name, k.conname)
        end
        from pg_index as i
        join pg_class as x on x.oid = i.indexrelid
        left join pg_constraint as k on k.conindid = i.indexrelid and k.conrelid = p_target
        cross join lateral format('sqlkit_%s_%s', p_copy::oid, i.indexrelid) as n (new_name)
        where i.indrelid = p_target
    )
    || array(
        select u.statement
        from pg_statistic_ext as e
        join pg_namespace as n on n.oid = e.stxnamespace
        cross join lateral format('sqlkit_%s_%s', p_copy::oid, e.oid) as m (new_name)
        cross join lateral unnest(array[
            case when e.stxnamespace <> 'sqlkit_stage'::regnamespace then format('alter statistics sqlkit_stage.%I set schema %I', m.new_name, n.nspname) end,
            format('alter statistics %I.%I rename to %I', n.nspname, m.new_name, e.stxname),
            case when e.stxowner <> v_copy.relowner then format('alter statistics %I.%I owner to %I', n.nspname, e.stxname, pg_get_userbyid(e.stxowner)) end,
            format('comment on statistics %I.%I is %L', n.nspname, e.stxname, obj_description(e.oid, 'pg_statistic_ext'))
        ]) as u (statement)
        where e.stxrelid = p_target and u.statement is not null
    )
    || array(
        select u.statement
        from pg_depend as d
        join pg_class as s on s.oid = d.objid and s.relkind = 'S'
        join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        join pg_attribute as b on b.attrelid = p_copy and b.attname = a.attname
        join pg_depend as e
            on
                e.classid = 'pg_class'::regclass and e.refclassid = 'pg_class'::regclass
                and e.refobjid = p_copy and e.refobjsubid = b.attnum and e.deptype = 'i'
        join pg_class as w on w.oid = e.objid and w.relkind = 'S'
        join pg_sequence as q on q.seqrelid = s.oid
        cross join lateral unnest(
            array[
                -- LIKE forgets of which type it was.
                format(
                    'alter sequence %I.%I as %s minvalue %s maxvalue %s',
                    v_schema, w.relname, q.seqtypid::regtype, q.seqmin, q.seqmax
                ),
                format('alter sequence %I.%I rename to %I', v_schema, w.relname, s.relname),
                format('comment on sequence %I.%I is %L', v_schema, s.relname, obj_description(s.oid, 'pg_class'))
            ]
            || sqlkit._grants(format('sequence %I.%I', v_schema, s.relname), s.relacl, 's', s.relowner, w.relacl)
        ) with ordinality as u (statement, position)
        where
            d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
            and d.refobjid = p_target and d.deptype = 'i'
        order by s.oid, u.position
    )
    -- What names the table.
    || array(
        select u.statement
        from pg_trigger as t
        cross join lateral unnest(array[
            pg_get_triggerdef(t.oid),
            format('comment on trigger %I on %s is %L', t.tgname, v_target, obj_description(t.oid, 'pg_trigger')),
            case t.tgenabled
                when 'D' then format('alter table %s disable trigger %I', v_target, t.tgname)
                when 'R' then format('alter table %s enable replica trigger %I', v_target, t.tgname)
                when 'A' then format('alter table %s enable always trigger %I', v_target, t.tgname)
            end
        ]) with ordinality as u (statement, position)
        where t.tgrelid = p_target and not t.tgisinternal and u.statement is not null
        order by t.oid, u.position
    )
    || array(
        select u.statement
        from pg_rewrite as w
        cross join lateral unnest(array[
            pg_get_ruledef(w.oid),
            format('comment on rule %I on %s is %L', w.rulename, v_target, obj_description(w.oid, 'pg_rewrite')),
            case w.ev_enabled
                when 'D' then format('alter table %s disable rule %I', v_target, w.rulename)
                when 'R' then format('alter table %s enable replica rule %I', v_target, w.rulename)
                when 'A' then format('alter table %s enable always rule %I', v_target, w.rulename)
            end
        ]) with ordinality as u (statement, position)
        where w.ev_class = p_target and u.statement is not null
        order by w.oid, u.position
    )
    || array(
        select u.statement
        from pg_policy as p
        cross join lateral unnest(array[
            format(
                'create policy %I on %s as %s for %s to %s%s%s',
                p.polname,
                v_target,
                case when p.polpermissive then 'permissive' else 'restrictive' end,
                case p.polcmd
                    when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete'
                    else 'all'
                end,
                (
                    select string_agg(case r when 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ')
                    from unnest(p.polroles) as r
                ),
                ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'
            ),
            format('comment on policy %I on %s is %L', p.polname, v_target, obj_description(p.oid, 'pg_policy'))
        ]) with ordinality as u (statement, position)
        where p.polrelid = p_target
        order by p.oid, u.position
    )
    || case when v_class.relrowsecurity then array[format('alter table %s enable row level security', v_target)] end
    || case when v_class.relforcerowsecurity then array[format('alter table %s force row level security', v_target)] end
    || case v_class.relreplident
        when 'f' then array[format('alter table %s replica identity full', v_target)]
        when 'n' then array[format('alter table %s replica identity nothing', v_target)]
    end
    || array(
        select format(
            'alter publication %I add table only %s%s%s',
            b.pubname,
            v_target,
            ' (' || (
                select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
                from pg_attribute as a
                where a.attrelid = p_target and a.attnum = any(r.prattrs::smallint[])
            ) || ')',
            ' where (' || pg_get_expr(r.prqual, r.prrelid) || ')'
        )
        from pg_publication_rel as r
        join pg_publication as b on b.oid = r.prpubid
        where r.prrelid = p_target
    )
    || sqlkit._grants(v_target, v_class.relacl, 'r', v_class.relowner, v_copy.relacl)
    || array(
        select format(
            'grant %s (%I) on %s to %s%s',
            g ->> 'privilege', a.attname, v_target, g ->> 'grantee',
            case when (g ->> 'option')::boolean then ' with grant option' else '' end
        )
        from pg_attribute as a
        cross join jsonb_array_elements(sqlkit._privileges(a.attacl, 'c', v_class.relowner)) as g
        where a.attrelid = p_target and a.attnum > 0 and not a.attisdropped and a.attacl is not null
    )
    || format('comment on table %s is %L', v_target, obj_description(p_target, 'pg_class'))
    || array(
        select format(
            'comment on constraint %I on %s is %L', k.conname, v_target, obj_description(k.oid, 'pg_constraint')
        )
        from pg_constraint as k
        where k.conrelid = p_target and k.contype <> 't' and obj_description(k.oid, 'pg_constraint') is not null
    );
end;
$exchange_statements$;

comment on function sqlkit._exchange_statements(regclass, regclass) is
'The statements, in order, that put a copy of a table in its place and make the two alike.';


create or replace function sqlkit._exchange(p_target regclass, p_copy regclass, p_patience interval default '1 minute')
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $exchange$
declare
    v_target text := sqlkit._table_name(p_target);
    v_name name := (select c.relname from pg_class as c where c.oid = p_copy);
    v_until timestamptz := clock_timestamp() + p_patience;
    v_statements text[];
    v_before jsonb;
    v_after jsonb;
    v_statement text;
begin
    -- Nobody changes what the table is from here on; reading and writing go on.
    execute format('lock table only %s in share update exclusive mode', v_target);
    perform sqlkit._refuse_strategy(p_target, 'swap', sqlkit._swap_obstacles(p_target));
    v_before := sqlkit._signature(p_target);
    v_statements := sqlkit._exchange_statements(p_target, p_copy);
    -- Who waits for the lock holds up all who come later: for so long, and no longer, at a time.
    perform set_config('lock_timeout', '20ms', true);
    loop
        begin
            foreach v_statement in array v_statements
            loop
                execute v_statement;
            end loop;
            exit;
        exception
            when lock_not_available or deadlock_detected then
                if clock_timestamp() > v_until then
                    raise;
                end if;
        end;
        perform pg_sleep(0.1 + random() / 2);
    end loop;
    v_after := sqlkit._signature(v_target::regclass);
    if v_after is distinct from v_before then
        raise exception using
            errcode = 'SK211',
            message = 'the new table does not equal the old one',
            detail = (
                select string_agg(format('%s: %s, but %s', b.key, b.value, a.value), E'\n')
                from jsonb_each(v_before) as b
                join jsonb_each(v_after) as a on a.key = b.key and a.value is distinct from b.value
            ),
            hint = 'Strategies truncate and mirror keep the table that is there.';
    end if;
    delete from sqlkit.stage where name = v_name;
    return v_target::regclass;
end;
$exchange$;

comment on function sqlkit._exchange(regclass, regclass, interval) is
'Puts a copy of a table in its place: all at once, under a lock for which it waits 20 ms a try, with rests between.
The old table is dropped. Writes: sqlkit.stage. Locks: ACCESS EXCLUSIVE on the table and on views of it until commit.
Raises: 55P03 if the lock is not to be had within p_patience, SK210 if something depends on the table that cannot be
kept, SK211 if the new table is not like the old one; then nothing is changed.';


create or replace function sqlkit._await_snapshots(p_copy regclass, p_patience interval default '5 minutes')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $await_snapshots$
declare
    v_until timestamptz := clock_timestamp() + p_patience;
    v_pids integer[];
begin
    -- Whoever took his snapshot before the copy was committed would find it empty.
    loop
        perform pg_stat_clear_snapshot();
        select array_agg(a.pid order by a.pid)
        into v_pids
        from pg_stat_activity as a
        cross join pg_class as c
        where
            c.oid = p_copy
            and a.datname = current_database()
            and a.backend_type in ('client backend', 'parallel worker')
            and a.pid <> pg_backend_pid()
            and age(a.backend_xmin) >= age(c.xmin);
        exit when v_pids is null;
        if clock_timestamp() > v_until then
            raise exception using
                errcode = '55P03',
                message = 'transactions that began before the new table was built go on',
                detail = format('Server processes: %s.', array_to_string(v_pids, ', ')),
                hint = 'Refresh again when they have ended: select * from pg_stat_activity;';
        end if;
        perform pg_sleep(0.1);
    end loop;
end;
$await_snapshots$;

comment on function sqlkit._await_snapshots(regclass, interval) is
'Waits until nobody reads with a snapshot that is older than a copy, as far as the caller may see that: a role that
may read all statistics sees everybody. Raises: 55P03 if that is not so within p_patience.';
