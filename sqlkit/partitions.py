"""Tables that are fetched in parts, of which only those that have anything to do.

A cheap query says which parts there are. A part is known by what that query says of it beside its
mark; the ledger remembers the mark at which each was loaded, and takes over the new one in the
transaction that writes the last of its rows. So a part whose mark stands where it stood is passed
over, and after a failure those go on that were not loaded.

Each part is a load by itself, with all that holds for one. Several run at once: one is fetched
while another is merged. One that fails is tried once more when all others are done, alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection

from sqlkit import calls_async as calls
from sqlkit._acompat import run_async
from sqlkit.client_async import AsyncClient, aconnect, as_sources
from sqlkit.config import Project
from sqlkit.connection import from_psycopg
from sqlkit.errors import RejectLimitError, SqlkitError, UsageError
from sqlkit.results import LoadResult, RowCounts
from sqlkit.sources.ask import ask, quote, value_of
from sqlkit.sources.base import Source
from sqlkit.sources.newer import Mark
from sqlkit.templates import QueryTemplate, TemplateFailedError
from sqlkit.transient import reason_to_wait

SINCE = "since"
"""What the query knows the mark by at which a part was loaded last; null at first."""

TITLE = 200
"""Characters of a part's name; of a longer one its digest tells it apart."""

SHOWN = 10
"""Parts that failed whose errors are told."""

_HOPELESS = (UsageError, TemplateFailedError, RejectLimitError)
"""Errors that a second attempt would not change."""


@dataclass(frozen=True)
class Partition:
    """A part of a table: `values` are what the query is given."""

    name: str
    values: Mapping[str, Any]
    mark: Mark | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether its mark stands where it stood when it was loaded last."""
        return self.mark is not None and self.mark.stood == self.mark.stands


@dataclass(frozen=True)
class PartitionResult:
    """What became of a part: loaded, failed, or left, when there was no server any more."""

    name: str
    state: str
    attempts: int = 0
    run_id: int | None = None
    rows: RowCounts = field(default_factory=RowCounts)
    wal_bytes: int = 0
    seconds: float = 0.0
    error: Mapping[str, str | None] | None = None


@dataclass(frozen=True)
class PartitionedResult:
    """A table of which some parts were loaded, in the order in which they ended."""

    target: str
    unchanged: int  # parts that were passed over
    partitions: tuple[PartitionResult, ...]
    seconds: float

    @property
    def rows(self) -> RowCounts:
        """Those of all parts."""
        return sum((part.rows for part in self.partitions), RowCounts())

    @property
    def wal_bytes(self) -> int:
        """What the server wrote for all parts, and for others meanwhile."""
        return sum(part.wal_bytes for part in self.partitions)

    @property
    def refused_in(self) -> tuple[int, ...]:
        """The runs that have rejects."""
        return tuple(p.run_id for p in self.partitions if p.rows.rejected and p.run_id is not None)

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``sqlkit run --json`` prints it."""
        return asdict(self) | {"rows": asdict(self.rows), "wal_bytes": self.wal_bytes}


class PartitionsFailedError(SqlkitError):
    """Some parts of a table could not be loaded; `result` tells of all."""

    def __init__(self, result: PartitionedResult, errors: Sequence[SqlkitError]) -> None:
        bad = [part for part in result.partitions if part.state != "loaded"]
        total = len(result.partitions)
        told = [f"{part.name}: {_why(part.error)}" for part in bad[:SHOWN]]
        if len(bad) > SHOWN:
            told.append(f"and {len(bad) - SHOWN} more")
        super().__init__(
            f"{len(bad)} of {total} partition{'s' * (total != 1)} could not be loaded",
            code=errors[0].code,
            detail="\n".join(told),
            hint=errors[0].hint or "Run again: what was loaded is passed over, as its mark says.",
        )
        self.result = result
        self.exit_code = max(error.exit_code for error in errors)


def _why(error: Mapping[str, str | None] | None) -> str:
    if error is None:
        return "not begun, since a server was lost"
    first, *_ = (error["detail"] or "").splitlines() or [""]
    return f"{error['message']} ({first})" if first else str(error["message"])


Load = Callable[[AsyncClient, Source], Awaitable[Any]]


class Partitioned:
    """The parts of a table of the project. Raises UsageError and TemplateFailedError."""

    def __init__(self, project: Project, name: str) -> None:
        table = project.tables[name]
        assert table.partitions is not None
        assert table.query is not None
        self._project = project
        self._table = table
        self._query = table.query
        self._said = table.partitions
        (self._address,) = project.sources_of(name)
        self._template = QueryTemplate(table.query, partial(quote, self._address))
        # What it is known by does not change with the values.
        self._identity = self._asking(table.query).identity

    def _asking(self, query: str) -> Any:
        table = self._table
        (source,) = as_sources(
            (self._address,), None, None, (), False, query=query,
            null_invalid=table.null_invalid, where=table.where,
        )  # fmt: skip
        return source

    async def find(
        self,
        connection: AsyncConnection[Any] | None = None,
        target: str | None = None,
        *,
        everything: bool = False,
    ) -> list[Partition]:
        """The parts that there are, and at which mark each was loaded into the target.

        With `everything`, their queries are told of none. Raises SqlkitError, and psycopg.Error.
        """
        said = self._said
        (source,) = as_sources((self._address,), None, None, (), False, query=said.query)
        answer = await run_async(partial(ask, source))
        names = [column for column in answer.columns if column != said.mark]
        if said.mark is not None and said.mark not in answer.columns:
            raise UsageError(
                f"the partitions' query has no column {said.mark} for a mark",
                hint=f"It has {', '.join(answer.columns)}.",
            )
        if SINCE in answer.columns:
            raise UsageError(
                f"the partitions' query has a column {SINCE}, which is the name of something else"
            )
        found: dict[str, Partition] = {}
        for row in answer.rows:
            texts = dict(zip(answer.columns, row, strict=True))
            name = _name({column: texts[column] for column in names})
            if name in found:
                raise UsageError(
                    f"the partitions' query gives {name} twice",
                    hint="Group by what tells partitions apart, or say distinct.",
                )
            values = {
                column: value_of(text, answer.types.get(column)) for column, text in texts.items()
            }
            mark = None
            if said.mark is not None and (stands := texts[said.mark]) is not None:
                mark = Mark(f"{self._identity}: partition {name}", said.mark, None, stands)
            found[name] = Partition(name, values, mark)
        marks = {part.mark.source: part for part in found.values() if part.mark is not None}
        stood: dict[str, str] = {}
        if connection is not None and target is not None and marks:
            assert said.mark is not None
            stood = await calls.find_watermarks(connection, target, list(marks), said.mark)
        return [
            self._at(part, None if part.mark is None else stood.get(part.mark.source), everything)
            for part in found.values()
        ]

    def _at(self, part: Partition, stood: str | None, everything: bool) -> Partition:
        if self._said.mark is None:
            return part
        since = None
        if stood is not None and not everything and part.mark is not None:
            # Of the same type as the mark that it is compared with.
            stands = part.values[self._said.mark]
            since = stood if isinstance(stands, str) else value_of(stood, "numeric")
        mark = part.mark and replace(part.mark, stood=stood)
        return replace(part, values={**part.values, SINCE: since}, mark=mark)

    def query_of(self, part: Partition, *, again: bool = False) -> str:
        """The query for a part. Raises TemplateFailedError, and UsageError for what would be
        appended twice."""
        adds = self._table.policy in ("append", "error")
        if adds and not again:
            if part.mark is None:
                raise UsageError(
                    f"partition {part.name} has no mark, so that its rows would come each time"
                )
            if part.mark.stood is not None and SINCE not in self._template.names:
                raise UsageError(
                    f"partition {part.name} was loaded before, and has changed: policy "
                    f"{self._table.policy} would take all of its rows for new ones",
                    hint="Ask for rows between since and the mark, or use another policy.",
                )
        return self._template.render({**self._project.variables, **part.values})

    def source(self, part: Partition, *, again: bool = False) -> Source:
        """Where the rows of a part come from. Raises as `query_of`."""
        found = self._asking(self.query_of(part, again=again))
        found.name = f"{found.name.partition(': ')[0]} [{part.name}]"
        found.mark = part.mark
        source: Source = found
        return source


def _name(texts: Mapping[str, str | None]) -> str:
    told = (
        f"{column} is null" if text is None else f"{column}={text}"
        for column, text in texts.items()
    )
    shown = ", ".join(told) or "all"
    if len(shown) > TITLE:
        shown = f"{shown[:TITLE]}... {hashlib.sha256(repr(texts).encode()).hexdigest()}"
    return shown


async def load_partitions(
    parts: Partitioned,
    found: Sequence[Partition],
    *,
    dsn: str,
    target: str,
    workers: int,
    load: Load,
    again: bool = False,
    is_there: bool = True,
    on_end: Callable[[PartitionResult], None] = lambda result: None,
) -> PartitionedResult:
    """Load the parts that are not loaded yet, or all with `again`, so many at once.

    Unless the table `is_there`, the first is loaded before the others, and makes it. Raises
    PartitionsFailedError where some could not be loaded; the others were.
    """
    started = time.monotonic()
    waiting = deque(part for part in found if again or not part.is_loaded)
    unchanged = len(found) - len(waiting)
    results: dict[str, PartitionResult] = {}
    errors: dict[str, SqlkitError] = {}
    is_lost = False

    async def do(client: AsyncClient, part: Partition) -> None:
        nonlocal is_lost
        began = time.monotonic()
        before = results.pop(part.name, PartitionResult(part.name, "left"))
        errors.pop(part.name, None)
        result = replace(before, state="loaded", attempts=before.attempts + 1, error=None)
        try:
            source = parts.source(part, again=again)
            loaded: LoadResult = await load(client, source)
            result = replace(
                result, run_id=loaded.run_id, rows=loaded.rows, wal_bytes=loaded.bytes.wal
            )
        except (SqlkitError, psycopg.Error, OSError) as error:
            # It was waited for in vain, and would be for each of the others.
            is_lost = is_lost or reason_to_wait(error) is not None
            known = from_psycopg(error) if isinstance(error, psycopg.Error) else error
            if isinstance(known, OSError):
                known = SqlkitError(str(known), code="58030")
            errors[part.name] = known
            told = {name: getattr(known, name) for name in ("code", "message", "detail", "hint")}
            result = replace(result, state="failed", error=told)
        results[part.name] = replace(result, seconds=before.seconds + time.monotonic() - began)
        on_end(results[part.name])

    async def work(*, until_one: bool = False) -> None:
        async with aconnect(dsn) as client:
            while waiting and not is_lost:
                await do(client, waiting.popleft())
                if until_one and len(errors) < len(results):
                    return

    if not is_there:
        await work(until_one=True)
    tasks = [asyncio.ensure_future(work()) for _ in range(min(workers, len(waiting)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        # Interrupted: each ends as a load does that is interrupted.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    by_name = {part.name: part for part in found}
    again_alone = [name for name, error in errors.items() if not isinstance(error, _HOPELESS)]
    if again_alone and not is_lost:
        waiting.extend(by_name[name] for name in again_alone)
        await work()
    for part in waiting:
        results.setdefault(part.name, PartitionResult(part.name, "left"))
    result = PartitionedResult(
        target, unchanged, tuple(results.values()), time.monotonic() - started
    )
    if errors:
        raise PartitionsFailedError(result, list(errors.values()))
    return result
