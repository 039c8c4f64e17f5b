"""Where a load gets its connections from: an address, or the caller's pool or connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from psycopg import AsyncConnection

from sqlkit.connection import connection_options
from sqlkit.errors import UsageError

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool


class AsyncConnections(Protocol):
    """Connections for one load after the other."""

    @property
    def is_single(self) -> bool:
        """True: one connection for everything, which belongs to the caller."""

    @property
    def max_streams(self) -> int:
        """How many streams can have a connection each."""

    async def main(self) -> AsyncConnection[Any]:
        """The connection that merges and keeps the ledger."""

    async def stream(self, number: int) -> AsyncConnection[Any]:
        """The connection of a stream: the same one until `release`."""

    async def release(self) -> None:
        """The load is over: streams are closed or given back."""

    async def close(self) -> None:
        """Nothing is needed any more."""


class AsyncOwnConnections:
    """Connections that are opened for the purpose, and closed afterwards."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._main: AsyncConnection[Any] | None = None
        self._streams: dict[int, AsyncConnection[Any]] = {}

    is_single = False
    max_streams = 64

    async def main(self) -> AsyncConnection[Any]:
        if self._main is None or self._main.closed:
            self._main = await self._open()
        return self._main

    async def stream(self, number: int) -> AsyncConnection[Any]:
        if number not in self._streams:
            self._streams[number] = await self._open()
        return self._streams[number]

    async def _open(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self._dsn, **connection_options())

    async def release(self) -> None:
        while self._streams:
            _, connection = self._streams.popitem()
            await connection.close()

    async def close(self) -> None:
        await self.release()
        if self._main is not None:
            await self._main.close()
            self._main = None


class AsyncPooledConnections:
    """Connections out of the caller's pool, given back as they were found.

    A load takes one and one more for each worker; raises UsageError where the pool is smaller.
    """

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        if pool.max_size < 2:
            raise UsageError(
                "the pool has room for one connection, and a load needs two at least",
                hint="Make the pool larger, or hand over a connection.",
            )
        self._pool = pool
        self.max_streams = pool.max_size - 1
        self._taken: dict[int, tuple[AsyncConnection[Any], bool, int | None]] = {}

    is_single = False
    _MAIN = -1

    async def main(self) -> AsyncConnection[Any]:
        return await self._take(self._MAIN)

    async def stream(self, number: int) -> AsyncConnection[Any]:
        return await self._take(number)

    async def _take(self, number: int) -> AsyncConnection[Any]:
        if number not in self._taken:
            connection = await self._pool.getconn()
            self._taken[number] = (connection, connection.autocommit, connection.prepare_threshold)
            await connection.set_autocommit(True)
            connection.prepare_threshold = None
        return self._taken[number][0]

    async def release(self) -> None:
        while self._taken:
            _, (connection, autocommit, threshold) = self._taken.popitem()
            if not connection.closed:
                connection.prepare_threshold = threshold
                await connection.set_autocommit(autocommit)
            await self._pool.putconn(connection)

    async def close(self) -> None:
        await self.release()


class AsyncCallersConnection:
    """The caller's own connection, for everything: no streams, and no commit of its own."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    is_single = True
    max_streams = 1

    async def main(self) -> AsyncConnection[Any]:
        return self._connection

    async def stream(self, number: int) -> AsyncConnection[Any]:
        return self._connection

    async def release(self) -> None:
        """Nothing was taken."""

    async def close(self) -> None:
        """It is the caller's to close."""
