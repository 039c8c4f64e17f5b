-- Sequences: how much is left of each, by what it gives and by what the columns hold that it fills.

create or replace function sqlkit._sequence_ends()
returns table (
    sequence text,
    columns text,
    last_value bigint,
    last_possible bigint,
    used_share double precision,
    statement text
)
language plpgsql
stable
rows 100
set search_path = pg_catalog, pg_temp
as $sequence_ends$
begin
    return query
    with consumer (sequence_oid, table_oid, attnum) as (
        select d.objid, d.refobjid, d.refobjsubid
        from pg_depend as d
        where
            d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
            and d.deptype in ('a', 'i') and d.refobjsubid > 0
        union
        -- A default may call a sequence that its column does not own.
        select d.refobjid, k.adrelid, k.adnum
        from pg_depend as d
        join pg_attrdef as k on k.oid = d.objid
        where
            d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass
            and d.deptype = 'n' and d.refobjsubid = 0
    ),

    used_by as (
        select
            u.sequence_oid,
            string_agg(format('%s.%I', t.name, a.attname), ', ' order by u.table_oid, u.attnum) as columns,
            -- A domain writes as the type does that it is made of.
            min(
                case y.typoutput when 'int2out'::regproc then 32767 when 'int4out'::regproc then 2147483647 end
            )::bigint as greatest_held,
            string_agg(
                format('alter table %s alter column %I type bigint', t.name, a.attname),
                '; ' order by u.table_oid, u.attnum
            ) filter (where y.typoutput in ('int2out'::regproc, 'int4out'::regproc)) as widening,
            -- What tells partitions apart keeps its type.
            bool_or(
                exists (
                    select
                    from pg_partitioned_table as p
                    where p.partrelid = u.table_oid and u.attnum = any(p.partattrs)
                )
            ) as is_fixed
        from consumer as u
        join pg_attribute as a on a.attrelid = u.table_oid and a.attnum = u.attnum
        join pg_type as y on y.oid = a.atttypid
        cross join lateral sqlkit._table_name(u.table_oid) as t (name)
        group by u.sequence_oid
    ),

    standing as (
        select
            s.*,
            u.columns,
            u.widening,
            coalesce(u.is_fixed, false) as is_fixed,
            sqlkit._table_name(s.seqrelid) as name,
            s.seqincrement > 0 as is_rising,
            case
                when s.seqincrement > 0 then least(s.seqmax, u.greatest_held)
                else greatest(s.seqmin, -u.greatest_held - 1)
            end as last_possible,
            case
                when
                    has_sequence_privilege(s.seqrelid, 'select, usage')
                    and not pg_is_other_temp_schema(c.relnamespace)
                    -- To look at it is to wait for whoever alters it.
                    and not exists (
                        select
                        from pg_locks as l
                        where
                            l.relation = s.seqrelid
                            and l.mode in ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                            and l.granted
                            and l.pid <> pg_backend_pid()
                            and l.database = (
                                select d.oid from pg_database as d where d.datname = current_database()
                            )
                    )
                    then pg_sequence_last_value(s.seqrelid)
            end as last_value
        from pg_sequence as s
        join pg_class as c on c.oid = s.seqrelid
        left join used_by as u on u.sequence_oid = s.seqrelid
    )

    select
        s.name,
        s.columns,
        s.last_value,
        s.last_possible,
        (
            case
                when s.is_rising then (s.last_value::numeric - s.seqmin) / (s.last_possible::numeric - s.seqmin)
                else (s.seqmax - s.last_value::numeric) / (s.seqmax - s.last_possible::numeric)
            end
        )::double precision,
        case
            when s.is_fixed or s.last_possible in (9223372036854775807, -9223372036854775808)
                -- Nothing holds more: but as many numbers lie on the other side of 0.
                then format(
                    'alter sequence %s %s %s restart with %s', s.name,
                    case when s.is_rising then 'minvalue' else 'maxvalue' end, e.other_end, e.other_end
                )
            else concat_ws('; ', s.widening, format(
                'alter sequence %s as bigint no %s', s.name, case when s.is_rising then 'maxvalue' else 'minvalue' end
            ))
        end
    from standing as s
    cross join lateral (select -1 - s.last_possible) as e (other_end)
    where
        s.last_value is not null
        and s.seqmin < s.seqmax
        -- One that begins anew by itself has no end, unless its column's comes first.
        and (not s.seqcycle or s.last_possible <> case when s.is_rising then s.seqmax else s.seqmin end);
end;
$sequence_ends$;

comment on function sqlkit._sequence_ends() is
'Sequences that the caller may see and that have an end: the last number taken, the last one that there can be (by the
sequence, or by the narrowest column that it fills), what share of the numbers is used, and a statement that brings
more of them. One that is being altered is left out: to look at it is to wait.';
