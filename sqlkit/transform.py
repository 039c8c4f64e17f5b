# Generated from sqlkit/transform_async.py by python -m sqlkit.build; do not edit.

"""Transforms: raw rows that changed become rows of a target.

What was seen of them is committed with the rows.

What is thin here is thick in SQL: see sqlkit.apply_transform().
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from sqlkit import calls as calls
from sqlkit._memory import peak_memory
from sqlkit.compatible import check_compatible
from sqlkit.connection import from_psycopg
from sqlkit.connections import Connections
from sqlkit.errors import RejectLimitError, SqlkitError
from sqlkit.heartbeat import heartbeat
from sqlkit.lock_watch import LockWatch
from sqlkit.model import Lookup
from sqlkit.results import TransformResult
from sqlkit.retry import pause
from sqlkit.telling import TOLD, limit_passed
from sqlkit.transient import RETRY_FOR, Patience, WaitCallback


@dataclass(frozen=True)
class TransformOptions:
    """How a transform is applied; `Client.transform` says what each means."""

    policy: str = "update"
    key: tuple[str, ...] | None = None
    order_by: str | None = None
    name: str = ""
    full_refresh: bool = False
    retry_for: float = RETRY_FOR
    lookups: tuple[Lookup, ...] = ()
    reject_limit: int | None = 0
    reject_share: float | None = None


class Transformer:
    """One application of one transform. Use it once."""

    def __init__(
        self,
        connections: Connections,
        options: TransformOptions,
        on_wait: WaitCallback | None = None,
    ) -> None:
        self._connections = connections
        self._options = options
        self._on_wait = on_wait
        self._patience = Patience(options.retry_for)
        self._locks = LockWatch(connections, options.retry_for, on_wait)
        self._lock_timeout: str | None = None
        self._run_id = 0

    def transform(self, source: str, into: str, query: str) -> TransformResult:
        """Apply the transform. Raises SqlkitError; nothing is changed then."""
        started = time.monotonic()
        try:
            while True:
                try:
                    return self._attempt(source, into, query, started)
                except (psycopg.Error, SqlkitError) as error:
                    if self._connections.is_callers:
                        raise
                    self._locks.spend(self._patience, error)
                    wait = self._patience.wait_for(error)
                    if wait is None:
                        raise
                self._connections.reset()
                pause(wait, self._on_wait)
        except BaseException as error:
            self._end_badly(error)
            known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
            if isinstance(known, SqlkitError):
                self._locks.tell_in(known)
                self._patience.tell_in(known)
            if known is not error:
                raise known from error
            raise
        finally:
            self._connections.release()

    def _attempt(self, source: str, into: str, query: str, started: float) -> TransformResult:
        main = self._connections.main()
        check_compatible(*calls.version(main))
        self._patience.resumed()
        self._lock_timeout = self._locks.limit(main)
        with self._locks.on():
            return self._apply(main, source, into, query, started)

    @contextmanager
    def _transaction(self, main: Connection[Any]) -> Iterator[None]:
        """A transaction that waits for locks no longer than it may."""
        with main.transaction():
            if self._lock_timeout is not None:
                calls.set_local(main, "lock_timeout", self._lock_timeout)
            yield

    def _apply(
        self, main: Connection[Any], source: str, into: str, query: str, started: float
    ) -> TransformResult:
        options = self._options
        names = []
        for name in (source, into):
            found = calls.find_table(main, name)
            if found is None:
                raise SqlkitError(f"there is no table {name}", code="42P01")
            names.append(found)
        wal = calls.wal_position(main)
        if not self._is_applied(main):
            if not self._connections.is_callers:
                calls.repair_runs(main, names[1])
            self._open_run(main, *names)
            with (
                heartbeat(self._connections, self._run_id),
                self._transaction(main),
            ):
                is_within = calls.apply_transform(
                    main,
                    self._run_id,
                    names[0],
                    names[1],
                    query,
                    options.policy,
                    None if options.key is None else list(options.key),
                    options.order_by,
                    options.name,
                    options.full_refresh,
                    [lookup.told() for lookup in options.lookups],
                    options.reject_limit,
                    options.reject_share,
                )
                calls.require_synchronous_commit(main)
                calls.note_memory(main, self._run_id, peak_memory())
                wal = max(0, calls.wal_position(main) - wal)
                if is_within:
                    calls.finish_run(main, self._run_id, wal_bytes=wal)
            if not is_within:
                raise self._over_limit(main)
        _, seen, rows = calls.transform_of(main, self._run_id)
        return TransformResult(
            self._run_id,
            names[1],
            names[0],
            options.policy,
            seen,
            rows,
            wal,
            time.monotonic() - started,
        )

    def _over_limit(self, main: Connection[Any]) -> RejectLimitError:
        number = calls.count_told(main, self._run_id)
        return limit_passed(
            self._run_id,
            number,
            calls.rejects_of(main, self._run_id, limit=TOLD),
            limit=self._options.reject_limit,
            share=self._options.reject_share,
            hint="Mend the rows or the query, or let more be kept as rejects.",
        )

    def _is_applied(self, main: Connection[Any]) -> bool:
        """Whether an attempt has committed, of which nobody could be told."""
        if not self._run_id:
            return False
        state, _, _ = calls.transform_of(main, self._run_id)
        return state == "done"

    def _open_run(self, main: Connection[Any], source: str, into: str) -> None:
        if self._run_id and calls.attach_run(main, self._run_id):
            return
        options = self._options
        told = {
            "source": source,
            "name": options.name,
            "full": options.full_refresh,
            "lookups": [lookup.told() for lookup in options.lookups],
        }
        with self._transaction(main):
            self._run_id = calls.start_run(
                main,
                "transform",
                into,
                options.policy,
                None if options.key is None else list(options.key),
                {name: value for name, value in told.items() if value},
                f"{socket.gethostname()}:{os.getpid()}",
            )
            calls.attach_run(main, self._run_id)

    def _end_badly(self, error: BaseException) -> None:
        """Note the failure in the ledger, if the server is there to be told."""
        if not self._run_id or self._connections.is_callers:
            return
        known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
        code = known.code if isinstance(known, SqlkitError) else "SK000"
        message = known.message if isinstance(known, SqlkitError) else type(error).__name__
        with suppress(psycopg.Error, SqlkitError):
            main = self._connections.main()
            if main.info.transaction_status == TransactionStatus.IDLE:
                calls.finish_run(main, self._run_id, code, message)
