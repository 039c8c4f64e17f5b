"""Runs the SQL tests: every file below tests/sql, by pg_prove, in a database of its own.

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

import pytest

from tests import loader_role
from tests.conftest import fresh_database, missing
from tests.servers import Server

ROOT = Path(__file__).parent / "sql"
FILES = sorted(
    path.relative_to(ROOT) for path in ROOT.rglob("*.sql") if not path.name.startswith("_")
)


def _marks(file: Path) -> list[pytest.MarkDecorator]:
    """A file that says ``-- deployer: why`` cannot run as a loader."""
    found = re.search(r"^-- deployer: (.+)$", (ROOT / file).read_text(), re.MULTILINE)
    return [pytest.mark.deployer(found[1])] if found else []


@pytest.mark.every_version
@pytest.mark.parametrize(
    "file", [pytest.param(file, id=str(file), marks=_marks(file)) for file in FILES]
)
def test_sql(file: Path, server: Server, pgtap_template: str, user: str, tmp_path: Path) -> None:
    prove = shutil.which("pg_prove")
    if prove is None:
        missing("pg_prove is not installed: tests/install-services.sh installs it on Debian")
    script = ROOT / file
    if user == loader_role.NAME:
        # A session of a loader begins with other people's tables in pg_temp.
        script = tmp_path / "in_hostile_surroundings.sql"
        script.write_text(f"{loader_role.PLANT_TEMPORARY}\\i {ROOT / file}\n")
    with fresh_database(server, pgtap_template) as database:
        done = subprocess.run(
            [
                prove,
                "--verbose",
                f"--psql-bin={server.install.program('psql')}",
                f"--host={server.host}",
                f"--port={server.port}",
                f"--username={user}",
                f"--dbname={database.name}",
                str(script),
            ],
            capture_output=True,
            text=True,
            env=os.environ | {"PGOPTIONS": "-c client_min_messages=warning"},
            check=False,
        )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    planned, ran = _planned(output), _ran(output)
    assert planned == ran > 0, f"planned {planned} tests, ran {ran}\n{output}"


def _planned(output: str) -> int:
    found = re.search(r"^1\.\.(\d+)$", output, re.MULTILINE)
    return int(found[1]) if found else 0


def _ran(output: str) -> int:
    found = re.search(r"^Files=1, Tests=(\d+),", output, re.MULTILINE)
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
