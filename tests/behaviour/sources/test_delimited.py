"""CSV and TSV: header, dialect, line ends, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources import delimited
from sqlkit.sources.base import Dialect, WantedColumn
from sqlkit.sources.delimited import DelimitedSource, check_dialect
from sqlkit.sources.stored import StoredFile
from tests.behaviour.sources.reading import drain, read, rows, source

SIZES = pytest.mark.parametrize("piece_bytes", [1, 5, 1 << 20])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


def body(path: Path, text: bytes, piece_bytes: int = 1 << 20, **options: Any) -> bytes:
    """What COPY is given of `text`."""
    path.write_bytes(text)
    return b"".join(piece.data for piece in read(path, piece_bytes, **options)[1])


def refused(path: Path, text: bytes, **options: Any) -> SourceError:
    path.write_bytes(text)
    with pytest.raises(SourceError) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    return caught.value


# --- header and columns


def test_the_header_names_the_columns(path: Path) -> None:
    header = 'id,"a ""b""\nc",שם\n'.encode()
    path.write_bytes(header + b"1,2,3\n")
    columns, (piece,) = read(path)
    assert columns == ("id", 'a "b"\nc', "שם")
    assert (piece.data, piece.first_line, piece.last_line) == (b"1,2,3\n", 3, 3)
    assert (piece.start, piece.end) == (len(header), len(header) + 6)


def test_blank_lines_before_the_header_are_passed_over(path: Path) -> None:
    path.write_bytes(b"\n\r\na,b\n1,2\n")
    columns, (piece,) = read(path)
    assert (columns, piece.first_line) == (("a", "b"), 4)


def test_a_header_alone_is_a_load_of_no_rows(path: Path) -> None:
    for text in (b"a,b", b"a,b\n", b"a,b\r\n", b"a,b\n\n\n"):
        path.write_bytes(text)
        assert read(path) == (("a", "b"), [])


def test_without_header_the_columns_are_numbered_or_named(path: Path) -> None:
    path.write_bytes(b"1,2\n3,4\n")
    columns, (piece,) = read(path, header=False)
    assert (columns, piece.data) == (("column1", "column2"), b"1,2\n3,4\n")
    assert read(path, header=False, columns=("x", "y"))[0] == ("x", "y")
    error = refused(path, b"1,2\n", header=False, columns=("x", "y", "z"))
    assert "2 fields, but 3 columns" in str(error)


def test_names_given_replace_the_header(path: Path) -> None:
    path.write_bytes(b"a,a\n1,2\n")
    columns, (piece,) = read(path, columns=("x", "y"))
    assert (columns, piece.data) == (("x", "y"), b"1,2\n")
    assert "2 columns, but 1 were named" in str(refused(path, b"a,b\n", columns=("x",)))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"a,b,a\n", "'a' twice, as column 1 and 3"),
        (b",a\n", "column 1 of 2 has no name"),
        (b'a," "\n', "column 2 of 2 has no name"),
    ],
)
def test_names_that_are_missing_or_double(path: Path, header: bytes, message: str) -> None:
    error = refused(path, header + b"1,2,3\n")
    assert message in str(error)
    assert (error.code, error.line) == ("SK111", 1)
    assert "--columns" in (error.hint or "")


@pytest.mark.parametrize("text", [b"", b"\xef\xbb\xbf", b"\n\r\n\n", gzip.compress(b"", mtime=0)])
@pytest.mark.parametrize("header", [True, False])
def test_an_empty_file(path: Path, text: bytes, header: bool) -> None:
    error = refused(path, text, header=header)
    assert error.code == "SK108"
    assert "is empty" in str(error)


def test_a_header_that_never_ends(path: Path) -> None:
    assert refused(path, b"a," * (1 << 20)).code == "SK113"
    assert refused(path, b'a,"b\n' + b"1,2\n" * 1000).code == "SK112"


def test_all_columns_must_be_wanted_in_their_order(path: Path) -> None:
    path.write_bytes(b"a,b\n1,2\n")
    reader = source(path).open()
    with pytest.raises(ValueError, match="all its columns"):
        next(reader.pieces([WantedColumn("b"), WantedColumn("a")], 100))
    reader.close()
    reader.close()


# --- dialect


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [True, False])
def test_the_delimiter_is_found_out(path: Path, delimiter: str, header: bool) -> None:
    lines = [["name", '"x,y;z|,;\t,;|"', "c"], ["1", "2", "3"], ["4", "5", "6"]]
    path.write_text("".join(delimiter.join(line) + "\n" for line in lines))
    reader = source(path, header=header).open()
    assert reader.copy_format.delimiter == delimiter
    assert len(reader.columns) == 3
    reader.close()


def test_without_header_the_delimiter_is_what_every_line_has(path: Path) -> None:
    path.write_bytes(b"1,5;2,5;x\n1;2,5;y\n3;4;z\n")
    reader = source(path, header=False).open()
    assert reader.copy_format.delimiter == ";"
    reader.close()


def test_one_column_needs_no_delimiter(path: Path) -> None:
    path.write_bytes(b"name\nx\n\ny\n\n")
    columns, (piece,) = read(path)
    assert columns == ("name",)
    # an empty line is a null there, the last one too
    assert piece.data == b"x\n\ny\n\n"


def test_tsv_is_csv_with_tabs(path: Path) -> None:
    path.write_bytes(b'a,1\tb\n"x\ty"\t2\n')
    found = DelimitedSource(StoredFile(str(path)), format="tsv")
    reader = found.open()
    assert (found.format, found.passes_through) == ("tsv", True)
    assert reader.columns == ("a,1", "b")
    assert [piece.data for piece in drain(reader)] == [b'"x\ty"\t2\n']
    reader.close()


def test_what_copy_is_told(path: Path) -> None:
    path.write_bytes(b"a;b\n1;2\n")
    reader = source(path, quote="'", escape="\\", null="NULL").open()
    told = reader.copy_format
    assert (told.format, told.delimiter, told.quote, told.escape) == ("csv", ";", "'", "\\")
    assert (told.null, told.encoding) == ("NULL", "UTF8")
    reader.close()
    reader = source(path, quote="").open()
    assert reader.copy_format.quote == reader.copy_format.escape == "\x01"
    reader.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": "||"}, "not one ASCII character"),
        ({"delimiter": "¦"}, "not one ASCII character"),
        ({"delimiter": "\n"}, "ends a line"),
        ({"delimiter": ""}, "empty"),
        ({"delimiter": '"'}, "delimiter and the quote"),
        ({"quote": "«"}, "quote '«' is not one ASCII"),
        ({"quote": "", "escape": "\\"}, "escape without a quote"),
        ({"delimiter": "\\", "escape": "\\"}, "delimiter and the escape"),
        ({"null": 'a"b'}, "holds the quote"),
        ({"null": "a\nb"}, "holds a line end"),
        ({"null": "a,b", "delimiter": ","}, "holds the delimiter"),
    ],
)
def test_a_dialect_that_copy_cannot_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_dialect(Dialect(**options))
    assert caught.value.exit_code == 2


def test_a_null_that_holds_the_delimiter_found_out(path: Path) -> None:
    path.write_bytes(b"a;b\n1;2\n")
    with pytest.raises(UsageError, match="holds the delimiter ';'"):
        read(path, null="n;a")


@pytest.mark.parametrize("spelled", ["tab", r"\t", "\t"])
def test_spellings_of_tab(spelled: str) -> None:
    assert check_dialect(Dialect(delimiter=spelled)).delimiter == "\t"


# --- quotes


@SIZES
def test_a_quote_within_an_unquoted_field_is_data(path: Path, piece_bytes: int) -> None:
    text = b'id,name\n1,5" pipe\n2,7"\n3,9"\n4,"a ""b"""\n5,\'x\'"\n'
    assert body(path, text, piece_bytes) == (
        b'1,"5"" pipe"\n2,"7"""\n3,"9"""\n4,"a ""b"""\n5,"\'x\'"""\n'
    )
    assert [row["name"] for row in rows(path, piece_bytes)] == [
        '5" pipe',
        '7"',
        '9"',
        'a "b"',
        "'x'\"",
    ]


@SIZES
def test_text_after_a_quoted_field_belongs_to_it(path: Path, piece_bytes: int) -> None:
    path.write_bytes(b'a,b\n"x" ,"y"z\n')
    assert rows(path, piece_bytes) == [{"a": "x ", "b": "yz"}]


@SIZES
def test_quotes_that_make_no_sense_name_the_line(path: Path, piece_bytes: int) -> None:
    path.write_bytes(b'a,b\n1,2\n3,"open\n5,6\n7,"x"\n')
    with pytest.raises(SourceError, match="closed within a field of another line") as caught:
        read(path, piece_bytes)
    assert (caught.value.code, caught.value.line) == ("SK112", 3)
    assert (caught.value.detail or "").startswith('3,"open\n5,6')


@SIZES
@pytest.mark.parametrize("compressed", [False, True])
def test_a_quote_never_closed_names_the_line_of_its_record(
    path: Path, piece_bytes: int, compressed: bool
) -> None:
    text = b'a,b\n1,2\n"x\ny",2\n3,"open\n5,6\n'
    path.write_bytes(gzip.compress(text) if compressed else text)
    with pytest.raises(SourceError, match="never closed") as caught:
        read(path, piece_bytes)
    assert (caught.value.code, caught.value.line) == ("SK112", 5)


def test_a_quote_never_closed_does_not_fill_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD", 4 << 20)
    with path.open("wb") as file:
        file.write(b'a,b\n1,2\n3,"open\n')
        for _ in range(64):
            file.write(b"1,2\n" * (1 << 18))
    tracemalloc.start()
    with pytest.raises(SourceError, match="not closed within 4 MiB") as caught:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.line == 3
    assert peak < 24 << 20


def test_a_record_too_long_names_its_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD", 1 << 20)
    error = refused(path, b"a,b\n1,2\n" + b"x" * (3 << 20))
    assert (error.code, error.line) == ("SK113", 3)


def test_a_record_longer_than_a_piece(path: Path) -> None:
    long = b'1,"' + b"line\n" * 300_000 + b'"\n'
    text = b"a,b\n" + long + b"2,3\n" + long
    path.write_bytes(text)
    _, pieces = read(path, 1000)
    assert b"".join(piece.data for piece in pieces) == text[4:]
    assert pieces[-1].last_line == 600_003 + 1
    began = time.perf_counter()
    read(path, 1)  # looked at again only when twice as much is there
    assert time.perf_counter() - began < 5


def test_without_quotes_the_stand_in_is_data_too(path: Path) -> None:
    given = body(path, b'a\tb\n"1\t2"\n\x013\t4\n', quote="", delimiter="\t")
    assert given == b'"1\t2"\n\x01\x01\x013\x01\t4\n'


# --- line ends


@SIZES
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_pass_untouched(path: Path, end: bytes, last: bool, piece_bytes: int) -> None:
    text = end.join([b"a,b", b"1,2", b'"x\ny\r\nz\rw",4', b"5,6"]) + (end if last else b"")
    assert body(path, text, piece_bytes) == text[3 + len(end) :]
    assert [row["a"] for row in rows(path, piece_bytes)] == ["1", "x\ny\r\nz\rw", "5"]


@SIZES
def test_line_ends_of_two_kinds_are_made_alike(path: Path, piece_bytes: int) -> None:
    text = b'a,b\r\n1,2\n3,"x\r\ny"\r\n4,5\n'
    path.write_bytes(text)
    _, pieces = read(path, piece_bytes)
    for piece in pieces:  # each by itself: COPY is told nothing of the others
        outside = b"".join(piece.data.split(b'"')[::2])
        assert outside.count(b"\r\n") in (0, outside.count(b"\n"))
    assert rows(path, piece_bytes) == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "x\r\ny"},
        {"a": "4", "b": "5"},
    ]


@SIZES
def test_a_lone_carriage_return_in_a_field_is_data(path: Path, piece_bytes: int) -> None:
    path.write_bytes(b"a,b\n1,x\ry\n2,z\r\n3,\r\r\n")
    assert [row["b"] for row in rows(path, piece_bytes)] == ["x\ry", "z", "\r"]


@SIZES
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_at_the_end_are_dropped(path: Path, end: bytes, piece_bytes: int) -> None:
    assert body(path, b"a,b\n1,2" + end * 5, piece_bytes) == b"1,2" + end


@SIZES
def test_blank_lines_elsewhere_are_left_to_the_server(path: Path, piece_bytes: int) -> None:
    assert body(path, b"a,b\n1,2\n\n\n3,4\n", piece_bytes) == b"1,2\n\n\n3,4\n"


def test_a_file_cut_between_the_two_halves_of_a_line_end(path: Path) -> None:
    path.write_bytes(b"a,b\r\n1,2\r\n3,4\r")
    assert rows(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


# --- \. and NUL


@SIZES
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_end_marker_of_copy_is_quoted_where_it_is_a_record(
    path: Path, end: bytes, piece_bytes: int
) -> None:
    text = end.join([b"a", b"\\.", b'"x', b"\\.", b'"', b"\\.z", b"y\\.", b"\\."])
    given = end.join([b'"\\."', b'"x', b"\\.", b'"', b"\\.z", b"y\\.", b'"\\."'])
    assert body(path, text, piece_bytes) == given


def test_nul_is_left_to_the_server_but_not_in_the_header(path: Path) -> None:
    assert body(path, b"a,b\n1,\0\n") == b"1,\0\n"
    assert "NUL" in str(refused(path, b"a\0,b\n1,2\n"))


# --- lines and sample


def test_lines_are_those_of_the_file(path: Path) -> None:
    path.write_bytes(b'a,b\n1,"x\ny"\n2,z\n"\n\n",4')
    _, pieces = read(path, 1)
    assert [(p.data, p.first_line, p.last_line) for p in pieces] == [
        (b'1,"x\ny"\n', 2, 3),
        (b"2,z\n", 4, 4),
        (b'"\n\n",4', 5, 7),
    ]


@SIZES
def test_a_sample_consumes_nothing(path: Path, piece_bytes: int) -> None:
    text = b'a,b\n1,\n2,""\n\n"3 ""x"" "y,4\n5\n'
    path.write_bytes(text)
    reader = source(path).open()
    sample = [("1", None), ("2", ""), ('3 "x" y', "4"), ("5",)]
    assert reader.sample(2) == sample[:2]
    assert reader.sample(100) == sample
    assert reader.sample(100) == sample
    pieces = drain(reader, piece_bytes)
    assert b"".join(p.data for p in pieces) == body(path, text)
    reader.close()


def test_a_sample_of_a_large_file_reads_only_its_beginning(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a,b\n")
        for _ in range(40):
            file.write(b"12345678,NULL\n" * 100_000)
    reader = source(path, null="NULL").open()
    assert reader.sample(1000) == [("12345678", None)] * 1000
    assert reader.progress.decoded_bytes < 4 << 20
    reader.close()


def test_a_sample_of_broken_quotes_names_the_line(path: Path) -> None:
    path.write_bytes(b'a,b\n1,2\n3,"x\n')
    reader = source(path).open()
    with pytest.raises(SourceError, match="line 3"):
        reader.sample(10)
    reader.close()


# --- resuming


def test_resuming_with_another_header_is_refused(path: Path) -> None:
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    point = read(path, 1)[1][0].resume
    assert (point.offset, point.line) == (8, 3)
    assert [p.data for p in read(path, 1, resume=point)[1]] == [b"3,4\n"]
    for other in (b"a,c\n1,2\n3,4\n", b"", b"a,b\n", b"x" * 100):
        path.write_bytes(other)
        with pytest.raises(SourceError) as caught:
            read(path, resume=point)
        assert caught.value.code == "SK103"


def test_resuming_after_a_sample_sized_head(path: Path) -> None:
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7) for i in range(200_000))
    path.write_bytes(gzip.compress(text, 1))
    _, pieces = read(path, 300_000)
    for piece in pieces[:: len(pieces) // 3]:
        _, rest = read(path, 500_000, resume=piece.resume)
        assert b"".join(p.data for p in rest) == text[piece.end :]
        if rest:
            assert rest[0].first_line == piece.last_line + 1


# --- memory and speed


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    def peak(megabytes: int) -> int:
        with gzip.open(path, "wb", 1) as file:
            file.write(b"a,b\n")
            for _ in range(megabytes):
                file.write(b'12345,"abcdef"\n' * (1 << 16))
        reader = source(path).open()
        tracemalloc.start()
        for _ in reader.pieces([WantedColumn("a"), WantedColumn("b")], 4 << 20):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        reader.close()
        return used

    small, large = peak(16), peak(64)
    assert large < small * 1.2
    assert large < 40 << 20


def test_what_a_quote_seemed_to_hold_is_no_piece_by_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD", 1 << 16)
    lines = [f"{n},name {n}\n" for n in range(20_000)]
    path.write_text("".join(["id,name\n", *lines[:5], '5,"never closed\n', *lines[6:]]))
    reader = source(path).open(database_encoding="UTF8")
    wanted = [WantedColumn(name) for name in reader.columns]
    pieces = list(reader._pieces(wanted, 1 << 12, keeps_broken=True))
    reader.close()
    assert [piece.data for piece in pieces[:2]] == [
        "".join(lines[:5]).encode(),
        b'5,"never closed\n',
    ]
    assert b"".join(piece.data for piece in pieces[2:]) == "".join(lines[6:]).encode()
    assert max(len(piece.data) for piece in pieces) < 3 << 12
    assert [piece.first_line for piece in pieces[:3]] == [2, 7, 8]
    assert pieces[-1].last_line == 20_001
