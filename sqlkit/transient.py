"""Which errors pass by themselves, and how long to wait for that.

Told by SQLSTATE and by the state of the connection, never by the text of a message, which depends
on the server's language.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from sqlkit.errors import LostSourceError, SqlkitError

RETRY_FOR = 900.0
"""Seconds that a call waits, by default, for a server to come back."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0

UNREACHED_FOR = 10.0
"""Seconds for a server that has never answered: longer, if it says that it is starting."""

LEAST_LOCK_WAIT = 10.0
"""Seconds for which a lock is waited for even where nothing else is."""

SOURCE_LOST = "the way to the source was lost"
CONNECTION_LOST = "the connection was lost"
UNREACHED = "nothing answers at the server's address"

REASONS = {
    "25006": "the server is read-only",
    "40001": "another transaction was in the way",
    "40003": CONNECTION_LOST,
    "40P01": "a deadlock was resolved against this session",
    "53000": "the server lacks resources",
    "53100": "the server's disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has too many connections",
    "55P03": "another session holds a lock",
    "57P01": "the server ended the session",
    "57P02": "the server has crashed",
    "57P03": "the server is starting or stopping",
    "SK120": "the source's store does not answer",
    "SK403": "the run was taken for dead",
    "SK404": "the server was restarted",
    "SK405": "the server was restarted",
}
"""What is waited for, by SQLSTATE. All of class 08 (connection exception) belongs to it too."""


class RefusedError(SqlkitError):
    """A server is there and does not let us in; it never has, so that waiting will not help."""

    default_code = "08004"


class UnreachedError(SqlkitError):
    """Nothing answers, and never has: the address may be wrong, so that we do not wait for long."""

    default_code = "08001"


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE of an error of psycopg or of sqlkit."""
    if isinstance(error, SqlkitError):
        return error.code
    return error.sqlstate or None if isinstance(error, psycopg.Error) else None


def reason_to_wait(error: BaseException) -> str | None:
    """What there is to wait for before the same is tried again; None if it would fail again.

    An error of sqlkit that stands for one of psycopg is judged by that one.
    """
    if isinstance(error, RefusedError):
        return None
    if isinstance(error, UnreachedError):
        return UNREACHED
    if isinstance(error, LostSourceError):
        return SOURCE_LOST
    if isinstance(error, SqlkitError):
        if error.__cause__ is not None:
            return reason_to_wait(error.__cause__)
        return REASONS["SK120"] if error.code == "SK120" else None
    if not isinstance(error, psycopg.Error):
        return None
    code = sqlstate_of(error)
    if code is None:
        return CONNECTION_LOST if _is_lost(error) else None
    return CONNECTION_LOST if code.startswith("08") else REASONS.get(code)


def _is_lost(error: psycopg.Error) -> bool:
    """True for an error without SQLSTATE that tells of a connection that is no more.

    psycopg raises OperationalError for a connection that is closed or cannot be made. What libpq
    itself finds while it waits for an answer is a result without SQLSTATE, for which psycopg has
    no class but DatabaseError.
    """
    closed_by_caller = any(kind.__name__ == "PoolClosed" for kind in type(error).__mro__)
    return not closed_by_caller and (
        isinstance(error, psycopg.OperationalError) or type(error) is psycopg.DatabaseError
    )


@dataclass(frozen=True)
class Waiting:
    """One wait before something is tried again."""

    reason: str
    code: str | None  # SQLSTATE, where there was one
    attempt: int  # counts from 1
    seconds: float  # until the next attempt
    left: float  # seconds of the budget that are left after it

    def __str__(self) -> str:
        told = self.reason if self.code is None else f"{self.reason} ({self.code})"
        return f"{told}; attempt {self.attempt + 1} in {self.seconds:.1f} s"


@dataclass(frozen=True)
class LockWaiting(Waiting):
    """A wait for a lock, which goes on by itself: it is `left` seconds until it is given up."""

    waits_for: str  # the table, or the kind of lock
    pids: tuple[int, ...]  # of the sessions that hold it
    holders: tuple[str, ...]  # what is known of them
    waited: float  # seconds so far

    def __str__(self) -> str:
        return (
            f"{self.reason} on {self.waits_for}: {'; '.join(self.holders)}. "
            f"For {self.waited:.0f} s; given up in {self.left:.0f} s"
        )


WaitCallback = Callable[[Waiting], None]


class Patience:
    """Exponential backoff with full jitter: each wait is a random part of a limit that doubles.

    What is spent between an error and `resumed` counts against the budget; `progressed` gives all
    of it back.
    """

    def __init__(
        self,
        budget: float = RETRY_FOR,
        *,
        first: float = FIRST_WAIT,
        longest: float = LONGEST_WAIT,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._budget = budget
        self._first = first
        self._longest = longest
        self._clock = clock
        self._chance = chance
        self._spent = 0.0
        self._attempt = 0
        self._since: float | None = None
        self._is_over = False

    def progressed(self) -> None:
        """Something was achieved for good: the next error is a new trouble."""
        self._spent = 0.0
        self._attempt = 0
        self._since = None

    def resumed(self) -> None:
        """Work goes on: from now on time does not count."""
        if self._since is not None:
            self._spent += self._clock() - self._since
            self._since = None

    def tell_in(self, error: SqlkitError) -> None:
        """Say in the error that ends it all that it was waited for in vain, and what to do."""
        if self._is_over and error.hint is None:
            error.hint = (
                f"Waited {self._spent:.0f} s for it to pass (--retry-for). Run the same command "
                "again when it has: it continues."
            )

    def spend(self, seconds: float) -> None:
        """So long it was waited already, in the server."""
        self._spent += seconds

    def wait_for(self, error: BaseException, reason: str | None = None) -> Waiting | None:
        """The wait that an error asks for; None if it does not pass, or the budget is spent.

        `reason` is what it waits for, where the error does not tell.
        """
        reason = reason or reason_to_wait(error)
        if reason is None or self._budget <= 0:
            return None
        self.resumed()
        self._since = self._clock()
        budget = self._budget
        if isinstance(error, UnreachedError):
            budget = min(budget, UNREACHED_FOR)
        left = budget - self._spent
        if left <= 0:
            self._is_over = True
            return None
        limit = min(self._longest, self._first * 2 ** min(self._attempt, 30))
        # The last attempt is made when the budget ends, and not a random time before.
        seconds = min(limit * self._chance(), left)
        self._attempt += 1
        return Waiting(reason, _shown_code(error), self._attempt, seconds, left - seconds)


def _shown_code(error: BaseException) -> str | None:
    stands_for = error.__cause__ if isinstance(error, SqlkitError) else None
    return sqlstate_of(stands_for or error)
