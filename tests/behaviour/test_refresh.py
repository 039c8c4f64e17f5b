"""sqlkit refresh, beside what the strategies do: where the rows come from, and what fails."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit.cli.refresh import as_query
from tests.conftest import Database, RunSqlkit


@pytest.fixture
def item(connection: psycopg.Connection) -> None:
    connection.execute(
        "create table item (id integer primary key, name text, made date default '2020-02-02')"
    )
    connection.execute("insert into item select n, 'name ' || n from generate_series(1, 20) as n")
    connection.execute("create table feed as select id, name from item where id <> 7")


def test_auto_says_why(
    item: None, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    arguments = ["refresh", "public.item", "--from", "select * from public.feed", "--dsn", dsn]
    done = sqlkit(*arguments, "--explain")
    assert done.returncode == 0, done.stderr
    assert "- mirror: at most 20000 rows (small_rows)" in done.stdout
    assert connection.execute("select count(*) from public.item").fetchone() == (20,)
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)
    done = sqlkit(*arguments, "--json")
    told = json.loads(done.stdout)
    assert told["strategy"] == "mirror"
    assert "mirror: at most 20000 rows (small_rows)" in told["reasons"]


def test_auto_sees_who_reads(
    item: None,
    database: Database,
    superuser: psycopg.Connection,
    dsn: str,
    sqlkit: RunSqlkit,
) -> None:
    superuser.execute("insert into sqlkit.refresh_threshold (name, value) values ('small_rows', 1)")
    query = "select id + 1000 as id, name from public.feed"
    arguments = ["refresh", "public.item", "--from", query, "--explain", "--dsn", dsn]
    alone = sqlkit(*arguments).stdout
    assert "- sessions at the table now: 0\n" in alone
    assert "- truncate: " in alone
    with database.connect() as reader, reader.transaction():
        reader.execute("select count(*) from public.item")
        beside = sqlkit(*arguments).stdout
        assert "- sessions at the table now: 1\n" in beside
        assert "- swap: others are at the table\n" in beside


@pytest.mark.parametrize("strategy", ["truncate", "swap"])
def test_a_new_content_for_a_table_without_key(
    connection: psycopg.Connection, dsn: str, tmp_path: Path, strategy: str
) -> None:
    connection.execute("create table bare (name text)")
    connection.execute("insert into bare values ('a')")
    (tmp_path / "1.csv").write_text("name\nb\nb\n")
    with api.connect(dsn) as client:
        result = client.refresh("public.bare", tmp_path / "1.csv", strategy=strategy)
    assert (result.strategy, result.rows.inserted, result.deleted) == (strategy, 2, 1)
    assert connection.execute("select name from bare").fetchall() == [("b",), ("b",)]


@pytest.mark.parametrize(
    ("source", "is_query"),
    [
        ("select 1", True),
        ("VALUES(1)", True),
        ("values\n(1)", True),
        ("((select 1) union all select 2)", True),
        ("-- (today's)\n/* all\nof it */ with a as (select 1) table a", True),
        ("--\nselect'x'", True),
        ('table"Odd"', True),
        ("select.csv", False),
        ("table(1).csv", False),
        ("with-vat.csv", False),
        ("values/*.csv", False),
        ("(old) select.csv", False),
        ("-- select 1", False),
    ],
)
def test_a_query_is_told_from_a_file(source: str, *, is_query: bool) -> None:
    assert as_query([source]) == (source if is_query else None)


def test_from_a_query(
    item: None, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    query = "-- today's\n(select * from public.feed)"
    done = sqlkit("refresh", "public.item", "--from", query, "--dsn", dsn, "--json")
    told = json.loads(done.stdout)
    assert (told["strategy"], told["deleted"], told["rows"]["unchanged"]) == ("mirror", 1, 19)
    assert connection.execute("select count(*) from public.item where id = 7").fetchone() == (0,)
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


def test_from_a_stage_that_stays(
    item: None, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    connection.execute("select sqlkit.create_stage('item', p_name => 'item_today')")
    connection.execute("insert into sqlkit_stage.item_today select * from item where id <> 3")
    done = sqlkit("refresh", "public.item", "--from", "sqlkit_stage.item_today", "--dsn", dsn)
    assert "19 rows read: 19 unchanged; 1 deleted" in done.stdout
    assert connection.execute("select count(*) from sqlkit_stage.item_today").fetchone() == (0,)


def test_from_several_files_of_some_columns(
    item: None, connection: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    """What the files do not have keeps its value, or gets its default; the last row wins."""
    connection.execute("update item set made = '2021-01-01'")
    (tmp_path / "1.csv").write_text(
        "id,title,extra\n" + "".join(f"{n},name {n},\n" for n in range(1, 19))
    )
    (tmp_path / "2.csv").write_text("id,title,extra\n18,other,\n30,new,\n")
    with api.connect(dsn) as client:
        result = client.refresh(
            "public.item",
            [tmp_path / "1.csv", tmp_path / "2.csv"],
            map={"title": "name"},
            leave_out=["extra"],
        )
    assert (result.rows.inserted, result.rows.updated, result.rows.duplicates, result.deleted) == (
        1,
        1,
        1,
        2,
    )
    assert connection.execute(
        "select name, made::text from public.item where id in (18, 30) order by id"
    ).fetchall() == [
        ("other", "2021-01-01"),
        ("new", "2020-02-02"),
    ]


def test_a_refused_row_refuses_the_refresh(
    item: None, connection: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text("id,name\n1,a\nx,b\n")
    with api.connect(dsn) as client, pytest.raises(api.RejectLimitError):
        client.refresh("public.item", tmp_path / "bad.csv", delete_share=None)
    assert connection.execute("select count(*) from public.item").fetchone() == (20,)
    assert connection.execute("select state from sqlkit.run where kind = 'refresh'").fetchone() == (
        "failed",
    )
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


def test_within_the_callers_transaction(
    item: None, connection: psycopg.Connection, dsn: str
) -> None:
    with psycopg.connect(dsn) as mine:
        with api.connect(mine) as client:
            result = client.refresh("public.item", query="select * from public.feed")
        assert result.deleted == 1
        assert connection.execute("select count(*) from public.item").fetchone() == (20,)
        mine.rollback()
    assert connection.execute("select count(*) from public.item").fetchone() == (20,)
    assert connection.execute("select count(*) from sqlkit.run").fetchone() == (0,)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--from", "select 1 as id", "--strategy", "magic"), "SK209"),
        (("--from", "select 1 as id", "--max-delete", "lots"), "SK001"),
        (("--from", "select 1 as id", "--scope", "shop"), "SK204"),
        (("--from", "select 1 as id"), "SK304"),
        (("--from", "nothing.csv"), "SK102"),
        (("--from", "sqlkit_stage.nothing"), "42P01"),
    ],
)
def test_what_fails_says_why(
    item: None,
    connection: psycopg.Connection,
    dsn: str,
    sqlkit: RunSqlkit,
    arguments: tuple[str, ...],
    code: str,
) -> None:
    done = sqlkit("refresh", "public.item", *arguments, "--dsn", dsn, "--json")
    assert done.returncode in (1, 2)
    assert json.loads(done.stdout)["error"]["code"] == code
    assert connection.execute("select count(*) from public.item").fetchone() == (20,)
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


def test_where_a_table_and_its_indexes_lie(
    database: Database, connection: psycopg.Connection, superuser: psycopg.Connection
) -> None:
    """Whatever the session prefers for new objects, and that it prefers it afterwards."""
    place, other = f"place_{database.name}", f"other_{database.name}"
    superuser.execute("set allow_in_place_tablespaces = on")
    for name in (place, other):
        superuser.execute(f"create tablespace {name} location ''".encode())
        superuser.execute(f"grant create on tablespace {name} to public".encode())
    try:
        connection.execute("create table item (id integer primary key, name text)")
        connection.execute(f"create index item_name on item (name) tablespace {place}".encode())
        connection.execute("insert into item select n, n from generate_series(1, 10) as n")
        superuser.execute(
            "insert into sqlkit.refresh_threshold (name, value) values ('rebuild_rows', 1)"
        )
        lies = "select relname, reltablespace from pg_class where relname ~ '^item' order by 1"
        before = connection.execute(lies).fetchall()
        connection.execute(f"set default_tablespace = {other}".encode())
        for strategy in ("truncate", "swap"):
            connection.execute(
                "call sqlkit.refresh('public.item', 'select id, name from public.item', "
                "p_strategy => %s)",
                [strategy],
            )
            assert connection.execute(lies).fetchall() == before, strategy
            assert connection.execute("show default_tablespace").fetchone() == (other,)
    finally:
        superuser.execute("drop table if exists public.item")
        for name in (place, other):
            superuser.execute(f"drop tablespace {name}".encode())
