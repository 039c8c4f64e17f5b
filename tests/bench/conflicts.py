"""Measure the detection of conflicts against hand-written SQL: ``python -m tests.bench.conflicts``.

Visits of carers, spread evenly over a year, half a percent to ten percent of which overlap. Each
run is a transaction that is rolled back, so that every one starts from the same state; the time is
the best of the rounds, by turns. The references write what they find to a table: four numbers with
a key, or (kept) what somebody needs who wants to work with it: all that sqlkit.conflict holds, as
typed columns, with as many indexes and checks.

With --workers, detection in parts against one session, and nothing else; both are committed. With
--skew one carer has a twentieth of all visits.

Exit code: 0 all bars held, 1 one was missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

import sqlkit as api
from sqlkit import migrate
from tests.bench.server import BenchServer, running_server

BAR = 1.1
ROWS_A_SECOND = 100_000
LINEAR = 1.5  # of the time a row takes at 0.1 million, at most, with more of them

VISITS = """
    create table visit as
    select g as visit_id,
        case when g <= {skewed} then 0 else (random() * {people})::integer end as carer_id,
        at as starts_at,
        at + interval '1 minute' * (20 + random() * 60)::integer as ends_at
    from (
        select g,
            timestamptz '2025-01-01Z' + interval '1 minute' * (random() * 525600)::integer as at
        from generate_series(1, {rows}) as g
    ) as v;
    alter table visit add primary key (visit_id), alter carer_id set not null,
        alter starts_at set not null, alter ends_at set not null, add column is_twice boolean;
    create table found (
        carer_id integer, first_id integer, second_id integer, minutes numeric,
        primary key (first_id, second_id)
    );
    create table kept (
        found_id bigint generated always as identity primary key,
        rule_id bigint not null default 1,
        carer_id integer not null, first_id integer not null, second_id integer not null,
        minutes double precision,
        first_starts_at timestamptz not null, first_ends_at timestamptz not null,
        second_starts_at timestamptz not null, second_ends_at timestamptz not null,
        state text not null default 'open' check (state in ('open', 'resolved', 'ignored')),
        found_at timestamptz not null default clock_timestamp(),
        found_by name not null default current_user,
        changed_at timestamptz not null default clock_timestamp(),
        changed_by name,
        gone_at timestamptz check (gone_at is null or state = 'resolved'),
        note text
    );
    create index on kept (rule_id, state);
    select sqlkit.define_overlap('twice', 'visit', array['carer_id'], 'starts_at', 'ends_at');
"""
PAIRS = """
    insert into {into}
    select a.carer_id, a.visit_id, b.visit_id,
        extract(epoch from least(a.ends_at, b.ends_at) - greatest(a.starts_at, b.starts_at)) / 60
        {facts}
    from {runs} as a
    join {runs} as b on {together} and a.visit_id < b.visit_id
        and a.starts_at < b.ends_at and b.starts_at < a.ends_at
"""
MARKED = """
    select visit_id, carer_id, starts_at, ends_at,
        max(ends_at) over w as reach, lead(starts_at) over w as next_start
    from visit
    window w as (
        partition by carer_id order by starts_at
        rows between unbounded preceding and 1 preceding
    )
"""
RUNS = """
    with run as (
        select *, count(*) filter (where reach <= starts_at or reach is null)
            over (partition by carer_id order by starts_at) as run
        from ({marked}) as v {where}
    )
"""
PLAIN_TABLE = {"into": "found", "facts": ""}
KEPT_TABLE = {
    "into": "kept (carer_id, first_id, second_id, minutes,"
    " first_starts_at, first_ends_at, second_starts_at, second_ends_at)",
    "facts": ", a.starts_at, a.ends_at, b.starts_at, b.ends_at",
}
TOGETHER = "a.carer_id = b.carer_id and a.run = b.run"
TOUCHING = RUNS.format(marked=MARKED, where="where reach > starts_at or next_start < ends_at")
KEPT = "the same, with all that sqlkit.conflict holds"
NAIVE = "every row with every other"
REFERENCES = {
    # Rows that touch no other are dropped as soon as that is known; the best that we can write.
    "runs of rows that touch": TOUCHING
    + PAIRS.format(runs="run", together=TOGETHER, **PLAIN_TABLE),
    KEPT: TOUCHING + PAIRS.format(runs="run", together=TOGETHER, **KEPT_TABLE),
    "runs of all rows": RUNS.format(marked=MARKED, where="")
    + PAIRS.format(runs="run", together=TOGETHER, **PLAIN_TABLE),
    NAIVE: PAIRS.format(runs="visit", together="a.carer_id = b.carer_id", **PLAIN_TABLE),
}
FLAG = "select sqlkit.flag_conflicts('twice', 'is_twice')"
PLAIN = "update visit set is_twice = visit_id % 100 = 0"
DETECT = "select sqlkit.detect_conflicts('twice', true)"


def seconds(connection: psycopg.Connection, statement: str) -> float:
    """How long a statement takes in a transaction that is then taken back."""
    with connection.transaction(force_rollback=True):
        start = time.perf_counter()
        connection.execute(statement.encode())
        return time.perf_counter() - start


def number(connection: psycopg.Connection, statement: str, table: str) -> int:
    """How many rows a statement puts into a table."""
    with connection.transaction(force_rollback=True):
        connection.execute(statement.encode())
        row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
        assert row is not None
        return int(row[0])


def prepare(server: BenchServer, rows: int, a_person: int, skewed: int = 0) -> psycopg.Connection:
    """A database of its own with that many visits, so many of them one carer's."""
    server.create("bench")
    migrate.up(server.dsn_of("bench"))
    connection = server.connect("bench")
    connection.execute("select setseed(0.5)")
    connection.execute(VISITS.format(rows=rows, people=rows // a_person, skewed=skewed).encode())
    connection.execute("vacuum (analyze) visit")
    return connection


def measure(server: BenchServer, rounds: int, rows: int) -> list[tuple[str, ...]]:
    """Detection against the references, at 50 and at 500 rows a person."""
    lines: list[tuple[str, ...]] = []
    for a_person in (50, 500):
        with prepare(server, rows, a_person) as connection:
            mine: list[float] = []
            # At 500 rows a person it would take minutes.
            references = {k: v for k, v in REFERENCES.items() if a_person == 50 or k != NAIVE}
            theirs: dict[str, list[float]] = {name: [] for name in references}
            pairs = {
                number(connection, text, "kept" if name == KEPT else "found")
                for name, text in references.items()
                if name != NAIVE
            }
            pairs.add(number(connection, DETECT, "sqlkit.conflict"))
            assert len(pairs) == 1, pairs
            for round_ in range(rounds):
                # What a transaction that is taken back leaves behind is in nobody's way.
                connection.execute("vacuum found, kept, sqlkit.conflict")
                for name, statement in references.items():
                    if round_ == 0 or name != NAIVE:
                        theirs[name].append(seconds(connection, statement))
                mine.append(seconds(connection, DETECT))
            title = f"{rows:,} rows, {a_person} a person, {pairs.pop():,} pairs"
            for name, taken in theirs.items():
                held = min(mine) <= BAR * min(taken)
                lines.append(
                    (
                        title,
                        name,
                        f"{min(taken):.2f}",
                        f"{min(mine):.2f}",
                        f"{min(mine) / min(taken):.2f}",
                        "-" if name == NAIVE else f"{BAR} x",
                        "-" if name == NAIVE else "pass" if held else "FAIL",
                    )
                )
            lines += follow_up(connection, title, rows)
    return lines


def follow_up(connection: psycopg.Connection, title: str, rows: int) -> list[tuple[str, ...]]:
    """What comes after the first detection: again, after changes, and writing back."""
    connection.execute(DETECT.encode())
    again = min(seconds(connection, DETECT) for _ in range(2))
    connection.execute(
        b"update visit set ends_at = ends_at + interval '1 hour' where visit_id % 1000 = 0"
    )
    touched = seconds(connection, "select sqlkit.detect_conflicts('twice')")
    plain: list[float] = []
    written: list[float] = []
    for statement, taken in [(PLAIN, plain), (FLAG, written)] * 2:
        # What a transaction that is taken back leaves behind is in nobody's way.
        connection.execute("vacuum visit")
        taken.append(seconds(connection, statement))
    flags = min(written)
    rate = rows / flags
    return [
        (title, "-", "", f"{again:.2f}", "", "everything again, nothing new", "-"),
        (title, "-", "", f"{touched:.2f}", "", "0.1% of the rows changed", "-"),
        (
            title,
            "a plain update of all rows",
            f"{min(plain):.2f}",
            f"{flags:.2f}",
            f"{flags / min(plain):.2f}",
            f"flags: {rate:,.0f} rows/s, {ROWS_A_SECOND:,}",
            "pass" if rate >= ROWS_A_SECOND else "FAIL",
        ),
    ]


def grow(server: BenchServer, rounds: int, sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """How the time grows with the rows."""
    lines: list[tuple[str, ...]] = []
    first = None
    for rows in sizes:
        with prepare(server, rows, 50) as connection:
            taken = min(seconds(connection, DETECT) for _ in range(rounds))
        a_million = taken / rows * 1e6
        first = first or a_million
        lines.append(
            (
                f"{rows:,} rows, 50 a person",
                "-",
                "",
                f"{taken:.2f}",
                f"{a_million / first:.2f}",
                f"linear: {LINEAR} x a row",
                "pass" if a_million <= LINEAR * first else "FAIL",
            )
        )
    return lines


def divide(
    server: BenchServer, rounds: int, rows: int, workers: int, skewed: int
) -> list[tuple[str, ...]]:
    """Detection in parts, side by side, against one session, by turns."""
    lines: list[tuple[str, ...]] = []
    for a_person in (50,) if skewed else (50, 500):
        whole: list[float] = []
        parts: list[float] = []
        pairs: set[int] = set()
        with (
            prepare(server, rows, a_person, skewed) as connection,
            api.connect(server.dsn_of("bench")) as client,
        ):
            for number, taken in [(1, whole), (workers, parts)] * rounds:
                connection.execute("truncate sqlkit.conflict, sqlkit.conflict_event")
                start = time.perf_counter()
                counts = client.detect_conflicts("twice", full=True, workers=number)
                taken.append(time.perf_counter() - start)
                pairs.add(counts["pairs_opened"])
        assert len(pairs) == 1, pairs
        of_one = f", {skewed:,} of them one's" if skewed else ""
        lines.append(
            (
                f"{rows:,} rows, {a_person} a person{of_one}, {pairs.pop():,} pairs",
                "one session",
                f"{min(whole):.2f}",
                f"{min(parts):.2f}",
                f"{min(parts) / min(whole):.2f}",
                f"in parts by {workers} workers",
                "-",
            )
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser("tests.bench.conflicts", description="Detection of conflicts.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--long", action="store_true", help="up to 10 million rows")
    parser.add_argument("--workers", type=int, help="in parts by so many, against one session")
    parser.add_argument(
        "--skew", action="store_true", help="with --workers: one carer has 5%% of all"
    )
    parser.add_argument("--home", type=Path, default=Path(".sqlkit/bench"), help="of the server")
    options = parser.parse_args(arguments)
    if options.skew and not options.workers:
        parser.error("--skew needs --workers")
    with running_server(options.home.resolve()) as server:
        try:
            if options.workers:
                skewed = options.rows // 20 if options.skew else 0
                lines = divide(server, options.rounds, options.rows, options.workers, skewed)
            else:
                lines = measure(server, options.rounds, options.rows)
                sizes = [options.rows // 10, options.rows, *([options.rows * 10] * options.long)]
                lines += grow(server, options.rounds, sizes)
        finally:
            server.drop("bench")
    print("| work | reference | its s | sqlkit s | ratio | bar | held |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for line in lines:
        print("| " + " | ".join(line) + " |")
    return 1 if any(line[-1] == "FAIL" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
