"""What the well-known bloat queries estimate, by their formulas, written anew.

`ioguix` follows pgsql-bloat-estimation (table and btree), `pgexperts` pgx_scripts' index and table
checks, which come from check_postgres. Both take a row for its header plus the sum of average
widths, rounded up to 8 once; know neither the alignment of single columns nor that equal keys of an
index are stored once; and read the number of rows from the last ANALYZE. TOAST counts as four rows
to a page, together with its table.
"""

from __future__ import annotations

import psycopg

_ROWS = """
with column_width as (
    select x.attrelid as relation, x.attnum, s.null_frac, s.avg_width, x.atttypid
    from pg_attribute as x
    left join pg_index as i on i.indexrelid = x.attrelid
    left join pg_attribute as c on c.attrelid = i.indrelid and c.attnum = i.indkey[x.attnum - 1]
    join pg_class as r on r.oid = coalesce(c.attrelid, x.attrelid)
    left join pg_stats as s on s.schemaname = 'public' and s.tablename = r.relname
        and s.attname = coalesce(c.attname, x.attname)
    where x.attnum > 0 and not x.attisdropped
)
"""

IOGUIX = (
    _ROWS
    + """
, row_width as (
    select relation,
        23 + case when max(coalesce(null_frac, 0)) > 0 then (7 + count(avg_width)) / 8 else 0 end
            as header,
        case when max(coalesce(null_frac, 0)) = 0 then 8 else 12 end as index_header,
        sum((1 - coalesce(null_frac, 0)) * coalesce(avg_width, 0))::numeric as heap_data,
        sum((1 - coalesce(null_frac, 0)) * coalesce(avg_width, 1024))::numeric as index_data
    from column_width
    group by relation
)
select c.oid::regclass::text, greatest(0, 1 - (ceil(c.reltuples / (8168 * f.fill / (100 * (
        4 + ceil(w.header / 8.0) * 8 + ceil(ceil(w.heap_data) / 8) * 8))))
        + ceil(coalesce(t.reltuples, 0) / 4)) / nullif(c.relpages + coalesce(t.relpages, 0), 0))
from pg_class as c
join row_width as w on w.relation = c.oid
left join pg_class as t on t.oid = c.reltoastrelid
cross join lateral (select coalesce((select option_value::numeric
    from pg_options_to_table(c.reloptions) where option_name = 'fillfactor'), 100) as fill) as f
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
union all
select c.oid::regclass::text, greatest(0, 1 - (1 + ceil(c.reltuples / floor(8152 * f.fill / (100 * (
        4 + ceil(w.index_header / 8.0) * 8 + ceil(round(w.index_data) / 8) * 8)))))
        / nullif(c.relpages, 0))
from pg_class as c
join row_width as w on w.relation = c.oid
cross join lateral (select coalesce((select option_value::numeric
    from pg_options_to_table(c.reloptions) where option_name = 'fillfactor'), 90) as fill) as f
where c.relkind = 'i' and c.relnamespace = 'public'::regnamespace
"""
)

PGEXPERTS = (
    _ROWS
    + """
, row_width as (
    select relation,
        24 + count(*) filter (where null_frac <> 0) / 8 as null_header,
        max(coalesce(null_frac, 0)) as most_nulls,
        case when max(coalesce(null_frac, 0)) = 0 then 2 else 6 end as index_header,
        sum((1 - coalesce(null_frac, 0)) * coalesce(avg_width, 0))::numeric as heap_data,
        sum((1 - coalesce(null_frac, 0)) * coalesce(avg_width, 1024))::numeric as index_data
    from column_width
    group by relation
)
select c.oid::regclass::text, greatest(0, 1 - (ceil(c.reltuples * (
        ceil((w.heap_data + 24) / 8) * 8 + 4 + w.most_nulls * ceil(w.null_header / 8.0) * 8) / 8172)
        + ceil(coalesce(t.reltuples, 0) / 4)) / nullif(c.relpages + coalesce(t.relpages, 0), 0))
from pg_class as c
join row_width as w on w.relation = c.oid
left join pg_class as t on t.oid = c.reltoastrelid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
union all
select c.oid::regclass::text, greatest(0, 1 - ceil(c.reltuples * (
        6 + 8 + ceil(round(w.index_data) / 8) * 8) / 8168 + 1) / nullif(c.relpages, 0))
from pg_class as c
join row_width as w on w.relation = c.oid
where c.relkind = 'i' and c.relnamespace = 'public'::regnamespace
"""
)


def estimates(connection: psycopg.Connection, query: str) -> dict[str, float]:
    """The share of bloat of each table (with its TOAST) and btree index, by one of the queries."""
    return {
        name: float(ratio)
        for name, ratio in connection.execute(query.encode()).fetchall()
        if ratio is not None
    }
