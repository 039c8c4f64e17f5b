"""Measure five ways from natural keys to ids: ``python -m tests.bench.lookups``.

Sales name products by code, the fact table wants their ids. Rows come from Python and go to the
server by COPY, but for the last way, in batches; the time is the best of the rounds. All products
are there. Needs redis-server. There is no bar: the table says when which way is worth it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

from sqlkit import migrate
from sqlkit.lookup import KeyCache
from sqlkit.server import free_port
from tests.bench.server import running_server

BATCH = 10_000
ONE_BY_ONE = 20_000  # rows, at most, of the way that is far slower than the others
Way = Callable[[psycopg.Connection, redis.Redis, list[str]], None]

TABLES = """
    create table product (
        product_id integer generated always as identity primary key, code text not null unique
    );
    insert into product (code) select 'code ' || g from generate_series(1, {keys}) as g;
    create table sale (sale_number integer, product_id integer);
    select sqlkit.create_stage(
        'sale', array['sale_number', 'code', 'product_id'], 'sale_stage', array['code']
    );
    analyze product;
"""


@contextmanager
def running_redis() -> Iterator[redis.Redis]:
    """A Redis of its own, for the time of the block."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        client = redis.Redis(port=port)
        try:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait()


def copy(connection: psycopg.Connection, table: str, rows: Iterator[tuple[object, ...]]) -> None:
    """Rows to a table; as text put together here, which is faster than row by row."""
    text = "".join(f"{first}\t{second}\n" for first, second in rows)
    with connection.cursor().copy(f"copy {table} from stdin".encode()) as stream:
        stream.write(text)


def batches(codes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows, some thousands at a time, with the number of the first."""
    for start in range(0, len(codes), BATCH):
        yield start, codes[start : start + BATCH]


def no_lookup(connection: psycopg.Connection, _: redis.Redis, codes: list[str]) -> None:
    """What all the others have to do besides."""
    for start, batch in batches(codes):
        copy(connection, "sale", ((start + n, n % 1000 + 1) for n in range(len(batch))))


def join(connection: psycopg.Connection, _: redis.Redis, codes: list[str]) -> None:
    """A stage, resolve_keys and a merge, all at once."""
    copy(connection, "sqlkit_stage.sale_stage (sale_number, code)", iter(enumerate(codes)))
    connection.execute(
        "select sqlkit.resolve_keys("
        "'sqlkit_stage.sale_stage', 'product_id', 'product', 'product_id', array['code'])"
    )
    connection.execute("select sqlkit.merge_stage('sqlkit_stage.sale_stage', 'append')")


def _through(connection: psycopg.Connection, client: redis.Redis, codes: list[str]) -> None:
    cache = KeyCache(connection, client, "product", id_column="product_id", key=["code"])
    for start, batch in batches(codes):
        ids = cache.get(batch)
        copy(connection, "sale", ((start + n, id_) for n, id_ in enumerate(ids)))


def redis_warm(connection: psycopg.Connection, client: redis.Redis, codes: list[str]) -> None:
    """KeyCache, all of whose keys are in Redis: see `prepare`."""
    _through(connection, client, codes)


def redis_cold(connection: psycopg.Connection, client: redis.Redis, codes: list[str]) -> None:
    """KeyCache, and Redis is empty."""
    client.flushall()
    _through(connection, client, codes)


def query_a_row(connection: psycopg.Connection, _: redis.Redis, codes: list[str]) -> None:
    """What a program without any of this does; the rows go to the server as in the others."""
    for start, batch in batches(codes[:ONE_BY_ONE]):
        ids = []
        for code in batch:
            row = connection.execute(
                "select product_id from product where code = %s", [code]
            ).fetchone()
            assert row is not None
            ids.append(row[0])
        copy(connection, "sale", ((start + n, id_) for n, id_ in enumerate(ids)))


WAYS: tuple[tuple[str, Way], ...] = (
    ("no lookup: ids are in the input", no_lookup),
    ("resolve_keys: one join", join),
    ("KeyCache, Redis warm", redis_warm),
    ("KeyCache, Redis cold", redis_cold),
    ("one query a row", query_a_row),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser("tests.bench.lookups", description="Lookups of natural keys.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--home", type=Path, default=Path(".sqlkit/bench"), help="of the server")
    options = parser.parse_args(arguments)
    # Every key is asked for as often as every other, in no order.
    codes = [f"code {n * 7919 % options.keys + 1}" for n in range(options.rows)]
    print(f"{options.rows:,} rows, {options.keys:,} keys\n\n| way | rows/s |\n| --- | --- |")
    with running_server(options.home.resolve()) as server, running_redis() as client:
        server.create("bench")
        migrate.up(server.dsn_of("bench"))
        with server.connect("bench") as connection:
            connection.execute(TABLES.format(keys=options.keys).encode())
            KeyCache(connection, client, "product", id_column="product_id", key=["code"]).warm()
            for title, way in WAYS:
                taken = []
                for _ in range(options.rounds):
                    connection.execute("truncate sale")
                    start = time.perf_counter()
                    way(connection, client, codes)
                    taken.append(time.perf_counter() - start)
                rows = min(options.rows, ONE_BY_ONE) if way is query_a_row else options.rows
                of = f", {rows:,} rows" if rows < options.rows else ""
                print(f"| {title}{of} | {rows / min(taken):,.0f} |", flush=True)
        server.drop("bench")
    return 0


if __name__ == "__main__":
    sys.exit(main())
