"""The cases of csv-spectrum: each file has a JSON twin that says what it means."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from tests.real_data import real_data

CASES = (
    "comma_in_quotes",
    "empty",
    "empty_crlf",
    "escaped_quotes",
    "json",
    "newlines",
    "newlines_crlf",
    "quotes_and_newlines",
    "simple",
    "simple_crlf",
    "utf8",
)


def load(path: Path, connection: psycopg.Connection, dsn: str) -> list[dict[str, str | None]]:
    """Load a file into columns of text and give its rows back, in their order."""
    with path.open(encoding="utf-8", newline="") as text:
        columns = next(csv.reader(text))
    connection.execute(
        sql.SQL("create table spectrum ({}, position bigint generated always as identity)").format(
            sql.SQL(", ").join(
                sql.SQL("{} text").format(sql.Identifier(column)) for column in columns
            )
        )
    )
    with api.connect(dsn) as client:
        client.load(path, into="public.spectrum", policy="append")
    found = connection.execute(
        sql.SQL("select {} from spectrum order by position").format(
            sql.SQL(", ").join(map(sql.Identifier, columns))
        )
    ).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in found]


def test_no_case_is_forgotten() -> None:
    folder = real_data("malformed", "csv-spectrum-csv")
    assert {path.stem for path in folder.glob("*.csv")} == {*CASES, "location_coordinates"}


@pytest.mark.parametrize("case", CASES)
def test_a_file_means_what_its_twin_says(
    case: str, connection: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    twin = json.loads(real_data("malformed", "csv-spectrum-json", f"{case}.json").read_text())
    path = real_data("malformed", "csv-spectrum-csv", f"{case}.csv")
    if case.endswith("_crlf"):
        # On its way here the file has lost what it is named for; its twin has not.
        assert b"\r" not in path.read_bytes()
        path = tmp_path / path.name
        original = real_data("malformed", "csv-spectrum-csv", path.name).read_bytes()
        path.write_bytes(original.replace(b"\n", b"\r\n"))
    # A quoted "" is an empty text, which only the unquoted nothing of `null` is not.
    assert load(path, connection, dsn) == twin


def test_coordinates(connection: psycopg.Connection, dsn: str) -> None:
    """Quotes within an unquoted field are data. The twin is of another record, and no list.

    Upstream's file lost its degree signs: U+FFFD stands there in valid UTF-8, in both files. Their
    telephone numbers differ, which no reader of CSV can account for; all else is compared.
    """
    path = real_data("malformed", "csv-spectrum-csv", "location_coordinates.csv")
    twin = json.loads(
        real_data("malformed", "csv-spectrum-json", "location_coordinates.json").read_text()
    )
    (found,) = load(path, connection, dsn)
    assert twin["Contact Phone Number"] == "1234567890"
    assert found == twin | {"Contact Phone Number": "2095257564"}
    assert found["Location Coordinates"] == "37\ufffd36'37.8\"N 121\ufffd2'17.9\"W"
