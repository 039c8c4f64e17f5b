"""Tables of other databases in sqlkit.yml: by connections with names, newer rows only, by rules."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqlkit.config import read_project
from sqlkit.plan import plan_project
from tests.conftest import RunSqlkit, in_public

FILE = """\
connections:
  main: {dsn: '${SQLKIT_DSN}'}
  lite: {url: 'sqlite://shop.db'}
tables:
  item:
    from: lite
    source: item
    watermark: version
    performance:
      rules:
        - {bytes: 1MB, strategy: insert}
        - {strategy: stage}
  log: {from: lite, query: "select id, what || '!' as what from log", policy: append,
        watermark: id}
  mine: {from: main, query: 'select id, name from item where id < 3', refresh: {max_delete: 100%}}
  small: {source: small.csv, performance: {rules: [{bytes: 1kB, strategy: insert}]}}
"""


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, connection: psycopg.Connection
) -> Path:
    """The folder of a project with a database of SQLite."""
    pytest.importorskip("adbc_driver_sqlite")
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    monkeypatch.chdir(tmp_path)
    connection.execute(
        """
        create table item (id int primary key, name text, version int);
        create table log (id int, what text);
        create table mine (id int primary key, name text);
        create table small (id int primary key);
        """
    )
    change("create table item (id integer primary key, name text, version integer)")
    change("create table log (id integer, what text)")
    change("insert into item values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)")
    change("insert into log values (1, 'x'), (2, 'y')")
    (tmp_path / "sqlkit.yml").write_text(FILE)
    (tmp_path / "small.csv").write_text("id\n1\n")
    return tmp_path


def change(statement: str) -> None:
    with sqlite3.connect("shop.db") as database:
        database.execute(statement)


def ran(sqlkit: RunSqlkit, *arguments: str) -> dict[str, dict[str, int]]:
    done = sqlkit("run", *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        table["table"]: {name: n for name, n in table["result"]["rows"].items() if n}
        for table in json.loads(done.stdout)["tables"]
    }


def test_tables_of_other_databases_are_loaded_as_far_as_they_are_newer(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    first: dict[str, Any] = ran(sqlkit, "item", "log", "small")
    assert first == {
        "item": {"read": 3, "inserted": 3},
        "log": {"read": 2, "inserted": 2},
        "small": {"read": 1, "inserted": 1},
    }
    assert ran(sqlkit, "mine")["mine"] == {"read": 2, "inserted": 2}
    strategies = """
        select target, options ->> 'strategy' from sqlkit.run
        where kind = 'load' and target like 'public.%'
    """
    assert dict(connection.execute(strategies).fetchall()) == {
        "public.item": "stage",  # nobody knows how large it is
        "public.log": None,
        "public.small": "insert",
    }
    change("update item set name = 'cc', version = 4 where id = 3")
    change("insert into log values (3, 'z')")
    plans = {p.name: p for p in asyncio.run(plan_project(read_project(project / "sqlkit.yml")))}
    assert not any(plan.problems for plan in plans.values())
    assert plans["item"].notes == ("sqlite://shop.db#item: rows from version = 3 on",)
    assert plans["item"].strategy is not None
    assert plans["item"].strategy.why == "a rule says all else: stage"
    assert ran(sqlkit, "item", "log") == {
        "item": {"read": 1, "updated": 1},
        "log": {"read": 1, "inserted": 1},
    }
    done = sqlkit("verify", "item", "log", "mine", "--json")
    states = {t["name"]: t["state"] for t in json.loads(done.stdout)["tables"]}
    assert (done.returncode, states) == (0, dict.fromkeys(states, "same")), done.stdout
