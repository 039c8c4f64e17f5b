"""sqlkit extension: put sqlkit where CREATE EXTENSION finds it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sqlkit.errors import UsageError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Put sqlkit where CREATE EXTENSION finds it.",
)


@app.command()
def install(
    pg_config: Annotated[
        str | None,
        typer.Option(
            help="The server's pg_config, which knows where extensions belong.",
            show_default="the one in PATH",
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            help="Copy into this directory instead: its last part has to be `extension` if it is "
            "named in extension_control_path (PostgreSQL 18).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy the control file and the scripts to a server on this machine.

    Then, in each database: create extension sqlkit; or alter extension sqlkit update.
    """
    from sqlkit import extension

    if pg_config and directory:
        raise UsageError("--pg-config and --directory contradict each other")
    copied = extension.install(directory or extension.server_directory(pg_config or "pg_config"))
    if as_json:
        print(json.dumps({"files": [str(path) for path in copied]}))
        return
    for path in copied:
        print(path)


@app.command()
def tle() -> None:
    """Print the script that registers sqlkit with pg_tle, on servers that take no files."""
    from sqlkit import extension

    sys.stdout.write(extension.tle_script())


extension = app
