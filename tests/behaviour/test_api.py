"""The Python API: what `load` promises, on every kind of connection."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

import sqlkit as api
from sqlkit import ways
from sqlkit.results import RowCounts
from tests.conftest import Database, RunSqlkit
from tests.merge_model import Table

Fetch = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def fetch(connection: psycopg.Connection) -> Fetch:
    """``fetch("select ...")`` returns rows."""
    return lambda query, *values: connection.execute(query.encode(), values).fetchall()


@pytest.fixture
def item(connection: psycopg.Connection) -> str:
    """The target of most tests."""
    connection.execute("create table item (id integer primary key, name text, price integer)")
    return "public.item"


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write("a.csv", "id,name,price", "1,one,1")`` makes a file of these lines."""

    def make(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(line + "\n" for line in lines), newline="")
        return path

    return make


HEADER = "id,name,price"


def numbered(first: int, last: int, price: int = 1) -> list[str]:
    return [f"{n},name {n},{price}" for n in range(first, last + 1)]


def nothing_left(fetch: Fetch) -> None:
    assert fetch("select * from sqlkit.stage") == []
    assert fetch("select 1 from pg_class where relnamespace = 'sqlkit_stage'::regnamespace") == []


# Connections ------------------------------------------------------------------------------------


def test_a_connection_string(dsn: str, item: str, write: Write, fetch: Fetch) -> None:
    path = write("a.csv", HEADER, *numbered(1, 3))
    with api.connect(dsn) as client:
        result = client.load(path, into=item)
    assert result.rows == RowCounts(read=3, inserted=3)
    assert result.target == "public.item"
    assert result.policy == "update"
    assert [(s.name, s.state, s.batches, s.rows) for s in result.sources] == [
        (str(path), "loaded", 1, RowCounts(read=3, inserted=3))
    ]
    assert result.batches == 1
    assert result.bytes.read == result.bytes.decoded == path.stat().st_size
    assert result.bytes.wal > 0
    assert result.seconds.total > result.seconds.merge > 0
    assert result.ddl is None
    assert fetch("select run_id, state from sqlkit.run") == [(result.run_id, "done")]
    assert fetch("select id from item order by id") == [(1,), (2,), (3,)]
    nothing_left(fetch)


def test_the_dsn_of_the_environment(
    dsn: str, item: str, write: Write, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLKIT_DSN", dsn)
    with api.connect() as client:
        client.load(write("a.csv", HEADER, "1,one,1"), into=item)
    assert fetch("select id from item") == [(1,)]


def test_an_asynchronous_client(dsn: str, item: str, write: Write, fetch: Fetch) -> None:
    path = write("a.csv", HEADER, *numbered(1, 2000))

    async def work() -> tuple[RowCounts, list[dict[str, Any]]]:
        async with api.aconnect(dsn) as client:
            result = await client.load(path, into=item, batch_bytes=5000, workers=3)
            return result.rows, await client.batches(result.run_id or 0)

    rows, batches = asyncio.run(work())
    assert rows == RowCounts(read=2000, inserted=2000)
    assert len(batches) > 3
    assert sum(batch["rows_read"] for batch in batches) == 2000
    assert fetch("select count(*) from item") == [(2000,)]
    nothing_left(fetch)


def test_many_asynchronous_clients_at_once(dsn: str, item: str, write: Write, fetch: Fetch) -> None:
    paths = [write(f"{n}.csv", HEADER, *numbered(n * 100, n * 100 + 60)) for n in range(8)]

    async def one(path: Path) -> RowCounts:
        async with api.aconnect(dsn) as client:
            return (await client.load(path, into=item)).rows

    async def work() -> list[RowCounts]:
        return await asyncio.gather(*(one(path) for path in paths))

    assert asyncio.run(work()) == [RowCounts(read=61, inserted=61)] * 8
    assert fetch("select count(*) from item") == [(488,)]
    nothing_left(fetch)


def test_a_pool(dsn: str, item: str, write: Write, fetch: Fetch) -> None:
    """Connections come back as they were."""
    path = write("a.csv", HEADER, *numbered(1, 3000))
    with ConnectionPool(dsn, min_size=1, max_size=3, open=True) as pool:
        with pool.connection() as connection:
            assert not connection.autocommit
        with api.connect(pool) as client:
            result = client.load(path, into=item, workers=4, batch_bytes=9000)
            assert result.rows == RowCounts(read=3000, inserted=3000)
            again = client.load(path, into=item, again=True)
            assert again.rows == RowCounts(read=3000, unchanged=3000)
        for _ in range(3):
            with pool.connection() as connection:
                assert not connection.autocommit
                assert connection.prepare_threshold == 5
                assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                shown = connection.execute("show client_connection_check_interval").fetchone()
                assert shown == ("0",)
        assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]
    nothing_left(fetch)


def test_an_asynchronous_pool(dsn: str, item: str, write: Write, fetch: Fetch) -> None:
    path = write("a.csv", HEADER, *numbered(1, 3000))

    async def work() -> RowCounts:
        async with (
            AsyncConnectionPool(dsn, min_size=1, max_size=2, open=False) as pool,
            api.aconnect(pool) as client,
        ):
            return (await client.load(path, into=item, workers=4)).rows

    assert asyncio.run(work()) == RowCounts(read=3000, inserted=3000)


def test_a_pool_that_is_too_small(dsn: str) -> None:
    with (
        ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool,
        pytest.raises(api.UsageError, match="room for one connection"),
        api.connect(pool),
    ):
        pass


@pytest.fixture
def mine(database: Database) -> Iterator[psycopg.Connection]:
    """A connection of the caller's, not in autocommit."""
    with psycopg.connect(database.dsn) as opened:
        yield opened


def test_the_callers_transaction_is_the_callers(
    mine: psycopg.Connection, item: str, write: Write, fetch: Fetch
) -> None:
    path = write("a.csv", HEADER, *numbered(1, 500))
    with api.connect(mine) as client:
        result = client.load(path, into=item, batch_bytes=1000)
        assert result.rows == RowCounts(read=500, inserted=500)
        assert result.batches > 1
    assert not mine.closed
    assert mine.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert fetch("select count(*) from item") == [(0,)], "nothing was committed"
    assert fetch("select count(*) from sqlkit.run") == [(0,)]
    mine.rollback()
    for table in ("public.item", "sqlkit.run", "sqlkit.batch", "sqlkit.source", "sqlkit.stage"):
        assert mine.execute(f"select count(*) from {table}".encode()).fetchone() == (0,)
    mine.rollback()

    with api.connect(mine) as client:
        client.load(path, into=item)
    mine.commit()
    assert fetch("select count(*) from item") == [(500,)]
    assert fetch("select state from sqlkit.run") == [("done",)]
    nothing_left(fetch)


def test_what_the_caller_did_before_stays_when_a_load_fails(
    mine: psycopg.Connection, item: str, write: Write, fetch: Fetch
) -> None:
    mine.execute("insert into public.item values (1, 'mine', 1)")
    path = write("bad.csv", HEADER, *numbered(2, 300), "301,bad,cheap")
    with api.connect(mine) as client:
        for options in ({}, {"atomic": True}, {"batch_bytes": 1000}, {"policy": "append"}):
            with pytest.raises(api.RejectLimitError) as caught:
                client.load(path, into=item, **options)
            assert "cheap" in (caught.value.detail or "")
            assert mine.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            assert mine.execute("select count(*) from public.item").fetchone() == (1,)
        good = client.load(write("good.csv", HEADER, "2,two,2"), into=item)
        assert good.rows.inserted == 1
    mine.commit()
    assert fetch("select id from item order by id") == [(1,), (2,)]
    assert fetch("select state from sqlkit.run") == [("done",)]
    nothing_left(fetch)


def test_a_callers_transaction_block_in_autocommit(
    connection: psycopg.Connection, item: str, write: Write, dsn: str
) -> None:
    path = write("a.csv", HEADER, *numbered(1, 500))
    with connection.transaction(force_rollback=True), api.connect(connection) as client:
        assert client.load(path, into=item, batch_bytes=1000).rows.inserted == 500
    assert connection.execute("select count(*) from item").fetchone() == (0,)
    assert connection.execute("select count(*) from sqlkit.run").fetchone() == (0,)


def test_a_callers_connection_in_autocommit(
    connection: psycopg.Connection, item: str, write: Write, fetch: Fetch, database: Database
) -> None:
    """Then a batch is committed when it is done."""
    connection.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
    path = write("bad.csv", HEADER, *numbered(1, 500), "501,bad,cheap")
    with database.connect() as other, api.connect(connection) as client:
        with pytest.raises(api.RejectLimitError, match="nothing of the batch was kept"):
            client.load(path, into=item, batch_bytes=1000)
        kept = other.execute("select count(*) from item").fetchone()
        assert kept is not None
        assert 0 < kept[0] < 500
        assert other.execute("select state from sqlkit.run").fetchall() == [("failed",)]
        assert other.execute("select count(*) from sqlkit.stage").fetchone() == (0,)
        with pytest.raises(api.RejectLimitError):
            client.load(path, into=item, batch_bytes=1000, atomic=True, again=True)
        assert other.execute("select count(*) from item").fetchone() == kept
        assert other.execute("select distinct state from sqlkit.run").fetchall() == [("failed",)]
        assert other.execute("select count(*) from sqlkit.stage").fetchone() == (0,)
        assert connection.autocommit


def test_a_callers_asynchronous_connection(
    database: Database, item: str, write: Write, fetch: Fetch
) -> None:
    path = write("a.csv", HEADER, *numbered(1, 500))

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(database.dsn) as mine:
            async with api.aconnect(mine) as client:
                result = await client.load(path, into=item, batch_bytes=1000, workers=4)
            assert result.rows == RowCounts(read=500, inserted=500)
            assert not mine.closed
            await mine.rollback()

    asyncio.run(work())
    assert fetch("select count(*) from item") == [(0,)]
    assert fetch("select count(*) from sqlkit.run") == [(0,)]


def test_a_callers_connection_in_another_encoding(
    database: Database, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    """Rows do not depend on it, and what cannot be said in it is told."""
    connection.execute("create table item (id integer primary key, name text)")
    path = write("a.csv", "id,name", "1,é", "2,שלום")
    odd = write("שם.csv", "id,name", "3,x")
    with psycopg.connect(database.dsn, client_encoding="latin1") as mine:
        with api.connect(mine) as client:
            assert client.load(path, into="public.item").rows.inserted == 2
            with pytest.raises(api.UsageError, match="client_encoding has no 'ש'"):
                client.load(odd, into="public.item")
            mine.execute("set client_encoding to utf8")
            assert client.load(odd, into="public.item").rows.inserted == 1
        mine.commit()
    assert fetch("select * from item order by id") == [(1, "é"), (2, "שלום"), (3, "x")]


# Exactly once -----------------------------------------------------------------------------------


def test_what_was_loaded_is_known_by_its_content(
    dsn: str, item: str, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    path = write("a.csv", HEADER, *numbered(1, 10))
    with api.connect(dsn) as client:
        client.load(path, into=item)
        skipped = client.load(path, into=item)
        assert [s.state for s in skipped.sources] == ["skipped"]
        assert skipped.rows == RowCounts()
        assert skipped.batches == 0

        renamed = path.rename(path.with_name("b.csv"))
        assert [s.state for s in client.load(renamed, into=item).sources] == ["skipped"]

        # Elsewhere it is new, and so is other content under the same name.
        connection.execute("create table other (like item including all)")
        assert client.load(renamed, into="public.other").rows.inserted == 10
        write("b.csv", HEADER, *numbered(1, 10), "11,eleven,1")
        assert client.load(renamed, into=item).rows == RowCounts(read=11, inserted=1, unchanged=10)

        again = client.load(renamed, into=item, again=True)
        assert [s.state for s in again.sources] == ["loaded"]
        assert again.rows == RowCounts(read=11, unchanged=11)
    assert fetch("select count(*) from sqlkit.run") == [(6,)]


def test_a_failed_load_goes_on_where_it_stopped(
    dsn: str, item: str, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    connection.execute("alter table item add constraint price_check check (price < 5)")
    path = write("a.csv", HEADER, *numbered(1, 300), "301,bad,7", *numbered(302, 400))
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError) as caught:
            client.load(path, into=item, batch_bytes=500)
        assert f"{path}, line 302: column price: " in (caught.value.detail or "")
        (kept,) = fetch("select count(*), max(id) from item")
        assert 0 < kept[0] == kept[1] <= 300
        assert fetch("select state from sqlkit.source") == [("loading",)]

        connection.execute("alter table item drop constraint price_check")
        rest = client.load(path, into=item, batch_bytes=500)
        assert rest.rows == RowCounts(read=400 - kept[0], inserted=400 - kept[0])
        assert [s.state for s in rest.sources] == ["loaded"]
    assert fetch("select count(*) from item") == [(400,)]
    # The batches of both runs cover the file, without gap and overlap.
    batches = fetch(
        "select first_line, last_line, start_offset, end_offset from sqlkit.batch order by batch_id"
    )
    for before, after in itertools.pairwise(batches):
        assert before[1] + 1 == after[0]
        assert before[3] == after[2]
    assert batches[0][2] == 0
    assert batches[-1][1] == 401
    assert batches[-1][3] == path.stat().st_size
    assert fetch("select state from sqlkit.run order by run_id") == [("failed",), ("done",)]


def test_a_half_loaded_source_that_changed_is_new(
    dsn: str, item: str, write: Write, connection: psycopg.Connection, fetch: Fetch
) -> None:
    path = write("a.csv", HEADER, *numbered(1, 300), "301,bad,cheap")
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError):
            client.load(path, into=item, batch_bytes=500)
        ((kept,),) = fetch("select count(*) from item")
        write("a.csv", HEADER, *numbered(1, 300), "301,good,1")
        mended = client.load(path, into=item, batch_bytes=500)
    assert mended.rows == RowCounts(read=301, inserted=301 - kept, unchanged=kept)


def test_gzip_goes_on_where_it_stopped(
    dsn: str, item: str, tmp_path: Path, fetch: Fetch, connection: psycopg.Connection
) -> None:
    connection.execute("alter table item add constraint price_check check (price < 5)")
    path = tmp_path / "a.csv.gz"
    lines = [HEADER, *numbered(1, 3000), "3001,bad,7", *numbered(3002, 4000)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError):
            client.load(path, into=item, batch_bytes=5000)
        connection.execute("alter table item drop constraint price_check")
        client.load(path, into=item, batch_bytes=7000)
    assert fetch("select count(*), max(id) from item") == [(4000, 4000)]


def test_several_sources_come_in_order(dsn: str, item: str, write: Write, fetch: Fetch) -> None:
    for n in (1, 2, 10):
        write(f"part{n}.csv", HEADER, f"1,from {n},{n}", f"{n + 1},x,1")
    with api.connect(dsn) as client:
        result = client.load(
            str(write("part1.csv", HEADER, "1,from 1,1", "2,x,1").parent / "part*.csv"), into=item
        )
        assert [Path(s.name).name for s in result.sources] == [
            "part1.csv",
            "part2.csv",
            "part10.csv",
        ]
        assert fetch("select name from item where id = 1") == [("from 10",)]
        one = write("one.csv", HEADER, "1,one,1")
        two = write("two.csv", HEADER, "1,two,1")
        result = client.load([two, one], into=item)
    assert [(s.rows.read, s.shared) for s in result.sources] == [(1, True)] * 2
    assert result.rows == RowCounts(read=2, updated=1, duplicates=1)
    assert fetch("select name from item where id = 1") == [("one",)]


def test_the_same_file_twice_in_one_load(dsn: str, item: str, write: Write) -> None:
    path = write("a.csv", HEADER, *numbered(1, 3))
    copy = write("copy.csv", HEADER, *numbered(1, 3))
    with api.connect(dsn) as client:
        result = client.load([path, copy], into=item)
        assert [s.state for s in result.sources] == ["loaded", "skipped"]
        again = client.load([path, copy], into=item, again=True)
        assert [s.state for s in again.sources] == ["loaded", "skipped"]
        assert again.rows == RowCounts(read=3, unchanged=3)


def test_atomic_is_all_or_nothing(
    dsn: str, item: str, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    good = write("good.csv", HEADER, *numbered(1, 300))
    empty = write("empty.csv", HEADER)
    bad = write("bad.csv", HEADER, *numbered(301, 600), "601,bad,cheap")
    with api.connect(dsn) as client:
        for options in ({}, {"batch_bytes": 500}, {"workers": 1}):
            with pytest.raises(api.RejectLimitError):
                client.load([empty, good, bad], into=item, atomic=True, **options)  # type: ignore[arg-type]
            assert fetch("select count(*) from item") == [(0,)]
            assert fetch("select count(*) from sqlkit.batch") == [(0,)]
            assert fetch("select distinct state from sqlkit.run") == [("failed",)]
            nothing_left(fetch)
        write("bad.csv", HEADER, *numbered(301, 600))
        result = client.load([empty, good, bad], into=item, atomic=True, batch_bytes=500)
    assert result.rows == RowCounts(read=600, inserted=600)
    assert result.batches > 10
    assert fetch("select count(*) from item") == [(600,)]
    nothing_left(fetch)


def test_a_dry_run_leaves_nothing(
    dsn: str, item: str, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    connection.execute("insert into item values (1, 'name 1', 1), (2, 'other', 1)")
    path = write("a.csv", HEADER, *numbered(1, 400), "3,twice,1")
    tables = (
        "public.item",
        "sqlkit.run",
        "sqlkit.batch",
        "sqlkit.source",
        "sqlkit.stage",
        "sqlkit.reject",
    )
    before = [fetch(f"select * from {table}") for table in tables]
    with api.connect(dsn) as client:
        for options in ({}, {"batch_bytes": 700}, {"workers": 4, "batch_bytes": 700}):
            result = client.load(path, into=item, dry_run=True, **options)  # type: ignore[arg-type]
            assert result.run_id is None
            assert result.rows.read == 401
            assert result.rows.inserted == 398
            assert [fetch(f"select * from {table}") for table in tables] == before
            nothing_left(fetch)
        bad = write("bad.csv", HEADER, "5,five,cheap")
        with pytest.raises(api.RejectLimitError):
            client.load(bad, into=item, dry_run=True)
        assert [fetch(f"select * from {table}") for table in tables] == before
        nothing_left(fetch)
        created = client.load(path, into="public.made", dry_run=True, create=True, policy="append")
        assert created.rows == RowCounts(read=401, inserted=401)
        assert created.ddl is not None
        assert fetch("select to_regclass('made')") == [(None,)]
        real = client.load(path, into=item)
    assert real.rows == RowCounts(read=401, inserted=398, updated=1, unchanged=1, duplicates=1)


def test_a_dry_run_tells_what_it_refuses(
    dsn: str, item: str, write: Write, sqlkit: RunSqlkit
) -> None:
    path = write("bad.csv", HEADER, "1,one,1", "5,five,cheap", "6,six,dear")
    with api.connect(dsn) as client:
        result = client.load(path, into=item, dry_run=True, reject_limit=5)
    assert [(told["first_line"], told["column_name"]) for told in result.rejects] == [
        (3, "price"),
        (4, "price"),
    ]
    done = sqlkit("load", path, "--into", item, "--dry-run", "--reject-limit", "5", "--dsn", dsn)
    assert done.returncode == 3
    assert "2 rows refused:" in done.stdout
    assert "line 3: column price" in done.stdout
    assert "5,five,cheap" in done.stdout
    assert "None" not in done.stdout


def test_a_client_does_one_load_at_a_time(dsn: str, item: str, write: Write) -> None:
    def rows() -> Iterator[dict[str, object]]:
        yield {"id": 1, "name": "one", "price": 1}
        with pytest.raises(api.UsageError, match="at work on another load"):
            client.load(write("a.csv", HEADER, "2,two,2"), into=item)
        yield {"id": 3, "name": "three", "price": 3}

    with api.connect(dsn) as client:
        assert client.load(rows(), into=item).rows.inserted == 2
        assert client.load(write("b.csv", HEADER, "2,two,2"), into=item).rows.inserted == 1


def test_a_file_in_another_encoding_is_told_so(dsn: str, item: str, tmp_path: Path) -> None:
    path = tmp_path / "hebrew.csv"
    path.write_bytes("id,name,price\n1,חלב,5\n".encode("cp1255"))
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError) as told:
            client.load(path, into=item)
        assert "--encoding cp1255" in (told.value.hint or "")
        dialect = api.Dialect(encoding="cp1255")
        assert client.load(path, into=item, dialect=dialect).rows.inserted == 1


# Progress and results ---------------------------------------------------------------------------


def test_memory_is_the_process_s_own() -> None:
    """And not what the program had that started it."""
    held = b"x" * (256 << 20)
    told = subprocess.run(
        [sys.executable, "-c", "from sqlkit._memory import peak_memory; print(peak_memory())"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert 1 << 20 < int(told.stdout) < len(held) // 2


def test_progress_is_told(dsn: str, item: str, write: Write) -> None:
    path = write("a.csv", HEADER, *numbered(1, 5000))
    told: list[api.LoadProgress] = []
    with api.connect(dsn) as client:
        client.load(path, into=item, batch_bytes=20_000, progress=told.append)
    assert {progress.phase for progress in told} == {"copy", "merge"}
    assert {progress.source for progress in told} == {str(path)}
    rows = [progress.rows for progress in told]
    assert rows == sorted(rows)
    assert rows[-1] == 5000
    assert told[-1].bytes_total == path.stat().st_size
    assert 0 < told[-1].bytes_read <= path.stat().st_size
    assert all(progress.seconds >= 0 for progress in told)


def test_a_progress_callback_that_raises_ends_the_load(
    dsn: str, item: str, write: Write, fetch: Fetch
) -> None:
    path = write("a.csv", HEADER, *numbered(1, 5000))

    def stop(progress: api.LoadProgress) -> None:
        if progress.rows > 2000:
            raise RuntimeError("enough")

    with api.connect(dsn) as client:
        with pytest.raises(RuntimeError, match="enough"):
            client.load(path, into=item, batch_bytes=20_000, progress=stop)
        assert fetch("select state from sqlkit.run") == [("failed",)]
        nothing_left(fetch)
        client.load(path, into=item)
    assert fetch("select count(*) from item") == [(5000,)]


def test_the_ledger_can_be_read(dsn: str, item: str, write: Write) -> None:
    path = write("a.csv", HEADER, *numbered(1, 1000))
    with api.connect(dsn) as client:
        first = client.load(path, into=item, batch_bytes=5000)
        client.load(path, into=item)
        newest, oldest = client.runs()
        assert oldest["run_id"] == first.run_id
        assert newest["rows_read"] == 0
        (one,) = client.runs(first.run_id)
        assert one["rows_inserted"] == 1000
        assert one["state"] == "done"
        assert client.runs(12345) == []
        batches = client.batches(first.run_id or 0)
    assert len(batches) == first.batches > 1
    assert {batch["source"] for batch in batches} == {str(path)}
    assert all(batch["seconds_copy"] > 0 and batch["seconds_merge"] > 0 for batch in batches)


# One end state, however it is loaded ---------------------------------------------------------


def shuffled(rows: int, keys: int, seed: int) -> list[tuple[int, str | None, int | None]]:
    """Rows whose keys come again and again, far apart and close together, with nulls."""
    chosen = random.Random(seed)
    return [
        (
            chosen.randrange(keys),
            chosen.choice([None, *(f"name {n}" for n in range(9))]),
            chosen.choice([None, *range(20)]),
        )
        for _ in range(rows)
    ]


def lines_of(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [",".join("" if value is None else str(value) for value in row) for row in rows]


@pytest.mark.parametrize("policy", ["update", "ignore", "newer", "fill"])
@pytest.mark.parametrize("into_empty", [True, False], ids=["empty", "filled"])
def test_workers_do_not_change_the_end_state(
    dsn: str,
    item: str,
    write: Write,
    fetch: Fetch,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    into_empty: bool,
) -> None:
    """Duplicates lie in different pieces, streams and batches; the source's order decides."""
    monkeypatch.setattr(ways, "PIECE_BYTES", 2000)
    rows = shuffled(3000, 400, seed=1)
    path = write("a.csv", HEADER, *lines_of(rows))
    before = [] if into_empty else shuffled(200, 600, seed=2)
    model = Table((0,), order_by=2)
    model.merge(before, "update")
    stored = list(model.rows.values())
    whole = model.merge(rows, policy)
    order_by = "price" if policy == "newer" else None
    with api.connect(dsn) as client:
        for workers in (1, 2, 3, 4):
            for batch_bytes in (None, 9000):
                connection.execute("truncate item")
                connection.cursor().executemany("insert into item values (%s, %s, %s)", stored)
                result = client.load(
                    path,
                    into=item,
                    policy=policy,
                    order_by=order_by,
                    workers=workers,
                    batch_bytes=batch_bytes,
                    again=True,
                )
                assert {row[:1]: row for row in fetch("select * from item")} == model.rows
                assert result.rows.read == 3000 == sum(astuple(result.rows)[1:])
                if batch_bytes is None:
                    assert result.rows == whole
                else:
                    assert result.batches > 2


@pytest.mark.parametrize("policy", ["update", "ignore", "newer", "error", "append"])
def test_the_first_load_ends_like_any_other(
    dsn: str,
    write: Write,
    fetch: Fetch,
    connection: psycopg.Connection,
    policy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than one piece into an empty table goes to its bare heap."""
    monkeypatch.setattr(ways, "PIECE_BYTES", 100_000)
    repeats = policy not in ("error", "append")
    rows = shuffled(33_000, 10_000, seed=3) if repeats else [(n, "x" * 8, 1) for n in range(30_000)]
    path = write("a.csv", HEADER, *lines_of(rows))
    assert path.stat().st_size > ways.PIECE_BYTES
    connection.execute("create table fast (id integer primary key, name text, price integer)")
    connection.execute("create index fast_name_idx on fast (name)")
    connection.execute("create table slow (like fast including all)")
    # A table that others refer to keeps its indexes.
    connection.execute("create table refers (id integer references slow)")
    order_by = "price" if policy == "newer" else None
    ((index,),) = fetch(
        "select indexrelid from pg_index where indrelid = 'fast'::regclass and indisprimary"
    )
    with api.connect(dsn) as client:
        fast = client.load(path, into="public.fast", policy=policy, order_by=order_by)
        slow = client.load(path, into="public.slow", policy=policy, order_by=order_by)
    assert fast.rows == slow.rows
    assert fast.rows.read == len(rows)
    assert fetch("select * from fast except select * from slow") == []
    assert fetch("select count(*) from fast") == fetch("select count(*) from slow")
    indexes = fetch(
        "select indexrelid from pg_index where indrelid = 'fast'::regclass and indisprimary"
    )
    # It was built anew, which shows which way was taken.
    assert (indexes != [(index,)]) == (policy != "append")
    assert len(fetch("select 1 from pg_index where indrelid = 'fast'::regclass")) == 2


def test_the_first_load_refuses_what_any_other_would(
    dsn: str, item: str, write: Write, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "PIECE_BYTES", 100_000)
    rows = numbered(1, 33_000)
    path = write("a.csv", HEADER, *rows, rows[7])
    with api.connect(dsn) as client:
        for policy in ("error", "append"):
            with pytest.raises(api.SqlkitError) as caught:
                client.load(path, into=item, policy=policy)
            assert caught.value.code in ("SK301", "SK303", "23505")
            assert fetch("select count(*) from item") == [(0,)]
            assert fetch("select indisprimary from pg_index where indrelid = 'item'::regclass") == [
                (True,)
            ]


# Columns and formats --------------------------------------------------------------------------


def test_columns_are_renamed_left_out_and_chosen(
    dsn: str, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    connection.execute(
        'create table wide (id integer primary key, "Name" text, price integer, '
        "made_at date default '2024-01-01', note text)"
    )
    path = write("a.csv", "Item No,שם,price,colour", "1,one,1,red", '2,"two, or so",2,')
    with api.connect(dsn) as client:
        with pytest.raises(api.SqlkitError) as caught:
            client.load(path, into="public.wide")
        assert caught.value.code == "SK204"
        assert "Item No, שם, colour" in caught.value.message
        assert "id, Name, note" in caught.value.message
        result = client.load(
            path,
            into="public.wide",
            map={"Item No": "id", "שם": "Name"},
            leave_out=["colour", "note"],
        )
        assert result.rows.inserted == 2
        assert fetch('select id, "Name", price, made_at::text, note from wide order by id') == [
            (1, "one", 1, "2024-01-01", None),
            (2, "two, or so", 2, "2024-01-01", None),
        ]
        chosen = client.load(
            path,
            into="public.wide",
            map={"Item No": "id"},
            columns=["Item No", "price"],
            again=True,
        )
        assert chosen.rows == RowCounts(read=2, unchanged=2)
        everything = client.load(
            path, into="public.wide", map={"Item No": "id"}, leave_out=["*"], again=True
        )
        assert everything.rows == RowCounts(read=2, unchanged=2)
        lines = write(
            "a.jsonl", '{"Item No": 3, "colour": "x", "extra": [1]}', '{"Item No": 4, "price": 4}'
        )
        result = client.load(
            lines, into="public.wide", map={"Item No": "id"}, leave_out=["colour", "extra"]
        )
    assert fetch('select id, "Name", price, note from wide where id > 2 order by id') == [
        (3, None, None, None),
        (4, None, 4, None),
    ]


def test_a_file_without_header(dsn: str, item: str, write: Write, fetch: Fetch) -> None:
    path = write("a.csv", "1;one;NULL", "2;two;2")
    dialect = api.Dialect(delimiter=";", header=False, null="NULL")
    with api.connect(dsn) as client:
        result = client.load(path, into=item, dialect=dialect, columns=["id", "name", "price"])
    assert result.rows.inserted == 2
    assert fetch("select * from item order by id") == [(1, "one", None), (2, "two", 2)]


def test_tables_are_created(dsn: str, write: Write, fetch: Fetch) -> None:
    path = write(
        "a.csv",
        "No,Name,price,when,active,code",
        "1,one,1.5,2024-01-01,true,007",
        "2,two,20,2024-02-01,false,008",
    )
    with api.connect(dsn) as client:
        result = client.load(path, into='public."Made Here"', create=True, key=["No"])
        assert result.rows.inserted == 2
        assert result.ddl is not None
        assert result.ddl.startswith('create table public."Made Here"')
        again = client.load(path, into='public."Made Here"', create=True, key=["No"], again=True)
        assert again.ddl is None
        assert again.rows == RowCounts(read=2, unchanged=2)
    assert fetch(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = '\"Made Here\"'::regclass and attnum > 0 order by attnum"
    ) == [
        ("No", "bigint"),
        ("Name", "text"),
        ("price", "numeric"),
        ("when", "date"),
        ("active", "boolean"),
        ("code", "text"),
    ]


def test_members_of_a_zip_archive(dsn: str, item: str, tmp_path: Path, fetch: Fetch) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/part10.csv", f"{HEADER}\n1,ten,10\n")
        archive.writestr("b/part2.csv", f"{HEADER}\n1,two,2\n2,x,1\n")
        archive.writestr("lines.jsonl", '{"id": 3, "name": "three", "price": 3}\n')
        archive.writestr("packed.csv.gz", gzip.compress(f"{HEADER}\n4,four,4\n".encode()))
    with api.connect(dsn) as client:
        result = client.load(path, into=item)
        assert [s.name for s in result.sources] == [
            f"{path}!{name}"
            for name in ("b/part2.csv", "b/part10.csv", "lines.jsonl", "packed.csv.gz")
        ]
        assert {s.state for s in client.load(path, into=item).sources} == {"skipped"}
    assert fetch("select * from item order by id") == [
        (1, "ten", 10),
        (2, "x", 1),
        (3, "three", 3),
        (4, "four", 4),
    ]


def test_standard_input(dsn: str, item: str, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    for policy, rows in (("update", numbered(1, 500)), ("append", numbered(501, 600))):
        data = io.BytesIO("\n".join([HEADER, *rows]).encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
        with api.connect(dsn) as client:
            result = client.load("-", into=item, policy=policy, batch_bytes=1000)
        assert result.rows == RowCounts(read=len(rows), inserted=len(rows))
        assert [s.name for s in result.sources] == ["-"]
    assert fetch("select count(*) from item") == [(600,)]
    assert fetch("select distinct state from sqlkit.source") == [("loaded",)]


def test_lines_whole_into_one_column(
    dsn: str, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    connection.execute("create table raw (id bigint generated always as identity, body jsonb)")
    path = write("a.jsonl", '{"a": {"b": [1, 2.50]}}', "", '[1, "x"]', '"text"', "null")
    with api.connect(dsn) as client:
        result = client.load(path, into="public.raw", whole="body", policy="append")
    assert result.rows == RowCounts(read=4, inserted=4)
    assert [text for (text,) in fetch("select body::text from raw order by id")] == [
        '{"a": {"b": [1, 2.50]}}',
        '[1, "x"]',
        '"text"',
        "null",
    ]


def test_targets_of_every_kind(
    dsn: str, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    """Partitions, triggers that hold rows back, row security off, generated columns."""
    connection.execute(
        "create table part (id integer primary key, name text, price integer) "
        "partition by hash (id)"
    )
    for number in range(3):
        connection.execute(
            f"create table part_{number} partition of part "
            f"for values with (modulus 3, remainder {number})".encode()
        )
    connection.execute(
        "create function odd_only() returns trigger language plpgsql as "
        "$$ begin if new.id % 2 = 0 then return null; end if; return new; end $$"
    )
    connection.execute("create table picky (id integer primary key, name text, price integer)")
    connection.execute(
        "create trigger odd_only before insert on picky for each row execute function odd_only()"
    )
    connection.execute("create table part_picky (like part) partition by hash (id)")
    connection.execute(
        "create table part_picky_0 partition of part_picky for values with (modulus 1, remainder 0)"
    )
    connection.execute(
        "create trigger odd_only before insert on part_picky_0 "
        "for each row execute function odd_only()"
    )
    path = write("a.csv", HEADER, *numbered(1, 1000))
    with api.connect(dsn) as client:
        assert client.load(path, into="public.part").rows == RowCounts(read=1000, inserted=1000)
        again = client.load(path, into="public.part", again=True, batch_bytes=3000)
        assert again.rows == RowCounts(read=1000, unchanged=1000)
        half = RowCounts(read=1000, inserted=500, ignored=500)
        assert client.load(path, into="public.picky").rows == half
        connection.execute("truncate picky")
        assert client.load(path, into="public.picky", policy="append", again=True).rows == half
        assert client.load(path, into="public.part_picky", policy="append").rows == half
    assert fetch("select count(*) from part_picky") == [(500,)]


def test_an_unusual_search_path(
    database: Database, write: Write, fetch: Fetch, connection: psycopg.Connection
) -> None:
    """The target is found by the connection's search_path, and so is what its triggers name."""
    database.server.run(f'create schema "My Shop" authorization {database.user}', database.name)
    connection.execute(
        'create table "My Shop".item (id integer primary key, name text, price integer)'
    )
    connection.execute('create table "My Shop".log (id integer)')
    connection.execute(
        'create function "My Shop".note() returns trigger language plpgsql as '
        "$$ begin insert into log values (new.id); return new; end $$"
    )
    connection.execute(
        'create trigger note after insert or update on "My Shop".item '
        'for each row execute function "My Shop".note()'
    )
    options = make_conninfo(database.dsn, options='-c search_path="My\\ Shop"')
    path = write("a.csv", HEADER, *numbered(1, 5))
    with api.connect(options) as client:
        result = client.load(path, into="item")
        assert result.target == '"My Shop".item'
        write("a.csv", HEADER, *numbered(1, 4), "5,five,5", "6,six,6")
        assert client.load(path, into="item").rows == RowCounts(
            read=6, inserted=1, updated=1, unchanged=4
        )
    assert fetch('select count(*) from "My Shop".log') == [(7,)]


# The command line -------------------------------------------------------------------------------


def test_the_command_line_passes_everything_on(
    sqlkit: RunSqlkit, dsn: str, item: str, tmp_path: Path, fetch: Fetch
) -> None:
    (tmp_path / "a.txt").write_bytes("1|'one | and'|-\n2|'שתיים'|2\n".encode("cp1255"))
    command = (
        *("load", "a.txt", "--into", item, "--dsn", dsn),
        *("--no-header", "--columns", "id,name,cost", "--map", "cost=price"),
        *("--delimiter", "|", "--quote", "'", "--null", "-", "--encoding", "cp1255"),
    )
    done = sqlkit(*command, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    assert fetch("select * from item order by id") == [(1, "one | and", None), (2, "שתיים", 2)]
    found = json.loads(done.stdout)
    assert set(found) >= {
        *("run_id", "target", "policy", "sources", "batches", "rows", "bytes", "seconds"),
    }
    assert list(found["rows"]) == [
        *("read", "inserted", "updated", "unchanged", "ignored", "duplicates", "rejected")
    ]
    assert list(found["bytes"]) == ["read", "decoded", "wal"]
    assert list(found["seconds"]) == ["total", "decode", "copy", "merge", "fetch", "lookup"]

    done = sqlkit(*command)
    assert "a.txt: loaded before, skipped" in done.stdout
    done = sqlkit(
        "load",
        "-",
        "--into",
        item,
        "--dsn",
        dsn,
        "--policy",
        "newer",
        "--order-by",
        "price",
        input=f"{HEADER}\n2,two,1\n1,one,1\n",
    )
    assert done.returncode == 0, done.stderr
    assert "2 rows read: 1 updated, 1 ignored" in done.stdout
    done = sqlkit(
        "load",
        "-",
        "--into",
        "public.made",
        "--create",
        "--key",
        "id",
        "--dsn",
        dsn,
        "--format",
        "tsv",
        input="id\tname\n1\tone\n",
    )
    assert done.returncode == 0, done.stderr
    assert "create table public.made (" in done.stdout
    done = sqlkit(
        "load",
        "-",
        "--into",
        item,
        "--dsn",
        dsn,
        "--leave-out",
        "colour,price",
        input="id,name,colour\n9,nine,red\n",
    )
    assert done.returncode == 0, done.stderr

    done = sqlkit("runs", "--dsn", dsn)
    assert done.returncode == 0
    assert "public.made" in done.stdout
    done = sqlkit("runs", found["run_id"], "--dsn", dsn, "--json")
    shown = json.loads(done.stdout)
    assert shown["rows_inserted"] == 2
    assert [batch["source"] for batch in shown["batch"]] == ["a.txt"]
    for asked in (
        ("runs", "987654"),
        ("rejects", "987654"),
        ("rejects", "export", "987654", "none.csv"),
    ):
        done = sqlkit(*asked, "--dsn", dsn)
        assert done.returncode == 1
        assert "there is no run 987654" in done.stderr


def test_a_share_is_no_limit_of_rejects(dsn: str) -> None:
    with (
        api.connect(dsn) as client,
        pytest.raises(api.UsageError, match="number of rows") as caught,
    ):
        client.load([{"id": 1}], into="item", reject_limit="1%")  # type: ignore[arg-type]
    assert "reject_share" in (caught.value.hint or "")
