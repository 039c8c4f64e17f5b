"""Measure what reading the key's index into memory brings: ``python -m tests.bench.warm``.

A batch of changed rows, spread over a table of prices, is merged right after the server was started
and its files were put out of the system's memory: as it is, after `sqlkit.warm_key()`, and once
more with all of it in memory. The best of the rounds is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import psycopg

from sqlkit import migrate
from sqlkit.server import EmbeddedServer
from tests.bench.refresh import SETUP
from tests.bench.server import DATABASE, BenchServer, running_server

TEMPLATE = "bench_warm"
BATCHES = (1_000, 10_000, 100_000)
# Nothing of the table is read to make it.
FEED = """
    select n / 20 as product_id, n % 20 as store_id, 1 as supplier_id, {price} as price,
        'ILS' as currency, true as availability, timestamptz '2026-02-02' as observed_at
    from generate_series(0, {batch} - 1) as i
    cross join lateral (select 1 + i::bigint * {rows} / {batch} as n) as n"""


def evict(folder: Path) -> None:
    """Put all files below a folder out of the system's memory; nobody may have them open."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def merge(connection: psycopg.Connection, rows: int, batch: int, price: int) -> float:
    """Stage a batch and merge it; the seconds of the merge."""
    connection.execute(
        "select sqlkit.stage_query('bench.price', %s, p_name => 'feed')",
        [FEED.format(rows=rows, batch=batch, price=price)],
    )
    started = time.perf_counter()
    row = connection.execute(
        "select rows_updated from sqlkit.merge_stage('sqlkit_stage.feed')"
    ).fetchone()
    seconds = time.perf_counter() - started
    assert row == (batch,), row
    connection.execute("select sqlkit.drop_stage('sqlkit_stage.feed')")
    return seconds


def measure(
    home: Path, server: BenchServer, rows: int, batch: int, *, warmed: bool
) -> tuple[float, float, float]:
    """Seconds of warming, of the merge after it, and of another one with all in memory."""
    server.create(DATABASE, TEMPLATE)
    embedded = EmbeddedServer(home)
    embedded.stop()
    evict(home)
    embedded.start()
    with server.connect(DATABASE) as connection:
        warming = 0.0
        if warmed:
            started = time.perf_counter()
            connection.execute("select * from sqlkit.warm_key('bench.price')")
            warming = time.perf_counter() - started
        cold = merge(connection, rows, batch, 20_001)
        connection.execute("select pg_prewarm('bench.price'), pg_prewarm('bench.price_pkey')")
        return warming, cold, merge(connection, rows, batch, 20_002)


def main() -> int:
    """Measure, print the table."""
    parser = argparse.ArgumentParser("tests.bench.warm", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--home", type=Path, default=Path(".sqlkit/bench"))
    options = parser.parse_args()
    home = options.home.resolve()
    with running_server(home) as server:
        server.create(TEMPLATE)
        migrate.up(server.dsn_of(TEMPLATE))
        with server.connect(TEMPLATE) as connection:
            connection.execute("create extension pg_prewarm")
            connection.execute(psycopg.sql.SQL(SETUP % (options.rows + 1)))
            connection.execute(b"vacuum (freeze, analyze)")
        print(f"| rows changed of {options.rows:,} | cold | warmed | of that warming | in memory |")
        print("| --- | --- | --- | --- | --- |")
        for batch in BATCHES:
            rounds = [
                (
                    measure(home, server, options.rows, batch, warmed=False),
                    measure(home, server, options.rows, batch, warmed=True),
                )
                for _ in range(options.rounds)
            ]
            cold = min(cold for (_, cold, _), _ in rounds)
            warming, after = min((each for _, (*each, _) in rounds), key=sum)
            memory = min(least for pair in rounds for *_, least in pair)
            print(
                f"| {batch:,} | {cold:.2f} s | {warming + after:.2f} s | {warming:.2f} s "
                f"| {memory:.2f} s |",
                flush=True,
            )
        server.drop(DATABASE)
        server.drop(TEMPLATE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
