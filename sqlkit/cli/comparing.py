"""sqlkit verify and bench: proof that a table is what its source says, and of every strategy."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sqlkit.cli.progress import human_bytes, printable
from sqlkit.cli.project import HERE, Folder, Json, Tables, enter, number_of, print_aligned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlkit.comparing import Trial, Verification


def verify(
    tables: Tables = None,
    folder: Folder = HERE,
    limit: Annotated[
        int, typer.Option(min=0, help="How many rows that differ are shown of each table.")
    ] = 20,
    allow_extra: Annotated[
        bool, typer.Option(help="Rows that only the table has are no difference.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare tables of sqlkit.yml, or those named, with what their sources say.

    The source is loaded, by the plain way, into an empty copy of the table; both are counted,
    checksums of key and columns are compared in buckets, and then the rows of those that differ.
    Of a whole table of MySQL the servers compare checksums first. The table is not written to.

    Exit codes: 0 all the same, 1 something differs or failed, 2 wrong usage.
    """
    import asyncio
    import logging

    project = enter(folder)
    from sqlkit.comparing import verify_project

    logging.getLogger("psycopg").addHandler(logging.NullHandler())

    def tell(found: Verification) -> None:
        if not as_json:
            print(printable("\n".join(_verified(found))), flush=True)

    found = asyncio.run(
        verify_project(project, tables or (), limit=limit, allow_extra=allow_extra, on_end=tell)
    )
    if as_json:
        print(json.dumps({"tables": [table.as_dict() for table in found]}, ensure_ascii=False))
    raise typer.Exit(max((table.exit_code for table in found), default=0))


def _verified(found: Verification) -> Iterator[str]:
    if found.error is not None:
        yield f"{found.target}: failed, {found.seconds:.1f} s"
        yield f"  error: {found.error.message}"
        for what in ("detail", "hint"):
            if text := getattr(found.error, what):
                yield f"  {what}: {text}"
        return
    rows = number_of(found.rows_target, "row")
    yield f"{found.target}: {found.state}, {rows}, by {found.way}, {found.seconds:.1f} s"
    if found.state == "different":
        yield f"  {number_of(found.rows_source, 'row')} of the source, {rows} of the table"
        yield (
            f"  {found.only_source:,} only in the source, {found.only_target:,} only in the table, "
            f"{found.different:,} differ"
        )
    for name, number in found.columns.items():
        yield f"  column {name}: differs in {number_of(number, 'row')}"
    for example in found.examples:
        key = ", ".join(f"{name}={value}" for name, value in example["key"].items())
        if example["where"] != "both":
            yield f"  {key}: only in the {'source' if example['where'] == 'source' else 'table'}"
            continue
        changes = ", ".join(
            f"{name}: {_shown(value)} in the source, {_shown(example['target'][name])} in the table"
            for name, value in example["source"].items()
        )
        yield f"  {key}: {changes}"
    for note in found.notes:
        yield f"  note: {note}"


def _shown(value: Any) -> str:
    return "null" if value is None else repr(str(value)[:80])


def bench(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="As sqlkit.yml names it.")],
    folder: Folder = HERE,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="Only this one, beside the reference; may be repeated. Default: all."),
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="Copies begin empty, not with the table's rows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load copies of a table of sqlkit.yml by every strategy, and prove that all end alike.

    The first one is the plain reference way: one stream of INSERTs, or mirror for a refresh. The
    table itself is read and never written to. Needs disk for two copies.

    Exit codes: 0 all results are the same, 1 they differ or every strategy failed, 2 wrong usage.
    """
    import asyncio
    import logging

    project = enter(folder)
    from sqlkit.comparing import bench_table

    logging.getLogger("psycopg").addHandler(logging.NullHandler())

    def tell(trial: Trial) -> None:
        if sys.stderr.isatty():
            print(f"{trial.strategy}: {trial.seconds:.1f} s", file=sys.stderr)

    found = asyncio.run(bench_table(project, table, strategy or (), empty=empty, on_trial=tell))
    if as_json:
        print(json.dumps(found.as_dict(), ensure_ascii=False))
        raise typer.Exit(found.exit_code)
    lines = [["strategy", "result", "seconds", "rows/s", "memory", "WAL", "gain"]]
    for trial in found.trials:
        result = {None: "reference", True: "the same", False: "DIFFERS"}[trial.is_same]
        if trial.error is not None:
            lines.append([trial.strategy, "refused", "", "", "", "", ""])
            continue
        memory = "" if trial.peak_bytes is None else human_bytes(trial.peak_bytes)
        lines.append(
            [
                trial.strategy,
                result,
                f"{trial.seconds:.2f}",
                f"{trial.rows_per_second:,.0f}",
                memory,
                human_bytes(trial.wal_bytes),
                "" if trial.gain is None else f"{trial.gain:.2f}x",
            ]
        )
    print_aligned(lines, left=2)
    done = [trial for trial in found.trials if trial.error is None]
    rows = number_of(done[0].rows if done else 0, "row")
    print(f"\n{found.target}: {rows} into copies that began {_BEGINNINGS[found.rows_before]}")
    for trial in found.trials:
        if trial.error is not None:
            print(f"{trial.strategy}: {trial.error}")
        elif trial.is_same is False:
            print(f"{trial.strategy}: differs from {done[0].strategy}: {trial.differs}")
    raise typer.Exit(found.exit_code)


_BEGINNINGS = {"empty": "empty", "as the table": "with the table's rows"}
