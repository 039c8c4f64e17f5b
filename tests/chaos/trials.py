"""One trial: a load, the faults that strike it, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

import sqlkit
from tests.chaos.data import Work
from tests.chaos.proxy import Cut
from tests.chaos.sites import ROLE, TEMPLATE, Pair, Site
from tests.chaos.state import State, left_behind, look

ROOT = Path(__file__).parents[2]
START = 0.6
"""Seconds that a client takes to start."""

CLIENT_LIMIT = 600.0
"""Seconds after which a client that still runs has failed."""


@dataclass
class Client:
    """A load in a process of its own."""

    process: subprocess.Popen[str]
    errors: Path  # what it writes to standard error
    was_killed: bool = False
    started_at: float = field(default_factory=time.monotonic)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None


@dataclass
class Outcome:
    """What came of a trial."""

    faults: list[str]
    lost: int = 0
    duplicated: int = 0
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.duplicated or self.left or self.wrong)


class Trial:
    """A database of its own, in which one piece of work is done while it is disturbed."""

    def __init__(
        self, site: Site, work: Work, chance: random.Random, name: str, *, tiny: bool = False
    ) -> None:
        self.site = site
        self.work = work
        self.chance = chance
        self.database = name
        self.usual = 2.0  # seconds that the work takes when nobody disturbs it
        self.clients: list[Client] = []
        self.has_killed = False
        self.dsn_options: dict[str, str] = {}
        self.outcome = Outcome([])
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-errors-")
        place = " tablespace tiny" if tiny else ""
        site.server.run(f'create database "{name}" template "{TEMPLATE}" strategy file_copy{place}')
        with site.admin(name) as admin:
            admin.execute(f"set role {ROLE}")
            admin.execute(work.ddl.encode())

    def drop(self) -> None:
        """Remove the database, and what the clients have said."""
        self._folder.cleanup()
        with self.site.admin() as admin:
            admin.execute(f'drop database if exists "{self.database}" with (force)'.encode())

    # Clients --------------------------------------------------------------------------------

    def start_client(self) -> Client:
        """Start the load, once more or beside another."""
        call = {
            "dsn": self.site.client_dsn(self.database, **self.dsn_options),
            "files": [str(path) for path in self.work.files],
            "options": {"retry_for": 90.0, **self.work.options},
            "asynchronous": self.chance.random() < 0.5,
        }
        with tempfile.NamedTemporaryFile(dir=self._folder.name, delete=False) as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.client", json.dumps(call)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        client = Client(process, Path(errors.name))
        self.clients.append(client)
        return client

    @property
    def running(self) -> list[Client]:
        """The clients that have not ended."""
        return [client for client in self.clients if client.is_running]

    def kill(self, client: Client) -> None:
        """SIGKILL: no handler runs, nothing is said to the server."""
        client.was_killed = self.has_killed = True
        client.process.send_signal(signal.SIGKILL)

    def settle(self) -> None:
        """Wait for all clients; what was killed is started again until it has succeeded."""
        results: list[dict[str, Any]] = []
        waited = 0
        while waited < len(self.clients):
            client = self.clients[waited]
            waited += 1
            try:
                output, _ = client.process.communicate(timeout=CLIENT_LIMIT)
                errors = client.errors.read_text()
            except subprocess.TimeoutExpired:
                client.process.kill()
                client.process.communicate()
                errors = client.errors.read_text()
                self.outcome.wrong.append(f"the load did not end: {errors.strip()[-2000:]}")
                continue
            if client.process.returncode == 0:
                results.append(json.loads(output))
            elif client.was_killed:
                self.start_client()
            else:
                self.outcome.wrong.append(f"the load failed: {errors.strip()[-2000:]}")
        self._compare_results(results)

    def _compare_results(self, results: list[dict[str, Any]]) -> None:
        """What a load says of itself is what the ledger says of its run."""
        with self.site.admin(self.database) as admin:
            for result in results:
                row = admin.execute(
                    "select rows_read, rows_inserted, rows_updated, rows_unchanged, rows_ignored,"
                    " rows_duplicate, rows_rejected, batches from sqlkit.run_summary"
                    " where run_id = %s and state = 'done'",
                    [result["run_id"]],
                ).fetchone()
                said = (*result["rows"].values(), result["batches"])
                if row != said:
                    self.outcome.wrong.append(
                        f"run {result['run_id']} says {said}, the ledger {row}"
                    )

    # The end --------------------------------------------------------------------------------

    def look(self) -> State:
        """What is there now."""
        with self.site.admin(self.database) as admin:
            return look(admin)

    def compare(self, expected: State) -> None:
        """Note all that is not as after an undisturbed load."""
        if self.site.proxy is not None and self.site.proxy.let_go() and self.has_killed:
            # Nobody could know that these sessions were those of a program that is dead.
            self._repair()
        with self.site.admin(self.database) as admin:
            self.outcome.left += left_behind(admin, is_pooled=self.site.pooler is not None)
            found = look(admin)
        for wanted, seen in ((expected.rows, found.rows), (expected.rejects, found.rejects)):
            missing, more = wanted - seen, seen - wanted
            self.outcome.lost += missing.total()
            self.outcome.duplicated += more.total()
        fixed = self.work.counts_are_fixed
        self.outcome.wrong += expected.differences(found, counts_are_fixed=fixed)

    def _repair(self) -> None:
        """What `sqlkit repair` is for, once the server has noticed that sessions are gone."""
        until = time.monotonic() + 30
        while self.sessions() and time.monotonic() < until:
            time.sleep(0.1)
        with sqlkit.connect(self.site.client_dsn(self.database)) as client:
            client.repair()

    # What faults need -------------------------------------------------------------------------

    def pause(self, share: float = 1.0) -> bool:
        """Wait for some moment of the load; False if it ended before."""
        # For the first client, more often than not one when it is at work.
        first = min(START, self.usual / 2) if len(self.clients) == 1 else 0.0
        first -= min(first, time.monotonic() - self.clients[0].started_at)
        until = time.monotonic() + first + self.chance.uniform(0, (self.usual - START) * share)
        while time.monotonic() < until:
            if not self.running:
                return False
            time.sleep(0.005)
        return bool(self.running)

    def ask(self, query: str, *values: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Ask as superuser, again and again if the server has just been killed."""
        until = time.monotonic() + 30
        while True:
            try:
                with self.site.admin(database) as admin:
                    cursor = admin.execute(query.encode(), values)
                    return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def sessions(self) -> list[int]:
        """The server processes of the clients."""
        rows = self.ask(
            "select pid from pg_stat_activity where datname = %s and usename = %s"
            " and backend_type = 'client backend'",
            self.database,
            ROLE,
        )
        return [row[0] for row in rows]

    def end_session(self) -> bool:
        """End one of them, as an administrator does; False if there is none."""
        sessions = self.sessions()
        if sessions:
            self.ask("select pg_terminate_backend(%s)", self.chance.choice(sessions))
        return bool(sessions)

    def times_waited_for(self, code: str) -> int:
        """How often clients have said that they wait because of an error."""
        texts = [path.read_text() for path in Path(self._folder.name).iterdir()]
        return sum(f"({code})" in line for text in texts for line in text.splitlines())

    def have_met(self, code: str, before: int, seconds: float) -> bool:
        """Wait until clients have said that oftener than before; False if they do not."""
        until = time.monotonic() + seconds
        while self.times_waited_for(code) <= before:
            if time.monotonic() > until or not self.running:
                return False
            time.sleep(0.02)
        return True

    @contextlib.contextmanager
    def foreigner(self) -> Iterator[psycopg.Connection]:
        """Somebody else in the same database, who is not rolled back when it comes to deadlocks."""
        with self.site.admin(self.database) as admin:
            admin.execute("set deadlock_timeout = '20s'")
            admin.execute("set lock_timeout = '10s'")
            yield admin


Fault = Callable[[Trial], bool]


# --------------------------------------------------------------------------------------------
# The faults. Each waits for its moment, strikes, and tells whether a load was struck.
# --------------------------------------------------------------------------------------------


def kill_client(trial: Trial) -> bool:
    if not trial.pause():
        return False
    client = trial.chance.choice(trial.running)
    trial.kill(client)
    # The next one may come while the server is still busy with the last.
    if trial.chance.random() < 0.5:
        client.process.wait()
        trial.start_client()
        client.was_killed = False
        trial.clients.remove(client)
        _close_pipe(client)
    return True


def _close_pipe(client: Client) -> None:
    assert client.process.stdout is not None
    client.process.stdout.close()


def terminate_session(trial: Trial) -> bool:
    while trial.pause(0.5):
        if trial.end_session():
            return True
    return False


def crash_process(trial: Trial) -> bool:
    """SIGKILL of one server process: the server restarts all of them, and empties stages."""
    while trial.pause(0.5):
        if sessions := trial.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(trial.chance.choice(sessions), signal.SIGKILL)
            # While it recovers, it may end.
            for _ in range(10):
                time.sleep(0.05)
                trial.site.supervise()
            return True
    return False


def restart_server(trial: Trial) -> bool:
    if not trial.pause():
        return False
    cluster = trial.site.server.cluster
    assert cluster is not None
    cluster.stop("immediate")
    time.sleep(trial.chance.uniform(0, 1))
    trial.site.supervise()
    return True


def cut_now(trial: Trial) -> bool:
    assert trial.site.proxy is not None
    while trial.pause(0.5):
        if trial.site.proxy.cut_all(keeps_server=trial.chance.random() < 0.3):
            return True
    return False


def _cut_at_commit(trial: Trial, cut: Cut) -> bool:
    proxy = trial.site.proxy
    assert proxy is not None
    proxy.arm(cut, trial.chance.randrange(8))
    try:
        while trial.running:
            if proxy.fired.wait(0.02):
                return True
    finally:
        proxy.disarm()
    return proxy.fired.is_set()


def cut_before_commit(trial: Trial) -> bool:
    return _cut_at_commit(trial, Cut.BEFORE)


def cut_during_commit(trial: Trial) -> bool:
    return _cut_at_commit(trial, Cut.DURING)


def cut_after_commit(trial: Trial) -> bool:
    return _cut_at_commit(trial, Cut.AFTER)


def leave_orphan(trial: Trial) -> bool:
    """The server does not notice that its client is gone, and keeps its locks."""
    return _cut_at_commit(trial, Cut.ORPHAN)


def fail_over(trial: Trial) -> bool:
    pair = trial.site
    assert isinstance(pair, Pair)
    if not trial.pause():
        return False
    pair.fail_over(trial.chance.uniform(0, 0.5))
    return True


def fill_disk(trial: Trial) -> bool:
    tiny = trial.site.tiny
    assert tiny is not None
    if not trial.pause():
        return False
    filler = tiny.parent / "filler"
    before = trial.times_waited_for("53100")
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        has_struck = trial.have_met("53100", before, 5.0)
        if has_struck:
            # It may find the disk full again, and again.
            time.sleep(trial.chance.uniform(0, 2.0))
    finally:
        filler.unlink(missing_ok=True)
    return has_struck


def hold_lock(trial: Trial) -> bool:
    """A lock that a load waits for, some time at least."""
    mode = trial.chance.choice(
        ("access exclusive", "share", "share row exclusive", "row exclusive")
    )
    if not trial.pause():
        return False
    has_struck = False
    with (
        trial.foreigner() as foreigner,
        contextlib.suppress(psycopg.errors.LockNotAvailable),
        foreigner.transaction(),
    ):
        foreigner.execute(f"lock table chaos.target in {mode} mode".encode())
        has_struck = _is_wanted(trial, foreigner)
        if has_struck:
            # Less than what finish_run() waits for a tuned table, which it would leave as it is.
            time.sleep(trial.chance.uniform(0.1, 0.8))
    return has_struck


def deadlock(trial: Trial) -> bool:
    """Takes what the load wants while it waits for what the load has."""
    if not trial.pause():
        return False
    before = trial.times_waited_for("40P01")
    with (
        trial.foreigner() as foreigner,
        contextlib.suppress(psycopg.OperationalError),
        foreigner.transaction(),
    ):
        foreigner.execute("lock table chaos.target in share mode")
        if _is_wanted(trial, foreigner):
            foreigner.execute("select from sqlkit.source for update")
    return trial.have_met("40P01", before, 1.0)


def _is_wanted(trial: Trial, connection: psycopg.Connection) -> bool:
    """Wait until a load waits for the target; False if none does for long."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until and trial.running:
        row = connection.execute(
            "select exists (select from pg_locks where relation = 'chaos.target'::regclass"
            " and not granted)"
        ).fetchone()
        if row == (True,):
            return True
        time.sleep(0.01)
    return False


def second_loader(trial: Trial) -> bool:
    """Somebody starts the same command at about the same time, or twice."""
    if trial.chance.random() < 0.5 and not trial.pause(0.5):
        return False
    for _ in range(trial.chance.choice((1, 1, 2))):
        trial.start_client()
    trial.pause()
    return True


def make_read_only(trial: Trial) -> bool:
    """As a managed server does in a failover, or when its disk is nearly full."""
    if not trial.pause():
        return False
    change = f'alter database "{trial.database}"'
    trial.ask(f"{change} set default_transaction_read_only = on")
    for _ in range(5):
        trial.end_session()
    time.sleep(trial.chance.uniform(0.2, 1.5))
    trial.ask(f"{change} reset default_transaction_read_only")
    return True


def refuse_connections(trial: Trial) -> bool:
    """No more sessions are let in, and one of those that are there ends.

    Only where all clients have been let in before: whom a server never let in does not wait.
    """
    if not trial.pause():
        return False
    runs = trial.ask("select client from sqlkit.run", database=trial.database)
    let_in = {client.rpartition(":")[2] for (client,) in runs}
    if not all(str(client.process.pid) in let_in for client in trial.clients):
        return False
    change = f'alter database "{trial.database}" connection limit'
    trial.ask(f"{change} 0")
    trial.end_session()
    time.sleep(trial.chance.uniform(0.2, 1.5))
    trial.ask(f"{change} -1")
    return True


def suspend_client(trial: Trial) -> bool:
    """The client sleeps while another one is started, and wakes up again."""
    if not trial.pause():
        return False
    client = trial.chance.choice(trial.running)
    client.process.send_signal(signal.SIGSTOP)
    try:
        if trial.chance.random() < 0.5:
            trial.start_client()
        time.sleep(trial.chance.uniform(0.2, 1.5))
    finally:
        client.process.send_signal(signal.SIGCONT)
    return True


SINGLE: dict[str, Fault] = {
    "client killed": kill_client,
    "session terminated": terminate_session,
    "server process killed": crash_process,
    "server stopped and started": restart_server,
    "connections cut": cut_now,
    "cut before COMMIT": cut_before_commit,
    "cut during COMMIT": cut_during_commit,
    "cut after COMMIT": cut_after_commit,
    "cut unnoticed by the server": leave_orphan,
    "lock held": hold_lock,
    "deadlock": deadlock,
    "second loader": second_loader,
    "read-only server": make_read_only,
    "connections refused": refuse_connections,
    "client suspended": suspend_client,
}
TINY: dict[str, Fault] = {"disk full": fill_disk}
PAIR: dict[str, Fault] = {"failover": fail_over}
POOLED: dict[str, Fault] = {"server process killed behind a pooler": crash_process}
