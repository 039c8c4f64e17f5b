"""The tests' own servers are what the tests take them for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, OpenServer
from tests.servers import Server, Session


@pytest.mark.every_version
def test_each_database_is_fresh(server: Server, database: Database) -> None:
    with database.connect() as connection:
        version = connection.execute("select current_setting('server_version_num')").fetchone()
        assert version is not None
        assert int(version[0]) // 10000 == server.major
        tables = connection.execute("select count(*) from sqlkit.run").fetchone()
        assert tables == (0,)
        connection.execute("create table public.left_behind ()")


@pytest.mark.every_version
def test_the_next_one_does_not_see_it(database: Database, empty_database: Database) -> None:
    for fresh in (database, empty_database):
        with fresh.connect() as connection:
            assert connection.execute("select to_regclass('public.left_behind')").fetchone() == (
                None,
            )


@pytest.mark.every_version
def test_extensions_can_be_added_without_touching_the_machines_own(
    server: Server, test_session: Session
) -> None:
    assert server.extension_directory.is_relative_to(test_session.root)
    assert (server.extension_directory / "pgtap.control").is_file()
    assert server.install.bin.is_relative_to(test_session.root)


def test_a_server_of_ones_own_can_be_killed_and_started(own_server: OpenServer) -> None:
    own = own_server(settings={"work_mem": "3MB"})
    assert own.cluster is not None
    own.cluster.stop("immediate")
    with pytest.raises(psycopg.OperationalError):
        own.run("select 1")
    own.cluster.start(own.port)
    with psycopg.connect(own.dsn()) as connection:
        assert connection.execute("show work_mem").fetchone() == ("3MB",)


@pytest.mark.every_version
def test_the_pooler_hands_each_transaction_to_any_session(
    pooled_server: Server, database: Database
) -> None:
    dsn = pooled_server.dsn(database.name)
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two:
        query = "select pg_backend_pid()"
        first = one.execute(query).fetchone()
        one.commit()
        assert two.execute(query).fetchone() == first
        two.commit()


def test_a_session_that_was_killed_is_cleaned_up_by_the_next() -> None:
    """Its servers are stopped and its files removed, though nobody is left who knows of them."""
    script = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from tests.servers import Session
session = Session.open()
server = session.shared(18)
print(server.port, session.root, flush=True)
if len(sys.argv) == 3:
    os.kill(os.getpid(), signal.SIGKILL)
session.close()
"""
    # Not tmp_path: its parents are closed to the user whom root's servers run as.
    folder = Path(os.environ["SQLKIT_TEST_SESSION"]) / f"sessions-{os.getpid()}"
    folder.mkdir(mode=0o755)

    def session(*arguments: str) -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", script, str(folder), *arguments],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()

    port, root = session("killed")
    left = Server(18, None, "127.0.0.1", int(port))
    left.run("select 1")
    _, other = session()
    assert not Path(root).exists()
    assert not Path(other).exists()
    with pytest.raises(psycopg.OperationalError):
        left.run("select 1")
