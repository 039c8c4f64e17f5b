# Generated from sqlkit/connections_async.py by python -m sqlkit.build; do not edit.

"""Where a load gets its connections from: an address, or the caller's pool or connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from psycopg import Connection

from sqlkit.connection import connection_options
from sqlkit.errors import UsageError

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


class Connections(Protocol):
    """Connections for one load after the other."""

    @property
    def is_single(self) -> bool:
        """True: one connection for everything, which belongs to the caller."""

    @property
    def max_streams(self) -> int:
        """How many streams can have a connection each."""

    def main(self) -> Connection[Any]:
        """The connection that merges and keeps the ledger."""

    def stream(self, number: int) -> Connection[Any]:
        """The connection of a stream: the same one until `release`."""

    def release(self) -> None:
        """The load is over: streams are closed or given back."""

    def close(self) -> None:
        """Nothing is needed any more."""


class OwnConnections:
    """Connections that are opened for the purpose, and closed afterwards."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._main: Connection[Any] | None = None
        self._streams: dict[int, Connection[Any]] = {}

    is_single = False
    max_streams = 64

    def main(self) -> Connection[Any]:
        if self._main is None or self._main.closed:
            self._main = self._open()
        return self._main

    def stream(self, number: int) -> Connection[Any]:
        if number not in self._streams:
            self._streams[number] = self._open()
        return self._streams[number]

    def _open(self) -> Connection[Any]:
        return Connection.connect(self._dsn, **connection_options())

    def release(self) -> None:
        while self._streams:
            _, connection = self._streams.popitem()
            connection.close()

    def close(self) -> None:
        self.release()
        if self._main is not None:
            self._main.close()
            self._main = None


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
        self._taken: dict[int, tuple[Connection[Any], bool, int | None]] = {}

    is_single = False
    _MAIN = -1

    def main(self) -> Connection[Any]:
        return self._take(self._MAIN)

    def stream(self, number: int) -> Connection[Any]:
        return self._take(number)

    def _take(self, number: int) -> Connection[Any]:
        if number not in self._taken:
            connection = self._pool.getconn()
            self._taken[number] = (connection, connection.autocommit, connection.prepare_threshold)
            connection.set_autocommit(True)
            connection.prepare_threshold = None
        return self._taken[number][0]

    def release(self) -> None:
        while self._taken:
            _, (connection, autocommit, threshold) = self._taken.popitem()
            if not connection.closed:
                connection.prepare_threshold = threshold
                connection.set_autocommit(autocommit)
            self._pool.putconn(connection)

    def close(self) -> None:
        self.release()


class CallersConnection:
    """The caller's own connection, for everything: no streams, and no commit of its own."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    is_single = True
    max_streams = 1

    def main(self) -> Connection[Any]:
        return self._connection

    def stream(self, number: int) -> Connection[Any]:
        return self._connection

    def release(self) -> None:
        """Nothing was taken."""

    def close(self) -> None:
        """It is the caller's to close."""
