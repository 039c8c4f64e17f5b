"""Reading delimited sources whole, for the tests."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from sqlkit.sources.base import Dialect, Piece, ResumePoint, WantedColumn
from sqlkit.sources.delimited import DelimitedReader, DelimitedSource
from sqlkit.sources.records import Grammar
from sqlkit.sources.stored import StoredFile


def source(path: Path | str, **options: Any) -> DelimitedSource:
    return DelimitedSource(StoredFile(str(path)), Dialect(**options))


def drain(reader: DelimitedReader, piece_bytes: int = 1 << 20) -> list[Piece]:
    return list(reader.pieces([WantedColumn(name) for name in reader.columns], piece_bytes))


def read(
    path: Path | str,
    piece_bytes: int = 1 << 20,
    *,
    database_encoding: str = "UTF8",
    resume: ResumePoint | None = None,
    **options: Any,
) -> tuple[tuple[str, ...], list[Piece]]:
    """The columns and pieces of a file; what follows from the interface is checked on the way."""
    reader = source(path, **options).open(database_encoding=database_encoding, resume=resume)
    try:
        pieces = drain(reader, piece_bytes)
        for before, after in itertools.pairwise(pieces):
            assert after.start == before.end
            assert after.first_line == before.resume.line == before.last_line + 1
        for piece in pieces:
            assert piece.start < piece.end == piece.resume.offset
            assert piece.first_line <= piece.last_line <= piece.resume.line
        assert reader.fingerprint == reader._stream._stored.digest()
        return reader.columns, pieces
    finally:
        reader.close()


def rows(path: Path | str, piece_bytes: int = 1 << 20, **options: Any) -> list[dict[str, str]]:
    """The records as COPY reads them from the pieces (see `copy_records`), by column."""
    columns, pieces = read(path, piece_bytes, **options)
    return [
        dict(zip(columns, (value or "" for value in record), strict=True))
        for piece in pieces
        for record in copy_records(piece.data, **options)
    ]


def copy_records(
    data: bytes, *, delimiter: str = ",", quote: str = '"', escape: str | None = None, **_: Any
) -> list[list[str | None]]:
    """What COPY in CSV mode makes of UTF-8 `data`: written here after PostgreSQL's own parser.

    CopyReadLineText takes each quote outside quotes for an opening one and CopyReadAttributesCSV
    drops it, wherever it stands. A line end inside quotes is data.
    """
    escape = escape or quote
    text = data.decode()
    records: list[list[str | None]] = []
    fields: list[str | None] = []
    value, quoted, inside, position = "", False, False, 0

    def end_field() -> None:
        nonlocal value, quoted
        fields.append(None if not quoted and value == "" else value)
        value, quoted = "", False

    while position < len(text):
        c = text[position]
        following = text[position + 1 : position + 2]
        if inside:
            if c == escape and following in (escape, quote) and following:
                value += following
                position += 1
            elif c == quote:
                inside = False
            else:
                value += c
        elif c == quote:
            inside = quoted = True
        elif c == delimiter:
            end_field()
        elif c in "\r\n":
            if c == "\r" and following == "\n":
                position += 1
            end_field()
            records.append(fields)
            fields = []
        else:
            value += c
        position += 1
    assert not inside, "a piece ends inside quotes"
    if fields or value or quoted:
        end_field()
        records.append(fields)
    return records


def grammar(
    delimiter: str = ",", quote: str = '"', escape: str | None = None, eol: str = "\n"
) -> Grammar:
    return Grammar(
        delimiter=delimiter.encode(),
        quote=quote.encode(),
        escape=(escape or quote).encode(),
        eol=eol.encode(),
    )
