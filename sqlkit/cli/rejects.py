"""sqlkit rejects: rows that were refused, listed, exported, replayed, dismissed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from sqlkit.cli.progress import printable
from sqlkit.errors import SqlkitError


class _ListsByDefault(typer.core.TyperGroup):
    """`sqlkit rejects` and `sqlkit rejects RUN` list, without a word for it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


rejects = typer.Typer(
    cls=_ListsByDefault,
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
    return "" if row["source"] is None else f"{row['source']}, line {row['first_line']}: "


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
    for number, made in enumerate(files, start=1):
        several = len(files) > 1
        path = file.with_name(f"{file.stem}-{number}{made.suffix}") if several else file
        with path.open("xb") as out:
            out.write(made.content)
        print(f"{path}: {len(made.reject_ids):,} records")
    print(f"once they are loaded from there: sqlkit rejects dismiss {run}")


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
    from sqlkit.cli.load import print_result
    from sqlkit.client import connect

    with connect(dsn) as client:
        results = client.replay_rejects(run, edit_sql=edit_sql, reject_limit=reject_limit)
    if as_json:
        print(json.dumps([result.as_dict() for result in results], ensure_ascii=False))
    elif not results:
        print(f"nothing to replay: run {run} has no open rejects, or the edit leaves them out")
    else:
        for result in results:
            print_result(result)
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
        print(f"{client.dismiss_rejects(run, reject):,} dismissed")
