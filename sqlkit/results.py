"""What a load tells about itself: typed results, and progress while it runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass, field
from typing import Any


@dataclass(frozen=True)
class RowCounts:
    """What became of the rows: `read` is the sum of all the others."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0  # the target held the very same row
    ignored: int = 0  # the policy, a trigger or a rule kept what was there
    duplicates: int = 0  # another row with the same key in the batch took its place
    rejected: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*map(operator.sub, astuple(self), astuple(other)))


@dataclass(frozen=True)
class ByteCounts:
    """Bytes read as stored, bytes after decompression, bytes of WAL the server wrote meanwhile."""

    read: int
    decoded: int
    wal: int


@dataclass(frozen=True)
class Seconds:
    """Wall-clock time of the whole, and the time that each kind of work took.

    `fetch` is reading a file for its digest, or fetching an object of a store; `lookup`, a part of
    `merge`, is finding in the table what rows it has of those of a batch, and which differ. Kinds
    of work overlap: they may add up to more than total.
    """

    total: float
    decode: float
    copy: float
    merge: float
    fetch: float = 0.0
    lookup: float = 0.0


@dataclass(frozen=True)
class SourceResult:
    """One source: `state` is loaded, or skipped where the ledger had it as loaded before.

    `shared`: a small one, whose batch others share. What became of rows is counted for the batch as
    a whole, and is part of the result's `rows`; of this source `rows.read` alone is told.
    """

    name: str
    state: str
    batches: int
    rows: RowCounts
    shared: bool = False


@dataclass(frozen=True)
class LoadResult:
    """A finished load. `run_id` is its row in the ledger; None for a dry run."""

    run_id: int | None
    target: str
    policy: str
    sources: tuple[SourceResult, ...]
    batches: int
    rows: RowCounts
    bytes: ByteCounts
    seconds: Seconds
    ddl: str | None = None  # the table that was created for it, if one was
    trimmed: int = 0  # times a row was cut, so that it overlaps no other
    conflicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What detection found afterwards, by rule: pairs_opened, pairs_open and their like."""
    rejects: tuple[Mapping[str, Any], ...] = ()
    """Of a dry run, the first refused rows with place and reason: the ledger keeps none of them."""
    notes: tuple[str, ...] = ()
    """What was tuned for the run, and what is advised."""

    @property
    def rows_per_second(self) -> float:
        """Rows read by seconds of the whole load."""
        return self.rows.read / self.seconds.total if self.seconds.total else 0.0

    @property
    def seconds_per_batch(self) -> float:
        """What a batch took on average: seconds of the whole load by batches."""
        return self.seconds.total / self.batches if self.batches else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``sqlkit load --json`` prints it."""
        return asdict(self) | {
            "rows_per_second": self.rows_per_second,
            "seconds_per_batch": self.seconds_per_batch,
        }


@dataclass(frozen=True)
class RefreshResult:
    """A finished refresh: what became of the rows read, and how many rows of the target went.

    `reasons` say why strategy auto took the one it did, and what was tuned. Where only that was
    asked for, `run_id` is None and nothing was done.
    """

    run_id: int | None
    target: str
    strategy: str
    rows: RowCounts
    deleted: int
    wal_bytes: int
    seconds: float
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``sqlkit refresh --json`` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class TransformResult:
    """A finished transform: how many raw rows had changed, and what became of what they made.

    `rows` adds up as everywhere; its `read` is what the query made, not what it read.
    """

    run_id: int
    target: str
    source: str
    policy: str
    rows_source: int
    rows: RowCounts
    wal_bytes: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``sqlkit run --json`` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class LoadProgress:
    """How far a load has come. Rows are physical lines, which no one had to parse."""

    source: str
    rows: int
    bytes_read: int
    bytes_total: int | None
    seconds: float
    phase: str  # copy | merge
    rows_total: int | None = None  # where it is known


ProgressCallback = Callable[[LoadProgress], None]
