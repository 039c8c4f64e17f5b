"""Transforms: raw rows that changed become rows of a target.

What was seen of them is committed with the rows.

What is thin here is thick in SQL: see sqlkit.apply_transform().
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from sqlkit import calls_async as calls
from sqlkit._memory import peak_memory
from sqlkit.compatible import check_compatible
from sqlkit.connection import from_psycopg
from sqlkit.connections_async import AsyncConnections
from sqlkit.errors import RejectLimitError, SqlkitError
from sqlkit.heartbeat_async import heartbeat_async
from sqlkit.lock_watch_async import AsyncLockWatch
from sqlkit.model import Lookup
from sqlkit.results import TransformResult
from sqlkit.retry_async import pause_async
from sqlkit.telling import TOLD, limit_passed
from sqlkit.transient import RETRY_FOR, Patience, WaitCallback


@dataclass(frozen=True)
class TransformOptions:
    """How a transform is applied; `AsyncClient.transform` says what each means."""

    policy: str = "update"
    key: tuple[str, ...] | None = None
    order_by: str | None = None
    name: str = ""
    full_refresh: bool = False
    retry_for: float = RETRY_FOR
    lookups: tuple[Lookup, ...] = ()
    reject_limit: int | None = 0
    reject_share: float | None = None


class AsyncTransformer:
    """One application of one transform. Use it once."""

    def __init__(
        self,
        connections: AsyncConnections,
        options: TransformOptions,
        on_wait: WaitCallback | None = None,
    ) -> None:
        self._connections = connections
        self._options = options
        self._on_wait = on_wait
        self._patience = Patience(options.retry_for)
        self._locks = AsyncLockWatch(connections, options.retry_for, on_wait)
        self._lock_timeout: str | None = None
        self._run_id = 0

    async def transform(self, source: str, into: str, query: str) -> TransformResult:
        """Apply the transform. Raises SqlkitError; nothing is changed then."""
        started = time.monotonic()
        try:
            while True:
                try:
                    return await self._attempt(source, into, query, started)
                except (psycopg.Error, SqlkitError) as error:
                    if self._connections.is_callers:
                        raise
                    self._locks.spend(self._patience, error)
                    wait = self._patience.wait_for(error)
                    if wait is None:
                        raise
                await self._connections.reset()
                await pause_async(wait, self._on_wait)
        except BaseException as error:
            await self._end_badly(error)
            known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
            if isinstance(known, SqlkitError):
                self._locks.tell_in(known)
                self._patience.tell_in(known)
            if known is not error:
                raise known from error
            raise
        finally:
            await self._connections.release()

    async def _attempt(self, source: str, into: str, query: str, started: float) -> TransformResult:
        main = await self._connections.main()
        check_compatible(*await calls.version(main))
        self._patience.resumed()
        self._lock_timeout = await self._locks.limit(main)
        async with self._locks.on():
            return await self._apply(main, source, into, query, started)

    @asynccontextmanager
    async def _transaction(self, main: AsyncConnection[Any]) -> AsyncIterator[None]:
        """A transaction that waits for locks no longer than it may."""
        async with main.transaction():
            if self._lock_timeout is not None:
                await calls.set_local(main, "lock_timeout", self._lock_timeout)
            yield

    async def _apply(
        self, main: AsyncConnection[Any], source: str, into: str, query: str, started: float
    ) -> TransformResult:
        options = self._options
        names = []
        for name in (source, into):
            found = await calls.find_table(main, name)
            if found is None:
                raise SqlkitError(f"there is no table {name}", code="42P01")
            names.append(found)
        wal = await calls.wal_position(main)
        if not await self._is_applied(main):
            if not self._connections.is_callers:
                await calls.repair_runs(main, names[1])
            await self._open_run(main, *names)
            async with (
                heartbeat_async(self._connections, self._run_id),
                self._transaction(main),
            ):
                is_within = await calls.apply_transform(
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
                await calls.require_synchronous_commit(main)
                await calls.note_memory(main, self._run_id, peak_memory())
                wal = max(0, await calls.wal_position(main) - wal)
                if is_within:
                    await calls.finish_run(main, self._run_id, wal_bytes=wal)
            if not is_within:
                raise await self._over_limit(main)
        _, seen, rows = await calls.transform_of(main, self._run_id)
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

    async def _over_limit(self, main: AsyncConnection[Any]) -> RejectLimitError:
        number = await calls.count_told(main, self._run_id)
        return limit_passed(
            self._run_id,
            number,
            await calls.rejects_of(main, self._run_id, limit=TOLD),
            limit=self._options.reject_limit,
            share=self._options.reject_share,
            hint="Mend the rows or the query, or let more be kept as rejects.",
        )

    async def _is_applied(self, main: AsyncConnection[Any]) -> bool:
        """Whether an attempt has committed, of which nobody could be told."""
        if not self._run_id:
            return False
        state, _, _ = await calls.transform_of(main, self._run_id)
        return state == "done"

    async def _open_run(self, main: AsyncConnection[Any], source: str, into: str) -> None:
        if self._run_id and await calls.attach_run(main, self._run_id):
            return
        options = self._options
        told = {
            "source": source,
            "name": options.name,
            "full": options.full_refresh,
            "lookups": [lookup.told() for lookup in options.lookups],
        }
        async with self._transaction(main):
            self._run_id = await calls.start_run(
                main,
                "transform",
                into,
                options.policy,
                None if options.key is None else list(options.key),
                {name: value for name, value in told.items() if value},
                f"{socket.gethostname()}:{os.getpid()}",
            )
            await calls.attach_run(main, self._run_id)

    async def _end_badly(self, error: BaseException) -> None:
        """Note the failure in the ledger, if the server is there to be told."""
        if not self._run_id or self._connections.is_callers:
            return
        known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
        code = known.code if isinstance(known, SqlkitError) else "SK000"
        message = known.message if isinstance(known, SqlkitError) else type(error).__name__
        with suppress(psycopg.Error, SqlkitError):
            main = await self._connections.main()
            if main.info.transaction_status == TransactionStatus.IDLE:
                await calls.finish_run(main, self._run_id, code, message)
