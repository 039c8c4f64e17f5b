"""Maintenance by pg_cron, of Debian's server: jobs are fired, each statement is a run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

import sqlkit as package
from sqlkit import migrate
from sqlkit.maintenance_plan import MaintenanceOptions
from tests.conftest import OpenServer, RunSqlkit, missing

ODD = '"Pri""ce\'s %"'
SETTINGS = {"shared_preload_libraries": "pg_cron", "cron.database_name": "shop"}


def one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def fill(connection: psycopg.Connection, table: str) -> None:
    connection.execute(
        f"create table {table} (id int primary key) with (autovacuum_enabled = off)".encode()
    )
    connection.execute(f"insert into {table} select generate_series(1, 20000)".encode())
    connection.execute(f"delete from {table} where id % 10 > 0".encode())
    connection.execute(b"select pg_stat_force_next_flush()")
    connection.execute(f"analyze {table}".encode())


@pytest.mark.slow
def test_pg_cron_fires_and_the_ledger_knows(own_server: OpenServer, sqlkit: RunSqlkit) -> None:
    """It fires at whole minutes, so all that is to happen begins at the same two.

    A schedule and three calls of `run_maintenance` for different tables: one ends well, one waits
    for a lock, one is refused by the planner.
    """
    server = own_server(15, SETTINGS)
    server.create_database("shop")
    dsn = server.dsn("shop")
    migrate.up(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not one(
            connection, "select count(*) from pg_available_extensions where name = 'pg_cron'"
        ):
            missing("no pg_cron: tests/install-services.sh installs it")
        connection.execute("create extension pg_cron")
        for table in (ODD, "held", "scheduled", "busy"):
            fill(connection, table)
        arguments = ("optimize", "--schedule", "* * * * *", "--vacuum", "--budget", "5m")
        done = sqlkit(*arguments, "--tables", "scheduled", "--json", "--dsn", dsn)
        assert done.returncode == 0, done.stdout + done.stderr
        job = json.loads(done.stdout)["job_id"]
        assert one(connection, "select count(*) from cron.job") == 1

        begun = "select count(*) from sqlkit.maintenance where target <> 'public.scheduled'"
        failed: list[psycopg.Error] = []

        def run(table: str) -> None:
            try:
                with psycopg.connect(dsn, autocommit=True) as other:
                    other.execute(
                        "call sqlkit.run_maintenance(array[%s]::regclass[], '{vacuum}', '5 min', "
                        "p_lock_timeout => '1 second')",
                        [table],
                    )
            except psycopg.Error as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(name,)) for name in (ODD, "held", "busy")]
        with psycopg.connect(dsn) as busy, psycopg.connect(dsn) as holding:
            # The planner sees the one lock; the other is taken after it has looked.
            busy.execute("lock table busy in share mode")
            for thread in threads:
                thread.start()
            until(lambda: failed or one(connection, begun) == 2, 10)
            assert failed == []
            holding.execute("lock table held in share mode")
            for thread in threads:
                thread.join(100)
            assert not any(thread.is_alive() for thread in threads)
        assert failed == []
        runs = connection.execute(
            "select target, state, error_code, error_message, bytes_after < bytes_before "
            "from sqlkit.maintenance where target <> 'public.scheduled' order by target"
        ).fetchall()
        waited = "it waited for a lock for more than 00:00:01"
        assert runs == [
            (f"public.{ODD}", "done", None, None, False),
            ("public.held", "failed", "55P03", waited, False),
        ]
        dead = "select pg_stat_get_dead_tuples(to_regclass(%s))"
        left = [connection.execute(dead, [name]).fetchone() for name in (ODD, "busy")]
        assert left == [(0,), (18000,)]
        # Meanwhile the schedule has made a statement a job of its own, which waits for its minute.
        own = "select count(*) from sqlkit.maintenance where target = 'public.scheduled'"
        until(lambda: one(connection, own) == 1, 70)
        jobs = "select jobname::text, command from cron.job order by jobid"
        steps = connection.execute(jobs).fetchall()
        assert [name for name, _ in steps][:1] == ["sqlkit maintenance"]
        assert [command for _, command in steps][1:] == ["vacuum (analyze) public.scheduled"]

        taken_back = sqlkit("optimize", "--unschedule", "--dsn", dsn)
        assert taken_back.stdout == "unscheduled\n", taken_back.stderr
        assert one(connection, f"select count(*) from cron.job where jobid = {job}") == 0
        # Who waits for the statement is gone: so is its job, and the ledger says so.
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where query like '%sqlkit.run_maintenance%' and pid <> pg_backend_pid()"
        )
        again = sqlkit("optimize", "--unschedule", "--dsn", dsn)
        assert again.stdout == "there was no schedule\n", again.stderr
        assert one(connection, "select count(*) from cron.job") == 0
        with package.connect(dsn) as client:
            client.repair()
            with pytest.raises(package.SqlkitError, match="invalid schedule"):
                client.schedule_maintenance("at night")
            with pytest.raises(package.UsageError, match="max_load"):
                client.schedule_maintenance("0 3 * * *", MaintenanceOptions(max_load=3))
        assert one(connection, own.replace("count(*)", "error_code")) == "SK403"


def test_without_pg_cron_the_remedy_is_said(dsn: str, sqlkit: RunSqlkit) -> None:
    refused = sqlkit("optimize", "--schedule", "0 3 * * *", "--json", "--dsn", dsn)
    assert refused.returncode == 1
    told = refused.stdout + refused.stderr
    assert "SK701" in told
    assert "create extension pg_cron" in told
