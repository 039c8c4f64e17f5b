r"""Rows as MySQL sends them made rows of COPY's text format.

MySQL sends text, and so does COPY take it: a block whose values need no escape and hold no null is
joined and goes on as it is. What is done to values depends on MySQL's type and on the target's:

- BIT is bytes: a string of digits 0 and 1 for bit, t or f for boolean, else a number;
- for bytea, bytes are written in hexadecimal digits; elsewhere they have to be UTF-8;
- of GEOMETRY, WKB is what follows the four bytes of the SRID;
- TIMESTAMP is in UTC, and says so where the target has a time zone;
- SET is a list, where the target is an array.

With `null_invalid`, zero dates, enums without a label and what lies out of the target's range
become null; else PostgreSQL refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqlkit.sources.base import WantedColumn
from sqlkit.sources.mysql.session import Column, Row
from sqlkit.sources.repertoire import UNTRANSLATABLE
from sqlkit.sources.text_rows import FIELD, NULL, BadRow, BadValue

TINY, SHORT, LONG, FLOAT, DOUBLE, NULL_TYPE, TIMESTAMP, LONGLONG, INT24, DATE, TIME = range(1, 12)
DATETIME, YEAR, NEWDATE, VARCHAR, BIT = range(12, 17)
JSON, NEWDECIMAL, ENUM, SET = 245, 246, 247, 248
BLOBS = (249, 250, 251, 252)
VAR_STRING, STRING, GEOMETRY = 253, 254, 255
INTEGERS = {TINY: 8, SHORT: 16, INT24: 24, LONG: 32, LONGLONG: 64}
NUMBERS = {*INTEGERS, FLOAT, DOUBLE, NEWDECIMAL}
_PLAIN = {*INTEGERS, FLOAT, DOUBLE, TIMESTAMP, DATE, TIME, DATETIME, YEAR, NEWDATE, NEWDECIMAL}
_DATED = {DATE, NEWDATE, DATETIME, TIMESTAMP}

_FIELD = FIELD.encode()
_NULL = NULL.encode()
_ESCAPES = {
    b"\\": rb"\\", b"\n": rb"\n", b"\r": rb"\r", _FIELD: b"\\" + _FIELD, _NULL: rb"\x1e",
}  # fmt: skip
_SPECIAL = re.compile(rb"[\\\n\r\x1e\x1f]")
_ODD = re.compile(rb"[\\\r\x1e\0]")

_RANGES = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
_A_DAY = re.compile(rb"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?|24:00:00(\.0+)?")

Change = Callable[[bytes], bytes | None]
"""What becomes of a value; null if it is none that the target could hold. Raises BadValue."""


def _escaped(value: bytes) -> bytes:
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)


def _bits(digits: int) -> Change:
    return lambda value: format(int.from_bytes(value), f"0{digits}b").encode()


def _hex(value: bytes) -> bytes:
    return rb"\\x" + value.hex().encode()  # escaped already


def _wkb(value: bytes) -> bytes:
    return _hex(value[4:])


def _list(value: bytes) -> bytes:
    if not value:
        return b"{}"
    parts = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"').split(b",")
    return b'{"' + b'","'.join(parts) + b'"}'


def _real_date(value: bytes) -> bytes | None:
    # 2010-00-10, 0000-00-00, 0000-05-01
    return None if b"-00" in value[:10] or value.startswith(b"0000-") else value


def _within(least: int, most: int) -> Change:
    return lambda value: value if least <= int(value) <= most else None


def _of_a_day(value: bytes) -> bytes | None:
    return value if _A_DAY.fullmatch(value) else None


def _text(name: str) -> Change:
    def check(value: bytes) -> bytes:
        if b"\0" in value:
            raise BadValue(
                f"column {name}: a text holds the character NUL, which PostgreSQL cannot store",
                sqlstate=UNTRANSLATABLE,
            )
        try:
            value.decode()
        except UnicodeDecodeError:
            raise BadValue(
                f"column {name}: bytes that are no text: the column should be of type bytea",
                sqlstate=UNTRANSLATABLE,
            ) from None
        return value

    return check


def change_of(column: Column, wanted: WantedColumn, *, null_invalid: bool) -> Change | None:
    """What is to be done to the values of a column; None if nothing."""
    target = wanted.type
    if column.type == BIT:
        if target.startswith("bit"):
            return _bits(column.length)
        if target == "boolean":
            return lambda value: b"t" if any(value) else b"f"
        return lambda value: str(int.from_bytes(value)).encode()
    if column.type == GEOMETRY:
        return _wkb
    if target == "bytea":
        return _hex
    if column.type == TIMESTAMP and target.startswith("timestamp") and "with time" in target:
        return _in_utc if not null_invalid else lambda value: _real_date(value) and _in_utc(value)
    if target.endswith("[]") and not value_is_plain(column):
        return _list
    if null_invalid:
        if column.is_enum and not column.takes_empty:
            return lambda value: value or None
        if column.type in _DATED:
            return _real_date
        if column.type == TIME and target.startswith("time"):
            return _of_a_day
        if column.type in INTEGERS and target in _RANGES:
            bits = INTEGERS[column.type] - (0 if column.is_unsigned else 1)
            least, most = _RANGES[target]
            return None if 2**bits - 1 <= most else _within(least, most)
    return None


def _in_utc(value: bytes) -> bytes:
    return value + b"+00"


def value_is_plain(column: Column) -> bool:
    """Whether no value of the column holds anything but digits, signs, colons and the like."""
    return column.type in _PLAIN


class Encoder:
    """Makes rows of some columns COPY's; of each row the first as many values are looked at."""

    def __init__(
        self, columns: Sequence[Column], wanted: Sequence[WantedColumn], *, null_invalid: bool
    ) -> None:
        self._wanted = wanted
        self._width = len(wanted)
        self._changes = [
            change_of(column, want, null_invalid=null_invalid)
            for column, want in zip(columns, wanted, strict=True)
        ]
        # Joined text is looked through for what needs an escape, unless all of it is plain.
        self._is_changed = any(change is not None for change in self._changes)
        self._is_plain = [
            value_is_plain(column)
            or (change is not None and change is not _list and not column.is_enum)
            for column, change in zip(columns, self._changes, strict=True)
        ]
        self._all_plain = all(self._is_plain)
        self._checks = [
            _text(want.name) if change is None and not value_is_plain(column) else None
            for column, want, change in zip(columns, wanted, self._changes, strict=True)
        ]
        # Only what MySQL does not know to be text may be none.
        self._may_be_binary = any(
            column.may_be_bytes and check is not None
            for column, check in zip(columns, self._checks, strict=True)
        )

    def rows(self, rows: Sequence[Row], line: int) -> tuple[bytes, list[BadRow]]:
        """The rows, `line` the first, and those that are none."""
        if not self._is_changed:
            try:
                data = b"\n".join(map(_FIELD.join, rows))  # type: ignore[arg-type]
            except TypeError:
                pass  # a null
            else:
                if self._is_sound(data, len(rows), self._width):
                    return data + b"\n", []
        try:
            return self._by_columns(rows), []
        except BadValue:
            pass
        good: list[bytes] = []
        bad: list[BadRow] = []
        for number, row in enumerate(rows, start=line):
            try:
                good.append(self._by_columns([row]))
            except BadValue as error:
                names = (column.name for column in self._wanted)
                shown = {
                    name: None if value is None else value.decode("utf-8", "backslashreplace")
                    for name, value in zip(names, row, strict=False)
                }
                bad.append(BadRow(number, shown, error))
        return b"".join(good), bad

    def _is_sound(self, data: bytes, rows: int, width: int) -> bool:
        """Whether joined values may stay as they are."""
        if self._all_plain:
            return True
        if (
            data.count(b"\n") != rows - 1
            or data.count(_FIELD) != rows * (width - 1)
            or _ODD.search(data)
        ):
            return False
        return not self._may_be_binary or is_utf8(data)

    def _by_columns(self, rows: Sequence[Row]) -> bytes:
        columns = list(zip(*rows, strict=True))[: self._width]
        made = [
            self._column(values, change, check, is_plain=is_plain)
            for values, change, check, is_plain in zip(
                columns, self._changes, self._checks, self._is_plain, strict=True
            )
        ]
        return b"\n".join(map(_FIELD.join, zip(*made, strict=True))) + b"\n"

    @staticmethod
    def _column(
        values: Sequence[bytes | None],
        change: Change | None,
        check: Change | None,
        *,
        is_plain: bool,
    ) -> Sequence[bytes]:
        if change is not None:
            values = [None if value is None else change(value) for value in values]
        if check is not None:
            present = [value for value in values if value is not None]
            joined = b" ".join(present)
            if b"\0" in joined or not is_utf8(joined):
                for value in present:
                    check(value)
            is_plain = _SPECIAL.search(joined) is None
        if is_plain:
            if None in values:
                return [_NULL if value is None else value for value in values]
            return values  # type: ignore[return-value]
        return [_NULL if value is None else _escaped(value) for value in values]


def is_utf8(data: bytes) -> bool:
    """Whether bytes are text."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
