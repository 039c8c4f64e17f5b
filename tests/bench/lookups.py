"""Measure the ways from natural keys to ids: ``python -m tests.bench.lookups``.

Sales name products by code, the fact table wants their ids. Rows come from Python and go to the
server by COPY, in batches; the time is the best of the rounds. All products are there, and each way
has to load the very same ids. Needs redis-server. There is no bar: the table says when which way is
worth it.
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
from typing import NamedTuple, TypeVar

import psycopg
import redis

from sqlkit import migrate
from sqlkit.lookup import KeyCache
from sqlkit.server import free_port
from tests.bench.server import running_server

T = TypeVar("T")

BATCH = 10_000
ONE_BY_ONE = 5_000  # rows, at most, of the ways that ask for one key at a time

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


class Input(NamedTuple):
    """What sales name, and what the ids are that have to be found."""

    codes: list[str]
    ids: list[int]


Way = Callable[[psycopg.Connection, redis.Redis, Input], None]


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


def batches(values: list[T]) -> Iterator[tuple[int, list[T]]]:
    """The rows, some thousands at a time, with the number of the first."""
    for start in range(0, len(values), BATCH):
        yield start, values[start : start + BATCH]


def no_lookup(connection: psycopg.Connection, _: redis.Redis, rows: Input) -> None:
    """What all the others have to do besides."""
    for start, ids in batches(rows.ids):
        copy(connection, "sale", ((start + n, id_) for n, id_ in enumerate(ids)))


def join(connection: psycopg.Connection, _: redis.Redis, rows: Input) -> None:
    """A stage, resolve_keys and a merge, all at once."""
    copy(connection, "sqlkit_stage.sale_stage (sale_number, code)", iter(enumerate(rows.codes)))
    connection.execute(
        "select sqlkit.resolve_keys("
        "'sqlkit_stage.sale_stage', 'product_id', 'product', 'product_id', array['code'])"
    )
    connection.execute("select sqlkit.merge_stage('sqlkit_stage.sale_stage', 'append')")


def _cache(connection: psycopg.Connection, client: redis.Redis) -> KeyCache:
    return KeyCache(connection, client, "product", id_column="product_id", key=["code"])


def redis_warm(connection: psycopg.Connection, client: redis.Redis, rows: Input) -> None:
    """KeyCache, all of whose keys are in Redis: `main` has warmed it."""
    cache = _cache(connection, client)
    for start, batch in batches(rows.codes):
        ids = cache.get(batch)
        copy(connection, "sale", ((start + n, id_) for n, id_ in enumerate(ids)))


def redis_cold(connection: psycopg.Connection, client: redis.Redis, rows: Input) -> None:
    """KeyCache, and Redis is empty."""
    client.flushall()
    redis_warm(connection, client, rows)


def one_warm(connection: psycopg.Connection, client: redis.Redis, rows: Input) -> None:
    """What KeyCache is for, all keys being in Redis; the rows go to the server as in the others."""
    cache = _cache(connection, client)
    for start, batch in batches(rows.codes[:ONE_BY_ONE]):
        ids = [cache.get_one(code) for code in batch]
        copy(connection, "sale", ((start + n, id_) for n, id_ in enumerate(ids)))


def query_a_row(connection: psycopg.Connection, _: redis.Redis, rows: Input) -> None:
    """What a program without any of this does."""
    for start, batch in batches(rows.codes[:ONE_BY_ONE]):
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
    # Leaves all keys in Redis again.
    ("KeyCache, Redis cold", redis_cold),
    ("KeyCache, get_one, Redis warm", one_warm),
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
    ids = [n * 7919 % options.keys + 1 for n in range(options.rows)]
    rows = Input([f"code {id_}" for id_ in ids], ids)
    print(f"{options.rows:,} rows, {options.keys:,} keys\n\n| way | rows/s |\n| --- | --- |")
    with running_server(options.home.resolve()) as server, running_redis() as client:
        server.create("bench")
        migrate.up(server.dsn_of("bench"))
        with server.connect("bench") as connection:
            connection.execute(TABLES.format(keys=options.keys).encode())
            _cache(connection, client).warm()
            for title, way in WAYS:
                number = options.rows
                if way in (one_warm, query_a_row):
                    number = min(number, ONE_BY_ONE)
                taken = []
                for _ in range(options.rounds):
                    connection.execute("truncate sale")
                    start = time.perf_counter()
                    way(connection, client, rows)
                    taken.append(time.perf_counter() - start)
                    loaded = connection.execute("select count(*), sum(product_id) from sale")
                    assert loaded.fetchone() == (number, sum(ids[:number])), title
                of = f", {number:,} rows" if number < options.rows else ""
                print(f"| {title}{of} | {number / min(taken):,.0f} |", flush=True)
        server.drop("bench")
    return 0


if __name__ == "__main__":
    sys.exit(main())
