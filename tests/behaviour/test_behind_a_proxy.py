"""Everything works through a transaction-pooling proxy, and leaves nothing in its sessions.

The proxy is PgBouncer as it comes: it forgets no temporary table and no setting between two
clients, so that what one left behind another would find.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool

import sqlkit as api
from sqlkit import migrate
from sqlkit._release import VERSION, VERSIONS
from sqlkit.options import POLICIES
from tests.conftest import Database, RunSqlkit
from tests.servers import Server

OF_THE_CLIENT = {
    *("application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone"),
    *("standard_conforming_strings", "transaction_isolation", "transaction_read_only"),
}
"""Settings that PgBouncer puts right for each client, and that each transaction begins anew."""

TABLE = "create table {} (id integer primary key, name text, seen integer check (seen > 0))"


@pytest.fixture
def pooled(pooled_server: Server, database: Database) -> Iterator[str]:
    """The way to `database` through the proxy. Afterwards its sessions are as good as new."""
    with database.connect() as direct:
        direct.execute(TABLE.format("item").encode())
    dsn = pooled_server.dsn(database.name, user=database.user)
    yield dsn
    assert_clean(dsn, database)


def assert_clean(dsn: str, database: Database) -> None:
    with database.connect() as direct:
        for _ in range(100):
            held = direct.execute(
                "select l.locktype, l.mode"
                " from pg_locks as l join pg_stat_activity as a using (pid)"
                " where a.datname = current_database() and a.pid <> pg_backend_pid()"
                " and a.backend_type = 'client backend'"
            ).fetchall()
            if held == []:
                break
            time.sleep(0.05)  # what the proxy opens in advance holds locks while it begins
        assert held == []
        temporary = direct.execute(
            "select c.oid::regclass::text from pg_class as c join pg_namespace as n"
            " on n.oid = c.relnamespace where n.nspname like 'pg\\_temp%'"
        ).fetchall()
        assert temporary == []
    # Every session of the proxy is asked, since each transaction occupies another one.
    opened = [psycopg.connect(dsn) for _ in range(5)]
    try:
        for connection in opened:
            changed = connection.execute("select name from pg_settings where source = 'session'")
            assert {name for (name,) in changed} <= OF_THE_CLIENT
            assert connection.execute("select name from pg_prepared_statements").fetchall() == []
    finally:
        for connection in opened:
            connection.close()


def write(path: Path, rows: dict[int, tuple[str, object]]) -> Path:
    lines = [f"{key},{name},{seen}" for key, (name, seen) in rows.items()]
    path.write_text("\n".join(["id,name,seen", *lines]) + "\n")
    return path


def content(database: Database, table: str) -> list[tuple[object, ...]]:
    with database.connect() as direct:
        return direct.execute(f"select * from {table} order by id".encode()).fetchall()


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "history"])
def test_a_load_ends_as_it_does_without_one(
    policy: str, pooled: str, database: Database, tmp_path: Path
) -> None:
    with database.connect() as direct:
        direct.execute(TABLE.format("twin").encode())
    first = write(
        tmp_path / "1.csv", {n: (f"name {n}" if n % 7 else "", n) for n in range(1, 4000)}
    )
    apart = policy in ("append", "error")
    start = 4000 if apart else 2000
    second = write(tmp_path / "2.csv", {n: (f"new {n}", n + n % 3) for n in range(start, 6000)})
    done = {}
    for table, dsn in (("item", pooled), ("twin", database.dsn)):
        with api.connect(dsn) as client:
            done[table] = [
                client.load(
                    path,
                    into=f"public.{table}",
                    policy=policy,
                    order_by="seen" if policy == "newer" else None,
                    batch_bytes=20_000,
                    workers=3,
                ).rows
                for path in (first, second)
            ]
    assert done["item"] == done["twin"]
    assert content(database, "item") == content(database, "twin")


def test_a_first_load_an_atomic_one_and_a_dry_run(
    pooled: str, database: Database, tmp_path: Path
) -> None:
    path = write(tmp_path / "1.csv", {n: ("x" * 100, n) for n in range(1, 60_000)})
    with api.connect(pooled) as client:
        assert client.load(path, into="public.item", dry_run=True).rows.inserted == 59_999
        assert content(database, "item") == []
        assert client.load(path, into="public.item").rows.inserted == 59_999
        atomic = client.load(
            path, into="public.item", again=True, atomic=True, batch_bytes=1_000_000
        )
        assert atomic.rows.unchanged == 59_999
        assert (
            client.load(path, into="public.made", create=True, key=["id"]).rows.inserted == 59_999
        )


def test_rejects_are_listed_exported_replayed_and_dismissed(
    pooled: str, database: Database, tmp_path: Path, sqlkit: RunSqlkit
) -> None:
    rows: dict[int, tuple[str, object]] = {n: (f"name {n}", n) for n in range(1, 500)}
    rows |= {10: ("ten", "none"), 20: ("twenty", 0), 30: ("thirty", "x")}
    path = write(tmp_path / "1.csv", rows)
    dsn = ("--dsn", pooled)
    loaded = sqlkit("load", path, "--into", "public.item", "--reject-limit", "5", "--json", *dsn)
    assert loaded.returncode == 3, loaded.stderr
    run = str(json.loads(loaded.stdout)["run_id"])
    listed = sqlkit("rejects", *dsn)
    assert "seen" in listed.stdout
    assert sqlkit("rejects", "export", run, tmp_path / "bad.csv", *dsn).returncode == 0
    assert (tmp_path / "bad.csv").read_text().count("\n") == 4
    edit = "replace(raw, 'none', '10')"
    replayed = sqlkit("rejects", "replay", run, "--edit-sql", edit, "--reject-limit", "5", *dsn)
    assert replayed.returncode == 3, replayed.stderr
    assert (10, "ten", 10) in content(database, "item")
    with api.connect(pooled) as client:
        (newest, *_) = client.runs()
        assert len(client.rejects(newest["run_id"])) == 2
        assert client.dismiss_rejects(newest["run_id"]) == 2
        assert len(client.batches(newest["run_id"])) == 1


def test_a_run_whose_program_is_gone_is_repaired(
    pooled: str, database: Database, sqlkit: RunSqlkit
) -> None:
    with database.connect() as direct:
        direct.execute(
            "select sqlkit.create_stage('item', p_run_id => sqlkit.start_run('load', 'item'))"
        )
        # Behind a proxy nobody sees its session: only its silence tells.
        direct.execute("select sqlkit.attach_run(max(run_id), -1) from sqlkit.run")
        direct.execute("update sqlkit.run set heartbeat_at = now() - interval '1 hour'")
    repaired = sqlkit("repair", "--dsn", pooled, "--json")
    assert [step["action"] for step in json.loads(repaired.stdout)["repaired"]] == [
        "closed",
        "dropped",
    ]
    with api.connect(pooled) as client:
        assert client.repair() == []


def test_a_table_is_refreshed(pooled: str, database: Database, tmp_path: Path) -> None:
    path = write(tmp_path / "1.csv", {n: ("x", n) for n in range(1, 1000)})
    with api.connect(pooled) as client:
        client.load(path, into="public.item")
        write(path, {n: ("x" if n % 2 else "y", n) for n in range(50, 1100)})
        assert client.refresh("public.item", path).deleted == 49
    assert len(content(database, "item")) == 1050


def test_pools_and_asynchronous_clients(pooled: str, database: Database, tmp_path: Path) -> None:
    path = write(tmp_path / "1.csv", {n: ("x", n) for n in range(1, 1000)})
    with ConnectionPool(pooled, min_size=1, max_size=4) as pool, api.connect(pool) as client:
        assert client.load(path, into="public.item", batch_bytes=2_000).rows.inserted == 999

    async def work() -> int:
        async with api.aconnect(pooled) as client:
            return (await client.load(path, into="public.item", again=True)).rows.unchanged

    assert asyncio.run(work()) == 999


def test_migrations(pooled_server: Server, empty_database: Database, sqlkit: RunSqlkit) -> None:
    pooled = pooled_server.dsn(empty_database.name)
    dsn = ("--dsn", pooled)
    assert sqlkit("migrate", "up", "--to", VERSIONS[0], *dsn).returncode == 0
    offline = sqlkit("migrate", "sql", *dsn)
    assert f"upgrade from {VERSIONS[0]}" in offline.stdout
    assert sqlkit("migrate", "up", *dsn).returncode == 0
    history = json.loads(sqlkit("migrate", "history", "--json", *dsn).stdout)
    assert [row["version"] for row in history] == list(VERSIONS)
    status = json.loads(sqlkit("migrate", "status", "--json", *dsn).stdout)
    assert (status["version"], status["pending"]) == (VERSION, [])
    assert sqlkit("migrate", "roles", *dsn).returncode == 0
    verified = sqlkit("migrate", "verify", *dsn)
    assert verified.returncode == 0, verified.stdout
    with empty_database.connect() as direct:
        direct.execute("alter function sqlkit.touch_run(bigint) reset search_path")
    drifted = sqlkit("migrate", "verify", *dsn)
    assert drifted.returncode == 1
    assert "sqlkit.touch_run" in drifted.stdout
    assert migrate.verify(pooled) == migrate.verify(empty_database.dsn)
    assert sqlkit("migrate", "uninstall", "--yes", *dsn).returncode == 0
    assert_clean(pooled, empty_database)


def test_a_session_lost_during_copy_is_another_attempt(
    pooled_server: Server, database: Database, superuser: psycopg.Connection, tmp_path: Path
) -> None:
    """The proxy tells of it twice, once in the server's name."""
    path = write(tmp_path / "1.csv", {n: ("name", n) for n in range(1, 10)})
    superuser.execute(
        "create function slow() returns boolean language plpgsql as"
        " $$begin perform pg_catalog.pg_sleep(0.2); return true; end$$"
    )
    with database.connect() as direct:
        direct.execute("create table item (id integer, name text, seen integer check (slow()))")
    sleeping = "select pid from pg_stat_activity where wait_event = 'PgSleep' and query ~ '^copy'"
    waits: list[api.Waiting | api.LockWaiting] = []

    def end_session() -> None:
        while not (found := superuser.execute(sleeping).fetchall()):
            time.sleep(0.02)
        superuser.execute("select pg_terminate_backend(%s)", found[0])

    with (
        ThreadPoolExecutor(1) as pool,
        api.connect(pooled_server.dsn(database.name, user=database.user)) as client,
    ):
        ended = pool.submit(end_session)
        result = client.load(path, into="public.item", policy="append", on_wait=waits.append)
        ended.result()
    assert result.rows.inserted == 9
    assert len(waits) == 1
