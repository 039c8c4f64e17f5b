"""Signs of life of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import psycopg

from sqlkit import calls_async as calls
from sqlkit._acompat import AsyncSignal, AsyncTask
from sqlkit.connections_async import AsyncConnections
from sqlkit.errors import SqlkitError

HEARTBEAT = 20.0
"""Seconds between two signs of life of a run."""


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
