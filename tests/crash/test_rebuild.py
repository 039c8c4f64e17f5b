"""Large loads build secondary indexes after the rows; whatever happens, the indexes are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit import UsageError, migrate
from tests.conftest import OpenServer, environment
from tests.crash.conftest import value, wait_until

TABLE = "create table public.target (id integer primary key, name text, price integer)"
INDEXES = "create index target_name on target (name); create index target_price on target (price)"
PLACES = (
    "select array_agg(indexrelid::bigint order by indexrelid) from pg_index "
    "where indrelid = 'public.target'::regclass and not indisunique and indisvalid"
)


def prepare(connection: psycopg.Connection, rows: int, admin: psycopg.Connection) -> None:
    connection.execute(TABLE.encode())
    connection.execute(
        "insert into target select n, 'n' || n, n % 100 "
        f"from generate_series(1, {rows}) as n".encode()
    )
    connection.execute(INDEXES.encode())
    connection.execute("analyze target")
    admin.execute(
        "insert into sqlkit.refresh_threshold (name, value) values ('rebuild_rows', 1000)"
    )


def write(path: Path, first: int, last: int) -> Path:
    rows = (f"{number},n{number},{number % 99}\n" for number in range(first, last + 1))
    path.write_text("id,name,price\n" + "".join(rows))
    return path


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("policy", ["update", "append"])
def test_indexes_are_built_anew_where_it_pays(
    policy: str,
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    dsn: str,
    tmp_path: Path,
) -> None:
    prepare(connection, 400_000, superuser)
    small = write(tmp_path / "small.csv", 400_001, 402_000)
    large = write(tmp_path / "large.csv", 402_001, 1_000_000)
    before = value(connection, PLACES)
    with api.connect(dsn) as client:
        client.load(small, into="public.target", policy=policy)
        assert value(connection, PLACES) == before
        # Somebody else is at the table: he would have to wait.
        with psycopg.connect(dsn) as other:
            other.execute("select from public.target limit 1")
            write(tmp_path / "other.csv", 1_000_001, 1_600_000)
            client.load(tmp_path / "other.csv", into="public.target", policy=policy)
        assert value(connection, PLACES) == before
        connection.execute("delete from target where id > 1000000")
        connection.execute("vacuum full analyze target")
        client.load(large, into="public.target", policy=policy, indexes="keep")
        assert value(connection, PLACES) == before
        connection.execute("delete from target where id > 402000")
        connection.execute("vacuum full analyze target")
        client.load(large, into="public.target", policy=policy, again=True)
        after = value(connection, PLACES)
        assert len(after) == 2
        assert not set(after) & set(before)
        assert value(connection, "select count(*) from target") == 1_000_000
        with pytest.raises(UsageError):
            client.load(small, into="public.target", indexes="burn")


OPTIONS = "select reloptions::text from pg_class where oid = 'public.target'::regclass"


def test_a_server_that_dies_in_the_middle_has_its_indexes_and_options(
    own_server: OpenServer, tmp_path: Path
) -> None:
    server = own_server()
    server.create_database("crash")
    dsn = server.dsn("crash")
    migrate.up(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        prepare(connection, 2_000, connection)
        connection.execute(
            "create function slowly(integer) returns integer language plpgsql immutable as "
            "$$ begin perform pg_sleep(case when $1 = 98 then 0.2 else 0 end); return $1; end $$"
        )
        connection.execute("drop index target_price")
        connection.execute("set max_parallel_maintenance_workers = 0")
        connection.execute("create index target_price on target (public.slowly(price))")
        before = value(connection, PLACES)
    write(tmp_path / "a.csv", 2_001, 6_000)
    load = [sys.executable, "-m", "sqlkit.cli.app", "load", "a.csv", "--into", "public.target"]
    load += ["--dsn", dsn, "--retry-for", "0", "--tune"]
    process = subprocess.Popen(
        load, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        wait_until(
            lambda: value(connection, "select count(*) from pg_stat_progress_create_index") == 1
        )
    process.kill()
    process.communicate()
    assert server.cluster is not None
    server.cluster.stop("immediate")
    server.cluster.start(server.port)
    with psycopg.connect(dsn, autocommit=True) as connection:
        # What was set for the run outlives the server, with what is to be put back.
        assert value(connection, OPTIONS) == "{autovacuum_enabled=off}"
        assert value(connection, "select count(*) from sqlkit.tuned_table") == 1
        assert value(connection, PLACES) == before
        assert value(connection, "select count(*) from target") == 2_000
        connection.execute("alter function slowly(integer) cost 1")
        connection.execute(
            "create or replace function slowly(integer) returns integer language sql immutable "
            "as 'select $1'"
        )
        done = subprocess.run(
            load, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert value(connection, "select count(*) from target") == 6_000
        assert len(value(connection, PLACES)) == 2
        assert value(connection, "select count(*) from sqlkit.run where state = 'running'") == 0
        assert value(connection, OPTIONS) is None
        assert value(connection, "select count(*) from sqlkit.tuned_table") == 0
