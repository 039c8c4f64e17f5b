"""Loading small sources together: as many as there are share a batch, which is merged once.

A merge looks the rows of a batch up in the whole of the target, so that by themselves a thousand
files of a hundred rows would cost a thousand times what one of a hundred thousand does. Sources
share a batch that follow one another, fit into memory, and have the same columns; the ledger
records the batch and what each of them gave to it in one transaction, and so each is loaded as a
whole, or not at all.

Where something is wrong with one of them, it is loaded by itself, in the ordinary way, when it is
its turn: those before it share a batch, and those after it another one. So the errors and rejects
are the same as without all this, and come in the same order; but for rows that another row of the
batch replaces: they are not written, and break no CHECK and no foreign key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from sqlkit._acompat import AsyncReturned, Prefetch, run_async
from sqlkit.batches_async import AsyncSharedFeed, KnownSource, SharedBatch, WholeSource
from sqlkit.columns import ColumnPlan
from sqlkit.errors import SqlkitError
from sqlkit.model import SourceState
from sqlkit.sources.base import Piece, Reader, Source

if TYPE_CHECKING:
    from sqlkit.telling import Tally
    from sqlkit.ways_async import AsyncWays

BATCH_TAKEN = "SK402"
OTHER_MANNER = "SK410"
KEY_EXISTS = ("SK302", "SK303")
"""What policy error raises of a batch: whose rows these are is known where it has one source."""

MOST_SOURCES = 1000
"""Of one batch: what opening and copying so many takes is a few seconds, and no more than that is
done again after a crash."""

MOST_DECODED = 8 << 20
"""Decoded bytes of a source that counts as small, whatever its stored size is. A few of them are
held in memory."""

ASKED = 200
"""Sources that the ledger is asked for at a time: it locks so many."""

AHEAD = 8
"""Sources that are read while others are copied."""

_USABLE = (TransactionStatus.IDLE, TransactionStatus.INTRANS)


@dataclass(frozen=True)
class _Member:
    """A source of which nothing is loaded, and which may share a batch."""

    position: int
    source: Source
    source_id: int


class AsyncTogether:
    """All sources of one attempt at a load, the small ones together."""

    def __init__(
        self,
        main: AsyncConnection[Any],
        ways: AsyncWays,
        sources: Sequence[Source],
        tally: Tally,
        *,
        encoding: str,
        fingerprint_of: Callable[[int, Source], AsyncReturned[str | None]],
        states_of: Callable[[Sequence[int]], AsyncReturned[list[SourceState]]],
        plan_of: Callable[[Source, Reader], ColumnPlan],
        alone: Callable[[int, Source], AsyncReturned[None]],
        let_go: Callable[[int, Source], AsyncReturned[None]],
    ) -> None:
        self._main = main
        self._ways = ways
        self._sources = sources
        self._tally = tally
        self._encoding = encoding
        self._fingerprint_of = fingerprint_of
        self._states_of = states_of
        self._plan_of = plan_of
        self._alone = alone
        self._let_go = let_go
        self._waiting = deque(range(len(sources)))  # positions
        self._states: dict[int, SourceState] = {}  # of those that are waiting, as far as known
        self._starts: set[int] = set()  # positions with which a batch has to begin

    async def load(self) -> None:
        """Load all sources, in their order. Raises what loading them one by one does."""
        while self._waiting:
            were = len(self._waiting)
            members = await self._gather()
            loaded = await self._share(members) if len(members) > 1 else 0
            if loaded is None or (not loaded and len(self._waiting) < were):
                continue  # what is to be done is another thing now
            if not loaded:
                position = self._waiting[0]
                await self._alone(position, self._sources[position])
                self._forget([position])
            for member in members[:loaded]:
                await self._let_go(member.source_id, member.source)
            self._forget([member.position for member in members[:loaded]])

    def _forget(self, positions: Sequence[int]) -> None:
        """Nothing more is to be done with some that are waiting."""
        done = set(positions)
        self._waiting = deque(position for position in self._waiting if position not in done)
        for position in positions:
            self._states.pop(position, None)

    async def _gather(self) -> list[_Member]:
        """Those that are waiting and may share the next batch; none if the first may not.

        Those among them that are loaded already are let go.
        """
        positions = await self._candidates()
        unknown = [position for position in positions if position not in self._states]
        asked = ASKED
        while unknown:
            some, rest = unknown[:asked], unknown[asked:]
            try:
                async with self._main.transaction():
                    states = await self._states_of(some)
            except psycopg.Error as error:
                if error.sqlstate != OTHER_MANNER:
                    raise
                if len(some) == 1:
                    break  # raised once more when it is its turn
                asked = len(some) // 2
                continue
            self._states.update(zip(some, states, strict=True))
            unknown = rest
        members: list[_Member] = []
        loaded: list[int] = []
        for position in positions:
            state = self._states.get(position)
            if state is None or (state.next_offset and state.state != "loaded"):
                break
            source = self._sources[position]
            if state.state == "loaded":
                await self._let_go(state.source_id, source)
                loaded.append(position)
            else:
                members.append(_Member(position, source, state.source_id))
        self._forget(loaded)
        return members

    async def _candidates(self) -> list[int]:
        """The first of those that are waiting, as far as they may share a batch."""
        found: list[int] = []
        known: set[str | None] = set()
        for position in self._waiting:
            source = self._sources[position]
            starts = found and position in self._starts
            if starts or len(found) == MOST_SOURCES or not self._ways.may_share(source):
                break
            try:
                fingerprint = await self._fingerprint_of(position, source)
            except SqlkitError:
                break  # raised once more when it is its turn
            if fingerprint in known:
                break  # the same once more, and loaded by then
            known.add(fingerprint)
            found.append(position)
        return found

    async def _share(self, members: list[_Member]) -> int | None:
        """Load as many of them as there can be in one batch, and say how many; None if all is to be
        looked at anew, since another process was faster, or since one of them is bad."""
        batch = self._ways.begin_shared()
        prefetch = Prefetch(self._read(members), ahead=AHEAD)
        try:
            claims = [{"source_id": member.source_id, "start_offset": 0} for member in members]
            is_loaded = await self._ways.load_shared(
                self._main, AsyncSharedFeed(prefetch), batch, claims
            )
        except (psycopg.Error, SqlkitError) as error:
            if self._main.info.transaction_status in _USABLE:
                await self._ways.drop_stages(self._main)
            code = error.sqlstate if isinstance(error, psycopg.Error) else error.code
            self._states.clear()
            if code == BATCH_TAKEN:
                return None
            if not self._ways.may_be_rows(code) and code not in KEY_EXISTS:
                raise
            self._divide([member.position for member in members], batch)
            return None
        finally:
            await run_async(prefetch.close)
            for whole in batch.sources:
                self._tally.note(whole.known.source, whole.known.reader)
        return len(batch.sources) if is_loaded else 0

    def _divide(self, positions: list[int], batch: SharedBatch) -> None:
        """Have what was to be one batch loaded in parts: apart from where COPY failed, if that is
        known, or by halves."""
        if batch.failed is None:
            self._starts.add(positions[len(batch.sources) // 2])
            self._starts.update(positions[len(batch.sources) : len(batch.sources) + 1])
        else:
            self._starts.update(positions[batch.failed : batch.failed + 2])

    def _read(self, members: Sequence[_Member]) -> Iterator[WholeSource]:
        """Read them one after the other; up to the first that is no part of the batch."""
        first: ColumnPlan | None = None
        for member in members:
            try:
                whole = self._whole(member)
            except (SqlkitError, OSError):
                return  # raised once more when it is its turn
            if whole is None:
                return
            first = first or whole.known.plan
            if not whole.known.plan.fits_stage_of(first):
                return
            yield whole

    def _whole(self, member: _Member) -> WholeSource | None:
        """A source with all its rows; None if these are too many."""
        source = member.source
        reader = source.open(database_encoding=self._encoding)
        self._ways.prepare(reader)
        try:
            plan = self._plan_of(source, reader)
            pieces: list[Piece] = []
            size = 0
            for piece in reader.pieces(plan.wanted, self._ways.piece_bytes(source), plan.ignored):
                size += len(piece.data)
                if size > MOST_DECODED:
                    return None
                pieces.append(piece)
        finally:
            reader.close()
        return WholeSource(KnownSource(source, member.source_id, reader, plan), tuple(pieces))
