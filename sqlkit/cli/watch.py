"""sqlkit watch: a live page of what goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sqlkit.cli.progress import human_bytes, human_seconds

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from sqlkit.client import Client

_BARS = " ▁▂▃▄▅▆▇█"


def watch(
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
) -> None:
    """Show loads that run and that ended, rows per minute, locks, rejects and tables, live.

    Ends with Ctrl-C. Where the output is no terminal, it is shown once.
    """
    from rich.console import Console
    from rich.live import Live

    from sqlkit.client import connect

    console = Console()
    with connect(dsn) as client:
        if once or not console.is_terminal:
            console.print(page(client, console.width))
            return
        shown = page(client, console.width)
        with Live(shown, console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(page(client, console.width), refresh=True)


def page(client: Client, width: int) -> Group:
    """The whole page, read anew, for so many characters."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_running(client.monitor("run_progress")), _minutes(client, width)]
    for title, view, columns in _LISTS:
        rows = [row for row in client.monitor(view, 6) if row.get(_WORTH.get(view, ""), 1)]
        if rows:
            parts.append(_table(title, columns, rows))
    parts.append(Text(time.strftime("%H:%M:%S"), style="dim"))
    return Group(*parts)


_WORTH = {"dead_rows": "dead_rows", "bloat": "bloat_bytes"}
"""Where there is none of it, a row is left out."""

_LISTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "waiting for locks",
        "waiting_lock",
        {"pid": "pid", "waits_for": "waits for", "seconds": "for", "blocked_by": "blocked by"},
    ),
    (
        "latest runs",
        "run_speed",
        {
            "run_id": "run",
            "target": "target",
            "rows_read": "rows",
            "rows_per_second": "rows/s",
            "seconds_total": "took",
            "speed_ratio": "baseline",
        },
    ),
    ("open rejects", "open_reject", {"run_id": "run", "target": "target", "rejects": "rejects"}),
    (
        "slow batches",
        "slow_batch",
        {"run_id": "run", "target": "target", "rows_read": "rows", "seconds": "took"},
    ),
    (
        "largest tables",
        "storage",
        {
            "table_name": "table",
            "total_bytes": "in all",
            "heap_bytes": "heap",
            "index_bytes": "indexes",
            "toast_bytes": "TOAST",
        },
    ),
    (
        "most dead rows",
        "dead_rows",
        {
            "table_name": "table",
            "live_rows": "live",
            "dead_rows": "dead",
            "dead_share": "share",
            "vacuumed_at": "vacuumed",
        },
    ),
    (
        "most bloat",
        "bloat",
        {
            "table_name": "table",
            "kind": "of its",
            "relation": "relation",
            "bloat_bytes": "bloat",
            "bloat_ratio": "share",
        },
    ),
)


_BESIDE = 20
"""Characters of a line that neither the target nor its bars take."""


def _running(rows: list[dict[str, Any]]) -> Table:
    for row in rows:
        row["rows"] = row["rows_committed"] + row["rows_copied"]
    columns = {
        "run_id": "run",
        "target": "target",
        "rows": "rows",
        "rows_per_second": "rows/s",
        "seconds": "since",
        "doing": "doing",
        "share_done": "done",
    }
    return _table("running" if rows else "nothing runs", columns, rows)


def _minutes(client: Client, width: int) -> Table:
    """The last hour as a line of bars for each target; of several minutes, if that has to be."""
    minutes: list[str] = []
    rows: dict[str, dict[str, int]] = {}
    for row in client.monitor("rows_per_minute"):
        if row["minute_at"] not in minutes:
            minutes.append(row["minute_at"])
        if row["target"] is not None:
            rows.setdefault(row["target"], {})[row["minute_at"]] = row["rows_read"]
    room = max(10, width - max(map(len, rows), default=0) - _BESIDE)
    span = -(-len(minutes) // room) or 1
    spans = [minutes[at : at + span] for at in range(0, len(minutes), span)]
    bars = {
        target: [sum(each.get(minute, 0) for minute in some) for some in spans]
        for target, each in rows.items()
    }
    most = max((value for each in bars.values() for value in each), default=0) or 1
    found = [
        {
            "target": target,
            "hour": "".join(_BARS[-(-8 * value // most)] for value in each),
            "rows": sum(each),
        }
        for target, each in bars.items()
    ]
    columns = {"target": "target", "hour": "the last hour", "rows": "rows"}
    return _table("rows per minute", columns, found)


def _table(title: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, expand=True)
    for heading in columns.values():
        table.add_column(heading, no_wrap=heading == "the last hour")
    for row in rows:
        # As text: a name in brackets is no markup.
        table.add_row(*(Text(_shown(name, row[name])) for name in columns))
    return table


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return human_bytes(value)
    if name in ("seconds", "seconds_total"):
        return human_seconds(value)
    if name in ("share_done", "bloat_ratio", "dead_share"):
        return f"{value:.0%}"
    if name == "speed_ratio":
        return f"{value:.2f} x"
    if name.endswith("_at"):
        return str(value)[:16].replace("T", " ")
    if isinstance(value, int | float) and name not in ("pid", "run_id"):
        return f"{value:,.0f}"
    return str(value)
