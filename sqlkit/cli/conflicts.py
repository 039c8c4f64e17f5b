"""sqlkit conflicts: rows that contradict each other, found, listed, settled."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from sqlkit.cli.project import HERE, Folder
from sqlkit.cli.rejects import ListsByDefault

conflicts = typer.Typer(
    cls=ListsByDefault,
    rich_markup_mode=None,
    add_completion=False,
    help="Rows that contradict each other, by rules in the database: see docs/conflicts.md.",
)

Dsn = Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Conflicts = Annotated[list[int], typer.Argument(metavar="CONFLICT...", help="Their numbers.")]
STATES = ("open", "resolved", "ignored", "all")
Note = Annotated[str | None, typer.Option(help="Why; is kept with it.")]


@conflicts.command("list")
def list_conflicts(
    rule: Annotated[str | None, typer.Argument(metavar="[RULE]", help="One rule's.")] = None,
    state: Annotated[str, typer.Option(help="open, resolved, ignored or all.")] = "open",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List conflicts, the open ones unless said otherwise. The word list may be left out."""
    from sqlkit.client import connect
    from sqlkit.errors import SqlkitError, UsageError

    if state not in STATES:
        raise UsageError(f"there is no state {state!r}", hint=f"One of {', '.join(STATES)}.")
    with connect(dsn) as client:
        found = client.conflicts(rule, state=None if state == "all" else state, limit=limit + 1)
        rules = [each["name"] for each in client.conflict_rules()] if rule and not found else []
    if rule and not found and rule not in rules:
        raise SqlkitError(
            f"there is no conflict rule {rule}",
            code="SK802",
            detail=f"Rules: {', '.join(rules) or 'none'}.",
            hint="Make one with sqlkit.define_overlap() or its sisters.",
        )
    more = len(found) > limit
    found = found[:limit]
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for conflict in found:
        print(_line(conflict))
    if not found:
        print("no conflict" if state == "all" else f"no conflict is {state}")
    elif more:
        print(f"and more: --limit {limit * 10}")


def _line(conflict: dict[str, Any]) -> str:
    first, second = _shown(conflict["first_key"]), _shown(conflict["second_key"])
    keys = first if first == second else f"{first} and {second}"
    measure = "" if conflict["measure"] is None else f" by {float(conflict['measure']):g}"
    measure = " without end" if measure == " by inf" else measure
    note = f" ({conflict['note']})" if conflict["note"] else ""
    state = "gone" if conflict["gone_at"] else conflict["state"]
    return (
        f"{conflict['conflict_id']}  {conflict['rule']}: {conflict['target']} {keys} "
        f"of {_shown(conflict['resource'])}: {conflict['kind']}{measure}, {state}{note}"
    )


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


@conflicts.command("detect")
def detect(
    rule: Annotated[
        list[str] | None, typer.Argument(metavar="[RULE]...", help="These rules; default: all.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Look at everything again.")] = False,
    workers: Annotated[
        str, typer.Option(help="Sessions to look at everything with, or auto: by the rows.")
    ] = "auto",
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Find conflicts: what was touched since the last time. Exit code 3 while any is open.

    A rule that fails, since its table is gone, say, keeps no other from it; exit code 1.
    """
    from sqlkit.client import connect
    from sqlkit.errors import SqlkitError, UsageError

    if workers != "auto" and not (workers.isdecimal() and int(workers)):
        raise UsageError(
            f"--workers {workers}: that is no number of sessions", hint="Say auto, or 1 or more."
        )
    found: dict[str, dict[str, Any]] = {}
    with connect(dsn) as client:
        names = rule or [each["name"] for each in client.conflict_rules()]
        for name in names:
            try:
                found[name] = client.detect_conflicts(
                    name, full=full, workers="auto" if workers == "auto" else int(workers)
                )
            except SqlkitError as error:
                if len(names) == 1:
                    raise
                found[name] = {"error": {"code": error.code, "message": error.message}}
                print(f"error: {name}: {error.message}", file=sys.stderr)
                continue
            if not as_json:
                counts = found[name]
                print(
                    f"{name}: {counts['pairs_open']:,} open; {counts['pairs_opened']:,} new, "
                    f"{counts['pairs_changed']:,} changed, {counts['pairs_closed']:,} gone"
                )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    if any("error" in counts for counts in found.values()):
        raise typer.Exit(1)
    if any(counts["pairs_open"] for counts in found.values()):
        raise typer.Exit(3)


@conflicts.command("define")
def define(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Make the rules of sqlkit.yml, or replace them. A rule that is gone from it stays."""
    import asyncio

    from sqlkit.cli.project import enter

    project = enter(folder)
    from sqlkit.pipeline import define_rules

    made = asyncio.run(define_rules(project))
    if as_json:
        print(json.dumps(made, ensure_ascii=False))
        return
    for name in made:
        print(f"{name}: {project.rules[name].kind}, {project.rules[name].table}")
    if not made:
        print("sqlkit.yml has no rules")


@conflicts.command("rules")
def rules(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List the rules with the numbers of their conflicts."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        found = client.conflict_rules()
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for each in found:
        tables = " and ".join(filter(None, (each["target"], each["other"])))
        print(
            f"{each['name']}: {each['kind']}, {tables}: {each['pairs_open']:,} open, "
            f"{each['pairs_ignored']:,} ignored, {each['pairs_resolved']:,} resolved, "
            f"{each['pairs_gone']:,} gone; detected {each['detected_at'] or 'never'}"
        )
    if not found:
        print("no rules: make one with select sqlkit.define_overlap(...)")


@conflicts.command("history")
def history(
    conflict: Annotated[int, typer.Argument(help="Its number.")],
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened to a conflict since it was found."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        found = client.conflict_history(conflict)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    if not found:
        print(f"nothing has happened to conflict {conflict} since it was found")
    for event in found:
        note = f" ({event['note']})" if event["note"] else ""
        print(
            f"{event['happened_at']}  {event['action']} by {event['database_user']}{note}; "
            f"was {event['state_before']}"
        )


def _settle(conflict: list[int], state: str, note: str | None, dsn: str | None) -> None:
    from sqlkit.client import connect

    with connect(dsn) as client:
        print(f"{client.settle_conflicts(conflict, state, note=note):,} {state}")


@conflicts.command("resolve")
def resolve(conflict: Conflicts, note: Note = None, dsn: Dsn = None) -> None:
    """Say that conflicts are resolved: they stay so until their rows change."""
    _settle(conflict, "resolved", note, dsn)


@conflicts.command("ignore")
def ignore(conflict: Conflicts, note: Note = None, dsn: Dsn = None) -> None:
    """Say that conflicts are none: they stay so until their rows change."""
    _settle(conflict, "ignored", note, dsn)


@conflicts.command("reopen")
def reopen(conflict: Conflicts, note: Note = None, dsn: Dsn = None) -> None:
    """Take back what was said of conflicts."""
    _settle(conflict, "open", note, dsn)


@conflicts.command("flag")
def flag(
    rule: Annotated[str, typer.Argument(help="The rule.")],
    column: Annotated[str, typer.Argument(help="A column of its table.")],
    dsn: Dsn = None,
) -> None:
    """Write into a column which rows are in an open conflict: whether, in how many, how much."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        print(f"{client.flag_conflicts(rule, column):,} rows written")
