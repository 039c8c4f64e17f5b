"""Loading: sources -> batches -> streams -> stages -> merge.

A batch is a contiguous run of pieces of one source. Streams, each with a connection of its own,
COPY its pieces by turns into stages; then one call merges the stages and records the batch, in one
transaction, while the streams are at the next batch. Whatever stream carried them, rows keep the
order of the source: the merge is told which rows came from which piece.

Two ways need no stage: policy append COPYs into the target, with all streams at once where rows
cannot wait for each other, and the first large batch for an empty table goes to the bare heap,
whose indexes are built afterwards.

Rows that are bad are no reason to slow down. The first one ends the fast way; from then on the
pieces of that source are screened, and COPY takes what is left of them, by the same ways as before.
Only what screening does not find (unique keys, exclusion, triggers), or rows past the limit, whose
whole batch is to be told, take the batch through a stage of text.

An error that passes by itself ends an attempt, not the load: all connections are given up, and
after a while the next attempt reads the ledger and goes on from there. So it does not matter when
the error struck: what the ledger holds was committed with its rows, and all else was not.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncCopy, AsyncCursor, sql
from psycopg.pq import TransactionStatus

from sqlkit import calls_async as calls
from sqlkit._acompat import AsyncEvent, AsyncLock, AsyncSignal, AsyncTask, Prefetch, run_async
from sqlkit._memory import peak_memory
from sqlkit.batches_async import AsyncFeed, Batch, Refused, Taken
from sqlkit.columns import ColumnError, ColumnPlan, plan_columns
from sqlkit.compatible import check_compatible
from sqlkit.connection import from_copy, from_psycopg, in_source
from sqlkit.connections_async import AsyncConnections, AsyncOneConnection
from sqlkit.errors import RejectLimitError, SqlkitError, UsageError
from sqlkit.infer import check_table_name, infer_table
from sqlkit.model import SourceState
from sqlkit.results import (
    ByteCounts,
    LoadProgress,
    LoadResult,
    ProgressCallback,
    RowCounts,
    Seconds,
    SourceResult,
)
from sqlkit.retry_async import pause_async
from sqlkit.sources.base import CopyFormat, Piece, Reader, ResumePoint, ScreeningReader, Source
from sqlkit.sources.copied import rows_of
from sqlkit.sources.screen import ScreenedColumn, Screening, Sieve
from sqlkit.transient import REASONS, RETRY_FOR, Patience, WaitCallback, Waiting, reason_to_wait

POLICIES = ("append", "ignore", "update", "newer", "fill", "error")

PIECE_BYTES = 4 << 20
"""Decoded bytes handed to COPY at a time. A few such pieces are all that a load holds in memory."""

APPENDED_BYTES = 8 << 20
"""The same where policy append may commit each piece by itself."""

MESSAGE_BYTES = 256 << 10
"""Bytes of a piece that are sent to the server in one message."""

SMALLEST_BATCH = 256 << 20
LARGEST_BATCH = 4 << 30
"""Bounds of a batch, in decoded bytes, where no size is given: it is as large as the target, so
that the join costs about as much as reading the batch does. Smaller batches would repeat the join
too often, larger ones take long to redo after a crash."""

LOCK_TIMEOUT = "3s"
"""How long the first load waits for sole use of an empty table before it goes the other way."""

BATCH_TAKEN = "SK402"

CREATE_HINT = (
    "Types were chosen by the first rows: make the table yourself, with types that take all."
)

STAGE_GONE = ("42P01", "SK208")

INSERTED_ROWS = 1000
MOST_PARAMETERS = 65_000
"""Of one INSERT, where COPY is not to be used."""

HEARTBEAT = 20.0
"""Seconds between two signs of life of a run."""

TEXT_COLUMNS = (
    "sqlkit_first_line",
    "sqlkit_last_line",
    "sqlkit_raw",
    "sqlkit_sqlstate",
    "sqlkit_message",
)
"""What stands before the columns of a record in a stage of text."""

LIMIT_PASSED = "SK301"

ROW_CLASSES = ("22", "23", "27", "44", "54")
ROW_CODES = ("P0001", "42601", "0A000", "SK107", "SK114", "SK115", "SK116", "SK117", "SK118")
"""SQLSTATE classes and codes of errors that may lie in single rows: bad data, broken constraints,
triggers that raise, values of little languages such as tsvector, lines that are no JSON object."""

ONE_VALUE = ("22", "SK1", "23502", "42601", "0A000", "54")
CONSTRAINT = ("23514", "23503")
"""Beginnings of those that screening finds by looking at values, and at constraints too."""

_USABLE = (TransactionStatus.IDLE, TransactionStatus.INTRANS)

TOLD = 20
"""How many refused rows an error lists."""
SAMPLE_ROWS = 10_000


@dataclass(frozen=True)
class LoadOptions:
    """How sources are loaded; `AsyncClient.load` says what each means."""

    policy: str = "update"
    key: tuple[str, ...] | None = None
    order_by: str | None = None
    columns: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    rest: str | None = None
    create: bool = False
    workers: int = 2
    use_copy: bool = True
    batch_bytes: int | None = None
    atomic: bool = False
    dry_run: bool = False
    again: bool = False
    reject_limit: int | None = 0
    reject_share: float | None = None
    retry_for: float = RETRY_FOR

    def check(self) -> None:
        """Raises UsageError for options that contradict each other."""
        if self.policy not in POLICIES:
            raise UsageError(
                f"there is no policy {self.policy!r}",
                code="SK206",
                hint=f"One of {', '.join(POLICIES)}.",
            )
        if self.policy == "newer" and not self.order_by:
            raise UsageError(
                "policy newer needs a column to order by",
                code="SK207",
                hint="Name one that grows with each version of a row: --order-by updated_at",
            )
        if self.order_by and self.policy != "newer":
            raise UsageError(
                f"policy {self.policy} does not order by a column",
                hint="Leave --order-by out, or use --policy newer.",
            )
        if self.workers < 1:
            raise UsageError("workers must be at least 1")
        if self.batch_bytes is not None and self.batch_bytes < 1:
            raise UsageError("the batch size must be at least 1 byte")
        if self.reject_limit is not None and self.reject_limit < 0:
            raise UsageError("the limit of rejects must be at least 0")
        if self.reject_share is not None and not 0 <= self.reject_share <= 1:
            raise UsageError("the share of rejects must lie between 0% and 100%")
        if self.retry_for < 0:
            raise UsageError("the time to retry for must be at least 0 seconds")

    def as_recorded(self) -> dict[str, Any]:
        """What the ledger keeps of them: those that were given."""
        found: dict[str, Any] = {
            "order_by": self.order_by,
            "columns": list(self.columns),
            "map": dict(self.renamed),
            "left_out": list(self.left_out),
            "rest": self.rest,
            "batch_bytes": self.batch_bytes,
            "atomic": self.atomic,
            "again": self.again,
            "reject_limit": self.reject_limit,
            "reject_share": self.reject_share,
        }
        return {name: value for name, value in found.items() if value}


class _DryRunEnds(Exception):  # noqa: N818 - it carries a result out of a transaction
    def __init__(self, result: LoadResult) -> None:
        super().__init__("dry run")
        self.result = result


@dataclass
class _Tally:
    """What a load adds up."""

    rows: RowCounts = field(default_factory=RowCounts)
    batches: int = 0
    bytes_read: int = 0
    bytes_decoded: int = 0
    seconds_decode: float = 0.0
    seconds_copy: float = 0.0
    seconds_merge: float = 0.0
    lines: int = 0

    def add(self, batch: Batch, counts: RowCounts, seconds_merge: float) -> None:
        self.rows = self.rows + counts
        self.batches += 1
        self.seconds_decode += batch.seconds_decode
        self.seconds_copy += batch.seconds_copy
        self.seconds_merge += seconds_merge


class _Abandoned(Exception):  # noqa: N818 - the error is the other stream's
    """An earlier batch failed: this one must not be committed."""


class _Queue:
    """The order in which streams that append at once commit."""

    def __init__(self, begins: ResumePoint, wal: int) -> None:
        self.begins = begins  # of the next batch
        self.wal = wal  # position of the log when the last batch was committed
        self.lock = AsyncLock()
        self.is_ended = False
        self.has_failed = False
        self._last = AsyncEvent()
        self._last.set()
        self._waiting: list[AsyncEvent] = []

    def join(self, batch: Batch) -> tuple[AsyncEvent, AsyncEvent]:
        """Line a batch up: the event that says it is its turn, and the one it sets afterwards."""
        self.begins = batch.ends
        self.is_ended = batch.is_last
        turn, self._last = self._last, AsyncEvent()
        self._waiting = [event for event in self._waiting if not event.is_set()]
        self._waiting.append(self._last)
        return turn, self._last

    def fail(self) -> None:
        """Nothing more is committed."""
        self.has_failed = True
        for event in self._waiting:
            event.set()


class _Care(IntEnum):
    """How carefully a source is read."""

    NONE = 0
    """Pieces go to COPY as they are."""
    VALUES = 1
    """Pieces are screened: records that are no rows, and values that are none, are kept away."""
    CONSTRAINTS = 2
    """So are rows that break a CHECK or foreign key."""
    SINGLY = 3
    """The next batch goes through a stage of text, where all that is wrong with it is found."""


@dataclass(frozen=True)
class _Screen:
    """How pieces are screened."""

    plan: str
    with_constraints: bool
    codec: str  # of the raw text


@dataclass
class _Open:
    """A source that is being read."""

    source: Source
    source_id: int
    reader: Reader
    plan: ColumnPlan
    feed: AsyncFeed
    screen: _Screen | None = None

    @property
    def copy_format(self) -> CopyFormat:
        """How COPY reads the pieces."""
        return self.reader.copy_format if self.screen is None else self.reader.single_format


class AsyncLoader:
    """One load of some sources into one target. Use it once."""

    def __init__(
        self,
        connections: AsyncConnections,
        options: LoadOptions,
        progress: ProgressCallback | None = None,
        on_wait: WaitCallback | None = None,
    ) -> None:
        options.check()
        if options.dry_run:
            # All in its one transaction, so that not even a stage can be left behind.
            connections = AsyncOneConnection(connections)
        self._connections = connections
        self._options = options
        self._progress = progress
        self._on_wait = on_wait
        self._patience = Patience(options.retry_for)
        self._streams = min(options.workers, connections.max_streams)
        self._started = time.monotonic()
        self._tally = _Tally()
        self._stages: dict[tuple[int, int, tuple[str, ...], tuple[str, ...]], str] = {}
        self._useless_stages: list[str] = []
        self._key: list[str] | None = None
        self._run_id = 0
        self._batch_number = 0
        self._bytes_total: int | None = None
        self._rows_total: int | None = None
        self._is_whole = False
        self._can_screen = False  # the reader of the source in hand
        # What outlives an attempt.
        self._main: AsyncConnection[Any] | None = None
        self._ddl: str | None = None
        self._created: str | None = None  # the table that this load made
        self._wal: int | None = None
        self._batches_before = 0
        self._fingerprints: dict[int, str | None] = {}
        self._source_ids: dict[int, int] = {}  # of the sources that this load has begun with
        self._begun: Source | None = None  # the one in hand

    # The whole ------------------------------------------------------------------------------

    async def load(self, sources: Sequence[Source], into: str) -> LoadResult:
        """Load the sources, one after the other, and say what became of their rows.

        Raises SqlkitError. What was committed by then stays, and is recorded: the same call goes
        on from there.
        """
        try:
            while True:
                try:
                    return await self._attempt(sources, into)
                except _DryRunEnds as dry:
                    return dry.result
                except (psycopg.Error, SqlkitError) as error:
                    wait = await self._wait_for(error)
                    if wait is None:
                        raise
                # Stages are found again in the ledger, as those of the run.
                self._stages.clear()
                self._useless_stages.clear()
                await self._connections.reset()
                await pause_async(wait, self._on_wait)
        except BaseException as error:
            await self._end_badly(error)
            undone = await self._undo_create()
            known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
            if undone and isinstance(known, SqlkitError):
                known.detail = "\n".join(filter(None, (known.detail, undone)))
                if isinstance(known, RejectLimitError) or may_be_rows(known.code):
                    known.hint = CREATE_HINT
            if known is not error:
                raise known from error
            if isinstance(error, UnicodeEncodeError):
                raise UsageError(
                    f"the connection's client_encoding has no {error.object[error.start]!r}",
                    hint="set client_encoding to utf8",
                ) from error
            raise
        finally:
            await self._connections.release()

    async def _attempt(self, sources: Sequence[Source], into: str) -> LoadResult:
        self._main = main = await self._connections.main()
        try:
            check_compatible(*await calls.version(main))
            async with self._outermost(main):
                return await self._load(main, sources, into)
        finally:
            await self._clear_up(main)

    async def _wait_for(self, error: psycopg.Error | SqlkitError) -> Waiting | None:
        """What to wait for before the next attempt; None if there is to be none."""
        if self._connections.is_callers or not (self._begun is None or self._begun.can_reopen):
            return None
        if self._tally.batches > self._batches_before and not self._options.atomic:
            self._batches_before = self._tally.batches
            self._patience.progressed()
        reason = reason_to_wait(error)
        if reason is None and isinstance(error.__cause__ or error, psycopg.Error):
            reason = await self._is_cut_off(error)
        return None if reason is None else self._patience.wait_for(error, reason)

    async def _is_cut_off(self, error: psycopg.Error | SqlkitError) -> str | None:
        """Why an error is but a consequence of what happened to the session or to the run, if so.

        A stream may be the first to notice, by a stage that is not there any more; and behind a
        proxy there may be no other sign of a restart that has undone the stage.
        """
        if self._main is None or not self._run_id or self._options.dry_run:
            return None
        try:
            is_running = await calls.is_running(self._main, self._run_id)
        except psycopg.Error as lost:
            return reason_to_wait(lost)
        if not is_running:
            return REASONS["SK403"]
        if not self._connections.is_direct and _code(error) in STAGE_GONE:
            return REASONS["SK404"]
        return None

    @asynccontextmanager
    async def _outermost(self, main: AsyncConnection[Any]) -> AsyncIterator[None]:
        """The transaction around everything, where there is one.

        A dry run has one, that is rolled back. On the caller's connection nothing is committed that
        the caller did not ask for: unless it is in autocommit mode and outside a transaction, all
        that a load does is a savepoint of the caller's transaction.
        """
        is_callers = self._connections.is_callers and (
            not main.autocommit or main.info.transaction_status != TransactionStatus.IDLE
        )
        self._is_whole = is_callers or self._options.dry_run
        if is_callers:
            # Any statement begins the caller's transaction; what follows is then a savepoint in it.
            await calls.server_encoding(main)
        if self._is_whole:
            async with main.transaction():
                yield
        else:
            yield

    async def _load(
        self, main: AsyncConnection[Any], sources: Sequence[Source], into: str
    ) -> LoadResult:
        options = self._options
        self._encoding = await calls.server_encoding(main)
        check_table_name(into)
        name = await calls.find_table(main, into)
        if name is None:
            if not options.create:
                raise SqlkitError(
                    f"there is no table {into}",
                    code="42P01",
                    hint="Create it, or let --create make it from what the source looks like.",
                )
            if options.policy != "append" and not options.key:
                raise UsageError(
                    f"policy {options.policy} needs a key, and the table is yet to be made",
                    code="SK202",
                    hint="Name its columns, --key a,b, or use --policy append.",
                )
            await self._create(main, sources[0], into)
            name = await calls.find_table(main, into)
            assert name is not None
            self._created = name if self._ddl else None
        self._target = await calls.describe_target(main, name)
        if options.policy != "append":
            key = None if options.key is None else list(options.key)
            self._key = await calls.find_key(main, name, key)
        sizes = [source.size for source in sources]
        self._bytes_total = None if None in sizes else sum(size or 0 for size in sizes)
        counts = [source.row_count for source in sources]
        self._rows_total = None if None in counts else sum(count or 0 for count in counts)

        await self._open_run(main)
        self._patience.resumed()
        async with heartbeat_async(self._connections, self._run_id):
            if options.atomic:
                async with main.transaction():
                    await self._load_sources(main, sources)
            else:
                await self._load_sources(main, sources)
            return await self._close_run(main, sources)

    async def _open_run(self, main: AsyncConnection[Any]) -> None:
        """Open the run, or take it up again where an earlier attempt has opened it."""
        options = self._options
        if self._wal is None:
            self._wal = await calls.wal_position(main)
        if not self._is_whole:
            await calls.repair_runs(main, self._target.name)
        if self._run_id and await calls.attach_run(main, self._run_id):
            await calls.drop_stages(main, self._run_id)
            return
        async with main.transaction():
            # Both or none: a run of which nobody has said how it may be reached counts as running
            # for minutes after its connection was lost.
            self._run_id = await calls.start_run(
                main,
                "load",
                self._target.name,
                options.policy,
                self._key,
                options.as_recorded(),
                f"{socket.gethostname()}:{os.getpid()}",
            )
            await calls.attach_run(main, self._run_id)

    async def _close_run(self, main: AsyncConnection[Any], sources: Sequence[Source]) -> LoadResult:
        """Close the run as done. Its counters come from the ledger, however often it was cut."""
        options, tally = self._options, self._tally
        await self._drop_stages(main)
        wal = max(0, await calls.wal_position(main) - (self._wal or 0))
        async with main.transaction():
            # Batches may have committed asynchronously. This commit does not, and the log is
            # written in order: only now is the load a success.
            if not self._is_whole:
                await calls.require_synchronous_commit(main)
            await calls.check_loaded(main, list(self._source_ids.values()))
            await calls.note_memory(main, self._run_id, peak_memory())
            await calls.finish_run(main, self._run_id, wal_bytes=wal)
        if not self._is_whole:
            # Those who died in the meantime, and whose stages were in use until now.
            await calls.repair_runs(main, self._target.name)
        counted = await calls.counts_of(main, self._run_id)
        results: list[SourceResult] = []
        batches, rows = 0, RowCounts()
        for position, source in enumerate(sources):
            found = counted.pop(self._source_ids[position], (0, RowCounts()))
            state = "loaded" if found[0] else "skipped"
            results.append(SourceResult(source.name, state, *found))
            batches, rows = batches + found[0], rows + found[1]
        result = LoadResult(
            run_id=None if options.dry_run else self._run_id,
            target=self._target.name,
            policy=options.policy,
            sources=tuple(results),
            batches=batches,
            rows=rows,
            bytes=ByteCounts(read=tally.bytes_read, decoded=tally.bytes_decoded, wal=wal),
            seconds=Seconds(
                total=time.monotonic() - self._started,
                decode=tally.seconds_decode,
                copy=tally.seconds_copy,
                merge=tally.seconds_merge,
            ),
            ddl=self._ddl,
        )
        if options.dry_run:
            raise _DryRunEnds(result)
        return result

    async def _load_sources(self, main: AsyncConnection[Any], sources: Sequence[Source]) -> None:
        for position, source in enumerate(sources):
            await self._load_source(main, position, source)

    async def _end_badly(self, error: BaseException) -> None:
        """Note the failure in the ledger, if the server is there to be told."""
        main = self._main
        if main is None or not self._run_id or self._is_whole:
            return
        known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
        code = known.code if isinstance(known, SqlkitError) else "SK000"
        message = known.message if isinstance(known, SqlkitError) else type(error).__name__
        with suppress(psycopg.Error, SqlkitError):
            if not isinstance(error, Exception):
                # Somebody ended the load, wherever it was. Nothing is wrong with the server.
                if main.closed:
                    await self._connections.reset()
                    main = await self._connections.main()
                await calls.drop_stages(main, self._run_id)
            if main.info.transaction_status == TransactionStatus.IDLE:
                await calls.finish_run(main, self._run_id, code, message)

    async def _create(self, main: AsyncConnection[Any], source: Source, into: str) -> None:
        reader = await run_async(partial(source.open, database_encoding=self._encoding))
        try:
            self._ddl = infer_table(
                into,
                reader.columns,
                await run_async(reader.sample, SAMPLE_ROWS),
                key=self._options.key or (),
                renamed=self._options.renamed,
                chosen=self._options.columns,
                left_out=self._options.left_out,
                types=reader.column_types,
            )
        finally:
            await run_async(reader.close)
        try:
            async with main.transaction():
                await main.execute(self._ddl.encode())
                # Of an earlier table by this name the ledger may know what is not in this one.
                await calls.forget_sources(main, into)
        except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
            # Another process was given the same command, and was faster.
            self._ddl = None

    async def _undo_create(self) -> str | None:
        """Drop the table that this load made, if nothing was loaded into it; what to say of it."""
        main, table = self._main, self._created
        if main is None or table is None:
            return None
        is_dropped = self._is_whole
        with suppress(psycopg.Error, SqlkitError):
            if not is_dropped and main.info.transaction_status == TransactionStatus.IDLE:
                async with main.transaction():
                    await calls.set_local(main, "lock_timeout", LOCK_TIMEOUT)
                    is_dropped = await calls.drop_empty_table(main, table, self._run_id)
        return f"The table made for it is dropped again:\n{self._ddl}" if is_dropped else None

    # One source -----------------------------------------------------------------------------

    async def _load_source(self, main: AsyncConnection[Any], position: int, source: Source) -> None:
        if position not in self._fingerprints:
            self._fingerprints[position] = (
                await run_async(source.fingerprint) if source.repeatable else None
            )
        # What an earlier attempt has begun is to be continued, and not begun once more.
        again = self._options.again and position not in self._source_ids
        care = _Care.NONE
        while True:
            # Without a fingerprint there is no other way to know what was begun.
            state = (
                await calls.source_state(main, self._source_ids[position])
                if position in self._source_ids and not source.repeatable
                else None
            ) or await calls.open_source(
                main,
                self._target.name,
                source.name,
                source.format,
                source.size,
                self._fingerprints[position],
                again,
            )
            self._source_ids[position] = state.source_id
            if state.state == "loaded":
                break
            again = False
            self._begun = source
            try:
                if care == _Care.SINGLY:
                    if not await self._read_singly(main, source, state):
                        care = _Care.NONE
                else:
                    await self._read(main, source, state, care)
            except (psycopg.Error, SqlkitError) as error:
                # What the batches in hand have staged is of no use any more.
                if main.info.transaction_status in _USABLE:
                    await self._drop_stages(main)
                code = _code(error)
                if code == BATCH_TAKEN:
                    # Another process is loading the same source: go on from where it is now.
                    continue
                if care == _Care.SINGLY or not source.can_reopen:
                    raise
                if not may_be_rows(code) and code != LIMIT_PASSED:
                    raise
                # Some rows are bad: keep them away, or find all that is wrong with their batch.
                care = self._more_care(care, code or "")

    def _more_care(self, care: _Care, code: str) -> _Care:
        """How to go on after an error that lies in rows."""
        options = self._options
        if (
            code == LIMIT_PASSED
            or (options.reject_limit == 0 and options.reject_share is None)
            # Another connection does not see what this one has not committed.
            or (options.atomic or self._is_whole or self._connections.is_single)
            or not self._can_screen
        ):
            return _Care.SINGLY
        wanted = _Care.SINGLY
        if code.startswith(ONE_VALUE):
            wanted = _Care.VALUES
        elif code in CONSTRAINT:
            wanted = _Care.CONSTRAINTS
        return wanted if wanted > care else _Care(care + 1)

    async def _read(
        self, main: AsyncConnection[Any], source: Source, state: SourceState, care: _Care
    ) -> None:
        """Read a source from where the ledger says to its end."""
        async with self._opened(main, source, state, care) as opened:
            await self._batches(main, opened, _begins(state))

    async def _read_singly(
        self, main: AsyncConnection[Any], source: Source, state: SourceState
    ) -> bool:
        """Load the next batch record by record; True if some were bad, and more may be."""
        async with self._opened(main, source, state, _Care.SINGLY) as opened:
            batch = await opened.feed.begin(self._batch_number, self._batch_bytes(), _begins(state))
            self._batch_number += 1
            return await self._load_singly(main, opened, batch)

    @asynccontextmanager
    async def _opened(
        self, main: AsyncConnection[Any], source: Source, state: SourceState, care: _Care
    ) -> AsyncIterator[_Open]:
        """A source, opened where the ledger says, and read ahead."""
        reader = await run_async(
            partial(
                source.open,
                database_encoding=self._encoding,
                resume=_begins(state) if state.next_offset else None,
            )
        )
        self._can_screen = isinstance(reader, ScreeningReader)
        prefetch: Prefetch[Piece] | Prefetch[Screening] | None = None
        try:
            plan = plan_columns(
                source.name,
                reader.columns,
                self._target.name,
                self._target.columns,
                renamed=self._options.renamed,
                chosen=self._options.columns,
                left_out=self._options.left_out,
                passes_through=source.passes_through,
                declares_columns=source.declares_columns,
                rest=self._options.rest,
            )
            self._check_plan(source, plan)
            screen = None
            if care == _Care.NONE:
                pieces = reader.pieces(plan.wanted, self._piece_bytes(), plan.ignored)
                prefetch = Prefetch(pieces, ahead=self._streams)
            else:
                # Rejects are written as a file again in the way of their source.
                await calls.describe_source(main, state.source_id, reader.layout)
                if care == _Care.SINGLY or not isinstance(reader, ScreeningReader):
                    pieces = reader.single_records(plan.wanted, self._piece_bytes(), plan.ignored)
                    prefetch = Prefetch(pieces, ahead=self._streams)
                else:
                    sieve, screen = await self._screen_for(main, source, reader, plan, care)
                    screenings = reader.screenings(
                        plan.wanted, self._piece_bytes(), plan.ignored, sieve
                    )
                    prefetch = Prefetch(screenings, ahead=self._streams)
            yield _Open(source, state.source_id, reader, plan, AsyncFeed(prefetch), screen)
        finally:
            if prefetch is not None:
                await run_async(prefetch.close)
            self._tally.bytes_read += reader.progress.stored_bytes
            self._tally.bytes_decoded += reader.progress.decoded_bytes
            await run_async(reader.close)

    async def _screen_for(
        self,
        main: AsyncConnection[Any],
        source: Source,
        reader: ScreeningReader,
        plan: ColumnPlan,
        care: _Care,
    ) -> tuple[Sieve, _Screen]:
        """What is to be looked at in the client, and what the server is asked."""
        found = await calls.plan_screen(
            main,
            self._target.name,
            list(plan.staged),
            list(plan.left_out),
            self._options.policy,
            self._key,
        )
        columns = [
            # A reader that takes JSON apart writes nothing else there; one of CSV takes any text.
            ScreenedColumn(**told, is_json=wanted.is_json and not source.declares_columns)
            for told, wanted in zip(found["columns"], plan.wanted, strict=True)
        ]
        with_constraints = care == _Care.CONSTRAINTS and found["constraints"] is not None
        sieve = Sieve(columns, reader.single_format)
        return sieve, _Screen(json.dumps(found), with_constraints, reader.codec)

    def _check_plan(self, source: Source, plan: ColumnPlan) -> None:
        """The policy's columns must be in the input; the merge checks it too, but not every way
        leads there."""
        order_by = self._options.order_by
        listed = f"Input: {', '.join(plan.staged)}."
        if missing := [name for name in self._key or () if name not in plan.staged]:
            raise ColumnError(
                f"{source.name}: key columns that the input does not have: {', '.join(missing)}",
                detail=listed,
                hint="Load the columns of the key, or choose another key.",
            )
        if order_by is not None and order_by not in plan.staged:
            raise ColumnError(
                f"{source.name}: column {order_by}, by which the newer row is known, is not in "
                "the input",
                code="SK207",
                detail=listed,
                hint="Name a column that grows with each version of a row, such as updated_at.",
            )

    def _piece_bytes(self) -> int:
        if self._options.policy == "append" and self._options.batch_bytes is None:
            return APPENDED_BYTES
        return min(PIECE_BYTES, self._options.batch_bytes or PIECE_BYTES)

    def _batch_bytes(self) -> int:
        if self._options.batch_bytes is not None:
            return self._options.batch_bytes
        return max(SMALLEST_BATCH, min(self._target.heap_bytes, LARGEST_BATCH))

    async def _batches(
        self, main: AsyncConnection[Any], opened: _Open, begins: ResumePoint
    ) -> None:
        """Load what is left of a source: COPY of a batch runs while the last one merges."""
        feed = opened.feed
        merging: AsyncTask[None] | None = None
        if self._appends_in_parallel(opened):
            await self._append_in_parallel(main, opened, begins)
            return
        try:
            while True:
                batch = await feed.begin(self._batch_number, self._batch_bytes(), begins)
                self._batch_number += 1
                if merging is None and await self._first_load(main, opened, batch):
                    pass
                elif self._is_append(opened):
                    await self._append(main, opened, batch)
                else:
                    await self._copy_to_stages(opened, batch)
                    if merging is not None:
                        await merging.result()
                    merging = AsyncTask(partial(self._merge, main, opened, batch))
                    if self._connections.is_single:
                        await merging.result()
                if feed.exhausted:
                    break
                begins = batch.ends
            if merging is not None:
                await merging.result()
        finally:
            if merging is not None:
                await merging.settle()

    @asynccontextmanager
    async def _batch_transaction(self, main: AsyncConnection[Any]) -> AsyncIterator[None]:
        """The transaction of a batch. It may be lost in a crash: then the ledger says so.

        Where it is but a part of another transaction, of the caller's say, it leaves that as it is.
        """
        async with main.transaction():
            if not self._is_whole:
                await calls.set_local(main, "synchronous_commit", "off")
            yield

    # The ways of a batch ----------------------------------------------------------------------

    def _is_append(self, opened: _Open) -> bool:
        """True if COPY may write to the target itself and the server's count of rows is ours."""
        target = self._target
        return (
            self._options.policy == "append"
            and opened.plan.is_direct
            and self._options.use_copy
            and not (target.has_row_triggers or target.has_rules or target.row_security)
        )

    def _appends_in_parallel(self, opened: _Open) -> bool:
        """True if several streams may append at once, each in transactions of its own.

        Not where they could wait for each other, for a key or in a trigger: one of them would
        then wait for its turn to commit, and the server could not see why.
        """
        options = self._options
        return (
            self._is_append(opened)
            and self._target.rows_are_independent
            and self._streams > 1
            and options.batch_bytes is None
            and options.use_copy
            and not (options.atomic or options.dry_run or self._connections.is_single)
        )

    async def _append_in_parallel(
        self, main: AsyncConnection[Any], opened: _Open, begins: ResumePoint
    ) -> None:
        """COPY small batches with all streams at once; they commit in the order of the source."""
        queue = _Queue(begins, await calls.wal_position(main))
        tasks = [
            AsyncTask(partial(self._append_stream, main, opened, number, queue))
            for number in range(self._streams)
        ]

        def stop() -> None:
            opened.feed.fail()
            queue.fail()

        errors = await _settle(tasks, stop)
        causes = [error for error in errors if error is not None]
        for error in sorted(causes, key=lambda error: isinstance(error, _Abandoned)):
            raise error

    async def _append_stream(
        self, main: AsyncConnection[Any], opened: _Open, number: int, queue: _Queue
    ) -> None:
        try:
            while True:
                async with queue.lock:
                    batch = await opened.feed.begin(self._batch_number, 1, queue.begins)
                    self._batch_number += 1
                    taken = await opened.feed.take(batch)
                    if taken is None and (queue.is_ended or not batch.is_last):
                        return
                    turn, done = queue.join(batch)
                connection = main if number == 0 else await self._connections.stream(number)
                await self._append_piece(connection, opened, batch, taken, turn, queue)
                done.set()
        except BaseException:
            opened.feed.fail()
            queue.fail()
            raise

    async def _append_piece(
        self,
        connection: AsyncConnection[Any],
        opened: _Open,
        batch: Batch,
        taken: Taken | None,
        turn: AsyncEvent,
        queue: _Queue,
    ) -> None:
        started = time.monotonic()
        async with self._batch_transaction(connection):
            rows = 0
            if taken is not None:
                piece = await self._screened(connection, opened, batch, taken)
                rows = await self._copy_piece(connection, opened, self._target.name, piece)
                self._tell(opened, piece, "copy")
            batch.seconds_copy = time.monotonic() - started
            await turn.wait()
            if queue.has_failed:
                raise _Abandoned
            position = await calls.wal_position(connection)
            wal, queue.wal = position - queue.wal, position
            counts = RowCounts(read=rows, inserted=rows)
            await self._record(connection, opened, batch, counts, 0.0, wal)
        self._forget(opened, batch)

    async def _append(self, main: AsyncConnection[Any], opened: _Open, batch: Batch) -> None:
        async with self._batch_transaction(main):
            await calls.claim_batch(main, opened.source_id, batch.begins.offset)
            wal = await calls.wal_position(main)
            rows = await self._copy_to_target(main, opened, batch, freeze=False)
            counts = RowCounts(read=rows, inserted=rows)
            wal = await calls.wal_position(main) - wal
            await self._record(main, opened, batch, counts, 0.0, wal)
        self._forget(opened, batch)

    async def _first_load(self, main: AsyncConnection[Any], opened: _Open, batch: Batch) -> bool:
        """COPY to the bare heap of an empty table, and build its indexes; False if that cannot be.

        Not worth it for what fits one piece, and not done on the caller's connection, whose
        transaction may have seen the table before.
        """
        options = self._options
        if (
            opened.feed.fits_one_piece
            or not opened.plan.is_direct
            or self._connections.is_single
            or options.dry_run
            or options.policy == "fill"
            or not options.use_copy
            or self._tally.rows.inserted
        ):
            return False
        async with self._batch_transaction(main):
            # Whoever else loads this source is waited for, however long that takes.
            await calls.claim_batch(main, opened.source_id, batch.begins.offset)
            wal = await calls.wal_position(main)
            timeout = await calls.setting(main, "lock_timeout")
            await calls.set_local(main, "lock_timeout", LOCK_TIMEOUT)
            indexes = await calls.begin_first_load(main, self._target.name)
            await calls.set_local(main, "lock_timeout", timeout)
            if indexes is None:
                return False
            if options.batch_bytes is None:
                # The indexes are built once, so that here a larger batch costs nothing.
                batch.limit = LARGEST_BATCH
            rows = await self._copy_to_target(main, opened, batch, freeze=True)
            started = time.monotonic()
            counts = await calls.finish_first_load(
                main,
                self._target.name,
                indexes,
                rows,
                options.policy,
                self._key,
                options.order_by,
            )
            wal = await calls.wal_position(main) - wal
            await self._record(main, opened, batch, counts, time.monotonic() - started, wal)
        self._forget(opened, batch)
        return True

    async def _copy_to_target(
        self, main: AsyncConnection[Any], opened: _Open, batch: Batch, *, freeze: bool
    ) -> int:
        """COPY a batch into the target itself, in one go; the number of rows."""
        format = opened.copy_format
        statement = _copy_statement(self._target.name, opened.plan.staged, format, freeze=freeze)
        started = time.monotonic()
        cursor = main.cursor()
        first_line = 0
        # Screening goes on while COPY reads, and needs a connection that is not busy with that.
        screener = main if opened.screen is None else await self._connections.stream(0)
        next_piece = partial(self._next_piece, screener, opened, batch)
        ahead = AsyncTask(next_piece)
        try:
            async with _copying(cursor, statement) as copy:
                await _write(copy, format.head)
                while (piece := await ahead.result()) is not None:
                    ahead = AsyncTask(next_piece)
                    # Not where the batch begins: its first record stands below the header.
                    first_line = first_line or piece.first_line
                    await _write(copy, piece.data)
                    self._tell(opened, piece, "copy")
                await _write(copy, format.tail)
        except psycopg.Error as error:
            raise self._located(error, opened, self._target.name, first_line) from error
        finally:
            await ahead.settle()
        batch.seconds_copy = time.monotonic() - started
        return cursor.rowcount

    async def _next_piece(
        self, connection: AsyncConnection[Any], opened: _Open, batch: Batch
    ) -> Piece | None:
        taken = await opened.feed.take(batch)
        return None if taken is None else await self._screened(connection, opened, batch, taken)

    async def _screened(
        self, connection: AsyncConnection[Any], opened: _Open, batch: Batch, taken: Taken
    ) -> Piece:
        """A piece without its bad rows, which are noted with the batch."""
        screening, screen = taken.screening, opened.screen
        if screening is None or screen is None:
            return taken.piece
        piece, place = screening.piece, screening.place
        if not screening.singles and not screen.with_constraints:
            return piece
        rejects: list[Refused] = []
        bad: set[int] = set()
        format = opened.reader.single_format
        async with connection.transaction():
            await calls.begin_screen(connection, screen.plan)
            if screening.singles:
                columns = TEXT_COLUMNS + opened.plan.staged
                await _copy(connection, "sqlkit_text", columns, format, screening.singles)
                rejects = await calls.screen_text(connection, screen.plan)
                rows = {place(row)[0]: row for row in screening.doubtful}
                bad = {rows[reject[0]] for reject in rejects if reject[0] in rows}
            if screen.with_constraints:
                sound = [row for row in range(len(screening.ends())) if row not in bad]
                data = screening.without(bad)
                await _copy(connection, "sqlkit_typed", opened.plan.staged, format, data)
                for number, column, code, message in await calls.screen_rows(
                    connection, screen.plan
                ):
                    row = sound[number - 1]
                    first, last, raw = place(row)
                    text = raw.decode(screen.codec)
                    rejects.append([first, last, text, column, code, message])
                    bad.add(row)
        batch.rejects.add(sorted(rejects, key=itemgetter(0)))
        limit = self._options.reject_limit
        if limit is not None and self._tally.rows.rejected + batch.rejects.count > limit:
            raise SqlkitError("the limit of rejects was passed", code=LIMIT_PASSED)
        return replace(piece, data=screening.without(bad))

    async def _record(
        self,
        main: AsyncConnection[Any],
        opened: _Open,
        batch: Batch,
        counts: RowCounts,
        seconds_merge: float,
        wal: int,
    ) -> None:
        options, rejected = self._options, batch.rejects.count
        counts = counts + RowCounts(read=rejected, rejected=rejected)
        await calls.check_reject_limit(
            main, self._run_id, counts.read, rejected, options.reject_limit, options.reject_share
        )
        await calls.record_batch(
            main,
            self._run_id,
            opened.source_id,
            batch.range,
            counts,
            batch.seconds_decode,
            batch.seconds_copy,
            seconds_merge,
            wal,
        )
        await self._keep_rejects(main, opened, batch)
        self._tally.add(batch, counts, seconds_merge)

    async def _keep_rejects(
        self, connection: AsyncConnection[Any], opened: _Open, batch: Batch
    ) -> None:
        """Record what was kept away from a batch, in its transaction."""
        for chunk in batch.rejects.chunks():
            await calls.keep_rejects(
                connection, self._run_id, opened.source_id, batch.begins.offset, chunk
            )
        batch.rejects.close()

    def _forget(self, opened: _Open, batch: Batch) -> None:
        """A batch is committed: it will not be read again, unless it is but part of a whole."""
        if not (self._options.atomic or self._is_whole):
            opened.source.forget(batch.ends.offset)

    async def _copy_to_stages(self, opened: _Open, batch: Batch) -> None:
        """COPY a batch into stages, one for each stream that gets any of it."""
        started = time.monotonic()
        streams = 1 if opened.feed.fits_one_piece else self._streams
        tasks = [
            AsyncTask(partial(self._stream, opened, batch, number)) for number in range(1, streams)
        ]
        try:
            await self._stream(opened, batch, 0)
        finally:
            errors = await _settle(tasks, opened.feed.fail)
        for error in errors:
            if error is not None:
                raise error
        batch.seconds_copy = time.monotonic() - started

    async def _stream(self, opened: _Open, batch: Batch, number: int) -> None:
        """COPY the pieces that one stream gets into its stage, in one transaction.

        The stage is made or emptied in it, so that COPY may freeze the rows: the merge need not
        note on each that its transaction is over.
        """
        try:
            taken = await opened.feed.take(batch)
            if taken is None:
                return
            connection = await self._connections.stream(number)
            async with self._stage(connection, opened.plan, batch, number) as stage:
                # Other streams add theirs meanwhile: where it stands is known afterwards.
                batch.stages.append(stage)
                position = batch.stages.index(stage)
                while taken is not None:
                    piece = await self._screened(connection, opened, batch, taken)
                    rows = await self._copy_piece(
                        connection, opened, stage, piece, freeze=not self._connections.is_single
                    )
                    batch.pieces.append({"stage": position, "piece": taken.order, "rows": rows})
                    self._tell(opened, piece, "copy")
                    taken = await opened.feed.take(batch)
        except BaseException:
            opened.feed.fail()
            raise

    async def _copy_piece(
        self,
        connection: AsyncConnection[Any],
        opened: _Open,
        stage: str,
        piece: Piece,
        *,
        freeze: bool = False,
    ) -> int:
        format = opened.copy_format
        statement = _copy_statement(stage, opened.plan.staged, format, freeze=freeze)
        cursor = connection.cursor()
        try:
            if not self._options.use_copy:
                return await _insert(cursor, stage, opened.plan.staged, format, piece.data)
            async with _copying(cursor, statement) as copy:
                await _write(copy, format.head + piece.data + format.tail)
        except psycopg.Error as error:
            raise self._located(error, opened, stage, piece.first_line) from error
        return cursor.rowcount

    @asynccontextmanager
    async def _stage(
        self, connection: AsyncConnection[Any], plan: ColumnPlan, batch: Batch, number: int
    ) -> AsyncIterator[str]:
        """The stage of a stream, empty, in a transaction that fills it.

        There are two sets, so that one is filled while one is merged. Within one transaction a
        stage that was emptied stays locked, so that each batch of an atomic load has its own.
        """
        is_reused = not (self._options.atomic or self._options.dry_run)
        slot = batch.number % 2 if is_reused else batch.number
        place = (slot, number, plan.staged, plan.left_out)
        stage = self._stages.get(place)
        async with self._batch_transaction(connection):
            if stage is not None:
                await calls.empty_stages(connection, [stage])
                yield stage
            else:
                stage = await calls.create_stage(
                    connection,
                    self._target.name,
                    list(plan.staged),
                    list(plan.left_out),
                    # Only a run that is committed can be referred to from another connection.
                    None if self._options.dry_run else self._run_id,
                )
                yield stage
        self._stages[place] = stage

    async def _merge(self, main: AsyncConnection[Any], opened: _Open, batch: Batch) -> None:
        started = time.monotonic()
        if batch.is_empty:
            async with self._stage(main, opened.plan, batch, 0) as stage:
                batch.stages.append(stage)
        async with self._batch_transaction(main):
            if not self._connections.is_direct:
                await calls.check_stages(main, batch.stages, batch.rows)
            counts = await calls.merge_batch(
                main,
                self._run_id,
                opened.source_id,
                batch.range,
                batch.stages,
                self._target.name,
                self._options.policy,
                self._key,
                self._options.order_by,
                batch.pieces,
                batch.seconds_decode,
                batch.seconds_copy,
                batch.rejects.count,
                self._options.reject_limit,
                self._options.reject_share,
            )
            await self._keep_rejects(main, opened, batch)
        self._tally.add(batch, counts, time.monotonic() - started)
        self._forget(opened, batch)
        if batch.last is not None:
            self._tell(opened, batch.last, "merge")

    async def _load_singly(self, main: AsyncConnection[Any], opened: _Open, batch: Batch) -> bool:
        """Load a batch through a stage of text; True if rows of it were refused.

        Raises RejectLimitError, with nothing of the batch in the target, if these are too many.
        """
        options = self._options
        run_id = None if options.dry_run or options.atomic else self._run_id
        started = time.monotonic()
        await calls.describe_source(main, opened.source_id, opened.reader.layout)
        stage = await calls.create_text_stage(
            main, self._target.name, list(opened.plan.staged), run_id
        )
        try:
            statement = _copy_statement(
                stage, TEXT_COLUMNS + opened.plan.staged, opened.reader.single_format
            )
            try:
                cursor = main.cursor()
                async with _copying(cursor, statement) as copy:
                    while (taken := await opened.feed.take(batch)) is not None:
                        await _write(copy, taken.piece.data)
                        self._tell(opened, taken.piece, "copy")
            except psycopg.Error as error:
                raise self._located(error, opened, stage, 1) from error
            batch.seconds_copy = time.monotonic() - started
            started = time.monotonic()
            async with self._batch_transaction(main):
                if not self._connections.is_direct:
                    await calls.check_stages(main, [stage], cursor.rowcount)
                counts = await calls.merge_text_batch(
                    main,
                    self._run_id,
                    opened.source_id,
                    batch.range,
                    stage,
                    self._target.name,
                    options.policy,
                    self._key,
                    options.order_by,
                    options.reject_limit,
                    options.reject_share,
                    batch.seconds_decode,
                    batch.seconds_copy,
                )
            if counts is None:
                raise await self._over_limit(main, opened)
            self._tally.add(batch, counts, time.monotonic() - started)
            self._forget(opened, batch)
            return counts.rejected > 0
        finally:
            with suppress(psycopg.Error):
                await calls.drop_stage(main, stage)

    async def _over_limit(self, main: AsyncConnection[Any], opened: _Open) -> RejectLimitError:
        options = self._options
        number = await calls.count_told(main, self._run_id, opened.source_id)
        told = await calls.rejects_of(main, self._run_id, limit=TOLD)
        names = opened.plan.names
        lines = [
            f"{reject['source']}, line {reject['first_line']}: "
            + (f"column {in_source(column, names.get(column, column))}: " if column else "")
            + f"{reject['message']}\n    {_shortened(reject['raw'])}"
            for reject in told
            for column in (reject["column_name"],)
        ]
        if number > len(lines):
            lines.append(f"and {number - len(lines):,} more: sqlkit rejects {self._run_id}")
        limits = []
        if options.reject_limit is not None:
            limits.append(f"{options.reject_limit:,}")
        if options.reject_share is not None:
            limits.append(f"{options.reject_share:.4g} of the rows")
        return RejectLimitError(
            f"{number:,} {'row was' if number == 1 else 'rows were'} refused and the limit is "
            f"{' or '.join(limits)}: nothing of the batch was kept",
            detail="\n".join(lines),
            hint="Mend the lines, or let them be kept as rejects: --reject-limit 100, or 1%.",
        )

    async def _drop_stages(self, main: AsyncConnection[Any]) -> None:
        """No stage is used any more; all are dropped, as soon as that cannot be rolled back.

        Within a transaction around everything, those that streams have made wait for its end. On
        the caller's connection they are part of it themselves.
        """
        self._useless_stages += self._stages.values()
        self._stages.clear()
        is_idle = main.info.transaction_status == TransactionStatus.IDLE
        while self._useless_stages and (is_idle or self._connections.is_single):
            await calls.drop_stage(main, self._useless_stages[-1])
            self._useless_stages.pop()

    async def _clear_up(self, main: AsyncConnection[Any]) -> None:
        """Drop what stages are left, as far as the server is there and still has them."""
        self._useless_stages += self._stages.values()
        self._stages.clear()
        while self._useless_stages and main.info.transaction_status == TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                await calls.drop_stage(main, self._useless_stages.pop())

    # Telling --------------------------------------------------------------------------------

    def _located(
        self, error: psycopg.Error, opened: _Open, relation: str, first_line: int
    ) -> Exception:
        return from_copy(
            error,
            source=opened.source.name,
            relation=relation,
            first_line=first_line,
            columns=opened.plan.names,
        )

    def _tell(self, opened: _Open, piece: Piece, phase: str) -> None:
        if phase == "copy":
            self._tally.lines += piece.last_line - piece.first_line + 1
        if self._progress is not None:
            self._progress(
                LoadProgress(
                    source=opened.source.name,
                    rows=self._tally.lines,
                    bytes_read=self._tally.bytes_read + opened.reader.progress.stored_bytes,
                    bytes_total=self._bytes_total,
                    seconds=time.monotonic() - self._started,
                    phase=phase,
                    rows_total=self._rows_total,
                )
            )


@asynccontextmanager
async def heartbeat_async(connections: AsyncConnections, run_id: int) -> AsyncIterator[None]:
    """Tell from time to time that the program behind a run is alive, which a proxy might hide."""
    over = AsyncSignal()

    async def beat() -> None:
        while not await over.wait(HEARTBEAT):
            with suppress(psycopg.Error, SqlkitError):
                await connections.beside(partial(calls.touch_run, run_id=run_id))

    beating = AsyncTask(beat)
    try:
        yield
    finally:
        over.give()
        await beating.settle()


def may_be_rows(code: str | None) -> bool:
    """True if an error of this SQLSTATE may lie in single rows, so that others can be loaded."""
    return code is not None and (code[:2] in ROW_CLASSES or code in ROW_CODES)


async def _settle(
    tasks: Sequence[AsyncTask[None]], stop: Callable[[], None]
) -> list[BaseException | None]:
    """Wait for all tasks to end, and tell how; what they use is free afterwards.

    Also where the wait itself is broken off, by a cancellation say: then they are told to stop.
    """
    try:
        return [await task.settle() for task in tasks]
    except BaseException:
        stop()
        for task in tasks:
            await task.settle()
        raise


@asynccontextmanager
async def _copying(cursor: AsyncCursor[Any], statement: sql.Composed) -> AsyncIterator[AsyncCopy]:
    """COPY, which does not go on when its block ends, whatever ends it."""
    try:
        async with cursor.copy(statement) as copy:
            yield copy
    finally:
        if cursor.connection.info.transaction_status == TransactionStatus.ACTIVE:
            # Interrupted at the very moment when it began: psycopg does not end it then, and the
            # server would keep its locks and wait for rows.
            await cursor.connection.close()


async def _copy(
    connection: AsyncConnection[Any],
    table: str,
    columns: Sequence[str],
    format: CopyFormat,
    data: bytes,
) -> None:
    """COPY into a temporary table of the session."""
    statement = _copy_statement(f"pg_temp.{table}", columns, format)
    async with _copying(connection.cursor(), statement) as copy:
        await _write(copy, data)


async def _write(copy: AsyncCopy, data: bytes) -> None:
    """Hand bytes to COPY in messages of a size that the server takes up while the next is sent."""
    view = memoryview(data)
    for start in range(0, len(data), MESSAGE_BYTES):
        await copy.write(view[start : start + MESSAGE_BYTES])


async def _insert(
    cursor: AsyncCursor[Any], relation: str, columns: Sequence[str], format: CopyFormat, data: bytes
) -> int:
    """What COPY would do, by plain INSERTs of many rows each: slow, to be compared with."""
    row = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(columns)))
    most = max(1, min(INSERTED_ROWS, MOST_PARAMETERS // len(columns)))
    rows = rows_of(format, data)
    inserted = 0
    while some := list(islice(rows, most)):
        statement = sql.SQL("insert into {} ({}) values {}").format(
            sql.SQL(relation),  # quoted by the server
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join([row] * len(some)),
        )
        await cursor.execute(statement, [value for values in some for value in values])
        inserted += cursor.rowcount
    return inserted


def _code(error: psycopg.Error | SqlkitError) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else error.code


def _begins(state: SourceState) -> ResumePoint:
    return ResumePoint(
        state.next_offset, state.next_line, state.stored_offset, state.stored_sha256 or ""
    )


def _shortened(raw: str, length: int = 200) -> str:
    return raw if len(raw) <= length else raw[:length] + " ..."


def _copy_statement(
    relation: str,
    columns: Sequence[str],
    format: CopyFormat,
    *,
    freeze: bool = False,
) -> sql.Composed:
    """COPY relation (columns) FROM STDIN; `relation` comes quoted from the server."""
    options: list[sql.Composable] = [sql.SQL("format {}").format(sql.Identifier(format.format))]
    if format.format == "csv":
        options += [
            sql.SQL("quote {}").format(sql.Literal(format.quote)),
            sql.SQL("escape {}").format(sql.Literal(format.escape)),
        ]
    if format.format != "binary":
        options += [
            sql.SQL("delimiter {}").format(sql.Literal(format.delimiter)),
            sql.SQL("null {}").format(sql.Literal(format.null)),
            sql.SQL("encoding {}").format(sql.Literal(format.encoding)),
        ]
    if freeze:
        options.append(sql.SQL("freeze true"))
    return sql.SQL("copy {} ({}) from stdin ({})").format(
        sql.SQL(relation),  # quoted by the server
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(options),
    )
