# Generated from sqlkit/lock_watch_async.py by python -m sqlkit.build; do not edit.

"""Telling what a call waits for while another session holds a lock against it; and a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

import psycopg
from psycopg import Connection

from sqlkit import calls as calls
from sqlkit._acompat import Signal, Task
from sqlkit.connections import Connections
from sqlkit.errors import SqlkitError
from sqlkit.retry import tell_wait
from sqlkit.transient import LEAST_LOCK_WAIT, LockWaiting, Patience, WaitCallback, sqlstate_of

LOOK_EVERY = 2.0
"""Seconds between two looks, where the call has told nothing for as long."""

SAY_EVERY = 30.0
"""Seconds after which the same is said again."""


class LockWatch:
    """Looks what the sessions of a call wait for. Where a proxy hides them, nothing is seen.

    `silent_for` tells since when the call has told nothing; without it, it never tells anything.
    """

    def __init__(
        self,
        connections: Connections,
        retry_for: float,
        on_wait: WaitCallback | None,
        silent_for: Callable[[], float] = lambda: inf,
    ) -> None:
        self._connections = connections
        self._silent_for = silent_for
        self._longest = max(retry_for, LEAST_LOCK_WAIT)
        self._on_wait = on_wait
        self._since = time.monotonic()
        self._is_limited = False
        self._said: tuple[tuple[int, ...], float] = ((), 0.0)
        self._seen: LockWaiting | None = None  # last

    def limit(self, connection: Connection[Any]) -> str | None:
        """What lock_timeout is to be, as an attempt begins; None where it is somebody else's say:
        of the server or the role, or of the caller whose connection it is."""
        self._since = time.monotonic()
        if self._connections.is_callers or calls.setting(connection, "lock_timeout") != "0":
            return None
        self._is_limited = True
        return str(min(int(self._longest * 1000), 2**31 - 1))

    def spend(self, patience: Patience, error: BaseException) -> None:
        """Where an attempt ended since a lock was waited for in vain, that was patience as well."""
        in_vain = time.monotonic() - self._since
        if sqlstate_of(error) == "55P03" and self._is_limited and in_vain >= self._longest:
            patience.spend(self._longest)

    def tell_in(self, error: SqlkitError) -> None:
        """Have an error say whom the lock was waited for."""
        if error.code == "55P03" and self._seen is not None:
            error.detail = str(self._seen)

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
        self._seen = waiting
        said, at = self._said
        if waiting.pids != said or time.monotonic() - at >= SAY_EVERY:
            self._said = waiting.pids, time.monotonic()
            tell_wait(waiting, self._on_wait)
