"""Errors of the server as errors of sqlkit, and the settings of sqlkit's own connections."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from sqlkit.errors import DatabaseError, SourceError, SqlkitError

APPLICATION_NAME = "sqlkit"


def connection_options() -> dict[str, Any]:
    """How sqlkit opens a connection of its own.

    No prepared statements are kept, so that a transaction-pooling proxy may stand between.
    """
    return {
        "autocommit": True,
        "prepare_threshold": None,
        "fallback_application_name": APPLICATION_NAME,
        "client_encoding": "utf8",
    }


def from_psycopg(error: psycopg.Error) -> SqlkitError:
    """An error of the server or of libpq, with its SQLSTATE, as an error of sqlkit."""
    diagnosis = error.diag
    code = error.sqlstate
    message = diagnosis.message_primary or str(error).strip() or type(error).__name__
    hint = diagnosis.message_hint
    if code is None:
        code = "08006" if isinstance(error, psycopg.OperationalError) else "SK000"
        hint = hint or "The connection was lost. Run the same command again: it continues."
    elif code == "42501" and hint is None:
        hint = "Grant the role what it needs; docs/deploy.md lists it."
    elif code == "55P03" and hint is None:
        hint = "Another session holds a lock on the table. Try again, or see pg_locks."
    return DatabaseError(message, code=code, detail=diagnosis.message_detail, hint=hint)


# "COPY name, line 7, column price: "abc"": the words around it are in the server's language,
# the order is not.
_CONTEXT = re.compile(r"^COPY (?P<rest>.*)$", re.MULTILINE)
_LINE = re.compile(r"^\D*(?P<line>\d+)(?:, \S+ (?P<column>[^:]+?))?(?:[:：]\s?(?P<value>.*))?$")


def from_copy(
    error: psycopg.Error,
    *,
    source: str,
    relation: str,
    first_line: int,
    columns: dict[str, str],
) -> SqlkitError:
    """An error that COPY raised, with the line of the source, the column and the value.

    `relation` is what COPY wrote to (the bare name), `first_line` the physical line of the
    source where that COPY began; `columns` gives the source's name of each staged column.
    """
    diagnosis = error.diag
    context = diagnosis.context or ""
    if error.sqlstate is None or not error.sqlstate.startswith("22"):
        return from_psycopg(error)
    found = _CONTEXT.search(context)
    if found is None:
        return from_psycopg(error)
    place = _LINE.match(found["rest"].removeprefix(relation).lstrip(", "))
    if place is None:
        return from_psycopg(error)
    line = first_line + int(place["line"]) - 1
    column = place["column"]
    value = place["value"]
    message = diagnosis.message_primary or str(error)
    if column is not None:
        message = f"column {columns.get(column.strip(), column.strip())}: {message}"
    return SourceError(
        message,
        source=source,
        line=line,
        code=error.sqlstate,
        detail=None if value is None else f"Value or line: {value}",
        hint=_COPY_HINTS.get(error.sqlstate)
        or "Mend the line, or choose another type for the column. Nothing of the batch was kept.",
    )


_COPY_HINTS = {
    "22021": "The file is in another encoding: name it with --encoding, say cp1255 or latin-1. "
    "Nothing of the batch was kept.",
    "22P04": "The line is not formed like the others: see --delimiter, --quote and --escape. "
    "Nothing of the batch was kept.",
}
