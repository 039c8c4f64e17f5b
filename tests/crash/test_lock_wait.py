"""Who waits for a lock says so and for whom, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit import LockWaiting, SqlkitError, Waiting
from tests.conftest import Database

Options = dict[str, object]


@pytest.fixture
def path(tmp_path: Path, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file for table t; whoever waits looks soon for whom, and not for long."""
    monkeypatch.setattr("sqlkit.lock_watch.LOOK_EVERY", 0.05)
    monkeypatch.setattr("sqlkit.lock_watch.LEAST_LOCK_WAIT", 0.4)
    connection.execute("create table t (id integer primary key, name text)")
    made = tmp_path / "a.csv"
    made.write_text("id,name\n1,a\n2,b\n")
    return made


@pytest.mark.parametrize("mode", ["access exclusive", "row exclusive"])
def test_it_tells_who_holds_the_lock_and_goes_on(mode: str, path: Path, database: Database) -> None:
    told: list[Waiting] = []
    with (
        database.connect(application_name="month end") as other,
        api.connect(database.dsn) as client,
    ):
        other.execute("begin")
        other.execute(f"lock table t in {mode} mode".encode())

        def on_wait(wait: Waiting) -> None:
            told.append(wait)
            other.execute("rollback")

        result = client.load(path, into="public.t", on_wait=on_wait)
        pid = other.info.backend_pid
    assert (result.rows.inserted, result.batches) == (2, 1)
    assert len(told) == 1
    assert isinstance(told[0], LockWaiting)
    assert (told[0].waits_for, told[0].pids) == ("public.t", (pid,))
    assert f"another session holds a lock on public.t: process {pid}, month end of " in str(told[0])
    assert "idle in transaction since " in str(told[0])


def test_connections_of_a_pool_are_watched_too(path: Path, database: Database) -> None:
    from psycopg_pool import ConnectionPool

    told: list[Waiting] = []
    with database.connect() as other, ConnectionPool(database.dsn, min_size=4) as pool:
        other.execute("begin")
        other.execute("lock table t in share mode")

        def on_wait(wait: Waiting) -> None:
            told.append(wait)
            other.execute("rollback")

        with api.connect(pool) as client:
            assert client.load(path, into="public.t", on_wait=on_wait).rows.inserted == 2
        assert [type(wait) for wait in told] == [LockWaiting]
        assert pool.get_stats()["pool_available"] == 4


@pytest.mark.parametrize(
    "options",
    [{}, {"retry_for": 0.5}, {"policy": "append"}, {"atomic": True}, {"reject_limit": None}],
    ids=str,
)
def test_it_is_given_up_in_the_end(options: Options, path: Path, database: Database) -> None:
    with database.connect() as other, api.connect(database.dsn) as client:
        other.execute("begin")
        other.execute("lock table t in share mode")
        with pytest.raises(SqlkitError) as caught:
            client.load(path, into="public.t", **({"retry_for": 0.0, "on_wait": print} | options))  # type: ignore[arg-type]
        assert caught.value.code == "55P03"
        assert f"process {other.info.backend_pid}" in (caught.value.detail or "")
        other.execute("rollback")
        # Nothing was done by halves.
        again = client.load(path, into="public.t", policy=str(options.get("policy", "update")))
        assert again.rows.inserted == 2


def test_a_lock_timeout_of_the_user_is_left_as_it_is(path: Path, database: Database) -> None:
    told: list[Waiting] = []
    with database.connect() as other:
        other.execute("begin")
        other.execute("lock table t in row exclusive mode")

        def on_wait(wait: Waiting) -> None:
            told.append(wait)
            if wait.code == "55P03":
                other.execute("rollback")

        dsn = psycopg.conninfo.make_conninfo(database.dsn, options="-c lock_timeout=30ms")
        with api.connect(dsn) as client:
            assert client.load(path, into="public.t", on_wait=on_wait).rows.inserted == 2
    assert told[-1].attempt == 1


def refresh(client: api.Client, path: Path, **options: object) -> int:
    return client.refresh("public.t", path, strategy="mirror", **options).rows.inserted  # type: ignore[arg-type]


def refresh_by_query(client: api.Client, path: Path, **options: object) -> int:
    query = "values (1, 'a'), (2, 'b')"
    query = f"select id, name from ({query}) as v (id, name)"
    return client.refresh("public.t", query=query, strategy="mirror", **options).rows.inserted  # type: ignore[arg-type]


def transform(client: api.Client, path: Path, **options: object) -> int:
    return client.transform(
        "public.raw",
        "public.t",
        "select id, name from public.raw",
        **options,  # type: ignore[arg-type]
    ).rows.inserted


@pytest.mark.parametrize("call", [refresh, refresh_by_query, transform])
@pytest.mark.parametrize("mode", ["access exclusive", "share"])
def test_refreshes_and_transforms_do_the_same(
    call: Callable[..., int], mode: str, path: Path, database: Database
) -> None:
    told: list[Waiting] = []
    with database.connect(application_name="month end") as other:
        other.execute("create table raw (id integer primary key, name text)")
        other.execute("insert into raw values (1, 'a'), (2, 'b')")
        other.execute("select sqlkit.follow_changes('public.raw')")

        def on_wait(wait: Waiting) -> None:
            told.append(wait)
            if not is_kept:
                other.execute("rollback")

        with api.connect(database.dsn) as client:
            for is_kept in (True, False):
                other.execute("begin")
                other.execute(f"lock table t in {mode} mode".encode())
                if not is_kept:
                    assert call(client, path, on_wait=on_wait) == 2
                    break
                with pytest.raises(SqlkitError) as caught:
                    call(client, path, on_wait=on_wait, retry_for=0.0)
                assert caught.value.code == "55P03"
                assert "month end of " in (caught.value.detail or "")
                other.execute("rollback")
        assert {type(wait) for wait in told} == {LockWaiting}
