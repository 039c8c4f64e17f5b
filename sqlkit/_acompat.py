"""Concurrency in two dialects: each name here has an asynchronous and a synchronous form.

Asynchronous modules use the first, their generated twins the second (``AsyncX`` -> ``X``,
``x_async`` -> ``x``). The synchronous form is threads.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Annotated, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:  # only where the extra is installed
    from redis import Redis as Redis
    from redis.asyncio import Redis as _AsyncRedis

    AsyncRedis = _AsyncRedis

PATIENCE = 2.0
"""Seconds for which a thread is waited for that should end at once."""

T = TypeVar("T")
P = ParamSpec("P")

AsyncReturned = Awaitable[T]
"""What an asynchronous function of the caller's returns, and..."""
Returned = Annotated[T, "at once"]
"""what a synchronous one does."""

AsyncLock = asyncio.Lock
Lock = threading.Lock

AsyncEvent = asyncio.Event
Event = threading.Event


async def run_async(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks, without blocking the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks."""
    return function(*args, **kwargs)


async def outcome_async(future: Future[T]) -> T:
    """Wait for what another thread or process returns, or raises."""
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise CancelledError from None  # the work was cancelled, and not the waiting


def outcome(future: Future[T]) -> T:
    """Wait for what another thread or process returns, or raises."""
    return future.result()


class AsyncSignal:
    """Something that happens once, and that one can wait for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def give(self) -> None:
        """It has happened."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for it, so long at most; whether it has happened."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return False
        return True


class Signal:
    """Something that happens once, and that one can wait for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def give(self) -> None:
        """It has happened."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait for it, so long at most; whether it has happened."""
        return self._event.wait(seconds)


async def sleep_async(seconds: float) -> None:
    """Wait, without blocking the event loop."""
    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


class AsyncTask(Generic[T]):
    """Work going on beside the caller's."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._task = asyncio.create_task(function())

    @property
    def is_done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._task.done()

    async def result(self) -> T:
        """Wait for the end; returns what it returned, raises what it raised."""
        return await self._task

    async def settle(self) -> BaseException | None:
        """Wait for the end; the exception it raised, if any."""
        await asyncio.wait([self._task])
        if self._task.cancelled():
            return asyncio.CancelledError()
        return self._task.exception()

    def abandon(self) -> None:
        """Nobody asks for the result any more; what runs in a thread may go on for a while."""
        self._task.cancel()
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())


class Task(Generic[T]):
    """Work going on beside the caller's.

    Waited for by a future: a thread whose `join` Control-C broke off counts as ended for Python
    3.11, and the next wait for it returns while it is still at work.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._future: Future[T] = Future()
        threading.Thread(target=self._run, args=[function], daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._future.done()

    def _run(self, function: Callable[[], T]) -> None:
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._future.set_exception(error)
        else:
            self._future.set_result(value)

    def result(self) -> T:
        """Wait for the end; returns what it returned, raises what it raised."""
        return self._future.result()

    def settle(self) -> BaseException | None:
        """Wait for the end; the exception it raised, if any."""
        return self._future.exception()

    def abandon(self) -> None:
        """Nobody asks for the result any more; the thread may go on for a while."""


class Prefetch(Generic[T]):
    """Runs an iterator in a thread of its own, a few items ahead of whoever takes them.

    Each item comes with the news whether it is the last one, for which one item more is held.
    """

    def __init__(self, items: Iterator[T], ahead: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[T, bool] | BaseException | None] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._is_over = False
        self._ended_by: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="sqlkit-prefetch")
        self._thread.start()

    def _run(self) -> None:
        try:
            held: list[T] = []
            for item in self._items:
                if held and not self._put((held.pop(), False)):
                    return
                held.append(item)
            if held:
                self._put((held.pop(), True))
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised where the items are taken
            self._put(error)

    def _put(self, entry: tuple[T, bool] | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def take(self) -> tuple[T, bool] | None:
        """The next item and whether it is the last; None after the last one. Blocks.

        What ended the iterator, whoever asks is told.
        """
        while True:
            try:
                entry = self._queue.get(timeout=0.2)
            except queue.Empty:
                if self._closed.is_set():
                    return None
                if not self._is_over:
                    continue
                entry = self._ended_by
            if entry is None or isinstance(entry, BaseException):
                self._ended_by = entry
                self._is_over = True
                if entry is not None:
                    raise entry
            return entry

    def close(self) -> None:
        """Stop reading, and wait for the thread to end so that its iterator may be closed.

        Not for ever: a thread that waits for a pipe on which nothing comes is left to itself.
        """
        self._closed.set()
        self._thread.join(timeout=PATIENCE)
