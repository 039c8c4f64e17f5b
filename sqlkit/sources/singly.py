"""Records one by one, for the careful way: each with its lines and its raw text.

A batch that the fast way cannot load is read again like this, into a stage of text. A row has,
before the source's own columns, first line, last line, raw text, SQLSTATE and message; the last two
are there for a record that is no row at all, whose columns are then null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlkit.sources.base import CopyFormat
from sqlkit.sources.repertoire import BadRecord, Repertoire

MALFORMED = "22P04"  # bad_copy_file_format

_ESCAPES = {b"\\": rb"\\", b"\t": rb"\t", b"\n": rb"\n", b"\r": rb"\r"}


class TextRows:
    """Writes rows in COPY's text format, of text that `repertoire` judges."""

    def __init__(self, format: CopyFormat, columns: int, repertoire: Repertoire) -> None:
        self._repertoire = repertoire
        delimiter = format.delimiter.encode()
        self._null = format.null.encode()
        self._escaped = re.compile(rb"[\\\t\n\r%b]" % re.escape(delimiter))
        null = self._null
        self._good = delimiter.join([b"%d", b"%d", b"%b", null, null, b"%b"]) + b"\n"
        nulls = [null] * columns
        self._bad = delimiter.join([b"%d", b"%d", b"%b", b"%b", b"%b", *nulls]) + b"\n"

    def good(self, line: int, raw: bytes, row: bytes) -> bytes:
        """A record whose fields are a row already, without its newline.

        Not everything in the raw text need be in the row; and an escape of one is a character of
        the other.
        """
        if not row.isascii() and (bad := self._repertoire.fault(row)):
            return self.bad(line, raw, bad)
        return self._good % (line, line, self._text(self._repertoire.shown(raw)), row)

    def bad(self, line: int, raw: bytes, record: BadRecord) -> bytes:
        """A record that is no row."""
        message = self._text(self._repertoire.shown(record.message.encode("utf-8", "replace")))
        shown = self._text(self._repertoire.shown(raw))
        return self._bad % (line, line, shown, record.sqlstate.encode(), message)

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
        self._good = self._delimiter.join([b"%d", b"%d", b"%b", null, null, b"%b"]) + b"%b"
        self._bad = self._delimiter.join([b"%d", b"%d", b"%b", b"%b", b"%b", *[null] * columns])

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
