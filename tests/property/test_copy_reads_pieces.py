"""What PostgreSQL makes of the pieces is what was written, on every version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from sqlkit.sources.base import CopyFormat, WantedColumn
from tests.behaviour.sources.reading import source
from tests.conftest import Database

pytestmark = pytest.mark.oldest_and_newest

VALUES = [
    "",
    "\\.",
    "a",
    '"',
    '""',
    "'",
    "\\",
    "\\N",
    " ",
    '5" pipe',
    "x\ny",
    "x\ry",
    "x\r\ny",
    "\r",
    "\n",
    "שלום",
    "😀",
    ",",
    ";",
    "\t",
    '",',
    '\\"',
    "NULL",
    "\x01",
    "a" * 300,
]


@pytest.fixture
def connection(empty_database: Database) -> Any:
    with empty_database.connect() as opened:
        opened.prepare_threshold = None  # the table is another each time
        yield opened


def copied(
    connection: psycopg.Connection, path: Path, piece_bytes: int, **options: Any
) -> list[tuple[str | None, ...]]:
    """Each piece by a COPY of its own, into a table of text columns; the rows in their order."""
    reader = source(path, **options).open(database_encoding="UTF8")
    try:
        names = [sql.Identifier(name) for name in reader.columns]
        connection.execute("drop table if exists t")
        connection.execute(
            sql.SQL("create unlogged table t ({})").format(
                sql.SQL(", ").join(sql.SQL("{} text").format(name) for name in names)
            )
        )
        told = reader.copy_format
        for piece in reader.pieces([WantedColumn(n) for n in reader.columns], piece_bytes):
            with connection.cursor() as cursor, cursor.copy(command(told)) as copy:
                copy.write(piece.data)
    finally:
        reader.close()
    return connection.execute("select * from t order by ctid").fetchall()


def command(told: CopyFormat) -> sql.Composed:
    return sql.SQL(
        "copy t from stdin (format csv, delimiter {}, quote {}, escape {}, null {}, encoding {})"
    ).format(told.delimiter, told.quote, told.escape, told.null, told.encoding)


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, list[tuple[str | None, ...]], dict[str, Any]]:
    """A file, the rows in it, and its dialect; quotes where a program may or must write them."""
    delimiter = draw(st.sampled_from(",;\t|"))
    quote = draw(st.sampled_from("\"'"))
    escape = draw(st.sampled_from([None, "\\"]))
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"]]))
    encoding = draw(st.sampled_from(["utf-8", "utf-16", "gb18030"]))
    width = draw(st.integers(1, 3))
    careless = draw(st.booleans())  # leaves out quotes that only COPY would want

    def field(value: str | None) -> str:
        if value is None:
            return ""
        must = delimiter + "\r\n"
        plain = not re.search(f"[{re.escape(must)}]", value) and value != ""
        if careless and plain and not value.startswith(quote):
            return value
        if careless and "\r" not in ends and re.fullmatch("[a-z]*\r[a-z]+", value):
            return value
        if plain and quote not in value and draw(st.booleans()):
            return value
        if escape:
            value = value.replace(escape, escape * 2)
        return quote + value.replace(quote, (escape or quote) + quote) + quote

    rows = draw(
        st.lists(st.tuples(*[st.one_of(st.none(), st.sampled_from(VALUES))] * width), max_size=8)
    )
    # a blank line at the end of a file with several columns is none of its rows
    text = delimiter.join(f"c{i}" for i in range(width)) + ends[0]
    for row in rows:
        text += delimiter.join(map(field, row)) + draw(st.sampled_from(ends))
    options = {"delimiter": delimiter, "quote": quote, "escape": escape, "encoding": encoding}
    return text.encode(encoding), rows, options


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(files(), st.sampled_from([1, 5, 40, 1 << 20]))
def test_copy_reads_what_was_written(
    connection: psycopg.Connection,
    tmp_path: Path,
    file: tuple[bytes, list[tuple[str | None, ...]], dict[str, Any]],
    piece_bytes: int,
) -> None:
    text, rows, options = file
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    assert copied(connection, path, piece_bytes, **options) == rows


def test_without_quotes_copy_reads_every_character(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b'a\tb\n"x\ty"\n\x01\t\x01z\x01\n\\.\t\\N\n')
    assert copied(connection, path, 1, delimiter="\t", quote="") == [
        ('"x', 'y"'),
        ("\x01", "\x01z\x01"),
        ("\\.", "\\N"),
    ]


def test_the_end_marker_does_not_end_the_data(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a\n1\n\\.\n2\n\\.")
    assert copied(connection, path, 1 << 20) == [("1",), ("\\.",), ("2",), ("\\.",)]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (b"a,b\n1,2\n3,\0\n", "0x00", 2),
        (b"a,b\n1,2\n3,4\n5,\xff\n", "0xff", 3),
        (b"a,b\n1,2\n3\n", 'missing data for column "b"', 2),
        (b"a,b\n1,2\n3,4,5\n", "extra data after last expected column", 2),
        (b"a,b\n1,2\n\n3,4\n", 'missing data for column "b"', 2),
    ],
)
def test_what_is_left_to_the_server_it_refuses_with_the_line(
    connection: psycopg.Connection, tmp_path: Path, text: bytes, message: str, line: int
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    with pytest.raises(psycopg.DataError, match=re.escape(message)) as caught:
        copied(connection, path, 1 << 20)
    assert f"line {line}" in (caught.value.diag.context or "")
