"""Reading JSON lines whole, and COPY's text format, for the tests."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from psycopg import sql

from sqlkit.sources.base import CopyFormat, Piece, ResumePoint, WantedColumn
from sqlkit.sources.json_rows import ROWS
from sqlkit.sources.jsonl import JsonLinesReader, JsonLinesSource
from sqlkit.sources.stored import StoredFile

Fields = dict[str, str | None]

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_FIELD = re.compile(rf"{ROWS.delimiter}((?:[^\\{ROWS.delimiter}]|\\.)*)", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def source(path: Path | str, **options: Any) -> JsonLinesSource:
    return JsonLinesSource(StoredFile(str(path)), **options)


def drain(
    reader: JsonLinesReader,
    piece_bytes: int = 1 << 20,
    *,
    json_columns: Collection[str] = (),
    ignored: frozenset[str] | None = frozenset(),
) -> list[Piece]:
    """All pieces with all columns; what follows from the interface is checked on the way."""
    wanted = [WantedColumn(name, is_json=name in json_columns) for name in reader.columns]
    pieces = list(reader.pieces(wanted, piece_bytes, ignored))
    for before, after in itertools.pairwise(pieces):
        assert after.start == before.end
        assert after.first_line == before.resume.line == before.last_line + 1
    for piece in pieces:
        assert piece.data
        assert piece.start < piece.end == piece.resume.offset
        assert piece.first_line <= piece.last_line <= piece.resume.line
    return pieces


def read(
    path: Path | str,
    piece_bytes: int = 1 << 20,
    *,
    json_columns: Collection[str] = (),
    ignored: frozenset[str] | None = frozenset(),
    resume: ResumePoint | None = None,
    **options: Any,
) -> tuple[tuple[str, ...], list[Piece]]:
    reader = source(path, **options).open(resume=resume)
    try:
        pieces = drain(reader, piece_bytes, json_columns=json_columns, ignored=ignored)
        assert reader.fingerprint == source(path).fingerprint()
        return reader.columns, pieces
    finally:
        reader.close()


def rows(path: Path | str, piece_bytes: int = 1 << 20, **options: Any) -> list[Fields]:
    """The records as COPY reads them from the pieces, by column."""
    columns, pieces = read(path, piece_bytes, **options)
    return [
        dict(zip(columns, record, strict=True)) for piece in pieces for record in copied(piece.data)
    ]


def copied(data: bytes) -> list[list[str | None]]:
    """What COPY makes of `data` in the text format, by the rules of its documentation."""
    assert data.endswith(b"\n")
    assert b"\r" not in data  # COPY takes no such character as it is
    lines = data.decode().split("\n")[:-1]
    assert r"\." not in lines  # would end the data
    assert not any(re.search(r"(?<!\\)(?:\\\\)*\\$", line) for line in lines)  # nor its end
    return [[_value(field) for field in _FIELD.findall(ROWS.delimiter + line)] for line in lines]


def _value(field: str) -> str | None:
    return None if field == ROWS.null else _ESCAPE.sub(_unescaped, field)


def _unescaped(found: re.Match[str]) -> str:
    hexadecimal, octal, other = found.groups()
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    return chr(int(octal, 8)) if octal else _LETTERS.get(other, other)


def copy_statement(table: str, format: CopyFormat) -> sql.Composed:
    options = [
        sql.SQL("format {}").format(sql.Identifier(format.format)),
        sql.SQL("delimiter {}").format(sql.Literal(format.delimiter)),
        sql.SQL("null {}").format(sql.Literal(format.null)),
        sql.SQL("encoding {}").format(sql.Literal(format.encoding)),
    ]
    if format.format == "csv":
        options.append(sql.SQL("quote {}").format(sql.Literal(format.quote)))
        options.append(sql.SQL("escape {}").format(sql.Literal(format.escape)))
    return sql.SQL("copy {} from stdin with ({})").format(
        sql.Identifier(table), sql.SQL(", ").join(options)
    )
