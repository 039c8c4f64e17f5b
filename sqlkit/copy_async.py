"""COPY into a table, by messages of a size that suits both sides; plain INSERTs to compare with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncCopy, AsyncCursor, sql
from psycopg.generators import copy_end
from psycopg.pq import TransactionStatus

from sqlkit.sources.base import CopyFormat
from sqlkit.sources.copied import rows_of

MESSAGE_BYTES = 256 << 10
"""Bytes of a piece that are sent to the server in one message."""

INSERTED_ROWS = 1000
MOST_PARAMETERS = 65_000
"""Of one INSERT, where COPY is not to be used."""


@asynccontextmanager
async def copying_async(
    cursor: AsyncCursor[Any], statement: sql.Composed
) -> AsyncIterator[AsyncCopy]:
    """COPY, which does not go on when its block ends, whatever ends it."""
    try:
        async with cursor.copy(statement) as copy:
            yield copy
    except ValueError as error:
        # psycopg expects one answer to the end of COPY. A proxy whose session is lost may give two.
        if not cursor.connection.broken:
            raise
        raise psycopg.OperationalError("the connection was lost during COPY") from error
    finally:
        await _end_copy(cursor.connection)


async def _end_copy(connection: AsyncConnection[Any]) -> None:
    """End a COPY that was interrupted at the very moment when it began.

    psycopg does not then, and the server would keep its locks and wait for rows. Where it cannot be
    ended, the connection is closed.
    """
    if connection.info.transaction_status == TransactionStatus.ACTIVE:
        with suppress(psycopg.Error):
            await connection.wait(copy_end(connection.pgconn, b"interrupted"))
        if connection.info.transaction_status == TransactionStatus.ACTIVE:
            await connection.close()


async def copy_to_session_async(
    connection: AsyncConnection[Any],
    table: str,
    columns: Sequence[str],
    format: CopyFormat,
    data: bytes,
) -> None:
    """COPY into a temporary table of the session."""
    statement = copy_statement(f"pg_temp.{table}", columns, format)
    async with copying_async(connection.cursor(), statement) as copy:
        await write_async(copy, data)


async def write_async(copy: AsyncCopy, data: bytes) -> None:
    """Hand bytes to COPY in messages of a size that the server takes up while the next is sent."""
    view = memoryview(data)
    for start in range(0, len(data), MESSAGE_BYTES):
        await copy.write(view[start : start + MESSAGE_BYTES])


async def insert_async(
    cursor: AsyncCursor[Any], relation: str, columns: Sequence[str], format: CopyFormat, data: bytes
) -> int:
    """What COPY would do, by plain INSERTs of many rows each: slow, to be compared with."""
    row = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(columns)))
    most = max(1, min(INSERTED_ROWS, MOST_PARAMETERS // len(columns)))
    rows = rows_of(format, data)
    inserted = 0
    while some := list(islice(rows, most)):
        statement = sql.SQL("insert into {} ({}) values {}").format(
            sql.SQL(relation),  # quoted by the server
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join([row] * len(some)),
        )
        await cursor.execute(statement, [value for values in some for value in values])
        inserted += cursor.rowcount
    return inserted


def copy_statement(
    relation: str,
    columns: Sequence[str],
    format: CopyFormat,
    *,
    freeze: bool = False,
) -> sql.Composed:
    """COPY relation (columns) FROM STDIN; `relation` comes quoted from the server."""
    options: list[sql.Composable] = [sql.SQL("format {}").format(sql.Identifier(format.format))]
    if format.format == "csv":
        options += [
            sql.SQL("quote {}").format(sql.Literal(format.quote)),
            sql.SQL("escape {}").format(sql.Literal(format.escape)),
        ]
    if format.format != "binary":
        options += [
            sql.SQL("delimiter {}").format(sql.Literal(format.delimiter)),
            sql.SQL("null {}").format(sql.Literal(format.null)),
            sql.SQL("encoding {}").format(sql.Literal(format.encoding)),
        ]
    if freeze:
        options.append(sql.SQL("freeze true"))
    return sql.SQL("copy {} ({}) from stdin ({})").format(
        sql.SQL(relation),  # quoted by the server
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(options),
    )
