"""Columns that a source has and its table has not: added, refused at once, or put together."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest

from sqlkit.config import read_project
from sqlkit.pipeline import TableReport, run_project
from sqlkit.plan import TablePlan, plan_project
from sqlkit.results import LoadResult
from tests.conftest import in_public


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, connection: psycopg.Connection
) -> None:
    """A folder with a file as the table is, and another one with two columns more."""
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    monkeypatch.chdir(tmp_path)
    connection.execute("create table item (id integer primary key, name text, extra jsonb)")
    connection.execute("insert into item values (9, 'there', null)")
    Path("1.csv").write_text("id,name,extra\n1,a,\n")
    Path("2.csv").write_text('id,"Of, day",price\n2,2026-01-02,1.50\n3,,2\n')
    Path("3.jsonl").write_text('{"id": 4, "name": "d", "price": 3}\n{"id": 5, "deep": {"a": 1}}\n')


def planned(table: str) -> TablePlan:
    Path("sqlkit.yml").write_text(f"tables: {{item: {{{table}}}}}\n")
    (found,) = asyncio.run(plan_project(read_project(Path("sqlkit.yml"))))
    return found


def run(table: str) -> TableReport:
    Path("sqlkit.yml").write_text(f"tables: {{item: {{{table}}}}}\n")
    (report,) = asyncio.run(run_project(read_project(Path("sqlkit.yml")))).tables
    return report


def test_evolve_adds_them(connection: psycopg.Connection) -> None:
    plan = planned("source: 2.csv, schema: evolve")
    assert not plan.problems
    assert {(drift.column, drift.becomes) for drift in plan.drift} == {
        *(("Of, day", "added: date"), ("price", "added: numeric")),
        *(("name", "null"), ("extra", "null")),
    }
    assert plan.ddl == 'alter table public.item add column "Of, day" date, add column price numeric'
    assert "the statements are those without the columns that are added" in plan.notes
    assert plan.estimate is not None
    assert plan.estimate.inserted == 2
    report = run("source: [1.csv, 2.csv, 3.jsonl], schema: evolve")
    assert report.state == "done", report.error
    assert isinstance(report.result, LoadResult)
    assert report.result.rows.inserted == 5
    added = [note for note in report.result.notes if "was added" in note]
    assert added == [
        f"column {column} was added to the table"
        for column in ('"Of, day" date', "price numeric", "deep jsonb")
    ]
    recorded = connection.execute("select reasons from sqlkit.run").fetchone()
    assert recorded is not None
    assert set(added) <= set(recorded[0])
    found = connection.execute(
        'select id, name, "Of, day"::text, price::text, deep from item order by id'
    ).fetchall()
    assert found == [
        (1, "a", None, None, None),
        (2, None, "2026-01-02", "1.50", None),
        (3, None, None, "2", None),
        (4, "d", None, "3", None),
        (5, None, None, None, {"a": 1}),
        (9, "there", None, None, None),
    ]
    assert run("source: [1.csv, 2.csv, 3.jsonl], schema: evolve").state == "done"


def test_freeze_writes_nothing_where_one_source_has_others(
    connection: psycopg.Connection,
) -> None:
    report = run("source: [1.csv, 2.csv, 3.jsonl], schema: freeze")
    assert (report.state, report.error and report.error.code) == ("failed", "SK204")
    assert report.error is not None
    assert (
        report.error.message == "the columns of public.item are frozen, and 2 sources have others"
    )
    assert "2.csv: " in str(report.error.detail)
    assert "only in 2.csv: Of, day, price; only in public.item: name, extra" in str(
        report.error.detail
    )
    assert connection.execute("select count(*) from item").fetchone() == (1,)
    assert connection.execute("select count(*) from sqlkit.run").fetchone() == (0,)
    assert run("source: 1.csv, schema: freeze").state == "done"
    assert planned("source: 2.csv, schema: freeze").problems


@pytest.mark.parametrize("strategy", ["stage", "insert", "copy"])
def test_discard_puts_them_together(strategy: str, connection: psycopg.Connection) -> None:
    way = f"performance: {{strategy: {strategy}}}, leave_out: [name, price], reject_limit: 1"
    schema = "schema: {policy: discard, into: extra}"
    Path("2.csv").write_text('id,"Of, day",price,n\n')
    plan = planned(f"source: 2.csv, {schema}, {way}")
    assert not plan.problems
    assert {(drift.column, drift.becomes) for drift in plan.drift} == {
        *(("Of, day", "kept in extra"), ("n", "kept in extra")),
        *(("price", "left out"), ("name", "null")),
    }
    (insert,) = (told for told in plan.statements if told.startswith("insert into public.item"))
    assert "extra" in insert
    with Path("2.csv").open("a") as file:
        file.write('2,2026-01-02,1.50,"a ""b"\nx,,2,\n3,,2,\n')
    report = run(f"source: [2.csv, 3.jsonl], {schema}, {way}")
    assert (report.state, report.exit_code) == ("done", 3), report.error
    assert report.result is not None
    assert report.result.rows.inserted == 4
    found = connection.execute("select id, extra from item where id < 9 order by id").fetchall()
    assert found == [
        (2, {"Of, day": "2026-01-02", "n": 'a "b'}),
        (3, {"Of, day": None, "n": None}),
        (4, None),
        (5, {"deep": {"a": 1}}),
    ], json.dumps(found)


def test_discard_takes_elements_of_xml(connection: psycopg.Connection) -> None:
    """Of records that are cut out and of those that expat reads, also where they come late."""
    plain = "".join(f"<item><id>{n}</id><price>{n}</price><note/></item>" for n in range(8000))
    odd = '<item id="7"><id>8000</id><club><no>3</no><no>4</no></club><x>&lt;</x></item>'
    last = "<item><id>8001</id><name>z</name></item>"
    Path("4.xml").write_text(f"<items>{plain}{odd}<!-- here -->{last}</items>")
    connection.execute("delete from item")
    table = "source: 4.xml, record: item, schema: {policy: discard, into: extra}"
    plan = planned(f"{table}, leave_out: note")
    assert not plan.problems
    assert {(d.column, d.becomes) for d in plan.drift if d.side == "source"} == {
        *(("price", "kept in extra"), ("note", "left out"))
    }
    report = run(f"{table}, leave_out: note")
    assert report.state == "done", report.error
    query = "select id, name, extra from item where id in (0, 7999, 8000, 8001) order by id"
    assert connection.execute(query).fetchall() == [
        (0, None, {"price": "0"}),
        (7999, None, {"price": "7999"}),
        (8000, None, {"@id": "7", "club": {"no": ["3", "4"]}, "x": "<"}),
        (8001, "z", None),
    ]
    assert connection.execute("select count(*) from item").fetchone() == (8002,)


def test_lookups_go_with_evolve_and_discard(connection: psycopg.Connection) -> None:
    connection.execute(
        """
        create table maker (
            maker_id int generated always as identity primary key, name text unique
        );
        alter table item add maker_id int references maker;
        delete from item;
        """
    )
    Path("5.csv").write_text("id,name,brand,colour\n1,a,x,red\n2,b,y,\n3,c,x,blue\n")
    lookups = "lookups: {maker_id: {table: maker, key: name, from: brand}}"
    for number, schema in enumerate(("{policy: discard, into: extra}", "evolve")):
        table = f"source: 5.csv, {lookups}, schema: {schema}"
        plan = planned(table)
        assert not plan.problems
        # What a key is looked up by is neither discarded nor added.
        source = {d.column: d.becomes for d in plan.drift if d.side == "source"}
        assert source == {"colour": ("kept in extra", "added: text")[number]}
        report = run(table)
        assert report.state == "done", report.error
        assert report.result is not None
        assert report.result.rows.read == 3
        makers = "select item.name, maker.name from item join maker using (maker_id) order by id"
        assert connection.execute(makers).fetchall() == [("a", "x"), ("b", "y"), ("c", "x")]
    found = connection.execute("select extra, colour from item order by id").fetchall()
    assert found == [
        ({"colour": "red"}, "red"),
        ({"colour": None}, None),
        ({"colour": "blue"}, "blue"),
    ]
    assert connection.execute("select count(*) from maker").fetchone() == (2,)


def test_discard_needs_a_column(connection: psycopg.Connection) -> None:
    report = run("source: 2.csv, schema: {policy: discard, into: nowhere}")
    assert report.error is not None
    assert "has no column nowhere of type json or jsonb" in report.error.message
