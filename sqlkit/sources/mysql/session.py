"""One connection to MySQL or MariaDB, in one consistent snapshot.

Rows are fetched as the server sends them, never all at once (`use_result`), and as bytes: the
driver converts nothing. What is set for that in the session is put back before it is closed.

Errors (`SourceError`): SK101 the server refuses; SK102 no such database or table; 08006
(`LostSourceError`) the connection was lost: another attempt may do better.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

try:
    import MySQLdb
except ImportError:
    from sqlkit.errors import UsageError

    raise UsageError(
        "MySQL and MariaDB need the driver mysqlclient", hint="pip install 'sqlkit[mysql]'"
    ) from None

from sqlkit.errors import LostSourceError, SourceError, SqlkitError
from sqlkit.sources.mysql.address import Address

Row = tuple[bytes | None, ...]

FETCHED = 5_000
FETCHED_BYTES = 1 << 20
"""Rows that are fetched at a time, and about how many bytes of them."""

A_DAY = 86_400
LOCK_PATIENCE = 10
"""Seconds for which other writers are waited for, to have one snapshot on several connections."""
_NUMBER = re.compile(r"\d+(\.\d+)?")

_SETTINGS = {
    "time_zone": "'+00:00'",  # of TIMESTAMP
    "net_write_timeout": str(A_DAY),  # while the target is busy, the server waits for us
    "net_read_timeout": str(A_DAY),
    "wait_timeout": str(7 * A_DAY),
    "max_statement_time": "0",  # MariaDB's limit for one query
    "max_execution_time": "0",  # MySQL's
}
"""What a session is set to, as far as the server has it."""
_OF_TABLES = {"sql_mode": "''"}
"""Where the queries are our own: no ANSI_QUOTES, no PAD_CHAR_TO_FULL_LENGTH."""

# Client: gone away, lost, lost at the handshake, cannot reach. Server: shutdown, killed, too many
# connections, query interrupted, lock wait timeout, deadlock.
_LOST = {2002, 2003, 2006, 2013, 2055, 1053, 1927, 1040, 1317, 1205, 1213}
_ABSENT = {1049: "there is no such database", 1146: "there is no such table"}
_REFUSED = {1044, 1045, 1142, 1143, 1227, 1698, 2059, 1130}
_CHANGED = 1412
_CUT_OFF = {2002, 2003, 2006, 2013, 2055, 1053, 1927}


class Session:
    """A connection whose reading transaction begins with it, under `name` in errors.

    One thread at a time: each fetch holds the lock, so that another may close it.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        own_queries: bool,
        again: bool,
        begun: bool = True,
    ) -> None:
        self.name = name
        self.is_lost = False
        self._lock = threading.RLock()
        self._most = 1  # rows that are fetched with one call
        self._result: Any = None  # of the query whose rows are still to be fetched
        self._before: dict[str, str] = {}
        self._again = again  # connected before: a server that is away may come back
        try:
            self._connection: Any = MySQLdb.connect(
                **address.arguments(),
                charset="utf8mb4",
                use_unicode=False,
                conv={},
                multi_statements=False,
            )
        except (MySQLdb.Error, TypeError) as error:
            raise self._error(error, connecting=True) from None
        try:
            wanted = _SETTINGS | (_OF_TABLES if own_queries else {})
            names = ", ".join(f"'{name}'" for name in wanted)
            for key, value in self.ask(f"show session variables where variable_name in ({names})"):
                self._before[text(key)] = text(value)
            self.do("set session " + ", ".join(f"{key} = {wanted[key]}" for key in self._before))
            if begun:
                self.begin()
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """The snapshot is taken."""
        self.do("set transaction isolation level repeatable read")
        self.do("start transaction with consistent snapshot, read only")

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB, and not MySQL."""
        return "mariadb" in str(self._connection.get_server_info()).lower()

    @property
    def connection_id(self) -> int:
        """The server's number of the connection."""
        return int(self._connection.thread_id())

    def literal(self, value: bytes) -> str:
        """A text of UTF-8 as SQL writes it."""
        escaped: bytes = self._connection.escape_string(value)
        return f"'{escaped.decode()}'"

    def do(self, statement: str) -> None:
        """Carry out a statement that has no rows."""
        with self._lock:
            self._drain()
            self._query(statement)

    def ask(self, statement: str) -> list[Row]:
        """All rows of a small answer."""
        return [row for rows in self.rows(statement) for row in rows]

    def description(self, statement: str) -> list[Column]:
        """Begin a query, and say which columns it has; `fetch` has its rows."""
        with self._lock:
            self._drain()
            self._query(statement)
            try:
                self._result = self._connection.use_result()
            except MySQLdb.Error as error:
                raise self._error(error) from None
            if self._result is None:
                raise SourceError("the query has no rows to give", source=self.name)
            flags = self._result.field_flags()
            columns = [
                Column(name, kind, length, precision, scale, flag)
                for (name, kind, _, length, precision, scale, _), flag in zip(
                    self._result.describe(), flags, strict=True
                )
            ]
            # By what a row may be long at most: -1 is more than the driver counts.
            lengths = [column.length for column in columns]
            widest = FETCHED_BYTES if min(lengths) < 0 else 1 + sum(lengths)
            self._most = max(1, min(FETCHED, FETCHED_BYTES // widest))
            return columns

    def fetch(self) -> Sequence[Row]:
        """The next rows of the query that was begun last, none at its end."""
        with self._lock:
            if self._result is None:
                return []
            rows: list[Row] = []
            size = 0
            while len(rows) < FETCHED and size < FETCHED_BYTES:
                try:
                    some: Sequence[Row] = self._result.fetch_row(self._most)
                except MySQLdb.Error as error:
                    self._result = None
                    raise self._error(error) from None
                if not some:
                    self._result = None
                    break
                if self._most == FETCHED:
                    return some
                rows += some
                size += sum(sum(map(len, filter(None, row))) for row in some)
            return rows

    def rows(self, statement: str) -> Iterator[Sequence[Row]]:
        """The rows of a query, some at a time."""
        self.description(statement)
        while rows := self.fetch():
            yield rows

    def close(self) -> None:
        """Put the session's settings back, and close it. A fetch that waits is broken off."""
        if not self._lock.acquire(timeout=0.5):
            # Another thread waits for the server, in the driver, which is not to be closed then.
            with contextlib.suppress(OSError, MySQLdb.Error):
                socket.socket(fileno=socket.dup(self._connection.fileno())).shutdown(
                    socket.SHUT_RDWR
                )
            return
        try:
            if self._connection is None:
                return
            if self._result is None:  # else the server is told by the connection's end
                with contextlib.suppress(MySQLdb.Error, SqlkitError):
                    self.put_back()
            with contextlib.suppress(MySQLdb.Error):
                self._connection.close()
            self._connection = self._result = None
        finally:
            self._lock.release()

    def put_back(self) -> None:
        """End the snapshot, and give the session the settings that it had."""
        self.do("rollback")
        self.do(
            "set session "
            + ", ".join(
                f"{name} = " + (value if _NUMBER.fullmatch(value) else f"'{value}'")
                for name, value in self._before.items()
            )
        )

    def _query(self, statement: str) -> None:
        if self._connection is None:
            raise LostSourceError("the connection was closed", source=self.name)
        try:
            self._connection.query(statement.encode())
        except MySQLdb.Error as error:
            raise self._error(error) from None

    def _drain(self) -> None:
        """Nobody wants the rest of the last query; the connection is free only after it."""
        while self.fetch():
            pass

    def _error(self, error: Exception, *, connecting: bool = False) -> SourceError:
        """An error of the driver or the server, which has no secrets in it, as one of sqlkit's."""
        arguments = getattr(error, "args", ())
        number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
        said = str(arguments[-1]) if arguments else str(error)
        detail = f"MySQL error {number}" if number else None
        if number in _LOST and (not connecting or self._again or number == 1040):
            self.is_lost = True
            what = "the connection was lost" if number in _CUT_OFF else "the query was cut off"
            return LostSourceError(f"{what}: {said}", source=self.name, detail=detail)
        if number in _ABSENT:
            return SourceError(
                f"{_ABSENT[number]}: {said}", source=self.name, code="SK102", detail=detail
            )
        hint = None
        if number in _REFUSED:
            hint = (
                "The user is named in the address, the password there or, better, in MYSQL_PWD. "
                "It needs the right to SELECT."
            )
        elif connecting:
            hint = "See that the server runs, and that host and port are right."
        elif number == _CHANGED:
            hint = "The table was altered after reading had begun: run the same command again."
        what = "the server cannot be connected to" if connecting else "the query failed"
        return SourceError(f"{what}: {said}", source=self.name, detail=detail, hint=hint)


def begin_together(
    address: Address, tables: Sequence[str], number: int
) -> tuple[list[Session], bool]:
    """So many sessions in one snapshot; and whether that could be had (`begin_at_once`).

    Where it could not, each has one of its own.
    """
    opened: list[Session] = []
    locking: Session | None = None

    def session() -> Session:
        return Session(address, address.name, own_queries=True, again=False, begun=False)

    try:
        opened += [session() for _ in range(number)]
        if number > 1:
            locking = session()
        return opened, begin_at_once(opened, locking, tables)
    except BaseException:
        for each in opened:
            each.close()
        raise
    finally:
        if locking is not None:
            locking.close()


def begin_at_once(
    sessions: Sequence[Session],
    locking: Session | None,
    tables: Sequence[str],
    *,
    patience: int = LOCK_PATIENCE,
) -> bool:
    """Take the snapshots of all sessions; whether they are known to be the same.

    The tables, whose names are quoted, are locked against writers by another session meanwhile.
    Where that is not allowed, or they have to be waited for longer than `patience` seconds, each
    session gets the snapshot of its own moment. A single one needs no lock.
    """
    is_locked = False
    if locking is not None:
        locking.do(f"set session lock_wait_timeout = {patience}")
        with contextlib.suppress(SourceError):
            locking.do("lock tables " + ", ".join(f"{table} read" for table in tables))
            is_locked = True
    try:
        for each in sessions:
            each.begin()
    finally:
        if locking is not None and is_locked:
            locking.do("unlock tables")
    return is_locked or len(sessions) == 1


class Column:
    """A column of an answer: its name, MySQL's number of its type, and how wide it is."""

    def __init__(
        self, name: str, type: int, length: int, precision: int, scale: int, flags: int
    ) -> None:
        self.name = name
        self.type = type
        self.length = length
        self.precision = precision
        self.scale = scale
        self.flags = flags
        self.takes_empty = False  # an enum that has '' for a label

    @property
    def is_enum(self) -> bool:
        """Whether values are labels, or empty where none of them was given."""
        return bool(self.flags & 256)

    @property
    def is_unsigned(self) -> bool:
        """Whether a number has no sign."""
        return bool(self.flags & 32)

    @property
    def may_be_bytes(self) -> bool:
        """Whether values may be no text: the driver does not tell bytes from text in a collation
        that compares by them."""
        return bool(self.flags & 128) and self.type in (249, 250, 251, 252, 253, 254)


def text(value: bytes | None) -> str:
    """A value of the catalog; null is empty."""
    return "" if value is None else value.decode("utf-8", "replace")
