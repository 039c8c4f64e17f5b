"""sqlkit copy-db: a whole database of MySQL or MariaDB."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sqlkit.cli.load import names_of
from sqlkit.errors import UsageError
from sqlkit.units import parse_limit, parse_seconds

if TYPE_CHECKING:
    from sqlkit.copy_database import DatabaseCopy, TableCopy


def copy_db(
    url: Annotated[
        str,
        typer.Argument(metavar="mysql://USER@HOST/DATABASE", help="Password: MYSQL_PWD."),
    ],
    into: Annotated[str, typer.Option(metavar="SCHEMA", help="Made if it is not there.")],
    tables: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these. Default: all.")
    ] = None,
    leave_out: Annotated[
        str | None, typer.Option(metavar="A,B", help="All but these tables.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Tables at once.")] = 2,
    invalid: Annotated[
        str,
        typer.Option(
            metavar="refuse|null", help="What becomes of zero dates and values out of range."
        ),
    ] = "refuse",
    reject_limit: Annotated[
        str,
        typer.Option(metavar="N|N%", help="Keep so many refused rows of a table; more fail it."),
    ] = "0",
    verify: Annotated[
        bool, typer.Option(help="Count rows and add up checksums on both sides.")
    ] = False,
    show_ddl: Annotated[
        bool, typer.Option("--show-ddl", help="Print the tables that were made.")
    ] = False,
    retry_for: Annotated[
        str, typer.Option(metavar="TIME", help="Wait so long for a lost server; 0 for not at all.")
    ] = "15m",
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy a database: its tables with keys, indexes, comments, rows, and then foreign keys.

    A table that was copied is skipped when the command runs again; drop it to copy it once more.

    Exit codes: 0 all copied, 1 something failed or differs, 2 wrong usage, 3 copied with rejects
    within the limit.
    """
    import asyncio
    import logging
    from dataclasses import asdict

    from sqlkit.copy_database import CopyOptions, copy_database

    if invalid not in ("refuse", "null"):
        raise UsageError(f"--invalid {invalid!r}: choose refuse or null")
    limit, share = parse_limit(reject_limit)
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    options = CopyOptions(
        tables=names_of(tables) or (),
        left_out=names_of(leave_out) or (),
        workers=workers,
        null_invalid=invalid == "null",
        verify=verify,
        reject_limit=limit,
        reject_share=share,
        retry_for=parse_seconds(retry_for),
    )

    def show(copy: TableCopy) -> None:
        if not as_json:
            _show_table(copy, with_ddl=show_ddl)

    result = asyncio.run(copy_database(url, into, options, dsn=dsn, on_table=show))
    if as_json:
        print(json.dumps(asdict(result), ensure_ascii=False))
    else:
        _show_end(result)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _show_table(copy: TableCopy, *, with_ddl: bool) -> None:
    if copy.state == "failed":
        print(f"{copy.target}: failed: {copy.error}", file=sys.stderr)
        return
    if with_ddl and copy.ddl:
        print(copy.ddl + ";\n")
    words = ["copied before, skipped"]
    if copy.state == "copied":
        words = [f"{copy.rows.inserted:,} rows in {copy.seconds:.1f} s"]
        if copy.rows.rejected:
            words.append(f"{copy.rows.rejected:,} refused: sqlkit rejects {copy.run_id}")
    if copy.verified is not None:
        words.append("verified" if copy.verified else f"DIFFERS: {copy.error}")
    print(f"{copy.target}: {', '.join(words)}")
    for note in () if with_ddl else copy.notes:
        print(f"    {note}")


def _show_end(result: DatabaseCopy) -> None:
    from sqlkit.cli.progress import printable

    rows = sum(copy.rows.inserted for copy in result.tables)
    print(
        f"{len(result.tables)} tables, {rows:,} rows, {result.foreign_keys} foreign keys "
        f"in {result.seconds:.1f} s"
    )
    if result.left_out:
        print(f"not copied: {printable(', '.join(result.left_out))}")
    if not result.is_one_snapshot:
        print(
            "the tables are not of one moment: the user may not LOCK TABLES there, a writer did "
            "not end, or a connection was lost"
        )
    for problem in result.problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
