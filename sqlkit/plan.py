"""What a run of a project would do, found out without changing anything.

All questions to the database are asked in read-only transactions. Files are read: whole for their
fingerprints, by which the ledger knows them, and from their beginnings for a sample.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection, sql

from sqlkit import calls_async as calls
from sqlkit._acompat import run_async
from sqlkit.columns import EVERYTHING, ColumnPlan, absent_columns, new_columns, plan_columns
from sqlkit.compatible import check_compatible
from sqlkit.config import Project, Table, Watermark
from sqlkit.connection import from_psycopg
from sqlkit.errors import SqlkitError
from sqlkit.infer import column_types, infer_type, new_table, quoted, takes
from sqlkit.model import Target
from sqlkit.options import LoadOptions
from sqlkit.partitions import Partitioned
from sqlkit.pipeline import cache_of, choose, connect_to, render, ruled, sources_of
from sqlkit.results import RowCounts
from sqlkit.sources.ask import first_rows
from sqlkit.sources.base import NewTable, Reader, Source
from sqlkit.sources.newer import Newer, NewerSource
from sqlkit.ways_async import LOCK_TIMEOUT, PIECE_BYTES

if TYPE_CHECKING:
    from sqlkit.sources.cached import Cache

ESTIMATED_ROWS = 1000
"""How many rows of the first source that is not loaded yet are held against the table."""


@dataclass(frozen=True)
class SourcePlan:
    """A source: new, partly loaded, or loaded before, as the ledger has it."""

    name: str
    bytes: int | None
    state: str


@dataclass(frozen=True)
class Drift:
    """A column that only one side has, or whose types differ, and what happens with it.

    A stage has the columns of the source, under the names and types that they have in the target.
    """

    column: str
    side: str  # source | target | both
    becomes: str
    source_type: str | None = None  # as its first rows show it, unless the source says it
    target_type: str | None = None


@dataclass(frozen=True)
class LookupPlan:
    """A column that gets ids, and how many keys of the first rows are known, and are not."""

    column: str
    dimension: str
    key: tuple[str, ...]
    becomes: str  # of what is not known
    known: int | None = None
    unknown: int | None = None


@dataclass(frozen=True)
class Strategy:
    """How rows would get into a table, why so, and the lock on it that this takes."""

    way: str
    why: str
    lock: str | None = None
    indexes: str | None = None  # what becomes of those that neither keys nor constraints need
    is_direct: bool = False  # rows go into the table itself, not into a stage


@dataclass(frozen=True)
class TablePlan:
    """What would happen to a table."""

    name: str
    target: str
    exists: bool = False
    sources: tuple[SourcePlan, ...] = ()
    strategy: Strategy | None = None
    drift: tuple[Drift, ...] = ()
    lookups: tuple[LookupPlan, ...] = ()
    estimate: RowCounts | None = None  # of the first rows of the first source that is not loaded
    ddl: str | None = None  # of the table that would be made
    sql: str | None = None  # of a transform, of the first partition, or that the table asks
    before: tuple[str, ...] = ()  # hooks: SQL, or a command behind a $
    statements: tuple[str, ...] = ()  # by which rows get there
    after: tuple[str, ...] = ()
    maintenance: str | None = None  # what the table gets afterwards
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, as ``sqlkit plan --json`` prints it."""
        return asdict(self)


async def plan_project(project: Project, names: Sequence[str] = ()) -> list[TablePlan]:
    """What `run_project` would do with the tables that are named, or with all, in the file's order.

    Nothing is changed. What stands in the way of a table is among its `problems`.

    Raises SqlkitError where no server is there, or has sqlkit.
    """
    plans = []
    chosen = choose(project, names)
    aliases = {name: project.connection_of(name) for name in chosen}
    unreachable: dict[str | None, SqlkitError] = {}
    for name, alias in aliases.items():
        if alias not in unreachable:
            try:
                async with await connect_to(project, alias) as connection:
                    check_compatible(*await calls.version(connection))
                    plans.append(await _Planning(project, name, connection).plan())
                    continue
            except (psycopg.Error, SqlkitError) as error:
                known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
                unreachable[alias] = known
                if unreachable.keys() == set(aliases.values()):
                    raise known from error
        told = unreachable[alias].message
        plans.append(TablePlan(name, project.target_of(name), problems=(told,)))
    return plans


class _Planning:
    """The plan of one table."""

    def __init__(self, project: Project, name: str, connection: AsyncConnection[Any]) -> None:
        self._project = project
        self._table = project.tables[name]
        self._connection = connection
        wanted = self._table.maintenance
        query = None if self._table.partitions is not None else self._table.query
        self._plan = TablePlan(
            name,
            project.target_of(name),
            sql=query and project.as_written(query, "tables", name, "query"),
            before=project.hooks_of(name, "before"),
            after=project.hooks_of(name, "after"),
            maintenance=None if wanted is None else str(wanted),
        )
        self._sources: Sequence[Source] = ()

    async def plan(self) -> TablePlan:
        async with self._connection.transaction():
            await self._connection.execute(b"set transaction read only")
            try:
                async with self._connection.transaction():
                    await self._look()
            except psycopg.Error as error:
                if self._connection.closed:
                    raise
                self._add_problem(from_psycopg(error))
            except (SqlkitError, OSError) as error:
                self._add_problem(error)
        return self._plan

    def _tell(self, *statements: str) -> None:
        self._plan = replace(self._plan, statements=(*self._plan.statements, *statements))

    def _note(self, *notes: str) -> None:
        self._plan = replace(self._plan, notes=(*self._plan.notes, *notes))

    def _add_problem(self, error: Exception) -> None:
        text = error.message if isinstance(error, SqlkitError) else str(error)
        if text not in self._plan.problems:  # parts that fail alike
            self._plan = replace(self._plan, problems=(*self._plan.problems, text))

    async def _look(self) -> None:
        table, connection = self._table, self._connection
        name = await calls.find_table(connection, self._plan.target)
        target = None if name is None else await calls.describe_target(connection, name)
        self._plan = replace(self._plan, exists=target is not None)
        if target is not None and table.policy == "history":
            key = None if table.key is None else list(table.key)
            target = await calls.without_period(connection, target, key)
        sources = self._project.sources_of(self._plan.name)
        if table.query is not None and not sources:
            self._plan = replace(self._plan, strategy=_refreshed(table))
            if target is not None:
                called = _literals(target.name, self._plan.sql, _refresh_strategy(table))
                self._tell(f"call sqlkit.refresh({called}, ...)")
                await self._look_at_query(target, table.query)
        if target is None and not table.create:
            if not self._has_hooks_before():
                raise SqlkitError(f"there is no table {self._plan.target}")
            self._note(
                f"there is no table {self._plan.target}: hooks that come first have to make it"
            )
            return
        if target is not None and table.transform is not None:
            await self._look_at_transform(target, self._project.target_of(table.transform.source))
        if not sources:
            return
        await self._look_at_sources(target)

    def _has_hooks_before(self) -> bool:
        """Whether something runs before the table that may make what is not there yet."""
        seen: set[str] = set()
        waiting = [self._plan.name]
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += self._project.needs_of(name)
        own = self._plan.name
        tables = self._project.tables
        return any(tables[n].before or (n != own and tables[n].after) for n in seen)

    async def _look_at_query(self, target: Target, query: str) -> None:
        """What a refresh by a query of the table's own database would come to."""
        connection = self._connection
        first = f"select * from (\n{query}\n) as q limit {ESTIMATED_ROWS}"  # noqa: S608 - the user's
        columns, rows = await calls.rows_of(connection, first, ESTIMATED_ROWS)
        await self._estimate_rows(target, columns, rows)
        await self._foresee(target, await calls.planned_rows(connection, query), None)

    async def _foresee(self, target: Target, rows: int | None, bytes_: int | None) -> None:
        """Which strategy a refresh would take as the table is now, why, and what it would meet."""
        refresh = self._table.refresh
        assert refresh is not None
        found = self._plan.estimate
        share = 1.0
        if found is not None and found.read:
            share = (found.inserted + found.updated) / found.read
        strategy, reasons, obstacles = await calls.foresee_refresh(
            self._connection,
            target.name,
            refresh.strategy,
            rows,
            bytes_,
            share,
            None if refresh.scope is None else list(refresh.scope),
            None if self._table.key is None else list(self._table.key),
        )
        planned = _REFRESHES[strategy]
        if refresh.strategy == "auto":
            decisive = next(reason for reason in reasons if reason.startswith(f"{strategy}:"))
            reasons.remove(decisive)
            why = f"refresh says auto; {decisive.removeprefix(f'{strategy}: ')}"
            planned = replace(planned, way=f"auto, as things are now {planned.way}", why=why)
        self._plan = replace(self._plan, strategy=planned)
        self._note(*reasons)
        if obstacles:
            told = SqlkitError(f"{strategy} would be refused: {'; '.join(obstacles)}")
            self._add_problem(told)

    async def _look_at_sources(self, target: Target | None) -> None:
        table, connection = self._table, self._connection
        if table.partitions is not None:
            sources = await self._find_partitions(target)
        else:
            sources = await run_async(partial(sources_of, self._project, self._plan.name))
        if (cache := cache_of(table)) is not None:
            addresses = self._project.sources_of(self._plan.name)
            pairs = zip(sources, addresses, strict=False)  # of parts, there is the first
            sources = [await run_async(partial(self._kept, cache, *pair)) for pair in pairs]
        if table.watermark is not None:
            await self._ask_newer(sources, target, table.watermark)
        self._sources = sources
        to_load: list[Source] = sources
        if table.partitions is None:
            found = [await self._look_up(source, target) for source in sources]
            self._plan = replace(self._plan, sources=tuple(found))
            to_load = [s for s, plan in zip(sources, found, strict=True) if plan.state != "loaded"]
        if table.partitions is not None and self._plan.problems:
            return
        if not to_load and table.refresh is None:
            why = "all sources were loaded before"
            why = why if table.partitions is None else "no partition has anything to do"
            nothing = Strategy("nothing is loaded", why)
            self._plan = replace(self._plan, strategy=nothing)
            return
        source = to_load[0] if to_load else sources[0]
        encoding = await calls.server_encoding(connection)
        reader = await run_async(partial(source.open, database_encoding=encoding))
        try:
            await self._look_into(source, reader, target)
        finally:
            await run_async(reader.close)
            for each in sources:
                if hasattr(each, "close"):
                    await run_async(each.close)

    def _kept(self, cache: Cache, source: Source, address: str) -> Source:
        """What is kept of a source, if something is."""
        kept = cache.find(source, address)
        if kept is None:
            note = f"{source.name}: fetched, and kept"
        else:
            note = f"{source.name}: kept for {time.time() - kept.fetched_at:.0f} s, not fetched"
        self._note(note)
        return kept or source

    async def _find_partitions(self, target: Target | None) -> list[Source]:
        """The source of the first part that would be fetched, if one would."""
        parts = Partitioned(self._project, self._plan.name)
        name = None if target is None else target.name
        found = await parts.find(self._connection, name)
        to_load = [part for part in found if not part.is_loaded]
        note = f"{len(to_load):,} of {len(found):,} partitions have something to do"
        self._plan = replace(
            self._plan,
            sources=tuple(SourcePlan(part.name, None, "new") for part in to_load),
            notes=(*self._plan.notes, note),
        )
        for part in to_load:
            try:
                source = parts.source(part)
            except SqlkitError as error:
                self._add_problem(error)
            else:
                self._plan = replace(self._plan, sql=parts.query_of(part))
                return [source]
        return []

    async def _ask_newer(
        self, sources: Sequence[Source], target: Target | None, watermark: Watermark
    ) -> None:
        """Have sources tell only of what is newer, as a load has them."""
        for source in sources:
            stands = None
            if isinstance(source, NewerSource) and target is not None:
                stands = await calls.find_watermark(
                    self._connection, target.name, source.identity, watermark.column
                )
            if isinstance(source, NewerSource):
                source.ask(
                    Newer(
                        watermark.column,
                        stands,
                        overlap=watermark.overlap,
                        strictly=self._table.policy in ("append", "error"),
                    )
                )
            note = f"all rows: no value of {watermark.column} is known yet"
            if stands is not None:
                note = f"rows from {watermark.column} = {stands} on"
                note += f", and {watermark.overlap} before" if watermark.overlap else ""
            self._note(f"{source.name}: {note}")

    async def _look_at_transform(self, target: Target, source: str) -> None:
        """What has changed, and what the first of it would become."""
        name, connection, table = self._plan.name, self._connection, self._table
        text = render(self._project, name)
        self._plan = replace(self._plan, sql=text)
        found = await calls.find_table(connection, source)
        if found is None:
            state = SourcePlan(source, None, "is not there yet")
            self._plan = replace(self._plan, sources=(state,))
            return
        is_followed, since, digest = await calls.transform_state(
            connection, found, target.name, name
        )
        if not is_followed:
            raise SqlkitError(
                f"{found} does not tell which of its rows have changed: "
                f"select sqlkit.follow_changes({found!r})"
            )
        changed = await calls.changed_rows(connection, found, target.name, name)
        number = await calls.count_rows(connection, changed)
        when = "all are new" if since is None else f"since {since:%Y-%m-%d %H:%M:%S}"
        state = SourcePlan(found, None, f"{number:,} changed rows, {when}")
        self._plan = replace(self._plan, sources=(state,))
        if digest is not None and digest != hashlib.sha256(text.encode()).hexdigest():
            note = "the template has changed since: --full-refresh applies it to all rows"
            self._plan = replace(self._plan, notes=(note,))
        if not number:
            nothing = Strategy("the query is not run", "no row has changed")
            self._plan = replace(self._plan, strategy=nothing)
            return
        lock = _NOBODY_WAITS if table.policy == "append" else _WRITERS_WAIT
        way = "rows of the query into a stage, one join, only differences are written"
        self._plan = replace(self._plan, strategy=Strategy(way, "rows have changed", lock))
        sample = f"({changed} limit {ESTIMATED_ROWS})"
        columns, rows = await calls.rows_of(
            connection, render(self._project, name, stage=sample), ESTIMATED_ROWS
        )
        ids, rows = await self._look_keys_up(columns, rows)
        if ids:
            there = [column.name for column in target.columns]
            places = [at for at, column in enumerate(columns) if column in there]
            columns = [*(columns[at] for at in places), *ids]
            rows = [[*(row[at] for at in places), *row[-len(ids) :]] for row in rows]
        merged = await self._merge_statements(target, list(columns))
        self._plan = replace(self._plan, statements=tuple(merged))
        key = None if table.key is None else list(table.key)
        counts = await calls.estimate_merge(
            connection, target.name, columns, rows, table.policy, key, table.order_by
        )
        self._plan = replace(self._plan, estimate=counts)

    async def _look_up(self, source: Source, target: Target | None) -> SourcePlan:
        state = "new"
        if source.repeatable and target is not None and self._table.refresh is None:
            version = source.version()
            print_of = None
            if version is not None:
                print_of = await calls.find_version(self._connection, target.name, version)
            if print_of is None:
                print_of = await run_async(source.fingerprint)
            options = self._options()
            key = await calls.find_policy_key(
                self._connection,
                target.name,
                options.policy,
                None if options.key is None else list(options.key),
            )
            manner = options.manner(source, key)
            known = await calls.known_source(self._connection, target.name, print_of, manner)
            state = known or "new"
        return SourcePlan(source.name, source.size, "partly" if state == "loading" else state)

    def _options(self) -> LoadOptions:
        """What of the table's options decides how rows are written."""
        table = self._table
        return LoadOptions(
            policy="append" if table.raw else table.policy,
            raw=table.raw,
            key=None if table.key is None else tuple(table.key),
            order_by=table.order_by,
            columns=() if table.raw else tuple(table.columns or ()),
            renamed={**table.map, **({} if table.whole is None else {"line": table.whole})},
            left_out=tuple(table.leave_out or ()),
            rest=table.rest,
            lookups=self._project.lookups_of(self._plan.name),
        )

    async def _look_into(self, source: Source, reader: Reader, target: Target | None) -> None:
        table = self._table
        renamed = {**table.map, **({} if table.whole is None else {"line": table.whole})}
        if table.raw:
            raw = f"select sqlkit.create_raw_table({_literals(self._plan.target)})"
            self._plan = replace(self._plan, ddl=None if target else raw, strategy=_RAW)
            is_object = not source.declares_columns and source.format != "xml"
            into = self._plan.target
            if is_object:
                self._tell(self._copy(into, ["raw_data"]))
            else:  # all columns as text, of which the stage makes one object
                names = [f"raw {at + 1}" for at in range(len(reader.columns))]
                merged = f"insert into {into} (raw_data) select ... from {_STAGE}"  # noqa: S608
                self._tell(self._copy(_STAGE, names), merged)
            number = len(await self._sample(source, reader))
            self._plan = replace(self._plan, estimate=RowCounts(read=number, inserted=number))
            if target is None:
                await self._need_schema()
            return
        if target is None:
            made_by = partial(
                new_table,
                reader,
                self._plan.target,
                key=table.key or (),
                renamed=renamed,
                chosen=table.columns or (),
                left_out=table.leave_out or (),
                is_extract=table.cache is not None,
            )
            made = await run_async(made_by)
            self._plan = replace(self._plan, ddl=made.ddl)
            self._note(*made.notes)
            await self._tell_of_new_table(source, reader, renamed, made)
            return
        types, columns, left_out = {}, target.columns, tuple(table.leave_out or ())
        lookups = self._project.lookups_of(self._plan.name)
        new = new_columns(
            reader.columns,
            target.columns,
            renamed=renamed,
            chosen=table.columns or (),
            left_out=left_out,
            lookups=lookups,
        )
        if table.schema_policy == "evolve":
            types = await run_async(partial(column_types, reader, list(new)))
            left_out = (*left_out, *new, *absent_columns(reader.columns, columns, renamed, lookups))
        found = await run_async(partial(_types_of, reader))
        drift = _drift(table, source, reader, target, renamed, {**found, **types})
        self._plan = replace(self._plan, drift=tuple(drift))
        if types and table.partitions is None:
            added = ", ".join(f"add column {quoted(new[name])} {types[name]}" for name in types)
            self._plan = replace(self._plan, ddl=f"alter table {target.name} {added}")
            self._note("the statements are those without the columns that are added")
        plan = plan_columns(
            source.name,
            reader.columns,
            target.name,
            columns,
            renamed=renamed,
            chosen=table.columns or (),
            left_out=left_out,
            passes_through=source.passes_through,
            declares_columns=source.declares_columns,
            rest=table.rest if source.declares_columns else table.rest or table.discard,
            discard=table.discard if source.declares_columns else None,
            lookups=lookups,
        )
        strategy = await self._strategy(source, target, is_direct=plan.is_direct)
        if strategy.lock == _WRITERS_WAIT and target.kind == "r" and table.refresh is None:
            strategy = replace(strategy, indexes=await self._indexes(source, target))
        self._plan = replace(self._plan, strategy=strategy)
        await self._tell_statements(target, plan)
        await self._estimate(source, reader, target, plan)
        if table.refresh is not None:
            rows = _sum(source.row_count for source in self._sources)
            await self._foresee(target, rows, _sum(source.size for source in self._sources))

    async def _tell_of_new_table(
        self, source: Source, reader: Reader, renamed: dict[str, str], made: NewTable
    ) -> None:
        """How rows get into a table that the run makes. It is empty, and nobody else knows it."""
        table, into = self._table, self._plan.target
        if not made.key and table.policy != "append":
            raise SqlkitError(
                f"policy {table.policy} needs a key, and {into} is yet to be made: say key"
            )
        await self._need_schema()
        strategy = await self._strategy(source, None, is_direct=not table.lookups)
        self._plan = replace(self._plan, strategy=strategy)
        asked = [name for lookup in table.lookups.values() for name in lookup.from_ or ()]
        out = (*(table.leave_out or ()), *asked)
        place = {
            renamed.get(name, name): at
            for at, name in enumerate(reader.columns)
            if name not in out and (not table.columns or name in table.columns)
        }
        if strategy.is_direct:
            self._tell(self._copy(into, list(place)))
        else:
            self._tell(self._copy(_STAGE, list(place)))
            listed = ", ".join(map(quoted, [*place, *table.lookups]))
            select = f"select {listed} from only {_STAGE}"  # noqa: S608 - shown only
            ordered = f" order by {', '.join(map(quoted, made.key))}" if made.key else ""
            self._tell(f"insert into {into} ({listed}) {select}{ordered}")
        self._tell(*made.after)
        sample = await self._sample(source, reader)
        keys = {tuple(row[place[name]] for name in made.key if name in place) for row in sample}
        counts = RowCounts(read=len(sample), inserted=len(sample))
        if table.policy in ("update", "ignore", "newer", "fill"):
            repeated = len(sample) - len(keys)
            counts = RowCounts(read=len(sample), inserted=len(keys), duplicates=repeated)
        self._plan = replace(self._plan, estimate=counts)

    async def _need_schema(self) -> None:
        """Tell if the schema of a table that is to be made is not there."""
        schema = await calls.missing_schema(self._connection, self._plan.target)
        if schema is None:
            return
        if not self._has_hooks_before():
            raise SqlkitError(f"there is no schema {schema}, in which to make {self._plan.target}")
        self._note(f"there is no schema {schema}: hooks that come first have to make it")

    def _copy(self, into: str, columns: Sequence[str], options: str = "") -> str:
        """How rows leave the client."""
        listed = ", ".join(map(quoted, columns))
        strategy = self._plan.strategy
        if strategy is not None and strategy.way.startswith("INSERT"):
            return f"insert into {into} ({listed}) values ..."  # noqa: S608 - shown only
        return f"copy {into} ({listed}) from stdin{options}"

    async def _tell_statements(self, target: Target, plan: ColumnPlan) -> None:
        """What is executed for each batch, or once for a first load."""
        table, strategy = self._table, self._plan.strategy
        assert strategy is not None
        if strategy.way == _FIRST.way:
            await self._tell_first_load(target, plan)
            return
        self._tell(self._copy(target.name if strategy.is_direct else _STAGE, plan.staged))
        if table.refresh is not None:
            called = _literals(_STAGE, _refresh_strategy(table))
            self._tell(f"select sqlkit.refresh_stage({called}, ...)")
        elif not strategy.is_direct:
            collected = [plan.collected_in] if plan.collected else []
            self._tell(*await self._merge_statements(target, [*plan.merged, *collected]))

    async def _tell_first_load(self, target: Target, plan: ColumnPlan) -> None:
        """Indexes are taken away, and built when the rows are there: all in one transaction."""
        self._tell(f"lock table only {target.name} in access exclusive mode")
        indexes = await calls.indexes_to_build(self._connection, target.name)
        schema = target.name.rpartition(".")[0]  # of the index too
        for name, constraint, _ in indexes:
            if constraint is None:
                self._tell(f"drop index {schema}.{quoted(name)}")
            else:
                self._tell(f"alter table only {target.name} drop constraint {quoted(constraint)}")
        self._tell(f"truncate table only {target.name}")  # it is empty: so that rows are frozen
        self._tell(self._copy(target.name, plan.staged, " (freeze)"))
        for name, constraint, definition in indexes:
            self._tell(definition)
            if constraint is not None:
                add = f"add constraint {quoted(constraint)} ... using index {quoted(name)}"
                self._tell(f"alter table only {target.name} {add}")

    async def _merge_statements(self, target: Target, columns: list[str]) -> list[str]:
        table = self._table
        key = None if table.key is None else list(table.key)
        return await calls.describe_merge(
            self._connection, target.name, columns, table.policy, key, table.order_by
        )

    async def _strategy(
        self, source: Source, target: Target | None, *, is_direct: bool
    ) -> Strategy:
        """How rows would get there, as the loader decides it; without a target, it is made."""
        table = self._table
        if table.refresh is not None:
            return _refreshed(table)
        performance = table.performance
        chosen, rule = ruled(table, self._sources)
        if not performance.enabled:
            chosen, rule = "insert", None
        if chosen in ("insert", "stage"):
            word = "INSERT" if chosen == "insert" else "COPY"
            said = f"a rule says {rule}" if rule else f"performance says {chosen}"
            return Strategy(
                f"{word} into stages, one join, only differences are written",
                said if performance.enabled else "performance says so: it is not enabled",
                _NOBODY_WAITS if table.policy == "append" else _WRITERS_WAIT,
            )
        # Of a table in parts each part is a load by itself.
        streams = 1 if table.partitions is not None else table.workers
        workers = {"copy": 1, "parallel": max(2, streams)}.get(chosen, streams)
        is_guarded = target is not None and (
            target.has_row_triggers or target.has_rules or target.row_security
        )
        appends = table.policy == "append" and is_direct and not is_guarded
        independent = not table.key if target is None else target.rows_are_independent
        if appends and independent and workers > 1 and not (table.atomic or table.batch_bytes):
            return Strategy(
                f"COPY into the table by {workers} streams at once",
                "policy append, and no index or trigger makes rows wait for each other",
                _NOBODY_WAITS,
                is_direct=True,
            )
        if target is not None and target.heap_bytes:
            why = "the table holds rows"
        elif table.policy in ("fill", "history") or not is_direct:
            why = "the table is empty, but rows cannot go there as they are"
        elif source.size is not None and source.size <= PIECE_BYTES:
            why = "the table is empty, but the source is small"
        elif target is not None and (
            obstacle := await calls.first_load_obstacle(self._connection, target.name)
        ):
            why = f"the table is empty, but {obstacle}"
        else:
            return _FIRST
        if appends:
            why = "policy append looks at no key"
            way = "COPY into the table by one stream"
            return Strategy(way, why, _NOBODY_WAITS, is_direct=True)
        by = f"by {workers} streams" if workers > 1 else "by one stream"
        return Strategy(
            f"COPY into stages {by}, one join, only differences are written",
            why,
            _WRITERS_WAIT,
        )

    async def _look_keys_up(
        self, names: Sequence[str], rows: Sequence[Sequence[str | None]]
    ) -> tuple[list[str], list[list[str | None]]]:
        """The columns that lookups fill, and the rows with their ids at the end.

        Rows of which a key would be made have none yet, and are left out.
        """
        lookups = self._project.lookups_of(self._plan.name)
        found = [list(row) for row in rows]
        are_known = [True] * len(found)
        plans = []
        for lookup in lookups:
            dimension = await calls.find_table(self._connection, lookup.table)
            if dimension is None:
                raise SqlkitError(f"there is no table {lookup.table}, by which to look up")
            id_of = lookup.id
            if id_of is None:
                key = await calls.find_policy_key(self._connection, dimension, "update", None)
                id_of = (key or [""])[0]
            places = [list(names).index(name) for name in lookup.needs if name in names]
            if len(places) < len(lookup.needs):
                raise SqlkitError(f"there are no columns {', '.join(lookup.needs)} to look up")
            ids = await calls.resolve_values(
                self._connection,
                [[row[at] for at in places] for row in rows],
                dimension,
                id_of,
                list(lookup.key),
                False,
                {},
            )
            known, unknown = set(), set()
            for at, (row, value) in enumerate(zip(rows, ids, strict=True)):
                natural = tuple(row[place] for place in places)
                if value is not None:
                    known.add(natural)
                elif None not in natural:
                    unknown.add(natural)
                    are_known[at] = are_known[at] and not lookup.create
                found[at].append(lookup.placeholder if value is None else value)
            becomes = "null" if lookup.placeholder is None else lookup.placeholder
            plans.append(
                LookupPlan(
                    lookup.column,
                    dimension,
                    lookup.key,
                    "made" if lookup.create else becomes,
                    len(known),
                    len(unknown),
                )
            )
        self._plan = replace(self._plan, lookups=tuple(plans))
        kept = [row for row, is_known in zip(found, are_known, strict=True) if is_known]
        return [lookup.column for lookup in lookups], kept

    async def _indexes(self, source: Source, target: Target) -> str | None:
        """What becomes of the indexes that could be built after the rows, if there are any."""
        names, objection = await calls.index_decision(
            self._connection, target.name, source.row_count, source.size
        )
        way = self._table.indexes
        if not names:
            return None
        listed = ", ".join(names)
        if way == "keep" or (way == "auto" and objection is not None):
            return f"{listed}: kept, {'indexes says so' if way == 'keep' else objection}"
        why = "indexes says so" if way == "rebuild" else "if nobody else is at the table"
        return f"{listed}: built after the rows, {why}"

    async def _estimate(
        self, source: Source, reader: Reader, target: Target, plan: ColumnPlan
    ) -> None:
        place = {name: at for at, name in enumerate(reader.columns)}
        columns = {
            staged: place[wanted.name]
            for staged, wanted in zip(plan.staged, plan.wanted, strict=True)
            if staged not in plan.left_out and wanted.name in place
        }
        sample = await self._sample(source, reader)
        ids, rows = await self._look_keys_up(reader.columns, sample)
        places = [*columns.values(), *range(len(reader.columns), len(reader.columns) + len(ids))]
        found = [[row[at] for at in places] for row in rows]
        await self._estimate_rows(target, [*columns, *ids], found)

    async def _sample(self, source: Source, reader: Reader) -> Sequence[Sequence[str | None]]:
        sample: Sequence[Sequence[str | None]]
        sample = await run_async(partial(reader.sample, ESTIMATED_ROWS))
        if not sample:  # its columns have types, so that it has none ready
            sample = await run_async(partial(first_rows, reader, source.name, ESTIMATED_ROWS))
        return sample[:ESTIMATED_ROWS]

    async def _estimate_rows(
        self, target: Target, columns: list[str], rows: list[list[str | None]]
    ) -> None:
        """Hold rows against the table, and tell how many it does not take, where some may be."""
        try:
            counts = await self._estimated(target, columns, rows)
        except psycopg.DataError as error:
            if self._table.reject_limit == (0, None):
                raise
            sound = await self._sound(target, columns, rows)
            refused = len(rows) - len(sound)
            self._note(
                f"of the first {len(rows):,} rows {refused:,} would be refused: "
                f"{error.diag.message_primary}"
            )
            counts = await self._estimated(target, columns, sound)
            counts += RowCounts(read=refused, rejected=refused)
        self._plan = replace(self._plan, estimate=counts)

    async def _estimated(
        self, target: Target, columns: list[str], rows: list[list[str | None]]
    ) -> RowCounts:
        """What would become of rows. What is refreshed without a key is only written anew."""
        table = self._table
        key = table.key or target.key
        async with self._connection.transaction():
            return await calls.estimate_merge(
                self._connection,
                target.name,
                columns,
                rows,
                "append" if table.refresh is not None and not key else table.policy,
                None if table.key is None else list(table.key),
                table.order_by,
            )

    async def _sound(
        self, target: Target, columns: list[str], rows: list[list[str | None]]
    ) -> list[list[str | None]]:
        """Those of some rows whose values the table takes, found by halves."""
        try:
            await self._estimated(target, columns, rows)
        except psycopg.DataError:
            if len(rows) == 1:
                return []
            middle = len(rows) // 2
            halves = (rows[:middle], rows[middle:])
            return [row for half in halves for row in await self._sound(target, columns, half)]
        return rows


_STAGE = "sqlkit_stage.stage"
_NOBODY_WAITS = "ROW EXCLUSIVE: nobody waits"
_WRITERS_WAIT = "SHARE ROW EXCLUSIVE: readers go on, other writers wait for each batch"
_RAW = Strategy("rows are appended as they are, each as one object", "raw says so", _NOBODY_WAITS)
_FIRST = Strategy(
    "COPY into the bare table, indexes are built afterwards",
    "the table is empty",
    f"ACCESS EXCLUSIVE, if it is to be had within {LOCK_TIMEOUT}",
    is_direct=True,
)


_REFRESHES = {
    "mirror": Strategy(
        "mirror: the new content is staged, only differences are written",
        "refresh says so",
        "SHARE ROW EXCLUSIVE, from when all is staged: readers go on, other writers wait",
    ),
    "truncate": Strategy(
        "truncate: the new content is staged, the table is emptied and filled with it",
        "refresh says so",
        "ACCESS EXCLUSIVE, from when all is staged until the table is filled and its indexes are "
        "built: readers and writers wait",
    ),
    "swap": Strategy(
        "swap: the new content is staged, becomes a new table, and that takes the old one's place",
        "refresh says so",
        "ACCESS EXCLUSIVE for the exchange, when the new table is ready: readers and writers wait "
        "some milliseconds",
    ),
}


def _refresh_strategy(table: Table) -> str:
    assert table.refresh is not None
    return table.refresh.strategy


def _refreshed(table: Table) -> Strategy:
    """As far as the file says it. What auto takes the table has to tell."""
    strategy = _refresh_strategy(table)
    if strategy != "auto":
        return _REFRESHES[strategy]
    way = "auto: mirror, truncate or swap, when the new content is staged"
    return Strategy(way, "refresh says auto")


def _sum(numbers: Iterable[int | None]) -> int | None:
    """The sum, if all are known."""
    known = list(numbers)
    return None if None in known else sum(number or 0 for number in known)


def _literals(*values: str | None) -> str:
    """Arguments of a call that is shown."""
    return ", ".join(sql.Literal(value).as_string() for value in values)


def _types_of(reader: Reader) -> dict[str, str]:
    """The types of a source's columns: those that it tells, else as its first rows show them."""
    types = dict(reader.column_types)
    sample: Sequence[Sequence[str | None]] = ()
    if len(types) < len(reader.columns):
        sample = reader.sample(ESTIMATED_ROWS)
    for at, name in enumerate(reader.columns):
        values = [row[at] for row in sample if row[at] is not None]
        if name not in types and values:
            types[name] = infer_type(values)
    return types


def _drift(
    table: Table,
    source: Source,
    reader: Reader,
    target: Target,
    renamed: dict[str, str],
    types: dict[str, str],
) -> list[Drift]:
    """Columns that only one side has, or whose types differ."""
    left_out = set(table.leave_out or ())
    leaves_all = EVERYTHING in left_out
    chosen = set(table.columns or ()) if source.declares_columns else set()
    there = {column.name for column in target.columns}
    looked_up = {name for lookup in table.lookups.values() for name in lookup.from_ or lookup.key}
    arriving = {renamed.get(name, name) for name in reader.columns}
    arriving -= {renamed.get(name, name) for name in left_out}
    found = []
    for name in reader.columns:
        if renamed.get(name, name) not in there:
            if name in looked_up:
                continue
            if leaves_all or name in left_out or (chosen and name not in chosen):
                becomes = "left out"
            elif table.schema_policy == "evolve":
                becomes = f"added: {types.get(name, 'text')}"
            elif table.discard is not None:
                becomes = f"kept in {table.discard}"
            elif table.rest is not None:
                becomes = f"kept in {table.rest}"
            else:
                becomes = "refused"
            found.append(Drift(name, "source", becomes, types.get(name)))
    targets = {column.name: column.type for column in target.columns}
    for name in reader.columns:
        source_type, target_type = types.get(name), targets.get(renamed.get(name, name))
        if source_type is None or target_type is None or name in left_out or name in looked_up:
            continue
        if (not chosen or name in chosen) and not takes(
            target_type, source_type, is_known=name in reader.column_types
        ):
            becomes = f"read as {target_type}, or refused"
            found.append(Drift(name, "both", becomes, source_type, target_type))
    for column in target.columns:
        if column.name in arriving or column.name in (table.rest, table.discard, *table.lookups):
            continue
        if column.is_generated:
            becomes = "computed"
        elif column.has_default:
            becomes = "its default"
        elif table.schema_policy == "evolve" and not column.not_null:
            becomes = "null"
        elif leaves_all or chosen or column.name in left_out or not source.declares_columns:
            becomes = "refused" if column.not_null else "null"
        else:
            becomes = "refused"
        found.append(Drift(column.name, "target", becomes, None, column.type))
    return found
