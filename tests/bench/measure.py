"""Running one command and measuring what it took: time, WAL, dead rows, memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.server import DATABASE, BenchServer

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Sample:
    """One run of one side."""

    seconds: float
    wal_bytes: int = 0
    dead_rows: int = 0
    peak_bytes: int = 0  # client processes together, the largest resident set of each


class CommandError(Exception):
    """A measured command failed; the message holds the end of its output."""


def _processes(root: int) -> Iterator[int]:
    """A process and all its descendants, as far as they still run."""
    yield root
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{root}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _processes(int(child))


def _peaks(root: int, peaks: dict[int, int]) -> None:
    for process in _processes(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    # It only grows, but for exec, which starts the count anew.
                    peaks[process] = int(line.split()[1]) * 1024


def run(
    command: Sequence[str], environment: Mapping[str, str], *, success: Sequence[int] = (0,)
) -> tuple[float, int]:
    """Run a command to its end: the seconds from its start, and the peak memory in bytes.

    Memory is the sum over the command and its descendants of VmHWM, the most that was resident
    at any moment; it is read every 20 ms, so what is allocated right before the end may be
    missed. (The maximum that wait4 reports would not do: it counts the parent before exec.)

    Raises CommandError where the command fails.
    """
    peaks: dict[int, int] = {}
    done = threading.Event()

    def watch(process: int) -> None:
        while not done.wait(POLL_SECONDS):
            _peaks(process, peaks)

    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        # Bytecode is kept between runs, as it is for whoever installed the package.
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen(
            command,
            env={**kept, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        watcher = threading.Thread(target=watch, args=(process.pid,), daemon=True)
        watcher.start()
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            seconds = time.perf_counter() - start
            done.set()
            watcher.join()
        output.seek(0)
        said = output.read().decode(errors="replace")
    if code not in success:
        raise CommandError(f"exit code {code}: {' '.join(command)}\n{said[-3000:]}")
    return seconds, sum(peaks.values())


def measure(
    server: BenchServer,
    template: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    table: str,
    *,
    success: Sequence[int] = (0,),
) -> Sample:
    """Run a command on a fresh copy of a template database, and look at `table` afterwards.

    The database is left in place, for its content to be compared.
    """
    server.create(DATABASE, template)
    os.sync()  # what was copied is not written while the time runs
    with server.connect() as connection:
        connection.execute("checkpoint")
        position = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        assert position is not None
    environment = {**environment, **server.environment(DATABASE)}
    seconds, peak = run(command, environment, success=success)
    with server.connect(DATABASE) as connection:
        wal = connection.execute(
            "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)::bigint",
            [position[0]],
        ).fetchone()
        assert wal is not None
        # Only now: whoever scans a table first sets hint bits, and with checksums logs the pages.
        dead = connection.execute(
            "select dead_tuple_count from bench_contrib.pgstattuple(%s)", [table]
        ).fetchone()
        assert dead is not None
    return Sample(seconds, wal[0], dead[0], peak)


def digest(server: BenchServer, table: str) -> tuple[int, str]:
    """Rows of a table of the measured database, and a sum over them that has no order."""
    with server.connect(DATABASE) as connection:
        row = connection.execute(
            f"select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text from {table} t"
        ).fetchone()
        assert row is not None
        return row[0], row[1]
