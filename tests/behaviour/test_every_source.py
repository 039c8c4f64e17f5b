"""What loading promises, it promises of every source: all put to small loads of each kind.

Each kind has tests of its own, of what is special in it; object stores, whose servers take seconds
to start, are in test_stores.py, Snowflake in sources/test_snowflake.py.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import duckdb
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest

import sqlkit
from sqlkit.errors import RejectLimitError
from sqlkit.server import SUPERUSER
from sqlkit.transient import Waiting
from tests.conftest import Database, fresh_database
from tests.servers import MariaServer, Server
from tests.web import web_server

Row = tuple[int, str, float]
Contents = dict[str, Sequence[Row]]

COLUMNS = ("id", "name", "price")
COUNT = 400
ROWS: list[Row] = [(n, f"item {n}", n / 4) for n in range(1, COUNT + 1)]
CHANGED: list[Row] = [(id, "changed" if id == 200 else name, price) for id, name, price in ROWS]
BAD = {300: "a price below zero", 350: "a name that is too long"}
REFUSED: list[Row] = [
    (id, "x" * 30 if id == 350 else name, -price if id == 300 else price)
    for id, name, price in ROWS
]
CONTENTS: Contents = {"original": ROWS, "changed": CHANGED, "refused": REFUSED}


class Kind(NamedTuple):
    """Sources of a kind: what opens one of the contents, how it is loaded, what it promises."""

    source: Callable[[str], Any]
    options: Mapping[str, Any] = MappingProxyType({})
    first_line: int | None = None  # of the first row; None where records are counted
    is_known: bool = True  # what was loaded is known by its content, and skipped


# --------------------------------------------------------------------------------------------
# The kinds
# --------------------------------------------------------------------------------------------


def as_csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    return text.getvalue().encode()


def as_objects(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def as_lines(rows: Sequence[Row]) -> bytes:
    return "\n".join(map(json.dumps, as_objects(rows))).encode()


def as_xml(rows: Sequence[Row]) -> bytes:
    items = "".join(
        f"<Item><id>{id}</id><name>{name}</name><price>{price}</price></Item>"
        for id, name, price in rows
    )
    return f"<Root>{items}</Root>".encode()


def as_zip(rows: Sequence[Row]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("items.csv", as_csv(rows))
    return whole.getvalue()


def as_arrow(rows: Sequence[Row]) -> pa.Table:
    return pa.table(dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))


def as_parquet(rows: Sequence[Row]) -> bytes:
    whole = io.BytesIO()
    pq.write_table(as_arrow(rows), whole, row_group_size=90)
    return whole.getvalue()


def as_feather(rows: Sequence[Row]) -> bytes:
    whole = io.BytesIO()
    pf.write_feather(as_arrow(rows), whole, chunksize=90)
    return whole.getvalue()


FILES: dict[str, tuple[str, Callable[[Sequence[Row]], bytes], dict[str, Any], int | None]] = {
    "csv": ("csv", as_csv, {}, 2),
    "lines": ("jsonl", as_lines, {}, 1),
    "array": ("json", lambda rows: json.dumps(as_objects(rows)).encode(), {}, None),
    "xml": ("xml", as_xml, {"record": "Item"}, None),
    "zip": ("zip", as_zip, {}, 2),
    "parquet": ("parquet", as_parquet, {}, None),
    "feather": ("feather", as_feather, {}, None),
}
IN_MEMORY: dict[str, tuple[Callable[[Sequence[Row]], Any], dict[str, Any]]] = {
    "mappings": (lambda rows: iter(as_objects(rows)), {}),
    "tuples": (iter, {"columns": COLUMNS}),
    "pandas": (lambda rows: pd.DataFrame(rows, columns=COLUMNS), {}),
    "polars": (lambda rows: pl.DataFrame(rows, schema=list(COLUMNS), orient="row"), {}),
}
TABLE = "create table {} (id integer primary key, name varchar(100), price double precision)"


def statements() -> Iterator[str]:
    """What fills tables of the contents' names, in any SQL."""
    for name, rows in CONTENTS.items():
        yield TABLE.format(name)
        yield f"insert into {name} values {', '.join(map(str, rows))}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def there(server: Server) -> Iterator[Database]:
    """Another database of the server, with the contents."""
    with fresh_database(server) as made:
        with made.connect() as connection:
            for statement in statements():
                connection.execute(statement.encode())
        yield made


@pytest.fixture(scope="module")
def lite(folder: Path) -> Path:
    path = folder / "there.sqlite"
    with closing(sqlite3.connect(path)) as made, made:
        for statement in statements():
            made.execute(statement)
    return path


@pytest.fixture(scope="module")
def duck(folder: Path) -> Path:
    path = folder / "there.duckdb"
    with duckdb.connect(str(path)) as made:
        for statement in statements():
            made.execute(statement)
    return path


@pytest.fixture(scope="module")
def maria(mariadb: MariaServer) -> Iterator[str]:
    """A database of MariaDB with the contents: its address."""
    name = f"every_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    mariadb.run(f"create database {name}")
    mariadb.run(";".join(statements()), name)
    yield f"mysql://{mariadb.user}:{mariadb.password}@{mariadb.host}:{mariadb.port}/{name}"
    mariadb.run(f"drop database {name}")


@pytest.fixture(
    params=[
        *FILES,
        *IN_MEMORY,
        *("http", "postgresql", "mysql", "sqlite", "duckdb"),
        *("dbapi+sqlite3", "adbc+sqlite"),
    ]
)
def kind(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kind]:
    name = request.param
    if name in FILES:
        suffix, write, options, first_line = FILES[name]
        for content, rows in CONTENTS.items():
            (folder / f"{content}.{suffix}").write_bytes(write(rows))
        yield Kind(lambda content: folder / f"{content}.{suffix}", options, first_line)
    elif name in IN_MEMORY:
        make, options = IN_MEMORY[name]
        yield Kind(lambda content: make(CONTENTS[content]), options, is_known=False)
    elif name == "http":
        monkeypatch.setenv("NO_PROXY", "*")
        with web_server() as web:
            addresses = {
                content: web.put(f"/{content}.csv", as_csv(rows))
                for content, rows in CONTENTS.items()
            }
            yield Kind(addresses.__getitem__, first_line=2)
    else:
        yield Kind(lambda content: f"{address(request, name)}#{content}", is_known=False)


def address(request: pytest.FixtureRequest, name: str) -> str:
    if name == "mysql":
        return str(request.getfixturevalue("maria"))
    if name == "postgresql":
        there: Database = request.getfixturevalue("there")
        found = psycopg.conninfo.conninfo_to_dict(there.dsn)
        password = f":{found['password']}" if found.get("password") else ""
        host = f"{found['host']}:{there.server.port}"
        return f"postgresql://{there.user}{password}@{host}/{there.name}"
    path = request.getfixturevalue("duck" if name == "duckdb" else "lite")
    return f"{name}://{quote(str(path))}"


# --------------------------------------------------------------------------------------------
# The promises
# --------------------------------------------------------------------------------------------

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def here(server: Server, sqlkit_template: str, user: str) -> Iterator[Database]:
    with fresh_database(server, sqlkit_template, user) as made:
        yield made


@pytest.fixture(scope="module")
def client(here: Database) -> Iterator[sqlkit.Client]:
    with sqlkit.connect(here.dsn) as made:
        yield made


class Target(NamedTuple):
    """A table that is loaded into."""

    name: str
    connection: psycopg.Connection

    def content(self) -> list[Row]:
        query = f"select id, name, price::float8 from {self.name} order by id"
        return self.connection.execute(query.encode()).fetchall()


@pytest.fixture
def target(here: Database) -> Iterator[Target]:
    name = f"public.item_{next(_numbers)}"
    with here.connect() as connection:
        connection.execute(
            f"create table {name} (id integer primary key, name varchar(20) not null, "
            "price numeric(8, 2) check (price >= 0))".encode()
        )
        yield Target(name, connection)


def test_policies_exactly_once_and_progress(
    kind: Kind, client: sqlkit.Client, target: Target
) -> None:
    told: list[sqlkit.LoadProgress] = []

    def load(content: str, **options: Any) -> sqlkit.LoadResult:
        how = {"into": target.name, "workers": 2, **kind.options, **options}
        return client.load(kind.source(content), **how)

    first = load("original", batch_bytes=2000, progress=told.append)
    assert first.rows == sqlkit.RowCounts(read=COUNT, inserted=COUNT)
    if kind.is_known and "record" not in kind.options:  # XML is read in large blocks
        assert first.batches > 1
    assert target.content() == ROWS
    assert {"copy"} <= {event.phase for event in told}
    assert told[-1].source == first.sources[0].name
    assert [event.rows for event in told] == sorted(event.rows for event in told)

    again = load("original")
    if kind.is_known:
        assert (again.sources[0].state, again.rows.read) == ("skipped", 0)
    else:
        assert again.rows == sqlkit.RowCounts(read=COUNT, unchanged=COUNT)
    assert load("changed", policy="ignore").rows == sqlkit.RowCounts(read=COUNT, ignored=COUNT)
    changed = load("changed", batch_bytes=2000)
    assert changed.rows == sqlkit.RowCounts(read=COUNT, updated=1, unchanged=COUNT - 1)
    assert target.content() == CHANGED


def test_a_bad_row_is_a_reject_with_its_place(
    kind: Kind, client: sqlkit.Client, target: Target, tmp_path: Path
) -> None:
    def load(source: Any, **options: Any) -> sqlkit.LoadResult:
        return client.load(source, into=target.name, workers=2, **options)

    place = "record" if kind.first_line is None else "line"
    numbers = [(kind.first_line or 1) + id - 1 for id in BAD]
    with pytest.raises(RejectLimitError) as caught:
        load(kind.source("refused"), **kind.options)
    assert all(f"{place} {number}" in str(caught.value.detail) for number in numbers)
    assert target.content() == []

    result = load(kind.source("refused"), **kind.options, reject_limit=2, batch_bytes=2000)
    assert (result.rows.inserted, result.rows.rejected) == (COUNT - 2, 2)
    assert result.run_id is not None
    rejects = client.rejects(result.run_id)
    told = "first_line" if kind.first_line else "record"
    assert [(found[told], found["sqlstate"]) for found in rejects] == [
        (numbers[0], "23514"),
        (numbers[1], "22001"),
    ]
    assert all((found["record"] is None) == (place == "line") for found in rejects)
    assert {found["source"] for found in rejects} == {result.sources[0].name}

    # Written as a file, mended, and loaded.
    (file,) = client.export_rejects(result.run_id)
    path = tmp_path / f"mended{file.suffix}"
    mended = file.content.replace(b"-75", b"75").replace(b"x" * 30, b"item 350")
    path.write_bytes(mended)
    assert load(path).rows.inserted == 2
    assert target.content() == ROWS
    # Or loaded again after the rule was mended.
    target.connection.execute(
        f"alter table {target.name} drop constraint {target.name.partition('.')[2]}_price_check, "
        "alter name type text".encode()
    )
    (replayed,) = client.replay_rejects(result.run_id)
    assert replayed.rows.updated == 2
    assert target.content() == REFUSED


def test_a_lost_connection_is_waited_for(
    kind: Kind,
    client: sqlkit.Client,
    target: Target,
    here: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under policy append, which would have a row that is loaded twice there twice."""
    waited: list[Waiting] = []
    monkeypatch.setattr("sqlkit.loader.pause", lambda wait, _: waited.append(wait))
    strikes = iter([True])

    def strike(_: sqlkit.LoadProgress) -> None:
        if next(strikes, False):
            with here.connect(user=SUPERUSER) as killer:
                killer.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                    "where datname = current_database() and application_name like 'sqlkit%'"
                )

    result = client.load(
        kind.source("original"),
        into=target.name,
        policy="append",
        batch_bytes=2000,
        progress=strike,
        **kind.options,
    )
    assert waited
    assert result.rows.inserted == COUNT
    assert target.content() == ROWS
