"""Databases of each kind that rows are read from."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest

from tests.conftest import Database
from tests.servers import MariaServer

_numbers = itertools.count(1)

Run = Callable[[str], object]


@pytest.fixture(params=["postgresql", "duckdb", "sqlite", "mysql"])
def there(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Run]]:
    """The address of an empty database of each kind, and what changes it."""
    kind = request.param
    if kind == "postgresql":
        empty: Database = request.getfixturevalue("empty_database")
        found = psycopg.conninfo.conninfo_to_dict(empty.dsn)
        monkeypatch.setenv("PGPASSWORD", str(found.get("password") or ""))
        with empty.connect() as connection:
            yield (
                f"postgresql://{empty.user}@{found['host']}:{empty.server.port}/{empty.name}",
                lambda statement: connection.execute(statement.encode()),
            )
    elif kind == "mysql":
        maria: MariaServer = request.getfixturevalue("mariadb")
        monkeypatch.setenv("MYSQL_PWD", maria.password)
        name = f"there_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{next(_numbers)}"
        maria.run(f"create database {name}")
        address = f"mysql://{maria.user}@{maria.host}:{maria.port}/{name}"
        yield address, lambda statement: maria.run(statement, name)
        maria.run(f"drop database {name}")
    else:
        path = tmp_path / "there.db"

        def run(statement: str) -> None:
            made = duckdb.connect(str(path)) if kind == "duckdb" else sqlite3.connect(path)
            made.execute(statement)
            if kind == "sqlite":
                made.commit()
            made.close()

        yield f"{kind}://{path}", run
