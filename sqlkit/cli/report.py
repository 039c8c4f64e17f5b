"""sqlkit report: one page with plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="Write the page here.")],
    runs: Annotated[int, typer.Option(min=1, help="How many runs to show, the newest.")] = 50,
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
) -> None:
    """Write a self-contained page: throughput, where time went, baselines, storage and bloat.

    It needs nothing but a browser: no network, no scripts.
    """
    from sqlkit.client import connect
    from sqlkit.report import read_report, render

    with connect(dsn) as client:
        page = render(read_report(client, runs))
    html.write_text(page, encoding="utf-8")
    print(html)
