"""Runs the command `sqlkit` in processes forked from one that has imported it already.

Starting Python and importing takes longer than most of what a test asks of the command. Each run
is a process of its own all the same, with its own arguments, environment, folder and streams.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn, TypedDict

REQUEST_BYTES = 1 << 20
IMPORTED = ("sqlkit.cli.app", "sqlkit.cli.load", "sqlkit.cli.progress", "sqlkit.client")


class Request(TypedDict):
    """What a process is to run, and where."""

    arguments: list[str]
    cwd: str
    env: dict[str, str]


class Forker:
    """A process from which commands are forked; `close` ends it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                cwd=Path(__file__).parents[1],
                env=env,
                pass_fds=[theirs.fileno()],
            )

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        input: bytes | None,
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """Like `subprocess.run` with captured output, of ``sqlkit ARGUMENTS``."""
        request = Request(arguments=list(arguments), cwd=str(cwd), env=dict(env))
        with contextlib.ExitStack() as opened:
            out = opened.enter_context(tempfile.TemporaryFile())
            err = opened.enter_context(tempfile.TemporaryFile())
            told, tell = os.pipe()
            report = opened.enter_context(os.fdopen(told))
            if input is None:
                given, feed = os.open(os.devnull, os.O_RDONLY), None
            else:
                given, write_end = os.pipe()
                feed = opened.enter_context(os.fdopen(write_end, "wb"))
            try:
                socket.send_fds(
                    self._requests,
                    [json.dumps(request).encode()],
                    [given, out.fileno(), err.fileno(), tell],
                )
            finally:
                os.close(given)
                os.close(tell)
            pid = int(report.readline())
            if feed is not None:
                threading.Thread(target=_feed, args=(feed, input)).start()
            code = _await(report, pid, timeout, arguments)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["sqlkit", *arguments], code, out.read(), err.read())

    def close(self) -> None:
        """End the process; what was forked from it has ended before."""
        self._requests.close()
        self._process.wait()


def _feed(feed: IO[bytes], data: bytes | None) -> None:
    with contextlib.suppress(BrokenPipeError), feed:
        feed.write(data or b"")


def _await(report: IO[str], pid: int, timeout: float, arguments: Sequence[str]) -> int:
    """The exit code that comes within `timeout` seconds, or the process is killed."""
    late = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
    started = time.monotonic()
    late.start()
    try:
        code = int(report.readline())
    finally:
        late.cancel()
    if code == -signal.SIGKILL and time.monotonic() - started >= timeout:
        raise subprocess.TimeoutExpired(["sqlkit", *arguments], timeout)
    return code


def _serve(requests: socket.socket) -> None:
    """Fork one process for each request until the other end is closed."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _watch(json.loads(request), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _watch(request: Request, given: int, out: int, err: int, tell: int) -> None:
    """Fork the command, and write its process id and then its exit code to `tell`."""
    child = os.fork()
    if child == 0:
        os.close(tell)
        for descriptor, standard in ((given, 0), (out, 1), (err, 2)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        _become(request)
    for descriptor in (given, out, err):
        os.close(descriptor)
    os.write(tell, f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(tell, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: Request) -> NoReturn:
    """Run the command; returns as it does, by raising SystemExit."""
    from sqlkit.cli import app

    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = ["sqlkit", *request["arguments"]]
    # As Python would have made of `python -m` and the environment.
    sys.path[:1] = ["", *filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))]
    app.main()
    raise AssertionError("the command returned")


if __name__ == "__main__":
    import importlib

    for name in IMPORTED:
        importlib.import_module(name)
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        _serve(listening)
