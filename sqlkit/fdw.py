# Generated from sqlkit/fdw_async.py by python -m sqlkit.build; do not edit.

"""Foreign servers: made, listed, tried, dropped."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from sqlkit import calls as calls
from sqlkit.copy import copying
from sqlkit.foreign import ForeignServer


def add_server(
    connection: Connection[Any], server: ForeignServer, password: str | None
) -> list[str]:
    """Carry out the script that makes a foreign server; its tables.

    The password goes to the server as data of COPY, which is never logged, and from there into the
    user mapping.
    """
    with connection.transaction():
        script = render_server(connection, server)
        connection.execute(
            b"create temporary table sqlkit_secret (option_name text, secret text) on commit drop"
        )
        if password is not None:
            statement = sql.SQL("copy pg_temp.sqlkit_secret from stdin").format()
            with copying(connection.cursor(), statement) as copy:
                copy.write_row((server.secret_option, password))
        connection.execute(script.encode())
        (made,) = [
            found for found in calls.foreign_servers(connection) if found["name"] == server.name
        ]
        tables: list[str] = made["tables"]
        return tables


def render_server(connection: Connection[Any], server: ForeignServer) -> str:
    """The script that would make a foreign server."""
    server.check()
    columns = None
    if server.like is not None:
        target = calls.describe_target(connection, server.like)
        columns = [(column.name, column.type) for column in target.columns]
    return server.render(columns)
