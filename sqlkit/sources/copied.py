r"""What COPY makes of a piece: its rows as text, for those who do not use COPY."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlkit.sources.base import CopyFormat
from sqlkit.sources.records import NO_QUOTE, Grammar
from sqlkit.sources.repertoire import SERVER_CODECS

_ESCAPED = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def rows_of(format: CopyFormat, data: bytes) -> Iterator[list[str | None]]:
    """The rows of a piece that is not in the binary format; null as None."""
    codec = "utf-8" if format.encoding == "UTF8" else SERVER_CODECS[format.encoding]
    if format.format == "csv":
        grammar = Grammar(
            delimiter=format.delimiter.encode(),
            quote=b"" if format.quote == NO_QUOTE.decode() else format.quote.encode(),
            escape=format.escape.encode(),
            eol=b"\n" if b"\n" in data else b"\r",
            null=format.null.encode(codec),
        )
        for record in grammar.records(data):
            fields = grammar.fields(record)
            yield [None if field is None else field.decode(codec) for field in fields]
        return
    delimiter, null = format.delimiter.encode(), format.null.encode()
    for row in data.split(b"\n")[:-1]:
        yield [
            None if field == null else unescaped(field).decode(codec)
            for field in text_fields(row, delimiter)
        ]


def text_fields(row: bytes, delimiter: bytes) -> Iterator[bytes]:
    """The fields of a row in COPY's text format, without its newline, with their escapes."""
    fields = iter(row.split(delimiter))
    for field in fields:
        while (len(field) - len(field.rstrip(b"\\"))) % 2:
            field += delimiter + next(fields)
        yield field


def unescaped(field: bytes) -> bytes:
    """A field without the escapes of COPY's text format."""
    return _ESCAPED.sub(_meant, field) if b"\\" in field else field


def _meant(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return bytes([int(found[1], 16)])
    if found[2]:
        return bytes([int(found[2], 8) & 255])
    return _LETTERS.get(found[3], found[3])
