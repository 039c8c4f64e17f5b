"""Tables and queries of other databases: PostgreSQL through COPY, DuckDB and SQLite as Arrow."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

import sqlkit as api
from sqlkit.errors import SourceError, SqlkitError, UsageError
from sqlkit.sources import postgres
from sqlkit.sources.blocks import Block
from sqlkit.sources.find import find_sources
from sqlkit.sources.postgres import Pages, PostgresSource
from sqlkit.sources.spool import Made
from sqlkit.transient import Waiting
from tests.conftest import Database, RunSqlkit

ODD = r"""
create schema "odd ""schema";
create type "odd ""schema".mood as enum ('sad', 'glad');
create table "odd ""schema"."Ünusual Tåble" (
    id integer, "a column" text, amount numeric(12, 3), ratio double precision, small real,
    flag boolean, born date, at timestamp, moment timestamptz, span interval, raw bytea, doc jsonb,
    tags text[], address inet, id2 uuid, range int4range, mood "odd ""schema".mood, point point
);
insert into "odd ""schema"."Ünusual Tåble" values
    (1, E'tab\t newline\n return\r back\\slash', 1.5, 0.1, 0.1, true, '2024-02-29',
     '2024-01-01 01:02:03.456789', '2024-01-01 01:02:03+03', '1 year 2 days 03:04:05.6',
     '\x00ff5c', '{"a": ["\\", "\u20ac"]}', '{a,"b,c",NULL,""}', '10.0.0.0/8',
     '00000000-0000-0000-0000-000000000001', '[1,5)', 'glad', '(1,2)'),
    (2, '\N', 'NaN', 'Infinity', '-0', false, 'infinity', '-infinity', 'infinity', '-1 day', '',
     'null', '{}', '::1', null, 'empty', 'sad', null),
    (3, '', 0, 1e-300, 1e30, null, '0044-03-15 BC', '2024-01-01', '1900-01-01', '00:00', '\x5c4e',
     '"x"', '{{a,b},{c,d}}', null, null, null, null, null);
insert into "odd ""schema"."Ünusual Tåble" (id, "a column")
values (4, null), (5, E'\x1e'), (6, E'\\.');
"""
TABLE = '"odd ""schema"."Ünusual Tåble"'


@pytest.fixture
def there(empty_database: Database) -> Iterator[psycopg.Connection]:
    """The other database; its address is `address`."""
    with empty_database.connect() as connection:
        yield connection


@pytest.fixture
def address(empty_database: Database) -> str:
    server = empty_database.server
    found = psycopg.conninfo.conninfo_to_dict(empty_database.dsn)
    password = f":{found['password']}" if found.get("password") else ""
    login = f"{empty_database.user}{password}"
    return f"postgresql://{login}@{found['host']}:{server.port}/{empty_database.name}"


def rows(connection: psycopg.Connection, table: str) -> list[tuple[str]]:
    return connection.execute(f"select t::text from {table} as t order by id".encode()).fetchall()


def test_every_value_arrives_as_it_is(
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    there.execute(ODD.encode())
    settings = "datestyle = 'SQL, DMY'", "intervalstyle = sql_standard", "bytea_output = escape"
    for setting in settings:
        there.execute(f'alter database "{there.info.dbname}" set {setting}'.encode())
    with api.connect(database.dsn) as client:
        loaded = client.load(f"{address}#{TABLE}", into="public.copied", create=True, key="id")
        assert loaded.rows.inserted == 6
        again = client.load(f"{address}#{TABLE}", into="public.copied", key="id")
        assert (again.rows.unchanged, again.sources[0].state) == (6, "loaded")
    # `there` was connected before these settings.
    assert rows(there, TABLE) == rows(connection, "copied")
    types = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = 'copied'::regclass and attnum > 0"
    ).fetchall()
    found: dict[str, str] = dict(types)
    assert found["amount"] == "numeric(12,3)"
    assert found["moment"] == "timestamp with time zone"
    assert found["tags"] == "text[]"
    assert found["mood"] == "text"


def test_a_query_is_asked_there_and_only_for_what_is_wanted(
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    there.execute(
        "create table big as select n as id, n * 2 as twice from generate_series(1, 1000) as n"
    )
    # Whoever asked for it would fail.
    there.execute("create view trap as select id, twice, 1 / (id - id) as broken from big")
    connection.execute("create table half (id integer primary key, twice integer)")
    query = (
        "with one as (select * from trap where id > 500) -- rows\nselect * from one order by id;"
    )
    with api.connect(database.dsn) as client:
        loaded = client.load(address, into="public.half", query=query, leave_out=["broken"])
        assert loaded.rows.inserted == 500
        assert "-- rows select * from one" in loaded.sources[0].name
    assert connection.execute("select min(id), max(twice) from half").fetchone() == (501, 2000)


def test_a_table_is_read_by_several_connections_in_one_snapshot(
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    there.execute(
        "create table item as "
        "select n as id, repeat('x', 100) as name from generate_series(1, 100000) as n"
    )
    there.execute("delete from item where id between 20001 and 60000")  # pages without rows
    connection.execute("create table item (id integer primary key, name text)")
    seen: set[int] = set()

    def change(progress: api.LoadProgress) -> None:
        if not seen:
            # Too late for this load.
            there.execute("delete from item where id > 90000")
            there.execute("insert into item select n, 'new' from generate_series(1, 5000) as n")
        found = there.execute(
            "select count(*) from pg_stat_activity where pid <> pg_backend_pid() "
            "and datname = current_database() and xact_start is not null "
            "and backend_type = 'client backend'"  # and not autovacuum
        ).fetchone()
        assert found is not None
        seen.add(found[0])

    with api.connect(database.dsn) as client:
        loaded = client.load(f"{address}#item", into="public.item", workers=3, progress=change)
        assert loaded.rows.inserted == 60_000
        few = client.load(f"{address}#item", into="public.item", where="id > 89998 -- and no more")
    assert max(seen) == 3
    assert (few.rows.read, few.rows.unchanged) == (2, 2)
    assert connection.execute("select sum(id), max(length(name)) from item").fetchone() == (
        5000050000 - sum(range(20001, 60001)),
        100,
    )


@pytest.mark.parametrize("policy", ["update", "append"])
def test_bad_rows_are_rejects(
    policy: str,
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    there.execute(
        "create table item as "
        "select n as id, E'\\\\N\\t' || n as name from generate_series(1, 5000) as n"
    )
    connection.execute("create table item (id integer primary key, name text, check (id <> 4000))")
    with api.connect(database.dsn) as client:
        loaded = client.load(f"{address}#item", into="public.item", policy=policy, reject_limit=1)
        assert (loaded.rows.inserted, loaded.rows.rejected) == (4999, 1)
    found = connection.execute("select record, raw from sqlkit.reject").fetchone()
    assert found is not None
    assert (found[0], json.loads(found[1])) == (4000, {"id": "4000", "name": "\\N\t4000"})
    assert connection.execute("select name from item where id = 7").fetchone() == ("\\N\t7",)


@pytest.mark.parametrize("policy", ["update", "append"])
def test_a_lost_connection_to_the_source_begins_anew(
    policy: str,
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there.execute(
        "create table item as "
        "select n as id, repeat('x', 200) as name from generate_series(1, 100000) as n"
    )
    connection.execute("create table item (id integer, name text)")
    connection.execute("alter table item add primary key (id)")
    waits: list[Waiting] = []
    by_pages = PostgresSource.by_pages
    left: list[int] = []

    def lost_after_the_first(
        source: PostgresSource, pages: Pages, *arguments: Any
    ) -> Iterator[Block[Made]]:
        blocks = by_pages(source, pages, *arguments)
        first = next(blocks)
        if not left:
            # Of those behind it no more than a few have been asked for.
            left.append(pages.number // pages.together)
            there.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where query like 'copy (select%' and pid <> pg_backend_pid() "
                "and datname = current_database()"
            )
        yield first
        yield from blocks

    monkeypatch.setattr(PostgresSource, "by_pages", lost_after_the_first)
    with api.connect(database.dsn) as client:
        loaded = client.load(
            f"{address}#item",
            into="public.item",
            policy=policy,
            batch_bytes=1 << 20 if policy == "append" else None,
            workers=2,
            on_wait=waits.append,
        )
    assert left[0] > 4
    assert loaded.rows.read == 100_000
    assert [wait.code for wait in waits] == ["08006"]
    assert connection.execute("select count(*), count(distinct id) from item").fetchone() == (
        100_000,
        100_000,
    )


def test_errors_name_the_source_and_no_secret(
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    connection.execute("create table item (id integer primary key)")
    login = address.removeprefix("postgresql://").partition("@")[0]
    secret = address if ":" in login else address.replace("@", ":hunter2@")
    with api.connect(database.dsn) as client:
        for source, query, code, message in (
            (f"{secret}#nowhere", None, "SK102", "no such table"),
            (secret, "select 1 as id, 2 as id", "SK111", "names a column twice"),
            (secret, "select * frm item", "SK101", "syntax error"),
            (secret, "delete from item returning *", "SK101", "its server says"),
            ("postgresql://me:hunter2@127.0.0.1:1/db#item", None, "SK101", "cannot be reached"),
            ("postgresql://me:hunter2@[::1/db#item", None, "SK001", "cannot be read"),
            (secret, None, "SK001", "name a table or a query"),
            (f"{secret}#item", "select 1 as id", "SK001", "name a table or a query"),
        ):
            with pytest.raises(SqlkitError, match=message) as caught:
                client.load(source, into="public.item", query=query)
            error = caught.value
            assert error.code == code, message
            assert "hunter2" not in f"{error.message} {error.detail} {error.hint}"
            assert error.__cause__ is None
    kept = connection.execute("select count(*) from sqlkit.run as r where r::text like '%hunter2%'")
    assert kept.fetchone() == (0,)


def test_a_query_cannot_write(
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    there.execute(
        "create function sneak() returns integer language sql as 'create table evil(); select 1'"
    )
    connection.execute("create table item (id integer primary key)")
    with api.connect(database.dsn) as client, pytest.raises(SourceError, match="read-only"):
        client.load(address, into="public.item", query="select sneak() as id")


@pytest.mark.parametrize("scheme", ["duckdb", "sqlite"])
def test_databases_that_are_files(
    scheme: str, tmp_path: Path, sqlkit: RunSqlkit, dsn: str, connection: psycopg.Connection
) -> None:
    path = tmp_path / "a file.db"
    statements = (
        'create table "Item\'s" (id integer, name text, price double)',
        "insert into \"Item's\" select n, 'name ' || n, n * 0.5 from "
        + (
            "range(1, 1001) as r (n)"
            if scheme == "duckdb"
            else "(with recursive r (n) as (select 1 union all select n + 1 from r "
            "where n < 1000) select n from r)"
        ),
    )
    made = duckdb.connect(str(path)) if scheme == "duckdb" else sqlite3.connect(path)
    for statement in statements:
        made.execute(statement)
    if scheme == "sqlite":
        made.commit()
    made.close()
    address = f"{scheme}://{path}".replace(" ", "%20")
    load = ("load", "--into", "public.item", "--dsn", dsn, "--json")
    done = sqlkit(*load, f"{address}#Item's", "--create", "--key", "id")
    assert json.loads(done.stdout)["rows"]["inserted"] == 1000, done.stdout + done.stderr
    assert connection.execute("select count(*), sum(price) from item").fetchone() == (
        1000,
        250250.0,
    )
    query = "select id, 'new' as name from \"Item's\" where id > 990"
    done = sqlkit(*load, address, "--query", query, "--leave-out", "price")
    assert json.loads(done.stdout)["rows"]["updated"] == 10
    # Only what is wanted is asked for.
    (source,) = find_sources([f"{address}#Item's"], where="id > 900 -- so")
    with api.connect(dsn) as client:
        narrow = client.load(source, into="public.item", leave_out=["name"])
    assert narrow.rows.read == 100
    assert source._question.names == ("id", "price")  # type: ignore[attr-defined]
    for wrong, code in (("select * frm x", "SK101"), ("select * from nowhere", "SK101")):
        done = sqlkit(*load, address, "--query", wrong)
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, code)
        assert "Traceback" not in done.stderr
    done = sqlkit(*load, f"{scheme}:///no/such.db#t")
    assert json.loads(done.stdout)["error"]["code"] == "SK102"
    # It is opened to be read.
    done = sqlkit(*load, address, "--query", 'delete from "Item\'s" returning id, name')
    assert done.returncode == 1


def test_addresses_of_postgresql_are_named_without_secrets() -> None:
    source = postgres.source_of("postgresql://me:pw@host:7/db?options=x#a.b", None)
    assert source.name == "postgresql://host:7/db#a.b"
    with pytest.raises(UsageError):
        postgres.source_of("postgresql://host/db", None)


def test_a_refresh_mirrors_another_database_within_a_scope(
    there: psycopg.Connection,
    address: str,
    database: Database,
    connection: psycopg.Connection,
) -> None:
    there.execute("create table price (store integer, item integer, price integer)")
    there.execute("insert into price select 1, n, n from generate_series(1, 90) as n")
    connection.execute(
        "create table price (store integer, item integer, price integer, primary key (store, item))"
    )
    connection.execute(
        "insert into price select s, n, 0 from generate_series(1, 2) s, generate_series(1, 100) n"
    )
    with api.connect(database.dsn) as client:
        done = client.refresh(
            "public.price", f"{address}#price", strategy="mirror", scope=["store"], delete_share=0.5
        )
    assert (done.rows.updated, done.deleted) == (90, 10)
    found = connection.execute(
        "select store, count(*), sum(price) from price group by store order by store"
    ).fetchall()
    assert found == [(1, 90, 4095), (2, 100, 0)]
