"""Every row is loaded once, by however many processes, after whatever happened to them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit import SqlkitError
from tests.conftest import Database, RunSqlkit
from tests.crash.conftest import StartLoad, held_up, value, wait_until, waiting_for_target

ROWS = 12_000


@pytest.fixture
def log(connection: psycopg.Connection, tmp_path: Path) -> list[str]:
    """Three files for a table without key, where a row that comes twice is there twice."""
    connection.execute("create table public.target (part integer, number integer)")
    for part in range(3):
        rows = "".join(f"{part},{number}\n" for number in range(ROWS))
        (tmp_path / f"{part}.csv").write_text("part,number\n" + rows)
    return ["0.csv", "1.csv", "2.csv", "--policy", "append"]


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("batch_bytes", ["5000", "60000", None])
@pytest.mark.parametrize("atomic", [False, True])
def test_three_processes_share_the_work(
    database: Database,
    connection: psycopg.Connection,
    log: list[str],
    start_load: StartLoad,
    batch_bytes: str | None,
    atomic: bool,
) -> None:
    more = [] if batch_bytes is None else ["--batch-bytes", batch_bytes]
    more += ["--atomic"] if atomic else []
    loads = [start_load(database.dsn, *log, *more) for _ in range(3)]
    results = [load.result() for load in loads]
    assert sum(result["rows"]["inserted"] for result in results) == 3 * ROWS
    assert value(connection, "select count(*) from target") == 3 * ROWS
    assert (
        value(connection, "select count(*) from (select distinct * from target) as t") == 3 * ROWS
    )
    assert value(connection, "select sum(rows_read)::integer from sqlkit.batch") == 3 * ROWS
    assert value(connection, "select count(*) from sqlkit.stage") == 0
    assert value(connection, "select count(*) from sqlkit.run where state = 'done'") == 3


def test_three_processes_make_the_table_once(
    database: Database,
    connection: psycopg.Connection,
    log: list[str],
    start_load: StartLoad,
) -> None:
    connection.execute("drop table public.target")
    loads = [start_load(database.dsn, *log, "--create") for _ in range(3)]
    results = [load.result() for load in loads]
    assert sum(result["ddl"] is not None for result in results) == 1
    assert value(connection, "select count(*) from target") == 3 * ROWS


def test_a_half_loaded_file_goes_on_where_it_stopped(
    database: Database, connection: psycopg.Connection, log: list[str], start_load: StartLoad
) -> None:
    connection.execute(
        "create function stop() returns trigger language plpgsql as $$ begin"
        " raise exception 'far enough' using errcode = '57014'; end $$"
    )
    connection.execute(
        "create trigger stop after insert on target for each row when (new.part = 1 and"
        " new.number = 6000) execute function stop()"
    )
    more = ["--batch-bytes", "5000"]
    assert start_load(database.dsn, *log, *more).failure()["code"] == "57014"
    before = value(connection, "select count(*) from target")
    assert ROWS < before < 2 * ROWS
    connection.execute("drop trigger stop on target")
    result = start_load(database.dsn, *log, *more).result()
    assert result["rows"]["inserted"] == 3 * ROWS - before
    assert [source["state"] for source in result["sources"]] == ["skipped", "loaded", "loaded"]
    assert (
        value(connection, "select count(*) from (select distinct * from target) as t") == 3 * ROWS
    )


def test_a_renamed_file_was_loaded_before_and_a_changed_one_was_not(
    database: Database,
    connection: psycopg.Connection,
    log: list[str],
    sqlkit: RunSqlkit,
    tmp_path: Path,
) -> None:
    def load(name: str, *more: str) -> str:
        done = sqlkit(
            *(
                "load",
                name,
                "--into",
                "public.target",
                "--policy",
                "append",
                "--dsn",
                database.dsn,
                *more,
            )
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    load("0.csv")
    (tmp_path / "0.csv").rename(tmp_path / "renamed.csv")
    assert "loaded before, skipped" in load("renamed.csv")
    assert value(connection, "select count(*) from target") == ROWS
    with (tmp_path / "renamed.csv").open("a") as file:
        file.write("9,9\n")
    load("renamed.csv")
    assert value(connection, "select count(*) from target") == 2 * ROWS + 1
    load("renamed.csv", "--again")
    assert value(connection, "select count(*) from target") == 3 * ROWS + 2


def test_again_that_is_broken_off_between_files_goes_on(
    database: Database,
    connection: psycopg.Connection,
    log: list[str],
    start_load: StartLoad,
    tmp_path: Path,
) -> None:
    start_load(database.dsn, *log).result()
    connection.execute(
        "create function stop() returns trigger language plpgsql as $$ begin"
        " perform pg_catalog.pg_sleep(60); return new; end $$"
    )
    connection.execute(
        "create trigger stop after insert on target for each row when (new.part = 1 and"
        " new.number = 6000) execute function stop()"
    )
    again = [*log, "--batch-bytes", "5000", "--again"]
    sleeping = "select exists (select from pg_stat_activity where wait_event = 'PgSleep')"
    killed = start_load(database.dsn, *again)
    wait_until(lambda: value(connection, sleeping))
    killed.kill()
    wait_until(lambda: not value(connection, sleeping))
    connection.execute("drop trigger stop on target")
    (tmp_path / "other.csv").write_text("part,number\n")
    start_load(database.dsn, "other.csv", "--policy", "append", "--again").result()
    start_load(database.dsn, *again).result()
    assert value(connection, "select count(*) from target") == 6 * ROWS
    start_load(database.dsn, *again).result()
    assert value(connection, "select count(*) from target") == 9 * ROWS


@pytest.mark.parametrize("more", [[], ["--atomic"], ["--dry-run"], ["--batch-bytes", "5000"]])
def test_again_is_once_more_whatever_others_load_meanwhile(
    database: Database,
    connection: psycopg.Connection,
    log: list[str],
    start_load: StartLoad,
    tmp_path: Path,
    more: list[str],
) -> None:
    (tmp_path / "other.csv").write_text("part,number\n9,9\n")
    start_load(database.dsn, *log).result()
    with database.connect() as holder, holder.transaction():
        holder.execute("lock table public.target in share mode")
        load = start_load(database.dsn, *log, "--again", *more)
        wait_until(lambda: waiting_for_target(connection))
        # Of the same files, and of others: with a run that is younger, and ends well.
        for policy in ("ignore", "update"):
            query = "select sqlkit.finish_run(sqlkit.start_run('load', 'target', %s))"
            holder.execute(query.encode(), [policy])
    assert load.result()["rows"]["inserted"] == 3 * ROWS
    expected = 3 * ROWS if "--dry-run" in more else 6 * ROWS
    assert value(connection, "select count(*) from target") == expected


@pytest.mark.parametrize("more", [[], ["--atomic"]])
def test_again_is_not_forgotten_with_a_lost_session(
    database: Database,
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    log: list[str],
    start_load: StartLoad,
    more: list[str],
) -> None:
    start_load(database.dsn, *log).result()
    with database.connect() as holder, holder.transaction():
        holder.execute("lock table public.target in share mode")
        load = start_load(database.dsn, *log, "--again", *more)
        wait_until(lambda: waiting_for_target(connection))
        superuser.execute(
            "select pg_terminate_backend(pid) from pg_locks"
            " where relation = 'public.target'::regclass and not granted"
        )
    assert load.result()["rows"]["inserted"] == 3 * ROWS
    assert value(connection, "select count(*) from target") == 6 * ROWS


def test_again_that_is_cut_off_goes_on_and_does_not_begin_anew(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    start_load(database.dsn, *files).result()
    with held_up(database):
        load = start_load(database.dsn, *files, "--again")
        wait_until(lambda: waiting_for_target(connection))
        end_sessions(connection)
    result = load.result()
    assert result["rows"]["read"] == result["rows"]["unchanged"] == 8_000
    generations = connection.execute("select generation from sqlkit.source order by 1").fetchall()
    assert generations == [(1,), (1,), (2,), (2,)]


def test_a_dry_run_leaves_nothing_even_when_killed(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    with held_up(database):
        load = start_load(database.dsn, *files, "--dry-run")
        wait_until(lambda: waiting_for_target(connection))
        load.kill()
    wait_until(lambda: not sessions(connection))
    for table in ("run", "source", "batch", "stage"):
        assert value(connection, f"select count(*) from sqlkit.{table}") == 0
    assert (
        value(
            connection,
            "select count(*) from pg_class where relnamespace = 'sqlkit_stage'::regnamespace",
        )
        == 0
    )


def test_a_dry_run_is_tried_again_too(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    with held_up(database):
        load = start_load(database.dsn, *files, "--dry-run")
        wait_until(lambda: waiting_for_target(connection))
        end_sessions(connection)
    result = load.result()
    assert result["rows"]["inserted"] == 8_000
    assert result["run_id"] is None
    assert value(connection, "select count(*) from target") == 1


def test_standard_input_is_kept_until_it_is_loaded(
    database: Database, connection: psycopg.Connection, files: list[str], start_load: StartLoad
) -> None:
    load = start_load(database.dsn, "-", "--format", "csv", stdin=subprocess.PIPE)
    assert load.process.stdin is not None
    load.process.stdin.write("id,name\n" + "1,one\n" * 10)
    load.process.stdin.flush()
    wait_until(lambda: value(connection, "select count(*) from sqlkit.source") == 1)
    end_sessions(connection)
    rows = load.result()["rows"]  # which closes standard input
    assert (rows["read"], rows["inserted"], rows["duplicates"]) == (10, 1, 9)
    assert value(connection, "select count(*) from target where id = 1") == 1


def test_the_callers_transaction_is_the_callers(
    connection: psycopg.Connection, files: list[str], tmp_path: Path
) -> None:
    connection.execute("set lock_timeout = '7s'")
    connection.execute("set synchronous_commit = local")
    with connection.transaction(), api.connect(connection) as client:
        client.load(tmp_path / "0.csv", into="public.target", batch_bytes=10_000)
        assert value(connection, "show lock_timeout") == "7s"
        assert value(connection, "show synchronous_commit") == "local"
    assert value(connection, "select count(*) from target") == 4_001


def test_the_callers_connection_is_not_replaced(
    connection: psycopg.Connection, files: list[str], tmp_path: Path
) -> None:
    with api.connect(connection) as client:
        connection.execute("set lock_timeout = '100ms'")
        with psycopg.connect(connection.info.dsn) as holder:
            holder.execute("lock table target")
            with pytest.raises(SqlkitError) as caught:
                client.load(tmp_path / "0.csv", into="public.target")
        assert caught.value.code == "55P03"
        # Nothing has changed for it, and it is of use as before.
        assert client.load(tmp_path / "0.csv", into="public.target").rows.inserted == 4_000


def sessions(connection: psycopg.Connection) -> list[tuple[int]]:
    return connection.execute(
        "select pid from pg_stat_activity where datname = current_database()"
        " and application_name = 'sqlkit'"
    ).fetchall()


def end_sessions(connection: psycopg.Connection) -> None:
    for (pid,) in sessions(connection):
        connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
