"""A refresh that dies leaves the old content or the new, and nothing beside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, RunSqlkit, environment
from tests.crash.conftest import held_up, value, wait_until, waiting_for_target

STRATEGIES = ("mirror", "truncate", "swap")
RUNS = "select count(*) from sqlkit.run"


def start(database: Database, folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sqlkit.cli.app", *arguments, "--dsn", database.dsn],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(process: subprocess.Popen[bytes], connection: psycopg.Connection) -> None:
    """SIGKILL; what it asked the server for may yet be done, or not."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name = 'sqlkit'"
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whenever_it_is_killed_the_table_is_old_or_new(
    database: Database,
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    tmp_path: Path,
    sqlkit: RunSqlkit,
    strategy: str,
) -> None:
    connection.execute("create table public.target (id integer primary key, name text)")
    connection.execute(
        "insert into public.target select n, 'old' from generate_series(1, 30000) as n"
    )
    connection.execute("create index target_name on public.target (name)")
    connection.execute("create view seen as select name from target")
    (tmp_path / "new.csv").write_text("id,name\n" + "".join(f"{n},new\n" for n in range(2, 30_002)))
    arguments = ["refresh", "public.target", "--from", "new.csv", "--strategy", strategy]
    # Where it waits for the table, and then here and there.
    with held_up(database):
        process = start(database, tmp_path, arguments)
        wait_until(lambda: waiting_for_target(connection))
        kill(process, superuser)
    assert value(connection, "select count(*) from target where name = 'old'") == 30_000
    assert value(connection, "select count(*) from sqlkit.stage") > 0
    for delay in (0.05, 0.25):
        runs = f"select count(*) > {value(connection, RUNS)} from sqlkit.run"
        process = start(database, tmp_path, arguments)
        wait_until(partial(value, connection, runs))
        time.sleep(delay)
        kill(process, superuser)
        counted = "select (count(*), count(distinct name))::text from seen"
        assert value(connection, counted) == "(30000,1)"
    done = sqlkit(*arguments, "--dsn", database.dsn, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["read"] == 30_000
    assert value(connection, "select count(*) from seen where name = 'new'") == 30_000
    assert value(connection, "select count(*) from target") == 30_000
    assert value(connection, "select count(*) from sqlkit.stage") == 0
    assert value(connection, "select count(*) from sqlkit.run where state = 'running'") == 0
    tables = (
        "select string_agg(relname, ' ') from pg_class where relkind = 'r' and relnamespace in "
    )
    assert value(connection, tables + "('public'::regnamespace, 'sqlkit_stage'::regnamespace)") == (
        "target"
    )
    indexes = "select count(*) from pg_index where indrelid = 'target'::regclass and indisvalid"
    assert value(connection, indexes) == 2
