# Generated from sqlkit/lock_watch_async.py by python -m sqlkit.build; do not edit.

"""Telling what a load waits for while another session holds a lock against it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection

from sqlkit import calls as calls
from sqlkit._acompat import Signal, Task
from sqlkit.connections import Connections
from sqlkit.errors import SqlkitError
from sqlkit.retry import tell_wait
from sqlkit.transient import LockWaiting, WaitCallback

LOOK_EVERY = 2.0
"""Seconds between two looks, where the load has told nothing for as long."""

SAY_EVERY = 30.0
"""Seconds after which the same is said again."""


class LockWatch:
    """Looks what the sessions of a load wait for. Where a proxy hides them, nothing is seen."""

    def __init__(
        self,
        connections: Connections,
        silent_for: Callable[[], float],
        longest: float,
        on_wait: WaitCallback | None,
    ) -> None:
        self._connections = connections
        self._silent_for = silent_for
        self._longest = longest
        self._on_wait = on_wait
        self._said: tuple[tuple[int, ...], float] = ((), 0.0)
        self.seen: LockWaiting | None = None  # last

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch while the block runs."""
        over = Signal()

        def watch() -> None:
            while not over.wait(LOOK_EVERY):
                if self._connections.backends and self._silent_for() >= LOOK_EVERY:
                    with suppress(psycopg.Error, SqlkitError):
                        self._connections.beside(self._look)

        watching = Task(watch)
        try:
            yield
        finally:
            over.give()
            watching.settle()

    def _look(self, connection: Connection[Any]) -> None:
        waiting = calls.lock_waiting(connection, self._connections.backends, self._longest)
        if waiting is None:
            return
        self.seen = waiting
        said, at = self._said
        if waiting.pids != said or time.monotonic() - at >= SAY_EVERY:
            self._said = waiting.pids, time.monotonic()
            tell_wait(waiting, self._on_wait)
