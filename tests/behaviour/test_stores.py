"""Loading from object stores and the web: exactly once, whatever happens on the way."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sqlkit as api
from sqlkit.errors import SourceError
from sqlkit.sources import remote
from sqlkit.transient import Waiting
from tests.conftest import Database, RunSqlkit, missing
from tests.servers import Missing
from tests.stores import STORES, Dropping, StoreServer, s3
from tests.web import Resource, WebServer, web_server

SECRET = "hunter2"


@pytest.fixture(scope="module", params=STORES)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StoreServer]:
    folder = tmp_path_factory.mktemp(request.param)
    try:
        with STORES[request.param](folder) as running:
            yield running
    except Missing as reason:
        missing(str(reason))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.005)
    monkeypatch.setenv("NO_PROXY", "*")
    with web_server() as server:
        yield server


@pytest.fixture
def table(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("create table item (id integer primary key, name text)")
    return connection


def csv(first: int, end: int, name: str = "item") -> bytes:
    return b"id,name\n" + b"".join(b"%d,%b %d\n" % (n, name.encode(), n) for n in range(first, end))


def count(connection: psycopg.Connection) -> int:
    row = connection.execute("select count(*) from item").fetchone()
    assert row is not None
    return int(row[0])


def everything_kept(connection: psycopg.Connection) -> str:
    """All that the ledger holds, as text."""
    tables = connection.execute(
        "select format('select t::text from sqlkit.%I as t', c.relname) from pg_class as c "
        "where c.relnamespace = 'sqlkit'::regnamespace and c.relkind = 'r' "
        "and c.relname <> 'alembic_version'"
    ).fetchall()
    return "\n".join(
        str(row[0]) for (query,) in tables for row in connection.execute(query.encode()).fetchall()
    )


def result(done: subprocess.CompletedProcess[str]) -> Mapping[str, object]:
    assert done.returncode == 0, done.stderr
    found: Mapping[str, object] = json.loads(done.stdout)
    return found


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    sources = result(done)["sources"]
    assert isinstance(sources, list)
    return {source["name"].rpartition("/")[2]: source["state"] for source in sources}


def test_objects_are_loaded_once(
    store: StoreServer, sqlkit: RunSqlkit, dsn: str, table: psycopg.Connection
) -> None:
    parts = {
        f"one/part{n}.csv.gz": gzip.compress(csv(n * 1000, n * 1000 + 500)) for n in (1, 2, 10)
    }
    store.put({**parts, "one/notes.txt": b"no rows"})

    def load(pattern: str = "one/*.csv.gz") -> subprocess.CompletedProcess[str]:
        arguments = (
            "load",
            f"{store.root}/{pattern}",
            "--into",
            "public.item",
            "--dsn",
            dsn,
            "--json",
        )
        done = sqlkit(*arguments, env=store.environment)
        assert store.secret not in done.stdout + done.stderr
        assert done.stderr == ""
        return done

    # In natural order, each fetched and loaded.
    first = states(load())
    assert list(first.items()) == [(f"part{n}.csv.gz", "loaded") for n in (1, 2, 10)]
    assert count(table) == 1500
    # Another content under a name is new, and a content under another name is not.
    store.put(
        {
            "one/part2.csv.gz": gzip.compress(csv(5000, 5001)),
            "one/part3.csv.gz": parts["one/part10.csv.gz"],
        }
    )
    assert states(load()) == {
        "part1.csv.gz": "skipped",
        "part2.csv.gz": "loaded",
        "part3.csv.gz": "skipped",
        "part10.csv.gz": "skipped",
    }
    assert count(table) == 1501
    kept = everything_kept(table)
    assert f"{store.root}/one/part10.csv.gz" in kept
    assert store.secret not in kept


def test_what_is_not_there_is_told(store: StoreServer, sqlkit: RunSqlkit, dsn: str) -> None:
    store.put({"two/a.csv": csv(1, 2)})
    names = {"none.csv": "SK102", "two/*.gz": "SK102", "two": "SK104"}
    if store.root != "s3://box":
        del names["two/*.gz"], names["two"]
    for name, code in names.items():
        arguments = ("load", f"{store.root}/{name}", "--into", "public.t", "--dsn", dsn, "--json")
        done = sqlkit(*arguments, env=store.environment)
        assert done.returncode == 1
        error = json.loads(done.stdout)["error"]
        assert error["code"] == code
        assert error["message"].startswith(f"{store.root}/{name}: ")
        assert store.secret not in done.stdout
        assert done.stderr == ""


def test_parquet_and_archives_of_a_store(
    bucket: StoreServer, sqlkit: RunSqlkit, dsn: str, table: psycopg.Connection
) -> None:
    parquet, packed = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(range(100), pa.int32()), "name": ["p"] * 100}), parquet)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", csv(200, 300))
        archive.writestr("b.csv", csv(300, 400))
    bucket.put({"k/a.parquet": parquet.getvalue(), "k/b.zip": packed.getvalue()})
    done = sqlkit(
        "load",
        "s3://box/k/*",
        "--into",
        "public.item",
        "--dsn",
        dsn,
        "--json",
        env=bucket.environment,
    )
    assert list(states(done)) == ["a.parquet", "b.zip!a.csv", "b.zip!b.csv"]
    assert count(table) == 300


@pytest.fixture
def dropping(bucket: StoreServer) -> Iterator[Dropping]:
    proxy = Dropping(int(bucket.environment["AWS_ENDPOINT_URL"].rpartition(":")[2]), [])
    yield proxy
    proxy.close()


def through(bucket: StoreServer, proxy: Dropping) -> dict[str, str]:
    return {**bucket.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}


def test_a_connection_that_drops_loses_no_row_and_doubles_none(
    bucket: StoreServer, dropping: Dropping, sqlkit: RunSqlkit, dsn: str, table: psycopg.Connection
) -> None:
    table.execute("alter table item drop constraint item_pkey")
    content = csv(0, 1_000_000)  # several blocks
    bucket.put({"drop/a.csv": content})
    dropping.after = [3_000_000, 9_000_000, 100_000]
    arguments = (
        "load",
        "s3://box/drop/a.csv",
        "--into",
        "public.item",
        "--policy",
        "append",
        "--json",
    )
    done = sqlkit(*arguments, "--dsn", dsn, env=through(bucket, dropping))
    assert done.returncode == 0, done.stderr
    assert dropping.cuts == 3
    assert table.execute("select count(*), count(distinct id) from item").fetchone() == (
        1_000_000,
        1_000_000,
    )


def test_bad_rows_of_an_object_are_rejects_with_their_place(
    bucket: StoreServer, sqlkit: RunSqlkit, dsn: str, table: psycopg.Connection
) -> None:
    table.execute("alter table item add check (id <> 7)")
    bucket.put({"bad/a.csv.gz": gzip.compress(csv(0, 20).replace(b"\n9,", b"\nnine,"))})
    arguments = ("load", "s3://box/bad/a.csv.gz", "--into", "public.item", "--dsn", dsn)
    done = sqlkit(*arguments, "--reject-limit", "2", env=bucket.environment)
    assert done.returncode == 3, done.stderr
    assert count(table) == 18
    rejects = table.execute(
        "select s.name, r.first_line, r.raw, r.sqlstate from sqlkit.reject as r "
        "join sqlkit.source as s using (source_id) order by r.first_line"
    ).fetchall()
    assert rejects == [
        ("s3://box/bad/a.csv.gz", 9, "7,item 7", "23514"),
        ("s3://box/bad/a.csv.gz", 11, "nine,item 9", "22P02"),
    ]


def test_an_object_that_changes_while_it_is_read_is_an_error(
    bucket: StoreServer, dropping: Dropping, sqlkit: RunSqlkit, dsn: str, table: psycopg.Connection
) -> None:
    bucket.put({"change/a.csv": csv(0, 500_000)})
    dropping.after = [9_000_000]
    dropping.on_cut = [lambda: bucket.put({"change/a.csv": csv(0, 500_000, "idem")})]
    arguments = ("load", "s3://box/change/a.csv", "--into", "public.item", "--dsn", dsn)
    done = sqlkit(*arguments, env=through(bucket, dropping))
    assert done.returncode == 1
    assert "it changed while it was read" in done.stderr
    assert count(table) == 0
    done = sqlkit(*arguments, "--json", env=through(bucket, dropping))
    assert states(done) == {"a.csv": "loaded"}
    assert count(table) == 500_000


def test_a_store_that_denies_access(
    tmp_path: Path, sqlkit: RunSqlkit, dsn: str, table: psycopg.Connection
) -> None:
    try:
        with STORES["azure"](tmp_path) as azure:
            azure.put({"a.csv": csv(0, 1)})
            wrong = azure.environment["AZURE_STORAGE_CONNECTION_STRING"].replace(
                azure.secret, "aHVudGVyMg=="
            )
            done = sqlkit(
                *("load", "abfs://box/a.csv", "--into", "public.item", "--dsn", dsn),
                env={**azure.environment, "AZURE_STORAGE_CONNECTION_STRING": wrong},
            )
    except Missing as reason:
        missing(str(reason))
    assert done.returncode == 1
    assert "access is denied" in done.stderr
    assert "AZURE_STORAGE_CONNECTION_STRING" in done.stderr
    assert "aHVudGVyMg==" not in done.stderr


def test_an_extra_that_is_not_installed_is_named(
    tmp_path: Path, sqlkit: RunSqlkit, dsn: str
) -> None:
    (tmp_path / "without").mkdir()
    for module in ("s3fs", "adlfs", "gcsfs"):
        (tmp_path / "without" / f"{module}.py").write_text("raise ImportError(name=__name__)")
    path = f"{tmp_path / 'without'}:{Path(__file__).parents[2]}"
    for scheme, extra in (("s3", "s3"), ("abfs", "azure"), ("gs", "gcs")):
        arguments = ("load", f"{scheme}://box/a.csv", "--into", "public.item", "--dsn", dsn)
        done = sqlkit(*arguments, env={"PYTHONPATH": path})
        assert done.returncode == 2
        assert f"pip install 'sqlkit[{extra}]'" in done.stderr


def test_signed_addresses_leave_no_secret_behind(
    web: WebServer, sqlkit: RunSqlkit, dsn: str, table: psycopg.Connection
) -> None:
    address = web.put("/a.csv", csv(0, 100))
    signed = f"{address}?sig={SECRET}"
    done = sqlkit("load", signed, "--into", "public.item", "--dsn", dsn, "--json")
    assert states(done) == {"a.csv": "loaded"}
    assert count(table) == 100
    # Another signature, the same content.
    again = sqlkit("load", f"{signed}2", "--into", "public.item", "--dsn", dsn)
    assert "loaded before, skipped" in again.stdout
    web.put("/a.csv", b"id,name\nx,y\n")
    bad = sqlkit("load", f"{signed}3", "--into", "public.item", "--dsn", dsn)
    assert bad.returncode == 4
    assert f"{address}, line 2" in bad.stderr
    kept = everything_kept(table)
    assert address in kept
    for text in (kept, done.stdout, done.stderr, again.stdout, bad.stdout, bad.stderr):
        assert SECRET not in text


def test_what_is_known_by_its_version_is_not_fetched_again(
    web: WebServer, database: Database, table: psycopg.Connection
) -> None:
    address = web.put("/a.csv", csv(0, 100))
    asked = web.resources["/a.csv"].asked
    with api.connect(database.dsn) as client:
        client.load(address, into="public.item")
        before = len(asked)
        assert client.load(address, into="public.item").sources[0].state == "skipped"
        assert len(asked) == before + 1  # to see what it is
        # Once more, on purpose, and after all was forgotten: it is fetched.
        assert client.load(address, into="public.item", again=True).rows.unchanged == 100
        table.execute("select sqlkit.forget_sources('item')")
        assert client.load(address, into="public.item").rows.unchanged == 100


def test_a_load_that_was_cut_off_goes_on(
    web: WebServer, database: Database, table: psycopg.Connection
) -> None:
    table.execute("alter table item drop constraint item_pkey")
    # Not empty: a first load would lock it until its only batch is there.
    table.execute("insert into item values (-1)")
    resource = Resource(gzip.compress(csv(0, 300_000), 1))
    address = web.put("/a.csv.gz", resource)

    def break_off(progress: api.LoadProgress) -> None:
        if count(table) > 1:
            raise KeyboardInterrupt

    with api.connect(database.dsn) as client:
        with pytest.raises(KeyboardInterrupt):
            client.load(
                address,
                into="public.item",
                policy="append",
                batch_bytes=1 << 20,
                progress=break_off,
            )
        assert 1 < count(table) < 300_000
        client.load(address, into="public.item", policy="append", batch_bytes=1 << 20)
    assert table.execute("select count(*), count(distinct id) from item").fetchone() == (
        300_001,
        300_001,
    )


def test_a_store_that_is_down_is_waited_for(
    web: WebServer, database: Database, table: psycopg.Connection
) -> None:
    resource = Resource(csv(0, 100_000))
    address = web.put("/a.csv", resource)
    waits: list[Waiting] = []

    with api.connect(database.dsn) as client:
        resource.then = Resource(resource.content, statuses=[503] * (2 * remote.TRIES))
        # The first answer is only looked at, the second breaks off.
        resource.breaks = [1_000_000, 500_000]
        loaded = client.load(address, into="public.item", on_wait=waits.append)
    assert loaded.rows.inserted == 100_000
    assert {wait.code for wait in waits} == {"SK120"}

    resource = Resource(csv(0, 10), statuses=[503] * 1000)
    with api.connect(database.dsn) as client, pytest.raises(SourceError) as caught:
        client.load(web.put("/b.csv", resource), into="public.item", retry_for=0)
    assert caught.value.code == "SK120"
