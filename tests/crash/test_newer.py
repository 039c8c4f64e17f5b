"""Rows that are fetched by a watermark are there once, wherever a load is killed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database
from tests.crash.conftest import StartLoad, value, wait_until

FIRST, ALL = 12_000, 18_000


@pytest.mark.parametrize("policy", ["append", "update"])
def test_a_load_that_is_killed_moves_no_watermark(
    policy: str,
    database: Database,
    connection: psycopg.Connection,
    tmp_path: Path,
    start_load: StartLoad,
) -> None:
    path = tmp_path / "there.db"
    connection.execute("create table public.target (id integer, name text)")
    if policy == "update":
        connection.execute("alter table public.target add primary key (id)")
    connection.execute(
        "create function hold() returns trigger language plpgsql as $$ begin"
        " perform pg_advisory_xact_lock_shared(7); return new; end $$"
    )
    load = (
        database.dsn,
        *(f"sqlite://{path}#item", "--since", "id", "--policy", policy, "--workers", "1"),
        *("--batch-bytes", "20000"),
    )
    with sqlite3.connect(path) as there:
        there.execute("create table item (id integer primary key, name text)")
    there.close()
    stands = None
    for first, last, moments in ((1, FIRST, (FIRST // 2, FIRST)), (FIRST + 1, ALL, (ALL,))):
        with sqlite3.connect(path) as there:
            rows = ((number, f"name {number}") for number in range(first, last + 1))
            there.executemany("insert into item values (?, ?)", rows)
        there.close()
        for moment in moments:
            connection.execute(
                "create trigger hold before insert on public.target for each row"
                f" when (new.id = {moment}) execute function hold()".encode()
            )
            connection.execute("select pg_advisory_lock(7)")
            running = start_load(*load)
            wait_until(
                lambda: value(
                    connection,
                    "select exists (select from pg_locks where locktype = 'advisory'"
                    " and objid = 7 and not granted)",
                )
            )
            running.kill()
            connection.execute("select pg_advisory_unlock(7)")
            wait_until(
                lambda: (
                    not value(
                        connection,
                        "select exists (select from pg_stat_activity where"
                        " datname = current_database() and application_name = 'sqlkit')",
                    )
                )
            )
            connection.execute("drop trigger hold on public.target")
            found = connection.execute("select value from sqlkit.watermark").fetchall()
            # The server may have got to the end of a transaction that nobody waits for.
            if found != ([] if stands is None else [(stands,)]):
                assert (moment, found) == (last, [(str(last),)])
        start_load(*load).result()
        stands = str(last)
        found = connection.execute("select value from sqlkit.watermark").fetchall()
        assert found == [(stands,)]
        counted = "select count(*), count(distinct id), max(id) from public.target"
        assert connection.execute(counted.encode()).fetchone() == (last, last, last)
    assert start_load(*load).result()["rows"]["inserted"] == 0
