"""Every way from one release to a later one ends where a fresh installation ends.

The later releases are those of the fixture `checkout`: real ones, built by the release commands,
that add a column, a table and a function, change a function's parameters and take a column out
of a view.
"""

from __future__ import annotations

import subprocess
from itertools import pairwise

import psycopg
import pytest

from sqlkit import extension, migrate
from sqlkit._release import OLDEST_SCHEMA, VERSION, VERSIONS
from sqlkit.build import version_key
from sqlkit.compatible import IncompatibleError, check_compatible
from sqlkit.errors import SqlkitError
from sqlkit.fingerprint import Fingerprint, differences
from sqlkit.migrate import Channel
from tests.conftest import Database, fresh_database
from tests.release.conftest import Checkout, control_file, look, psql, run_psql
from tests.servers import Server

FILL = """
create table public.target (id bigint primary key, name text);
insert into sqlkit.run (kind, target, policy, key_columns, options, client)
select 'load', 'public.target', 'update', '{id}', '{"n": 1}', 'host:' || n
from generate_series(1, 50) as n;
insert into sqlkit.source (target, name, format, size_bytes, fingerprint)
select 'public.target', 'file ' || n, 'csv', n, md5(n::text)
from generate_series(1, 50) as n;
insert into sqlkit.batch (run_id, source_id, start_offset, end_offset, rows_read, rows_inserted)
select r.run_id, s.source_id, 0, 10, 7, 7
from sqlkit.run as r join sqlkit.source as s on s.source_id = r.run_id;
insert into sqlkit.reject (
    run_id, batch_id, source_id, first_line, last_line, raw, column_name, sqlstate, message
)
select b.run_id, b.batch_id, b.source_id, 3, 4, 'x;"' || b.run_id, 'id', '22P02', 'no number'
from sqlkit.batch as b;
select sqlkit.create_stage('public.target', p_name => 'Left "over"', p_run_id => min(r.run_id))
from sqlkit.run as r;
"""
TABLES = ("run", "source", "batch", "reject", "stage", "deployment")
KEPT = TABLES[:-1]


def rows(database: Database, tables: tuple[str, ...] = TABLES) -> dict[str, set[str]]:
    """The ledger's rows, each as JSON without what the upgrade added."""
    with database.connect() as connection:
        return {
            table: {
                row[0]
                for row in connection.execute(
                    f"select (to_jsonb(t) - 'test_note')::text from sqlkit.{table} as t".encode()
                )
            }
            for table in tables
        }


@pytest.fixture(scope="session")
def latest(server: Server, checkout: Checkout) -> Fingerprint:
    """What the checkout's newest release looks like when it is installed from nothing."""
    migrate.make_roles(server.dsn())
    with fresh_database(server) as database:
        checkout.up(database, way="script")
        return look(database)


@pytest.mark.every_version
@pytest.mark.usefixtures("checkout_extension_files")
@pytest.mark.parametrize("way", migrate.CHANNELS)
def test_upgraded_equals_fresh_and_keeps_every_row(
    way: Channel, bare: Database, checkout: Checkout, latest: Fingerprint
) -> None:
    checkout.up(bare, way=way, to=checkout.old)
    psql(bare, "-c", FILL)
    before = rows(bare)
    assert len(before["batch"]) == 50
    assert checkout.up(bare, way=way) == checkout.new
    assert differences(latest, look(bare)) == []
    after = rows(bare)
    for table in KEPT:
        assert after[table] == before[table]
    assert after["deployment"] > before["deployment"]
    last = migrate.history(bare.dsn)[-1]
    assert (last.version, last.previous_version, last.channel) == (
        checkout.new,
        checkout.middle,
        way,
    )


@pytest.mark.usefixtures("checkout_extension_files")
@pytest.mark.parametrize("way", migrate.CHANNELS)
def test_upgraded_release_by_release_equals_fresh(
    way: Channel, bare: Database, checkout: Checkout, latest: Fingerprint
) -> None:
    for version in (checkout.old, checkout.middle, checkout.new):
        checkout.up(bare, way=way, to=version)
        assert migrate.status(bare.dsn).version == version
    assert differences(latest, look(bare)) == []


@pytest.mark.every_version
@pytest.mark.usefixtures("extension_files")
@pytest.mark.parametrize("way", migrate.CHANNELS)
@pytest.mark.parametrize("released", VERSIONS[:-1])
def test_what_was_released_upgrades_to_this_and_keeps_every_row(
    released: str, way: Channel, bare: Database, reference: Fingerprint
) -> None:
    migrate.up(bare.dsn, way=way, to=released)
    psql(bare, "-c", FILL)
    with bare.connect() as connection:
        before = {table: content(connection, table) for table in KEPT}
    assert migrate.up(bare.dsn, way=way) == VERSION
    assert differences(reference, look(bare)) == []
    with bare.connect() as connection:
        for table, (columns, found) in before.items():
            assert found
            assert content(connection, table, columns) == (columns, found)


def content(
    connection: psycopg.Connection, table: str, columns: str | None = None
) -> tuple[str, list[tuple[object, ...]]]:
    """The columns of a table of the ledger, unless they are given, and its rows."""
    if columns is None:
        row = connection.execute(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
            " where attrelid = %s::regclass and attnum > 0 and not attisdropped",
            [f"sqlkit.{table}"],
        ).fetchone()
        assert row is not None
        columns = str(row[0])
    query = f"select {columns} from sqlkit.{table} order by 1"
    return columns, connection.execute(query.encode()).fetchall()


@pytest.mark.oldest_and_newest
@pytest.mark.usefixtures("checkout_extension_files")
def test_every_path_that_postgres_sees_ends_alike(
    server: Server, checkout: Checkout, latest: Fingerprint, roles: None
) -> None:
    with psycopg.connect(server.dsn()) as connection:
        paths = connection.execute(
            "select source, target from pg_extension_update_paths('sqlkit') where path is not null"
        ).fetchall()
    assert (checkout.old, checkout.new) in paths
    assert (checkout.middle, checkout.new) in paths
    assert all(version_key(source) < version_key(target) for source, target in paths)
    for source, target in paths:
        if target != checkout.new:
            continue
        with fresh_database(server) as database:
            psql(
                database,
                *("-c", f"create extension sqlkit version '{source}'"),
                *("-c", f"alter extension sqlkit update to '{target}'"),
            )
            assert differences(latest, look(database)) == []


@pytest.mark.every_version
def test_psql_upgrades_what_psql_installed(
    bare: Database, checkout: Checkout, latest: Fingerprint
) -> None:
    script = checkout.dist / f"migrate--base--{checkout.old}.sql"
    psql(bare, "-1", "-v", "ON_ERROR_STOP=1", "-f", script)
    psql(bare, "-c", FILL)
    psql(bare, "-v", "lock_timeout=2s", "-f", checkout.dist / "sqlkit.sql")
    assert differences(latest, look(bare)) == []
    assert len(rows(bare)["batch"]) == 50


def test_the_script_for_review_upgrades_too(
    bare: Database, checkout: Checkout, latest: Fingerprint
) -> None:
    checkout.up(bare, to=checkout.old)
    done = checkout.run("sqlkit.cli.app", "migrate", "sql", "--dsn", bare.dsn)
    assert f"upgrade from {checkout.old}" in done.stdout
    psql(bare, "-1", "-v", "ON_ERROR_STOP=1", script=done.stdout)
    assert differences(latest, look(bare)) == []
    assert checkout.up(bare) == checkout.new
    assert migrate.status(bare.dsn).channel == "alembic"


# Dump and restore -------------------------------------------------------------------------------


def copy_by_dump(source: Database, target: Database) -> None:
    """pg_dump of one database into another, as a DBA moves it."""
    program = source.server.install.program
    dumped = subprocess.run(
        [str(program("pg_dump")), f"--dbname={source.dsn}"], capture_output=True, check=False
    )
    assert dumped.returncode == 0, dumped.stderr.decode()
    restored = subprocess.run(
        [
            str(program("psql")),
            *("--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1"),
            f"--dbname={target.dsn}",
        ],
        input=dumped.stdout,
        capture_output=True,
        check=False,
    )
    assert restored.returncode == 0, restored.stderr.decode()


@pytest.mark.every_version
@pytest.mark.usefixtures("extension_files")
@pytest.mark.parametrize("way", migrate.CHANNELS)
def test_dumped_and_restored_is_the_same(way: Channel, server: Server, bare: Database) -> None:
    migrate.up(bare.dsn, way=way)
    psql(bare, "-c", FILL)
    with fresh_database(server) as copy:
        # CREATE EXTENSION in a dump takes the default version, which other tests move.
        with control_file(server):
            extension.install(server.extension_directory)
            copy_by_dump(bare, copy)
        assert differences(look(bare), look(copy)) == []
        before, after = rows(bare), rows(copy)
        assert after["deployment"] >= before["deployment"]
        for table in ("run", "source", "batch"):
            assert after[table] == before[table]
        assert migrate.status(copy.dsn).channel == way
        assert [one for one in migrate.verify(copy.dsn) if one.fact == "extension"] == []
        with copy.connect() as connection:
            # Numbers go on after those that are there.
            connection.execute("insert into sqlkit.run (kind, target) values ('load', 'x')")
        assert migrate.up(copy.dsn, way=way) == VERSION


@pytest.mark.usefixtures("checkout_extension_files")
def test_an_upgraded_extension_is_dumped_with_its_new_tables(
    server: Server, bare: Database, checkout: Checkout
) -> None:
    checkout.up(bare, way="extension", to=checkout.old)
    checkout.up(bare, way="extension")
    psql(bare, "-c", FILL, "-c", "insert into sqlkit.test_table (run_id) values (1), (2)")
    with bare.connect() as connection:
        kept = connection.execute(
            """
            select c.relname::text from pg_extension, unnest(extconfig) as k
            join pg_class as c on c.oid = k where extname = 'sqlkit'
            """
        ).fetchall()
    assert {"run", "batch", "test_table", "test_table_test_id_seq"} <= {row[0] for row in kept}


# Locks ------------------------------------------------------------------------------------------


def locks_of(database: Database, script: str) -> list[tuple[str, str, str]]:
    """Schema, relation and mode of what a script holds when it is about to be committed."""
    with psycopg.connect(database.dsn) as connection:
        connection.execute(script.encode())
        held = connection.execute(
            """
            select n.nspname::text, c.relname::text, l.mode
            from pg_locks as l
            join pg_class as c on c.oid = l.relation
            join pg_namespace as n on n.oid = c.relnamespace
            where l.pid = pg_backend_pid() and l.locktype = 'relation'
            """
        ).fetchall()
        connection.rollback()
    return held


@pytest.mark.every_version
def test_an_upgrade_locks_nothing_of_the_users_and_little_of_ours(
    bare: Database, checkout: Checkout
) -> None:
    checkout.up(bare, way="script", to=checkout.middle)
    psql(bare, "-c", FILL)
    script = (checkout.dist / f"migrate--{checkout.middle}--{checkout.new}.sql").read_text()
    held = locks_of(bare, script)
    schemas = {schema for schema, _, _ in held}
    assert schemas <= {"sqlkit", "pg_catalog", "pg_toast"}
    # Three for each table that is new, and one for each that a view of the release reads.
    assert len([one for one in held if one[0] == "sqlkit"]) < 100
    # While it runs, the ledger can be read and written wherever the change leaves it alone.
    exclusive = {name for schema, name, mode in held if mode == "AccessExclusiveLock"}
    assert "batch" not in exclusive
    assert "source" not in exclusive


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize(("before", "after"), list(pairwise(VERSIONS)))
def test_how_many_locks_a_release_takes_does_not_depend_on_what_is_there(
    before: str, after: str, bare: Database
) -> None:
    migrate.up(bare.dsn, way="script", to=before)
    script = migrate.read_script(f"migrate--{before}--{after}.sql")
    empty = locks_of(bare, script)
    psql(bare, "-c", FILL)
    psql(bare, "-c", "select sqlkit.create_stage('public.target') from generate_series(1, 100)")
    full = locks_of(bare, script)
    assert {schema for schema, _, _ in full} <= {"sqlkit", "pg_catalog", "pg_toast"}
    assert len([one for one in full if one[0] == "sqlkit"]) == len(
        [one for one in empty if one[0] == "sqlkit"]
    )
    # A server with the settings that it comes with has room for 6,400.
    assert len(full) < 500


def test_an_upgrade_waits_for_a_reader_of_the_ledger_no_longer_than_told(
    bare: Database, checkout: Checkout
) -> None:
    checkout.up(bare, to=checkout.old)
    with bare.connect() as reader, reader.transaction():
        reader.execute("select count(*) from sqlkit.run")
        done = checkout.run(
            *("sqlkit.cli.app", "migrate", "up", "--dsn", bare.dsn),
            *("--lock-timeout", "50ms", "--patience", "0.3"),
        )
    assert done.returncode == 1
    assert "another session has held a lock" in done.stderr
    assert migrate.status(bare.dsn).version == checkout.old
    assert checkout.up(bare) == checkout.new


# Order ------------------------------------------------------------------------------------------


def test_a_script_that_starts_elsewhere_is_refused(bare: Database, checkout: Checkout) -> None:
    step = checkout.dist / f"migrate--{checkout.middle}--{checkout.new}.sql"
    arguments = ("-1", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", step)
    nothing = run_psql(bare, *arguments)
    assert "ERROR:  SK902" in nothing.stderr
    assert "sqlkit is not deployed here" in nothing.stderr
    checkout.up(bare, way="script", to=checkout.old)
    too_old = run_psql(bare, *arguments)
    assert "ERROR:  SK902" in too_old.stderr
    assert f"upgrades sqlkit {checkout.middle}, and here is {checkout.old}" in too_old.stderr
    assert migrate.status(bare.dsn).version == checkout.old


def test_there_is_no_way_back(bare: Database, checkout: Checkout) -> None:
    checkout.up(bare)
    done = checkout.run(
        *("sqlkit.cli.app", "migrate", "up", "--dsn", bare.dsn, "--to", checkout.old)
    )
    assert done.returncode == 2
    assert "forward only" in done.stderr
    down = checkout.run("alembic", "-x", f"dsn={bare.dsn}", "downgrade", "-1")
    assert down.returncode != 0
    assert "forward only" in down.stderr
    assert migrate.status(bare.dsn).version == checkout.new


@pytest.mark.parametrize("way", ["alembic", "script"])
def test_upgrades_run_as_the_owner(way: Channel, bare: Database, checkout: Checkout) -> None:
    owner, stranger = f"owner_{bare.name}", f"stranger_{bare.name}"
    psql(
        bare,
        *("-c", f"create role {owner}"),
        *("-c", f"grant create on database {bare.name} to {owner}"),
        *("-c", f"create role {stranger} login"),
        *("-c", f"grant create on database {bare.name} to {stranger}"),
    )
    try:
        checkout.up(bare, way=way, to=checkout.old, role=owner)
        psql(bare, "-c", f"grant usage on schema sqlkit to {stranger}")
        psql(bare, "-c", f"grant select on sqlkit.deployment to {stranger}")
        if way == "alembic":
            psql(bare, "-c", f"grant all on sqlkit.alembic_version to {stranger}")
        psql(bare, "-c", f"grant execute on all functions in schema sqlkit to {stranger}")
        dsn = bare.server.dsn(bare.name, user=stranger)
        done = checkout.run("sqlkit.cli.app", "migrate", "up", "--dsn", dsn, "--way", way)
        assert f"belongs to {owner}" in done.stderr
        assert f"set role {owner}" in done.stderr
        psql(bare, "-c", f"revoke all on all tables in schema sqlkit from {stranger}")
        psql(bare, "-c", f"revoke all on all functions in schema sqlkit from {stranger}")
        psql(bare, "-c", f"revoke all on schema sqlkit from {stranger}")
        # A superuser is a member of every role, and leaves everything the owner's.
        checkout.up(bare, way=way)
        owners = {facts.get("owner", "owner") for facts in look(bare).values()}
        assert owners == {"owner"}
        assert migrate.status(bare.dsn).owner == owner
    finally:
        psql(bare, "-c", f"drop owned by {owner}, {stranger} cascade")
        psql(bare, "-c", f"drop role {owner}, {stranger}")


# Clients ----------------------------------------------------------------------------------------


def test_a_client_without_a_schema_is_told_how_to_deploy() -> None:
    with pytest.raises(IncompatibleError) as caught:
        check_compatible(None)
    assert caught.value.code == "SK905"
    assert "sqlkit migrate up" in (caught.value.hint or "")


def test_a_client_works_with_its_own_schema_and_later_ones_of_the_same_major() -> None:
    check_compatible(VERSION)
    check_compatible(OLDEST_SCHEMA)
    major = VERSION.split(".")[0]
    check_compatible(f"{major}.999.0")
    check_compatible(f"{major}.999.0", oldest_client=VERSION)


def test_a_schema_too_old_names_the_upgrade_of_the_schema() -> None:
    with pytest.raises(IncompatibleError, match=r"schema sqlkit 0\.0\.1 .* too old") as caught:
        check_compatible("0.0.1")
    assert "sqlkit migrate up" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("version", "oldest_client"), [("999.0.0", None), (f"{VERSION[0]}.999.0", "0.998.0")]
)
def test_a_schema_too_new_names_the_upgrade_of_the_package(
    version: str, oldest_client: str | None
) -> None:
    with pytest.raises(IncompatibleError, match="too new") as caught:
        check_compatible(version, oldest_client)
    assert "Upgrade the package to sqlkit" in (caught.value.hint or "")


def test_an_older_package_leaves_a_newer_schema_alone(bare: Database, checkout: Checkout) -> None:
    checkout.up(bare)
    status = migrate.status(bare.dsn)
    assert (status.version, status.pending, status.compatible) == (checkout.new, (), True)
    for call in (migrate.up, migrate.verify, migrate.uninstall):
        with pytest.raises(SqlkitError, match=f"does not know sqlkit {checkout.new}") as caught:
            call(bare.dsn)
        assert "upgrade the package" in (caught.value.hint or "").lower()
    assert migrate.status(bare.dsn).version == checkout.new
