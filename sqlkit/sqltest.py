"""Looking after the templates of a project: sqlfluff, and transforms of sample rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml

from sqlkit import calls_async as calls
from sqlkit.compatible import check_compatible
from sqlkit.config import Project
from sqlkit.connection import from_psycopg
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.pipeline import connect_to, render


def lint_sql(text: str) -> list[dict[str, Any]]:
    """What sqlfluff has against a statement: line, position, code and description of each."""
    try:
        from sqlfluff.core import FluffConfig, Linter
    except ImportError:
        raise UsageError("sqlfluff is not installed", hint="pip install sqlfluff") from None
    config = FluffConfig.from_path(".", overrides={"dialect": "postgres", "templater": "raw"})
    found = Linter(config=config).lint_string(text)
    return [
        {
            "line": violation.line_no,
            "position": violation.line_pos,
            "code": violation.rule_code(),
            "description": violation.desc(),
        }
        for violation in found.get_violations()
    ]


@dataclass(frozen=True)
class CaseOutcome:
    """What became of a case: nothing differs where it is as expected."""

    table: str
    name: str
    differences: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether the transform made what was expected."""
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain data."""
        return asdict(self) | {"is_ok": self.is_ok}


async def run_cases(project: Project, names: Sequence[str], folder: Path) -> list[CaseOutcome]:
    """Run the transforms of some tables on the sample rows in a folder.

    Nothing is left in the database: each case is rolled back. Raises SqlkitError where a file of
    cases is wrong or a server is not there.
    """
    cases = {name: _read(folder / f"{name}.yml") for name in names}
    if not any(cases.values()):
        raise UsageError(
            f"there are no cases in {folder}",
            hint=f"Write some into {folder / names[0]}.yml: name, given, expect.",
        )
    outcomes = []
    for name in names:
        async with await connect_to(project, project.connection_of(name)) as connection:
            check_compatible(*await calls.version(connection))
            for case in cases[name]:
                found = await _run(connection, project, name, case["given"], case["expect"])
                outcomes.append(CaseOutcome(name, case["name"], tuple(found)))
    return outcomes


class _Texts(yaml.SafeLoader):
    """Reads all scalars but null as text: numbers and dates are for the target's types to read."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as yaml has it
        first: [(tag, pattern) for tag, pattern in found if tag.endswith(":null")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _read(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    try:
        cases = yaml.load(file.read_text(encoding="utf-8"), _Texts)
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is no YAML: {error}") from None
    wanted = {"name": str, "given": list, "expect": list}
    for number, case in enumerate(cases if isinstance(cases, list) else [cases], start=1):
        if not (
            isinstance(case, dict)
            and case.keys() == wanted.keys()
            and all(isinstance(case[key], kind) for key, kind in wanted.items())
            and all(isinstance(row, dict) for row in [*case["given"], *case["expect"]])
        ):
            raise UsageError(
                f"{file}: case {number} is none",
                hint="Each has name, given and expect: text, a list of objects, and another one.",
            )
    return list(cases)


async def _run(
    connection: psycopg.AsyncConnection[Any],
    project: Project,
    name: str,
    given: list[dict[str, Any]],
    expect: list[dict[str, Any]],
) -> list[str]:
    """What differs between the rows that a transform makes and those that are expected."""
    try:
        async with connection.transaction(force_rollback=True):
            made, wanted = await calls.try_transform(
                connection,
                project.target_of(name),
                render(project, name),
                given,
                expect,
                [lookup.told() for lookup in project.lookups_of(name)],
            )
    except psycopg.Error as error:
        if connection.closed:
            raise from_psycopg(error) from error
        return [f"error: {from_psycopg(error).message}"]
    except SqlkitError as error:
        return [f"error: {error.message}"]
    found: Counter[str] = Counter()
    differences = []
    left = list(made)
    for row in wanted:
        partner = next((other for other in left if row.items() <= other.items()), None)
        if partner is None:
            found[_shown(row)] += 1
        else:
            left.remove(partner)
    differences += [f"missing:    {row}" for row in found.elements()]
    differences += [f"unexpected: {_shown(row)}" for row in left]
    return differences


def _shown(row: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in row.items())
