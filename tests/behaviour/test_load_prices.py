"""Real shelf prices and promotions: ten files in date order, each one a new state of the same keys.

What must come out is known twice over: the counters from the notes beside the data, the end state
from a dictionary that Python's csv module fills.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from sqlkit.results import RowCounts
from tests.real_data import real_data

DAYS = ("2026-08-09", "2026-08-10", "2026-08-11", "2026-08-13", "2026-08-14")

Row = tuple[str | None, ...]
Key = tuple[str | None, ...]


class Feed(NamedTuple):
    """One series of files: where its key stands, and what each day must count."""

    name: str
    key: tuple[int, ...]  # positions, from 0
    counts: tuple[tuple[int, int, int], ...]  # inserted, updated, unchanged

    def __str__(self) -> str:
        return self.name


PRICES = Feed(
    "prices",
    (1, 2, 3),
    (
        (66_655, 0, 0),
        (8_833, 2_682, 63_687),
        (7_567, 831, 50_157),
        (586, 1_698, 56_281),
        (287, 418, 57_907),
    ),
)
PROMOS = Feed(
    "promos",
    (1, 2, 3, 4),
    (
        (68_303, 0, 0),
        (29_050, 290, 66_619),
        (3_536, 76, 60_351),
        (657, 329, 63_246),
        (300, 394, 63_807),
    ),
)


def files(feed: Feed) -> list[Path]:
    folder = real_data("prices")
    return [folder / f"israeli_{feed.name}_{day}.csv.gz" for day in DAYS]


def header(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
        return next(csv.reader(text))


def records(path: Path) -> Iterator[Row]:
    """The rows as PostgreSQL should see them: a field without characters is a null."""
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        next(reader)
        for record in reader:
            yield tuple(field or None for field in record)


def create_table(
    connection: psycopg.Connection, feed: Feed, columns: list[str], types: dict[str, str]
) -> None:
    connection.execute(
        sql.SQL("create table {} ({}, primary key ({}))").format(
            sql.Identifier(feed.name),
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(types.get(name, "text")))
                for name in columns
            ),
            sql.SQL(", ").join(sql.Identifier(columns[place]) for place in feed.key),
        )
    )


def key_of(feed: Feed, row: Row) -> Key:
    return tuple(row[place] for place in feed.key)


@pytest.mark.slow
@pytest.mark.parametrize(("feed", "workers"), [(PRICES, 1), (PROMOS, 3)], ids=str)
def test_every_day_counts_as_noted(
    feed: Feed, workers: int, connection: psycopg.Connection, dsn: str
) -> None:
    paths = files(feed)
    create_table(connection, feed, header(paths[0]), {})
    expected: dict[Key, Row] = {}
    with api.connect(dsn) as client:
        for path, (inserted, updated, unchanged) in zip(paths, feed.counts, strict=True):
            expected |= {key_of(feed, row): row for row in records(path)}
            result = client.load(path, into=f"public.{feed.name}", workers=workers)
            assert result.rows == RowCounts(
                read=inserted + updated + unchanged,
                inserted=inserted,
                updated=updated,
                unchanged=unchanged,
            )
        found = connection.execute(
            sql.SQL("select * from {}").format(sql.Identifier(feed.name))
        ).fetchall()
        assert len(found) == len(expected)
        assert {key_of(feed, row): row for row in found} == expected

        # Once more, all of them: they are known and not even read; read, the last day stands.
        assert {s.state for s in client.load(paths, into=f"public.{feed.name}").sources} == {
            "skipped"
        }
        last = client.load(paths[-1], into=f"public.{feed.name}", again=True)
        assert last.rows == RowCounts(read=sum(feed.counts[-1]), unchanged=sum(feed.counts[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("feed", [PRICES, PROMOS], ids=str)
def test_all_days_in_one_load_end_alike(
    feed: Feed, connection: psycopg.Connection, dsn: str
) -> None:
    """One call, atomic, in small batches: the sums of the days."""
    paths = files(feed)
    create_table(connection, feed, header(paths[0]), {})
    with api.connect(dsn) as client:
        result = client.load(paths, into=f"public.{feed.name}", atomic=True, batch_bytes=3_000_000)
    assert result.rows == RowCounts(
        read=sum(map(sum, feed.counts)),
        inserted=sum(day[0] for day in feed.counts),
        updated=sum(day[1] for day in feed.counts),
        unchanged=sum(day[2] for day in feed.counts),
    )
    expected = {key_of(feed, row): row for path in paths for row in records(path)}
    found = connection.execute(
        sql.SQL("select * from {}").format(sql.Identifier(feed.name))
    ).fetchall()
    assert {key_of(feed, row): row for row in found} == expected


def scaled(digits: int) -> Callable[[str], object]:
    """numeric(.., digits): equal values look the same, whatever zeros the file has."""
    return lambda text: Decimal(text).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def as_written(text: str) -> object:
    """numeric without a scale keeps the zeros that it was given: 1 and 1.00 are stored apart."""
    return format(Decimal(text), "f")


# A column's type, and how Python reads what it stores.
TYPES: dict[str, dict[str, tuple[str, Callable[[str], object]]]] = {
    "prices": {
        "מזהה רשת": ("bigint", int),
        "מזהה חנות": ("integer", int),
        "כמות": ("numeric", as_written),
        "מחיר (₪)": ("numeric(12, 2)", scaled(2)),
        "מחיר ליחידה (₪)": ("numeric(14, 4)", scaled(4)),
        "שקיל": ("smallint", int),
        "מותר הנחה": ("boolean", lambda text: text == "1"),
        "סטטוס": ("smallint", int),
        "עודכן": ("timestamp", datetime.fromisoformat),
    },
    "promos": {
        "מזהה רשת": ("bigint", int),
        "מזהה חנות": ("integer", int),
        "בתוקף עד": ("date", date.fromisoformat),
        "כמות מינימום": ("numeric(10, 2)", scaled(2)),
        "מחיר מבצע (₪)": ("numeric(12, 2)", scaled(2)),
        "מועדון": ("smallint", int),
        "קופון": ("smallint", int),
        "סוג הטבה": ("smallint", int),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("feed", [PRICES, PROMOS], ids=str)
def test_typed_columns_count_what_they_store(
    feed: Feed, connection: psycopg.Connection, dsn: str
) -> None:
    """The counters are those of the text columns: measured, no value is written in two ways.

    Where one were (1.5 today, 1.50 tomorrow), a column with a scale would count fewer updates than
    text does; numeric without one keeps the zeros, and would count the same.
    """
    paths = files(feed)
    columns = header(paths[0])
    types = TYPES[feed.name]
    create_table(connection, feed, columns, {name: types[name][0] for name in types})
    readers = [types.get(name, ("text", str))[1] for name in columns]
    stored: dict[tuple[object, ...], tuple[object, ...]] = {}
    with api.connect(dsn) as client:
        for path, (inserted, updated, unchanged) in zip(paths, feed.counts, strict=True):
            counts = Counter[str]()
            for row in records(path):
                typed = tuple(
                    None if field is None else read(field)
                    for read, field in zip(readers, row, strict=True)
                )
                key = tuple(typed[place] for place in feed.key)
                before = stored.get(key)
                counts["new" if before is None else "same" if before == typed else "other"] += 1
                stored[key] = typed
            assert (inserted, updated, unchanged) == (
                counts["new"],
                counts["other"],
                counts["same"],
            )
            assert client.load(path, into=f"public.{feed.name}").rows == RowCounts(
                read=inserted + updated + unchanged,
                inserted=inserted,
                updated=updated,
                unchanged=unchanged,
            )
    found = {
        tuple(row[place] for place in feed.key): tuple(
            str(value) if value is not None and types.get(name, "")[:1] == ("numeric",) else value
            for name, value in zip(columns, row, strict=True)
        )
        for row in connection.execute(
            sql.SQL("select * from {}").format(sql.Identifier(feed.name))
        ).fetchall()
    }
    assert found == stored
