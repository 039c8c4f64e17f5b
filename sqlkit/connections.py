# Generated from sqlkit/connections_async.py by python -m sqlkit.build; do not edit.

"""Where a load gets its connections from: an address, or the caller's pool or connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import psycopg
from psycopg import Connection
from psycopg.pq import PGconn, Ping

from sqlkit import calls as calls
from sqlkit._acompat import Lock, Returned, run
from sqlkit.connection import connection_options, from_psycopg
from sqlkit.errors import UsageError
from sqlkit.model import Session
from sqlkit.transient import RefusedError, UnreachedError

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

Call = Callable[[Connection[Any]], Returned[None]]


class Connections(Protocol):
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

    def main(self) -> Connection[Any]:
        """The connection that merges and keeps the ledger."""

    def stream(self, number: int) -> Connection[Any]:
        """The connection of a stream: the same one until `release`."""

    def beside(self, call: Call) -> None:
        """Call with a further connection; nothing happens where none is to be had."""

    def reset(self) -> None:
        """Something went wrong: give up all connections.

        What they left on the server, if it does not know yet that they are gone, is ended when
        `main` is connected again.
        """

    def release(self) -> None:
        """The load is over: streams are closed or given back."""

    def close(self) -> None:
        """Nothing is needed any more."""


class _Sessions:
    """The server processes at the other end, as far as no proxy hides them."""

    def __init__(self) -> None:
        self._known: list[Session] = []
        self._lost: list[Session] = []
        self.are_direct = True

    def check(self, connection: Connection[Any]) -> bool:
        """Look at a new connection; whether it was told to watch for the end of this program.

        Raises ReadOnlySqlTransaction.
        """
        session = calls.session(connection)
        if session.is_read_only:
            raise psycopg.errors.ReadOnlySqlTransaction("the server is read-only")
        if session.backend_pid != connection.info.backend_pid:
            self.are_direct = False
            return False
        self._known.append(session)
        if not session.watches_client:
            calls.watch_client(connection)
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

    def end_lost(self, main: Connection[Any]) -> None:
        """End what lost connections left behind: it may hold locks against its own program."""
        if self._lost:
            calls.end_sessions(main, self._lost)
            self._lost.clear()


class OwnConnections:
    """Connections that are opened for the purpose, and closed afterwards."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._main: Connection[Any] | None = None
        self._streams: dict[int, Connection[Any]] = {}
        self._sessions = _Sessions()
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

    def main(self) -> Connection[Any]:
        if self._main is None or self._main.closed:
            self._main = self._open()
            self._sessions.end_lost(self._main)
        return self._main

    def stream(self, number: int) -> Connection[Any]:
        if number not in self._streams:
            self._streams[number] = self._open()
        return self._streams[number]

    def beside(self, call: Call) -> None:
        with self._connect() as connection:
            call(connection)

    def _open(self) -> Connection[Any]:
        try:
            connection = self._connect()
        except psycopg.OperationalError as error:
            if not self._was_connected:
                self._look_into(error)
            raise
        self._was_connected = True
        try:
            self._sessions.check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, **options: str) -> Connection[Any]:
        return Connection.connect(self._dsn, **(connection_options(self._dsn) | options))

    def _look_into(self, error: psycopg.OperationalError) -> None:
        """Why the very first connection failed: raises RefusedError where it would fail again.

        libpq does not tell the SQLSTATE. But it tells whether anything answers, and whether that
        is about to start; and a server that only lacks what target_session_attrs asks for lets us
        in without it. Whoever refuses us else does so for good: the password, the database.
        """
        ping = run(partial(PGconn.ping, self._dsn.encode()))
        if ping == Ping.REJECT:
            return
        known = from_psycopg(error)
        if ping == Ping.NO_RESPONSE:
            raise UnreachedError(known.message, detail=known.detail, hint=REFUSED_HINT) from error
        with suppress(psycopg.OperationalError):
            other = self._connect(target_session_attrs="any")
            other.close()
            raise psycopg.errors.ReadOnlySqlTransaction("no server accepts writes") from error
        raise RefusedError(known.message, detail=known.detail, hint=REFUSED_HINT) from error

    def reset(self) -> None:
        self._sessions.lose()
        self._close()

    def release(self) -> None:
        while self._streams:
            _, connection = self._streams.popitem()
            connection.close()

    def close(self) -> None:
        self._sessions.forget()
        self._close()

    def _close(self) -> None:
        self.release()
        if self._main is not None:
            self._main.close()
            self._main = None


REFUSED_HINT = "sqlkit status says which server is meant, and who named it."


class _Taken(NamedTuple):
    """A connection of the caller's pool, and how it was found."""

    connection: Connection[Any]
    autocommit: bool
    prepare_threshold: int | None
    is_watching: bool  # since we have it


class PooledConnections:
    """Connections out of the caller's pool, given back as they were found.

    A load takes one and one more for each worker; raises UsageError where the pool is smaller.
    """

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        if pool.max_size < 2:
            raise UsageError(
                "the pool has room for one connection, and a load needs two at least",
                hint="Make the pool larger, or hand over a connection.",
            )
        self._pool = pool
        self.max_streams = pool.max_size - 1
        self._taken: dict[int, _Taken] = {}
        self._sessions = _Sessions()
        self._beside = Lock()  # who gives signs of life, and who looks at locks

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

    def main(self) -> Connection[Any]:
        if self._MAIN not in self._taken:
            self._sessions.end_lost(self._take(self._MAIN))
        return self._take(self._MAIN)

    def stream(self, number: int) -> Connection[Any]:
        return self._take(number)

    def beside(self, call: Call) -> None:
        with self._beside:
            try:
                with suppress(psycopg.OperationalError):  # PoolTimeout: all are in use
                    call(self._take(self._BESIDE, seconds=1))
            finally:
                if self._BESIDE in self._taken:
                    self._give_back(self._BESIDE)

    def _take(self, number: int, seconds: float | None = None) -> Connection[Any]:
        if number not in self._taken:
            connection = self._pool.getconn(seconds)
            found = _Taken(
                connection, connection.autocommit, connection.prepare_threshold, is_watching=False
            )
            self._taken[number] = found
            connection.set_autocommit(True)
            connection.prepare_threshold = None
            if number != self._BESIDE:
                is_watching = self._sessions.check(connection)
                self._taken[number] = found._replace(is_watching=is_watching)
        return self._taken[number].connection

    def _give_back(self, number: int) -> None:
        taken = self._taken.pop(number)
        connection = taken.connection
        if not connection.closed:
            connection.prepare_threshold = taken.prepare_threshold
            with suppress(psycopg.Error):
                if taken.is_watching:
                    calls.set_session(connection, "client_connection_check_interval", "0")
                connection.set_autocommit(taken.autocommit)
        self._pool.putconn(connection)

    def reset(self) -> None:
        self._sessions.lose()
        for taken in self._taken.values():
            taken.connection.close()
        self.release()
        # Those that nobody has taken may be just as dead.
        self._pool.check()

    def release(self) -> None:
        self._sessions.forget()
        for number in list(self._taken):
            self._give_back(number)

    def close(self) -> None:
        self.release()


class CallersConnection:
    """The caller's own connection, for everything: no streams, and no commit of its own."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    is_callers = True
    is_single = True
    is_direct = False  # for all we know
    max_streams = 1

    @property
    def backends(self) -> list[int]:
        return []

    def main(self) -> Connection[Any]:
        return self._connection

    def stream(self, number: int) -> Connection[Any]:
        return self._connection

    def beside(self, call: Call) -> None:
        """There is no other."""

    def reset(self) -> None:
        """It is the caller's to connect again."""

    def release(self) -> None:
        """Nothing was taken."""

    def close(self) -> None:
        """It is the caller's to close."""


class OneConnection:
    """One connection for everything, of whoever gives them: nothing is seen outside of it."""

    def __init__(self, connections: Connections) -> None:
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

    def main(self) -> Connection[Any]:
        return self._connections.main()

    def stream(self, number: int) -> Connection[Any]:
        return self._connections.main()

    def beside(self, call: Call) -> None:
        """Nobody else is to see anything."""

    def reset(self) -> None:
        self._connections.reset()

    def release(self) -> None:
        self._connections.release()

    def close(self) -> None:
        self._connections.close()
