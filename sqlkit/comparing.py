"""Proof of a table: whether it holds what its source says, and by which strategy that is fastest.

What a source should have become is not guessed: it is loaded, by the plain reference way, into an
empty copy of the table, and the two are compared by `sqlkit.compare_tables()`. Tables are never
written to. A copy belongs to a run of kind `compare`, so that it goes even if the program is
killed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection

from sqlkit import calls_async as calls
from sqlkit._acompat import run_async
from sqlkit._memory import forget_peak, peak_memory
from sqlkit.client_async import aconnect
from sqlkit.columns import EVERYTHING
from sqlkit.compatible import check_compatible
from sqlkit.config import Project, Table
from sqlkit.connection import from_psycopg
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.heartbeat_async import HEARTBEAT
from sqlkit.model import Comparison, Target
from sqlkit.partitions import PartitionedResult
from sqlkit.pipeline import as_known, choose, connect_to, do_rows, dsn_of, render, some_sources
from sqlkit.results import LoadResult

LOADS = ("insert", "copy", "stage", "parallel")
"""Strategies of loads that are held against each other, the reference first."""
REFRESHES = ("mirror", "truncate", "swap")
BINARY = ("parquet", "arrow")
"""Formats whose rows COPY alone takes."""


@dataclass(frozen=True)
class Verification:
    """Whether a table is what its source says: same, different, or failed, which could not be told.

    `way` is checksums, where the servers of source and target have added them up, or copy.
    """

    name: str
    target: str
    state: str
    entries: tuple[str, ...] = ()  # those of the file that make the table
    way: str = ""
    rows_source: int = 0
    rows_target: int = 0
    only_source: int = 0
    only_target: int = 0
    different: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    error: SqlkitError | None = None

    @property
    def exit_code(self) -> int:
        """0 the same, 1 not, or that of the error."""
        return self.error.exit_code if self.error is not None else int(self.state != "same")

    def as_dict(self) -> dict[str, Any]:
        """As plain data, as ``sqlkit verify --json`` prints it."""
        error = self.error and {
            name: getattr(self.error, name) for name in ("code", "message", "detail", "hint")
        }
        return asdict(replace(self, error=None)) | {"error": error}


async def verify_project(
    project: Project,
    names: Sequence[str] = (),
    *,
    limit: int = 20,
    allow_extra: bool = False,
    on_end: Callable[[Verification], None] = lambda found: None,
) -> list[Verification]:
    """Compare tables of the project, those named or all, with what their sources say.

    What several entries of the file make of one table is put together, in the file's order. Of rows
    that differ, `limit` are in the result. With `allow_extra` rows that only the table has are no
    difference, nor are they where a refresh has a scope. Compared are the columns that the source
    has. Disk in the target's database is needed for a copy of the table; memory does not grow.

    Raises UsageError; what goes wrong with a table is in its result.
    """
    entries: dict[tuple[str | None, str], list[str]] = {}
    for name in project.tables:
        entries.setdefault((project.connection_of(name), project.target_of(name)), []).append(name)
    done: list[Verification] = []
    seen: set[tuple[str | None, str]] = set()
    for name in choose(project, names):
        place = (project.connection_of(name), project.target_of(name))
        if place in seen:
            continue
        seen.add(place)
        started = time.monotonic()
        found = Verification(name, place[1], "failed", tuple(entries[place]))
        try:
            found = await _verify(project, found, limit, allow_extra)
        except Exception as error:  # noqa: BLE001 - the other tables go on
            found = replace(found, error=as_known(error))
        done.append(replace(found, seconds=time.monotonic() - started))
        on_end(done[-1])
    return done


async def _verify(
    project: Project, found: Verification, limit: int, allow_extra: bool
) -> Verification:
    alias = project.connection_of(found.name)
    tables = [project.tables[name] for name in found.entries]
    if len(tables) == 1 and (rows := await _sums(project, alias, found.name, found.target)):
        return replace(
            found, state="same", way="checksums", rows_source=rows, rows_target=rows
        )  # fmt: skip
    async with _comparing(project, alias, found.target) as (connection, run_id, target):
        notes = []
        columns = _columns(
            target, [await _delivered(connection, project, n) for n in found.entries]
        )
        if any(table.policy == "history" and table.order_by is None for table in tables):
            plain = await calls.without_period(connection, target, None)
            columns = [name for name in columns if name in {c.name for c in plain.columns}]
            notes.append("versions begin when they are loaded: their periods are not compared")
        copy = await calls.copy_table(connection, target.name, run_id, False)
        for name in found.entries:
            await _fill(project, name, copy, connection, run_id)
        key = await _key(connection, target, tables)
        result = await calls.compare_tables(connection, copy, target.name, key, columns, limit)
    scoped = any(table.refresh and table.refresh.scope for table in tables)
    if result.only_right and (allow_extra or scoped):
        why = "asked for" if allow_extra else "refreshes have a scope"
        notes.append(f"{result.only_right:,} more rows of the table are no difference: {why}")
    bad = result.only_left + result.different
    bad += 0 if allow_extra or scoped else result.only_right
    return replace(
        found,
        state="different" if bad else "same",
        way="copy",
        rows_source=result.rows_left,
        rows_target=result.rows_right,
        only_source=result.only_left,
        only_target=result.only_right,
        different=result.different,
        columns=result.columns,
        examples=tuple(
            {
                _SIDES.get(word, word): _SIDES.get(value, value) if word == "where" else value
                for word, value in example.items()
            }
            for example in result.examples
        ),
        notes=tuple(notes),
    )


_SIDES = {"left": "source", "right": "target"}


async def _key(
    connection: AsyncConnection[Any], target: Target, tables: Sequence[Table]
) -> list[str] | None:
    """By what rows are told apart: what the file says, the primary key, or all they hold."""
    if any(table.policy == "append" or table.raw for table in tables):
        return None if target.key is None else list(target.key)
    if any(table.policy == "history" for table in tables):
        return None
    return next((list(table.key) for table in tables if table.key is not None), None)


async def _delivered(
    connection: AsyncConnection[Any], project: Project, name: str
) -> tuple[set[str], bool]:
    """The target's columns that an entry fills, and whether these are all."""
    table = project.tables[name]
    if table.raw:
        return {"raw_data"}, True
    if table.transform is not None:
        source = await calls.find_table(connection, project.target_of(table.transform.source))
        if source is None:
            raise SqlkitError(f"there is no table {table.transform.source}", code="42P01")
        query = render(project, name, stage=f"({_rows(source, 0)})")
        return {*(await calls.rows_of(connection, query, 0))[0], *table.lookups}, True
    if not project.sources_of(name):
        query = (table.query or "").strip().rstrip(";")
        return set((await calls.rows_of(connection, _rows(f"(\n{query}\n) as q", 0), 0))[0]), True
    renamed = {**table.map, **({} if table.whole is None else {"line": table.whole})}
    left_out = set(table.leave_out or ())
    source_ = (await some_sources(project, name))[0]
    encoding = await calls.server_encoding(connection)
    reader = await run_async(partial(source_.open, database_encoding=encoding))
    try:
        names = {
            renamed.get(column, column)
            for column in reader.columns
            if column not in left_out and (not table.columns or column in table.columns)
        }
    finally:
        await run_async(reader.close)
        if hasattr(source_, "close"):
            await run_async(source_.close)
    names |= {column for column in (table.rest, table.discard) if column is not None}
    names |= set(table.lookups)
    is_all = source_.declares_columns or bool(table.columns) or EVERYTHING in left_out
    return names - left_out, is_all


def _rows(source: str, limit: int | None = None) -> str:
    """The rows of a table, whose name comes from the server, or of a query of the user's own."""
    return f"select * from {source}" + ("" if limit is None else f" limit {limit}")  # noqa: S608


def _columns(target: Target, delivered: Sequence[tuple[set[str], bool]]) -> list[str]:
    """The columns that are compared: what the entries fill, and what nobody else does."""
    wanted = set[str]().union(*(names for names, _ in delivered))
    if not all(is_all for _, is_all in delivered):
        wanted |= {column.name for column in target.columns if not column.has_default}
    return [column.name for column in target.columns if column.name in wanted]


async def _fill(
    project: Project, name: str, copy: str, connection: AsyncConnection[Any], run_id: int
) -> None:
    """What a source makes of an empty table, by the plain way."""
    table = project.tables[name]
    if table.transform is not None:
        # Not as a transform, of which it would be noted how far it has come.
        source = await calls.find_table(connection, project.target_of(table.transform.source))
        assert source is not None  # it was there when its columns were asked for
        query = render(project, name, full_refresh=True, stage=f"({_rows(source)})")
        key = None if table.key is None else list(table.key)
        async with connection.transaction():
            await calls.merge_query(
                connection,
                copy,
                query,
                run_id,
                table.policy,
                key,
                table.order_by,
                [lookup.told() for lookup in project.lookups_of(name, may_create=False)],
            )
        return
    async with aconnect(dsn_of(project, project.connection_of(name))) as client:
        strategy = "mirror" if table.refresh is not None else "insert"
        if strategy == "insert" and any(
            source.format in BINARY for source in await some_sources(project, name)
        ):
            strategy = "stage"  # binary rows go through COPY alone
        result = await do_rows(
            client, project, name, into=copy, strategy=strategy, creates_keys=False
        )
        await _dismiss(client, result)


async def _dismiss(client: Any, result: Any) -> None:
    """Rows that a copy refuses are no work for anybody."""
    runs: Sequence[int | None] = ()
    if isinstance(result, PartitionedResult):
        runs = result.refused_in
    elif isinstance(result, LoadResult) and result.rows.rejected:
        runs = (result.run_id,)
    for run_id in runs:
        if run_id is not None:
            await client.dismiss_rejects(run_id)


async def _sums(project: Project, alias: str | None, name: str, target: str) -> int | None:
    """How many rows a table of MySQL has, if checksums say that they are all in the target.

    Without any of them passing through here. None where that cannot be told, or they differ.
    """
    table, sources = project.tables[name], project.sources_of(name)
    source = sources[0] if len(sources) == 1 else ""
    if not source.startswith(("mysql://", "mariadb://")) or "#" not in source:
        return None
    if (
        table.map
        or table.leave_out
        or table.columns
        or table.null_invalid
        or table.query
        or table.where
        or table.lookups
    ):
        return None
    from sqlkit.sources.mysql import verify
    from sqlkit.sources.mysql.address import parse_address
    from sqlkit.sources.mysql.catalog import look_up
    from sqlkit.sources.mysql.session import Session

    address = parse_address(source)

    def theirs() -> tuple[Any, list[int]]:
        session = Session(address, address.name, own_queries=True, again=False)
        try:
            table_ = look_up(session, address.database, str(address.table))
            return table_, verify.their_sums(session, table_)
        finally:
            session.close()

    described, sums = await run_async(theirs)
    async with await connect_to(project, alias) as connection:
        found = await calls.find_table(connection, target)
        if found is None:
            return None
        with suppress(psycopg.Error):  # it has other columns, or types
            async with connection.transaction():
                mine = await calls.sums_of(connection, verify.our_query(found, described))
            return sums[0] if verify.compare(described, sums, mine) is None else None
    return None


@asynccontextmanager
async def _comparing(
    project: Project, alias: str | None, name: str
) -> AsyncIterator[tuple[AsyncConnection[Any], int, Target]]:
    """A run whose stages, copies among them, are dropped at its end."""
    async with await connect_to(project, alias) as connection:
        try:
            check_compatible(*await calls.version(connection))
            found = await calls.find_table(connection, name)
            if found is None:
                raise SqlkitError(f"there is no table {name}", code="42P01")
            target = await calls.describe_target(connection, found)
            await calls.repair_runs(connection, found)
            client = f"{socket.gethostname()}:{os.getpid()}"
            run_id = await calls.start_run(connection, "compare", found, None, None, {}, client)
            await calls.attach_run(connection, run_id)
        except psycopg.Error as error:
            raise from_psycopg(error) from error

        async def beat() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT)
                with suppress(psycopg.Error):
                    await calls.touch_run(connection, run_id)

        beating = asyncio.ensure_future(beat())
        try:
            yield connection, run_id, target
        except BaseException as error:
            known = as_known(error) if isinstance(error, Exception) else SqlkitError("interrupted")
            with suppress(psycopg.Error):
                await calls.drop_stages(connection, run_id)
                await calls.finish_run(connection, run_id, known.code, known.message)
            raise
        else:
            await calls.drop_stages(connection, run_id)
            await calls.finish_run(connection, run_id)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


# Strategies side by side ----------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One strategy on a copy of the table. `gain`: how often its time goes into the reference's."""

    strategy: str
    seconds: float = 0.0
    rows: int = 0
    rows_per_second: float = 0.0
    peak_bytes: int | None = None  # of this process; None where the system does not tell
    wal_bytes: int = 0
    gain: float | None = None
    is_same: bool | None = None  # as the reference's result; None: not to be told
    differs: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Bench:
    """The strategies of a table side by side, the reference first."""

    name: str
    target: str
    rows_before: str  # empty | as the table
    trials: tuple[Trial, ...]

    @property
    def exit_code(self) -> int:
        """1 if results differ, or every strategy failed."""
        bad = any(trial.is_same is False for trial in self.trials)
        return int(bad or all(trial.error is not None for trial in self.trials))

    def as_dict(self) -> dict[str, Any]:
        """As plain data, as ``sqlkit bench --json`` prints it."""
        return asdict(self)


async def bench_table(
    project: Project,
    name: str,
    strategies: Sequence[str] = (),
    *,
    empty: bool = False,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Bench:
    """Load, or refresh, copies of a table by each strategy, one after the other, and compare them.

    Each copy begins with the rows that the table holds, or with none if it is to be `empty`. The
    first strategy that is possible, insert (or mirror, of refreshes), is the reference: that the
    others end with the same rows is proved by `sqlkit.compare_tables()`. The table itself is read
    and not written.

    Raises UsageError, and SqlkitError where the server or the table is not there.
    """
    (name,) = choose(project, [name])
    table = project.tables[name]
    if table.transform is not None:
        raise UsageError(
            f"{name} is made by a transform, which has one strategy",
            hint="Tables with source or query have several.",
        )
    known = REFRESHES if table.refresh is not None else (*LOADS, "auto")
    if unknown := [strategy for strategy in strategies if strategy not in known]:
        raise UsageError(
            f"there is no strategy {', '.join(unknown)} here",
            code="SK209",
            hint=f"Strategies are {', '.join(known)}.",
        )
    reference = REFRESHES[0] if table.refresh is not None else LOADS[0]
    chosen = [
        s for s in strategies or known if s not in (reference, "auto" if not strategies else "")
    ]
    trials: list[Trial] = []
    alias, target_name = project.connection_of(name), project.target_of(name)
    async with _comparing(project, alias, target_name) as (connection, run_id, target):
        columns = _columns(target, [await _delivered(connection, project, name)])
        key = await _key(connection, target, [table])
        first, reference_seconds = "", 0.0
        for strategy in [reference, *dict.fromkeys(chosen)]:
            copy = await calls.copy_table(connection, target.name, run_id, not empty)
            trial = await _try(project, name, copy, strategy)
            if trial.error is None and not first:
                first, trial = copy, replace(trial, gain=1.0)
                reference_seconds = trial.seconds
            elif trial.error is None:
                found = await calls.compare_tables(connection, first, copy, key, columns, 5)
                trial = replace(
                    trial,
                    gain=reference_seconds / trial.seconds if trial.seconds else None,
                    is_same=found.is_same,
                    differs={} if found.is_same else _told(found),
                )
            trials.append(trial)
            on_trial(trial)
            if copy != first:
                await calls.drop_stage(connection, copy)
    return Bench(name, target_name, "empty" if empty else "as the table", tuple(trials))


def _told(found: Comparison) -> dict[str, Any]:
    return asdict(found)


async def _try(project: Project, name: str, copy: str, strategy: str) -> Trial:
    told = forget_peak()
    started = time.monotonic()
    try:
        async with aconnect(dsn_of(project, project.connection_of(name))) as client:
            result = await do_rows(client, project, name, into=copy, strategy=strategy)
            seconds = time.monotonic() - started
            await _dismiss(client, result)
    except SqlkitError as error:
        return Trial(strategy, time.monotonic() - started, error=error.message)
    return Trial(
        strategy,
        seconds,
        result.rows.read,
        result.rows.read / seconds,
        peak_memory() if told else None,
        result.bytes.wal if isinstance(result, LoadResult) else result.wal_bytes,
    )
