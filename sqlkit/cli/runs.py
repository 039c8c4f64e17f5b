"""sqlkit runs: what was loaded, when, from where."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sqlkit.cli.progress import human_bytes
from sqlkit.errors import SqlkitError


def runs(
    run: Annotated[int | None, typer.Argument(help="One run, with its batches.")] = None,
    limit: Annotated[int, typer.Option(help="How many runs to list, newest first.")] = 20,
    baseline: Annotated[
        int | None,
        typer.Option(metavar="RUN", help="Compare later runs of the same target with this one."),
    ] = None,
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what was loaded: when, from where, with which counters and timings."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        if baseline is not None:
            target = client.set_baseline(baseline)
            print(
                json.dumps({"baseline": baseline, "target": target}, ensure_ascii=False)
                if as_json
                else f"run {baseline} is the baseline of {target}"
            )
            return
        found = client.runs(run, limit=limit)
        if run is not None and not found:
            raise no_such_run(run)
        batches = client.batches(run) if run is not None else None
    if as_json:
        whole = found if batches is None else {**found[0], "batch": batches}
        print(json.dumps(whole, ensure_ascii=False))
        return
    dead = [row for row in found if row["is_alive"] is False]
    for row in dead:
        row["state"] = "dead"
    if batches is None:
        _print_table(_RUN_COLUMNS, found)
        if dead:
            print("\nThe program of a dead run is gone: sqlkit repair or the next load closes it.")
        return
    for name, value in found[0].items():
        if value is not None:
            print(f"{name:>17}  {_shown(name, value)}")
    print()
    _print_table(_BATCH_COLUMNS, batches)


def no_such_run(run: int) -> SqlkitError:
    """What to raise where somebody asks for a run that the ledger has not."""
    return SqlkitError(f"there is no run {run}", code="SK401", hint="sqlkit runs lists them.")


_RUN_COLUMNS = {
    "run_id": "run",
    "started_at": "started",
    "target": "target",
    "policy": "policy",
    "state": "state",
    "rows_read": "read",
    "rows_inserted": "inserted",
    "rows_updated": "updated",
    "rows_deleted": "deleted",
    "rows_unchanged": "unchanged",
    "rows_ignored": "ignored",
    "rows_duplicate": "duplicate",
    "rows_rejected": "rejected",
    "seconds_total": "seconds",
    "wal_bytes": "WAL",
}
_BATCH_COLUMNS = {
    "batch_id": "batch",
    "source": "source",
    "first_line": "first line",
    "last_line": "last line",
    "rows_read": "read",
    "rows_inserted": "inserted",
    "rows_updated": "updated",
    "rows_deleted": "deleted",
    "rows_unchanged": "unchanged",
    "rows_ignored": "ignored",
    "rows_duplicate": "duplicate",
    "rows_rejected": "rejected",
    "seconds_decode": "decode",
    "seconds_copy": "copy",
    "seconds_merge": "merge",
    "wal_bytes": "WAL",
    "indexes": "indexes",
}


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in ("wal_bytes", "bytes_before", "bytes_after", "client_peak_bytes"):
        return human_bytes(value)
    if name.endswith("_at"):
        return str(value)[:19].replace("T", " ")
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int) and not name.endswith("_id"):
        return f"{value:,}"
    return str(value)


def _print_table(columns: dict[str, str], rows: list[dict[str, Any]]) -> None:
    cells = [list(columns.values())]
    cells += [[_shown(name, row[name]) for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
