"""A whole database of MySQL or MariaDB, copied into a schema.

Every table is made from MySQL's catalog and loaded under policy append in one transaction, the
largest first, several at a time. Foreign keys come when all rows are there. A table that was copied
is known by its name in the ledger, whatever run it was: the same command goes on where it stopped.

All tables are read in one snapshot, if the user may LOCK TABLES for the moment in which its
connections begin; else each connection has its own, which is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from sqlkit.client_async import aconnect
from sqlkit.connection import connection_options, from_psycopg
from sqlkit.errors import LostSourceError, SqlkitError, UsageError
from sqlkit.infer import quoted
from sqlkit.results import RowCounts
from sqlkit.server import find_dsn
from sqlkit.sources.find import database_of
from sqlkit.sources.mysql import MysqlSource, verify
from sqlkit.sources.mysql.address import SCHEMES, Address, parse_address
from sqlkit.sources.mysql.catalog import ForeignKey, Table, find_foreign_keys, find_tables, look_up
from sqlkit.sources.mysql.session import Session, begin_together
from sqlkit.transient import RETRY_FOR, Patience


@dataclass(frozen=True)
class TableCopy:
    """What became of a table: copied, there (it was copied before), or failed."""

    table: str
    target: str
    state: str
    rows: RowCounts = field(default_factory=RowCounts)
    run_id: int | None = None
    seconds: float = 0.0
    ddl: str | None = None
    notes: tuple[str, ...] = ()
    verified: bool | None = None  # None: not asked for
    error: str | None = None


@dataclass(frozen=True)
class DatabaseCopy:
    """What became of a database."""

    tables: tuple[TableCopy, ...]
    foreign_keys: int
    problems: tuple[str, ...]  # foreign keys that could not be made, and the like
    left_out: tuple[str, ...]  # views, triggers, routines
    is_one_snapshot: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """As the command's: 1 something failed or differs, 3 rows were refused, 0 all is well."""
        if self.problems or any(t.state == "failed" or t.verified is False for t in self.tables):
            return 1
        return 3 if any(table.rows.rejected for table in self.tables) else 0


Told = Callable[[TableCopy], None]


@dataclass(frozen=True)
class CopyOptions:
    """How a database is copied; see `copy_database`."""

    tables: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    workers: int = 2
    null_invalid: bool = False
    verify: bool = False
    reject_limit: int | None = 0
    reject_share: float | None = None
    retry_for: float = RETRY_FOR


async def copy_database(
    url: str,
    into: str,
    options: CopyOptions,
    *,
    dsn: str | None = None,
    on_table: Told = lambda _: None,
) -> DatabaseCopy:
    """Copy the tables of a database into the schema `into`, which is made if it is not there.

    `options.workers` tables are copied at once, each with one connection to the source and a few to
    the target. With `verify`, rows are counted and checksums added up on both sides.

    Raises SqlkitError where the source or the target is not there; what happens to a table or a
    foreign key is in the result.
    """
    if database_of(url) not in SCHEMES:
        raise UsageError(
            "copy-db copies databases of MySQL and MariaDB",
            hint="Write mysql://user@host:3306/database; of others load the tables one by one: "
            "sqlkit load ADDRESS#TABLE --create",
        )
    address = parse_address(url)
    if address.table is not None:
        raise UsageError("copy-db copies a database: leave the table out of the address")
    if options.workers < 1:
        raise UsageError("workers must be at least 1")
    copying = _Copying(address, into, options, find_dsn(dsn), on_table)
    try:
        return await copying.run()
    except psycopg.Error as error:
        raise from_psycopg(error) from error
    finally:
        await asyncio.to_thread(copying.close)


class _Copying:
    def __init__(
        self, address: Address, into: str, options: CopyOptions, dsn: str, on_table: Told
    ) -> None:
        self._address = address
        self._into = into
        self._options = options
        self._dsn = dsn
        self._on_table = on_table
        self._sessions: list[Session] = []
        self._is_one = True

    async def run(self) -> DatabaseCopy:
        started = time.monotonic()
        options, address = self._options, self._address
        first = await asyncio.to_thread(
            partial(Session, address, address.name, own_queries=True, again=False)
        )
        try:
            found = await asyncio.to_thread(find_tables, first, address.database)
            wanted = self._chosen(found.tables)
            tables = {
                name: await asyncio.to_thread(look_up, first, address.database, name)
                for name in wanted
            }
            keys = await asyncio.to_thread(find_foreign_keys, first, address.database)
        finally:
            await asyncio.to_thread(first.close)
        self._sessions, self._is_one = await asyncio.to_thread(
            begin_together,
            address,
            [table.quoted for table in tables.values()],
            min(options.workers, max(1, len(tables))),
        )
        async with await self._connect() as connection:
            # To make a schema that is there needs the right to make one, even IF NOT EXISTS.
            there = await connection.execute(
                "select from pg_catalog.pg_namespace where nspname operator(pg_catalog.=) %s::name",
                [self._into],
            )
            if not there.rowcount:
                await connection.execute(
                    sql.SQL("create schema if not exists {}").format(sql.Identifier(self._into))
                )
        done = await self._copy_all(tables)
        problems: list[str] = []
        made = 0
        if all(copy.state != "failed" for copy in done):
            made, problems = await self._add_keys(
                [key for key in keys if key.table in tables], set(tables)
            )
        elif keys:
            problems.append("foreign keys wait until every table is copied: run it again")
        return DatabaseCopy(
            tables=tuple(done),
            foreign_keys=made,
            problems=tuple(problems),
            left_out=found.left_out,
            is_one_snapshot=self._is_one,
            seconds=time.monotonic() - started,
        )

    def close(self) -> None:
        """Put the sessions' settings back, and close them."""
        for session in self._sessions:
            session.close()

    def _chosen(self, names: Sequence[str]) -> list[str]:
        options = self._options
        if unknown := [n for n in (*options.tables, *options.left_out) if n not in names]:
            raise UsageError(
                f"{self._address.name} has no table {', '.join(unknown)}",
                detail=f"Tables: {', '.join(names)}.",
            )
        return [
            name
            for name in names
            if name not in options.left_out and (not options.tables or name in options.tables)
        ]

    async def _connect(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self._dsn, **connection_options(self._dsn))

    async def _copy_all(self, tables: dict[str, Table]) -> list[TableCopy]:
        waiting = sorted(tables, key=lambda name: -tables[name].bytes)
        done: dict[str, TableCopy] = {}

        async def work(number: int) -> None:
            while waiting:
                name = waiting.pop(0)
                done[name] = copy = await self._copy(tables[name], number)
                self._on_table(copy)

        async with asyncio.TaskGroup() as group:
            for number in range(len(self._sessions)):
                group.create_task(work(number))
        return [done[name] for name in tables]

    def target_of(self, table: str) -> str:
        """A table's name here, as SQL writes it."""
        return f"{quoted(self._into)}.{quoted(table)}"

    async def _session(self, number: int) -> Session:
        """A worker's session; another one, with another snapshot, where it was lost."""
        if self._sessions[number].is_lost:
            lost, self._is_one = self._sessions[number], False
            self._sessions[number] = await asyncio.to_thread(
                partial(Session, self._address, self._address.name, own_queries=True, again=True)
            )
            await asyncio.to_thread(lost.close)
        return self._sessions[number]

    async def _copy(self, table: Table, number: int) -> TableCopy:
        options, started = self._options, time.monotonic()
        target = self.target_of(table.name)
        address = replace(self._address, table=table.name)
        copy = TableCopy(table.name, target, "failed")
        try:
            source = MysqlSource(
                address,
                null_invalid=options.null_invalid,
                session=await self._session(number),
                # The same in every run, so that a table that was copied is known.
                fingerprint=hashlib.sha256(f"copy-db {address.name}".encode()).hexdigest(),
            )
            async with aconnect(self._dsn) as client:
                result = await client.load(
                    source,
                    into=target,
                    policy="append",
                    create=True,
                    reject_limit=options.reject_limit,
                    reject_share=options.reject_share,
                    retry_for=options.retry_for,
                )
            state = "copied" if result.sources[0].state == "loaded" else "there"
            copy = replace(
                copy, state=state, rows=result.rows, run_id=result.run_id, ddl=result.ddl,
                notes=source.notes,
            )  # fmt: skip
            if options.verify:
                differs = await self._verify(table, number, target)
                copy = replace(copy, verified=differs is None, error=differs)
        except SqlkitError as error:
            told = error.message + (f"\n{error.detail}" if error.detail else "")
            copy = replace(copy, state="failed", error=told)
        except psycopg.Error as error:
            copy = replace(copy, state="failed", error=from_psycopg(error).message)
        return replace(copy, seconds=time.monotonic() - started)

    async def _verify(self, table: Table, number: int, target: str) -> str | None:
        """What differs between the table in its snapshot and what arrived."""
        patience = Patience(self._options.retry_for)
        while True:
            try:
                session = await self._session(number)
                theirs = await asyncio.to_thread(verify.their_sums, session, table)
                break
            except LostSourceError as error:
                wait = patience.wait_for(error)
                if wait is None:
                    raise
                await asyncio.sleep(wait.seconds)
        async with await self._connect() as connection:
            # In one transaction, since a proxy may stand between.
            await connection.set_autocommit(False)
            await connection.execute(
                "select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
            )
            cursor = await connection.execute(verify.our_query(target, table).encode())
            row = await cursor.fetchone()
        assert row is not None
        return verify.compare(table, theirs, [int(value) for value in row])

    async def _add_keys(
        self, keys: Sequence[ForeignKey], copied: set[str]
    ) -> tuple[int, list[str]]:
        """Make the foreign keys that are not there; how many, and which could not be made."""
        made, problems = 0, []
        async with await self._connect() as connection:
            for key in keys:
                if key.schema_of_other != self._address.database or key.other not in copied:
                    problems.append(f"{key.table}.{key.name}: refers to a table that is not copied")
                    continue
                target = self.target_of(key.table)
                cursor = await connection.execute(
                    "select 1 from pg_catalog.pg_constraint where conrelid operator(pg_catalog.=)"
                    " %s::regclass::oid and conname operator(pg_catalog.=) %s::name",
                    [target, key.shortened],
                )
                if await cursor.fetchone() is not None:
                    continue
                try:
                    await connection.execute(
                        (
                            f"alter table {target} add constraint {quoted(key.shortened)} "
                            f"foreign key ({', '.join(map(quoted, key.columns))}) references "
                            f"{self.target_of(key.other)} ({', '.join(map(quoted, key.others))}) "
                            f"on delete {key.on_delete} on update {key.on_update}"
                        ).encode()
                    )
                    made += 1
                except psycopg.Error as error:
                    known = from_psycopg(error)
                    detail = f" ({known.detail})" if known.detail else ""
                    problems.append(f"{key.table}.{key.name}: {known.message}{detail}")
        return made, problems
