"""Packages and schemas of different releases: what works together works, the rest is refused.

Older packages come from the history of this repository, as they were released.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit import migrate
from sqlkit._release import OLDEST_SCHEMA, VERSION, VERSIONS
from sqlkit.compatible import IncompatibleError, version_key
from tests import servers
from tests.conftest import Database, RunSqlkit, missing, prepare_sql_tests
from tests.release.conftest import ROOT
from tests.test_sql import run_prove

OLDER = VERSIONS[:-1]

WORK = """
import sys
import sqlkit

dsn, package, directory = sys.argv[1:]
assert sqlkit.__file__.startswith(package), sqlkit.__file__


def write(name, *rows):
    path = f"{directory}/{name}.csv"
    with open(path, "w") as file:
        file.write("".join(f"{row}\\n" for row in ("id,name,seen", *rows)))
    return path


with sqlkit.connect(dsn) as client:
    first = client.load(write("first", "1,one,1", "2,,1"), into="item")
    assert first.rows == sqlkit.RowCounts(read=2, inserted=2), first
    changed = write("changed", "2,two,2", "3,three,2")
    for policy, counts in {
        "ignore": dict(ignored=1, inserted=1),
        "fill": dict(updated=1, unchanged=1),
        "newer": dict(updated=1, unchanged=1),
        "update": dict(unchanged=2),
    }.items():
        order_by = "seen" if policy == "newer" else None
        done = client.load(changed, into="item", policy=policy, order_by=order_by, again=True)
        assert done.rows == sqlkit.RowCounts(read=2, **counts), (policy, done)
    more = client.load(write("more", "7,seven,1"), into="item", policy="append")
    assert more.rows.inserted == 1, more
    try:
        client.load(write("twice", "7,seven,9"), into="item", policy="error")
    except sqlkit.SqlkitError as error:
        assert error.code == "SK302", error
    else:
        raise AssertionError("policy error found nothing")
    bad = client.load(write("bad", "8,eight,x", "9,nine,1"), into="item", reject_limit=1)
    assert (bad.rows.inserted, bad.rows.rejected) == (1, 1), bad
    assert len(client.rejects(bad.run_id)) == len(client.reject_reasons(bad.run_id)) == 1
    (replayed,) = client.replay_rejects(bad.run_id, edit_sql="replace(raw, 'x', '5')")
    assert replayed.rows.inserted == 1, replayed
    assert client.batches(bad.run_id) and len(client.runs()) > 7
    assert client.repair() == []
"""
"""Whatever a package does in a database, as its own code does it."""


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``released("0.1.0")`` is a directory with the package and the SQL tests of that release."""

    def take(version: str) -> Path:
        git = ("git", "-C", str(ROOT))
        if shutil.which("git") is None or not (ROOT / ".git").exists():
            pytest.skip("no history is here")
        subject = f"^Release {version.replace('.', '[.]')}$"
        found = subprocess.run(
            [*git, "log", "--format=%H", f"--grep={subject}"], capture_output=True, check=True
        )
        commit = found.stdout.decode().strip()
        if not commit:
            missing(f"the history that is here does not reach back to {version}")
        archive = subprocess.run(
            [*git, "archive", commit, "sqlkit", "tests/sql"], capture_output=True, check=True
        )
        root = tmp_path_factory.mktemp("released")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(root, filter="data")
        return root

    return take


@pytest.fixture
def item(database: Database) -> Database:
    make_item(database)
    return database


def make_item(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "create table item (id integer primary key, name text, seen integer default 0)"
        )


def run_work(
    package: Path, database: Database, directory: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WORK, database.dsn, str(package), str(directory)],
        env=os.environ | {"PYTHONPATH": str(package)},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("version", OLDER)
def test_an_older_package_works_with_this_schema(
    version: str, item: Database, released: Callable[[str], Path], tmp_path: Path
) -> None:
    done = run_work(released(version), item, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", OLDER[-1:])
def test_what_the_tests_of_a_release_say_still_holds(
    version: str, database: Database, released: Callable[[str], Path]
) -> None:
    """Within a major version functions are added; whoever calls the old ones gets what he got."""
    root = released(version) / "tests" / "sql"
    (root / "deploy" / "version" / "says_the_release.sql").unlink()
    files = sorted(path for path in root.rglob("*.sql") if not path.name.startswith("_"))
    assert files
    prove = shutil.which("pg_prove")
    if prove is None:
        missing("pg_prove is not installed: tests/install-services.sh installs it on Debian")
    if servers.pgtap_files() is None:
        missing("pgTAP is not installed: tests/install-services.sh installs it on Debian")
    prepare_sql_tests(database.dsn, root / "_setup.sql")
    run_prove(prove, database, *files)


@pytest.mark.parametrize("version", VERSIONS)
def test_this_package_works_with_schemas_that_are_not_too_old(
    version: str, empty_database: Database, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    migrate.up(empty_database.dsn, to=version)
    make_item(empty_database)
    if version_key(version) < version_key(OLDEST_SCHEMA):
        told = f"the schema sqlkit {version} of this database is too old for this package"
        with api.connect(empty_database.dsn) as client:
            for refused in (
                lambda: client.load(__file__, into="item", format="csv"),
                client.runs,
                client.rejects,
                client.repair,
                lambda: client.dismiss_rejects(1),
                lambda: client.replay_rejects(1),
            ):
                with pytest.raises(IncompatibleError, match=told) as caught:
                    refused()
                assert "sqlkit migrate up" in (caught.value.hint or "")
                assert f"the package of that schema, sqlkit {version}" in (caught.value.hint or "")
        # The command that is named mends it.
        mended = sqlkit("migrate", "up", "--dsn", empty_database.dsn)
        assert mended.returncode == 0, mended.stderr
    done = run_work(ROOT, empty_database, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", [*OLDER, VERSION])
def test_a_schema_that_needs_a_newer_package_says_which(
    package: str,
    item: Database,
    superuser: psycopg.Connection,
    released: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    superuser.execute(
        "create or replace function sqlkit.oldest_client() returns text "
        "language sql immutable parallel safe return '0.999.0'"
    )
    done = run_work(ROOT if package == VERSION else released(package), item, tmp_path)
    assert done.returncode == 1
    assert "is too new for this package" in done.stderr
    with api.connect(item.dsn) as client, pytest.raises(IncompatibleError) as caught:
        client.runs()
    assert "Upgrade the package to sqlkit 0.999.0 or later" in (caught.value.hint or "")


def test_without_a_schema_every_command_says_how_to_make_one(
    empty_database: Database, tmp_path: Path, sqlkit: RunSqlkit
) -> None:
    (tmp_path / "sqlkit.yml").write_text(
        "tables:\n  a:\n    source: a.csv\n  item:\n    transform: {source: a, sql: item.sql.j2}\n"
    )
    (tmp_path / "item.sql.j2").write_text("select * from {{ stage }}")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "item.yml").write_text("- {name: one, given: [{id: 1}], expect: []}")
    for command in (
        ["runs"],
        ["rejects"],
        ["repair"],
        ["load", "-", "--into", "item"],
        ["optimize", "--plan"],
        ["optimize"],
        ["tune"],
        ["runs", "--baseline", "1"],
    ):
        done = sqlkit(*command, "--dsn", empty_database.dsn, input="id\n1\n")
        assert done.returncode == 1
        assert "sqlkit is not deployed in this database" in done.stderr
        assert "sqlkit migrate up" in done.stderr
    done = sqlkit("sql", "test", env={"SQLKIT_DSN": empty_database.dsn})
    assert done.returncode == 1
    assert "sqlkit migrate up" in done.stderr
