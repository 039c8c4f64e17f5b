# Generated from sqlkit/conflicts_async.py by python -m sqlkit.build; do not edit.

"""Detecting conflicts in parts, side by side."""

from __future__ import annotations

import os
from typing import Any

from sqlkit import calls as calls
from sqlkit._acompat import Task
from sqlkit.connection import is_here
from sqlkit.connections import Connections

ROWS_A_WORKER = 1_000_000
"""Another worker for each so many rows: with fewer, PostgreSQL alone is as fast."""

PARTS_A_WORKER = 2
"""So many parts for each worker: while one is at a large resource, the others take the rest.

Each part is a pass over the table, so that there are no more of them than that takes.
"""


def choose_workers(connections: Connections, rule: str, full: bool) -> int:
    """How many workers a detection is worth: one for each `ROWS_A_WORKER` rows that it looks at.

    No more than there are connections, than the server lets work side by side
    (max_parallel_workers) and, where it is on this machine, than there are cores. One where only
    what was touched is looked at, and for rows of views and foreign tables. Raises SK802.
    """
    if connections.is_single:
        return 1
    main = connections.main()
    rows = calls.estimate_detection(main, rule, full)
    if rows is None or rows < 2 * ROWS_A_WORKER:
        return 1
    most = min(connections.max_streams, calls.parallel_workers(main))
    if is_here(main.info.host or ""):
        most = min(most, _cores())
    return max(1, min(most, rows // ROWS_A_WORKER))


def _cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def detect_in_parts(connections: Connections, rule: str, workers: int) -> dict[str, Any]:
    """Detect everything that a rule finds, a part of its resources at a time on each connection.

    Every part is a transaction in which PostgreSQL runs nothing in parallel by itself, since the
    parts do. Only when all are done does the rule count as detected.
    """
    main = connections.main()
    workers = min(workers, connections.max_streams)
    mark = calls.mark_detection(main, rule)
    parts = list(range(1, workers * PARTS_A_WORKER + 1))
    waiting = iter(parts)
    done: list[dict[str, Any]] = []

    def work(number: int) -> None:
        connection = connections.stream(number)
        for part in waiting:
            with connection.transaction():
                calls.work_alone(connection)
                done.append(calls.detect_conflicts(connection, rule, True, part, len(parts)))

    def start(number: int) -> Task[None]:
        return Task(lambda: work(number))

    tasks = [start(number) for number in range(workers)]
    errors = [task.settle() for task in tasks]
    connections.release()
    for error in errors:
        if error is not None:
            raise error
    calls.finish_detection(main, rule, mark)
    counts = {
        name: sum(part[name] for part in done)
        for name in ("pairs_opened", "pairs_changed", "pairs_closed")
    }
    return counts | {"pairs_open": calls.open_conflicts(main, rule), "is_full": True}
