"""Measure whether indexes are better kept or built anew: ``python -m tests.bench.indexes``.

Rows are added to a table of prices with a key and three more indexes: with the indexes kept, built
after the rows, and as a load decides by itself. The best of the rounds is printed.

Exit code: 0 if what a load decides is never more than a fifth slower than the better way, or a
tenth of a second, 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import psycopg

from sqlkit import migrate
from tests.bench.refresh import INDEXES, SETUP
from tests.bench.server import DATABASE, BenchServer, running_server

TEMPLATE = "bench_indexes"
SHARES = (0.02, 0.1, 0.2, 0.4, 1.0)
WAYS = ("keep", "rebuild", "auto")
FACTOR, SECONDS = 1.2, 0.1
FEED = """
    select product_id + case when hashint8(n) > 0 then 1000000 else -1000000 end as product_id,
        store_id, supplier_id, price, currency, availability, observed_at
    from (
        select p.*, product_id::bigint * 20 + store_id as n from bench.price as p
    ) as p
    order by hashint8(n) limit {rows}"""


def measure(server: BenchServer, rows: int, way: str) -> float:
    """Merge so many new rows into a fresh copy; the seconds."""
    server.create(DATABASE, TEMPLATE)
    with server.connect(DATABASE) as connection:
        connection.execute(
            "select sqlkit.stage_query('bench.price', %s, p_name => 'feed')",
            [FEED.format(rows=rows)],
        )
        connection.execute(b"checkpoint")
        connection.execute(f"set sqlkit.indexes = {way}".encode())
        started = time.perf_counter()
        row = connection.execute(
            "select rows_inserted from sqlkit.merge_stage('sqlkit_stage.feed')"
        ).fetchone()
        seconds = time.perf_counter() - started
        assert row == (rows,)
    return seconds


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser("tests.bench.indexes", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--share", type=float, action="append", help="may be repeated")
    parser.add_argument("--home", type=Path, default=Path(".sqlkit/bench"))
    options = parser.parse_args()
    failed = False
    with running_server(options.home.resolve()) as server:
        server.create(TEMPLATE)
        migrate.up(server.dsn_of(TEMPLATE))
        with server.connect(TEMPLATE) as connection:
            connection.execute(psycopg.sql.SQL(SETUP % options.rows))
            connection.execute(INDEXES.encode())
            connection.execute(b"vacuum (freeze, analyze)")
        print(f"| rows added to {options.rows:,} | kept | built anew | auto |")
        print("| --- | --- | --- | --- |")
        for share in options.share or SHARES:
            rows = int(share * options.rows)
            taken = {
                way: min(measure(server, rows, way) for _ in range(options.rounds)) for way in WAYS
            }
            seconds = " | ".join(f"{taken[way]:.2f} s" for way in WAYS)
            print(f"| {rows:,} | {seconds} |", flush=True)
            failed |= taken["auto"] > min(taken.values()) * FACTOR + SECONDS
        server.drop(DATABASE)
        server.drop(TEMPLATE)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
