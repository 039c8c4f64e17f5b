"""Asking a database only for what is newer than what was loaded before.

A source that can do so computes, in the snapshot that it reads, the greatest value of a column
that grows, and leaves rows below the one that the ledger remembers out of its query. The ledger
takes over the new value in the transaction that writes the last row (``sqlkit.note_watermark``). So
it does with what somebody else has found out of a source (`Mark`).

Errors: SK125 (`SourceError`) a column that cannot serve; UsageError where the overlap does not fit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Protocol, runtime_checkable

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.base import Source

Overlap = timedelta | int | float | Decimal

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Newer:
    """What is asked for: rows that have at least the value of `column` where the watermark stands.

    `overlap` goes back from there, for rows that were committed late. With `strictly`, rows that
    have just that value are left out: policies that would take them for new ones need that.
    """

    column: str
    stands: str | None = None  # None: nothing was loaded yet
    overlap: Overlap | None = None
    strictly: bool = False
    everything: bool = False  # whatever was loaded

    def condition(
        self, column: str, source: str, *, is_number: bool, literal: Callable[[str], str]
    ) -> str | None:
        """The condition as SQL; None for all rows.

        `column` comes quoted, `literal` quotes a text. Rows without a value are never known to be
        old, so they are asked for as well, unless `strictly`: then there must be none.
        """
        if self.stands is None or self.everything:
            return None
        start = self._start(source, is_number)
        if not (is_number and _NUMBER.fullmatch(start)):
            start = literal(start)
        if self.strictly:
            return f"{column} > {start}"
        return f"({column} >= {start} or {column} is null)"

    def _start(self, source: str, is_number: bool) -> str:
        stands, overlap = self.stands or "", self.overlap
        if not overlap:
            return stands
        if is_number and not isinstance(overlap, timedelta) and _NUMBER.fullmatch(stands):
            return f"{Decimal(stands) - Decimal(str(overlap)):f}"
        if not is_number and isinstance(overlap, timedelta):
            try:
                if _DATE.fullmatch(stands):
                    at = datetime.combine(date.fromisoformat(stands), time())
                    return (at - overlap).date().isoformat()
                return (datetime.fromisoformat(stands) - overlap).isoformat(" ")
            except (ValueError, OverflowError):
                pass
        raise UsageError(
            f"{source}: column {self.column} stands at {stands!r}, from which an overlap of "
            f"{overlap} cannot be taken",
            hint="Of times an overlap is a time, such as 10m; of numbers it is a number.",
        )

    def check(self, columns: Sequence[str], source: str) -> None:
        """Raises SourceError unless the column is among those of the source."""
        if self.column not in columns:
            raise SourceError(
                f"there is no column {self.column} by which newer rows are known",
                source=source,
                code="SK125",
                detail=f"Columns: {', '.join(columns)}.",
                hint="Name one that grows with each change, as the source spells it.",
            )

    def refuse_null(self, source: str) -> SourceError:
        """The error for a column with nulls, where it has to be known of each row if it is new."""
        return SourceError(
            f"column {self.column} holds nulls, so that nobody knows which of these rows are new",
            source=source,
            code="SK125",
            hint="Load under a policy that compares, such as update, or leave them out by --query.",
        )


@dataclass(frozen=True)
class Mark:
    """What the ledger is to remember of a source when all of it is loaded."""

    source: str  # what it is known by, each time
    name: str  # of the column, or whatever else it is that moves
    stood: str | None  # None: nothing was remembered
    stands: str


@runtime_checkable
class MarkedSource(Source, Protocol):
    """A source of which something is to be remembered that it does not find out itself."""

    @property
    def mark(self) -> Mark | None:
        """What that is."""


def mark_of(source: Source) -> Mark | None:
    """What is to be remembered of a source, which is open, when all of it is loaded."""
    if isinstance(source, MarkedSource) and source.mark is not None:
        return source.mark
    if isinstance(source, NewerSource) and source.newer is not None and source.greatest is not None:
        return Mark(source.identity, source.newer.column, source.newer.stands, source.greatest)
    return None


@runtime_checkable
class NewerSource(Source, Protocol):
    """A source that can be asked for newer rows."""

    @property
    def identity(self) -> str:
        """What it is known by, each time that it is loaded; no secrets."""

    @property
    def newer(self) -> Newer | None:
        """What it was asked for."""

    @property
    def greatest(self) -> str | None:
        """Once it is open: the greatest value there is of the column asked for, as text."""

    def ask(self, newer: Newer) -> None:
        """Ask for that, from the next snapshot on: what is open stays as it is."""


def identity_of(address: str, query: str | None) -> str:
    """What a table, or a query at an address, is known by."""
    if query is None:
        return address
    return f"{address}: query {hashlib.sha256(query.strip().rstrip(';').encode()).hexdigest()}"


def with_condition(identity: str, condition: str) -> str:
    """What it is known by, if only rows are asked for for which a condition holds."""
    return f"{identity}: where {hashlib.sha256(condition.strip().encode()).hexdigest()}"
