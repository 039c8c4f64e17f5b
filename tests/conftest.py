"""Servers and databases for the tests.

``--postgres=15,18`` chooses the versions. A test marked ``every_version`` runs once on each of
them, one marked ``oldest_and_newest`` on these two, where those between have nothing of their
own to say, and any other on the newest of them only. A version that the machine does not have is
skipped; where CI is true it fails.

On the newest version tests connect as a role that may load and no more, in hostile surroundings
(see loader_role.py); what a test has to prepare beyond that, `superuser` and `Database.preparing`
do. On the others, and where sqlkit is deployed (tests/release), they are superusers.
``--role=superuser`` and ``--role=loader`` make all of them the one or the other; tests that
connect to no such database would only be repeated by the latter, and are left out.

Fixtures: `server`, and from it `database` (sqlkit deployed, a fresh copy for each test),
`empty_database` (nothing deployed), `dsn` (of `database`), `connection` (to `database`, in
autocommit), `superuser` (the same, whatever --role says), `own_server` (starts a server for one
test alone, which may kill it), `pooled_server` (`server` through PgBouncer), `mariadb` (a MariaDB,
to load from), `sqlkit` (runs the command line).
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sqlkit.server import SUPERUSER
from tests import loader_role, servers
from tests.forking import Forker
from tests.servers import MAJORS, MariaServer, Missing, Server, Session

SESSION_VARIABLE = "SQLKIT_TEST_SESSION"
CI = os.environ.get("CI", "").lower() not in ("", "0", "false")

OpenServer = Callable[..., Server]


def in_public(dsn: str) -> str:
    """A connection string with which names without a schema are those of `public`, as the names of
    tables in a project mostly are."""
    return make_conninfo(dsn, options="-c search_path=public,hostile")


@dataclass(frozen=True)
class Database:
    """A database of one test, dropped when the test ends."""

    name: str
    server: Server
    user: str = SUPERUSER

    @property
    def dsn(self) -> str:
        """Its connection string, as the role of --role."""
        return self.server.dsn(self.name, user=self.user)

    def connect(self, **options: str) -> psycopg.Connection:
        """A connection in autocommit, such as ``connect(user="somebody")``.

        It is the test's own: nothing hostile is in its search_path.
        """
        options = {"user": self.user, "options": "-c search_path=public", **options}
        return psycopg.connect(self.server.dsn(self.name, **options), autocommit=True)

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Whose tests they are may make schemas and publications while the block runs: his own,
        which a DBA lets him have. Around what prepares a test, never around what it tests."""
        for change in ("grant create on database {} to {}", "revoke create on database {} from {}"):
            self.server.run(change.format(self.name, self.user))
            if change.startswith("grant"):
                yield


# --------------------------------------------------------------------------------------------
# Options, header, the session's servers
# --------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        default=",".join(map(str, MAJORS)),
        help="versions to test on, such as 15,18 or docker:18 (default: %(default)s)",
    )
    parser.addoption(
        "--role",
        choices=("mixed", "superuser", "loader"),
        default="mixed",
        help="who the tests are: a superuser, a loader with a hostile search_path, or by version",
    )
    parser.addoption(
        "--search-path",
        default=loader_role.SEARCH_PATH,
        help="of the loader of --role: %(default)s, where better matches for everything lie, or ''",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("role") == "loader":
        theirs = [item for item in items if "user" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=theirs)
        items[:] = [item for item in items if item not in set(theirs)]


def _chosen(config: pytest.Config) -> list[str]:
    chosen = [name.strip() for name in str(config.getoption("postgres")).split(",") if name.strip()]
    known = [str(major) for major in MAJORS]
    for name in chosen:
        if name not in known and not name.startswith("docker:"):
            raise pytest.UsageError(f"--postgres={name}: choose from {', '.join(known)}, docker:18")
    return sorted(chosen, key=lambda name: int(name.removeprefix("docker:").split(".")[0]))


def pytest_configure(config: pytest.Config) -> None:
    # libpq's variables name the developer's own server, which is none of the tests' business.
    for variable in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[variable]
    os.environ.pop("SQLKIT_DSN", None)
    _chosen(config)
    if SESSION_VARIABLE not in os.environ:
        session = Session.open()
        os.environ[SESSION_VARIABLE] = str(session.root)
        config.add_cleanup(session.close)
        config.add_cleanup(_forget_session)


def _forget_session() -> None:
    os.environ.pop(SESSION_VARIABLE, None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    majors = tuple(int(name) for name in _chosen(config) if name.isdigit())
    return [*servers.describe(majors), f"role: {config.getoption('role')}"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        chosen = _chosen(metafunc.config)
        marker = metafunc.definition.get_closest_marker
        if marker("oldest_and_newest"):
            chosen = sorted({chosen[0], chosen[-1]}, key=chosen.index)
        elif marker("between"):
            chosen = chosen[1:-1]
        elif not marker("every_version"):
            chosen = chosen[-1:]
        ids = [f"pg{name}" for name in chosen]
        if "user" in metafunc.fixturenames:
            users = [_user(metafunc, name) for name in chosen]
            names, values = ("server", "user"), list(zip(chosen, users, strict=True))
            metafunc.parametrize(names, values, indirect=True, scope="session", ids=ids)
        else:
            metafunc.parametrize("server", chosen, indirect=True, scope="session", ids=ids)


def _user(metafunc: pytest.Metafunc, version: str) -> str:
    """Who a test connects as on a version."""
    role = metafunc.config.getoption("role")
    if role == "mixed":
        deploys = "release" in metafunc.definition.path.parts
        role = "loader" if version == _chosen(metafunc.config)[-1] and not deploys else "superuser"
    return loader_role.NAME if role == "loader" else SUPERUSER


def missing(reason: str) -> NoReturn:
    """Skip a test for want of a server or tool; where CI is true, fail instead."""
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def test_session() -> Session:
    """The directory with this session's servers."""
    return Session(Path(os.environ[SESSION_VARIABLE]))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, test_session: Session) -> Iterator[Server]:
    """A running server that all tests share: make databases in it, do not stop it."""
    name = str(request.param)
    try:
        if name.startswith("docker:"):
            with servers.container(name.removeprefix("docker:")) as running:
                yield running
        else:
            yield test_session.shared(int(name))
    except Missing as reason:
        missing(str(reason))


@pytest.fixture
def own_server(test_session: Session) -> Iterator[OpenServer]:
    """``own_server(major=18, settings={...})`` starts a server that the test may kill."""
    with contextlib.ExitStack() as stack:

        def start(major: int = MAJORS[-1], settings: Mapping[str, str] | None = None) -> Server:
            try:
                return stack.enter_context(test_session.own(major, settings))
            except Missing as reason:
                missing(str(reason))

        yield start


@pytest.fixture(scope="session")
def pooled_server(server: Server, test_session: Session) -> Iterator[Server]:
    """`server` behind a transaction-pooling proxy: ``pooled_server.dsn(database.name)``."""
    try:
        with servers.transaction_pooler(test_session, server) as pooled:
            yield pooled
    except Missing as reason:
        missing(str(reason))


@pytest.fixture(scope="session")
def mariadb(test_session: Session) -> MariaServer:
    """A running MariaDB that all tests share: make databases in it, do not stop it."""
    if importlib.util.find_spec("MySQLdb") is None:
        missing("mysqlclient is not installed: pip install 'sqlkit[mysql]'")
    try:
        return test_session.mariadb()
    except Missing as reason:
        missing(str(reason))


# --------------------------------------------------------------------------------------------
# Databases
# --------------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def _template(
    session: Session,
    server: Server,
    name: str,
    fill: Callable[[str], object],
    copied_from: str = "template0",
) -> str:
    """A template database on `server`, made and filled by whoever asks first; its name."""
    ready = session.root / f"{server.port}.{name}.ready"
    with ready.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            server.drop_database(name)
            server.create_database(name, copied_from)
            fill(server.dsn(name))
            # Nobody may connect, or a copy would have to wait: autovacuum too.
            server.run(f'alter database "{name}" with allow_connections false')
            ready.touch()
    return name


@contextlib.contextmanager
def fresh_database(
    server: Server, template: str = "template0", user: str = SUPERUSER
) -> Iterator[Database]:
    """A database that exists while the block runs, for a user."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"test_{worker}_{next(_numbers)}"
    server.create_database(name, template)
    try:
        yield Database(name, server, user)
    finally:
        server.drop_database(name)


@pytest.fixture(scope="session")
def user(request: pytest.FixtureRequest) -> str:
    """Who the tests connect as, which --role says."""
    return str(request.param)


@pytest.fixture(scope="session")
def sqlkit_template(
    request: pytest.FixtureRequest, server: Server, test_session: Session, user: str
) -> str:
    """The name of a database of `server` that has sqlkit deployed, to be copied."""
    from sqlkit import migrate

    def fill(dsn: str) -> None:
        migrate.up(dsn)
        if user == loader_role.NAME:
            loader_role.prepare(dsn, str(request.config.getoption("search_path")))

    return _template(test_session, server, f"sqlkit_template_of_{user}", fill)


@pytest.fixture(scope="session")
def pgtap_template(server: Server, test_session: Session, sqlkit_template: str, user: str) -> str:
    """Like `sqlkit_template`, with pgTAP in schema public and the helpers of _setup.sql."""
    if server.cluster is not None and servers.pgtap_files() is None:  # the container's has it
        missing("pgTAP is not installed: tests/install-services.sh installs it on Debian")

    def fill(dsn: str) -> None:
        prepare_sql_tests(dsn, Path(__file__).parent / "sql" / "_setup.sql")

    return _template(test_session, server, f"pgtap_template_of_{user}", fill, sqlkit_template)


def prepare_sql_tests(dsn: str, setup: Path) -> None:
    """Makes pgTAP and the helpers of `setup` in a database that has sqlkit."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create extension pgtap schema public")
        connection.execute(setup.read_bytes())
        connection.execute(b"grant usage on schema sqlkit_test to public")


@pytest.fixture(scope="session")
def pgtap_database(server: Server, pgtap_template: str, user: str) -> Iterator[Database]:
    """A database for the SQL tests, each of which leaves it as it was."""
    with fresh_database(server, pgtap_template, user) as made:
        yield made


@pytest.fixture
def database(server: Server, sqlkit_template: str, user: str) -> Iterator[Database]:
    """A fresh database with sqlkit deployed."""
    with fresh_database(server, sqlkit_template, user) as made:
        yield made


@pytest.fixture
def empty_database(server: Server) -> Iterator[Database]:
    """A fresh database without sqlkit. Always a superuser's, who is to deploy there."""
    with fresh_database(server) as made:
        yield made


@pytest.fixture
def dsn(database: Database) -> str:
    """The connection string of `database`."""
    return database.dsn


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    """A connection to `database`, in autocommit."""
    with database.connect() as opened:
        yield opened


@pytest.fixture
def superuser(database: Database) -> Iterator[psycopg.Connection]:
    """A connection to `database` that may do anything: for what a test has to prepare."""
    with database.connect(user=SUPERUSER) as opened:
        yield opened


# --------------------------------------------------------------------------------------------
# The command line
# --------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """The environment for a Python process that has to find sqlkit, installed or not."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


RunSqlkit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """What starts sqlkit's processes quickly."""
    opened = Forker(environment())
    yield opened
    opened.close()


@pytest.fixture
def sqlkit(tmp_path: Path, forker: Forker) -> RunSqlkit:
    """``sqlkit("load", "f.csv", env={...}, input="...")`` runs the command in `tmp_path`."""

    def run(
        *arguments: str | Path,
        cwd: Path = tmp_path,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        done = forker.run(
            [*map(str, arguments)],
            cwd=cwd,
            env=environment() | dict(env or {}),
            input=input.encode() if isinstance(input, str) else input,
            timeout=timeout,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run
