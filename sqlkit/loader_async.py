"""Loading: sources -> batches -> streams -> stages -> merge.

A batch is a contiguous run of pieces of one source; `ways` tells how it gets into its target.

Rows that are bad are no reason to slow down. The first one ends the fast way; from then on the
pieces of that source are screened, and COPY takes what is left of them, by the same ways as before.
Only what screening does not find (unique keys, exclusion, triggers), or rows past the limit, whose
whole batch is to be told, take the batch through a stage of text.

An error that passes by itself ends an attempt, not the load: all connections are given up, and
after a while the next attempt reads the ledger and goes on from there. So it does not matter when
the error struck: what the ledger holds was committed with its rows, and all else was not.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.pq import TransactionStatus

from sqlkit import calls_async as calls
from sqlkit._acompat import AsyncTask, Prefetch, run_async
from sqlkit._memory import peak_memory
from sqlkit.apart_async import AsyncApart
from sqlkit.batches_async import AsyncFeed, OpenSource
from sqlkit.care import LIMIT_PASSED, Care, may_be_rows
from sqlkit.columns import (
    ColumnError,
    ColumnPlan,
    absent_columns,
    new_columns,
    plan_columns,
    plan_raw,
)
from sqlkit.compatible import check_compatible
from sqlkit.connection import from_psycopg
from sqlkit.connections_async import AsyncConnections, AsyncOneConnection, AsyncOwnConnections
from sqlkit.crew import Crew, check_executor
from sqlkit.errors import (
    LostSourceError,
    RejectLimitError,
    SourceError,
    SqlkitError,
    UsageError,
)
from sqlkit.heartbeat_async import heartbeat_async
from sqlkit.infer import check_length, check_table_name, column_types, common_type, new_table
from sqlkit.lock_watch_async import AsyncLockWatch
from sqlkit.model import SourceState
from sqlkit.options import LoadOptions
from sqlkit.results import (
    ByteCounts,
    LoadResult,
    ProgressCallback,
    RowCounts,
    Seconds,
    SourceResult,
)
from sqlkit.retry_async import pause_async
from sqlkit.screening_async import TEXT_COLUMNS, plan_screen_async
from sqlkit.sources.base import (
    AbsenceReader,
    NewTable,
    Piece,
    Reader,
    ResumePoint,
    ScreeningReader,
    Source,
    SpreadSource,
)
from sqlkit.sources.newer import NewerSource, mark_of
from sqlkit.sources.repertoire import has_to_learn, learn
from sqlkit.sources.screen import Screening
from sqlkit.telling import TOLD, Tally, Teller
from sqlkit.together_async import BATCH_TAKEN, KEY_EXISTS, OTHER_MANNER, AsyncTogether
from sqlkit.transient import (
    REASONS,
    Patience,
    WaitCallback,
    Waiting,
    reason_to_wait,
)
from sqlkit.ways_async import LOCK_TIMEOUT, AsyncWays

CREATE_HINT = (
    "Types were chosen by the first rows: make the table yourself, with types that take all."
)

CATALOG_HINT = (
    "Zero dates, and values that PostgreSQL does not have, become null by --invalid null; "
    "--reject-limit keeps their rows as rejects."
)
"""Of a table that was made from the catalog of MySQL."""

STAGE_GONE = ("42P01", "SK208")

_USABLE = (TransactionStatus.IDLE, TransactionStatus.INTRANS)


TOLD_OF = (
    "source",
    "first_line",
    "last_line",
    "record",
    "column_name",
    "sqlstate",
    "message",
    "raw",
)
"""What a dry run tells of the rows that it refuses."""


class _DryRunEnds(Exception):  # noqa: N818 - it carries a result out of a transaction
    def __init__(self, result: LoadResult) -> None:
        super().__init__("dry run")
        self.result = result


class Replayed(NamedTuple):
    """Rejects that are what is loaded."""

    run_id: int  # the run that they are rejects of
    versions: dict[int, str]  # of the rejects, as they were read


class AsyncLoader:
    """One load of some sources into one target. Use it once."""

    def __init__(
        self,
        connections: AsyncConnections,
        options: LoadOptions,
        progress: ProgressCallback | None = None,
        on_wait: WaitCallback | None = None,
        executor: Executor | str | None = None,
        replayed: Replayed | None = None,
    ) -> None:
        options.check()
        check_executor(executor)
        if executor is not None and not isinstance(connections, AsyncOwnConnections):
            raise UsageError(
                "the workers of an executor connect to the database by its address",
                hint="Give connect() a connection string, and no connection or pool.",
            )
        # What cannot be seen from outside, or is looked at row by row, is done here.
        is_here = options.dry_run or options.holds_to_rules or not options.may_copy
        self._executor = None if is_here else executor
        self._crew: Crew | None = None
        if options.dry_run:
            # All in its one transaction, so that not even a stage can be left behind.
            connections = AsyncOneConnection(connections)
        self._connections = connections
        self._replayed = replayed
        self._options = options
        self._on_wait = on_wait
        self._patience = Patience(options.retry_for)
        self._streams = min(options.streams, connections.max_streams)
        self._started = time.monotonic()
        self._tally = Tally()
        self._teller = Teller(progress, self._tally)
        self._lock_timeout: str | None = None
        self._locks = AsyncLockWatch(
            connections, options.retry_for, on_wait, self._teller.silent_for
        )
        self._key: list[str] | None = None
        self._run_id = 0
        self._call = ""  # the same for loads of the same sources, by their names
        self._is_whole = False
        self._can_screen = False  # the reader of the source in hand
        self._ways: AsyncWays | None = None  # of the attempt that is under way
        # What outlives an attempt.
        self._main: AsyncConnection[Any] | None = None
        self._ddl: str | None = None
        self._created: str | None = None  # the table that this load made
        self._after: tuple[str, ...] = ()  # what is to be done to it in the end
        self._wal: int | None = None
        self._batches_before = 0
        self._fingerprints: dict[int, str | None] = {}
        self._first: AsyncTask[str] | None = None  # the first source's, while it is made
        self._source_ids: dict[int, int] = {}  # of the sources that this load has begun with
        self._begun: Source | None = None  # the one in hand

    # The whole ------------------------------------------------------------------------------

    async def load(self, sources: Sequence[Source], into: str) -> LoadResult:
        """Load the sources, one after the other, and say what became of their rows.

        Raises SqlkitError. What was committed by then stays, and is recorded: the same call goes
        on from there.
        """
        names = "\n".join(sorted(source.name for source in sources))
        self._call = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        for source in sources:
            if isinstance(source, SpreadSource):
                source.spread(self._streams)
        if sources and sources[0].repeatable and sources[0].version() is None:
            # Read while the server is connected.
            self._first = AsyncTask(partial(run_async, self._fetch, sources[0]))
        try:
            if self._executor is not None:
                self._crew = await run_async(Crew, self._executor, self._streams)
            while True:
                try:
                    return await self._attempt(sources, into)
                except _DryRunEnds as dry:
                    return dry.result
                except (psycopg.Error, SqlkitError) as error:
                    wait = await self._wait_for(error)
                    if wait is None:
                        raise
                    if isinstance(error, LostSourceError):
                        self._forget_source(sources)
                # The next attempt finds the stages of this one in the ledger, as those of the run.
                await self._connections.reset()
                await pause_async(wait, self._on_wait)
        except BaseException as error:
            await self._end_badly(error)
            undone = await self._undo_create()
            known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
            if isinstance(known, SqlkitError):
                self._locks.tell_in(known)
                self._patience.tell_in(known)
            if undone and isinstance(known, SqlkitError):
                known.detail = "\n".join(filter(None, (known.detail, undone)))
                if isinstance(known, RejectLimitError) or may_be_rows(known.code):
                    by_catalog = any(getattr(s, "null_invalid", None) is False for s in sources)
                    known.hint = CATALOG_HINT if by_catalog else CREATE_HINT
            if known is not error:
                raise known from error
            if isinstance(error, UnicodeEncodeError):
                raise UsageError(
                    f"the connection's client_encoding has no {error.object[error.start]!r}",
                    hint="set client_encoding to utf8",
                ) from error
            raise
        finally:
            if self._crew is not None:
                self._crew.close()
            if self._first is not None:
                self._first.abandon()
            await self._connections.release()

    def _forget_source(self, sources: Sequence[Source]) -> None:
        """The source in hand may hold something else when it is there again."""
        for position, source in enumerate(sources):
            if source is self._begun:
                self._fingerprints.pop(position, None)
                self._source_ids.pop(position, None)

    async def _attempt(self, sources: Sequence[Source], into: str) -> LoadResult:
        self._main = main = await self._connections.main()
        try:
            check_compatible(*await calls.version(main))
            self._lock_timeout = await self._locks.limit(main)
            async with self._outermost(main), self._locks.on():
                return await self._load(main, sources, into)
        finally:
            if self._ways is not None:
                await self._ways.clear_up(main)
                self._ways = None

    async def _wait_for(self, error: psycopg.Error | SqlkitError) -> Waiting | None:
        """What to wait for before the next attempt; None if there is to be none."""
        if self._connections.is_callers or not (self._begun is None or self._begun.can_reopen):
            return None
        if self._tally.batches > self._batches_before and not self._options.atomic:
            self._batches_before = self._tally.batches
            self._patience.progressed()
        self._locks.spend(self._patience, error)
        reason = reason_to_wait(error)
        if reason is None and isinstance(error.__cause__ or error, psycopg.Error):
            reason = await self._is_cut_off(error)
        return None if reason is None else self._patience.wait_for(error, reason)

    async def _is_cut_off(self, error: psycopg.Error | SqlkitError) -> str | None:
        """Why an error is but a consequence of what happened to the session or to the run, if so.

        A stream may be the first to notice, by a stage that is not there any more; and behind a
        proxy there may be no other sign of a restart that has undone the stage.
        """
        if self._main is None or not self._run_id or self._options.dry_run:
            return None
        try:
            is_running = await calls.is_running(self._main, self._run_id)
        except psycopg.Error as lost:
            return reason_to_wait(lost)
        if not is_running:
            return REASONS["SK403"]
        if not self._connections.is_direct and _code(error) in STAGE_GONE:
            return REASONS["SK404"]
        return None

    @asynccontextmanager
    async def _outermost(self, main: AsyncConnection[Any]) -> AsyncIterator[None]:
        """The transaction around everything, where there is one.

        A dry run has one, that is rolled back. On the caller's connection nothing is committed that
        the caller did not ask for: unless it is in autocommit mode and outside a transaction, all
        that a load does is a savepoint of the caller's transaction.
        """
        is_callers = self._connections.is_callers and (
            not main.autocommit or main.info.transaction_status != TransactionStatus.IDLE
        )
        self._is_whole = is_callers or self._options.dry_run
        if is_callers:
            # Any statement begins the caller's transaction; what follows is then a savepoint in it.
            await calls.server_encoding(main)
        if self._is_whole:
            async with main.transaction():
                yield
        else:
            yield

    async def _load(
        self, main: AsyncConnection[Any], sources: Sequence[Source], into: str
    ) -> LoadResult:
        options = self._options
        self._encoding = await calls.server_encoding(main)
        check_table_name(into)
        name = await calls.find_table(main, into)
        if options.since is not None:
            await self._ask_newer(main, name, sources, options.since)
        if name is None:
            if not options.create:
                raise SqlkitError(
                    f"there is no table {into}",
                    code="42P01",
                    hint="Create it, or let --create make it from what the source looks like.",
                )
            # A table of another database has a key of its own, perhaps.
            if options.policy != "append" and not options.key and not sources[0].is_live:
                raise self._without_key()
            await self._create(main, sources[0], into)
            name = await calls.find_table(main, into)
            assert name is not None
            self._created = name if self._ddl else None
        elif options.create and sources[0].is_live and not options.raw:
            # Perhaps made by a run that was killed before its end.
            self._after = (await self._made_for(sources[0], into)).after
        key = None if options.key is None else list(options.key)
        async with main.transaction():
            # Both look into the table, which somebody may have for himself.
            if self._lock_timeout is not None:
                await calls.set_local(main, "lock_timeout", self._lock_timeout)
            self._target = await calls.describe_target(main, name)
            self._key = await calls.find_policy_key(main, name, options.policy, key)
        if options.policy == "history":
            self._target = await calls.without_period(main, self._target, self._key)
        sizes = [source.size for source in sources]
        self._teller.bytes_total = None if None in sizes else sum(size or 0 for size in sizes)
        counts = [source.row_count for source in sources]
        self._teller.rows_total = None if None in counts else sum(count or 0 for count in counts)

        if options.schema == "freeze":
            await self._check_columns(sources)
        await self._open_run(main)
        if options.schema == "evolve":
            await self._add_columns(main, sources)
        await self._tune(main)
        self._patience.resumed()
        self._ways = ways = AsyncWays(
            self._connections,
            options,
            self._target,
            self._key,
            self._run_id,
            self._tally,
            self._teller,
            is_whole=self._is_whole,
            lock_timeout=self._lock_timeout,
        )
        async with heartbeat_async(self._connections, self._run_id):
            if options.atomic:
                async with main.transaction():
                    await self._settle_replayed(main)
                    await self._load_sources(main, ways, sources)
            else:
                await self._load_sources(main, ways, sources)
            await ways.drop_stages(main)
            if self._crew is not None:
                # Also what was staged twice, since the first answer was lost.
                await calls.drop_stages(main, self._run_id)
            return await self._close_run(main, sources)

    async def _check_columns(self, sources: Sequence[Source]) -> None:
        """Raises ColumnError with all columns, of all sources, that one side has not."""
        found: list[str] = []
        for source in sources:
            reader = await run_async(partial(source.open, database_encoding=self._encoding))
            try:
                self._plan(source, reader)
            except ColumnError as error:
                found.append(f"{source.name}: {error.message}")
            finally:
                await run_async(reader.close)
        if found:
            raise ColumnError(
                f"the columns of {self._target.name} are frozen, and {len(found)} "
                f"source{'s have' if len(found) > 1 else ' has'} others",
                detail="\n".join(found),
                hint="Nothing was written. Change the table, leave columns out, or choose evolve.",
            )

    async def _add_columns(self, main: AsyncConnection[Any], sources: Sequence[Source]) -> None:
        """Add the columns to the target that sources have, and it has not."""
        options, wanted = self._options, dict[str, str]()
        for source in sources:
            reader = await run_async(partial(source.open, database_encoding=self._encoding))
            try:
                new = new_columns(
                    reader.columns,
                    self._target.columns,
                    renamed=options.renamed,
                    chosen=options.columns,
                    left_out=options.left_out,
                    lookups=options.lookups,
                )
                types = await run_async(partial(column_types, reader, list(new)))
            finally:
                await run_async(reader.close)
            for name, column in new.items():
                check_length(column)
                wanted[column] = common_type(wanted.get(column, types[name]), types[name])
        if wanted:
            async with main.transaction():
                if self._lock_timeout is not None:
                    await calls.set_local(main, "lock_timeout", self._lock_timeout)
                columns, names = list(wanted), list(wanted.values())
                await calls.add_columns(main, self._target.name, columns, names, self._run_id)
            self._target = await calls.describe_target(main, self._target.name)
            if options.policy == "history":
                self._target = await calls.without_period(main, self._target, self._key)

    async def _ask_newer(
        self, main: AsyncConnection[Any], name: str | None, sources: Sequence[Source], column: str
    ) -> None:
        """Have each source leave out what the ledger says was loaded of it."""
        for source in sources:
            if not isinstance(source, NewerSource):
                raise UsageError(
                    f"{source.name}: only a table or query of a database is asked for newer rows",
                    hint="A file is skipped that was loaded before: leave --since out.",
                )
            stands = None
            if name is not None:
                stands = await calls.find_watermark(main, name, source.identity, column)
            source.ask(self._options.newer(stands))

    async def _note_watermark(
        self, main: AsyncConnection[Any], source: Source, state: SourceState
    ) -> None:
        """Have the watermark moved by the transaction that writes the last row."""
        if (mark := mark_of(source)) is not None:
            await calls.note_watermark(
                main, state.source_id, mark.source, mark.name, mark.stood, mark.stands
            )

    async def _open_run(self, main: AsyncConnection[Any]) -> None:
        """Open the run, or take it up again where an earlier attempt has opened it."""
        options = self._options
        if self._wal is None:
            self._wal = await calls.wal_position(main)
        if not self._is_whole:
            await calls.repair_runs(main, self._target.name)
        if self._run_id and await calls.attach_run(main, self._run_id):
            await calls.drop_stages(main, self._run_id)
            return
        async with main.transaction():
            # Both or none: a run of which nobody has said how it may be reached counts as running
            # for minutes after its connection was lost.
            if self._lock_timeout is not None:
                await calls.set_local(main, "lock_timeout", self._lock_timeout)
            self._run_id = await calls.start_run(
                main,
                "load",
                self._target.name,
                options.policy,
                self._key,
                options.as_recorded() | {"call": self._call},
                f"{socket.gethostname()}:{os.getpid()}",
            )
            await calls.attach_run(main, self._run_id)

    async def _tune(self, main: AsyncConnection[Any]) -> None:
        """Change what helps while the run lasts. Its end puts that back, whichever end it is."""
        options = self._options
        if options.tune and not self._is_whole:
            await calls.begin_tuning(main, self._run_id, self._target.name, self._key)
        if options.warm:
            for name, size, seconds in await calls.warm_key(main, self._target.name, self._key):
                note = f"warm: {size:,} bytes of {name} read into memory in {seconds:.2f} s"
                await calls.note_reason(main, self._run_id, note)

    async def _settle_replayed(self, main: AsyncConnection[Any]) -> None:
        """Mark the rejects that are loaded here, in the transaction that loads them.

        Whoever replays, dismisses or changes one of them at the same time waits, and finds it
        settled.
        """
        if self._replayed is None:
            return
        run_id, versions = self._replayed
        ids = list(versions)
        if await calls.reject_versions(main, run_id, ids) == versions:
            await calls.settle_rejects(main, run_id, "replayed", ids, self._run_id)
            return
        ours = {
            reject["reject_id"]
            for reject in await calls.rejects_of(main, run_id, "replayed")
            if reject["settled_by_run_id"] == self._run_id
        }
        if not ours.issuperset(ids):
            raise SqlkitError(
                f"rejects of run {run_id} were replayed, dismissed or changed meanwhile",
                code="SK406",
                hint=f"Nothing was loaded. sqlkit rejects {run_id} says what is open now.",
            )

    async def _close_run(self, main: AsyncConnection[Any], sources: Sequence[Source]) -> LoadResult:
        """Close the run as done. Its counters come from the ledger, however often it was cut."""
        options, tally = self._options, self._tally
        wal = max(0, await calls.wal_position(main) - (self._wal or 0))
        async with main.transaction():
            # Batches may have committed asynchronously. This commit does not, and the log is
            # written in order: only now is the load a success.
            if not self._is_whole:
                await calls.require_synchronous_commit(main)
            await calls.check_loaded(main, list(self._source_ids.values()))
            for statement in self._after:
                await main.execute(statement.encode())
            await calls.note_memory(main, self._run_id, peak_memory())
            await calls.finish_run(main, self._run_id, wal_bytes=wal)
        if not self._is_whole:
            # Those who died in the meantime, and whose stages were in use until now.
            await calls.repair_runs(main, self._target.name)
        rejects = await calls.rejects_of(main, self._run_id, limit=TOLD) if options.dry_run else []
        counted = await calls.counts_of(main, self._run_id)
        shared = await calls.shared_rows_of(main, self._run_id)
        # What sources share; of one that was read once more, only the last time counts.
        batches, rows = counted.pop(None, (0, RowCounts()))
        results: list[SourceResult] = []
        for position, source in enumerate(sources):
            source_id = self._source_ids[position]
            found = counted.pop(source_id, (0, RowCounts()))
            batches, rows = batches + found[0], rows + found[1]
            read = shared.pop(source_id, None)
            if read is not None:
                found = (1, RowCounts(read=read))
            state = "loaded" if found[0] else "skipped"
            results.append(SourceResult(source.name, state, *found, shared=read is not None))
        result = LoadResult(
            run_id=None if options.dry_run else self._run_id,
            target=self._target.name,
            policy=options.policy,
            sources=tuple(results),
            batches=batches,
            rows=rows,
            bytes=ByteCounts(read=tally.bytes_read, decoded=tally.bytes_decoded, wal=wal),
            seconds=Seconds(
                total=time.monotonic() - self._started,
                decode=tally.seconds_decode,
                copy=tally.seconds_copy,
                merge=tally.seconds_merge,
                fetch=tally.seconds_fetch,
                lookup=tally.seconds_lookup,
            ),
            ddl=self._ddl,
            notes=tuple(await calls.reasons_of(main, self._run_id)),
            rejects=tuple({name: reject[name] for name in TOLD_OF} for reject in rejects),
            trimmed=(
                await calls.count_trimmed(main, self._run_id) if options.conflicts == "trim" else 0
            ),
        )
        if options.dry_run:
            raise _DryRunEnds(result)
        return result

    async def _load_sources(
        self, main: AsyncConnection[Any], ways: AsyncWays, sources: Sequence[Source]
    ) -> None:
        if self._crew is None:
            together = AsyncTogether(
                main,
                ways,
                sources,
                self._tally,
                encoding=self._encoding,
                fingerprint_of=partial(self._fingerprint_of, main),
                states_of=partial(self._states_of, main, sources),
                plan_of=self._checked_plan,
                alone=partial(self._load_source, main, ways),
                let_go=partial(self._let_go, main),
            )
            await together.load()
            return
        apart = AsyncApart(
            main,
            ways,
            self._crew,
            sources,
            target=self._target.name,
            run_id=self._run_id,
            encoding=self._encoding,
            fingerprints=self._fingerprints,
            state_of=partial(self._state_of, main),
            plan_of=self._checked_plan,
            alone=partial(self._load_source, main, ways),
            let_go=partial(self._let_go, main),
        )
        await apart.load()

    def _checked_plan(self, source: Source, reader: Reader) -> ColumnPlan:
        plan = self._plan(source, reader)
        self._check_plan(source, plan)
        return plan

    async def _end_badly(self, error: BaseException) -> None:
        """Note the failure in the ledger, if the server is there to be told."""
        main = self._main
        if main is None or not self._run_id or self._is_whole:
            return
        known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
        code = known.code if isinstance(known, SqlkitError) else "SK000"
        message = known.message if isinstance(known, SqlkitError) else type(error).__name__
        with suppress(psycopg.Error, SqlkitError):
            if not isinstance(error, Exception):
                # Somebody ended the load, wherever it was. Nothing is wrong with the server.
                is_idle = main.info.transaction_status == TransactionStatus.IDLE
                if main.closed or not (is_idle or self._connections.is_callers):
                    await self._connections.reset()
                    main = await self._connections.main()
                with suppress(psycopg.Error):  # else the next run drops them
                    await calls.drop_stages(main, self._run_id)
            if main.info.transaction_status == TransactionStatus.IDLE:
                await calls.finish_run(main, self._run_id, code, message)

    async def _create(self, main: AsyncConnection[Any], source: Source, into: str) -> None:
        if self._options.raw:
            raw = f"select sqlkit.create_raw_table({sql.Literal(into).as_string()})"
            made = NewTable(raw, ())
        else:
            made = await self._made_for(source, into)
            if self._options.policy != "append" and not made.key:
                raise self._without_key()
        self._ddl, self._after = made.ddl, made.after
        try:
            async with main.transaction():
                await main.execute(self._ddl.encode())
                # Of an earlier table by this name the ledger may know what is not in this one.
                await calls.forget_sources(main, into)
        except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
            # Another process was given the same command, and was faster.
            self._ddl, self._after = None, ()

    def _without_key(self) -> UsageError:
        return UsageError(
            f"policy {self._options.policy} needs a key, and the table is yet to be made",
            code="SK202",
            hint="Name its columns, --key a,b, or use --policy append.",
        )

    async def _made_for(self, source: Source, into: str) -> NewTable:
        """The table that a source is meant for, as far as it tells."""
        options = self._options
        reader = await run_async(partial(source.open, database_encoding=self._encoding))
        try:
            return await run_async(
                partial(
                    new_table,
                    reader,
                    into,
                    key=options.key or (),
                    renamed=options.renamed,
                    chosen=options.columns,
                    left_out=options.left_out,
                )
            )
        finally:
            await run_async(reader.close)

    async def _undo_create(self) -> str | None:
        """Drop the table that this load made, if nothing was loaded into it; what to say of it."""
        main, table = self._main, self._created
        if main is None or table is None:
            return None
        is_dropped = self._is_whole
        with suppress(psycopg.Error, SqlkitError):
            if not is_dropped and main.info.transaction_status == TransactionStatus.IDLE:
                async with main.transaction():
                    await calls.set_local(main, "lock_timeout", LOCK_TIMEOUT)
                    is_dropped = await calls.drop_empty_table(main, table, self._run_id)
        return f"The table made for it is dropped again:\n{self._ddl}" if is_dropped else None

    # One source -----------------------------------------------------------------------------

    async def _load_source(
        self, main: AsyncConnection[Any], ways: AsyncWays, position: int, source: Source
    ) -> None:
        # Rules are held against the rows of a batch as a whole, each with its line.
        least = Care.SINGLY if self._options.holds_to_rules else Care.NONE
        care = least
        while True:
            state = await self._state_of(main, position, source)
            if state.state == "loaded":
                break
            self._begun = source
            try:
                async with self._opened(main, ways, source, state, care) as opened:
                    if care != Care.SINGLY:
                        await ways.load(main, opened, _begins(state))
                    elif not await ways.load_singly(main, opened, _begins(state)):
                        # All of that batch was sound, so the fast way is tried again.
                        care = least
            except (psycopg.Error, SqlkitError) as error:
                # What the batches in hand have staged is of no use any more.
                if main.info.transaction_status in _USABLE:
                    await ways.drop_stages(main)
                code = _code(error)
                if code == BATCH_TAKEN:
                    # Another process is loading the same source: go on from where it is now.
                    continue
                if code in KEY_EXISTS:
                    raise _of_source(error, source) from error
                if care == Care.SINGLY or not source.can_reopen:
                    raise
                if not ways.may_be_rows(code) and code != LIMIT_PASSED:
                    raise
                # Some rows are bad: keep them away, or find all that is wrong with their batch.
                care = self._more_care(care, code or "")

        await self._let_go(main, state.source_id, source)

    async def _let_go(self, main: AsyncConnection[Any], source_id: int, source: Source) -> None:
        """A source is loaded to its end."""
        version = source.version()
        if version is not None:
            await calls.note_version(main, source_id, version)
        await run_async(source.release)

    async def _state_of(
        self, main: AsyncConnection[Any], position: int, source: Source
    ) -> SourceState:
        """How far a source has come, which is made known to the ledger."""
        fingerprint = await self._fingerprint_of(main, position, source)
        # Without a fingerprint there is no other way to know what was begun; and what is loaded
        # once more is not to be begun a third time.
        if not source.repeatable or self._options.again:
            (begun,) = await self._begun_before(main, [position])
            if begun is not None:
                return begun
        try:
            state = await calls.open_source(
                main,
                self._target.name,
                source.name,
                source.format,
                source.size,
                fingerprint,
                self._options.again,
                self._options.manner(source, self._key),
                self._call,
            )
        except psycopg.Error as error:
            if error.sqlstate == OTHER_MANNER:
                raise _of_source(error, source) from error
            raise
        self._source_ids[position] = state.source_id
        return state

    async def _states_of(
        self, main: AsyncConnection[Any], sources: Sequence[Source], positions: Sequence[int]
    ) -> list[SourceState]:
        """The same for many whose fingerprints are known."""
        begun: list[SourceState | None] = [None] * len(positions)
        if self._options.again:
            begun = await self._begun_before(main, positions)
        new = [position for position, state in zip(positions, begun, strict=True) if state is None]
        opened = await calls.open_sources(
            main,
            self._target.name,
            [
                {
                    "name": sources[position].name,
                    "format": sources[position].format,
                    "size_bytes": sources[position].size,
                    "fingerprint": self._fingerprints[position],
                    "again": self._options.again,
                    "manner": self._options.manner(sources[position], self._key),
                    "call": self._call,
                }
                for position in new
            ],
        )
        for position, state in zip(new, opened, strict=True):
            self._source_ids[position] = state.source_id
        states = iter(opened)
        return [state or next(states) for state in begun]

    async def _begun_before(
        self, main: AsyncConnection[Any], positions: Sequence[int]
    ) -> list[SourceState | None]:
        """How far those have come that this load has begun; None for others, and for those that
        were rolled back with an attempt."""
        ids = [self._source_ids.get(position) for position in positions]
        known = [source_id for source_id in ids if source_id is not None]
        states = await calls.source_states(main, known) if known else {}
        return [None if source_id is None else states.get(source_id) for source_id in ids]

    async def _fingerprint_of(
        self, main: AsyncConnection[Any], position: int, source: Source
    ) -> str | None:
        """The same, asked for once."""
        if position not in self._fingerprints:
            self._fingerprints[position] = await self._fingerprint(main, position, source)
        return self._fingerprints[position]

    async def _fingerprint(
        self, main: AsyncConnection[Any], position: int, source: Source
    ) -> str | None:
        """What the ledger knows a source by; it is read for that unless its version is known."""
        if position == 0 and self._first is not None:
            begun, self._first = self._first, None
            return await begun.result()
        if not source.repeatable:
            return None
        version = source.version()
        if version is not None:
            known = await calls.find_version(main, self._target.name, version)
            if known is not None:
                return known
        return await run_async(self._fetch, source)

    def _fetch(self, source: Source) -> str:
        started = time.monotonic()
        try:
            return source.fingerprint()
        finally:
            self._tally.seconds_fetch += time.monotonic() - started

    def _more_care(self, care: Care, code: str) -> Care:
        """How to go on after an error that lies in rows."""
        return care.after(code) if self._can_screen and self._may_screen() else Care.SINGLY

    def _may_screen(self) -> bool:
        """True if rows may be refused, and kept away from those that are loaded."""
        options = self._options
        return not (
            (options.reject_limit == 0 and options.reject_share is None)
            # What is not in the stage before it is merged cannot be screened.
            or options.lookups
            # Another connection does not see what this one has not committed.
            or (options.atomic or self._is_whole or self._connections.is_single)
        )

    @asynccontextmanager
    async def _opened(
        self,
        main: AsyncConnection[Any],
        ways: AsyncWays,
        source: Source,
        state: SourceState,
        care: Care,
    ) -> AsyncIterator[OpenSource]:
        """A source, opened where the ledger says, and read ahead."""
        if care != Care.NONE and has_to_learn(self._encoding):
            learn(self._encoding, await calls.characters_of(main))
        reader = await run_async(
            partial(
                source.open,
                database_encoding=self._encoding,
                resume=_begins(state) if state.next_offset else None,
            )
        )
        await self._note_watermark(main, source, state)
        self._tally.opened(source, reader, state.next_offset)
        self._can_screen = isinstance(reader, ScreeningReader)
        ways.prepare(reader)
        prefetch: Prefetch[Piece] | Prefetch[Screening] | None = None
        try:
            plan = self._checked_plan(source, reader)
            screen = probe = None
            if isinstance(reader, ScreeningReader) and care != Care.SINGLY and self._may_screen():
                sieve, screen = await plan_screen_async(
                    main,
                    self._target.name,
                    self._options.policy,
                    self._key,
                    source,
                    reader,
                    plan,
                    care,
                )
                # Of these rows all are written that are not there already, so that a broken
                # constraint is one in any case.
                if self._options.policy == "update" and not screen.with_constraints:
                    probe = screen if screen.has_constraints else None
            if care != Care.NONE:
                if reserved := set(TEXT_COLUMNS).intersection(plan.staged):
                    raise UsageError(
                        f"some rows are bad, and column {min(reserved)} has a name that is kept "
                        "for telling them",
                        hint="Rename the column, or leave it out: --leave-out NAME.",
                    )
                # Rejects are written as a file again in the way of their source.
                await calls.describe_source(main, state.source_id, reader.layout)
            if care == Care.NONE:
                screen = None
                pieces = reader.pieces(plan.wanted, ways.piece_bytes(source), plan.ignored)
                prefetch = Prefetch(pieces, ahead=self._streams)
            elif screen is not None and isinstance(reader, ScreeningReader):
                screenings = reader.screenings(
                    plan.wanted, ways.piece_bytes(source), plan.ignored, sieve
                )
                prefetch = Prefetch(screenings, ahead=self._streams)
            else:
                pieces = reader.single_records(plan.wanted, ways.piece_bytes(source), plan.ignored)
                prefetch = Prefetch(pieces, ahead=self._streams)
            yield OpenSource(
                source, state.source_id, reader, plan, AsyncFeed(prefetch), screen, probe
            )
        finally:
            if prefetch is not None:
                await run_async(prefetch.close)
            self._tally.note(source, reader)
            await run_async(reader.close)

    def _plan(self, source: Source, reader: Reader) -> ColumnPlan:
        options = self._options
        if options.raw:
            return plan_raw(
                source.name,
                reader.columns,
                self._target.name,
                self._target.columns,
                gives_objects=not source.declares_columns and source.format != "xml",
            )
        left_out = options.left_out
        if options.schema == "evolve":
            absent = absent_columns(
                reader.columns, self._target.columns, options.renamed, options.lookups
            )
            left_out = (*left_out, *absent)
        plan = plan_columns(
            source.name,
            reader.columns,
            self._target.name,
            self._target.columns,
            renamed=options.renamed,
            chosen=options.columns,
            left_out=left_out,
            passes_through=source.passes_through,
            declares_columns=source.declares_columns,
            rest=options.rest if source.declares_columns else options.rest or options.discard,
            discard=options.discard if source.declares_columns else None,
            lookups=options.lookups,
        )
        if options.policy == "fill" and isinstance(reader, AbsenceReader) and reader.knows_absent:
            return plan.telling_absent(self._target.columns, self._key or ())
        return plan

    def _check_plan(self, source: Source, plan: ColumnPlan) -> None:
        """The policy's columns must be in the input; the merge checks it too, but not every way
        leads there."""
        order_by = self._options.order_by
        listed = f"Input: {', '.join(plan.merged)}."
        if missing := [name for name in self._key or () if name not in plan.merged]:
            raise ColumnError(
                f"{source.name}: key columns that the input does not have: {', '.join(missing)}",
                detail=listed,
                hint="Load the columns of the key, or choose another key.",
            )
        if order_by is not None and order_by not in plan.merged:
            raise ColumnError(
                f"{source.name}: column {order_by}, by which the newer row is known, is not in "
                "the input",
                code="SK207",
                detail=listed,
                hint="Name a column that grows with each version of a row, such as updated_at.",
            )

    # The ways of a batch ----------------------------------------------------------------------

    # Telling --------------------------------------------------------------------------------


def _code(error: psycopg.Error | SqlkitError) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else error.code


def _of_source(error: psycopg.Error | SqlkitError, source: Source) -> SourceError:
    """An error that does not name the source that it is of."""
    known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
    return SourceError(
        known.message,
        source=source.name,
        code=known.code,
        detail=known.detail,
        hint=known.hint,
    )


def _begins(state: SourceState) -> ResumePoint:
    return ResumePoint(
        state.next_offset, state.next_line, state.stored_offset, state.stored_sha256 or ""
    )
