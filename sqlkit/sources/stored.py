"""Files as they are stored: opened, decompressed, brought to UTF-8, and tied to a digest.

Every reader stands on `StoredFile`, which stands for a local file, standard input or one member
of a zip archive. `StoredFile.open` gives a `ByteStream`: decoded bytes, a piece at a time, in
constant memory. Compression is recognised by content and never by name, and an archive that is
cut off or corrupt is an error that names the place: a stream ends quietly only where the stored
content really ends.

Errors (all `SourceError`):

SK101  a source cannot be read (the reason of the operating system)
SK102  there is no such file
SK103  the content differs from what was loaded
SK104  a directory, a pipe, a device: not a file
SK105  an archive is cut off
SK106  an archive is corrupt, or something follows it
SK107  the bytes are not in the encoding said
SK109  a kind of file that is not read (zip within a stream, tar, Parquet, ...)
SK110  standard input cannot be read twice
SK122  it changed while it was read
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import lzma
import os
import stat
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, Protocol

from sqlkit.errors import SourceError
from sqlkit.sources.archive import (
    STORED_CHUNK,
    ZIP_MAGICS,
    Binary,
    Headed,
    Unpacked,
    cut_off,
    recognise,
    refuse_foreign,
    refuse_within,
)
from sqlkit.sources.base import Progress, ResumePoint
from sqlkit.sources.text import Transcoded, choose_codec, codec_name

if TYPE_CHECKING:
    from sqlkit.parts import Description
    from sqlkit.sources.remote import RemoteFile

__all__ = [
    "CHUNK",
    "ByteStream",
    "StoredFile",
    "StoredSource",
    "codec_name",
    "open_regular",
]

CHUNK = 1 << 20  # decoded bytes asked for at a time; large enough that C code rules
_HEAD = 1 << 16  # what head_sha256 covers
_PEEK = 1 << 18  # what is looked at to recognise a format


class _File(Protocol):
    """The little of a binary file that is needed here."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class _Kept:
    """What has come from standard input, kept in an unlinked file so that it can be read again.

    Where there is no room for it, it is read on and can be read but once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a reader that was given up may still wait for input
        self._copy: IO[bytes] | None = tempfile.TemporaryFile()  # noqa: SIM115 - until the end
        self._size = 0
        self._ended = False

    @property
    def is_whole(self) -> bool:
        """True if all that has come is there."""
        return self._copy is not None

    def read(self, position: int, size: int) -> bytes:
        with self._lock:
            if position < self._size:
                if self._copy is None:
                    raise _read_once("-")
                self._copy.seek(position)
                return self._copy.read(min(size, self._size - position))
            if self._ended:
                return b""
            data = _standard_input().read(size)
            self._ended = not data
            if self._copy is not None:
                try:
                    self._copy.seek(self._size)
                    self._copy.write(data)
                    self._copy.flush()
                except OSError:
                    with contextlib.suppress(OSError):
                        self._copy.close()
                    self._copy = None
            self._size += len(data)
            return data

    def __del__(self) -> None:
        if self._copy is not None:
            self._copy.close()


class _Replayed:
    """Standard input from its beginning."""

    def __init__(self, kept: _Kept) -> None:
        self._kept = kept
        self._position = 0

    def read(self, size: int, /) -> bytes:
        data = self._kept.read(self._position, size)
        self._position += len(data)
        return data

    def close(self) -> None:
        """Standard input stays open: it belongs to the process."""


_READ_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError)


def _read_error(error: Exception, name: str, offset: int) -> SourceError:
    """What reading stored bytes may raise, as an error that names file and place."""
    if isinstance(error, OSError):
        return SourceError(
            f"reading failed at byte {offset}: {error.strerror or error}", source=name
        )
    if isinstance(error, EOFError):
        return cut_off(name, "zip", offset)
    if isinstance(error, RuntimeError):  # zipfile: encrypted, or a method it does not know
        return SourceError(
            f"cannot be unpacked: {error}",
            source=name,
            code="SK109",
            hint="Unpack the archive with another tool and name the files.",
        )
    return SourceError(
        f"the zip archive is corrupt: this member was read to its byte {offset}, then: {error}",
        source=name,
        code="SK106",
        hint="Fetch or write the file again.",
    )


class _Stored:
    """Stored bytes with the digest of all that was read, checked against a resume point."""

    def __init__(
        self,
        file: _File,
        name: str,
        expected: ResumePoint | None,
        whole: tuple[int, str] | None = None,
    ) -> None:
        self._file = file
        self._name = name
        self._whole = whole  # bytes and digest of all there is, if that was found out before
        self._expected = expected if expected is not None and expected.stored_offset else None
        self._ahead: deque[bytes] = deque()
        self._hash = hashlib.sha256()
        self.hashed = 0  # stored bytes read and hashed
        self.offset = 0  # stored bytes handed out
        self.ended = False

    def read(self, size: int) -> bytes:
        data = self._ahead.popleft() if self._ahead else self._fetch(size)
        self.offset += len(data)
        return data

    def _fetch(self, size: int) -> bytes:
        if self.ended:
            return b""
        expected = self._expected
        if expected is not None and expected.stored_offset > self.hashed:
            size = min(size, expected.stored_offset - self.hashed)
        try:
            data = self._file.read(size)
        except _READ_ERRORS as error:
            raise _read_error(error, self._name, self.hashed) from error
        self._hash.update(data)
        self.hashed += len(data)
        self.ended = not data
        whole = self._whole
        is_due = whole is not None and (self.ended or self.hashed > whole[0])
        if is_due and (self.hashed, self.digest()) != whole:
            raise _changed(self._name)
        if expected is not None and (self.ended or self.hashed == expected.stored_offset):
            if self.digest() != expected.stored_sha256 or self.hashed != expected.stored_offset:
                raise content_differs(self._name, expected)
            self._expected = None
        return data

    def confirm(self) -> None:
        """Read on until the expected digest was compared; what was read stays to be read."""
        while self._expected is not None:
            if data := self._fetch(STORED_CHUNK):
                self._ahead.append(data)

    def digest(self) -> str:
        return self._hash.copy().hexdigest()

    def close(self) -> None:
        self._file.close()


def _changed(name: str) -> SourceError:
    return SourceError(
        "it changed while it was read",
        source=name,
        code="SK122",
        hint="Load it when it is complete, or a copy of it. What was committed of it stays: "
        "sqlkit runs says what that is.",
    )


def content_differs(name: str, expected: ResumePoint) -> SourceError:
    """The error (SK103) for a source that is not the one that an earlier run began to load."""
    return SourceError(
        "the content differs from what was loaded: "
        f"its first {expected.stored_offset} bytes are not the same",
        source=name,
        code="SK103",
        detail=f"expected SHA-256 {expected.stored_sha256}",
        hint="Give the file as it was to resume that run, or load this one as a new run.",
    )


class ByteStream:
    """The decoded bytes of a stored file, from its first to its last.

    Decoded means: decompressed, without byte order mark, and in UTF-8 unless the codec of the
    file was among those that pass. Offsets count these bytes from 0.
    """

    def __init__(
        self,
        name: str,
        file: _File,
        *,
        encoding: str | None,
        passes: frozenset[str],
        resume: ResumePoint | None,
        is_strict: bool = True,
        whole: tuple[int, str] | None = None,
    ) -> None:
        self.name = name
        self.source_codec = "utf-8"  # what the file is in
        self._transcoded: Transcoded | None = None
        self._is_strict = is_strict
        self.progress = Progress()
        self.position = 0
        self.lines_passed = 0  # by `skip_to_resume`, of what it was given and read
        self._resume = resume
        self._started = time.perf_counter()
        self._stored = _Stored(file, name, resume, whole)
        try:
            self._binary, self.encoding = self._begin(encoding, passes)
        except SourceError as error:
            with contextlib.closing(self):
                self._prefer_difference(error)
        except BaseException:
            self.close()
            raise
        self.progress.seconds = time.perf_counter() - self._started

    def _begin(self, encoding: str | None, passes: frozenset[str]) -> tuple[Binary, str]:
        head = b""
        while len(head) < 512 and (data := self._stored.read(STORED_CHUNK)):
            head += data
        kind = recognise(head, self.name)
        binary: Binary
        if kind is None:
            refuse_foreign(head, self.name)
            binary = Headed(head, self._stored)
        else:
            binary = Unpacked(self._stored, kind, head, self.name)
        head = b""
        while len(head) < 512 and (data := binary.read(CHUNK)):
            head += data
        if kind is not None:
            refuse_within(head, self.name, kind)
        codec, skipped = choose_codec(head, encoding, self.name)
        head = head[skipped:]
        self.has_mark = skipped > 0
        self.source_codec = codec
        if codec in passes:
            return Headed(head, binary), codec
        self._transcoded = Transcoded(
            binary, head, codec, skipped, self.name, is_strict=self._is_strict
        )
        return self._transcoded, "utf-8"

    @property
    def fault(self) -> SourceError | None:
        """The first bytes that were not in the encoding, where these are no error yet."""
        return None if self._transcoded is None else self._transcoded.fault

    def be_strict(self) -> None:
        """From now on, bytes that are not in the encoding are an error; those read already too."""
        if self.fault is not None:
            raise self.fault
        if self._transcoded is not None:
            self._transcoded.is_strict = True

    def read(self, size: int = CHUNK) -> bytes:
        """About `size` bytes (never more than four times as many); empty only at the end.

        Raises SourceError where the stored content is cut off, corrupt or in another encoding.
        """
        started = time.perf_counter()
        data = self._binary.read(size)
        self.position += len(data)
        progress = self.progress
        progress.stored_bytes = self._stored.offset
        progress.decoded_bytes = self.position
        progress.seconds += time.perf_counter() - started
        return data

    def resume_at(self, offset: int, line: int) -> ResumePoint:
        """The point at `offset` (not beyond `position`), tied to what was read so far."""
        return ResumePoint(offset, line, self._stored.hashed, self._stored.digest())

    def skip_to_resume(self, read: bytes = b"") -> bytes:
        """Go to the resume point that the stream was opened with; return bytes read beyond it.

        `read` are bytes that the caller has read and not used, those right before `position`.
        Raises SourceError (SK103) unless the stored bytes up to that point are those that an
        earlier run read.
        """
        resume = self._resume
        if resume is None:
            return read
        beyond = self.position - resume.offset
        lines = read.count(b"\n")
        try:
            while beyond < 0 and (read := self.read()):
                beyond = self.position - resume.offset
                lines += read.count(b"\n")
            if beyond < 0 or beyond > len(read):
                raise content_differs(self.name, resume)
            self._stored.confirm()
        except SourceError as error:
            self._prefer_difference(error)
        rest = read[len(read) - beyond :]
        self.lines_passed = lines - rest.count(b"\n")
        return rest

    def _prefer_difference(self, error: SourceError) -> NoReturn:
        """Raise `error`, or that the content differs where that is the cause of it."""
        if self._resume is not None and error.code != "SK103":
            self._stored.confirm()
        raise error

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 (hex) of all stored bytes once `read` has returned the empty bytes."""
        return self._stored.digest() if self._stored.ended else None

    def close(self) -> None:
        """Close the file; may be called more than once."""
        self._stored.close()


class StoredFile:
    """A local file, standard input ('-'), an object of a store, or one member of a zip archive.

    For a member, the stored bytes are those of the member as unpacked: the digest ties to its
    content, not to how the archive happens to hold it. A member may itself be compressed.
    """

    def __init__(
        self,
        path: str,
        *,
        member: str | None = None,
        name: str | None = None,
        remote: RemoteFile | None = None,
    ) -> None:
        self.path = path
        self.member = member
        self.remote = remote
        # Names of files may be any bytes; they are shown, and kept in a database, as text.
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        self.name = name or (shown if member is None else f"{shown}!{member}")
        self._kept: _Kept | None = None  # of standard input
        self._whole: tuple[int, str] | None = None  # bytes and digest, of a local file

    def member_of(self, member: str) -> StoredFile:
        """A member of this zip archive."""
        if self.remote is not None:
            self.remote.users += 1
        return StoredFile(self.path, member=member, remote=self.remote)

    @property
    def local_path(self) -> str:
        """Where it can be opened, to be read from anywhere; an object is fetched for it.

        Raises SourceError where an object cannot be kept.
        """
        return self.path if self.remote is None else self.remote.path

    def open_zip(self) -> zipfile.ZipFile:
        """The archive that it is, or is a member of; SourceError where it is cut off or corrupt."""
        return open_zip(self.local_path, self.path)

    def release(self) -> None:
        """It was loaded, and need not be kept any more."""
        if self.remote is not None:
            self.remote.release()

    @property
    def is_stdin(self) -> bool:
        return self.path == "-" and self.member is None

    @property
    def repeatable(self) -> bool:
        """False for standard input: what it holds is known only when it was read."""
        return not self.is_stdin

    @property
    def can_reopen(self) -> bool:
        """True unless it is standard input and there was no room to keep it."""
        return self._kept is None or self._kept.is_whole

    @property
    def size(self) -> int | None:
        """Stored bytes, where known without reading."""
        if self.is_stdin:
            return None
        if self.remote is not None and self.member is None:
            return self.remote.size
        try:
            if self.member is not None:
                with zipfile.ZipFile(self.local_path) as archive:
                    return archive.getinfo(self.member).file_size
            return Path(self.path).stat().st_size
        except (OSError, KeyError, zipfile.BadZipFile):
            return None

    def open(
        self,
        *,
        encoding: str | None = None,
        passes: frozenset[str] = frozenset({"utf-8"}),
        resume: ResumePoint | None = None,
        is_strict: bool = True,
    ) -> ByteStream:
        """Open for reading from the beginning.

        `encoding` is a Python codec; None means what the byte order mark says, else UTF-8.
        `passes` are the codecs (by `codec_name`) whose bytes are handed out untouched and not
        validated; any other is transcoded to UTF-8: strictly, or until `be_strict` is called with
        what does not belong marked (`repertoire.MARKED`). With `resume`, call `skip_to_resume`
        before anything is made of the bytes.
        """
        return ByteStream(
            self.name,
            self._open(),
            encoding=encoding,
            passes=passes,
            resume=resume,
            is_strict=is_strict,
            whole=self._whole,
        )

    def peek(self) -> bytes:
        """The first decoded bytes as far as cheaply had, not transcoded, to recognise a format.

        Never raises for content: whatever is wrong there is said when it is read.
        """
        head = self._stored_head(_PEEK)
        try:
            kind = recognise(head, self.name)
            return head if kind is None else kind.new().decompress(head, _PEEK)
        except Exception:  # noqa: BLE001  (every library has its own; reading will say it)
            return b""

    def is_zip(self) -> bool:
        if self.member is not None:
            return False
        # Nothing is fetched only to see what it is.
        if self.remote is not None and not self.path.lower().endswith(".zip"):
            return False
        return self._stored_head(4).startswith(ZIP_MAGICS)

    def head_sha256(self) -> str:
        """SHA-256 (hex) of the first 64 KiB as stored."""
        return hashlib.sha256(self._stored_head(_HEAD)).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all stored bytes, reading them once.

        Raises SourceError (SK110) for standard input, whose digest is known only after it was
        read as a source.
        """
        if self.is_stdin:
            raise _read_once(self.name)
        if self.remote is not None and self.member is None:
            return self.remote.fetch()
        stored = _Stored(self._open(), self.name, None)
        try:
            while stored.read(CHUNK):
                pass
            self._whole = stored.hashed, stored.digest()
            return self._whole[1]
        finally:
            stored.close()

    def _stored_head(self, size: int) -> bytes:
        if self.is_stdin:
            return _read_fully(self._standard_input(), size, self.name)
        if self.remote is not None and self.member is None:
            return self.remote.head(size)
        file = self._open()
        try:
            return _read_fully(file, size, self.name)
        finally:
            file.close()

    def _open(self) -> _File:
        if self.is_stdin:
            return self._standard_input()
        if self.member is not None:
            return _open_member(self.open_zip(), self.member, self.path, self.name)
        return open_regular(self.path) if self.remote is None else self.remote.open()

    def _standard_input(self) -> _File:
        if self._kept is None:
            self._kept = _Kept()
        return _Replayed(self._kept)


class StoredSource:
    """What every source over a `StoredFile` has in common (see `base.Source`)."""

    is_live = False
    identity: str = ""
    """What makes it another source than one of the same content."""

    described: Description | None = None
    """What another process needs to open it, where that can."""

    def __init__(self, stored: StoredFile) -> None:
        self.stored = stored

    def description(self) -> Description | None:
        """See `parts.DescribedSource`."""
        return self.described

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """The path as given; for a member of a zip archive ``path!member``."""
        return self.stored.name

    @property
    def reading(self) -> Mapping[str, Any]:
        """What was said of how to read it."""
        return {}

    @property
    def size(self) -> int | None:
        """Stored bytes; None for standard input."""
        return self.stored.size

    @property
    def row_count(self) -> int | None:
        """Not known before it is read."""
        return None

    @property
    def repeatable(self) -> bool:
        """False for standard input: what it holds is known only when it was read."""
        return self.stored.repeatable

    @property
    def can_reopen(self) -> bool:
        """True unless it is standard input and there was no room to keep it."""
        return self.stored.can_reopen

    def forget(self, offset: int) -> None:
        """Nothing is kept of its parts."""

    def version(self) -> str | None:
        """A digest of the address and of what a store calls its version; None for a file."""
        remote = self.stored.remote
        return None if remote is None or self.stored.member is not None else remote.version

    def release(self) -> None:
        """It was loaded: what is kept of it goes, and would be fetched again."""
        self.stored.release()

    def head_sha256(self) -> str:
        """SHA-256 (hex) of the first 64 KiB as stored."""
        return self.stored.head_sha256()

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all stored bytes, reading them once; SK110 for standard input.

        Of these and the identity, where there is one.
        """
        found = self.stored.fingerprint()
        if self.identity:
            found = hashlib.sha256(f"{self.identity} {found}".encode()).hexdigest()
        return found


def _read_once(name: str) -> SourceError:
    return SourceError(
        "standard input can be read only once",
        source=name,
        code="SK110",
        hint="Load it from a file, or make room for what it holds: set TMPDIR.",
    )


def _standard_input() -> _File:
    if sys.stdin is None:
        raise SourceError("there is no standard input", source="-")
    # bytes come as they arrive; a terminal or pipe may give fewer than asked for
    return sys.stdin.buffer


def _read_fully(file: _File, size: int, name: str) -> bytes:
    parts: list[bytes] = []
    missing = size
    try:
        while missing and (data := file.read(missing)):
            parts.append(data)
            missing -= len(data)
    except _READ_ERRORS as error:
        raise _read_error(error, name, size - missing) from error
    return b"".join(parts)


def open_regular(path: str) -> _File:
    """Open a regular file for reading; raises SourceError that says what is there instead."""
    try:
        # without O_NONBLOCK, opening a pipe would wait for somebody to write to it
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise SourceError(
            "there is no such file",
            source=path,
            code="SK102",
            hint=f"Relative paths start from {Path.cwd()}.",
        ) from None
    except OSError as error:
        hint = None
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = f"Give the user {_user()} the right to read it."
        raise SourceError(
            f"cannot be opened: {error.strerror or error}", source=path, hint=hint
        ) from None
    except ValueError as error:  # a NUL in the name
        raise SourceError(f"is no path: {error}", source=path, code="SK102") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise SourceError(
            "is a directory",
            source=path,
            code="SK104",
            hint=f"Name its files, by a pattern for example: '{path.rstrip('/')}/*.csv'",
        )
    raise SourceError(
        "is a pipe, a socket or a device, not a file",
        source=path,
        code="SK104",
        hint="Give it as standard input: sqlkit load - < PIPE",
    )


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class _Member:
    """One member of a zip archive, opened."""

    def __init__(self, archive: zipfile.ZipFile, member: str) -> None:
        self._archive = archive
        self._file = archive.open(member)

    def read(self, size: int, /) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        self._archive.close()


def open_zip(path: str, name: str) -> zipfile.ZipFile:
    """Open a zip archive; raises SourceError where it is cut off or corrupt."""
    open_regular(path).close()
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise SourceError(
            f"the zip archive is cut off or corrupt: {error}",
            source=name,
            code="SK105",
            detail=f"stored byte {Path(path).stat().st_size}",
            hint="Fetch or write the file again; it was probably still being copied.",
        ) from None
    except OSError as error:
        raise _read_error(error, name, 0) from error


def _open_member(archive: zipfile.ZipFile, member: str, path: str, name: str) -> _File:
    try:
        return _Member(archive, member)
    except KeyError:
        archive.close()
        raise SourceError(
            f"there is no {member!r} in the archive", source=path, code="SK102"
        ) from None
    except _READ_ERRORS as error:
        archive.close()
        raise _read_error(error, name, 0) from error
