"""The optional roles: what each may do is enough for its work, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch

import psycopg
import pytest
from psycopg import errors

from sqlkit import build, migrate
from sqlkit._release import VERSION, VERSIONS
from sqlkit.fingerprint import Fingerprint, differences, without_roles
from tests.conftest import Database, OpenServer, RunSqlkit
from tests.release.conftest import ROOT, look, psql

ROLES = tuple(build.read_roles(ROOT))


@pytest.fixture
def guest(bare: Database) -> Iterator[str]:
    """A user without any privilege, and a target that it may write."""
    migrate.up(bare.dsn)
    name = f"user_{bare.name}"
    psql(
        bare,
        *("-c", f"create role {name} login"),
        *("-c", "create table public.price (id bigint primary key, price numeric)"),
        *("-c", f"grant select, insert, update, delete on public.price to {name}"),
        *("-c", f"revoke create, temporary on database {bare.name} from public"),
        *("-c", f"grant temporary on database {bare.name} to {name}"),
        *("-c", "revoke create on schema public from public"),
    )
    yield name
    psql(bare, "-c", f"drop owned by {name} cascade", "-c", f"drop role {name}")


def member(database: Database, user: str, role: str) -> psycopg.Connection:
    """A connection of that user, who is a member of that role."""
    psql(database, "-c", f"grant {role} to {user}")
    return database.connect(user=user)


def load(connection: psycopg.Connection, policy: str) -> tuple[int, int]:
    """Loads two rows from psql's point of view; rows inserted and updated."""
    stage = connection.execute("select sqlkit.create_stage('public.price')::text").fetchone()
    assert stage is not None
    connection.execute(f"insert into {stage[0]} values (1, 1.5), (2, 2.5)".encode())
    counts = connection.execute(
        f"select rows_inserted, rows_updated from sqlkit.merge_stage('{stage[0]}', %s)".encode(),
        [policy],
    ).fetchone()
    connection.execute(f"select sqlkit.drop_stage('{stage[0]}')".encode())
    assert counts is not None
    return counts[0], counts[1]


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("search_path", ["public", "", "evil, pg_temp, pg_catalog"])
def test_a_loader_loads(bare: Database, guest: str, search_path: str) -> None:
    """Without superuser, without CREATE on the database, and whatever its search_path says."""
    psql(
        bare,
        *("-c", "create schema evil"),
        *("-c", "create function evil.format(text) returns text language sql return 'evil'"),
        *("-c", "create function evil.to_regclass(text) returns int language sql return 1 / 0"),
        *("-c", "create table evil.pg_class (oid oid)"),
        *("-c", "create table evil.run (run_id bigint)"),
        *("-c", "grant usage on schema evil to public"),
        *("-c", "grant all on all tables in schema evil to public"),
    )
    with member(bare, guest, "sqlkit_loader") as connection:
        connection.execute("create temporary table pg_attribute (attname name)")
        connection.execute("create temporary table run (run_id bigint)")
        connection.execute("select set_config('search_path', %s, false)", [search_path])
        assert load(connection, "update") == (2, 0)
        assert load(connection, "ignore") == (0, 0)
        seen = connection.execute(
            "select count(*) from sqlkit.run_summary where rows_read = 2"
        ).fetchone()
        assert seen == (2,)


def test_a_loader_writes_no_target_but_its_own(bare: Database, guest: str) -> None:
    psql(bare, "-c", f"revoke insert, update, delete on public.price from {guest}")
    with (
        member(bare, guest, "sqlkit_loader") as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        load(connection, "update")


@pytest.mark.parametrize(
    "statement",
    [
        "delete from sqlkit.run",
        "delete from sqlkit.batch",
        "update sqlkit.batch set rows_read = 0",
        "insert into sqlkit.deployment (version, channel) values ('9.9.9', 'script')",
        "truncate sqlkit.run",
        "drop table sqlkit.run",
        "create table sqlkit.mine (a int)",
        "drop function sqlkit.version()",
        "alter table sqlkit.run add column a int",
    ],
)
def test_a_loader_does_not_rewrite_history(bare: Database, guest: str, statement: str) -> None:
    with (
        member(bare, guest, "sqlkit_loader") as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_a_reader_reads_the_ledger_and_no_more(bare: Database, guest: str) -> None:
    with member(bare, guest, "sqlkit_reader") as connection:
        for relation in build.read_toml(ROOT, "grants.toml")["sqlkit_reader"]["select"]:
            connection.execute(f"select * from sqlkit.{relation}".encode()).fetchall()
        connection.execute("select sqlkit.version(), sqlkit.channel(), sqlkit.oldest_client()")
        for statement in (
            "select sqlkit.start_run('load', 'public.price')",
            "select sqlkit.create_stage('public.price')",
            "insert into sqlkit.run (kind, target) values ('load', 'x')",
            "create table sqlkit_stage.mine (a int)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())


# Each function, called with nulls: what comes of it does not matter, but whether one may call it.
CALLS = """
    select
        p.proname::text,
        format(
            '%s sqlkit.%I(%s)',
            case p.prokind when 'p' then 'call' else 'select' end,
            p.proname,
            (
                select string_agg('null::' || format_type(a.type, null), ', ' order by a.position)
                from unnest(p.proargtypes::oid[]) with ordinality as a (type, position)
            )
        )
    from pg_proc as p
    where p.pronamespace = 'sqlkit'::regnamespace
"""


@pytest.mark.parametrize("role", [None, *ROLES])
def test_who_may_call_a_function_calls_it_and_nobody_else(
    bare: Database, guest: str, role: str | None
) -> None:
    with bare.connect() as connection:
        calls = connection.execute(CALLS.encode()).fetchall()
    listed = build.read_toml(ROOT, "grants.toml")
    held = {role} if role else set()
    while more := {one for name in held for one in listed[name].get("includes", [])} - held:
        held |= more
    patterns = [pattern for name in held for pattern in listed[name].get("execute", [])]
    may = {name for name, _ in calls if any(fnmatch(name, pattern) for pattern in patterns)}
    with bare.connect(user=guest) if role is None else member(bare, guest, role) as connection:
        connection.execute("set statement_timeout = '10s'")
        could = set()
        for name, call in calls:
            try:
                connection.execute(call.encode())
            except errors.InsufficientPrivilege:
                continue
            except psycopg.Error:
                pass  # it began
            could.add(name)
    assert could == may
    assert bool(may) == (role is not None)


def test_an_admin_clears_the_ledger(bare: Database, guest: str) -> None:
    with member(bare, guest, "sqlkit_admin") as connection:
        assert load(connection, "update") == (2, 0)
        assert connection.execute("delete from sqlkit.run").rowcount == 1
        assert connection.execute("select count(*) from sqlkit.batch").fetchone() == (0,)


def test_a_stranger_sees_nothing(bare: Database, guest: str) -> None:
    with bare.connect(user=guest) as connection:
        for statement in ("select sqlkit.version()", "select * from sqlkit.run"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())


@pytest.mark.every_version
def test_an_admin_deploys_and_upgrades_without_superuser(
    bare: Database, reference: Fingerprint
) -> None:
    name = f"deployer_{bare.name}"
    psql(bare, "-c", f"create role {name} login")
    migrate.make_roles(bare.dsn)  # here: it grants CREATE on this database
    psql(bare, "-c", f"grant sqlkit_admin to {name}")
    dsn = bare.server.dsn(bare.name, user=name)
    try:
        migrate.up(dsn, role="sqlkit_admin", to=VERSIONS[0])
        assert migrate.up(dsn) == VERSION
        assert migrate.status(dsn).owner == "sqlkit_admin"
        with bare.connect() as connection:
            owners = connection.execute(
                "select distinct relowner::regrole::text from pg_class"
                " where relnamespace = 'sqlkit'::regnamespace"
            ).fetchall()
        assert owners == [("sqlkit_admin",)]
        migrate.make_roles(bare.dsn)  # takes nothing from the owner
        assert (
            differences(without_roles(reference, {"sqlkit_reader", "sqlkit_loader"}), look(bare))
            == []
        )
        assert migrate.uninstall(dsn)
    finally:
        psql(
            bare,
            *("-c", f"drop role {name}"),
            *("-c", f"revoke create on database {bare.name} from sqlkit_admin"),
        )


def test_roles_come_before_the_schema_or_after_it(own_server: OpenServer) -> None:
    """On a server that has none of them yet."""
    server = own_server()
    for name in ("before", "after"):
        server.create_database(name)
    database = Database("after", server)
    migrate.up(database.dsn)
    with database.connect() as connection:
        assert connection.execute(
            "select count(*) from pg_roles where rolname like 'sqlkit%'"
        ).fetchone() == (0,)
    missing = migrate.verify(database.dsn)
    migrate.make_roles(database.dsn)
    # Databases that were there when the roles came have to be told, and verify says so.
    assert migrate.verify(database.dsn) == missing
    before = Database("before", server)
    migrate.up(before.dsn)
    with before.connect() as connection:
        for role in ROLES:
            assert connection.execute(
                "select has_schema_privilege(%s, 'sqlkit', 'usage')", [role]
            ).fetchone() == (True,)
            assert connection.execute(
                "select rolcanlogin, shobj_description(oid, 'pg_authid') is not null"
                " from pg_roles where rolname = %s",
                [role],
            ).fetchone() == (False, True)


def test_the_script_of_the_roles_is_printed(sqlkit: RunSqlkit, bare: Database) -> None:
    printed = sqlkit("migrate", "roles", "--sql")
    assert printed.stdout == migrate.roles_sql()
    psql(bare, "-1", "-v", "ON_ERROR_STOP=1", script=printed.stdout)
    done = sqlkit("migrate", "roles", "--dsn", bare.dsn)
    assert done.returncode == 0
    for role in ROLES:
        assert role in done.stdout
