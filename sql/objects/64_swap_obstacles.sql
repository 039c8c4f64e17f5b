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
        -- Of another kind of table that it is one says enough, and its partitions hang on it.
        where not d.is_kept and v_class.relkind = 'r'
    );
end;
$swap_obstacles$;

comment on function sqlkit._swap_obstacles(regclass) is
'Why a new table cannot take the place of a table; none if it can.';
