"""Running a project: its tables in the order of their dependencies, side by side where they may.

A table is loaded, or refreshed, by the client of everybody else, so that what holds there holds
here: a run that was cut off is continued by the next one. One event loop carries all of them, so
that an interruption ends each as it would end a single load.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import URLError
from urllib.request import Request, urlopen

import psycopg
from psycopg import AsyncConnection

from sqlkit import calls_async as calls
from sqlkit._acompat import run_async
from sqlkit._memory import forget_peak
from sqlkit.client_async import AsyncClient, aconnect, as_sources
from sqlkit.compatible import check_compatible
from sqlkit.config import Hook, Project, Rule, Table
from sqlkit.connection import connection_options, from_psycopg
from sqlkit.errors import DatabaseError, SqlkitError, UsageError
from sqlkit.maintenance_plan import MaintenanceOutcome
from sqlkit.model import Lookup, RunSpeed
from sqlkit.partitions import Partitioned, PartitionedResult, PartitionsFailedError, load_partitions
from sqlkit.results import LoadResult, RefreshResult, TransformResult
from sqlkit.server import find_dsn
from sqlkit.sources.base import Source

if TYPE_CHECKING:
    from sqlkit.sources.cached import Cache

State = Literal["done", "failed", "skipped"]
Result = LoadResult | RefreshResult | TransformResult | PartitionedResult
SEVERITY = (0, 3, 4, 1, 2)
"""Exit codes of single tables, the worst last."""

WEBHOOK_PATIENCE = 15.0
TOLD = 2000
"""Characters of a failed command's output that are told, from its end."""

Needs = Mapping[str, frozenset[str]]
"""Tables, in the order of the file, and those that must be done before each."""


@dataclass(frozen=True)
class TableReport:
    """What became of a table of the project."""

    name: str
    target: str
    state: State
    exit_code: int = 0
    seconds: float = 0.0
    result: Result | None = None
    error: SqlkitError | None = None
    waited_for: str | None = None  # skipped: the table that was not done
    speed: RunSpeed | None = None  # as the ledger has it, beside the baseline of the table
    maintenance: tuple[MaintenanceOutcome, ...] = ()
    maintenance_error: SqlkitError | None = None  # why there was no more of it

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "table": self.name,
            "target": self.target,
            "state": self.state,
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "waited_for": self.waited_for,
            "error": _as_told(self.error),
            "result": self.result and self.result.as_dict(),
            "speed": self.speed and self.speed.as_dict(),
            "maintenance": [outcome.as_dict() for outcome in self.maintenance],
            "maintenance_error": _as_told(self.maintenance_error),
        }


def _as_told(error: SqlkitError | None) -> dict[str, str | None] | None:
    if error is None:
        return None
    return {name: getattr(error, name) for name in ("code", "message", "detail", "hint")}


@dataclass(frozen=True)
class RunReport:
    """What became of a run: its tables in the order in which they ended."""

    tables: tuple[TableReport, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """The worst exit code of a table."""
        return max((table.exit_code for table in self.tables), key=SEVERITY.index, default=0)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, as ``sqlkit run --json`` prints it."""
        return {
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "tables": [table.as_dict() for table in self.tables],
        }


Told = Callable[[TableReport], None]


def choose(project: Project, names: Sequence[str]) -> list[str]:
    """The tables that were named, all if none was, in the order of the file. Raises UsageError."""
    if unknown := [name for name in names if name not in project.tables]:
        raise UsageError(
            f"the project has no table {', '.join(unknown)}",
            hint=f"It has {', '.join(project.tables)}.",
        )
    return [name for name in project.tables if not names or name in names]


async def run_project(
    project: Project,
    names: Sequence[str] = (),
    *,
    again: bool = False,
    full_refresh: bool = False,
    use_cache: bool = True,
    is_baseline: bool = False,
    on_start: Callable[[str], None] = lambda name: None,
    on_end: Told = lambda report: None,
) -> RunReport:
    """Load the tables that are named, or all, and tell what became of each.

    A table begins when those that it needs are done (see `find_needs`) and when the project's
    budget of connections has room for it. One that fails keeps those from running that need it,
    and no others. With `full_refresh`, transforms look at all rows and not at those that changed;
    without `use_cache`, databases are asked, and nothing of them is kept. With `is_baseline`, later
    runs of the tables are compared with this one.

    Raises SqlkitError where nothing could begin: a server that is not there, no sqlkit in it.
    """
    started = time.monotonic()
    chosen = choose(project, names)
    loop = asyncio.get_running_loop()
    # Streams wait for their files in threads: as many as there may be streams.
    loop.set_default_executor(ThreadPoolExecutor(project.max_connections + 8))
    needs = await find_needs(project, chosen)
    at_work = 0

    async def work(name: str) -> TableReport:
        nonlocal at_work
        on_start(name)
        if not at_work:
            forget_peak()  # what tables before it took is not its own
        at_work += 1
        try:
            return await _do_table(
                project,
                name,
                again=again,
                full_refresh=full_refresh,
                use_cache=use_cache,
                is_baseline=is_baseline,
            )
        finally:
            at_work -= 1

    def skip(name: str, failed: str) -> TableReport:
        return TableReport(name, project.target_of(name), "skipped", waited_for=failed)

    cost = {name: connections_of(project, name) for name in chosen}
    reports = await schedule(needs, cost, project.max_connections, work, skip, on_end)
    return RunReport(tuple(reports), time.monotonic() - started)


def without_beginning(project: Project, names: Sequence[str], error: SqlkitError) -> RunReport:
    """The report of a run in which nothing could begin."""
    return RunReport(
        tuple(
            TableReport(name, project.target_of(name), "failed", error.exit_code, error=error)
            for name in choose(project, names)
        ),
        0.0,
    )


# The order -----------------------------------------------------------------------------------


async def find_needs(project: Project, chosen: Sequence[str]) -> Needs:
    """Which of the chosen tables each of them has to wait for.

    Those that it depends on as the file says, those that its foreign keys refer to or its lookups
    ask, and those before it in the file that have the same target. Foreign keys and lookups that
    would close a circle have no say, as one of them must. What stands between two chosen tables
    counts, chosen or not. Of a server that is not there, nothing but what the file says is known.
    Raises SqlkitError where none of the servers is.
    """
    needs: dict[str, set[str]] = {name: project.needs_of(name) for name in project.tables}
    aliases = list(dict.fromkeys(map(project.connection_of, chosen)))
    unreachable: list[SqlkitError] = []
    for alias in aliases:
        tables = [name for name in project.tables if project.connection_of(name) == alias]
        try:
            relations, keys = await _look(project, alias, tables)
        except SqlkitError as error:
            unreachable.append(error)
            if len(unreachable) == len(aliases):
                raise
            continue  # its tables will fail, each with the reason; those elsewhere need not
        by_relation: dict[str, list[str]] = {}
        for name in tables:
            same = by_relation.setdefault(relations[name] or project.target_of(name), [])
            needs[name] |= {other for other in same if not _reaches(needs, other, name)}
            same.append(name)
        for referring, referred in keys:
            for name in by_relation.get(referring, ()):
                for other in by_relation.get(referred, ()):
                    if not _reaches(needs, other, name):
                        needs[name].add(other)
    return {
        name: frozenset(other for other in _all_needs(needs, name) if other in chosen)
        for name in chosen
    }


async def _look(
    project: Project, alias: str | None, tables: Sequence[str]
) -> tuple[dict[str, str | None], list[tuple[str, str]]]:
    """The relations that tables of one connection are, if they are there; their foreign keys, and
    what they look up, as pairs."""
    try:
        async with await connect_to(project, alias) as connection:
            check_compatible(*await calls.version(connection))
            found = {
                name: await calls.find_table(connection, project.target_of(name)) for name in tables
            }
            keys = await calls.foreign_keys(connection, [name for name in found.values() if name])
            for name in tables:
                for lookup in project.lookups_of(name):
                    dimension = await calls.find_table(connection, lookup.table) or lookup.table
                    keys.append((found[name] or project.target_of(name), dimension))
            return found, keys
    except psycopg.Error as error:
        raise from_psycopg(error) from error


def _all_needs(needs: Mapping[str, set[str]], name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(needs[name])
    while waiting:
        if (other := waiting.pop()) not in found:
            found.add(other)
            waiting += needs[other]
    return found


def _reaches(needs: Mapping[str, set[str]], name: str, other: str) -> bool:
    """Whether `name` is `other`, or needs it."""
    return name == other or other in _all_needs(needs, name)


async def schedule(
    needs: Needs,
    cost: Mapping[str, int],
    budget: int,
    work: Callable[[str], Awaitable[TableReport]],
    skip: Callable[[str, str], TableReport],
    on_end: Told,
) -> list[TableReport]:
    """Work on all tables, each after those that it needs, as many at once as the budget allows.

    One that costs more than the whole budget is worked on alone. Where one was not done, those that
    need it are skipped.
    """
    waiting = list(needs)
    running: dict[asyncio.Task[TableReport], str] = {}
    ended: dict[str, TableReport] = {}

    def end(name: str, report: TableReport) -> None:
        ended[name] = report
        on_end(report)

    try:
        while waiting or running:
            for name in list(waiting):
                failed = [other for other in needs[name] if _is_bad(ended.get(other))]
                used = sum(cost[other] for other in running.values())
                if failed:
                    waiting.remove(name)
                    end(name, skip(name, min(failed, key=list(ended).index)))
                elif needs[name] <= ended.keys() and (not used or used + cost[name] <= budget):
                    waiting.remove(name)
                    running[asyncio.ensure_future(work(name))] = name
            if running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    end(running.pop(task), task.result())
    finally:
        # Interrupted: each ends as a load does that is interrupted.
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return list(ended.values())


def _is_bad(report: TableReport | None) -> bool:
    return report is not None and report.state != "done"


# One table -----------------------------------------------------------------------------------


@contextmanager
def _of_template(name: str, file: str) -> Iterator[None]:
    """Says of a query that PostgreSQL does not understand where it comes from."""
    try:
        yield
    except DatabaseError as error:
        if error.code.startswith("42") or error.code == "SK204":
            place = f"The query of {file}: sqlkit sql render {name}"
            error.detail = "\n".join(filter(None, (error.detail, place)))
        raise


def connections_of(project: Project, name: str) -> int:
    """How many connections a table takes at most: one that merges, the streams, signs of life."""
    table = project.tables[name]
    if table.transform is not None:
        return 2
    if table.partitions is not None:
        return 1 + 3 * table.workers
    return 4 if table.refresh is not None else 2 + max(2, table.workers)


async def _do_table(
    project: Project,
    name: str,
    *,
    again: bool,
    full_refresh: bool,
    use_cache: bool,
    is_baseline: bool,
) -> TableReport:
    """A table with its hooks. Whatever goes wrong is in the report."""
    started = time.monotonic()
    report = TableReport(name, project.target_of(name), "done")
    try:
        await _do_hooks(project, name, "before")
        missing = await _define_rules(project, name)
        async with aconnect(dsn_of(project, project.connection_of(name))) as client:
            result = await do_rows(
                client, project, name, again=again, full_refresh=full_refresh, use_cache=use_cache
            )
            exit_code = 3 if result.rows.rejected else 0
            report = replace(report, result=result, exit_code=exit_code)
            speed = await _speed(client, result, is_baseline=is_baseline)
            report = replace(report, speed=speed)
            if missing:
                await _define_rules(project, name)
            report = await _maintain(client, project, report)
        await _do_hooks(project, name, "after")
    except Exception as error:  # noqa: BLE001 - the other tables go on
        known = as_known(error)
        report = replace(report, state="failed", error=known, exit_code=known.exit_code)
        if isinstance(error, PartitionsFailedError):
            report = replace(report, result=error.result)
    return replace(report, seconds=time.monotonic() - started)


async def _speed(client: AsyncClient, result: Result, *, is_baseline: bool) -> RunSpeed | None:
    """How fast a table was, as the ledger has it; from now on the baseline, if that is wanted.

    Of a table in parts the largest becomes it. A run that found nothing to do becomes none.
    """
    done: Sequence[Any] = result.partitions if isinstance(result, PartitionedResult) else (result,)
    by_size = sorted((each for each in done if each.run_id), key=lambda each: each.rows.read)
    speed = await client.measure_runs([each.run_id for each in by_size])
    if is_baseline and speed is not None and speed.rows:
        await client.set_baseline(by_size[-1].run_id)
    return speed


async def _maintain(client: AsyncClient, project: Project, report: TableReport) -> TableReport:
    """The report with what maintenance of the table came to. Whatever it is, the rows are there."""
    wanted = project.tables[report.name].maintenance
    if wanted is None:
        return report
    outcomes: list[MaintenanceOutcome] = []
    error = None
    try:
        await client.optimize(wanted.options(report.target), on_outcome=outcomes.append)
    except Exception as found:  # noqa: BLE001 - it fails no table
        error = as_known(found)
    return replace(report, maintenance=tuple(outcomes), maintenance_error=error)


async def do_rows(
    client: AsyncClient,
    project: Project,
    name: str,
    *,
    again: bool = False,
    full_refresh: bool = False,
    into: str | None = None,
    strategy: str | None = None,
    use_cache: bool = True,
    creates_keys: bool = True,
) -> Result:
    """Load, refresh or transform what belongs to a table of the project.

    `into` another one than its target, by another `strategy` than the file says; `insert` is then
    the plain reference way. Unless it `creates_keys`, lookups find what is there.
    """
    lookups = project.lookups_of(name, may_create=creates_keys)
    table, target = project.tables[name], into or project.target_of(name)
    is_plain = strategy == "insert" if strategy else not table.performance.enabled
    if table.transform is not None:
        with _of_template(name, table.transform.sql):
            return await client.transform(
                project.target_of(table.transform.source),
                target,
                render(project, name, full_refresh=full_refresh),
                policy=table.policy,
                key=table.key,
                order_by=table.order_by,
                name=name,
                full_refresh=full_refresh,
                lookups=lookups,
                reject_limit=table.reject_limit.rows,
                reject_share=table.reject_limit.share,
                retry_for=table.retry_for,
            )
    sources: Sequence[str | Source] = project.sources_of(name)
    if table.refresh is not None:
        return await client.refresh(
            target,
            sources,
            query=table.query,
            strategy=strategy or table.refresh.strategy,
            scope=table.refresh.scope,
            key=table.key,
            delete_share=table.refresh.max_delete.share,
            delete_limit=table.refresh.max_delete.rows,
            format=table.format,
            dialect=table.dialect.as_dialect(),
            columns=table.columns or (),
            map=table.map,
            leave_out=table.leave_out or (),
            lookups=lookups,
            retry_for=table.retry_for,
        )
    load = partial(
        _load,
        project=project,
        name=name,
        into=into,
        strategy=strategy,
        is_plain=is_plain,
        use_cache=use_cache,
        lookups=lookups,
    )
    if table.partitions is not None:
        return await _do_partitions(project, name, load, again=again, into=into)
    return await load(client, sources, again=again)


async def _load(
    client: AsyncClient,
    sources: Sequence[str | Source],
    *,
    project: Project,
    name: str,
    again: bool,
    into: str | None,
    strategy: str | None,
    is_plain: bool,
    use_cache: bool,
    lookups: Sequence[Lookup],
) -> LoadResult:
    """Load the sources of a table of the project, or a part of them."""
    table = project.tables[name]
    # Another table gets everything, and nothing is remembered of it.
    watermark = table.watermark if into is None else None
    workers = 1 if is_plain or table.partitions is not None else table.workers
    if table.cache is not None and use_cache and into is None:
        sources = await run_async(partial(_extracts, project, name, sources))
    if not (strategy or is_plain):
        strategy = table.performance.strategy
        if table.performance.rules:
            if any(isinstance(source, str) for source in sources):
                sources = await run_async(partial(sources_of, project, name))
            strategy, _ = ruled(
                table, [source for source in sources if not isinstance(source, str)]
            )
    return await client.load(
        sources,
        into=into or project.target_of(name),
        policy=table.policy,
        key=table.key,
        order_by=table.order_by,
        format=table.format,
        dialect=table.dialect.as_dialect(),
        columns=table.columns or (),
        map=table.map,
        leave_out=table.leave_out or (),
        lookups=lookups,
        whole=table.whole,
        rest=table.rest,
        schema=table.schema_policy,
        discard=table.discard,
        record=table.record,
        feed=table.feed,
        raw=table.raw,
        create=table.create,
        workers=workers,
        strategy="insert" if is_plain else strategy or "auto",
        indexes=table.indexes,
        batch_bytes=table.batch_bytes,
        atomic=table.atomic,
        again=again,
        conflicts=table.conflicts,
        null_invalid=table.null_invalid,
        reject_limit=table.reject_limit.rows,
        reject_share=table.reject_limit.share,
        retry_for=table.retry_for,
        query=table.query,
        where=table.where,
        executor=table.executor,
        tune=table.tune,
        warm=table.warm,
        since=None if watermark is None else watermark.column,
        since_overlap=None if watermark is None else watermark.overlap,
    )


def cache_of(table: Table) -> Cache | None:
    """Where extracts of a table are kept, if they are."""
    from sqlkit.sources.cached import Cache

    if table.cache is None:
        return None
    return Cache(table.cache.in_, table.cache.for_, table.cache.at_most)


def _extracts(project: Project, name: str, sources: Sequence[str | Source]) -> list[Source]:
    """What is kept of sources, or is fetched to be kept. It blocks."""
    cache = cache_of(project.tables[name])
    assert cache is not None
    found = [source for source in sources if not isinstance(source, str)]
    addresses = project.sources_of(name)
    if len(found) < len(sources):
        found = sources_of(project, name)
    else:
        addresses *= len(found)  # parts of one
    return [cache.fetch(each, address) for each, address in zip(found, addresses, strict=True)]


async def _do_partitions(
    project: Project, name: str, load: Any, *, again: bool, into: str | None
) -> PartitionedResult:
    """Load those parts of a table that have anything to do; all of them `into` another table."""
    table, alias = project.tables[name], project.connection_of(name)
    parts = Partitioned(project, name)
    async with await connect_to(project, alias) as connection:
        target = await calls.find_table(connection, into or project.target_of(name))
        if target is None and not table.create:
            raise SqlkitError(f"there is no table {project.target_of(name)}", code="42P01")
        everything = again or into is not None
        if into is None:
            found = await parts.find(connection, target, everything=everything)
        else:
            found = [replace(p, mark=None) for p in await parts.find(everything=True)]

    async def load_one(client: AsyncClient, source: Source) -> LoadResult:
        loaded: LoadResult = await load(client, [source], again=again)
        return loaded

    return await load_partitions(
        parts,
        found,
        dsn=dsn_of(project, alias),
        target=target or project.target_of(name),
        workers=1 if into is not None else table.workers,
        load=load_one,
        again=everything,
        is_there=target is not None,
    )


async def some_sources(project: Project, name: str) -> list[Source]:
    """The sources of a table, or of its first part: enough to know its columns."""
    if project.tables[name].partitions is None:
        return await run_async(partial(sources_of, project, name))
    parts = Partitioned(project, name)
    found = await parts.find(everything=True)
    if not found:
        raise SqlkitError("the partitions' query has no rows", hint="Nobody knows its columns.")
    return [parts.source(found[0], again=True)]


def sources_of(project: Project, name: str) -> list[Source]:
    """The sources of a table that is not fetched in parts. Raises UsageError and SourceError."""
    table = project.tables[name]
    assert table.partitions is None
    return as_sources(
        project.sources_of(name),
        table.format,
        table.dialect.as_dialect(),
        tuple(table.columns or ()),
        table.whole is not None,
        table.record,
        table.feed,
        table.query,
        table.null_invalid,
        table.where,
    )


def ruled(table: Table, sources: Sequence[Source]) -> tuple[str, str | None]:
    """The strategy for sources of this size, and the rule that says so, if one does."""
    sizes = [source.size for source in sources]
    counts = [source.row_count for source in sources]
    size = None if None in sizes else sum(number or 0 for number in sizes)
    rows = None if None in counts else sum(number or 0 for number in counts)
    for rule in table.performance.rules:
        if rule.fits(size, rows):
            return rule.strategy, str(rule)
    return table.performance.strategy, None


def render(
    project: Project, name: str, *, full_refresh: bool = False, stage: str | None = None
) -> str:
    """The SELECT that the template of a table becomes. Raises TemplateFailedError."""
    from sqlkit.templates import STAGE, Templates

    transform = project.tables[name].transform
    if transform is None:
        raise UsageError(f"{name} has no template", hint="It is none that is transformed.")
    return Templates().render(
        transform.sql,
        target=project.target_of(name),
        variables=project.variables,
        full_refresh=full_refresh,
        stage=stage or STAGE,
    )


def dsn_of(project: Project, alias: str | None) -> str:
    """The connection string of a connection; that of the server found, where none is named."""
    return find_dsn() if alias is None else project.connections[alias].conninfo()


async def connect_to(project: Project, alias: str | None) -> AsyncConnection[Any]:
    """A connection of the project, in autocommit. Raises psycopg.Error."""
    dsn = dsn_of(project, alias)
    return await AsyncConnection.connect(dsn, **connection_options(dsn))


def as_known(error: Exception) -> SqlkitError:
    """Whatever went wrong, as an error of sqlkit's."""
    if isinstance(error, SqlkitError):
        return error
    if isinstance(error, psycopg.Error):
        return from_psycopg(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return SqlkitError(f"{where}{error.strerror}", code="58030")
    return SqlkitError(f"{type(error).__name__}: {error}", hint="This is a defect of sqlkit.")


# Conflict rules ------------------------------------------------------------------------------


async def define_rules(project: Project) -> list[str]:
    """Make all conflict rules of a project, or replace them; their names.

    Raises SqlkitError where one cannot be: the others of its connection are not made either.
    """
    made: list[str] = []
    aliases = [rule.connection or project.first_connection for rule in project.rules.values()]
    for alias in dict.fromkeys(aliases):
        async with await connect_to(project, alias) as connection, connection.transaction():
            check_compatible(*await calls.version(connection))
            for name, rule in project.rules_at(alias).items():
                await _define_rule(connection, name, rule)
                made.append(name)
    return made


async def _define_rules(project: Project, name: str) -> bool:
    """Make the conflict rules that are about a table; whether one waits for a table."""
    alias = project.connection_of(name)
    rules = project.rules_at(alias)
    if not rules:
        return False
    waits = False
    async with await connect_to(project, alias) as connection:
        target = await calls.find_table(connection, project.target_of(name))
        for title, rule in rules.items():
            written = [each for each in (rule.table, rule.other) if each is not None]
            found = [await calls.find_table(connection, each) for each in written]
            if None in found:
                waits = waits or target is None or target in found
            elif target in found:
                await _define_rule(connection, title, rule)
    return waits


async def _define_rule(connection: AsyncConnection[Any], name: str, rule: Rule) -> None:
    try:
        await calls.define_rule(connection, name, rule.kind, rule.table, rule.arguments())
    except psycopg.Error as error:
        known = from_psycopg(error)
        raise SqlkitError(
            f"rule {name}: {known.message}", code=known.code, detail=known.detail, hint=known.hint
        ) from error


# Hooks and news ------------------------------------------------------------------------------


async def _do_hooks(project: Project, name: str, moment: Literal["before", "after"]) -> None:
    """Run the hooks of a table, up to the first that fails. Raises SqlkitError that says which."""
    hooks: Sequence[Hook] = getattr(project.tables[name], moment)
    for number, hook in enumerate(hooks, start=1):
        try:
            await _do_hook(project, name, hook)
        except Exception as error:
            known = as_known(error)
            which = f"hook {moment}" if len(hooks) == 1 else f"hook {number} {moment}"
            raise SqlkitError(
                f"{which}: {known.message}", code=known.code, detail=known.detail, hint=known.hint
            ) from error


async def _do_hook(project: Project, name: str, hook: Hook) -> None:
    """Run a hook: SQL outside of a transaction of ours, so that VACUUM can be one."""
    if hook.sql is not None:
        async with await connect_to(project, project.connection_of(name)) as connection:
            await connection.execute(hook.sql.encode())
    else:
        assert hook.command is not None
        told = {"SQLKIT_TABLE": name, "SQLKIT_TARGET": project.target_of(name)}
        await _command(hook.command, environment=told)


async def _command(
    words: Sequence[str], *, environment: Mapping[str, str], input: bytes = b""
) -> None:
    """Run a command to its end. Raises SqlkitError SK502 with the end of what it printed."""
    process = await asyncio.create_subprocess_exec(
        *words,
        env=os.environ | environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await process.communicate(input)
    except BaseException:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        raise
    if process.returncode:
        raise SqlkitError(
            f"the command {words[0]} ended with {process.returncode}",
            code="SK502",
            detail=printed.decode(errors="replace")[-TOLD:].strip() or None,
        )


async def tell_failure(project: Project, report: RunReport) -> list[SqlkitError]:
    """Give the report to whom the project names for failures; what went wrong with that."""
    text = json.dumps(report.as_dict(), ensure_ascii=False).encode()
    problems: list[SqlkitError] = []
    if project.on_failure.command is not None:
        told = {"SQLKIT_EXIT_CODE": str(report.exit_code)}
        try:
            await _command(project.on_failure.command, environment=told, input=text)
        except (SqlkitError, OSError) as error:
            problems.append(as_known(error))
    if project.on_failure.webhook is not None:
        try:
            await asyncio.to_thread(_post, project.on_failure.webhook, text)
        except (OSError, ValueError) as error:
            # Not the address, which may be a secret.
            why = error.reason if isinstance(error, URLError) else type(error).__name__
            if isinstance(error, TimeoutError):
                why = f"no answer within {WEBHOOK_PATIENCE:g} s"
            problems.append(SqlkitError(f"the webhook could not be told: {why}", code="SK502"))
    return problems


def _post(address: str, text: bytes) -> None:
    request = Request(address, data=text, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=WEBHOOK_PATIENCE):
        pass
