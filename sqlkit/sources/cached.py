"""Extracts of databases that are kept for a while: Parquet in a folder, or in Redis.

An extract is fetched whole before it is loaded. It is a source of its own, which does not change:
a load of it that was cut off goes on where it stopped, and one that was loaded is not loaded again,
while the extract is kept. What is fetched anew is another one, whatever it holds.

Values are kept as the text that COPY takes, so that what is loaded is what would have been without.
A name of an entry is a digest of what was asked and of the address, without its password, and of
the content: an entry that is broken is none, and is fetched anew. Writing is atomic.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.base import Reader, ResumePoint, Source, WantedColumn
from sqlkit.sources.copied import rows_of
from sqlkit.sources.newer import Mark, mark_of
from sqlkit.sources.stored import StoredFile

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise UsageError("A cache needs pyarrow", hint="pip install 'sqlkit[parquet]'") from None

from sqlkit.sources.arrow import ArrowFileSource, ArrowReader

_log = logging.getLogger("sqlkit")

FORM = 1
"""Of entries: those of another form are not found."""

ROWS = 50_000
"""Rows of a row group."""

_ABOUT = b"sqlkit"
_SECRET = ("pass", "pwd", "secret", "token", "key")
_PIECE = 4 << 20


@dataclass(frozen=True)
class Cache:
    """Where extracts are kept, for how many seconds, and how many bytes of them at most."""

    place: str  # a folder, or redis://
    seconds: float
    most: int

    def find(self, source: Source, address: str) -> CachedSource | None:
        """The extract of what a source asks, if there is one that is whole and not too old.

        It blocks. Raises SourceError where the place cannot be used.
        """
        found = self._store.get(_key(source, address), self.seconds)
        return None if found is None else self._opened(found, source)

    def fetch(self, source: Source, address: str) -> CachedSource:
        """The same, which is fetched where there is none; the source is closed then.

        Raises SourceError, also for a row that cannot be kept.
        """
        if (found := self.find(source, address)) is not None:
            return found
        store = self._store
        with store.writing() as path:
            try:
                _write(source, path)
            finally:
                if hasattr(source, "close"):
                    source.close()
            kept = store.put(_key(source, address), path, self.seconds, self.most)
        return self._opened(kept, source)

    @property
    def _store(self) -> _Folder | _Redis:
        if self.place.startswith(("redis://", "rediss://", "unix://")):
            return _Redis(self.place)
        return _Folder(Path(self.place))

    def _opened(self, kept: _Kept, source: Source) -> CachedSource:
        return CachedSource(kept, source.name, mark_of(source))


@dataclass(frozen=True)
class _Kept:
    """An entry as a file, which its reader removes if nobody else will."""

    path: Path
    digest: str
    is_ours: bool


class CachedSource(ArrowFileSource):
    """An extract. Use it for one load."""

    def __init__(self, kept: _Kept, name: str, mark: Mark | None) -> None:
        super().__init__(StoredFile(str(kept.path), name=name), format="parquet")
        self.mark = mark
        self._kept = kept
        self._fingerprint = kept.digest
        about = json.loads(pq.read_schema(kept.path).metadata[_ABOUT])
        self.fetched_at: float = about["fetched_at"]
        self._types: Mapping[str, str] = about["types"]

    def fingerprint(self) -> str:
        """The digest of the file, which is known."""
        return self._kept.digest

    def head_sha256(self) -> str:
        """As `fingerprint`."""
        return self._kept.digest

    def _open(
        self, database_encoding: str, resume: ResumePoint | None, until: int | None
    ) -> ArrowReader:
        reader = super()._open(database_encoding, resume, until)
        reader.column_types = dict(self._types)
        return reader

    def close(self) -> None:
        """The load is over."""
        if self._kept.is_ours:
            self._kept.path.unlink(missing_ok=True)


def _key(source: Source, address: str) -> str:
    mark = mark_of(source)
    asked = {
        "form": FORM,
        "source": getattr(source, "identity", source.name),
        "null_invalid": getattr(source, "null_invalid", False),
        "address": _without_secrets(address),
        # Of a part that has changed since, the extract is not what is meant.
        "mark": None if mark is None else [mark.source, mark.stands],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _without_secrets(address: str) -> list[Any]:
    parts = urlsplit(address)
    options = [
        (name, value)
        for name, value in parse_qsl(parts.query)
        if not any(word in name.lower() for word in _SECRET)
    ]
    host = parts.netloc.rpartition("@")[2]
    return [parts.scheme, parts.username, host, parts.path, sorted(options)]


def _write(source: Source, path: Path) -> None:
    """All rows of a source, as text, as a Parquet file."""
    reader = source.open(database_encoding="UTF8")
    try:
        names = list(reader.columns)
        about = {
            "id": uuid.uuid4().hex,  # the same rows fetched later are other ones
            "fetched_at": time.time(),
            "types": dict(reader.column_types),
        }
        schema = pa.schema(
            [pa.field(name, pa.string()) for name in names], metadata={_ABOUT: json.dumps(about)}
        )
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            rows: list[list[str | None]] = []
            for row in _rows(source, reader):
                rows.append(row)
                if len(rows) == ROWS:
                    writer.write_table(_table(rows, schema))
                    rows = []
            if rows:
                writer.write_table(_table(rows, schema))
    except OSError as error:
        raise SourceError(
            f"the extract cannot be kept: {error.strerror or error}", source=source.name
        ) from None
    finally:
        reader.close()


def _rows(source: Source, reader: Reader) -> Iterator[list[str | None]]:
    wanted = [WantedColumn(column) for column in reader.columns]
    for piece in reader.pieces(wanted, _PIECE):
        yield from rows_of(reader.copy_format, piece.data)
        source.forget(piece.end)


def _table(rows: list[list[str | None]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Folder:
    """Entries as files ``KEY-DIGEST.parquet``, which nobody else may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str, seconds: float) -> _Kept | None:
        found = sorted(self._folder.glob(f"{key}-*.parquet"), key=_age)
        for path in found:
            digest = path.stem.partition("-")[2]
            with contextlib.suppress(FileNotFoundError):  # somebody else has removed it
                if _age(path) <= seconds and _digest(path) == digest:
                    return _Kept(path, digest, is_ours=False)
                path.unlink(missing_ok=True)
        return None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(suffix=".part", dir=self._folder)
        except OSError as error:
            raise SourceError(
                f"extracts cannot be kept there: {error.strerror or error}",
                source=str(self._folder),
            ) from None
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def put(self, key: str, path: Path, seconds: float, most: int) -> _Kept:
        digest = _digest(path)
        kept = self._folder / f"{key}-{digest}.parquet"
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(kept)
        # What is too old, was left by a killed program, or is too much: the oldest first.
        room = most - kept.stat().st_size
        others = [other for other in self._folder.glob("*-*.parquet") if other != kept]
        for other in sorted(others, key=_age):
            with contextlib.suppress(FileNotFoundError):
                room -= other.stat().st_size
                if room < 0 or _age(other) > seconds:
                    other.unlink()
        for part in self._folder.glob("*.part"):
            if _age(part) > max(seconds, 86_400):
                part.unlink(missing_ok=True)
        return _Kept(kept, digest, is_ours=kept.stat().st_size > most)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


class _Redis:
    """Entries as values ``sqlkit:extract:KEY``: the digest, and the file. Redis forgets them.

    Where it does not answer, nothing is kept, and the log says so.
    """

    def __init__(self, address: str) -> None:
        self._name = f"redis://{urlsplit(address).netloc.rpartition('@')[2]}"
        try:
            import redis
        except ImportError:
            raise UsageError(
                "a cache in Redis needs redis", hint="pip install 'sqlkit[redis]'"
            ) from None
        self._error = redis.RedisError
        self._client = redis.Redis.from_url(address, socket_timeout=60, socket_connect_timeout=10)

    def get(self, key: str, seconds: float) -> _Kept | None:
        try:
            value = self._client.get(f"sqlkit:extract:{key}")
        except self._error as error:
            _log.warning("%s: nothing is found there: %s", self._name, error)
            return None
        if not isinstance(value, bytes):
            return None
        digest, content = value[:64].decode("latin-1"), value[64:]
        if hashlib.sha256(content).hexdigest() != digest:
            return None
        with tempfile.NamedTemporaryFile(suffix=".parquet", delete=False) as file:
            file.write(content)
        kept = _Kept(Path(file.name), digest, is_ours=True)
        about = json.loads(pq.read_schema(kept.path).metadata[_ABOUT])
        if time.time() - about["fetched_at"] > seconds:  # it was kept for longer
            kept.path.unlink()
            return None
        return kept

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        handle, name = tempfile.mkstemp(suffix=".parquet")
        os.close(handle)
        try:
            yield Path(name)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def put(self, key: str, path: Path, seconds: float, most: int) -> _Kept:
        digest = _digest(path)
        if path.stat().st_size <= most:
            value = digest.encode() + path.read_bytes()
            try:
                self._client.set(f"sqlkit:extract:{key}", value, px=max(1, int(seconds * 1000)))
            except self._error as error:
                _log.warning("%s: the extract is not kept: %s", self._name, error)
        return _Kept(path, digest, is_ours=True)
