"""Screening: what of a piece is no row is kept away before COPY takes the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from psycopg import AsyncConnection

from sqlkit import calls_async as calls
from sqlkit.batches_async import Batch, OpenSource, Refused, Screen, Taken, number_of
from sqlkit.care import Care
from sqlkit.columns import ColumnPlan
from sqlkit.copy_async import copy_to_session_async
from sqlkit.sources.base import Piece, ScreeningReader, Source
from sqlkit.sources.screen import ScreenedColumn, Screening, Sieve

TEXT_COLUMNS = (
    "sqlkit_first_line",
    "sqlkit_last_line",
    "sqlkit_raw",
    "sqlkit_sqlstate",
    "sqlkit_message",
    "sqlkit_lines",
)
"""What stands before the columns of a record in a stage of text."""


async def plan_screen_async(
    main: AsyncConnection[Any],
    target: str,
    policy: str,
    key: list[str] | None,
    source: Source,
    reader: ScreeningReader,
    plan: ColumnPlan,
    care: Care,
) -> tuple[Sieve, Screen]:
    """What is to be looked at in the client, and what the server is asked."""
    found = await calls.plan_screen(
        main,
        target,
        list(plan.staged),
        list(plan.left_out),
        policy,
        key,
    )
    columns = [
        # A reader that takes JSON apart writes nothing else there; one of CSV takes any text.
        ScreenedColumn(**told, is_json=wanted.is_json and not source.declares_columns)
        for told, wanted in zip(found["columns"], plan.wanted, strict=True)
    ]
    has_constraints = found["constraints"] is not None
    with_constraints = has_constraints and Care.CONSTRAINTS in care
    sieve = Sieve(columns if Care.VALUES in care else (), reader.single_format)
    return sieve, Screen(json.dumps(found), has_constraints, with_constraints, reader.repertoire)


async def screen_async(
    connection: AsyncConnection[Any],
    opened: OpenSource,
    batch: Batch,
    taken: Taken,
    *,
    to_stage: bool = False,
) -> tuple[Piece, set[int]]:
    """A piece without its bad rows, which are noted with the batch; the numbers of those left out.

    Rows that break constraints are among them unless it goes `to_stage`, where they are found at
    less cost: see `screen_stage_async`.
    """
    screening, screen = taken.screening, opened.screen
    if screening is None or screen is None:
        return taken.piece, set()
    piece, place = screening.piece, screening.place
    with_constraints = screen.with_constraints and not to_stage
    if not screening.singles and not with_constraints:
        return piece, set()
    rejects: list[Refused] = []
    bad: set[int] = set()
    format = opened.reader.single_format
    async with connection.transaction():
        await calls.begin_screen(connection, screen.plan)
        if screening.singles:
            columns = TEXT_COLUMNS + opened.plan.staged
            await copy_to_session_async(
                connection, "sqlkit_text", columns, format, screening.singles
            )
            rejects = await calls.screen_text(connection, screen.plan)
            rows = {place(row).number: row for row in screening.doubtful}
            numbers = map(number_of, rejects)
            bad = {rows[number] for number in numbers if number in rows}
        if with_constraints:
            data = screening.without(bad)
            await copy_to_session_async(
                connection, "sqlkit_typed", opened.plan.staged, format, data
            )
            broken = await calls.screen_rows(connection, screen.plan)
            rejects += _refused(screening, screen, bad, broken)
    batch.rejects.add(sorted(rejects, key=number_of))
    return replace(piece, data=screening.without(bad)), bad


async def screen_stage_async(
    connection: AsyncConnection[Any],
    opened: OpenSource,
    batch: Batch,
    taken: Taken,
    left_out: set[int],
    stage: str,
    after: str | None,
) -> tuple[int, str | None]:
    """Take from a stage what breaks constraints, of the rows that COPY has put behind `after`.

    Returns how many they were, and where the stage ends.
    """
    screening, screen = taken.screening, opened.screen
    if screening is None or screen is None or not screen.with_constraints:
        return 0, after
    broken, after = await calls.screen_stage(connection, screen.plan, stage, after)
    batch.rejects.add(_refused(screening, screen, left_out, broken))
    return len(broken), after


def _refused(
    screening: Screening, screen: Screen, left_out: set[int], broken: list[list[Any]]
) -> list[Refused]:
    """What the server says of rows by their numbers, with their places; they are left out too."""
    if not broken:
        return []
    rows = [row for row in range(len(screening.ends())) if row not in left_out]
    found = []
    for number, column, code, message in broken:
        row = rows[number - 1]
        place = screening.place(row)
        if fault := screen.repertoire.fault(place.raw):
            # COPY took bytes that nobody can read: that it was refused tells of them.
            column, code, message = None, fault.sqlstate, fault.message
        text = screen.repertoire.shown(place.raw).decode(screen.repertoire.codec)
        found.append([place.first, place.last, text, column, code, message, place.record])
        left_out.add(row)
    return found
