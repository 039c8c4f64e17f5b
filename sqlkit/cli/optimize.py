"""sqlkit optimize: vacuum, analyze and reindex what needs it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sqlkit.cli.progress import human_bytes, human_seconds
from sqlkit.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from sqlkit.maintenance_plan import MaintenanceOutcome
    from sqlkit.model import MaintenanceStep

LEFT = 3
"""The exit code where something is left to do: refused, or postponed."""


def optimize(
    tables: Annotated[
        str | None,
        typer.Option(metavar="SCHEMA.TABLE,...", help="Only these; default: all tables."),
    ] = None,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Vacuum (and analyze).")] = False,
    analyze: Annotated[bool, typer.Option("--analyze", help="Analyze.")] = False,
    reindex: Annotated[bool, typer.Option("--reindex", help="Rebuild bloated indexes.")] = False,
    rewrite: Annotated[
        bool,
        typer.Option("--rewrite", help="Rewrite bloated tables: by REPACK or pg_squeeze."),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", "--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(help="Stop after so long, such as 30m; the next call continues.")
    ] = None,
    max_load: Annotated[
        int | None, typer.Option(help="Wait while more other sessions than so are at work.")
    ] = None,
    lock_timeout: Annotated[str, typer.Option(help="Wait for a lock no longer.")] = "5s",
    patience: Annotated[
        str, typer.Option(help="Refuse while a transaction older than this holds back dead rows.")
    ] = "5m",
    max_lag: Annotated[
        str, typer.Option(help="Refuse while a replica is further behind, in bytes of WAL.")
    ] = "256MB",
    free_disk: Annotated[
        str | None,
        typer.Option(help="Free disk of the server, where it is another machine."),
    ] = None,
    min_size: Annotated[str, typer.Option(help="Rebuild to gain at least so much.")] = "1MB",
    schedule: Annotated[
        str | None,
        typer.Option(metavar="CRON", help="Not now: have pg_cron do it, such as '0 3 * * *'."),
    ] = None,
    unschedule: Annotated[bool, typer.Option("--unschedule", help="Take that back.")] = False,
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Keep tables and indexes small and known: by a plan, which is printed first.

    Without --vacuum, --analyze, --reindex or --rewrite: the first three. What interrupted
    statements left is always cleaned up. One statement after the other, each outside a transaction
    and with lock_timeout; sizes before and after go to the ledger (sqlkit.maintenance). Exit code
    3: something is left to do. With --schedule pg_cron does all this at the times given.
    """
    from sqlkit.client import connect
    from sqlkit.errors import UsageError
    from sqlkit.maintenance_plan import MaintenanceOptions

    if unschedule and schedule is not None:
        raise UsageError("--schedule and --unschedule do not go together")
    if plan and (unschedule or schedule is not None):
        raise UsageError("--plan shows what is to be done now, and a schedule is for later")
    chosen = {"vacuum": vacuum, "analyze": analyze, "reindex": reindex, "rewrite": rewrite}
    actions = [name for name, wanted in chosen.items() if wanted]
    options = MaintenanceOptions(
        tables=_names(tables or ""),
        actions=("clean", *(actions or ("vacuum", "analyze", "reindex"))),
        budget=None if budget is None else parse_seconds(budget),
        max_load=max_load,
        lock_timeout=parse_seconds(lock_timeout),
        patience=parse_seconds(patience),
        lag_bytes=parse_bytes(max_lag),
        free_bytes=None if free_disk is None else parse_bytes(free_disk),
        least_bytes=parse_bytes(min_size),
    )
    with connect(dsn) as client:
        if unschedule:
            _tell(as_json, "unscheduled", client.unschedule_maintenance())
            return
        if schedule is not None:
            _tell(as_json, "job_id", client.schedule_maintenance(schedule, options))
            return
        steps = client.plan_maintenance(options)
        if not as_json:
            _print_plan(steps)
        if plan:
            if as_json:
                print(json.dumps({"plan": [asdict(step) for step in steps]}, ensure_ascii=False))
            return
        outcomes = client.optimize(options, on_outcome=None if as_json else _print_outcome)
    if as_json:
        print(json.dumps({"done": [each.as_dict() for each in outcomes]}, ensure_ascii=False))
    states = {outcome.state for outcome in outcomes}
    if "failed" in states:
        raise typer.Exit(1)
    if states - {"done"}:
        raise typer.Exit(LEFT)


def _names(text: str) -> tuple[str, ...]:
    """The names of a list; a comma within double quotes belongs to a name."""
    return tuple(name.strip() for name in re.findall(r'(?:"[^"]*"|[^",])+', text) if name.strip())


def _tell(as_json: bool, name: str, value: int | bool) -> None:
    if as_json:
        print(json.dumps({name: value}))
    elif name == "job_id":
        print(f"scheduled: job {value} of pg_cron")
    else:
        print("unscheduled" if value else "there was no schedule")


def _print_plan(steps: list[MaintenanceStep]) -> None:
    if not steps:
        print("nothing to do")
    for number, step in enumerate(steps, 1):
        facts = [step.reason]
        if step.gain_bytes:
            facts.append(f"gains {human_bytes(step.gain_bytes)} of {human_bytes(step.total_bytes)}")
        facts.append(step.lock)
        if step.expected_seconds is not None:
            facts.append(f"about {human_seconds(step.expected_seconds)}")
        print(f"{number:3}  {step.statement}\n     {'; '.join(facts)}")
        if step.obstacle is not None:
            print(f"     not now: {step.obstacle}")


def _print_outcome(outcome: MaintenanceOutcome) -> None:
    text = f"{outcome.state}: {outcome.step.statement}"
    if outcome.reason is not None:
        text += f" ({outcome.reason})"
    elif outcome.bytes_before is not None and outcome.bytes_after is not None:
        text += (
            f" ({human_bytes(outcome.bytes_before)} -> {human_bytes(outcome.bytes_after)}, "
            f"{human_seconds(outcome.seconds)})"
        )
    print(text, flush=True)
