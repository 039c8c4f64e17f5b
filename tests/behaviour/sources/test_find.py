"""From what a user names to sources: patterns, archives, formats, and what cannot be one."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.base import Dialect, Source
from sqlkit.sources.find import find_sources


def found(*specs: str | Path, **options: object) -> list[Source]:
    return find_sources([str(spec) for spec in specs], **options)  # type: ignore[arg-type]


def names(sources: list[Source], below: Path) -> list[str]:
    return [source.name.removeprefix(f"{below}/") for source in sources]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("part10.csv", "part2.csv", "part1.csv", "notes.txt", "sub/part3.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a,b\n1,2\n")
    return tmp_path


def test_a_pattern_gives_its_files_in_natural_order(folder: Path) -> None:
    assert names(found(folder / "part*.csv"), folder) == ["part1.csv", "part2.csv", "part10.csv"]
    assert names(found(folder / "**" / "*.csv"), folder) == [
        "part1.csv",
        "part2.csv",
        "part10.csv",
        "sub/part3.csv",
    ]
    # directories are no files
    assert names(found(folder / "*"), folder) == [
        "notes.txt",
        "part1.csv",
        "part2.csv",
        "part10.csv",
    ]


def test_paths_come_in_the_order_given(folder: Path) -> None:
    given = found(folder / "part2.csv", folder / "part1*.csv", folder / "notes.txt")
    assert names(given, folder) == ["part2.csv", "part1.csv", "part10.csv", "notes.txt"]
    assert all(source.repeatable and source.size == 8 for source in given)


def test_names_are_kept_as_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [source.name for source in found("./part1.csv", "sub/*.csv")] == [
        "./part1.csv",
        "sub/part3.csv",
    ]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "data[1].csv"
    path.write_text("a\n")
    assert [source.name for source in found(path)] == [str(path)]


def test_a_pattern_without_match(folder: Path) -> None:
    with pytest.raises(SourceError, match="no file matches") as caught:
        found(folder / "*.parquet")
    assert caught.value.code == "SK102"
    assert str(Path.cwd()) in (caught.value.hint or "")
    with pytest.raises(SourceError, match="only directories match"):
        found(folder / "su*")


def test_what_is_no_file_is_refused_before_anything_is_loaded(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for name, code in (("missing.csv", "SK102"), ("sub", "SK104"), ("pipe", "SK104")):
        with pytest.raises(SourceError) as caught:
            found(folder / "part1.csv", folder / name)
        assert (caught.value.code, caught.value.source) == (code, str(folder / name))


def test_wrong_use() -> None:
    for specs, options, message in (
        ([], {}, "no source"),
        (["-", "-"], {}, "named twice"),
        (["x.csv"], {"format": "xls"}, "no format"),
        (["x.csv"], {"dialect": Dialect(delimiter="||")}, "not one ASCII"),
        (["x.csv"], {"dialect": Dialect(encoding="nonsense")}, "no text encoding"),
    ):
        with pytest.raises(UsageError, match=message):
            found(*specs, **options)


# --- formats


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("t.csv", "csv"),
        ("t.CSV.GZ", "csv"),
        ("t.tsv", "tsv"),
        ("t.tab.zst", "tsv"),
        ("t.jsonl", "jsonl"),
        ("t.ndjson.bz2", "jsonl"),
        ("t.json.xz", "jsonl"),
        ("t.csv.2026-08-09", "csv"),
        ("t", "csv"),
    ],
)
def test_the_name_tells_the_format(tmp_path: Path, name: str, format: str) -> None:
    (tmp_path / name).write_text("a,b\n1,2\n")
    assert [source.format for source in found(tmp_path / name)] == [format]


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ('{"a": 1}\n', "jsonl"),
        ('\ufeff { "a": 1}\n', "jsonl"),
        ("{}\n", "jsonl"),
        ('[{"a": 1}, {"a": 2}]\n', "jsonl"),
        ('\ufeff[\n  {\n    "a": 1}]', "jsonl"),
        ("[a],b\n", "csv"),
        ("{a},{b}\n1,2\n", "csv"),
        ("a,b\n1,2\n", "csv"),
        ("", "csv"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_else_the_content_does(tmp_path: Path, text: str, format: str, packed: bool) -> None:
    path = tmp_path / "data"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert [source.format for source in found(path)] == [format]


def test_what_is_said_goes_before_all(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('{"a": 1}\n')
    assert [source.format for source in found(path, format="jsonl")] == ["jsonl"]
    assert [source.format for source in found(path, format="tsv")] == ["tsv"]
    assert [source.format for source in found(path, whole=True)] == ["jsonl"]
    with pytest.raises(UsageError, match="go whole into one column"):
        found(path, format="csv", whole=True)


# --- archives and standard input


def test_each_file_of_a_zip_archive_is_a_source(tmp_path: Path) -> None:
    path = tmp_path / "all.data"  # recognised by content
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("in")
        for name in ("in/b10.csv", "in/b9.tsv", "a.json", "__MACOSX/._a.json", "in/.DS_Store"):
            archive.writestr(name, '{"a": 1}\n' if name.endswith("json") else "a\tb\n1\t2\n")
    sources = found(path)
    assert names(sources, tmp_path) == [
        "all.data!a.json",
        "all.data!in/b9.tsv",
        "all.data!in/b10.csv",
    ]
    assert [source.format for source in sources] == ["jsonl", "tsv", "csv"]
    reader = sources[2].open(database_encoding="UTF8")
    assert reader.columns == ("a", "b")
    reader.close()


def test_members_of_an_archive_are_chosen_by_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1.csv", "a/2.csv", "README.txt"):
            archive.writestr(name, "id\n1\n")
    chosen = find_sources([f"{path}!a/*.csv"])
    assert [source.name for source in chosen] == [f"{path}!a/1.csv", f"{path}!a/2.csv"]
    assert [source.name for source in find_sources([f"{tmp_path}/*.zip!a/2.csv"])] == [
        f"{path}!a/2.csv"
    ]
    with pytest.raises(SourceError, match="no member that matches b") as told:
        find_sources([f"{path}!b*"])
    assert "a/1.csv" in (told.value.hint or "")
    plain = tmp_path / "plain.csv"
    plain.write_text("id\n1\n")
    with pytest.raises(SourceError, match="is no zip archive"):
        find_sources([f"{plain}!a.csv"])
    odd = tmp_path / "odd!name.csv"  # what exists is taken as it is
    odd.write_text("id\n1\n")
    assert [source.name for source in find_sources([str(odd)])] == [str(odd)]


def test_a_workbook_is_no_archive_of_files(tmp_path: Path) -> None:
    path = tmp_path / "prices.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    with pytest.raises(SourceError, match="office document") as caught:
        find_sources([str(path)])
    assert caught.value.code == "SK109"
    assert "CSV" in str(caught.value.hint)
    # Who names a member knows what it is.
    (source,) = find_sources([f"{path}!xl/worksheets/*.xml"], record="row")
    assert source.format == "xml"


def test_zip_archives_without_files_or_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("in")
    with pytest.raises(SourceError, match="without files"):
        found(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a,b\n")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SourceError, match="cut off or corrupt") as caught:
        found(path)
    assert caught.value.code == "SK105"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = gzip.compress(b'{"a": 1}\n')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stored)))
    (source,) = found("-")
    assert (source.name, source.format, source.size, source.repeatable) == (
        "-",
        "jsonl",
        None,
        False,
    )
    reader = source.open(database_encoding="UTF8")
    assert reader.columns == ("a",)
    reader.close()


def test_a_zip_archive_cannot_come_by_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"PK\x03\x04" + bytes(100))))
    (source,) = found("-")
    with pytest.raises(SourceError, match="zip archive within a stream") as caught:
        source.open(database_encoding="UTF8")
    assert "unzip -p" in (caught.value.hint or "")


def test_standard_input_from_a_real_pipe(tmp_path: Path) -> None:
    program = """
import sys
from sqlkit.sources.find import find_sources
from sqlkit.sources.base import WantedColumn
(source,) = find_sources(["-"], format="csv")
reader = source.open(database_encoding="UTF8")
for piece in reader.pieces([WantedColumn("a"), WantedColumn("b")], 1 << 20):
    sys.stdout.buffer.write(piece.data)
sys.stderr.write(reader.fingerprint)
"""
    text = b"a,b\n" + b"1,2\n" * 500_000
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=gzip.compress(text, 1),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout == text[4:]
    assert len(done.stderr) == 64
