"""Parts of a load that others stage: what a worker is sent, what it does, and what it sends back.

A worker is a function call in another thread, process or machine. It opens a source by its
description, checks that it holds what the ledger knows it by, and COPYs a range of it into a stage
of its own, in one transaction. Nothing of the ledger is its business: whoever sent the part merges
the stage and records the batch. So a part that is lost, with its worker or with its answer, is sent
again; a stage that nobody merges is dropped with its run.

What is sent holds no secret that could be shown: a password is `Hidden`, and goes to this machine's
own processes alone. Other workers find theirs as every client of PostgreSQL does (PGPASSWORD,
PGPASSFILE, ~/.pgpass).
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sqlkit.errors import SourceError, SqlkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from sqlkit.columns import ColumnPlan
    from sqlkit.sources.base import ResumePoint, Source

CANNOT_CONNECT = "08001"


class Hidden:
    """A text that is sent, and never shown."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "***"


class Description(Protocol):
    """Says to another process which source is meant. Plain data, without secrets."""

    def __hash__(self) -> int: ...

    def source(self) -> Source:
        """The same source, made anew. Raises SourceError where it is not to be found."""


@runtime_checkable
class DescribedSource(Protocol):
    """A source that others can open."""

    def description(self) -> Description | None:
        """What they need for it; None where only this process can read it."""


@runtime_checkable
class CutSource(Protocol):
    """A source whose parts can be read without what stands before them."""

    def cuts(self, parts: int) -> Sequence[ResumePoint]:
        """Where it may be cut into about so many parts, in order, without reading it."""

    def open_until(self, *, database_encoding: str, resume: ResumePoint | None, until: int) -> Any:
        """As `open`; the reader ends at the offset `until`, which is one of the cuts."""


@dataclass(frozen=True)
class Part:
    """A range of a source, and all that is needed to stage it."""

    description: Description
    fingerprint: str
    begins: ResumePoint
    until: int | None  # offset; None: to the end
    is_whole: bool  # no other part is of the same source
    database_encoding: str
    plan: ColumnPlan
    piece_bytes: int
    target: str
    run_id: int
    dsn: str  # without password
    password: Hidden | None
    version: str  # sqlkit's


@dataclass(frozen=True)
class Staged:
    """What became of a part."""

    stage: str = ""
    rows: int = 0
    bytes: int = 0
    bytes_stored: int = 0
    first_line: int = 0
    ends: ResumePoint | None = None  # None: it has no rows
    seconds_decode: float = 0.0
    seconds_copy: float = 0.0
    error: SqlkitError | None = None
    """Returned and not raised, so that nobody's log has the call with its arguments."""


def stage_part(part: Part) -> Staged:
    """COPY a part into a stage of the run, and say which; runs in a worker."""
    import psycopg

    from sqlkit._release import VERSION
    from sqlkit.connection import connection_options, from_psycopg

    if part.version != VERSION:
        return _failed(
            SqlkitError(
                f"a worker on {socket.gethostname()} has sqlkit {VERSION}, not {part.version}",
                hint="Install the same version on all workers.",
            )
        )
    try:
        source = (_opened if part.is_whole else _remembered)(part.description, part.fingerprint)
        more = {} if part.password is None else {"password": part.password.text}
        try:
            connection = psycopg.connect(part.dsn, **(connection_options(part.dsn) | more))
        except psycopg.Error as error:
            return _failed(_cannot_connect(error))
        with connection:
            staged = _stage(part, source, connection)
        if part.is_whole:
            source.release()
        return staged
    except psycopg.Error as error:
        return _failed(from_psycopg(error))
    except SqlkitError as error:
        return _failed(error)


def _failed(error: SqlkitError) -> Staged:
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return Staged(error=error)


def _cannot_connect(error: psycopg.Error) -> SqlkitError:
    return SqlkitError(
        f"the worker on {socket.gethostname()} cannot connect to the database: {error}",
        code=CANNOT_CONNECT,
        hint="Workers are given the address, without its password: set PGPASSWORD or PGPASSFILE "
        "where they run. A host such as localhost is theirs, and not yours.",
    )


def _opened(description: Description, fingerprint: str) -> Source:
    """The source, which holds what is expected of it."""
    source = description.source()
    if source.fingerprint() != fingerprint:
        raise SourceError(
            f"the content differs on {socket.gethostname()}",
            source=source.name,
            code="SK103",
            hint="Workers must see the same files under the same names.",
        )
    return source


_remembered = lru_cache(maxsize=4)(_opened)
"""The same; read through once for all its parts that come here."""


def _stage(part: Part, source: Source, connection: psycopg.Connection[Any]) -> Staged:
    from sqlkit import calls

    resume = part.begins if part.begins.offset else None
    if part.until is None:
        reader = source.open(database_encoding=part.database_encoding, resume=resume)
    else:
        assert isinstance(source, CutSource)
        reader = source.open_until(
            database_encoding=part.database_encoding, resume=resume, until=part.until
        )
    try:
        with connection.transaction():
            stage = calls.create_stage(
                connection,
                part.target,
                list(part.plan.staged),
                list(part.plan.left_out),
                part.run_id,
            )
            if part.plan.collected:
                plan = part.plan
                names = [plan.names[staged] for staged in plan.collected]
                calls.collect_columns(
                    connection, stage, plan.collected_in, names, list(plan.collected), "jsonb"
                )
            calls.add_lookups(connection, stage, part.plan.lookups)
            return _copy(part, source, reader, connection, stage)
    finally:
        reader.close()


def _copy(
    part: Part, source: Source, reader: Any, connection: psycopg.Connection[Any], stage: str
) -> Staged:
    import psycopg

    from sqlkit import calls
    from sqlkit._acompat import Prefetch
    from sqlkit.connection import from_copy
    from sqlkit.copy import copy_statement, copying, write

    rows = size = first_line = 0
    decoding = copying_took = 0.0
    ends: ResumePoint | None = None
    pieces = reader.pieces(part.plan.wanted, part.piece_bytes, part.plan.ignored)
    format = reader.copy_format
    statement = copy_statement(stage, part.plan.staged, format, freeze=True)
    ahead = Prefetch(pieces, ahead=1)
    try:
        while (found := ahead.take()) is not None:
            piece, _ = found
            if not calls.is_running(connection, part.run_id):
                raise SqlkitError("the run is over", code="SK403")
            started = time.perf_counter()
            cursor = connection.cursor()
            try:
                with copying(cursor, statement) as copy:
                    write(copy, format.head + piece.data + format.tail)
            except psycopg.Error as error:
                raise from_copy(
                    error,
                    source=source.name,
                    relation=stage,
                    first_line=piece.first_line,
                    counts_lines=reader.counts_lines,
                    columns=part.plan.names,
                ) from error
            copying_took += time.perf_counter() - started
            rows += cursor.rowcount
            size += len(piece.data)
            first_line = first_line or piece.first_line
            decoding += piece.seconds
            ends = piece.resume
    finally:
        ahead.close()
    return Staged(
        stage=stage,
        rows=rows,
        bytes=size,
        bytes_stored=reader.progress.stored_bytes,
        first_line=first_line,
        ends=ends,
        seconds_decode=decoding,
        seconds_copy=copying_took,
    )
