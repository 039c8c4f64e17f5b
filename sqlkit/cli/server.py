"""sqlkit up, down, status, psql."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlkit.server import Status

Dsn = Annotated[
    str | None,
    typer.Option(
        help="Connection string of the server; else SQLKIT_DSN, the PG* variables, "
        "or the embedded server of this directory.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def up(dsn: Dsn = None, as_json: Json = False) -> None:
    """Start the embedded server and deploy sqlkit in its database.

    With a server named, deploy sqlkit there. Where it runs and is deployed already, nothing
    changes.
    """
    from sqlkit import server

    _show(server.up(dsn), as_json=as_json)


def down(dsn: Dsn = None, as_json: Json = False) -> None:
    """Stop the embedded server of this directory; its data stays.

    A server that is named is not sqlkit's to stop: that is an error.
    """
    from sqlkit import server

    stopped = server.down(dsn)
    if as_json:
        print(_dumps({"stopped": stopped}))
    else:
        print("stopped" if stopped else "the embedded server was not running")


def status(dsn: Dsn = None, as_json: Json = False) -> None:
    """Say which server is meant, who named it, what runs there and how large it is.

    Exit code 1 if it is the embedded one and down.
    """
    from sqlkit import server

    found = server.status(dsn)
    _show(found, as_json=as_json)
    if not found.running:
        raise typer.Exit(1)


def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Passed to psql, such as -c 'select 1'.")
    ] = None,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Open psql on the server; with --json, print the command line instead.

    The password is not part of it.
    """
    from sqlkit import server

    if as_json:
        command, _ = server.psql_command(server.find_dsn(dsn), arguments or ())
        print(_dumps({"command": command}))
    else:
        server.open_psql(dsn, arguments or ())


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _show(found: Status, *, as_json: bool) -> None:
    if as_json:
        print(_dumps(asdict(found)))
        return
    print(f"server     {f'PostgreSQL {found.server_version}' if found.running else 'not running'}")
    print(f"dsn        {found.dsn}")
    print(f"named by   {found.named_by}")
    if found.data_directory is not None:
        print(f"data       {found.data_directory}")
    if not found.running:
        print("start it   sqlkit up")
        return
    print(f"sqlkit     {found.sqlkit_version or 'not deployed (sqlkit up)'}")
    print(f"sizes      database {_size(found.database_bytes)}", end="")
    if found.sqlkit_bytes is not None:
        print(f", ledger {_size(found.sqlkit_bytes)}, stages {_size(found.stage_bytes)}", end="")
    print()


def _size(count: int | None) -> str:
    size = float(count or 0)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
