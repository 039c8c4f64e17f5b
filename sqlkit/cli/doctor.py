"""sqlkit doctor: what is wrong with the tables, and what mends it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sqlkit.units import parse_bytes


def doctor(
    min_size: Annotated[
        str, typer.Option(help="From what size on unused indexes and bloat count.")
    ] = "1MB",
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List what is wrong with tables, indexes and sequences, the heaviest first.

    Each with the statement that mends it; nothing is changed. Exit code 3: something weighs 70 or
    more, of 100.
    """
    from sqlkit.client import connect

    with connect(dsn) as client:
        found = client.find_problems(parse_bytes(min_size))
    if as_json:
        print(json.dumps({"problem": found}, ensure_ascii=False))
    else:
        for problem in found:
            print(f"{problem['weight']:3}  {problem['problem']}: {problem['relation']}")
            print(f"     {problem['detail']}\n     {problem['statement']};")
        if not found:
            print("nothing found")
    if any(problem["weight"] >= 70 for problem in found):
        raise typer.Exit(3)
