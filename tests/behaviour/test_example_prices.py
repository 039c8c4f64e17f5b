"""sqlkit init --example prices: days of files land raw, and become products, prices and more."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, RunSqlkit
from tests.real_data import real_data

DAYS = ("2026-08-09", "2026-08-10", "2026-08-11", "2026-08-13", "2026-08-14")

Row = dict[str, str]
Made = tuple[tuple[Any, ...], tuple[Any, ...]]
"""A key, and what belongs to it."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, sqlkit: RunSqlkit) -> Path:
    """The folder of the example."""
    monkeypatch.setenv("SQLKIT_DSN", dsn)
    done = sqlkit("init", "--example", "prices")
    assert done.returncode == 0, done.stderr
    return tmp_path


def run(sqlkit: RunSqlkit, *arguments: str) -> dict[str, dict[str, int]]:
    """What became of the rows of each table, without the zeros."""
    done = sqlkit("run", *arguments, "--json", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        table["table"]: {name: rows for name, rows in table["result"]["rows"].items() if rows}
        for table in json.loads(done.stdout)["tables"]
    }


def test_it_runs_as_it_is_made(
    project: Path, sqlkit: RunSqlkit, database: Database, connection: psycopg.Connection
) -> None:
    with database.preparing():  # its first step makes schemas
        found = run(sqlkit)
        again = run(sqlkit)
    assert found["raw.price"] == {"read": 6, "inserted": 6}
    assert found["shop.chain"] == {"read": 2, "inserted": 2}
    assert found["chains with promotions only"] == {"read": 2, "inserted": 1, "unchanged": 1}
    assert found["shop.price"] == {"read": 6, "inserted": 5, "unchanged": 1}
    query = "select price, valid::text from shop.price where barcode = '0002' order by valid"
    assert connection.execute(query).fetchall() == [
        (Decimal("7.90"), "[2026-01-01,2026-01-02)"),
        (Decimal("8.90"), "[2026-01-02,)"),
    ]
    query = "select price from shop.price_now where barcode = '0002'"
    assert connection.execute(query).fetchall() == [(Decimal("8.90"),)]
    assert not any(again.values())
    for command in ("test", "lint"):
        done = sqlkit("sql", command)
        assert done.returncode == 0, done.stdout + done.stderr
    done = sqlkit("init", "elsewhere", "--example", "no")
    assert (done.returncode, "One of first, prices, mysql" in done.stderr) == (2, True)


# All days, against an independent computation ------------------------------------------------


def records(file: Path) -> Iterator[Row]:
    with gzip.open(file, "rt", encoding="utf-8-sig", newline="") as lines:
        yield from csv.DictReader(lines)


def known(value: str) -> str | None:
    return None if value in ("", "לא ידוע") else value


def number(value: str, places: str | None = None) -> str | None:
    """As numeric writes it; of a scale, if there is one."""
    if not re.fullmatch(r"-?[0-9]+([.][0-9]+)?", value):
        return None
    found = Decimal(value)
    return str(found if places is None else found.quantize(Decimal(places), ROUND_HALF_UP))


def chain(row: Row) -> Made:
    return (int(row["מזהה רשת"]),), (row["רשת"],)


def store(row: Row) -> Made:
    return (int(row["מזהה רשת"]), row["מזהה חנות"]), ()


def product(row: Row) -> Made:
    return (int(row["מזהה רשת"]), row["ברקוד"]), (
        row["שם מוצר"],
        known(row["יצרן"]),
        known(row["ארץ ייצור"]),
        number(row["כמות"]),
        known(row["יחידת כמות"]),
        row["שקיל"] == "1",
    )


def price(row: Row) -> Made:
    return (int(row["מזהה רשת"]), row["מזהה חנות"], row["ברקוד"]), (
        number(row["מחיר (₪)"], "0.01"),
        number(row["מחיר ליחידה (₪)"], "0.01"),
        row["מותר הנחה"] == "1",
    )


def promotion(row: Row) -> Made:
    key = (int(row["מזהה רשת"]), row["מזהה חנות"], row["ברקוד"], row["מזהה מבצע"])
    return key, (
        row["תיאור מבצע"],
        date.fromisoformat(row["בתוקף עד"]),
        number(row["כמות מינימום"]),
        number(row["מחיר מבצע (₪)"], "0.01"),
        number(row["שיעור הנחה"]),
        row["מועדון"] == "1",
        row["קופון"] == "1",
        int(row["סוג הטבה"]),
    )


class Table:
    """What a table holds, and what becomes of the rows of a day, one by one."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def merge(
        self, made: list[Made], *, is_distinct: bool, policy: str = "update"
    ) -> dict[str, int]:
        last = dict(made)
        counts = {"read": len(last) if is_distinct else len(made)}
        counts["duplicates"] = counts["read"] - len(last)
        for key, values in last.items():
            if key not in self.rows:
                what = "inserted"
            elif policy == "ignore":
                what = "ignored"
            else:
                what = "unchanged" if self.rows[key] == values else "updated"
            counts[what] = counts.get(what, 0) + 1
            if what in ("inserted", "updated"):
                self.rows[key] = values
        return {name: rows for name, rows in counts.items() if rows}


class History(Table):
    """What a table keeps every version of."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[tuple[Any, ...], list[tuple[tuple[Any, ...], date]]] = {}

    def add(self, made: list[Made], day: date) -> dict[str, int]:
        """The counts of a day, later than those before it, on which no key is told twice."""
        new = 0
        for key, values in made:
            versions = self.versions.setdefault(key, [])
            if not versions or versions[-1][0] != values:
                versions.append((values, day))
                new += 1
        counts = {"read": len(made), "inserted": new, "unchanged": len(made) - new}
        return {name: rows for name, rows in counts.items() if rows}

    @property
    def all_rows(self) -> set[tuple[Any, ...]]:
        """Each version with the day on which it began, and that on which it ended."""
        found = set()
        for key, versions in self.versions.items():
            ends = [*(day for _, day in versions[1:]), None]
            for (values, day), end in zip(versions, ends, strict=True):
                found.add((*key, *values, day, end))
        return found


COLUMNS = {
    "shop.chain": "chain_id, name",
    "shop.store": "chain_id, store_id",
    "shop.product": "chain_id, barcode, name, manufacturer, country, quantity::text, "
    "unit, is_weighed",
    "shop.price": "chain_id, store_id, barcode, price::text, unit_price::text, allows_discount, "
    "lower(valid), upper(valid)",
    "shop.promotion": "chain_id, store_id, barcode, promotion_id, description, ends_on, "
    "least_quantity::text, price::text, discount::text, is_for_club, is_coupon, reward",
}


@pytest.mark.slow
def test_all_days_of_real_files(
    project: Path, sqlkit: RunSqlkit, database: Database, connection: psycopg.Connection
) -> None:
    files = real_data("prices")
    for kind in ("prices", "promos"):
        there = sorted(file.name for file in files.glob(f"israeli_{kind}_*"))
        assert there == [f"israeli_{kind}_{day}.csv.gz" for day in DAYS]
    for sample in (project / "data").iterdir():
        sample.unlink()
    tables = {name: Table() for name in COLUMNS if name != "shop.price"}
    prices = History()
    raw = {"raw.price": 0, "raw.promo": 0}
    for day in DAYS:
        made: dict[str, list[Row]] = {}
        for kind, name in (("prices", "raw.price"), ("promos", "raw.promo")):
            file = files / f"israeli_{kind}_{day}.csv.gz"
            (project / "data" / file.name).symlink_to(file)
            made[name] = list(records(file))
            raw[name] += len(made[name])
        with database.preparing():
            found = run(sqlkit)
        for name, rows in made.items():
            assert found[name] == {"read": len(rows), "inserted": len(rows)}

        def check(
            entry: str, target: str, source: str, make: Callable[[Row], Made], **how: Any
        ) -> None:
            rows = [make(row) for row in made[source]]  # noqa: B023 - called at once
            wanted = tables[target].merge(rows, **how)
            assert found[entry] == wanted, (day, entry)  # noqa: B023

        check("shop.chain", "shop.chain", "raw.price", chain, is_distinct=True)
        check("chains with promotions only", "shop.chain", "raw.promo", chain, is_distinct=True)
        ignore = {"is_distinct": True, "policy": "ignore"}
        check("shop.store", "shop.store", "raw.price", store, **ignore)
        check("stores with promotions only", "shop.store", "raw.promo", store, **ignore)
        check("shop.product", "shop.product", "raw.price", product, is_distinct=False)
        wanted = prices.add(list(map(price, made["raw.price"])), date.fromisoformat(day))
        assert found["shop.price"] == wanted, day
        check("shop.promotion", "shop.promotion", "raw.promo", promotion, is_distinct=False)
    for name, columns in COLUMNS.items():
        query = f"select {columns} from {name}"
        stored = connection.execute(query).fetchall()
        if name == "shop.price":
            wanted_rows = prices.all_rows
        else:
            wanted_rows = {(*key, *values) for key, values in tables[name].rows.items()}
        assert (len(stored), set(stored)) == (len(wanted_rows), wanted_rows)
    for name, number_of_rows in raw.items():
        query = f"select count(*), count(distinct source_file) from {name}"
        assert connection.execute(query).fetchall() == [(number_of_rows, len(DAYS))]
