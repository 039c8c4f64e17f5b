"""Archives of one file: gzip, zstd, bzip2 and xz, recognised by content and read in full.

An archive may consist of several streams, one after the other. Each must be complete: one that
is cut off, corrupt or followed by something else is an error that names the place.

Errors (`SourceError`): SK105 cut off, SK106 corrupt, SK109 a kind of file that is not read.
"""

from __future__ import annotations

import bz2
import lzma
import sys
from collections.abc import Callable
from typing import Protocol

from sqlkit.errors import SourceError

STORED_CHUNK = 1 << 18  # stored bytes read at a time; also how precisely corruption is placed


class Binary(Protocol):
    """Bytes that are read once, from first to last; empty bytes are the end."""

    def read(self, size: int, /) -> bytes: ...


class Headed:
    """Bytes of which the first were read already."""

    def __init__(self, head: bytes, rest: Binary) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._rest.read(size)


class _Decompressor(Protocol):
    """What bz2, lzma, isal and zstd have in common: one stream, bounded output."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _gzip() -> _Decompressor:
    from isal import igzip_lib

    decompressor: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return decompressor


def _zstd() -> _Decompressor:
    # Of the zstd libraries this one tells whether a frame was finished: a file that is cut off
    # must not look like one that ends.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    decompressor: _Decompressor = zstd.ZstdDecompressor()
    return decompressor


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ)


class Kind:
    """A kind of archive: how it begins, how it is read, what may stand between its streams."""

    def __init__(
        self,
        name: str,
        suffixes: tuple[str, ...],
        magics: tuple[bytes, ...],
        new: Callable[[], _Decompressor],
        *,
        padded: bool = False,
    ) -> None:
        self.name = name
        self.suffixes = suffixes
        self.magics = magics
        self.new = new
        self.padded = padded  # zero bytes may follow a stream

    def begins(self, head: bytes) -> bool:
        return head.startswith(self.magics)

    def cut_within_magic(self, head: bytes) -> bool:
        return any(len(head) < len(m) and m.startswith(head) for m in self.magics)


_BZIP2_MAGICS = tuple(
    b"BZh%d%b" % (level, follows)
    for level in range(1, 10)
    for follows in (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
)
_ZSTD_MAGICS = (
    b"\x28\xb5\x2f\xfd",
    *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)),  # skippable frames
)
_KINDS = (
    Kind("gzip", (".gz", ".gzip"), (b"\x1f\x8b",), _gzip, padded=True),
    Kind("zstd", (".zst", ".zstd"), _ZSTD_MAGICS, _zstd),
    Kind("bzip2", (".bz2",), _BZIP2_MAGICS, bz2.BZ2Decompressor),
    Kind("xz", (".xz",), (b"\xfd7zXZ\x00",), _xz, padded=True),
)
_LONGEST_MAGIC = max(len(m) for kind in _KINDS for m in kind.magics)
COMPRESSION_SUFFIXES = tuple(s for kind in _KINDS for s in kind.suffixes)

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

# Kinds of file that people do hand over and that would otherwise be read as very odd text.
_FOREIGN = (
    (b"\x04\x22\x4d\x18", "an lz4 archive", "decompress it first: lz4 -dc FILE | sqlkit load -"),
    (b"\x1f\x9d", "a compress (.Z) archive", "decompress it first: zcat FILE | sqlkit load -"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a rar archive", "unpack it first"),
    (b"PAR1", "a Parquet file within a stream", "store it in a file by itself and name that"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV first"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", "save it as CSV first"),
    (b"%PDF-", "a PDF document", "rows cannot be read from it"),
)


def recognise(head: bytes, name: str) -> Kind | None:
    """The kind of archive that begins with `head`; None for anything else.

    Raises SourceError (SK105) for a file that ends within the first bytes of an archive. Where
    those bytes could be text as well ('B' may be the name of a column), the name decides.
    """
    for kind in _KINDS:
        if kind.begins(head):
            return kind
        if head and kind.cut_within_magic(head):
            printable = all(0x20 <= b < 0x7F for b in head)
            if not printable or name.lower().endswith(kind.suffixes):
                raise cut_off(name, kind.name, len(head))
    return None


def refuse_foreign(head: bytes, name: str) -> None:
    if head.startswith(ZIP_MAGICS):
        raise SourceError(
            "is a zip archive within a stream",
            source=name,
            code="SK109",
            hint="A zip archive has its directory at its end and must be a file by itself: "
            "name it directly, or unpack it: unzip -p ARCHIVE | sqlkit load -",
        )
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise SourceError(
                f"is {what}, which sqlkit does not read",
                source=name,
                code="SK109",
                hint=remedy[0].upper() + remedy[1:] + ".",
            )
    if head[257:262] == b"ustar":
        raise SourceError(
            "is a tar archive, which sqlkit does not read",
            source=name,
            code="SK109",
            hint="Unpack it and name the files, or: tar -xOf ARCHIVE MEMBER | sqlkit load -",
        )


def refuse_within(head: bytes, name: str, kind: Kind) -> None:
    """Raises SourceError for what an archive is not read for: what is foreign, another archive."""
    refuse_foreign(head, name)
    for other in _KINDS:
        if other.begins(head):
            raise SourceError(
                f"is compressed twice: its {kind.name} archive holds a {other.name} archive",
                source=name,
                code="SK109",
                hint="Decompress it once first.",
            )


def cut_off(name: str, kind: str, offset: int) -> SourceError:
    return SourceError(
        f"the {kind} archive is cut off: it ends at byte {offset} in the middle of its data",
        source=name,
        code="SK105",
        detail=f"stored byte {offset}",
        hint="Fetch or write the file again; it was probably still being copied.",
    )


def corrupt(name: str, kind: str, start: int, end: int, reason: str) -> SourceError:
    return SourceError(
        f"the {kind} archive is corrupt between its bytes {start} and {end}: {reason}",
        source=name,
        code="SK106",
        detail=f"stored bytes {start} to {end}",
        hint="Fetch or write the file again.",
    )


class _Counted(Binary, Protocol):
    offset: int  # bytes handed out


class Unpacked:
    """The streams of an archive, one after the other, each complete or an error."""

    def __init__(self, stored: _Counted, kind: Kind, head: bytes, name: str) -> None:
        self._stored = stored
        self._kind = kind
        self._name = name
        self._pending = head  # stored bytes read and not given to a decompressor
        self._current: _Decompressor | None = kind.new()

    def read(self, size: int) -> bytes:
        while self._current is not None or self._next_stream():
            current = self._current
            assert current is not None
            data = b""
            if current.needs_input:
                data, self._pending = self._pending, b""
                if not data and not (data := self._stored.read(STORED_CHUNK)):
                    raise cut_off(self._name, self._kind.name, self._stored.offset)
            try:
                decoded = current.decompress(data, size)
            except Exception as error:  # every library has its own class
                end = self._stored.offset
                start = max(0, end - max(len(data), 1))
                raise corrupt(self._name, self._kind.name, start, end, str(error)) from error
            if current.eof:
                self._pending = current.unused_data
                self._current = None
            if decoded:
                return decoded
        return b""

    def _next_stream(self) -> bool:
        """Go to the next stream of the archive; False where the stored bytes end."""
        data = self._pending
        while True:
            if self._kind.padded:
                data = data.lstrip(b"\0")
            if len(data) >= _LONGEST_MAGIC:
                break
            more = self._stored.read(STORED_CHUNK)
            if not more:
                break
            data += more
        self._pending = data
        if not data:
            return False
        offset = self._stored.offset - len(data)
        if not self._kind.begins(data):
            if self._kind.cut_within_magic(data):
                raise cut_off(self._name, self._kind.name, self._stored.offset)
            raise SourceError(
                f"the {self._kind.name} archive ends at byte {offset}, "
                "but something else follows it",
                source=self._name,
                code="SK106",
                detail=f"stored byte {offset}",
                hint="Remove what follows the archive, or fetch the file again.",
            )
        self._current = self._kind.new()
        return True
