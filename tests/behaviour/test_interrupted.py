"""A load that somebody ends: it says so in the ledger, clears up, and can go on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit._acompat import Task
from tests.conftest import Database, environment

ROWS = 400_000


@pytest.fixture
def item(connection: psycopg.Connection) -> str:
    """A table that takes its time: rows wait in a trigger."""
    connection.execute("create table item (id integer primary key, name text)")
    connection.execute("insert into item values (0, 'mine')")
    return "public.item"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """More than a load can do in the time that it gets."""
    path = tmp_path / "a.csv"
    path.write_text("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, ROWS + 1)))
    return path


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def has_begun(connection: psycopg.Connection) -> Callable[[], bool]:
    """Something was committed, and more is to come."""
    query = "select count(*) > 1 from sqlkit.batch"
    return lambda: connection.execute(query).fetchone() == (True,)


def check_state(connection: psycopg.Connection, path: Path, dsn: str, policy: str) -> None:
    """The run failed, nothing is left over, what was committed is recorded; the rest follows."""
    assert connection.execute("select state from sqlkit.run").fetchall() == [("failed",)]
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)
    assert connection.execute(
        "select count(*) from pg_class where relnamespace = 'sqlkit_stage'::regnamespace"
    ).fetchone() == (0,)
    ((kept,),) = connection.execute(
        "select sum(rows_inserted)::bigint from sqlkit.batch"
    ).fetchall()
    assert connection.execute("select count(*) - 1 from item").fetchone() == (kept,)
    assert 0 < kept < ROWS
    with api.connect(dsn) as client:
        rest = client.load(path, into="public.item", policy=policy)
    assert rest.rows == api.RowCounts(read=ROWS - kept, inserted=ROWS - kept)
    assert connection.execute("select count(*) from item").fetchone() == (ROWS + 1,)


def heed_control_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("policy", ["update", "append"])
def test_control_c(
    item: str, path: Path, database: Database, connection: psycopg.Connection, policy: str
) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "sqlkit.cli.app", "load", str(path), "--into", item),
            *("--dsn", database.dsn, "--policy", policy, "--batch-bytes", "20000"),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background the signal is ignored, and that is inherited.
        preexec_fn=heed_control_c,
    ) as process:
        wait_for(has_begun(connection))
        process.send_signal(signal.SIGINT)
        output, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert told == "interrupted\n"
    assert output == ""
    check_state(connection, path, database.dsn, policy)


@pytest.mark.parametrize(
    ("number", "options", "code", "message"),
    [
        (signal.SIGINT, [], 130, "interrupted"),
        (signal.SIGINT, ["--atomic"], 130, "interrupted"),
        (signal.SIGINT, ["--dry-run"], 130, "interrupted"),
        (signal.SIGTERM, [], 143, "terminated"),
        (signal.SIGTERM, ["--atomic"], 143, "terminated"),
    ],
)
def test_a_signal_during_a_long_merge(
    item: str,
    database: Database,
    connection: psycopg.Connection,
    tmp_path: Path,
    number: signal.Signals,
    options: list[str],
    code: int,
    message: str,
) -> None:
    connection.execute(
        "create function wait() returns trigger language plpgsql as "
        "$$begin perform pg_catalog.pg_sleep(60); return new; end$$"
    )
    connection.execute(
        "create trigger wait before insert on item for each row execute function wait()"
    )
    (tmp_path / "one.csv").write_text("id,name\n1,one\n")
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "sqlkit.cli.app", "load", "one.csv", "--into", item),
            *("--dsn", database.dsn, *options),
        ],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_control_c,
    ) as process:
        sleeping = (
            "select exists (select from pg_catalog.pg_stat_activity "
            "where datname = current_database() and wait_event = 'PgSleep')"
        )
        wait_for(lambda: connection.execute(sleeping).fetchone() == (True,))
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (code, f"{message}\n")
    assert connection.execute(sleeping).fetchone() == (False,)
    states = connection.execute("select state from sqlkit.run").fetchall()
    assert states == ([] if "--dry-run" in options else [("failed",)])
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)
    assert connection.execute("select id from item").fetchall() == [(0,)]


@pytest.mark.parametrize("policy", ["update", "append"])
def test_a_task_that_is_cancelled(
    item: str, path: Path, dsn: str, connection: psycopg.Connection, policy: str
) -> None:
    async def work() -> None:
        async with api.aconnect(dsn) as client:
            task = asyncio.create_task(
                client.load(path, into=item, policy=policy, batch_bytes=20_000, workers=3)
            )
            await asyncio.to_thread(wait_for, has_begun(connection))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    before = threading.active_count()
    asyncio.run(work())
    assert threading.active_count() <= before
    check_state(connection, path, dsn, policy)


def test_an_asynchronous_load_with_a_time_limit(
    item: str, path: Path, dsn: str, connection: psycopg.Connection
) -> None:
    """On the caller's connection: the transaction is the caller's, and is there afterwards."""

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as mine:
            await mine.execute("insert into public.item values (-1, 'mine too')")
            async with api.aconnect(mine) as client:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await client.load(path, into=item, batch_bytes=20_000)
            assert not mine.closed
            cursor = await mine.execute("select count(*) from public.item")
            assert await cursor.fetchone() == (2,)
            await mine.commit()

    asyncio.run(work())
    assert connection.execute("select count(*) from item").fetchone() == (2,)
    assert connection.execute("select count(*) from sqlkit.run").fetchone() == (0,)
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


def test_work_beside_is_waited_for_although_control_c_broke_off_a_wait() -> None:
    ended: list[bool] = []

    def work() -> None:
        time.sleep(0.5)
        ended.append(True)

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        task = Task(work)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            task.result()
        assert not ended
        assert task.settle() is None
        assert ended
    finally:
        signal.signal(signal.SIGALRM, before)
