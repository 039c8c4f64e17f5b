# Generated from sqlkit/heartbeat_async.py by python -m sqlkit.build; do not edit.

"""Signs of life of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import psycopg

from sqlkit import calls as calls
from sqlkit._acompat import Signal, Task
from sqlkit.connections import Connections
from sqlkit.errors import SqlkitError

HEARTBEAT = 20.0
"""Seconds between two signs of life of a run."""


@contextmanager
def heartbeat(connections: Connections, run_id: int) -> Iterator[None]:
    """Tell from time to time that the program behind a run is alive, which a proxy might hide."""
    over = Signal()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            with suppress(psycopg.Error, SqlkitError):
                connections.beside(partial(calls.touch_run, run_id=run_id))

    beating = Task(beat)
    try:
        yield
    finally:
        over.give()
        beating.settle()
