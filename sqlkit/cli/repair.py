"""sqlkit repair: put in order what dead programs left behind."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def repair(
    target: Annotated[
        str | None, typer.Option(metavar="SCHEMA.TABLE", help="Only what loaded into this table.")
    ] = None,
    grace: Annotated[
        str,
        typer.Option(
            metavar="INTERVAL",
            help="Behind a connection proxy: silent for so long means gone.",
        ),
    ] = "5 minutes",
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Close the runs whose program is gone, drop the stages that nobody uses any more, and put back
    what --tune has changed.

    Every load does this for its own target. A batch is one transaction, so that data and indexes
    never need to be put back. Running loads are left alone.
    """
    from sqlkit.client import connect

    with connect(dsn) as client:
        done = client.repair(target, grace=grace)
    if as_json:
        print(json.dumps({"repaired": [asdict(row) for row in done]}, ensure_ascii=False))
        return
    for row in done:
        what = (
            f"run {row.run_id}" if row.stage is None else f"stage {row.stage} of run {row.run_id}"
        )
        print(f"{what} ({row.target}): {row.action}")
    if not done:
        print("nothing to repair: all runs are closed or alive, and no stage is left")
