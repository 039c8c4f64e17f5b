# Generated from sqlkit/maintenance_async.py by python -m sqlkit.build; do not edit.

"""Maintenance: one statement of the plan after the other, each a run in the ledger.

The plan is made in SQL (`sqlkit.plan_maintenance`). Here it is carried out, outside transactions:
VACUUM and REINDEX CONCURRENTLY cannot run in a function.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any

import psycopg
from psycopg import Connection

from sqlkit import calls as calls
from sqlkit._acompat import run, sleep
from sqlkit.connection import is_here
from sqlkit.errors import UsageError
from sqlkit.maintenance_plan import (
    MaintenanceOptions,
    MaintenanceOutcome,
    OutcomeCallback,
    StepCallback,
)
from sqlkit.model import MaintenanceStep

_LOOK_EVERY = 2.0  # seconds, while the server is too busy
_MOMENT = 1.0  # seconds, for what is still to be done when the budget has ended
_QUERY_CANCELED = "57014"


def plan(connection: Connection[Any], options: MaintenanceOptions) -> list[MaintenanceStep]:
    """What is to be done, in order, each with what stands against it now."""
    options.check()
    if options.free_bytes is None:
        options = replace(options, free_bytes=_free_bytes(connection))
    return calls.plan_maintenance(
        connection,
        options.tables or None,
        options.actions,
        options.least_bytes,
        options.least_ratio,
        options.patience,
        options.lag_bytes,
        options.free_bytes,
    )


def optimize(
    connection: Connection[Any],
    options: MaintenanceOptions,
    on_step: StepCallback | None = None,
    on_outcome: OutcomeCallback | None = None,
) -> list[MaintenanceOutcome]:
    """Carry out the plan: what `Client.optimize` guarantees stands there."""
    if not connection.autocommit:
        raise UsageError(
            "maintenance does not run in a transaction",
            hint="Give a connection in autocommit mode, or a connection string.",
        )
    if (calls.session(connection)).backend_pid != connection.info.backend_pid:
        raise UsageError(
            "maintenance needs a direct connection to the server",
            hint="A transaction-pooling proxy would lose lock_timeout. Name the server itself.",
        )
    deadline = None if options.budget is None else time.monotonic() + options.budget
    calls.repair_runs(connection)
    calls.flush_statistics(connection)  # what this session did counts
    outcomes: list[MaintenanceOutcome] = []
    for step in plan(connection, options):
        outcome = _take(connection, options, step, deadline, on_step)
        if outcome is not None:
            outcomes.append(outcome)
            if on_outcome is not None:
                on_outcome(outcome)
    return outcomes


def _take(
    connection: Connection[Any],
    options: MaintenanceOptions,
    planned: MaintenanceStep,
    deadline: float | None,
    on_step: StepCallback | None,
) -> MaintenanceOutcome | None:
    """Take a step, if it is still wanted and nothing stands against it now."""
    busy = _wait_for_calm(connection, options.max_load, deadline)
    if busy is not None:
        return MaintenanceOutcome(planned, "postponed", busy)
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left < max(planned.expected_seconds or 0, 0.001):
        takes = f"it took {planned.expected_seconds:.0f} s before" if left > 0 else "it is used up"
        return MaintenanceOutcome(planned, "postponed", f"the budget: {takes}")
    narrowed = replace(options, tables=(planned.table,))
    step = next(
        (s for s in plan(connection, narrowed) if s.statement == planned.statement),
        None,
    )
    if step is None:  # autovacuum, or somebody else, has done it meanwhile
        return None
    if step.obstacle is not None:
        return MaintenanceOutcome(step, "refused", step.obstacle)
    if on_step is not None:
        on_step(step)
    return _run(connection, options, step, left)


def _run(
    connection: Connection[Any],
    options: MaintenanceOptions,
    step: MaintenanceStep,
    left: float | None,
) -> MaintenanceOutcome:
    began = time.monotonic()
    run_id = calls.start_maintenance(connection, step, f"{socket.gethostname()}:{os.getpid()}")
    # Whoever finds it open afterwards can tell whether this process is alive.
    calls.attach_run(connection, run_id)
    try:
        calls.run_statement(connection, step.statement, options.lock_timeout, left)
    except psycopg.Error as error:
        if connection.closed:
            raise
        message = error.diag.message_primary or str(error)
        calls.finish_maintenance(connection, run_id, error.sqlstate or "SK000", message)
        is_late = error.sqlstate == _QUERY_CANCELED and left is not None
        if step.statement.startswith("reindex"):
            # Who may not wait for the work does not wait for its remains, either.
            wait = min(options.lock_timeout, _MOMENT) if is_late else options.lock_timeout
            _clean_up(connection, replace(options, lock_timeout=wait), step)
        return MaintenanceOutcome(
            step,
            "postponed" if is_late else "failed",
            "the budget ended while it ran" if is_late else message,
            time.monotonic() - began,
        )
    before, after = calls.finish_maintenance(connection, run_id, None, None)
    return MaintenanceOutcome(step, "done", None, time.monotonic() - began, before, after)


def _clean_up(
    connection: Connection[Any], options: MaintenanceOptions, step: MaintenanceStep
) -> None:
    """Drop what REINDEX CONCURRENTLY left; where that cannot be now, the next plan does it."""
    for left in plan(connection, replace(options, tables=(step.table,), actions=("clean",))):
        if left.obstacle is None and left.statement.startswith("drop index"):
            _run(connection, options, left, None)


def _wait_for_calm(
    connection: Connection[Any], max_load: int | None, deadline: float | None
) -> str | None:
    """Wait until no more sessions are at work than may be; why not, if the budget ends first."""
    if max_load is None:
        return None
    while (busy := calls.count_active(connection)) > max_load:
        if deadline is None or time.monotonic() + _LOOK_EVERY > deadline:
            return f"{busy} other sessions are at work, more than {max_load}"
        sleep(_LOOK_EVERY)
    return None


def _free_bytes(connection: Connection[Any]) -> int | None:
    """Free disk of the server, as far as it is this machine's."""
    if not is_here(connection.info.host or ""):
        return None
    directory = calls.data_directory(connection)
    return None if directory is None else run(partial(_free_of, directory))


def _free_of(directory: str) -> int | None:
    return disk_usage(directory).free if Path(directory).is_dir() else None
