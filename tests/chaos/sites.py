"""Where the trials take place: a server behind a proxy, and a primary with its standby."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from sqlkit import SqlkitError, migrate
from sqlkit.server import Cluster, free_port, server_user
from tests.chaos.proxy import Proxy
from tests.servers import MAJORS, SETTINGS, Missing, Server, Session, transaction_pooler

ROLE = "chaos_loader"
TEMPLATE = "chaos_template"
TINY_BYTES = 160 << 20

CHAOS_SETTINGS = SETTINGS | {
    "deadlock_timeout": "200ms",
    "wal_level": "replica",
    "max_wal_senders": "5",
    "wal_keep_size": "512MB",
    "max_connections": "60",
    "autovacuum_naptime": "5s",
}


def prepare(server: Server) -> None:
    """Deploy into a template, and make the user that all loads run as: no superuser."""
    server.create_database(TEMPLATE)
    migrate.up(server.dsn(TEMPLATE))
    migrate.make_roles(server.dsn(TEMPLATE))
    server.run(f"create role {ROLE} login")
    server.run(f"grant sqlkit_loader to {ROLE}")
    server.run(f"create schema chaos authorization {ROLE}", TEMPLATE)
    server.run(f'alter database "{TEMPLATE}" with allow_connections false')


@dataclass
class Site:
    """A server, and the way that the clients take to it."""

    server: Server
    proxy: Proxy | None = None
    pooler: Server | None = None
    tiny: Path | None = None  # a file system that is soon full; why not, if it is None
    why_not_tiny: str = ""

    def client_dsn(self, database: str, **options: str) -> str:
        """How a client is told where to connect."""
        port = self.server.port
        if self.pooler is not None:
            port = self.pooler.port
        elif self.proxy is not None:
            port = self.proxy.port
        return make_conninfo(
            "",
            host="127.0.0.1",
            port=str(port),
            user=ROLE,
            dbname=database,
            sslmode="disable",
            gssencmode="disable",
            connect_timeout="5",
            **options,
        )

    def admin(self, database: str = "postgres") -> psycopg.Connection:
        """A superuser's connection past the proxy; the server may just be starting."""
        until = time.monotonic() + 30
        while True:
            try:
                return psycopg.connect(self.server.dsn(database), autocommit=True)
            except psycopg.OperationalError as error:
                if time.monotonic() > until:
                    log = _cluster(self.server).log.read_text(errors="replace")
                    raise RuntimeError(f"the server is gone: {error}\n{log[-4000:]}") from error
                self.supervise()
                time.sleep(0.1)

    def supervise(self) -> None:
        """Start the server if it is down, as whatever supervises a service does.

        PostgreSQL may stop in the recovery from a crash: where a transaction that had made an
        unlogged table was rolled back a moment before, and the log tells only of the making, it
        finds an empty file in its way ("could not create file ...: File exists"). It removes that
        when it is started once more.
        """
        cluster = _cluster(self.server)
        if not cluster.running:
            with contextlib.suppress(SqlkitError):
                return cluster.start(self.server.port)
            cluster.start(self.server.port)


class Pair(Site):
    """A primary and a streaming standby, which change places."""

    def __init__(self, server: Server, data: Path) -> None:
        super().__init__(server)
        self.standby = Server(
            server.major,
            Cluster(_cluster(server).install, data, server_user()),
            "127.0.0.1",
            free_port(),
        )
        prepare(self.server)
        self.repair()

    def client_dsn(self, database: str, **options: str) -> str:
        """Both servers in any order; the client is to find the one that accepts writes."""
        return make_conninfo(
            "",
            host="127.0.0.1,127.0.0.1",
            port=",".join(sorted((str(self.server.port), str(self.standby.port)))),
            target_session_attrs="read-write",
            user=ROLE,
            dbname=database,
            sslmode="disable",
            gssencmode="disable",
            connect_timeout="5",
            **options,
        )

    def require_standby(self, wanted: bool) -> None:
        """Whether a synchronous commit waits for the standby."""
        change = (
            "set synchronous_standby_names = '*'" if wanted else "reset synchronous_standby_names"
        )
        self.server.run(f"alter system {change}")
        self.server.run("select pg_reload_conf()")

    def fail_over(self, pause: float) -> None:
        """Fence the primary, which never comes back, and promote the standby."""
        _cluster(self.server).stop("immediate")
        time.sleep(pause)
        with psycopg.connect(self.standby.dsn(), autocommit=True) as connection:
            connection.execute("select pg_promote(true, 30)")
        self.server, self.standby = self.standby, self.server

    def repair(self) -> None:
        """Make a new standby in place of what there is."""
        # The copy is not to wait for a standby of its own once it is promoted.
        self.require_standby(False)
        standby = _cluster(self.standby)
        standby.stop("immediate")
        shutil.rmtree(standby.data, ignore_errors=True)
        user = server_user()
        subprocess.run(
            [
                standby.install.program("pg_basebackup"),
                f"--pgdata={standby.data}",
                f"--dbname={self.server.dsn()}",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
            ],
            check=True,
            cwd="/",
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            capture_output=True,
        )
        standby.start(self.standby.port)
        with self.admin() as connection:
            for _ in range(300):
                row = connection.execute(
                    "select count(*) from pg_stat_replication where state = 'streaming'"
                ).fetchone()
                if row == (1,):
                    return
                time.sleep(0.1)
        raise RuntimeError("the standby does not stream")


def _cluster(server: Server) -> Cluster:
    assert server.cluster is not None
    return server.cluster


def _start(session: Session, data: Path, major: int) -> Server:
    cluster = Cluster(session.install(major), data, server_user())
    cluster.create(password=None, sync=False)
    cluster.configure(CHAOS_SETTINGS)
    port = free_port()
    cluster.start(port)
    return Server(major, cluster, "127.0.0.1", port)


@contextlib.contextmanager
def _tiny_file_system(folder: Path) -> Iterator[tuple[Path | None, str]]:
    """A small file system in memory, where mounting is permitted; else why it is not."""
    path = folder / "tiny"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TINY_BYTES}", "tmpfs", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        yield None, done.stderr.strip() or "mount failed"
        return
    try:
        data = path / "space"
        data.mkdir(mode=0o700)
        if (user := server_user()) is not None:
            os.chown(path, user.pw_uid, user.pw_gid)
            os.chown(data, user.pw_uid, user.pw_gid)
        yield data, ""
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)


@contextlib.contextmanager
def single_site(session: Session, major: int = MAJORS[-1]) -> Iterator[Site]:
    """A server behind the cutting proxy."""
    with contextlib.ExitStack() as stack:
        folder = _folder(session, stack, major)
        tiny, why_not = stack.enter_context(_tiny_file_system(folder))
        server = _start(session, folder / "data", major)
        stack.callback(_cluster(server).stop, "immediate")
        prepare(server)
        if tiny is not None:
            server.run(f"create tablespace tiny location '{tiny}'")
        proxy = Proxy(server.host, server.port)
        stack.callback(proxy.close)
        yield Site(server, proxy, None, tiny, why_not)


@contextlib.contextmanager
def pooled_site(session: Session, site: Site) -> Iterator[Site | None]:
    """The same server behind a transaction-pooling proxy; None where there is none."""
    with contextlib.ExitStack() as stack:
        try:
            pooler = stack.enter_context(transaction_pooler(session, site.server))
        except Missing:
            yield None
            return
        yield Site(site.server, None, pooler)


@contextlib.contextmanager
def pair_site(session: Session, major: int = MAJORS[-1]) -> Iterator[Pair]:
    """A primary with a standby."""
    with contextlib.ExitStack() as stack:
        one, two = (_folder(session, stack, major) / "data" for _ in range(2))
        server = _start(session, one, major)
        for data in (one, two):
            stack.callback(Cluster(_cluster(server).install, data, server_user()).stop, "immediate")
        yield Pair(server, two)


def _folder(session: Session, stack: contextlib.ExitStack, major: int) -> Path:
    # So that a session that is killed is cleared up by the next one.
    folder = Path(tempfile.mkdtemp(prefix=f"{major}-chaos-", dir=session.root))
    folder.chmod(0o755)
    if (user := server_user()) is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
