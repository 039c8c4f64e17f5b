"""Tables and queries of DuckDB and SQLite: files that hold a database, read as batches of Arrow.

DuckDB gives Arrow itself, SQLite by its ADBC driver. What is not wanted is left out by the query.

Errors (`SourceError`): SK101 the database refuses; SK102 there is no such file.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlkit.errors import SourceError, UsageError

try:
    import pyarrow as pa
except ImportError:
    raise UsageError("Databases need pyarrow", hint="pip install 'sqlkit[parquet]'") from None

from sqlkit.sources.addresses import shortened
from sqlkit.sources.arrow import ArrowStreamSource


def source_of(text: str, query: str | None, *, null_invalid: bool = False) -> ArrowStreamSource:
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
            hint=f"Relative paths start from {Path.cwd()}; an absolute one has three slashes.",
        )
    asked = f"select * from {_quoted(table)}" if query is None else query  # noqa: S608 - quoted
    shown = f"{name}#{table}" if query is None else f"{name}: {shortened(query)}"
    found = ArrowStreamSource(_Question(scheme, path, asked, shown), name=shown)
    found.is_live = True
    return found


class _Question:
    """A query that is asked when its rows are."""

    def __init__(self, scheme: str, path: str, query: str, name: str) -> None:
        self._scheme = scheme
        self._path = path
        self._query = query
        self._name = name
        self._opened = contextlib.ExitStack()

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
        found: Any = connection.execute(self._query)
        # Its name since DuckDB 1.4, and before.
        read = getattr(found, "to_arrow_reader", None) or found.fetch_record_batch
        return read(100_000)

    def _sqlite(self) -> Any:
        from adbc_driver_sqlite import dbapi

        uri = f"file:{quote(str(Path(self._path).absolute()))}?mode=ro"
        connection = self._opened.enter_context(dbapi.connect(uri))
        cursor = self._opened.enter_context(connection.cursor())
        cursor.execute(self._query)
        return cursor.fetch_record_batch()

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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
