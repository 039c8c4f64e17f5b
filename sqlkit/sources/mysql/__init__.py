"""Tables and queries of MySQL and MariaDB.

A load sees one consistent snapshot, from its first row to its last. A table with a key is read by
ranges of it: each query begins after the last key of the one before, has a limit, and is answered
from the index, so that no query runs for hours and any piece can be read again as long as the
snapshot lives. Other tables, and queries, are read once, and kept on disk until they are committed
(`spool`).

A snapshot cannot be had again. When the connection to the source is lost, the next attempt takes a
new one and begins with its first row; so does the next run after this one was killed. Policies that
compare with what is there end in the same state; append and error, which do not, commit a snapshot
as a whole (`is_live`, see `base.Source`).

Errors (`SourceError`): those of `session`; SK103 a place that is not in this snapshot; SK111 a name
that two columns have; SK118 a value that cannot be loaded.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlkit.errors import LostSourceError, SourceError, UsageError
from sqlkit.sources.addresses import shortened
from sqlkit.sources.base import NewTable, ResumePoint, WantedColumn
from sqlkit.sources.blocks import Block, BlockReader
from sqlkit.sources.mysql.adapter import Naming, make_table
from sqlkit.sources.mysql.address import EXAMPLE, Address, parse_address
from sqlkit.sources.mysql.catalog import Key, Table, column_type, look_up, quoted
from sqlkit.sources.mysql.rows import FLOAT, NUMBERS, Encoder
from sqlkit.sources.mysql.session import Column, Row, Session, text
from sqlkit.sources.newer import Mark, Newer, identity_of
from sqlkit.sources.spool import Made, Spool
from sqlkit.sources.text_rows import BadRow

__all__ = ["MysqlSource", "source_of"]

RANGE_BYTES = 32 << 20
"""About what one query of a range gives: what has to be fetched for nothing at most."""
MOST_ROWS = 200_000
LEAST_ROWS = 1_000

_NOTHING = hashlib.sha256().hexdigest()


def source_of(text: str, query: str | None, *, null_invalid: bool = False) -> MysqlSource:
    """The source that an address names. Raises UsageError."""
    return MysqlSource(parse_address(text), query, null_invalid=null_invalid)


class MysqlSource:
    """A table, or the rows of a query, as they are when they are first looked at.

    Use it for one load. Offsets count rows.
    """

    format = "mysql"
    reading: Mapping[str, Any] = MappingProxyType({})
    passes_through = False
    declares_columns = True
    repeatable = True
    can_reopen = True
    is_live = True
    size: int | None = None
    row_count: int | None = None

    def __init__(
        self,
        address: Address,
        query: str | None = None,
        *,
        null_invalid: bool = False,
        session: Session | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """`session` is one that others use too, before and after; `fingerprint` is what the ledger
        is to know the table by, which must then be loaded whole or not at all."""
        if (query is None) == (address.table is None):
            raise UsageError(
                f"{address.name}: name a table or a query, one of them",
                hint=f"{EXAMPLE}, or {EXAMPLE.split('#')[0]} and --query 'select ...'",
            )
        self.name = address.name if query is None else f"{address.name}: {shortened(query)}"
        self.identity = identity_of(address.name, query)
        self.newer: Newer | None = None
        self.greatest: str | None = None
        self.mark: Mark | None = None
        self.query = query
        self.null_invalid = null_invalid
        self.table: Table | None = None
        self.columns: list[Column] = []
        self.types: Mapping[str, str] = {}
        self.places: dict[int, Row | None] = {}  # the key of the row before an offset
        self._address = address
        self.notes: tuple[str, ...] = ()  # what a new table has not as it was
        self._given = session
        self._given_fingerprint = fingerprint
        self._session: Session | None = None
        self._was_connected = session is not None
        self._spool: Spool | None = None
        self._first: Sequence[Row] = []  # of a query, fetched to see what they are
        self._where = ""
        self._is_over = False
        self._begin_anew()

    def __repr__(self) -> str:
        return f"MysqlSource({self.name!r})"

    def _begin_anew(self) -> None:
        """What is read from now on is another content than before."""
        self._fingerprint = (
            self._given_fingerprint or hashlib.sha256(uuid.uuid4().bytes).hexdigest()
        )
        self._is_lost = False
        self.places = {0: None}
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self._leave()

    def _leave(self) -> None:
        if self._session is not None and self._session is not self._given:
            self._session.close()
        self._session = None

    def session(self) -> Session:
        """The connection in its snapshot."""
        if self._is_over:
            raise UsageError(f"{self.name}: the source was closed")
        if self._session is None:
            if self._given is not None and not self._given.is_lost:
                self._session = self._given
            else:
                self._session = Session(
                    self._address,
                    self.name,
                    own_queries=self.query is None,
                    again=self._was_connected,
                )
            self._was_connected = True
            try:
                self._look()
            except BaseException:
                self._begin_anew()
                raise
        return self._session

    def ask(self, newer: Newer) -> None:
        """Ask only for newer rows, from the next snapshot on."""
        if self._session is None or self._is_lost:
            self.newer = newer

    def _newer_rows(self, rows: str) -> str:
        """The condition for what is asked of a table or a query, with WHERE; empty for all."""
        session, newer = self._session, self.newer
        if session is None or newer is None:
            return ""
        self.columns = session.description(f"select * from {rows} limit 0")
        newer.check([column.name for column in self.columns], self.name)
        kind = next(column.type for column in self.columns if column.name == newer.column)
        column = quoted(newer.column)
        if newer.strictly and session.ask(f"select 1 from {rows} where {column} is null limit 1"):
            raise newer.refuse_null(self.name)
        # A float is written with six digits, which are not all it has.
        exact = f"max({column} + 0e0)" if kind == FLOAT else f"max({column})"
        [(value,)] = session.ask(f"select {exact} from {rows}")
        self.greatest = None if value is None else text(value)
        condition = newer.condition(
            column,
            self.name,
            is_number=kind in NUMBERS,
            literal=lambda value: session.literal(value.encode()),
        )
        return "" if condition is None else f" where {condition}"

    def _look(self) -> None:
        assert self._session is not None
        if self.query is not None:
            asked = self.query
            if self.newer is not None:
                rows = f"(\n{asked.strip().rstrip(';')}\n) as sqlkit_query"
                asked = f"select * from {rows}{self._newer_rows(rows)}"
            self.columns = self._session.description(asked)
            names = [column.name for column in self.columns]
            if len(set(names)) < len(names):
                raise SourceError(
                    "the query names a column twice",
                    source=self.name,
                    code="SK111",
                    detail=", ".join(names),
                    hint="Give each a name of its own: select a.id, b.id as b_id ...",
                )
            self._first = self._session.fetch()
            self.types = {
                column.name: column_type(column, (row[position] for row in self._first))
                for position, column in enumerate(self.columns)
            }
            return
        assert self._address.table is not None
        self.table = look_up(self._session, self._address.database, self._address.table)
        self._where = self._newer_rows(self.table.quoted)
        self.columns = self._session.description(
            f"select {self.table.selected(self.table.names)} from {self.table.quoted} limit 0"
        )
        for column, known in zip(self.columns, self.table.columns, strict=True):
            column.takes_empty = known.kind == "enum" and "" in known.labels
        self.types = self.table.types
        if not self.is_by_key:
            self._session.description(self._whole_table(self.table.names))

    def _whole_table(self, names: Sequence[str]) -> str:
        assert self.table is not None
        return f"select {self.table.selected(names)} from {self.table.quoted}{self._where}"

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> MysqlReader:
        """Open it, or go on at a point that an earlier reader of the same snapshot has given."""
        if self._is_lost:
            self._begin_anew()
        self.session()
        if resume is not None and self.is_by_key and resume.offset not in self.places:
            raise SourceError(
                "the place where it is to go on is not in this snapshot",
                source=self.name,
                code="SK103",
            )
        return MysqlReader(self, resume, database_encoding)

    @property
    def is_by_key(self) -> bool:
        """Whether it is read by ranges of a key; not where a few rows are asked for by another."""
        return self.table is not None and self.table.key is not None and not self._where

    def spooled(self, wanted: Sequence[WantedColumn]) -> Spool:
        """The rows of a query or of a table without key, each read once."""
        if self._spool is None:
            session = self.session()
            positions = [column.name for column in self.columns]
            taken = [positions.index(want.name) for want in wanted]
            encoder = Encoder(
                [self.columns[position] for position in taken],
                wanted,
                null_invalid=self.null_invalid,
            )
            is_whole = taken == list(range(len(self.columns)))

            def make(line: int) -> Made | None:
                with self.watched():
                    rows = self._first or session.fetch()
                self._first = []
                if not rows:
                    return None
                if not is_whole:
                    rows = [tuple(row[position] for position in taken) for row in rows]
                data, bad = encoder.rows(rows, line)
                return Made(data, len(rows), bad)

            self._spool = Spool(make)
        return self._spool

    def watched(self) -> _Watched:
        """Reading: when the connection is lost in it, the snapshot is lost too."""
        return _Watched(self)

    def lose(self) -> None:
        """The connection was lost: whoever opens it again begins with a new snapshot."""
        self._is_lost = True

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
        """The load is over: the session's settings are put back, and the connection is closed."""
        self._is_over = True
        self._leave()
        if self._spool is not None:
            self._spool.close()


class _Watched:
    def __init__(self, source: MysqlSource) -> None:
        self._source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LostSourceError):
            self._source.lose()


Content = tuple[Sequence[Row], Row | None]
"""Rows, and the key of the last of them."""


class MysqlReader(BlockReader["Made | Content"]):
    """A table or query, opened (see `base.Reader`)."""

    def __init__(
        self, source: MysqlSource, resume: ResumePoint | None, database_encoding: str
    ) -> None:
        super().__init__(resume, database_encoding)
        self._source = source
        self._encoder: Encoder | None = None
        self._last: Row | None = None
        self.columns = tuple(column.name for column in source.columns)
        self.column_types = source.types

    @property
    def fingerprint(self) -> str | None:
        """That of the snapshot, once all of it was read."""
        return self._source.fingerprint() if self.is_at_end else None

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """Nothing is to be found out: every column has its type."""
        return []

    def new_table(
        self,
        into: str,
        *,
        key: Sequence[str],
        renamed: Mapping[str, str],
        chosen: Sequence[str],
        left_out: Sequence[str],
    ) -> NewTable | None:
        """The table that stands for MySQL's (see `adapter`)."""
        source = self._source
        if source.table is None:
            return None
        made = make_table(
            into,
            source.table,
            key,
            Naming(renamed, chosen, left_out),
            null_invalid=source.null_invalid,
        )
        source.notes = made.notes
        return made

    def _blocks(
        self,
        wanted: tuple[WantedColumn, ...],
        ignored: frozenset[str] | None,
        piece_bytes: int,
    ) -> Iterator[Block[Made | Content]]:
        source = self._source
        if not source.is_by_key:
            for made in source.spooled(wanted).blocks(self._start):
                yield Block(made.start, made.end, made.line, made.rows, made.content)
            return
        assert source.table is not None
        assert source.table.key is not None
        by_name = {column.name: column for column in source.columns}
        self._encoder = Encoder(
            [by_name[want.name] for want in wanted], wanted, null_invalid=source.null_invalid
        )
        yield from self._ranges(source.table, source.table.key, wanted)

    def _ranges(
        self, table: Table, key: Key, wanted: tuple[WantedColumn, ...]
    ) -> Iterator[Block[Made | Content]]:
        source = self._source
        session = source.session()
        names = [want.name for want in wanted]
        # Behind the wanted columns stand those of the key that nobody wants.
        names += [name for name in key.names if name not in names]
        key_at = [names.index(name) for name in key.names]
        most = max(LEAST_ROWS, min(RANGE_BYTES // max(1, table.row_bytes), MOST_ROWS))
        last = source.places[self._start]
        offset = self._start
        while True:
            statement = (
                f"select {table.selected(names)} from {table.quoted} "
                f"force index ({key.index}){key.after(last, session)} "
                f"order by {key.order} limit {most}"
            )
            found = 0
            with source.watched():
                for rows in session.rows(statement):
                    found += len(rows)
                    last = tuple(rows[-1][position] for position in key_at)
                    end = offset + len(rows)
                    yield Block(offset, end, offset + 1, len(rows), (rows, last))
                    offset = end
            if found < most:
                return

    def _made(self, block: Block[Made | Content]) -> tuple[bytes, Sequence[BadRow]]:
        if isinstance(block.content, Made):
            return block.content.data, block.content.bad
        assert self._encoder is not None
        rows, last = block.content
        self._last = last
        return self._encoder.rows(rows, block.line)

    def _rows(self, block: Block[Made | Content], wanted: tuple[WantedColumn, ...]) -> bytes:
        data, bad = self._made(block)
        for row in bad:
            raise row.as_error(self._source.name)
        return data

    def _single_rows(self, block: Block[Made | Content], wanted: tuple[WantedColumn, ...]) -> bytes:
        data, bad = self._made(block)
        return self._singly(data, block, wanted, bad)

    def _resume_at(self, offset: int, line: int) -> ResumePoint:
        if self._source.is_by_key:
            self._source.places[offset] = self._last
        return ResumePoint(offset, line, 0, _NOTHING)
