"""sqlkit init, config, plan and run: a folder that says what is loaded, and how."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sqlkit.cli.progress import human_bytes
from sqlkit.errors import SqlkitError, UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from sqlkit.config import Project
    from sqlkit.pipeline import RunReport, TableReport
    from sqlkit.plan import TablePlan

Folder = Annotated[
    Path, typer.Option("--project", metavar="FOLDER", help="Where sqlkit.yml is, and paths start.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Tables = Annotated[
    list[str] | None,
    typer.Argument(metavar="TABLE...", help="Tables as sqlkit.yml names them. Default: all."),
]

HERE = Path()
SUCCESS = (0, 3)
SHOWN = 20
"""Sources of a table that a plan lists, unless as JSON."""
EXAMPLES = ("first", "prices", "mysql")

config = typer.Typer(
    help="Check the project's file, and describe it to editors.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def enter(folder: Path) -> Project:
    """The project of a folder, which becomes the current directory: its paths start there."""
    from sqlkit.config import FILE, read_project

    try:
        os.chdir(folder)
    except FileNotFoundError:
        raise UsageError(
            f"there is no folder {folder}", hint=f"Make a project there: sqlkit init {folder}"
        ) from None
    return read_project(Path(FILE))


@config.command()
def check(folder: Folder = HERE, as_json: Json = False) -> None:
    """Say everything that is wrong with sqlkit.yml, and where. Connects to nothing.

    Exit codes: 0 nothing is wrong, 2 something is.
    """
    from sqlkit.config import ConfigError

    try:
        project = enter(folder)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [problem.as_dict() for problem in error.problems]
        print(json.dumps({"problems": problems}, ensure_ascii=False))
        raise typer.Exit(error.exit_code) from None
    if as_json:
        print(json.dumps({"problems": []}))
    else:
        print(f"{number_of(len(project.tables), 'table')}, nothing is wrong")


@config.command()
def schema() -> None:
    """Print the JSON schema of sqlkit.yml, by which editors complete and check it."""
    print(_schema())


def _schema() -> str:
    from sqlkit.config import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False)


def init(
    folder: Annotated[Path, typer.Argument(help="Made, if it is not there.")] = HERE,
    example: Annotated[
        str, typer.Option(metavar="NAME", help=f"What it shows: {', '.join(EXAMPLES)}.")
    ] = "first",
    as_json: Json = False,
) -> None:
    """Make a project that runs: sqlkit.yml, a little data, and the schema for editors.

    The first one loads files into two tables. The example prices lands days of price and promotion
    files raw, and makes chains, stores, products, prices with history and promotions. The example
    mysql takes databases of MySQL over little by little, while rows change in them.

    Nothing is overwritten: where one of its files is there already, nothing is made.

    Exit codes: 0 made, 2 something is in the way.
    """
    from importlib.resources import files

    templates = files("sqlkit") / "template"
    chosen = templates / example
    if example not in EXAMPLES or not chosen.is_dir():
        raise UsageError(f"there is no example {example}", hint=f"One of {', '.join(EXAMPLES)}.")
    content = {
        **_texts(chosen),
        ".gitignore": (templates / "gitignore").read_text(encoding="utf-8"),
        ".sqlfluff": (templates / "sqlfluff").read_text(encoding="utf-8"),
        "sqlkit.schema.json": _schema() + "\n",
    }
    if there := [name for name in content if os.path.lexists(folder / name)]:
        raise UsageError(
            f"{folder}: {', '.join(there)} {'is' if len(there) == 1 else 'are'} there already",
            hint="Nothing was made. Name another folder.",
        )
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    if as_json:
        print(json.dumps({"folder": str(folder), "files": list(content)}, ensure_ascii=False))
    else:
        print("\n".join(f"made {folder / name}" for name in content))
        where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
        print(f"\nnext: {where}sqlkit up && sqlkit run")


def _texts(folder: Traversable, above: str = "") -> dict[str, str]:
    """The files of a folder and of those in it: their paths and contents."""
    found: dict[str, str] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found |= _texts(entry, f"{above}{entry.name}/")
        else:
            found[above + entry.name] = entry.read_text(encoding="utf-8")
    return found


def run(
    tables: Tables = None,
    folder: Folder = HERE,
    again: Annotated[bool, typer.Option(help="Load what was loaded before once more.")] = False,
    full_refresh: Annotated[
        bool, typer.Option(help="Transforms look at all raw rows, not at those that changed.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Load extracts that are kept, and keep them.")
    ] = True,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Compare later runs of these tables with this one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load the tables of sqlkit.yml, or those named, in the order of their dependencies.

    Tables that do not depend on each other are loaded side by side, within max_connections. One
    that fails keeps only those from running that depend on it. Run again, it continues.

    Exit codes: that of the table that went worst. 0 all loaded, 3 loaded with rejects within the
    limit, 4 refused because the limit was passed, 1 failed, 2 wrong usage.
    """
    import asyncio
    import logging

    project = enter(folder)
    from sqlkit.pipeline import run_project, tell_failure, without_beginning

    logging.getLogger("psycopg").addHandler(logging.NullHandler())

    async def all_of_it() -> RunReport:
        try:
            report = await run_project(
                project,
                tables or (),
                again=again,
                full_refresh=full_refresh,
                use_cache=cache,
                is_baseline=baseline,
                on_start=lambda name: _note(f"{name}: begins"),
                on_end=lambda table: _note(_described(table)),
            )
        except UsageError:
            raise
        except SqlkitError as error:
            await tell(without_beginning(project, tables or (), error))
            raise
        if report.exit_code not in SUCCESS:
            await tell(report)
        return report

    async def tell(report: RunReport) -> None:
        for problem in await tell_failure(project, report):
            _note(f"warning: {problem.message}")

    report = asyncio.run(all_of_it())
    if as_json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        _print_report(report)
    raise typer.Exit(report.exit_code)


def plan(tables: Tables = None, folder: Folder = HERE, as_json: Json = False) -> None:
    """Say what sqlkit run would do with the tables of sqlkit.yml, or those named. Changes nothing.

    Files are read whole, since the ledger knows them by their content; hooks are not run. The
    estimate holds the first rows of the first file that is not loaded yet against the table.

    Exit codes: 0 nothing stands in the way, 1 something does, 2 wrong usage.
    """
    import asyncio

    project = enter(folder)
    from sqlkit.plan import plan_project

    plans = asyncio.run(plan_project(project, tables or ()))
    if as_json:
        print(json.dumps({"tables": [table.as_dict() for table in plans]}, ensure_ascii=False))
    else:
        print("\n\n".join("\n".join(_planned(table)) for table in plans))
    raise typer.Exit(int(any(table.problems for table in plans)))


def _planned(table: TablePlan) -> Iterator[str]:
    yield table.name if table.target == table.name else f"{table.name} ({table.target})"
    for source in table.sources[:SHOWN]:
        size = "" if source.bytes is None else f", {human_bytes(source.bytes)}"
        yield f"  source    {source.name}{size}, {_STATES.get(source.state, source.state)}"
    if len(table.sources) > SHOWN:
        yield f"  source    and {len(table.sources) - SHOWN:,} more"
    if table.strategy is not None:
        yield f"  strategy  {table.strategy.way}"
        yield f"  because   {table.strategy.why}"
        if table.strategy.lock is not None:
            yield f"  lock      {table.strategy.lock}"
        if table.strategy.indexes is not None:
            yield f"  indexes   {table.strategy.indexes}"
    for column in table.drift:
        where = f"only in the {column.side}"
        if column.side == "both":
            where = f"{column.source_type} in the source, {column.target_type} in the table"
        yield f"  column    {column.column}: {where}, {column.becomes}"
    for lookup in table.lookups:
        text = f"{lookup.column}: by {', '.join(lookup.key)} in {lookup.dimension}"
        if lookup.known is not None and lookup.unknown is not None:
            text += f": {lookup.known:,} known, {lookup.unknown:,} not: {lookup.becomes}"
        yield f"  lookup    {text}"
    if table.estimate is not None:
        counts = ((name, getattr(table.estimate, name)) for name in _COLUMNS[1:])
        shown = ", ".join(f"{number:,} {name}" for name, number in counts if number)
        sample = number_of(table.estimate.read, "row")
        yield f"  estimate  {shown or 'nothing'}, of the first {sample}"
    if table.ddl is not None:
        yield "  creates   " + table.ddl.replace("\n", "\n            ")
    if table.sql is not None:
        yield "  query     " + table.sql.rstrip().replace("\n", "\n            ")
    for hook in table.before:
        yield "  before    " + hook.rstrip().replace("\n", "\n            ")
    for statement in table.statements:
        yield f"  sql       {statement}"
    if table.maintenance is not None:
        yield f"  then      {table.maintenance}"
    for hook in table.after:
        yield "  after     " + hook.rstrip().replace("\n", "\n            ")
    for note in table.notes:
        yield f"  note      {note}"
    for problem in table.problems:
        yield f"  problem   {problem}"


_STATES = {"new": "new", "partly": "partly loaded: continues", "loaded": "loaded before: skipped"}


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _described(table: TableReport) -> str:
    if table.state == "skipped":
        return f"{table.name}: skipped, since {table.waited_for} was not done"
    text = f"{table.name}: {table.state}, {table.seconds:.1f} s"
    for outcome in table.maintenance:
        text += f"\n{table.name}: maintenance {outcome.state}: {outcome.step.statement}"
        text += f" ({outcome.reason})" if outcome.reason else ""
    if table.maintenance_error is not None:
        text += f"\nwarning: {table.name}: maintenance: {table.maintenance_error.message}"
    if table.error is not None:
        text += f"\nerror: {table.error.message}"
        text += f"\ndetail: {table.error.detail}" if table.error.detail else ""
        text += f"\nhint: {table.error.hint}" if table.error.hint else ""
    return text


_COLUMNS = ("read", "inserted", "updated", "unchanged", "ignored", "duplicates", "rejected")


def _print_report(report: RunReport) -> None:
    has_baseline = any(t.speed and t.speed.baseline_run_id for t in report.tables)
    heads = ["rows/s", "memory", *(["baseline"] if has_baseline else [])]
    lines = [["table", "state", *_COLUMNS, "deleted", "seconds", *heads]]
    for table in report.tables:
        result = table.result
        counts = [""] * (len(_COLUMNS) + 1)
        if result is not None:
            counts = [f"{getattr(result.rows, name):,}" for name in _COLUMNS]
            counts.append(f"{getattr(result, 'deleted', 0):,}")
        seconds = "" if table.state == "skipped" else f"{table.seconds:.1f}"
        speed = _speed_of(table)[: len(heads)]
        lines.append([table.name, table.state, *counts, seconds, *speed])
    print_aligned(lines, left=2)
    states = [table.state for table in report.tables]
    shown = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"\n{number_of(len(states), 'table')}: {shown}; {report.seconds:.1f} s")
    for table in report.tables:
        for run_id in _runs_with_rejects(table):
            print(f"{table.name}: rows refused: sqlkit rejects {run_id}")


def _speed_of(table: TableReport) -> list[str]:
    """Rows a second, the peak of memory, and speed as a multiple of the baseline's."""
    speed = table.speed
    if speed is None:
        return ["", "", ""]
    rate, peak, ratio = speed.rows_per_second, speed.peak_bytes, speed.speed_ratio
    return [
        "" if rate is None else f"{rate:,.0f}",
        "" if peak is None else human_bytes(peak),
        "" if ratio is None else f"{ratio:.2f} x",
    ]


def _runs_with_rejects(table: TableReport) -> Sequence[int | None]:
    from sqlkit.partitions import PartitionedResult

    if isinstance(table.result, PartitionedResult):
        return table.result.refused_in
    return () if table.exit_code != 3 or table.result is None else (table.result.run_id,)


def print_aligned(lines: list[list[str]], left: int) -> None:
    """Print lines of cells in columns, of which the first `left` begin where the column does."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        cells: list[Any] = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def number_of(number: int, thing: str) -> str:
    return f"{number:,} {thing if number == 1 else thing + 's'}"
