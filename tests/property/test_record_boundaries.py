"""Delimited text in any dialect, cut anywhere, arrives as it was written."""

from __future__ import annotations

import csv
import io
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlkit.errors import SourceError
from sqlkit.sources import records
from sqlkit.sources.records import BrokenQuotes
from tests.behaviour.sources.reading import copy_records, grammar, read

CHARACTERS = "ab1 \t,;|\"'\\.\r\nשé€\x0b\x1f"
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|\x1f:"),
        "quote": st.sampled_from("\"'"),
        "escape": st.sampled_from([None, "\\"]),
    }
)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
PIECE_SIZES = st.sampled_from([1, 2, 3, 7, 16, 64, 1 << 20])
# Not `tmp_path`, which is made once for all examples: a file of this process suffices.
SETTINGS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def tables(draw: st.DrawFn, *, characters: str = CHARACTERS) -> list[list[str]]:
    width = draw(st.integers(2, 4))
    value = st.text(st.sampled_from(characters), max_size=8)
    return draw(st.lists(st.lists(value, min_size=width, max_size=width), max_size=12))


def written(
    table: list[list[str]], delimiter: str, quote: str, escape: str | None, end: str, always: bool
) -> str:
    """CSV as any decent program writes it: quotes where needed, or always."""
    special = re.compile("[" + re.escape(delimiter + quote + "\r\n") + "]")

    def field(value: str) -> str:
        if not always and not special.search(value):
            return value
        inner = value
        if escape:
            inner = inner.replace(escape, escape + escape)
        return quote + inner.replace(quote, (escape or quote) + quote) + quote

    return "".join(delimiter.join(map(field, row)) + end for row in table)


@SETTINGS
@given(tables(), DIALECTS, LINE_ENDS, st.booleans(), st.booleans(), PIECE_SIZES)
def test_pieces_are_the_body_untouched_and_hold_whole_records(
    tmp_path: Path,
    table: list[list[str]],
    dialect: dict[str, Any],
    end: str,
    always: bool,
    last_end: bool,
    piece_bytes: int,
) -> None:
    delimiter, quote, escape = dialect["delimiter"], dialect["quote"], dialect["escape"]
    names = [[f"c{i}" for i in range(len(table[0]))]] if table else [["c0", "c1"]]
    header = written(names, delimiter, quote, escape, end, False)
    body = written(table, delimiter, quote, escape, end, always)
    if table and not last_end:
        body = body[: -len(end)]
    path = tmp_path / "t.csv"
    path.write_bytes((header + body).encode())

    columns, pieces = read(path, piece_bytes, **dialect)

    assert list(columns) == names[0]
    # A lone \r or \n inside quotes is data and stays; a line end is never another's
    assert b"".join(piece.data for piece in pieces) == body.encode()
    found = [record for piece in pieces for record in copy_records(piece.data, **dialect)]
    assert [[value or "" for value in record] for record in found] == table


def refused(body: str) -> bool:
    """A quote that is never closed, or one after the closing quote of its field, or anything after
    it where that was opened on another line: a character at a time, as independent of regular
    expressions as can be."""
    state = "start"
    lines = 0
    for c in body:
        if state == "inside":
            lines += c == "\n"
            state = "closing" if c == '"' else "inside"
        elif c in ",\n":
            state = "start"
        elif state == "start":
            state = "inside" if c == '"' else "plain"
            lines = 0
        elif state == "closing":
            state = "inside" if c == '"' else "after"
            if lines and state == "after":
                return True
        elif state == "after" and c == '"':
            return True
    return state == "inside"


@SETTINGS
@given(st.text(st.sampled_from('ab,"\n'), max_size=60), PIECE_SIZES)
def test_any_text_reads_as_python_reads_it_or_is_refused(
    tmp_path: Path, body: str, piece_bytes: int
) -> None:
    # one column more than any record can be mistaken to have, and no line that looks blank
    path = tmp_path / "t.csv"
    path.write_bytes(("h1,h2\n" + body).encode())
    if refused(body):
        with pytest.raises(SourceError) as caught:
            read(path, piece_bytes, delimiter=",")
        assert caught.value.code == "SK112"
        return
    _, pieces = read(path, piece_bytes, delimiter=",")
    found = [record for piece in pieces for record in copy_records(piece.data)]
    expected = [record for record in csv.reader(io.StringIO(body, newline="")) if record]
    assert [[value or "" for value in record] for record in found if record != [None]] == expected


@SETTINGS
@given(st.text(st.sampled_from('a,"\\\r\n'), max_size=40), st.sampled_from(["\n", "\r"]), DIALECTS)
def test_parity_where_it_is_trusted_agrees_with_walking(
    text: str, eol: str, dialect: dict[str, Any]
) -> None:
    rules = grammar(eol=eol, escape=dialect["escape"])
    data = text.encode()
    cut = rules.boundary(data)
    run, covered = rules.prepare(data, cut)
    assert covered in (cut, rules.careful_boundary(data))
    # what was prepared needs no more preparation, and holds as many records
    assert rules.prepare(run, len(run)) == (run, len(run))
    assert len(list(rules.records(run))) == len(list(rules.records(data[:covered])))


@SETTINGS
@given(tables(characters="ab1 ,\"'.\\"), st.booleans(), PIECE_SIZES)
def test_without_quotes_every_character_is_data(
    tmp_path: Path, table: list[list[str]], crlf: bool, piece_bytes: int
) -> None:
    end = "\r\n" if crlf else "\n"
    header = "\t".join(f"c{i}" for i in range(len(table[0]) if table else 2)) + end
    body = "".join("\t".join(row) + end for row in table)
    path = tmp_path / "t.tsv"
    path.write_bytes((header + body).encode())
    _, pieces = read(path, piece_bytes, delimiter="\t", quote="")
    found = [
        record
        for piece in pieces
        for record in copy_records(piece.data, delimiter="\t", quote="\x01")
    ]
    # empty lines at the end are dropped; with two columns or more there are none
    assert [[value or "" for value in record] for record in found] == table


@SETTINGS
@given(tables(), PIECE_SIZES, st.data())
def test_resumed_anywhere_the_rest_is_the_same(
    tmp_path: Path, table: list[list[str]], piece_bytes: int, data: st.DataObject
) -> None:
    path = tmp_path / "t.csv"
    text = written([["x", "y"], *[row[:2] for row in table]], ",", '"', None, "\n", False)
    path.write_bytes(text.encode())
    _, pieces = read(path, piece_bytes, delimiter=",")
    if not pieces:
        return
    at = data.draw(st.integers(0, len(pieces) - 1))
    _, rest = read(path, piece_bytes, resume=pieces[at].resume, delimiter=",")
    assert b"".join(p.data for p in rest) == b"".join(p.data for p in pieces[at + 1 :])
    assert [(p.start, p.first_line) for p in rest[:1]] == [
        (p.start, p.first_line) for p in pieces[at + 1 : at + 2]
    ]


@pytest.mark.parametrize("text", [b'"a', b'x,"a""', b'"a\n\n'])
def test_a_quote_still_open_is_not_broken_until_the_end(text: bytes) -> None:
    rules = grammar()
    rules.explain(text, 0)
    with pytest.raises(BrokenQuotes):
        rules.explain(text, 0, final=True)


def test_quotes_after_a_quoted_field_are_broken_whatever_follows() -> None:
    with pytest.raises(BrokenQuotes):
        grammar().explain(b'"a" b"', 0)


def test_very_many_quotes_without_a_line_end_are_walked_over_once() -> None:
    rules = grammar()
    text = b"a\n" + b'"",' * 20_000
    assert rules.boundary(text) == 2


@pytest.mark.parametrize("dense", [1, 48])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_every_short_text_that_is_trusted_reads_alike_in_both_ways(
    monkeypatch: pytest.MonkeyPatch, dense: int, end: bytes
) -> None:
    """All texts of up to seven characters: the shortcuts trust what walking over it confirms."""
    monkeypatch.setattr(records, "_DENSE", dense)  # 1 takes one shortcut, 48 the other
    rules = grammar()
    trusted = 0
    for length in range(8):
        for text in itertools.product(b'a,"\n', repeat=length):
            run = bytes(text).replace(b"\n", end) + end
            confirmed = rules._end(rules._clean, run, 0) == len(run)
            assert rules._trusted(run) == confirmed
            if confirmed:
                trusted += 1
                assert rules.boundary(run) == rules.careful_boundary(run) == len(run)
    assert trusted > 3000
