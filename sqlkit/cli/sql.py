"""sqlkit sql: what the templates of a project become, whether that is well written, and right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sqlkit.cli.project import HERE, Folder, Json, enter, number_of
from sqlkit.errors import UsageError

if TYPE_CHECKING:
    from sqlkit.config import Project

Transforms = Annotated[
    list[str] | None,
    typer.Argument(metavar="TABLE...", help="Tables with a transform. Default: all of them."),
]
Full = Annotated[bool, typer.Option("--full-refresh", help="As sqlkit run --full-refresh does it.")]

app = typer.Typer(
    help="Render, lint and test the templates of a project.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def _chosen(project: Project, names: list[str] | None) -> list[str]:
    from sqlkit.pipeline import choose

    known = [name for name, table in project.tables.items() if table.transform is not None]
    if without := [name for name in names or () if name not in known and name in project.tables]:
        raise UsageError(f"{', '.join(without)} has no template")
    if not known:
        raise UsageError("no table of the project has a transform")
    return [name for name in choose(project, names or ()) if name in known]


@app.command()
def render(
    tables: Transforms = None,
    folder: Folder = HERE,
    full_refresh: Full = False,
    as_json: Json = False,
) -> None:
    """Print the SELECT that each template becomes. Connects to nothing.

    It reads pg_temp.sqlkit_changed, the view of the rows that changed, which is there while a
    transform is applied. Exit codes: 0 rendered, 1 a template cannot become SQL, 2 wrong usage.
    """
    project = enter(folder)
    from sqlkit.pipeline import render as rendered

    found = {
        name: rendered(project, name, full_refresh=full_refresh)
        for name in _chosen(project, tables)
    }
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for name, text in found.items():
        print(f"-- {name}\n{text.rstrip()};\n")


@app.command()
def lint(tables: Transforms = None, folder: Folder = HERE, as_json: Json = False) -> None:
    """Let sqlfluff look at what the templates become.

    Its rules are those of .sqlfluff in the project's folder, if there is one. Lines are those of
    `sqlkit sql render`. Exit codes: 0 nothing was found, 1 something was, 2 wrong usage.
    """
    project = enter(folder)
    from sqlkit.pipeline import render as rendered
    from sqlkit.sqltest import lint_sql

    found = [
        {"table": name, **violation}
        for name in _chosen(project, tables)
        for violation in lint_sql(rendered(project, name))
    ]
    if as_json:
        print(json.dumps({"violations": found}, ensure_ascii=False))
    else:
        for line in found:
            print(f"{line['table']}, line {line['line']}: {line['code']} {line['description']}")
        print(f"{number_of(len(found), 'violation')}")
    raise typer.Exit(int(bool(found)))


@app.command("test")
def try_out(
    tables: Transforms = None,
    folder: Folder = HERE,
    cases: Annotated[
        Path, typer.Option("--cases", metavar="FOLDER", help="Where the sample rows are.")
    ] = Path("tests"),
    as_json: Json = False,
) -> None:
    """Run transforms on sample rows, and compare what they make with what is expected.

    The cases of shop.price are in tests/shop.price.yml: a list of objects with name, given (raw
    rows) and expect (rows of the target, in any order; only the columns that are named are
    compared). All is done in a transaction that is rolled back.

    Exit codes: 0 all as expected, 1 something is not, 2 wrong usage.
    """
    import asyncio

    project = enter(folder)
    from sqlkit.sqltest import run_cases

    outcomes = asyncio.run(run_cases(project, _chosen(project, tables), cases))
    if as_json:
        print(json.dumps({"cases": [case.as_dict() for case in outcomes]}, ensure_ascii=False))
    else:
        for case in outcomes:
            print(f"{'ok' if case.is_ok else 'not ok'}  {case.table}: {case.name}")
            for line in case.differences:
                print(f"    {line}")
        bad = sum(not case.is_ok for case in outcomes)
        print(f"{number_of(len(outcomes), 'case')}, {bad} not ok")
    raise typer.Exit(int(any(not case.is_ok for case in outcomes)))
