"""What a dead program leaves is put in order; what a living one has is not touched."""

from __future__ import annotations

import json
import signal

import psycopg

from tests.conftest import Database, RunSqlkit
from tests.crash.conftest import StartLoad, held_up, value, wait_until, waiting_for_target
from tests.servers import Server


def stages(connection: psycopg.Connection) -> list[tuple[str]]:
    return connection.execute(
        "select relname::text from pg_class where relnamespace = 'sqlkit_stage'::regnamespace"
        " and relkind = 'r' order by 1"
    ).fetchall()


def states(connection: psycopg.Connection) -> list[tuple[str]]:
    return connection.execute("select state from sqlkit.run order by run_id").fetchall()


def repaired(sqlkit: RunSqlkit, dsn: str, *arguments: str) -> list[str]:
    done = sqlkit("repair", "--dsn", dsn, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [row["action"] for row in json.loads(done.stdout)["repaired"]]


def gone(connection: psycopg.Connection) -> bool:
    found: bool = value(
        connection,
        "select not exists (select from pg_stat_activity where datname = current_database()"
        " and application_name = 'sqlkit')",
    )
    return found


def test_a_dead_run_is_closed_and_its_stages_go(
    database: Database,
    connection: psycopg.Connection,
    files: list[str],
    start_load: StartLoad,
    sqlkit: RunSqlkit,
) -> None:
    with held_up(database):
        load = start_load(database.dsn, *files)
        wait_until(lambda: waiting_for_target(connection))
        assert repaired(sqlkit, database.dsn) == []
        assert states(connection) == [("running",)]
        assert " running " in sqlkit("runs", "--dsn", database.dsn).stdout
        load.kill()
        # Though what it waits for is still held: the server ends a statement nobody waits for.
        wait_until(lambda: gone(connection))
    assert stages(connection) != []
    listed = sqlkit("runs", "--dsn", database.dsn).stdout
    assert " dead " in listed
    assert "sqlkit repair" in listed
    assert set(repaired(sqlkit, database.dsn)) == {"closed", "dropped"}
    assert stages(connection) == []
    assert states(connection) == [("failed",)]
    assert repaired(sqlkit, database.dsn) == []
    done = sqlkit("repair", "--dsn", database.dsn)
    assert "nothing to repair" in done.stdout


def test_the_next_run_repairs_too(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    with held_up(database):
        load = start_load(database.dsn, *files)
        wait_until(lambda: waiting_for_target(connection))
        load.kill()
    wait_until(lambda: gone(connection))
    result = start_load(database.dsn, *files).result()
    assert result["rows"]["read"] == 8_000
    assert stages(connection) == []
    assert states(connection) == [("failed",), ("done",)]


def test_nothing_of_a_sleeping_program_is_touched(
    database: Database,
    connection: psycopg.Connection,
    files: list[str],
    start_load: StartLoad,
    sqlkit: RunSqlkit,
) -> None:
    with held_up(database):
        sleeping = start_load(database.dsn, *files)
        wait_until(lambda: waiting_for_target(connection))
        sleeping.process.send_signal(signal.SIGSTOP)
        before = stages(connection)
        assert before
    # It has not been heard of for long; but its session is there.
    connection.execute("update sqlkit.run set heartbeat_at = '2000-01-01'")
    assert repaired(sqlkit, database.dsn) == []
    assert set(before) <= set(stages(connection))
    sleeping.process.send_signal(signal.SIGCONT)
    sleeping.result()
    assert stages(connection) == []
    assert value(connection, "select count(*) from target") == 8_001


def test_behind_a_proxy_only_silence_tells(
    database: Database,
    pooled_server: Server,
    connection: psycopg.Connection,
    files: list[str],
    start_load: StartLoad,
    sqlkit: RunSqlkit,
) -> None:
    with held_up(database):
        load = start_load(pooled_server.dsn(database.name, user=database.user), *files)
        wait_until(lambda: waiting_for_target(connection))
        load.kill()
    wait_until(
        lambda: (
            value(connection, "select not exists (select from pg_locks where mode ~ 'Share')")
            or not waiting_for_target(connection)
        )
    )
    assert value(connection, "select is_direct from sqlkit.run") is False
    assert repaired(sqlkit, database.dsn) == []
    assert states(connection) == [("running",)]
    assert stages(connection) != []
    wait_until(lambda: "closed" in repaired(sqlkit, database.dsn, "--grace", "0"))
    assert stages(connection) == []


def test_who_was_taken_for_dead_goes_on(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    with held_up(database):
        load = start_load(database.dsn, *files)
        wait_until(lambda: waiting_for_target(connection))
        # As somebody would who knows better.
        connection.execute(
            "update sqlkit.run set state = 'failed', error_code = 'SK403', finished_at = now()"
        )
    result = load.result()
    assert result["rows"]["inserted"] == 8_000
    assert states(connection) == [("done",)]
    assert stages(connection) == []
