"""A key that is absent, and one that is null: under policy fill they are not the same.

In a row that is there neither changes anything. A new row has the column's default for what is
absent, and null for a null.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit
from sqlkit.errors import RejectLimitError
from tests.conftest import Database

Row = dict[str, Any]

ROWS: list[Row] = [
    {"id": 1, "a": None, "b": None},
    {"id": 2, "b": 20},
    {"id": 2, "a": 9, "b": 30},
    {"id": 3, "a": 30},
    {"id": 4, "b": None, "note": "null"},
    {"id": 4, "b": 40},
    {"id": 5, "a": None, "note": None},
    {"id": 6, "a": 60, "b": 60, "note": "\t"},
]
THERE = [(1, 1, 1, "there"), (2, 2, None, None), (3, None, 3, None)]
END = [
    (1, 1, 1, "there"),
    (2, 2, 20, None),
    (3, 30, 3, None),
    (4, 7, 40, "null"),
    (5, None, None, None),
    (6, 60, 60, "\t"),
]


@pytest.fixture
def client(database: Database, connection: psycopg.Connection) -> Iterator[sqlkit.Client]:
    connection.execute(
        "create table part (id int primary key, a int default 7, b int, note text default 'none')"
    )
    with connection.cursor() as cursor:
        cursor.executemany("insert into part values (%s, %s, %s, %s)", THERE)
    with sqlkit.connect(database.dsn) as made:
        yield made


@pytest.fixture(params=["lines", "array", "paths", "mappings"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    """A source of each kind that knows, and how it is loaded."""
    if request.param == "mappings":
        return iter(ROWS), {}
    path = tmp_path / "rows.json.gz"
    options: dict[str, Any] = {}
    if request.param == "array":
        text = json.dumps(ROWS)
    else:
        rows = ROWS
        if request.param == "paths":
            # The object itself may be absent, or null.
            rows = [dict(row) for row in ROWS]
            for row in rows:
                row["in"] = {"a": row.pop("a")} if "a" in row else None
            del rows[1]["in"]
            options = {"map": {"in.a": "a"}, "leave_out": ["in"]}
        text = "\n".join(map(json.dumps, rows))
    path.write_bytes(gzip.compress(text.encode()))
    return path, options


def content(connection: psycopg.Connection) -> list[Any]:
    return connection.execute("select * from part order by id").fetchall()


def test_a_new_row_has_defaults_for_what_is_absent(
    client: sqlkit.Client, connection: psycopg.Connection, given: tuple[Any, dict[str, Any]]
) -> None:
    source, options = given
    result = client.load(source, into="public.part", policy="fill", workers=2, **options)
    assert (result.rows.inserted, result.rows.updated, result.rows.duplicates) == (3, 2, 2)
    assert content(connection) == END


def test_other_policies_have_nulls(
    client: sqlkit.Client, connection: psycopg.Connection, given: tuple[Any, dict[str, Any]]
) -> None:
    source, options = given
    client.load(source, into="public.part", policy="ignore", **options)
    assert content(connection)[3:5] == [(4, None, None, "null"), (5, None, None, None)]


def test_a_column_that_never_turns_up_has_its_default(
    client: sqlkit.Client, connection: psycopg.Connection
) -> None:
    client.load([{"id": 8, "b": 1}], into="public.part", policy="fill")
    assert content(connection)[-1] == (8, 7, 1, "none")


def test_tuples_and_objects_say_null(client: sqlkit.Client, connection: psycopg.Connection) -> None:
    rows = [(8, None, 1, None)]
    client.load(rows, into="public.part", policy="fill", columns=["id", "a", "b", "note"])
    assert content(connection)[-1] == (8, None, 1, None)


def test_null_is_no_value_where_there_has_to_be_one(
    client: sqlkit.Client, connection: psycopg.Connection, given: tuple[Any, dict[str, Any]]
) -> None:
    """Found one by one, and written to be mended, rows still are what they were."""
    connection.execute("delete from part")
    connection.execute("alter table part alter a set not null, add check (a < 60)")
    source, options = given
    with pytest.raises(RejectLimitError):
        client.load(
            list(ROWS) if not isinstance(source, Path) else source,
            into="public.part",
            policy="fill",
            **options,
        )
    result = client.load(source, into="public.part", policy="fill", reject_limit=9, **options)
    found = client.rejects(result.run_id)
    numbers = [reject["record"] or reject["first_line"] for reject in found]
    assert list(zip(numbers, [reject["sqlstate"] for reject in found], strict=True)) == [
        (1, "23502"),
        (7, "23502"),
        (8, "23514"),
    ]
    assert content(connection) == [(2, 7, 20, "none"), (3, 30, None, "none"), (4, 7, 40, "null")]
    raws = [json.loads(reject["raw"]) for reject in found]
    assert ["note" in raw for raw in raws] == [False, True, True]
    connection.execute("alter table part alter a drop not null")
    assert result.run_id is not None
    client.replay_rejects(result.run_id, reject_limit=1)
    assert content(connection)[0] == (1, None, None, "none")
    assert content(connection)[-1] == (5, None, None, None)


def test_workers_of_an_executor_tell_it_too(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path
) -> None:
    for number in range(2):
        lines = [json.dumps(row) for row in ROWS[number::2]]
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines))
    client.load(
        tmp_path / "*.jsonl", into="public.part", policy="fill", workers=2, executor="processes"
    )
    assert [row[1] for row in content(connection)] == [1, 2, 30, 7, None, 60]
