"""The wheel holds what an installed sqlkit needs, and works without the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Database

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_what_was_built(unpacked: Path) -> None:
    for built in (ROOT / "sqlkit" / "dist").iterdir():
        if built.is_file():
            assert (unpacked / "sqlkit" / "dist" / built.name).read_bytes() == built.read_bytes()
    for name in ("demo.sql", "py.typed", "migrations/env.py", "template/first/data/product.csv"):
        assert (unpacked / "sqlkit" / name).is_file(), name
    assert sorted(path.name for path in unpacked.iterdir()) == [
        "sqlkit",
        f"sqlkit-{_version()}.dist-info",
    ]


def test_what_is_installed_deploys_and_loads(
    unpacked: Path, tmp_path: Path, empty_database: Database
) -> None:
    (tmp_path / "t.csv").write_text("id,name\n1,one\n2,two\n")
    paths = [str(unpacked), os.environ.get("PYTHONPATH")]

    def sqlkit(*arguments: str) -> dict[str, object]:
        done = subprocess.run(
            # -P: the current directory is not searched, so the checkout cannot be found.
            [sys.executable, "-P", "-m", "sqlkit.cli.app", *arguments, "--json"],
            cwd=tmp_path,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "SQLKIT_DSN": empty_database.dsn,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said: dict[str, object] = json.loads(done.stdout)
        return said

    assert sqlkit("up")["sqlkit_version"] == _version()
    said = sqlkit("load", "t.csv", "--into", "public.t", "--create", "--policy", "append")
    assert said["rows"] == {
        "read": 2,
        "inserted": 2,
        "updated": 0,
        "unchanged": 0,
        "ignored": 0,
        "duplicates": 0,
        "rejected": 0,
    }


_MODULES = {"pyyaml": "yaml"}


def test_every_dependency_is_imported_somewhere(unpacked: Path) -> None:
    text = (unpacked / f"sqlkit-{_version()}.dist-info" / "METADATA").read_text()
    declared = {
        re.split(r"[^\w]", line.removeprefix("Requires-Dist: "))[0]
        for line in text.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }
    imported = set()
    for module in (unpacked / "sqlkit").rglob("*.py"):
        for line in module.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from"):
                imported.add(words[1].split(".")[0])
    assert {_MODULES.get(name, name) for name in declared} - imported == set()


def _version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])
