r"""Values of Python made rows of COPY's text format, a whole column at a time.

A column whose values are all of one plain type is made text by one call for all of them; whether
anything in it needs an escape is seen by looking through the joined text once. Fields are parted by
0x1f and null is 0x1e, which hardly any text holds, so that most text goes to PostgreSQL as it is.

What a value becomes: numbers, dates, times and UUIDs the text that PostgreSQL reads as the very
same value; for a json or jsonb column a str or bytes is JSON already, and anything else is encoded
as JSON; everything else is what psycopg makes of it, with the adapters that were registered
globally (ranges, arrays, enums, intervals, numpy's scalars).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any

import msgspec

from sqlkit.errors import SourceError, SqlkitError
from sqlkit.sources.base import CopyFormat, WantedColumn
from sqlkit.sources.copied import text_fields, unescaped
from sqlkit.sources.repertoire import UNTRANSLATABLE, BadRecord, Repertoire
from sqlkit.sources.singly import NO_LINES, Lines, TextRows

FIELD = "\x1f"
NULL = "\x1e"
ROWS = CopyFormat(format="text", delimiter=FIELD, null=NULL)
"""How COPY reads these rows (quote and escape do not apply to the text format)."""

INVALID = "22023"  # invalid_parameter_value: what is no row, or no value that PostgreSQL knows

_ESCAPES = str.maketrans(
    {"\\": r"\\", "\n": r"\n", "\r": r"\r", FIELD: "\\\x1f", NULL: r"\x1e"},
)

_PLAIN: dict[type, Callable[[Any], str]] = {
    bool: lambda value: "t" if value else "f",
    int: str,
    float: repr,
    Decimal: str,
    dt.date: str,
    dt.datetime: dt.datetime.isoformat,  # which is faster than str
    dt.time: str,
    uuid.UUID: str,
}
"""Types whose text needs no escape."""

_AS_JSON = (int, dt.date, dt.datetime, uuid.UUID)
"""Those of them that JSON writes in the same way, where a datetime is in UTC or in no zone."""
_IN_UTC = {id(None), id(dt.UTC)}


class BadValue(SqlkitError):  # noqa: N818  (made a SourceError where the row is known)
    """A value that cannot be loaded; `sqlstate` is what a reject of its row is kept under."""

    default_code = "SK118"

    def __init__(self, message: str, *, sqlstate: str = INVALID) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def encode_columns(columns: Sequence[Sequence[Any]], wanted: Sequence[WantedColumn]) -> bytes:
    """The rows that the columns, all of one length, hold side by side. Raises BadValue."""
    texts = [_column(values, column) for values, column in zip(columns, wanted, strict=True)]
    rows = "\n".join(map(FIELD.join, zip(*texts, strict=True)))
    try:
        return (rows + "\n").encode() if texts and texts[0] else b""
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise BadValue(
            f"a text holds {half!r}, half of a surrogate pair, which is no character",
            sqlstate=UNTRANSLATABLE,
        ) from None


def _column(values: Sequence[Any], column: WantedColumn) -> Sequence[str]:
    types = set(map(type, values))
    if type(None) in types:
        if len(types) == 1:
            return [NULL] * len(values)
        rest = iter(_column([value for value in values if value is not None], column))
        return [NULL if value is None else next(rest) for value in values]
    try:
        if column.is_json:
            return _escaped(_json(values, types), column)
        if len(types) == 1:
            (kind,) = types
            if kind is str:
                return _escaped(values, column)
            if kind in _AS_JSON and (kind is not dt.datetime or _are_in_utc(values)):
                text = _json_lines(values).replace('"', "").replace("Z", "+00:00")
                return text.split("\n")[:-1]
            if plain := _PLAIN.get(kind):
                return list(map(plain, values))
        return _escaped([_text(value, column) for value in values], column)
    except BadValue:
        raise
    except Exception as error:  # whatever a value's own methods raise
        raise BadValue(f"column {column.name}: {error}") from error


def _are_in_utc(values: Sequence[dt.datetime]) -> bool:
    return _IN_UTC.issuperset(map(id, map(attrgetter("tzinfo"), values)))


def _escaped(values: Sequence[str], column: WantedColumn) -> Sequence[str]:
    text = FIELD.join(values)
    if "\0" in text:
        raise BadValue(
            f"column {column.name}: a text holds the character NUL, which PostgreSQL cannot store",
            sqlstate=UNTRANSLATABLE,
        )
    if (
        "\\" in text
        or "\n" in text
        or "\r" in text
        or NULL in text
        or text.count(FIELD) != len(values) - 1
    ):
        return [value.translate(_ESCAPES) for value in values]
    return values


def _json(values: Sequence[Any], types: set[type]) -> Sequence[str]:
    if types == {str}:
        return values
    if types & {str, bytes}:
        return [
            value
            if type(value) is str
            else value.decode()
            if type(value) is bytes
            else to_json(value)
            for value in values
        ]
    return _json_lines(values).split("\n")[:-1]


def _unknown_to_json(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # pydantic
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    if hasattr(value, "obj"):  # psycopg's Json and Jsonb
        return value.obj
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"no JSON can be made of a {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_unknown_to_json, decimal_format="number")
_shown = msgspec.json.Encoder(enc_hook=repr)


def to_json(value: Any) -> str:
    """A value as JSON; decimals stay exact."""
    return _encoder.encode(value).decode()


def _json_lines(values: Sequence[Any]) -> str:
    return _encoder.encode_lines(values).decode()


def _text(value: Any, column: WantedColumn) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if plain := _PLAIN.get(kind):
        return plain(value)
    if kind is bytes or kind is bytearray or kind is memoryview:
        return r"\x" + bytes(value).hex()
    if isinstance(value, dict) or (
        isinstance(value, list | tuple) and not column.type.endswith("]")
    ):
        return to_json(value)
    return _adapted(value)


def _adapted(value: Any) -> str:
    from psycopg.adapt import PyFormat, Transformer

    if isinstance(value, tuple | set | frozenset):
        value = list(value)
    found = Transformer().get_dumper(value, PyFormat.TEXT).dump(value)
    if found is None:
        raise ValueError(f"psycopg makes null of {value!r}")
    return bytes(found).decode()


def encode_rows(
    columns: Sequence[Sequence[Any]], wanted: Sequence[WantedColumn], line: int
) -> tuple[bytes, list[BadRow]]:
    """The rows that columns make side by side, `line` the first, and those that are none."""
    try:
        return encode_columns(columns, wanted), []
    except BadValue:
        pass
    good: list[bytes] = []
    bad: list[BadRow] = []
    for number, row in enumerate(zip(*columns, strict=True), start=line):
        try:
            good.append(encode_columns([[value] for value in row], wanted))
        except BadValue as error:
            values = dict(zip((column.name for column in wanted), row, strict=True))
            bad.append(BadRow(number, values, error))
    return b"".join(good), bad


def single_rows(
    data: bytes,
    first_line: int,
    wanted: Sequence[WantedColumn],
    repertoire: Repertoire,
    bad: Sequence[BadRow] = (),
    lines: Sequence[Lines] | None = None,
) -> Iterator[bytes]:
    """Rows that `encode_columns` made as a stage of text takes them (see `singly`).

    `first_line` is the number of the first one; `lines` are their physical lines, if they have any.

    The raw text of a row is a JSON object, so that rejects are exported and replayed as JSON lines.
    `bad` are those that are no rows, by their lines, between which the others stand in order.
    """
    rows = TextRows(ROWS, len(wanted), repertoire)
    left = iter(bad)
    next_bad = next(left, None)
    line = first_line

    def stood() -> Lines | None:
        return NO_LINES if lines is None else lines[line - first_line]

    for row in data.split(b"\n")[:-1]:
        while next_bad is not None and next_bad.line == line:
            yield rows.bad(line, next_bad.raw, next_bad.record, stood())
            next_bad, line = next(left, None), line + 1
        yield rows.good(line, raw_of(row, wanted), row, stood())
        line += 1
    while next_bad is not None:
        line = next_bad.line
        yield rows.bad(line, next_bad.raw, next_bad.record, stood())
        next_bad = next(left, None)


class BadRow:
    """Something that is no row: its line, what it looks like, and why."""

    def __init__(self, line: int, value: Any, error: BadValue) -> None:
        self.line = line
        try:
            self.raw = _shown.encode(value)
        except Exception:  # noqa: BLE001  (a broken object may raise anything)
            self.raw = repr(type(value)).encode()
        self.record = BadRecord(error.sqlstate, error.message)
        self._error = error

    def as_error(self, source: str) -> SourceError:
        """The error that a row is, where none may be bad."""
        return SourceError(
            self._error.message,
            source=source,
            record=self.line,
            code=self._error.code,
            detail=self.raw[:200].decode(errors="replace"),
            hint=self._error.hint,
        )


def raw_of(row: bytes, wanted: Sequence[WantedColumn]) -> bytes:
    """One row, without its newline, as a JSON object: text for each column, JSON for json ones."""
    fields: dict[str, Any] = {}
    for column, field in zip(wanted, fields_of(row), strict=True):
        if column.tells_absent:
            absent = msgspec.json.decode(field or "[]")
            for key, called in column.tells_absent:
                if called in absent:
                    del fields[key]
            continue
        fields[column.name] = (
            msgspec.Raw(field.encode()) if column.is_json and field is not None else field
        )
    return msgspec.json.encode(fields)


def fields_of(row: bytes) -> list[str | None]:
    """The fields of one row, without its newline; null as None."""
    null = NULL.encode()
    return [
        None if field == null else unescaped(field).decode()
        for field in text_fields(row, FIELD.encode())
    ]
