"""The Python API: a client that loads, and reads the ledger."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import AsyncConnection

from sqlkit import calls_async as calls
from sqlkit._acompat import run_async
from sqlkit.compatible import check_compatible
from sqlkit.connection import from_psycopg
from sqlkit.connections_async import (
    AsyncCallersConnection,
    AsyncConnections,
    AsyncOwnConnections,
    AsyncPooledConnections,
)
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.loader_async import AsyncLoader, Replayed
from sqlkit.options import LoadOptions
from sqlkit.results import LoadResult, ProgressCallback, RefreshResult, TransformResult
from sqlkit.sources.base import Dialect, Source
from sqlkit.sources.find import find_sources
from sqlkit.transient import RETRY_FOR, WaitCallback

# What only some calls need is imported by them: a small load is to begin at once.
if TYPE_CHECKING:
    from concurrent.futures import Executor

    from psycopg_pool import AsyncConnectionPool

    from sqlkit.foreign import ForeignServer
    from sqlkit.maintenance_plan import (
        MaintenanceOptions,
        MaintenanceOutcome,
        OutcomeCallback,
        StepCallback,
    )
    from sqlkit.model import Lookup, MaintenanceStep, Repaired, RunSpeed
    from sqlkit.rejects_async import RejectFile
    from sqlkit.results import RowCounts
    from sqlkit.sources.newer import Overlap
    from sqlkit.sources.rows import RowsLike

PathLike = str | os.PathLike[str]
"""A path, a pattern, or ``-`` for standard input."""


class AsyncClient:
    """Loads sources into tables of one database. Made by `sqlkit.aconnect`.

    One load at a time: a client is not to be shared between tasks, and says so.
    """

    def __init__(self, connections: AsyncConnections) -> None:
        self._connections = connections
        self._fits = False
        self._turn = threading.Lock()  # never waited for

    async def load(
        self,
        sources: PathLike | Source | Sequence[PathLike | Source] | RowsLike,
        *,
        into: str,
        policy: str = "update",
        key: Sequence[str] | str | None = None,
        order_by: str | None = None,
        format: str | None = None,
        dialect: Dialect | None = None,
        columns: Sequence[str] = (),
        map: Mapping[str, str] | None = None,
        leave_out: Sequence[str] = (),
        lookups: Sequence[Lookup] = (),
        whole: str | None = None,
        rest: str | None = None,
        schema: str | None = None,
        discard: str | None = None,
        record: str | None = None,
        feed: str | None = None,
        query: str | None = None,
        where: str | None = None,
        null_invalid: bool = False,
        raw: bool = False,
        create: bool = False,
        workers: int = 2,
        executor: Executor | str | None = None,
        use_copy: bool = True,
        strategy: str = "auto",
        indexes: str = "auto",
        batch_bytes: int | None = None,
        atomic: bool = False,
        dry_run: bool = False,
        again: bool = False,
        reject_limit: int | None = 0,
        reject_share: float | None = None,
        retry_for: float = RETRY_FOR,
        conflicts: str | None = None,
        since: str | None = None,
        since_overlap: Overlap | None = None,
        tune: bool = False,
        warm: bool = False,
        progress: ProgressCallback | None = None,
        on_wait: WaitCallback | None = None,
    ) -> LoadResult:
        """Load files or rows into a table, exactly once, and say what became of their rows.

        `sources` are paths, patterns, addresses (https, s3, abfs, gs), '-' for standard input, or
        sources made before, loaded in this order; or rows: an iterable or async iterable of
        mappings, of objects with fields (dataclasses, pydantic, attrs, msgspec, named tuples), or
        of tuples, for which `columns` names what they hold; or a table or stream of pandas, polars,
        Arrow and their like. Rows are taken in another thread, each once; `sqlkit.rows` gives them
        a name and a total. `into` is the table, as SQL names it. An address of a database
        (mysql://user@host/database#table) is a table of it, or, without the table, where `query` is
        asked; `where` is a condition for its rows, which it is asked itself. `policy`
        says what happens to a row whose key exists: append, ignore, update, newer (by the column
        `order_by`), fill, error or history (versions that begin at `order_by`, or now); the `key`
        is the primary key unless it names the columns of another unique index.

        `format` (csv, tsv, jsonl, xml, parquet, arrow) and `dialect` are found out from the files
        where they are not given. `columns` names the columns of a file without header, or those to
        load of one that has a header; `map` renames columns of the source; `leave_out` those of
        either side that have no partner ('*': all). `whole` is the json(b) column that takes each
        line of JSON lines whole. Of JSON, `map` may name a path ('buyer.address.city'), and `rest`
        names the json(b) column that takes all keys that have no column of their own. Columns that
        the table has not are an error, unless `schema` is evolve, which adds them with the types
        that `create` would choose (what the source has not is null then), or `discard` names the
        json(b) column that takes them as one object; with freeze they are an error before anything
        of any source is written. Of XML,
        `record` names the element that is a row, or `feed` one of the mappings that sqlkit knows
        (prices, promos, stores), and `map` may name paths and attributes (Club/@id, ../StoreId).
        Of another database, `null_invalid` makes null what PostgreSQL has no value for (zero dates,
        numbers out of the column's range), which is refused otherwise.
        `create` makes the table, if it is not there, from the types that the source tells, or from
        the first rows.

        With `raw`, rows are appended as they are, each as one object in the json(b) column raw_data
        of a table that ``sqlkit.create_raw_table()``, or `create`, has made: policy, key and names
        of columns have no meaning then. See `transform` for what may become of them.

        `lookups` fill columns of the target with surrogate ids of dimensions, whose natural keys
        come in the source: found, and made where they are missing, in the transaction that merges
        the rows, once whoever else makes them.

        `indexes` that neither keys nor constraints need are built after the rows where that pays
        and holds up nobody (auto), always (rebuild), or never (keep).
        `workers` streams COPY at once. With an `executor` (any ``concurrent.futures.Executor``,
        "processes", or "dask://host:port") so many workers read sources, and ranges of Parquet
        files, each by itself, and COPY them; what they have staged is merged here, in order, so
        that the result is the same. They connect to the database themselves, and find its password
        in their own environment, unless they are processes of this machine. The `strategy` says how
        rows get there, with the same result: auto as it fits the source and the table; insert by
        plain INSERTs of many rows (as without `use_copy`), to be compared with; copy by one stream;
        stage never straight into the table; parallel by two streams at least. `batch_bytes`
        (decoded) are committed at a
        time; by default as many as the target has, from 256 MiB to 4 GiB, and fewer where writing
        them takes long. With `atomic`, all
        sources are committed together; with `dry_run`, everything is done and rolled back. A source
        that was loaded before is skipped, unless `again`.

        Rows that are refused are kept in ``sqlkit.reject``, each with its place and the reason, as
        long as a run has no more than `reject_limit` of them (None: any number), and no more than
        `reject_share` (0 to 1) of the rows read. Past that nothing of the batch is kept, and
        RejectLimitError lists them. By default one is too many.

        `conflicts` holds the rows to the conflict rules of the table: with 'report', what
        contradicts is found, recorded and told after the load; with 'reject', rows that contradict
        one that the table will hold, or an earlier one, are refused; with 'trim', those that
        overlap are cut to the first piece that is free (``sqlkit.trimmed_row`` keeps what was cut),
        and refused if nothing is left. The latter two need policies other than fill, and take the
        careful way.

        `since` names a column of another database's table or query that grows with each change:
        only rows are fetched that have at least its greatest value of the last load, which the
        ledger keeps for each source and target and moves with the last row. `since_overlap` (a
        timedelta, or a number where the column is one) goes back from there, for transactions that
        were open then; it and rows of just that value come again, and are unchanged. Under append
        and error, which could not tell, only greater values are, and there must be no nulls. With
        `again`, everything is fetched.

        With `tune`, what helps is changed for as long as the run lasts: memory of its transactions,
        and autovacuum of the table, which is off meanwhile, if it is the caller's own. The run puts
        it back, or where it is killed the next one, or `repair`. `warm` reads the index of the key
        into memory beforehand, by pg_prewarm. Neither for a dry run or on the caller's connection,
        but for the memory. The result's `notes` tell of it, and of what is advised beyond.

        Errors that pass by themselves (a lost connection, a failover, a deadlock, a lock timeout, a
        full disk and their like, told by SQLSTATE) are waited for and the load goes on where the
        ledger says, on new connections: for `retry_for` seconds without progress, 0 for not at all.
        `on_wait` is told what it waits for; without it, the logger ``sqlkit`` is. Not so on the
        caller's own connection.

        Guarantees: a batch's rows and its row in the ledger are committed together, so that after
        any failure the same call continues where it stopped; rows read are the sum of inserted,
        updated, unchanged, ignored, duplicates and rejected; on the caller's own connection nothing
        is committed that is not in autocommit mode. Memory does not grow with the input.

        Raises UsageError, SourceError (with source and line), or another SqlkitError with the
        SQLSTATE.
        """
        options = LoadOptions(
            policy="append" if raw else policy,
            key=_names(key),
            order_by=order_by,
            columns=() if raw else tuple(columns),
            renamed={**(map or {}), **({} if whole is None else {"line": whole})},
            left_out=tuple(leave_out),
            rest=rest,
            schema=schema,
            discard=discard,
            raw=raw,
            create=create,
            workers=workers,
            use_copy=use_copy,
            strategy=strategy,
            indexes=indexes,
            batch_bytes=batch_bytes,
            atomic=atomic,
            dry_run=dry_run,
            again=again,
            reject_limit=reject_limit,
            reject_share=reject_share,
            retry_for=retry_for,
            conflicts=conflicts,
            since=since,
            since_overlap=since_overlap,
            tune=tune,
            warm=warm,
            lookups=tuple(lookups),
        )
        options.check()
        found = await run_async(
            partial(
                as_sources,
                sources,
                format,
                dialect,
                tuple(columns),
                whole is not None,
                record,
                feed,
                query,
                null_invalid,
                where,
            )
        )
        for source in found:
            if hasattr(source, "prepare"):
                source.prepare()
        loader = AsyncLoader(self._connections, options, progress, on_wait, executor)
        try:
            with self._alone():
                result = await loader.load(found, into)
            if conflicts == "report":
                rules: list[Any] = await self._ask(calls.rules_of, result.target)
                told = {rule: await self.detect_conflicts(rule) for rule in rules}
                result = replace(result, conflicts=told)
            return result
        finally:
            _close(found)

    async def refresh(
        self,
        target: str,
        sources: PathLike | Source | Sequence[PathLike | Source] = (),
        *,
        query: str | None = None,
        stage: str | None = None,
        strategy: str = "auto",
        scope: Sequence[str] | None = None,
        key: Sequence[str] | str | None = None,
        delete_share: float | None = 0.1,
        delete_limit: int | None = None,
        explain: bool = False,
        tune: bool = False,
        format: str | None = None,
        dialect: Dialect | None = None,
        columns: Sequence[str] = (),
        map: Mapping[str, str] | None = None,
        leave_out: Sequence[str] = (),
        lookups: Sequence[Lookup] = (),
        retry_for: float = RETRY_FOR,
        progress: ProgressCallback | None = None,
        on_wait: WaitCallback | None = None,
    ) -> RefreshResult:
        """Give a table a whole new content: of files, of a query, or of a stage that was filled.

        `sources`, `format`, `dialect`, `columns`, `map`, `leave_out`, `lookups`, `retry_for` and
        `on_wait` are those of `load`, but no row may be refused: where one is missing it would be
        deleted. Of rows with the same key the last one is taken. With a `query`, the one source is
        the address of the database where it is asked; without sources it is asked in the target's
        own.

        `strategy`: mirror writes the differences only; truncate empties the table and fills it
        anew; swap builds a new table beside it and exchanges the two in a moment; auto measures and
        chooses, and says why. With `explain` it only says that.

        With a `scope`, columns of the target, only rows are deleted whose values there occur in the
        new content. Nothing is done if more rows would be deleted than `delete_share` (0 to 1) of
        those in scope, or than `delete_limit`.

        With `tune`, what helps is changed for as long as the run lasts, as by `load`.

        Guarantees: the target changes in one transaction, which the ledger tells of; rows read are
        the sum of inserted, updated, unchanged, ignored and duplicates; the target has as many rows
        as before, and those inserted, without those deleted. After a failure nothing is changed.

        Raises UsageError, SourceError (with source and line), or another SqlkitError with the
        SQLSTATE: SK304 where the guard refuses.
        """
        from sqlkit.refresh_async import AsyncRefresher, RefreshOptions

        given = isinstance(sources, str | os.PathLike) or not isinstance(sources, Sequence)
        found = (
            await run_async(
                partial(
                    as_sources,
                    sources,
                    format,
                    dialect,
                    tuple(columns),
                    False,
                    query=query,
                )
            )
            if given or sources
            else []
        )
        if found:
            query = None
        elif lookups:
            raise UsageError(
                "a query in the target's own database looks its ids up itself",
                hint="Join the dimension in the query.",
            )
        refresher = AsyncRefresher(
            self._connections,
            RefreshOptions(
                strategy=strategy,
                scope=None if scope is None else tuple(scope),
                key=_names(key),
                delete_share=delete_share,
                delete_limit=delete_limit,
                explain=explain,
                tune=tune,
            ),
            LoadOptions(
                columns=tuple(columns),
                renamed=dict(map or {}),
                left_out=tuple(leave_out),
                lookups=tuple(lookups),
                retry_for=retry_for,
            ),
            progress,
            on_wait,
        )
        try:
            with self._alone():
                return await refresher.refresh(target, found, query, stage)
        finally:
            _close(found)

    async def transform(
        self,
        source: str,
        into: str,
        query: str,
        *,
        policy: str = "update",
        key: Sequence[str] | str | None = None,
        order_by: str | None = None,
        name: str = "",
        full_refresh: bool = False,
        lookups: Sequence[Lookup] = (),
        reject_limit: int | None = 0,
        reject_share: float | None = None,
        retry_for: float = RETRY_FOR,
        on_wait: WaitCallback | None = None,
    ) -> TransformResult:
        """Make rows of the rows of a table that changed, and merge them into another.

        `query` is one SELECT, whose columns are named like those of `into`. It reads
        ``pg_temp.sqlkit_changed``: the rows of `source` that were changed, by whomever, since this
        transform was applied last; with `full_refresh` all of them. Where there are none, it is not
        run. `source` follows its changes: it was made by ``sqlkit.create_raw_table()``, or
        ``sqlkit.follow_changes()`` was called for it. `name` tells transforms between the same two
        tables apart. `policy`, `key`, `order_by`, `lookups`, `retry_for` and `on_wait` are those of
        `load`, of which the natural keys are columns of the query; of rows with the same key the
        last one counts, so let the query order them.

        Up to `reject_limit` rows, or `reject_share` of them (0 to 1), may be refused, and are kept
        as rejects: rows of `source` for which the query fails, as they are, and rows that it made
        and the table refuses. They come again when the row of `source` is changed. Where there are
        more, RejectLimitError lists them.

        Guarantees: rows and what was seen are committed together. A row is seen once for each
        version that was committed, also if its transaction was open when the last call looked; on
        the caller's own connection, what its open transaction has written is left for the next
        call. After a failure nothing is changed.

        Raises SqlkitError with the SQLSTATE: SK220 if `source` does not follow its changes.
        """
        from sqlkit.transform_async import AsyncTransformer, TransformOptions

        options = TransformOptions(
            policy=policy,
            key=_names(key),
            order_by=order_by,
            name=name,
            full_refresh=full_refresh,
            retry_for=retry_for,
            lookups=tuple(lookups),
            reject_limit=reject_limit,
            reject_share=reject_share,
        )
        transformer = AsyncTransformer(self._connections, options, on_wait)
        return await transformer.transform(source, into, query)

    async def runs(self, run_id: int | None = None, *, limit: int = 20) -> list[dict[str, Any]]:
        """The newest runs with their counters and timings, newest first; or the one asked for."""
        return await self._ask(calls.run_summaries, run_id, limit)

    async def batches(self, run_id: int) -> list[dict[str, Any]]:
        """The batches of a run in order, each with its source, lines, counters and timings."""
        return await self._ask(calls.batches_of, run_id)

    async def repair(
        self, target: str | None = None, *, grace: str | None = None
    ) -> list[Repaired]:
        """Close the runs whose program is gone, and drop the stages of closed runs.

        Of one target, or of all. A program behind a proxy counts as gone when nothing was heard of
        it for `grace`, an interval as PostgreSQL writes it (5 minutes). What `tune` has changed is
        put back. Every load does this for its own target. Nothing else can be left behind: a batch
        is one transaction.
        """
        try:
            main = await self._main()
            return await calls.repair_runs(main, target, grace)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def monitor(self, view: str, limit: int | None = None) -> list[dict[str, Any]]:
        """The rows of a view of monitoring, such as run_progress, storage, bloat, waiting_lock.

        In the order in which one reads it: the newest, the largest or the longest first.
        """
        if view not in calls.MONITOR:
            raise UsageError(
                f"there is no such view: {view}", hint=f"Views are {', '.join(calls.MONITOR)}."
            )
        return await self._ask(calls.monitor, view, limit)

    async def metrics(self) -> list[dict[str, Any]]:
        """Numbers for a monitoring system: name, kind, help, labels and value of each."""
        return await self._ask(calls.collect_metrics)

    async def set_baseline(self, run_id: int) -> str:
        """Make a run the one that later runs of its target are compared with; the target.

        ``monitor("run_speed")`` has speed and memory of each run in proportion to it. Raises
        DatabaseError (SK401) if there is no such run, or it did not end well.
        """
        try:
            return await calls.set_baseline(await self._main(), run_id)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def measure_runs(self, runs: Sequence[int]) -> RunSpeed | None:
        """How fast finished runs of one target were, together, beside its baseline, if it has one.

        None where there is no such run.
        """
        try:
            return await calls.measure_runs(await self._main(), list(runs))
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def find_problems(self, least_bytes: int = 1024 * 1024) -> list[dict[str, Any]]:
        """What is wrong with tables, indexes and sequences, the heaviest first.

        Each with weight (100 is an emergency), problem, relation, detail and the statement that
        mends it. Unused indexes and bloat count from `least_bytes` on.
        """
        return await self._ask(calls.find_problems, least_bytes)

    async def advise_settings(
        self,
        *,
        memory_bytes: int | None = None,
        cores: int | None = None,
        storage: str | None = None,
    ) -> list[dict[str, Any]]:
        """Settings of the server, each with present, advised, is_met, why, needs_restart and
        rule_source.

        What is not said of its machine is looked up where it is this one; otherwise settings that
        depend on it are left out. Nothing is changed. `storage` is ssd or hdd.
        """
        from sqlkit import tuning_async as tuning

        try:
            main = await self._main()
            here = await tuning.machine_async(main)
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return await self._ask(
            calls.advise_settings,
            memory_bytes or here.memory_bytes,
            cores or here.cores,
            storage or here.storage,
        )

    async def apply_settings(
        self, advice: Sequence[dict[str, Any]], names: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Set what is named of some advice, or 'all' of it, where it is not met; what was changed.

        By ALTER SYSTEM, for the whole server, which takes a superuser or the right to do so; in
        effect at once, but for what needs a restart. Raises UsageError for a name without advice.
        """
        from sqlkit import tuning_async as tuning

        try:
            main = await self._main()
            return await tuning.apply_async(main, advice, names)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def size_load(
        self, rows: int, row_bytes: int, key_bytes: int = 8, indexes: int = 1
    ) -> list[dict[str, Any]]:
        """What a load of so many rows needs: bytes of table, indexes, WAL and storage, memory,
        cores, time; each with amount and why."""
        return await self._ask(calls.size_load, rows, row_bytes, key_bytes, indexes)

    async def plan_maintenance(
        self, options: MaintenanceOptions | None = None
    ) -> list[MaintenanceStep]:
        """What is to be vacuumed, analyzed and rebuilt, in order, each with what stands against it.

        Nothing is changed.
        """
        from sqlkit import maintenance_async as maintenance
        from sqlkit.maintenance_plan import MaintenanceOptions

        try:
            main = await self._main()
            return await maintenance.plan_async(main, options or MaintenanceOptions())
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def optimize(
        self,
        options: MaintenanceOptions | None = None,
        *,
        on_step: StepCallback | None = None,
        on_outcome: OutcomeCallback | None = None,
    ) -> list[MaintenanceOutcome]:
        """Carry out the plan of maintenance, one statement after the other, outside transactions.

        Before each statement the plan is made anew for its table: what is not needed any more is
        left out, and what has an obstacle (a transaction that holds back dead rows, another session
        at work on the table, a replica behind, too little disk) is refused with that reason. No
        statement waits for a lock longer than `lock_timeout`. When `budget` is used up, the one
        that runs is cancelled; the next call continues. What REINDEX CONCURRENTLY leaves behind
        when it fails is dropped, also that of a process that was killed. Each statement is a run in
        the ledger, with sizes: ``sqlkit.maintenance``.

        Raises UsageError on a connection in a transaction, or behind a proxy; DatabaseError where
        the connection is lost.
        """
        from sqlkit import maintenance_async as maintenance
        from sqlkit.maintenance_plan import MaintenanceOptions

        try:
            main = await self._main()
            return await maintenance.optimize_async(
                main, options or MaintenanceOptions(), on_step, on_outcome
            )
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def schedule_maintenance(
        self,
        schedule: str,
        options: MaintenanceOptions | None = None,
        *,
        name: str = "maintenance",
    ) -> int:
        """Have pg_cron carry out the plan of maintenance at times like ``0 3 * * *``.

        Returns the id of pg_cron's job; a schedule of the same name is replaced. Jobs run as the
        role of this connection, each statement as a job of its own that begins at a whole minute.
        Without a `budget` there is no end. `max_load`, `free_bytes` and `least_ratio` are not
        taken: UsageError. Raises DatabaseError with code SK701 where pg_cron is missing or works
        in another database, 22023 for what makes no sense.
        """
        from sqlkit.maintenance_plan import MaintenanceOptions

        options = options or MaintenanceOptions()
        options.check_scheduled()
        try:
            main = await self._main()
            return await calls.schedule_maintenance(main, schedule, options, name)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def unschedule_maintenance(self, name: str = "maintenance") -> bool:
        """Take back `schedule_maintenance`; False if there was no such schedule of this role."""
        try:
            return await calls.unschedule_maintenance(await self._main(), name)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def rejects(
        self, run_id: int | None = None, *, state: str | None = "open", limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Refused rows, in the order of their lines: place, raw text, column, SQLSTATE, message.

        `state` is open, replayed, dismissed or None for all.
        """
        return await self._ask(calls.rejects_of, run_id, state, limit)

    async def reject_reasons(self, run_id: int | None = None) -> list[dict[str, Any]]:
        """Refused rows by run and reason, each with its number and its first example."""
        return await self._ask(calls.reject_summaries, run_id)

    async def export_rejects(self, run_id: int) -> list[RejectFile]:
        """The open rejects of a run as files in the format of their sources, to be mended."""
        from sqlkit.rejects_async import reject_files

        return reject_files(await self.rejects(run_id))

    async def replay_rejects(
        self, run_id: int, *, edit_sql: str | None = None, reject_limit: int | None = None
    ) -> list[LoadResult]:
        """Load the open rejects of a run again, as a run of their own.

        `edit_sql` is an SQL expression that makes a new record of the column `raw` (null leaves the
        reject as it is). Rows refused again are rejects of the new run.
        """

        from sqlkit.rejects_async import replay

        async def load(
            sources: list[Source], into: str, options: LoadOptions, versions: dict[int, str]
        ) -> LoadResult:
            replayed = Replayed(run_id, versions)
            return await AsyncLoader(self._connections, options, replayed=replayed).load(
                sources, into
            )

        try:
            await self._main()
            return await replay(
                self._connections, run_id, load, edit_sql=edit_sql, reject_limit=reject_limit
            )
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def dismiss_rejects(self, run_id: int, reject_ids: Sequence[int] | None = None) -> int:
        """Mark open rejects of a run, all or those named, as dismissed; how many there were."""
        ids = None if reject_ids is None else list(reject_ids)
        try:
            main = await self._main()
            async with main.transaction():
                return await calls.settle_rejects(main, run_id, "dismissed", ids, None)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse a second load at the same time: it would take the connections of the first."""
        if not self._turn.acquire(blocking=False):
            raise UsageError(
                "this client is at work on another load",
                hint="A client loads one thing at a time: make one for each task or thread.",
            )
        try:
            yield
        finally:
            self._turn.release()

    async def _main(self) -> AsyncConnection[Any]:
        """The connection that is asked, once it is known that package and schema fit together."""
        main = await self._connections.main()
        if not self._fits:
            check_compatible(*await calls.version(main))
            self._fits = True
        return main

    async def conflict_rules(self) -> list[dict[str, Any]]:
        """The conflict rules, each with the numbers of its conflicts: open, settled, gone."""
        return await self._ask(calls.conflict_rules)

    async def detect_conflicts(
        self, rule: str, *, full: bool = False, workers: int | Literal["auto"] = "auto"
    ) -> dict[str, Any]:
        """Find what a rule has for contradictory and record it; what is new, how many are open.

        Only what was touched since the last detection is looked at, unless `full`. With several
        `workers` everything is, by parts of the resources, each in a transaction of its own; so
        many are chosen by the rows that there are, one for each million, as far as there are cores
        and connections. None owns a resource that another one does.

        Raises UsageError, or SqlkitError: SK802 no such rule, SK803 its key is not unique.
        """
        if workers != "auto" and workers < 1:
            raise UsageError("workers must be auto or at least 1")
        try:
            main = await self._main()
            if workers == "auto":
                from sqlkit.conflicts_async import choose_workers

                workers = await choose_workers(self._connections, rule, full)
            if workers > 1 and not self._connections.is_single:
                from sqlkit.conflicts_async import detect_in_parts

                return await detect_in_parts(self._connections, rule, workers)
            async with main.transaction():
                return await calls.detect_conflicts(main, rule, full)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def conflicts(
        self, rule: str | None = None, *, state: str | None = "open", limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Conflicts of a rule, or of all: keys, resource, measure, what the rows said, state.

        `state` is open, resolved, ignored or None for all.
        """
        return await self._ask(calls.conflicts_of, rule, state, limit)

    async def conflict_history(self, conflict_id: int) -> list[dict[str, Any]]:
        """What happened to a conflict since it was found, in order. Raises SK804 for none."""
        try:
            main = await self._main()
            events = await calls.conflict_events(main, conflict_id)
            is_there = bool(events) or await calls.is_conflict(main, conflict_id)
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        if not is_there:
            raise SqlkitError(
                f"there is no conflict {conflict_id}",
                code="SK804",
                hint="sqlkit conflicts --state all lists them.",
            )
        return events

    async def settle_conflicts(
        self, conflict_ids: Sequence[int], state: str, *, note: str | None = None
    ) -> int:
        """Say what became of conflicts: resolved, ignored or open; for how many that is new.

        It holds until their rows change. Raises SqlkitError SK804 for ids that are not there.
        """
        try:
            main = await self._main()
            async with main.transaction():
                return await calls.settle_conflicts(main, list(conflict_ids), state, note)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def flag_conflicts(self, rule: str, column: str) -> int:
        """Write into a column of the rule's table which rows are in an open conflict.

        A boolean says whether, an integer in how many, another number how much. Returns how many
        rows were written: those that did not say so already.
        """
        try:
            main = await self._main()
            async with main.transaction():
                return await calls.flag_conflicts(main, rule, column)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def add_foreign_server(
        self, server: ForeignServer, password: str | None = None
    ) -> list[str]:
        """Make a foreign server, a user mapping for the current user, and its tables; these tables.

        All of it or nothing. The password gets into the user mapping and nowhere else: it is in no
        statement, so that no server logs it.

        Raises UsageError, or SqlkitError with the SQLSTATE of what PostgreSQL says.
        """
        from sqlkit.fdw_async import add_server

        try:
            return await add_server(await self._main(), server, password)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def render_foreign_server(self, server: ForeignServer) -> str:
        """The script that `add_foreign_server` would carry out."""
        from sqlkit.fdw_async import render_server

        try:
            return await render_server(await self._main(), server)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def change_foreign_password(self, name: str, password: str) -> None:
        """Put another password into our user mapping of a foreign server.

        It goes the way of `add_foreign_server`: into no log and no ledger. Raises UsageError if we
        have no user mapping there, or SqlkitError.
        """
        from sqlkit.fdw_async import change_password

        await self._ask(change_password, name, password)

    async def foreign_servers(self) -> list[dict[str, Any]]:
        """The foreign servers of the database: wrapper, options, users, tables."""
        return await self._ask(calls.foreign_servers)

    async def check_foreign_server(self, name: str) -> list[dict[str, Any]]:
        """Read a row of each of its tables: seconds, or error_code and message.

        Raises SqlkitError: SK807 no such server.
        """
        return await self._ask(calls.check_server, name)

    async def drop_foreign_server(self, name: str) -> int:
        """Drop a foreign server, its user mappings and its tables; how many tables.

        Raises SqlkitError: SK807 no such server, 2BP01 something uses one of the tables.
        """
        try:
            main = await self._main()
            async with main.transaction():
                return await calls.drop_server(main, name)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def merge_source(
        self,
        target: str,
        source: str,
        *,
        policy: str = "update",
        watermark: str | None = None,
        since: str | None = None,
        key: Sequence[str] | str | None = None,
        order_by: str | None = None,
    ) -> RowCounts:
        """Apply the rows of another relation, a foreign table say, to a table; no row comes here.

        Only columns that both have are read, and with `watermark`, a column that grows with each
        change, only rows that have at least the greatest value there is in the target, or `since`.

        Raises SqlkitError, with the SQLSTATE, for what PostgreSQL says.
        """
        try:
            main = await self._main()
            async with main.transaction():
                names = None if key is None else list(_names(key) or ())
                return await calls.merge_source(
                    main, target, source, policy, watermark, since, names, order_by
                )
        except psycopg.Error as error:
            raise from_psycopg(error) from error

    async def _ask(self, call: Any, *values: Any) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = await call(await self._main(), *values)
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return found

    async def aclose(self) -> None:
        """Closes the connections that are the client's own."""
        await self._connections.close()


def _names(names: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Names of columns; a string is one of them, and not its letters."""
    return (names,) if isinstance(names, str) else None if names is None else tuple(names)


def as_sources(
    sources: Any,
    format: str | None,
    dialect: Dialect | None,
    columns: tuple[str, ...],
    whole: bool,
    record: str | None = None,
    feed: str | None = None,
    query: str | None = None,
    null_invalid: bool = False,
    where: str | None = None,
) -> list[Source]:
    """What `AsyncClient.load` is given, as sources. Raises UsageError and SourceError."""
    if isinstance(sources, str | os.PathLike) or _is_source(sources):
        sources = [sources]
    elif hasattr(sources, "__arrow_c_stream__"):
        from sqlkit.sources.arrow import ArrowStreamSource

        sources = [ArrowStreamSource(sources)]
    elif not (isinstance(sources, Sequence) and (not sources or _names_source(sources[0]))):
        from sqlkit.sources.rows import rows

        sources = [rows(sources, columns=columns)]
    dialect = dialect or Dialect()
    if columns and not dialect.header and not dialect.columns:
        dialect = Dialect(
            delimiter=dialect.delimiter,
            quote=dialect.quote,
            escape=dialect.escape,
            header=False,
            null=dialect.null,
            encoding=dialect.encoding,
            columns=columns,
        )
    found: list[Source] = []
    for source in sources:
        if isinstance(source, str | os.PathLike):
            found += find_sources(
                [os.fspath(source)],
                format=format,
                dialect=dialect,
                whole=whole,
                record=record,
                feed=feed,
                query=query,
                where=where,
                null_invalid=null_invalid,
            )
        else:
            found.append(source)
    if not found:
        raise UsageError("no source was named", hint="Name a file, a pattern, or - for stdin.")
    if sum(1 for source in found if not source.repeatable) > 1:
        raise UsageError("standard input can be read only once, but it is named twice")
    return found


def _close(sources: Sequence[Source]) -> None:
    """The call is over: what sources hold open is let go."""
    for source in sources:
        if hasattr(source, "close"):
            source.close()


def _is_source(value: object) -> bool:
    return hasattr(value, "open") and hasattr(value, "fingerprint")


def _names_source(value: object) -> bool:
    return isinstance(value, str | os.PathLike) or _is_source(value)


@asynccontextmanager
async def aconnect(
    database: str | AsyncConnection[Any] | AsyncConnectionPool[Any] | None = None,
) -> AsyncIterator[AsyncClient]:
    """A client of a database, for the length of an ``async with`` block.

    `database` is a connection string, a connection or a pool of the caller's; None means the server
    that SQLKIT_DSN or the PG* variables name, else the embedded one of this directory. Connections
    that are the caller's are not closed, and not committed (see `AsyncClient.load`).
    """
    connections: AsyncConnections
    if database is None or isinstance(database, str):
        from sqlkit.server import find_dsn

        connections = AsyncOwnConnections(find_dsn(database))
    elif isinstance(database, AsyncConnection):
        connections = AsyncCallersConnection(database)
    elif isinstance(database, psycopg.BaseConnection):
        raise UsageError(
            f"{type(database).__name__} is of the other kind",
            hint="sqlkit.connect takes synchronous connections, sqlkit.aconnect asynchronous ones.",
        )
    else:
        connections = AsyncPooledConnections(database)
    client = AsyncClient(connections)
    try:
        yield client
    finally:
        await client.aclose()
