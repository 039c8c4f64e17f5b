"""Where a load gets its connections from: an address, or the caller's pool or connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import PGconn, Ping

from sqlkit import calls_async as calls
from sqlkit._acompat import AsyncLock, AsyncReturned, run_async
from sqlkit.connection import connection_options, from_psycopg
from sqlkit.errors import UsageError
from sqlkit.model import Session
from sqlkit.transient import RefusedError, UnreachedError

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

AsyncCall = Callable[[AsyncConnection[Any]], AsyncReturned[None]]


class AsyncConnections(Protocol):
    """Connections for one load after the other, all to a server that accepts writes.

    A server that does not is reported as psycopg's ReadOnlySqlTransaction.
    """

    @property
    def is_callers(self) -> bool:
        """True: the one connection belongs to the caller, and is never given up."""

    @property
    def is_single(self) -> bool:
        """True: one connection for everything."""

    @property
    def is_direct(self) -> bool:
        """True: no proxy stands between, that would hide the end of a server process."""

    @property
    def backends(self) -> list[int]:
        """The server processes at the other end; none where a proxy hides them."""

    @property
    def max_streams(self) -> int:
        """How many streams can have a connection each."""

    async def main(self) -> AsyncConnection[Any]:
        """The connection that merges and keeps the ledger."""

    async def stream(self, number: int) -> AsyncConnection[Any]:
        """The connection of a stream: the same one until `release`."""

    async def beside(self, call: AsyncCall) -> None:
        """Call with a further connection; nothing happens where none is to be had."""

    async def reset(self) -> None:
        """Something went wrong: give up all connections.

        What they left on the server, if it does not know yet that they are gone, is ended when
        `main` is connected again.
        """

    async def release(self) -> None:
        """The load is over: streams are closed or given back."""

    async def close(self) -> None:
        """Nothing is needed any more."""


class _AsyncSessions:
    """The server processes at the other end, as far as no proxy hides them."""

    def __init__(self) -> None:
        self._known: list[Session] = []
        self._lost: list[Session] = []
        self.are_direct = True

    async def check(self, connection: AsyncConnection[Any]) -> bool:
        """Look at a new connection; whether it was told to watch for the end of this program.

        Raises ReadOnlySqlTransaction.
        """
        session = await calls.session(connection)
        if session.is_read_only:
            raise psycopg.errors.ReadOnlySqlTransaction("the server is read-only")
        if session.backend_pid != connection.info.backend_pid:
            self.are_direct = False
            return False
        self._known.append(session)
        if not session.watches_client:
            await calls.watch_client(connection)
        return not session.watches_client

    @property
    def backends(self) -> list[int]:
        return [session.backend_pid for session in self._known] if self.are_direct else []

    def lose(self) -> None:
        """All connections were given up."""
        self._lost += self._known
        self._known.clear()

    def forget(self) -> None:
        """All connections were closed in peace."""
        self._known.clear()

    async def end_lost(self, main: AsyncConnection[Any]) -> None:
        """End what lost connections left behind: it may hold locks against its own program."""
        if self._lost:
            await calls.end_sessions(main, self._lost)
            self._lost.clear()


class AsyncOwnConnections:
    """Connections that are opened for the purpose, and closed afterwards."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._main: AsyncConnection[Any] | None = None
        self._streams: dict[int, AsyncConnection[Any]] = {}
        self._sessions = _AsyncSessions()
        self._was_connected = False

    is_callers = False
    is_single = False
    max_streams = 64

    @property
    def is_direct(self) -> bool:
        return self._sessions.are_direct

    @property
    def backends(self) -> list[int]:
        return self._sessions.backends

    async def main(self) -> AsyncConnection[Any]:
        if self._main is None or self._main.closed:
            self._main = await self._open()
            await self._sessions.end_lost(self._main)
        return self._main

    async def stream(self, number: int) -> AsyncConnection[Any]:
        if number not in self._streams:
            self._streams[number] = await self._open()
        return self._streams[number]

    async def beside(self, call: AsyncCall) -> None:
        async with await self._connect() as connection:
            await call(connection)

    async def _open(self) -> AsyncConnection[Any]:
        try:
            connection = await self._connect()
        except psycopg.OperationalError as error:
            if not self._was_connected:
                await self._look_into(error)
            raise
        self._was_connected = True
        try:
            await self._sessions.check(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _connect(self, **options: str) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self._dsn, **(connection_options(self._dsn) | options))

    async def _look_into(self, error: psycopg.OperationalError) -> None:
        """Why the very first connection failed: raises RefusedError where it would fail again.

        libpq does not tell the SQLSTATE. But it tells whether anything answers, and whether that
        is about to start; and a server that only lacks what target_session_attrs asks for lets us
        in without it. Whoever refuses us else does so for good: the password, the database.
        """
        ping = await run_async(partial(PGconn.ping, self._dsn.encode()))
        if ping == Ping.REJECT:
            return
        known = from_psycopg(error)
        if ping == Ping.NO_RESPONSE:
            raise UnreachedError(known.message, detail=known.detail, hint=REFUSED_HINT) from error
        with suppress(psycopg.OperationalError):
            other = await self._connect(target_session_attrs="any")
            await other.close()
            raise psycopg.errors.ReadOnlySqlTransaction("no server accepts writes") from error
        raise RefusedError(known.message, detail=known.detail, hint=REFUSED_HINT) from error

    async def reset(self) -> None:
        self._sessions.lose()
        await self._close()

    async def release(self) -> None:
        while self._streams:
            _, connection = self._streams.popitem()
            await connection.close()

    async def close(self) -> None:
        self._sessions.forget()
        await self._close()

    async def _close(self) -> None:
        await self.release()
        if self._main is not None:
            await self._main.close()
            self._main = None


REFUSED_HINT = "sqlkit status says which server is meant, and who named it."


class _AsyncTaken(NamedTuple):
    """A connection of the caller's pool, and how it was found."""

    connection: AsyncConnection[Any]
    autocommit: bool
    prepare_threshold: int | None
    is_watching: bool  # since we have it


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
        self._taken: dict[int, _AsyncTaken] = {}
        self._sessions = _AsyncSessions()
        self._beside = AsyncLock()  # who gives signs of life, and who looks at locks

    is_callers = False
    is_single = False
    _MAIN = -1
    _BESIDE = -2

    @property
    def is_direct(self) -> bool:
        return self._sessions.are_direct

    @property
    def backends(self) -> list[int]:
        return self._sessions.backends

    async def main(self) -> AsyncConnection[Any]:
        if self._MAIN not in self._taken:
            await self._sessions.end_lost(await self._take(self._MAIN))
        return await self._take(self._MAIN)

    async def stream(self, number: int) -> AsyncConnection[Any]:
        return await self._take(number)

    async def beside(self, call: AsyncCall) -> None:
        async with self._beside:
            try:
                with suppress(psycopg.OperationalError):  # PoolTimeout: all are in use
                    await call(await self._take(self._BESIDE, seconds=1))
            finally:
                if self._BESIDE in self._taken:
                    await self._give_back(self._BESIDE)

    async def _take(self, number: int, seconds: float | None = None) -> AsyncConnection[Any]:
        if number not in self._taken:
            connection = await self._pool.getconn(seconds)
            found = _AsyncTaken(
                connection, connection.autocommit, connection.prepare_threshold, is_watching=False
            )
            self._taken[number] = found
            await connection.set_autocommit(True)
            connection.prepare_threshold = None
            if number != self._BESIDE:
                is_watching = await self._sessions.check(connection)
                self._taken[number] = found._replace(is_watching=is_watching)
        return self._taken[number].connection

    async def _give_back(self, number: int) -> None:
        taken = self._taken.pop(number)
        connection = taken.connection
        if not connection.closed:
            connection.prepare_threshold = taken.prepare_threshold
            with suppress(psycopg.Error):
                if taken.is_watching:
                    await calls.set_session(connection, "client_connection_check_interval", "0")
                await connection.set_autocommit(taken.autocommit)
        await self._pool.putconn(connection)

    async def reset(self) -> None:
        self._sessions.lose()
        for taken in self._taken.values():
            await taken.connection.close()
        await self.release()
        # Those that nobody has taken may be just as dead.
        await self._pool.check()

    async def release(self) -> None:
        self._sessions.forget()
        for number in list(self._taken):
            await self._give_back(number)

    async def close(self) -> None:
        await self.release()


class AsyncCallersConnection:
    """The caller's own connection, for everything: no streams, and no commit of its own."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    is_callers = True
    is_single = True
    is_direct = False  # for all we know
    max_streams = 1

    @property
    def backends(self) -> list[int]:
        return []

    async def main(self) -> AsyncConnection[Any]:
        return self._connection

    async def stream(self, number: int) -> AsyncConnection[Any]:
        return self._connection

    async def beside(self, call: AsyncCall) -> None:
        """There is no other."""

    async def reset(self) -> None:
        """It is the caller's to connect again."""

    async def release(self) -> None:
        """Nothing was taken."""

    async def close(self) -> None:
        """It is the caller's to close."""


class AsyncOneConnection:
    """One connection for everything, of whoever gives them: nothing is seen outside of it."""

    def __init__(self, connections: AsyncConnections) -> None:
        self._connections = connections
        self.is_callers = connections.is_callers

    is_single = True
    max_streams = 1

    @property
    def is_direct(self) -> bool:
        return self._connections.is_direct

    @property
    def backends(self) -> list[int]:
        return self._connections.backends

    async def main(self) -> AsyncConnection[Any]:
        return await self._connections.main()

    async def stream(self, number: int) -> AsyncConnection[Any]:
        return await self._connections.main()

    async def beside(self, call: AsyncCall) -> None:
        """Nobody else is to see anything."""

    async def reset(self) -> None:
        await self._connections.reset()

    async def release(self) -> None:
        await self._connections.release()

    async def close(self) -> None:
        await self._connections.close()
