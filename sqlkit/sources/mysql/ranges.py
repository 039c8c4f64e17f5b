"""A table read by ranges of its key, by one connection or by several that share a snapshot.

By one, each query begins behind the last key of the one before and has a limit. Several are at
ranges of the key's first column, an integer; each range is read in the same manner. Their rows come
in the order of the key either way, so that any may be read again from the key before it.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlkit.sources.mysql.catalog import Key, Table, quoted
from sqlkit.sources.mysql.rows import Encoder
from sqlkit.sources.mysql.session import Row, Session
from sqlkit.sources.spool import Made

QUERY_BYTES = 32 << 20
"""About what one query gives: what has to be fetched for nothing at most."""
MOST_ROWS = 200_000
LEAST_ROWS = 1_000
SPREAD_BYTES = 64 << 20
"""Smaller tables are read by one connection: those of more are not worth the opening."""
RANGE_BYTES = 4 << 20
"""About what one of several connections reads at a time."""
HELD_BYTES = 4 << 20
"""Made rows of a range that wait for those before them, however uneven ranges are."""

Rows = tuple[Made, Row]
"""Rows, and the key of the last of them; lines of bad ones are counted from 0."""


@dataclass(frozen=True)
class RangeQuery:
    """How rows between two keys are asked for."""

    table: Table
    key: Key
    names: tuple[str, ...]  # the wanted columns, and behind them the key's others
    encoder: Encoder

    def read(
        self,
        session: Session,
        *,
        after: Row | None = None,
        least: int | None = None,
        below: int | None = None,
    ) -> Iterator[Rows]:
        """The rows of a range (see `Key.within`), in the key's order, some at a time."""
        table, key = self.table, self.key
        key_at = [self.names.index(name) for name in key.names]
        most = max(LEAST_ROWS, min(QUERY_BYTES // max(1, table.row_bytes), MOST_ROWS))
        while True:
            found = 0
            for rows in session.rows(
                f"select {table.selected(self.names)} from {table.quoted} "
                f"force index ({key.index})"
                f"{key.within(session, after=after, least=least, below=below)} "
                f"order by {key.order} limit {most}"
            ):
                found += len(rows)
                after = tuple(rows[-1][position] for position in key_at)
                data, bad = self.encoder.rows(rows, 0)
                yield Made(data, len(rows), bad), after
            if found < most:
                return

    def read_together(self, sessions: Sequence[Session], after: Row | None) -> Iterator[Rows]:
        """All rows behind a key, read by several sessions of one snapshot."""
        bounds = self._bounds(sessions[0])
        if after is not None:
            first = int(after[self.key.names.index(self.key.names[0])] or 0)
            bounds = [bound for bound in bounds if bound > first]
        ranges = iter(list(itertools.pairwise([None, *bounds, None])))
        idle: queue.SimpleQueue[Session] = queue.SimpleQueue()
        for session in sessions:
            idle.put(session)

        def read(channel: _Channel, least: int | None, below: int | None) -> None:
            session = idle.get()
            try:
                behind = after if least is None else None
                for rows in self.read(session, after=behind, least=least, below=below):
                    if not channel.put(rows):
                        return
                channel.end()
            except BaseException as error:  # noqa: BLE001 - it is raised where the rows are taken
                channel.end(error)
            finally:
                idle.put(session)

        ahead: deque[_Channel] = deque()
        pool = ThreadPoolExecutor(len(sessions), thread_name_prefix="sqlkit-source")
        try:
            while True:
                for least, below in itertools.islice(ranges, len(sessions) + 1 - len(ahead)):
                    channel = _Channel()
                    ahead.append(channel)
                    pool.submit(read, channel, least, below)
                if not ahead:
                    return
                yield from ahead[0].taken()
                ahead.popleft()
        finally:
            for channel in ahead:
                channel.close()
            pool.shutdown(cancel_futures=True)

    def _bounds(self, session: Session) -> list[int]:
        """The values of the key's first column at which ranges begin, but for the first one."""
        name = quoted(self.key.names[0])
        [(least, most)] = session.ask(f"select min({name}), max({name}) from {self.table.quoted}")
        if least is None or most is None:
            return []
        first, width = int(least), int(most) - int(least) + 1
        number = min(width, self.table.bytes // RANGE_BYTES + 1)
        return [first + width * position // number for position in range(1, number)]


class _Channel:
    """Rows of one range, on their way from the thread that reads them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rows: deque[Rows] = deque()
        self._held = 0
        self._is_ended = False
        self._is_closed = False
        self._error: BaseException | None = None

    def put(self, rows: Rows) -> bool:
        """Add some, as soon as not too many wait; False if nobody wants them."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._held < HELD_BYTES)
            self._rows.append(rows)
            self._held += len(rows[0].data)
            self._changed.notify_all()
            return not self._is_closed

    def end(self, error: BaseException | None = None) -> None:
        """There are no more, or an error took their place."""
        with self._changed:
            self._is_ended, self._error = True, error
            self._changed.notify_all()

    def taken(self) -> Iterator[Rows]:
        """All of them, as they come. Raises what ended them."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._rows or self._is_ended)
                if not self._rows:
                    break
                rows = self._rows.popleft()
                self._held -= len(rows[0].data)
                self._changed.notify_all()
            yield rows
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Nobody wants any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
