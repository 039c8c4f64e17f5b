"""What can be said about a load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlkit.errors import UsageError
from sqlkit.model import Lookup
from sqlkit.transient import RETRY_FOR

if TYPE_CHECKING:
    from sqlkit.sources.base import Source
    from sqlkit.sources.newer import Newer, Overlap

STRATEGIES = ("auto", "insert", "copy", "stage", "parallel")
"""How rows get to the server: what fits best, plain INSERTs into a stage, one stream of COPY,
always through stages, or two streams at least. The result is the same."""

POLICIES = ("append", "ignore", "update", "newer", "fill", "error", "history")
CONFLICTS = ("report", "reject", "trim")

SCHEMAS = ("evolve", "freeze")
"""What becomes of columns that a source has and its target has not: they are added, or refused
before anything is written. A third way is to put them together in one column, `discard`."""

INDEXES = ("auto", "keep", "rebuild")
"""What becomes of the indexes that neither keys nor constraints need, while rows are written."""


@dataclass(frozen=True)
class LoadOptions:
    """How sources are loaded; `AsyncClient.load` says what each means."""

    policy: str = "update"
    key: tuple[str, ...] | None = None
    order_by: str | None = None
    columns: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    rest: str | None = None
    schema: str | None = None
    discard: str | None = None
    raw: bool = False
    create: bool = False
    workers: int = 2
    use_copy: bool = True
    strategy: str = "auto"
    indexes: str = "auto"
    batch_bytes: int | None = None
    atomic: bool = False
    dry_run: bool = False
    again: bool = False
    reject_limit: int | None = 0
    reject_share: float | None = None
    retry_for: float = RETRY_FOR
    conflicts: str | None = None
    since: str | None = None
    since_overlap: Overlap | None = None
    tune: bool = False
    warm: bool = False
    lookups: tuple[Lookup, ...] = ()

    @property
    def holds_to_rules(self) -> bool:
        """True if rows that contradict others are kept away, or cut, before they are merged."""
        return self.conflicts in ("reject", "trim")

    def check(self) -> None:
        """Raises UsageError for options that contradict each other."""
        if self.policy not in POLICIES:
            raise UsageError(
                f"there is no policy {self.policy!r}",
                code="SK206",
                hint=f"One of {', '.join(POLICIES)}.",
            )
        if self.policy == "newer" and not self.order_by:
            raise UsageError(
                "policy newer needs a column to order by",
                code="SK207",
                hint="Name one that grows with each version of a row: --order-by updated_at",
            )
        if self.order_by and self.policy not in ("newer", "history"):
            raise UsageError(
                f"policy {self.policy} does not order by a column",
                hint="Leave --order-by out, or use --policy newer or history.",
            )
        if self.create and self.policy == "history":
            raise UsageError(
                "policy history needs a table with a range column and a constraint on it",
                code="SK212",
                hint="Make it yourself: docs/history.md has an example.",
            )
        if self.strategy not in STRATEGIES:
            raise UsageError(
                f"there is no strategy {self.strategy!r}",
                code="SK209",
                hint=f"One of {', '.join(STRATEGIES)}.",
            )
        if self.indexes not in INDEXES:
            raise UsageError(
                f"there is no way {self.indexes!r} to treat indexes",
                hint=f"One of {', '.join(INDEXES)}.",
            )
        if self.schema not in (None, *SCHEMAS):
            raise UsageError(
                f"there is no schema policy {self.schema!r}", hint=f"One of {', '.join(SCHEMAS)}."
            )
        if self.discard is not None and (self.schema is not None or self.rest is not None):
            raise UsageError("columns are discarded to one column, or added, or refused")
        if self.schema is not None and "*" in self.left_out:
            raise UsageError("columns of which all are left out are neither added nor refused")
        if self.workers < 1:
            raise UsageError("workers must be at least 1")
        if self.batch_bytes is not None and self.batch_bytes < 1:
            raise UsageError("the batch size must be at least 1 byte")
        if not isinstance(self.reject_limit, int | None):
            raise UsageError(
                f"a limit of rejects is a number of rows, and not {self.reject_limit!r}",
                hint="A share of the rows is reject_share=0.01.",
            )
        if self.reject_limit is not None and self.reject_limit < 0:
            raise UsageError("the limit of rejects must be at least 0")
        if self.reject_share is not None and not 0 <= self.reject_share <= 1:
            raise UsageError("the share of rejects must lie between 0% and 100%")
        if self.retry_for < 0:
            raise UsageError("the time to retry for must be at least 0 seconds")
        if self.conflicts not in (None, *CONFLICTS):
            raise UsageError(
                f"there is no way {self.conflicts!r} of dealing with conflicts",
                code="SK805",
                hint=f"One of {', '.join(CONFLICTS)}.",
            )
        if self.holds_to_rules and self.policy in ("fill", "history"):
            raise UsageError(
                f"policy {self.policy} cannot be held to rules: what a row says is known only when "
                "it is merged",
                code="SK805",
                hint="Use another policy, or --conflicts report.",
            )
        if self.since_overlap and self.since is None:
            raise UsageError(
                "an overlap goes back from a watermark, and there is none",
                hint="Name its column: --since updated_at",
            )
        if self.since_overlap and self.policy in ("append", "error"):
            raise UsageError(
                f"policy {self.policy} would take the rows of an overlap for new ones",
                hint="Use a policy that compares, such as update, or leave --since-overlap out.",
            )
        if self.lookups and self.raw:
            raise UsageError("rows that land as they are have no keys to look up")
        if self.conflicts == "report" and self.dry_run:
            raise UsageError(
                "a dry run records no conflicts",
                code="SK805",
                hint="Leave --dry-run out, or see what --conflicts reject would refuse.",
            )

    @property
    def may_copy(self) -> bool:
        """Whether rows may get to the server by COPY."""
        return self.use_copy and self.strategy != "insert"

    @property
    def may_go_straight(self) -> bool:
        """Whether rows may get into the target without a stage."""
        return self.may_copy and self.strategy != "stage"

    @property
    def streams(self) -> int:
        """How many streams there may be."""
        if self.strategy == "copy":
            return 1
        return max(2, self.workers) if self.strategy == "parallel" else self.workers

    def newer(self, stands: str | None) -> Newer:
        """What a source is asked for that was loaded as far as `stands`."""
        from sqlkit.sources.newer import Newer

        assert self.since is not None
        return Newer(
            self.since,
            stands,
            overlap=self.since_overlap,
            strictly=self.policy in ("append", "error"),
            everything=self.again,
        )

    def as_recorded(self) -> dict[str, Any]:
        """What the ledger keeps of them: those that were given."""
        found: dict[str, Any] = {
            "order_by": self.order_by,
            "columns": list(self.columns),
            "map": dict(self.renamed),
            "left_out": list(self.left_out),
            "rest": self.rest,
            "schema": self.schema,
            "discard": self.discard,
            "raw": self.raw,
            "strategy": None if self.strategy == "auto" else self.strategy,
            "batch_bytes": self.batch_bytes,
            "indexes": None if self.indexes == "auto" else self.indexes,
            "atomic": self.atomic,
            "again": self.again,
            "reject_limit": self.reject_limit,
            "reject_share": self.reject_share,
            "conflicts": self.conflicts,
            "since": self.since,
            "since_overlap": str(self.since_overlap) if self.since_overlap else None,
            "tune": self.tune,
            "warm": self.warm,
            "lookups": [lookup.told() for lookup in self.lookups],
        }
        return {name: value for name, value in found.items() if value}

    def manner(self, source: Source, key: Sequence[str] | None) -> dict[str, Any]:
        """What decides which rows and columns of a source are written, and how.

        `key` is the one that is used, whether it was named or is that of the table.
        The same content is loaded again when it is asked for in another manner: this, and not what
        only says how fast, how much at a time, or how many bad rows there may be.
        """
        found: dict[str, Any] = {
            "policy": self.policy,
            "key": sorted(key or ()),
            "order_by": self.order_by,
            "columns": sorted(self.columns),
            "map": dict(self.renamed),
            "left_out": sorted(self.left_out),
            "rest": self.rest,
            "lookups": [lookup.told() for lookup in self.lookups],
            "discard": self.discard,
            "format": source.format,
            "reading": dict(source.reading),
        }
        return {name: value for name, value in found.items() if value}
