"""Loads in processes of their own, held up where a test wants them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, environment

LIMIT = 60.0


@dataclass
class Running:
    """``sqlkit load`` on its way."""

    process: subprocess.Popen[str]

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.communicate()

    def result(self) -> dict[str, Any]:
        """Wait for its success; what it printed."""
        output, errors = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0, output + errors
        found: dict[str, Any] = json.loads(output)
        return found

    def failure(self) -> dict[str, Any]:
        """Wait for its failure; the error that it printed."""
        output, errors = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 1, errors
        found: dict[str, Any] = json.loads(output)["error"]
        return found


StartLoad = Callable[..., Running]


@pytest.fixture
def start_load(tmp_path: Path) -> Iterator[StartLoad]:
    """``start_load(dsn, "a.csv", "--policy", "append")`` loads beside the test."""
    with contextlib.ExitStack() as stack:

        def start(dsn: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> Running:
            process = stack.enter_context(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "sqlkit.cli.app", "load", *arguments),
                        *("--into", "public.target", "--dsn", dsn, "--json"),
                    ],
                    cwd=tmp_path,
                    env=environment(),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(_end, process)
            return Running(process)

        yield start


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something to become true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def value(connection: psycopg.Connection, query: str, *values: object) -> Any:
    """The first column of the one row that a query finds."""
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]


def waiting_for_target(connection: psycopg.Connection) -> bool:
    """Whether a load waits for a lock on the target."""
    found: bool = value(
        connection,
        "select exists (select from pg_locks"
        " where relation = 'public.target'::regclass and not granted)",
    )
    return found


@contextlib.contextmanager
def held_up(database: Database) -> Iterator[psycopg.Connection]:
    """As long as this lasts, loads get as far as the merge of their first batch, and wait."""
    with database.connect() as holder, holder.transaction():
        holder.execute("lock table public.target in row exclusive mode")
        yield holder


@pytest.fixture
def files(tmp_path: Path, connection: psycopg.Connection) -> list[str]:
    """Two files of 4,000 rows each, and the table that they go into."""
    connection.execute("create table public.target (id integer primary key, name text)")
    # Rows make it one that is merged into: the first load of an empty one takes another way.
    connection.execute("insert into public.target values (-1, 'was there')")
    for part in range(2):
        rows = "".join(f"{part * 4_000 + row},name {row}\n" for row in range(4_000))
        (tmp_path / f"{part}.csv").write_text("id,name\n" + rows)
    return ["0.csv", "1.csv", "--batch-bytes", "10000"]
