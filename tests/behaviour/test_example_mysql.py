"""sqlkit init --example mysql: two databases are taken over while rows change in them."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, RunSqlkit
from tests.mysql_data import EMPLOYEES, load_employees, load_sakila
from tests.real_data import real_data
from tests.servers import MariaServer, Session

SAKILA = {
    "actor": 200,
    "address": 603,
    "category": 16,
    "city": 600,
    "country": 109,
    "customer": 599,
    "film": 1000,
    "film_actor": 5462,
    "film_category": 1000,
    "inventory": 4581,
    "language": 6,
    "payment": 16049,
    "rental": 16044,
    "staff": 2,
    "store": 2,
}
ROWS = {f"sakila.{name}": rows for name, rows in SAKILA.items()} | {
    "employees.department": 9,
    "employees.dept_emp": 11051,
    "employees.dept_manager": 24,
    "employees.employee": 10000,
    "employees.salary": 94917,
    "employees.title": 14782,
}

WHOLE = ("department", "employee", "dept_emp", "dept_manager")

CHANGED = (
    *("sakila.actor", "sakila.payment", "sakila.rental"),
    *("employees.dept_manager", "employees.salary", "employees.title"),
)


@pytest.fixture
def copies(
    mariadb: MariaServer, test_session: Session, monkeypatch: pytest.MonkeyPatch, database: Database
) -> Iterator[tuple[str, str]]:
    """Copies of both databases, which the test may change."""
    folder = real_data("mysql")
    load_sakila(mariadb, test_session, folder / "sakila")
    load_employees(mariadb, test_session, folder / "employees")
    names = (f"sakila_{database.name}", f"employees_{database.name}")
    for name, of, tables in ((names[0], "sakila", SAKILA), (names[1], "employee", EMPLOYEES)):
        mariadb.run(f"drop database if exists {name}; create database {name}")
        mariadb.run("".join(f"create table {t} like {of}.{t};" for t in tables), name)
        mariadb.run("".join(f"insert into {t} select * from {of}.{t};" for t in tables), name)
    monkeypatch.setenv("SAKILA", mariadb.url(names[0]))
    monkeypatch.setenv("EMPLOYEES", mariadb.url(names[1]))
    monkeypatch.setenv("MYSQL_PWD", mariadb.password)
    monkeypatch.setenv("SQLKIT_DSN", database.dsn)
    yield names
    for name in names:
        mariadb.run(f"drop database {name}")


def ran(sqlkit: RunSqlkit) -> dict[str, dict[str, int]]:
    """What became of the rows of each table, without the zeros."""
    done = sqlkit("run", "--json", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        table["table"]: {
            name: rows
            for name, rows in (
                *table["result"]["rows"].items(),
                ("deleted", table["result"].get("deleted", 0)),
            )
            if rows
        }
        for table in json.loads(done.stdout)["tables"]
    }


def counts(connection: psycopg.Connection) -> dict[str, int]:
    query = " union all ".join(f"select '{name}', count(*) from {name}" for name in ROWS)
    return dict(connection.execute(query.encode()).fetchall())


def written(connection: psycopg.Connection, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Where every row of each table lies, which transactions wrote and locked it, and the size.

    As long as that stays, nothing was written, and no dead row is left.
    """
    query = " union all ".join(
        f"select '{name}', md5(string_agg(concat(ctid, xmin, xmax), ' ' order by ctid)), "
        f"pg_relation_size('{name}') from {name}"
        for name in names
    )
    return {name: (rows, size) for name, rows, size in connection.execute(query.encode())}


def within_overlap(connection: psycopg.Connection) -> dict[str, int]:
    """The rows of each table that lie within ten minutes before its latest."""
    query = " union all ".join(
        f"select 'sakila.{name}', count(*) from sakila.{name} where last_update >= "
        f"(select max(last_update) from sakila.{name}) - interval '10 minutes'"
        for name in SAKILA
    )
    return dict(connection.execute(query.encode()).fetchall())


@pytest.mark.slow
def test_they_are_taken_over_while_rows_change(
    copies: tuple[str, str],
    tmp_path: Path,
    sqlkit: RunSqlkit,
    database: Database,
    connection: psycopg.Connection,
    mariadb: MariaServer,
) -> None:
    sakila, employees = copies
    made = sqlkit("init", "--example", "mysql")
    assert made.returncode == 0, made.stderr

    def run() -> dict[str, dict[str, int]]:
        with database.preparing():  # its first step makes schemas
            return ran(sqlkit)

    first = run()
    assert first == {name: {"read": rows, "inserted": rows} for name, rows in ROWS.items()}
    assert counts(connection) == ROWS

    # Nothing has changed. Of what has a watermark the rows within the overlap are read again, most
    # of which were made in one second; parts are not, and tables that tell nothing are as a whole.
    again = {
        **within_overlap(connection),
        **{f"employees.{name}": ROWS[f"employees.{name}"] for name in WHOLE},
        "employees.title": 0,
        "employees.salary": 0,
    }
    before = written(connection, list(ROWS))
    assert run() == {
        name: {"read": rows, "unchanged": rows} if rows else {} for name, rows in again.items()
    }
    assert written(connection, list(ROWS)) == before

    # Some rows are changed, added and deleted.
    mariadb.run(
        f"""
        update {sakila}.payment set amount = amount + 1 where payment_id <= 30;
        insert into {sakila}.actor (first_name, last_name) values ('NEW', 'ONE'), ('NEW', 'TWO');
        update {employees}.salary set amount = amount + 1 where emp_no < 10011 limit 7;
        delete from {employees}.dept_manager limit 3;
        """
    )
    changed = run()
    assert {name for name, rows in changed.items() if set(rows) - {"read", "unchanged"}} == {
        *("sakila.payment", "sakila.actor", "employees.salary", "employees.dept_manager")
    }
    assert not changed["employees.title"]
    others = ROWS.keys() - {*("sakila.payment", "sakila.actor"), *CHANGED}
    assert {name: changed[name] for name in others} == {
        name: {"read": again[name], "unchanged": again[name]} for name in others
    }
    assert written(connection, sorted(others)) == {name: before[name] for name in others}
    assert changed["sakila.payment"]["updated"] == 30
    assert changed["sakila.actor"]["inserted"] == 2
    assert changed["employees.salary"]["updated"] == 7
    assert changed["employees.salary"]["read"] < ROWS["employees.salary"] / 3
    assert changed["employees.dept_manager"]["deleted"] == 3

    # And go on changing while runs go on.
    ends = threading.Event()

    def change_rows() -> None:
        for number in itertools.count(1):
            mariadb.run(
                f"""
                update {sakila}.rental set return_date = now() where rental_id % 997 = {number};
                insert into {sakila}.actor (first_name, last_name) values ('MORE', '{number}');
                insert into {employees}.salary values (10001, {number}, '1901-01-01'
                    + interval {number} day, '9999-01-01');
                update {employees}.title set to_date = '2020-01-01' where emp_no % 997 = {number};
                """
            )
            if ends.wait(0.5):
                return

    changing = threading.Thread(target=change_rows)
    changing.start()
    try:
        under_way = run()
    finally:
        ends.set()
        changing.join()
    assert under_way["employees.title"]["updated"] > 0
    last = run()
    # Of what has a watermark only what is newer is read.
    assert under_way["sakila.payment"] == last["sakila.payment"] == {"read": 30, "unchanged": 30}
    for done in (under_way, last):
        assert done["sakila.actor"]["read"] < SAKILA["actor"]
        assert done["sakila.rental"].get("read", 0) < SAKILA["rental"] / 10
    runs = [first, changed, under_way, last]
    inserted = {name: sum(found[name].get("inserted", 0) for found in runs) for name in ROWS}
    inserted["employees.dept_manager"] -= 3
    assert counts(connection) == inserted
    assert inserted["sakila.actor"] > ROWS["sakila.actor"] + 4
    # Whatever was changed, and one of each way of fetching that was not.
    compared = [*CHANGED, "sakila.language", "employees.department"]
    verified = sqlkit("verify", *compared, "--json", timeout=300)
    told = {table["name"]: table["state"] for table in json.loads(verified.stdout)["tables"]}
    assert (verified.returncode, told) == (0, dict.fromkeys(compared, "same")), verified.stdout
