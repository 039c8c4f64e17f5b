"""Snowflake, for which fakesnow stands: its connector talks to a server of its own."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest

import sqlkit as api
from sqlkit.config import read_project
from sqlkit.errors import SourceError, SqlkitError, UsageError
from sqlkit.partitions import PartitionedResult
from sqlkit.pipeline import run_project
from sqlkit.sources.snowflake import source_of
from tests.conftest import Database, RunSqlkit, in_public

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A schema with a table, as sqlkit names it; a `#` or a query is to follow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fakesnow
        from snowflake import connector

        with fakesnow.server() as server:
            with connector.connect(**server) as there, there.cursor() as cursor:
                for statement in (
                    "create database SHOP",
                    "create schema SHOP.DAY",
                    "use schema SHOP.DAY",
                    'create table item (id integer, "Name" varchar, price number(10, 2), '
                    "born date, is_new boolean, seen timestamp_ntz, ratio float, trap integer)",
                    "insert into item values (1, 'it''s', 1.5, '2024-02-29', true, "
                    "'2024-01-01 01:02:03.456789', 0.1, 1), "
                    "(2, null, null, null, null, '2025-01-01', null, null), "
                    "(3, 'ü', -0.01, '1999-12-31', false, '1970-01-01', 1e300, 0)",
                ):
                    cursor.execute(statement)
            options = {name: server[name] for name in ("host", "port", "protocol")}
            yield f"snowflake://{server['user']}@{server['account']}/SHOP/DAY?{urlencode(options)}"


@pytest.fixture
def target(connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "hunter2")
    connection.execute(
        'create table item (id integer primary key, "Name" text, price numeric(10, 2), born date, '
        "is_new boolean, seen timestamp, ratio double precision)"
    )


def test_a_table_and_a_query(
    address: str,
    target: None,
    database: Database,
    connection: psycopg.Connection,
    sqlkit: RunSqlkit,
) -> None:
    load = ("load", "--into", "public.item", "--dsn", database.dsn, "--json")
    columns = "id,Name,price,born,is_new,seen,ratio"
    done = sqlkit(*load, f"{address}#item", "--columns", columns)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["rows"]["inserted"] == 3
    rows = connection.execute("select i::text from item as i order by id").fetchall()
    assert [row[0] for row in rows] == [
        '(1,it\'s,1.50,2024-02-29,t,"2024-01-01 01:02:03.456789",0.1)',
        '(2,,,,,"2025-01-01 00:00:00",)',
        '(3,ü,-0.01,1999-12-31,f,"1970-01-01 00:00:00",1e+300)',
    ]
    with api.connect(database.dsn) as client:
        again = client.load(
            f"{address}#item", into="public.item", leave_out=["trap"], where="id <> 2"
        )
        assert (again.rows.read, again.rows.unchanged) == (2, 2)
        query = 'select id, "Name", price * 2 as price from item order by id'
        changed = client.load(
            address, into="public.item", query=query, leave_out=["born", "is_new", "seen", "ratio"]
        )
        assert (changed.rows.updated, changed.rows.unchanged) == (2, 1)
        made = client.load(f"{address}#item", into="public.made", create=True, key="id")
        assert made.rows.inserted == 3
        nothing = client.load(f"{address}#item", into="public.made", where="id > 7")
        assert nothing.rows.read == 0
    types = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = 'made'::regclass and attnum > 0 order by attnum"
    ).fetchall()
    assert types == [
        ("id", "bigint"),
        ("Name", "text"),
        ("price", "numeric(10,2)"),
        ("born", "date"),
        ("is_new", "boolean"),
        ("seen", "timestamp without time zone"),
        ("ratio", "double precision"),
        ("trap", "bigint"),
    ]


def test_parts_that_have_anything_to_do(
    address: str, target: None, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SQLKIT_DSN", in_public(database.dsn))
    monkeypatch.setenv("SNOW", address)
    monkeypatch.chdir(tmp_path)
    Path("sqlkit.yml").write_text(
        """\
connections: {snow: {url: '${SNOW}'}}
tables:
  item:
    from: snow
    leave_out: [is_new, seen, ratio, born]
    partitions: {query: 'select "Name", max(id) as mark from item group by 1', mark: mark}
    query: 'select id, "Name", price from item where "Name" = {{ Name | literal }}'
"""
    )
    project = read_project(Path("sqlkit.yml"))
    for written in ([0, 1, 1], [0]):
        (report,) = asyncio.run(run_project(project)).tables
        assert isinstance(report.result, PartitionedResult)
        # Nothing is equal to null, which is told.
        assert sorted(part.rows.inserted for part in report.result.partitions) == written
        assert "Name is null: query: a value is null" in str(report.error and report.error.detail)


def test_errors_name_the_source_and_no_secret(
    address: str, target: None, database: Database, connection: psycopg.Connection
) -> None:
    with api.connect(database.dsn) as client:
        for source, query, error, message in (
            (f"{address}#nowhere", None, SourceError, "does not exist"),
            (address, "select * frm item", SourceError, "the database says"),
            (address, None, UsageError, "name a table or a query"),
            ("snowflake://me:hunter2@account", None, UsageError, "names an account, a database"),
        ):
            with pytest.raises(error, match=message) as caught:
                client.load(source, into="public.item", query=query)
            assert isinstance(caught.value, SqlkitError)
            assert "hunter2" not in f"{caught.value} {caught.value.detail} {caught.value.hint}"
    names = connection.execute("select name from sqlkit.source").fetchall()
    assert not any("hunter2" in name or "port" in name for (name,) in names)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "snowflake", None)
    with pytest.raises(UsageError, match="needs snowflake") as caught:
        source_of("snowflake://me@account/db#t", None).open()
    assert "sqlkit[snowflake]" in str(caught.value.hint)
