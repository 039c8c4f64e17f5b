"""Batches in the making, and the feed that deals the pieces of a source out to streams."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from tempfile import SpooledTemporaryFile
from typing import Any

from sqlkit._acompat import AsyncLock, Prefetch, run_async
from sqlkit.columns import ColumnPlan
from sqlkit.model import SourceRange
from sqlkit.sources.base import CopyFormat, Piece, Reader, ResumePoint, Source
from sqlkit.sources.repertoire import Repertoire
from sqlkit.sources.screen import Screening

REJECTS_IN_MEMORY = 1 << 20

BEGINNING = ResumePoint(0, 1, 0, "")
"""Of a source of which nothing was loaded."""

Refused = list[Any]
"""A refused row: first and last line, raw text, column, SQLSTATE, message, number of the record.

Lines are None where there are none, the number where the line says it all."""


def number_of(row: Refused) -> int:
    """What tells a refused row from the others of its source, in their order."""
    number: int = row[0] if row[6] is None else row[6]
    return number


class RejectSpool:
    """The refused rows of a batch, until it is recorded: on disk if they are many."""

    def __init__(self) -> None:
        self._file: SpooledTemporaryFile[bytes] | None = None
        self.count = 0

    def add(self, rows: Sequence[Refused]) -> None:
        """Some more."""
        if not rows:
            return
        if self._file is None:
            self._file = SpooledTemporaryFile(REJECTS_IN_MEMORY)  # noqa: SIM115 - see `close`
        self._file.write(json.dumps(rows).encode() + b"\n")
        self.count += len(rows)

    def chunks(self) -> Iterator[str]:
        """All of them, some at a time, each a JSON list of lists."""
        if self._file is not None:
            self._file.seek(0)
            for line in self._file:
                yield line.decode()

    def close(self) -> None:
        """Forget them."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        # Of a batch that failed, nobody asks for them.
        self.close()


@dataclass
class Batch:
    """A contiguous run of pieces of one source: what is known of it while it is read."""

    number: int
    limit: int  # decoded bytes after which it takes no more pieces
    begins: ResumePoint
    may_end: Callable[[Batch], bool] | None = None  # before that, as it holds a piece by now
    began: float = field(default_factory=time.monotonic)
    bytes: int = 0
    lines: int = 0
    taken: int = 0
    last: Piece | None = None
    is_last: bool = False
    seconds_decode: float = 0.0
    seconds_copy: float = 0.0
    stages: list[str] = field(default_factory=list)
    pieces: list[dict[str, int]] = field(default_factory=list)
    rejects: RejectSpool = field(default_factory=RejectSpool)

    @property
    def is_empty(self) -> bool:
        """True if it holds no piece at all."""
        return self.last is None

    @property
    def is_complete(self) -> bool:
        """True if it takes no more pieces. Once it is, it stays so, whichever stream asks."""
        if self.may_end is not None and self.taken and self.may_end(self):
            self.limit = 0
        return self.bytes >= self.limit

    @property
    def rows(self) -> int:
        """Rows that COPY has written, as the server counted them."""
        return sum(piece["rows"] for piece in self.pieces)

    @property
    def ends(self) -> ResumePoint:
        """The point of the source right after the batch."""
        return self.begins if self.last is None else self.last.resume

    @property
    def range(self) -> SourceRange:
        """The batch as the ledger describes it."""
        ends = self.ends
        return SourceRange(
            start_offset=self.begins.offset,
            end_offset=ends.offset,
            first_line=self.begins.line,
            last_line=ends.line - 1,
            stored_offset=ends.stored_offset,
            stored_sha256=ends.stored_sha256,
            is_last=self.is_last,
        )


@dataclass(frozen=True)
class Taken:
    """A piece of a batch, its number in it, and, where the source is screened, what is in doubt."""

    order: int
    piece: Piece
    screening: Screening | None


@dataclass(frozen=True)
class WholeSource:
    """A small source, read to its end."""

    known: KnownSource
    pieces: tuple[Piece, ...]


@dataclass
class SharedBatch:
    """A batch that several small sources share, each with all its rows."""

    number: int
    limit: int  # decoded bytes after which it takes no more sources
    bytes: int = 0
    seconds_copy: float = 0.0
    stages: list[str] = field(default_factory=list)
    pieces: list[dict[str, int]] = field(default_factory=list)
    sources: list[WholeSource] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)
    """Rows that COPY has written of each source, by its place in the batch."""
    failed: int | None = None  # the first of them that COPY has refused

    @property
    def rows_copied(self) -> int:
        """Those of all sources."""
        return sum(self.rows.values())

    @property
    def seconds_decode(self) -> float:
        """Spent reading and decoding the sources."""
        return sum(piece.seconds for source in self.sources for piece in source.pieces)

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The sources as the ledger describes them."""
        return [
            {
                "source_id": whole.known.source_id,
                "rows_read": self.rows.get(place, 0),
                **asdict(_whole_range(whole.pieces)),
            }
            for place, whole in enumerate(self.sources)
        ]


def _whole_range(pieces: Sequence[Piece]) -> SourceRange:
    batch = Batch(0, 0, BEGINNING, last=pieces[-1] if pieces else None, is_last=True)
    return batch.range


class AsyncSharedFeed:
    """Deals small sources out to the streams of a batch, each as a whole."""

    def __init__(self, sources: Prefetch[WholeSource]) -> None:
        self._sources = sources
        self._lock = AsyncLock()
        self._held: tuple[WholeSource, bool] | None = None
        self._failed = False
        self.exhausted = False

    async def first(self) -> WholeSource | None:
        """The first of several, which is not taken yet; None if there are not as many."""
        self._held = await run_async(self._sources.take)
        return None if self._held is None or self._held[1] else self._held[0]

    async def take(self, batch: SharedBatch) -> tuple[int, WholeSource] | None:
        """The next source of a batch and its place in it; None where the batch is complete."""
        async with self._lock:
            is_complete = len(batch.sources) > 1 and batch.bytes >= batch.limit
            if self._failed or self.exhausted or is_complete:
                return None
            found = self._held or await run_async(self._sources.take)
            self._held = None
            if found is None:
                self.exhausted = True
                return None
            whole, self.exhausted = found
            batch.bytes += sum(len(piece.data) for piece in whole.pieces)
            batch.sources.append(replace(whole, pieces=_without_data(whole.pieces)))
            return len(batch.sources) - 1, whole

    def fail(self) -> None:
        """No stream gets any source from now on."""
        self._failed = True


def _without_data(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    return tuple(replace(piece, data=b"") for piece in pieces)


class AsyncFeed:
    """Deals the pieces of a source out, batch by batch; several streams may ask at once."""

    def __init__(self, pieces: Prefetch[Piece] | Prefetch[Screening]) -> None:
        self._pieces = pieces
        self._lock = AsyncLock()
        self._held: tuple[Piece | Screening, bool] | None = None
        self._failed = False
        self.exhausted = False

    async def begin(self, number: int, limit: int, begins: ResumePoint) -> Batch:
        """A new batch that starts with the next piece, which it does not take yet."""
        batch = Batch(number, limit, begins)
        if self._held is None and not self.exhausted:
            self._held = await run_async(self._pieces.take)
        if self._held is None:
            self.exhausted = batch.is_last = True
        return batch

    @property
    def fits_one_piece(self) -> bool:
        """True if no piece follows the next one."""
        return self._held is None or self._held[1]

    async def take(self, batch: Batch) -> Taken | None:
        """The next piece of a batch; None where the batch is complete."""
        async with self._lock:
            if self._failed or self.exhausted or batch.is_complete:
                return None
            found = self._held or await run_async(self._pieces.take)
            self._held = None
            if found is None:
                self.exhausted = batch.is_last = True
                return None
            item, is_last = found
            screening = item if isinstance(item, Screening) else None
            piece = item.piece if isinstance(item, Screening) else item
            self.exhausted = batch.is_last = is_last
            batch.last = piece
            batch.bytes += len(piece.data)
            batch.lines += piece.last_line - piece.first_line + 1
            batch.seconds_decode += piece.seconds
            batch.taken += 1
            return Taken(batch.taken - 1, piece, screening)

    def fail(self) -> None:
        """No stream gets any piece from now on."""
        self._failed = True


@dataclass(frozen=True)
class Screen:
    """How pieces are screened."""

    plan: str
    has_constraints: bool  # there are some that can be screened for
    with_constraints: bool  # they are
    repertoire: Repertoire  # of the raw text


@dataclass
class KnownSource:
    """A source, as the ledger and the target know it."""

    source: Source
    source_id: int
    reader: Reader
    plan: ColumnPlan

    @property
    def copy_format(self) -> CopyFormat:
        """How COPY reads the pieces."""
        return self.reader.copy_format


@dataclass
class OpenSource(KnownSource):
    """A source that is being read."""

    feed: AsyncFeed
    screen: Screen | None = None
    probe: Screen | None = None  # for a look at the first rows, where none is screened for that

    @property
    def copy_format(self) -> CopyFormat:
        """How COPY reads the pieces."""
        return self.reader.copy_format if self.screen is None else self.reader.single_format
