"""What sqlkit's SQL functions take and return, as Python sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column of a target."""

    name: str
    type: str
    is_json: bool
    is_generated: bool
    has_default: bool
    not_null: bool


@dataclass(frozen=True)
class Target:
    """A table that rows are loaded into, as `sqlkit.describe_target` sees it."""

    name: str  # schema.table, quoted
    kind: str  # relkind
    heap_bytes: int
    key: tuple[str, ...] | None
    has_row_triggers: bool
    rows_are_independent: bool
    has_rules: bool
    row_security: bool
    may_deny_rows: bool  # a row policy or a trigger may refuse them as a missing privilege is
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Lookup:
    """A column of a target that gets surrogate ids of a dimension, found by its natural key.

    `key` are columns of the dimension `table` that a unique index covers; their values come in the
    source's columns `source`, of the same names unless said. `id` is the dimension's primary key
    unless it names another column. Keys that the dimension does not have are made, with `defaults`
    for its other columns, unless `create` is False. Where nothing is found the id is null, or
    `placeholder`.
    """

    column: str
    table: str
    key: tuple[str, ...]
    source: tuple[str, ...] | None = None
    id: str | None = None
    create: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    placeholder: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The source's columns that the natural key stands in."""
        return self.source or self.key

    def told(self, staged: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What ``sqlkit.add_lookup()`` is told; `staged`: the source's columns, named otherwise."""
        found = {
            "column": self.column,
            "dimension": self.table,
            "keys": list(self.key),
            "from": [(staged or {}).get(name, name) for name in self.needs],
            "id": self.id,
            "create": self.create,
            "defaults": dict(self.defaults),
            "placeholder": self.placeholder,
        }
        return {name: value for name, value in found.items() if value not in (None, {})}

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> Lookup:
        """The lookup of which `told()` tells, as the ledger keeps it."""
        return cls(
            told["column"],
            told["dimension"],
            tuple(told["keys"]),
            tuple(told["from"]),
            told.get("id"),
            told["create"],
            told.get("defaults", {}),
            told.get("placeholder"),
        )


@dataclass(frozen=True)
class SourceState:
    """How far a source has come, from the ledger."""

    source_id: int
    state: str
    next_offset: int
    next_line: int
    stored_offset: int
    stored_sha256: str | None


@dataclass(frozen=True)
class Session:
    """The other end of a connection: a server process, known by its id and its start."""

    backend_pid: int
    started_at: datetime
    is_read_only: bool
    watches_client: bool


@dataclass(frozen=True)
class Repaired:
    """What `sqlkit.repair_runs` did to a run or to one of its stages."""

    run_id: int
    target: str
    stage: str | None
    action: str  # closed, dropped, forgotten, in use, of another role


@dataclass(frozen=True)
class RunSpeed:
    """How fast runs of a target were, as the ledger has it, and its baseline: `sqlkit.run_speed`.

    The peak is the most memory that the program had, which may work at other tables as well.
    """

    seconds: float
    rows: int
    rows_per_second: float | None  # null where no rows were read
    peak_bytes: int | None
    baseline_run_id: int | None = None
    baseline_rows_per_second: float | None = None
    baseline_peak_bytes: int | None = None

    @property
    def speed_ratio(self) -> float | None:
        """2: twice as fast as the baseline."""
        if not (self.rows_per_second and self.baseline_rows_per_second):
            return None
        return self.rows_per_second / self.baseline_rows_per_second

    @property
    def memory_ratio(self) -> float | None:
        """2: twice the memory of the baseline."""
        if not (self.peak_bytes and self.baseline_peak_bytes):
            return None
        return self.peak_bytes / self.baseline_peak_bytes

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        ratios = {"speed_ratio": self.speed_ratio, "memory_ratio": self.memory_ratio}
        return asdict(self) | ratios


@dataclass(frozen=True)
class MaintenanceStep:
    """A statement of `sqlkit.plan_maintenance`: why, what it brings, and what stands against it."""

    action: str  # clean, vacuum, analyze, reindex, rewrite
    table: str  # schema.table, quoted
    relation: str  # the table or an index of it
    statement: str
    reason: str
    total_bytes: int
    gain_bytes: int
    lock: str
    expected_seconds: float | None
    obstacle: str | None


@dataclass(frozen=True)
class SourceRange:
    """A contiguous piece of a source; see the type of that name in SQL."""

    start_offset: int
    end_offset: int
    first_line: int
    last_line: int
    stored_offset: int
    stored_sha256: str
    is_last: bool


@dataclass(frozen=True)
class Comparison:
    """What differs between two tables, see ``sqlkit.compare_tables()``."""

    rows_left: int
    rows_right: int
    only_left: int
    only_right: int
    different: int
    columns: Mapping[str, int]  # in how many rows each differs
    examples: tuple[Mapping[str, Any], ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.only_left or self.only_right or self.different)
