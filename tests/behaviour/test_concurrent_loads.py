"""Several programs at once: each row of a source is loaded once, whoever comes first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit as api
from sqlkit.results import RowCounts

ROWS = 20_000


@pytest.fixture
def item(connection: psycopg.Connection) -> str:
    connection.execute("create table item (id integer, name text)")
    return "public.item"


def write(path: Path, first: int, last: int, name: str) -> Path:
    path.write_text("id,name\n" + "".join(f"{n},{name} {n}\n" for n in range(first, last + 1)))
    return path


def load_at_once(dsn: str, calls: list[dict[str, Any]]) -> list[api.LoadResult]:
    def load(options: dict[str, Any]) -> api.LoadResult:
        with api.connect(dsn) as client:
            return client.load(**options)

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(load, calls))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_bytes": 20_000},
        {"batch_bytes": 20_000, "workers": 1},
        {},
        {"atomic": True, "batch_bytes": 20_000},
    ],
    ids=str,
)
@pytest.mark.parametrize("policy", ["append", "update", "ignore"])
def test_the_same_file_is_loaded_once(
    dsn: str,
    item: str,
    tmp_path: Path,
    connection: psycopg.Connection,
    policy: str,
    options: dict[str, Any],
) -> None:
    if policy != "append":
        connection.execute("alter table item add primary key (id)")
    path = write(tmp_path / "a.csv", 1, ROWS, "name")
    call = {"sources": path, "into": item, "policy": policy, **options}
    results = load_at_once(dsn, [call] * 4)
    total = RowCounts()
    for result in results:
        total += result.rows
    assert total == RowCounts(read=ROWS, inserted=ROWS)
    assert connection.execute("select count(*), count(distinct id) from item").fetchone() == (
        ROWS,
        ROWS,
    )
    assert connection.execute("select count(*), min(state) from sqlkit.source").fetchone() == (
        1,
        "loaded",
    )
    assert connection.execute("select distinct state from sqlkit.run").fetchall() == [("done",)]
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


@pytest.mark.parametrize("policy", ["update", "ignore", "fill"])
def test_different_files_into_one_table(
    dsn: str, item: str, tmp_path: Path, connection: psycopg.Connection, policy: str
) -> None:
    """The order of whole programs is theirs; no key is lost and none is there twice."""
    connection.execute("alter table item add primary key (id)")
    paths = [
        write(tmp_path / f"{n}.csv", n * 2_000 + 1, n * 2_000 + 6_000, f"from {n}")
        for n in range(4)
    ]
    calls = [
        {"sources": path, "into": item, "policy": policy, "batch_bytes": 30_000} for path in paths
    ]
    results = load_at_once(dsn, calls)
    assert sum(result.rows.read for result in results) == 24_000
    assert sum(result.rows.inserted for result in results) == 12_000
    assert connection.execute("select count(*), max(id) from item").fetchone() == (12_000, 12_000)
    # Each row is one that a file had.
    assert connection.execute(
        "select count(*) from item where name !~ '^from [0-3] ' "
        "or id not between substr(name, 6, 1)::integer * 2000 + 1 "
        "and substr(name, 6, 1)::integer * 2000 + 6000"
    ).fetchone() == (0,)


def test_an_empty_table_is_filled_by_two_at_once(
    dsn: str, item: str, tmp_path: Path, connection: psycopg.Connection
) -> None:
    """One of them gets the bare heap for itself, the other waits and merges."""
    connection.execute("alter table item add primary key (id)")
    paths = [
        write(tmp_path / "a.csv", 1, 300_000, "a"),
        write(tmp_path / "b.csv", 200_001, 500_000, "b"),
    ]
    assert all(path.stat().st_size > 4 << 20 for path in paths)
    results = load_at_once(dsn, [{"sources": path, "into": item} for path in paths])
    assert sorted(result.rows.inserted for result in results) == [200_000, 300_000]
    assert sum(result.rows.updated for result in results) == 100_000
    assert connection.execute("select count(*) from item").fetchone() == (500_000,)
    assert connection.execute(
        "select indisprimary, indisvalid from pg_index where indrelid = 'item'::regclass"
    ).fetchall() == [(True, True)]
