"""sqlkit rejects: rows that were refused, listed, exported, replayed, dismissed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from sqlkit.cli.progress import printable
from sqlkit.errors import SqlkitError, place_of


class ListsByDefault(typer.core.TyperGroup):
    """`sqlkit conflicts` and `sqlkit conflicts RULE` list, without a word for it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first, second, *_ = *args, "", ""
        if first not in self.commands and first != "--help":
            if self.is_mistyped(first, second):
                from sqlkit.cli.app import no_such_command

                ctx.fail(no_such_command(first, self.commands))
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def is_mistyped(self, first: str, second: str) -> bool:
        """Whether the first word was to be a command: what is listed has one word at most."""
        return "" not in (first, second) and "-" not in (first[0], second[0])


class _ListsRunByDefault(ListsByDefault):
    """The same for `sqlkit rejects` and `sqlkit rejects RUN`."""

    def is_mistyped(self, first: str, second: str) -> bool:
        return first[:1] not in ("", "-") and not first.isdecimal()


rejects = typer.Typer(
    cls=_ListsRunByDefault,
    rich_markup_mode=None,
    add_completion=False,
    help="Rows that were refused: list them by reason, export, replay or dismiss them.",
)

Run = Annotated[int, typer.Argument(metavar="RUN", help="The run that refused them.")]
Dsn = Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@rejects.command("list")
def list_rejects(
    run: Annotated[int | None, typer.Argument(metavar="[RUN]", help="One run's.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Every row, not only the reasons.")] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List refused rows by reason; with --rows, one by one. The word list may be left out."""
    from sqlkit.cli.runs import no_such_run
    from sqlkit.client import connect

    with connect(dsn) as client:
        reasons = client.reject_reasons(run)
        if run is not None and not reasons and not client.runs(run):
            raise no_such_run(run)
        found = client.rejects(run, state=None) if rows else []
    if as_json:
        print(json.dumps(found if rows else reasons, ensure_ascii=False))
        return
    if rows:
        for reject in found:
            column = f"column {reject['column_name']}: " if reject["column_name"] else ""
            _print(
                f"{reject['reject_id']}  {_place(reject)}{column}{reject['message']} "
                f"({reject['sqlstate']}, {reject['state']})"
            )
            _print(f"    {reject['raw']}")
        return
    if not reasons:
        print("no row was refused" if run is None else f"run {run} refused no row")
    for reason in reasons:
        column = f"column {reason['column_name']}: " if reason["column_name"] else ""
        told = ", its batch was not loaded" if reason["is_told_only"] else ""
        _print(
            f"run {reason['run_id']}, {reason['target']}: {reason['rejects']:,} {reason['state']}"
            f"{told}: {reason['sqlstate']} {column}{reason['first_message']}"
        )
        _print(f"    {_place(reason)}{reason['first_raw']}")


def _place(row: dict[str, Any]) -> str:
    """Where a row stood; one that a query made stood in no source."""
    if row["source"] is None:
        return ""
    return place_of(row["source"], row["first_line"], row["record"]) + ": "


def _print(text: str) -> None:
    print(printable(text))


@rejects.command("export")
def export(
    run: Run,
    file: Annotated[Path, typer.Argument(help="Where to write them; must not exist.")],
    dsn: Dsn = None,
) -> None:
    """Write the open rejects of a run as they stood in the input, to be mended and loaded."""
    from sqlkit.cli.runs import no_such_run
    from sqlkit.client import connect

    with connect(dsn) as client:
        files = client.export_rejects(run)
        if not files and client.rejects(run):
            raise SqlkitError(
                f"the rejects of run {run} are of a transform, and stood in no file",
                hint="Mend the rows that it was made from: the next run takes them.",
            )
        if not files and not client.runs(run):
            raise no_such_run(run)
    if not files:
        raise SqlkitError(f"run {run} has no open rejects", hint="sqlkit rejects lists them.")
    paths = [file]
    if len(files) > 1:
        paths = [file.with_name(f"{file.stem}-{n}{f.suffix}") for n, f in enumerate(files, start=1)]
    for path in paths:
        if path.exists():
            raise SqlkitError(
                f"{path} is there already",
                code="58030",
                hint="Nothing was written: name another file, or remove it.",
            )
    for path, made in zip(paths, files, strict=True):
        _write(path, made.content)
        print(f"{path}: {len(made.reject_ids):,} records")
    print(f"once they are loaded from there: sqlkit rejects dismiss {run}")


def _write(path: Path, content: bytes) -> None:
    """Make a file that is there whole or not at all: nobody would miss the rest of a half."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@rejects.command("replay")
def replay(
    run: Run,
    edit_sql: Annotated[
        str | None,
        typer.Option(
            "--edit-sql",
            metavar="EXPRESSION",
            help="SQL that makes a new record of column raw, such as replace(raw, '?', '').",
        ),
    ] = None,
    reject_limit: Annotated[
        int | None, typer.Option(help="How many may be refused again. Default: any number.")
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Load the open rejects of a run again, after a rule, a row or the data was mended."""
    from sqlkit.cli.load import print_refused, print_result
    from sqlkit.client import connect

    with connect(dsn) as client:
        results = client.replay_rejects(run, edit_sql=edit_sql, reject_limit=reject_limit)
        there = [] if results or as_json else client.rejects(run, state=None)
    if as_json:
        print(json.dumps([result.as_dict() for result in results], ensure_ascii=False))
    elif not results:
        print(f"nothing to replay: {_why_none(run, there)}")
    else:
        for result in results:
            print_result(result)
            if result.rows.rejected:
                print_refused(result)
    if any(result.rows.rejected for result in results):
        raise typer.Exit(3)


@rejects.command("dismiss")
def dismiss(
    run: Run,
    reject: Annotated[
        list[int] | None, typer.Option(help="Only this one; may be repeated.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Mark the open rejects of a run as dismissed: nobody will load them."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        dismissed = client.dismiss_rejects(run, reject)
        there = [] if dismissed or reject else client.rejects(run, state=None)
    print(f"{dismissed:,} dismissed" if dismissed else f"0 dismissed: {_why_none(run, there)}")


def _why_none(run: int, rejects: list[dict[str, Any]]) -> str:
    """Why a run has nothing to replay or dismiss."""
    states = {reject["state"] for reject in rejects}
    if "open" in states:
        return "the edit leaves all open rejects as they are (it is null)"
    told = f"run {run} has no open rejects"
    later = sorted({each["settled_by_run_id"] for each in rejects} - {None})
    if later:
        told += f"; they were replayed by run {', '.join(map(str, later))}, which has those that"
        told += " were refused again"
    return told
