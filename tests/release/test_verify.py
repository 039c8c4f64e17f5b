"""`sqlkit migrate verify` names each thing that is not as it was released."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from sqlkit import migrate
from sqlkit._release import VERSION, VERSIONS
from sqlkit.fingerprint import differences, take, unpack, without_roles
from sqlkit.migrate import DeployError
from tests.conftest import Database, RunSqlkit, fresh_database
from tests.release.conftest import look, psql
from tests.release.record import record
from tests.servers import Server


@pytest.mark.every_version
def test_the_recorded_fingerprint_is_that_of_this_server(server: Server) -> None:
    recorded = unpack(migrate.read_script(f"fingerprint--{VERSION}.json"), server.major)
    found = record(server)
    assert differences(recorded, found) == [], "run python -m tests.release.record"
    assert len(found) > 100


@pytest.mark.every_version
@pytest.mark.parametrize("way", migrate.CHANNELS)
@pytest.mark.usefixtures("extension_files")
def test_a_fresh_deployment_is_as_released(way: migrate.Channel, bare: Database) -> None:
    migrate.up(bare.dsn, way=way)
    assert migrate.verify(bare.dsn) == []


DRIFT = {
    "a function's body": (
        "create or replace function sqlkit.version() returns text language sql immutable"
        " parallel safe return '{version}' || ''",
        "function sqlkit.version()",
        "body",
    ),
    "a function's volatility": (
        "alter function sqlkit.version() volatile",
        "function sqlkit.version()",
        "volatility",
    ),
    "a function's search_path": (
        "alter function sqlkit.touch_run(bigint) reset search_path",
        "function sqlkit.touch_run(p_run_id bigint)",
        "settings",
    ),
    "a function's rights": (
        "alter function sqlkit.touch_run(bigint) security definer",
        "function sqlkit.touch_run(p_run_id bigint)",
        "security_definer",
    ),
    "a trigger that is switched off": (
        "alter table sqlkit.conflict_rule disable trigger conflict_rule_drop",
        "trigger sqlkit.conflict_rule.conflict_rule_drop",
        "enabled",
    ),
    "a function's owner": (
        "alter function sqlkit.version() owner to sqlkit_admin",
        "function sqlkit.version()",
        "owner",
    ),
    "a function's grants": (
        "grant execute on function sqlkit.touch_run(bigint) to public",
        "function sqlkit.touch_run(p_run_id bigint)",
        "grants",
    ),
    "a table's grants": (
        "revoke select on sqlkit.run from sqlkit_reader",
        "table sqlkit.run",
        "grants",
    ),
    "a schema's grants": ("grant create on schema sqlkit to public", "schema sqlkit", "grants"),
    "a column's grants": (
        "grant update (state) on sqlkit.run to public",
        "column sqlkit.run.state",
        "grants",
    ),
    "a comment": ("comment on table sqlkit.run is null", "table sqlkit.run", "comment"),
    "a column's comment": (
        "comment on column sqlkit.run.target is 'new'",
        "column sqlkit.run.target",
        "comment",
    ),
    "a column's type": (
        "alter table sqlkit.deployment alter column previous_version type varchar(20)",
        "column sqlkit.deployment.previous_version",
        "type",
    ),
    "a column's default": (
        "alter table sqlkit.deployment alter column deployed_at drop default",
        "column sqlkit.deployment.deployed_at",
        "default",
    ),
    "a column that may be null": (
        "alter table sqlkit.deployment alter column version drop not null",
        "column sqlkit.deployment.version",
        "not_null",
    ),
    "a column more": (
        "alter table sqlkit.run add column theirs int",
        "column sqlkit.run.theirs",
        None,
    ),
    "a constraint less": (
        "alter table sqlkit.deployment drop constraint deployment_channel_check",
        "constraint sqlkit.deployment.deployment_channel_check",
        None,
    ),
    "an index less": ("drop index sqlkit.run_target_idx", "index sqlkit.run_target_idx", None),
    "an index more": (
        "create index theirs on sqlkit.run (client)",
        "index sqlkit.theirs",
        None,
    ),
    "a trigger": (
        "create trigger theirs before update on sqlkit.run for each row"
        " execute function suppress_redundant_updates_trigger()",
        "trigger sqlkit.run.theirs",
        None,
    ),
    "a rule": (
        "create rule theirs as on delete to sqlkit.run do instead nothing",
        "rule sqlkit.run.theirs",
        None,
    ),
    "row security": (
        "alter table sqlkit.run enable row level security",
        "table sqlkit.run",
        "row_security",
    ),
    "a logged table made unlogged": (
        "alter table sqlkit.deployment set unlogged",
        "table sqlkit.deployment",
        "persistence",
    ),
    "a sequence": (
        "alter sequence sqlkit.run_run_id_seq increment 5",
        "sequence sqlkit.run_run_id_seq",
        "sequence",
    ),
    "a table more": ("create table sqlkit.theirs (a int)", "table sqlkit.theirs", None),
    "a table less": ("drop table sqlkit.baseline cascade", "table sqlkit.baseline", None),
    "a column less": (
        "alter table sqlkit.run drop column client cascade",
        "column sqlkit.run.client",
        None,
    ),
    "a column's collation": (
        'alter table sqlkit.deployment alter column version type text collate "C"',
        "column sqlkit.deployment.version",
        "collation",
    ),
    "a column's storage": (
        "alter table sqlkit.run alter column target set storage external",
        "column sqlkit.run.target",
        "storage",
    ),
    "an identity": (
        "alter table sqlkit.run alter column run_id set generated by default",
        "column sqlkit.run.run_id",
        "identity",
    ),
    "a table's settings": (
        "alter table sqlkit.run set (fillfactor = 50)",
        "table sqlkit.run",
        "options",
    ),
    "a table's owner": (
        "alter table sqlkit.run owner to sqlkit_admin",
        "table sqlkit.run",
        "owner",
    ),
    "a policy": (
        "create policy theirs on sqlkit.run using (true)",
        "policy sqlkit.run.theirs",
        None,
    ),
    "statistics": (
        "create statistics sqlkit.theirs on kind, state from sqlkit.run",
        "statistics sqlkit.theirs",
        None,
    ),
    "a constraint's definition": (
        "alter table sqlkit.deployment drop constraint deployment_channel_check,"
        " add constraint deployment_channel_check check (channel <> '')",
        "constraint sqlkit.deployment.deployment_channel_check",
        "definition",
    ),
    "a constraint that is not validated": (
        "alter table sqlkit.deployment drop constraint deployment_channel_check,"
        " add constraint deployment_channel_check"
        " check (channel = any (array['extension', 'alembic', 'script'])) not valid",
        "constraint sqlkit.deployment.deployment_channel_check",
        "validated",
    ),
    "a constraint's comment": (
        "comment on constraint run_pkey on sqlkit.run is 'theirs'",
        "constraint sqlkit.run.run_pkey",
        "comment",
    ),
    "an index's definition": (
        "drop index sqlkit.run_target_idx; create index run_target_idx on sqlkit.run (client)",
        "index sqlkit.run_target_idx",
        "definition",
    ),
    "an index's comment": (
        "comment on index sqlkit.run_target_idx is 'theirs'",
        "index sqlkit.run_target_idx",
        "comment",
    ),
    "a view's definition": (
        "do $$ begin execute 'create or replace view sqlkit.open_reject as select * from ('"
        " || rtrim(pg_get_viewdef('sqlkit.open_reject'), ';') || ') as v where false'; end $$",
        "view sqlkit.open_reject",
        "definition",
    ),
    "a view's grants": (
        "grant select on sqlkit.run_summary to public",
        "view sqlkit.run_summary",
        "grants",
    ),
    "a view's comment": (
        "comment on view sqlkit.run_summary is 'theirs'",
        "view sqlkit.run_summary",
        "comment",
    ),
    "a view's owner": (
        "alter view sqlkit.run_summary owner to sqlkit_admin",
        "view sqlkit.run_summary",
        "owner",
    ),
    "a sequence's grants": (
        "grant usage on sequence sqlkit.run_run_id_seq to public",
        "sequence sqlkit.run_run_id_seq",
        "grants",
    ),
    "a type's comment": (
        "comment on type sqlkit.row_counts is null",
        "composite type sqlkit.row_counts",
        "comment",
    ),
    "a type's grants": (
        "revoke usage on type sqlkit.row_counts from public",
        "composite type sqlkit.row_counts",
        "grants",
    ),
    "a type's owner": (
        "alter type sqlkit.row_counts owner to sqlkit_admin",
        "composite type sqlkit.row_counts",
        "owner",
    ),
    "a schema's comment": ("comment on schema sqlkit is null", "schema sqlkit", "comment"),
    "the other schema's owner": (
        "alter schema sqlkit_stage owner to sqlkit_admin",
        "schema sqlkit_stage",
        "owner",
    ),
    "a function's comment": (
        "comment on function sqlkit.version() is 'theirs'",
        "function sqlkit.version()",
        "comment",
    ),
    "a function's other setting": (
        "alter function sqlkit.touch_run(bigint) set work_mem = '1MB'",
        "function sqlkit.touch_run(p_run_id bigint)",
        "settings",
    ),
    "a function's cost": (
        "alter function sqlkit.version() cost 7",
        "function sqlkit.version()",
        "cost",
    ),
    "a function that is strict": (
        "alter function sqlkit.version() strict",
        "function sqlkit.version()",
        "strict",
    ),
    "a function that may run in parallel": (
        "alter function sqlkit.version() parallel unsafe",
        "function sqlkit.version()",
        "parallel",
    ),
    "a function that tells nothing": (
        "alter function sqlkit.version() leakproof",
        "function sqlkit.version()",
        "leakproof",
    ),
    "a function less": (
        "drop function sqlkit.touch_run(bigint)",
        "function sqlkit.touch_run(p_run_id bigint)",
        None,
    ),
    "a type more": ("create type sqlkit.theirs as enum ('a')", "type sqlkit.theirs", None),
    "a view more": ("create view sqlkit.theirs as select 1 as a", "view sqlkit.theirs", None),
    "a function more": (
        "create function sqlkit.theirs() returns int language sql return 1",
        "function sqlkit.theirs()",
        None,
    ),
}


@pytest.fixture(scope="module")
def deployed(server: Server) -> Iterator[Database]:
    """A database with this release, for tests that leave it as it is."""
    migrate.make_roles(server.dsn())
    with fresh_database(server) as database:
        migrate.up(database.dsn, way="script")
        yield database


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_named(what: str, deployed: Database) -> None:
    statement, identity, fact = DRIFT[what]
    # In a transaction that is undone, so that one database serves all; compared as verify does.
    with psycopg.connect(deployed.dsn) as connection:
        before = take(connection)
        connection.execute(statement.format(version=VERSION).encode())
        found = differences(before, take(connection))
        connection.rollback()
    assert (identity, fact) in [(one.object, one.fact) for one in found]
    if not statement.endswith("cascade"):
        assert {one.object.split("(")[0].removesuffix(".theirs") for one in found} <= {
            identity.split("(")[0].removesuffix(".theirs"),
            # What belongs to the object named.
            *("column sqlkit.theirs.a", "column sqlkit.theirs.?column?"),
            "sequence sqlkit.run_run_id_seq",
        }
    named = next(one for one in found if one.object == identity)
    assert identity in str(named)
    assert named.expected != named.found


def test_every_kind_of_fact_is_tried() -> None:
    """What a release says of an object: whichever of it changes, a test sees it named."""
    tried = {fact for _, _, fact in DRIFT.values()}
    recorded = unpack(migrate.read_script(f"fingerprint--{VERSION}.json"), 18)
    facts = {fact for one in recorded.values() for fact in one}
    # Columns and functions that differ in these are others, or another fact tells it too.
    assert facts - tried <= {"arguments", "result", "language", "rows", "position", "valid"}


def test_a_function_that_left_the_extension_is_named(bare: Database, extension_files: None) -> None:
    migrate.up(bare.dsn, way="extension")
    psql(bare, "-c", "alter extension sqlkit drop function sqlkit.touch_run(bigint)")
    found = [(one.object, one.fact) for one in migrate.verify(bare.dsn)]
    assert ("function sqlkit.touch_run(bigint)", "extension") in found


def test_roles_that_the_server_lacks_are_no_drift(server: Server) -> None:
    """On the same server, the fingerprint without roles leaves out what would be theirs."""
    full = unpack(migrate.read_script(f"fingerprint--{VERSION}.json"), server.major)
    bare = without_roles(full, set())
    assert any(
        "sqlkit_reader=" in grant for one in full.values() for grant in one.get("grants", [])
    )
    assert not any("sqlkit_" in grant for one in bare.values() for grant in one.get("grants", []))
    with_reader = without_roles(full, {"sqlkit_reader"})["table sqlkit.run"]["grants"]
    assert "sqlkit_reader=r" in with_reader
    assert not any(grant.startswith("sqlkit_loader") for grant in with_reader)


def test_grants_that_roles_made_later_lack_are_named_and_mended(bare: Database) -> None:
    migrate.up(bare.dsn)
    before = migrate.verify(bare.dsn)
    psql(bare, "-c", "revoke all on all tables in schema sqlkit from sqlkit_loader")
    assert len(migrate.verify(bare.dsn)) > len(before)
    migrate.make_roles(bare.dsn)
    assert migrate.verify(bare.dsn) == before


def test_roles_that_another_database_made_are_one_line_each(
    bare: Database, sqlkit: RunSqlkit
) -> None:
    migrate.make_roles(bare.dsn)
    migrate.up(bare.dsn)
    with bare.connect() as connection:
        connection.execute("drop owned by sqlkit_reader, sqlkit_loader, sqlkit_admin")
        connection.execute("comment on table sqlkit.run is 'other'")
        done = sqlkit("migrate", "verify", "--dsn", bare.dsn)
        assert done.returncode == 1
        assert [line[:22] for line in done.stdout.splitlines()] == [
            "role sqlkit_admin: has",
            "role sqlkit_loader: ha",
            "role sqlkit_reader: ha",
            "table sqlkit.run: comm",
        ]
        assert "sqlkit migrate roles" in done.stdout


def test_verify_needs_no_more_than_to_look(bare: Database) -> None:
    migrate.up(bare.dsn)
    reader = f"reader_{bare.name}"
    psql(bare, "-c", f"create role {reader} login in role sqlkit_reader")
    try:
        dsn = bare.server.dsn(bare.name, user=reader)
        assert migrate.verify(dsn) == migrate.verify(bare.dsn)
        assert migrate.status(dsn).version == VERSION
        assert len(migrate.history(dsn)) >= 1
    finally:
        psql(bare, "-c", f"drop role {reader}")


@pytest.mark.parametrize("released", VERSIONS[:-1])
def test_an_earlier_release_is_verified_too(released: str, bare: Database) -> None:
    migrate.up(bare.dsn, to=released)
    assert migrate.verify(bare.dsn) == []
    psql(bare, "-c", "comment on type sqlkit.row_counts is null")
    psql(bare, "-c", "comment on table sqlkit.run is null")
    assert [one.object for one in migrate.verify(bare.dsn)] == ["table sqlkit.run"]


def test_there_is_nothing_to_verify_where_nothing_is(bare: Database) -> None:
    with pytest.raises(DeployError, match="not deployed") as caught:
        migrate.verify(bare.dsn)
    assert caught.value.code == "SK902"


def test_the_command_exits_with_1_on_drift(bare: Database, sqlkit: RunSqlkit) -> None:
    migrate.up(bare.dsn)
    psql(bare, "-c", "comment on table sqlkit.run is 'ours now'")
    done = sqlkit("migrate", "verify", "--dsn", bare.dsn)
    assert done.returncode == 1
    assert "table sqlkit.run: comment is 'ours now', should be " in done.stdout
    told = json.loads(sqlkit("migrate", "verify", "--dsn", bare.dsn, "--json").stdout)
    assert told["equal"] is False
    assert {"object": "table sqlkit.run", "fact": "comment"}.items() <= told["differences"][
        [one["object"] for one in told["differences"]].index("table sqlkit.run")
    ].items()


def test_what_fingerprints_leave_out(server: Server, roles: None) -> None:
    """Neither stages nor the ways' own bookkeeping make databases differ."""
    with fresh_database(server) as one:
        migrate.up(one.dsn)
        before = look(one)
        psql(one, "-c", "create table sqlkit_stage.stage_1 (a int)")
        assert look(one) == before
        assert not [name for name in before if "alembic_version" in name]
