"""A refresh that dies leaves the old content or the new, and nothing beside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, RunSqlkit, environment
from tests.crash.conftest import held_up, value, wait_until, waiting_for_target

STRATEGIES = ("mirror",)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_refresh_changes_nothing(
    database: Database,
    connection: psycopg.Connection,
    tmp_path: Path,
    sqlkit: RunSqlkit,
    strategy: str,
) -> None:
    connection.execute("create table public.target (id integer primary key, name text)")
    connection.execute(
        "insert into public.target select n, 'old' from generate_series(1, 1000) as n"
    )
    (tmp_path / "new.csv").write_text("id,name\n" + "".join(f"{n},new\n" for n in range(2, 1002)))
    arguments = ["refresh", "public.target", "--from", "new.csv", "--strategy", strategy]
    with held_up(database):
        process = subprocess.Popen(
            [sys.executable, "-m", "sqlkit.cli.app", *arguments, "--dsn", database.dsn],
            cwd=tmp_path,
            env=environment(),
        )
        wait_until(lambda: waiting_for_target(connection))
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(
        lambda: value(
            connection,
            "select not exists (select from pg_stat_activity where datname = current_database()"
            " and application_name = 'sqlkit')",
        )
    )
    assert value(connection, "select count(*) from target where name = 'old'") == 1000
    assert value(connection, "select count(*) from sqlkit.stage") == 1
    done = sqlkit(*arguments, "--dsn", database.dsn, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["read"] == 1000
    assert value(connection, "select count(*) from target where name = 'new'") == 1000
    assert value(connection, "select count(*) from target") == 1000
    assert value(connection, "select count(*) from sqlkit.stage") == 0
    assert (
        value(
            connection,
            "select count(*) from pg_class where relnamespace = 'sqlkit_stage'::regnamespace",
        )
        == 0
    )
    states = "select string_agg(state, ' ' order by run_id) from sqlkit.run where kind = 'refresh'"
    assert value(connection, states) == "failed done"
