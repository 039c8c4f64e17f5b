"""Text in any encoding arrives as UTF-8, and what does not belong to it is named."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from sqlkit.errors import SourceError, UsageError
from tests.behaviour.sources.reading import read, rows, source

HEBREW = "שלום"
SAMPLES = {
    "cp1255": HEBREW,
    "iso8859-8": HEBREW,
    "cp862": HEBREW,
    "latin-1": "Zürich é",
    "cp1252": "Zürich €",
    "iso8859-15": "€",
    "koi8-r": "привет",
    "cp437": "ß½",
    "shift_jis": "表示ソ",  # the second byte of each is an ASCII backslash
    "euc_jp": "日本語",
    "iso2022_jp": "日本語",
    "gb18030": "中文|€",
    "big5": "中文功",
    "euc_kr": "한국어",
    "utf-16": HEBREW + "😀",
    "utf-16-le": HEBREW + "😀",
    "utf-16-be": "ਊ",  # U+0A0A: two bytes that look like line ends
    "utf-32": HEBREW,
    "utf-7": HEBREW,
    "utf-8": HEBREW + "😀",
    "utf-8-sig": HEBREW,
    "ascii": "plain",
    "cp037": "EBCDIC",
}


@pytest.mark.parametrize("encoding", SAMPLES)
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_transcoded_to_utf8(tmp_path: Path, encoding: str, piece_bytes: int) -> None:
    value = SAMPLES[encoding]
    path = tmp_path / "t.csv"
    text = f'name,{value}\n1,{value}\n"2 ""\n","{value}"\n' + f"3,{value}\n" * 50
    path.write_bytes(text.encode(encoding))
    columns, pieces = read(path, piece_bytes, encoding=encoding)
    assert columns == ("name", value)
    # offsets and bytes are those of the text as UTF-8
    assert b"".join(p.data for p in pieces) == text.encode()[pieces[0].start :]
    assert pieces[-1].last_line == 54
    assert rows(path, piece_bytes, encoding=encoding)[1] == {"name": '2 "\n', value: value}
    # and can be resumed anywhere
    middle = pieces[len(pieces) // 2]
    _, rest = read(path, piece_bytes, encoding=encoding, resume=middle.resume)
    assert b"".join(p.data for p in rest) == text.encode()[middle.end :]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, mark: bytes, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(mark + f'"a",{HEBREW}\n1,2\n'.encode(encoding))
    general = encoding.removesuffix("-le").removesuffix("-be")
    for said in (None, encoding, general):
        columns, (piece,) = read(path, encoding=said)
        assert (columns, piece.data) == (("a", HEBREW), b"1,2\n")
        assert piece.start == len(f'"a",{HEBREW}\n'.encode())
    with pytest.raises(SourceError, match="byte order mark") as caught:
        read(path, encoding="cp1255")
    assert caught.value.code == "SK107"


def test_the_encoding_of_the_database_passes_untouched(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    text = f"a,{HEBREW}\n1,{HEBREW}\n".encode("cp1255")
    path.write_bytes(text)
    reader = source(path, encoding="windows-1255").open(database_encoding="WIN1255")
    assert reader.columns == ("a", HEBREW)
    assert reader.sample(1) == [("1", HEBREW)]
    assert reader.copy_format.encoding == "WIN1255"
    reader.close()
    _, (piece,) = read(path, encoding="windows-1255", database_encoding="WIN1255")
    assert text.endswith(piece.data)
    # without being told so, a file is UTF-8 whatever the database
    with pytest.raises(SourceError) as caught:
        read(path, database_encoding="WIN1255")
    assert caught.value.code == "SK107"


def test_utf8_goes_as_utf8_to_any_database(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,é\n")
    reader = source(path).open(database_encoding="LATIN1")
    assert reader.copy_format.encoding == "UTF8"
    reader.close()


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [
        ("ascii", b"\xe9"),
        ("cp1255", b"\xff"),
        ("shift_jis", b"\x81\xff"),
        ("euc_jp", b"\xff"),
        ("gb18030", b"\xff"),
        ("big5", b"\xff"),
        ("iso2022_jp", b"\x80"),
        ("utf-16-le", b"\x00\xdc"),
    ],
)
@pytest.mark.parametrize("rows_before", [0, 3, 200_000])
def test_a_byte_of_another_encoding_is_named_with_line_and_offset(
    tmp_path: Path, encoding: str, bad: bytes, rows_before: int
) -> None:
    path = tmp_path / "t.csv"
    before = ("a,b\n" + "1,2\n" * rows_before + "x,").encode(encoding)
    path.write_bytes(before + bad + "\n3,4\n".encode(encoding))
    with pytest.raises(SourceError) as caught:
        read(path, encoding=encoding)
    error = caught.value
    assert (error.code, error.line) == ("SK107", rows_before + 2)
    assert f"offset {len(before)} " in str(error)
    assert "--encoding" in (error.hint or "")


def test_text_that_ends_within_a_character(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    text = "a,b\n1,2\n".encode("utf-16-le")
    path.write_bytes(text[:-1])
    with pytest.raises(SourceError) as caught:
        read(path, encoding="utf-16-le")
    assert caught.value.line == 2
    assert f"offset {len(text) - 2} " in str(caught.value)


def test_a_header_in_another_encoding_names_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text in (f"{HEBREW},b\n".encode("cp1255"), "a,b\n1,2\n".encode("utf-16-le")):
        path.write_bytes(text)
        with pytest.raises(SourceError, match="header is not utf-8") as caught:
            read(path)
        assert caught.value.code == "SK107"
        assert "--encoding" in (caught.value.hint or "")


@pytest.mark.parametrize("encoding", ["no-such", "rot13", "base64", "a\0b", ""])
def test_an_encoding_that_does_not_exist(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a\n")
    with pytest.raises(UsageError, match="no text encoding"):
        read(path, encoding=encoding)
