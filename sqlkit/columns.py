"""Which column of a source goes into which column of a target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

from sqlkit.errors import SqlkitError, UsageError
from sqlkit.model import Column, Lookup
from sqlkit.sources.base import WantedColumn

RAW = "raw_data"
"""The column of a raw table that takes a row as one object."""

ABSENT = "sqlkit_absent"
"""The column of a stage that names the columns which a row says nothing of."""

LONGEST_NAME = 63
"""Bytes of a name in PostgreSQL."""

EVERYTHING = "*"
"""In the list of what to leave out: all columns that only one side has."""


class ColumnError(SqlkitError):
    """Source and target do not have the same columns, and nobody said what to leave out."""

    default_code = "SK204"


@dataclass(frozen=True)
class ColumnPlan:
    """How the columns of a source reach the target.

    `staged` are the columns of the stage in the order in which the source delivers them, under
    the names of the target, or under a made-up name where the source's column is left out;
    `wanted` are the same columns as the source calls them.
    """

    staged: tuple[str, ...]
    left_out: tuple[str, ...]
    wanted: tuple[WantedColumn, ...]
    ignored: frozenset[str] | None
    collected: tuple[str, ...] = ()  # of those left out: put together as one object, by the stage
    collected_in: str = RAW
    lookups: tuple[dict[str, Any], ...] = ()  # as `sqlkit.add_lookup()` is told

    @property
    def merged(self) -> tuple[str, ...]:
        """The columns of the target that rows have when they are merged."""
        staged = tuple(name for name in self.staged if name not in self.left_out)
        return staged + tuple(lookup["column"] for lookup in self.lookups)

    @property
    def names(self) -> dict[str, str]:
        """The source's names of the staged columns."""
        return {
            staged: wanted.name for staged, wanted in zip(self.staged, self.wanted, strict=True)
        }

    @property
    def is_direct(self) -> bool:
        """True if COPY may write the source's columns straight into the target."""
        return not (self.left_out or self.lookups)

    def telling_absent(self, columns: Sequence[Column], key: Sequence[str]) -> ColumnPlan:
        """The same with what a row says nothing of, so that it gets the default and no null.

        Only what has a default is looked for. A key is no key without its value.
        """
        defaults = {column.name for column in columns if column.has_default}.difference(key)
        looked_for = tuple(
            (wanted.name, staged)
            for staged, wanted in zip(self.staged, self.wanted, strict=True)
            if staged in defaults and staged not in self.left_out and not wanted.takes_rest
        )
        if not looked_for or ABSENT in {column.name for column in columns}:
            return self
        tells = WantedColumn(ABSENT, is_json=True, type="text", tells_absent=looked_for)
        return replace(
            self,
            staged=(*self.staged, ABSENT),
            left_out=(*self.left_out, ABSENT),
            wanted=(*self.wanted, tells),
        )

    def fits_stage_of(self, other: ColumnPlan) -> bool:
        """True if a stage that is made for the other takes the rows of this, too."""
        return (
            set(self.staged) == set(other.staged)
            and set(self.left_out) == set(other.left_out)
            and not (self.collected or other.collected)
        )


def plan_columns(
    source: str,
    source_columns: Sequence[str],
    target: str,
    target_columns: Sequence[Column],
    *,
    renamed: Mapping[str, str],
    chosen: Sequence[str],
    left_out: Sequence[str],
    passes_through: bool,
    declares_columns: bool,
    rest: str | None = None,
    lookups: Sequence[Lookup] = (),
    discard: str | None = None,
) -> ColumnPlan:
    """Match the columns of a source with those of a target by name.

    `renamed` maps names of the source to names of the target; `chosen`, unless empty, are the
    only columns of the source to load; `left_out` names columns of either side, or '*', that
    have no partner. Unless the source `declares_columns`, one of the target's that is
    not among them is no error: it may come later (JSON lines).

    Unless the source declares its columns, a name in `renamed` may be a path into an object
    (``a.b``), and `rest` names the json(b) column of the target that takes, as one object, what has
    no column of its own. Where all columns are declared, `discard` names one for columns that the
    target has not.

    The columns that `lookups` are for come from the dimension; those of the source that hold
    natural keys are staged, as text where the target has none of the name.

    Raises UsageError for names that do not exist, ColumnError listing both sides where a column
    exists on one side only.
    """
    by_name = {column.name: column for column in target_columns}
    if lookups:
        _check_lookups(lookups, target, by_name)
    there = set(by_name)
    looked_up = {lookup.column for lookup in lookups}
    keys = {name for lookup in lookups for name in lookup.needs}
    target_columns = [column for column in target_columns if column.name not in looked_up]
    by_name = {column.name: column for column in target_columns}
    roots = {re.split("[./]", name)[0] for name in renamed if name not in source_columns}
    if rest is not None:
        _check_rest(rest, by_name, declares_columns=declares_columns)
        del by_name[rest]
        target_columns = [column for column in target_columns if column.name != rest]
        source_columns = [name for name in source_columns if renamed.get(name, name) in by_name]
    if discard is not None:
        if discard not in by_name or not by_name[discard].is_json:
            raise UsageError(
                f"{target} has no column {discard} of type json or jsonb",
                hint="Name the column that takes columns which the table has not.",
            )
        if discard in source_columns:
            raise UsageError(f"{source} has a column {discard}, which is to take others")
        target_columns = [column for column in target_columns if column.name != discard]
    collected: list[str] = []
    if not declares_columns:
        source_columns = chosen or _with_later_columns(source_columns, target_columns, renamed)
        source_columns = [*source_columns, *sorted(keys.difference(source_columns))]
    known = set(source_columns)
    if unknown := [name for name in renamed if name not in known]:
        raise UsageError(
            f"{source} has no column {_listed(unknown)}, which was to be renamed",
            detail=f"Columns of the source: {_listed(source_columns)}.",
        )
    if unknown := sorted(keys - known):
        raise UsageError(
            f"{source} has no column {_listed(unknown)}, by which ids are looked up",
            detail=f"Columns of the source: {_listed(source_columns)}.",
            hint="Say in which columns the natural key comes: from.",
        )
    if unknown := [name for name in chosen if name not in known]:
        raise UsageError(
            f"{source} has no column {_listed(unknown)}",
            detail=f"Columns of the source: {_listed(source_columns)}.",
        )
    leave_all = EVERYTHING in left_out
    staged: list[str] = []
    dropped: list[str] = []
    ignored: set[str] = set()
    wanted: list[WantedColumn] = []
    without_target: list[str] = []
    astray: list[str] = []
    generated: list[str] = []
    for position, name in enumerate(source_columns, start=1):
        column = by_name.get(renamed.get(name, name))
        is_dropped = name in left_out or (bool(chosen) and name not in chosen)
        if name in keys and (is_dropped or column is None or column.is_generated):
            is_free = name not in there and len(name.encode()) <= LONGEST_NAME
            place = name if is_free else f"looked up {position}"
            staged.append(place)
            dropped.append(place)
            wanted.append(WantedColumn(name, type="text"))
            continue
        if not is_dropped and column is None and discard is not None:
            collected.append(f"collected {position}")
            staged.append(collected[-1])
            dropped.append(collected[-1])
            wanted.append(WantedColumn(name, type="text"))
            continue
        if not is_dropped and column is None and not leave_all and name not in roots:
            without_target.append(name)
            if name in renamed:
                astray.append(renamed[name])
        if not is_dropped and column is not None and column.is_generated:
            if leave_all:
                is_dropped = True
            else:
                generated.append(name)
        if is_dropped or column is None:
            ignored.add(name)
            if passes_through:
                placeholder = f"left out {position}"
                staged.append(placeholder)
                dropped.append(placeholder)
                wanted.append(WantedColumn(name))
            continue
        staged.append(column.name)
        wanted.append(WantedColumn(name, is_json=column.is_json, type=column.type))
    if rest is not None:
        staged.append(rest)
        wanted.append(WantedColumn(rest, is_json=True, type="jsonb", takes_rest=True))
    taken = set(staged)
    without_source = [
        column.name
        for column in target_columns
        if column.name not in taken
        and not column.is_generated
        and not column.has_default
        and column.name not in left_out
        and not leave_all
        and not chosen
    ]
    if generated:
        raise ColumnError(
            f"{target}: {_listed(generated)} cannot be loaded, PostgreSQL computes it",
            code="SK205",
            hint=f"Leave it out: --leave-out {','.join(generated)}",
        )
    if without_target or without_source:
        lines = []
        if astray:
            lines.append(f"{target} has no {_listed(astray)}, to which --map leads")
        if without_target:
            lines.append(f"only in {source}: {_listed(without_target)}")
        if without_source:
            lines.append(f"only in {target}: {_listed(without_source)}")
        raise ColumnError(
            "source and target do not have the same columns: " + "; ".join(lines),
            detail=f"Source: {_listed(source_columns)}. "
            f"Target: {_listed([column.name for column in target_columns])}.",
            hint=f"Rename with {_maps(without_target, without_source)}, or leave columns out with "
            "--leave-out NAME,... (--leave-out '*' for all of them).",
        )
    doubled = sorted({name for name in staged if staged.count(name) > 1})
    if doubled:
        raise ColumnError(
            f"{source}: several columns go into {_listed(doubled)}",
            hint="Leave one of them out with --leave-out, or map it to another column.",
        )
    if len(staged) == len(dropped) and not lookups:
        raise ColumnError(
            f"{source} has no column that {target} has",
            detail=f"Source: {_listed(source_columns)}. "
            f"Target: {_listed([column.name for column in target_columns])}.",
            hint="Rename with --map 'source name=column'.",
        )
    may_ignore = None if leave_all else frozenset(ignored) | frozenset(left_out)
    places = {column.name: name for name, column in zip(staged, wanted, strict=True)}
    return ColumnPlan(
        tuple(staged),
        tuple(dropped),
        tuple(wanted),
        may_ignore,
        tuple(collected),
        discard or "",
        lookups=tuple(lookup.told(places) for lookup in lookups),
    )


def new_columns(
    source_columns: Sequence[str],
    target_columns: Sequence[Column],
    *,
    renamed: Mapping[str, str],
    chosen: Sequence[str],
    left_out: Sequence[str],
    lookups: Sequence[Lookup] = (),
) -> dict[str, str]:
    """The columns of a source, by the names that they would have in a target that has them not."""
    there = {column.name for column in target_columns}
    left_out = [*left_out, *(name for lookup in lookups for name in lookup.needs)]
    return {
        name: renamed.get(name, name)
        for name in source_columns
        if renamed.get(name, name) not in there
        and name not in left_out
        and (not chosen or name in chosen)
    }


def absent_columns(
    source_columns: Sequence[str],
    target_columns: Sequence[Column],
    renamed: Mapping[str, str],
    lookups: Sequence[Lookup] = (),
) -> tuple[str, ...]:
    """The columns of a target that a source has not, and that may be null."""
    arriving = {renamed.get(name, name) for name in source_columns}
    arriving |= {lookup.column for lookup in lookups}
    return tuple(
        column.name
        for column in target_columns
        if column.name not in arriving and not column.not_null
    )


def plan_raw(
    source: str,
    source_columns: Sequence[str],
    target: str,
    target_columns: Sequence[Column],
    *,
    gives_objects: bool,
) -> ColumnPlan:
    """How all columns of a source reach the column raw_data of a target, as one object.

    Where the source does not give objects (as JSON does), all columns are staged as text, and the
    stage makes one of them (`collected`).

    Raises UsageError where the target has no such column.
    """
    found = [column for column in target_columns if column.name == RAW and column.is_json]
    if not found:
        raise UsageError(
            f"{target} has no column {RAW} of type json or jsonb: rows cannot land there raw",
            hint="Let sqlkit make the table (--create), or: select sqlkit.create_raw_table(...)",
        )
    if gives_objects:
        whole = WantedColumn(RAW, is_json=True, type="jsonb", takes_rest=True)
        return ColumnPlan((RAW,), (), (whole,), None)
    staged = tuple(f"raw {position}" for position in range(1, len(source_columns) + 1))
    wanted = tuple(WantedColumn(name, type="text") for name in source_columns)
    return ColumnPlan(staged, staged, wanted, frozenset(), collected=staged)


def _check_lookups(lookups: Sequence[Lookup], target: str, columns: Mapping[str, Column]) -> None:
    for lookup in lookups:
        column = columns.get(lookup.column)
        if column is None or column.is_generated:
            raise ColumnError(
                f"{target} has no column {lookup.column} that could get an id",
                detail=f"Target: {_listed(list(columns))}.",
            )
        if len(lookup.needs) != len(lookup.key):
            raise UsageError(
                f"the key of {lookup.table} has {len(lookup.key)} columns, and "
                f"{len(lookup.needs)} were named for it"
            )


def _check_rest(rest: str, target: Mapping[str, Column], *, declares_columns: bool) -> None:
    if declares_columns:
        raise UsageError(
            "only JSON, XML and mappings of Python have keys that a column can take together",
            hint="Leave --rest out.",
        )
    if rest not in target or not target[rest].is_json:
        raise UsageError(
            f"the target has no column {rest} of type json or jsonb",
            hint="Name the column that takes what has no column of its own: --rest extra",
        )


def _with_later_columns(
    source_columns: Sequence[str], target_columns: Sequence[Column], renamed: Mapping[str, str]
) -> list[str]:
    """The columns that have turned up, and those of the target that may yet.

    A column with a default is taken only where it turned up, or was asked for: a null would take
    the default's place.
    """
    expected = {renamed.get(name, name) for name in source_columns}
    original = {new: old for old, new in renamed.items()}
    return [
        *source_columns,
        *(
            original.get(column.name, column.name)
            for column in target_columns
            if column.name not in expected
            and not column.is_generated
            and (column.name in original or not column.has_default)
        ),
    ]


def _maps(names: Sequence[str], columns: Sequence[str]) -> str:
    """How to rename: of names that differ by case, spaces and dashes alone, what to say."""
    by_letters = {_letters(column): column for column in columns}
    alike = [(name, by_letters.get(_letters(name))) for name in names]
    pairs = [f"--map {quote(f'{name}={column}')}" for name, column in alike if column is not None]
    return " ".join(pairs) or "--map 'source name=column'"


def _letters(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
