"""Policy history: versions of real prices, rejects, refusals, and a load killed half way."""

from __future__ import annotations

import random
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from sqlkit import SqlkitError, UsageError
from sqlkit.results import RowCounts
from tests.behaviour.test_load_prices import DAYS, PRICES, files, header, key_of, records
from tests.conftest import Database, RunSqlkit
from tests.crash.conftest import (
    StartLoad,
    held_up,
    start_load,
    value,
    wait_until,
    waiting_for_target,
)
from tests.merge_model import History

__all__ = ["start_load"]

DEVICE = (
    "create table {} (device inet not null, name text, seen timestamptz not null, "
    "valid tstzrange not null, "
    "exclude using gist (device inet_ops with =, valid with &&))"
)


def create(connection: psycopg.Connection, name: str = "target") -> None:
    connection.execute(DEVICE.format(name).encode())


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 4, 2, 1, 3)], ids=["in order", "late"])
def test_real_prices_are_kept_by_day(
    order: tuple[int, ...],
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    dsn: str,
) -> None:
    """Where days come in order, the table says as of each day what that day's file says."""
    columns = header(files(PRICES)[0])
    superuser.execute("create extension btree_gist")
    wanted = sql.SQL(", ")
    key = [sql.Identifier(columns[place]) for place in PRICES.key]
    connection.execute(
        sql.SQL(
            "create table price_history ({}, {}, day date not null, valid daterange not null, "
            "primary key ({}, valid without overlaps))"
        ).format(
            wanted.join(sql.SQL("{} text not null").format(name) for name in key),
            wanted.join(
                sql.SQL("{} text").format(sql.Identifier(name))
                for place, name in enumerate(columns)
                if place not in PRICES.key
            ),
            wanted.join(key),
        )
    )
    days = [list(records(path))[:4_000] for path in files(PRICES)]
    model = History(PRICES.key, order_by=len(columns))
    with api.connect(dsn) as client:
        for place in order:
            rows = [(*row, DAYS[place]) for row in days[place]]
            result = client.load(
                rows,
                into="public.price_history",
                policy="history",
                columns=(*columns, "day"),
                order_by="day",
            )
            assert result.rows == model.merge(rows)
    found = connection.execute(
        sql.SQL(
            "select {}, day::text, lower(valid)::text, upper(valid)::text from price_history"
        ).format(wanted.join(map(sql.Identifier, columns)))
    ).fetchall()
    assert sorted(found, key=str) == sorted(
        (
            (*version.row, version.begins, version.ends)
            for versions in model.versions.values()
            for version in versions
        ),
        key=str,
    )
    # A late row may be valid where an unchanged one, that left no trace, was seen after it.
    for place, rows in enumerate(days if order == (0, 1, 2, 3, 4) else []):
        as_of = connection.execute(
            sql.SQL("select {} from price_history where valid @> %s::date").format(
                wanted.join(map(sql.Identifier, columns))
            ),
            [DAYS[place]],
        ).fetchall()
        by_key = {key_of(PRICES, row): row for row in as_of}
        assert all(by_key[key_of(PRICES, row)] == row for row in rows)


def test_bad_rows_are_rejects(
    connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    create(connection)
    (tmp_path / "a.csv").write_text(
        "device,name,seen\n10.0.0.1,a,2024-01-01\n10.0.0.1,late,\n,b,2024-01-01\n"
        "10.0.0.2,c,yesterday noon\n10.0.0.1,d,2024-02-01\n"
    )
    load = ("load", "a.csv", "--into", "public.target", "--policy", "history", "--order-by", "seen")
    done = sqlkit(*load, "--reject-limit", "3", "--dsn", dsn)
    assert done.returncode == 3, done.stderr
    assert "5 rows read: 2 inserted, 3 rejected" in done.stdout
    assert value(
        connection, "select array_agg(sqlstate order by first_line) from sqlkit.reject"
    ) == ["23502", "23502", "22007"]
    assert connection.execute(
        "select name, upper_inf(valid) from target order by 1"
    ).fetchall() == [
        ("a", False),
        ("d", True),
    ]


def test_what_is_refused(connection: psycopg.Connection, dsn: str) -> None:
    create(connection)
    connection.execute("create table other (id integer primary key, name text)")
    rows = [{"device": "10.0.0.1", "name": "a", "seen": "2024-01-01"}]
    with api.connect(dsn) as client:
        with pytest.raises(UsageError) as refused:
            client.load(rows, into="public.new", policy="history", key="device", create=True)
        assert refused.value.code == "SK212"
        with pytest.raises(SqlkitError) as unsuitable:
            client.load([{"id": 1, "name": "a"}], into="public.other", policy="history")
        assert unsuitable.value.code == "SK212"
        assert "without overlaps" in (unsuitable.value.hint or "")
        with pytest.raises(SqlkitError) as extra:
            client.load(
                [rows[0] | {"valid": "x"}], into="public.target", policy="history", order_by="seen"
            )
        assert "valid" in str(extra.value)
        # Nothing of it needs an extension, a column for the moment, or more than one stream.
        assert client.load(
            rows, into="public.target", policy="history", order_by="seen"
        ).rows == RowCounts(read=1, inserted=1)


@pytest.mark.oldest_and_newest
def test_a_load_that_is_killed_ends_like_one_that_is_not(
    database: Database,
    connection: psycopg.Connection,
    start_load: StartLoad,
    tmp_path: Path,
) -> None:
    """Late rows, corrections and repetitions over many batches; killed in the midst of them."""
    create(connection)
    create(connection, "undisturbed")
    choose = random.Random(6)
    lines = [
        f"10.0.{choose.randrange(40)}.1,{choose.choice('abc')},2024-01-{choose.randrange(1, 29):02}"
        for _ in range(3_000)
    ]
    (tmp_path / "a.csv").write_text("\n".join(["device,name,seen", *lines]) + "\n")
    options = ["a.csv", "--policy", "history", "--order-by", "seen"]
    connection.execute(
        "create function slow() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.05); return null; end $$"
    )
    connection.execute(
        "create trigger slow after insert on target for each statement execute function slow()"
    )
    load = start_load(database.dsn, *options, "--batch-bytes", "9000")
    wait_until(lambda: value(connection, "select count(*) from sqlkit.batch") >= 2)
    with held_up(database):
        wait_until(lambda: waiting_for_target(connection))
        load.kill()
    result = start_load(database.dsn, *options, "--batch-bytes", "20000").result()
    assert 0 < result["rows"]["read"] < 3_000
    with api.connect(database.dsn) as client:
        client.load(
            tmp_path / "a.csv",
            into="public.undisturbed",
            policy="history",
            order_by="seen",
            workers=1,
        )
    assert value(connection, "select sum(rows_read)::integer from sqlkit.batch") == 6_000
    assert (
        value(
            connection,
            "select count(*) from ((table target except all table undisturbed) "
            "union all (table undisturbed except all table target)) as d",
        )
        == 0
    )
    assert value(connection, "select count(*) > 500 from target")
