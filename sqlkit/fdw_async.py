"""Foreign servers: made, listed, tried, dropped."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection, sql

from sqlkit import calls_async as calls
from sqlkit.copy_async import copying_async
from sqlkit.foreign import ForeignServer


async def add_server(
    connection: AsyncConnection[Any], server: ForeignServer, password: str | None
) -> list[str]:
    """Carry out the script that makes a foreign server; its tables.

    The password goes to the server as data of COPY, which is never logged, and from there into the
    user mapping.
    """
    async with connection.transaction():
        script = await render_server(connection, server)
        await connection.execute(
            b"create temporary table sqlkit_secret (option_name text, secret text) on commit drop"
        )
        if password is not None:
            statement = sql.SQL("copy pg_temp.sqlkit_secret from stdin").format()
            async with copying_async(connection.cursor(), statement) as copy:
                await copy.write_row((server.secret_option, password))
        await connection.execute(script.encode())
        (made,) = [
            found
            for found in await calls.foreign_servers(connection)
            if found["name"] == server.name
        ]
        tables: list[str] = made["tables"]
        return tables


async def render_server(connection: AsyncConnection[Any], server: ForeignServer) -> str:
    """The script that would make a foreign server."""
    server.check()
    columns = None
    if server.like is not None:
        target = await calls.describe_target(connection, server.like)
        columns = [(column.name, column.type) for column in target.columns]
    return server.render(columns)
