"""Three ways lead to the same schema; a database keeps to one of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg import sql

from sqlkit import migrate
from sqlkit._release import LOCK_KEY, VERSION, VERSIONS
from sqlkit.build import render_dist
from sqlkit.errors import DatabaseError, SqlkitError, UsageError
from sqlkit.fingerprint import Fingerprint, differences
from sqlkit.migrate import Channel, DeployError
from tests.conftest import Database, RunSqlkit, fresh_database
from tests.release.conftest import ROOT, copy_sources, look, psql, run_psql
from tests.servers import Server


def leftovers(database: Database) -> list[str]:
    """Everything of sqlkit that is in a database."""
    with database.connect() as connection:
        return [
            row[0]
            for row in connection.execute(
                """
                select 'schema ' || nspname from pg_namespace where nspname like 'sqlkit%'
                union all
                select 'extension ' || extname from pg_extension where extname = 'sqlkit'
                order by 1
                """
            )
        ]


# Equal ------------------------------------------------------------------------------------------


@pytest.mark.every_version
@pytest.mark.usefixtures("extension_files")
def test_every_way_gives_the_same_schema(server: Server, roles: None) -> None:
    found = {}
    for way in migrate.CHANNELS:
        with fresh_database(server) as database:
            assert migrate.up(database.dsn, way=way) == VERSION
            found[way] = look(database)
            assert [row.channel for row in migrate.history(database.dsn)][-1] == way
            assert migrate.status(database.dsn).pending == ()
    assert len(found["script"]) > 50
    for way in migrate.CHANNELS:
        assert differences(found["script"], found[way]) == []


@pytest.mark.every_version
def test_psql_alone_gives_the_same_schema(server: Server, roles: None) -> None:
    with fresh_database(server) as one, fresh_database(server) as other:
        migrate.up(one.dsn, way="script")
        psql(other, "-f", migrate.DIST / "sqlkit.sql")
        assert differences(look(one), look(other)) == []
        assert migrate.history(other.dsn)[0].channel == "script"
        # Once more: nothing to do, and it says so.
        assert "deployed already" in psql(other, "-f", migrate.DIST / "sqlkit.sql")
        assert len(migrate.history(other.dsn)) == 1


def test_the_body_runs_by_psql_in_one_transaction(bare: Database) -> None:
    script = migrate.DIST / f"migrate--base--{VERSION}.sql"
    psql(bare, "-1", "-v", "ON_ERROR_STOP=1", "-f", script)
    assert migrate.status(bare.dsn).version == VERSION


def test_the_body_refuses_to_run_without_a_transaction(bare: Database) -> None:
    script = migrate.DIST / f"migrate--base--{VERSION}.sql"
    done = run_psql(bare, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", script)
    assert done.returncode != 0
    assert "ERROR:  SK904" in done.stderr
    assert "must run in one transaction" in done.stderr
    assert "psql -1" in done.stderr
    assert leftovers(bare) == []


@pytest.mark.parametrize("way", migrate.CHANNELS)
@pytest.mark.usefixtures("extension_files")
def test_the_script_for_review_does_what_up_does(way: Channel, server: Server, roles: None) -> None:
    with fresh_database(server) as one, fresh_database(server) as other:
        migrate.up(one.dsn, way=way)
        psql(other, "-1", "-v", "ON_ERROR_STOP=1", script=migrate.sql(way=way))
        assert differences(look(one), look(other)) == []
        assert [row.channel for row in migrate.history(other.dsn)][-1] == way
        # And sqlkit goes on from there.
        assert migrate.up(other.dsn, way=way) == VERSION


def test_the_script_for_review_is_one_transaction(bare: Database, tmp_path: Path) -> None:
    file = tmp_path / "review.sql"
    file.write_text(migrate.sql().replace("COMMIT;", "select 1 / 0;\nCOMMIT;"))
    done = run_psql(bare, "-f", file)
    assert "division by zero" in done.stderr
    assert leftovers(bare) == []


def test_there_is_nothing_to_review_in_a_current_database(database: Database) -> None:
    assert migrate.sql(migrate.status(database.dsn).version).startswith("-- sqlkit")


# Alembic ----------------------------------------------------------------------------------------


def alembic(directory: Path, *arguments: str, **environment: str) -> str:
    """The plain alembic command; its output. Raises if it fails."""
    done = run_alembic(directory, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_alembic(
    directory: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """As `alembic`, whatever comes of it."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.oldest_and_newest
def test_the_plain_alembic_command_deploys(server: Server, roles: None) -> None:
    with fresh_database(server) as one, fresh_database(server) as other:
        migrate.up(one.dsn)
        assert alembic(ROOT, "-x", f"dsn={other.dsn}", "current") == ""
        assert leftovers(other) == []  # looking changes nothing
        alembic(ROOT, "upgrade", "head", SQLKIT_DSN=other.dsn)
        assert f"{VERSION} (head)" in alembic(ROOT, "-x", f"dsn={other.dsn}", "current")
        assert differences(look(one), look(other)) == []
        assert migrate.up(other.dsn) == VERSION


def test_the_plain_alembic_command_prints_the_script(bare: Database) -> None:
    psql(bare, "-v", "ON_ERROR_STOP=1", script=alembic(ROOT, "upgrade", "head", "--sql"))
    assert migrate.status(bare.dsn).channel == "alembic"
    assert migrate.up(bare.dsn) == VERSION


OWN_ENV = """
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
ASYNC_ENV = """
import asyncio
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    url = context.config.get_main_option("sqlalchemy.url")
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()

asyncio.run(main())
"""
DRIVERS = {
    "psycopg": OWN_ENV,
    "psycopg_async": ASYNC_ENV,
    "psycopg2": OWN_ENV,
    "asyncpg": ASYNC_ENV,
}
OWN_REVISION = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "aaaa", None, None, {depends_on!r}

def upgrade() -> None:
    op.execute("create table invoice (invoice_id int primary key)")
    op.execute("insert into invoice values (1)")
"""


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("depends_on", [None, VERSION])
def test_revisions_can_be_included_in_an_environment_of_ones_own(
    bare: Database, tmp_path: Path, depends_on: str | None, driver: str
) -> None:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(DRIVERS[driver])
    (tmp_path / "migrations" / "script.py.mako").touch()
    (versions / "aaaa.py").write_text(OWN_REVISION.format(depends_on=depends_on))
    url = f"postgresql+{driver}://postgres@{bare.server.host}:{bare.server.port}/{bare.name}"
    (tmp_path / "alembic.ini").write_text(
        f"[alembic]\nscript_location = migrations\nsqlalchemy.url = {url}\n"
        f"path_separator = newline\n"
        f"version_locations = %(here)s/migrations/versions\n    {migrate.location()}/versions\n"
    )
    alembic(tmp_path, "upgrade", "heads")
    assert f"{VERSION} (sqlkit)" in alembic(tmp_path, "heads")
    status = migrate.status(bare.dsn)
    assert (status.version, status.channel) == (VERSION, "alembic")
    with bare.connect() as connection:
        # In public, where the user's search_path leads: ours was put back in between.
        assert connection.execute("select count(*) from public.invoice").fetchone() == (1,)
        versions_found = {row[0] for row in connection.execute("select * from alembic_version")}
        # Alembic leaves out a revision that another head depends on.
        assert versions_found == ({"aaaa", VERSION} if depends_on is None else {"aaaa"})
        assert not connection.execute("select to_regclass('sqlkit.alembic_version')").fetchone()[0]  # type: ignore[index]
    # What is deployed that way is theirs to upgrade, and sqlkit says so.
    with pytest.raises(DeployError, match="other than sqlkit's own") as caught:
        migrate.up(bare.dsn)
    assert "alembic upgrade sqlkit@head" in (caught.value.hint or "")


def test_a_revision_refuses_a_script_that_was_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bare: Database
) -> None:
    for source in migrate.DIST.iterdir():
        if source.is_file():
            (tmp_path / source.name).write_bytes(source.read_bytes() + b"\n-- changed\n")
    monkeypatch.setattr(migrate, "DIST", tmp_path)
    with pytest.raises(SqlkitError, match="not the script of the release") as caught:
        migrate.up(bare.dsn)
    assert caught.value.code == "SK906"
    assert leftovers(bare) == []


def test_a_grant_on_what_is_not_there_undoes_the_deployment(bare: Database, tmp_path: Path) -> None:
    """A sequence belongs to its column, so that the build cannot know whether it exists."""
    copy_sources(tmp_path)
    grants = tmp_path / "sql" / "grants.toml"
    grants.write_text(grants.read_text().replace("stage_stage_id_seq", "no_such_seq"))
    script = render_dist(tmp_path)[tmp_path / f"sqlkit/dist/migrate--base--{VERSION}.sql"]
    done = run_psql(bare, "-1", "-v", "VERBOSITY=verbose", script=script)
    assert "ERROR:  SK907" in done.stderr
    assert "sequence no_such_seq is to be granted to sqlkit_loader" in done.stderr
    assert leftovers(bare) == []


def test_a_setting_that_claims_another_way_is_refused(bare: Database) -> None:
    script = (migrate.DIST / f"migrate--base--{VERSION}.sql").read_text()
    for claim in ("extension", "pigeon"):
        claimed = f"set local sqlkit.channel = '{claim}';\n{script}"
        done = run_psql(bare, "-1", "-v", "VERBOSITY=verbose", script=claimed)
        assert "ERROR:  SK901" in done.stderr
        assert f"sqlkit.channel = '{claim}' does not fit" in done.stderr
    assert leftovers(bare) == []


# One way a database -----------------------------------------------------------------------------


@pytest.mark.parametrize("first", migrate.CHANNELS)
@pytest.mark.parametrize("second", migrate.CHANNELS)
@pytest.mark.usefixtures("extension_files")
def test_a_second_way_is_refused_and_the_first_named(
    first: Channel, second: Channel, bare: Database
) -> None:
    migrate.up(bare.dsn, way=first)
    if first == second:
        assert migrate.up(bare.dsn, way=second) == VERSION
        return
    with pytest.raises(DeployError, match=f"by {first}") as caught:
        migrate.up(bare.dsn, way=second)
    assert caught.value.code == "SK901"
    assert caught.value.hint


@pytest.mark.parametrize("first", migrate.CHANNELS)
@pytest.mark.usefixtures("extension_files")
def test_the_scripts_themselves_refuse_a_second_way(first: Channel, bare: Database) -> None:
    migrate.up(bare.dsn, way=first)
    before = migrate.history(bare.dsn)
    expected = f"sqlkit {VERSION} is deployed here already, by {first}"
    done = run_psql(bare, "-1", "-v", "ON_ERROR_STOP=1", script=migrate.sql(way="alembic"))
    if first == "alembic":
        assert "alembic_version" in done.stderr  # Alembic's own table is there
    else:
        assert expected in done.stderr
    if first != "script":
        done = run_psql(bare, "-f", migrate.DIST / "sqlkit.sql")
        assert done.returncode != 0
        assert expected in done.stderr
    if first != "extension":
        done = run_psql(bare, "-c", f"create extension sqlkit version '{VERSION}'")
        assert expected in done.stderr
    assert migrate.history(bare.dsn) == before


# Somebody else's schema -------------------------------------------------------------------------


@pytest.mark.parametrize("way", migrate.CHANNELS)
@pytest.mark.usefixtures("extension_files")
def test_a_schema_that_holds_other_objects_is_left_alone(way: Channel, bare: Database) -> None:
    psql(bare, "-c", "create schema sqlkit", "-c", "create table sqlkit.theirs (a int)")
    with pytest.raises(DeployError) as caught:
        migrate.up(bare.dsn, way=way)
    assert caught.value.code == "SK903"
    assert "sqlkit" in caught.value.message
    assert leftovers(bare) == ["schema sqlkit"]
    with bare.connect() as connection:
        assert connection.execute("select to_regclass('sqlkit.theirs')::text").fetchone() == (
            "sqlkit.theirs",
        )


@pytest.mark.parametrize("way", ["alembic", "script"])
def test_a_role_that_may_not_create_schemas_uses_those_made_for_it(
    way: Channel, bare: Database, reference: Fingerprint
) -> None:
    role = f"deployer_{bare.name}"
    psql(
        bare,
        *("-c", f"create role {role} login"),
        *("-c", f"create schema sqlkit authorization {role}"),
        *("-c", f"create schema sqlkit_stage authorization {role}"),
    )
    try:
        assert migrate.up(bare.server.dsn(bare.name, user=role), way=way) == VERSION
        assert migrate.status(bare.dsn).owner == role
        assert differences(reference, look(bare)) == []
    finally:
        psql(bare, "-c", f"drop owned by {role} cascade", "-c", f"drop role {role}")


@pytest.mark.every_version
@pytest.mark.parametrize("way", ["alembic", "script"])
def test_whoever_may_create_in_the_database_needs_no_more(
    way: Channel, bare: Database, reference: Fingerprint
) -> None:
    """As on a managed server: no superuser, no member of anything, no file on the server."""
    role = f"deployer_{bare.name}"
    psql(
        bare,
        *("-c", f"create role {role} login nosuperuser nocreatedb nocreaterole"),
        *("-c", "revoke create on schema public from public"),
    )
    dsn = bare.server.dsn(bare.name, user=role)
    try:
        with pytest.raises(DatabaseError, match="permission denied for database") as caught:
            migrate.up(dsn, way=way)
        assert "CREATE on the database" in (caught.value.hint or "")
        psql(bare, "-c", f"grant create on database {bare.name} to {role}")
        assert migrate.up(dsn, way=way, to=VERSIONS[0]) == VERSIONS[0]
        assert migrate.up(dsn, way=way) == VERSION
        assert migrate.status(dsn).owner == role
        assert migrate.verify(dsn) == []
        assert differences(reference, look(bare)) == []
        assert migrate.uninstall(dsn)
        assert leftovers(bare) == []
    finally:
        psql(bare, "-c", f"drop owned by {role} cascade", "-c", f"drop role {role}")


def test_a_schema_of_another_role_is_refused(bare: Database) -> None:
    role = f"other_{bare.name}"
    psql(bare, "-c", f"create role {role}", "-c", f"create schema sqlkit authorization {role}")
    try:
        with pytest.raises(DeployError, match=f"belongs to {role}") as caught:
            migrate.up(bare.dsn)
        assert caught.value.code == "SK903"
        assert f"set role {role}" in (caught.value.hint or "")
        # Acting as that role needs the right to make the other schema.
        with pytest.raises(DatabaseError, match="permission denied") as denied:
            migrate.up(bare.dsn, role=role)
        assert denied.value.code == "42501"
    finally:
        psql(bare, "-c", f"drop owned by {role}", "-c", f"drop role {role}")


# Many at once, and locks ------------------------------------------------------------------------


@pytest.mark.every_version
@pytest.mark.parametrize("way", ["alembic", "script"])
def test_twenty_deployers_at_once_all_succeed_and_one_works(
    way: Channel, bare: Database, reference: Fingerprint
) -> None:
    together = threading.Barrier(20)

    def deploy(_: int) -> str:
        together.wait(30)
        return migrate.up(bare.dsn, way=way)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(deploy, range(20))) == {VERSION}
    assert len(migrate.history(bare.dsn)) == len(VERSIONS if way == "alembic" else [VERSION])
    assert differences(reference, look(bare)) == []


@pytest.mark.usefixtures("extension_files")
def test_twenty_deployers_of_the_extension(bare: Database) -> None:
    with ThreadPoolExecutor(20) as pool:
        versions = set(pool.map(lambda _: migrate.up(bare.dsn, way="extension"), range(20)))
    assert versions == {VERSION}
    assert len(migrate.history(bare.dsn)) == 1


def test_twenty_deployers_through_a_pooling_proxy(
    pooled_server: Server, bare: Database, reference: Fingerprint
) -> None:
    dsn = pooled_server.dsn(bare.name)
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: migrate.up(dsn), range(20))) == {VERSION}
    assert migrate.status(dsn).version == VERSION
    assert len(migrate.history(dsn)) == len(VERSIONS)
    assert differences(reference, look(bare)) == []
    assert isinstance(migrate.verify(dsn), list)
    assert migrate.uninstall(dsn)
    assert leftovers(bare) == []


def plain_alembic(database: Database, lock_timeout: str) -> str:
    alembic(ROOT, "-x", f"dsn={database.dsn}", "-x", f"lock_timeout={lock_timeout}", *UPGRADE)
    return VERSION


UPGRADE = ("upgrade", "head")
COMMANDS: dict[str, Callable[[Database, str], object]] = {
    **{
        way: lambda database, lock_timeout, way=way: migrate.up(  # type: ignore[misc]
            database.dsn, way=way, lock_timeout=lock_timeout
        )
        for way in migrate.CHANNELS
    },
    "plain alembic": plain_alembic,
    "roles": lambda database, lock_timeout: migrate.make_roles(
        database.dsn, lock_timeout=lock_timeout
    ),
    "uninstall": lambda database, lock_timeout: migrate.uninstall(
        database.dsn, lock_timeout=lock_timeout
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("extension_files")
def test_whoever_waits_for_a_lock_steps_back_and_tries_again(command: str, bare: Database) -> None:
    if command == "uninstall":
        migrate.up(bare.dsn)
    with bare.connect() as holder, holder.transaction():
        holder.execute("select pg_advisory_xact_lock(%s)", [LOCK_KEY])
        with ThreadPoolExecutor(1) as pool:
            deployment = pool.submit(COMMANDS[command], bare, "50ms")
            backends: set[int] = set()
            with bare.connect() as watcher:
                deadline = time.monotonic() + 20
                while time.monotonic() < deadline and len(backends) < 3:
                    found = watcher.execute(
                        """
                        select pid from pg_stat_activity
                        where application_name = 'sqlkit migrate'
                            and wait_event_type = 'Lock' and datname = current_database()
                        """
                    )
                    backends |= {row[0] for row in found}
                    time.sleep(0.01)
            assert not deployment.done()
            holder.execute("rollback")
            deployment.result(30)
    assert len(backends) == 3, "it did not try again"
    assert (leftovers(bare) == []) == (command in ("roles", "uninstall"))
    if command not in ("roles", "uninstall"):
        assert migrate.status(bare.dsn).version == VERSION


def test_the_plain_alembic_command_says_what_is_wrong(bare: Database) -> None:
    """In a few lines, as its users know it: no traceback."""
    with bare.connect() as holder, holder.transaction():
        holder.execute("select pg_advisory_xact_lock(%s)", [LOCK_KEY])
        options = ("-x", f"dsn={bare.dsn}", "-x", "lock_timeout=20ms", "-x", "patience=0.2")
        done = run_alembic(ROOT, *options, *UPGRADE)
    assert done.returncode != 0
    assert "another session has held a lock" in done.stdout
    assert "(55P03)" in done.stdout
    assert "pg_locks" in done.stdout
    psql(bare, "-1", "-v", "ON_ERROR_STOP=1", "-f", migrate.DIST / f"migrate--base--{VERSION}.sql")
    other = run_alembic(ROOT, "-x", f"dsn={bare.dsn}", *UPGRADE)
    assert "deployed here by script" in other.stdout
    assert "sqlkit migrate up --way script" in other.stdout
    nowhere = run_alembic(ROOT, "-x", "dsn=host=127.0.0.1 port=1", *UPGRADE)
    assert "cannot connect" in nowhere.stdout
    for failed in (done, other, nowhere):
        assert "Traceback" not in failed.stdout + failed.stderr


def test_patience_has_an_end(bare: Database) -> None:
    with bare.connect() as holder, holder.transaction():
        holder.execute("select pg_advisory_xact_lock(%s)", [LOCK_KEY])
        with pytest.raises(DeployError, match="another session has held a lock") as caught:
            migrate.up(bare.dsn, lock_timeout="20ms", patience=0.2)
    assert caught.value.code == "55P03"
    assert leftovers(bare) == []


@pytest.mark.parametrize("timeout", ["soon", "5 parsecs", "1s; drop schema public", "-1"])
def test_a_lock_timeout_is_a_time(timeout: str, bare: Database) -> None:
    with pytest.raises(UsageError, match="not a lock timeout"):
        migrate.up(bare.dsn, lock_timeout=timeout)
    with pytest.raises(UsageError, match="not a lock timeout"):
        migrate.sql(lock_timeout=timeout)


# The caller's session and mistakes --------------------------------------------------------------


def test_a_hostile_search_path_changes_nothing(bare: Database, reference: Fingerprint) -> None:
    """Objects of our names, planted where an unpinned name would find them first."""
    with bare.connect() as connection:
        connection.execute("create schema evil")
        for name in ("now", "current_setting", "format", "quote_ident", "to_regclass"):
            connection.execute(
                sql.SQL(
                    "create function evil.{}(text) returns text language plpgsql"
                    " as $$ begin raise exception 'hijacked'; end $$"
                ).format(sql.Identifier(name))
            )
        for name in ("pg_class", "pg_namespace", "pg_extension", "pg_roles"):
            connection.execute(
                sql.SQL("create table evil.{} (oid oid)").format(sql.Identifier(name))
            )
        connection.execute(
            sql.SQL("alter database {} set search_path = evil, pg_catalog, public").format(
                sql.Identifier(bare.name)
            )
        )
    assert migrate.up(bare.dsn) == VERSION
    assert differences(reference, look(bare)) == []
    assert migrate.history(bare.dsn)[0].version == VERSIONS[0]
    assert migrate.status(bare.dsn).pending == ()
    assert migrate.uninstall(bare.dsn)


def test_an_empty_search_path_is_enough(bare: Database, reference: Fingerprint) -> None:
    psql(bare, "-c", f"alter database {bare.name} set search_path = ''")
    assert migrate.up(bare.dsn) == VERSION
    assert differences(reference, look(bare)) == []


def test_repeatable_read_by_default_is_no_obstacle(bare: Database) -> None:
    psql(
        bare,
        "-c",
        f"alter database {bare.name} set default_transaction_isolation = 'serializable'",
    )
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: migrate.up(bare.dsn), range(8))) == {VERSION}


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot connect") as caught:
        migrate.up(f"host={tmp_path} dbname=nothing")
    assert caught.value.code == "08001"


def test_a_release_that_does_not_exist(bare: Database) -> None:
    with pytest.raises(UsageError, match=r"does not ship sqlkit 99\.0\.0") as caught:
        migrate.up(bare.dsn, to="99.0.0")
    assert VERSION in (caught.value.detail or "")


def test_a_way_that_does_not_exist(bare: Database) -> None:
    with pytest.raises(UsageError, match="no way 'pigeon'"):
        migrate.up(bare.dsn, way="pigeon")  # type: ignore[arg-type]


# The command line -------------------------------------------------------------------------------


def test_the_commands_tell_what_they_did(bare: Database, sqlkit: RunSqlkit) -> None:
    import json

    dsn = ("--dsn", bare.dsn)
    before = json.loads(sqlkit("migrate", "status", *dsn, "--json").stdout)
    assert before["version"] is None
    assert before["pending"] == list(VERSIONS)
    up = sqlkit("migrate", "up", *dsn, "--json")
    assert json.loads(up.stdout) == {"version": VERSION}
    after = json.loads(sqlkit("migrate", "status", *dsn, "--json").stdout)
    assert (after["version"], after["channel"], after["compatible"]) == (VERSION, "alembic", True)
    history = json.loads(sqlkit("migrate", "history", *dsn, "--json").stdout)
    assert [row["version"] for row in history] == list(VERSIONS)
    refused = sqlkit("migrate", "up", *dsn, "--way", "script")
    assert refused.returncode == 1
    assert "deployed here by alembic" in refused.stderr
    assert "hint:" in refused.stderr
    careless = sqlkit("migrate", "uninstall", *dsn)
    assert careless.returncode == 2
    assert "--yes" in careless.stderr
    removed = sqlkit("migrate", "uninstall", *dsn, "--yes", "--json")
    assert "table" in " ".join(json.loads(removed.stdout)["dropped"])
    assert leftovers(bare) == []


def test_the_script_is_printed_without_a_server(sqlkit: RunSqlkit) -> None:
    printed = sqlkit("migrate", "sql", "--way", "script", "--lock-timeout", "2s")
    assert printed.returncode == 0
    assert printed.stdout == migrate.sql(way="script", lock_timeout="2s")
    assert "set local lock_timeout = '2s';" in printed.stdout
    both = sqlkit("migrate", "sql", "--from", VERSION, "--dsn", "dbname=x")
    assert both.returncode == 2


def test_what_runs_is_what_is_shipped() -> None:
    """The offline script holds the release's script unchanged, byte for byte."""
    text = migrate.sql(way="alembic", to=VERSIONS[0])
    body = (migrate.DIST / f"migrate--base--{VERSIONS[0]}.sql").read_text()
    assert body in text
    revision = (migrate.location() / "versions" / f"{VERSIONS[0]}.py").read_text()
    assert hashlib.sha256(body.encode()).hexdigest() in revision
