"""Tables and queries of another PostgreSQL: COPY there is COPY here, and nobody converts a value.

A table is read by ranges of its pages, each by a COPY of its own, on as many connections as there
are workers; all are in one snapshot, which the first of them exports. So any range can be read
again, when the target was lost, and nothing is kept. What comes of a query, of a view, of
partitions, or under a condition is of one COPY, and is kept on disk until it is committed
(`spool`).

A snapshot cannot be had again: when a connection to the source is lost, the next attempt begins
with the first row, and so does the next run after this one was killed (`is_live`, see
`base.Source`).

Only columns that are wanted are asked for.

Errors (`SourceError`): SK101 the server refuses; SK102 no such table; SK111 a name that two columns
have; SK125 a column by which newer rows are not known; 08006 (`LostSourceError`) the connection was
lost.
"""

from __future__ import annotations

import hashlib
import itertools
import queue
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from sqlkit.connection import connection_options
from sqlkit.errors import LostSourceError, SourceError, SqlkitError, UsageError
from sqlkit.sources.addresses import shortened
from sqlkit.sources.base import CopyFormat, ResumePoint, WantedColumn
from sqlkit.sources.blocks import Block, BlockReader
from sqlkit.sources.copied import rows_of
from sqlkit.sources.newer import Mark, Newer, identity_of, with_condition
from sqlkit.sources.spool import Made, Spool
from sqlkit.sources.text_rows import encode_columns, single_rows

EXAMPLE = "postgresql://user@host/database#schema.table"

TEXT = CopyFormat(format="text", delimiter="\t", null="\\N")
"""What COPY writes when nobody says anything else."""

_NOTHING = hashlib.sha256().hexdigest()
_BLOCK = 1 << 20
_RANGE = 4 << 20
"""Bytes of a table, with what is stored beside it, that one COPY reads."""
_RANGE_SCANS = 140_000
_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double")
_SETTINGS = {
    # As the target's types read it, whatever is set for the role.
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmloption": "content",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",  # while the target is busy
}


def source_of(text: str, query: str | None, *, null_invalid: bool = False) -> PostgresSource:
    """The source that an address names. Raises UsageError."""
    dsn, _, table = text.partition("#")
    try:
        said = conninfo_to_dict(dsn)
    except psycopg.Error:
        # Without its text, which may hold a password.
        raise UsageError(
            "an address of PostgreSQL cannot be read", hint=f"Write {EXAMPLE}"
        ) from None
    host = said.get("host") or said.get("hostaddr") or "localhost"
    port = f":{said['port']}" if said.get("port") else ""
    name = f"postgresql://{host}{port}/{said.get('dbname') or ''}"
    if (query is None) == (not table):
        raise UsageError(
            f"{name}: name a table or a query, one of them",
            hint=f"{EXAMPLE}, or {EXAMPLE.split('#')[0]} and --query 'select ...'",
        )
    return PostgresSource(dsn, name, unquote(table) or None, query)


class PostgresSource:
    """A table, or the rows of a query. Use it for one load.

    Offsets count pages of the table, or bytes of COPY.
    """

    format = "postgresql"
    reading: Mapping[str, Any] = MappingProxyType({})
    passes_through = False
    declares_columns = True
    repeatable = True
    can_reopen = True
    is_live = True
    size: int | None = None
    row_count: int | None = None

    def __init__(self, dsn: str, name: str, table: str | None, query: str | None) -> None:
        said = name if table is None else f"{name}#{table}"
        self.name = said if query is None else f"{said}: {shortened(query)}"
        self.identity = identity_of(said, query)
        self.newer: Newer | None = None
        self.greatest: str | None = None
        self.mark: Mark | None = None
        self.columns: tuple[str, ...] = ()
        self.types: Mapping[str, str] = {}
        self._dsn = dsn
        self._table = table
        self._query = query
        self._connection: psycopg.Connection[Any] | None = None
        self._was_connected = False
        self._spool: Spool | None = None
        self._condition: str | None = None
        self._workers = 1
        self._more: list[psycopg.Connection[Any]] = []  # in the same snapshot
        self.pages: Pages | None = None
        self._begin_anew()

    def __repr__(self) -> str:
        return f"PostgresSource({self.name!r})"

    def _begin_anew(self) -> None:
        """What is read from now on may be another content than before."""
        self._fingerprint = hashlib.sha256(uuid.uuid4().bytes).hexdigest()
        self._is_lost = False
        self._hang_up()

    def _hang_up(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        for connection in self._more:
            connection.close()
        self._more.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def spread(self, workers: int) -> None:
        """So many connections may read at once."""
        self._workers = workers

    def filter(self, condition: str) -> None:
        """Ask only for rows for which a condition holds."""
        self._condition = condition
        self.identity = with_condition(self.identity, condition)

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> PostgresReader:
        """Open it, or go on at a point that an earlier reader has given."""
        if self._is_lost:
            self._begin_anew()
        if self._connection is None:
            try:
                self._connect()
            except psycopg.Error as error:
                raise self._known(error) from None
        return PostgresReader(self, resume, database_encoding)

    def _begun(self, snapshot: str | None = None) -> psycopg.Connection[Any]:
        """A connection in a transaction that reads, in a snapshot of its own or in one that is."""
        connection = psycopg.connect(
            self._dsn, **(connection_options(self._dsn) | {"autocommit": False})
        )
        try:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            if snapshot is not None:
                statement = sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot))
                connection.execute(statement)
            for name, value in _SETTINGS.items():
                connection.execute(
                    "select pg_catalog.set_config(name, %s, true) from pg_catalog.pg_settings "
                    "where pg_catalog.lower(name) = %s",
                    [value, name],
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> None:
        connection = self._connection = self._begun()
        self._was_connected = True
        if self._table is not None:
            # Whatever its case, as SQL reads it.
            row = connection.execute(
                "select pg_catalog.to_regclass(%s)::text", [self._table]
            ).fetchone()
            if row is None or row[0] is None:
                raise SourceError("there is no such table", source=self.name, code="SK102")
            self._from: sql.Composable = sql.SQL(row[0])  # quoted by the server
        else:
            assert self._query is not None
            text = self._query.strip().rstrip(";")
            self._from = sql.SQL("(\n{}\n) as sqlkit_query").format(sql.SQL(text))  # the caller's
        cursor = connection.execute(sql.SQL("select * from {} limit 0").format(self._from))
        assert cursor.description is not None
        self.columns = tuple(column.name for column in cursor.description)
        if len(set(self.columns)) < len(self.columns):
            raise SourceError(
                "names a column twice",
                source=self.name,
                code="SK111",
                detail=", ".join(self.columns),
                hint="Give each a name of its own: select a.id, b.id as b_id ...",
            )
        # Types of the source's own making are not there in the target.
        found = connection.execute(
            "select pg_catalog.format_type(t.oid, c.typmod), t.typnamespace = 'pg_catalog'"
            "::pg_catalog.regnamespace::pg_catalog.oid from rows from ("
            "pg_catalog.unnest(%s::oid[]), pg_catalog.unnest(%s::integer[])) with ordinality "
            "as c (oid, typmod, n) join pg_catalog.pg_type as t on t.oid = c.oid order by c.n",
            [
                [column.type_code for column in cursor.description],
                [
                    cursor.pgresult.fmod(n) if cursor.pgresult else -1
                    for n in range(len(self.columns))
                ],
            ],
        ).fetchall()
        self.types = {
            name: type_ if is_known else "text"
            for name, (type_, is_known) in zip(self.columns, found, strict=True)
        }
        # On a line of its own, since it may end in a comment.
        said = None if self._condition is None else f"(\n{self._condition}\n)"
        if said is not None:
            self._from = sql.SQL("(select * from {} where {}) as sqlkit_rows").format(
                self._from, sql.SQL(said)
            )
        self._where: sql.Composable = sql.SQL("")
        self.pages = None
        if self.newer is not None:
            self._where = self._newer_rows(connection, self.newer)
        elif self._table is not None and said is None:
            self.pages = find_pages(connection, self._table)

    def ask(self, newer: Newer) -> None:
        """Ask only for newer rows, from the next snapshot on."""
        if self._connection is None or self._is_lost:
            self.newer = newer

    def _newer_rows(self, connection: psycopg.Connection[Any], newer: Newer) -> sql.Composable:
        newer.check(self.columns, self.name)
        column = sql.Identifier(newer.column)
        if newer.strictly:
            asked = sql.SQL("select 1 from {} where {} is null limit 1").format(self._from, column)
            if connection.execute(asked).fetchone() is not None:
                raise newer.refuse_null(self.name)
        asked = sql.SQL("select max({})::text from {}").format(column, self._from)
        row = connection.execute(asked).fetchone()
        self.greatest = None if row is None else row[0]
        condition = newer.condition(
            column.as_string(connection),
            self.name,
            is_number=self.types[newer.column].startswith(_NUMBERS),
            literal=lambda value: sql.Literal(value).as_string(connection),
        )
        return sql.SQL("" if condition is None else f" where {condition}")

    def spooled(self, wanted: Sequence[WantedColumn]) -> Spool:
        """The rows, in blocks, each read once."""
        if self._spool is None:
            chunks = self._chunks([column.name for column in wanted])
            self._spool = Spool(lambda line: next(chunks, None))
        return self._spool

    def by_pages(
        self, pages: Pages, wanted: Sequence[WantedColumn], offset: int, line: int
    ) -> Iterator[Block[Made]]:
        """The rows from a page on, in order, read ahead by all connections."""
        names = [column.name for column in wanted]
        idle: queue.SimpleQueue[psycopg.Connection[Any]] = queue.SimpleQueue()
        try:
            connections = self._connections()
        except psycopg.Error as error:
            raise self._known(error) from None
        for connection in connections:
            idle.put(connection)

        def read(first: int, last: int) -> Made:
            connection = idle.get()
            try:
                where = pages.between(first, last)
                with connection.cursor().copy(self._statement(names, where)) as copy:
                    rows = [bytes(row) for row in copy]
                return Made(b"".join(rows), len(rows))
            finally:
                idle.put(connection)

        ahead: deque[tuple[int, int, Future[Made]]] = deque()
        ranges = pages.ranges(offset)
        pool = ThreadPoolExecutor(len(connections), thread_name_prefix="sqlkit-source")
        try:
            while True:
                for first, last in itertools.islice(ranges, len(connections) + 1 - len(ahead)):
                    ahead.append((first, last, pool.submit(read, first, last)))
                if not ahead:
                    return
                first, last, future = ahead.popleft()
                made = future.result()
                if made.rows:
                    yield Block(first, last, line, made.rows, made)
                    line += made.rows
        except psycopg.Error as error:
            raise self._known(error) from None
        finally:
            pool.shutdown(cancel_futures=True)

    def _connections(self) -> list[psycopg.Connection[Any]]:
        """All in one snapshot; fewer than wanted where there are no more to be had."""
        assert self._connection is not None
        if len(self._more) < self._workers - 1:
            row = self._connection.execute("select pg_catalog.pg_export_snapshot()").fetchone()
            assert row is not None
            while len(self._more) < self._workers - 1:
                try:
                    self._more.append(self._begun(row[0]))
                except psycopg.OperationalError:
                    self._workers = len(self._more) + 1
        return [self._connection, *self._more]

    def _statement(self, names: Sequence[str], where: sql.Composable) -> sql.Composed:
        return sql.SQL("copy (select {} from {}{}) to stdout (encoding 'UTF8')").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), self._from, where
        )

    def _chunks(self, names: Sequence[str]) -> Iterator[Made]:
        assert self._connection is not None
        try:
            with self._connection.cursor().copy(self._statement(names, self._where)) as copy:
                parts: list[bytes] = []
                size = 0
                for data in copy:
                    parts.append(bytes(data))
                    size += len(data)
                    if size >= _BLOCK:
                        yield Made(b"".join(parts), len(parts))
                        parts, size = [], 0
                if parts:
                    yield Made(b"".join(parts), len(parts))
        except psycopg.Error as error:
            raise self._known(error) from None

    def _known(self, error: psycopg.Error) -> SqlkitError:
        """An error of the source's server, not to be mistaken for one of the target's."""
        code = error.sqlstate
        text = error.diag.message_primary or "the connection was lost"
        if isinstance(error, psycopg.OperationalError) and (
            code is None or code[:2] in ("08", "57")
        ):
            if self._was_connected:
                self._is_lost = True
                return LostSourceError(f"the connection was lost: {text}", source=self.name)
            return SourceError(
                "its server cannot be reached, or refuses the connection", source=self.name
            )
        return SourceError(
            f"its server says: {text}",
            source=self.name,
            code="SK102" if code in ("42P01", "3F000", "3D000") else "SK101",
            detail=code,
            hint=error.diag.message_hint,
        )

    def head_sha256(self) -> str:
        """As `fingerprint`."""
        return self._fingerprint

    def fingerprint(self) -> str:
        """What only this snapshot has; nothing is read for it."""
        if self._is_lost:
            self._begin_anew()
        return self._fingerprint

    def version(self) -> None:
        """There is none."""

    def release(self) -> None:
        """What is kept goes when the load is over: see `close`."""

    def forget(self, offset: int) -> None:
        """What stands before `offset` is committed."""
        if self._spool is not None:
            self._spool.forget_later(offset)

    def close(self) -> None:
        """The load is over."""
        self._hang_up()


@dataclass(frozen=True)
class Pages:
    """The pages of a table, as they are read."""

    number: int
    together: int  # of which one COPY reads so many

    def ranges(self, offset: int) -> Iterator[tuple[int, int]]:
        """From a page on: first and, not included, last."""
        for first in range(offset, self.number, self.together):
            yield first, min(first + self.together, self.number)

    def between(self, first: int, last: int) -> sql.Composable:
        """The condition, with WHERE, for the rows of a range."""
        end = sql.SQL(" and ctid < {}::pg_catalog.tid").format(sql.Literal(f"({last},0)"))
        return sql.SQL(" where ctid >= {}::pg_catalog.tid{}").format(
            sql.Literal(f"({first},0)"), end
        )


def find_pages(connection: psycopg.Connection[Any], table: str) -> Pages | None:
    """How a table can be read by pages; None for what is none by itself, or has no such scan."""
    if connection.info.server_version < _RANGE_SCANS:
        return None
    row = connection.execute(
        "select pg_catalog.pg_relation_size(c.oid) "
        "/ pg_catalog.current_setting('block_size')::bigint, pg_catalog.pg_table_size(c.oid) "
        "from pg_catalog.pg_class as c join pg_catalog.pg_am as a on a.oid = c.relam "
        "where c.oid = pg_catalog.to_regclass(%s)::pg_catalog.oid and c.relkind in ('r', 'm') "
        "and not c.relhassubclass and a.amname = 'heap'",
        [table],
    ).fetchone()
    if row is None:
        return None
    number, size = row
    return Pages(number, max(1, _RANGE * number // max(1, size)))


class PostgresReader(BlockReader[Made]):
    """A table or query, opened (see `base.Reader`)."""

    copy_format = TEXT

    def __init__(
        self, source: PostgresSource, resume: ResumePoint | None, database_encoding: str
    ) -> None:
        super().__init__(resume, database_encoding)
        self._source = source
        self.columns = source.columns
        self.column_types = source.types

    @property
    def fingerprint(self) -> str | None:
        """That of the snapshot, once all of it was read."""
        return self._source.fingerprint() if self.is_at_end else None

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """Nothing is to be found out: every column has its type."""
        return []

    def _blocks(
        self,
        wanted: tuple[WantedColumn, ...],
        ignored: frozenset[str] | None,
        piece_bytes: int,
    ) -> Iterator[Block[Made]]:
        pages = self._source.pages
        if pages is not None:
            return self._source.by_pages(pages, wanted, self._start, self._line)
        return self._source.spooled(wanted).blocks(self._start)

    def _rows(self, block: Block[Made], wanted: tuple[WantedColumn, ...]) -> bytes:
        return block.content.data

    def _single_rows(self, block: Block[Made], wanted: tuple[WantedColumn, ...]) -> bytes:
        columns = list(zip(*rows_of(TEXT, block.content.data), strict=True))
        return b"".join(
            single_rows(encode_columns(columns, wanted), block.line, wanted, self.repertoire)
        )

    def _resume_at(self, offset: int, line: int) -> ResumePoint:
        return ResumePoint(offset, line, 0, _NOTHING)
