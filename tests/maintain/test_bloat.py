"""The estimate of bloat against what pgstattuple measures, and against writing everything anew."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from sqlkit import migrate
from tests.conftest import fresh_database
from tests.maintain import classic
from tests.maintain.shapes import SHAPES, make
from tests.servers import Server

ROWS = int(os.environ.get("SQLKIT_BLOAT_ROWS", "12000"))
LEAST_BYTES = 16 * 8192
"""Below that a page or two are ten percentage points."""


@dataclass(frozen=True)
class Finding:
    """The share of bloat of a relation, found in several ways."""

    kind: str
    estimated: float  # sqlkit.bloat
    told: float  # sqlkit.measure_bloat(), which heeds statistics where keys are stored once
    # By pgstattuple alone. That does not see which keys would be stored once: of indexes that do
    # so it is what a rewrite frees, lest the estimate were held to itself.
    measured: float
    rewritten: float  # what VACUUM FULL frees
    ioguix: float | None
    pgexperts: float | None


@pytest.fixture(scope="module")
def findings(server: Server) -> Iterator[dict[str, Finding]]:
    with fresh_database(server) as database:
        migrate.up(database.dsn)
        with database.connect() as connection:
            connection.execute("create extension pgstattuple")
            yield _look(connection)


def _look(connection: psycopg.Connection) -> dict[str, Finding]:
    for shape in SHAPES:
        make(connection, shape, ROWS)
    estimated = {
        relation: (kind, total, ratio)
        for relation, kind, total, ratio in connection.execute(
            "select relation::oid, kind, total_bytes, bloat_ratio from sqlkit.bloat "
            "where table_name::regclass::text not like 'sqlkit.%' and bloat_ratio is not null"
        ).fetchall()
        if total >= LEAST_BYTES
    }
    told: dict[int, float] = dict(
        connection.execute(
            "select m.relation::oid, m.bloat_ratio from pg_class as c, "
            "sqlkit.measure_bloat(c.oid) as m "
            "where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace"
        ).fetchall()
    )
    storing_once = {
        relation
        for (relation,) in connection.execute(
            "select indexrelid::oid from pg_index where sqlkit._deduplicates(indexrelid)"
        ).fetchall()
    }
    names: dict[int, str] = dict(
        connection.execute("select oid, oid::regclass::text from pg_class").fetchall()
    )
    ioguix = classic.estimates(connection, classic.IOGUIX)
    pgexperts = classic.estimates(connection, classic.PGEXPERTS)
    for shape in SHAPES:
        connection.execute(f"vacuum full {shape.name}".encode())
    rewritten: dict[int, int] = dict(
        connection.execute("select oid, pg_relation_size(oid) from pg_class").fetchall()
    )
    # A new index may be larger than one that grew: that is no bloat.
    freed = {
        relation: max(0.0, 1 - rewritten[relation] / total)
        for relation, (_, total, _) in estimated.items()
    }
    return {
        names[relation]: Finding(
            kind,
            ratio,
            told[relation],
            (freed if relation in storing_once else told)[relation],
            freed[relation],
            ioguix.get(names[relation]) if kind != "toast" else None,
            pgexperts.get(names[relation]) if kind != "toast" else None,
        )
        for relation, (kind, total, ratio) in estimated.items()
    }


def _within(findings: dict[str, Finding], error: Callable[[Finding], float]) -> float:
    return sum(error(found) <= 0.1 for found in findings.values()) / len(findings)


def _mean(findings: dict[str, Finding], error: Callable[[Finding], float]) -> float:
    return sum(map(error, findings.values())) / len(findings)


def test_the_shapes_are_many_and_bloated(findings: dict[str, Finding]) -> None:
    assert len(findings) > 120
    kinds = Counter(
        found.kind + (" (rewritten)" if found.measured is found.rewritten else "")
        for found in findings.values()
    )
    print(kinds)
    # Most of it is not held to a rewrite alone.
    assert kinds["index (rewritten)"] < len(findings) * 2 / 3
    assert {found.kind for found in findings.values()} == {"table", "index", "toast"}
    assert sum(found.rewritten > 0.3 for found in findings.values()) > 40
    assert sum(found.rewritten < 0.05 for found in findings.values()) > 40


def test_the_estimate_is_within_ten_points_for_95_percent(findings: dict[str, Finding]) -> None:
    for truth in ("measured", "rewritten"):

        def error(found: Finding, truth: str = truth) -> float:
            return abs(found.estimated - float(getattr(found, truth)))

        wrong = {name: found for name, found in findings.items() if error(found) > 0.1}
        print(
            f"{len(findings)} relations against {truth}: {_within(findings, error):.1%} within 10 "
            f"points, mean {_mean(findings, error):.2%}, "
            f"most {max(map(error, findings.values())):.1%}"
        )
        assert _within(findings, error) >= 0.95, wrong


def test_the_measure_is_right_about_what_a_rewrite_frees(findings: dict[str, Finding]) -> None:
    """pgstattuple does not see that repeated keys of an index would be stored once again."""
    tables = {name: found for name, found in findings.items() if found.kind == "table"}
    assert max(abs(found.told - found.rewritten) for found in tables.values()) < 0.1
    assert _within(findings, lambda found: abs(found.told - found.rewritten)) >= 0.94


@pytest.mark.parametrize("other", ["ioguix", "pgexperts"])
def test_the_estimate_beats_the_well_known_queries(
    findings: dict[str, Finding], other: str
) -> None:
    both = {name: found for name, found in findings.items() if getattr(found, other) is not None}
    assert len(both) > 120
    for truth in ("measured", "rewritten"):

        def ours(found: Finding, truth: str = truth) -> float:
            return abs(found.estimated - float(getattr(found, truth)))

        def theirs(found: Finding, truth: str = truth) -> float:
            return abs(float(getattr(found, other)) - float(getattr(found, truth)))

        print(
            f"{other} against {truth}: {_within(both, theirs):.1%} within 10 points, mean "
            f"{_mean(both, theirs):.2%}; ours {_within(both, ours):.1%}, {_mean(both, ours):.2%}"
        )
        assert _mean(both, ours) < _mean(both, theirs) / 2
        assert _within(both, ours) > _within(both, theirs) + 0.05


def test_confidence_falls_with_what_changed_since(connection: psycopg.Connection) -> None:
    connection.execute("create table price (id int, n int) with (autovacuum_enabled = off)")
    connection.execute("insert into price select n, n from generate_series(1, 10000) as n")
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("analyze price")
    seen = []
    for changed in (0, 2000, 4000):
        connection.execute("update price set n = 0 where id <= %s", [changed])
        connection.execute("select pg_stat_force_next_flush()")
        row = connection.execute(
            "select confidence from sqlkit.bloat where relation = 'price'::regclass"
        ).fetchone()
        seen.append(row and row[0])
    assert seen == ["high", "medium", "low"]
