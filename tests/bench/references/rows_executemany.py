"""Dicts into a table as most programs do it: an upsert for each, by psycopg's executemany (which
sends them in a pipeline)."""

from __future__ import annotations

import psycopg
from price_rows import COLUMNS, price_rows

values = ", ".join(f"%({column})s" for column in COLUMNS)
upsert = f"""
    insert into bench.price as t values ({values})
    on conflict (product_id, store_id) do update set
        supplier_id = excluded.supplier_id,
        price = excluded.price,
        currency = excluded.currency,
        availability = excluded.availability,
        observed_at = excluded.observed_at"""
with psycopg.connect("") as connection:
    connection.cursor().executemany(upsert.encode(), price_rows())
