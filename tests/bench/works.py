"""What is measured: each work with its input, its references, and the bars to be held."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import data
from tests.bench.server import (
    CONTRIB,
    EVENT_TABLE,
    PRICE_CHECK,
    PRICE_KEY,
    PRICE_TABLE,
    BenchServer,
)

PRICE = "bench.price"
EVENT = "bench.event"
KEY = ("--key", "product_id,store_id")


@dataclass(frozen=True)
class Bar:
    """What sqlkit may take, against a reference that took `reference` seconds."""

    factor: float  # at most this many times the reference
    extra_seconds: float = 0.0  # and this much on top

    def holds(self, reference: float, mine: float) -> bool:
        """Whether `mine` seconds are few enough."""
        return mine <= reference * self.factor + self.extra_seconds

    def __str__(self) -> str:
        if self.extra_seconds:
            return f"+ {self.extra_seconds:g} s"
        if self.factor < 1:
            return f"{1 / self.factor:g} x faster"
        return f"{self.factor:g} x"


@dataclass(frozen=True)
class Reference:
    """A script of this directory and the bar against it."""

    script: str
    bar: Bar | None = None
    once: bool = False  # far slower than its bar: one round shows it as well as three
    exact: bool = True  # whether its result is the right one


@dataclass(frozen=True)
class Work:
    """One thing to be done on a fresh copy of a template."""

    name: str
    title: str
    template: str
    table: str
    arguments: tuple[str, ...]  # of sqlkit load, after the file and --into
    references: tuple[Reference, ...]
    input: data.Input
    program: str | None = None  # a script of this directory, run in place of sqlkit load
    reference_input: data.Prices | None = None  # where it is not the same
    rejects: bool = False  # some rows are refused, and on every server that is there
    no_dead_rows: bool = False  # a bar of its own
    peak_bytes: int | None = None  # another
    on_request: bool = False


def works(rows: int, json_rows: int) -> list[Work]:
    """All works, in the order in which they are measured."""
    base = data.Prices(rows)
    changed = data.Prices(rows, changed=0.1, new=0.005)
    update = (*KEY, "--policy", "update")
    append = ("--policy", "append")
    best = Bar(1.15)
    return [
        Work(
            "first", "first load into an empty table with its key", "bench_empty", PRICE,
            update, (Reference("first_load.sh", best),), base,
        ),
        Work(
            "changed", "deliver again, 10% changed", "bench_loaded", PRICE,
            update,
            (
                Reference("merge.sh", best),
                Reference("on_conflict.sh", Bar(1 / 3), once=True),
            ),
            changed,
        ),
        Work(
            "unchanged", "deliver again, unchanged", "bench_loaded", PRICE,
            update,
            (
                Reference("merge.sh", best),
                Reference("on_conflict.sh", Bar(1 / 5), once=True),
            ),
            base,
            no_dead_rows=True,
        ),
        Work(
            "rejects", "first load, 1% of the rows are bad", "bench_empty", PRICE,
            (*update, "--reject-limit", "2%"),
            (Reference("sqlkit_update.sh", Bar(2), exact=False),),
            data.Prices(rows, bad_every=100), reference_input=base, rejects=True,
        ),
        Work(
            "rejects-again", "deliver again, 1% of the rows are bad", "bench_loaded", PRICE,
            (*update, "--reject-limit", "2%"),
            (Reference("sqlkit_update.sh", Bar(2), exact=False),),
            data.Prices(rows, changed=0.1, new=0.005, bad_every=100),
            reference_input=changed, rejects=True,
        ),
        Work(
            "rejects-check", "first load, 1% of the rows break a CHECK",
            "bench_empty_checked", PRICE,
            (*update, "--reject-limit", "2%"),
            (Reference("sqlkit_update.sh", Bar(2), exact=False),),
            data.Prices(rows, bad_every=100, bad="-1"), reference_input=base, rejects=True,
        ),
        Work(
            "rejects-check-again", "deliver again, 1% of the rows break a CHECK",
            "bench_loaded_checked", PRICE,
            (*update, "--reject-limit", "2%"),
            (Reference("sqlkit_update.sh", Bar(2), exact=False),),
            data.Prices(rows, changed=0.1, new=0.005, bad_every=100, bad="-1"),
            reference_input=changed, rejects=True,
        ),
        Work(
            "append", "append to a table without a key", "bench_keyless", PRICE,
            append, (Reference("append.sh", Bar(1.1)),), base,
        ),
        Work(
            "append-key", "append to a table with a key", "bench_empty", PRICE,
            append, (Reference("append.sh", Bar(1.1)),), base,
        ),
        Work(
            "json", f"{json_rows:,} JSON lines to typed columns", "bench_event", EVENT,
            ("--format", "jsonl", "--key", "id", "--policy", "update"),
            (
                Reference("json_server.sh", Bar(1.2)),
                Reference("json_duckdb.sh", Bar(1.2), exact=False),
            ),
            data.Events(json_rows),
        ),
        Work(
            "small", "load 1,000 rows", "bench_empty", PRICE,
            update, (Reference("append.sh", Bar(1, 0.7)),), data.Prices(1000),
        ),
        Work(
            "small-files", "500 files of 200 rows, 10% changed", "bench_loaded", PRICE,
            update,
            (
                Reference("sqlkit_each.py", Bar(1 / 10), once=True),
                Reference("merge_whole.sh", Bar(1, 2)),
            ),
            data.SmallFiles(data.Prices(100_000, changed=0.1), 500),
            reference_input=data.Prices(100_000, changed=0.1),
        ),
        Work(
            "rows", "200,000 dicts of Python, half of them new", "bench_loaded", PRICE,
            (),
            (
                Reference("rows_executemany.py", Bar(1 / 3), once=True),
                Reference("rows_asyncpg.py", Bar(1)),
            ),
            data.Prices(200_000),
            program="rows.py",
        ),
        Work(
            "parquet", "1,000,000 rows of Parquet, 10% changed", "bench_loaded", PRICE,
            update, (Reference("parquet_adbc.py", Bar(1.2)),),
            data.ParquetPrices(data.Prices(rows // 2, changed=0.1)),
        ),
        Work(
            "memory-200MB", "append 200 MB of CSV: memory", "bench_keyless", PRICE,
            append, (Reference("append.sh"),), data.BigPrices(200_000_000),
            peak_bytes=200_000_000,
        ),
        Work(
            "memory-2GB", "append 2 GB of CSV: memory", "bench_keyless", PRICE,
            append, (Reference("append.sh", once=True),), data.BigPrices(2_000_000_000),
            peak_bytes=200_000_000, on_request=True,
        ),
    ]  # fmt: skip


TEMPLATES = (
    *("bench_empty", "bench_loaded", "bench_empty_checked", "bench_loaded_checked"),
    *("bench_keyless", "bench_event"),
)


def build_templates(
    server: BenchServer, wanted: Sequence[Work], base: Path, deploy: Sequence[str] | None
) -> None:
    """Make the template databases that `wanted` needs; `deploy` is run in each where given.

    `base` is the price file that the loaded template holds. The table is filled the way a first
    load fills it, and vacuumed, as one that has been in use for a while is.
    """
    from tests.bench.measure import run

    for template in {work.template: None for work in wanted}:
        server.create(template)
        with server.connect(template) as connection:
            connection.execute(CONTRIB)
            connection.execute("create schema bench")
            if template == "bench_event":
                connection.execute(EVENT_TABLE)
            else:
                connection.execute(PRICE_TABLE)
            if template.startswith("bench_loaded"):
                with (
                    connection.cursor() as cursor,
                    cursor.copy("copy bench.price from stdin (format csv, header)") as copy,
                    gzip.open(base, "rb") as file,
                ):
                    while block := file.read(1 << 20):
                        copy.write(block)
            if template.startswith(("bench_empty", "bench_loaded")):
                connection.execute(PRICE_KEY)
            if template.endswith("_checked"):
                connection.execute(PRICE_CHECK)
            connection.execute("vacuum (freeze, analyze)")
        if deploy is not None:
            run(deploy, server.environment(template))


def drop_templates(server: BenchServer) -> None:
    """Remove what `build_templates` made."""
    for template in TEMPLATES:
        server.drop(template)
