"""Maintenance is carried out: what is done, what is refused, what is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import sqlkit as package
from sqlkit import migrate
from sqlkit.maintenance_plan import MaintenanceOptions
from sqlkit.server import SUPERUSER, free_port, server_user
from tests.conftest import Database, OpenServer, RunSqlkit, missing
from tests.servers import Missing, Server, Session

OPTIONS = MaintenanceOptions(tables=("public.price",), least_bytes=65536)
INVALID = "select count(*) from pg_index where not indisvalid"


def fill(connection: psycopg.Connection) -> None:
    """A table of which nine tenths are gone, so that everything is to be done."""
    connection.execute("create table price (id int primary key, amount int)")
    connection.execute("alter table price set (autovacuum_enabled = off)")
    connection.execute("create index price_amount on price (amount)")
    connection.execute("insert into price select k, k from generate_series(1, 20000) as k")
    connection.execute("delete from price where id % 10 > 0")
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("analyze price")


def one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_what_is_planned_is_done_and_kept_in_the_ledger(
    connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    fill(connection)
    arguments = ("optimize", "--tables", "public.price", "--min-size", "64kB")
    shown = sqlkit(*arguments, "--plan", "--dsn", dsn)
    assert shown.returncode == 0, shown.stderr
    assert "vacuum (analyze" in shown.stdout
    assert "reindex index concurrently public.price_amount" in shown.stdout
    assert "gains" in shown.stdout
    assert one(connection, "select count(*) from sqlkit.maintenance") == 0
    connection.execute('create table "a, b" (id int)')
    connection.execute('insert into "a, b" values (1)')
    other = sqlkit("optimize", "--tables", 'public."a, b",public.price', "--plan", "--dsn", dsn)
    assert 'analyze public."a, b"' in other.stdout, other.stderr
    done = sqlkit(*arguments, "--json", "--dsn", dsn)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads(done.stdout)["done"]
    assert {outcome["state"] for outcome in outcomes} == {"done"}
    assert {outcome["step"]["action"] for outcome in outcomes} == {"vacuum", "reindex"}
    for outcome in outcomes:
        if outcome["step"]["action"] == "reindex":
            gained = outcome["bytes_before"] - outcome["bytes_after"]
            assert gained == pytest.approx(outcome["step"]["gain_bytes"], abs=3 * 8192)
    kept = connection.execute(
        "select relation, state, bytes_before > bytes_after from sqlkit.maintenance "
        "where action = 'reindex' order by relation"
    ).fetchall()
    assert kept == [("public.price_amount", "done", True), ("public.price_pkey", "done", True)]
    again = sqlkit(*arguments, "--dsn", dsn)
    assert (again.returncode, again.stdout) == (0, "nothing to do\n")


def test_the_command_line_of_pg_repack_does_what_is_promised(test_session: Session) -> None:
    """Debian's, through a shell, to which the name of the table would be a command."""
    try:
        server = test_session.shared(15)
    except Missing as reason:
        missing(str(reason))
    with psycopg.connect(server.dsn()) as connection:
        offered = "select from pg_available_extensions where name = 'pg_repack'"
        if not connection.execute(offered.encode()).rowcount:
            missing("pg_repack is not installed: tests/install-services.sh installs it on Debian")
    name = f"pg_repack_{os.getpid()}"  # pg_repack 1.4 does not find one with spaces or quotes
    server.create_database(name)
    try:
        migrate.up(server.dsn(name))
        with psycopg.connect(server.dsn(name), autocommit=True) as connection:
            connection.execute("create extension pg_repack")
            fill(connection)
            connection.execute('alter table price rename to "Pri""ce\'s; $(exit)"')
            size = "select pg_table_size(oid) from pg_class where relname like 'Pri%'"
            before = int(str(one(connection, size)))
            planned = connection.execute(
                "select statement, obstacle, gain_bytes from sqlkit.plan_maintenance("
                "p_actions => '{rewrite}', p_least_bytes => 65536, p_patience => '1 hour')"
            ).fetchall()
            assert len(planned) == 1
            statement, obstacle, gain = planned[0]
            assert obstacle == "a program of its own does that: run it by hand"
            done = subprocess.run(
                ["sh", "-c", statement],
                env={
                    "PATH": f"{server.install.bin}:{os.environ['PATH']}",
                    "PGHOST": server.host,
                    "PGPORT": str(server.port),
                    "PGUSER": SUPERUSER,
                },
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            after = int(str(one(connection, size)))
            assert before - after == pytest.approx(gain, abs=5 * 8192)
    finally:
        server.drop_database(name)


def test_a_budget_that_is_used_up_leaves_the_rest_for_the_next_call(
    connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    fill(connection)
    arguments = ("optimize", "--tables", "public.price", "--min-size", "64kB")
    none = sqlkit(*arguments, "--budget", "0.0001s", "--dsn", dsn)
    assert none.returncode == 3, none.stderr
    assert "the budget: it is used up" in none.stdout
    assert one(connection, "select count(*) from sqlkit.maintenance") == 0
    assert sqlkit(*arguments, "--budget", "5m", "--dsn", dsn).returncode == 0
    assert one(connection, "select count(*) from sqlkit.maintenance") == 3


def test_a_budget_ends_a_statement_that_runs(
    connection: psycopg.Connection, database: Database, dsn: str
) -> None:
    fill(connection)
    connection.execute("vacuum price")
    options = replace(OPTIONS, actions=("clean", "reindex"), lock_timeout=60)
    with package.connect(dsn) as client, database.connect() as other, other.transaction():
        other.execute("update price set amount = 0 where id = 10")
        began = time.monotonic()
        outcomes = client.optimize(replace(options, budget=0.7))
        assert 0.7 <= time.monotonic() - began < 20
    assert [outcome.state for outcome in outcomes] == ["postponed", "postponed"]
    assert outcomes[0].reason == "the budget ended while it ran"
    assert outcomes[1].reason == "the budget: it is used up"
    kept = connection.execute(
        "select action, state, error_code from sqlkit.maintenance order by run_id limit 1"
    ).fetchall()
    assert kept == [("reindex", "failed", "57014")]
    with package.connect(dsn) as client:
        assert {outcome.state for outcome in client.optimize(options)} == {"done"}
    assert one(connection, INVALID) == 0


def test_it_waits_while_too_many_are_at_work(
    connection: psycopg.Connection, database: Database, dsn: str, sqlkit: RunSqlkit
) -> None:
    connection.execute("create table price (id int)")
    connection.execute("insert into price values (1)")
    arguments = ("optimize", "--analyze", "--tables", "public.price", "--dsn", dsn)
    with database.connect() as other:
        thread = threading.Thread(target=_sleep, args=(other,))
        thread.start()
        asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
        _until(lambda: one(connection, asleep))
        done = sqlkit(*arguments, "--max-load", "0", "--budget", "1s")
        other.cancel()
        thread.join(30)
    assert done.returncode == 3, done.stderr
    assert re.search(
        r"postponed: analyze public.price \(\d+ other sessions are at work, more than 0\)",
        done.stdout,
    )
    assert "done: " not in done.stdout
    assert sqlkit(*arguments, "--max-load", "1000").returncode == 0
    assert one(connection, "select count(*) from sqlkit.maintenance") == 1


def _sleep(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(60)")


def test_it_refuses_and_says_why(
    connection: psycopg.Connection, database: Database, dsn: str
) -> None:
    fill(connection)
    with package.connect(dsn) as client, database.connect() as other:
        few = client.optimize(replace(OPTIONS, actions=("reindex",), free_bytes=1000))
        assert {outcome.state for outcome in few} == {"refused"}
        assert "of disk" in str(few[0].reason)
        with other.transaction():
            other.execute("lock table price in share update exclusive mode")
            busy = client.optimize(OPTIONS)
            assert {outcome.state for outcome in busy} == {"refused"}
            assert f"session {other.info.backend_pid} works at it" in str(busy[0].reason)
        with other.transaction():
            other.execute("select pg_current_xact_id()")
            time.sleep(0.01)
            held = client.optimize(replace(OPTIONS, patience=0))
            assert {outcome.state for outcome in held} == {"refused"}
            assert "holds back the horizon of dead rows" in str(held[0].reason)
        assert one(connection, "select count(*) from sqlkit.maintenance") == 0
        if one(connection, "select current_setting('max_prepared_transactions')") != "0":
            with database.connect() as leaving:
                leaving.execute("begin")
                leaving.execute("select pg_current_xact_id()")
                leaving.execute("prepare transaction 'it''s left'")
            time.sleep(0.01)
            held = client.optimize(replace(OPTIONS, patience=0))
            assert {outcome.state for outcome in held} == {"refused"}
            assert str(held[0].reason).startswith("prepared transaction 'it''s left' holds back")
            found = connection.execute(
                "select relation, statement from sqlkit.find_problems(p_patience => '0') "
                "where problem = 'horizon held back'"
            ).fetchall()
            mended_by = "rollback prepared 'it''s left'"
            assert found == [("prepared transaction 'it''s left'", mended_by)]
            connection.execute(found[0][1])
        # Whoever is at another database sees none of these rows.
        with psycopg.connect(database.server.dsn()) as elsewhere:
            elsewhere.execute("select pg_current_xact_id()")
            time.sleep(0.01)
            plan = client.plan_maintenance(replace(OPTIONS, patience=0))
            assert {step.obstacle for step in plan} == {None}
        with pytest.raises(package.UsageError, match="no such maintenance"):
            client.optimize(replace(OPTIONS, actions=("polish",)))
    with (
        psycopg.connect(dsn) as in_transaction,
        package.connect(in_transaction) as client,
        pytest.raises(package.UsageError, match="does not run in a transaction"),
    ):
        client.optimize(OPTIONS)


@contextlib.contextmanager
def standby_of(server: Server) -> Iterator[psycopg.Connection]:
    """A connection to a standby of `server` that streams, for as long as the block runs."""
    assert server.cluster is not None
    user = server_user()
    cluster = replace(server.cluster, data=server.cluster.data.parent / "standby")
    cluster.data.mkdir(mode=0o700)
    if user is not None:
        os.chown(cluster.data, user.pw_uid, user.pw_gid)
    subprocess.run(
        [
            cluster.install.program("pg_basebackup"),
            f"--pgdata={cluster.data}",
            f"--dbname={server.dsn()}",
            *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        ],
        check=True,
        cwd="/",
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        capture_output=True,
    )
    standby = replace(server, cluster=cluster, port=free_port())
    cluster.start(standby.port)
    try:
        with psycopg.connect(standby.dsn(), autocommit=True) as connection:
            yield connection
    finally:
        cluster.stop("immediate")


def test_a_running_autovacuum_and_a_replica_that_lags_are_waited_for(
    own_server: OpenServer,
) -> None:
    server = own_server(settings={"autovacuum_naptime": "1s"})
    server.create_database("busy")
    migrate.up(server.dsn("busy"))
    with (
        psycopg.connect(server.dsn("busy"), autocommit=True) as connection,
        package.connect(server.dsn("busy")) as client,
    ):
        fill(connection)
        with standby_of(server) as standby:
            standby.execute("select pg_wal_replay_pause()")
            connection.execute("update price set amount = 1")
            connection.execute("select pg_stat_force_next_flush()")
            lagging = "select count(*) from pg_stat_replication where replay_lsn < sent_lsn"
            _until(lambda: one(connection, lagging) == 1)
            actions = ("vacuum", "reindex")
            behind = client.optimize(replace(OPTIONS, actions=actions, lag_bytes=10_000))
            assert {outcome.state for outcome in behind} == {"refused"}
            assert re.fullmatch(r"replica \S+ is .* behind", str(behind[0].reason))
            standby.execute("select pg_wal_replay_resume()")
            caught_up = "select count(*) from pg_stat_replication where replay_lsn = sent_lsn"
            _until(lambda: one(connection, caught_up) == 1)
            plan = client.plan_maintenance(replace(OPTIONS, actions=actions, lag_bytes=10_000))
            assert {step.obstacle for step in plan} == {None}
            # Without a slot only the feedback tells that a query of the standby wants old rows.
            standby.execute("alter system set hot_standby_feedback = on")
            standby.execute("alter system set wal_receiver_status_interval = '1s'")
            standby.execute("select pg_reload_conf()")
            with psycopg.connect(make_conninfo(standby.info.dsn, dbname="busy")) as reader:
                reader.execute("set transaction isolation level repeatable read")
                reader.execute("select count(*) from price")
                done = client.optimize(replace(OPTIONS, actions=("analyze",)))
                assert [outcome.state for outcome in done] == ["done"]
                connection.execute("update price set amount = 2 where id = 10")
                told = "select count(*) from pg_stat_replication where backend_xmin is not null"
                _until(lambda: one(connection, told) == 1)
                held = client.optimize(replace(OPTIONS, actions=("vacuum",), patience=0))
                assert [outcome.state for outcome in held] == ["refused"]
                assert re.fullmatch(
                    r"standby \S+ holds back the horizon of dead rows by a query since before .*",
                    str(held[0].reason),
                )
                assert client.plan_maintenance(OPTIONS)[0].obstacle is None
                # With a slot it is the slot that tells, as long as somebody reads it and after.
                connection.execute("select pg_create_physical_replication_slot('feed')")
                standby.execute("alter system set primary_slot_name = 'feed'")
                standby.execute("select pg_reload_conf()")
                told = "select count(*) from pg_replication_slots where active and xmin is not null"
                _until(lambda: one(connection, told) == 1)
                obstacle = client.plan_maintenance(replace(OPTIONS, patience=0))[0].obstacle
                assert str(obstacle).startswith("standby ")
        _until(lambda: one(connection, "select count(*) from pg_stat_replication") == 0)
        abandoned = connection.execute(
            "select relation, statement from sqlkit.find_problems() "
            "where problem = 'horizon held back'"
        ).fetchall()
        dropping = "select pg_drop_replication_slot('feed')"
        assert abandoned == [("replication slot feed", dropping)]
        connection.execute(abandoned[0][1])
        # It takes its time from now on.
        connection.execute(
            "alter table price set (autovacuum_enabled = on, autovacuum_vacuum_threshold = 1, "
            "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
        )
        connection.execute("update price set amount = 2")
        at_work = (
            "select count(*) from pg_stat_progress_vacuum where relid = 'price'::regclass "
            "and pid in (select pid from pg_stat_activity where backend_type = 'autovacuum worker')"
        )
        _until(lambda: one(connection, at_work) == 1)
        busy = client.optimize(OPTIONS)
        assert {outcome.state for outcome in busy} == {"refused"}
        assert "works at it: autovacuum: VACUUM" in str(busy[0].reason)
        assert one(connection, at_work) == 1
        actions_done = "select array_agg(action order by run_id) from sqlkit.maintenance"
        assert one(connection, actions_done) == ["analyze"]


def _until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def test_waiting_for_a_lock_ends_and_leaves_no_invalid_index(
    connection: psycopg.Connection, database: Database, dsn: str
) -> None:
    fill(connection)
    connection.execute("vacuum price")
    with package.connect(dsn) as client, database.connect() as other, other.transaction():
        # Writers do not stand in the way of the beginning: REINDEX waits for them later.
        other.execute("update price set amount = 0 where id = 10")
        began = time.monotonic()
        outcomes = client.optimize(replace(OPTIONS, actions=("clean", "reindex"), lock_timeout=0.3))
        assert time.monotonic() - began < 20
        assert {outcome.state for outcome in outcomes} == {"failed"}
    # What could not be dropped while the writer was there, the next one drops.
    with package.connect(dsn) as client:
        outcomes = client.optimize(replace(OPTIONS, actions=("clean", "reindex")))
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert one(connection, INVALID) == 0
    names = (
        "select array_agg(relname::text order by relname) from pg_class where relname ~ '^price'"
    )
    assert one(connection, names) == ["price", "price_amount", "price_pkey"]


def test_an_index_that_cannot_be_built_leaves_no_other(
    connection: psycopg.Connection, dsn: str
) -> None:
    fill(connection)
    connection.execute("insert into price select id + 1, 10 from price limit 2")
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("create unique index concurrently price_once on price (amount)")
    with package.connect(dsn) as client:
        outcomes = client.optimize(replace(OPTIONS, actions=("clean",)))
    assert [(outcome.step.relation, outcome.state) for outcome in outcomes] == [
        ("public.price_once", "failed")
    ]
    assert one(connection, INVALID) == 1


def test_what_a_killed_process_left_is_cleaned_up(
    connection: psycopg.Connection, database: Database, dsn: str
) -> None:
    fill(connection)
    connection.execute("vacuum price")
    with package.connect(dsn) as client, database.connect() as other:

        def optimize() -> None:
            with pytest.raises(package.DatabaseError):
                client.optimize(replace(OPTIONS, actions=("reindex",), lock_timeout=60))

        with other.transaction():
            other.execute("update price set amount = 0 where id = 10")
            thread = threading.Thread(target=optimize)
            thread.start()
            waiting = (
                "select max(pid) from pg_stat_activity where wait_event_type = 'Lock' "
                "and query like 'reindex%' and datname = current_database()"
            )
            for _ in range(500):
                if one(connection, waiting) is not None:
                    break
                time.sleep(0.02)
            connection.execute(f"select pg_terminate_backend(({waiting}))".encode())
            thread.join(30)
    assert one(connection, INVALID) == 1
    with package.connect(dsn) as client:
        outcomes = client.optimize(OPTIONS)
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert outcomes[0].step.action == "clean"
    assert one(connection, INVALID) == 0
    states = connection.execute(
        "select state, error_code from sqlkit.maintenance order by run_id limit 1"
    ).fetchall()
    assert states == [("failed", "SK403")]


def test_the_doctor_lists_what_mends_it(
    connection: psycopg.Connection, database: Database, dsn: str, sqlkit: RunSqlkit
) -> None:
    fill(connection)
    connection.execute("create sequence few maxvalue 10")
    connection.execute("create sequence altered maxvalue 10")
    connection.execute("select setval('few', 9), setval('altered', 9)")
    with database.connect() as other, other.transaction():
        # Of another session's sequence nothing is to be seen, or only by waiting.
        other.execute("create temporary table fleeting (id serial)")
        other.execute("alter sequence altered maxvalue 11")
        found = sqlkit("doctor", "--min-size", "64kB", "--dsn", dsn, timeout=20)
    assert "altered" not in found.stdout
    connection.execute("drop sequence altered")
    assert found.returncode == 3, found.stderr
    assert "sequence near its end: public.few" in found.stdout
    assert "reindex index concurrently public.price_amount;" in found.stdout
    assert re.search(r"45 +dead rows: public.price\n", found.stdout), found.stdout
    assert "18000 dead rows beside 2000 live ones." in found.stdout
    assert re.search(r"40 +never vacuumed: public.price\n", found.stdout)
    assert "vacuum (analyze) public.price;" in found.stdout
    connection.execute("vacuum price")
    found = sqlkit("doctor", "--min-size", "64kB", "--dsn", dsn)
    assert "dead rows" not in found.stdout
    assert "never vacuumed" not in found.stdout
    connection.execute("drop sequence few")
    found = sqlkit("doctor", "--min-size", "64kB", "--json", "--dsn", dsn)
    assert found.returncode == 0
    assert "autovacuum is off" in {each["problem"] for each in json.loads(found.stdout)["problem"]}
