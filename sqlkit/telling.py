"""What a load adds up, and tells while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sqlkit.results import LoadProgress, ProgressCallback, RowCounts
from sqlkit.sources.base import Piece, Reader


@dataclass
class Tally:
    """What a load adds up."""

    rows: RowCounts = field(default_factory=RowCounts)
    batches: int = 0
    bytes_read: int = 0
    bytes_decoded: int = 0
    seconds_decode: float = 0.0
    seconds_copy: float = 0.0
    seconds_merge: float = 0.0
    lines: int = 0

    def add(self, counts: RowCounts, decode: float, copy: float, merge: float) -> None:
        """A batch is in the target: what became of its rows, and the seconds it took."""
        self.rows = self.rows + counts
        self.batches += 1
        self.seconds_decode += decode
        self.seconds_copy += copy
        self.seconds_merge += merge


class Teller:
    """Tells the caller how far a load is."""

    def __init__(self, progress: ProgressCallback | None, tally: Tally) -> None:
        self.bytes_total: int | None = None
        self.rows_total: int | None = None
        self._progress = progress
        self._tally = tally
        self._started = time.monotonic()

    def tell(self, source: str, reader: Reader, piece: Piece, phase: str) -> None:
        """A piece was copied, or merged with all before it."""
        if phase == "copy":
            self._tally.lines += piece.last_line - piece.first_line + 1
        if self._progress is not None:
            self._progress(
                LoadProgress(
                    source=source,
                    rows=self._tally.lines,
                    bytes_read=self._tally.bytes_read + reader.progress.stored_bytes,
                    bytes_total=self.bytes_total,
                    seconds=time.monotonic() - self._started,
                    phase=phase,
                    rows_total=self.rows_total,
                )
            )
