"""Stored files: every compression by content, complete or an error, tied to a digest."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import random
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import zstandard

import sqlkit as api
from sqlkit.errors import SourceError
from sqlkit.sources.base import ResumePoint
from sqlkit.sources.stored import StoredFile

TEXT = b"a,b\n" + b"".join(b"%d,value %d\n" % (i, i * i) for i in range(40))

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
MAGIC = {"gzip": 2, "zstd": 4, "bzip2": 10, "xz": 6}  # bytes by which each is recognised
every_compression = pytest.mark.parametrize("kind", COMPRESS)


def content(path: Path | str, size: int = 1 << 20) -> bytes:
    stream = StoredFile(str(path)).open()
    try:
        parts = []
        while part := stream.read(size):
            assert stream.fingerprint is None or len(part) <= size * 4
            parts.append(part)
        assert stream.position == sum(map(len, parts)) == stream.progress.decoded_bytes
        assert stream.fingerprint == StoredFile(str(path)).fingerprint()
        return b"".join(parts)
    finally:
        stream.close()


def refused(path: Path | str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        content(path)
    assert str(path) in str(caught.value)
    return caught.value


# --- what is read


@every_compression
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_recognised_by_content_whatever_the_name(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / "data.csv"  # no suffix of any archive
    path.write_bytes(COMPRESS[kind](TEXT))
    assert content(path, size) == TEXT


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz", ".zip"])
def test_plain_text_is_plain_whatever_the_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data.csv{suffix}"
    path.write_bytes(TEXT)
    assert content(path) == TEXT


@every_compression
def test_streams_one_after_the_other(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data"
    compress = COMPRESS[kind]
    path.write_bytes(compress(TEXT) + compress(b"") + compress(TEXT))
    assert content(path, 100) == TEXT * 2


@pytest.mark.parametrize("kind", ["gzip", "xz"])
def test_zeros_after_and_between_streams_are_padding(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data"
    compress = COMPRESS[kind]
    path.write_bytes(compress(TEXT) + b"\0" * 8 + compress(TEXT) + b"\0" * 70_000)
    assert content(path) == TEXT * 2


def test_zstd_skippable_frames(tmp_path: Path) -> None:
    path = tmp_path / "data"
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
    path.write_bytes(skipped + COMPRESS["zstd"](TEXT) + skipped)
    assert content(path) == TEXT


def test_zstd_without_a_size_in_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(zstandard.ZstdCompressor(write_content_size=False).compress(TEXT))
    assert content(path) == TEXT


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_zip_member_and_one_that_is_compressed_itself(tmp_path: Path, method: int) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("plain.csv", TEXT)
        archive.writestr("twice.csv.gz", gzip.compress(TEXT))
    for member in ("plain.csv", "twice.csv.gz"):
        file = StoredFile(str(path), member=member)
        stream = file.open()
        assert stream.read() == TEXT
        assert stream.read() == b""
        assert stream.name == f"{path}!{member}"
        stream.close()
        stream.close()
    # the digest is that of the member, however the archive packs it
    plain = StoredFile(str(path), member="plain.csv")
    assert plain.fingerprint() == hashlib.sha256(TEXT).hexdigest()
    assert plain.size == len(TEXT)


# --- what is refused


@every_compression
def test_cut_at_every_byte_it_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.csv"
    stored = COMPRESS[kind](TEXT)
    for size in range(1, len(stored)):
        path.write_bytes(stored[:size])
        if size < MAGIC[kind] and all(0x20 <= byte < 0x7F for byte in stored[:size]):
            # 'B' or '(' alone is text as well; the suffix decides, and elsewhere it is a header
            assert content(path) == stored[:size]
            continue
        error = refused(path)
        assert error.code == "SK105"
        assert f"byte {size}" in str(error)
        assert error.hint


@pytest.mark.parametrize(("kind", "suffix"), [("bzip2", ".bz2"), ("zstd", ".zst")])
def test_cut_within_its_first_bytes_the_name_decides(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    path = tmp_path / f"data.csv{suffix}"
    for size in range(1, 6):
        path.write_bytes(COMPRESS[kind](TEXT)[:size])
        assert refused(path).code == "SK105"


@every_compression
def test_cut_within_a_later_stream_it_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.csv"
    first = COMPRESS[kind](TEXT)
    for size in range(1, len(first)):
        path.write_bytes(first + first[:size])
        assert refused(path).code == "SK105"


@every_compression
def test_a_changed_byte_never_changes_the_rows_silently(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.csv"
    stored = COMPRESS[kind](TEXT)
    for position in range(MAGIC[kind], len(stored)):
        changed = bytearray(stored)
        changed[position] ^= 0x24
        path.write_bytes(changed)
        code = ""
        try:
            found = content(path)
        except SourceError as error:
            code = error.code
        # or a field was hit that means nothing, such as gzip's time
        assert code in ("SK105", "SK106") if code else found == TEXT


@every_compression
def test_anything_else_after_the_archive_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data"
    stored = COMPRESS[kind](TEXT)
    path.write_bytes(stored + b"something else")
    error = refused(path)
    assert error.code == "SK106"
    assert f"byte {len(stored)}" in str(error)


def test_a_zip_that_is_cut_off(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", TEXT)
    stored = buffer.getvalue()
    path = tmp_path / "data.zip"
    for size in range(4, len(stored)):
        path.write_bytes(stored[:size])
        with pytest.raises(SourceError) as caught:
            StoredFile(str(path), member="a.csv").open()
        assert caught.value.code in ("SK105", "SK106")


def test_a_zip_member_whose_bytes_changed(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.csv", TEXT)
    path.write_bytes(path.read_bytes().replace(b"value 100", b"value 101"))
    with pytest.raises(SourceError) as caught:
        StoredFile(str(path), member="a.csv").open()
    assert caught.value.code == "SK106"
    assert f"{path}!a.csv" in str(caught.value)


def test_an_encrypted_zip_member(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.csv", TEXT)
    stored = bytearray(path.read_bytes())
    stored[6] |= 1  # the flag in the local header, and in the directory
    stored[stored.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(stored)
    with pytest.raises(SourceError, match="encrypted") as caught:
        StoredFile(str(path), member="a.csv").open()
    assert caught.value.code == "SK109"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PK\x03\x04", "zip archive"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PAR1", "Parquet"),
        (b"SQLite format 3\0", "SQLite"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
        (b"x" * 257 + b"ustar\x0000", "tar"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_files_of_other_kinds_are_named(
    tmp_path: Path, head: bytes, what: str, packed: bool
) -> None:
    path = tmp_path / "data"
    path.write_bytes(gzip.compress(head + TEXT) if packed else head + TEXT)
    error = refused(path)
    assert error.code == "SK109"
    assert what in str(error)
    assert error.hint


def test_what_is_compressed_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(bz2.compress(TEXT)))
    error = refused(path)
    assert error.code == "SK109"
    assert "its gzip archive holds a bzip2 archive" in str(error)


def test_a_missing_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "not there.csv")
    assert error.code == "SK102"
    assert "no such file" in str(error)


def test_a_directory(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.code == "SK104"
    assert f"{tmp_path}/*.csv" in (error.hint or "")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    error = refused(path)  # would wait for ever if it were opened as files are
    assert error.code == "SK104"
    assert "standard input" in (error.hint or "")


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.csv"
    path.write_bytes(TEXT)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read anything: the system's answer is played

        def denied(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", denied)
    with pytest.raises(SourceError, match="Permission denied") as caught:
        StoredFile(str(path)).open()
    assert caught.value.code == "SK101"
    assert caught.value.hint


def test_a_read_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        left = 3

        def read(self, size: int, /) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise OSError(5, "Input/output error")
            return b"x" * size

        def close(self) -> None:
            pass

    monkeypatch.setattr("sqlkit.sources.stored.open_regular", lambda path: Failing())
    stream = StoredFile("disk.csv").open()
    with pytest.raises(SourceError, match=r"failed at byte \d+: Input/output error"):
        while stream.read():
            pass


# --- standard input


def standard_input(monkeypatch: pytest.MonkeyPatch, stored: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stored)))


@pytest.mark.parametrize("kind", ["plain", *COMPRESS])
def test_standard_input_is_kept(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    stored = COMPRESS.get(kind, bytes)(TEXT)
    standard_input(monkeypatch, stored)
    file = StoredFile("-")
    assert (file.size, file.repeatable) == (None, False)
    assert file.peek().startswith(b"a,b\n")
    assert file.head_sha256() == hashlib.sha256(stored).hexdigest()
    with pytest.raises(SourceError) as caught:
        file.fingerprint()
    assert caught.value.code == "SK110"

    stream = file.open()
    assert stream.read() == TEXT
    assert stream.read() == b""
    assert stream.fingerprint == hashlib.sha256(stored).hexdigest()
    stream.close()
    assert file.head_sha256() == hashlib.sha256(stored).hexdigest()
    # Open the first time, halfway through the second: all of it can be had again.
    assert file.can_reopen
    for part in (1, len(TEXT)):
        again = file.open()
        assert TEXT.startswith(again.read(part))
        again.close()


def test_standard_input_without_room_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read all the same, but once."""

    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sqlkit.sources.stored.tempfile.TemporaryFile", Full)
    standard_input(monkeypatch, TEXT)
    file = StoredFile("-")
    stream = file.open()
    assert stream.read() == TEXT
    assert not file.can_reopen
    with pytest.raises(SourceError) as caught:
        file.open()
    assert caught.value.code == "SK110"


def test_large_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = random.Random(1).randbytes(3 << 20)
    standard_input(monkeypatch, b"a" + stored)
    file = StoredFile("-")
    stream = file.open(passes=frozenset({"latin-1", "iso8859-1"}), encoding="latin-1")
    found = b""
    while part := stream.read():
        found += part
    assert found == b"a" + stored


# --- resuming


def read_to(path: Path, size: int) -> tuple[bytes, ResumePoint]:
    stream = StoredFile(str(path)).open()
    data = stream.read(size)
    point = stream.resume_at(len(data), 1)
    stream.close()
    return data, point


@pytest.mark.parametrize("kind", ["plain", *COMPRESS])
@pytest.mark.parametrize("read", [b"", b"a,b\n"])
def test_resume_goes_on_after_the_same_content(tmp_path: Path, kind: str, read: bytes) -> None:
    path = tmp_path / "data"
    text = TEXT * 2000
    path.write_bytes(COMPRESS.get(kind, bytes)(text))
    data, point = read_to(path, 100_000)

    stream = StoredFile(str(path)).open(resume=point)
    head = stream.read(len(read)) if read else b""
    rest = stream.skip_to_resume(head)
    while part := stream.read():
        rest += part
    assert data + rest == text
    assert stream.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    stream.close()


def test_resume_after_the_file_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(TEXT)
    data, point = read_to(path, len(TEXT))
    path.write_bytes(TEXT + b"more\n")
    stream = StoredFile(str(path)).open(resume=point)
    assert stream.skip_to_resume() + stream.read() == b"more\n"
    stream.close()
    assert data == TEXT


@pytest.mark.parametrize("kind", ["plain", *COMPRESS])
@pytest.mark.parametrize("change", ["content", "shorter", "empty", "another kind"])
def test_resume_of_other_content_is_refused(tmp_path: Path, kind: str, change: str) -> None:
    path = tmp_path / "data"
    text = random.Random(2).randbytes(1 << 18).hex().encode()
    compress = COMPRESS.get(kind, bytes)
    path.write_bytes(compress(text))
    _, point = read_to(path, 300_000)
    other = {
        "content": compress(b"x" + text[1:]),
        "shorter": compress(text[: len(text) // 10]),
        "empty": b"",
        "another kind": b"PAR1" + text,
    }[change]
    path.write_bytes(other)
    with pytest.raises(SourceError) as caught:
        stream = StoredFile(str(path)).open(resume=point)
        try:
            stream.skip_to_resume()
        finally:
            stream.close()
    assert caught.value.code == "SK103"
    assert "content differs from what was loaded" in str(caught.value)


# --- memory


@every_compression
def test_memory_stays_small_even_for_a_bomb(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(COMPRESS[kind](bytes(100 << 20)))
    stream = StoredFile(str(path)).open()
    tracemalloc.start()
    while stream.read():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    stream.close()
    assert stream.position == 100 << 20
    assert peak < 8 << 20


@pytest.mark.parametrize("more", [b"345\n", b"345", b"\n8,9\n"])
def test_a_file_that_grows_while_it_is_read_is_not_taken_for_whole(
    tmp_path: Path, connection: psycopg.Connection, dsn: str, more: bytes
) -> None:
    connection.execute("create table item (id integer, price integer)")
    path = tmp_path / "growing.csv"
    path.write_bytes(b"id,price\n" + b"1,2\n" * 400_000 + b"7,12")

    def grow(progress: object) -> None:
        if path.stat().st_size < 1_600_014:
            with path.open("ab") as file:
                file.write(more)

    with api.connect(dsn) as client, pytest.raises(api.SourceError) as caught:
        client.load(
            path, into="public.item", policy="append", batch_bytes=100_000, progress=grow, workers=1
        )
    assert caught.value.code == "SK122"
    assert "changed while it was read" in caught.value.message
    assert connection.execute("select count(*) from item where id <> 1").fetchone() == (0,)
