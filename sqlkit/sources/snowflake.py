"""Tables and queries of Snowflake: ``snowflake://user@account/database/schema?warehouse=w#table``.

Its connector gives batches of Arrow. Names that nobody quoted are in upper case there, and in lower
case here. Options behind the question mark are those of `snowflake.connector.connect`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlkit.errors import UsageError
from sqlkit.sources.queries import (
    PASSWORD,
    Database,
    QuerySource,
    Secrets,
    options_of,
    password_of,
    plain,
    shown_address,
)

_FIXED = 0
"""The connector's code of NUMBER."""

EXAMPLE = "snowflake://user@account/database/schema?warehouse=w#table"


def source_of(text: str, query: str | None, *, null_invalid: bool = False) -> QuerySource:
    """The source that an address names. Raises UsageError."""
    parts = urlsplit(text)
    path = [unquote(part) for part in parts.path.split("/")[1:] if part]
    if not parts.hostname or not path or len(path) > 2:
        raise UsageError(
            "an address of Snowflake names an account, a database and perhaps a schema",
            hint=f"Write {EXAMPLE}",
        )  # without its text, which may hold a password
    secrets = Secrets()

    def connect() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions of what it stands on
            from snowflake import connector

        # The case of an account does not matter, that of what stands before @ does.
        said: dict[str, Any] = {"account": unquote(parts.netloc.rpartition("@")[2])}
        said |= dict(zip(("database", "schema"), path, strict=False))
        if parts.username is not None:
            said["user"] = unquote(parts.username)
        password = password_of(parts, secrets, "SNOWFLAKE_PASSWORD", "SNOWSQL_PWD", PASSWORD)
        if password is not None:
            said["password"] = password
        options = options_of(parts, secrets)
        said |= {name: plain(value) for name, value in options.items()}
        return connector.connect(**said)

    database = Database(
        shown_address(parts),
        connect,
        secrets,
        needs="'sqlkit[snowflake]'",
        quote='"',
        is_upper=True,
        batches=_batches,
    )
    return QuerySource(database, unquote(parts.fragment) or None, query)


class _Batches:
    """The answer, one batch at a time."""

    def __init__(self, tables: Iterator[Any], schema: Any) -> None:
        import pyarrow as pa

        # Each part of an answer has integers of the width that its own values need.
        self.schema = pa.schema(
            field.with_type(pa.int64()) if pa.types.is_integer(field.type) else field
            for field in schema
        )
        self._tables = tables

    def __iter__(self) -> Iterator[Any]:
        for table in self._tables:
            yield from table.cast(self.schema).to_batches()


def _batches(cursor: Any) -> _Batches:
    try:
        # Nanoseconds do not reach beyond the year 2262.
        tables = cursor.fetch_arrow_batches(force_microsecond_precision=True)
    except TypeError:
        tables = cursor.fetch_arrow_batches()
    first = next(tables, None)
    if first is None:
        return _Batches(iter(()), _schema_of_nothing(cursor))
    return _Batches(chain([first], tables), first.schema)


def _schema_of_nothing(cursor: Any) -> Any:
    """The schema of an answer without rows, for which the connector takes all numbers for whole."""
    import pyarrow as pa

    found = cursor.fetch_arrow_all(force_return_table=True).schema
    return pa.schema(
        field.with_type(pa.decimal128(column.precision, column.scale))
        if column.type_code == _FIXED and column.scale
        else field
        for field, column in zip(found, cursor.description, strict=True)
    )
