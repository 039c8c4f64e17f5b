"""What a load leaves behind: the rows, the ledger, and nothing else."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import psycopg

Rows = Counter[str]

COUNTERS = ("read", "inserted", "updated", "unchanged", "ignored", "duplicate", "rejected")


@dataclass(frozen=True)
class State:
    """What an undisturbed load ends with, and a disturbed one has to."""

    rows: Rows  # digest of a row -> how often it is there
    rejects: Rows
    counts: tuple[int, ...]  # read, inserted, updated, unchanged, ignored, duplicates, rejected
    catalog: tuple[str, ...]  # indexes, constraints, triggers and options of the target

    def differences(self, found: State, *, counts_are_fixed: bool) -> list[str]:
        """How another state differs from this one."""
        told = []
        if found.catalog != self.catalog:
            told.append(f"the table is not as it was: {set(found.catalog) ^ set(self.catalog)}")
        # Read, inserted and rejected do not depend on where batches begin.
        fixed = range(7) if counts_are_fixed else (0, 1, 6)
        if [found.counts[i] for i in fixed] != [self.counts[i] for i in fixed]:
            told.append(f"counted {found.counts} instead of {self.counts}")
        if found.counts[0] != sum(found.counts[1:]):
            told.append(f"the counters do not add up: {found.counts}")
        return told


def look(connection: psycopg.Connection) -> State:
    """The state of a database after a load."""
    return State(
        rows=_digests(
            connection, "select md5(t::text), count(*) from chaos.target as t group by 1"
        ),
        rejects=_digests(
            connection,
            "select md5((j.first_line, j.raw, j.sqlstate)::text), count(*) "
            "from sqlkit.reject as j where j.batch_id is not null group by 1",
        ),
        counts=tuple(
            connection.execute(
                "select "
                + ", ".join(f"coalesce(sum(rows_{name}), 0)::bigint" for name in COUNTERS)
                + " from sqlkit.batch"
            ).fetchone()
            or ()
        ),
        catalog=tuple(
            sorted(
                row[0]
                for row in connection.execute(
                    """
                    select pg_get_indexdef(i.indexrelid) || i.indisvalid::text || i.indisready::text
                    from pg_index as i where i.indrelid = 'chaos.target'::regclass
                    union all
                    select o.conname::text || pg_get_constraintdef(o.oid) || o.convalidated::text
                    from pg_constraint as o where o.conrelid = 'chaos.target'::regclass
                    union all
                    select t.tgname::text || t.tgenabled::text from pg_trigger as t
                    where t.tgrelid = 'chaos.target'::regclass
                    union all
                    select (c.reloptions, c.relpersistence, c.relhastriggers, c.relhasindex)::text
                    from pg_class as c where c.oid = 'chaos.target'::regclass
                    """
                )
            )
        ),
    )


def _digests(connection: psycopg.Connection, query: str) -> Rows:
    return Counter(dict(connection.execute(query.encode()).fetchall()))


def left_behind(connection: psycopg.Connection, *, is_pooled: bool = False) -> list[str]:
    """What should not be there when all loads have ended; a pooler may keep idle sessions."""
    left = [
        f"stage {row[0]}"
        for row in connection.execute(
            "select name from sqlkit.stage union "
            "select relname from pg_class where relnamespace = 'sqlkit_stage'::regnamespace"
        )
    ]
    left += [
        f"run {row[0]}, still running"
        for row in connection.execute("select run_id from sqlkit.run where state = 'running'")
    ]
    left += [
        f"source {row[0]}, {row[1]}"
        for row in connection.execute(
            "select name, state from sqlkit.source where state <> 'loaded'"
        )
    ]
    left += [
        f"batches of source {row[0]} that leave something out"
        for row in connection.execute(
            "select source_id from (select b.source_id, b.start_offset,"
            " lag(b.end_offset, 1, 0::bigint) over w as before from sqlkit.batch as b"
            " window w as (partition by b.source_id order by b.start_offset, b.end_offset)"
            ") as b where b.start_offset <> b.before"
            # What stands before the first record, the header, belongs to no batch.
            " and b.before <> 0"
        )
    ]
    left += [
        f"setting {row[0]}"
        for row in connection.execute(
            "select unnest(setconfig) from pg_db_role_setting where setdatabase ="
            " (select oid from pg_database where datname = current_database())"
        )
    ]
    left += [
        f"autovacuum of {row[0]}, changed for run {row[1]}"
        for row in connection.execute("select relation, run_id from sqlkit.tuned_table")
    ]
    # The server may take a moment to notice that a client was killed.
    until = time.monotonic() + 10
    while sessions := _sessions(connection, is_pooled):
        if time.monotonic() > until:
            left += sessions
            break
        time.sleep(0.1)
    return left


def _sessions(connection: psycopg.Connection, is_pooled: bool) -> list[str]:
    found = [
        f"session {row[0]}: {row[1]}"
        for row in connection.execute(
            "select pid, coalesce(state, '') || ' ' || left(query, 60) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend' and not (%s and state = 'idle')",
            [is_pooled],
        )
    ]
    found += [
        f"lock {row[0]} on {row[1]}"
        for row in connection.execute(
            "select mode, coalesce(relation::regclass::text, locktype) from pg_locks"
            " where database = (select oid from pg_database where datname = current_database())"
            " and pid is distinct from pg_backend_pid()"
            " and pid not in (select pid from pg_stat_activity"
            " where backend_type in ('autovacuum worker', 'parallel worker'))"
        )
    ]
    return found
