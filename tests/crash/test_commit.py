"""How a load commits: what may be lost in a crash, what may not, and what becomes of a COMMIT whose
answer is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import sqlkit as api
from tests.chaos.proxy import Cut, Proxy
from tests.conftest import Database
from tests.crash.conftest import value

ROWS = 600
BATCHES = 3

# Deferred to the COMMIT itself: what is set by then is how it waits.
NOTES = """
create table public.noted (what text, synchronous_commit text);
grant select, insert on public.noted to public;
create function public.note() returns trigger language plpgsql as $$
begin
    insert into public.noted
    values (tg_argv[0], pg_catalog.current_setting('synchronous_commit'));
    return null;
end $$;
create constraint trigger note_batch after insert on sqlkit.batch
    deferrable initially deferred for each row execute function public.note('batch');
create constraint trigger note_end after update on sqlkit.run
    deferrable initially deferred for each row
    when (new.state = 'done' and old.state <> 'done') execute function public.note('end');
"""


@pytest.fixture
def target(connection: psycopg.Connection) -> str:
    """A table without key, where a row that comes twice is there twice."""
    connection.execute("create table public.target (part integer, number integer)")
    return "public.target"


def write(path: Path, part: int) -> Path:
    """A file of as many rows as fill the batches."""
    lines = "".join(f"{part:03},{number:06}\n" for number in range(ROWS))
    path.write_text("part,number\n" + lines)
    return path


BATCH_BYTES = ROWS * len("000,000000\n") // BATCHES


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize(
    "options",
    [
        {"policy": "append", "batch_bytes": BATCH_BYTES},
        {"policy": "update", "key": ["part", "number"], "batch_bytes": BATCH_BYTES},
        {"policy": "append", "workers": 3},
        {"policy": "append", "atomic": True, "batch_bytes": BATCH_BYTES},
    ],
    ids=str,
)
def test_batches_commit_asynchronously_and_the_end_does_not(
    options: dict[str, Any],
    target: str,
    superuser: psycopg.Connection,
    database: Database,
    tmp_path: Path,
) -> None:
    superuser.execute(NOTES.encode())
    if "key" in options:
        superuser.execute("create unique index on target (part, number)")
    owner = f'alter role "{database.user}" in database "{database.name}"'
    # The last is what neither the server nor anybody says: the default.
    for part, (said, at_the_end) in enumerate(
        [("off", {"on"}), ("local", {"local"}), ("remote_write", {"remote_write"}), (None, {"on"})]
    ):
        change = "reset synchronous_commit" if said is None else f"set synchronous_commit = {said}"
        superuser.execute(f"{owner} {change}".encode())
        with api.connect(database.dsn) as client:
            result = client.load(write(tmp_path / f"{part}.csv", part), into=target, **options)
        assert result.rows.inserted == ROWS
        noted = superuser.execute("delete from noted returning what, synchronous_commit").fetchall()
        assert {setting for what, setting in noted if what == "batch"} == {"off"}
        assert len([what for what, _ in noted if what == "batch"]) == result.batches
        assert {setting for what, setting in noted if what == "end"} == at_the_end


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    """Stands between a load and its server."""
    opened = Proxy(database.server.host, database.server.port)
    yield opened
    opened.close()


def test_a_connection_lost_during_any_commit(
    target: str, connection: psycopg.Connection, database: Database, proxy: Proxy, tmp_path: Path
) -> None:
    """One COMMIT after another is cut off, before the server hears of it and after it answered."""
    dsn = make_conninfo(database.dsn, port=proxy.port, sslmode="disable", gssencmode="disable")
    recorded: dict[Cut, list[int]] = {Cut.BEFORE: [], Cut.AFTER: []}
    parts = itertools.count()
    for cut, seen in recorded.items():
        while True:
            part = next(parts)
            # While it waits: what the ledger holds, and the table, which holds the same.
            found: list[tuple[int, int]] = []

            def look(
                _: api.Waiting | api.LockWaiting, part: int = part, found: Any = found
            ) -> None:
                batches = value(
                    connection,
                    "select count(*) from sqlkit.batch join sqlkit.source using (source_id)"
                    " where name like '%%/' || %s || '.csv'",
                    str(part),
                )
                rows = value(connection, "select count(*) from target where part = %s", part)
                found.append((batches, rows))

            proxy.arm(cut, len(seen))
            with api.connect(dsn) as client:
                result = client.load(
                    write(tmp_path / f"{part}.csv", part),
                    into=target,
                    policy="append",
                    batch_bytes=BATCH_BYTES,
                    on_wait=look,
                )
            proxy.disarm()
            assert (result.rows.read, result.rows.inserted, result.batches) == (ROWS, ROWS, BATCHES)
            if not proxy.fired.is_set():
                assert not found, "it waited for something else"
                break
            assert len(found) == 1
            batches, rows = found[0]
            assert rows == batches * (ROWS // BATCHES)
            seen.append(batches)
    assert len(recorded[Cut.BEFORE]) == len(recorded[Cut.AFTER]) > BATCHES
    # Of those COMMITs that record a batch, one was not committed and the other one was.
    were_open = [
        (before, after)
        for before, after in zip(recorded[Cut.BEFORE], recorded[Cut.AFTER], strict=True)
        if before != after
    ]
    assert were_open == [(number, number + 1) for number in range(BATCHES)]
    once = ROWS * next(parts)
    assert value(connection, "select count(*) from target") == once
    assert value(connection, "select count(*) from (select distinct * from target) as t") == once
    assert value(connection, "select count(*) from sqlkit.run where state <> 'done'") == 0
    assert value(connection, "select count(*) from sqlkit.stage") == 0
