"""Databases that are read by any driver: of ADBC, or a DB-API module of Python."""

from __future__ import annotations

import contextlib
import copy
import itertools
import sqlite3
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import duckdb
import psycopg
import pyarrow as pa
import pytest

import sqlkit as api
from sqlkit.errors import SourceError, SqlkitError, UsageError
from sqlkit.sources import queries
from sqlkit.sources.queries import QuerySource, source_of
from tests.conftest import Database, RunSqlkit

MAKE = (
    "create table item (id integer, name text, price double precision, trap text)",
    "insert into item values (1, 'it''s', 0.5, null), (2, null, 1e-3, 'x'), (3, 'ü\n\t', -2, '')",
)
COLUMNS = ["id", "name", "price"]
EXPECTED = [(1, "it's", 0.5), (2, None, 0.001), (3, "ü\n\t", -2.0)]

ADDRESSES = {
    "adbc+sqlite": "adbc+sqlite://{path}",
    "adbc by module": "adbc://sqlite?uri=file:{path}",
    "dbapi+sqlite3": "dbapi+sqlite3://{path}",
    "dbapi+duckdb": "dbapi+duckdb://{path}?read_only=true",
    "adbc+postgresql": "adbc+{postgresql}",
    "dbapi+psycopg": "dbapi+psycopg://?conninfo={conninfo}",
}


@dataclass(frozen=True)
class Place:
    """A database with a table `item`."""

    address: str
    run: Callable[[str], object]  # a statement there


@pytest.fixture(params=ADDRESSES)
def place(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Database) -> Place:
    path = tmp_path / "a file.db"

    def run(statement: str) -> None:
        if "sqlite" in ADDRESSES[request.param]:
            with contextlib.closing(sqlite3.connect(path)) as lite, lite:
                lite.execute(statement)
        elif "duckdb" in request.param:
            with duckdb.connect(str(path)) as duck:
                duck.execute(statement)
        else:
            with empty_database.connect() as there:
                there.execute(statement.encode())

    for statement in MAKE:
        run(statement)
    found = psycopg.conninfo.conninfo_to_dict(empty_database.dsn)
    password = f":{found['password']}" if found.get("password") else ""
    server = f"{found['host']}:{empty_database.server.port}/{empty_database.name}"
    address = ADDRESSES[request.param].format(
        path=quote(str(path)),
        postgresql=f"postgresql://{empty_database.user}{password}@{server}",
        conninfo=quote(empty_database.dsn, safe=""),
    )
    return Place(address, run)


@pytest.fixture
def address(place: Place) -> str:
    return place.address


def test_a_table_and_a_query(
    address: str, database: Database, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute(
        "create table item (id integer primary key, name text, price double precision)"
    )
    found = "select id, name, price from item order by id"
    with api.connect(database.dsn) as client:
        loaded = client.load(f"{address}#item", into="public.item", columns=COLUMNS)
        assert (loaded.rows.inserted, loaded.sources[0].state) == (3, "loaded")
        assert connection.execute(found.encode()).fetchall() == EXPECTED
        # A condition, an order, and columns that nobody wants.
        query = "with one as (select * from item) select * from one where id > 1 order by id desc;"
        loaded = client.load(
            address, into="public.item", query=query, leave_out=["trap"], where="id < 3 -- few"
        )
        assert (loaded.rows.read, loaded.rows.unchanged) == (1, 1)
        # A table that is made for it, and no rows.
        created = client.load(
            address,
            into="public.made",
            query="select * from item",
            create=True,
            key="id",
            where="id < 3",
        )
        assert created.rows.inserted == 2
        none = client.load(f"{address}#item", into="public.item", columns=COLUMNS, where="1 = 0")
        assert none.rows.read == 0
        # Bad rows are found, and kept.
        connection.execute("create table small (id integer primary key check (id <> 2), name text)")
        refused = client.load(
            f"{address}#item", into="public.small", columns=COLUMNS[:2], reject_limit=1
        )
        assert (refused.rows.inserted, refused.rows.rejected) == (2, 1)
        for query, code, message in (
            ("select * frm item", "SK101", "the database says"),
            ("select * from nowhere", "SK101", "the database says"),
            ("select id, id from item", "SK111", "names a column twice"),
        ):
            if code == "SK111" and "duckdb" in address:
                continue  # it gives the second one another name
            with pytest.raises(SourceError, match=message) as caught:
                client.load(address, into="public.item", query=query)
            assert caught.value.code == code
            assert caught.value.__cause__ is None
    made = connection.execute("select id, name, price from made order by id").fetchall()
    assert [(row[0], row[1], float(row[2])) for row in made] == EXPECTED[:2]


@pytest.mark.parametrize("policy", ["update", "append"])
def test_only_what_is_newer(
    policy: str, place: Place, database: Database, connection: psycopg.Connection
) -> None:
    connection.execute("create table item (id integer, name text)")
    if policy == "update":
        connection.execute("alter table item add primary key (id)")

    def load() -> int:
        with api.connect(database.dsn) as client:
            return client.load(
                f"{place.address}#item",
                into="public.item",
                policy=policy,
                columns=["id", "name"],
                since="id",
                where="id <> 2",
            ).rows.read

    assert load() == 2
    place.run("insert into item (id, name) values (4, 'new')")
    # Rows of the last value come again where they can be compared.
    assert load() == (2 if policy == "update" else 1)
    assert load() == (1 if policy == "update" else 0)
    found = connection.execute("select id from item order by id").fetchall()
    assert found == [(1,), (3,), (4,)]
    with api.connect(database.dsn) as client, pytest.raises(SourceError) as caught:
        client.load(f"{place.address}#item", into="public.item", policy=policy, since="nothing")
    assert caught.value.code == "SK125"


class Asked:
    """A driver that notes what it is asked."""

    apilevel = "2.0"
    said: list[str]
    given: dict[str, object]

    def __init__(self, path: str, error: Exception | None = None) -> None:
        self.said = []
        self._path = path
        self._error = error

    def connect(self, *arguments: object, **options: object) -> object:
        self.given = options
        if self._error is not None:
            raise self._error
        connection = sqlite3.connect(self._path, check_same_thread=False)
        connection.set_trace_callback(self.said.append)
        return connection


def test_only_what_is_wanted_is_asked_for(
    tmp_path: Path,
    database: Database,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "lite.db"
    with sqlite3.connect(path) as lite:
        lite.execute('create table t (id integer, "a ""b" text, "c`d" text, unwanted text)')
        lite.execute("insert into t values (1, 'x', 'y', 'z')")
    lite.close()
    connection.execute('create table "T" (id integer primary key, "a ""b" text, "c`d" text)')
    driver = Asked(str(path))
    monkeypatch.setitem(sys.modules, "some_driver", driver)
    with api.connect(database.dsn) as client:
        loaded = client.load(
            "dbapi+some_driver://#t", into='public."T"', leave_out=["unwanted"], where="id = 1"
        )
    assert loaded.rows.inserted == 1
    # SQLite takes what is no name, in double quotes, for a text: so these were not used.
    assert driver.said[-1] == 'select `id`, `a "b`, `c``d` from t where (\nid = 1\n)'
    assert connection.execute('select * from "T"').fetchall() == [(1, "x", "y")]


def test_no_secret_is_told(
    database: Database, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute("create table item (id integer primary key)")
    monkeypatch.setenv("ITEM_TOKEN", "s3cret/token")
    monkeypatch.setenv("SQLKIT_SOURCE_PASSWORD", "hunter2")
    driver = Asked(
        "", RuntimeError("login failed for me:hunter2 with s3cret/token (s3cret%2Ftoken)")
    )
    monkeypatch.setitem(sys.modules, "some_driver", driver)
    with api.connect(database.dsn) as client:
        with pytest.raises(SourceError, match=r"login failed for me:\*\*\* with \*\*\*") as caught:
            client.load(
                "dbapi+some_driver://me@host:7/db?token=${ITEM_TOKEN}&tls=true#item",
                into="public.item",
            )
        assert driver.given == {
            "host": "host",
            "port": 7,
            "user": "me",
            "password": "hunter2",
            "database": "db",
            "token": "s3cret/token",
            "tls": True,
        }
        errors: list[SqlkitError] = [caught.value]
        for address, message in (
            ("adbc+postgresql://me:hunter2@127.0.0.1:1/db#item", "cannot be connected to"),
            ("adbc+postgresql://me@127.0.0.1:1/db?bad=hunter2#item", "cannot be connected to"),
            ("dbapi+some_driver://me:hunter2@[::1/db#item", "cannot be read"),
            ("dbapi+some_driver://me:${NO_SUCH}@h/db#item", "NO_SUCH, which an address names"),
        ):
            with pytest.raises(SqlkitError, match=message) as caught_too:
                client.load(address, into="public.item")
            errors.append(caught_too.value)
    for error in errors:
        told = f"{error.message} {error.detail} {error.hint} {error.__cause__}"
        assert "hunter2" not in told
        assert "token" not in told
    kept = connection.execute(
        "select count(*) from (select r::text as t from sqlkit.run as r union all "
        "select s::text from sqlkit.source as s) as t where t ~ 'hunter2|s3cret'"
    ).fetchone()
    assert kept == (0,)


class Breaking:
    """A DB-API module by this name: its third answer is long, and cut off after `rows` of it."""

    apilevel = "2.0"
    whole = 20_000
    description: tuple[tuple[str], ...] | None = None

    def __init__(self, rows: int, *, gives_arrow: bool) -> None:
        self.rows = rows
        self.gives_arrow = gives_arrow

    def connect(self, **options: object) -> Breaking:
        return self

    def cursor(self) -> Breaking:
        found = copy.copy(self)
        if self.gives_arrow:
            found.fetch_record_batch = found._batches  # type: ignore[attr-defined]
        return found

    def execute(self, statement: str) -> None:
        self.description = (("id",), ("name",))
        is_few = "1 = 0" in statement
        self._left = iter(range(0 if is_few else self.whole))
        if "sqlkit_nobody" in statement.lower():
            raise RuntimeError("no such column")

    def fetchmany(self, number: int) -> list[tuple[int, str]]:
        found = [(n, f"name {n}") for n in itertools.islice(self._left, number)]
        if found and found[-1][0] >= self.rows:
            raise ConnectionError("server hunter2 closed the connection")
        return found

    def _batches(self) -> pa.RecordBatchReader:
        schema = pa.schema([("id", pa.int32()), ("name", pa.string())])

        def batches() -> Iterator[pa.RecordBatch]:
            while rows := self.fetchmany(1000):
                ids, names = zip(*rows, strict=True)
                yield pa.record_batch([pa.array(ids, pa.int32()), pa.array(names)], schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def close(self) -> None:
        pass

    rollback = close


@pytest.mark.parametrize("gives_arrow", [False, True], ids=["rows", "arrow"])
@pytest.mark.parametrize("policy", ["update", "append"])
def test_a_connection_that_is_lost_ends_the_load_and_the_next_one_has_every_row_once(
    database: Database,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    gives_arrow: bool,
) -> None:
    connection.execute("create table item (id integer, name text)")
    if policy == "update":
        connection.execute("alter table item add primary key (id)")
    monkeypatch.setitem(sys.modules, "breaking", Breaking(12_000, gives_arrow=gives_arrow))
    monkeypatch.setenv("SQLKIT_SOURCE_PASSWORD", "hunter2")

    def load(client: api.Client) -> api.LoadResult:
        return client.load(
            "dbapi+breaking://me@host/shop#item",
            into="public.item",
            policy=policy,
            batch_bytes=10_000,
        )

    with api.connect(database.dsn) as client:
        with pytest.raises(SourceError, match="closed the connection") as caught:
            load(client)
        assert "hunter2" not in str(caught.value) + str(caught.value.__cause__)
        there = connection.execute("select count(*) from item").fetchone()
        assert there is not None
        # What was committed stays, where the next load knows it again.
        assert (0 < there[0] < 12_000) if policy == "update" else there == (0,)
        monkeypatch.setitem(sys.modules, "breaking", Breaking(20_000, gives_arrow=gives_arrow))
        again = load(client)
    assert again.rows.read == 20_000
    assert again.rows.unchanged == there[0]
    found = connection.execute("select count(*), count(distinct id), max(id) from item")
    assert found.fetchone() == (20_000, 20_000, 19_999)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, message, hint in (
        ("adbc+nothing://host#t", "needs adbc_driver_nothing", "pip install adbc-driver-nothing"),
        ("dbapi+no_such_module://host#t", "needs no_such_module", "pip install no_such_module"),
        ("dbapi+json://host#t", "is no DB-API module", "such as oracledb"),
        ("dbapi+sqlite3:///x", "name a table or a query", "#table"),
        ("dbapi+sqlite3:///x#a;b", "is no name of a table", '"a"."b"'),
        ("adbc://#t", "names no driver", "adbc+postgresql"),
        ("dbapi+a b://#t", "names no module", "dbapi+MODULE"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            source_of(address, None).open()
        assert hint in str(caught.value.hint)
    monkeypatch.setitem(sys.modules, "adbc_driver_manager.dbapi", None)
    with pytest.raises(UsageError, match="needs adbc_driver_nothing"):
        source_of("adbc+nothing://host#t", None).open()


def test_names_in_upper_case_are_those_that_nobody_quoted() -> None:
    class Cursor:
        description = [(name,) for name in ("ID", "Name", "A B")]  # noqa: RUF012

        def execute(self, statement: str) -> None: ...

        def fetchmany(self, number: int) -> list[tuple[object, ...]]:
            return []

        def close(self) -> None: ...

    base = types.SimpleNamespace(cursor=Cursor, close=lambda: None)
    there = queries.Database("x://", lambda: base, queries.Secrets(), "x", '"', is_upper=True)
    source = QuerySource(there, "t", None)
    assert source.open().columns == ("id", "Name", "a b")
    source.close()
