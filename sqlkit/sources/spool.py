"""What was read from a source that cannot be read twice, kept on disk until it is committed.

So such a source can be read again from any point that is not committed yet: after a lost
connection, or record by record where a batch holds bad rows.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.blocks import Block
from sqlkit.sources.text_rows import BadRow

SAFE_AFTER = 60.0
"""Seconds after which a commit that did not wait for the disk is there for sure (three times
wal_writer_delay, which is at most 10 s, and as much again)."""

SEGMENT = 64 << 20  # bytes in one file; it is removed as soon as all of it is committed


@dataclass
class Made:
    """Rows that were read together, as bytes; `bad` are those that are none."""

    data: bytes
    rows: int  # bad ones too
    bad: Sequence[BadRow] = ()


def no_room(error: OSError) -> SourceError:
    """The error for rows that cannot be kept."""
    return SourceError(
        f"what was read cannot be kept until it is committed: {error.strerror or error}",
        source=tempfile.gettempdir(),
        hint="Name a folder with more room: TMPDIR=/var/tmp",
    )


def used_before(name: str) -> UsageError:
    """The error for a source that a load was given before."""
    return UsageError(
        f"{name}: these rows were given to a load before, and can be gone through only once",
        hint="Make the iterable anew for each load.",
    )


@dataclass
class _Kept:
    start: int  # offset in the source
    size: int
    first_line: int
    rows: int
    bad: Sequence[BadRow]
    segment: _Segment
    position: int  # in the segment

    def block(self, made: Made) -> Block[Made]:
        return Block(self.start, self.start + max(1, self.size), self.first_line, self.rows, made)


@dataclass
class _Segment:
    file: IO[bytes] = field(default_factory=lambda: tempfile.TemporaryFile())  # noqa: SIM115
    size: int = 0
    kept: int = 0


class Spool:
    """Blocks of a source in their order: each is made once, and can be had again until forgotten.

    `make` makes the next block, or None at the end; whoever comes to the end of what was made
    makes it. One thread at a time: another waits.
    """

    def __init__(self, make: Callable[[int], Made | None]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._blocks: list[_Kept] = []
        self._segment = _Segment()
        self._end = 0
        self._line = 1
        self._is_complete = False
        self._committed: deque[tuple[float, int]] = deque()
        self._error: BaseException | None = None

    def blocks(self, offset: int) -> Iterator[Block[Made]]:
        """All blocks from the one that begins at `offset` on."""
        while True:
            with self._lock:
                found = self._at(offset) or self._next()
            if found is None:
                return
            if found.start != offset:
                raise RuntimeError(f"offset {offset} was forgotten, or lies within a block")
            yield found
            offset = found.end

    def forget(self, offset: int) -> None:
        """What stands before `offset` will not be asked for again."""
        with self._lock:
            while self._blocks and self._blocks[0].start < offset:
                gone = self._blocks.pop(0).segment
                gone.kept -= 1
                if not gone.kept and gone is not self._segment:
                    gone.file.close()

    def forget_later(self, offset: int) -> None:
        """What stands before `offset` is committed: it is kept until a crash cannot undo that."""
        now = time.monotonic()
        self._committed.append((now, offset))
        while self._committed[0][0] < now - SAFE_AFTER:
            self.forget(self._committed.popleft()[1])

    def close(self) -> None:
        """Remove all that is kept."""
        with self._lock:
            for segment in {id(kept.segment): kept.segment for kept in self._blocks}.values():
                segment.file.close()
            self._segment.file.close()
            self._blocks.clear()

    def __del__(self) -> None:
        self.close()

    def _at(self, offset: int) -> Block[Made] | None:
        low, high = 0, len(self._blocks)
        while low < high:
            middle = (low + high) // 2
            if self._blocks[middle].start < offset:
                low = middle + 1
            else:
                high = middle
        if low == len(self._blocks):
            return None
        kept = self._blocks[low]
        kept.segment.file.seek(kept.position)
        data = kept.segment.file.read(kept.size)
        return kept.block(Made(data, kept.rows, kept.bad))

    def _next(self) -> Block[Made] | None:
        if self._error is not None:
            raise self._error  # an iterator that has failed looks like one that has ended
        if self._is_complete:
            return None
        try:
            block = self._make(self._line)
        except BaseException as error:
            self._error = error
            raise
        if block is None:
            self._is_complete = True
            return None
        segment = self._segment
        if segment.size >= SEGMENT:
            segment = self._segment = _Segment()
        try:
            segment.file.seek(segment.size)
            segment.file.write(block.data)
            segment.file.flush()
        except OSError as error:
            self._error = no_room(error)
            raise self._error from error
        kept = _Kept(
            self._end, len(block.data), self._line, block.rows, block.bad, segment, segment.size
        )
        segment.size += kept.size
        segment.kept += 1
        self._blocks.append(kept)
        self._end += max(1, kept.size)
        self._line += block.rows
        return kept.block(block)
