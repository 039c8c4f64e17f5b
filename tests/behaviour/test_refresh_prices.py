"""Real shelf prices, mirrored day by day: chains and stores come and go.

What must come out is known from a dictionary that Python's csv module fills.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from sqlkit.results import RowCounts
from tests.behaviour.test_load_prices import (
    DAYS,
    PRICES,
    PROMOS,
    Feed,
    Key,
    Row,
    create_table,
    files,
    header,
    key_of,
    records,
)
from tests.conftest import RunSqlkit


@dataclass
class Mirror:
    """A table that is told of some shops at a time."""

    feed: Feed
    rows: dict[Key, Row] = field(default_factory=dict)

    def refresh(self, new: list[Row], scope: tuple[int, ...]) -> tuple[RowCounts, int, float]:
        """Counts, how many rows go, and the share of those in scope that this is."""
        coming = {key_of(self.feed, row): row for row in new}
        told = {tuple(row[place] for place in scope) for row in new}
        in_scope = {
            key: row
            for key, row in self.rows.items()
            if tuple(row[place] for place in scope) in told
        }
        gone = in_scope.keys() - coming.keys()
        unchanged = sum(self.rows.get(key) == row for key, row in coming.items())
        inserted = len(coming.keys() - self.rows.keys())
        self.rows = {key: row for key, row in self.rows.items() if key not in gone} | coming
        counts = RowCounts(
            read=len(new),
            inserted=inserted,
            updated=len(coming) - inserted - unchanged,
            unchanged=unchanged,
            duplicates=len(new) - len(coming),
        )
        return counts, len(gone), len(gone) / len(in_scope) if in_scope else 0


def table_of(connection: psycopg.Connection, feed: Feed) -> dict[Key, Row]:
    found = connection.execute(
        sql.SQL("select * from {}").format(sql.Identifier(feed.name))
    ).fetchall()
    return {key_of(feed, row): row for row in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("feed", "scope", "days"),
    [(PRICES, (1, 2), slice(None)), (PRICES, (), slice(0, None, 3)), (PROMOS, (1, 2), slice(2))],
    ids=("prices of shops", "all prices", "promos of shops"),
)
def test_chains_and_stores_come_and_go(
    feed: Feed, scope: tuple[int, ...], days: slice, connection: psycopg.Connection, dsn: str
) -> None:
    paths = files(feed)[days]
    columns = header(paths[0])
    is_guarded = False
    create_table(connection, feed, columns, {})
    model = Mirror(feed)
    names = [columns[place] for place in scope] or None
    with api.connect(dsn) as client:
        for path in paths:
            before = len(model.rows)
            counts, gone, share = model.refresh(list(records(path)), scope)
            if gone and not is_guarded:
                is_guarded = True
                with pytest.raises(api.SqlkitError) as refused:
                    client.refresh(
                        f"public.{feed.name}",
                        path,
                        scope=names,
                        strategy="mirror",
                        delete_limit=gone - 1,
                    )
                assert refused.value.code == "SK304"
                assert connection.execute(f"select count(*) from {feed.name}").fetchone() == (
                    before,
                )
            result = client.refresh(
                f"public.{feed.name}",
                path,
                scope=names,
                strategy="mirror",
                delete_share=share + 1e-9,
            )
            assert (result.rows, result.deleted) == (counts, gone)
            assert len(model.rows) == before + counts.inserted - gone
            assert table_of(connection, feed) == model.rows
        again = client.refresh(
            f"public.{feed.name}", paths[-1], scope=names, strategy="mirror", delete_share=0
        )
    assert is_guarded
    assert (again.rows.unchanged, again.deleted) == (again.rows.read, 0)
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


@pytest.mark.slow
def test_the_command_says_what_became_of_the_rows(
    connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit
) -> None:
    feed = PRICES
    first, second = files(feed)[DAYS.index("2026-08-11")], files(feed)[DAYS.index("2026-08-13")]
    columns = header(first)
    create_table(connection, feed, columns, {})
    model = Mirror(feed)
    model.refresh(list(records(first)), ())
    done = sqlkit(
        "refresh", f"public.{feed.name}", "--from", first, "--strategy", "mirror", "--dsn", dsn
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(model.rows):,} inserted" in done.stdout

    counts, gone, _ = model.refresh(list(records(second)), (1, 2))
    scope = ",".join(columns[place] for place in (1, 2))
    arguments = [
        "refresh",
        f"public.{feed.name}",
        "--from",
        second,
        "--scope",
        scope,
        "--dsn",
        dsn,
        "--json",
        *("--strategy", "mirror"),
    ]
    done = sqlkit(*arguments, "--max-delete", "0")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "SK304")
    done = sqlkit(*arguments, "--max-delete", "50%")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"]["inserted"], told["rows"]["updated"], told["deleted"]) == (
        counts.inserted,
        counts.updated,
        gone,
    )
    assert table_of(connection, feed) == model.rows
    done = sqlkit("runs", str(told["run_id"]), "--dsn", dsn, "--json")
    assert json.loads(done.stdout)["rows_deleted"] == gone
