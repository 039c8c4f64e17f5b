# Generated from sqlkit/lookup_async.py by python -m sqlkit.build; do not edit.

"""Natural keys to surrogate ids through Redis, for callers that ask for some keys at a time.

A loader that has its keys in a stage needs none of this: `sqlkit.resolve_keys()` joins, and is
faster. See docs/lookups.md for when which is worth it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import Connection, sql
from psycopg.pq import TransactionStatus
from redis.exceptions import RedisError

from sqlkit import calls as calls
from sqlkit._acompat import Returned
from sqlkit.connection import from_psycopg

if TYPE_CHECKING:
    from sqlkit._acompat import Redis

T = TypeVar("T")

Key = str | int | tuple[str | int | None, ...] | None
"""A natural key: a value, or as many as the dimension's key has columns."""

CHUNK = 10_000
"""So many keys go over the wire at a time."""

READING = ("TimeZone", "DateStyle", "IntervalStyle")
"""Settings by which the same text may be another key."""

_log = logging.getLogger("sqlkit")


class KeyCache:
    """The ids of a dimension's natural keys, remembered in Redis, known by PostgreSQL.

    Redis only saves questions: what it does not have, or when it is away, full, flushed, slow or
    holds something else than a number, PostgreSQL is asked. Keys that do not exist are made, once,
    whoever else makes them at the same time, unless `create` is false.

    Changes are followed where ``sqlkit.follow_keys()`` counts them for the dimension. PostgreSQL is
    asked for their number every `follow_every` seconds, so that a change is seen so much later at
    most; with 0 at each question, which costs a round trip and sees all that was committed before.
    Inside a transaction of the caller's it is asked each time, which sees what that has changed.
    Where nobody counts, an id may be as old as `expire` seconds.

    Redis holds at most one entry of about 100 bytes for each key asked for within `expire`
    seconds; ``maxmemory`` with any policy that evicts bounds it further.
    """

    def __init__(
        self,
        connection: Connection[Any],
        redis: Redis,
        dimension: str,
        *,
        id_column: str,
        key: Sequence[str] | str,
        create: bool = True,
        defaults: dict[str, Any] | None = None,
        prefix: str = "sqlkit",
        expire: int = 3600,
        follow_every: float = 1.0,
        pause: float = 5.0,
    ) -> None:
        self._connection = connection
        self._redis = redis
        self._dimension = dimension
        self._id_column = id_column
        self._key = [key] if isinstance(key, str) else list(key)
        self._create = create
        self._defaults = defaults or {}
        self._prefix = prefix
        self._expire = expire
        self._follow_every = follow_every
        self._pause = pause
        self._away_until = 0.0
        self._names: _Names | None = None
        self._names_until = 0.0
        self._reading: list[str | None] = []
        self.hits = 0
        """Keys that Redis knew."""
        self.misses = 0
        """Keys that PostgreSQL was asked for."""

    def get(self, keys: Iterable[Key]) -> list[int | None]:
        """The ids of some keys, in their order: None for a key with a null, or that is not there.

        All keys go to Redis in one round trip (10,000 at a time), and those that it does not know
        to PostgreSQL in one more. What is found out inside a transaction of the caller's is not put
        into Redis, since it may be rolled back.

        Raises SqlkitError, with the SQLSTATE, for what PostgreSQL says.
        """
        found: list[int | None] = []
        rest = iter(keys)
        try:
            while chunk := list(islice(rest, CHUNK)):
                found += self._get(chunk)
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return found

    def get_one(self, key: Key) -> int | None:
        """The id of one key."""
        return (self.get([key]))[0]

    def warm(self) -> int:
        """Put all keys of the dimension into Redis; how many.

        Nothing happens if Redis is away, or inside a transaction of the caller's, which may see
        what is rolled back afterwards. Raises SqlkitError, with the SQLSTATE, for what PostgreSQL
        says.
        """
        if not self._is_lasting():
            return 0
        columns = sql.SQL(", ").join(
            [sql.SQL("{}::text").format(sql.Identifier(name)) for name in self._key]
            + [sql.Identifier(self._id_column)]
        )
        number = 0
        ids: dict[str, int] = {}
        try:
            names = self._names_of_now()
            with (
                self._connection.transaction() as transaction,
                self._connection.cursor() as cursor,
            ):
                table = calls.find_table(self._connection, self._dimension)
                # Quoted, all of it.
                statement = f"copy (select {columns.as_string()} from {table}) to stdout"  # noqa: S608
                with cursor.copy(statement.encode()) as copy:
                    for row in copy.rows():
                        if None not in row:
                            ids[names.of(tuple(row[:-1]))] = int(row[-1])
                        if len(ids) == CHUNK:
                            if not self._store(ids):
                                raise psycopg.Rollback(transaction)  # which ends COPY
                            number += len(ids)
                            ids.clear()
                if self._store(ids):
                    number += len(ids)
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return number

    def _get(self, keys: list[Key]) -> list[int | None]:
        values = [self._values(key) for key in keys]
        # The version is read first: what is found out afterwards is at least as new.
        names = self._names_of_now()
        entries = [names.of(value) for value in values]
        known = self._fetch(entries)
        missing = {
            entry: value
            for entry, value in zip(entries, values, strict=True)
            if entry not in known and None not in value
        }
        self.hits += sum(entry in known for entry in entries)
        if missing:
            self.misses += len(missing)
            is_lasting = self._is_lasting()
            ids = self._ask(
                calls.resolve_values,
                [list(value) for value in missing.values()],
                self._dimension,
                self._id_column,
                self._key,
                self._create,
                self._defaults,
            )
            made = {
                entry: int(id_) for entry, id_ in zip(missing, ids, strict=True) if id_ is not None
            }
            if is_lasting:
                self._store(made)
            known |= made
        return [known.get(entry) for entry in entries]

    def _values(self, key: Key) -> tuple[str | None, ...]:
        values = key if isinstance(key, tuple) else (key,)
        if len(values) != len(self._key):
            raise ValueError(f"a key of {self._dimension} has {len(self._key)} values: {key!r}")
        return tuple([None if value is None else str(value) for value in values])

    def _is_lasting(self) -> bool:
        """Whether what PostgreSQL says now is committed: no transaction of the caller's is open."""
        return self._connection.info.transaction_status == TransactionStatus.IDLE

    def _names_of_now(self) -> _Names:
        # In a transaction the number may be one that is taken back, and then given to another
        # change: it is neither believed later nor are earlier ones believed there.
        is_lasting = self._is_lasting()
        info = self._connection.info
        reading = [info.parameter_status(setting) for setting in READING]
        if (
            is_lasting
            and self._names is not None
            and self._reading == reading
            and time.monotonic() < self._names_until
        ):
            return self._names
        asked_at = time.monotonic()
        # A name may be another table's in another schema, or since a minute ago.
        version = self._ask(calls.lookup_version, self._dimension)
        where = [self._dimension, self._id_column, *self._key, info.host, info.port, info.dbname]
        names = _Names(self._prefix, json.dumps([*where, *reading, *version]).encode())
        if is_lasting:
            self._names = names
            self._reading = reading
            self._names_until = asked_at + self._follow_every
        return names

    def _fetch(self, entries: list[str]) -> dict[str, int]:
        if time.monotonic() < self._away_until:
            return {}
        try:
            answers = self._redis.mget(entries)
        except (RedisError, OSError) as error:
            self._lose(error)
            return {}
        found = {
            entry: answer
            for entry, answer in zip(entries, answers, strict=True)
            if answer is not None
        }
        try:
            return {entry: int(answer) for entry, answer in found.items()}
        except ValueError:
            # Somebody else has put something there: only a number is an answer.
            return {
                entry: int(answer)
                for entry, answer in found.items()
                if answer.isascii() and answer.isdigit()
            }

    def _store(self, ids: dict[str, int]) -> bool:
        if time.monotonic() < self._away_until:
            return False
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for entry, id_ in ids.items():
                    pipeline.set(entry, id_, ex=self._expire)
                pipeline.execute()
        except (RedisError, OSError) as error:
            self._lose(error)
            return False
        return True

    def _ask(self, call: Callable[..., Returned[T]], *values: Any) -> T:
        """Ask PostgreSQL, and leave no transaction behind that was not there before."""
        if self._connection.autocommit:
            return call(self._connection, *values)
        with self._connection.transaction():
            return call(self._connection, *values)

    def _lose(self, error: Exception) -> None:
        _log.warning("Redis does not answer, PostgreSQL is asked instead: %s", error)
        self._away_until = time.monotonic() + self._pause


class _Names:
    """Names of entries in Redis: of one length whatever the keys are, new with each version."""

    def __init__(self, prefix: str, salt: bytes) -> None:
        self._prefix = f"{prefix}:"
        self._salt = blake2b(salt, digest_size=16).digest()

    def of(self, values: tuple[str | None, ...]) -> str:
        digest = blake2b(json.dumps(values).encode(), digest_size=16, key=self._salt)
        return self._prefix + digest.hexdigest()
