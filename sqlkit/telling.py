"""What a load adds up, and tells while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlkit.connection import in_source
from sqlkit.errors import RejectLimitError, place_of
from sqlkit.results import LoadProgress, ProgressCallback, RowCounts
from sqlkit.sources.base import Piece, Reader, Source


@dataclass
class _Read:
    """How far a source was ever read: what is read again after an error does not count twice."""

    bytes_stored: int = 0
    bytes_decoded: int = 0
    first_line: int | None = None
    last_line: int = 0
    decoded_at: dict[int, int] = field(default_factory=dict)  # bytes, by where pieces end

    @property
    def lines(self) -> int:
        """Those that were copied."""
        return 0 if self.first_line is None else self.last_line - self.first_line + 1


SHOWN = 200
"""How many characters of a refused row are shown."""

TOLD = 20
"""How many refused rows an error lists."""

MOST_TOLD = 10_000
"""How many rows of a batch that is refused the ledger tells of (`merge_text_batch`)."""


@dataclass
class Tally:
    """What a load adds up."""

    rows: RowCounts = field(default_factory=RowCounts)
    batches: int = 0
    seconds_fetch: float = 0.0
    seconds_decode: float = 0.0
    seconds_copy: float = 0.0
    seconds_merge: float = 0.0
    seconds_lookup: float = 0.0
    bytes_read: int = 0
    """Stored bytes of all sources."""
    bytes_decoded: int = 0
    """Decoded bytes of all sources."""
    lines: int = 0
    """Lines of all sources that were copied."""
    _read: dict[int, _Read] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # streams note what they copy

    def note(self, source: Source, reader: Reader, copied: Piece | None = None) -> None:
        """A source was read so far, and a piece of it was copied."""
        with self._lock:
            read = self._read.setdefault(id(source), _Read())
            before = (read.bytes_stored, read.bytes_decoded, read.lines)
            read.bytes_stored = max(read.bytes_stored, reader.progress.stored_bytes)
            read.bytes_decoded = max(read.bytes_decoded, reader.progress.decoded_bytes)
            if copied is not None:
                read.decoded_at[copied.end] = copied.decoded_bytes
                first = copied.first_line
                read.first_line = first if read.first_line is None else min(first, read.first_line)
                read.last_line = max(read.last_line, copied.last_line)
            self.bytes_read += read.bytes_stored - before[0]
            self.bytes_decoded += read.bytes_decoded - before[1]
            self.lines += read.lines - before[2]

    def opened(self, source: Source, reader: Reader, offset: int) -> None:
        """A source is read from there on, perhaps not for the first time."""
        read = self._read.get(id(source))
        if read is not None and reader.progress.is_of_rest:
            reader.progress.decoded_bytes = read.decoded_at.get(offset, 0)

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
        self._started = self._told = time.monotonic()

    def silent_for(self) -> float:
        """Seconds since a piece was told of."""
        return time.monotonic() - self._told

    def tell(self, source: Source, reader: Reader, piece: Piece, phase: str) -> None:
        """A piece was copied, or merged with all before it."""
        self._told = time.monotonic()
        self._tally.note(source, reader, piece if phase == "copy" else None)
        if self._progress is not None:
            self._progress(
                LoadProgress(
                    source=source.name,
                    rows=self._tally.lines,
                    bytes_read=self._tally.bytes_read,
                    bytes_total=self.bytes_total,
                    seconds=time.monotonic() - self._started,
                    phase=phase,
                    rows_total=self.rows_total,
                )
            )


def describe_reject(reject: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Place and reason of a refused row, and below them its text; `names` are the source's."""
    column, raw = reject["column_name"], reject["raw"]
    reason = f"column {in_source(column, names.get(column, column))}: " if column else ""
    place = ""
    if reject["source"]:
        place = place_of(reject["source"], reject["first_line"], reject["record"]) + ": "
    shown = raw if len(raw) <= SHOWN else raw[:SHOWN] + " ..."
    return f"{place}{reason}{reject['message']}\n    {shown}"


def limit_passed(
    run_id: int,
    number: int,
    told: Sequence[Mapping[str, Any]],
    *,
    limit: int | None,
    share: float | None,
    hint: str,
    names: Mapping[str, str] | None = None,
    before: int = 0,
) -> RejectLimitError:
    """The error of a run that refused more rows than it may.

    Tells of the batch that passed the limit: how many rows were refused, and the first of them;
    `before` it there were others.
    """
    lines = [describe_reject(reject, names or {}) for reject in told]
    is_least = number >= MOST_TOLD
    if number > len(lines):
        least = "at least " if is_least else ""
        lines.append(f"and {least}{number - len(lines):,} more: sqlkit rejects {run_id}")
    limits = []
    if limit is not None:
        limits.append(f"{limit:,}")
    if share is not None:
        limits.append(f"{share * 100:.4g}% of the rows")
    count = f"{number:,} {'row was' if number == 1 else 'rows were'}"
    after = f", after {before:,} before," if before else ""
    return RejectLimitError(
        f"{'At least ' if is_least else ''}{count} refused{after} and the limit is "
        f"{' or '.join(limits)}: nothing of the batch was kept",
        detail="\n".join(lines),
        hint=hint,
    )
