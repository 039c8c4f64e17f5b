# Generated from sqlkit/retry_async.py by python -m sqlkit.build; do not edit.

"""Calling the user's own code again until it succeeds, on a connection to a writable server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import Connection

from sqlkit._acompat import Returned, sleep
from sqlkit.connection import from_psycopg
from sqlkit.connections import OwnConnections
from sqlkit.errors import SqlkitError
from sqlkit.transient import RETRY_FOR, Patience, WaitCallback, Waiting

T = TypeVar("T")

_log = logging.getLogger("sqlkit")


def call_with_retry(
    function: Callable[[Connection[Any]], Returned[T]],
    database: str | None = None,
    *,
    retry_for: float = RETRY_FOR,
    on_wait: WaitCallback | None = None,
) -> T:
    """Call ``function(connection)`` until it returns, and return what it returned.

        call_with_retry(lambda c: c.execute("call shop.close_day(%s)", [day]), dsn)

    Each call gets a new connection, in autocommit, to a server that accepts writes (with a list of
    hosts: the one that does). It is called again after an error that passes by itself: a lost
    connection, a server that shuts down, starts, or is read-only, a deadlock, a serialization
    failure, a lock timeout, too many connections, a full disk, no memory. Errors are told apart by
    SQLSTATE and the state of the connection. Any other error is raised at once.

    Between two calls it waits: a random part of half a second at first, of twice as much each
    time, of 30 seconds at most; for `retry_for` seconds in all. `on_wait` is told what for; without
    it, the logger ``sqlkit`` is. `database` is a connection string, found as by `connect`.

    Guarantee: what it returns was returned by a call on an unbroken connection. A connection that
    is lost while a COMMIT is on its way leaves open whether it took effect, so that the function
    must bear being called once more: `load` settles this with its ledger, a procedure of yours can
    do so with a key of its own.

    Raises SqlkitError once the budget is spent, with the code of the last error, or whatever else
    the function raises.
    """
    from sqlkit.server import find_dsn

    connections = OwnConnections(find_dsn(database))
    patience = Patience(retry_for)
    while True:
        try:
            connection = connections.main()
            patience.resumed()
            return function(connection)
        except (psycopg.Error, SqlkitError) as error:
            wait = patience.wait_for(error)
            if wait is None:
                if isinstance(error, psycopg.Error):
                    raise from_psycopg(error) from error
                raise
        finally:
            connections.close()
        pause(wait, on_wait)


def pause(wait: Waiting, on_wait: WaitCallback | None) -> None:
    """Tell of a wait, and wait."""
    tell_wait(wait, on_wait)
    sleep(wait.seconds)


def tell_wait(wait: Waiting, on_wait: WaitCallback | None) -> None:
    """Tell of a wait."""
    if on_wait is None:
        _log.warning("%s", wait)
    else:
        on_wait(wait)
