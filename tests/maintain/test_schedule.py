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

    A schedule and calls of `run_maintenance` for different tables: one ends well, two wait for a
    lock, one runs when its budget ends, one is refused by the planner.
    """
    server = own_server(15, SETTINGS)
    assert server.cluster is not None
    server.create_database("shop")
    dsn = server.dsn("shop")
    migrate.up(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not one(
            connection, "select count(*) from pg_available_extensions where name = 'pg_cron'"
        ):
            missing("no pg_cron: tests/install-services.sh installs it")
        connection.execute("create extension pg_cron")
        for table in (ODD, "held", "scheduled", "busy", "rebuilt", "late"):
            fill(connection, table)
        arguments = ("optimize", "--schedule", "* * * * *", "--vacuum", "--budget", "5m")
        done = sqlkit(*arguments, "--tables", "scheduled", "--json", "--dsn", dsn)
        assert done.returncode == 0, done.stdout + done.stderr
        job = json.loads(done.stdout)["job_id"]
        assert one(connection, "select count(*) from cron.job") == 1

        # The last minute in which a job could be scheduled for the next one is not cut too fine.
        until(lambda: time.time() % 60 < 50, 15)
        begun = "select count(*) from sqlkit.maintenance where target <> 'public.scheduled'"
        soon = "date_trunc('minute', clock_timestamp()) + interval '63 seconds' - now()"
        failed: list[psycopg.Error] = []

        def run(table: str, action: str, budget: str, lock_timeout: str) -> None:
            try:
                with psycopg.connect(dsn, autocommit=True) as other:
                    other.execute(
                        f"call sqlkit.run_maintenance(array[%s]::regclass[], %s, {budget}, "
                        "p_lock_timeout => %s, p_least_bytes => 65536)".encode(),
                        [table, [action], lock_timeout],
                    )
            except psycopg.Error as error:
                failed.append(error)

        calls = [
            *((name, "vacuum", "'5 min'", "1 second") for name in (ODD, "held", "busy")),
            ("late", "reindex", soon, "1 hour"),
            ("rebuilt", "reindex", "'5 min'", "1 second"),
        ]
        threads = [threading.Thread(target=run, args=call) for call in calls]
        with psycopg.connect(dsn) as busy, psycopg.connect(dsn) as holding:
            # The planner sees the one lock; the others are taken after it has looked, or are a
            # writer's, for whose end REINDEX waits.
            busy.execute("lock table busy in share mode")
            holding.execute("insert into late values (0); insert into rebuilt values (0)")
            for thread in threads:
                thread.start()
            until(lambda: failed or one(connection, begun) == 4, 30)
            assert failed == []
            holding.execute("lock table held in share mode")
            for thread in threads[:-1]:
                thread.join(100)
            assert not any(thread.is_alive() for thread in threads[:-1])
            rest = "select command from cron.job where command ~ 'drop index'"
            until(lambda: failed or connection.execute(rest.encode()).rowcount == 1, 30)
        assert failed == []
        # What is left of the one is dropped next; for the other no time is left.
        assert (
            one(connection, rest) == "drop index concurrently if exists public.rebuilt_pkey_ccnew"
        )
        assert one(connection, "select count(*) from pg_index where not indisvalid") == 2
        runs = connection.execute(
            "select target, state, error_code, error_message, bytes_after < bytes_before "
            "from sqlkit.maintenance where target <> 'public.scheduled' and action <> 'clean' "
            "order by target"
        ).fetchall()
        waited = "it waited for a lock for more than 00:00:01"
        assert runs == [
            (f"public.{ODD}", "done", None, None, False),
            ("public.held", "failed", "55P03", waited, False),
            ("public.late", "failed", "57014", "the budget ended while it ran", False),
            ("public.rebuilt", "failed", "55P03", waited, False),
        ]
        dead = "select pg_stat_get_dead_tuples(to_regclass(%s))"
        left = [connection.execute(dead, [name]).fetchone() for name in (ODD, "busy")]
        assert left == [(0,), (18000,)]
        # Meanwhile the schedule has made a statement a job of its own, which waits for its minute.
        own = "select count(*) from sqlkit.maintenance where target = 'public.scheduled'"
        jobs = (
            "select jobname::text, command from cron.job where command !~ 'drop index' "
            "order by jobid"
        )
        until(lambda: connection.execute(jobs.encode()).rowcount == 2, 100)
        assert one(connection, own) == 1
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
            client.optimize(MaintenanceOptions(actions=("clean",)))
            with pytest.raises(package.SqlkitError, match="invalid schedule"):
                client.schedule_maintenance("at night")
            with pytest.raises(package.UsageError, match="max_load"):
                client.schedule_maintenance("0 3 * * *", MaintenanceOptions(max_load=3))
        assert one(connection, own.replace("count(*)", "error_code")) == "SK403"
        assert one(connection, "select count(*) from pg_index where not indisvalid") == 0
    for setting, value, message in (
        ("use_background_workers", "on", "runs background workers one after the other"),
        ("log_run", "off", "keeps no record of what it runs"),
    ):
        server.run(f"alter system set cron.{setting} = {value}")
        server.cluster.stop()
        server.cluster.start(server.port)
        refused = sqlkit("optimize", "--schedule", "0 3 * * *", "--dsn", dsn)
        assert refused.returncode == 1
        assert message in refused.stderr
        server.run(f"alter system reset cron.{setting}")


def test_without_pg_cron_the_remedy_is_said(dsn: str, sqlkit: RunSqlkit) -> None:
    refused = sqlkit("optimize", "--schedule", "0 3 * * *", "--json", "--dsn", dsn)
    assert refused.returncode == 1
    told = refused.stdout + refused.stderr
    assert "SK701" in told
    assert "create extension pg_cron" in told
