"""What was read from a source that cannot be read twice, kept on disk until it is committed.

So such a source can be read again from any point that is not committed yet: after a lost
connection, or record by record where a batch holds bad rows.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from sqlkit.sources.text_rows import BadRow

SEGMENT = 64 << 20  # bytes in one file; it is removed as soon as all of it is committed


@dataclass
class Block:
    """Rows that were read together, as COPY takes them; `bad` are those that are none."""

    data: bytes
    rows: int  # bad ones too
    bad: Sequence[BadRow] = ()


@dataclass
class _Kept:
    start: int  # offset in the source
    size: int
    first_line: int
    rows: int
    bad: Sequence[BadRow]
    segment: _Segment
    position: int  # in the segment


@dataclass
class _Segment:
    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    size: int = 0
    kept: int = 0


class Spool:
    """Blocks of a source in their order: each is made once, and can be had again until forgotten.

    `make` makes the next block, or None at the end; whoever comes to the end of what was made
    makes it. One thread at a time: another waits.
    """

    def __init__(self, make: Callable[[int], Block | None]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._blocks: list[_Kept] = []
        self._segment = _Segment()
        self._end = 0
        self._line = 1
        self._is_complete = False
        self._error: BaseException | None = None

    def blocks(self, offset: int) -> Iterator[tuple[int, int, Block]]:
        """Offset, first line and block, from the one that begins at `offset` on."""
        while True:
            with self._lock:
                found = self._at(offset) or self._next()
            if found is None:
                return
            if found[0] != offset:
                raise RuntimeError(f"offset {offset} was forgotten, or lies within a block")
            yield found
            offset = found[0] + max(1, len(found[2].data))

    def forget(self, offset: int) -> None:
        """What stands before `offset` will not be asked for again."""
        with self._lock:
            while self._blocks and self._blocks[0].start < offset:
                gone = self._blocks.pop(0).segment
                gone.kept -= 1
                if not gone.kept and gone is not self._segment:
                    gone.file.close()

    def close(self) -> None:
        """Remove all that is kept."""
        with self._lock:
            for segment in {id(kept.segment): kept.segment for kept in self._blocks}.values():
                segment.file.close()
            self._segment.file.close()
            self._blocks.clear()

    def __del__(self) -> None:
        self.close()

    def _at(self, offset: int) -> tuple[int, int, Block] | None:
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
        return kept.start, kept.first_line, Block(data, kept.rows, kept.bad)

    def _next(self) -> tuple[int, int, Block] | None:
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
        segment.file.seek(segment.size)
        segment.file.write(block.data)
        kept = _Kept(
            self._end, len(block.data), self._line, block.rows, block.bad, segment, segment.size
        )
        segment.size += kept.size
        segment.kept += 1
        self._blocks.append(kept)
        self._end += max(1, kept.size)
        self._line += block.rows
        return kept.start, kept.first_line, block
