"""Executors: parts of a load that threads, processes and workers of Dask stage."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sqlkit as api
from sqlkit import SqlkitError, UsageError
from sqlkit.parts import Hidden, stage_part
from tests.conftest import Database, RunSqlkit
from tests.crash.conftest import value, wait_until

TABLE = "create table item (id integer primary key, origin text, amount numeric(12, 2))"
ROWS = 4000


class Counting(ThreadPoolExecutor):
    """Threads that remember what they were given."""

    def __init__(self) -> None:
        super().__init__(2)
        self.given: list[Any] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        self.given += arguments
        return super().submit(function, *arguments, **more)


class Elsewhere(Executor):
    """As on another machine: what is said comes as bytes, and answers may be lost."""

    def __init__(self, lost: int = 0) -> None:
        self.sent: list[bytes] = []
        self._lost = lost

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        self.sent.append(pickle.dumps((function, arguments)))
        future: Future[Any] = Future()
        called, given = pickle.loads(self.sent[-1])  # noqa: S301 - our own
        answer = pickle.loads(pickle.dumps(called(*given)))  # noqa: S301
        if self._lost:
            self._lost -= 1
            future.set_exception(BrokenExecutor("gone"))
        else:
            future.set_result(answer)
        return future


@pytest.fixture
def files(tmp_path: Path, connection: psycopg.Connection) -> list[str]:
    """Sources whose rows have the same keys, so that their order counts: the last one wins."""
    connection.execute(TABLE.encode())
    made = []
    for number in range(3):
        path = tmp_path / f"{number}.csv"
        rows = (f"{n},{path.name},{n}.5\n" for n in range(number * 1000, number * 1000 + ROWS))
        path.write_text("id,origin,amount\n" + "".join(rows))
        made.append(str(path))
    lines = (json.dumps({"id": n, "origin": "jsonl", "amount": n}) for n in range(500, 1500))
    path = tmp_path / "3.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    made.append(str(path))
    table = pa.table({"id": range(700, 7000), "origin": ["parquet"] * 6300, "amount": [1] * 6300})
    path = tmp_path / "4.parquet"
    pq.write_table(table, path, row_group_size=1000)
    return [*made, str(path)]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row group is worth a worker."""
    monkeypatch.setattr("sqlkit.sources.arrow.LEAST_PART", 1)


def content(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("select * from item order by id").fetchall()


def test_small_files_share_batches(
    dsn: str, tmp_path: Path, connection: psycopg.Connection
) -> None:
    """Two hold no row and are one content, one has a row that is bad, one breaks a constraint."""
    connection.execute(
        "create table small (id integer primary key, amount integer check (amount > 0))"
    )
    for n in range(150):
        rows = "" if n in (7, 20) else f"{n},1\n{n + 1000},{-1 if n == 120 else 1}\n"
        rows += "x,1\n" if n == 30 else ""
        (tmp_path / f"{n:03}.csv").write_text(f"id,amount\n{rows}")
    with api.connect(dsn) as client, Counting() as threads:
        how: dict[str, Any] = {"into": "public.small", "executor": threads}
        result = client.load(f"{tmp_path}/*.csv", reject_limit=2, **how)
        assert len(threads.given) == 150
        assert (result.rows.inserted, result.rows.rejected) == (2 * 148 - 1, 2)
        # All but the 64 with one that the target refuses, and the one that is no row.
        assert result.batches <= 64 + 4
        assert {source.state for source in result.sources} <= {"loaded", "skipped"}
        assert client.load(f"{tmp_path}/*.csv", **how).rows.read == 0
    assert value(connection, "select count(*) from sqlkit.source where state <> 'loaded'") == 0
    assert value(connection, "select count(*) from sqlkit.stage") == 0
    assert value(connection, "select sum(rows_read)::integer from sqlkit.batch_part") > 150
    lines = "select array_agg(right(s.name, 7) || ':' || r.first_line order by s.name)"
    assert value(
        connection, f"{lines} from sqlkit.reject as r join sqlkit.source as s using (source_id)"
    ) == ["030.csv:4", "120.csv:3"]


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """A cluster of Dask with two processes; its client."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", processes=True
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.parametrize("policy", ["update", "ignore", "append"])
def test_it_ends_like_a_load_without(
    policy: str,
    files: list[str],
    small_parts: None,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    if policy == "append":
        connection.execute("alter table item drop constraint item_pkey")
    order = "order by id, origin, amount"
    with api.connect(database.dsn) as client:
        alone = client.load(files, into="public.item", policy=policy)
        expected = connection.execute(f"select * from item {order}".encode()).fetchall()
        connection.execute("truncate item")
        connection.execute("select sqlkit.forget_sources('item')")
        with Counting() as threads:
            together = client.load(files, into="public.item", policy=policy, executor=threads)
        assert connection.execute(f"select * from item {order}".encode()).fetchall() == expected
        assert [source.rows.read for source in together.sources] == [
            source.rows.read for source in alone.sources
        ]
        for result in (alone, together):
            # Small files share a batch, in which what was updated is a duplicate.
            assert (result.rows.read, result.rows.inserted) == (
                alone.rows.read,
                alone.rows.inserted,
            )
        assert len(threads.given) == 4 + 7
        assert value(connection, "select count(*) from sqlkit.stage") == 0
        # They are known now, and nobody is asked.
        with Counting() as threads:
            again = client.load(files, into="public.item", policy=policy, executor=threads)
        assert {source.state for source in again.sources} == {"skipped"}
        assert threads.given == []


@pytest.mark.parametrize(("is_ours", "atomic"), [(True, True), (False, False)])
def test_processes_whose_workers_are_killed(
    is_ours: bool,
    atomic: bool,
    files: list[str],
    small_parts: None,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        others = set(multiprocessing.active_children())

        def kill() -> None:
            for child in set(multiprocessing.active_children()) - others:
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)

        results = loaded_while_workers_die(
            files, "processes" if is_ours else pool, database, connection, kill, atomic=atomic
        )
    assert [result.rows.read for result in results] == [3 * ROWS + 1000 + 6300]
    assert value(connection, "select count(*) from item") == 7000
    assert value(connection, "select count(*) from item where origin = 'parquet'") == 6300
    assert value(connection, "select sum(rows_read)::integer from sqlkit.batch") == 19300
    assert value(connection, "select count(*) from sqlkit.stage") == 0


def loaded_while_workers_die(
    files: list[str],
    executor: Executor | str,
    database: Database,
    connection: psycopg.Connection,
    kill: Callable[[], None],
    *,
    atomic: bool = False,
    again: bool = False,
) -> list[api.LoadResult]:
    """A load, whose two workers are killed when each has a part in hand."""
    results: list[api.LoadResult] = []

    def load() -> None:
        with api.connect(database.dsn) as client:
            results.append(
                client.load(
                    files, into="public.item", executor=executor, atomic=atomic, again=again
                )
            )

    thread = threading.Thread(target=load)
    with database.connect() as holding, holding.transaction():
        # So far they come, and no stage is made.
        holding.execute("lock table sqlkit.stage in share mode")
        thread.start()
        waiting = (
            "select count(*) from pg_locks where not granted "
            "and relation = 'sqlkit.stage'::regclass"
        )
        wait_until(lambda: value(connection, waiting) == 2)
        kill()
    thread.join(60)
    return results


def test_an_answer_that_is_lost_is_asked_for_again(
    files: list[str],
    database: Database,
    connection: psycopg.Connection,
) -> None:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, password="hunter2")
    elsewhere = Elsewhere(lost=1)
    with api.connect(dsn) as client:
        loaded = client.load(files, into="public.item", executor=elsewhere)
    assert loaded.rows.read == 3 * ROWS + 1000 + 6300
    assert value(connection, "select count(*) from item") == 7000
    assert value(connection, "select sum(rows_read)::integer from sqlkit.batch") == loaded.rows.read
    assert value(connection, "select count(*) from sqlkit.stage") == 0
    # What goes to others has no secret.
    assert elsewhere.sent
    assert not any(b"hunter2" in sent for sent in elsewhere.sent)
    with Counting() as threads, api.connect(dsn) as client:
        client.load(files, into="public.item", executor=threads, again=True)
    assert {part.password.text for part in threads.given} == {"hunter2"}
    assert "hunter2" not in repr(threads.given) + repr(Hidden("hunter2"))


def test_bad_rows_are_found_as_without(
    files: list[str], database: Database, connection: psycopg.Connection, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id,origin,amount\n1,x,1\n2,x,many\n3,x,3\n")
    broken = tmp_path / "broken.csv"
    broken.write_text("id,origin,amount\n8000,x,1\n8001,x,-1\n")
    connection.execute("alter table item add check (amount >= 0)")
    with api.connect(database.dsn) as client, Counting() as threads:
        with pytest.raises(SqlkitError) as caught:
            client.load([*files, bad, broken], into="public.item", executor=threads)
        assert "bad.csv, line 3" in f"{caught.value} {caught.value.detail}"
        loaded = client.load(
            [*files, bad, broken], into="public.item", executor=threads, reject_limit=2
        )
    assert [source.state for source in loaded.sources] == [*["skipped"] * 5, "loaded", "loaded"]
    assert (loaded.rows.read, loaded.rows.rejected) == (5, 2)
    found = connection.execute(
        "select s.name, r.first_line from sqlkit.reject as r join sqlkit.source as s "
        "using (source_id) order by r.reject_id"
    ).fetchall()
    assert found == [(str(bad), 3), (str(broken), 3)]


def test_what_a_worker_cannot_do_is_said(
    files: list[str],
    database: Database,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with api.connect(database.dsn) as client:
        with Counting() as threads:
            client.load(files, into="public.item", executor=threads, dry_run=True)
            assert threads.given == []
            client.load(files[:2], into="public.item", executor=threads)
        part = threads.given[0]
        for changed, code, said in (
            ({"version": "0.0.1"}, "SK000", "has sqlkit"),
            ({"fingerprint": "0" * 64}, "SK103", "content differs"),
            ({"dsn": "host=127.0.0.1 port=1"}, "08001", "cannot connect"),
            ({"run_id": 10**9}, "23503", "violates foreign key"),
        ):
            staged = stage_part(type(part)(**{**part.__dict__, **changed}))
            assert staged.error is not None
            assert (staged.error.code, said in str(staged.error)) == (code, True), staged.error
            again = pickle.loads(pickle.dumps(staged.error))  # noqa: S301
            assert (str(again), again.code, again.hint) == (
                str(staged.error),
                staged.error.code,
                staged.error.hint,
            )
        staged = stage_part(part)
        assert staged.error is not None
        assert staged.error.code == "SK403"
        for executor, said in (
            ("nobody", "no executor 'nobody'"),
            ("dask://", "no executor"),
            (7, "int is no concurrent"),
        ):
            with pytest.raises(UsageError, match=said):
                client.load(files, into="public.item", executor=executor)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(UsageError, match="needs distributed") as caught:
            client.load(files, into="public.item", executor="dask://127.0.0.1:1")
        assert "sqlkit[dask]" in str(caught.value.hint)
    with (
        api.connect(connection) as client,
        pytest.raises(UsageError, match="connect to the database by its address"),
    ):
        client.load(files, into="public.item", executor="processes")


def test_dask(
    dask: Any,
    files: list[str],
    small_parts: None,
    database: Database,
    connection: psycopg.Connection,
    sqlkit: RunSqlkit,
) -> None:
    address = dask.scheduler.address.removeprefix("tcp://")
    load = ("load", *files, "--into", "public.item", "--dsn", database.dsn, "--json")
    done = sqlkit(*load, "--workers", "2", "--executor", f"dask://{address}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["rows"]["read"] == 3 * ROWS + 1000 + 6300
    expected = content(connection)
    assert len(expected) == 7000
    pids = dask.run(os.getpid)
    results = loaded_while_workers_die(
        files,
        dask.get_executor(),
        database,
        connection,
        lambda: os.kill(next(iter(pids.values())), signal.SIGKILL),
        again=True,
    )
    assert [
        result.rows.unchanged + result.rows.updated + result.rows.duplicates for result in results
    ] == [19300]
    assert content(connection) == expected
    assert value(connection, "select count(*) from sqlkit.stage") == 0
