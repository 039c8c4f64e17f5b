# Generated from sqlkit/refresh_async.py by python -m sqlkit.build; do not edit.

"""Refreshing: a whole new content is staged, and one call brings it into the target.

What is thin here is thick in SQL: see sqlkit.refresh_stage(). Files go into the stage as any load
goes into a table, in one transaction; so does the result of a query, in the server.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from sqlkit import calls as calls
from sqlkit._acompat import run
from sqlkit._memory import peak_memory
from sqlkit.columns import plan_columns
from sqlkit.compatible import check_compatible
from sqlkit.connection import from_psycopg
from sqlkit.connections import Connections
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.heartbeat import heartbeat
from sqlkit.loader import Loader
from sqlkit.lock_watch import LockWatch
from sqlkit.model import Target
from sqlkit.options import LoadOptions
from sqlkit.results import ProgressCallback, RefreshResult, RowCounts
from sqlkit.sources.base import Source
from sqlkit.transient import WaitCallback

STRATEGIES = ("auto", "truncate", "swap", "mirror")


@dataclass(frozen=True)
class RefreshOptions:
    """How a target is refreshed; `Client.refresh` says what each means."""

    strategy: str = "auto"
    scope: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None
    delete_share: float | None = 0.1
    delete_limit: int | None = None
    explain: bool = False
    tune: bool = False

    def check(self) -> None:
        """Raises UsageError for options that cannot be."""
        if self.strategy not in STRATEGIES:
            raise UsageError(
                f"there is no strategy {self.strategy!r}",
                code="SK209",
                hint=f"One of {', '.join(STRATEGIES)}.",
            )
        if self.delete_share is not None and not 0 <= self.delete_share <= 1:
            raise UsageError("the share of rows to delete must lie between 0% and 100%")
        if self.delete_limit is not None and self.delete_limit < 0:
            raise UsageError("the number of rows to delete must be at least 0")


class Refresher:
    """One refresh of one target, from sources, a query or a stage. Use it once."""

    def __init__(
        self,
        connections: Connections,
        options: RefreshOptions,
        load_options: LoadOptions,
        progress: ProgressCallback | None = None,
        on_wait: WaitCallback | None = None,
    ) -> None:
        options.check()
        self._connections = connections
        self._options = options
        # In the order of the sources, so that of repeated keys the last one is known.
        self._load_options = replace(load_options, policy="append", workers=1, atomic=True)
        self._progress = progress
        self._on_wait = on_wait
        self._locks = LockWatch(connections, load_options.retry_for, on_wait)
        self._run_id = 0

    def refresh(
        self, into: str, sources: Sequence[Source], query: str | None, stage: str | None
    ) -> RefreshResult:
        """Refresh a target from the one of the three that is given. Raises SqlkitError."""
        if (len(sources) > 0) + (query is not None) + (stage is not None) != 1:
            raise UsageError("a refresh takes files, or a query, or a stage")
        try:
            main = self._connections.main()
            check_compatible(*calls.version(main))
            if not self._connections.is_callers:
                return self._refresh(main, into, sources, query, stage)
            with main.transaction():
                return self._refresh(main, into, sources, query, stage)
        except BaseException as error:
            self._end_badly(error)
            known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
            if isinstance(known, SqlkitError):
                self._locks.tell_in(known)
            if known is not error:
                raise known from error
            raise
        finally:
            self._connections.release()

    def _refresh(
        self,
        main: Connection[Any],
        into: str,
        sources: Sequence[Source],
        query: str | None,
        stage: str | None,
    ) -> RefreshResult:
        options = self._options
        started = time.monotonic()
        name = calls.find_table(main, into)
        if name is None:
            raise SqlkitError(
                f"there is no table {into}",
                code="42P01",
                hint="A refresh makes none: see its name and schema, or create it first.",
            )
        with self._waiting_for_locks(main):
            target = calls.describe_target(main, name)
        if not self._connections.is_callers:
            calls.repair_runs(main, target.name)
        wal = calls.wal_position(main)
        self._run_id = calls.start_run(
            main,
            "refresh",
            target.name,
            options.strategy,
            self._request_key(),
            self._as_recorded(sources),
            f"{socket.gethostname()}:{os.getpid()}",
        )
        calls.attach_run(main, self._run_id)
        if options.tune and not (options.explain or self._connections.is_callers):
            calls.begin_tuning(main, self._run_id, target.name, self._request_key())
        rows: int | None = None
        with heartbeat(self._connections, self._run_id):
            if sources:
                stage, rows = self._stage_sources(main, target, sources)
                # The load may have lost the connection, and gone on with another.
                main = self._connections.main()
                calls.attach_run(main, self._run_id)
            with self._waiting_for_locks(main):
                if options.explain:
                    result = self._explain(main, target, query, stage)
                else:
                    result = self._apply(main, target, query, stage, rows)
            if sources and stage is not None:
                calls.drop_stage(main, stage)
            wal = max(0, calls.wal_position(main) - wal)
            with main.transaction():
                calls.require_synchronous_commit(main)
                calls.note_memory(main, self._run_id, peak_memory())
                calls.finish_run(main, self._run_id, wal_bytes=wal)
            reasons = result.reasons or tuple(calls.reasons_of(main, self._run_id))
        return replace(result, wal_bytes=wal, seconds=time.monotonic() - started, reasons=reasons)

    @contextmanager
    def _waiting_for_locks(self, main: Connection[Any]) -> Iterator[None]:
        """Tell of the locks that are waited for, and limit that. What commits on its way needs a
        limit of the session, which a proxy would hand to others: there is none behind one."""
        limit = self._locks.limit(main) if self._connections.is_direct else None
        if limit is not None:
            calls.set_session(main, "lock_timeout", limit)
        try:
            with self._locks.on():
                yield
        finally:
            if limit is not None and main.info.transaction_status == TransactionStatus.IDLE:
                calls.set_session(main, "lock_timeout", "0")

    def _apply(
        self,
        main: Connection[Any],
        target: Target,
        query: str | None,
        stage: str | None,
        rows: int | None,
    ) -> RefreshResult:
        options = self._options
        scope = None if options.scope is None else list(options.scope)
        key = None if options.key is None else list(options.key)
        limits = options.delete_share, options.delete_limit
        if self._connections.is_callers:
            # All of it is one transaction, which is the caller's.
            staged = stage
            if query is not None:
                staged = calls.stage_query(main, target.name, query, self._run_id)
            assert staged is not None
            strategy, counts, deleted = calls.refresh_batch(
                main, self._run_id, staged, options.strategy, scope, *limits, key, rows
            )
            if query is not None:
                calls.drop_stage(main, staged)
            else:
                calls.empty_stages(main, [staged])
        else:
            strategy, counts, deleted = calls.refresh(
                main,
                self._run_id,
                target.name,
                query,
                stage,
                options.strategy,
                scope,
                *limits,
                key,
                rows,
                tune=options.tune,
            )
        return RefreshResult(self._run_id, target.name, strategy, counts, deleted, 0, 0)

    def _explain(
        self, main: Connection[Any], target: Target, query: str | None, stage: str | None
    ) -> RefreshResult:
        """What auto would do; the stage is kept as it is."""
        options = self._options
        staged = stage
        if query is not None:
            staged = calls.stage_query(main, target.name, query, self._run_id)
        assert staged is not None
        strategy, reasons = calls.choose_strategy(
            main,
            staged,
            None if options.scope is None else list(options.scope),
            None if options.key is None else list(options.key),
        )
        if query is not None:
            calls.drop_stage(main, staged)
        return RefreshResult(None, target.name, strategy, RowCounts(), 0, 0, 0, tuple(reasons))

    def _request_key(self) -> list[str] | None:
        return None if self._options.key is None else list(self._options.key)

    def _as_recorded(self, sources: Sequence[Source]) -> dict[str, Any]:
        options = self._options
        found: dict[str, Any] = {
            "scope": options.scope,
            "delete_share": options.delete_share,
            "delete_limit": options.delete_limit,
            "explain": options.explain or None,
            "tune": options.tune or None,
            "sources": [source.name for source in sources] or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _stage_sources(
        self, main: Connection[Any], target: Target, sources: Sequence[Source]
    ) -> tuple[str, int]:
        """Load the sources into a stage that has the columns of the first; how many rows."""
        options = self._load_options
        source = sources[0]
        encoding = calls.server_encoding(main)
        reader = run(partial(source.open, database_encoding=encoding))
        try:
            plan = plan_columns(
                source.name,
                reader.columns,
                target.name,
                target.columns,
                renamed=options.renamed,
                chosen=options.columns,
                left_out=options.left_out,
                passes_through=source.passes_through,
                declares_columns=source.declares_columns,
                lookups=options.lookups,
            )
        finally:
            run(reader.close)
        stage = calls.create_stage(main, target.name, list(plan.merged), [], self._run_id)
        loader = Loader(self._connections, options, self._progress, self._on_wait)
        result = loader.load(sources, stage)
        return stage, result.rows.read

    def _end_badly(self, error: BaseException) -> None:
        """Note the failure in the ledger, and drop the stage, if the server is there to be told."""
        if not self._run_id or self._connections.is_callers:
            return
        known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
        code = known.code if isinstance(known, SqlkitError) else "SK000"
        message = known.message if isinstance(known, SqlkitError) else type(error).__name__
        with suppress(psycopg.Error, SqlkitError):
            main = self._connections.main()
            if main.info.transaction_status == TransactionStatus.IDLE:
                calls.finish_run(main, self._run_id, code, message)
                calls.drop_stages(main, self._run_id)
