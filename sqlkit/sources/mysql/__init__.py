"""Tables and queries of MySQL and MariaDB.

A load sees one consistent snapshot, from its first row to its last. A table with a key is read by
ranges of it: each query begins after the last key of the one before, has a limit, and is answered
from the index, so that no query runs for hours and any piece can be read again as long as the
snapshot lives. Where the key begins with an integer, a large table is read by as many connections
as there are workers, in one snapshot if that can be had, else by one. Other tables, queries, and
rows under a condition are read once, and kept on disk until they are committed (`spool`).

A snapshot cannot be had again. When the connection to the source is lost, the next attempt takes a
new one and begins with its first row; so does the next run after this one was killed. Policies that
compare with what is there end in the same state; append and error, which do not, commit a snapshot
as a whole (`is_live`, see `base.Source`).

Errors (`SourceError`): those of `session`; SK103 a place that is not in this snapshot; SK111 a name
that two columns have; SK118 a value that cannot be loaded.
"""

from __future__ import annotations

import contextlib
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
from sqlkit.sources.mysql.catalog import Table, column_type, look_up, quoted
from sqlkit.sources.mysql.ranges import SPREAD_BYTES, RangeQuery
from sqlkit.sources.mysql.rows import FLOAT, NUMBERS, Encoder
from sqlkit.sources.mysql.session import Column, Row, Session, begin_at_once, text
from sqlkit.sources.newer import Mark, Newer, identity_of, with_condition
from sqlkit.sources.spool import Made, Spool

__all__ = ["MysqlSource", "source_of"]

SPREAD_PATIENCE = 1
"""Seconds for which writers are waited for, so that a table may be read by several connections."""

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
        self._condition: str | None = None
        self._where = ""  # what is asked of a table, with WHERE
        self._workers = 1
        self._more: list[Session] = []  # in the same snapshot
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
        for session in self._more:
            session.close()
        self._more.clear()

    def spread(self, workers: int) -> None:
        """So many connections may read at once."""
        self._workers = workers

    def filter(self, condition: str) -> None:
        """Ask only for rows for which a condition holds."""
        self._condition = f"(\n{condition}\n)"  # it may end in a comment
        self.identity = with_condition(self.identity, condition)

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
                    begun=False,
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

    def _conditions(self, session: Session, rows: str) -> str:
        """What is asked of a table or a query, with WHERE; empty for all rows."""
        asked = [] if self._condition is None else [self._condition]
        newer = self.newer
        if newer is not None:
            where = f" where {self._condition}" if self._condition else ""
            self.columns = session.description(f"select * from {rows} limit 0")
            newer.check([column.name for column in self.columns], self.name)
            kind = next(column.type for column in self.columns if column.name == newer.column)
            column = quoted(newer.column)
            if newer.strictly:
                both = f"{where} and" if where else " where"
                if session.ask(f"select 1 from {rows}{both} {column} is null limit 1"):
                    raise newer.refuse_null(self.name)
            # A float is written with six digits, which are not all it has.
            exact = f"max({column} + 0e0)" if kind == FLOAT else f"max({column})"
            [(value,)] = session.ask(f"select {exact} from {rows}{where}")
            self.greatest = None if value is None else text(value)
            condition = newer.condition(
                column,
                self.name,
                is_number=kind in NUMBERS,
                literal=lambda value: session.literal(value.encode()),
            )
            if condition is not None:
                asked.append(condition)
        return " where " + " and ".join(asked) if asked else ""

    def _look(self) -> None:
        session = self._session
        assert session is not None
        if self.query is not None:
            self._begin(session)
            asked = self.query
            if self.newer is not None or self._condition is not None:
                rows = f"(\n{asked.strip().rstrip(';')}\n) as sqlkit_query"
                asked = f"select * from {rows}{self._conditions(session, rows)}"
            self.columns = session.description(asked)
            names = [column.name for column in self.columns]
            if len(set(names)) < len(names):
                raise SourceError(
                    "the query names a column twice",
                    source=self.name,
                    code="SK111",
                    detail=", ".join(names),
                    hint="Give each a name of its own: select a.id, b.id as b_id ...",
                )
            self._first = session.fetch()
            self.types = {
                column.name: column_type(column, (row[position] for row in self._first))
                for position, column in enumerate(self.columns)
            }
            return
        assert self._address.table is not None
        table = self.table = look_up(session, self._address.database, self._address.table)
        self._begin(session, table)
        self._where = self._conditions(session, table.quoted)
        self.columns = session.description(
            f"select {table.selected(table.names)} from {table.quoted} limit 0"
        )
        for column, known in zip(self.columns, table.columns, strict=True):
            column.takes_empty = known.kind == "enum" and "" in known.labels
        self.types = table.types
        if not self.is_by_key:
            session.description(self._whole_table(table.names))

    def _begin(self, session: Session, table: Table | None = None) -> None:
        """Take the snapshot; of a large table on several connections, if all can have the same."""
        if session is self._given:
            return
        more: list[Session] = []
        is_worth_it = (
            table is not None
            and table.bytes >= SPREAD_BYTES
            and (table.key is not None and table.key.begins_with_integer)
            and (self.newer is None and self._condition is None)
        )
        try:
            if table is not None and is_worth_it and self._workers > 1:
                with contextlib.suppress(SourceError):  # no more are to be had
                    while len(more) < self._workers:
                        more.append(self._another())
            if table is None or len(more) < 2:
                session.begin()
                return
            locking = more.pop()
            try:
                is_one = begin_at_once(
                    [session, *more], locking, [table.quoted], patience=SPREAD_PATIENCE
                )
            finally:
                locking.close()
            if is_one:
                self._more, more = more, []
        finally:
            for other in more:
                other.close()

    def _another(self) -> Session:
        return Session(self._address, self.name, own_queries=True, again=False, begun=False)

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

    def ranges(self, wanted: Sequence[WantedColumn], offset: int) -> Iterator[tuple[Made, Row]]:
        """The rows of a table from an offset on, in the order of its key."""
        assert self.table is not None
        assert self.table.key is not None
        session = self.session()
        names = [want.name for want in wanted]
        by_name = {column.name: column for column in self.columns}
        encoder = Encoder([by_name[name] for name in names], wanted, null_invalid=self.null_invalid)
        # Behind the wanted columns stand those of the key that nobody wants.
        names += [name for name in self.table.key.names if name not in names]
        query = RangeQuery(self.table, self.table.key, tuple(names), encoder)
        after = self.places[offset]
        if self._more:
            return query.read_together([session, *self._more], after)
        return query.read(session, after=after)

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


Content = tuple[Made, Row | None]
"""Rows, and the key of the last of them where it is known."""


class MysqlReader(BlockReader[Content]):
    """A table or query, opened (see `base.Reader`)."""

    def __init__(
        self, source: MysqlSource, resume: ResumePoint | None, database_encoding: str
    ) -> None:
        super().__init__(resume, database_encoding)
        self._source = source
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
    ) -> Iterator[Block[Content]]:
        source = self._source
        if not source.is_by_key:
            for made in source.spooled(wanted).blocks(self._start):
                yield Block(made.start, made.end, made.line, made.rows, (made.content, None))
            return
        offset = self._start
        with source.watched():
            for rows, last in source.ranges(wanted, offset):
                for bad in rows.bad:
                    bad.line += offset + 1
                end = offset + rows.rows
                yield Block(offset, end, offset + 1, rows.rows, (rows, last))
                offset = end

    def _rows(self, block: Block[Content], wanted: tuple[WantedColumn, ...]) -> bytes:
        made, self._last = block.content
        for row in made.bad:
            raise row.as_error(self._source.name)
        return made.data

    def _single_rows(self, block: Block[Content], wanted: tuple[WantedColumn, ...]) -> bytes:
        made, self._last = block.content
        return self._singly(made.data, block, wanted, made.bad)

    def _resume_at(self, offset: int, line: int) -> ResumePoint:
        if self._source.is_by_key:
            self._source.places[offset] = self._last
        return ResumePoint(offset, line, 0, _NOTHING)
