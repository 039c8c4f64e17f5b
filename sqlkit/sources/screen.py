"""Telling at C speed which records of a piece are surely rows that the target takes.

The target's types, the dialect and what may be null make one regular expression for a whole
record. What matches it goes to COPY as it stands; whatever does not is in doubt, and PostgreSQL is
asked about it. So the expression may doubt a good row, but never pass a bad one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlkit.sources.base import CopyFormat, Piece

_GROUP = re.compile(r"(?<!\\)\((?!\?)")
_QUANTIFIER = re.compile(r"(?<![(\\])\?|\{\d+,\d+\}")
_NEWLINE = re.compile(rb"\n")
_CARRIAGE_RETURN = re.compile(rb"\r")


@dataclass(frozen=True)
class ScreenedColumn:
    """What `sqlkit.plan_screen` tells of a column."""

    name: str
    pattern: str | None  # of surely valid values
    is_text: bool  # any text is valid
    max_length: int | None  # in characters
    may_be_null: bool
    is_json: bool = False  # the reader writes nothing but JSON there


Spans = dict[int, tuple[int, int]]
"""Rows by number, from 0 and ascending: where each begins and ends in the data."""


class Place(NamedTuple):
    """Where a record stands: its physical lines, its raw text, its number unless a line tells."""

    first: int
    last: int
    raw: bytes
    record: int | None = None

    @property
    def number(self) -> int:
        """What tells it from the others of its source."""
        return self.first if self.record is None else self.record


@dataclass(frozen=True)
class Screening:
    """A piece with what is in doubt.

    `singles` are the records in doubt as rows for a stage of text, and those that are no rows at
    all, which `piece` leaves out or `doubtful` has. `ends` tells where each row of the data ends,
    `place` gives lines and raw text of a row.
    """

    piece: Piece
    doubtful: Spans
    singles: bytes
    ends: Callable[[], Sequence[int]]
    place: Callable[[int], Place]

    def without(self, rows: Collection[int]) -> bytes:
        """The data without some rows."""
        data = self.piece.data
        parts = []
        position = 0
        for row in sorted(rows):
            start, end = self.doubtful.get(row) or span(self.ends(), row)
            parts.append(data[position:start])
            position = end
        return b"".join([*parts, data[position:]]) if rows else data


def span(ends: Sequence[int], row: int) -> tuple[int, int]:
    """Where a row begins and ends, if rows end there."""
    return ends[row - 1] if row else 0, ends[row]


def line_ends(data: bytes, eol: bytes) -> list[int]:
    """Where each line of `data` ends, with its line end; the last may lack that."""
    pattern = _NEWLINE if eol == b"\n" else _CARRIAGE_RETURN
    ends = [found.end() for found in pattern.finditer(data)]
    if data and not data.endswith(eol):
        ends.append(len(data))
    return ends


class Sieve:
    """Finds the rows of a piece that are in doubt; one without columns doubts none."""

    def __init__(self, columns: Sequence[ScreenedColumn], format: CopyFormat) -> None:
        self._columns = columns
        self._format = format
        self._patterns: dict[tuple[bytes, bool], re.Pattern[bytes]] = {}

    def doubtful(
        self, data: bytes, ends: Sequence[int] | None, line_end: bytes, *, is_ascii: bool
    ) -> Spans:
        """The rows of `data` that may be bad.

        `ends` are the ends of all rows, None where every line is a row; `line_end` is how they
        end. With `is_ascii` any other character is in doubt.
        """
        if not self._columns:
            return {}
        found = (line_end, is_ascii)
        pattern = self._patterns.get(found)
        if pattern is None:
            pattern = self._patterns[found] = self._compiled(line_end, is_ascii)
        size = len(data)
        if not data.endswith(line_end):
            data += line_end
        rows: Spans = {}
        position = row = 0
        while position < size:
            matched = pattern.match(data, position)
            start = matched.end() if matched else position
            if start >= size:
                break
            if ends is None:
                row += data.count(line_end, position, start)
                position = data.index(line_end, start) + len(line_end)
            else:
                row = bisect_right(ends, start, row)
                position = ends[row]
            rows[row] = (start, min(position, size))
            row += 1
        return rows

    def _compiled(self, line_end: bytes, is_ascii: bool) -> re.Pattern[bytes]:
        format = self._format
        delimiter = re.escape(format.delimiter.encode())
        follow = rb"(?=[%b\r\n])" % delimiter
        fields = [self._field(column, delimiter, follow, is_ascii) for column in self._columns]
        row = delimiter.join(fields) + re.escape(line_end)
        return re.compile(rb"(?:%b)*+" % row)

    def _field(
        self, column: ScreenedColumn, delimiter: bytes, follow: bytes, is_ascii: bool
    ) -> bytes:
        format = self._format
        null = re.escape(format.null.encode("ascii", "replace")) + follow
        high = b"" if is_ascii else rb"\x80-\xff"
        times = b"*+" if column.max_length is None else b"{0,%d}+" % column.max_length
        if format.format == "csv":
            quote = re.escape(format.quote.encode())
            escape = re.escape(format.escape.encode())
            # What may stand outside quotes, and inside them.
            plain = rb"(?![%b%b\r\n])[\x01-\x7f%b]" % (delimiter, quote, high)
            inner = rb"(?![%b%b])[\x01-\x7f%b]" % (quote, escape, high)
            if column.max_length is None:
                outside = _class(high, delimiter + quote + rb"\r\n") + times
                inside = _class(high, quote + escape) + times
                if quote == escape:
                    inside += rb"(?:%b%b%b)*+" % (quote, quote, inside)
            else:
                outside, inside = rb"(?:%b)%b" % (plain, times), rb"(?:%b)%b" % (inner, times)
        else:
            # The reader has escaped what has to be; an escape is longer than what it stands for.
            quote = b""
            outside = rb"[^\x00%b\n%b]" % (delimiter, rb"\x80-\xff" if is_ascii else b"") + times
            inside = b""
        if column.is_text:
            unquoted, quoted = outside, inside
        elif column.is_json:
            # An escape may be of a character that jsonb has no room for.
            unquoted, quoted = rb"[^\\\n%b%b]*+" % (delimiter, b"" if high else rb"\x80-\xff"), b""
        elif column.pattern is not None:
            # Without ^ and $; groups that capture would cost a third more, and ways back double.
            pattern = _GROUP.sub("(?:", f"({column.pattern[1:-1]})")
            unquoted = quoted = _QUANTIFIER.sub(r"\g<0>+", pattern).encode()
        else:
            unquoted, quoted = rb"(?!)", b""
        if quote and quoted:
            unquoted += rb"|%b%b%b" % (quote, quoted, quote)
        if not column.may_be_null:
            is_never_null = column.pattern and not re.match(column.pattern, format.null)
            return rb"(?:%b)" % unquoted if is_never_null else rb"(?!%b)(?:%b)" % (null, unquoted)
        return rb"(?:%b)" % unquoted if column.is_text else rb"(?:%b|%b)" % (unquoted, null)


def _class(high: bytes, without: bytes) -> bytes:
    """A class of characters but NUL and some others."""
    return rb"[^\x00%b%b]" % (without, b"" if high else rb"\x80-\xff")
