"""Workers that stage parts of a load: of any `concurrent.futures.Executor`, or of Dask."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, TypeVar

from sqlkit.errors import SqlkitError, UsageError

T = TypeVar("T")
R = TypeVar("R")

PROCESSES = "processes"
DASK = "dask://"
CONNECTING = 15.0
"""Seconds in which a scheduler of Dask must answer."""
MOST_DEATHS = 3
"""How often in a row workers may die before anything they made is merged."""

_log = logging.getLogger("sqlkit")


def check_executor(executor: object) -> None:
    """Raises UsageError for what is no executor."""
    if executor is None or isinstance(executor, Executor) or executor == PROCESSES:
        return
    is_named = isinstance(executor, str)
    if is_named and str(executor).startswith(DASK) and executor != DASK:
        return
    raise UsageError(
        f"there is no executor {executor!r}"
        if is_named
        else f"{type(executor).__name__} is no concurrent.futures.Executor",
        hint="processes, dask://host:port, or from Python any concurrent.futures.Executor; "
        "of a Dask client, client.get_executor().",
    )


class Crew:
    """Workers, until `close`. The caller's executor is not shut down."""

    def __init__(self, executor: Executor | str, workers: int) -> None:
        """`workers` is how many processes are started, and about how many parts are under way."""
        check_executor(executor)
        self.workers = workers
        self._spec = executor
        self._deaths = 0
        self._client: Any = None
        self._is_ours = isinstance(executor, str)
        self._executor = self._open(executor) if isinstance(executor, str) else executor

    def _open(self, spec: str) -> Executor:
        if spec == PROCESSES:
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            # Not forked: there are threads, and connections.
            context = multiprocessing.get_context("spawn")
            return ProcessPoolExecutor(self.workers, mp_context=context)
        try:
            from distributed import Client
        except ImportError:
            raise UsageError(
                f"{DASK} needs distributed", hint="pip install 'sqlkit[dask]'"
            ) from None
        address = spec.removeprefix(DASK)
        make: Any = Client
        try:
            self._client = make(f"tcp://{address}", timeout=CONNECTING, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SqlkitError(
                f"the scheduler {spec} does not answer: {str(error).splitlines()[0]}",
                code="08001",
                hint="It prints its address when it starts: dask scheduler.",
            ) from None
        executor: Executor = self._client.get_executor()
        return executor

    @property
    def is_here(self) -> bool:
        """Whether all workers are threads and processes of this machine, in this environment."""
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        return isinstance(self._executor, ProcessPoolExecutor | ThreadPoolExecutor)

    def submit(self, function: Callable[[T], R], argument: T) -> Future[R]:
        """Have a function called by a worker. An executor that is broken says so by the future."""
        try:
            return self._executor.submit(function, argument)
        except BrokenExecutor as error:
            broken: Future[R] = Future()
            broken.set_exception(error)
            return broken

    def replace(self, error: BrokenExecutor) -> None:
        """Workers died, and took their pool with them: get others.

        The caller's pool cannot be made again: the rest is done by threads of this process.
        Raises SqlkitError where they die again and again.
        """
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise SqlkitError(
                f"workers died {self._deaths} times in a row",
                detail=str(error),
                hint="Perhaps they ran out of memory: use fewer. A script that starts processes "
                'does so below: if __name__ == "__main__":',
            ) from None
        _log.warning("a worker died: what it had in hand is done again")
        if self._is_ours:
            self._executor.shutdown(wait=False, cancel_futures=True)
        if self._spec == PROCESSES:
            self._executor = self._open(PROCESSES)
        else:
            from concurrent.futures import ThreadPoolExecutor

            self._executor, self._is_ours = ThreadPoolExecutor(self.workers), True

    def progressed(self) -> None:
        """Something that they made was merged."""
        self._deaths = 0

    def close(self) -> None:
        """The load is over. Workers that are still busy find that out, and end by themselves."""
        if self._client is not None:
            self._client.close()
            self._client = None
        elif self._is_ours:
            self._executor.shutdown(wait=False, cancel_futures=True)
