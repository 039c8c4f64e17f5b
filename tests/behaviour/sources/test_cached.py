"""Extracts of databases are kept for a while: the same rows, once, and never broken ones."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqlkit.config import Project, read_project
from sqlkit.pipeline import run_project
from sqlkit.plan import plan_project
from tests.behaviour.sources.conftest import Run
from tests.behaviour.test_lookup import RedisServer, server_of_keys  # noqa: F401 - a fixture
from tests.conftest import RunSqlkit, in_public

FILE = """\
connections:
  main: {dsn: '${SQLKIT_DSN}'}
  there: {url: '${THERE}'}
tables:
  item: {from: there, source: item, cache: {for: 1h, in: kept}}
"""


@pytest.fixture
def folder(
    there: tuple[str, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    connection: psycopg.Connection,
) -> Path:
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    monkeypatch.setenv("THERE", there[0])
    monkeypatch.chdir(tmp_path)
    columns = "id integer primary key, part integer, word varchar(40), share numeric(9, 4)"
    there[1](f"create table item ({columns})")
    connection.execute(f"create table item ({columns})".encode())
    is_mysql = there[0].startswith("mysql")
    odd = "'a\tb\n\\\\N \"ü\" '" if is_mysql else "'a\tb\n\\N \"ü\" '"
    there[1](f"insert into item values (1, 1, {odd}, 0.1), (2, 1, '', null), (3, 2, null, -7)")
    return tmp_path / "kept"


def project(text: str = FILE) -> Project:
    Path("sqlkit.yml").write_text(text)
    return read_project(Path("sqlkit.yml"))


def ran(text: str = FILE, **more: Any) -> tuple[int, int]:
    """How many rows were read, and written."""
    (report,) = asyncio.run(run_project(project(text), **more)).tables
    assert report.result is not None, report.error
    rows = report.result.rows
    return rows.read, rows.inserted + rows.updated


def test_an_extract_is_loaded_once_and_fetched_anew_when_it_is_old_or_broken(
    there: tuple[str, Run], folder: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    change = there[1]
    assert ran() == (3, 3)
    rows = b"select id, part, word, share::text from item order by id"
    assert connection.execute(rows).fetchall() == [
        (1, 1, 'a\tb\n\\N "ü" ', "0.1000"), (2, 1, "", None), (3, 2, None, "-7.0000"),
    ]  # fmt: skip
    (kept,) = folder.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "s3cret" not in kept.name
    change("update item set part = 5 where id = 3")
    assert ran() == (0, 0)
    (plan,) = asyncio.run(plan_project(project()))
    assert (plan.sources[0].state, plan.problems) == ("loaded", ())
    assert "s, not fetched" in plan.notes[0]
    # Once more, from what is kept; and without it.
    assert ran(again=True) == (3, 0)
    assert ran(use_cache=False) == (3, 1)
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    assert ran() == (3, 0)
    (again,) = folder.iterdir()
    assert again.name != kept.name
    os.utime(again, (time.time() - 4000,) * 2)
    change("update item set part = 6 where id = 3")
    assert ran() == (3, 1)
    assert len(list(folder.iterdir())) == 1
    assert ran(FILE.replace("in: kept", "in: kept, at_most: 100")) == (0, 0)
    # What is too large is loaded and not kept; another question is another extract.
    asked = FILE.replace("source: item", "query: 'select id, part from item where id < 3'")
    assert ran(asked.replace("in: kept", "in: kept, at_most: 100").replace(
        "from: there", "from: there, leave_out: [word, share]"
    )) == (2, 0)  # fmt: skip
    assert not list(folder.iterdir())


def test_of_a_part_that_changed_no_old_extract_is_taken(
    there: tuple[str, Run], folder: Path
) -> None:
    text = FILE.replace(
        "source: item,",
        "query: 'select * from item where part = {{ part }}', partitions: "
        "{query: 'select part, max(id) as mark from item group by part', mark: mark},",
    )
    assert ran(text) == (3, 3)
    assert len(list(folder.iterdir())) == 2
    there[1]("insert into item values (4, 2, 'x', 1)")
    assert ran(text) == (2, 1)
    assert ran(text, again=True) == (4, 0)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("there", ["sqlite"], indirect=True)
def test_redis_keeps_extracts_too(
    there: tuple[str, Run],
    folder: Path,
    server_of_keys: RedisServer,  # noqa: F811
    sqlkit: RunSqlkit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = FILE.replace("in: kept", f"in: 'redis://127.0.0.1:{server_of_keys.port}/0'")
    assert ran(text) == (3, 3)
    (key,) = server_of_keys.client.keys("sqlkit:extract:*")
    assert 3500 < server_of_keys.client.ttl(key) <= 3600
    there[1]("update item set part = 5 where id = 3")
    assert ran(text) == (0, 0)
    assert ran(text, again=True) == (3, 0)
    server_of_keys.client.setrange(key, 100, b"broken")
    assert ran(text) == (3, 1)
    assert not list(folder.parent.glob("*.parquet"))
    there[1]("update item set part = 6 where id = 3")
    done = sqlkit("run", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert "item   done      3         0        1" in done.stdout
    server_of_keys.stop()
    assert ran(text) == (3, 0)  # it only takes longer
    assert "the extract is not kept" in caplog.text
