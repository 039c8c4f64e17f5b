"""Detecting conflicts in parts, side by side."""

from __future__ import annotations

from typing import Any

from sqlkit import calls_async as calls
from sqlkit._acompat import AsyncTask
from sqlkit.connections_async import AsyncConnections

PARTS_A_WORKER = 4
"""So many parts for each worker: while one is at a large resource, the others take the rest."""


async def detect_in_parts(connections: AsyncConnections, rule: str, workers: int) -> dict[str, Any]:
    """Detect everything that a rule finds, a part of its resources at a time on each connection.

    Every part is a transaction. Only when all are done does the rule count as detected.
    """
    main = await connections.main()
    workers = min(workers, connections.max_streams)
    mark = await calls.mark_detection(main, rule)
    parts = list(range(1, workers * PARTS_A_WORKER + 1))
    waiting = iter(parts)
    done: list[dict[str, Any]] = []

    async def work(number: int) -> None:
        connection = await connections.stream(number)
        for part in waiting:
            async with connection.transaction():
                done.append(await calls.detect_conflicts(connection, rule, True, part, len(parts)))

    def start(number: int) -> AsyncTask[None]:
        return AsyncTask(lambda: work(number))

    tasks = [start(number) for number in range(workers)]
    errors = [await task.settle() for task in tasks]
    await connections.release()
    for error in errors:
        if error is not None:
            raise error
    await calls.finish_detection(main, rule, mark)
    counts = {
        name: sum(part[name] for part in done)
        for name in ("pairs_opened", "pairs_changed", "pairs_closed")
    }
    return counts | {"pairs_open": await calls.open_conflicts(main, rule), "is_full": True}
