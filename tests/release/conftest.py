"""Fixtures of the deployment tests.

`bare` is a database without sqlkit on a server that has the optional roles, `extension_files`
puts this release where CREATE EXTENSION finds it, and `checkout` is a copy of the sources in
which a release can be cut and the next one begun.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psycopg
import pytest

from sqlkit import build, extension, fingerprint, migrate
from sqlkit.extension import copy_file
from sqlkit.fingerprint import Fingerprint
from tests.conftest import Database, fresh_database
from tests.servers import Server

ROOT = Path(__file__).parents[2]


def look(database: Database) -> Fingerprint:
    """The fingerprint of what is deployed there."""
    with psycopg.connect(database.dsn) as connection:
        return fingerprint.take(connection)


def psql(database: Database, *arguments: str | Path, script: str | None = None) -> str:
    """Runs psql as a DBA would, without anybody's .psqlrc; its output. Raises if it fails."""
    done = run_psql(database, *arguments, script=script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_psql(
    database: Database, *arguments: str | Path, script: str | None = None
) -> subprocess.CompletedProcess[str]:
    """As `psql`, whatever comes of it."""
    return subprocess.run(
        [
            str(database.server.install.program("psql")),
            "--no-psqlrc",
            "--quiet",
            f"--dbname={database.dsn}",
            *map(str, arguments),
        ],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def roles(server: Server) -> None:
    """The optional roles are on the server, as its DBA made them."""
    migrate.make_roles(server.dsn())


@pytest.fixture
def bare(empty_database: Database, roles: None) -> Database:
    """A database without sqlkit; the server has the optional roles."""
    return empty_database


@pytest.fixture
def reference(server: Server, roles: None) -> Fingerprint:
    """What this release looks like on the server, deployed by the plain script."""
    with fresh_database(server) as database:
        migrate.up(database.dsn, way="script")
        return look(database)


@contextmanager
def control_file(server: Server) -> Iterator[None]:
    """Nobody else puts extension files on the server meanwhile: tests run side by side, and the
    control file says which version is the default."""
    with (server.extension_directory / "sqlkit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def extension_files(server: Server) -> Path:
    """The directory of the server where this release's extension files now are."""
    directory = server.extension_directory
    with control_file(server):
        extension.install(directory)
    return directory


@dataclass(frozen=True)
class Checkout:
    """A copy of the sources, in a directory of its own, that tests may change."""

    root: Path
    old: str
    middle: str
    new: str

    @property
    def dist(self) -> Path:
        return self.root / "sqlkit" / "dist"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python -m ...`` with the copy's own package."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def build(self, *arguments: str) -> str:
        """The build command; raises if it fails."""
        done = self.run("sqlkit.build", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(
        self,
        database: Database,
        *,
        way: migrate.Channel = "alembic",
        to: str | None = None,
        role: str | None = None,
    ) -> str:
        """`migrate.up` as the copy's own package would do it, only quicker than by starting it."""
        versions = tuple(release.version for release in build.read_releases(self.root))
        with mock.patch.multiple(
            migrate,
            DIST=self.dist,
            VERSIONS=versions,
            VERSION=versions[-1],
            location=lambda: self.root / "migrations",
        ):
            return migrate.up(database.dsn, way=way, to=to, role=role)


def copy_sources(root: Path) -> None:
    """Copies what a build needs."""
    for name in ("sql", "sqlkit", "migrations"):
        # Without the asynchronous modules, whose twins take long to make and matter here to nobody.
        ignored = shutil.ignore_patterns("__pycache__", "*_async.py")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)


MIDDLE_CHANGE = """
alter table sqlkit.run add column test_note text default 'none';
comment on column sqlkit.run.test_note is 'only in this test';
"""
MIDDLE_OBJECT = """
create or replace function sqlkit._test_sum(p_one integer, p_two integer default 2)
returns integer
language sql
immutable
return p_one + p_two;

comment on function sqlkit._test_sum(integer, integer) is 'Only in this test.';

create or replace view sqlkit.test_runs as
select r.run_id, r.test_note from sqlkit.run as r;

comment on view sqlkit.test_runs is 'Only in this test.';
"""
NEW_CHANGE = """
create table sqlkit.test_table (
    test_id bigint generated always as identity,
    run_id bigint,
    constraint test_table_pkey primary key (test_id),
    constraint test_table_run_id_fkey foreign key (run_id) references sqlkit.run (run_id)
);
comment on table sqlkit.test_table is 'Only in this test.';
"""
# Another name of a parameter and a column less in a view: what `create or replace` refuses.
NEW_DROPS = [
    "drop view sqlkit.test_runs",
    "drop function sqlkit._test_sum(integer, integer)",
]
NEW_OBJECT = """
create or replace function sqlkit._test_sum(p_first integer, p_second integer default 2)
returns integer
language sql
immutable
return p_first + p_second;

comment on function sqlkit._test_sum(integer, integer) is 'Only in this test.';

create or replace view sqlkit.test_runs as
select r.run_id from sqlkit.run as r;

comment on view sqlkit.test_runs is 'Only in this test.';
"""


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the sources with two more releases: one that adds, and one that takes away."""
    root = tmp_path_factory.mktemp("checkout")
    copy_sources(root)
    releases = build.read_releases(root)
    last = releases[-1]
    major, minor, _ = build.version_key(last.version)
    made = Checkout(root, last.version, f"{major}.{minor + 1}.0", f"{major}.{minor + 2}.0")
    if not last.released:
        _release(made, last.version)
    number = max(int(change.split("_")[0]) for release in releases for change in release.changes)
    build.start(made.middle, root)
    (root / "sql" / "changes" / f"{number + 1:04}_middle.sql").write_text(MIDDLE_CHANGE)
    (root / "sql" / "objects" / "90_test.sql").write_text(MIDDLE_OBJECT)
    _release(made, made.middle)
    build.start(made.new, root)
    (root / "sql" / "changes" / f"{number + 2:04}_new.sql").write_text(NEW_CHANGE)
    (root / "sql" / "objects" / "90_test.sql").write_text(NEW_OBJECT)
    manifest = root / "sql" / "release.toml"
    head, found, tail = manifest.read_text().rpartition("drops = []")
    assert found
    manifest.write_text(f"{head}drops = {json.dumps(NEW_DROPS)}{tail}")
    build.build(root)
    return made


def _release(checkout: Checkout, version: str) -> None:
    build.build(checkout.root)
    # Whether the fingerprint is right is another test's question.
    script = (checkout.dist / build.migration_name(None, version)).read_text()
    recorded = checkout.dist / build.fingerprint_name(version)
    recorded.write_text(fingerprint.pack(version, script, {18: {}}))
    checkout.build("--release", version)


@pytest.fixture
def checkout_extension_files(server: Server, checkout: Checkout) -> None:
    """The checkout's extension files are on the server too. They stay there: what other tests
    need of them is the same, as long as they name the version they want."""
    with control_file(server):
        for source in [checkout.dist / "sqlkit.control", *checkout.dist.glob("sqlkit--*.sql")]:
            copy_file(source, server.extension_directory / source.name)
