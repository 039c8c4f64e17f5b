"""Telling what a load waits for while another session holds a lock against it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection

from sqlkit import calls_async as calls
from sqlkit._acompat import AsyncSignal, AsyncTask
from sqlkit.connections_async import AsyncConnections
from sqlkit.errors import SqlkitError
from sqlkit.retry_async import tell_wait
from sqlkit.transient import LockWaiting, WaitCallback

LOOK_EVERY = 2.0
"""Seconds between two looks, where the load has told nothing for as long."""

SAY_EVERY = 30.0
"""Seconds after which the same is said again."""


class AsyncLockWatch:
    """Looks what the sessions of a load wait for. Where a proxy hides them, nothing is seen."""

    def __init__(
        self,
        connections: AsyncConnections,
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

    @asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        """Watch while the block runs."""
        over = AsyncSignal()

        async def watch() -> None:
            while not await over.wait(LOOK_EVERY):
                if self._connections.backends and self._silent_for() >= LOOK_EVERY:
                    with suppress(psycopg.Error, SqlkitError):
                        await self._connections.beside(self._look)

        watching = AsyncTask(watch)
        try:
            yield
        finally:
            over.give()
            await watching.settle()

    async def _look(self, connection: AsyncConnection[Any]) -> None:
        waiting = await calls.lock_waiting(connection, self._connections.backends, self._longest)
        if waiting is None:
            return
        self.seen = waiting
        said, at = self._said
        if waiting.pids != said or time.monotonic() - at >= SAY_EVERY:
            self._said = waiting.pids, time.monotonic()
            tell_wait(waiting, self._on_wait)
