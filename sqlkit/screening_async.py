"""Screening: what of a piece is no row is kept away before COPY takes the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from operator import itemgetter
from typing import Any

from psycopg import AsyncConnection

from sqlkit import calls_async as calls
from sqlkit.batches_async import Batch, OpenSource, Refused, Screen, Taken
from sqlkit.care import Care
from sqlkit.columns import ColumnPlan
from sqlkit.copy_async import copy_to_session_async
from sqlkit.sources.base import Piece, ScreeningReader, Source
from sqlkit.sources.screen import ScreenedColumn, Sieve

TEXT_COLUMNS = (
    "sqlkit_first_line",
    "sqlkit_last_line",
    "sqlkit_raw",
    "sqlkit_sqlstate",
    "sqlkit_message",
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
    with_constraints = care == Care.CONSTRAINTS and found["constraints"] is not None
    sieve = Sieve(columns, reader.single_format)
    return sieve, Screen(json.dumps(found), with_constraints, reader.codec)


async def screen_async(
    connection: AsyncConnection[Any], opened: OpenSource, batch: Batch, taken: Taken
) -> Piece:
    """A piece without its bad rows, which are noted with the batch."""
    screening, screen = taken.screening, opened.screen
    if screening is None or screen is None:
        return taken.piece
    piece, place = screening.piece, screening.place
    if not screening.singles and not screen.with_constraints:
        return piece
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
            rows = {place(row)[0]: row for row in screening.doubtful}
            bad = {rows[reject[0]] for reject in rejects if reject[0] in rows}
        if screen.with_constraints:
            sound = [row for row in range(len(screening.ends())) if row not in bad]
            data = screening.without(bad)
            await copy_to_session_async(
                connection, "sqlkit_typed", opened.plan.staged, format, data
            )
            for number, column, code, message in await calls.screen_rows(connection, screen.plan):
                row = sound[number - 1]
                first, last, raw = place(row)
                text = raw.decode(screen.codec)
                rejects.append([first, last, text, column, code, message])
                bad.add(row)
    batch.rejects.add(sorted(rejects, key=itemgetter(0)))
    return replace(piece, data=screening.without(bad))
