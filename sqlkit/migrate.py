"""Deploying the SQL of sqlkit, and telling what is deployed.

One build serves three ways: the extension, Alembic, and a plain script for psql. They run the
same statements; a database remembers which way it was deployed and refuses the others.

Every function here needs nothing of the server but a role that may create schemas, works through
a transaction-pooling proxy, and takes no lock on any table of the user.
"""

from __future__ import annotations

import hashlib
import io
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import psycopg
from psycopg import errors
from psycopg import sql as compose
from psycopg.rows import class_row

from sqlkit._release import LOCK_KEY, VERSION, VERSIONS
from sqlkit.compatible import IncompatibleError, check_compatible
from sqlkit.errors import DatabaseError, SqlkitError, UsageError
from sqlkit.fingerprint import (
    NOT_MEMBERS,
    ROLES,
    Difference,
    as_recorded,
    differences,
    take,
    unpack,
    without_roles,
)

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from sqlalchemy import Connection as SqlalchemyConnection
    from sqlalchemy import Engine

Channel = Literal["extension", "alembic", "script"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
DIST = Path(__file__).resolve().parent / "dist"
VERSION_TABLE = "alembic_version"
PATIENCE = 300.0
"""Seconds for which a deployment goes on trying to get its locks."""

T = TypeVar("T")


class DeployError(SqlkitError):
    """The database is not in a state from which this deployment can proceed."""

    default_code = "SK901"


@dataclass(frozen=True)
class Deployment:
    """One row of ``sqlkit.deployment``."""

    version: str
    previous_version: str | None
    channel: Channel
    database_user: str
    deployed_at: datetime


@dataclass(frozen=True)
class Status:
    """What is deployed in a database, against what this package ships.

    `pending` lists the releases that an upgrade would apply, oldest first. `owner` is the role
    that upgrades have to run as; None while nothing is deployed.
    """

    version: str | None
    channel: Channel | None
    owner: str | None
    shipped: str
    pending: tuple[str, ...]
    compatible: bool


# Finding files ----------------------------------------------------------------------------------


def location() -> Path:
    """The Alembic environment of sqlkit: ``migrations/`` of a checkout, or its installed copy."""
    package = Path(__file__).resolve().parent
    for path in (package / "migrations", package.parent / "migrations"):
        if (path / "env.py").exists():
            return path
    raise SqlkitError(
        "the Alembic environment of sqlkit is missing",
        detail=str(package / "migrations"),
        hint="Install the package again.",
    )


def read_script(name: str, *, sha256: str | None = None) -> str:
    """A file of ``sqlkit/dist``; with `sha256`, raises SqlkitError unless it has that digest."""
    path = DIST / name
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SqlkitError(f"{path} is missing", hint="Install the package again.") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise SqlkitError(
            f"{path} is not the script of the release",
            code="SK906",
            detail=f"expected SHA-256 {sha256}",
            hint="Install the package again; in a checkout: python -m sqlkit.build.",
        )
    return content.decode("utf-8")


def steps(version: str | None, to: str | None = None) -> list[tuple[str | None, str]]:
    """The (from, to) pairs that lead from `version` (None: nothing) to `to` (None: the newest)."""
    target = to or VERSION
    if target not in VERSIONS:
        raise UsageError(
            f"this package does not ship sqlkit {target}", detail="It has " + ", ".join(VERSIONS)
        )
    if version is not None and version not in VERSIONS:
        raise IncompatibleError(
            f"this package does not know sqlkit {version}, which is deployed",
            detail="It has " + ", ".join(VERSIONS),
            hint="Upgrade the package, from where this one came.",
        )
    first = VERSIONS.index(version) + 1 if version else 0
    last = VERSIONS.index(target)
    if version and first > last + 1:
        raise UsageError(
            f"sqlkit {version} is deployed, and {target} is older",
            hint="sqlkit migrates forward only.",
        )
    chain = [None, *VERSIONS]
    return [(chain[i], VERSIONS[i]) for i in range(first, last + 1)]


def _shortest(wanted: list[tuple[str | None, str]]) -> list[tuple[str | None, str]]:
    """The same way with one script where it begins at nothing: every release has one for that.
    Alembic goes step by step, since its revisions are a chain."""
    return [(None, wanted[-1][1])] if wanted and wanted[0][0] is None else wanted


def _script_name(previous: str | None, version: str) -> str:
    return f"migrate--{previous or 'base'}--{version}.sql"


# Connecting, locking, retrying ------------------------------------------------------------------


def _connect_raw(dsn: str) -> psycopg.Connection:
    """A connection that prepares nothing, so that a transaction-pooling proxy may stand between."""
    try:
        return psycopg.connect(
            dsn,
            prepare_threshold=None,
            application_name="sqlkit migrate",
            client_encoding="utf8",
        )
    except psycopg.OperationalError as error:
        raise DatabaseError(
            f"cannot connect: {str(error).strip()}",
            code=error.sqlstate or "08001",
            hint="Is the server up, and is the DSN right?",
        ) from error


@contextmanager
def _connect(dsn: str) -> Iterator[psycopg.Connection]:
    """One transaction that only looks; errors of the server come as ours."""
    try:
        with _connect_raw(dsn) as connection:
            connection.execute("set transaction isolation level repeatable read, read only")
            connection.execute(PIN)
            yield connection
    except psycopg.Error as error:
        raise from_psycopg(error) from error


def from_psycopg(error: psycopg.Error) -> SqlkitError:
    """The server's error as one of ours, with its SQLSTATE, detail and hint."""
    code = error.sqlstate or "SK000"
    kind = DeployError if code.startswith("SK9") else DatabaseError
    diagnosis = error.diag
    return kind(
        diagnosis.message_primary or str(error).strip(),
        code=code,
        detail=diagnosis.message_detail,
        hint=diagnosis.message_hint or (RIGHTS if code == "42501" else None),
    )


RIGHTS = (
    "To install needs CREATE on the database, or both schemas made for this role beforehand; to "
    "upgrade or remove, to be the owner; to look, sqlkit_reader. See Rights in docs/deploy.md."
)


def _check_timeout(lock_timeout: str) -> None:
    """Refuses what PostgreSQL would not take as a time, before it ends up in a script."""
    if not re.fullmatch(r"\d+(\.\d+)?\s*(us|ms|s|min|h)?", lock_timeout.strip()):
        raise UsageError(
            f"{lock_timeout!r} is not a lock timeout", hint="Write it as PostgreSQL does: 5s, 500ms"
        )


def _retrying(work: Callable[[], T], *, patience: float) -> T:
    """Calls `work`, a transaction, until it gets its locks.

    It waits a random time in between, so that many of us do not march in step; after `patience`
    seconds the last error goes to the caller. Errors of the server come as ours.
    """
    deadline = time.monotonic() + patience
    pause = 0.1
    while True:
        try:
            return work()
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if time.monotonic() >= deadline:
                raise DeployError(
                    f"another session has held a lock that the deployment needs for "
                    f"{patience:.0f} s",
                    code=error.sqlstate,
                    detail=error.diag.message_primary,
                    hint="pg_locks shows who it is. Try again later, or with a longer "
                    "--lock-timeout.",
                ) from error
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        time.sleep(random.uniform(0, pause))
        pause = min(pause * 2, 5.0)


PIN = "select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
"""Before anything else: in a search_path of the user's, even = may be somebody else's."""

LOCK = compose.SQL("select pg_catalog.pg_advisory_xact_lock({})").format(compose.Literal(LOCK_KEY))


def _begin(connection: psycopg.Connection, lock_timeout: str) -> None:
    """Begins a deployment: READ COMMITTED, so that what the last holder of the lock has
    committed is seen."""
    connection.execute("set transaction isolation level read committed, read write")
    connection.execute(PIN)
    connection.execute("select pg_catalog.set_config('lock_timeout', %s, true)", [lock_timeout])
    connection.execute(LOCK)


def _engine(dsn: str) -> Engine:
    """A SQLAlchemy engine for one connection after the other."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connect_raw(dsn),
        poolclass=NullPool,
        use_native_hstore=False,
    )


def _driver_connection(connection: SqlalchemyConnection) -> psycopg.Connection:
    """psycopg's connection below SQLAlchemy's; both are in the same transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


# Looking ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What the catalog says, without touching a function of sqlkit."""

    extension: str | None
    has_deployment: bool
    has_version_table: bool
    owner: str | None
    is_owner: bool
    is_member: bool


def _look(connection: psycopg.Connection) -> tuple[_Found, str | None, Channel | None]:
    with connection.cursor(row_factory=class_row(_Found)) as cursor:
        found = cursor.execute(
            """
            select
                (select e.extversion from pg_catalog.pg_extension as e where e.extname = 'sqlkit')
                    as extension,
                pg_catalog.to_regclass('sqlkit.deployment') is not null as has_deployment,
                pg_catalog.to_regclass('sqlkit.alembic_version') is not null as has_version_table,
                pg_catalog.pg_get_userbyid(n.nspowner)::text as owner,
                coalesce(n.nspowner::regrole = current_user::regrole, false) as is_owner,
                coalesce(pg_catalog.pg_has_role(n.nspowner, 'MEMBER'), false) as is_member
            from (values (1)) as one (row)
            left join pg_catalog.pg_namespace as n on n.nspname = 'sqlkit'
            """
        ).fetchone()
    assert found is not None
    if not found.has_deployment:
        return found, None, None
    row = connection.execute("select sqlkit.version(), sqlkit.channel()").fetchone()
    assert row is not None
    return found, row[0], row[1]


def status(dsn: str) -> Status:
    """What is deployed, by which way, and what an upgrade would apply. Changes nothing."""
    with _connect(dsn) as connection:
        found, version, channel = _look(connection)
        oldest_client = None
        if version is not None:
            row = connection.execute("select sqlkit.oldest_client()").fetchone()
            oldest_client = row[0] if row else None
    try:
        check_compatible(version, oldest_client)
        compatible = True
    except IncompatibleError:
        compatible = False
    # A release that this package does not know is newer: it has nothing to bring.
    known = version is None or version in VERSIONS
    pending = tuple(after for _, after in steps(version)) if known else ()
    return Status(
        version=version,
        channel=channel,
        owner=found.owner if version else None,
        shipped=VERSION,
        pending=pending,
        compatible=compatible,
    )


def history(dsn: str) -> list[Deployment]:
    """Every deployment into this database, oldest first; empty where there was none."""
    with _connect(dsn) as connection:
        found, _, _ = _look(connection)
        if not found.has_deployment:
            return []
        with connection.cursor(row_factory=class_row(Deployment)) as cursor:
            return cursor.execute(
                """
                select version, previous_version, channel, database_user::text, deployed_at
                from sqlkit.deployment
                order by deployed_at, version
                """
            ).fetchall()


# Deploying --------------------------------------------------------------------------------------


def up(
    dsn: str,
    *,
    lock_timeout: str = "5s",
    to: str | None = None,
    way: Channel = "alembic",
    role: str | None = None,
    patience: float = PATIENCE,
) -> str:
    """Brings the schema to release `to` (the newest by default), and returns its version.

    Everything happens in one transaction: it is there wholly or not at all. Any number of
    callers may do this at once; one does the work, and all return. Whoever waits for a lock
    longer than `lock_timeout` steps back and tries again, for `patience` seconds.

    `way` is how the database is deployed; one that was deployed another way is refused (SK901).
    The way ``extension`` needs the files of ``sqlkit extension install`` on the server. `role`
    is the role that does it and owns what it makes; by default the owner of what is there, or
    the user that connects.
    """
    if way not in CHANNELS:
        raise UsageError(f"there is no way {way!r}", hint="Ways are " + ", ".join(CHANNELS))
    _check_timeout(lock_timeout)
    steps(None, to)  # refuses an unknown version before anything is asked of the server

    if way == "alembic":
        return _retrying(
            lambda: _in_alembic_transaction(
                dsn,
                lock_timeout,
                lambda connection: _up_locked(
                    _driver_connection(connection), connection, to=to, way=way, role=role
                ),
            ),
            patience=patience,
        )

    def once() -> str:
        with _connect_raw(dsn) as connection:
            _begin(connection, lock_timeout)
            return _up_locked(connection, None, to=to, way=way, role=role)

    return _retrying(once, patience=patience)


def _in_alembic_transaction(
    dsn: str, lock_timeout: str, work: Callable[[SqlalchemyConnection], T]
) -> T:
    """Calls `work` in one transaction that holds the lock of deployments; errors are psycopg's."""
    from sqlalchemy.exc import DBAPIError

    try:
        with _engine(dsn).connect() as connection, connection.begin():
            _begin(_driver_connection(connection), lock_timeout)
            return work(connection)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from None
        raise


_GO_ON: dict[Channel, str] = {
    "extension": "Use: sqlkit migrate up --way extension, or: alter extension sqlkit update",
    "alembic": "Use: sqlkit migrate up",
    "script": "Use: sqlkit migrate up --way script, or: psql -f sqlkit.sql",
}


def _up_locked(
    connection: psycopg.Connection,
    through: SqlalchemyConnection | None,
    *,
    to: str | None,
    way: Channel,
    role: str | None,
) -> str:
    found, version, channel = _look(connection)
    if channel is not None and channel != way:
        raise DeployError(
            f"sqlkit {version} was deployed here by {channel}, so {way} cannot go on with it",
            code="SK901",
            hint=_GO_ON[channel],
        )
    if channel == "alembic" and not found.has_version_table:
        raise DeployError(
            f"sqlkit {version} was deployed here by an Alembic environment other than sqlkit's own",
            code="SK901",
            hint="Go on with that one: alembic upgrade sqlkit@head",
        )
    wanted = steps(version, to)
    if not wanted:
        assert version is not None
        return version
    if role is None and version and found.owner and not found.is_owner and found.is_member:
        role = found.owner
    if role is not None:
        connection.execute(compose.SQL("set local role {}").format(compose.Identifier(role)))
    target = wanted[-1][1]
    if through is not None:
        from alembic import command

        command.upgrade(config(through), target)
    elif way == "script":
        _run_scripts(connection, wanted)
    else:
        _run_extension(connection, version, target)
    return target


SAVE = """
select
    pg_catalog.set_config('sqlkit.saved_search_path', pg_catalog.current_setting('search_path'), true),
    pg_catalog.set_config('sqlkit.saved_check', pg_catalog.current_setting('check_function_bodies'), true),
    pg_catalog.set_config('sqlkit.channel', '{channel}', true);
"""  # noqa: E501
RESTORE = """
select
    pg_catalog.set_config('search_path', pg_catalog.current_setting('sqlkit.saved_search_path'), true),
    pg_catalog.set_config('check_function_bodies', pg_catalog.current_setting('sqlkit.saved_check'), true),
    pg_catalog.set_config('sqlkit.channel', '', true);
"""  # noqa: E501
# The settings of a body outlive it: later statements of the caller's transaction would run with
# our search_path. In SQL, since the same must happen in an offline script.


def _framed(body: str, channel: Channel) -> str:
    """A body that leaves the caller's settings as they were."""
    return f"{SAVE.format(channel=channel)}\n{body}\n{RESTORE}"


def _run_scripts(connection: psycopg.Connection, wanted: list[tuple[str | None, str]]) -> None:
    for before, after in _shortest(wanted):
        body = read_script(_script_name(before, after))
        connection.execute(_framed(body, "script").encode())


def _run_extension(connection: psycopg.Connection, version: str | None, target: str) -> None:
    try:
        connection.execute(_extension_statement(version, target))
    except (
        errors.FeatureNotSupported,
        errors.UndefinedFile,
        errors.InvalidParameterValue,
    ) as error:
        raise DeployError(
            error.diag.message_primary or str(error),
            code=error.sqlstate,
            detail=error.diag.message_detail,
            hint="Put the files of this release on the server: sqlkit extension install",
        ) from error


def _extension_statement(version: str | None, target: str) -> compose.Composed:
    if version is None:
        text = compose.SQL("create extension sqlkit version {}")
    else:
        text = compose.SQL("alter extension sqlkit update to {}")
    return text.format(compose.Literal(target))


# The script for review --------------------------------------------------------------------------


def sql(
    version: str | None = None,
    *,
    to: str | None = None,
    way: Channel = "alembic",
    lock_timeout: str = "5s",
) -> str:
    """What `up` would run in a database that has `version` (None: nothing), for review.

    The text begins and commits its own transaction and runs by psql; afterwards the database is
    as `up` would have left it, including Alembic's version table, and `up` goes on from there.
    """
    _check_timeout(lock_timeout)
    wanted = steps(version, to)
    if not wanted:
        return f"-- sqlkit {version} is the newest release: nothing to do\n"
    target = wanted[-1][1]
    if way == "alembic":
        from alembic import command

        buffer = io.StringIO()
        offline = config(output=buffer)
        offline.attributes["lock_timeout"] = lock_timeout
        command.upgrade(offline, f"{version or 'base'}:{target}", sql=True)
        return buffer.getvalue()
    head = f"begin;\n\n{_offline_lock(lock_timeout)}"
    if way == "script":
        bodies = [
            _framed(read_script(_script_name(before, after)), way)
            for before, after in _shortest(wanted)
        ]
        return head + "".join(bodies) + "\ncommit;\n"
    statement = _extension_statement(version, target).as_string(None)
    return f"{head}\n{statement};\n\ncommit;\n"


def _offline_lock(lock_timeout: str) -> str:
    return (
        f"set local lock_timeout = '{lock_timeout.strip()}';\n"
        f"select pg_catalog.pg_advisory_xact_lock({LOCK_KEY});\n"
    )


def roles_sql() -> str:
    """The script that makes the optional roles and grants what they may do."""
    return read_script("roles.sql")


def make_roles(dsn: str, *, lock_timeout: str = "5s", patience: float = PATIENCE) -> None:
    """Runs `roles_sql`; needs CREATEROLE. As often as you like, before a deployment or after."""
    _check_timeout(lock_timeout)

    def once() -> None:
        with _connect_raw(dsn) as connection:
            _begin(connection, lock_timeout)
            connection.execute(roles_sql().encode())

    _retrying(once, patience=patience)


# Verifying --------------------------------------------------------------------------------------


def verify(dsn: str) -> list[Difference]:
    """Every difference between what is deployed and what that release ships; empty if none.

    Compares object by object: definition, owner, grants, comments, settings, columns, constraints,
    indexes. Grants to the optional roles count where these roles exist. Changes nothing; needs no
    more than USAGE on schema sqlkit. Raises DeployError (SK902) where nothing is deployed.
    """
    with _connect(dsn) as connection:
        found, version, channel = _look(connection)
        if version is None:
            raise DeployError(
                "sqlkit is not deployed in this database", code="SK902", hint="sqlkit migrate up"
            )
        expected = _shipped(connection, version)
        result = differences(expected, as_recorded(take(connection), version))
        if channel == "extension":
            result += [
                Difference(identity, "extension", "member", None)
                for (identity,) in connection.execute(NOT_MEMBERS.encode()).fetchall()
            ]
            if found.extension != version:
                result.append(Difference("extension sqlkit", "version", version, found.extension))
    return result


def without_grants(found: list[Difference]) -> tuple[list[str], list[Difference]]:
    """The roles that were made after this schema and have no rights here at all, and the rest.

    Roles belong to the server, so that those that another database has made count here too. Each
    would be several hundred differences.
    """
    schema = next((one for one in found if (one.object, one.fact) == _USAGE), None)
    lacking = [
        role
        for role in ROLES
        if schema and _grantee(schema.expected, role) and not _grantee(schema.found, role)
    ]
    rest = []
    for one in found:
        if one.fact != "grants" or not isinstance(one.expected, list):
            rest.append(one)
            continue
        wanted = [grant for grant in one.expected if grant.partition("=")[0] not in lacking]
        if wanted != one.found:
            rest.append(replace(one, expected=wanted))
    return lacking, rest


_USAGE = ("schema sqlkit", "grants")


def _grantee(grants: Any, role: str) -> bool:
    return any(grant.partition("=")[0] == role for grant in grants or ())


def _shipped(connection: psycopg.Connection, version: str) -> dict[str, dict[str, Any]]:
    """The release's fingerprint as it should be on this server."""
    steps(version)  # refuses a version that this package does not know
    present = {
        role
        for (role,) in connection.execute(
            """
            select r.rolname::text
            from pg_catalog.pg_roles as r
            where r.rolname = any(%s)
                -- An owner has everything, and is granted nothing.
                and r.oid <> (
                    select n.nspowner from pg_catalog.pg_namespace as n where n.nspname = 'sqlkit'
                )
            """,
            [list(ROLES)],
        ).fetchall()
    }
    major = connection.info.server_version // 10000
    return without_roles(unpack(read_script(f"fingerprint--{version}.json"), major), present)


# Uninstalling -----------------------------------------------------------------------------------


def uninstall(
    dsn: str, *, force: bool = False, lock_timeout: str = "5s", patience: float = PATIENCE
) -> list[str]:
    """Removes sqlkit with its ledger and stages, wholly or not at all. Returns what was dropped.

    Nothing is dropped by CASCADE: where anything that is not sqlkit's lies in its schemas or
    depends on them, it refuses (SK908) and names it. It refuses too while a run is under way,
    unless `force`. Tables that were loaded, and roles, stay as they are.
    """
    _check_timeout(lock_timeout)

    def once() -> list[str]:
        with _connect_raw(dsn) as connection:
            _begin(connection, lock_timeout)
            return _uninstall_locked(connection, force=force)

    return _retrying(once, patience=patience)


def _uninstall_locked(connection: psycopg.Connection, *, force: bool) -> list[str]:
    found, version, channel = _look(connection)
    if version is None:
        return []
    if found.owner and not found.is_owner and found.is_member:
        connection.execute(compose.SQL("set local role {}").format(compose.Identifier(found.owner)))
    if not force:
        _refuse_running(connection)
    expected = _shipped(connection, version)
    foreign = [
        item.object
        for item in differences(expected, take(connection))
        if item.fact is None and item.expected is None and not item.object.startswith("column ")
    ]
    dropped = _drop_stages(connection, foreign)
    if foreign:
        raise DeployError(
            "the schemas of sqlkit hold objects that are not its own",
            code="SK908",
            detail=", ".join(foreign),
            hint="Move or drop them first.",
        )
    if channel == "extension":
        drops = ["extension sqlkit"]
    else:
        drops = _drops(connection)
    dropped += _drop_all(connection, drops)
    if channel != "extension":
        dropped += _drop_all(connection, ["schema sqlkit_stage", "schema sqlkit"])
    return dropped


def _refuse_running(connection: psycopg.Connection) -> None:
    """A run that gave a sign of life within the last minutes is taken to be alive."""
    row = connection.execute(
        """
        select pg_catalog.string_agg(r.run_id::text, ', ' order by r.run_id)
        from sqlkit.run as r
        where r.state = 'running'
            and r.heartbeat_at > pg_catalog.clock_timestamp() - interval '5 minutes'
        """
    ).fetchone()
    if row is not None and row[0] is not None:
        raise DeployError(
            "a run is under way",
            code="SK908",
            detail=f"run {row[0]}",
            hint="Wait until it has ended; or --force if you know that it is dead.",
        )


def _drop_stages(connection: psycopg.Connection, foreign: list[str]) -> list[str]:
    """Drops the stages that the ledger knows; names everything else there in `foreign`."""
    rows = connection.execute(
        """
        select
            pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
            exists (select from sqlkit.stage as s where s.name = c.relname) as is_known
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'sqlkit_stage' and c.relkind not in ('i', 'I', 't')
        order by 1
        """
    ).fetchall()
    foreign.extend(f"table {name}" for name, is_known in rows if not is_known)
    if foreign:
        return []
    return _drop_all(connection, [f"table {name}" for name, _ in rows])


def _drops(connection: psycopg.Connection) -> list[str]:
    """Everything in schema sqlkit, as the tail of a DROP; tables together, for their foreign keys
    may go in a circle."""
    rows = connection.execute(
        """
        select 'routine ' || p.oid::regprocedure::text
        from pg_proc as p
        where p.pronamespace = 'sqlkit'::regnamespace
        union all
        select case c.relkind when 'm' then 'materialized view ' else 'view ' end
            || c.oid::regclass::text
        from pg_class as c
        where c.relnamespace = 'sqlkit'::regnamespace and c.relkind in ('v', 'm')
        union all
        select 'table ' || string_agg(c.oid::regclass::text, ', ' order by c.oid)
        from pg_class as c
        where c.relnamespace = 'sqlkit'::regnamespace and c.relkind in ('r', 'p')
        having count(*) > 0
        union all
        select 'type ' || t.oid::regtype::text
        from pg_type as t
        left join pg_class as c on c.oid = t.typrelid
        where t.typnamespace = 'sqlkit'::regnamespace
            and (t.typtype in ('e', 'd', 'r') or c.relkind = 'c')
        union all
        select 'sequence ' || c.oid::regclass::text
        from pg_class as c
        where c.relnamespace = 'sqlkit'::regnamespace and c.relkind = 'S'
            and not exists (
                select
                from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid
                    and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass
            )
        """
    ).fetchall()
    return [row[0] for row in rows]


def _drop_all(connection: psycopg.Connection, drops: list[str]) -> list[str]:
    """Drops objects that depend on each other in whatever order works, never by CASCADE.

    Each round drops what nothing depends on any more. When a round drops nothing, what is left
    has dependents that are not ours: raises DeployError, and the transaction is lost.
    """
    done: list[str] = []
    left = drops
    while left:
        stuck: list[str] = []
        reason: psycopg.Error | None = None
        for drop in left:
            try:
                with connection.transaction():
                    connection.execute(f"drop {drop} restrict".encode())
                done.append(drop)
            except errors.DependentObjectsStillExist as error:
                stuck.append(drop)
                reason = error
        if len(stuck) == len(left):
            assert reason is not None
            raise DeployError(
                "something that is not sqlkit's depends on it",
                code="SK908",
                detail=reason.diag.message_detail,
                hint="Drop or change it first; sqlkit drops nothing by CASCADE.",
            )
        left = stuck
    return done


# Alembic ----------------------------------------------------------------------------------------


def config(
    connection: SqlalchemyConnection | None = None, output: io.StringIO | None = None
) -> Config:
    """An Alembic configuration for sqlkit's own environment, without any file."""
    from alembic.config import Config

    made = Config(output_buffer=output or io.StringIO(), stdout=io.StringIO())
    made.set_main_option("script_location", str(location()).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def apply_revision(script: str, *, sha256: str) -> None:
    """What a revision of sqlkit does: runs the very script of the release, byte for byte.

    For use inside an Alembic revision, in sqlkit's environment or the user's own, online and
    offline. The caller's search_path is put back afterwards.
    """
    from alembic import op

    body = read_script(script, sha256=sha256)
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(_framed(body, "alembic"))
        return
    _execute_whole(op.get_bind(), _framed(body, "alembic"))


def _execute_whole(bind: SqlalchemyConnection, script: str) -> None:
    """Executes a script of many statements as it stands, inside the transaction of `bind`."""
    if bind.dialect.driver == "asyncpg":
        # SQLAlchemy prepares every statement for this driver, which works for single ones only.
        # The first one begins the transaction.
        bind.exec_driver_sql("select 1")
        adapted: Any = bind.connection
        adapted.run_async(lambda connection: connection.execute(script))
        return
    # no_parameters: a % in the script is a %.
    bind.exec_driver_sql(script, execution_options={"no_parameters": True})


def run_environment(context: EnvironmentContext | ModuleType) -> None:
    """The body of ``migrations/env.py``: `context` is ``alembic.context``.

    Inside `up` it works on the connection and in the transaction given to it. Under the plain
    ``alembic`` command it finds the database as sqlkit does (``-x dsn=...``, SQLKIT_DSN, PG*),
    and takes the same lock, with the same patience, as `up`
    (``-x lock_timeout=``, ``-x patience=``).
    """
    options: dict[str, Any] = {
        "version_table": VERSION_TABLE,
        "version_table_schema": "sqlkit",
        "target_metadata": None,
    }
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", literal_binds=True, **options)
        lock_timeout = _lock_timeout(context)
        with context.begin_transaction():
            context.get_context().impl.static_output(_offline_lock(lock_timeout))
            context.execute("create schema if not exists sqlkit")
            context.run_migrations()
        return

    def run(connection: SqlalchemyConnection) -> None:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            # Alembic makes its table before the first revision runs, and so needs the schema;
            # `alembic current` and its like only look.
            if not context.get_context().opts.get("dont_mutate"):
                _make_version_schema(_driver_connection(connection))
            context.run_migrations()

    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return

    from sqlkit.server import find_dsn

    extra = context.get_x_argument(as_dictionary=True)

    def work(connection: SqlalchemyConnection) -> None:
        role = extra.get("role")
        if role:
            _driver_connection(connection).execute(
                compose.SQL("set local role {}").format(compose.Identifier(role))
            )
        run(connection)

    try:
        dsn = find_dsn(extra.get("dsn"))
        lock_timeout, patience = _lock_timeout(context), _patience(extra.get("patience"))
        _retrying(lambda: _in_alembic_transaction(dsn, lock_timeout, work), patience=patience)
    except SqlkitError as error:
        from alembic.util import CommandError

        # What the command shows as a message, instead of a traceback.
        told = (f"{error.message} ({error.code})", error.detail, error.hint)
        raise CommandError("\n".join(filter(None, told))) from error


def _patience(given: str | None) -> float:
    try:
        return PATIENCE if given is None else float(given)
    except ValueError:
        raise UsageError(f"patience={given!r} is no number of seconds") from None


def _lock_timeout(context: EnvironmentContext | ModuleType) -> str:
    extra = context.get_x_argument(as_dictionary=True)
    given = context.config.attributes.get("lock_timeout") or extra.get("lock_timeout", "5s")
    _check_timeout(given)
    return str(given)


def _make_version_schema(connection: psycopg.Connection) -> None:
    found, version, channel = _look(connection)
    if channel not in (None, "alembic"):
        raise DeployError(
            f"sqlkit {version} was deployed here by {channel}, so alembic cannot go on with it",
            code="SK901",
            hint=_GO_ON[channel],
        )
    if found.owner is None:
        connection.execute("create schema sqlkit")
