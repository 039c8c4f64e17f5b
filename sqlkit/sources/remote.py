"""One object of a store or of the web: fetched once, whole, and kept on disk until it is loaded.

What it holds decides whether it was loaded before, so it is fetched before the first row of it is
loaded: into a file without a name in TMPDIR, while its digest is made. A connection that drops is
taken up again where it broke, provided that the object still is the same; where a server cannot
begin in the middle, what comes again is compared with what came before. So no byte is there twice,
or missing, and nothing is loaded of an object that changed meanwhile.

Where there is no room to keep it, it is fetched twice: for its digest, and while it is loaded.

Errors (`SourceError`): see `stores`.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO, TypeVar

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.addresses import SCHEMES, natural, scheme_of, shown
from sqlkit.sources.stores import (
    ObjectStore,
    Seen,
    Store,
    Stream,
    TransientError,
    WebStore,
    changed,
)

CHUNK = 1 << 20
TRIES = 5
"""How often in a row a store is asked in vain: for about ten seconds."""
FIRST_WAIT = 0.5

T = TypeVar("T")

_REOPENS = sys.platform == "linux"  # files without a name can be opened once more


class Transfer:
    """The bytes of an object, one after the other, however often the connection drops.

    After an error it can be read on.
    """

    def __init__(self, store: Store, address: str, seen: Seen, expected: str | None = None) -> None:
        self.seen = seen
        self.position = 0
        self.ended = False
        self._store = store
        self._address = address
        self._expected = expected  # digest
        self._hash = hashlib.sha256()
        self._stream: Stream | None = None
        self._requests = 0
        self._tries = 0

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what was read so far."""
        return self._hash.hexdigest()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; empty only where all of it was read, and is known to be whole."""
        while not self.ended:
            try:
                if self._stream is None:
                    # Only where the version tells that it still is the same.
                    start = self.position if self.seen.is_exact else 0
                    self._stream = self._store.open(self._address, start)
                    self._join(self._stream)
                data = self._stream.read(size)
                if data:
                    self._tries = 0
                    self._hash.update(data)
                    self.position += len(data)
                    return data
                self._end()
            except SourceError:
                self.close()
                raise
            except TransientError as error:
                self.close()
                self._tries += 1
                if self._tries == TRIES:
                    self._tries = 0
                    raise unanswered(self._address, error) from None
                _pause(self._tries)
        return b""

    def close(self) -> None:
        """Hang up."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._requests += stream.requests
            stream.close()

    def _join(self, stream: Stream) -> None:
        """Make sure that a stream goes on where the last one ended, in the same content."""
        if self.position == 0:
            self.seen = stream.seen
            return
        before, now = self.seen, stream.seen
        sizes = {before.size, now.size} - {None}
        if len(sizes) > 1 or (before.is_exact and before.version != now.version):
            raise changed(self._address)
        if stream.start == self.position:
            return
        if stream.start:
            raise TransientError("the server sends another range than the one it was asked for")
        # From the beginning: what came before is compared.
        again = hashlib.sha256()
        left = self.position
        while left and (data := stream.read(min(left, CHUNK))):
            again.update(data)
            left -= len(data)
        if left:
            raise TransientError("the connection was lost")
        if again.digest() != self._hash.digest():
            raise changed(self._address)
        self.seen = now

    def _end(self) -> None:
        seen = self.seen
        if seen.size is not None and self.position < seen.size:
            raise TransientError(f"the connection was lost at byte {self.position} of {seen.size}")
        self.close()
        if self._requests > 1 or not self._store.answers_whole:
            now = self._store.look(self._address)
            if seen.is_exact and now.version != seen.version:
                raise changed(self._address)
        if self._expected not in (None, self.digest):
            raise changed(self._address)
        self.seen = Seen(self.position, seen.version, seen.is_exact)
        self.ended = True


class RemoteFile:
    """An object by its address, fetched when its bytes are asked for."""

    def __init__(self, store: Store, address: str, seen: Seen) -> None:
        self.name = shown(address)
        self.users = 1  # sources that read it
        self.seconds = 0.0  # spent fetching
        self._address = address
        self._store = store
        self._seen = seen
        self._lock = threading.Lock()
        self._transfer = Transfer(store, address, seen)
        self._kept: IO[bytes] | None = None  # unless there is no room

    @property
    def is_public(self) -> bool:
        """Whether the address is all there in its name: no password, query or fragment."""
        return self.name == self._address

    @property
    def size(self) -> int | None:
        """Bytes, where the store tells or they were counted."""
        return self._transfer.seen.size

    @property
    def version(self) -> str | None:
        """What only this version of this object has (a digest); None where the store has none."""
        seen = self._transfer.seen
        if seen.version is None or not seen.is_exact:
            return None
        return hashlib.sha256(f"{self._address}\n{seen.size}\n{seen.version}".encode()).hexdigest()

    def head(self, size: int) -> bytes:
        """The first bytes, of an object that need not be fetched for that."""
        first = Transfer(self._store, self._address, self._seen)
        parts: list[bytes] = []
        with contextlib.closing(self.open() if self._kept is not None else first) as file:
            while size and (data := file.read(size)):
                parts.append(data)
                size -= len(data)
        return b"".join(parts)

    def fetch(self) -> str:
        """Fetch what is not there yet; SHA-256 (hex) of all of it.

        What came before an error stays, and is not fetched again.
        """
        with self._lock:
            transfer = self._transfer
            if transfer.ended:
                return transfer.digest
            started = time.perf_counter()
            try:
                if transfer.position == 0 and self._kept is None:
                    self._begin_to_keep()
                while data := transfer.read(CHUNK):
                    self._keep(data)
            finally:
                self.seconds += time.perf_counter() - started
            return transfer.digest

    def _begin_to_keep(self) -> None:
        size = self._seen.size or 0
        make = tempfile.TemporaryFile if _REOPENS else tempfile.NamedTemporaryFile
        with contextlib.suppress(OSError):
            if size <= shutil.disk_usage(tempfile.gettempdir()).free // 2:
                self._kept = make(buffering=0)

    def _keep(self, data: bytes) -> None:
        if self._kept is None:
            return
        try:
            left = memoryview(data)
            while left:
                left = left[self._kept.write(left) :]
        except OSError:
            self._kept.close()
            self._kept = None

    @property
    def path(self) -> str:
        """A path by which it can be opened, to be read from anywhere. Raises SourceError."""
        self.fetch()
        if self._kept is None:
            raise SourceError(
                "there is no room to keep it, and it is a kind of file that is read from its end",
                source=self.name,
                hint="Name a folder with more room: TMPDIR=/var/tmp",
            )
        return f"/proc/self/fd/{self._kept.fileno()}" if _REOPENS else self._kept.name

    def open(self) -> _Copy | Transfer:
        """Its bytes, from the first to the last."""
        digest = self.fetch()
        if self._kept is None:
            return Transfer(self._store, self._address, self._transfer.seen, digest)
        return _Copy(self._kept.fileno())

    def release(self) -> None:
        """It is loaded: what is kept of it goes, and is fetched again if it is needed after all."""
        self.users -= 1
        if self.users <= 0:
            self.close()

    def close(self) -> None:
        """The same at once."""
        with self._lock:
            self._transfer.close()
            if self._kept is not None:
                self._kept.close()
                self._kept = None
                self._transfer = Transfer(self._store, self._address, self._transfer.seen)

    def __del__(self) -> None:
        if self._kept is not None:
            self._kept.close()


class _Copy:
    """A kept file, from its beginning on, whoever else reads it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._position = 0

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._descriptor, size, self._position)
        self._position += len(data)
        return data

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def find_remote(spec: str) -> list[RemoteFile]:
    """The objects that an address or a pattern of addresses names, in natural order.

    Each is asked for, so that a load does not begin where one is missing. Raises SourceError
    (SK102, SK104, SK120, SK121), and UsageError for an address that is none that is read.
    """
    scheme = scheme_of(spec)
    extra = SCHEMES.get(scheme or "")
    if extra is None:
        raise UsageError(
            f"{shown(spec)}: addresses that begin with {scheme}:// are not read",
            hint=f"Those with {', '.join(f'{name}://' for name in SCHEMES)} are.",
        )
    if extra == "http":
        if "*" in spec.partition("?")[0]:
            raise UsageError(
                f"{shown(spec)}: the web cannot be listed, so that there are no patterns",
                hint="Name each file.",
            )
        web = WebStore()
        return [RemoteFile(web, spec, _patiently(lambda: web.look(spec), spec))]
    store = _patiently(lambda: ObjectStore(spec), spec)
    if not glob.has_magic(spec.partition("://")[2]):
        return [RemoteFile(store, spec, _patiently(lambda: store.look(spec), spec))]
    found = _patiently(lambda: store.find(spec), spec)
    if not found:
        raise SourceError(
            "no object matches this pattern",
            source=shown(spec),
            code="SK102",
            hint="'**' matches folders of any depth.",
        )
    found.sort(key=lambda item: natural(item[0]))
    return [RemoteFile(store, address, seen) for address, seen in found]


def _patiently(ask: Callable[[], T], address: str) -> T:
    """Ask a store again for some seconds where it does not answer."""
    tries = 0
    while True:
        try:
            return ask()
        except TransientError as error:
            tries += 1
            if tries == TRIES:
                raise unanswered(address, error) from None
            _pause(tries)


def _pause(tries: int) -> None:
    """Half of a time that doubles, and a random part of the other half."""
    time.sleep(FIRST_WAIT * 2 ** (tries - 1) * (0.5 + random.random() / 2))


def unanswered(address: str, error: TransientError) -> SourceError:
    """The error for a store that fails, however often it is asked."""
    return SourceError(
        str(error), source=shown(address), code="SK120", hint="Try again: it goes on from here."
    )
