"""Tables and queries of DuckDB and SQLite: files that hold a database, read as batches of Arrow.

DuckDB gives Arrow itself, SQLite by its ADBC driver. What is not wanted is left out by the query,
which is written around the caller's once it is known.

Errors (`SourceError`): SK101 the database refuses; SK102 there is no such file; SK125 a column by
which newer rows are not known.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlkit.errors import SourceError, UsageError

try:
    import pyarrow as pa
except ImportError:
    raise UsageError("Databases need pyarrow", hint="pip install 'sqlkit[parquet]'") from None

from sqlkit.sources.addresses import shortened
from sqlkit.sources.arrow import ArrowReader, ArrowStreamSource
from sqlkit.sources.base import ResumePoint
from sqlkit.sources.newer import Mark, Newer, identity_of, with_condition
from sqlkit.sources.queries import QueryReader

_NUMBERS = re.compile(r"integer|real|U?[A-Z]*INT(EGER)?|DECIMAL.*|DOUBLE|FLOAT")
"""What SQLite and DuckDB call types of numbers."""


def source_of(text: str, query: str | None, *, null_invalid: bool = False) -> QuerySource:
    """The source that an address names: duckdb:///folder/file#schema.table. Raises UsageError."""
    scheme, _, rest = text.partition("://")
    path, _, table = rest.partition("#")
    path, table = unquote(path), unquote(table)
    name = f"{scheme}://{path}"
    if (query is None) == (not table):
        raise UsageError(
            f"{name}: name a table or a query, one of them",
            hint=f"{name}#table, or {name} and --query 'select ...'",
        )
    if not Path(path).is_file():
        raise SourceError(
            "there is no such file",
            source=name,
            code="SK102",
            hint=f"It was looked for at {Path(path).absolute()}: with two slashes a path is "
            "relative, with three absolute.",
        )
    asked = f"select * from {_quoted(table)}" if query is None else query  # noqa: S608 - quoted
    shown = f"{name}#{table}" if query is None else f"{name}: {shortened(query)}"
    identity = identity_of(name if query is not None else shown, query)
    return QuerySource(_Question(scheme, path, asked, shown), shown, identity)


class QuerySource(ArrowStreamSource):
    """A table or query of a database, whose answer is read once. Use it for one load."""

    is_live = True

    def __init__(self, question: _Question, name: str, identity: str) -> None:
        super().__init__(question, name=name)
        self.identity = identity
        self.mark: Mark | None = None
        self.columns: tuple[str, ...] = ()
        self.types: Mapping[str, str] = {}
        self._question = question

    @property
    def newer(self) -> Newer | None:
        """What it was asked for."""
        return self._question.newer

    @property
    def greatest(self) -> str | None:
        """The greatest value of the column asked for, once it was opened."""
        return self._question.greatest

    def ask(self, newer: Newer) -> None:
        """Ask only for newer rows, unless they were asked for already."""
        if "_batches" not in self.__dict__:
            self._question.newer = newer

    def close(self) -> None:
        """The load is over, or was not begun: the database is closed."""
        super().close()
        self._question.close()

    def filter(self, condition: str) -> None:
        """Ask only for rows for which a condition holds."""
        self._question.where = condition
        self.identity = with_condition(self.identity, condition)

    def open(  # type: ignore[override]
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> QueryReader:
        """Open it, or go on at a point that an earlier reader has given."""
        if not self.columns:
            reader = super().open(database_encoding=database_encoding)
            self.columns, self.types = reader.columns, reader.column_types
        return QueryReader(self, database_encoding, resume)

    def answer(self, names: Sequence[str] | None) -> _Answer:
        """The rows, of some columns only if they are asked for before any was read."""
        question = self._question
        if names and question.names is None and set(names) < set(self.columns):
            self._batches.spool.close()
            question.close()
            question.names = tuple(names)
            del self._batches  # asks anew
        return _Answer(super().open)


@dataclass(frozen=True)
class _Answer:
    open: Callable[..., ArrowReader]


class _Question:
    """A query that is asked when its rows are."""

    def __init__(self, scheme: str, path: str, query: str, name: str) -> None:
        self._scheme = scheme
        self._path = path
        self._query = query
        self._name = name
        self._opened = contextlib.ExitStack()
        self.newer: Newer | None = None
        self.greatest: str | None = None
        self.where: str | None = None
        self.names: tuple[str, ...] | None = None  # of the columns that are wanted, if not all

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        schema, batches = self._telling()
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        return reader.__arrow_c_stream__(requested_schema)

    def _telling(self) -> tuple[pa.Schema, Any]:
        try:
            reader = self._duckdb() if self._scheme == "duckdb" else self._sqlite()
        except ImportError as missing:
            raise UsageError(
                f"{self._scheme}:// needs {missing.name}",
                hint=f"pip install 'sqlkit[{self._scheme}]'",
            ) from None
        except (SourceError, UsageError):
            self._opened.close()
            raise
        except Exception as error:  # noqa: BLE001  (every driver has its own)
            self._opened.close()
            raise SourceError(
                f"the database says: {_first_line(error)}", source=self._name
            ) from None

        def batches() -> Any:
            with self._opened:
                yield from reader

        return reader.schema, batches()

    def _duckdb(self) -> Any:
        import duckdb

        connection = self._opened.enter_context(duckdb.connect(self._path, read_only=True))
        connection.execute("set preserve_insertion_order = true")
        # As a relation it is read as a stream; what `execute` gives is in memory first.
        found: Any = connection.sql(self._rows(connection.cursor()))
        if found is None:
            raise SourceError("the query has no rows to give", source=self._name)
        # Its name since DuckDB 1.4, and before.
        read = getattr(found, "to_arrow_reader", None) or found.fetch_arrow_reader
        return read(100_000)

    def _sqlite(self) -> Any:
        from adbc_driver_sqlite import dbapi

        # With an empty host, which a path that begins with two slashes would give else.
        uri = f"file://{quote(str(Path(self._path).absolute()))}?mode=ro"
        connection = self._opened.enter_context(dbapi.connect(uri))
        cursor = self._opened.enter_context(connection.cursor())
        # One transaction, so that what is read is what was asked for its greatest value.
        cursor.execute(self._rows(cursor))
        return cursor.fetch_record_batch()

    def _rows(self, cursor: Any) -> str:
        """The query, as far as its rows and columns are asked for."""
        if self.newer is None and self.where is None and self.names is None:
            return self._query
        rows = f"(\n{self._query.strip().rstrip(';')}\n) as sqlkit_query"
        if self.where is not None:
            # It may end in a comment.
            rows = f"(select * from {rows} where (\n{self.where}\n)) as sqlkit_rows"  # noqa: S608
        where = "" if self.newer is None else self._newer_rows(cursor, rows, self.newer)
        columns = "*" if self.names is None else ", ".join(map(_quoted_name, self.names))
        return f"select {columns} from {rows}{where}"  # noqa: S608 - quoted, and the caller's query

    def _newer_rows(self, cursor: Any, rows: str, newer: Newer) -> str:
        def ask(what: str) -> Any:
            cursor.execute(f"select {what}")
            return cursor

        described = ask(f"* from {rows} limit 0").description
        newer.check([column[0] for column in described], self._name)
        column = _quoted_name(newer.column)
        if newer.strictly and ask(f"1 from {rows} where {column} is null limit 1").fetchone():
            raise newer.refuse_null(self._name)
        kind, text, value = ask(
            f"typeof(max({column})), cast(max({column}) as varchar), "
            f"{f'max({column})' if self._scheme == 'sqlite' else 'null'} from {rows}"
        ).fetchone()
        # SQLite writes but fifteen digits.
        self.greatest = repr(value) if isinstance(value, float) else text
        condition = newer.condition(
            column,
            self._name,
            is_number=_NUMBERS.fullmatch(kind) is not None,
            literal=lambda value: "'" + value.replace("'", "''") + "'",
        )
        return "" if condition is None else f" where {condition}"

    def close(self) -> None:
        """Nothing more is asked for."""
        self._opened.close()


def _quoted(table: str) -> str:
    """A name as SQL writes it, perhaps of a schema, unless it is quoted already."""
    if '"' in table:
        if re.fullmatch(r'"(?:[^"]|"")+"(?:\."(?:[^"]|"")+")*', table) is None:
            raise UsageError(f"{table} is no name of a table", hint='Write "a"."b".')
        return table
    return ".".join(f'"{part}"' for part in table.split("."))


def _quoted_name(column: str) -> str:
    doubled = column.replace('"', '""')
    return f'"{doubled}"'


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
