"""sqlkit tune: what the server's settings are, and what they should be."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer

from sqlkit.errors import UsageError
from sqlkit.units import parse_bytes

_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def tune(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME,...]", help="Only these settings; all: every one."),
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="Set what is advised (ALTER SYSTEM): the settings named, or, where none is, those "
            "that need no restart. Nothing is set without it.",
        ),
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="Of the server, such as 64GB. Default: looked up, if here.")
    ] = None,
    cores: Annotated[
        int | None, typer.Option(help="Of the server. Default: looked up, if it is this machine.")
    ] = None,
    storage: Annotated[str | None, typer.Option(help="ssd or hdd. Default: looked up.")] = None,
    rows: Annotated[
        str | None, typer.Option(help="Size a planned load of so many rows, such as 130M.")
    ] = None,
    row_bytes: Annotated[int, typer.Option(help="What the columns of one of them take.")] = 100,
    key_bytes: Annotated[int, typer.Option(help="What those of its key take.")] = 8,
    indexes: Annotated[int, typer.Option(help="The key's and others.")] = 1,
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Advise settings of the server, one by one, with the reason and its source.

    With --rows: say what memory, storage, WAL and time a planned load needs.
    """
    from sqlkit.client import connect
    from sqlkit.tuning import AT_ONCE, chosen_of

    with connect(dsn) as client:
        if rows is not None:
            sizes = client.size_load(_parse_count(rows), row_bytes, key_bytes, indexes)
            if as_json:
                print(json.dumps({"size": sizes}, ensure_ascii=False))
            else:
                for size in sizes:
                    print(f"{size['what']:8} {size['amount']:>10}  {size['why']}")
            return
        advice = client.advise_settings(
            memory_bytes=None if memory is None else parse_bytes(memory),
            cores=cores,
            storage=storage,
        )
        chosen = [name.strip() for text in names or [] for name in text.split(",")]
        knows_machine = any(line["name"] == "shared_buffers" for line in advice)
        advice = chosen_of(advice, chosen)
        changed = client.apply_settings(advice, chosen or [AT_ONCE]) if apply else []
    if as_json:
        done = [line["name"] for line in changed]
        print(json.dumps({"advice": advice, "changed": done}, ensure_ascii=False))
    elif apply:
        _print_changed(changed)
    else:
        _print_advice(advice)
        if not knows_machine:
            print("the server is another machine: --memory and --cores say what it has")


def _print_advice(advice: list[dict[str, Any]]) -> None:
    for line in advice:
        if not line["is_met"]:
            restart = " (restart)" if line["needs_restart"] else ""
            print(f"{line['name']}: {line['present']}, advised: {line['advised']}{restart}")
            print(f"    {line['why']}\n    {line['rule_source']}")
    met = [line["name"] for line in advice if line["is_met"]]
    print(f"as advised: {', '.join(met) or 'none'}")


def _print_changed(changed: list[dict[str, Any]]) -> None:
    for line in changed:
        restart = ": after a restart" if line["needs_restart"] else ""
        print(f"{line['name']} = {line['advised']}{restart}; it was {line['present']}")
    if not changed:
        print("nothing to change")


def _parse_count(text: str) -> int:
    """A number of rows, such as 130M. Raises UsageError."""
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a number of rows", hint="Write it as 500000 or 130M.")
    return int(float(found[1]) * _FACTORS[found[2].lower()])
