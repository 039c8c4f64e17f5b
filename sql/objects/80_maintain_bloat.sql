-- Bloat: how much smaller a table, its TOAST or a btree index would be if it were written anew. The estimate
-- reads statistics and no data; the measure reads everything.

create or replace function sqlkit._live_rows(p_relation regclass)
returns double precision
language sql
stable
begin atomic
select
    case
        -- Counted on since the statistics were made, or forgotten in a crash.
        when pg_stat_get_live_tuples(c.oid) > 0 then pg_stat_get_live_tuples(c.oid)
        when c.reltuples > 0 then c.reltuples
        -- Before 16 an index that is built while the table is empty leaves 0 here, too.
        when
            c.reltuples = 0
            and coalesce(
                pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid),
                pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)
            ) is not null
            then 0
    end::double precision as live_rows
from pg_class as c
where c.oid = p_relation;
end;

comment on function sqlkit._live_rows(regclass) is
'How many rows a table has, by statistics; null if nobody has ever counted.';


create or replace function sqlkit._estimate_bloat(
    p_relation regclass,
    p_table regclass,
    out live_rows double precision,
    out needed_bytes bigint,
    out confidence text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $estimate_bloat$
declare
    v_relation pg_class;
    v_table pg_class;
    v_share double precision := 1;
    v_changed double precision;
    v_unknown integer := 0;
    v_is_guessed boolean := false;
    v_row record;
    v_index record;
begin
    select c.* into v_relation from pg_class as c where c.oid = p_relation;
    select c.* into v_table from pg_class as c where c.oid = p_table;
    live_rows := sqlkit._live_rows(p_table);
    if live_rows is null then
        confidence := 'none';
        return;
    end if;
    v_changed := pg_stat_get_mod_since_analyze(p_table) / greatest(1, live_rows);
    if v_relation.relkind = 'i' then
        -- A partial index has a share of the rows, which was counted together with those of the table.
        if v_relation.reltuples >= 0 and v_table.reltuples > 0 and exists (
            select from pg_index as i where i.indexrelid = p_relation and i.indpred is not null
        ) then
            v_share := least(1, v_relation.reltuples / v_table.reltuples);
        end if;
        live_rows := live_rows * v_share;
        v_index := sqlkit._btree_bytes(p_relation, live_rows);
        needed_bytes := v_index.bytes;
        v_unknown := v_index.unknown_columns;
        v_is_guessed := v_index.is_guessed;
    elsif v_relation.relkind = 't' then
        needed_bytes := sqlkit._toast_bytes(p_table, coalesce(sqlkit._live_rows(p_relation), 0), live_rows);
        live_rows := sqlkit._live_rows(p_relation);
        v_is_guessed := true;
    else
        v_row := sqlkit._packed_row(p_table);
        v_unknown := v_row.unknown_columns;
        needed_bytes := sqlkit._heap_bytes(
            p_table,
            live_rows,
            -- The header, and a bitmap where there is a null and the bits do not fit in the header.
            24 + v_row.null_share * 8 * ceil(greatest(0, v_relation.relnatts - 8) / 64.0) + v_row.data_bytes,
            v_row.is_even and v_relation.relnatts > 0
        );
    end if;
    if v_unknown > 0 or live_rows is null then
        needed_bytes := null;
    end if;
    confidence := case
        when needed_bytes is null then 'none'
        when v_changed > 0.5 then 'low'
        when v_is_guessed or v_changed > 0.1 then 'medium'
        else 'high'
    end;
end;
$estimate_bloat$;

comment on function sqlkit._estimate_bloat(regclass, regclass) is
'For a table, its TOAST, or a btree index of it: its rows, the bytes that it would need if it were written anew, by
statistics, and how much that is to be trusted: high, medium (several columns guessed to be independent, lengths in
TOAST, a tenth of the rows changed since), low (half of the rows changed), none (no statistics that the caller may
see, an index on a name).';


create or replace function sqlkit._is_locked_away(p_relation regclass)
returns boolean
language sql
stable
begin atomic
select
    p_relation in (
        select l.relation
        from pg_locks as l
        join pg_database as d on d.oid = l.database
        where
            l.mode = 'AccessExclusiveLock'
            and l.granted
            and l.pid <> pg_backend_pid()
            and l.relation is not null
            and d.datname = current_database()
    ) as is_locked_away;
end;

comment on function sqlkit._is_locked_away(regclass) is
'Whether another session holds a relation in ACCESS EXCLUSIVE, so that even asking for its size would wait.';


create or replace view sqlkit.bloat as
select
    t.table_oid::regclass as table_name,
    t.relation,
    t.kind,
    t.total_bytes,
    t.total_bytes - w.bloat_bytes as needed_bytes,
    w.bloat_bytes,
    w.bloat_bytes::double precision / nullif(t.total_bytes, 0) as bloat_ratio,
    e.live_rows::bigint as live_rows,
    e.confidence,
    t.analyzed_at,
    clock_timestamp() - t.analyzed_at as statistics_age
from (
    select
        c.oid as table_oid,
        k.relation::regclass as relation,
        k.kind,
        pg_relation_size(k.relation) as total_bytes,
        greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed_at
    from pg_class as c
    cross join lateral (
        select
            c.oid as relation,
            'table' as kind
        union all
        select
            c.reltoastrelid as relation,
            'toast' as kind
        where c.reltoastrelid <> 0
        union all
        select
            i.indexrelid as relation,
            'index' as kind
        from pg_index as i
        join pg_class as x on x.oid = i.indexrelid
        join pg_am as a on a.oid = x.relam
        where i.indrelid = c.oid and x.relkind = 'i' and a.amname = 'btree'
    ) as k
    where
        c.relkind in ('r', 'm')
        and c.relpersistence <> 't'
        and c.relnamespace <> 'pg_catalog'::regnamespace
        and c.relnamespace <> 'information_schema'::regnamespace
        and not sqlkit._is_locked_away(c.oid)
        and not sqlkit._is_locked_away(k.relation)
) as t
cross join lateral sqlkit._estimate_bloat(t.relation, t.table_oid) as e
cross join lateral (
    select case when e.needed_bytes is not null then greatest(t.total_bytes - e.needed_bytes, 0) end as bloat_bytes
) as w;

comment on view sqlkit.bloat is
'How much of each table, TOAST and btree index would be gone if it were written anew, estimated by statistics alone:
total_bytes, needed_bytes and their difference. confidence is high, medium, low or none, analyzed_at when the
statistics were made. It is none, and the estimate null, where there are no statistics or they are hidden, as
those of tables are that one may not read. What somebody holds in ACCESS EXCLUSIVE is left out.
sqlkit.measure_bloat() measures.';


create or replace function sqlkit.measure_bloat(p_relation regclass)
returns table (
    relation regclass,
    kind text,
    total_bytes bigint,
    needed_bytes bigint,
    bloat_bytes bigint,
    bloat_ratio double precision,
    live_rows bigint,
    dead_bytes bigint,
    free_bytes bigint
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $measure_bloat$
declare
    v_schema name;
    v_block double precision := current_setting('block_size')::integer;
    v_row record;
    v_row_bytes double precision;
    v_leaves bigint;
    v_inner bigint;
    v_gone bigint;
    v_density double precision;
    v_estimated record;
    r_relation record;
begin
    select n.nspname
    into v_schema
    from pg_extension as e
    join pg_namespace as n on n.oid = e.extnamespace
    where e.extname = 'pgstattuple';
    if not found then
        raise exception using
            errcode = 'SK701',
            message = 'the extension pgstattuple is not installed in this database',
            detail = 'Bloat is measured by it.',
            hint = 'create extension pgstattuple; or take the estimate: select * from sqlkit.bloat.';
    end if;
    if not exists (
        select
        from pg_class as c
        left join pg_am as a on a.oid = c.relam
        where c.oid = p_relation and (c.relkind in ('r', 'm', 't', 'p') or a.amname = 'btree')
    ) then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('the bloat of %s cannot be measured', sqlkit._table_name(p_relation)),
            detail = 'It is neither a table nor a btree index.',
            hint = 'Name a table, a materialized view or a btree index.';
    end if;
    for r_relation in
        with part as (
            -- Itself, where it is not partitioned.
            select p.relid as oid
            from pg_partition_tree(p_relation) as p
            where p.isleaf
            union
            select p_relation
        )

        select
            c.oid::regclass as relation,
            c.relkind,
            coalesce(t.oid, i.indrelid, c.oid)::regclass as table_name
        from pg_class as c
        left join pg_index as i on i.indexrelid = c.oid
        left join pg_class as t on t.reltoastrelid = c.oid
        where
            c.oid in (select p.oid from part as p)
            or t.oid in (select p.oid from part as p)
            -- One that is invalid holds some rows, and serves nobody: to measure it means nothing.
            or (i.indrelid in (select p.oid from part as p) and i.indisvalid)
        order by coalesce(t.oid, i.indrelid, c.oid), c.relkind = 'i', c.oid
    loop
        relation := r_relation.relation;
        total_bytes := pg_relation_size(relation);
        if r_relation.relkind in ('r', 'm', 't') then
            kind := case r_relation.relkind when 't' then 'toast' else 'table' end;
            execute format(
                'select t.tuple_count, t.tuple_len::float8 / nullif(t.tuple_count, 0), t.dead_tuple_len, t.free_space '
                'from %I.pgstattuple($1) as t',
                v_schema
            )
            into live_rows, v_row_bytes, dead_bytes, free_bytes
            using relation;
            v_row := sqlkit._packed_row(relation);
            needed_bytes := case
                when live_rows = 0 then 0
                when kind = 'toast' then
                    v_block * ceil(live_rows * (v_row_bytes + 8) / (v_block - 24))
                else sqlkit._heap_bytes(
                    relation,
                    live_rows,
                    -- Rows are counted without what fills them up to a multiple of 8, and with what they hold
                    -- of dropped columns.
                    case
                        when v_row.unknown_columns = 0 and exists (
                            select from pg_attribute as a where a.attrelid = relation and a.attisdropped
                        ) then 24 + v_row.data_bytes
                        when v_row.is_even then ceil(v_row_bytes / 8) * 8
                        else v_row_bytes + 3.5
                    end,
                    v_row.is_even
                )
            end;
        elsif exists (
            select
            from pg_class as c
            join pg_am as a on a.oid = c.relam
            where c.oid = relation and a.amname = 'btree' and c.relkind = 'i'
        ) then
            kind := 'index';
            execute format(
                'select t.leaf_pages, t.internal_pages, t.deleted_pages + t.empty_pages, '
                'coalesce(nullif(t.avg_leaf_density, ''NaN''), 0) from %I.pgstatindex($1) as t',
                v_schema
            )
            into v_leaves, v_inner, v_gone, v_density
            using relation;
            live_rows := null;
            dead_bytes := v_block * v_gone;
            free_bytes := v_block * v_leaves * (1 - v_density / 100);
            needed_bytes := v_block * (1 + ceil((v_leaves + v_inner) * v_density / sqlkit._fillfactor(relation)));
            -- Keys that came one by one are not all stored once, as they would be. How often they repeat is not
            -- measured: that is for the statistics to say.
            if sqlkit._deduplicates(relation) then
                v_estimated := sqlkit._estimate_bloat(relation, r_relation.table_name);
                if v_estimated.confidence in ('high', 'medium') then
                    needed_bytes := least(needed_bytes, v_estimated.needed_bytes);
                end if;
            end if;
        else
            continue;
        end if;
        needed_bytes := least(needed_bytes, total_bytes);
        bloat_bytes := total_bytes - needed_bytes;
        bloat_ratio := bloat_bytes::double precision / nullif(total_bytes, 0);
        return next;
    end loop;
end;
$measure_bloat$;

comment on function sqlkit.measure_bloat(regclass) is
'Bloat of a table with its TOAST and btree indexes, or of one of these, or of all partitions, measured by the extension
pgstattuple, which reads all of it. needed_bytes is what writing anew would take: dead rows gone, pages as full as fillfactor says,
keys that repeat stored once as far as statistics know of them.
Writes: nothing. Locks: ACCESS SHARE. Raises: SK701 without pgstattuple, 42501 without the right to scan
(pg_stat_scan_tables), 42809 for what is neither a table nor a btree index.';
