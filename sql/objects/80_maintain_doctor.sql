-- The doctor: what is wrong with the tables of this database, by weight, each with the statement that mends it.

create or replace function sqlkit.find_problems(p_least_bytes bigint default 1048576)
returns table (
    weight integer,
    problem text,
    relation text,
    detail text,
    statement text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_problems$
begin
    return query
    with user_table as (
        select
            c.oid,
            c.relname,
            c.relkind,
            c.relpages,
            c.relallvisible,
            c.reloptions,
            sqlkit._table_name(c.oid) as name,
            greatest(age(c.relfrozenxid), age(t.relfrozenxid)) as xid_age,
            greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) as multixact_age,
            pg_stat_get_live_tuples(c.oid) as live_rows,
            pg_stat_get_dead_tuples(c.oid) as dead_rows,
            coalesce(
                pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)
            ) as vacuumed_at,
            -- Before 16 an index that is built while the table is empty makes it 0.
            c.reltuples < 0 or (
                c.reltuples = 0
                and coalesce(
                    pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid),
                    pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)
                ) is null
            ) as is_unknown
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        left join pg_class as t on t.oid = c.reltoastrelid
        where
            c.relkind in ('r', 'm', 'p')
            and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'sqlkit_stage')
            and not sqlkit._is_locked_away(c.oid)
    ),

    user_index as (
        select
            i.*,
            x.relname as index_name,
            sqlkit._table_name(x.oid) as name,
            x.relam,
            x.relkind,
            x.relispartition,
            pg_relation_size(x.oid) as bytes,
            t.name as table_name,
            exists (
                select from pg_constraint as k where k.conindid = x.oid and k.conrelid = i.indrelid
            ) as is_constraint
        from pg_index as i
        join pg_class as x on x.oid = i.indexrelid
        join user_table as t on t.oid = i.indrelid
    ),

    sequence as (
        select
            s.seqrelid,
            sqlkit._table_name(s.seqrelid) as name,
            o.name as table_name,
            a.attname,
            case when has_sequence_privilege(s.seqrelid, 'select, usage') then pg_sequence_last_value(s.seqrelid) end
                as last_value,
            -- The column may hold less than the sequence gives.
            least(
                s.seqmax,
                case a.atttypid
                    when 'smallint'::regtype then 32767
                    when 'integer'::regtype then 2147483647
                    else s.seqmax
                end
            ) as last_possible
        from pg_sequence as s
        left join pg_depend as d
            on d.classid = 'pg_class'::regclass and d.objid = s.seqrelid
            and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i') and d.refobjsubid > 0
        left join user_table as o on o.oid = d.refobjid
        left join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        where s.seqincrement > 0 and not s.seqcycle
    ),

    finding (weight, problem, relation, detail, statement) as (
        select
            case when t.xid_age > 1000000000 or t.multixact_age > 1000000000 then 100 else 70 end,
            'old transaction ids',
            t.name,
            format(
                'Its oldest row is %s transactions old; past %s autovacuum freezes it whatever is going on, and at '
                '2,000,000,000 the server stops.',
                greatest(t.xid_age, t.multixact_age), current_setting('autovacuum_freeze_max_age')
            ),
            format('vacuum (freeze) %s', t.name)
        from user_table as t
        where
            t.relkind <> 'p'
            and (
                t.xid_age > 0.9 * current_setting('autovacuum_freeze_max_age')::bigint
                or t.multixact_age > 0.9 * current_setting('autovacuum_multixact_freeze_max_age')::bigint
            )
        union all
        select
            90,
            'invalid index',
            i.name,
            'An interrupted CREATE or REINDEX CONCURRENTLY left it: it costs every write and serves no query.',
            case
                when i.index_name ~ '_cc(new|old)[0-9]*$' then format('drop index concurrently %s', i.name)
                else format('reindex index concurrently %s', i.name)
            end
        from user_index as i
        where
            not i.indisvalid
            and i.relkind = 'i'
            -- Somebody may be building it at this moment.
            and not exists (
                select
                from pg_locks as l
                where
                    l.relation = i.indrelid
                    and l.mode = 'ShareUpdateExclusiveLock'
                    and l.granted
                    and l.pid <> pg_backend_pid()
                    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
            )
        union all
        select
            (60 + 39 * s.last_value::numeric / s.last_possible)::integer,
            'sequence near its end',
            s.name,
            format(
                '%s of %s numbers are used%s.',
                s.last_value, s.last_possible, case when s.attname is not null then format(', by column %I of %s', s.attname, s.table_name) end
            ),
            case
                when s.table_name is null then format('alter sequence %s as bigint no maxvalue', s.name)
                else format(
                    'alter table %s alter column %I type bigint; alter sequence %s as bigint no maxvalue',
                    s.table_name, s.attname, s.name
                )
            end
        from sequence as s
        where s.last_value > 0.7 * s.last_possible
        union all
        select
            50,
            'autovacuum is off',
            t.name,
            'Dead rows stay, statistics age, until somebody vacuums it by hand.',
            format('alter table %s reset (autovacuum_enabled)', t.name)
        from user_table as t
        cross join lateral pg_options_to_table(t.reloptions) as o
        where o.option_name = 'autovacuum_enabled' and not o.option_value::boolean
        union all
        select
            50,
            'duplicate index',
            i.name,
            format('It is the same as %s, and takes %s.', k.name, pg_size_pretty(i.bytes)),
            format('drop index concurrently %s', i.name)
        from user_index as i
        join user_index as k
            on k.indrelid = i.indrelid
            and k.relam = i.relam
            and k.indkey::text = i.indkey::text
            and k.indclass::text = i.indclass::text
            and k.indcollation::text = i.indcollation::text
            and k.indoption::text = i.indoption::text
            and k.indnkeyatts = i.indnkeyatts
            and coalesce(pg_get_expr(k.indexprs, k.indrelid), '') = coalesce(pg_get_expr(i.indexprs, i.indrelid), '')
            and coalesce(pg_get_expr(k.indpred, k.indrelid), '') = coalesce(pg_get_expr(i.indpred, i.indrelid), '')
            and k.indisvalid
        where
            i.indisvalid
            and i.relkind = 'i'
            and not i.relispartition
            and not i.is_constraint
            and not i.indisreplident
            and (not i.indisunique or k.indisunique)
            -- Of two that nothing tells apart the younger goes.
            and (
                k.is_constraint or (k.indisunique and not i.indisunique)
                or (k.indisunique = i.indisunique and k.indexrelid < i.indexrelid)
            )
            and k.indexrelid <> i.indexrelid
        union all
        select
            45,
            'foreign key without index',
            t.name,
            format(
                '%I refers to %s: deleting there, or changing a key, reads all of this table.',
                k.conname, sqlkit._table_name(k.confrelid)
            ),
            format(
                'create index%s on %s (%s)',
                case when t.relkind = 'p' then '' else ' concurrently' end,
                t.name,
                (
                    select string_agg(quote_ident(a.attname), ', ' order by u.position)
                    from unnest(k.conkey) with ordinality as u (attnum, position)
                    join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = u.attnum
                )
            )
        from pg_constraint as k
        join user_table as t on t.oid = k.conrelid
        where
            k.contype = 'f'
            and k.conparentid = 0
            and not exists (
                select
                from pg_index as i
                where
                    i.indrelid = k.conrelid
                    and i.indisvalid
                    and i.indpred is null
                    -- The index begins with the columns of the key, in any order.
                    and (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
            )
        union all
        select
            case when t.dead_rows > t.live_rows then 45 else 30 end,
            'dead rows',
            t.name,
            format('%s dead rows beside %s live ones.', t.dead_rows, t.live_rows),
            format('vacuum (analyze) %s', t.name)
        from user_table as t
        where t.dead_rows > 10000 and t.dead_rows > 0.3 * t.live_rows
        union all
        select
            40,
            case when t.is_unknown then 'never vacuumed or analyzed' else 'never vacuumed' end,
            t.name,
            case
                when t.is_unknown then 'The planner knows nothing of its content.'
                else 'Index-only scans read the table all the same, and its rows are yet to be frozen.'
            end,
            format('%s %s', case when t.relkind = 'p' then 'analyze' else 'vacuum (analyze)' end, t.name)
        from user_table as t
        where
            case
                when t.relkind = 'p' then
                    -- Nobody but ANALYZE looks at it as a whole, and autovacuum does not.
                    t.is_unknown
                    and exists (
                        select
                        from pg_inherits as h
                        join pg_class as c on c.oid = h.inhrelid
                        where h.inhparent = t.oid and pg_relation_size(c.oid) >= p_least_bytes
                    )
                when t.is_unknown then pg_relation_size(t.oid) > 0
                else
                    t.vacuumed_at is null and t.relallvisible = 0 and pg_relation_size(t.oid) >= p_least_bytes
            end
        union all
        select
            (20 + 20 * b.bloat_ratio)::integer,
            b.kind || ' bloat',
            sqlkit._table_name(b.relation),
            format(
                '%s of %s are bloat, by statistics of %s confidence.',
                pg_size_pretty(b.bloat_bytes), pg_size_pretty(b.total_bytes), b.confidence
            ),
            case
                when b.kind = 'index' then format('reindex index concurrently %s', sqlkit._table_name(b.relation))
                else format('vacuum (full, analyze) %s', t.name)
            end
        from sqlkit.bloat as b
        join user_table as t on t.oid = b.table_name
        where b.bloat_bytes >= greatest(p_least_bytes, 1) and b.bloat_ratio >= 0.3 and b.confidence <> 'low'
        union all
        select
            20,
            'autovacuum comes late',
            t.name,
            format(
                'It has %s rows: at a scale factor of %s autovacuum waits for %s dead ones.',
                t.live_rows, current_setting('autovacuum_vacuum_scale_factor'),
                (t.live_rows * current_setting('autovacuum_vacuum_scale_factor')::numeric)::bigint
            ),
            format('alter table %s set (autovacuum_vacuum_scale_factor = 0.02)', t.name)
        from user_table as t
        where
            t.live_rows * current_setting('autovacuum_vacuum_scale_factor')::numeric > 2000000
            -- 18 has a limit of its own.
            and coalesce(current_setting('autovacuum_vacuum_max_threshold', true)::bigint, -1) < 0
            and not exists (
                select
                from pg_options_to_table(t.reloptions) as o
                where o.option_name in ('autovacuum_vacuum_scale_factor', 'autovacuum_enabled')
            )
        union all
        select
            15,
            'unused index',
            i.name,
            format(
                'No query has read its %s since %s. A standby counts for itself.',
                pg_size_pretty(i.bytes), coalesce(d.stats_reset, pg_postmaster_start_time())::date
            ),
            format('drop index concurrently %s', i.name)
        from user_index as i
        join pg_stat_database as d on d.datname = current_database()
        where
            i.bytes >= p_least_bytes
            and i.relkind = 'i'
            and i.indisvalid
            and not i.relispartition
            and not i.indisunique
            and not i.is_constraint
            and not i.indisreplident
            and pg_stat_get_numscans(i.indexrelid) = 0
    )

    select f.weight, f.problem, f.relation, f.detail, f.statement
    from finding as f
    order by f.weight desc, f.problem, f.relation;
end;
$find_problems$;

comment on function sqlkit.find_problems(bigint) is
'What is wrong with the tables, indexes and sequences of this database, the heaviest first (100 is an emergency, 15 a
hint), each with the statement that mends it: read it before you run it. Old transaction ids, invalid, duplicate and
unused indexes, foreign keys without index, sequences near their end, autovacuum off or late, tables never vacuumed
or analyzed, dead rows, bloat. Unused indexes and bloat count from p_least_bytes on.
Writes: nothing. Locks: none. Raises: nothing.';
