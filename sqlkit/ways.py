# Generated from sqlkit/ways_async.py by python -m sqlkit.build; do not edit.

"""The ways of a batch, from the pieces of an open source to rows in the target.

Streams, each with a connection of its own, COPY the pieces of a batch by turns into stages; then
one call merges the stages and records the batch, in one transaction, while the streams are at the
next batch. Whatever stream carried them, rows keep the order of the source: the merge is told which
rows came from which piece.

Two ways need no stage: policy append COPYs into the target, with all streams at once where rows
cannot wait for each other, and the first large batch for an empty table goes to the bare heap,
whose indexes are built afterwards.

Rows that only a look at all of a batch finds bad take it through a stage of text.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from sqlkit import calls as calls
from sqlkit._acompat import Event, Lock, Task
from sqlkit.batches import (
    Batch,
    KnownSource,
    OpenSource,
    Screen,
    SharedBatch,
    SharedFeed,
    Taken,
    WholeSource,
)
from sqlkit.care import DENIED, LIMIT_PASSED, may_be_rows
from sqlkit.columns import ColumnPlan
from sqlkit.connection import from_copy
from sqlkit.connections import Connections
from sqlkit.copy import copy_statement, copying, insert, write
from sqlkit.errors import RejectLimitError, SqlkitError
from sqlkit.model import Target
from sqlkit.options import LoadOptions
from sqlkit.results import RowCounts
from sqlkit.screening import TEXT_COLUMNS, screen, screen_stage
from sqlkit.sources.base import BinaryReader, Piece, Reader, ResumePoint, Source
from sqlkit.sources.repertoire import NOT_IN_ENCODING
from sqlkit.telling import TOLD, Tally, Teller, limit_passed

PIECE_BYTES = 4 << 20
"""Decoded bytes handed to COPY at a time. A few such pieces are all that a load holds in memory."""

EARLY_BYTES = 1 << 20
"""The same of rows from Python, of which the first are merged while the next are made text."""

APPENDED_BYTES = 8 << 20
"""The same where policy append may commit each piece by itself."""

SMALLEST_BATCH = 256 << 20
LARGEST_BATCH = 4 << 30
"""Bounds of a batch, in decoded bytes, where no size is given: it is as large as the target, so
that the join costs about as much as reading the batch does. Smaller batches would repeat the join
too often, larger ones take long to redo after a crash."""

WRITTEN_IN = 10.0
REPEATED = 0.25
"""Where many indexes or triggers make writing slow, such a batch would take long to commit. The
next ones are no larger than what was written in so many seconds, unless finding rows in the target
and building indexes, which each batch does once more, would then take more than this share of
that."""

SHORTEST_BATCH = 0.05
LONGEST_LEAST = 2.0
"""Where decoding is what takes the time, batches are merged meanwhile: each lasts as long as the
merge of the one before, but at least this share of the time so far, and no more of it than seconds.
So a load of a second is three batches, and one of an hour has not a million of them."""

SMALL_SOURCE = 1 << 20
"""Stored bytes of the largest source that shares a batch with others."""

LOCK_TIMEOUT = "3s"
"""How long the first load waits for sole use of an empty table before it goes the other way."""


class _Abandoned(Exception):  # noqa: N818 - the error is the other stream's
    """An earlier batch failed: this one must not be committed."""


class _Queue:
    """The order in which streams that append at once commit."""

    def __init__(self, begins: ResumePoint, wal: int) -> None:
        self.begins = begins  # of the next batch
        self.wal = wal  # position of the log when the last batch was committed
        self.lock = Lock()
        self.is_ended = False
        self.has_failed = False
        self._last = Event()
        self._last.set()
        self._waiting: list[Event] = []

    def join(self, batch: Batch) -> tuple[Event, Event]:
        """Line a batch up: the event that says it is its turn, and the one it sets afterwards."""
        self.begins = batch.ends
        self.is_ended = batch.is_last
        turn, self._last = self._last, Event()
        self._waiting = [event for event in self._waiting if not event.is_set()]
        self._waiting.append(self._last)
        return turn, self._last

    def fail(self) -> None:
        """Nothing more is committed."""
        self.has_failed = True
        for event in self._waiting:
            event.set()


def _settle(tasks: Sequence[Task[None]], stop: Callable[[], None]) -> list[BaseException | None]:
    """Wait for all tasks to end, and tell how; what they use is free afterwards.

    Also where the wait itself is broken off, by a cancellation say: then they are told to stop.
    """
    try:
        return [task.settle() for task in tasks]
    except BaseException:
        stop()
        for task in tasks:
            task.settle()
        raise


class Ways:
    """Takes batches into the target of a run that is open. Each attempt at a load has its own."""

    def __init__(
        self,
        connections: Connections,
        options: LoadOptions,
        target: Target,
        key: list[str] | None,
        run_id: int,
        tally: Tally,
        teller: Teller,
        *,
        is_whole: bool,
        lock_timeout: str | None,
    ) -> None:
        self._connections = connections
        self._options = options
        self._target = target
        self._key = key
        self._run_id = run_id
        self._tally = tally
        self._teller = teller
        self._is_whole = is_whole  # all is part of one transaction, which others cannot look into
        self._lock_timeout = lock_timeout  # None leaves it as it is
        self._streams = min(options.streams, connections.max_streams)
        self._stages: dict[tuple[int, int, tuple[str, ...], tuple[str, ...]], str] = {}
        self._useless_stages: list[str] = []
        self._batch_number = 0
        self._most: float = LARGEST_BATCH  # bytes of the next batches, by how long others took
        self._began = time.monotonic()

    def may_be_rows(self, code: str | None) -> bool:
        """True if an error of this SQLSTATE may lie in single rows of a batch."""
        return may_be_rows(code, may_deny_rows=self._target.may_deny_rows)

    def prepare(self, reader: Reader) -> None:
        """Before it is read: what COPY alone understands is not for INSERTs."""
        if not self._options.may_copy and isinstance(reader, BinaryReader):
            reader.may_be_binary = False

    def piece_bytes(self, source: Source) -> int:
        """How much is handed to COPY at a time."""
        if self._target.heap_bytes and self._may_end_early(source):
            return EARLY_BYTES
        if self._options.policy == "append" and self._options.batch_bytes is None:
            return APPENDED_BYTES
        return min(PIECE_BYTES, self._options.batch_bytes or PIECE_BYTES)

    def _commits_whole(self, source: Source) -> bool:
        """True if a source has to be one batch: a second run could not go on with it, and would
        take its rows for new, or refuse them."""
        return source.is_live and self._options.policy in ("append", "error")

    def _batch_bytes(self, source: Source) -> int:
        if self._commits_whole(source):
            return sys.maxsize
        if self._options.batch_bytes is not None:
            return self._options.batch_bytes
        return int(max(SMALLEST_BATCH, min(self._target.heap_bytes, LARGEST_BATCH, self._most)))

    def _adapts(self, source: Source) -> bool:
        """True if what batches take decides how large the next ones are.

        Not where all are committed together anyway, or a share of rejects is taken of each.
        """
        options = self._options
        return (
            options.batch_bytes is None
            and options.reject_share is None
            and not (options.atomic or self._is_whole or self._commits_whole(source))
        )

    def _adapt(self, source: Source, batch: Batch, writing: float, repeated: float) -> None:
        """Have the next batches as large as `WRITTEN_IN` and `REPEATED` have it.

        A small one tells little of how long others take.
        """
        if self._adapts(source) and batch.bytes >= SMALLEST_BATCH:
            seconds = max(WRITTEN_IN, repeated / REPEATED)
            self._most = max(SMALLEST_BATCH, batch.bytes * seconds / max(writing, 0.001))

    def _is_large_enough(self, batch: Batch) -> bool:
        """True if a batch that has begun is as large as those before it say by now."""
        return batch.bytes >= self._most

    def load(self, main: Connection[Any], opened: OpenSource, begins: ResumePoint) -> None:
        """Load what is left of a source: COPY of a batch runs while the last one merges."""
        feed = opened.feed
        merging: Task[None] | None = None
        if self._appends_in_parallel(opened):
            self._append_in_parallel(main, opened, begins)
            return
        try:
            while True:
                batch = feed.begin(self._batch_number, self._batch_bytes(opened.source), begins)
                self._batch_number += 1
                if self._may_end_early(opened.source):
                    batch.may_end = partial(self._is_long_enough, merging)
                elif self._adapts(opened.source) and self._batch_number > 1:
                    batch.may_end = self._is_large_enough
                if merging is None and self._first_load(main, opened, batch):
                    pass
                elif self._is_append(opened):
                    self._append(main, opened, batch)
                else:
                    self._copy_to_stages(opened, batch)
                    if merging is not None:
                        merging.result()
                    merging = Task(partial(self._merge, main, opened, batch))
                    if self._connections.is_single:
                        merging.result()
                if feed.exhausted:
                    break
                begins = batch.ends
            if merging is not None:
                merging.result()
        except BaseException as error:
            if merging is not None and not isinstance(error, Exception):
                # Broken off from outside: what the server is at may take long, and nobody wants it.
                with suppress(psycopg.Error):
                    main.cancel_safe()
            raise
        finally:
            if merging is not None:
                merging.settle()

    def _may_end_early(self, source: Source) -> bool:
        """True if batches may be as small as the time makes them.

        Only of Python's rows: of what can be read again, the same input is the same batches, with
        the same counts and, where one fails, the same ones before it, as far as `_adapt` lets it.
        Not where a share of rejects is taken of each, or where they cannot be merged meanwhile.
        """
        options = self._options
        return (
            source.format == "rows"
            and options.policy in ("update", "newer", "ignore", "fill")
            and options.batch_bytes is None
            and options.reject_share is None
            and not (options.atomic or options.dry_run or self._connections.is_single)
            and not self._commits_whole(source)
        )

    def _is_long_enough(self, merging: Task[None] | None, batch: Batch) -> bool:
        """True if nothing is merged although rows are there, and decoding more of them takes time.

        Larger batches would be merged faster by the row, but not sooner.
        """
        now = time.monotonic()
        took = now - batch.began
        least = min(SHORTEST_BATCH * (now - self._began), LONGEST_LEAST)
        is_idle = merging is None or merging.is_done
        return is_idle and took >= least and batch.seconds_decode >= took / 2

    @contextmanager
    def _batch_transaction(
        self, main: Connection[Any], opened: KnownSource | None = None
    ) -> Iterator[None]:
        """The transaction of a batch. It may be lost in a crash: then the ledger says so.

        Where it is but a part of another transaction, of the caller's say, it leaves that as it is.
        """
        with main.transaction():
            if not self._is_whole:
                calls.set_local(main, "synchronous_commit", "off")
            if self._lock_timeout is not None:
                calls.set_local(main, "lock_timeout", self._lock_timeout)
            if self._options.tune:
                calls.tune_transaction(main)
            if self._options.raw and opened is not None:
                calls.tell_origin(main, opened.source.name, self._run_id)
            if self._options.dry_run or self._options.indexes != "auto":
                # What is rolled back is not worth the building.
                indexes = "keep" if self._options.dry_run else self._options.indexes
                calls.set_local(main, "sqlkit.indexes", indexes)
            yield

    def _is_append(self, opened: KnownSource) -> bool:
        """True if COPY may write to the target itself and the server's count of rows is ours."""
        target = self._target
        return (
            self._options.policy == "append"
            and opened.plan.is_direct
            and self._options.may_go_straight
            and not (target.has_row_triggers or target.has_rules or target.row_security)
        )

    def _appends_in_parallel(self, opened: OpenSource) -> bool:
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
            and not self._commits_whole(opened.source)
            and not (options.atomic or options.dry_run or self._connections.is_single)
        )

    def _append_in_parallel(
        self, main: Connection[Any], opened: OpenSource, begins: ResumePoint
    ) -> None:
        """COPY small batches with all streams at once; they commit in the order of the source."""
        queue = _Queue(begins, calls.wal_position(main))
        tasks = [
            Task(partial(self._append_stream, main, opened, number, queue))
            for number in range(self._streams)
        ]

        def stop() -> None:
            opened.feed.fail()
            queue.fail()

        errors = _settle(tasks, stop)
        causes = [error for error in errors if error is not None]
        for error in sorted(causes, key=lambda error: isinstance(error, _Abandoned)):
            raise error

    def _append_stream(
        self, main: Connection[Any], opened: OpenSource, number: int, queue: _Queue
    ) -> None:
        try:
            while True:
                with queue.lock:
                    batch = opened.feed.begin(self._batch_number, 1, queue.begins)
                    self._batch_number += 1
                    taken = opened.feed.take(batch)
                    if taken is None and (queue.is_ended or not batch.is_last):
                        return
                    turn, done = queue.join(batch)
                connection = main if number == 0 else self._connections.stream(number)
                self._append_piece(connection, opened, batch, taken, turn, queue)
                done.set()
        except BaseException:
            opened.feed.fail()
            queue.fail()
            raise

    def _append_piece(
        self,
        connection: Connection[Any],
        opened: OpenSource,
        batch: Batch,
        taken: Taken | None,
        turn: Event,
        queue: _Queue,
    ) -> None:
        started = time.monotonic()
        with self._batch_transaction(connection, opened):
            rows = 0
            if taken is not None:
                piece = self._screened(connection, opened, batch, taken)
                rows = self._copy_pieces(connection, opened, self._target.name, [piece])
                self._teller.tell(opened.source, opened.reader, piece, "copy")
            batch.seconds_copy = time.monotonic() - started
            turn.wait()
            if queue.has_failed:
                raise _Abandoned
            position = calls.wal_position(connection)
            wal, queue.wal = position - queue.wal, position
            counts = RowCounts(read=rows, inserted=rows)
            self._record(connection, opened, batch, counts, 0.0, wal)
        self._forget(opened, batch)

    def _append(self, main: Connection[Any], opened: OpenSource, batch: Batch) -> None:
        with self._batch_transaction(main, opened):
            calls.claim_batch(main, opened.source_id, batch.begins.offset)
            wal = calls.wal_position(main)
            indexes = self._begin_rebuild(main, opened, batch)
            rows = self._copy_to_target(main, opened, batch, freeze=False)
            if indexes is not None:
                calls.finish_rebuild(main, self._target.name, indexes)
            else:
                self._adapt(opened.source, batch, batch.seconds_copy, 0.0)
            counts = RowCounts(read=rows, inserted=rows)
            wal = calls.wal_position(main) - wal
            self._record(main, opened, batch, counts, 0.0, wal)
        self._forget(opened, batch)

    def _begin_rebuild(self, main: Connection[Any], opened: OpenSource, batch: Batch) -> str | None:
        """Take indexes away before COPY, if the batch is large enough; None if they stay."""
        size = opened.source.size
        if opened.feed.fits_one_piece or size is None or self._connections.is_single:
            return None
        # Stored bytes are the least that are decoded.
        left = min(batch.limit, size - batch.begins.stored_offset)
        return calls.begin_rebuild(main, self._target.name, None, left)

    def _first_load(self, main: Connection[Any], opened: OpenSource, batch: Batch) -> bool:
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
            or options.policy in ("fill", "history")
            or not options.may_go_straight
            or self._tally.rows.inserted
        ):
            return False
        with self._batch_transaction(main, opened):
            # Whoever else loads this source is waited for, as long as for any lock.
            calls.claim_batch(main, opened.source_id, batch.begins.offset)
            wal = calls.wal_position(main)
            timeout = calls.setting(main, "lock_timeout")
            calls.set_local(main, "lock_timeout", LOCK_TIMEOUT)
            indexes = calls.begin_first_load(main, self._target.name)
            calls.set_local(main, "lock_timeout", timeout)
            if indexes is None:
                return False
            if options.batch_bytes is None:
                # The indexes are built once, so that here a larger batch costs nothing.
                batch.limit = max(batch.limit, LARGEST_BATCH)
            rows = self._copy_to_target(main, opened, batch, freeze=True)
            started = time.monotonic()
            counts = calls.finish_first_load(
                main,
                self._target.name,
                indexes,
                rows,
                options.policy,
                self._key,
                options.order_by,
            )
            wal = calls.wal_position(main) - wal
            self._record(main, opened, batch, counts, time.monotonic() - started, wal)
        self._forget(opened, batch)
        return True

    def _copy_to_target(
        self, main: Connection[Any], opened: OpenSource, batch: Batch, *, freeze: bool
    ) -> int:
        """COPY a batch into the target itself, in one go; the number of rows."""
        format = opened.copy_format
        statement = copy_statement(self._target.name, opened.plan.staged, format, freeze=freeze)
        started = time.monotonic()
        cursor = main.cursor()
        first_line = 0
        # Screening goes on while COPY reads, and needs a connection that is not busy with that.
        screener = main if opened.screen is None else self._connections.stream(0)
        next_piece = partial(self._next_piece, screener, opened, batch)
        ahead = Task(next_piece)
        try:
            with copying(cursor, statement) as copy:
                write(copy, format.head)
                while (piece := ahead.result()) is not None:
                    ahead = Task(next_piece)
                    # Not where the batch begins: its first record stands below the header.
                    first_line = first_line or piece.first_line
                    write(copy, piece.data)
                    self._teller.tell(opened.source, opened.reader, piece, "copy")
                write(copy, format.tail)
        except psycopg.Error as error:
            raise self._located(error, opened, self._target.name, first_line) from error
        finally:
            ahead.settle()
        batch.seconds_copy = time.monotonic() - started
        return cursor.rowcount

    def _next_piece(
        self, connection: Connection[Any], opened: OpenSource, batch: Batch
    ) -> Piece | None:
        taken = opened.feed.take(batch)
        return None if taken is None else self._screened(connection, opened, batch, taken)

    def _screened(
        self, connection: Connection[Any], opened: OpenSource, batch: Batch, taken: Taken
    ) -> Piece:
        """A piece without its bad rows. Raises SK301 where these are too many."""
        piece, _ = screen(connection, opened, batch, taken)
        self._check_limit(batch)
        return piece

    def _check_limit(self, batch: Batch) -> None:
        """Raises SK301 where too many rows of a batch are bad for it to be of any use."""
        limit = self._options.reject_limit
        if limit is not None and self._tally.rows.rejected + batch.rejects.count > limit:
            raise SqlkitError("the limit of rejects was passed", code=LIMIT_PASSED)

    def _record(
        self,
        main: Connection[Any],
        opened: OpenSource,
        batch: Batch,
        counts: RowCounts,
        seconds_merge: float,
        wal: int,
    ) -> None:
        options, rejected = self._options, batch.rejects.count
        counts = counts + RowCounts(read=rejected, rejected=rejected)
        calls.check_reject_limit(
            main, self._run_id, counts.read, rejected, options.reject_limit, options.reject_share
        )
        calls.record_batch(
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
        self._keep_rejects(main, opened, batch)
        self._add(batch, counts, seconds_merge)

    def _add(self, batch: Batch, counts: RowCounts, seconds_merge: float) -> None:
        self._tally.add(counts, batch.seconds_decode, batch.seconds_copy, seconds_merge)

    def _keep_rejects(self, connection: Connection[Any], opened: KnownSource, batch: Batch) -> None:
        """Record what was kept away from a batch, in its transaction."""
        for chunk in batch.rejects.chunks():
            calls.keep_rejects(
                connection, self._run_id, opened.source_id, batch.begins.offset, chunk
            )
        batch.rejects.close()

    def _forget(self, opened: KnownSource, batch: Batch) -> None:
        """A batch is committed: it will not be read again, unless it is but part of a whole."""
        if not (self._options.atomic or self._is_whole):
            opened.source.forget(batch.ends.offset)

    def _copy_to_stages(self, opened: OpenSource, batch: Batch) -> None:
        """COPY a batch into stages, one for each stream that gets any of it."""
        started = time.monotonic()
        streams = 1 if opened.feed.fits_one_piece else self._streams
        tasks = [Task(partial(self._stream, opened, batch, number)) for number in range(1, streams)]
        try:
            self._stream(opened, batch, 0)
        finally:
            errors = _settle(tasks, opened.feed.fail)
        for error in errors:
            if error is not None:
                raise error
        batch.seconds_copy = time.monotonic() - started

    def _stream(self, opened: OpenSource, batch: Batch, number: int) -> None:
        """COPY the pieces that one stream gets into its stage, in one transaction.

        The stage is made or emptied in it, so that COPY may freeze the rows: the merge need not
        note on each that its transaction is over.
        """
        try:
            taken = opened.feed.take(batch)
            if taken is None:
                return
            connection = self._connections.stream(number)
            with self._stage(connection, opened.plan, batch.number, number) as stage:
                # Other streams add theirs meanwhile: where it stands is known afterwards.
                batch.stages.append(stage)
                position = batch.stages.index(stage)
                ends: str | None = None  # the stage, as far as it is screened
                while taken is not None:
                    piece, left_out = screen(connection, opened, batch, taken, to_stage=True)
                    rows = self._copy_pieces(
                        connection, opened, stage, [piece], freeze=not self._connections.is_single
                    )
                    broken, ends = screen_stage(
                        connection, opened, batch, taken, left_out, stage, ends
                    )
                    self._check_limit(batch)
                    if taken.order == 0 and opened.probe is not None:
                        self._look_at_first(connection, opened, opened.probe, stage)
                    batch.pieces.append(
                        {"stage": position, "piece": taken.order, "rows": rows - broken}
                    )
                    self._teller.tell(opened.source, opened.reader, piece, "copy")
                    taken = opened.feed.take(batch)
        except BaseException:
            opened.feed.fail()
            raise

    def _look_at_first(
        self,
        connection: Connection[Any],
        opened: OpenSource,
        probe: Screen,
        stage: str,
    ) -> None:
        """Raises early what the merge would: that rows break a CHECK or foreign key.

        Where some of the first rows do, the others need not be copied in vain.
        """
        opened.probe = None
        broken, _ = calls.screen_stage(connection, probe.plan, stage, None)
        if broken:
            _, _, code, message = broken[0]
            raise SqlkitError(message, code=code)

    def _copy_pieces(
        self,
        connection: Connection[Any],
        opened: KnownSource,
        relation: str,
        pieces: Sequence[Piece],
        *,
        freeze: bool = False,
    ) -> int:
        """COPY pieces that follow one another, in one go; the number of rows."""
        format = opened.copy_format
        statement = copy_statement(relation, opened.plan.staged, format, freeze=freeze)
        cursor = connection.cursor()
        data = pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
        try:
            if not self._options.may_copy:
                return insert(cursor, relation, opened.plan.staged, format, data)
            with copying(cursor, statement) as copy:
                write(copy, format.head + data + format.tail)
        except psycopg.Error as error:
            raise self._located(error, opened, relation, pieces[0].first_line) from error
        return cursor.rowcount

    @contextmanager
    def _stage(
        self, connection: Connection[Any], plan: ColumnPlan, batch: int, number: int
    ) -> Iterator[str]:
        """The stage of a stream, empty, in a transaction that fills it.

        There are two sets, so that one is filled while one is merged. Within one transaction a
        stage that was emptied stays locked, so that each batch of an atomic load has its own.
        """
        is_reused = not (self._options.atomic or self._options.dry_run)
        slot = batch % 2 if is_reused else batch
        place = (slot, number, plan.staged, plan.left_out)
        stage = self._stages.get(place)
        with self._batch_transaction(connection):
            if stage is not None:
                calls.empty_stages(connection, [stage])
                yield stage
            else:
                stage = calls.create_stage(
                    connection,
                    self._target.name,
                    list(plan.staged),
                    list(plan.left_out),
                    # Only a run that is committed can be referred to from another connection.
                    None if self._options.dry_run else self._run_id,
                )
                self._collect(connection, stage, plan, "jsonb")
                yield stage
        self._stages[place] = stage

    def _collect(
        self, connection: Connection[Any], stage: str, plan: ColumnPlan, type: str
    ) -> None:
        """What a new stage does beyond taking rows.

        It makes one object of columns that have none of their own, of each row; ids are looked up
        when it is merged.
        """
        if plan.collected:
            names = [plan.names[staged] for staged in plan.collected]
            calls.collect_columns(
                connection, stage, plan.collected_in, names, list(plan.collected), type
            )
        calls.add_lookups(connection, stage, plan.lookups)

    def _merge(self, main: Connection[Any], opened: KnownSource, batch: Batch) -> None:
        started = time.monotonic()
        if batch.is_empty:
            with self._stage(main, opened.plan, batch.number, 0) as stage:
                batch.stages.append(stage)
        with self._batch_transaction(main, opened):
            if not self._connections.is_direct:
                calls.check_stages(main, batch.stages, batch.rows)
            counts, lookup, indexes = calls.merge_batch(
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
            self._keep_rejects(main, opened, batch)
        took = time.monotonic() - started
        self._tally.seconds_lookup += lookup
        self._add(batch, counts, took)
        if lookup:
            # Of a merge that tells nothing of it, it is not known what it would do once more.
            self._adapt(opened.source, batch, took - lookup - indexes, lookup + indexes)
        self._forget(opened, batch)
        if batch.last is not None:
            self._teller.tell(opened.source, opened.reader, batch.last, "merge")

    # Shared by small sources -----------------------------------------------------------------

    def may_share(self, source: Source) -> bool:
        """True if a source may share a batch with others.

        Not where a batch has to know whose rows they are: raw rows tell their origin, rules refuse
        them by their lines, versions without a time of their own begin when they are merged, and a
        watermark is that of one source.
        """
        options = self._options
        most = min(SMALL_SOURCE, options.batch_bytes or SMALL_SOURCE)
        return (
            (source.size is not None and source.size <= most)
            and (source.repeatable and source.can_reopen and not source.is_live)
            and not (options.raw or options.holds_to_rules or options.since is not None)
            and not (options.policy == "history" and options.order_by is None)
        )

    def begin_shared(self) -> SharedBatch:
        """A batch for small sources."""
        options = self._options
        batch = SharedBatch(self._batch_number, options.batch_bytes or SMALLEST_BATCH)
        self._batch_number += 1
        return batch

    def load_shared(
        self,
        main: Connection[Any],
        feed: SharedFeed,
        batch: SharedBatch,
        claims: list[dict[str, Any]],
    ) -> bool:
        """Load sources as one batch; False, and nothing is done, where there are not several.

        `claims` say where those stand that may be among them.
        """
        first = feed.first()
        if first is None:
            return False
        if self._is_append(first.known):
            self._append_shared(main, feed, batch, claims)
        else:
            self._copy_shared(feed, batch)
            self._merge_shared(main, batch)
        return True

    def _append_shared(
        self,
        main: Connection[Any],
        feed: SharedFeed,
        batch: SharedBatch,
        claims: list[dict[str, Any]],
    ) -> None:
        started = time.monotonic()
        with self._batch_transaction(main):
            calls.claim_parts(main, claims)
            wal = calls.wal_position(main)
            while (taken := feed.take(batch)) is not None:
                self._copy_whole(main, batch, *taken, self._target.name)
            batch.seconds_copy = time.monotonic() - started
            rows = batch.rows_copied
            counts = RowCounts(read=rows, inserted=rows)
            calls.record_shared_batch(
                main,
                self._run_id,
                batch.parts,
                counts,
                batch.seconds_decode,
                batch.seconds_copy,
                0.0,
                calls.wal_position(main) - wal,
            )
        self._tally.add(counts, batch.seconds_decode, batch.seconds_copy, 0.0)

    def _copy_shared(self, feed: SharedFeed, batch: SharedBatch) -> None:
        """COPY sources into stages, one for each stream."""
        started = time.monotonic()
        tasks = [
            Task(partial(self._shared_stream, feed, batch, number))
            for number in range(1, self._streams)
        ]
        try:
            self._shared_stream(feed, batch, 0)
        finally:
            errors = _settle(tasks, feed.fail)
        for error in errors:
            if error is not None:
                raise error
        batch.seconds_copy = time.monotonic() - started

    def _shared_stream(self, feed: SharedFeed, batch: SharedBatch, number: int) -> None:
        """COPY the sources that one stream gets into its stage: see `_stream`."""
        try:
            taken = feed.take(batch)
            if taken is None:
                return
            plan = taken[1].known.plan
            connection = self._connections.stream(number)
            with self._stage(connection, plan, batch.number, number) as stage:
                batch.stages.append(stage)
                position = batch.stages.index(stage)
                while taken is not None:
                    self._copy_whole(
                        connection, batch, *taken, stage, freeze=not self._connections.is_single
                    )
                    place = taken[0]
                    batch.pieces.append(
                        {"stage": position, "piece": place, "rows": batch.rows[place]}
                    )
                    taken = feed.take(batch)
        except BaseException:
            feed.fail()
            raise

    def _copy_whole(
        self,
        connection: Connection[Any],
        batch: SharedBatch,
        place: int,
        whole: WholeSource,
        relation: str,
        *,
        freeze: bool = False,
    ) -> None:
        """COPY one of the sources of a batch."""
        known, pieces = whole.known, whole.pieces
        batch.rows[place] = 0
        if not pieces:
            return
        try:
            batch.rows[place] = self._copy_pieces(
                connection, known, relation, pieces, freeze=freeze
            )
        except (psycopg.Error, SqlkitError):
            batch.failed = place if batch.failed is None else min(place, batch.failed)
            raise
        for piece in pieces:
            self._teller.tell(known.source, known.reader, piece, "copy")

    def _merge_shared(self, main: Connection[Any], batch: SharedBatch) -> None:
        started = time.monotonic()
        with self._batch_transaction(main):
            if not self._connections.is_direct:
                calls.check_stages(main, batch.stages, batch.rows_copied)
            counts, lookup = calls.merge_shared_batch(
                main,
                self._run_id,
                batch.parts,
                batch.stages,
                self._target.name,
                self._options.policy,
                self._key,
                self._options.order_by,
                batch.pieces,
                batch.seconds_decode,
                batch.seconds_copy,
            )
        self._tally.seconds_lookup += lookup
        took = time.monotonic() - started
        self._tally.add(counts, batch.seconds_decode, batch.seconds_copy, took)
        last = batch.sources[-1]
        if last.pieces:
            self._teller.tell(last.known.source, last.known.reader, last.pieces[-1], "merge")

    # Staged by others ------------------------------------------------------------------------

    def begin_batch(self, source: Source, begins: ResumePoint) -> Batch:
        """A batch whose stages are filled by workers."""
        batch = Batch(self._batch_number, self._batch_bytes(source), begins)
        self._batch_number += 1
        return batch

    def tell_copied(self, opened: KnownSource, piece: Piece) -> None:
        """A worker has staged what ends with a piece."""
        self._teller.tell(opened.source, opened.reader, piece, "copy")

    def merge_staged(self, main: Connection[Any], opened: KnownSource, batch: Batch) -> None:
        """Merge what workers have staged, and record it; their stages are dropped."""
        self._useless_stages += batch.stages
        self._merge(main, opened, batch)
        self.drop_stages(main)

    def merge_shared_staged(self, main: Connection[Any], batch: SharedBatch) -> None:
        """The same for a batch that small sources share."""
        self._useless_stages += batch.stages
        self._merge_shared(main, batch)
        self.drop_stages(main)

    def load_singly(self, main: Connection[Any], opened: OpenSource, begins: ResumePoint) -> bool:
        """Load the next batch through a stage of text; True if rows of it were refused.

        Raises RejectLimitError, with nothing of the batch in the target, if these are too many.
        """
        options = self._options
        batch = opened.feed.begin(self._batch_number, self._batch_bytes(opened.source), begins)
        self._batch_number += 1
        run_id = None if options.dry_run or options.atomic else self._run_id
        started = time.monotonic()
        calls.describe_source(main, opened.source_id, opened.reader.layout)
        with self._batch_transaction(main):
            stage = calls.create_text_stage(
                main, self._target.name, list(opened.plan.staged), run_id
            )
        try:
            self._collect(main, stage, opened.plan, "text")
            statement = copy_statement(
                stage, TEXT_COLUMNS + opened.plan.staged, opened.reader.single_format
            )
            first_line = 0
            try:
                cursor = main.cursor()
                with copying(cursor, statement) as copy:
                    while (taken := opened.feed.take(batch)) is not None:
                        first_line = first_line or taken.piece.first_line
                        write(copy, taken.piece.data)
                        self._teller.tell(opened.source, opened.reader, taken.piece, "copy")
            except psycopg.Error as error:
                raise self._located(error, opened, stage, first_line or 1) from error
            batch.seconds_copy = time.monotonic() - started
            started = time.monotonic()
            with self._batch_transaction(main, opened):
                if not self._connections.is_direct:
                    calls.check_stages(main, [stage], cursor.rowcount)
                counts = calls.merge_text_batch(
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
                    options.conflicts if options.holds_to_rules else None,
                )
            if counts is None:
                raise self._over_limit(main, opened)
            self._add(batch, counts, time.monotonic() - started)
            self._forget(opened, batch)
            return counts.rejected > 0
        finally:
            with suppress(psycopg.Error):
                calls.drop_stage(main, stage)

    def _over_limit(self, main: Connection[Any], opened: OpenSource) -> RejectLimitError:
        number = calls.count_told(main, self._run_id, opened.source_id)
        told = calls.rejects_of(main, self._run_id, limit=TOLD, told_of=opened.source_id)
        hint = "Mend the lines, or let them be kept as rejects: --reject-limit 100, or 1%."
        if any(reject["sqlstate"] == NOT_IN_ENCODING for reject in told):
            hint = f"Name the encoding, say --encoding cp1255 or latin-1. If it is right: {hint}"
        elif any(reject["sqlstate"] == DENIED for reject in told):
            hint = f"Grant what the role, or a trigger of the table, lacks. If it is right: {hint}"
        return limit_passed(
            self._run_id,
            number,
            told,
            limit=self._options.reject_limit,
            share=self._options.reject_share,
            names=opened.plan.names,
            hint=hint,
            before=calls.count_kept(main, self._run_id),
        )

    def drop_stages(self, main: Connection[Any]) -> None:
        """No stage is used any more; all are dropped, as soon as that cannot be rolled back.

        Within a transaction around everything, those that streams have made wait for its end. On
        the caller's connection they are part of it themselves.
        """
        self._useless_stages += self._stages.values()
        self._stages.clear()
        is_idle = main.info.transaction_status == TransactionStatus.IDLE
        while self._useless_stages and (is_idle or self._connections.is_single):
            calls.drop_stage(main, self._useless_stages[-1])
            self._useless_stages.pop()

    def clear_up(self, main: Connection[Any]) -> None:
        """Drop what stages are left, as far as the server is there and still has them."""
        self._useless_stages += self._stages.values()
        self._stages.clear()
        while self._useless_stages and main.info.transaction_status == TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                calls.drop_stage(main, self._useless_stages.pop())

    def _located(
        self, error: psycopg.Error, opened: KnownSource, relation: str, first_line: int
    ) -> Exception:
        return from_copy(
            error,
            source=opened.source.name,
            relation=relation,
            first_line=first_line,
            counts_lines=opened.reader.counts_lines,
            columns=opened.plan.names,
        )
