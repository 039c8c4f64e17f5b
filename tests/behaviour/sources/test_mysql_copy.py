"""Whole databases of MariaDB: tables made from its catalog, every row, foreign keys last."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from tests.conftest import Database, RunSqlkit
from tests.mysql_data import EMPLOYEES, load_employees, load_sakila
from tests.real_data import real_data
from tests.servers import MariaServer, Session

_numbers = itertools.count(1)

SAKILA = (
    "actor", "address", "category", "city", "country", "customer", "film", "film_actor",
    "film_category", "film_text", "inventory", "language", "payment", "rental", "staff", "store",
)  # fmt: skip
HERE = timezone(timedelta(hours=3))  # the server's


@pytest.fixture
def dsn(database: Database) -> Iterator[str]:
    """As somebody who may make the schema that a database is copied to."""
    with database.preparing():
        yield database.dsn


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PWD", MariaServer(0).password)


@pytest.fixture(scope="session")
def real(mariadb: MariaServer, test_session: Session) -> MariaServer:
    """A server with the databases `employee` and `sakila`, which nobody changes."""
    load_employees(mariadb, test_session, real_data("mysql", "employees"))
    load_sakila(mariadb, test_session, real_data("mysql", "sakila"))
    return mariadb


@pytest.fixture
def shop(mariadb: MariaServer) -> Iterator[str]:
    """An empty database of MariaDB."""
    name = f"shop_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{next(_numbers)}"
    mariadb.run(f"create database {name} character set utf8mb4")
    yield name
    mariadb.run(f"drop database {name}")


def their_rows(server: MariaServer, table: str, database: str) -> list[tuple[Any, ...]]:
    """The rows of a table, as MariaDB's driver gives them and PostgreSQL's should."""
    import MySQLdb
    from MySQLdb.constants import FIELD_TYPE, FLAG

    connection = MySQLdb.connect(
        host=server.host, port=server.port, user=server.user, password=server.password,
        database=database, charset="utf8mb4",
    )  # fmt: skip
    try:
        connection.query(f"select * from {table}")
        result = connection.store_result()
        columns = list(zip(result.describe(), result.field_flags(), strict=True))
        rows = result.fetch_row(0)
    finally:
        connection.close()

    def value(value: Any, column: Any, flags: int) -> Any:
        if value is None:
            return None
        if column[1] == FIELD_TYPE.TIMESTAMP:
            return value.replace(tzinfo=HERE)
        if column[1] == FIELD_TYPE.GEOMETRY:
            return value[4:]
        if flags & FLAG.SET:
            return value.split(",") if value else []
        return value

    return [
        tuple(value(v, *column) for v, column in zip(row, columns, strict=True)) for row in rows
    ]


def our_rows(connection: psycopg.Connection, schema: str, table: str) -> list[tuple[Any, ...]]:
    query = sql.SQL("select * from {}").format(sql.Identifier(schema, table))
    return connection.execute(query).fetchall()


@pytest.mark.parametrize(
    ("name", "tables", "keys"), [("sakila", SAKILA, 22), ("employee", EMPLOYEES, 6)]
)
def test_a_whole_database_arrives(
    real: MariaServer,
    connection: psycopg.Connection,
    dsn: str,
    sqlkit: RunSqlkit,
    name: str,
    tables: tuple[str, ...],
    keys: int,
) -> None:
    done = sqlkit(
        "copy-db", real.url(name), "--into", "copied", "--dsn", dsn, "--verify", "--json",
        "--workers", "3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sorted(table["table"] for table in told["tables"]) == sorted(tables)
    assert all(table["verified"] for table in told["tables"])
    assert told["foreign_keys"] == keys
    assert told["is_one_snapshot"]
    assert any("view" in other for other in told["left_out"])
    for table in tables:
        expected = their_rows(real, table, name)
        assert expected
        found = our_rows(connection, "copied", table)
        assert sorted(found, key=repr) == sorted(expected, key=repr) or sorted(found) == sorted(
            expected
        ), table
    made = connection.execute(
        b"select count(*) from pg_constraint where contype = 'f' and convalidated "
        b"and connamespace = 'copied'::regnamespace"
    ).fetchone()
    assert made == (keys,)


def test_the_same_command_goes_on_where_it_stopped(
    real: MariaServer, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    copy = ("copy-db", real.url("sakila"), "--into", "copied", "--dsn", dsn, "--json")
    assert sqlkit(*copy).returncode == 0
    connection.execute(b"drop table copied.film cascade")
    again = json.loads(sqlkit(*copy, "--verify").stdout)
    states = {table["table"]: table["state"] for table in again["tables"]}
    assert states.pop("film") == "copied"
    assert set(states.values()) == {"there"}
    # Its own, and those of others that went with it.
    assert again["foreign_keys"] == 5
    identity = connection.execute(
        b"insert into copied.film (title, language_id) values ('new', 1) returning film_id"
    ).fetchone()
    assert identity == (1001,)


def test_what_differs_is_found(
    real: MariaServer, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    copy = (
        "copy-db", real.url("sakila"), "--into", "copied", "--dsn", dsn,
        "--tables", "actor,film_text,country", "--verify",
    )  # fmt: skip
    assert sqlkit(*copy).returncode == 0
    connection.execute(b"update copied.actor set first_name = 'X' where actor_id = 7")
    connection.execute(b"delete from copied.country where country_id = 7")
    again = sqlkit(*copy)
    assert again.returncode == 1
    assert "DIFFERS: the rows are as many, but not the same" in again.stdout
    assert "DIFFERS: 109 rows there and 108 here" in again.stdout
    assert "copied.film_text: copied before, skipped, verified" in again.stdout


def test_tables_are_made_as_the_catalog_says(
    mariadb: MariaServer, shop: str, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    mariadb.run(
        r"""
        create table `Odd "Table"` (
            id int unsigned not null auto_increment,
            `select` varchar(10) not null default 'it''s \\ "x"' comment 'a ''quoted'' word',
            kind enum('a','b''c','') default 'a', flags set('x','q ') default null,
            flags2 set('x','y') default 'x,y', flag tinyint(1) not null default 1,
            bits bit(3) default b'101', n decimal(5,2) default 1.50, since date not null,
            at timestamp not null default current_timestamp on update current_timestamp,
            twice int as (n * 2) stored, t mediumtext, d double default 1e3, y year default 2020,
            z date default '0000-00-00', big bigint unsigned,
            primary key (id), unique key u (kind, n), unique key p (t(20)), key k (`select`, n),
            fulltext key f (t)
        ) comment 'what ''it'' is' charset utf8mb4;
        insert into `Odd "Table"` (`select`, kind, since, n) values ('one', 'a', '2024-01-01', 2),
            ('two', 'b''c', '0000-00-00', 3);
        """,
        shop,
    )
    done = sqlkit(
        "load", mariadb.url(shop, 'Odd "Table"'), "--into", 'public."Odd ""Table"""', "--create",
        "--invalid", "null", "--dsn", dsn,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for said in (
        "-- id: int(10) unsigned becomes bigint",
        "-- since: not null, left out: zero dates become null",
        "-- at: on update current_timestamp, left out",
        "-- twice: computed there, a plain column here",
        "-- z: default '0000-00-00', left out",
        "-- index p: unique for a prefix only, here it is not unique",
        "-- index f: fulltext, left out",
        "-- text of collation utf8mb4_general_ci does not tell case",
    ):
        assert said in done.stdout
    table = 'public."Odd ""Table"""'
    row = connection.execute(
        f"insert into {table} (at) values (default) returning *".encode()
    ).fetchone()
    assert row is not None
    assert row[:9] == (3, 'it\'s \\ "x"', "a", None, ["x", "y"], True, "101", 1.5, None)
    assert row[10:] == (None, None, 1000.0, 2020, None, None)
    for bad in ("kind = 'q'", "flags = '{w}'", "kind = 'b''c', n = 3", '"select" = null'):
        with pytest.raises(psycopg.errors.IntegrityError):
            connection.execute(f"update {table} set {bad} where id = 1".encode())
    described = connection.execute(
        f"""
        select obj_description('{table}'::regclass), col_description('{table}'::regclass, 2),
               (select string_agg(pg_get_indexdef(indexrelid), ';' order by indexrelid)
                from pg_index where indrelid = '{table}'::regclass)
        """.encode()
    ).fetchone()
    assert described is not None
    assert described[:2] == ("what 'it' is", "a 'quoted' word")
    assert 'USING btree ("select", n)' in described[2]
    assert '"left"(t, 20)' in described[2]


def test_foreign_keys_that_do_not_hold_are_told(
    mariadb: MariaServer, shop: str, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    mariadb.run(
        """
        create table a (id int primary key, next int,
            constraint self foreign key (next) references a (id) on delete set null);
        create table b (id int primary key, a int, c int,
            constraint good foreign key (a) references a (id) on delete cascade,
            constraint bad foreign key (c) references a (id));
        set foreign_key_checks = 0;
        insert into a values (1, 2), (2, 1);
        insert into b values (1, 1, 1), (2, 2, 77);
        """,
        shop,
    )
    copy = ("copy-db", mariadb.url(shop), "--into", "Odd Schema", "--dsn", dsn)
    done = sqlkit(*copy)
    assert done.returncode == 1
    assert "2 tables, 4 rows, 2 foreign keys" in done.stdout
    assert "b.bad" in done.stderr
    assert "77" in done.stderr
    connection.execute(b'update "Odd Schema".b set c = 2 where c = 77')
    assert sqlkit(*copy).returncode == 0
    connection.execute(b'delete from "Odd Schema".a where id = 1')
    assert our_rows(connection, "Odd Schema", "b") == [(2, 2, 2)]
    assert our_rows(connection, "Odd Schema", "a") == [(2, None)]


def test_a_table_that_fails_keeps_no_other_from_being_copied(
    mariadb: MariaServer, shop: str, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    mariadb.run(
        "create table bad (id int primary key, d date); insert into bad values (1, '2000-00-00');"
        "create table good (id int primary key); insert into good values (1)",
        shop,
    )
    copy = ("copy-db", mariadb.url(shop), "--into", "s", "--dsn", dsn)
    done = sqlkit(*copy)
    assert done.returncode == 1
    assert "s.bad: failed: 1 row was refused" in done.stderr
    assert "s.good: 1 rows" in done.stdout
    assert connection.execute(b"select to_regclass('s.bad')").fetchone() == (None,)
    assert sqlkit(*copy, "--reject-limit", "1").returncode == 3
    connection.execute(b"drop table s.bad")
    last = sqlkit(*copy, "--invalid", "null", "--verify")
    assert last.returncode == 0, last.stderr
    assert our_rows(connection, "s", "bad") == [(1, None)]


def test_a_user_who_may_not_lock_tables_is_told(
    real: MariaServer, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    real.run(
        f"create or replace user reader identified by '{real.password}';"
        "grant select on *.* to reader"
    )
    server = MariaServer(real.port, user="reader")
    done = sqlkit(
        "copy-db", server.url("sakila"), "--into", "s", "--dsn", dsn, "--tables", "actor,city"
    )
    assert done.returncode == 1  # city refers to country, which was left out
    assert "the tables are not of one moment" in done.stdout
    assert "city.fk_city_country: refers to a table that is not copied" in done.stderr
    assert len(our_rows(connection, "s", "city")) == 600


def test_all_tables_are_of_one_moment(
    mariadb: MariaServer, shop: str, connection: psycopg.Connection, dsn: str
) -> None:
    """A writer keeps two tables equal in every transaction; so are their copies."""
    import asyncio
    import threading

    from sqlkit.copy_database import CopyOptions, copy_database

    mariadb.run(
        "create table a (id int primary key); create table b (id int primary key);"
        "insert into a select seq from seq_1_to_20000; insert into b select * from a",
        shop,
    )
    over = threading.Event()

    def write() -> None:
        for number in itertools.count(100_000, 10):
            if over.is_set():
                return
            mariadb.run(
                "".join(
                    f"begin; insert into a values ({n}); insert into b values ({n}); commit;"
                    for n in range(number, number + 10)
                ),
                shop,
            )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = asyncio.run(
            copy_database(mariadb.url(shop), "s", CopyOptions(workers=2, verify=True), dsn=dsn)
        )
    finally:
        over.set()
        writer.join()
    assert result.is_one_snapshot
    assert [copy.verified for copy in result.tables] == [True, True]
    assert our_rows(connection, "s", "a") == our_rows(connection, "s", "b")


def test_connections_that_are_killed_are_made_anew(
    real: MariaServer, connection: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from sqlkit.copy_database import CopyOptions, TableCopy, copy_database
    from sqlkit.sources.mysql import verify

    real.run(
        f"create or replace user struck identified by '{real.password}';"
        "grant select, lock tables on *.* to struck"
    )
    server = MariaServer(real.port, user="struck")
    copied: list[str] = []

    def kill() -> None:
        real.run("kill connection user struck")

    def told(copy: TableCopy) -> None:
        copied.append(copy.table)
        if len(copied) in (1, 4):
            kill()

    struck: list[str] = []
    sums = verify.their_sums

    def killed_once(session: Any, table: Any) -> list[int]:
        if table.name == "city" and not struck:
            struck.append(table.name)
            kill()
        return sums(session, table)

    monkeypatch.setattr(verify, "their_sums", killed_once)
    result = asyncio.run(
        copy_database(
            server.url("sakila"), "s", CopyOptions(workers=2, verify=True), dsn=dsn, on_table=told
        )
    )
    assert [copy.error for copy in result.tables if copy.error] == []
    assert (len(result.tables), result.foreign_keys, result.exit_code) == (16, 22, 0)
    assert not result.is_one_snapshot
    assert struck
    for table in SAKILA:
        assert len(our_rows(connection, "s", table)) == len(their_rows(real, table, "sakila"))


def test_load_create_sets_the_sequence_of_a_run_that_was_killed(
    real: MariaServer, connection: psycopg.Connection, dsn: str
) -> None:
    url = real.url("sakila", "payment")

    def die(progress: object) -> None:
        # The table is there by now.
        assert connection.execute(b"select to_regclass('payment')").fetchone() != (None,)
        raise KeyboardInterrupt

    with api.connect(dsn) as client:
        with pytest.raises(KeyboardInterrupt):
            client.load(url, into="public.payment", create=True, progress=die)
        client.load(url, into="public.payment", create=True)
    added = connection.execute(
        b"insert into payment (customer_id, staff_id, amount, payment_date) "
        b"values (1, 1, 1, now()) returning payment_id"
    ).fetchone()
    assert added == (16_050,)
