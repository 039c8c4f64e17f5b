"""sqlkit as an extension: its files, and pg_tle where there can be none."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from sqlkit import extension, migrate
from sqlkit._release import VERSION, VERSIONS
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.fingerprint import Fingerprint, differences
from tests.conftest import Database, OpenServer, RunSqlkit
from tests.release.conftest import Checkout, look, psql, run_psql
from tests.servers import Server, Session


def test_files_go_where_pg_config_says(
    sqlkit: RunSqlkit, bare: Database, reference: Fingerprint
) -> None:
    pg_config = bare.server.install.program("pg_config")
    done = sqlkit("extension", "install", "--pg-config", pg_config, "--json")
    assert done.returncode == 0, done.stderr
    files = [Path(name) for name in json.loads(done.stdout)["files"]]
    assert {file.parent for file in files} == {bare.server.extension_directory}
    assert files[-1].name == "sqlkit.control"
    assert f"sqlkit--{VERSION}.sql" in [file.name for file in files]
    psql(bare, "-c", f"create extension sqlkit version '{VERSION}'")
    assert differences(reference, look(bare)) == []


def test_files_are_found_through_extension_control_path(
    own_server: OpenServer, test_session: Session, sqlkit: RunSqlkit
) -> None:
    """PostgreSQL 18 reads extensions from directories of the DBA's own."""
    root = test_session.root / "control_path"  # which the server's user may enter
    directory = root / "extension"
    directory.mkdir(parents=True)
    root.chmod(0o755)
    directory.chmod(0o755)
    done = sqlkit("extension", "install", "--directory", directory)
    assert done.returncode == 0, done.stderr
    server = own_server(18, {"extension_control_path": f"{root}:$system"})
    server.create_database("one")
    database = Database("one", server)
    psql(database, "-c", "create extension sqlkit")
    status = migrate.status(database.dsn)
    assert (status.version, status.channel) == (VERSION, "extension")
    assert migrate.up(database.dsn, way="extension") == VERSION


def test_create_extension_needs_no_superuser(
    bare: Database, extension_files: Path, reference: Fingerprint
) -> None:
    role = f"creator_{bare.name}"
    psql(
        bare,
        *("-c", f"create role {role} login"),
        *("-c", f"grant create on database {bare.name} to {role}"),
    )
    try:
        migrate.up(bare.server.dsn(bare.name, user=role), way="extension")
        assert differences(reference, look(bare)) == []
    finally:
        psql(bare, "-c", f"drop owned by {role} cascade", "-c", f"drop role {role}")


def test_dropping_the_extension_takes_everything(bare: Database, extension_files: Path) -> None:
    migrate.up(bare.dsn, way="extension")
    psql(bare, "-v", "ON_ERROR_STOP=1", "-c", "drop extension sqlkit")
    assert look(bare) == {}
    with bare.connect() as connection:
        assert connection.execute("select to_regnamespace('sqlkit_stage')").fetchone() == (None,)


def test_files_that_are_missing_are_named(bare: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "VERSIONS", (*VERSIONS, "98.0.0"))
    monkeypatch.setattr(migrate, "VERSION", "98.0.0")
    with pytest.raises(SqlkitError) as caught:
        migrate.up(bare.dsn, way="extension")
    assert "sqlkit extension install" in (caught.value.hint or "")


def test_psql_does_not_run_an_extension_script(bare: Database) -> None:
    done = run_psql(bare, "-f", migrate.DIST / f"sqlkit--{VERSION}.sql")
    assert f"create extension sqlkit version '{VERSION}'" in done.stdout
    assert look(bare) == {}


def test_a_missing_pg_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no program") as caught:
        extension.server_directory(str(tmp_path / "pg_config"))
    assert "--pg-config" in (caught.value.hint or "")


def test_a_missing_directory_is_named(tmp_path: Path, sqlkit: RunSqlkit) -> None:
    done = sqlkit("extension", "install", "--directory", tmp_path / "nowhere")
    assert done.returncode == 1
    assert "is not a directory" in done.stderr
    both = sqlkit("extension", "install", "--directory", tmp_path, "--pg-config", "x")
    assert both.returncode == 2


# pg_tle -----------------------------------------------------------------------------------------

# What pg_tle's manual says of its functions, without what they do with the text. The real one
# is no part of Debian, and so was not run here.
STUB = """
create schema pgtle;
create table pgtle.script (name text, source text, target text, description text, ext text);
create function pgtle.available_extensions(
    out name name, out default_version text, out comment text
) returns setof record language sql
as $$ select distinct name::name, target, description from pgtle.script where source is null $$;
create function pgtle.extension_update_paths(
    name name, out source text, out target text, out path text
) returns setof record language sql
as $$ select source, target, source || '--' || target from pgtle.script where source is not null $$;
create function pgtle.install_extension(
    name text, version text, description text, ext text, requires text[] default null
) returns boolean language sql
as $$ insert into pgtle.script values (name, null, version, description, ext); select true $$;
create function pgtle.install_update_path(name text, fromvers text, tovers text, ext text)
returns boolean language sql
as $$ insert into pgtle.script values (name, fromvers, tovers, null, ext); select true $$;
create function pgtle.set_default_version(name text, version text)
returns boolean language sql
as $$ select true $$;
"""


def test_the_script_for_pg_tle_registers_every_step_once(
    server: Server, bare: Database, checkout: Checkout
) -> None:
    psql(bare, "-v", "ON_ERROR_STOP=1", script=STUB)
    script = checkout.run("sqlkit.cli.app", "extension", "tle").stdout
    for _ in range(2):
        psql(bare, "-1", "-v", "ON_ERROR_STOP=1", script=script)
    with bare.connect() as connection:
        registered = {
            (row[0], row[1]): row[2]
            for row in connection.execute("select source, target, ext from pgtle.script")
        }
        count = connection.execute("select count(*) from pgtle.script").fetchone()
    assert count == (len(registered),)
    assert set(registered) == {
        (None, VERSIONS[0]),
        *pairwise(VERSIONS),
        (checkout.old, checkout.middle),
        (checkout.middle, checkout.new),
    }
    for (source, target), text in registered.items():
        name = f"sqlkit--{source}--{target}.sql" if source else f"sqlkit--{target}.sql"
        lines = (checkout.dist / name).read_text().split("\n", 1)
        assert lines[0].startswith("\\echo")
        assert text.strip() == lines[1].strip()
        assert "set local sqlkit.channel = 'extension'" in text
        # pg_tle quotes it once more: nothing in it may end that.
        assert not re.search(r"^\\", text, re.MULTILINE)
