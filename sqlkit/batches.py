# Generated from sqlkit/batches_async.py by python -m sqlkit.build; do not edit.

"""Batches in the making, and the feed that deals the pieces of a source out to streams."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlkit._acompat import Lock, Prefetch, run
from sqlkit.model import SourceRange
from sqlkit.sources.base import Piece, ResumePoint


@dataclass
class Batch:
    """A contiguous run of pieces of one source: what is known of it while it is read."""

    number: int
    limit: int  # decoded bytes after which it takes no more pieces
    begins: ResumePoint
    bytes: int = 0
    lines: int = 0
    taken: int = 0
    last: Piece | None = None
    is_last: bool = False
    seconds_decode: float = 0.0
    seconds_copy: float = 0.0
    stages: list[str] = field(default_factory=list)
    pieces: list[dict[str, int]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """True if it holds no piece at all."""
        return self.last is None

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


class Feed:
    """Deals the pieces of a source out, batch by batch; several streams may ask at once."""

    def __init__(self, pieces: Prefetch[Piece]) -> None:
        self._pieces = pieces
        self._lock = Lock()
        self._held: tuple[Piece, bool] | None = None
        self._failed = False
        self.exhausted = False

    def begin(self, number: int, limit: int, begins: ResumePoint) -> Batch:
        """A new batch that starts with the next piece, which it does not take yet."""
        batch = Batch(number, limit, begins)
        if self._held is None and not self.exhausted:
            self._held = run(self._pieces.take)
        if self._held is None:
            self.exhausted = batch.is_last = True
        return batch

    @property
    def fits_one_piece(self) -> bool:
        """True if no piece follows the next one."""
        return self._held is None or self._held[1]

    def take(self, batch: Batch) -> tuple[int, Piece] | None:
        """The next piece of a batch and its number in it; None where the batch is complete."""
        with self._lock:
            if self._failed or self.exhausted or batch.bytes >= batch.limit:
                return None
            found = self._held or run(self._pieces.take)
            self._held = None
            if found is None:
                self.exhausted = batch.is_last = True
                return None
            piece, is_last = found
            self.exhausted = batch.is_last = is_last
            batch.last = piece
            batch.bytes += len(piece.data)
            batch.lines += piece.last_line - piece.first_line + 1
            batch.seconds_decode += piece.seconds
            batch.taken += 1
            return batch.taken - 1, piece

    def fail(self) -> None:
        """No stream gets any piece from now on."""
        self._failed = True
