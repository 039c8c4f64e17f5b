"""JSON lines arrive in PostgreSQL as they were written, or not at all and with a reason."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqlkit.errors import SourceError
from sqlkit.sources.base import WantedColumn
from sqlkit.sources.json_rows import ROWS, RowMaker
from sqlkit.sources.jsonl import WHOLE, WHOLE_COLUMN, JsonLinesReader
from tests.behaviour.sources.json_reading import (
    Fields,
    copied,
    copy_statement,
    drain,
    read,
    rows,
    source,
)
from tests.conftest import Database, environment
from tests.real_data import real_data


@pytest.fixture
def lines(tmp_path: Path) -> Any:
    def write(data: bytes | str) -> Path:
        path = tmp_path / "f.jsonl"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


OpenReader = Callable[..., JsonLinesReader]


@pytest.fixture
def opened() -> Iterator[OpenReader]:
    """``opened(path, whole=True)`` gives a reader, closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def open_reader(path: Path, **options: Any) -> JsonLinesReader:
            return stack.enter_context(contextlib.closing(source(path, **options).open()))

        yield open_reader


def values(data: bytes, *, json: bool = False) -> list[str | None]:
    """What COPY reads for key v of these lines."""
    made = RowMaker([WantedColumn("v", is_json=json)], None).rows(data)
    return [value for (value,) in copied(made)]


# --- values


# JSON token, its text in a column that is not json (None: null)
TOKENS = [
    ("0", "0"),
    ("1.10", "1.10"),
    ("-0.0", "-0.0"),
    ("1e5", "1e5"),
    ("1E-400", "1E-400"),
    ("123456789012345678901234567890.1234567890", "123456789012345678901234567890.1234567890"),
    ("9" * 5000, "9" * 5000),
    ("true", "true"),
    ("false", "false"),
    ("null", None),
    ('"null"', "null"),
    (r'"\u006eull"', "null"),
    ('"NULL"', "NULL"),
    ('""', ""),
    ('" "', " "),
    (r'"\\N"', r"\N"),
    (r'"\\."', r"\."),
    (r'"\\"', "\\"),
    (r'"\\\\"', r"\\"),
    (r'"\\n"', r"\n"),
    (r'"\""', '"'),
    (r'"\"\""', '""'),
    (r'"\"null\""', '"null"'),
    (r'"\\\"null"', r"\"null"),
    (r'"a\tb\nc\rd\be\ff\/g"', "a\tb\nc\rd\be\ff/g"),
    (r'"\u0009\u000a\u000d\u0008\u000c\u002f"', "\t\n\r\b\f/"),
    (r'"\u0001\u001f1\u001e\u000bf\u007f"', "\x01\x1f1\x1e\x0bf\x7f"),
    (r'"\u05e9\u05DC\u05d5ם €\u20ac"', "שלום €€"),
    (r'"\ud83d\ude00 😀"', "😀 😀"),
    (r'"\\u0041 \u0041 \\\u0041"', r"\u0041 A \A"),
    (r'"\\ud800 \\u0000"', r"\ud800 \u0000"),
    (r'"\\x41 \\101"', r"\x41 \101"),
    ('"\u2028\u0085\x7f\ufeff"', "\u2028\u0085\x7f\ufeff"),
    ('"a,b;c|d"', "a,b;c|d"),
    ("{}", "{}"),
    ("[]", "[]"),
    ("[1, 2]", "[1, 2]"),
    ('{"a":\t1}', '{"a":\t1}'),
    (r'{"a":"x\ny\\","b":["\u0000","null",null]}', r'{"a":"x\ny\\","b":["\u0000","null",null]}'),
    ('["]", "}", ","]', '["]", "}", ","]'),
    ('["null"]', '["null"]'),
]


@pytest.mark.parametrize(("token", "text"), TOKENS)
def test_a_value_alone(token: str, text: str | None) -> None:
    line = f'{{"v":{token}}}'.encode()
    assert values(line) == [text]
    assert values(line, json=True) == [None if token == "null" else token]


def test_values_of_every_kind_in_one_column() -> None:
    data = "".join(f'{{"v": {token} }}\n' for token, _ in TOKENS).encode()
    assert values(data) == [text for _, text in TOKENS]
    assert values(data, json=True) == [None if t == "null" else t for t, _ in TOKENS]


@pytest.mark.parametrize("other", ['"x"', "null", r'"\u05d0"', "1", r'{"a":"\\"}'])
def test_values_beside_one_of_another_kind(other: str) -> None:
    expected = values(f'{{"v":{other}}}'.encode())
    for token, text in TOKENS:
        data = f'{{"v":{other}}}\n{{"v":{token}}}\n{{"v":{other}}}\n'.encode()
        assert values(data) == [*expected, text, *expected], token


def test_both_ways_give_the_same_rows() -> None:
    data = "".join(f'{{"a":{t},"v":{t},"b":1}}\n' for t, _ in TOKENS).encode()
    maker = RowMaker([WantedColumn("v"), WantedColumn("a", True), WantedColumn("c")], None)
    assert maker._decode is not None
    assert maker.rows(data) == maker._careful_rows(data.split(b"\n"))


@pytest.mark.oldest_and_newest
def test_postgresql_reads_what_was_written(
    empty_database: Database, lines: Any, opened: OpenReader
) -> None:
    storable = [(t, text) for t, text in TOKENS if r"\u0000" not in t or r"\\u0000" in t]
    path = lines(
        "".join(
            f'{{"n":{i},"v":{token},"j":{token},"b":{token},"x":1.10}}\n'
            for i, (token, _) in enumerate(storable)
        )
    )
    reader = opened(path)
    wanted = [WantedColumn(name, is_json=name in "jb") for name in ("n", "v", "j", "b", "absent")]
    with empty_database.connect() as connection:
        connection.execute("create table t (n int, v text, j json, b jsonb, absent int)")
        with connection.cursor() as cursor, cursor.copy(copy_statement("t", ROWS)) as copy:
            for piece in reader.pieces(wanted, 100, frozenset({"x"})):
                copy.write(piece.data)
        found = connection.execute("select v, j::text, b = j::jsonb, absent from t order by n")
        assert found.fetchall() == [
            (text, None if t == "null" else t, None if t == "null" else True, None)
            for t, text in storable
        ]


def test_typed_columns(empty_database: Database, lines: Any) -> None:
    path = lines(
        '{"id":1,"price":12.30,"at":"2024-05-06T07:08:09.123456+03:00","ok":true,"tags":["a","b"]}\n'
        '{"ok":false,"price":12345678901234567890.123456789012345678901234567890,"id":2}\n'
    )
    columns, pieces = read(path, json_columns={"tags"})
    assert columns == ("id", "price", "at", "ok", "tags")
    with empty_database.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(
            "create table t (id bigint, price numeric, at timestamptz, ok bool, tags jsonb)"
        )
        with connection.cursor() as cursor, cursor.copy(copy_statement("t", ROWS)) as copy:
            for piece in pieces:
                copy.write(piece.data)
        found = connection.execute("select id, price::text, at::text, ok, tags->>1 from t")
        assert found.fetchall() == [
            (1, "12.30", "2024-05-06 04:08:09.123456+00", True, "b"),
            (2, "12345678901234567890.123456789012345678901234567890", None, False, None),
        ]


# --- keys


def test_columns_are_the_keys_in_order_of_appearance(lines: Any, opened: OpenReader) -> None:
    path = lines('{"b":1,"a":2}\n{"c":3,"a":4,"id.orig_h":5}\n')
    assert opened(path).columns == ("b", "a", "c", "id.orig_h")
    assert rows(path) == [
        {"b": "1", "a": "2", "c": None, "id.orig_h": None},
        {"b": None, "a": "4", "c": "3", "id.orig_h": "5"},
    ]


KEYS = [
    "",
    " ",
    "a.b",
    "a b",
    "A",
    "select",
    "מפתח",
    "😀",
    'q"q',
    "b\\b",
    "t\tt",
    "null",
    "f0",
    "é",
]


@pytest.mark.parametrize("ascii", [True, False])
def test_any_key_works(lines: Any, ascii: bool, opened: OpenReader) -> None:
    record = {key: str(i) for i, key in enumerate(KEYS)}
    path = lines(json.dumps(record, ensure_ascii=ascii) + "\n")
    assert opened(path).columns == tuple(KEYS)
    assert rows(path) == [record]
    for key in KEYS:
        maker = RowMaker([WantedColumn(key)], frozenset(KEYS))
        assert copied(maker.rows(path.read_bytes())) == [[record[key]]]


def test_a_key_written_with_escapes_is_the_same_key() -> None:
    assert values(rb'{"\u0076":1}') == ["1"]


def test_of_a_key_that_occurs_twice_the_last_counts() -> None:
    assert values(b'{"v":1,"v":2}\n{"v":3,"x":0,"v":null}') == ["2", None]


def test_wanted_keys_may_be_in_any_order_repeated_or_absent() -> None:
    wanted = [WantedColumn("b"), WantedColumn("a", True), WantedColumn("z"), WantedColumn("a")]
    assert copied(RowMaker(wanted, None).rows(b'{"a":"x","b":2}\n')) == [["2", '"x"', None, "x"]]


@pytest.mark.parametrize("rare", ["rare", 'r"re'])
def test_an_unknown_key_is_an_error_unless_left_out(
    lines: Any, rare: str, opened: OpenReader
) -> None:
    late = json.dumps({"a": 1, rare: {"x": "y"}, "c": 1})
    path = lines('{"a":0,"b":0}\n' * 5 + "\n" + late + "\n")
    wanted = [WantedColumn("a")]
    with pytest.raises(SourceError) as caught:
        list(opened(path).pieces(wanted, 1 << 20, frozenset({"b", "c"})))
    error = caught.value
    assert (error.code, error.line) == ("SK116", 7)
    assert f"line 7: the key {rare!r} was not seen before" in error.message or rare in str(error)
    assert "--leave-out" in (error.hint or "")
    assert error.detail == 'its value: {"x": "y"}'
    for ignored in (frozenset({"b", "c", rare}), None):
        (piece,) = opened(path).pieces(wanted, 1 << 20, ignored)
        assert copied(piece.data) == [["0"]] * 5 + [["1"]]


def test_a_key_first_seen_beyond_the_beginning(lines: Any, opened: OpenReader) -> None:
    path = lines('{"a":"0123456789abcdef"}\n' * 200_000 + '{"a":1,"late":2}\n')
    reader = opened(path)
    assert reader.columns == ("a",)
    with pytest.raises(SourceError, match=r"line 200001: the key 'late' was not seen before"):
        drain(reader)
    wanted = [WantedColumn("a"), WantedColumn("late")]
    *_, last = opened(path).pieces(wanted, 1 << 20, frozenset())
    assert copied(last.data)[-1] == ["1", "2"]
    assert last.last_line == 200_001


def test_keys_may_be_named_beforehand(lines: Any, opened: OpenReader) -> None:
    path = lines('{"a":1,"b":2}\n')
    assert opened(path, columns=("z", "b")).columns == ("z", "b")
    assert rows(path, columns=("z", "b"), ignored=None) == [{"z": None, "b": "2"}]


# --- lines


@pytest.mark.parametrize(
    ("data", "last_line"),
    [
        (b'{"a":1}\n{"a":2}\n', 2),
        (b'{"a":1}\n{"a":2}', 2),
        (b'{"a":1}\r\n{"a":2}\r\n', 2),
        (b'{"a":1}\r\n{"a":2}', 2),
        (b'\xef\xbb\xbf{"a":1}\n{"a":2}\n', 2),
        (b'\n\n{"a":1}\n \t\n\r\n{"a":2}\n\n', 7),
        (b' {"a" : 1 } \t\n\t{ "a":2}\r', 2),
        ('\ufeff{"a":1}\n{"a":2}\n'.encode("utf-16-le"), 2),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 9, 1 << 20])
def test_lines_end_in_any_way_and_blank_ones_count(
    lines: Any, data: bytes, last_line: int, piece_bytes: int
) -> None:
    path = lines(data)
    assert rows(path, piece_bytes) == [{"a": "1"}, {"a": "2"}]
    _, pieces = read(path)
    assert pieces[-1].last_line == last_line


def test_compressed_and_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "f.json.gz"
    path.write_bytes(gzip.compress('{"מוצר":"חלב"}\n'.encode("cp1255")))
    assert rows(path, encoding="cp1255") == [{"מוצר": "חלב"}]


def test_pieces_are_whole_lines_and_add_up(lines: Any) -> None:
    data = "".join(f'{{"i":{i},"s":"{"é" * (i % 40)}"}}\n' for i in range(500)).encode()
    path = lines(data)
    whole = b"".join(piece.data for piece in read(path)[1])
    for piece_bytes in (1, 100, 5000, 1 << 30):
        _, pieces = read(path, piece_bytes)
        assert b"".join(piece.data for piece in pieces) == whole
        assert pieces[0].start == 0
        assert pieces[-1].end == len(data)
        assert pieces[-1].last_line == 500
        for piece in pieces:
            assert data[piece.start : piece.end].count(b"\n") == len(copied(piece.data))
            assert data.count(b"\n", 0, piece.start) + 1 == piece.first_line


def test_an_interrupted_load_continues_after_any_piece(lines: Any) -> None:
    path = lines("".join(f'{{"i":{i}}}\n' + "\n" * (i % 3) for i in range(100)))
    _, pieces = read(path, 50)
    assert len(pieces) > 10
    for done, piece in enumerate(pieces, start=1):
        _, rest = read(path, 50, resume=piece.resume)
        assert b"".join(p.data for p in rest) == b"".join(p.data for p in pieces[done:])
        if rest:
            assert (rest[0].first_line, rest[0].start) == (piece.resume.line, piece.end)
            assert (rest[-1].last_line, rest[-1].end) == (pieces[-1].last_line, pieces[-1].end)
    changed = lines(path.read_bytes().replace(b'"i":3}', b'"i":4}'))
    with pytest.raises(SourceError) as caught:
        read(changed, 50, resume=pieces[5].resume)
    assert caught.value.code == "SK103"


def test_sample_consumes_nothing(lines: Any, opened: OpenReader) -> None:
    path = lines('{"a":"x\\ny","b":1.10}\nnonsense\n\n{"a":null,"b":{"c":"\\u05d0"}}\n{"b":3}\n')
    reader = opened(path)
    assert reader.sample(2) == [("x\ny", "1.10"), (None, '{"c":"\\u05d0"}')]
    assert reader.sample(9)[2:] == [(None, "3")]
    with pytest.raises(SourceError, match="line 2: the line is not valid JSON"):
        drain(reader)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    block = b"".join(
        b'{"id": %d, "name": "na\xc3\xafve \\"q\\" \\u05d0", "price": 12.30, "o": {"a": [1]}}\n' % i
        for i in range(10_000)
    )
    path = tmp_path / "big.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(block)
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from sqlkit.sources.base import WantedColumn\n"
        "from sqlkit.sources.jsonl import JsonLinesSource\n"
        "from sqlkit.sources.stored import StoredFile\n"
        "reader = JsonLinesSource(StoredFile(sys.argv[1])).open()\n"
        "wanted = [WantedColumn(name) for name in reader.columns]\n"
        "for piece in reader.pieces(wanted, 4 << 20): pass\n"
        # not ru_maxrss, which counts what this process had before it became another program
        "status = Path('/proc/self/status').read_text()\n"
        "print(piece.last_line, *re.findall(r'VmHWM:\\s*([0-9]+) kB', status))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    last_line, peak = map(int, done.stdout.split())
    assert last_line == 2_000_000
    assert len(block) * 200 > 150_000_000
    assert peak < 80_000  # KiB


# --- bad input


BAD = [
    (b'{"a":1}\n{"a":}\n', 2, "SK114", "at its byte 6: invalid character"),
    (b'{"a":1}\n\n\n{"a":1\n', 4, "SK114", "ends in the middle of a value"),
    (b'{"a":1}\n{"a":1} {"a":2}\n', 2, "SK114", "at its byte 9: something follows the object"),
    (b'{"a":1}\n{"a":1},\n', 2, "SK114", "something follows the object"),
    (b'{"a":1}\n{"a":NaN}\n', 2, "SK114", "NaN and Infinity are no JSON"),
    (b'{"a":1}\n{"a":-Infinity}\n', 2, "SK114", "NaN and Infinity are no JSON"),
    (b'{"a":1}\n{"a":01}\n', 2, "SK114", "invalid number"),
    (b'{"a":1}\n{"a":"x\ty"}\n', 2, "SK114", "invalid character"),
    (b'{"a":1}\n{"a":"x\x00y"}\n', 2, "SK114", "invalid character"),
    (b'{"a":1}\n{"a":"\x1f"}\n', 2, "SK114", "invalid character"),
    (b'{"a":1}\n{"a":"\\x41"}\n', 2, "SK114", "invalid escaped character"),
    (b"{'a':1}\n", 1, "SK114", "at its byte 2: object keys must be strings"),
    (b'{"a":1}\n{"a":"\\ud800 and"}\n', 2, "SK114", r"\ud800 is half of a surrogate pair"),
    (b'{"a":1}\n{"a":"\\ud800"}\n', 2, "SK114", r"\ud800 is half of a surrogate pair"),
    (b'{"a":1}\n{"b":["\\\\\\uDC00"]}\n', 2, "SK114", r"\uDC00 is half of a surrogate pair"),
    (b'{"a":1}\n{"a":"\\ud83d\\ude00\\ud83d"}\n', 2, "SK114", r"\ud83d is half"),
    (b'{"a":1}\n{"a":x,"b":"\\ud800"}\n', 2, "SK114", "at its byte 6: invalid character"),
    (b'{"a":1}\n[1]\n', 2, "SK115", "an array, not a JSON object"),
    (b'{"a":1}\n"a"\n', 2, "SK115", "a string, not"),
    (b'{"a":1}\n null\n', 2, "SK115", "null, not"),
    (b'{"a":1}\n1e999\n', 2, "SK115", "a number, not"),
    (b'{"a":1}\n[1\n', 2, "SK114", "ends in the middle of a value"),
    (b'{"a":1}\n{"a":"\xff"}\n', 2, "SK107", "byte 7 of the line is not UTF-8 (ff:"),
    (b'{"a":1}\n{"zz":"\xc3\n"}\n', 2, "SK107", "is not UTF-8 (c3:"),
    (b'{"a":1}\n{"a":"\xed\xa0\x80"}\n', 2, "SK107", "is not UTF-8"),
    (b'{"a":"\\u05d0"}\n{"a":"x\\u0000"}\n', 2, "SK117", r"key 'a' holds \u0000"),
    (b'{"a":1}\n{"a":"\\u0000"}\n', 2, "SK117", r"key 'a' holds \u0000"),
    (b'{"a":1}\n{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", 2, "SK114", "too deeply"),
    (b'{"a":1}\n' + b'{"a":' * 100_000 + b"}" * 100_000 + b"\n", 2, "SK114", "too deeply"),
    (b'{"a":1}\n' + b"[" * 100_000 + b"]" * 100_000 + b"\n", 2, "SK114", "too deeply"),
]


@pytest.mark.parametrize(("data", "line", "code", "says"), BAD)
def test_a_bad_line_is_named(lines: Any, data: bytes, line: int, code: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(lines(data), ignored=None)
    error = caught.value
    assert says in error.message
    assert (error.line, error.code) == (line, code)
    assert str(error).startswith(f"{error.source}, line {line}: ")
    assert error.hint
    assert error.detail


@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_a_bad_line_deep_in_the_file(lines: Any, piece_bytes: int, opened: OpenReader) -> None:
    good = b'{"a":"some text that takes its place"}\n'
    path = lines(good * 20_000 + b'\n{"a":tru}\n' + good * 10)
    reader = opened(path)
    with pytest.raises(SourceError, match="line 20002: the line is not valid JSON, at its byte"):
        drain(reader, piece_bytes)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "is empty"), (b"\n \r\n\n", "blank lines"), (b"\xef\xbb\xbf", "is empty")],
)
def test_an_empty_file(lines: Any, data: bytes, says: str, opened: OpenReader) -> None:
    for whole in (False, True):
        with pytest.raises(SourceError, match=says) as caught:
            opened(lines(data), whole=whole)
        assert caught.value.code == "SK108"


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b'{"a": 1}\n[{"a": 1}]\n', "jq -c '.[]' FILE"),
        (b'{\n  "a": 1\n}\n', "jq -c . FILE"),
    ],
)
def test_json_that_is_not_one_object_a_line(
    lines: Any, data: bytes, hint: str, opened: OpenReader
) -> None:
    with pytest.raises(SourceError, match=r"line [12]: ") as caught:
        read(lines(data))
    assert hint in (caught.value.hint or "")


def test_a_line_without_end(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlkit.sources.jsonl.MAX_LINE", 1 << 20)
    endless = b'{"a":"' + b"x" * (6 << 20)
    for data, line in ((endless, 1), (b'{"a":1}\n' + endless, 2)):
        with pytest.raises(SourceError, match=f"line {line}: the line is longer than") as caught:
            read(lines(data))
        assert caught.value.code == "SK113"


def test_a_long_line_is_no_error(lines: Any) -> None:
    text = "x" * (6 << 20)
    data = f'{{"a":"{text}"}}\n' * 2
    assert rows(lines(data)) == [{"a": text}] * 2


def test_nesting_that_python_can_follow(lines: Any) -> None:
    token = "[" * 500 + "]" * 500
    assert rows(lines(f'{{"a":{token}}}\n')) == [{"a": token}]


def test_a_nul_may_stand_where_it_is_not_text(lines: Any, opened: OpenReader) -> None:
    path = lines('{"a":"\\u0000","b":"\\u0000","c":["\\u0000"]}\n')
    reader = opened(path)
    wanted = [WantedColumn("a", is_json=True), WantedColumn("c")]
    (piece,) = reader.pieces(wanted, 1 << 20, None)
    assert copied(piece.data) == [[r'"\u0000"', r'["\u0000"]']]


# --- whole lines


def test_whole_lines_go_through_untouched(
    empty_database: Database, lines: Any, opened: OpenReader
) -> None:
    data = (
        b'{"a": 1.10, "b": "x\\n\\u0041\\"", "c": "\xd7\xa9"}\r\n'
        b"\n"
        b' [1,\r2] \n"text"\nnull\n12345678901234567890.0\n  \t\n{"z": {}}'
    )
    path = lines(data)
    reader = opened(path, whole=True)
    assert reader.columns == (WHOLE_COLUMN,)
    assert reader.copy_format == WHOLE
    assert reader.sample(2) == [(data.split(b"\r")[0].decode(),), ("[1,\r2]",)]
    pieces = drain(reader, 1)
    assert pieces[-1].last_line == 8
    expected = [line for line in data.decode().replace("\r\n", "\n").split("\n") if line.strip()]
    with empty_database.connect() as connection:
        connection.execute("create table t (line json)")
        for piece in pieces:
            with connection.cursor() as cursor, cursor.copy(copy_statement("t", WHOLE)) as copy:
                copy.write(piece.data)
        found = connection.execute("select line::text from t").fetchall()
        assert [text for (text,) in found] == expected


def test_whole_lines_are_the_very_bytes(lines: Any) -> None:
    data = b'{"a":"\xd7\xa9\\n"}\n' * 1000
    _, pieces = read(lines(data), whole=True)
    assert b"".join(piece.data for piece in pieces) == data


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (rb"\.", "SK114"),
        (b'"\x01"', "SK114"),
        (b"\x03", "SK114"),
        (b'"\x02"', "SK114"),
        (b'"\x00"', "SK114"),
        (b'"\xff"', "SK107"),
    ],
)
def test_what_would_mislead_copy_is_refused(lines: Any, line: bytes, code: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(lines(b'"\\\\."\n{}\n' + line + b"\n{}\n"), whole=True)
    assert (caught.value.line, caught.value.code) == (3, code)


def test_whole_lines_one_by_one_are_the_same_lines(lines: Any, opened: OpenReader) -> None:
    texts = [r'{"a":"\n\\"}', "null", "[1,\r2]", "\x1f", r"\N", '"שלום"']
    path = lines("\r\n".join(texts) + '\n"\x01"\n')
    reader = opened(path, whole=True)
    (piece,) = reader.single_records([WantedColumn(WHOLE_COLUMN, is_json=True)], 1 << 20)
    *good, bad = copied(piece.data)
    assert good == [
        [
            str(number),
            str(number),
            text if text == texts[-1] else f"{text}\r",
            None,
            None,
            None,
            text,
        ]
        for number, text in enumerate(texts, start=1)
    ]
    assert bad[:2] == ["7", "7"]
    assert bad[6] is None


# --- real data


def _parsing_tests() -> dict[str, bytes]:
    archive = real_data("malformed", "json", "JSONTestSuite-test_parsing.tar.gz")
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if member.name.endswith(".json") and (file := tar.extractfile(member)):
                found[Path(member.name).stem] = file.read()
    assert len(found) == 318
    return found


# Of what must be accepted, these hold newlines between tokens and so cannot stand on one line;
# with spaces in their place they can. None does so inside a string, where it would be invalid.
WITH_NEWLINES = {
    "y_array_with_1_and_newline",
    "y_object_with_newlines",
}


def attempt(path: Path, **options: Any) -> list[Fields] | SourceError:
    """The records of a file, or why there are none."""
    try:
        return rows(path, **options)
    except SourceError as error:
        return error


def test_json_test_suite(lines: Any) -> None:
    seen = set()
    for name, content in _parsing_tests().items():
        path = lines(b'{"before":0}\n{"v":' + content.removesuffix(b"\n") + b"}\n")
        outcome = attempt(path, json_columns={"v"})
        if isinstance(outcome, SourceError):
            assert not name.startswith("y_") or name in WITH_NEWLINES, (name, outcome)
            assert outcome.line is not None
            assert outcome.line >= 2
            assert outcome.hint
            seen.add((name[:2], "refused"))
        else:
            assert not name.startswith("n_"), name
            token = content.strip(b" \t\r\n").decode()
            assert outcome[1]["v"] == (None if token == "null" else token), name
            seen.add((name[:2], "accepted"))
    assert seen == {
        ("y_", "accepted"),
        ("y_", "refused"),
        ("n_", "refused"),
        ("i_", "accepted"),
        ("i_", "refused"),
    }


def test_json_test_suite_with_newlines_made_spaces(lines: Any) -> None:
    suite = _parsing_tests()
    broken = {n for n, c in suite.items() if n.startswith("y_") and b"\n" in c.strip(b"\n")}
    assert broken == WITH_NEWLINES
    for name in sorted(broken):
        content = suite[name].replace(b"\n", b" ")
        (row,) = rows(lines(b'{"v":' + content + b"}\n"), json_columns={"v"})
        assert row["v"] == content.decode().strip(), name


def test_json_test_suite_as_whole_files(lines: Any) -> None:
    for name, content in _parsing_tests().items():
        outcome = attempt(lines(content), columns=("a", "b", "foo", "asd"), ignored=None)
        if isinstance(outcome, SourceError):
            assert outcome.hint, name
            assert outcome.code in ("SK107", "SK108", "SK114", "SK115", "SK117"), (name, outcome)
            if name.startswith("y_object") and name not in WITH_NEWLINES:
                assert outcome.code == "SK117", name
        else:
            # An array holds rows: the only one here that has nothing but objects is empty.
            assert len(outcome) == (0 if content.strip().startswith(b"[") else 1), name
            assert not name.startswith("n_"), name


@pytest.mark.parametrize("log", ["dns", "notice", "ssl", "weird"])
def test_zeek_logs_equal_what_json_loads_reads(log: str) -> None:
    path = real_data("zeek", f"{log}.json.gz")
    columns, pieces = read(path, 4 << 20)
    found = (record for piece in pieces for record in copied(piece.data))
    count = 0
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line, record in zip(file, found, strict=True):
            expected = json.loads(line, parse_float=str, parse_int=str)
            for name, text in zip(columns, record, strict=True):
                value = expected.get(name)
                if isinstance(value, (list, dict)):
                    assert text is not None
                    assert json.loads(text, parse_float=str, parse_int=str) == value
                    assert text in line
                elif isinstance(value, bool):
                    assert text == str(value).lower()
                else:
                    assert text == value
            count += 1
    assert set(columns) >= {"_path", "ts", "uid"}
    assert pieces[-1].last_line == count


def test_zeek_log_in_postgresql(empty_database: Database) -> None:
    path = real_data("zeek", "notice.json.gz")
    columns, pieces = read(path, json_columns={"actions"})
    with empty_database.connect() as connection:
        connection.execute(
            psycopg.sql.SQL("create table t ({})").format(
                psycopg.sql.SQL(", ").join(
                    psycopg.sql.SQL("{} {}").format(
                        psycopg.sql.Identifier(name),
                        psycopg.sql.SQL("jsonb" if name == "actions" else "text"),
                    )
                    for name in columns
                )
            )
        )
        with connection.cursor() as cursor, cursor.copy(copy_statement("t", ROWS)) as copy:
            for piece in pieces:
                copy.write(piece.data)
        counted = connection.execute(
            """select count(*), count(distinct uid), max("id.orig_p"::int),
                      bool_and(jsonb_typeof(actions) = 'array') from t"""
        ).fetchone()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    assert counted == (
        len(records),
        len({record["uid"] for record in records if "uid" in record}),
        max(record.get("id.orig_p", 0) for record in records),
        True,
    )


def test_messages_fit_on_a_screen(lines: Any) -> None:
    path = lines(b'{"a":"' + b"x" * 100_000 + b'\t"}\n')
    with pytest.raises(SourceError) as caught:
        read(path)
    assert len(str(caught.value)) < 300
    assert len(caught.value.detail or "") < 300
    assert re.search(r"near: …x+\t", caught.value.detail or "")
