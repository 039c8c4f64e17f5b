"""Runs the SQL tests: every file below tests/sql, by pg_prove, a topic at a time.

Each file is a transaction of its own, so those of a topic share a database.

By hand, against a database that has sqlkit and pgTAP::

    psql -f tests/sql/_setup.sql
    pg_prove --recurse tests/sql
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests import loader_role
from tests.conftest import Database, missing
from tests.servers import Server

ROOT = Path(__file__).parent / "sql"
FILES = sorted(
    path.relative_to(ROOT) for path in ROOT.rglob("*.sql") if not path.name.startswith("_")
)


NEEDS = re.compile(r"^-- needs: (\w+)$", re.MULTILINE)


def _groups() -> dict[str, list[Path]]:
    """The files of each topic, that one call of pg_prove runs; by itself a file that needs an
    extension that servers may lack."""
    groups: dict[str, list[Path]] = {}
    for file in FILES:
        needs = NEEDS.search((ROOT / file).read_text())
        groups.setdefault(str(file) if needs else file.parts[0], []).append(file)
    return groups


GROUPS = _groups()


def _lacks(server: Server, file: Path) -> str | None:
    """The extension that a file needs, as it says by ``-- needs: name``, and the server lacks."""
    found = NEEDS.search((ROOT / file).read_text())
    if found is None:
        return None
    with psycopg.connect(server.dsn()) as connection:
        query = "select from pg_available_extensions where name = %s"
        return None if connection.execute(query, [found[1]]).rowcount else found[1]


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("group", GROUPS)
def test_sql(
    group: str, server: Server, pgtap_database: Database, user: str, tmp_path: Path
) -> None:
    prove = shutil.which("pg_prove")
    if prove is None:
        missing("pg_prove is not installed: tests/install-services.sh installs it on Debian")
    files = GROUPS[group]
    for file in files:
        if lacking := _lacks(server, file):
            missing(f"PostgreSQL {server.major} has no {lacking} here")
    scripts = [ROOT / file for file in files]
    if user == loader_role.NAME:
        scripts = [_in_hostile_surroundings(file, tmp_path) for file in files]
    output = run_prove(prove, pgtap_database, *scripts)
    assert f"Files={len(files)}, Tests={sum(map(_planned, files))}, " in output, output


def _in_hostile_surroundings(file: Path, folder: Path) -> Path:
    """A script that runs a file as a session of a loader begins: with other people's tables in
    pg_temp. pgTAP is in public."""
    script = folder / "-".join(file.parts)
    path = f"set search_path = public, {loader_role.SEARCH_PATH};\n"
    script.write_text(f"{path}{loader_role.PLANT_TEMPORARY}\\i {ROOT / file}\n")
    return script


@pytest.mark.between
def test_sql_on_the_versions_between(server: Server, pgtap_database: Database) -> None:
    """All files at once."""
    prove = shutil.which("pg_prove")
    if prove is None:
        missing("pg_prove is not installed: tests/install-services.sh installs it on Debian")
    # What a wheel leaves out is proved on the versions at both ends.
    files = [ROOT / file for file in FILES if not _lacks(server, file)]
    output = run_prove(prove, pgtap_database, *files)
    assert f"Files={len(files)}, " in output


def run_prove(prove: str, database: Database, *arguments: str | Path) -> str:
    """What pg_prove says; fails if a test does."""
    server = database.server
    done = subprocess.run(
        [
            prove,
            f"--psql-bin={server.install.program('psql')}",
            f"--host={server.host}",
            f"--port={server.port}",
            f"--username={database.user}",
            f"--dbname={database.name}",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        env=os.environ
        | {"PGOPTIONS": "-c client_min_messages=warning"}
        | ({"PGPASSWORD": server.password} if server.password is not None else {}),
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def _planned(file: Path) -> int:
    """How many tests a file says that it has."""
    found = re.search(r"^select plan\((\d+)\);", (ROOT / file).read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_states_its_plan_first_and_leaves_nothing(file: Path) -> None:
    """`no_plan()` would pass a file that stops half way; a commit would outlive the test."""
    text = (ROOT / file).read_text().lower()
    assert re.search(r"^select plan\(\d+\);", text, re.MULTILINE), "no 'select plan(n);'"
    assert "select * from finish();" in text
    assert text.rstrip().endswith("rollback;")


def test_files_lie_where_they_are_looked_for() -> None:
    """<topic>/<function>/<behaviour>.sql, or a file on the catalog as a whole."""
    wrong = [str(file) for file in FILES if len(file.parts) not in (1, 3)]
    assert not wrong
