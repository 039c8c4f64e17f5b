"""Asking another database a few rows, and writing values as it reads them.

A source of any kind is read as rejects are, whose columns are text, so that there is one way for
all of them, and values are what a load would make of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.base import Reader, Source, WantedColumn
from sqlkit.sources.copied import rows_of
from sqlkit.sources.find import database_of

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double")


@dataclass(frozen=True)
class Answer:
    """The rows of a query, as text; null as None."""

    columns: tuple[str, ...]
    types: Mapping[str, str]  # PostgreSQL's, of those that are known
    rows: Sequence[tuple[str | None, ...]]


def ask(source: Source) -> Answer:
    """All rows that a database gives; the source is closed then. It blocks.

    Raises SourceError, for a row that is none as well.
    """
    try:
        reader = source.open(database_encoding="UTF8")
        try:
            rows = first_rows(reader, source.name)
            return Answer(tuple(reader.columns), dict(reader.column_types), rows)
        finally:
            reader.close()
    finally:
        if hasattr(source, "close"):
            source.close()


def first_rows(reader: Reader, name: str, most: int | None = None) -> list[tuple[str | None, ...]]:
    """The rows of a database that an open reader has, or the first of them. Raises SourceError."""
    wanted = [WantedColumn(name) for name in reader.columns]
    rows: list[tuple[str | None, ...]] = []
    for piece in reader.single_records(wanted, 1 << 16):
        for row in rows_of(reader.single_format, piece.data):
            number, _, raw, code, message, _, *values = row
            if code is not None:
                raise SourceError(
                    message or code,
                    source=name,
                    record=int(number or 0),
                    code="SK118",
                    detail=(raw or "")[:200],
                )
            rows.append(tuple(values))
        if most is not None and len(rows) >= most:
            break
    return rows[:most]


def value_of(text: str | None, type: str | None) -> Any:
    """A value for a template: numbers and booleans as such, all else as text."""
    if text is None or type is None:
        return text
    if type.startswith(_NUMBERS) and _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("-").isdecimal() else Decimal(text)
    if type == "boolean":
        return text in ("t", "true", "1")
    return text


def quote(address: str, text: str) -> str:
    """A text as a literal of the database at an address. Raises UsageError.

    What a backslash means in a literal is known of some databases only.
    """
    if "\0" in text:
        raise UsageError("a text with the character NUL cannot be written in SQL")
    plain = "'" + text.replace("'", "''") + "'"
    kind = database_of(address)
    if "\\" not in text or kind in ("duckdb", "sqlite"):
        return plain
    if kind in ("postgresql", "postgres"):
        return " E" + plain.replace("\\", "\\\\")
    if kind in ("mysql", "mariadb"):  # whatever its sql_mode is
        return f"_utf8mb4 x'{text.encode().hex()}'"
    raise UsageError(
        f"nobody knows how {kind} writes the backslash in {text[:60]!r}",
        hint="Ask for parts by a column whose values have none.",
    )
