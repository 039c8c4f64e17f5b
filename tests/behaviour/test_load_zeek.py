"""Real network logs, JSON lines: to typed columns by key, and whole into one column.

Keys hold dots, and are absent rather than null; numbers must come out as they are written.
"""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from sqlkit.results import RowCounts
from tests.real_data import real_data

Record = dict[str, Any]


def records(path: Path) -> list[Record]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line, parse_float=Decimal) for line in lines]


def columns_of(found: list[Record]) -> list[str]:
    return list({key: None for record in found for key in record})


def typed(found: list[Record], column: str) -> str:
    """A type that keeps every value of a column exactly."""
    kinds = {type(record[column]) for record in found if column in record}
    if kinds & {list, dict}:
        return "jsonb"
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "bigint"
    if kinds <= {int, Decimal}:
        return "numeric"
    return "timestamptz" if column in ("ts", "_write_ts") else "text"


def create_table(
    connection: psycopg.Connection, name: str, found: list[Record], key: str | None
) -> list[str]:
    columns = columns_of(found)
    connection.execute(
        sql.SQL("create table {} ({})").format(
            sql.Identifier(name),
            sql.SQL(", ").join(
                sql.SQL("{} {}{}").format(
                    sql.Identifier(column),
                    sql.SQL(typed(found, column)),
                    sql.SQL(" primary key" if column == key else ""),
                )
                for column in columns
            ),
        )
    )
    return columns


def stored(connection: psycopg.Connection, name: str, columns: list[str]) -> list[Record]:
    """The rows as JSON, nulls left out, so that they compare with the lines they came from."""
    query = sql.SQL("select json_strip_nulls(json_build_object({}))::text from {}").format(
        sql.SQL(", ").join(
            sql.SQL("{}, {}").format(
                sql.Literal(column),
                # As the logs write it.
                sql.SQL(
                    "to_char({} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
                ).format(sql.Identifier(column))
                if column in ("ts", "_write_ts")
                else sql.Identifier(column),
            )
            for column in columns
        ),
        sql.Identifier(name),
    )
    return [json.loads(text, parse_float=Decimal) for (text,) in connection.execute(query)]


def in_order(found: list[Record]) -> list[str]:
    return sorted(json.dumps(record, sort_keys=True, default=str) for record in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lines", "key"),
    [
        ("ssl", 49_474, "uid"),
        ("dns", 53_615, None),
        ("weird", 24_202, None),
        ("notice", None, None),
    ],
)
def test_keys_go_into_columns(
    name: str, lines: int | None, key: str | None, connection: psycopg.Connection, dsn: str
) -> None:
    path = real_data("zeek", f"{name}.json.gz")
    found = records(path)
    assert lines in (None, len(found))
    columns = create_table(connection, name, found, key)
    assert any("." in column for column in columns)
    policy = "append" if key is None else "update"
    with api.connect(dsn) as client:
        result = client.load(path, into=f"public.{name}", policy=policy)
        assert result.rows == RowCounts(read=len(found), inserted=len(found))
        assert in_order(stored(connection, name, columns)) == in_order(found)
        if key is not None:
            again = client.load(path, into=f"public.{name}", again=True, batch_bytes=4_000_000)
            assert again.rows == RowCounts(read=len(found), unchanged=len(found))


def test_a_key_that_repeats_leaves_the_last(connection: psycopg.Connection, dsn: str) -> None:
    """dns: 53,615 lines, of which 34,432 have a `uid` that another one has."""
    path = real_data("zeek", "dns.json.gz")
    found = records(path)
    columns = create_table(connection, "dns", found, "uid")
    expected = {record["uid"]: record for record in found}
    duplicates = len(found) - len(expected)
    assert duplicates == 34_432
    with api.connect(dsn) as client:
        result = client.load(path, into="public.dns")
    assert result.rows == RowCounts(read=len(found), inserted=len(expected), duplicates=duplicates)
    assert in_order(stored(connection, "dns", columns)) == in_order(list(expected.values()))


@pytest.mark.parametrize("name", ["ssl", "weird"])
def test_lines_go_whole_into_one_column(
    name: str, connection: psycopg.Connection, dsn: str
) -> None:
    path = real_data("zeek", f"{name}.json.gz")
    found = records(path)
    connection.execute("create table raw (body jsonb)")
    with api.connect(dsn) as client:
        result = client.load(path, into="public.raw", whole="body", policy="append")
    assert result.rows == RowCounts(read=len(found), inserted=len(found))
    bodies = connection.execute("select body::text from raw").fetchall()
    # What is appended may come by several streams, in any order.
    stored_bodies = [json.loads(text, parse_float=Decimal) for (text,) in bodies]
    assert in_order(stored_bodies) == in_order(found)
