"""The server that both sides are measured on: the embedded one, in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sqlkit.server import EmbeddedServer
from tests.servers import Session

DATABASE = "bench"

PRICE_TABLE = """
    create table bench.price (
        product_id integer not null,
        supplier_id integer not null,
        store_id integer not null,
        price numeric(10, 2) not null,
        currency text not null,
        availability boolean not null,
        observed_at timestamptz not null
    )"""
PRICE_KEY = """
    alter table bench.price add constraint price_pkey primary key (product_id, store_id)"""
PRICE_CHECK = """
    alter table bench.price add constraint price_price_check check (price >= 0)"""
EVENT_TABLE = """
    create table bench.event (
        id bigint constraint event_pkey primary key,
        kind text not null,
        title text not null,
        amount numeric(20, 4) not null,
        ratio double precision not null,
        active boolean,
        at timestamptz not null,
        buyer jsonb not null,
        tags jsonb not null
    )"""
# Not schema bench: a loader may look at its tables.
CONTRIB = "create schema bench_contrib; create extension pgstattuple schema bench_contrib"


@dataclass(frozen=True)
class BenchServer:
    """A running server, whose databases are made from templates of equal files."""

    dsn: str  # with password, of its default database

    def dsn_of(self, database: str) -> str:
        """The connection string of another database of this server."""
        return make_conninfo(self.dsn, dbname=database)

    def environment(self, database: str) -> dict[str, str]:
        """What libpq's programs and sqlkit alike find the database by."""
        parts = conninfo_to_dict(self.dsn)
        return {
            "PGHOST": str(parts["host"]),
            "PGPORT": str(parts["port"]),
            "PGUSER": str(parts["user"]),
            "PGPASSWORD": str(parts["password"]),
            "PGDATABASE": database,
        }

    def connect(self, database: str | None = None) -> psycopg.Connection:
        """A connection that commits every statement."""
        return psycopg.connect(self.dsn_of(database) if database else self.dsn, autocommit=True)

    def drop(self, database: str) -> None:
        """Drop a database where it exists, and whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database))
            )

    def create(self, database: str, template: str | None = None) -> None:
        """Create a database anew; from a template it gets the very same files."""
        self.drop(database)
        statement = sql.SQL("create database {}").format(sql.Identifier(database))
        if template is not None:
            statement += sql.SQL(" template {} strategy file_copy").format(sql.Identifier(template))
        with self.connect() as connection:
            connection.execute(statement)

    def settings(self) -> dict[str, str]:
        """The settings that matter here, to be printed with the results."""
        names = (
            "server_version", "shared_buffers", "work_mem", "maintenance_work_mem",
            "max_wal_size", "wal_level", "fsync", "synchronous_commit", "full_page_writes",
            "max_parallel_workers_per_gather", "autovacuum",
        )  # fmt: skip
        with self.connect() as connection:
            rows = connection.execute(
                "select name, current_setting(name) from unnest(%s::text[]) as s (name)",
                [list(names)],
            ).fetchall()
        return dict(rows)


@contextmanager
def system_server(major: int) -> Iterator[BenchServer]:
    """The machine's own PostgreSQL of a version, for the time of the block. Raises Missing."""
    session = Session.open()
    settings = {"autovacuum": "off", "shared_buffers": "512MB", "max_wal_size": "8GB"}
    try:
        with session.own(major, settings) as server:
            # A socket's client needs no password; programs are told one all the same.
            yield BenchServer(server.dsn(password="none"))
    finally:
        session.close()


@contextmanager
def running_server(home: Path, wal_level: str | None = None) -> Iterator[BenchServer]:
    """The benchmark's server, started for the time of the block and with its own settings.

    Only autovacuum is off, since it would hit one side or the other as it likes; and the WAL
    level is the caller's where one is named.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    embedded = EmbeddedServer(home)
    embedded.start()
    wanted = {"autovacuum": "off", "wal_level": wal_level}
    with psycopg.connect(embedded.dsn, autocommit=True) as connection:
        for name, value in wanted.items():
            if value is None:
                connection.execute(sql.SQL("alter system reset {}").format(sql.Identifier(name)))
            else:
                connection.execute(
                    sql.SQL("alter system set {} = {}").format(sql.Identifier(name), value)
                )
    embedded.stop()
    embedded.start()
    try:
        yield BenchServer(embedded.dsn)
    finally:
        embedded.stop()
