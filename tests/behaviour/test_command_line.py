"""The command `sqlkit` as a whole: quick, honest about errors, silent about secrets."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from sqlkit.cli import app
from sqlkit.cli.app import COMMANDS
from tests.conftest import Database, RunSqlkit
from tests.servers import Server


def test_help_lists_every_command_at_once(sqlkit: RunSqlkit) -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = sqlkit("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.split("Commands:")[1].splitlines() if line] == [
        *COMMANDS
    ]
    # Time of the processor, the least of five: what the machine does besides is not sqlkit's.
    assert min(seconds) < 0.3


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sqlkit.cli.app", "--help"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    heavy = {"psycopg", "sqlalchemy", "alembic", "jinja2", "rich", "pydantic", "asyncio", "isal"}
    assert not imported & heavy


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, sqlkit: RunSqlkit) -> None:
    done = sqlkit(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: sqlkit {command}")


def test_wrong_usage_exits_2_and_says_where_help_is(sqlkit: RunSqlkit) -> None:
    done = sqlkit("status", "--nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: No such option: --nonsense\nhint: sqlkit status --help\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["laod", "x"], "No such command 'laod'. Did you mean 'load'?"),
        (["rejects", "reply", "7"], "No such command 'reply'. Did you mean 'replay'?"),
        (["conflicts", "ignroe", "17"], "No such command 'ignroe'. Did you mean 'ignore'?"),
        (["rejects", "nonsense"], "No such command 'nonsense'."),
    ],
)
def test_a_mistyped_command_is_told_from_others(
    words: list[str], told: str, sqlkit: RunSqlkit
) -> None:
    done = sqlkit(*words)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: {told}")


def test_a_project_that_is_not_there(sqlkit: RunSqlkit) -> None:
    done = sqlkit("run", "--project", "nope")
    assert (done.returncode, done.stderr) == (
        2,
        "error: there is no folder nope\nhint: Make a project there: sqlkit init nope\n",
    )


def test_a_server_that_never_answered_was_not_lost(tmp_path: Path, sqlkit: RunSqlkit) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    done = sqlkit(
        *("load", "a.csv", "--into", "a", "--retry-for", "1s"),
        *("--dsn", "postgresql://me@127.0.0.1:1/db"),
    )
    assert done.returncode == 1
    assert "waiting: nothing answers at the server's address" in done.stderr
    assert "lost" not in done.stderr


def test_a_schema_that_is_not_there_is_to_be_made(
    database: Database, tmp_path: Path, sqlkit: RunSqlkit
) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    done = sqlkit(
        *("load", "a.csv", "--into", "nope.a", "--create", "--key", "id", "--dsn", database.dsn)
    )
    assert done.returncode == 1
    assert 'schema "nope" does not exist' in done.stderr
    assert "create schema" in done.stderr


def test_what_was_meant_is_guessed(database: Database, tmp_path: Path, sqlkit: RunSqlkit) -> None:
    with database.connect() as connection:
        connection.execute("create table item (id int primary key, name text)")
    (tmp_path / "a.csv").write_text("id,name\n1,a\n")

    def told(*words: str) -> str:
        done = sqlkit(*words, env={"SQLKIT_DSN": database.dsn})
        assert done.returncode in (1, 2), done.stdout
        return done.stderr

    assert "select, with, values or table" in told(
        "refresh", "public.item", "--from", "selct * from price"
    )
    assert "public.item has no nam, to which --map leads" in told(
        "load", "a.csv", "--into", "public.item", "--map", "name=nam"
    )
    assert "of MySQL and MariaDB" in told("copy-db", "postgresql://h/d", "--into", "d")
    assert f"looked for at {tmp_path}/no.db" in told(
        "load", "sqlite://no.db#t", "--into", "public.item"
    )
    refused = told("load", "http://127.0.0.1:1/a.csv", "--into", "public.item", "--retry-for", "0")
    assert "a.csv: cannot be reached: Connection refused" in refused


def test_without_a_command_the_help_is_shown(sqlkit: RunSqlkit) -> None:
    done = sqlkit()
    assert done.returncode == 2
    assert "Commands:" in done.stderr


def test_no_server_at_all_says_how_to_get_one(sqlkit: RunSqlkit) -> None:
    done = sqlkit("status")
    assert done.returncode == 2
    assert "no server is named" in done.stderr
    assert "sqlkit up" in done.stderr


def test_errors_are_one_json_object_where_json_is_wanted(sqlkit: RunSqlkit) -> None:
    done = sqlkit("status", "--json")
    assert (done.returncode, done.stderr) == (2, "")
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "SK001"
    assert error["exit_code"] == 2
    assert "sqlkit up" in error["hint"]


def test_a_server_that_is_not_there_is_one_message(sqlkit: RunSqlkit) -> None:
    done = sqlkit("status", "--dsn", "postgresql://me:hunter2@127.0.0.1:1/db")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "bad", ["hunter2", "postgresql://me:hunter2@[::1/db", "password=hunter2 x"]
)
def test_a_malformed_connection_string_is_not_repeated(bad: str, sqlkit: RunSqlkit) -> None:
    done = sqlkit("status", env={"SQLKIT_DSN": bad})
    assert done.returncode == 2
    assert "SQLKIT_DSN is not a connection string" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_file_in_the_way_is_named(tmp_path: Path, sqlkit: RunSqlkit) -> None:
    (tmp_path / ".sqlkit").touch()
    done = sqlkit("up")
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}/.sqlkit: File exists\n")


def test_a_defect_shows_its_traceback_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SQLKIT_DEBUG", raising=False)
    assert app._report(ValueError("odd")) == 1
    assert capsys.readouterr().err == (
        "error: ValueError: odd\n"
        "hint: This is a defect of sqlkit; SQLKIT_DEBUG=1 shows where it happened.\n"
    )
    monkeypatch.setenv("SQLKIT_DEBUG", "1")
    assert app._report(ValueError("odd")) == 1
    assert "ValueError: odd\nerror:" in capsys.readouterr().err


def test_an_interruption_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert app._report(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_output_that_nobody_reads_is_no_error(database: Database) -> None:
    command = [sys.executable, "-m", "sqlkit.cli.app", "status", "--dsn", database.dsn]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors == ""


def test_a_database_in_no_encoding_is_one_in_utf8(
    superuser: psycopg.Connection, server: Server, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,חלב\n", encoding="utf-8")
    superuser.execute(
        "create database no_encoding encoding 'SQL_ASCII' locale 'C' template template0"
    )
    try:
        dsn = server.dsn("no_encoding")
        for words in (
            ("migrate", "up"),
            ("status",),
            ("load", "a.csv", "--into", "public.t", "--create", "--key", "id"),
            ("runs",),
        ):
            done = sqlkit(*words, "--dsn", dsn)
            assert done.returncode == 0, done.stderr
        with psycopg.connect(dsn, client_encoding="utf8") as connection:
            assert connection.execute("select name from t").fetchall() == [("חלב",)]
    finally:
        superuser.execute("drop database no_encoding with (force)")


def test_a_profile_draws_where_the_time_went(
    sqlkit: RunSqlkit, dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute("create table item (id integer primary key)")
    rows = "".join(f"{n}\n" for n in range(50_000))
    (tmp_path / "a.csv").write_text(f"id\n{rows}")
    done = sqlkit("load", "a.csv", "--into", "public.item", "--profile", "--dsn", dsn)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[-6:]]
    kinds = ["fetch", "decode", "lookup", "copy", "merge", "total"]
    assert [line[0] for line in lines] == kinds
    took = {line[0]: float(line[1]) for line in lines}
    assert took["copy"] > 0
    assert took["total"] >= took["copy"]
    bars = {line[0]: sum(map(line[-1].count, "█#")) for line in lines}
    assert bars["total"] == 40
    assert abs(bars["copy"] - 40 * took["copy"] / took["total"]) <= 2
    plain = sqlkit("load", "a.csv", "--into", "public.item", "--dsn", dsn)
    assert "fetch" not in plain.stdout
    # What the table has of it is looked up where it has rows.
    assert took["lookup"] == 0
    done = sqlkit("load", "a.csv", "--into", "public.item", "--again", "--json", "--dsn", dsn)
    seconds = json.loads(done.stdout)["seconds"]
    assert 0 < seconds["lookup"] < seconds["merge"]


def test_a_character_that_the_database_lacks_is_told_with_its_line(
    superuser: psycopg.Connection, server: Server, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,חלב\n2,b\n3,漢\n4,d\n", encoding="utf-8")
    superuser.execute("create database hebrew encoding 'WIN1255' locale 'C' template template0")
    try:
        dsn = server.dsn("hebrew")
        assert sqlkit("migrate", "up", "--dsn", dsn).returncode == 0
        with psycopg.connect(dsn) as connection:
            connection.execute("create table t (id integer primary key, name text)")
        done = sqlkit("load", "a.csv", "--into", "public.t", "--dsn", dsn)
        assert done.returncode == 4
        assert "a.csv, line 4: the character U+6F22, which the database's" in done.stderr
        with psycopg.connect(dsn) as connection:
            assert connection.execute("select count(*) from t").fetchone() == (0,)
    finally:
        superuser.execute("drop database hebrew with (force)")
