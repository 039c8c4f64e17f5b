# Generated from sqlkit/apart_async.py by python -m sqlkit.build; do not edit.

"""Loading by workers: parts of the sources are staged elsewhere, and merged here in their order.

A part is a source, or a range of one that can be cut (`parts`). A few more of them than there are
workers are under way at a time, over the bounds of sources; as each comes back in its turn, its
stage is merged and the batch recorded, in one transaction. So the ledger, the order of rows and the
result are those of a load without workers, and a part that is done twice is merged once.

Small sources, each of which is one part, share batches as they do without workers (`together`).

A source that only this process can read, and one whose rows are found to be bad, is loaded in the
ordinary way, when it is its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import Connection

from sqlkit import calls as calls
from sqlkit._acompat import Returned, outcome, run
from sqlkit._release import VERSION
from sqlkit.batches import Batch, KnownSource, SharedBatch, WholeSource
from sqlkit.care import may_be_rows
from sqlkit.columns import ColumnPlan
from sqlkit.crew import Crew
from sqlkit.errors import SqlkitError
from sqlkit.model import SourceState
from sqlkit.parts import (
    CANNOT_CONNECT,
    CutSource,
    DescribedSource,
    Hidden,
    Part,
    Staged,
    stage_part,
)
from sqlkit.sources.base import Piece, Reader, ResumePoint, Source
from sqlkit.transient import RefusedError

if TYPE_CHECKING:
    from sqlkit.ways import Ways

BATCH_TAKEN = "SK402"

UNDER_WAY = 2
"""Parts that are under way for each worker: one is staged while the other is merged, or waits."""


MOST_SHARING = 64
"""Sources of one batch: each has a stage of its own, of which the merge reads all."""


@dataclass
class _Opened:
    """A source of which parts are under way."""

    position: int
    source: Source
    state: SourceState
    reader: Reader  # closed; for its counters
    plan: ColumnPlan
    batch: Batch


@dataclass
class _Job:
    """A part, or a source that is loaded here."""

    position: int
    opened: _Opened | None = None
    part: Part | None = None
    is_last: bool = True  # of its source
    future: Future[Staged] | None = field(default=None, repr=False)


class Apart:
    """Sources of one attempt at a load, by workers."""

    def __init__(
        self,
        main: Connection[Any],
        ways: Ways,
        crew: Crew,
        sources: Sequence[Source],
        *,
        target: str,
        run_id: int,
        encoding: str,
        fingerprints: Mapping[int, str | None],
        state_of: Callable[[int, Source], Returned[SourceState]],
        plan_of: Callable[[Source, Reader], ColumnPlan],
        alone: Callable[[int, Source], Returned[None]],
        let_go: Callable[[int, Source], Returned[None]],
    ) -> None:
        self._main = main
        self._ways = ways
        self._crew = crew
        self._sources = sources
        self._target = target
        self._run_id = run_id
        self._encoding = encoding
        self._fingerprints = fingerprints  # of the sources whose state is known
        self._state_of = state_of
        self._plan_of = plan_of
        self._alone = alone
        self._let_go = let_go
        self._next = 0  # the source that is looked at next
        self._waiting: deque[_Job] = deque()
        self._sent: deque[_Job] = deque()
        # Small sources whose stages wait until there are enough of them.
        self._shared: SharedBatch | None = None
        self._sharing: list[_Opened] = []

    def load(self) -> None:
        """Load all sources. Raises as a load without workers does."""
        try:
            while True:
                self._send()
                if not self._sent:
                    break
                job = self._sent.popleft()
                if job.opened is not None and self._may_share(job, job.opened):
                    self._share(job, job.opened)
                    continue
                self._merge_shared()
                if job.opened is None:
                    self._alone(job.position, self._sources[job.position])
                elif not self._take(job, job.opened):
                    self._drop(job.position)
                    self._alone(job.position, self._sources[job.position])
            self._merge_shared()
        finally:
            for job in self._sent:
                if job.future is not None:
                    job.future.cancel()

    def _drop(self, position: int) -> None:
        """Nothing more is wanted of a source's parts."""
        for job in self._sent:
            if job.position == position and job.future is not None:
                job.future.cancel()
        self._sent = deque(job for job in self._sent if job.position != position)
        self._waiting = deque(job for job in self._waiting if job.position != position)

    # Sending --------------------------------------------------------------------------------

    def _send(self) -> None:
        while len(self._sent) < UNDER_WAY * self._crew.workers:
            if not self._waiting:
                if self._next == len(self._sources):
                    return
                self._waiting.extend(self._jobs(self._next))
                self._next += 1
            job = self._waiting.popleft()
            self._submit(job)
            self._sent.append(job)

    def _submit(self, job: _Job) -> None:
        if job.part is not None:
            job.future = self._crew.submit(stage_part, job.part)

    def _jobs(self, position: int) -> list[_Job]:
        """The parts of a source; what is wrong with it is found out again when it is its turn."""
        source = self._sources[position]
        try:
            return self._parts(position, source) or [_Job(position)]
        except SqlkitError:
            return [_Job(position)]

    def _parts(self, position: int, source: Source) -> list[_Job]:
        described = source.description() if isinstance(source, DescribedSource) else None
        if described is None:
            return []
        state = self._state_of(position, source)
        if state.state == "loaded":
            return []
        begins = ResumePoint(
            state.next_offset, state.next_line, state.stored_offset, state.stored_sha256 or ""
        )
        cuts: Sequence[ResumePoint] = ()
        if isinstance(source, CutSource):
            number = 2 * UNDER_WAY * self._crew.workers
            cuts = run(partial(source.cuts, number))
        cuts = [cut for cut in cuts if cut.offset > begins.offset]
        if not cuts and len(self._sources) == 1:
            return []  # nobody else would have anything to do
        reader: Reader = run(partial(source.open, database_encoding=self._encoding, resume=None))
        try:
            plan = self._plan_of(source, reader)
            piece_bytes = self._ways.piece_bytes(source)
        finally:
            run(reader.close)
        fingerprint = self._fingerprints[position]
        assert fingerprint is not None
        opened = _Opened(
            position, source, state, reader, plan, self._ways.begin_batch(source, begins)
        )
        info = self._main.info
        password = Hidden(info.password) if info.password and self._crew.is_here else None
        starts = [begins, *cuts]
        return [
            _Job(
                position,
                opened,
                Part(
                    description=described,
                    fingerprint=fingerprint,
                    begins=start,
                    until=starts[number + 1].offset if number < len(cuts) else None,
                    is_whole=not cuts,
                    database_encoding=self._encoding,
                    plan=plan,
                    piece_bytes=piece_bytes,
                    target=self._target,
                    run_id=self._run_id,
                    dsn=info.dsn,
                    password=password,
                    version=VERSION,
                ),
                is_last=number == len(cuts),
            )
            for number, start in enumerate(starts)
        ]

    # Taking ---------------------------------------------------------------------------------

    def _take(self, job: _Job, opened: _Opened) -> bool:
        """Wait for a part and merge it; False if its source is to be loaded here."""
        staged = self._staged(job)
        if staged.error is not None:
            return self._is_for_us(staged.error)
        batch = opened.batch
        batch.is_last = job.is_last
        batch.bytes += staged.bytes
        batch.seconds_decode += staged.seconds_decode
        batch.seconds_copy += staged.seconds_copy
        if staged.rows:
            batch.pieces.append(
                {"stage": len(batch.stages), "piece": len(batch.stages), "rows": staged.rows}
            )
        batch.stages.append(staged.stage)
        progress = opened.reader.progress
        progress.decoded_bytes += staged.bytes
        progress.stored_bytes += staged.bytes_stored
        if staged.ends is not None:
            batch.last = Piece(
                b"",
                staged.first_line,
                staged.ends.line - 1,
                batch.begins.offset,
                staged.ends.offset,
                staged.ends,
            )
        source = KnownSource(opened.source, opened.state.source_id, opened.reader, opened.plan)
        if batch.last is not None:
            self._ways.tell_copied(source, batch.last)
        if batch.bytes < batch.limit and not job.is_last:
            return True
        try:
            self._ways.merge_staged(self._main, source, batch)
        except (psycopg.Error, SqlkitError) as error:
            code = error.sqlstate if isinstance(error, psycopg.Error) else error.code
            # Rows that the target refuses are found one by one; or somebody else has loaded them.
            if code == BATCH_TAKEN or self._ways.may_be_rows(code):
                return False
            raise
        self._crew.progressed()
        opened.batch = self._ways.begin_batch(opened.source, batch.ends)
        if job.is_last:
            self._let_go(opened.state.source_id, opened.source)
        return True

    # Sharing --------------------------------------------------------------------------------

    def _may_share(self, job: _Job, opened: _Opened) -> bool:
        return (
            job.part is not None
            and job.part.is_whole
            and not opened.batch.begins.offset
            and self._ways.may_share(opened.source)
        )

    def _share(self, job: _Job, opened: _Opened) -> None:
        """Wait for a small source, which is merged with those before and after it."""
        staged = self._staged(job)
        if staged.error is not None and not self._is_for_us(staged.error):
            self._merge_shared()
            self._alone(job.position, opened.source)
            return
        if any(
            opened.state.source_id == other.state.source_id
            or not opened.plan.fits_stage_of(other.plan)
            for other in self._sharing
        ):
            self._merge_shared()  # then the same content is known as loaded
        batch = self._shared = self._shared or self._ways.begin_shared()
        place = len(batch.sources)
        progress = opened.reader.progress
        progress.decoded_bytes += staged.bytes
        progress.stored_bytes += staged.bytes_stored
        known = KnownSource(opened.source, opened.state.source_id, opened.reader, opened.plan)
        pieces: tuple[Piece, ...] = ()
        if staged.ends is not None:
            last = staged.ends
            pieces = (
                Piece(
                    b"",
                    staged.first_line,
                    last.line - 1,
                    0,
                    last.offset,
                    last,
                    staged.seconds_decode,
                ),
            )
            self._ways.tell_copied(known, pieces[0])
        batch.bytes += staged.bytes
        batch.seconds_copy += staged.seconds_copy
        batch.rows[place] = staged.rows
        batch.pieces.append({"stage": place, "piece": place, "rows": staged.rows})
        batch.stages.append(staged.stage)
        batch.sources.append(WholeSource(known, pieces))
        self._sharing.append(opened)
        if batch.bytes >= batch.limit or place + 1 == MOST_SHARING:
            self._merge_shared()

    def _merge_shared(self) -> None:
        """Merge the small sources that wait for it; one by one, and here, where that fails."""
        batch, self._shared = self._shared, None
        sharing, self._sharing = self._sharing, []
        if batch is None:
            return
        try:
            self._ways.merge_shared_staged(self._main, batch)
        except (psycopg.Error, SqlkitError) as error:
            code = error.sqlstate if isinstance(error, psycopg.Error) else error.code
            if code != BATCH_TAKEN and not self._ways.may_be_rows(code):
                raise
            for opened in sharing:
                self._alone(opened.position, opened.source)
            return
        self._crew.progressed()
        for opened in sharing:
            self._let_go(opened.state.source_id, opened.source)

    def _staged(self, job: _Job) -> Staged:
        """What became of a part. Where workers died, what they had in hand is sent again."""
        while True:
            assert job.future is not None
            try:
                return outcome(job.future)
            except BrokenExecutor as error:
                self._crew.replace(error)
                for other in (job, *self._sent):
                    if other.future is not None and not _is_whole(other.future):
                        self._submit(other)
            except (psycopg.Error, SqlkitError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - any executor's own
                raise SqlkitError(
                    f"an executor failed: {type(error).__name__}",
                    detail=str(error).strip()[:300] or None,
                    hint="See its own log. Run the same command again: it continues.",
                ) from None

    def _is_for_us(self, error: SqlkitError) -> bool:
        """False where a part is to be done here for an error in its rows; raises any other."""
        if may_be_rows(error.code) or error.code == BATCH_TAKEN:
            return False
        if error.code == CANNOT_CONNECT:
            # If we cannot either, the server is away, and waited for.
            calls.is_running(self._main, self._run_id)
            raise RefusedError(error.message, detail=error.detail, hint=error.hint)
        raise error


def _is_whole(future: Future[Staged]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
