"""sqlkit fdw: foreign servers, whose tables are sources like any other."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sqlkit.errors import UsageError

fdw = typer.Typer(
    help="Foreign servers, whose tables are sources like any other: see docs/foreign.md.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The server's name.")]
Dsn = Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@fdw.command("add")
def add(
    name: Name,
    kind: Annotated[
        str, typer.Option(help="postgres, mysql, file; not run by tests: tds, oracle, snowflake.")
    ],
    host: Annotated[str | None, typer.Option(help="Where it is, for the database server.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: the kind's.")] = None,
    database: Annotated[str | None, typer.Option(help="The database there.")] = None,
    user: Annotated[str | None, typer.Option(help="Who we are there.")] = None,
    password_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="The environment variable with the password."),
    ] = None,
    schema: Annotated[
        str | None, typer.Option(help="Where its tables go. Default: the server's name.")
    ] = None,
    remote_schema: Annotated[
        str | None, typer.Option(help="Whose tables. Default: public, of MySQL the database.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this one; of a file: its name here.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of the wrapper; without value: leave it out."),
    ] = None,
    path: Annotated[
        str | None, typer.Option(help="A file on the server; .gz, .bz2, .xz, .zst are unpacked.")
    ] = None,
    program: Annotated[
        str | None, typer.Option(help="A command on the server that prints a file.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="TABLE", help="A file has the columns of this table.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A Jinja template of your own.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the script and do nothing.")] = False,
    dsn: Dsn = None,
) -> None:
    """Make a foreign server, a user mapping and its tables: all or nothing."""
    from sqlkit.client import connect
    from sqlkit.foreign import NOT_RUN, ForeignServer

    options = {}
    for pair in option or []:
        key, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"--option {pair!r} is not of the form name=value")
        options[key] = value
    server = ForeignServer(
        name=name,
        kind=kind,
        schema=schema,
        host=host,
        port=port,
        database=database,
        user=user,
        remote_schema=remote_schema,
        tables=tuple(table or ()),
        options=options,
        path=path,
        program=program,
        like=like,
        template=template,
    )
    server.check()
    password = None
    if password_env is not None:
        password = _from_environment(password_env)
        if user is None:
            raise UsageError("a password needs a user", hint="Say who: --user NAME.")
    with connect(dsn) as client:
        if show:
            print(client.render_foreign_server(server), end="")
            return
        if kind in NOT_RUN and template is None:
            print(f"note: the template of kind {kind} was run by no test", file=sys.stderr)
        tables = client.add_foreign_server(server, password)
    for made in tables:
        print(made)
    if not tables:
        print(f"note: {name} has no tables: is that the right --remote-schema?", file=sys.stderr)


@fdw.command("password")
def password(
    name: Name,
    password_env: Annotated[
        str,
        typer.Option(metavar="VARIABLE", help="The environment variable with the new password."),
    ],
    dsn: Dsn = None,
) -> None:
    """Have your user mapping of a server hold another password."""
    from sqlkit.client import connect

    new = _from_environment(password_env)
    with connect(dsn) as client:
        client.change_foreign_password(name, new)
    print(f"{name} has another password")


def _from_environment(variable: str) -> str:
    value = os.environ.get(variable)
    if value is None:
        raise UsageError(f"the environment variable {variable} is not set")
    return value


@fdw.command("list")
def list_servers(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List the foreign servers of the database."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        found = client.foreign_servers()
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for server in found:
        print(_line(server))
    if not found:
        print("no foreign servers: make one with sqlkit fdw add")


def _line(server: dict[str, Any]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in server["options"].items())
    users = ", ".join(server["users"]) or "nobody"
    return (
        f"{server['name']}: {server['wrapper']}, {len(server['tables'])} tables, "
        f"for {users}{'; ' if options else ''}{options}"
    )


@fdw.command("check")
def check(name: Name, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Read a row of each table of a server. Exit code 1 if one cannot be read."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        found = client.check_foreign_server(name)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        for table in found:
            what = (
                f"{table['seconds']:.3f} s"
                if table["error_code"] is None
                else f"{table['error_code']}: {table['message']}"
            )
            print(f"{table['relation']}: {what}")
        if not found:
            print("it has no tables")
    if any(table["error_code"] for table in found):
        raise typer.Exit(1)


@fdw.command("merge")
def merge(
    source: Annotated[str, typer.Argument(help="A foreign table, or any relation.")],
    into: Annotated[str, typer.Option(metavar="SCHEMA.TABLE", help="The table to merge into.")],
    policy: Annotated[str, typer.Option(help="As of sqlkit load.")] = "update",
    watermark: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Grows with each change of a row.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this value on. Default: the greatest there is.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="A,B", help="Key columns. Default: the primary key.")
    ] = None,
    order_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With newer: the greater value wins.")
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Merge a foreign table into a table, in the database: only what may be new is fetched."""
    from dataclasses import asdict

    from sqlkit.cli.load import names_of
    from sqlkit.client import connect

    with connect(dsn) as client:
        rows = client.merge_source(
            into,
            source,
            policy=policy,
            watermark=watermark,
            since=since,
            key=names_of(key),
            order_by=order_by,
        )
    if as_json:
        print(json.dumps(asdict(rows)))
        return
    shown = ", ".join(
        f"{number:,} {name}" for name, number in asdict(rows).items() if number and name != "read"
    )
    print(f"{into}: {rows.read:,} rows read: {shown or 'nothing to do'}")


@fdw.command("drop")
def drop(name: Name, dsn: Dsn = None) -> None:
    """Drop a server, its user mappings and its tables, but nothing that uses them."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        print(f"{name} is dropped, with {client.drop_foreign_server(name)} tables")
