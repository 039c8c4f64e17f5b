"""What is waited for, how long, and what is said meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

import sqlkit as api
from sqlkit import LoadProgress, SqlkitError, UsageError, Waiting
from sqlkit.server import free_port
from sqlkit.transient import Patience, reason_to_wait
from sqlkit.units import parse_seconds
from tests.conftest import Database, OpenServer, RunSqlkit
from tests.crash.conftest import StartLoad, held_up, value, wait_until, waiting_for_target

PASS = (
    *("08000", "08001", "08003", "08004", "08006", "08P01", "25006", "40001", "40003", "40P01"),
    *("53000", "53100", "53200", "53300", "55P03", "57P01", "57P02", "57P03"),
)
STAY = (
    *("22P02", "23505", "23514", "25P02", "28P01", "3D000", "40002", "42501", "42601", "42P01"),
    *("53400", "54000", "55000", "57014", "57P04", "58030", "P0001", "XX000", "XX001"),
)


@pytest.mark.parametrize("code", PASS)
def test_these_pass(code: str) -> None:
    assert reason_to_wait(errors.lookup(code)("whatever the text")) is not None


@pytest.mark.parametrize("code", STAY)
def test_these_do_not(code: str) -> None:
    # Not even if their text sounds like it.
    error = errors.lookup(code)("server closed the connection unexpectedly: read-only")
    assert reason_to_wait(error) is None


def test_a_closed_connection_is_told_by_its_kind(dsn: str) -> None:
    connection = psycopg.connect(dsn)
    connection.close()
    with pytest.raises(psycopg.OperationalError) as caught:
        connection.execute("select 1")
    assert reason_to_wait(caught.value) is not None
    assert reason_to_wait(psycopg.InterfaceError("the cursor is closed")) is None
    assert reason_to_wait(ValueError("connection lost")) is None
    assert reason_to_wait(SqlkitError("connection lost", code="57P01")) is None


def test_a_session_that_ends_in_the_middle_of_a_query(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        pid = connection.info.backend_pid

        def end() -> None:
            with psycopg.connect(dsn, autocommit=True) as other:
                time.sleep(0.2)
                other.execute("select pg_terminate_backend(%s)", [pid])

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select pg_sleep(20)")
        ending.join()
        assert reason_to_wait(caught.value) is not None
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select 1")
        assert reason_to_wait(caught.value) is not None


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_waits_double_up_to_a_limit_and_end_with_the_budget() -> None:
    clock = Clock()
    patience = Patience(100, first=1, longest=8, clock=clock, chance=lambda: 1.0)
    seconds = []
    while (wait := patience.wait_for(errors.AdminShutdown("bye"))) is not None:
        seconds.append(wait.seconds)
        clock.now += wait.seconds
    assert seconds[:5] == [1, 2, 4, 8, 8]
    assert sum(seconds) == 100


def test_work_does_not_count_and_progress_gives_all_back() -> None:
    clock = Clock()
    patience = Patience(10, first=4, longest=4, clock=clock, chance=lambda: 1.0)
    for _ in range(2):
        assert patience.wait_for(errors.AdminShutdown("bye")) is not None
        clock.now += 4
        patience.resumed()
        clock.now += 1_000
    last = patience.wait_for(errors.AdminShutdown("bye"))
    assert last is not None
    assert (last.seconds, last.left, last.attempt) == (2, 0, 3)
    clock.now += 2
    assert patience.wait_for(errors.AdminShutdown("bye")) is None
    patience.progressed()
    again = patience.wait_for(errors.AdminShutdown("bye"))
    assert again is not None
    assert (again.attempt, again.seconds) == (1, 4)


def test_jitter_is_anything_from_nothing_to_the_limit() -> None:
    found = set()
    for share in (0.0, 0.25, 1.0):
        patience = Patience(100, first=8, chance=lambda share=share: share)  # type: ignore[misc]
        wait = patience.wait_for(errors.DeadlockDetected("x"))
        assert wait is not None
        found.add(wait.seconds)
    assert found == {0.0, 2.0, 8.0}


def test_no_budget_no_wait() -> None:
    assert Patience(0).wait_for(errors.AdminShutdown("bye")) is None


def test_the_error_that_ends_the_waiting_tells_of_it() -> None:
    clock = Clock()
    patience = Patience(8, clock=clock, chance=lambda: 1.0)
    told = SqlkitError("no space left on device", code="53100")
    while (wait := patience.wait_for(errors.DiskFull("no space left on device"))) is not None:
        patience.tell_in(told)
        assert told.hint is None  # it may still pass
        clock.now += wait.seconds
    patience.tell_in(told)
    assert told.hint == (
        "Waited 8 s for it to pass (--retry-for). "
        "Run the same command again when it has: it continues."
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("30s", 30), ("15m", 900), ("2h", 7200), ("0", 0)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "5 days", "nan", "inf"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_seconds(text)


# --------------------------------------------------------------------------------------------
# Calls
# --------------------------------------------------------------------------------------------


def failing(times: int, error: Callable[[], Exception]) -> Callable[[psycopg.Connection], int]:
    calls = []

    def call(connection: psycopg.Connection) -> int:
        assert connection.autocommit
        calls.append(connection.info.backend_pid)
        if len(calls) <= times:
            raise error()
        return len(calls)

    return call


def test_a_call_is_made_until_it_succeeds(dsn: str) -> None:
    told: list[Waiting] = []
    call = failing(2, lambda: errors.SerializationFailure("try again"))
    assert api.call_with_retry(call, dsn, on_wait=told.append) == 3
    assert [(wait.attempt, wait.code) for wait in told] == [(1, "40001"), (2, "40001")]
    assert str(told[0]).startswith("another transaction was in the way (40001); attempt 2 in ")


def test_a_call_of_the_asynchronous_api(dsn: str) -> None:
    calls = []

    async def call(connection: psycopg.AsyncConnection) -> str:
        calls.append(1)
        if len(calls) == 1:
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        cursor = await connection.execute("select 'done'")
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0])

    told: list[Waiting] = []
    assert asyncio.run(api.acall_with_retry(call, dsn, on_wait=told.append)) == "done"
    assert [wait.code for wait in told] == ["57P01"]


def test_other_errors_are_raised_at_once(dsn: str) -> None:
    told: list[Waiting] = []
    with pytest.raises(SqlkitError) as caught:
        api.call_with_retry(lambda c: c.execute("select 1 / 0"), dsn, on_wait=told.append)
    assert caught.value.code == "22012"
    with pytest.raises(ZeroDivisionError):
        api.call_with_retry(failing(1, ZeroDivisionError), dsn, on_wait=told.append)
    assert told == []


def test_the_budget_ends(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with pytest.raises(SqlkitError) as caught:
        api.call_with_retry(failing(99, lambda: errors.DiskFull("full")), dsn, retry_for=1.5)
    assert caught.value.code == "53100"
    assert 1 < time.monotonic() - started < 10
    # Where nobody listens, it is logged.
    assert "the server's disk is full (53100); attempt 2 in" in caplog.text


def test_a_call_waits_for_a_server_that_is_not_there_yet(own_server: OpenServer) -> None:
    server = own_server()
    assert server.cluster is not None
    server.cluster.stop()
    starting = threading.Timer(1.5, server.cluster.start, (server.port,))
    starting.start()
    told: list[Waiting] = []
    found = api.call_with_retry(
        lambda c: value(c, "select 'here'"), server.dsn(), retry_for=30, on_wait=told.append
    )
    starting.join()
    assert found == "here"
    assert told
    assert told[0].reason == "nothing answers at the server's address"


def test_who_is_refused_at_first_is_refused_at_once(dsn: str) -> None:
    told: list[Waiting] = []
    for wrong in ({"dbname": "nowhere"}, {"user": "nobody"}):
        with pytest.raises(SqlkitError) as caught:
            api.call_with_retry(lambda c: None, make_conninfo(dsn, **wrong), on_wait=told.append)
        assert caught.value.code == "08004"
        assert caught.value.hint
    assert told == []


def test_of_many_hosts_the_one_that_accepts_writes(database: Database) -> None:
    server = database.server
    dsn = make_conninfo(
        database.dsn,
        host=f"{server.host},{server.host}",
        port=f"{free_port()},{server.port}",
        target_session_attrs="read-write",
    )
    assert api.call_with_retry(lambda c: c.info.port, dsn) == server.port


@pytest.fixture
def read_only(database: Database) -> Callable[[], None]:
    """The database is read-only until this is called."""
    change = f'alter database "{database.name}"'
    database.server.run(f"{change} set default_transaction_read_only = on")
    return lambda: database.server.run(f"{change} reset default_transaction_read_only")


@pytest.mark.parametrize("attributes", ["any", "read-write"])
def test_a_read_only_server_is_not_ready(
    database: Database, read_only: Callable[[], None], attributes: str
) -> None:
    told: list[Waiting] = []

    def tell(wait: Waiting) -> None:
        told.append(wait)
        read_only()

    dsn = make_conninfo(database.dsn, target_session_attrs=attributes)
    assert api.call_with_retry(lambda c: value(c, "select 1"), dsn, on_wait=tell) == 1
    assert [(wait.reason, wait.code) for wait in told] == [("the server is read-only", "25006")]


# --------------------------------------------------------------------------------------------
# Loads
# --------------------------------------------------------------------------------------------


def test_a_load_says_what_it_waits_for(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    dsn = make_conninfo(database.dsn, options="-c lock_timeout=300ms")
    with held_up(database):
        load = start_load(dsn, *files)
        wait_until(lambda: waiting_for_target(connection))
        wait_until(lambda: not waiting_for_target(connection))
    output, told = load.process.communicate(timeout=60)
    assert load.process.returncode == 0, told
    assert "waiting: another session holds a lock (55P03); attempt 2 in" in told
    assert '"inserted": 8000' in output


def test_a_load_that_is_not_to_wait(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    dsn = make_conninfo(database.dsn, options="-c lock_timeout=300ms")
    with held_up(database):
        assert start_load(dsn, *files, "--retry-for", "0").failure()["code"] == "55P03"
    assert value(connection, "select state from sqlkit.run") == "failed"
    assert value(connection, "select count(*) from sqlkit.stage") == 0


def test_the_counters_are_right_after_an_interruption(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    load = start_load(database.dsn, *files)
    wait_until(lambda: value(connection, "select count(*) from sqlkit.batch") >= 3)
    with held_up(database):
        wait_until(lambda: waiting_for_target(connection))
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = 'sqlkit'"
        )
    result = load.result()
    assert result["rows"] == {
        "read": 8_000,
        "inserted": 8_000,
        "updated": 0,
        "unchanged": 0,
        "ignored": 0,
        "duplicates": 0,
        "rejected": 0,
    }
    assert [source["rows"]["inserted"] for source in result["sources"]] == [4_000, 4_000]
    assert [source["state"] for source in result["sources"]] == ["loaded", "loaded"]
    assert result["batches"] == value(connection, "select count(*) from sqlkit.batch")
    assert value(connection, "select count(*) from sqlkit.run") == 1


def test_a_pool_whose_connections_have_died(
    database: Database, connection: psycopg.Connection, files: list[str], tmp_path: Path
) -> None:
    from psycopg_pool import ConnectionPool

    told: list[Waiting] = []
    with ConnectionPool(database.dsn, min_size=3, max_size=3, open=True) as pool:
        pool.wait()
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        with api.connect(pool) as client:
            result = client.load(
                [tmp_path / "0.csv", tmp_path / "1.csv"],
                into="public.target",
                batch_bytes=10_000,
                on_wait=told.append,
            )
    assert result.rows.inserted == 8_000
    assert told


@pytest.mark.parametrize("way", ["own", "pool", "full pool"])
def test_a_load_gives_signs_of_life(
    database: Database,
    connection: psycopg.Connection,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    from psycopg_pool import ConnectionPool

    monkeypatch.setattr("sqlkit.heartbeat.HEARTBEAT", 0.1)
    results: list[api.LoadResult] = []

    def load(target: str | ConnectionPool) -> None:
        with api.connect(target) as client:
            results.append(
                client.load(tmp_path / "0.csv", into="public.target", batch_bytes=10_000)
            )

    with ConnectionPool(
        database.dsn, min_size=0, max_size=2 if way == "full pool" else 6, open=True
    ) as pool:
        loading = threading.Thread(target=load, args=(database.dsn if way == "own" else pool,))
        with held_up(database):
            loading.start()
            wait_until(lambda: waiting_for_target(connection))
            seen = value(connection, "select heartbeat_at from sqlkit.run")
            if way != "full pool":
                wait_until(
                    lambda: value(connection, "select heartbeat_at > %s from sqlkit.run", seen)
                )
        loading.join()
    assert results[0].rows.inserted == 4_000


def test_a_wrong_time_is_a_usage_error(sqlkit: RunSqlkit, files: list[str], dsn: str) -> None:
    done = sqlkit("load", "0.csv", "--into", "public.target", "--dsn", dsn, "--retry-for", "soon")
    assert done.returncode == 2
    assert "is not a time" in done.stderr


@pytest.mark.parametrize("options", [{}, {"batch_bytes": 5_000}, {"policy": "append"}], ids=str)
@pytest.mark.parametrize("kind", ["csv.gz", "jsonl", "rows"])
def test_bytes_count_once_however_often_they_are_read(
    kind: str, options: dict[str, Any], database: Database, tmp_path: Path
) -> None:
    """Read again for rejects, and after connections that were lost."""
    records = [(number, "x" if number % 400 == 77 else number) for number in range(10, 2_010)]
    rows = [{"id": key, "value": value} for key, value in records]
    text = "id,value\n" + "".join(f"{key},{value}\n" for key, value in records)
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    struck = iter((2, 5))
    strike = next(struck)
    told = 0

    def progress(_: LoadProgress) -> None:
        nonlocal told, strike
        told += 1
        if told == strike:
            strike = next(struck, 0)
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where datname = current_database() and application_name = 'sqlkit'"
            )

    with database.connect(user="postgres") as admin, api.connect(database.dsn) as client:
        admin.execute("create table bytes (id integer primary key, value integer)")
        admin.execute("grant all on bytes to public")
        result = client.load(
            (row for row in rows) if kind == "rows" else path,
            into="public.bytes",
            reject_limit=None,
            progress=progress,
            on_wait=lambda _: None,
            **options,
        )
    assert (result.rows.read, result.rows.rejected) == (2_000, 5)
    if kind == "rows":
        # As COPY takes them, header and line ends of the other kind apart.
        assert result.bytes.decoded == len(text) - len("id,value\n")
    else:
        assert (result.bytes.read, result.bytes.decoded) == (path.stat().st_size, len(text))
