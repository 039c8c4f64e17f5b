"""A year of flights with its real foreign keys, in every way that a load can go.

The demo loads the whole of it on every version (see test_demo); here are other policies, batches
and workers, on a part of it where that is enough.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit.demo import FILES, NULL, create_tables, find_data, read_flights
from sqlkit.results import RowCounts
from tests.conftest import Database

NAMES = api.Dialect(null=NULL)
PARENTS = ("airline", "airport", "plane", "weather")


@pytest.fixture(scope="module")
def data() -> Path:
    return find_data()


@pytest.fixture
def parents(database: Database, dsn: str, data: Path) -> Iterator[api.Client]:
    """A client, and the tables that flights refer to, loaded."""
    with database.preparing():
        create_tables(dsn)
    with api.connect(dsn) as client:
        for table in PARENTS:
            client.load(data / FILES[table], into=f"nycflights.{table}", dialect=NAMES)
        yield client


def rows_of(path: Path) -> int:
    with path.open(encoding="utf-8", newline="") as text:
        return sum(1 for _ in csv.reader(text)) - 1


def test_parents_are_whole(parents: api.Client, data: Path, connection: psycopg.Connection) -> None:
    for table in PARENTS:
        count = connection.execute(f"select count(*) from nycflights.{table}".encode()).fetchone()
        assert count == (rows_of(data / FILES[table]),)


@pytest.mark.slow
def test_flights_arrive_in_small_batches(
    parents: api.Client, data: Path, connection: psycopg.Connection
) -> None:
    path = data / FILES["flight"]
    result = parents.load(
        path, into="nycflights.flight", dialect=NAMES, workers=3, batch_bytes=8_000_000
    )
    assert result.rows == RowCounts(read=336_776, inserted=336_776)
    assert result.batches > 3
    assert connection.execute(
        "select count(*), count(*) filter (where dep_time is null), count(distinct tailnum), "
        "sum(distance) from nycflights.flight"
    ).fetchone() == (336_776, 8_255, 4_043, 350_217_607)
    again = parents.load(path, into="nycflights.flight", dialect=NAMES, again=True)
    assert again.rows == RowCounts(read=336_776, unchanged=336_776)


@pytest.fixture
def january(data: Path, tmp_path: Path) -> Path:
    """The flights of the first ten days, in a zip archive like the whole."""
    path = tmp_path / "flights.csv.zip"
    rows = read_flights(data)
    lines = [next(rows)]
    lines += [row for row in rows if row[1] == "1" and int(row[2]) <= 10]
    text = "\r\n".join(",".join(row) for row in lines) + "\r\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flights.csv", text)
    return path


def test_values_are_those_of_the_file(
    parents: api.Client, january: Path, connection: psycopg.Connection
) -> None:
    parents.load(january, into="nycflights.flight", dialect=NAMES)
    with zipfile.ZipFile(january) as archive:
        rows = list(csv.reader(archive.read("flights.csv").decode().splitlines()))
    header, rows = rows[0], rows[1:]
    columns = ", ".join(
        "to_char(time_hour at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        if name == "time_hour"
        else f"{name}::text"
        for name in header
    )
    found = connection.execute(f"select {columns} from nycflights.flight".encode()).fetchall()
    assert sorted(
        tuple("" if value is None else value for value in row) for row in found
    ) == sorted(tuple("" if value == NULL else value for value in row) for row in rows)


@pytest.mark.parametrize("policy", ["update", "append", "ignore", "fill", "error"])
def test_flights_of_an_unknown_airline_are_refused(
    parents: api.Client, january: Path, connection: psycopg.Connection, policy: str
) -> None:
    """The foreign key holds whatever way a load goes, and tells the line."""
    connection.execute("delete from nycflights.airline where carrier = 'HA'")
    with pytest.raises(api.RejectLimitError) as caught:
        parents.load(january, into="nycflights.flight", dialect=NAMES, policy=policy)
    assert "flight_carrier_fkey" in (caught.value.detail or "")
    assert connection.execute("select count(*) from nycflights.flight").fetchone() == (0,)
    result = parents.load(
        january, into="nycflights.flight", dialect=NAMES, policy=policy, reject_limit=None
    )
    missing = connection.execute("select count(*) from sqlkit.reject where batch_id > 0").fetchone()
    assert missing == (result.rows.rejected,)
    assert result.rows.rejected > 0
    assert result.rows.inserted == result.rows.read - result.rows.rejected
