"""Foreign servers: made, listed, tried, dropped."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.errors import DuplicateObject, DuplicateTable

from sqlkit import calls_async as calls
from sqlkit.connection import from_psycopg
from sqlkit.copy_async import copying_async
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.foreign import SECRETS, ForeignServer


async def add_server(
    connection: AsyncConnection[Any], server: ForeignServer, password: str | None
) -> list[str]:
    """Carry out the script that makes a foreign server; its tables.

    The password goes to the server as data of COPY, which is never logged, and from there into the
    user mapping.
    """
    async with connection.transaction():
        script = await render_server(connection, server)
        await _send_secret(connection, server.secret_option, password)
        try:
            await connection.execute(script.encode())
        except (DuplicateObject, DuplicateTable) as error:
            raise _in_the_way(error, server) from error
        await _check_tables(connection, server)
        (made,) = [
            found
            for found in await calls.foreign_servers(connection)
            if found["name"] == server.name
        ]
        tables: list[str] = made["tables"]
        return tables


def _in_the_way(error: psycopg.Error, server: ForeignServer) -> SqlkitError:
    """What is there already, and how to get past it."""
    known = from_psycopg(error)
    if isinstance(error, DuplicateTable):
        known.hint = (
            f"Its tables go to schema {server.schema or server.name}: name another one, --schema."
        )
    elif known.hint is None:
        known.hint = f"Drop it first (sqlkit fdw drop {server.name}), or choose another name."
    return known


async def _check_tables(connection: AsyncConnection[Any], server: ForeignServer) -> None:
    """Whether the other server had all tables that were named: PostgreSQL passes over the others.

    Wrappers may write names in another case.
    """
    if server.template is not None or server.kind == "file" or not server.tables:
        return
    found = {name.casefold() for name in await calls.foreign_table_names(connection, server.name)}
    if lacking := [name for name in server.tables if name.casefold() not in found]:
        where = server.remote_schema or ("public" if server.kind == "postgres" else server.database)
        raise SqlkitError(
            f"there is no table {', '.join(lacking)} in {where} of server {server.name}",
            code="42P01",
            hint="See the spelling there, and --remote-schema. Nothing was made.",
        )


async def change_password(connection: AsyncConnection[Any], name: str, password: str) -> None:
    """Put another password into our user mapping of a foreign server, as quietly as `add_server`.

    Raises UsageError if there is no such server, or none of whose users we are.
    """
    async with connection.transaction():
        wrapper = await calls.mapped_wrapper(connection, name)
        if wrapper is None:
            raise UsageError(
                f"there is no foreign server {name} of which you are a user",
                hint="Make one with sqlkit fdw add --user NAME --password-env VARIABLE.",
            )
        await _send_secret(connection, SECRETS.get(wrapper, "password"), password)
        await calls.map_user(connection, name)


async def _send_secret(connection: AsyncConnection[Any], option: str, password: str | None) -> None:
    await connection.execute(
        b"create temporary table sqlkit_secret (option_name text, secret text) on commit drop"
    )
    if password is not None:
        statement = sql.SQL("copy pg_temp.sqlkit_secret from stdin").format()
        async with copying_async(connection.cursor(), statement) as copy:
            await copy.write_row((option, password))


async def render_server(connection: AsyncConnection[Any], server: ForeignServer) -> str:
    """The script that would make a foreign server."""
    server.check()
    columns = None
    if server.like is not None:
        target = await calls.describe_target(connection, server.like)
        columns = [(column.name, column.type) for column in target.columns]
    return server.render(columns)
