"""Loading again from another database fetches only what is newer, and loses nothing."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit.errors import SqlkitError
from sqlkit.options import LoadOptions
from sqlkit.sources.newer import Newer
from sqlkit.units import parse_overlap
from tests.behaviour.sources.conftest import Run
from tests.conftest import Database, RunSqlkit


def at(minute: int) -> str:
    return f"'2026-01-01 10:{minute:02}:00'"


def test_only_newer_rows_are_fetched(
    there: tuple[str, Run], database: Database, connection: psycopg.Connection
) -> None:
    address, run = there
    time = "datetime" if address.startswith("mysql") else "timestamp"
    run(f"create table item (id integer primary key, name varchar(9), changed {time} null)")
    connection.execute("create table item (id integer primary key, name text, changed timestamp)")
    with api.connect(database.dsn) as client:

        def load(**more: object) -> tuple[int, int, int]:
            options = {"since": "changed", **more}
            rows = client.load(f"{address}#item", into="public.item", **options).rows  # type: ignore[arg-type]
            return rows.read, rows.inserted, rows.updated

        assert load() == (0, 0, 0)
        assert watermarks(connection) == []
        run(f"insert into item values (1, 'a', {at(1)}), (2, 'b', {at(2)}), (3, 'c', {at(30)})")
        assert load() == (3, 3, 0)
        # What has just the last value comes again: another row of that moment may have come late.
        assert load() == (1, 0, 0)
        run(f"update item set name = 'B', changed = {at(31)} where id = 2")
        run(f"insert into item values (4, 'd', {at(32)}), (5, 'late', {at(25)})")
        assert load() == (3, 1, 1)
        assert load(since_overlap=timedelta(minutes=10)) == (4, 1, 0)
        # Nobody knows of it whether it is new.
        run("insert into item values (6, 'null', null)")
        assert load() == (2, 1, 0)
        assert load(again=True) == (6, 0, 0)
        assert load(dry_run=True, policy="ignore") == (2, 0, 0)
        # A dry run moves nothing, and each source is known by itself.
        run(f"insert into item values (7, 'e', {at(40)})")
        load(dry_run=True)
        assert [value for _, value in watermarks(connection)] == ["2026-01-01 10:32:00"]
        query = "select id, name, changed from item -- all of it\n;"
        rows = client.load(address, into="public.item", query=query, since="changed").rows
        assert (rows.read, rows.inserted) == (7, 1)
        rows = client.load(address, into="public.item", query=query, since="changed").rows
        assert rows.read == 2
    found = watermarks(connection)
    assert [value for _, value in found] == ["2026-01-01 10:32:00", "2026-01-01 10:40:00"]
    assert found[0][0].endswith("#item")
    assert ": query " in found[1][0]
    assert connection.execute("select count(*), max(name) from item").fetchone() == (7, "null")


def watermarks(connection: psycopg.Connection) -> list[tuple[str, str]]:
    return connection.execute(
        "select source, value from sqlkit.watermark order by value"
    ).fetchall()


def test_append_fetches_each_row_once(
    there: tuple[str, Run], database: Database, connection: psycopg.Connection
) -> None:
    address, run = there
    run("create table log (id integer primary key, part decimal(30,3), word varchar(20))")
    connection.execute('create table log (id integer, part numeric, "word" text)')
    part = "12345678901234567.125"
    run(f"insert into log values (9, {part}, 'a''9'), (10, null, 'b'), (100, 3, null)")
    with api.connect(database.dsn) as client:

        def load(column: str = "id", **more: object) -> int:
            options = {"policy": "append", "since": column, **more}
            return client.load(f"{address}#log", into="public.log", **options).rows.inserted  # type: ignore[arg-type]

        assert load() == 3
        assert load() == 0
        run("insert into log values (99, 4, 'too late'), (101, 5, 'c')")
        assert load() == 1
        # Which of the rows with null are new, nobody knows.
        for column in ("part", "word"):
            with pytest.raises(SqlkitError, match="holds nulls") as caught:
                load(column)
            assert caught.value.code == "SK125"
        with pytest.raises(SqlkitError, match="no column ID by which") as caught:
            load("ID")
        assert "id, part, word" in (caught.value.detail or "")
        run("update log set part = 1, word = 'b' where part is null or word is null")
        if not address.startswith("sqlite"):  # where decimals are floats
            connection.execute("truncate log")
            assert load("part", policy="append") == 5
            assert load("part") == 0
            run("update log set part = part + 0.001 where id = 9")
            assert load("part") == 1
        connection.execute("truncate log")
        assert load("word") == 5
        assert load("word") == 0
        run("insert into log values (102, 5, 'z''')")
        assert load("word") == 1
        assert load("word") == 0
        # As with files: whoever empties the table says so.
        connection.execute("truncate log")
        connection.execute("select sqlkit.forget_sources('log')")
        assert load("word") == 6


def test_policies_go_on_from_the_same_value(
    database: Database, connection: psycopg.Connection, tmp_path: Path, sqlkit: RunSqlkit
) -> None:
    """By the command line, and numbers go back too."""
    path = tmp_path / "a.db"
    made = sqlite3.connect(path)
    made.execute("create table t (id integer primary key, v integer)")
    made.executemany("insert into t values (?, ?)", [(n, n) for n in range(1, 11)])
    made.commit()
    connection.execute("create table t (id integer primary key, v integer)")
    load = ("load", f"sqlite://{path}#t", "--into", "public.t", "--since", "v", "--json")
    for more, read in (((), 10), (("--since-overlap", "3"), 4), (("--policy", "ignore"), 1)):
        done = sqlkit(*load, "--dsn", database.dsn, *more)
        assert json.loads(done.stdout)["rows"]["read"] == read, done.stdout
    done = sqlkit(*load, "--dsn", database.dsn, "--since-overlap", "3m")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2
    assert "stands at '10', from which an overlap of 0:03:00 cannot be taken" in error["message"]
    (tmp_path / "a.csv").write_text("id,v\n1,1\n")
    done = sqlkit("load", "a.csv", "--into", "public.t", "--since", "v", "--dsn", database.dsn)
    assert (done.returncode, "only a table or query of a database" in done.stderr) == (2, True)
    options = connection.execute(
        "select options - 'call' from sqlkit.run order by run_id"
    ).fetchall()
    assert options[1][0] == {"since": "v", "since_overlap": "3"}


def test_two_loads_from_one_watermark_are_told(
    database: Database, connection: psycopg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    made = sqlite3.connect(path)
    made.execute("create table t (id integer)")
    made.executemany("insert into t values (?)", [(n,) for n in range(10)])
    made.commit()
    connection.execute("create table t (id integer)")

    def interfere(progress: api.LoadProgress) -> None:
        connection.execute(
            "select sqlkit.set_watermark('t', %s, 'id', '5')", [f"sqlite://{path}#t"]
        )

    with api.connect(database.dsn) as client:
        options = {"into": "public.t", "policy": "append", "since": "id"}
        with pytest.raises(SqlkitError) as caught:
            client.load(f"sqlite://{path}#t", progress=interfere, **options)  # type: ignore[arg-type]
        assert caught.value.code == "SK411"
        assert connection.execute("select count(*) from t").fetchone() == (0,)
        loaded = client.load(f"sqlite://{path}#t", **options)  # type: ignore[arg-type]
    assert loaded.rows.inserted == 4


@pytest.mark.parametrize(
    ("stands", "overlap", "is_number", "condition"),
    [
        ("10", Decimal("0.5"), True, "c > 9.5"),
        ("18446744073709551615", 1, True, "c > 18446744073709551614"),
        ("1e+20", 1.5, True, "c > 99999999999999999998.5"),
        ("Infinity", None, True, "c > 'Infinity'"),
        ("007", None, False, "c > '007'"),
        ("2026-03-01", timedelta(hours=1), False, "c > '2026-02-28'"),
        ("2026-03-01 00:00:00.5+02", timedelta(0), False, "c > '2026-03-01 00:00:00.5+02'"),
        ("2026-03-01 00:00:00+02", timedelta(1), False, "c > '2026-02-28 00:00:00+02:00'"),
        ("infinity", timedelta(1), False, None),
        ("10", timedelta(1), True, None),
        ("abc", 1, False, None),
    ],
)
def test_how_far_it_goes_back(
    stands: str, overlap: timedelta | int | None, is_number: bool, condition: str | None
) -> None:
    newer = Newer("c", stands, overlap, strictly=True)

    def made() -> str | None:
        return newer.condition("c", "s", is_number=is_number, literal=lambda text: f"'{text}'")

    if condition is None:
        with pytest.raises(SqlkitError, match="cannot be taken"):
            made()
    else:
        assert made() == condition


def test_overlaps_that_make_no_sense_are_refused() -> None:
    assert parse_overlap("2d") == timedelta(days=2)
    assert parse_overlap("12.5") == Decimal("12.5")
    with pytest.raises(SqlkitError, match="there is none"):
        LoadOptions(since_overlap=1).check()
    with pytest.raises(SqlkitError, match="for new ones"):
        LoadOptions(policy="append", since="a", since_overlap=1).check()
