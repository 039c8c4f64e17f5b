"""Tables of other databases in sqlkit.yml: by connections with names, newer rows only, by rules."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pyarrow
import pyarrow.parquet
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


def test_a_rule_may_ask_for_rows_where_a_file_tells_them(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    rules = "rules: [{rows: 3, strategy: insert}, {strategy: stage}]"
    Path("sqlkit.yml").write_text(
        f"tables: {{small: {{source: a.parquet, performance: {{{rules}}}}}}}"
    )
    strategies = []
    for last in (3, 4):
        pyarrow.parquet.write_table(pyarrow.table({"id": range(last)}), "a.parquet")
        (found,) = asyncio.run(plan_project(read_project(project / "sqlkit.yml")))
        assert found.strategy is not None
        assert ran(sqlkit)["small"]["inserted"] == (3 if last == 3 else 1)
        (used,) = connection.execute(
            "select options ->> 'strategy' from sqlkit.run order by run_id desc limit 1"
        ).fetchall()
        strategies.append((found.strategy.why, *used))
    assert strategies == [
        ("a rule says up to 3 rows: insert", "insert"),
        ("a rule says all else: stage", "stage"),
    ]


@pytest.mark.parametrize(
    ("ask", "mark", "condition", "first", "again"),
    [
        pytest.param(
            "select day, max(version) as mark from item group by day",
            "mark: mark",
            "day = {{ day | literal }}",
            {"day=2026-01-01": 2, "day=2026-01-02": 2},
            {"day=2026-01-02": 1},
            id="days",
        ),
        pytest.param(
            "select substr(code, 1, 1) as prefix, max(version) as mark from item group by 1",
            "mark: mark",
            "code like {{ (prefix ~ '%') | literal }}",
            {"prefix=a": 1, "prefix=b": 3},
            {"prefix=b": 1},
            id="key prefixes",
        ),
        pytest.param(
            "select distinct code from item where update_flag = 1",
            "",
            "code = {{ code | literal }}",
            {"code=a1": 1, "code=b1": 1, "code=b2": 1, "code=b3": 1},
            {"code=b2": 1},
            id="flags",
        ),
    ],
)
def test_only_partitions_that_have_anything_to_do_are_fetched(
    project: Path,
    sqlkit: RunSqlkit,
    ask: str,
    mark: str,
    condition: str,
    first: dict[str, int],
    again: dict[str, int],
) -> None:
    change("drop table item")
    change(
        "create table item (id integer, code text, day text, name text, version integer, "
        "update_flag integer default 1)"
    )
    change(
        "insert into item values (1, 'a1', '2026-01-01', 'a', 1, 1), "
        "(2, 'b1', '2026-01-01', 'b', 1, 1), (3, 'b2', '2026-01-02', 'c', 1, 1), "
        "(4, 'b3', '2026-01-02', 'd', 1, 1)"
    )
    Path("sqlkit.yml").write_text(
        f"""\
connections: {{main: {{dsn: '${{SQLKIT_DSN}}'}}, lite: {{url: 'sqlite://shop.db'}}}}
tables:
  item:
    from: lite
    partitions:
      query: {ask}
      {mark}
    query: "select id, name, version from item where {condition}"
"""
    )

    def fetched(*arguments: str) -> tuple[dict[str, int], dict[str, Any]]:
        done = sqlkit("run", "--json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        (table,) = json.loads(done.stdout)["tables"]
        parts = table["result"]["partitions"]
        written = {p["name"]: p["rows"]["inserted"] + p["rows"]["updated"] for p in parts}
        return written, table["speed"]

    loaded, speed = fetched("--baseline")
    assert loaded == first
    assert (speed["rows"], speed["peak_bytes"] > 0, speed["rows_per_second"] > 0) == (4, True, True)
    change("update item set update_flag = 0")
    change("update item set name = 'new', version = 2, update_flag = 1 where id = 3")
    loaded, speed = fetched()
    assert loaded == again
    assert speed["baseline_run_id"] is not None
    change("update item set update_flag = 0")
    assert fetched()[0] == {}
