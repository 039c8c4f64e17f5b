"""Records one by one, for the careful way: each with its lines and its raw text.

A batch that the fast way cannot load is read again like this, into a stage of text. A row has,
before the source's own columns, first line, last line, raw text, SQLSTATE, message and lines;
SQLSTATE and message are there for a record that is no row at all, whose columns are then null.

Where records are not told apart by their lines, both numbers are that of the record, and the lines
are a range beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlkit.sources.base import CopyFormat
from sqlkit.sources.repertoire import BadRecord, Repertoire

MALFORMED = "22P04"  # bad_copy_file_format

Lines = tuple[int, int]
"""The physical lines that a record begins and ends on."""

NO_LINES: Lines = (0, -1)
"""Of a record that stands on no line: of a query, say."""

_ESCAPES = {b"\\": rb"\\", b"\t": rb"\t", b"\n": rb"\n", b"\r": rb"\r"}


class TextRows:
    """Writes rows in COPY's text format, of text that `repertoire` judges."""

    def __init__(self, format: CopyFormat, columns: int, repertoire: Repertoire) -> None:
        self._repertoire = repertoire
        delimiter = format.delimiter.encode()
        self._null = format.null.encode()
        self._escaped = re.compile(rb"[\\\t\n\r%b]" % re.escape(delimiter))
        null = self._null
        self._good = delimiter.join([b"%d", b"%d", b"%b", null, null, b"%b", b"%b"]) + b"\n"
        nulls = [null] * columns
        self._bad = delimiter.join([b"%d", b"%d", b"%b", b"%b", b"%b", b"%b", *nulls]) + b"\n"

    def good(self, number: int, raw: bytes, row: bytes, lines: Lines | None = None) -> bytes:
        """A record whose fields are a row already, without its newline.

        It is known by its line, or by another number beside its `lines`. Not everything in the raw
        text need be in the row; and an escape of one is a character of the other.
        """
        if not row.isascii() and (bad := self._repertoire.fault(row)):
            return self.bad(number, raw, bad, lines)
        shown = self._text(self._repertoire.shown(raw))
        return self._good % (number, number, shown, self._range(lines), row)

    def bad(self, number: int, raw: bytes, record: BadRecord, lines: Lines | None = None) -> bytes:
        """A record that is no row."""
        message = self._text(self._repertoire.shown(record.message.encode("utf-8", "replace")))
        shown = self._text(self._repertoire.shown(raw))
        state = record.sqlstate.encode()
        return self._bad % (number, number, shown, state, message, self._range(lines))

    def _range(self, lines: Lines | None) -> bytes:
        if lines is None:
            return self._null
        return b"empty" if lines == NO_LINES else b"[%d,%d]" % lines

    def _text(self, value: bytes) -> bytes:
        if value == self._null:
            # Not the null marker any more, and the same text.
            return b"\\x%02x" % value[0] + value[1:]
        return self._escaped.sub(lambda found: _ESCAPES.get(found[0]) or b"\\" + found[0], value)


class DelimitedRows:
    """Writes rows in the dialect of the source, so that its records may stand as they are."""

    def __init__(self, format: CopyFormat, columns: int, repertoire: Repertoire) -> None:
        codec = repertoire.codec
        self._delimiter = format.delimiter.encode()
        self._quote = format.quote.encode()
        self._escape = format.escape.encode()
        self._repertoire = repertoire
        null = format.null.encode(codec)
        self._good = self._delimiter.join([b"%d", b"%d", b"%b", null, null, null, b"%b"]) + b"%b"
        nulls = [null] * (1 + columns)
        self._bad = self._delimiter.join([b"%d", b"%d", b"%b", b"%b", b"%b", *nulls])

    def good(self, first: int, last: int, raw: bytes, record: bytes, end: bytes) -> bytes:
        """A record with as many fields as there are columns, and what it is in the source."""
        return self._good % (first, last, self._quoted(raw), record, end)

    def bad(self, first: int, last: int, raw: bytes, record: BadRecord, end: bytes) -> bytes:
        """A record that is no row."""
        text = self._bad % (
            first,
            last,
            self._quoted(self._repertoire.shown(raw)),
            self._quoted(record.sqlstate.encode()),
            self._quoted(record.message.encode(self._repertoire.codec, "backslashreplace")),
        )
        return text + end

    def _quoted(self, value: bytes) -> bytes:
        quote, escape = self._quote, self._escape
        if escape != quote and escape in value:
            value = value.replace(escape, escape + escape)
        if quote in value:
            value = value.replace(quote, escape + quote)
        return quote + value + quote


def numbered(
    records: Sequence[bytes] | Iterator[bytes], first: int, eol: bytes
) -> Iterator[tuple[int, int, bytes]]:
    """Records with the physical lines that they begin and end on, without their line ends."""
    line = first
    for record in records:
        lines = record.count(eol)
        body = record
        if record.endswith(eol):
            body = record[:-1]
            if eol == b"\n" and body.endswith(b"\r"):
                body = body[:-1]
            last = line + lines - 1
        else:
            last = line + lines
        yield line, last, body
        line = last + 1
