"""Strategies: however rows get to the table, what is there afterwards is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import sqlkit as package
from sqlkit.options import STRATEGIES
from sqlkit.results import RowCounts
from tests.conftest import RunSqlkit, in_public

TABLE = "id int primary key, name text, price numeric(10, 2)"


def rows(first: int, last: int, price: int) -> str:
    # More than one piece: every stream gets some, and an empty table is filled bare.
    text = "x" * 100
    return "".join(f"{n},{text}{n % 7},{price}\n" for n in range(first, last))


def test_all_end_alike(connection: psycopg.Connection, dsn: str, tmp_path: Path) -> None:
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    head = "id,name,price\n"
    files[0].write_text(head + rows(0, 60_000, 1) + rows(5, 9, 2))
    files[1].write_text(head + rows(30_000, 61_000, 1) + rows(10, 20, 3) + rows(100, 200, 1))
    outcomes: dict[str, tuple[list[RowCounts], list[object]]] = {}
    for strategy in STRATEGIES:
        connection.execute("drop table if exists item")
        connection.execute(f"create table item ({TABLE})")
        with package.connect(dsn) as client:
            results = [
                client.load(file, into="public.item", strategy=strategy, again=True)
                for file in files
            ]
            (run,) = connection.execute(
                "select options ->> 'strategy' from sqlkit.run order by run_id desc limit 1"
            ).fetchall()
        assert run == (None if strategy == "auto" else strategy,)
        content = connection.execute(
            "select count(*), md5(string_agg(t::text, ',' order by id)) from item as t"
        ).fetchall()
        outcomes[strategy] = ([result.rows for result in results], list(content))
    reference = outcomes.pop("insert")
    assert reference[0][0].duplicates == 4
    assert reference[0][1].updated == 10
    for strategy, outcome in outcomes.items():
        assert outcome == reference, strategy


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_appending_ends_alike(
    connection: psycopg.Connection, dsn: str, tmp_path: Path, strategy: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,name,price\n" + rows(0, 5_000, 1))
    connection.execute("create table item (id int, name text, price numeric(10, 2))")
    with package.connect(dsn) as client:
        result = client.load(file, into="public.item", policy="append", strategy=strategy)
    assert result.rows.inserted == 5_000
    assert connection.execute("select count(distinct id) from item").fetchall() == [(5_000,)]


def test_each_is_known_by_what_it_sends(
    connection: psycopg.Connection,
    dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[int, str]] = []

    def seen(real: Any) -> Any:
        def send(self: psycopg.Cursor, query: Any, *given: Any, **named: Any) -> Any:
            if isinstance(query, sql.Composable):
                query = query.as_string()
            text = query if isinstance(query, str) else bytes(query).decode()
            sent.append((id(self.connection), text.replace('"', "").lower()))
            return real(self, query, *given, **named)

        return send

    monkeypatch.setattr(psycopg.Cursor, "execute", seen(psycopg.Cursor.execute))
    monkeypatch.setattr(psycopg.Cursor, "copy", seen(psycopg.Cursor.copy))
    file = tmp_path / "a.csv"
    file.write_text("id,name,price\n" + rows(0, 100_000, 1))  # several pieces: 11 MB
    connection.execute("create table item (id int, name text, price numeric(10, 2))")
    found = {}
    for strategy in ("insert", "copy", "stage", "parallel"):
        connection.execute("truncate item; insert into item values (-1)")
        sent.clear()
        with package.connect(dsn) as client:
            client.load(
                file, into="public.item", policy="append", strategy=strategy, again=True, workers=1
            )
        copies = [(at, text) for at, text in sent if text.startswith("copy")]
        stages = any("sqlkit_stage." in text for _, text in copies)
        inserts = any(text.startswith("insert into sqlkit_stage.") for _, text in sent)
        found[strategy] = (len({at for at, _ in copies}), stages, inserts)
    # Connections that copied, whether into a stage, and whether a stage was filled by INSERTs.
    assert found == {
        "insert": (0, False, True),
        "copy": (1, False, False),
        "stage": (1, True, False),
        "parallel": (2, False, False),
    }


def test_a_project_says_which(
    connection: psycopg.Connection,
    dsn: str,
    tmp_path: Path,
    sqlkit: RunSqlkit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    connection.execute(f"create table item ({TABLE})")
    for number, (performance, way, why) in enumerate(
        (
            ("{strategy: stage}", "COPY into stages, one join", "performance says stage"),
            ("{enabled: false}", "INSERT into stages, one join", "it is not enabled"),
        )
    ):
        (tmp_path / "a.csv").write_text(f"id,name,price\n1,a,{number}\n")
        text = f"tables: {{item: {{source: a.csv, performance: {performance}}}}}"
        (tmp_path / "sqlkit.yml").write_text(text)
        (table,) = json.loads(sqlkit("plan", "--json").stdout)["tables"]
        assert table["strategy"]["way"].startswith(way)
        assert why in table["strategy"]["why"]
        done = sqlkit("run", "--json")
        assert done.returncode == 0, done.stderr
    (last,) = connection.execute(
        "select options ->> 'strategy' from sqlkit.run order by run_id desc limit 1"
    ).fetchall()
    assert last == ("insert",)
    done = sqlkit("load", "a.csv", "--into", "public.item", "--strategy", "fast")
    assert (done.returncode, "no strategy 'fast'" in done.stderr) == (2, True)
