"""Tables and queries of MariaDB: every row compared, one snapshot, whatever is cut off."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit as api
from sqlkit.errors import SourceError, UsageError
from sqlkit.results import LoadProgress, RowCounts
from tests.conftest import RunSqlkit
from tests.mysql_data import EMPLOYEES, load_employees
from tests.real_data import real_data
from tests.servers import MariaServer, Session

_numbers = itertools.count(1)

SALARY = """
    create table salary (emp_no integer, amount integer, from_date date, to_date date,
                         primary key (emp_no, from_date))"""


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PWD", MariaServer(0).password)


@pytest.fixture
def odd(mariadb: MariaServer) -> Iterator[str]:
    """An empty database of MariaDB, whose name needs quotes."""
    name = f"odd `ש` {os.environ.get('PYTEST_XDIST_WORKER', 'main')} {next(_numbers)}"
    quoted = name.replace("`", "``")
    mariadb.run(f"create database `{quoted}` character set utf8mb4")
    yield name
    mariadb.run(f"drop database `{quoted}`")


@pytest.fixture(scope="session")
def employees(mariadb: MariaServer, test_session: Session) -> MariaServer:
    """A server with the database `employee`, which nobody changes."""
    load_employees(mariadb, test_session, real_data("mysql", "employees"))
    return mariadb


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are read by ranges of a thousand rows."""
    monkeypatch.setattr("sqlkit.sources.mysql.ranges.MOST_ROWS", 1000)
    monkeypatch.setattr("sqlkit.sources.mysql.session.FETCHED", 400)


@pytest.fixture
def spread(small_ranges: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of any size are read by several connections, if they may lock."""
    monkeypatch.setattr("sqlkit.sources.mysql.SPREAD_BYTES", 1)
    monkeypatch.setattr("sqlkit.sources.mysql.ranges.RANGE_BYTES", 100_000)


def theirs(server: MariaServer, query: str, database: str) -> list[tuple[Any, ...]]:
    """What MariaDB's driver makes of a query, by itself."""
    import MySQLdb

    connection = MySQLdb.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        database=database,
        charset="utf8mb4",
    )
    try:
        connection.query(query)
        result = connection.store_result()
        return list(result.fetch_row(0))
    finally:
        connection.close()


def rows_of(connection: psycopg.Connection, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"select * from {table}".encode()).fetchall()


# Whole tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", EMPLOYEES)
def test_every_row_of_a_table_arrives(
    employees: MariaServer, connection: psycopg.Connection, dsn: str, table: str
) -> None:
    with api.connect(dsn) as client:
        result = client.load(
            employees.url("employee", table), into=f"public.{table}", create=True, policy="append"
        )
    expected = theirs(employees, f"select * from {table}", "employee")
    assert result.rows == RowCounts(read=len(expected), inserted=len(expected))
    assert sorted(rows_of(connection, table)) == sorted(expected)


def test_a_table_is_loaded_again_and_only_differences_are_written(
    employees: MariaServer, connection: psycopg.Connection, dsn: str, small_ranges: None
) -> None:
    connection.execute(SALARY.encode())
    url = employees.url("employee", "salary")
    with api.connect(dsn) as client:
        first = client.load(url, into="public.salary", batch_bytes=500_000)
        connection.execute(b"delete from salary where emp_no % 7 = 0")
        gone = first.rows.read - len(rows_of(connection, "salary"))
        again = client.load(url, into="public.salary")
    assert first.rows == RowCounts(read=94_917, inserted=94_917)
    assert first.batches > 3
    assert gone > 0
    assert again.rows == RowCounts(read=94_917, inserted=gone, unchanged=94_917 - gone)


def test_a_query_is_loaded(
    employees: MariaServer, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    query = (
        "select emp_no, count(*) as n, sum(amount) / 7 as share, max(to_date) as till "
        "from salary group by emp_no"
    )
    done = sqlkit(
        "load", employees.url("employee"), "--query", query, "--into", "public.share", "--create",
        "--key", "emp_no", "--dsn", dsn,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = theirs(employees, query, "employee")
    assert sorted(rows_of(connection, "share")) == sorted(expected)
    names = [column[0] for column in connection.execute(b"select * from share").description or ()]
    assert names == ["emp_no", "n", "share", "till"]


def test_workers_dry_run_and_columns(
    employees: MariaServer, connection: psycopg.Connection, dsn: str, small_ranges: None
) -> None:
    connection.execute(b"create table pay (id integer, since date, primary key (since, id))")
    url = employees.url("employee", "salary")
    with api.connect(dsn) as client:
        options: dict[str, Any] = {
            "into": "public.pay",
            "map": {"emp_no": "id", "from_date": "since"},
            "columns": ["emp_no", "from_date"],
        }
        dry = client.load(url, dry_run=True, **options)
        assert rows_of(connection, "pay") == []
        done = client.load(url, workers=4, batch_bytes=300_000, **options)
    assert dry.rows == done.rows == RowCounts(read=94_917, inserted=94_917)
    expected = theirs(employees, "select emp_no, from_date from salary", "employee")
    assert sorted(rows_of(connection, "pay")) == sorted(expected)


@pytest.mark.xdist_group("mariadb-kill")
@pytest.mark.parametrize("may_lock", [True, False])
def test_a_large_table_is_read_by_several_connections_in_one_snapshot(
    employees: MariaServer,
    odd: str,
    connection: psycopg.Connection,
    dsn: str,
    spread: None,
    may_lock: bool,
) -> None:
    salaries(employees, odd)
    employees.run(  # far from all others
        "insert into salary select -500, seq, '2000-01-01' + interval seq day, '2030-01-01'"
        " from seq_1_to_3000",
        odd,
    )
    user = "locking" if may_lock else "reading"
    quoted = odd.replace("`", "``")
    employees.run(
        f"create or replace user {user} identified by '{employees.password}';"
        f"grant select{', lock tables' if may_lock else ''} on `{quoted}`.* to {user}"
    )
    expected = theirs(employees, "select * from salary", odd)
    connection.execute(SALARY.encode())
    readers: list[int] = []

    def change() -> None:
        count = f"select count(*) from information_schema.processlist where user = '{user}'"
        readers.extend(number for (number,) in theirs(employees, count, "employee"))
        employees.run("delete from salary where emp_no % 2 = 0; update salary set amount = 0", odd)

    server = MariaServer(employees.port, user=user)
    with api.connect(dsn) as client:
        result = client.load(
            server.url(odd, "salary"),
            into="public.salary",
            workers=3,
            batch_bytes=100_000,
            progress=Once(change),
        )
    assert readers == [3 if may_lock else 1]
    assert result.rows == RowCounts(read=97_917, inserted=97_917)
    assert sorted(rows_of(connection, "salary")) == sorted(expected)


def test_bad_rows_of_several_connections_have_their_numbers(
    mariadb: MariaServer,
    odd: str,
    connection: psycopg.Connection,
    dsn: str,
    spread: None,
) -> None:
    mariadb.run(
        "create table n (id bigint primary key, t text);"
        "insert into n select seq * 7, if(seq in (3, 9000), concat('a', char(0)), 'b')"
        " from seq_1_to_10000;",
        odd,
    )
    connection.execute(b"create table n (id bigint primary key, t text)")
    with api.connect(dsn) as client:
        result = client.load(mariadb.url(odd, "n"), into="public.n", workers=2, reject_limit=2)
        records = [row["record"] for row in client.rejects(result.run_id)]
    assert (result.rows.inserted, records) == (9998, [3, 9000])


def test_only_rows_for_which_a_condition_holds_are_asked_for(
    employees: MariaServer, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    connection.execute(SALARY.encode())
    load = ("load", "--into", "public.salary", "--dsn", dsn, "--json")
    rich = ("--where", "amount > 90000 or emp_no is null -- but not the poor")
    by_table = sqlkit(*load, employees.url("employee", "salary"), *rich)
    assert by_table.returncode == 0, by_table.stderr
    found = sorted(rows_of(connection, "salary"))
    condition = "select * from salary where amount > 90000"
    assert found == sorted(theirs(employees, condition, "employee"))
    query = "select * from salary where emp_no < 20000;"
    some = sqlkit(*load, employees.url("employee"), "--query", query, *rich, "--policy", "error")
    assert "keys of the input exist already" in some.stderr + some.stdout
    newer = sqlkit(*load, employees.url("employee", "salary"), *rich, "--since", "from_date")
    assert json.loads(newer.stdout)["rows"]["unchanged"] == len(found), newer.stderr
    wrong = sqlkit(*load, employees.url("employee", "salary"), "--where", "no_such > 1")
    assert "no_such" in json.loads(wrong.stdout)["error"]["message"]


@pytest.mark.parametrize("strategy", ["mirror", "truncate", "swap"])
def test_a_table_is_refreshed(
    employees: MariaServer, connection: psycopg.Connection, dsn: str, strategy: str
) -> None:
    connection.execute(SALARY.encode())
    connection.execute(b"insert into salary values (1, 2, '2000-01-01', '2000-01-01')")
    with api.connect(dsn) as client:
        client.refresh(
            "public.salary",
            employees.url("employee", "salary"),
            strategy=strategy,
            delete_share=None,
        )
    expected = theirs(employees, "select * from salary", "employee")
    assert sorted(rows_of(connection, "salary")) == sorted(expected)


# Keys, and none ---------------------------------------------------------------------------------

KEYS = {
    "none": ("n int, t text", ""),
    "bytes": ("n int, t varbinary(40) not null", ", primary key (t)"),
    "text": ("n int, t varchar(40) not null", ", primary key (t)"),
    "bin": ("n int, t varchar(40) collate utf8mb4_bin not null", ", unique key (t)"),
    "latin": ("n int, t varchar(40) character set latin1 not null", ", primary key (t)"),
    "prefix": ("n int, t varchar(40) not null", ", unique key (t(39))"),
    "nullable": ("n int, t varchar(40)", ", unique key (t)"),
    "mixed": ("n bigint unsigned not null, t varchar(40) not null", ", primary key (t, n)"),
    "decimal": ("n decimal(30,10) not null, t varchar(40)", ", primary key (n)"),
    "time": ("n int, t time(3) not null", ", primary key (t)"),
    "stamp": ("n int, t timestamp(6) not null", ", primary key (t)"),
    "enum": ("n int not null, t enum('b','a','c') not null", ", primary key (t, n)"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_tables_of_any_key_are_read_whole(
    mariadb: MariaServer,
    odd: str,
    connection: psycopg.Connection,
    dsn: str,
    small_ranges: None,
    kind: str,
) -> None:
    columns, key = KEYS[kind]
    values = {
        "time": "sec_to_time(seq * 1.5 - 3000)",
        "stamp": "timestamp'2024-10-27 00:00:00' + interval seq * 2001001 microsecond",
        "enum": "elt(1 + seq % 3, 'a', 'b', 'c')",
    }.get(kind, "concat(reverse(seq), char(39), char(92), ' ')")
    number = "seq + 0.5" if kind == "decimal" else "seq"
    mariadb.run(
        f"create table `a#b` ({columns}{key}) charset utf8mb4; set time_zone = '+00:00';"
        f"insert into `a#b` select {number}, {values} from seq_1_to_5432",
        odd,
    )
    url = mariadb.url(odd, "a#b")
    with api.connect(dsn) as client:
        client.load(url, into="public.t", create=True, policy="append")
    found = rows_of(connection, "t")
    assert len(found) == 5432
    expected = theirs(mariadb, "select * from `a#b`", odd)
    if kind == "stamp":
        here = timezone(timedelta(hours=3))  # the server's
        expected = [(n, t.replace(tzinfo=here).astimezone(UTC)) for n, t in expected]
        found = [(n, t.astimezone(UTC)) for n, t in found]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


# Types ------------------------------------------------------------------------------------------


def test_odd_types_keep_their_values(
    mariadb: MariaServer, odd: str, connection: psycopg.Connection, dsn: str
) -> None:
    mariadb.run(
        """
        create table odd (
            id int primary key, ti tinyint unsigned, flag tinyint(1), b1 bit(1), b9 bit(9),
            big bigint unsigned, price decimal(12,3) unsigned zerofill, f float, d double,
            y year, dt datetime(6), ts timestamp(3) null, t time(2), e enum('x','it''s'),
            s set('p','q "r"','t\\\\u'), j json, bl blob, vb varbinary(20), g geometry,
            c char(5), l varchar(20) character set latin1, m mediumtext);
        set time_zone = '+02:00';
        insert into odd values (1, 255, 1, b'1', b'100000001', 18446744073709551615, 1.5, 0.1,
            1e-300, 1999, '2024-02-29 23:59:59.999999', '2024-06-01 02:00:00.125',
            '838:59:59.25', 'it''s', 'p,q "r",t\\\\u', '{"a": [1, "א"]}',
            x'00ff5c0a', x'5c78', st_geomfromtext('point(1 2)', 4326), 'ab', 'é',
            concat('tab', char(9), char(10), char(13), char(92), char(31), char(30), '😀'));
        insert into odd values (2, 0, 0, b'0', b'0', 0, 0, -16777217, 0, 2155,
            '1000-01-01', null, '-838:59:59', 'x', '', '[]', '', '', null, '', '', '');
        insert into odd (id) values (3);
        update odd set ts = null where id = 3;
        """,
        odd,
    )
    with api.connect(dsn) as client:
        client.load(mariadb.url(odd, "odd"), into="public.odd", create=True, policy="append")
    first, second, third = rows_of(connection, "odd")
    wkb = bytes.fromhex("0101000000000000000000f03f0000000000000040")
    assert first == (
        1, 255, True, True, "100000001", Decimal(18446744073709551615), Decimal("1.500"),
        pytest.approx(0.1, rel=1e-7), 1e-300, 1999, datetime(2024, 2, 29, 23, 59, 59, 999999),
        datetime(2024, 6, 1, 0, 0, 0, 125000, UTC),
        timedelta(hours=838, minutes=59, seconds=59, milliseconds=250), "it's",
        ["p", 'q "r"', "t\\u"], {"a": [1, "א"]}, b"\0\xff\\\n", b"\\x", wkb,
        "ab", "é", "tab\t\n\r\\\x1f\x1e😀",
    )  # fmt: skip
    assert second[:13] == (
        2, 0, False, False, "000000000", 0, 0, -16777216.0, 0.0, 2155, datetime(1000, 1, 1), None,
        -timedelta(hours=838, minutes=59, seconds=59),
    )  # fmt: skip
    assert second[13:] == ("x", [], [], b"", b"", None, "", "", "")
    assert third == (3, *[None] * 21)
    exact = connection.execute(b"select f = 0.1::real from odd where id = 1").fetchone()
    assert exact == (True,)


def test_zero_dates_are_rejects_or_nulls(
    mariadb: MariaServer, odd: str, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    mariadb.run(
        """
        create table z (id int primary key, d date, dt datetime, n bigint unsigned, t time);
        insert into z values
            (1, '2024-01-01', '2024-01-01', 1, '10:00'), (2, '0000-00-00', null, 1, null),
            (3, '2010-00-10', null, 1, null), (4, null, '0000-00-00 00:00:00', 1, null),
            (5, null, null, 3000000000, null), (6, null, null, 1, '25:00:00');
        alter table z add e enum('a', 'b'), add e2 enum('', 'c');
        update z set e = '', e2 = '' where id = 1;
        """,
        odd,
    )
    connection.execute(
        b"create table z (id int primary key, d date, dt timestamp, n integer, t time,"
        b" e text, e2 text)"
    )
    url = mariadb.url(odd, "z")
    made = sqlkit("load", url, "--into", "public.y", "--create", "--dsn", dsn)
    assert made.returncode == 4
    assert "become null by --invalid null" in made.stderr
    refused = sqlkit("load", url, "--into", "public.z", "--dsn", dsn)
    assert refused.returncode == 4
    assert "5 rows were refused" in refused.stderr
    assert "0000-00-00" in refused.stderr
    with api.connect(dsn) as client:
        kept = client.load(url, into="public.z", reject_limit=10)
        assert kept.rows == RowCounts(read=6, inserted=1, rejected=5)
        told = client.rejects(kept.run_id)
        assert [(row["record"], row["column_name"]) for row in told] == [
            (2, "d"), (3, "d"), (4, "dt"), (5, "n"), (6, "t"),
        ]  # fmt: skip
        assert '"id":"4"' in told[2]["raw"]
        assert "/z" not in told[0]["source"]
    nulls = sqlkit("load", url, "--into", "public.z", "--dsn", dsn, "--invalid", "null")
    assert nulls.returncode == 0, nulls.stderr
    found = sorted(rows_of(connection, "z"))
    assert found[0][1:] == (date(2024, 1, 1), datetime(2024, 1, 1), 1, time(10), None, "")
    assert [row[1:5] for row in found[1:]] == [
        (None, None, 1, None), (None, None, 1, None), (None, None, 1, None),
        (None, None, None, None), (None, None, 1, None),
    ]  # fmt: skip


def test_a_text_that_postgresql_cannot_hold_is_a_reject(
    mariadb: MariaServer, odd: str, connection: psycopg.Connection, dsn: str
) -> None:
    mariadb.run(
        "create table n (id int primary key, t text, b varbinary(9));"
        "insert into n values (1, 'good', 'text'), (2, concat('a', char(0)), 'x'), (3, 'c', x'ff')",
        odd,
    )
    connection.execute(b"create table n (id int primary key, t text, b text)")
    with api.connect(dsn) as client:
        result = client.load(mariadb.url(odd, "n"), into="public.n", reject_limit=2)
        told = [row["message"] for row in client.rejects(result.run_id)]
    assert rows_of(connection, "n") == [(1, "good", "text")]
    assert "NUL" in told[0]
    assert "no text" in told[1]


def test_wide_rows_take_little_memory(
    mariadb: MariaServer, odd: str, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    """Two hundred MB of long texts behind many short ones, by key and by a query."""
    mariadb.run(
        "create table w (id int primary key, t longtext);"
        "insert into w select seq, if(seq < 200, 'x', repeat(char(97 + seq % 26), 1000000)) "
        "from seq_1_to_400",
        odd,
    )
    connection.execute(b"create table w (id int primary key, t text)")
    for arguments in ([mariadb.url(odd, "w")], [mariadb.url(odd), "--query", "select * from w"]):
        done = sqlkit(
            "load", *arguments, "--into", "public.w", "--dsn", dsn, "--batch-bytes", "16MB"
        )
        assert done.returncode == 0, done.stderr
    peaks = connection.execute(b"select max(client_peak_bytes) from sqlkit.run").fetchone()
    assert peaks is not None
    assert peaks[0] < 160_000_000
    lengths = connection.execute(b"select sum(length(t)) from w").fetchone()
    assert lengths == (199 + 201 * 1_000_000,)


# Cut off ----------------------------------------------------------------------------------------


class Once:
    """A progress callback that does something when the first rows were copied."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self.is_done = False

    def __call__(self, progress: LoadProgress) -> None:
        if not self.is_done and progress.phase == "copy":
            self.is_done = True
            self._act()


def kill_readers(server: MariaServer) -> None:
    """End the sessions of all loaders, as an administrator may."""
    sessions = theirs(
        server,
        f"select id from information_schema.processlist where user = '{server.user}' "
        "and id <> connection_id()",
        "employee",
    )
    server.run("".join(f"kill {number};" for (number,) in sessions))


def salaries(server: MariaServer, database: str) -> None:
    """A table of one's own, with the rows of employee.salary."""
    server.run("create table salary like employee.salary", database)
    server.run("insert into salary select * from employee.salary", database)


@pytest.mark.xdist_group("mariadb-kill")
@pytest.mark.parametrize("policy", ["update", "append"])
def test_a_killed_source_connection_is_waited_for(
    employees: MariaServer,
    connection: psycopg.Connection,
    dsn: str,
    spread: None,
    policy: str,
) -> None:
    connection.execute(SALARY.encode())
    user = f"killed_{policy}"
    more = ", lock tables" if policy == "append" else ""  # all connections are killed, or the one
    employees.run(
        f"create or replace user {user} identified by '{employees.password}';"
        f"grant select{more} on *.* to {user}"
    )
    server = MariaServer(employees.port, user=user)
    waits: list[str] = []
    act = Once(lambda: kill_readers(server))
    with api.connect(dsn) as client:
        result = client.load(
            server.url("employee", "salary"),
            into="public.salary",
            policy=policy,
            batch_bytes=100_000,
            progress=act,
            on_wait=lambda wait: waits.append(wait.reason),
        )
    assert act.is_done
    assert waits
    assert set(waits) == {"the way to the source was lost"}
    rows = result.rows
    assert rows.read == rows.inserted + rows.unchanged == 94_917
    # What was committed before is found unchanged; nothing was, where all is one commit.
    assert (rows.unchanged > 0) == (policy == "update")
    expected = theirs(employees, "select * from salary", "employee")
    assert sorted(rows_of(connection, "salary")) == sorted(expected)


@pytest.mark.parametrize("read", ["by several", "by one", "without key"])
def test_a_lost_target_goes_on_in_the_same_snapshot(
    employees: MariaServer,
    odd: str,
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    dsn: str,
    spread: None,
    read: str,
) -> None:
    salaries(employees, odd)
    if read == "without key":
        employees.run("alter table salary drop primary key", odd)
    expected = theirs(employees, "select * from salary", odd)
    connection.execute(SALARY.encode())

    def strike() -> None:
        employees.run("delete from salary where emp_no % 2 = 0; update salary set amount = 0", odd)
        superuser.execute(
            b"select pg_terminate_backend(pid) from pg_stat_activity "
            b"where application_name = 'sqlkit' and datname = current_database()"
        )

    waits: list[str] = []
    with api.connect(dsn) as client:
        result = client.load(
            employees.url(odd, "salary"),
            into="public.salary",
            workers=3 if read == "by several" else 1,
            batch_bytes=100_000,
            progress=Once(strike),
            on_wait=lambda wait: waits.append(wait.reason),
        )
    assert waits
    assert result.rows == RowCounts(read=94_917, inserted=94_917)
    assert sorted(rows_of(connection, "salary")) == sorted(expected)


@pytest.mark.parametrize("policy", ["append", "error", "update"])
def test_a_load_that_was_killed_is_repeated_and_nothing_is_there_twice(
    employees: MariaServer,
    connection: psycopg.Connection,
    dsn: str,
    small_ranges: None,
    policy: str,
) -> None:
    connection.execute(SALARY.encode())
    if policy == "append":  # which nothing but the commit keeps from doing it twice
        connection.execute(b"alter table salary drop constraint salary_pkey")
    options: dict[str, Any] = {"into": "public.salary", "policy": policy, "batch_bytes": 100_000}

    def die() -> None:
        raise KeyboardInterrupt

    seen = itertools.count()

    def later(progress: LoadProgress) -> None:
        if next(seen) == 20:
            die()

    url = employees.url("employee", "salary")
    with api.connect(dsn) as client:
        with pytest.raises(KeyboardInterrupt):
            client.load(url, progress=later, **options)
        client.load(url, **options)
    expected = theirs(employees, "select * from salary", "employee")
    assert sorted(rows_of(connection, "salary")) == sorted(expected)


# What is said, and what is not ------------------------------------------------------------------


def test_errors_say_what_is_wrong(
    employees: MariaServer, connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    connection.execute(SALARY.encode())
    url = employees.url("employee", "salary")
    load = ("--into", "public.salary", "--dsn", dsn)

    wrong = sqlkit("load", url, *load, env={"MYSQL_PWD": "hunter2"})
    assert wrong.returncode == 1
    assert "Access denied for user 'app'" in wrong.stderr
    assert "MYSQL_PWD" in wrong.stderr
    assert "hunter2" not in wrong.stderr

    secret = url.replace("app@", "app:hunter2@")
    assert "hunter2" not in sqlkit("load", secret, *load).stderr

    absent = sqlkit("load", employees.url("employee", "salaries"), *load)
    assert absent.returncode == 1
    assert "there is no table salaries in employee" in absent.stderr
    assert "salary" in absent.stderr

    assert "no such database" in sqlkit("load", employees.url("nowhere", "t"), *load).stderr

    broken = sqlkit("load", employees.url("employee"), "--query", "select 1 frm salary x", *load)
    assert broken.returncode == 1
    assert "error in your SQL syntax" in broken.stderr

    nobody = sqlkit("load", url.replace(str(employees.port), "1"), *load)
    assert nobody.returncode == 1
    assert "cannot be connected to" in nobody.stderr

    assert sqlkit("load", employees.url("employee"), *load).returncode == 2
    assert sqlkit("load", url, "--query", "select 1", *load).returncode == 2


@pytest.mark.parametrize(
    "text",
    ["mysql://", "mysql://h", "mysql://u:hunter2@h:port/d#t", "mysql://u:hunter2@h/d?no=1#t"],
)
def test_addresses_that_cannot_be_read(text: str) -> None:
    from sqlkit.sources.mysql import source_of

    with pytest.raises(UsageError) as raised:
        source_of(text, None)
    assert "hunter2" not in str(raised.value)


def test_the_ledger_knows_no_secret(
    employees: MariaServer,
    connection: psycopg.Connection,
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from urllib.parse import quote

    monkeypatch.delenv("MYSQL_PWD")
    connection.execute(SALARY.encode())
    secret = quote(employees.password)
    url = employees.url("employee", "salary").replace("app@", f"app:{secret}@")
    with api.connect(dsn) as client:
        result = client.load(url, into="public.salary")
    assert result.sources[0].name == f"mysql://127.0.0.1:{employees.port}/employee#salary"
    for table in ("run", "source", "batch"):
        told = connection.execute(
            f"select to_jsonb(t)::text from sqlkit.{table} as t".encode()
        ).fetchall()
        assert told
        assert not any(secret in row[0] or employees.password in row[0] for row in told)


def test_a_query_that_names_a_column_twice(
    employees: MariaServer, connection: psycopg.Connection, dsn: str
) -> None:
    connection.execute(SALARY.encode())
    with api.connect(dsn) as client, pytest.raises(SourceError, match="names a column twice"):
        client.load(
            employees.url("employee"),
            query="select emp_no, emp_no from salary",
            into="public.salary",
        )


def test_the_session_is_given_its_settings_back(employees: MariaServer) -> None:
    from sqlkit.sources.mysql.address import parse_address
    from sqlkit.sources.mysql.session import Session as Reading

    watched = (
        "select @@session.time_zone, @@session.sql_mode, @@session.net_write_timeout, "
        "@@session.net_read_timeout, @@session.wait_timeout, @@session.max_statement_time, "
        "@@session.tx_isolation, @@in_transaction"
    )
    address = parse_address(employees.url("employee", "salary"))
    reading = Reading(address, "name", own_queries=True, again=False)
    try:
        during = reading.ask(watched)[0]
        reading.put_back()
        after = reading.ask(watched)[0]
    finally:
        reading.close()
    (untouched,) = theirs(employees, watched, "employee")
    assert during[0] == b"+00:00"
    assert during[2] == b"86400"
    assert during[7] == b"1"
    shown = [str(value).encode() for value in untouched]
    shown[5] = after[5] or b""  # the driver makes a float of it
    assert list(after) == shown


def test_an_extract_knows_of_no_key_and_the_plan_says_so(
    mariadb: MariaServer, odd: str, dsn: str, tmp_path: Path, sqlkit: RunSqlkit
) -> None:
    mariadb.run("create table z (id int primary key); insert into z values (1)", odd)
    (tmp_path / "sqlkit.yml").write_text(
        f"connections:\n  main: {{dsn: '${{DSN}}'}}\n  erp: {{url: '{mariadb.url(odd)}'}}\n"
        "tables:\n  public.z: {from: erp, source: z, cache: 1h, create: true}\n"
    )
    for command in ("plan", "run"):
        done = sqlkit(command, env={"DSN": dsn})
        assert done.returncode > 0
        assert "needs a key" in done.stdout + done.stderr, command
