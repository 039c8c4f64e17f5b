-- Indexes of partitioned tables that some partition does not have: they are invalid until all of them do.

create or replace function sqlkit._index_tail(p_index regclass)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $index_tail$
    select substr(
        pg_get_indexdef(x.oid),
        length(format(
            'create %sindex %I on %s%s',
            case when i.indisunique then 'unique ' else '' end,
            x.relname,
            case when x.relkind = 'I' then 'only ' else '' end,
            sqlkit._table_name(i.indrelid)
        )) + 1
    )
    from pg_index as i
    join pg_class as x on x.oid = i.indexrelid
    where i.indexrelid = p_index
$index_tail$;

comment on function sqlkit._index_tail(regclass) is
'What an index is, whatever it is called and of whichever table: its definition from USING on.';


create or replace function sqlkit._incomplete_indexes()
returns table (index_id oid, detail text, statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $incomplete_indexes$
    select
        i.indexrelid,
        format(
            'It is invalid as long as a partition has no valid one attached%s: %s.',
            case when bool_or(i.indisunique) then ', and keeps nothing unique' else '' end,
            string_agg(
                sqlkit._table_name(p.oid) || case when a.oid is null then ' has none' else ' has it' end,
                ', ' order by p.oid
            )
        ),
        string_agg(
            case
                when a.oid is not null or e.oid is not null then ''
                when k.oid is not null
                    then format(
                        'alter table %s add constraint %I %s; ',
                        sqlkit._table_name(p.oid), n.new_name, pg_get_constraintdef(k.oid)
                    )
                else format(
                    'create %sindex%s %I on %s%s; ',
                    case when i.indisunique then 'unique ' else '' end,
                    case when p.relkind = 'r' then ' concurrently' else '' end,
                    n.new_name,
                    sqlkit._table_name(p.oid),
                    sqlkit._index_tail(i.indexrelid)
                )
            end
            -- An index that is attached already is looked at again: it may have been invalid before.
            || format(
                'alter index %s attach partition %s',
                sqlkit._table_name(i.indexrelid),
                coalesce(
                    sqlkit._table_name(coalesce(a.oid, e.oid)), format('%I.%I', s.nspname, n.new_name)
                )
            ),
            '; ' order by p.oid
        )
    from pg_index as i
    join pg_class as x on x.oid = i.indexrelid
    join pg_inherits as h on h.inhparent = i.indrelid
    join pg_class as p on p.oid = h.inhrelid
    join pg_namespace as s on s.oid = p.relnamespace
    left join pg_constraint as k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u')
    left join lateral (
        select b.indexrelid as oid
        from pg_index as b
        join pg_inherits as ih on ih.inhrelid = b.indexrelid and ih.inhparent = i.indexrelid
        where b.indrelid = p.oid
    ) as a on true
    left join lateral (
        -- One that was made for it, and not attached.
        select b.indexrelid as oid
        from pg_index as b
        join pg_class as c on c.oid = b.indexrelid
        where
            b.indrelid = p.oid
            and b.indisvalid
            and not c.relispartition
            and b.indisunique = i.indisunique
            and sqlkit._index_tail(b.indexrelid) = sqlkit._index_tail(i.indexrelid)
            and (k.oid is null) = not exists (
                select from pg_constraint as o where o.conindid = b.indexrelid and o.contype in ('p', 'u')
            )
        order by b.indexrelid
        limit 1
    ) as e on true
    cross join lateral format('%s_%s_%s', left(x.relname, 20), i.indexrelid, p.oid) as n (new_name)
    where x.relkind = 'I' and not i.indisvalid
    group by i.indexrelid
    -- Somebody may be building what is missing.
    having not bool_or(exists (
        select
        from pg_locks as l
        where
            l.relation in (p.oid, i.indrelid)
            and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock')
            and l.granted
            and l.pid <> pg_backend_pid()
            and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    ))
$incomplete_indexes$;

comment on function sqlkit._incomplete_indexes() is
'Indexes of partitioned tables that are invalid since not each partition has a valid one attached, and the statements
that build and attach what is missing. An invalid index of a partition is to be mended before.';
