"""sqlkit load: files into a table."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sqlkit.cli.progress import ProgressLine, human_bytes, printable
from sqlkit.errors import UsageError
from sqlkit.units import parse_bytes, parse_limit, parse_overlap, parse_seconds

if TYPE_CHECKING:
    from sqlkit.model import Lookup, RunSpeed
    from sqlkit.results import LoadResult, Seconds


def load(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, patterns, - for standard input; https://, s3://, abfs://, gs://; "
            "mysql://, postgresql://, duckdb://, sqlite://, snowflake://, adbc+...://, "
            "dbapi+...:// with #table.",
        ),
    ],
    into: Annotated[str, typer.Option(metavar="SCHEMA.TABLE", help="The table to load into.")],
    key: Annotated[
        str | None, typer.Option(metavar="A,B", help="Key columns. Default: the primary key.")
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="What happens to a row whose key exists: append, ignore, update, newer, fill, "
            "error, history."
        ),
    ] = "update",
    order_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="With newer: the greater value wins. With history: when a version begins.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl, xml, parquet, arrow. Default: found out.")
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
        typer.Option(
            metavar="'SOURCE NAME=COLUMN'",
            help="Rename; of JSON also a.b.c=column.",
        ),
    ] = None,
    lookup: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'COLUMN=TABLE(KEY,...)'",
            help="Fill a column with ids of a dimension, by its natural key; the source's columns, "
            "if named otherwise, after: from (A,B).",
        ),
    ] = None,
    create_keys: Annotated[
        bool, typer.Option(help="Make rows for keys that the dimension of a lookup lacks.")
    ] = True,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Columns of either side without partner; '*' for all."),
    ] = None,
    whole: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Each JSON line whole into this json(b) column."),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(help="Append rows as they are, each as one object, to a raw table."),
    ] = False,
    rest: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="This json(b) column takes keys without column."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="Columns that the table has not: evolve adds them, freeze refuses them at once.",
        ),
    ] = None,
    discard: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="This json(b) column takes columns the table has not."),
    ] = None,
    record: Annotated[
        str | None, typer.Option(metavar="ELEMENT", help="XML: the element that is a row.")
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option(help="XML of price transparency: prices, promos or stores."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Of a database: the rows of this query."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Of a database: only rows from this column's greatest value of the last load on.",
        ),
    ] = None,
    since_overlap: Annotated[
        str | None,
        typer.Option(metavar="TIME|N", help="So far before it, for late commits: 10m, or 1000."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Of a database: only rows for which this holds."),
    ] = None,
    invalid: Annotated[
        str,
        typer.Option(
            metavar="refuse|null",
            help="What becomes of zero dates and values out of range, of MySQL.",
        ),
    ] = "refuse",
    create: Annotated[bool, typer.Option(help="Make the table from inferred types.")] = False,
    workers: Annotated[int, typer.Option(help="Streams of COPY at once.")] = 2,
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Who reads sources and COPYs: processes, or dask://host:port."
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="How rows get there: auto, insert, copy, stage or parallel.")
    ] = "auto",
    indexes: Annotated[
        str,
        typer.Option(help="Build indexes after the rows: auto (where it pays), keep, rebuild."),
    ] = "auto",
    tune: Annotated[
        bool,
        typer.Option(help="While it runs: more memory, no autovacuum of the table. Then put back."),
    ] = False,
    warm: Annotated[
        bool, typer.Option(help="First read the key's index into memory, by pg_prewarm.")
    ] = False,
    batch_bytes: Annotated[
        str | None,
        typer.Option(metavar="N", help="Decoded bytes a commit, such as 256MB. Default: by size."),
    ] = None,
    atomic: Annotated[bool, typer.Option(help="Commit everything together.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Do everything, and roll it back.")] = False,
    again: Annotated[bool, typer.Option(help="Load what was loaded before once more.")] = False,
    reject_limit: Annotated[
        str,
        typer.Option(metavar="N|N%", help="Keep so many refused rows as rejects; more fail."),
    ] = "0",
    conflicts: Annotated[
        str | None,
        typer.Option(
            metavar="WAY", help="Hold rows to the table's conflict rules: report, reject, trim."
        ),
    ] = None,
    retry_for: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Wait so long for a server that was lost and the like; 0 for not at all.",
        ),
    ] = "15m",
    profile: Annotated[
        bool,
        typer.Option(help="Show where the time went, as bars: fetch, decode, lookup, copy, merge."),
    ] = False,
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Load files into a table, exactly once, at the speed of COPY.

    Formats: CSV and TSV in any dialect, JSON, XML; plain or in gzip, zstd, bzip2, xz or zip,
    recognised by content; Parquet, Arrow and Feather. Rows that the table holds unchanged are not
    written. A file that was loaded before is skipped, one that was half loaded continues.

    Exit codes: 0 all loaded, 1 failed, 2 wrong usage, 3 loaded with rejects within the limit,
    4 refused because the limit was passed.
    """
    # Heavy, and not needed for --help.
    import logging

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
    if invalid not in ("refuse", "null"):
        raise UsageError(f"--invalid {invalid!r}: choose refuse or null")
    limit, share = parse_limit(reject_limit)
    # Psycopg warns of connections that it finds lost; here they are told of as errors.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    line = ProgressLine(sys.stderr, enabled=not as_json)
    with connect(dsn) as client, line:
        result = client.load(
            sources,
            into=into,
            policy=policy,
            key=names_of(key),
            order_by=order_by,
            format=format,
            dialect=dialect,
            columns=names_of(columns) or (),
            map=parse_mapping(map or []),
            lookups=[parse_lookup(text, create=create_keys) for text in lookup or []],
            leave_out=names_of(leave_out) or (),
            whole=whole,
            rest=rest,
            schema=schema,
            discard=discard,
            raw=raw,
            record=record,
            feed=feed,
            query=query,
            where=where,
            null_invalid=invalid == "null",
            create=create,
            workers=workers,
            executor=executor,
            strategy=strategy,
            indexes=indexes,
            batch_bytes=None if batch_bytes is None else parse_bytes(batch_bytes),
            atomic=atomic,
            dry_run=dry_run,
            again=again,
            reject_limit=limit,
            reject_share=share,
            retry_for=parse_seconds(retry_for),
            conflicts=conflicts,
            since=since,
            since_overlap=None if since_overlap is None else parse_overlap(since_overlap),
            tune=tune,
            warm=warm,
            progress=line.show,
            on_wait=lambda wait: line.note(f"waiting: {wait}"),
        )
        speed = None if result.run_id is None else client.measure_runs([result.run_id])
    if as_json:
        told = result.as_dict() | {"speed": speed and speed.as_dict()}
        print(json.dumps(told, ensure_ascii=False))
    else:
        print_result(result, again=again)
        print_baseline(speed)
        if profile:
            print_profile(result.seconds)
    if result.rows.rejected:
        if not as_json:
            print_refused(result)
        raise typer.Exit(3)


def print_refused(result: LoadResult) -> None:
    """Say where refused rows are to be found; of a dry run, which has kept none, what they are."""
    from sqlkit.telling import describe_reject

    number = result.rows.rejected
    refused = f"{number:,} row{'' if number == 1 else 's'} refused:"
    if result.run_id is not None:
        print(f"{refused} sqlkit rejects {result.run_id}")
        return
    print(refused)
    for reject in result.rejects:
        print(printable(describe_reject(reject, {})))
    if number > len(result.rejects):
        print(f"and {number - len(result.rejects):,} more")


def print_result(result: LoadResult, *, again: bool = False) -> None:
    """Say in a few lines what became of a load, which was to load known sources once more."""
    if result.ddl:
        print(result.ddl + ";\n")
    for source in result.sources:
        if source.state == "skipped":
            why = "by this call already" if again else "before"
            hint = "" if again else " (--again loads it once more)"
            print(f"{source.name}: loaded {why}, skipped{hint}")
    for note in result.notes:
        print(f"- {note}")
    rows = result.rows
    kept: list[tuple[str, int]] = [
        ("inserted", rows.inserted),
        ("updated", rows.updated),
        ("unchanged", rows.unchanged),
        ("ignored", rows.ignored),
        ("duplicates", rows.duplicates),
        ("rejected", rows.rejected),
    ]
    shown = ", ".join(f"{number:,} {name}" for name, number in kept if number) or "nothing to do"
    run = "dry run, rolled back" if result.run_id is None else f"run {result.run_id}"
    print(f"{result.target}: {rows.read:,} rows read: {shown}")
    if result.trimmed:
        several = f"{result.trimmed:,} rows cut so that they overlap"
        cut = "1 row cut so that it overlaps" if result.trimmed == 1 else several
        print(f"{cut} no other: sqlkit.trimmed_row")
    for rule, counts in result.conflicts.items():
        print(
            f"rule {rule}: {counts['pairs_opened']:,} new conflicts, "
            f"{counts['pairs_open']:,} open: sqlkit conflicts"
        )
    seconds = result.seconds
    rate = rows.read / seconds.total if seconds.total else 0
    print(
        f"{run}: {seconds.total:.1f} s, {rate:,.0f} rows/s, "
        f"{human_bytes(result.bytes.decoded)} decoded, {human_bytes(result.bytes.wal)} WAL, "
        f"{result.batches} {'batch' if result.batches == 1 else 'batches'}"
    )


def print_baseline(speed: RunSpeed | None) -> None:
    """Say in a line how fast a run was against the baseline of its target, if it has one."""
    if speed is None or speed.baseline_run_id is None or speed.speed_ratio is None:
        return
    memory = speed.memory_ratio
    of_memory = "" if memory is None else f", {memory:.2f} times its memory"
    print(
        f"against run {speed.baseline_run_id}, the baseline: "
        f"{speed.speed_ratio:.2f} times its speed{of_memory}"
    )


def print_profile(seconds: Seconds, width: int = 40) -> None:
    """Draw how long each kind of work took; they overlap, so that the whole is no sum of them."""
    kinds = {
        "fetch": seconds.fetch,
        "decode": seconds.decode,
        "lookup": seconds.lookup,
        "copy": seconds.copy,
        "merge": seconds.merge - seconds.lookup,
        "total": seconds.total,
    }
    longest = max(kinds.values()) or 1.0
    block = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    for kind, took in kinds.items():
        share = f"{took / seconds.total:4.0%}" if seconds.total else ""
        bar = block * round(width * took / longest)
        print(f"{kind:6} {took:8.2f} s {share} {bar}".rstrip())


def names_of(text: str | None) -> tuple[str, ...] | None:
    """Names separated by commas; a name that holds a comma goes in double quotes."""
    if text is None:
        return None
    import csv

    names = next(csv.reader([text], skipinitialspace=True), [])
    if not names or not all(names):
        raise UsageError(f"{text!r} is not a list of names", hint="Write them as a,b,c.")
    return tuple(names)


def parse_mapping(pairs: list[str]) -> dict[str, str]:
    """Pairs of the form 'source name=column'. Raises UsageError."""
    found: dict[str, str] = {}
    for pair in pairs:
        # A column's name seldom holds '=', a header in the wild may.
        source, separator, column = pair.rpartition("=")
        if not separator or not source or not column:
            raise UsageError(
                f"--map {pair!r} is not of the form 'source name=column'",
                hint="For example: --map 'Item Code=barcode'",
            )
        found[source] = column
    return found


def parse_lookup(text: str, *, create: bool) -> Lookup:
    """A lookup of the form 'column=table(key, ...) from (column, ...)'. Raises UsageError."""
    import re

    from sqlkit.model import Lookup

    found = re.fullmatch(
        r"\s*(?P<column>[^=]+?)\s*=\s*(?P<table>.+?)\s*\((?P<key>[^()]+)\)"
        r"(\s*from\s*\((?P<source>[^()]+)\))?\s*",
        text,
    )
    if found is None:
        raise UsageError(
            f"--lookup {text!r} is not of the form 'column=table(key, ...) from (column, ...)'",
            hint="For example: --lookup 'store_id=public.store(code)'",
        )
    column, table, key, source = found["column"], found["table"], found["key"], found["source"]
    return Lookup(column, table, names_of(key) or (), names_of(source), create=create)
