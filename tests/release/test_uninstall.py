"""Uninstalling takes all of sqlkit away and nothing else."""

from __future__ import annotations

import psycopg
import pytest

from sqlkit import migrate
from sqlkit._release import VERSION
from sqlkit.errors import SqlkitError
from sqlkit.migrate import DeployError
from tests.conftest import Database
from tests.release.conftest import psql

SURVEY = """
select 'namespace ' || nspname from pg_namespace where nspname !~ '^pg_(toast|temp)'
union all
select 'class ' || relnamespace::regnamespace || '.' || relname from pg_class
where relkind <> 't' and relname !~ '^pg_toast'
union all
select 'proc ' || oid::regprocedure from pg_proc
union all
select 'type ' || oid::regtype from pg_type where typname !~ '^_?pg_toast'
union all
select 'extension ' || extname from pg_extension
union all
select 'dependence ' || count(*) from pg_depend
union all
select 'description ' || count(*) from pg_description
"""


def survey(database: Database) -> set[str]:
    """Every object of a database."""
    with database.connect() as connection:
        return {row[0] for row in connection.execute(SURVEY.encode())}


@pytest.mark.every_version
@pytest.mark.parametrize("way", migrate.CHANNELS)
@pytest.mark.usefixtures("extension_files")
def test_nothing_is_left(way: migrate.Channel, bare: Database) -> None:
    psql(bare, "-c", "create table public.target (id bigint primary key)")
    before = survey(bare)
    migrate.up(bare.dsn, way=way)
    psql(bare, "-c", "select sqlkit.create_stage('public.target')")
    assert survey(bare) != before
    dropped = migrate.uninstall(bare.dsn)
    assert dropped
    assert survey(bare) == before
    # Nothing stands in the way of another beginning, by another way too.
    assert migrate.uninstall(bare.dsn) == []
    other: migrate.Channel = "script" if way != "script" else "alembic"
    assert migrate.up(bare.dsn, way=other) == VERSION


@pytest.mark.parametrize("way", migrate.CHANNELS)
@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("create view public.theirs as select * from sqlkit.run", "view public.theirs"),
        ("create table public.theirs (r sqlkit.source)", "theirs"),
        (
            "create function public.theirs() returns text language sql return sqlkit.version()",
            "function public.theirs()",
        ),
        (
            "create table public.theirs (run_id bigint references sqlkit.run)",
            "constraint theirs_run_id_fkey on table public.theirs",
        ),
        ("create table public.theirs (v text default sqlkit.version())", "theirs"),
        ("create table sqlkit_stage.theirs (a int)", "table sqlkit_stage.theirs"),
        ("create table sqlkit.theirs (a int)", "table sqlkit.theirs"),
        ("create type sqlkit.theirs as enum ('a')", "type sqlkit.theirs"),
    ],
)
@pytest.mark.usefixtures("extension_files")
def test_it_refuses_while_something_of_the_users_depends_on_it(
    way: migrate.Channel, statement: str, named: str, bare: Database
) -> None:
    migrate.up(bare.dsn, way=way)
    psql(bare, "-v", "ON_ERROR_STOP=1", "-c", statement)
    before = survey(bare)
    with pytest.raises(DeployError) as caught:
        migrate.uninstall(bare.dsn)
    assert caught.value.code == "SK908"
    assert named in (caught.value.detail or "")
    assert survey(bare) == before


def test_it_refuses_while_a_run_is_under_way(bare: Database) -> None:
    migrate.up(bare.dsn)
    psql(
        bare,
        *("-c", "create table public.target (id bigint primary key)"),
        *("-c", "select sqlkit.start_run('load', 'public.target')"),
    )
    with pytest.raises(DeployError, match="a run is under way") as caught:
        migrate.uninstall(bare.dsn)
    assert (caught.value.code, caught.value.detail) == ("SK908", "run 1")
    # A run whose program has given no sign of life for long is dead.
    psql(bare, "-c", "update sqlkit.run set heartbeat_at = now() - interval '1 hour'")
    assert migrate.uninstall(bare.dsn)


def test_it_can_be_forced_while_a_run_is_under_way(bare: Database) -> None:
    migrate.up(bare.dsn)
    psql(
        bare,
        *("-c", "create table public.target (id bigint primary key)"),
        *("-c", "select sqlkit.start_run('load', 'public.target')"),
    )
    assert migrate.uninstall(bare.dsn, force=True)


def test_it_is_whole_or_not_at_all(bare: Database) -> None:
    """A reader that holds a table of ours makes it give up, with everything still there."""
    migrate.up(bare.dsn)
    before = survey(bare)
    with bare.connect() as reader, reader.transaction():
        reader.execute("select count(*) from sqlkit.deployment")
        with pytest.raises(DeployError, match="another session has held a lock"):
            migrate.uninstall(bare.dsn, lock_timeout="50ms", patience=0.3)
    assert survey(bare) == before
    assert migrate.uninstall(bare.dsn)


def test_only_the_owner_uninstalls(bare: Database) -> None:
    migrate.up(bare.dsn)
    loader = f"loader_{bare.name}"
    psql(bare, "-c", f"create role {loader} login in role sqlkit_loader")
    try:
        with pytest.raises(SqlkitError, match="must be owner"):
            migrate.uninstall(bare.server.dsn(bare.name, user=loader))
    finally:
        psql(bare, "-c", f"drop role {loader}")
    with psycopg.connect(bare.dsn) as connection:
        assert connection.execute("select sqlkit.version()").fetchone() == (VERSION,)
