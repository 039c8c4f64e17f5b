-- The doctor: what is wrong with the tables of this database, by weight, each with the statement that mends it.

create or replace function sqlkit.find_problems(
    p_least_bytes bigint default 1048576,
    p_patience interval default '1 hour'
)
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
    with recursive user_table as (
        select
            c.oid,
            c.relname,
            c.relkind,
            c.relpages,
            c.relallvisible,
            c.reloptions,
            sqlkit._table_name(c.oid) as name,
            c.reltoastrelid,
            t.reloptions as toast_options,
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

    -- Of the catalog, too, and of what a session left that is gone: the oldest of all counts.
    old_table as (
        select
            sqlkit._table_name(c.oid) as name,
            c.relpersistence,
            o.*,
            o.age::double precision / o.allowed as share
        from pg_class as c
        left join pg_class as t on t.oid = c.reltoastrelid
        cross join lateral (
            values
            (
                greatest(age(nullif(c.relfrozenxid, '0'::xid)), age(nullif(t.relfrozenxid, '0'::xid))),
                current_setting('autovacuum_freeze_max_age')::bigint
            ),
            (
                greatest(mxid_age(nullif(c.relminmxid, '0'::xid)), mxid_age(nullif(t.relminmxid, '0'::xid))),
                current_setting('autovacuum_multixact_freeze_max_age')::bigint
            )
        ) as o (age, allowed)
        where c.relkind in ('r', 'm')
    ),

    -- The ids are shared by all databases: one that nobody vacuums stops the others, too.
    old_database as (
        select
            d.datname,
            d.datallowconn,
            o.*,
            o.age::double precision / o.allowed as share
        from pg_database as d
        cross join lateral (
            values
            (age(d.datfrozenxid), current_setting('autovacuum_freeze_max_age')::bigint),
            (mxid_age(d.datminmxid), current_setting('autovacuum_multixact_freeze_max_age')::bigint)
        ) as o (age, allowed)
        where d.datname <> current_database()
    ),

    index_part (root, oid, relkind) as (
        select
            c.oid,
            c.oid,
            c.relkind
        from pg_class as c
        where c.relkind in ('i', 'I') and not c.relispartition
        union all
        select
            p.root,
            c.oid,
            c.relkind
        from index_part as p
        join pg_inherits as h on h.inhparent = p.oid
        join pg_class as c on c.oid = h.inhrelid
    ),

    user_index as (
        select
            i.*,
            x.relname as index_name,
            sqlkit._table_name(x.oid) as name,
            x.relam,
            x.relkind,
            x.relispartition,
            s.bytes,
            s.scans,
            case when x.relkind = 'I' then 'drop index ' else 'drop index concurrently ' end || sqlkit._table_name(x.oid)
                as dropping,
            exists (
                select from pg_constraint as k where k.conindid = x.oid and k.conrelid = i.indrelid and k.contype <> 'f'
            ) as is_constraint,
            exists (select from pg_constraint as k where k.conindid = x.oid and k.contype = 'f') as is_referred_to
        from user_table as t
        cross join lateral (values (t.oid), (t.reltoastrelid)) as r (oid)
        join pg_index as i on i.indrelid = r.oid
        join pg_class as x on x.oid = i.indexrelid
        left join (
            select
                p.root,
                sum(pg_relation_size(p.oid)) as bytes,
                sum(pg_stat_get_numscans(p.oid)) as scans
            from index_part as p
            where p.relkind = 'i' and not sqlkit._is_locked_away(p.oid)
            group by p.root
        ) as s on s.root = x.oid
    ),

    finding (weight, problem, relation, detail, statement) as (
        select
            case when o.share > 5 or o.age > 1000000000 then 100 when o.share > 2 then 80 else 60 end,
            'old transaction ids',
            o.name,
            format(
                'Its oldest row is %s transactions old: autovacuum should have frozen it at %s, whatever is going on; '
                'near 2,000,000,000 the server takes no more.',
                o.age, o.allowed
            ),
            case
                when o.relpersistence = 't' then format(
                    'drop table %s', o.name
                )
                else format('vacuum (freeze) %s', o.name)
            end
        from old_table as o
        where o.share > 1.1
        union all
        select
            case when o.share > 5 or o.age > 1000000000 then 100 when o.share > 2 then 80 else 60 end,
            'old transaction ids',
            format('database %I', o.datname),
            format(
                'Its oldest row is %s transactions old: autovacuum should have frozen it at %s, whatever is going on; '
                'near 2,000,000,000 the server takes no more, in any database.',
                o.age, o.allowed
            ),
            case when o.datallowconn then '' else format('alter database %I allow_connections on; ', o.datname) end
            || '/* there */ vacuum (freeze)'
        from old_database as o
        where o.share > 1.1
        union all
        select
            90,
            'invalid index',
            i.name,
            'An interrupted CREATE or REINDEX CONCURRENTLY left it: it costs every write and serves no query.',
            case
                when i.index_name ~ '_cc(new|old)[0-9]*$' then i.dropping
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
            70,
            'incomplete index',
            sqlkit._table_name(i.index_id),
            i.detail,
            i.statement
        from sqlkit._incomplete_indexes() as i
        join pg_index as x on x.indexrelid = i.index_id
        join user_table as t on t.oid = x.indrelid
        union all
        select
            h.weight,
            'horizon held back',
            h.holder,
            format('%s: no VACUUM removes what it could still see.', h.detail),
            h.statement
        from sqlkit._horizon_holders(p_patience) as h
        union all
        select
            least(99, (60 + 39 * s.used_share)::integer),
            'sequence near its end',
            s.sequence,
            format(
                'It is at %s and ends at %s: %s%% of its numbers are used%s.',
                s.last_value, s.last_possible, round((100 * s.used_share)::numeric, 1), ', for ' || s.columns
            ),
            s.statement
        from sqlkit._sequence_ends() as s
        where s.used_share > 0.7
        union all
        select
            85,
            'autovacuum is off',
            'the server',
            format('%s is off: dead rows stay and statistics age in every table, until somebody vacuums it by hand.', g.name),
            format('alter system set %s = on; select pg_reload_conf()', g.name)
        from unnest('{autovacuum,track_counts}'::text[]) as g (name)
        where not current_setting(g.name)::boolean
        union all
        select
            50,
            'autovacuum is off',
            t.name,
            format('Dead rows stay%s, until somebody vacuums it by hand.', o.what),
            format('alter table %s reset (%sautovacuum_enabled)', t.name, o.prefix)
        from user_table as t
        cross join lateral (
            values
            (t.reloptions, '', ', statistics age'), (t.toast_options, 'toast.', ' in what lies outside of its rows (TOAST)')
        ) as o (options, prefix, what)
        cross join lateral pg_options_to_table(o.options) as e
        where e.option_name = 'autovacuum_enabled' and not e.option_value::boolean
        union all
        select
            50,
            'duplicate index',
            i.name,
            format('It does nothing that %s does not do, and takes %s.', k.name, pg_size_pretty(i.bytes)),
            i.dropping
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
            and not i.relispartition
            and not i.is_constraint
            and not i.is_referred_to
            and not i.indisreplident
            -- The other one has to keep out what this one does, and as soon.
            and (
                not i.indisunique
                or (k.indisunique and k.indimmediate and k.indnullsnotdistinct >= i.indnullsnotdistinct)
            )
            -- Of two that nothing tells apart the younger goes.
            and (
                k.is_constraint
                or k.is_referred_to
                or k.indisunique > i.indisunique
                or k.indnullsnotdistinct > i.indnullsnotdistinct
                or k.indexrelid < i.indexrelid
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
                join pg_class as x on x.oid = i.indexrelid
                join pg_am as m on m.oid = x.relam
                where
                    i.indrelid = k.conrelid
                    and i.indisvalid
                    and i.indpred is null
                    and m.amname not in ('brin', 'gin')
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
                -- The planner takes what it does not know for ten pages, and is not far off with what is smaller.
                when t.is_unknown then pg_relation_size(t.oid) > 10 * current_setting('block_size')::bigint
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
                when b.kind = 'index' then format(
                    'reindex index%s %s', case when not i.indisexclusion then ' concurrently' end,
                    sqlkit._table_name(b.relation)
                )
                else format('vacuum (full, analyze) %s', t.name)
            end
        from sqlkit.bloat as b
        join user_table as t on t.oid = b.table_name
        left join pg_index as i on i.indexrelid = b.relation
        where
            b.bloat_bytes >= greatest(p_least_bytes, 1)
            and b.bloat_ratio >= 0.3
            and b.confidence <> 'low'
            and coalesce(i.indisvalid, true)
        union all
        select
            20,
            'autovacuum comes late',
            t.name,
            format(
                'It has %s rows, and autovacuum waits for %s dead ones: a threshold of %s, a scale factor of %s.',
                t.live_rows, w.dead_rows::bigint, o.threshold, o.scale_factor
            ),
            format(
                'alter table %s set (autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = %s)',
                t.name, trim_scale(round(least(0.02, 1000000 / greatest(1, t.live_rows::numeric)), 6))
            )
        from user_table as t
        cross join lateral (
            select
                coalesce(max(e.option_value) filter (where e.option_name = 'autovacuum_vacuum_threshold'),
                current_setting('autovacuum_vacuum_threshold'))::numeric as threshold,
                coalesce(max(e.option_value) filter (where e.option_name = 'autovacuum_vacuum_scale_factor'),
                current_setting('autovacuum_vacuum_scale_factor'))::numeric as scale_factor,
                -- 18 has a limit of its own.
                nullif(
                    coalesce(max(e.option_value) filter (where e.option_name = 'autovacuum_vacuum_max_threshold'),
                    current_setting('autovacuum_vacuum_max_threshold', true))::numeric,
                    -1
                ) as most
            from pg_options_to_table(t.reloptions) as e
        ) as o
        cross join lateral (select least(o.threshold + o.scale_factor * t.live_rows, o.most)) as w (dead_rows)
        where
            t.relkind <> 'p'
            and w.dead_rows > 2000000
        union all
        select
            15,
            'unused index',
            i.name,
            format(
                'No query has read its %s since %s. A standby counts for itself.',
                pg_size_pretty(i.bytes), coalesce(d.stats_reset, pg_postmaster_start_time())::date
            ),
            i.dropping
        from user_index as i
        join pg_stat_database as d on d.datname = current_database()
        where
            i.bytes >= p_least_bytes
            and i.indisvalid
            and not i.relispartition
            and not i.indisunique
            and not i.is_constraint
            and not i.indisreplident
            and i.scans = 0
    )

    select f.weight, f.problem, f.relation, f.detail, f.statement
    from finding as f
    order by f.weight desc, f.problem, f.relation;
end;
$find_problems$;

comment on function sqlkit.find_problems(bigint, interval) is
'What is wrong with the tables, indexes and sequences of this database, the heaviest first (100 is an emergency, 15 a
hint), each with the statement that mends it: read it before you run it. Old transaction ids (of other databases, too),
whoever has held back the horizon of dead rows for longer than p_patience, invalid, incomplete, duplicate and unused
indexes, foreign keys without index, sequences near their end, autovacuum off or late, tables never vacuumed or
analyzed, dead rows, bloat. Unused indexes and bloat count from p_least_bytes on.
Writes: nothing. Locks: none. Raises: nothing.';
