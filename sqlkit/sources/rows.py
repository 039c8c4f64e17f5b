"""Rows from Python: any iterable, or async iterable, of mappings, tuples or objects with fields.

Rows are taken and made text a block at a time, in the thread that reads ahead, each once and
column by column (`text_rows`). An iterable can be gone through only once: what was made of it is
kept on disk until it is committed (`spool`), so that a load of rows does all that a load of files
does: refused rows are found one by one, and a lost connection is waited for.

Errors (`SourceError`): SK118 a row without the columns that it should have, a value that cannot be
loaded; SK116 a key that goes nowhere; SK101 the iterable raised an error of a database.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import itertools
import uuid
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from decimal import Decimal
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any

import psycopg

from sqlkit.errors import SourceError, SqlkitError, UsageError
from sqlkit.sources.base import ResumePoint, WantedColumn
from sqlkit.sources.blocks import Block, BlockReader
from sqlkit.sources.spool import Made, Spool, used_before
from sqlkit.sources.text_rows import (
    BadRow,
    BadValue,
    encode_columns,
    fields_of,
)

FIRST_ROWS = 100
MOST_ROWS = 5_000
BLOCK_BYTES = 512 << 10
"""Rows taken at a time: first these, then as many as make about so many bytes."""

COLUMN_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "bigint",
    float: "double precision",
    Decimal: "numeric",
    str: "text",
    bytes: "bytea",
    dt.date: "date",
    dt.time: "time",
    dt.timedelta: "interval",
    uuid.UUID: "uuid",
    dict: "jsonb",
    list: "jsonb",
}
"""The columns of a new table for values of a class (a datetime may be with or without zone)."""

_NOTHING = hashlib.sha256().hexdigest()

RowsLike = Iterable[Any] | AsyncIterable[Any]
"""Mappings, tuples, or objects with fields."""


class RowsSource:
    """An iterable of rows. Made by `sqlkit.rows`; use it for one load.

    It is given a fingerprint that no other source has: only the load that it is used for finds it
    again in the ledger.
    """

    format = "rows"
    reading: Mapping[str, Any] = MappingProxyType({})
    passes_through = False
    repeatable = True
    can_reopen = True
    is_live = False  # it is gone after a crash
    size: int | None = None

    def __init__(
        self,
        rows: RowsLike,
        *,
        columns: Sequence[str] = (),
        name: str = "rows",
        total: int | None = None,
    ) -> None:
        self.name = name
        self.row_count = total
        if total is None and isinstance(rows, Sized):
            self.row_count = len(rows)
        if not columns and getattr(rows, "description", None):
            # A cursor of any DB-API driver says what its tuples hold.
            columns = [str(column[0]) for column in rows.description]  # type: ignore[union-attr]
        self.columns = tuple(columns)
        self.declares_columns = bool(columns)
        self.spool: Spool | None = None
        self.first: list[Any] | None = None  # rows taken to see what they are, and not made yet
        self.shape: Shape | None = None
        self._block_rows = FIRST_ROWS
        self._fingerprint = hashlib.sha256(uuid.uuid4().bytes).hexdigest()
        self._rows = rows
        self._is_at_end = False
        self._is_over = False
        self._take: Callable[[int], list[Any]] | None = None
        check_iterable(rows)

    def __repr__(self) -> str:
        return f"RowsSource({self.name!r})"

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> RowsReader:
        """Open it, or go on at a point that an earlier reader has given."""
        if self.first is None:
            self.first = self.take(FIRST_ROWS)
            self.shape = Shape(self.first, self.columns, self.name)
            self.columns = self.shape.columns
            self.declares_columns = self.shape.is_complete
        return RowsReader(self, resume, database_encoding)

    def prepare(self) -> None:
        """An async iterable is gone through in the loop that this is called in, if it is in one."""
        if self._take is None:
            self._take = _taker(self._rows)

    def take(self, number: int) -> list[Any]:
        """The next rows, fewer only at the end."""
        self.prepare()
        assert self._take is not None
        if self._is_at_end:
            return []
        try:
            found = self._take(number)
        except (psycopg.Error, SqlkitError) as error:
            # Not to be mistaken for one of the target's, not even as a cause.
            raise SourceError(
                f"the rows ended with an error: {error}",
                source=self.name,
                hint="It comes from where the rows come from, not from the target.",
            ) from None
        self._is_at_end = len(found) < number
        return found

    def spooled(self, wanted: tuple[WantedColumn, ...], ignored: frozenset[str] | None) -> Spool:
        """The rows as blocks of these columns."""
        if self.spool is None:
            self.spool = Spool(lambda line: self._make(line, wanted, ignored))
        return self.spool

    def _make(
        self, line: int, wanted: Sequence[WantedColumn], ignored: frozenset[str] | None
    ) -> Made | None:
        rows, self.first = self.first or self.take(self._block_rows), []
        if not rows:
            return None
        assert self.shape is not None
        try:
            bad: list[BadRow] = []
            data = encode_columns(self.shape.values(rows, wanted, ignored), wanted)
        except BadValue:
            data, bad = self._one_by_one(rows, line, wanted, ignored)
        # As many rows as make a block of the size that is wanted, growing by steps.
        fitting = len(rows) * BLOCK_BYTES // max(1, len(data))
        self._block_rows = max(1, min(fitting, 8 * self._block_rows, MOST_ROWS))
        return Made(data, len(rows), bad)

    def _one_by_one(
        self,
        rows: list[Any],
        line: int,
        wanted: Sequence[WantedColumn],
        ignored: frozenset[str] | None,
    ) -> tuple[bytes, list[BadRow]]:
        assert self.shape is not None
        good: list[bytes] = []
        bad: list[BadRow] = []
        for position, row in enumerate(rows):
            try:
                good.append(encode_columns(self.shape.values([row], wanted, ignored), wanted))
            except BadValue as error:
                bad.append(BadRow(line + position, row, error))
        return b"".join(good), bad

    def head_sha256(self) -> str:
        """As `fingerprint`."""
        return self._fingerprint

    def fingerprint(self) -> str:
        """What only this source has; nothing is read for it."""
        if self._is_over:
            raise used_before(self.name)
        return self._fingerprint

    def version(self) -> None:
        """There is none."""

    def release(self) -> None:
        """What is kept goes when the load is over: see `close`."""

    def forget(self, offset: int) -> None:
        """What stands before `offset` is committed, and kept until a crash cannot undo that."""
        if self.spool is not None:
            self.spool.forget_later(offset)

    def close(self) -> None:
        """The load is over."""
        self._is_over = True
        if self.spool is not None:
            self.spool.close()


def rows(
    rows: RowsLike,
    *,
    columns: Sequence[str] = (),
    name: str = "rows",
    total: int | None = None,
) -> RowsSource:
    """Rows as a source for `Client.load`, under a `name` that the ledger and errors call them by.

    `columns` names what tuples hold, or which keys and fields to load; `total` is the number of
    rows, for the progress, where the iterable does not know it. Raises UsageError for what is no
    iterable of rows.
    """
    return RowsSource(rows, columns=columns, name=name, total=total)


class RowsReader(BlockReader[Made]):
    """Rows from Python, opened (see `base.Reader`)."""

    def __init__(
        self, source: RowsSource, resume: ResumePoint | None, database_encoding: str
    ) -> None:
        super().__init__(resume, database_encoding)
        assert source.shape is not None
        self._source = source
        self.columns = source.columns
        self.column_types = source.shape.types
        self.knows_absent = source.shape.has_keys

    @property
    def fingerprint(self) -> str | None:
        """That of the source, once all of it was read."""
        return self._source.fingerprint() if self.is_at_end else None

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """The first rows as text, null as None, without consuming them."""
        source = self._source
        assert source.shape is not None
        wanted = [WantedColumn(name) for name in self.columns]
        found: list[tuple[str | None, ...]] = []
        for row in (source.first or [])[:rows]:
            try:
                text = encode_columns(source.shape.values([row], wanted, None), wanted)
            except BadValue:
                continue  # said when it is loaded
            found.append(tuple(fields_of(text[:-1])))
        return found

    def _blocks(
        self,
        wanted: tuple[WantedColumn, ...],
        ignored: frozenset[str] | None,
        piece_bytes: int,
    ) -> Iterator[Block[Made]]:
        return self._source.spooled(wanted, ignored).blocks(self._start)

    def _rows(self, block: Block[Made], wanted: tuple[WantedColumn, ...]) -> bytes:
        for bad in block.content.bad:
            raise bad.as_error(self._source.name)
        return block.content.data

    def _single_rows(self, block: Block[Made], wanted: tuple[WantedColumn, ...]) -> bytes:
        made = block.content
        return self._singly(made.data, block, wanted, made.bad)

    def _resume_at(self, offset: int, line: int) -> ResumePoint:
        return ResumePoint(offset, line, 0, _NOTHING)


class Shape:
    """How values are got out of rows, found out from the first of them.

    Mappings have the columns that their keys say, of all first rows; a later key is an error unless
    it is wanted or may be left out, and one that is absent is null. Objects have the columns of the
    first one's class, and tuples those that were named.
    """

    def __init__(self, first: Sequence[Any], columns: Sequence[str], source: str) -> None:
        row = first[0] if first else {}
        self.is_complete = True
        self.has_keys = False  # of which a row may lack some
        names = _field_names(row)
        if isinstance(row, Mapping):
            self.has_keys = True
            self.is_complete = bool(columns)
            keys = dict.fromkeys(itertools.chain.from_iterable(first)) if first else {}
            self.columns = tuple(columns) or tuple(keys)
        elif isinstance(row, tuple | list):
            self.columns = tuple(columns or names or ())
            if not self.columns:
                raise UsageError(
                    f"{source}: a {type(row).__name__} does not say what its values are",
                    hint="Name the columns, in their order: columns=('id', 'name').",
                )
        elif names is not None:
            self.columns = tuple(columns) or names
        else:
            raise UsageError(
                f"{source}: a {type(row).__name__} is no row",
                hint="Rows are mappings, tuples (with columns=), or objects of dataclasses, "
                "pydantic, attrs or msgspec.",
            )
        for name in self.columns:
            if not isinstance(name, str):
                raise UsageError(f"{source}: the key {name!r} is not a text, so no column either")
        self.types = self._find_types(first)
        self._is_sequence = isinstance(row, tuple | list)
        self._positions = {name: position for position, name in enumerate(self.columns)}

    def _find_types(self, first: Sequence[Any]) -> dict[str, str]:
        """The types of the columns whose values are all of one class that has one."""
        found: dict[str, str] = {}
        wanted = [WantedColumn(name) for name in self.columns]
        try:
            columns = self.values(first, wanted, None)
        except BadValue:
            return found
        for name, values in zip(self.columns, columns, strict=True):
            kinds = set(map(type, values)) - {type(None)}
            if len(kinds) == 1 and (known := COLUMN_TYPES.get(kinds.pop())):
                found[name] = known
        return found

    def values(
        self,
        rows: Sequence[Any],
        wanted: Sequence[WantedColumn],
        ignored: frozenset[str] | None,
    ) -> list[list[Any]]:
        """The wanted columns of some rows. Raises BadValue."""
        if wanted and wanted[-1].tells_absent:
            looked_for = wanted[-1].tells_absent
            columns = self.values(rows, wanted[:-1], ignored)
            absent = [[called for key, called in looked_for if key not in row] for row in rows]
            return [*columns, [names or None for names in absent]]
        names = [column.name for column in wanted]
        try:
            if any(column.takes_rest for column in wanted):
                return self._with_rest(rows, wanted, ignored)
            if self.has_keys:
                return self._by_keys(rows, names, ignored)
            if self._is_sequence:
                width = len(self.columns)
                if set(map(len, rows)) != {width}:
                    odd = next(row for row in rows if len(row) != width)
                    raise BadValue(f"{len(odd)} values where there should be {width}")
                return [list(map(itemgetter(self._positions[name]), rows)) for name in names]
            return [list(map(attrgetter(name), rows)) for name in names]
        except (TypeError, AttributeError, KeyError, IndexError) as error:
            raise BadValue(f"not a row like the first one: {error}") from None

    def _by_keys(
        self, rows: Sequence[Any], names: list[str], ignored: frozenset[str] | None
    ) -> list[list[Any]]:
        try:
            columns = [list(map(itemgetter(name), rows)) for name in names]
            if ignored is None or sum(map(len, rows)) == len(rows) * len(names):
                return columns
        except KeyError:
            columns = [[row.get(name) for row in rows] for name in names]
        if ignored is not None:
            allowed = ignored.union(names)
            for row in rows:
                if not allowed.issuperset(row):
                    unknown = next(key for key in row if key not in allowed)
                    error = BadValue(f"the key {unknown!r} was not seen before and goes nowhere")
                    error.code = "SK116"
                    error.hint = (
                        "Leave it out (leave_out=[name], or ['*'] for all such keys), or name the "
                        "keys to load with columns=."
                    )
                    raise error
        return columns

    @staticmethod
    def _with_rest(
        rows: Sequence[Any], wanted: Sequence[WantedColumn], ignored: frozenset[str] | None
    ) -> list[list[Any]]:
        names = [column.name for column in wanted if not column.takes_rest]
        taken = (ignored or frozenset()).union(names)
        # Where nothing else is wanted, it is the record itself, which may be empty.
        empty: dict[str, Any] | None = None if names else {}
        rest = [
            {key: value for key, value in row.items() if key not in taken} or empty for row in rows
        ]
        return [
            rest if column.takes_rest else [row.get(column.name) for row in rows]
            for column in wanted
        ]


def _field_names(row: Any) -> tuple[str, ...] | None:
    kind = type(row)
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    for attribute in ("model_fields", "__struct_fields__", "_fields"):  # pydantic, msgspec, tuples
        found = getattr(kind, attribute, None)
        if found is not None:
            return tuple(found)
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else tuple(field.name for field in attributes)


def check_iterable(rows: object) -> None:
    """Raises UsageError for what cannot be an iterable of rows."""
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable | AsyncIterable):
        raise UsageError(
            f"a {type(rows).__name__} is no iterable of rows",
            hint="Give an iterable of mappings, tuples or objects; of a single row: [row].",
        )


def _taker(rows: RowsLike) -> Callable[[int], list[Any]]:
    if isinstance(rows, AsyncIterable):
        return _AsyncTaker(rows).take
    iterator: Iterator[Any] | None = None

    def take(number: int) -> list[Any]:
        nonlocal iterator
        if iterator is None:
            iterator = iter(rows)
        return list(itertools.islice(iterator, number))

    return take


class _AsyncTaker:
    """Takes from an async iterable, in the event loop that it was made in, or one of its own."""

    def __init__(self, rows: AsyncIterable[Any]) -> None:
        self._rows = rows
        self._iterator: AsyncIterator[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_own = False
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._is_own = True

    async def _some(self, number: int) -> list[Any]:
        if self._iterator is None:
            self._iterator = aiter(self._rows)
        found: list[Any] = []
        while len(found) < number:
            try:
                found.append(await anext(self._iterator))
            except StopAsyncIteration:
                break
        return found

    def take(self, number: int) -> list[Any]:
        """The next rows. Blocks; not to be called in the loop's own thread."""
        if self._is_own:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            found = self._loop.run_until_complete(self._some(number))
            if len(found) < number:
                self._loop.close()
            return found
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self._some(number), self._loop).result()
