"""Errors of the server as errors of sqlkit, and the settings of sqlkit's own connections."""

from __future__ import annotations

import os
import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from sqlkit.errors import DatabaseError, SourceError, SqlkitError

APPLICATION_NAME = "sqlkit"


# A server that is gone without a word is noticed within half a minute, not after hours.
NETWORK = {
    "connect_timeout": "15",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


def connection_options(dsn: str) -> dict[str, Any]:
    """How sqlkit opens a connection of its own to `dsn`; what is said there comes first.

    No prepared statements are kept, so that a transaction-pooling proxy may stand between.
    """
    said = conninfo_to_dict(dsn)
    if "PGCONNECT_TIMEOUT" in os.environ:
        said["connect_timeout"] = ""
    return {name: value for name, value in NETWORK.items() if name not in said} | {
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
    if hint is None and code.startswith("08") and diagnosis.severity_nonlocalized == "ERROR":
        # Our own connection still stands, and has told it.
        hint = "Another server, which a foreign table or a link leads to, does not let us in."
    elif hint is None and code.startswith(_CONNECTION_LOST):
        hint = "The connection was lost. Run the same command again: it continues."
    elif code == "42501" and hint is None:
        hint = (
            "Grant the role what it needs: SELECT, INSERT and UPDATE on the tables, and of sqlkit "
            "itself what its owner bundles by sqlkit migrate roles: grant sqlkit_loader to ROLE."
        )
    elif code == "3F000" and hint is None:
        hint = "Make it first, sqlkit psql -c 'create schema ...' for example."
    elif code == "55P03" and hint is None:
        hint = "Another session holds a lock on the table. Try again, or see pg_locks."
    elif code == "57014" and hint is None:
        hint = (
            "Somebody cancelled it, or it took longer than the statement_timeout of the role, the "
            "database or the server: PGOPTIONS='-c statement_timeout=0' lifts that for a command."
        )
    return DatabaseError(message, code=code, detail=diagnosis.message_detail, hint=hint)


# connection_exception; admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped
_CONNECTION_LOST = ("08", "57P01", "57P02", "57P03", "57P04")

# What a row can be blamed for: data exceptions and violated constraints.
_DATA_ERRORS = ("22", "23")

# "line 7, column price: "abc"": the words are in the server's language, their order is not.
_PLACE = re.compile(r"\D*(?P<line>\d+)(?P<rest>.*)", re.DOTALL)
_COLUMN = re.compile(r", \S+ (?P<column>[^:：]+)(?:[:：] ?(?P<value>.*))?", re.DOTALL)


def from_copy(
    error: psycopg.Error,
    *,
    source: str,
    relation: str,
    first_line: int,
    counts_lines: bool,
    columns: dict[str, str],
) -> SqlkitError:
    """An error that COPY raised, with the line of the source, the column and the value.

    `relation` is what COPY wrote to, as schema.table, quoted; `first_line` the physical line of the
    source where that COPY began, or the number of the record, where the reader counts no lines;
    `columns` gives the source's name of each staged column.
    """
    code = error.sqlstate
    if code is None or not code.startswith(_DATA_ERRORS):
        return from_psycopg(error)
    # COPY names the table without schema and quotes. What a trigger did stands in other lines.
    begins = f"COPY {bare_name(relation)}, "
    context = "\n" + (error.diag.context or "")
    _, found, rest = context.partition("\n" + begins)
    place = _PLACE.match(rest) if found else None
    if place is None:
        return from_psycopg(error)
    column, value = _column_and_value(place["rest"], columns)
    message = error.diag.message_primary or str(error)
    if column is not None:
        message = f"column {in_source(column, columns.get(column, column))}: {message}"
    number = first_line + int(place["line"]) - 1
    return SourceError(
        message,
        source=source,
        line=number if counts_lines else None,
        record=None if counts_lines else number,
        code=code,
        detail=error.diag.message_detail or (value and f"Value or line: {value}"),
        hint=_COPY_HINTS.get(code)
        or "Mend the line, or choose another type for the column. Nothing of the batch was kept.",
    )


def in_source(column: str, name: str) -> str:
    """A column of the target, with the source's name for it where that differs."""
    return column if column == name else f"{column} ({name} in the source)"


def _column_and_value(text: str, columns: dict[str, str]) -> tuple[str | None, str | None]:
    """Reads ``, column NAME: VALUE`` or ``: LINE``; any character may stand in a name."""
    word, _, rest = text.removeprefix(", ").partition(" ")
    if word and text.startswith(", "):
        for name in sorted(columns, key=len, reverse=True):
            after = rest.removeprefix(name)
            if after != rest and after[:1] in ("", ":", "："):
                return name, after[1:].lstrip(" ") or None
    if found := _COLUMN.match(text):
        return found["column"].strip(), found["value"]
    return None, text.lstrip(":： ") or None


def bare_name(relation: str) -> str:
    """The name without schema and quotes of a relation that is written as schema.table."""
    found = re.search(r'"((?:[^"]|"")*)"$|([^".]*)$', relation)
    assert found is not None
    return found[2] if found[1] is None else found[1].replace('""', '"')


_COPY_HINTS = {
    "22021": "The file is in another encoding: name it with --encoding, say cp1255 or latin-1. "
    "Nothing of the batch was kept.",
    "22P04": "The line is not formed like the others: see --delimiter, --quote and --escape. "
    "Nothing of the batch was kept.",
}


_LOOPBACK = ("", "localhost", "127.0.0.1", "::1")


def is_here(host: str) -> bool:
    """Whether a host, as libpq tells it, is this machine."""
    return host in _LOOPBACK or host.startswith("/")
