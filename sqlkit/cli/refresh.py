"""sqlkit refresh: a whole new content for a table."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from sqlkit.cli.load import names_of, parse_mapping, print_baseline
from sqlkit.cli.progress import ProgressLine, human_bytes
from sqlkit.units import parse_limit, parse_seconds

if TYPE_CHECKING:
    from sqlkit.results import RefreshResult


def refresh(
    target: Annotated[str, typer.Argument(metavar="SCHEMA.TABLE", help="The table to refresh.")],
    source: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="SOURCE|QUERY|STAGE",
            help="Files or patterns (may be repeated), a query (select, with, values or table), or "
            "a stage (sqlkit_stage.NAME).",
        ),
    ],
    strategy: Annotated[
        str,
        typer.Option(
            help="auto (chooses, and says why), mirror (only differences are written), truncate "
            "(in place; readers wait), swap (a new table takes its place)."
        ),
    ] = "auto",
    scope: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Delete only rows whose values in these columns occur in the new content.",
        ),
    ] = None,
    max_delete: Annotated[
        str,
        typer.Option(
            metavar="N|N%", help="Refuse to delete more rows, or a greater share of those in scope."
        ),
    ] = "10%",
    tune: Annotated[
        bool,
        typer.Option(help="While it runs: more memory, no autovacuum of the table. Then put back."),
    ] = False,
    explain: Annotated[
        bool, typer.Option(help="Say what auto would do, and why; do nothing.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(metavar="A,B", help="Key columns. Default: the primary key.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="csv, tsv or jsonl. Default: found out.")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Default: found out.")] = None,
    quote: Annotated[str, typer.Option(help="'' for none.")] = '"',
    escape: Annotated[str | None, typer.Option(help="Default: the quote doubled.")] = None,
    header: Annotated[bool, typer.Option(help="Whether the first record names columns.")] = True,
    null: Annotated[str, typer.Option(help="The text that means null, unquoted.")] = "",
    encoding: Annotated[
        str | None, typer.Option(help="A Python codec, such as cp1255. Default: UTF-8, or by BOM.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Names without a header; with one, those to load."),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(metavar="'SOURCE NAME=COLUMN'", help="Rename; may be repeated."),
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Columns of either side without partner; '*' for all."),
    ] = None,
    retry_for: Annotated[
        str,
        typer.Option(metavar="TIME", help="Wait so long for a lost server while files are read."),
    ] = "15m",
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Give a table a whole new content, in one transaction.

    The new content is staged first. No row of it may be refused. Whatever happens, the table holds
    the old content or the new.

    Exit codes: 0 done, 1 failed or refused, 2 wrong usage.
    """
    from sqlkit.client import connect
    from sqlkit.sources.base import Dialect

    dialect = Dialect(
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        header=header,
        null=null,
        encoding=encoding,
    )
    limit, share = parse_limit(max_delete)
    query, stage = as_query(source), _as_stage(source)
    line = ProgressLine(sys.stderr, enabled=not as_json)
    with connect(dsn) as client, line, _meant_as_query(source):
        result = client.refresh(
            target,
            () if query or stage else source,
            query=query,
            stage=stage,
            strategy=strategy,
            scope=names_of(scope),
            key=names_of(key),
            delete_share=share,
            delete_limit=limit,
            explain=explain,
            tune=tune,
            format=format,
            dialect=dialect,
            columns=names_of(columns) or (),
            map=parse_mapping(map or []),
            leave_out=names_of(leave_out) or (),
            retry_for=parse_seconds(retry_for),
            progress=line.show,
            on_wait=lambda wait: line.note(f"waiting: {wait}"),
        )
        speed = None if result.run_id is None else client.measure_runs([result.run_id])
    if as_json:
        told = result.as_dict() | {"speed": speed and speed.as_dict()}
        print(json.dumps(told, ensure_ascii=False))
    else:
        print_result(result)
        print_baseline(speed)


_QUERY = re.compile(
    # Comments and parentheses may stand before it.
    r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
    # A name of a file may begin so, but goes on otherwise: select.csv, table(1).csv, with-vat.csv.
    r"(?:(?:select|with|values|table)(?:\s|\"|--|/\*[^.])|(?:select|values)\(|select')",
    re.IGNORECASE | re.DOTALL,
)


def as_query(source: list[str]) -> str | None:
    """The query that a source is, if it is one."""
    return source[0] if len(source) == 1 and _QUERY.match(source[0]) else None


@contextmanager
def _meant_as_query(source: list[str]) -> Iterator[None]:
    """Says of a source that is no file, and has the words of a query, how a query begins."""
    from sqlkit.errors import SourceError

    try:
        yield
    except SourceError as error:
        if error.code == "SK102" and any(re.search(r"\sfrom\s", s, re.I) for s in source):
            error.hint = "If it is a query: one begins with select, with, values or table."
        raise


def _as_stage(source: list[str]) -> str | None:
    return source[0] if len(source) == 1 and source[0].startswith("sqlkit_stage.") else None


def print_result(result: RefreshResult) -> None:
    """Say in a few lines what became of a refresh."""
    for reason in result.reasons:
        print(f"- {reason}")
    if result.run_id is None:
        return
    rows = result.rows
    kept = [
        ("inserted", rows.inserted),
        ("updated", rows.updated),
        ("unchanged", rows.unchanged),
        ("ignored", rows.ignored),
        ("duplicates", rows.duplicates),
    ]
    shown = ", ".join(f"{number:,} {name}" for name, number in kept if number) or "none"
    print(f"{result.target}: {rows.read:,} rows read: {shown}; {result.deleted:,} deleted")
    print(
        f"run {result.run_id}: {result.strategy}, {result.seconds:.1f} s, "
        f"{human_bytes(result.wal_bytes)} WAL"
    )
