"""What maintenance is asked for, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlkit.errors import UsageError
from sqlkit.model import MaintenanceStep

ACTIONS = ("clean", "vacuum", "analyze", "reindex", "rewrite")


@dataclass(frozen=True)
class MaintenanceOptions:
    """What to do, and when to leave it."""

    tables: tuple[str, ...] = ()  # none: all
    actions: tuple[str, ...] = ("clean", "vacuum", "analyze", "reindex")
    budget: float | None = None  # seconds for all of it
    max_load: int | None = None  # other sessions that may be at work
    lock_timeout: float = 5  # seconds to wait for any lock
    patience: float = 300  # seconds for which a transaction may have held dead rows back
    lag_bytes: int = 256 * 1024 * 1024
    free_bytes: int | None = None  # None: looked for, where the server is on this machine
    least_bytes: int = 1024 * 1024
    least_ratio: float = 0.3

    def check(self) -> None:
        """Raises UsageError for what makes no sense."""
        unknown = set(self.actions) - set(ACTIONS)
        if unknown:
            raise UsageError(
                f"there is no such maintenance: {', '.join(sorted(unknown))}",
                hint=f"Choose from {', '.join(ACTIONS)}.",
            )
        if self.lock_timeout <= 0:
            raise UsageError("lock_timeout has to be more than 0: nothing waits for ever")

    def check_scheduled(self) -> None:
        """Raises UsageError also for what pg_cron's jobs cannot heed."""
        self.check()
        if (self.max_load, self.free_bytes, self.least_ratio) != (None, None, 0.3):
            raise UsageError(
                "max_load, free_bytes and least_ratio are not for maintenance by pg_cron",
                hint="Leave them out, or have sqlkit optimize called by a cron of your own.",
            )


@dataclass(frozen=True)
class MaintenanceOutcome:
    """What became of a step: done, refused (reason says why), postponed, or failed."""

    step: MaintenanceStep
    state: str
    reason: str | None = None
    seconds: float = 0
    bytes_before: int | None = None
    bytes_after: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


OutcomeCallback = Callable[[MaintenanceOutcome], None]
StepCallback = Callable[[MaintenanceStep], None]
