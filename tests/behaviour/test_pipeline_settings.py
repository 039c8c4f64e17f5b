"""Whatever sqlkit.yml says of a table reaches the client that loads or refreshes it."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqlkit.client_async import AsyncClient
from sqlkit.config import Project, Table
from sqlkit.model import Lookup
from sqlkit.pipeline import do_rows
from sqlkit.sources.base import Dialect
from tests.conftest import RunSqlkit, in_public

BOTH = {
    "target": "shop.item",
    "source": ["a.csv", "b.csv"],
    "query": "select 1",
    "format": "tsv",
    "dialect": {
        "delimiter": "|",
        "quote": "'",
        "escape": "!",
        "header": False,
        "null": "-",
        "encoding": "latin-1",
    },
    "columns": ["a", "b"],
    "map": {"a": "x"},
    "leave_out": ["c"],
    "lookups": {"d_id": {"table": "shop.d", "key": "name"}},
    "key": ["x", "y"],
    "retry_for": "30s",
}
LOADED = BOTH | {
    "policy": "newer",
    "order_by": "at",
    "whole": "line",
    "rest": "more",
    "record": "item",
    "feed": "prices",
    "raw": True,
    "create": True,
    "reject_limit": 7,
    "workers": 3,
    "executor": "processes",
    "where": "a > 1",
    "tune": True,
    "warm": True,
    "conflicts": "trim",
    "null_invalid": True,
    "indexes": "rebuild",
    "batch_bytes": "2MB",
    "atomic": True,
    "performance": {"strategy": "stage"},
    "watermark": {"column": "at", "overlap": "10m"},
    "schema": {"policy": "evolve"},
}
REFRESHED = BOTH | {"refresh": {"strategy": "swap", "scope": ["x"], "max_delete": 9}}
SAID = {
    "format": "tsv",
    "dialect": Dialect("|", "'", "!", False, "-", "latin-1"),
    "columns": ("a", "b"),
    "map": {"a": "x"},
    "leave_out": ("c",),
    "lookups": (Lookup("d_id", "shop.d", ("name",)),),
    "key": ("x", "y"),
    "query": "select 1",
    "retry_for": 30.0,
}

# Of the client, not of a table: what is loaded, and how its caller is told.
CALL = {"self", "into", "target", "sources", "progress", "on_wait"}


def defaults(method: str) -> dict[str, Any]:
    parameters = inspect.signature(getattr(AsyncClient, method)).parameters
    return {name: found.default for name, found in parameters.items() if name not in CALL}


DEFAULTS = {method: defaults(method) for method in ("load", "refresh")}


def told(
    monkeypatch: pytest.MonkeyPatch, method: str, table: Mapping[str, Any], **how: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a method of the client is called with for a table."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def called(_: AsyncClient, *given: Any, **named: Any) -> None:
        calls.append((given, named))

    monkeypatch.setattr(AsyncClient, method, called)
    project = Project.model_validate({"tables": {"item": table}})
    asyncio.run(do_rows(AsyncClient.__new__(AsyncClient), project, "item", **how))
    [call] = calls
    return call


def test_every_setting_of_a_load_reaches_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    given, named = told(monkeypatch, "load", LOADED, again=True)
    assert given == (("a.csv", "b.csv"),)
    assert named.pop("into") == "shop.item"
    assert named == SAID | {
        "policy": "newer",
        "order_by": "at",
        "whole": "line",
        "rest": "more",
        "schema": "evolve",
        "discard": None,
        "record": "item",
        "feed": "prices",
        "raw": True,
        "create": True,
        "workers": 3,
        "strategy": "stage",
        "indexes": "rebuild",
        "batch_bytes": 2 << 20,
        "atomic": True,
        "again": True,
        "conflicts": "trim",
        "null_invalid": True,
        "reject_limit": 7,
        "reject_share": None,
        "where": "a > 1",
        "executor": "processes",
        "tune": True,
        "warm": True,
        "since": "at",
        "since_overlap": timedelta(minutes=10),
    }
    # None is left out above, and none stands at what it would be anyway, but two that exclude two.
    known = DEFAULTS["load"]
    assert named.keys() == known.keys() - {"use_copy", "dry_run"}
    assert {n for n in named if named[n] == known[n]} == {"discard", "reject_share"}
    other = {"schema": {"policy": "discard", "into": "extra"}, "reject_limit": "2%"}
    _, named = told(monkeypatch, "load", LOADED | other)
    assert (named["schema"], named["discard"]) == (None, "extra")
    assert (named["reject_limit"], named["reject_share"]) == (None, 0.02)
    _, named = told(monkeypatch, "load", LOADED | {"performance": {"enabled": False}})
    assert (named["strategy"], named["workers"]) == ("insert", 1)
    elsewhere = {
        *("connection", "from_", "depends_on", "before", "after", "maintenance", "transform"),
        *("partitions", "cache", "refresh"),
    }
    said = {"schema_" if key == "schema" else key for key in LOADED}
    assert said | elsewhere == set(Table.model_fields)


def test_every_setting_of_a_refresh_reaches_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    given, named = told(monkeypatch, "refresh", REFRESHED)
    assert given == ("shop.item", ("a.csv", "b.csv"))
    assert named == SAID | {
        "strategy": "swap",
        "scope": ("x",),
        "delete_share": None,
        "delete_limit": 9,
    }
    known = DEFAULTS["refresh"]
    assert named.keys() == known.keys() - {"stage", "explain", "tune"}
    assert not {name for name in named if named[name] == known[name]}


def test_a_scope_keeps_what_is_outside_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    connection: psycopg.Connection,
    sqlkit: RunSqlkit,
) -> None:
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    connection.execute(
        """
        create table stock (store int, item int, amount int, primary key (store, item));
        insert into stock values (1, 1, 5), (1, 2, 5), (2, 1, 5);
        """
    )
    (tmp_path / "stock.csv").write_text("store,item,amount\n1,1,6\n1,3,1\n")
    (tmp_path / "sqlkit.yml").write_text(
        "tables: {stock: {source: stock.csv, refresh: {scope: store, max_delete: 1}}}"
    )
    done = sqlkit("run", "--json")
    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    assert table["result"]["deleted"] == 1
    stored = connection.execute("select * from stock order by store, item").fetchall()
    assert stored == [(1, 1, 6), (1, 3, 1), (2, 1, 5)]
    assert sqlkit("verify").returncode == 0
    connection.execute("update stock set amount = 7 where store = 1 and item = 1")
    assert sqlkit("verify").returncode == 1
