"""Conflicts in real data, against a sweep in Python; by transactions; in parts; from the shell."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

import sqlkit as api
from sqlkit import conflicts
from sqlkit.demo import FILES, find_data
from sqlkit.errors import RejectLimitError, UsageError
from tests.conftest import Database, RunSqlkit, in_public
from tests.real_data import real_data

Interval = tuple[str, datetime, datetime, str]  # resource, begin, end, key


def sweep(intervals: Iterable[Interval]) -> set[frozenset[str]]:
    """Keys of intervals [begin, end) of one resource that overlap, by walking along the time."""
    of_resource = defaultdict(list)
    for resource, begin, end, key in intervals:
        if begin < end:
            of_resource[resource].append((begin, end, key))
    found = set()
    for rows in of_resource.values():
        going_on: list[tuple[datetime, str]] = []
        for begin, end, key in sorted(rows):
            going_on = [(until, other) for until, other in going_on if until > begin]
            found |= {frozenset((key, other)) for _, other in going_on}
            going_on.append((end, key))
    return found


def copy(connection: psycopg.Connection, table: str, rows: Iterable[Iterable[object]]) -> None:
    with connection.cursor().copy(f"copy {table} from stdin".encode()) as stream:
        for row in rows:
            stream.write_row(tuple(row))


def pairs(connection: psycopg.Connection, rule: str) -> set[frozenset[str]]:
    found = connection.execute(
        """
        select first_key ->> 'id', second_key ->> 'id'
        from sqlkit.conflict join sqlkit.conflict_rule using (conflict_rule_id)
        where name = %s and state = 'open'
        """,
        [rule],
    ).fetchall()
    assert len({frozenset(row) for row in found}) == len(found)
    return {frozenset(row) for row in found}


def read_flights() -> Iterator[Interval]:
    """Flights of known aircraft that arrived, from take-off to landing as far as it is known."""
    archive = zipfile.ZipFile(find_data() / FILES["flight"])
    with archive, archive.open(archive.namelist()[0]) as file:
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(file, "utf-8"))):
            if row["tailnum"] in ("", "NA") or row["air_time"] in ("", "NA"):
                continue
            begin = datetime.fromisoformat(row["time_hour"]) + timedelta(
                minutes=float(row["minute"]) + float(row["dep_delay"])
            )
            end = begin + timedelta(minutes=float(row["air_time"]))
            yield row["tailnum"], begin, end, str(number)


@pytest.mark.slow
def test_116_times_an_aircraft_flies_twice_at_once(connection: psycopg.Connection) -> None:
    flights = list(read_flights())
    connection.execute(
        "create table flight (tailnum text, takes_off timestamptz, lands timestamptz, id text)"
    )
    copy(connection, "flight", flights)
    connection.execute("alter table flight add primary key (id)")
    connection.execute(
        "select sqlkit.define_overlap('twice', 'flight', array['tailnum'], 'takes_off', 'lands')"
    )
    connection.execute("select sqlkit.detect_conflicts('twice')")
    found = pairs(connection, "twice")
    assert len(found) == 116
    assert found == sweep(flights)


def test_machines_that_do_two_things_at_once(connection: psycopg.Connection) -> None:
    """Times with their zones, rows that last for nothing, rows that are there twice."""
    with gzip.open(real_data("intervals", "Production.csv.gz"), "rt", encoding="utf-8") as file:
        work = [
            (
                row["Resource"],
                datetime.fromisoformat(row["start_timestamp"]),
                datetime.fromisoformat(row["time:timestamp"]),
                str(number),
            )
            for number, row in enumerate(csv.DictReader(file))
            if row["Activity"] not in ("Start", "End")
        ]
    connection.execute(
        "create table work"
        " (machine text, starts timestamptz, ends timestamptz, id text primary key)"
    )
    copy(connection, "work", work)
    connection.execute(
        "select sqlkit.define_overlap('machine', 'work', array['machine'], 'starts', 'ends')"
    )
    connection.execute("select sqlkit.detect_conflicts('machine')")
    wanted = sweep(work)
    assert (len(work), len({machine for machine, *_ in work}), len(wanted)) == (4503, 46, 1924)
    assert pairs(connection, "machine") == wanted
    assert (connection.execute("select sqlkit.detect_conflicts('machine', true)").fetchone()) == (
        (f"(0,0,0,{len(wanted)},t)",)
    )


@pytest.fixture
def visits(database: Database) -> Iterator[psycopg.Connection]:
    """2,000 visits of 100 carers, 20 an hour apart each, and a rule that found nothing yet."""
    with database.connect() as connection:
        connection.execute(
            "create table visit (id integer primary key, carer integer, at int4range)"
        )
        connection.execute(
            "insert into visit select g, g %% 100, int4range(g / 100 * 60, g / 100 * 60 + 60)"
            " from generate_series(0, 1999) as g",
            [],
        )
        connection.execute(
            "select sqlkit.define_overlap('r', 'visit', array['carer'], p_range => 'at')"
        )
        assert detect(connection) == (0, 0, 0, 0, True)
        yield connection


def detect(connection: psycopg.Connection, full: bool = False) -> tuple[object, ...]:
    row = connection.execute("select * from sqlkit.detect_conflicts('r', %s)", [full]).fetchone()
    assert row is not None
    return row


def wait_for_horizon(connection: psycopg.Connection) -> None:
    """Until no transaction runs that began before now: other tests' are on the server too."""
    now = "select pg_current_xact_id()::text::bigint"
    past = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint > %s"
    number = connection.execute(now.encode()).fetchone()
    assert number is not None
    for _ in range(600):
        if connection.execute(past.encode(), number).fetchone() == (True,):
            return
        connection.execute("select pg_sleep(0.05)")
    raise AssertionError("a transaction goes on for half a minute")


@pytest.mark.every_version
def test_only_resources_that_were_touched_are_looked_at(
    visits: psycopg.Connection, superuser: psycopg.Connection
) -> None:
    visits.execute("update visit set at = int4range(0, 70) where id in (0, 1)")
    assert detect(visits) == (2, 0, 0, 2, False)
    wait_for_horizon(visits)
    detect(visits)
    # Forgotten by hand: only who looks at their carer finds them again.
    superuser.execute("delete from sqlkit.conflict")
    assert detect(visits) == (0, 0, 0, 0, False)
    visits.execute("update visit set carer = carer where id = 1901")
    assert detect(visits) == (1, 0, 0, 1, False)
    assert detect(visits, full=True) == (1, 0, 0, 2, True)


@pytest.mark.every_version
def test_what_was_not_committed_yet_is_looked_at_the_next_time(
    visits: psycopg.Connection, database: Database
) -> None:
    """Even what a subtransaction wrote, whose number nobody lists among those that run."""
    with database.connect() as slow:
        with slow.transaction():
            slow.execute("select pg_current_xact_id()")
            with slow.transaction():
                slow.execute("update visit set at = int4range(0, 70) where id = 5")
            visits.execute("update visit set at = int4range(0, 70) where id = 6")
            assert detect(visits) == (1, 0, 0, 1, False)
        assert detect(visits) == (1, 0, 0, 2, False)


@pytest.mark.every_version
def test_a_table_that_comes_with_old_rows_is_looked_at(visits: psycopg.Connection) -> None:
    """Attached as a partition, or in the place of another one: written before the detection."""
    visits.execute(
        """
        create table old (like visit including all);
        insert into old values (5000, 7, '[0,9)'), (5001, 7, '[9,10)'), (5002, 7, '[9,12)');
        create table part (id integer, carer integer, at int4range) partition by range (id);
        create table part_1 partition of part for values from (0) to (5000);
        select sqlkit.define_overlap(
            'p', 'part', array['carer'], p_range => 'at', p_key => array['id']
        );
        """
    )
    part = "select pairs_opened, is_full from sqlkit.detect_conflicts('p')"
    wait_for_horizon(visits)
    assert visits.execute(part.encode()).fetchone() == (0, True)
    assert detect(visits) == (0, 0, 0, 0, False)
    visits.execute("alter table visit rename to gone; alter table old rename to visit")
    assert detect(visits) == (1, 0, 0, 1, False)
    assert detect(visits) == (0, 0, 0, 1, False)
    visits.execute("alter table part attach partition visit for values from (5000) to (6000)")
    assert visits.execute(part.encode()).fetchone() == (1, False)
    assert visits.execute(part.encode()).fetchone() == (0, False)


@pytest.mark.every_version
def test_rows_of_another_server_are_all_looked_at(visits: psycopg.Connection) -> None:
    """A dump that was restored elsewhere: transaction numbers mean nothing there."""
    visits.execute("delete from visit where id < 100")
    visits.execute(
        "update sqlkit.conflict_rule set mark = mark || jsonb_build_object('server', '1')"
    )
    assert detect(visits)[-1] is True
    assert detect(visits)[-1] is False


def test_two_detections_at_once_find_a_pair_once(
    visits: psycopg.Connection, database: Database
) -> None:
    visits.execute("update visit set at = int4range(0, 70) where id < 50")
    with database.connect() as other, api.connect(database.dsn) as client:
        with other.transaction():
            assert detect(other)[0] == 50
            visits.execute("set lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                detect(visits)
        assert client.detect_conflicts("r", full=True)["pairs_opened"] == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_parts_find_what_the_whole_does(
    visits: psycopg.Connection, database: Database, workers: int
) -> None:
    visits.execute("update visit set at = int4range(lower(at), upper(at) + 1) where id < 1900")
    with api.connect(database.dsn) as client:
        counts = client.detect_conflicts("r", full=True, workers=workers)
        assert counts["pairs_opened"] == counts["pairs_open"] == 1900
        assert client.detect_conflicts("r") == {
            **dict.fromkeys(("pairs_opened", "pairs_changed", "pairs_closed"), 0),
            "pairs_open": 1900,
            "is_full": False,
        }


def known(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "select resource, first_key, second_key, measure, facts, state, gone_at is null"
        " from sqlkit.conflict order by 2, 3, 1"
    ).fetchall()


@pytest.fixture
def skewed(visits: psycopg.Connection) -> psycopg.Connection:
    """Carer 7 has half of all rows, which all touch one another; others overlap in pairs."""
    visits.execute("update visit set at = int4range(lower(at), upper(at) + 1) where id % 3 = 0")
    visits.execute(
        "insert into visit select g, 7, int4range(g, g + 3) from generate_series(10000, 11999) as g"
    )
    visits.execute(
        "insert into visit values (1, null, '[0,9)') on conflict (id) do update set carer = null"
    )
    return visits


def test_parts_make_the_very_same_as_the_whole(
    skewed: psycopg.Connection, superuser: psycopg.Connection, database: Database
) -> None:
    """Row by row, when conflicts come, change and go; and no resource is two parts'."""
    detect(skewed, full=True)
    whole = known(skewed)
    assert len(whole) > 4000
    superuser.execute("delete from sqlkit.conflict")
    with api.connect(database.dsn) as client:
        client.detect_conflicts("r", full=True, workers=3)
    assert known(skewed) == whole

    change = "update visit set at = int4range(lower(at), upper(at) + 2) where id % 7 = 0"
    skewed.execute(change.encode())
    skewed.execute("delete from visit where id % 11 = 0")
    with skewed.transaction(force_rollback=True):
        serial = detect(skewed, full=True)
        whole = known(skewed)
    with api.connect(database.dsn) as client:
        parts = client.detect_conflicts("r", full=True, workers=2)
    assert tuple(parts.values()) == serial
    assert min(parts["pairs_opened"], parts["pairs_changed"], parts["pairs_closed"]) > 0
    assert known(skewed) == whole

    superuser.execute("delete from sqlkit.conflict")
    owned: list[object] = []
    for part in range(1, 9):
        with skewed.transaction(force_rollback=True):
            skewed.execute("select sqlkit.detect_conflicts('r', true, %s, 8)", [part])
            resources = "select distinct resource::text from sqlkit.conflict"
            owned += [row[0] for row in skewed.execute(resources.encode())]
    assert len(set(owned)) == len(owned)
    assert set(owned) == {json.dumps(row[0]) for row in whole if row[-1]}


def test_a_resource_that_takes_long_holds_up_no_other(
    skewed: psycopg.Connection, superuser: psycopg.Connection, database: Database
) -> None:
    """One part never gets on: all others are done meanwhile, by the other worker."""
    detect(skewed, full=True)
    whole = known(skewed)
    superuser.execute("delete from sqlkit.conflict")
    part_of = "1 + mod(coalesce(hashint4extended((resource ->> 'carer')::integer, 1), 0) & 255, 4)"
    with database.connect() as slow, api.connect(database.dsn) as client:
        number = slow.execute(
            f"select {part_of} from (select '{{\"carer\": 7}}'::jsonb) as c (resource)".encode()
        ).fetchone()
        assert number is not None
        slow.execute("begin")
        slow.execute("select sqlkit.detect_conflicts('r', true, %s, 4)", number)
        done: list[dict[str, object]] = []
        worker = threading.Thread(
            target=lambda: done.append(client.detect_conflicts("r", full=True, workers=2))
        )
        worker.start()
        others = f"select count(*) from sqlkit.conflict where {part_of} <> %s".encode()
        wanted = len([row for row in whole if part(slow, part_of, row[0]) != number[0]])
        assert 0 < wanted < len(whole)
        for _ in range(600):
            if slow.execute(others, number).fetchone() == (wanted,):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the others wait")
        assert worker.is_alive()
        slow.execute("rollback")
        worker.join(60)
        assert done[0]["pairs_open"] == len(whole)
    assert known(skewed) == whole


def test_detections_in_other_numbers_of_parts_own_no_resource_at_once(
    visits: psycopg.Connection, database: Database
) -> None:
    """One with two parts is half done and not committed; one with six looks at all resources."""
    visits.execute("update visit set at = int4range(lower(at), upper(at) + 1) where id < 1900")
    part = "select sqlkit.detect_conflicts('r', true, %s, 2)"
    done: list[dict[str, object]] = []
    with database.connect() as slow, api.connect(database.dsn) as client:
        slow.execute("begin")
        slow.execute(part, [1])
        worker = threading.Thread(
            target=lambda: done.append(client.detect_conflicts("r", full=True, workers=3))
        )
        worker.start()
        worker.join(1)
        assert worker.is_alive()
        slow.execute("commit")
        slow.execute(part, [2])
        worker.join(60)
    assert done[0]["pairs_open"] == 1900
    assert pairs_known(visits) == (1900, 1900)


def pairs_known(connection: psycopg.Connection) -> tuple[object, ...] | None:
    """How many conflicts are recorded, and of how many pairs."""
    return connection.execute(
        "select count(*), count(distinct (first_key, second_key)) from sqlkit.conflict"
    ).fetchone()


def test_a_pair_that_moves_to_another_part_meanwhile_is_one(
    visits: psycopg.Connection, database: Database
) -> None:
    """The part that it left has found it and not committed yet when the other one finds it."""
    part_of = "1 + mod(hashint4extended(carer, 1) & 255, 2)"
    carers = visits.execute(
        f"select min(carer) from visit group by {part_of} order by {part_of}".encode()
    ).fetchall()
    visits.execute("update visit set carer = %s, at = '[5000,5009)' where id in (1, 2)", carers[0])
    part = "select sqlkit.detect_conflicts('r', true, %s, 2)"
    with (
        database.connect() as first,
        database.connect() as second,
        ThreadPoolExecutor(1) as pool,
    ):
        first.execute("begin")
        first.execute(part, [1])
        visits.execute("update visit set carer = %s where id in (1, 2)", carers[1])
        other = pool.submit(second.execute, part, [2])
        wait([other], timeout=0.5)
        first.execute("commit")
        other.result(60)
    visits.execute("select sqlkit.finish_detection('r', null)")
    detect(visits, full=True)
    assert pairs_known(visits) == (1, 1)


def test_pairs_that_move_crosswise_between_parts_lock_nobody_out(
    visits: psycopg.Connection, superuser: psycopg.Connection, database: Database
) -> None:
    """One part closes what the other one finds, and the other way round: neither waits for ever."""
    part_of = "1 + mod(hashint4extended(carer, 1) & 255, 2)"
    (one,), (two,) = visits.execute(
        f"select min(carer) from visit group by {part_of} order by {part_of}".encode()
    ).fetchall()
    move = "update visit set carer = %s, at = '[5000,5009)' where id = any(%s)"
    there, back = [1, 2, 3, 4], [11, 12, 13, 14]
    visits.execute(move, [one, there])
    visits.execute(move.replace("5000,5009", "6000,6009"), [two, back])
    assert detect(visits, full=True)[0] == 12
    visits.execute(move, [two, there])
    visits.execute(move.replace("5000,5009", "6000,6009"), [one, back])
    # Who has updated conflicts waits a second for the other to have done so, too.
    superuser.execute(
        """
        create function meet() returns trigger language plpgsql as $$
        begin
            perform pg_advisory_xact_lock_shared(4711);
            for n in 1 .. 20 loop
                exit when (
                    select count(*) > 1 from pg_locks where locktype = 'advisory' and objid = 4711
                );
                perform pg_sleep(0.05);
            end loop;
            return null;
        end $$;
        create trigger meet after update on sqlkit.conflict execute function meet();
        """
    )
    part = "select * from sqlkit.detect_conflicts('r', true, %s, 2)"
    with database.connect() as first, database.connect() as second, ThreadPoolExecutor(2) as pool:
        for other in [
            pool.submit(connection.execute, part, [number])
            for number, connection in enumerate((first, second), start=1)
        ]:
            other.result(60)
    superuser.execute("drop trigger meet on sqlkit.conflict; drop function meet")
    visits.execute("select sqlkit.finish_detection('r', null)")
    resources = "select distinct (resource ->> 'carer')::int, (first_key ->> 'id')::int > 10, state"
    assert set(visits.execute(f"{resources} from sqlkit.conflict".encode())) == {
        (two, False, "open"),
        (one, True, "open"),
    }
    assert detect(visits, full=True)[:4] == (0, 0, 0, 12)


def test_a_conflict_that_is_closed_while_it_is_settled(
    visits: psycopg.Connection, database: Database
) -> None:
    """Whoever settles it comes too late, and is told that nothing was settled."""
    visits.execute("update visit set at = int4range(0, 70) where id in (1, 2)")
    assert detect(visits)[0] == 2
    visits.execute("update visit set at = 'empty' where id = 1")
    settle = (
        "select sqlkit.settle_conflicts(array_agg(conflict_id), 'ignored') from sqlkit.conflict"
    )
    with (
        database.connect() as first,
        database.connect() as second,
        ThreadPoolExecutor(1) as pool,
    ):
        with first.transaction():
            assert detect(first)[2] == 1
            other = pool.submit(second.execute, settle.encode())
            wait([other], timeout=0.5)
            assert not other.done()
        assert other.result(60).fetchone() == (1,)
    states = "select state, gone_at is null from sqlkit.conflict order by conflict_id"
    assert set(visits.execute(states.encode())) == {("resolved", False), ("ignored", True)}


def test_a_detection_whose_session_ends_is_done_again(
    visits: psycopg.Connection, superuser: psycopg.Connection, database: Database
) -> None:
    """One of its parts is committed, one is not: the next detection has both."""
    visits.execute("update visit set at = int4range(lower(at), upper(at) + 1) where id < 1900")
    part = "select (sqlkit.detect_conflicts('r', true, %s, 2)).pairs_opened"
    with database.connect() as first, database.connect() as second:
        row = first.execute(part, [1]).fetchone()
        assert row is not None
        second.execute("begin")
        second.execute(part, [2])
        superuser.execute("select pg_terminate_backend(%s)", [second.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            second.execute("commit")
    assert 0 < row[0] < 1900
    assert detect(visits) == (1900 - row[0], 0, 0, 1900, False)
    assert detect(visits, full=True) == (0, 0, 0, 1900, True)


def test_flags_take_back_no_change_of_somebody_else(
    visits: psycopg.Connection, database: Database
) -> None:
    """A row is changed and not committed yet: it keeps that, and its flag comes after it."""
    visits.execute("alter table visit add column is_bad boolean")
    visits.execute("update visit set at = int4range(0, 70) where id in (1, 2)")
    assert detect(visits)[0] == 2
    with (
        database.connect() as slow,
        database.connect() as flags,
        ThreadPoolExecutor(1) as pool,
    ):
        with slow.transaction():
            slow.execute("update visit set carer = 4711, is_bad = null where id in (1, 3)")
            other = pool.submit(flags.execute, "select sqlkit.flag_conflicts('r', 'is_bad')")
            wait([other], timeout=0.5)
            assert not other.done()
        other.result(60)
    query = "select id, carer, is_bad from visit where id < 4 order by id"
    assert visits.execute(query.encode()).fetchall() == [
        (0, 0, False),
        (1, 4711, True),
        (2, 2, True),
        (3, 4711, False),
    ]


def test_no_batch_is_held_to_rules_in_an_old_snapshot(
    visits: psycopg.Connection, database: Database
) -> None:
    """It does not show what was committed before the table was locked."""
    visits.execute("select sqlkit.create_stage('visit', p_name => 'late')")
    visits.execute("insert into sqlkit_stage.late values (5001, 500, '[5,20)')")
    merge = "select (sqlkit.merge_checked_stage('sqlkit_stage.late', 'reject')).rows_rejected"
    with database.connect() as old:
        old.execute("begin isolation level repeatable read")
        old.execute("select count(*) from visit")
        visits.execute("insert into visit values (5000, 500, '[0,10)')")
        with pytest.raises(psycopg.DatabaseError, match="as they were") as raised:
            old.execute(merge.encode())
        assert raised.value.sqlstate == "SK805"
    assert visits.execute(merge.encode()).fetchone() == (1,)


def test_a_detection_in_an_old_snapshot_finds_a_pair_once(
    visits: psycopg.Connection, database: Database
) -> None:
    visits.execute("update visit set at = int4range(0, 70) where id < 50")
    with database.connect() as old:
        old.execute("begin isolation level repeatable read")
        old.execute("select count(*) from visit")
        assert detect(visits)[0] == 50
        with pytest.raises(psycopg.errors.SerializationFailure):
            detect(old, full=True)
    assert pairs_known(visits) == (50, 50)


def part(connection: psycopg.Connection, part_of: str, resource: object) -> object:
    row = connection.execute(
        f"select {part_of} from (select %s::jsonb) as c (resource)".encode(), [json.dumps(resource)]
    ).fetchone()
    assert row is not None
    return row[0]


def test_a_large_rule_is_detected_in_parts_by_itself(
    skewed: psycopg.Connection,
    superuser: psycopg.Connection,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many workers as its rows are worth, no more than there is room for; the same is found."""
    asked: list[int] = []

    def detect_in_parts(connections: Any, rule: str, workers: int) -> dict[str, Any]:
        asked.append(workers)
        return divide(connections, rule, workers)

    divide = conflicts.detect_in_parts
    skewed.execute("analyze visit")
    monkeypatch.setattr(conflicts, "detect_in_parts", detect_in_parts)
    monkeypatch.setattr(conflicts, "_cores", lambda: 3)
    with api.connect(database.dsn) as client:
        assert client.detect_conflicts("r", full=True)["is_full"]
        whole = known(skewed)
        assert asked == []  # 4,000 rows are few
        superuser.execute("delete from sqlkit.conflict")
        monkeypatch.setattr(conflicts, "ROWS_A_WORKER", 1000)
        assert client.detect_conflicts("r", full=True)["pairs_open"] == len(whole)
        assert asked == [3]
        assert known(skewed) == whole
        assert client.detect_conflicts("r")["is_full"] is False  # what was touched is little
        monkeypatch.setattr(conflicts, "ROWS_A_WORKER", 1900)
        client.detect_conflicts("r", full=True)
        client.detect_conflicts("r", full=True, workers=1)
        assert asked == [3, 2]
        with pytest.raises(UsageError, match="at least 1"):
            client.detect_conflicts("r", workers=0)
    with (
        ConnectionPool(database.dsn, min_size=1, max_size=2, open=True) as pool,
        api.connect(pool) as client,
    ):
        assert client.detect_conflicts("r", full=True)["pairs_open"] == len(whole)
    with skewed.transaction(), api.connect(skewed) as client:
        client.detect_conflicts("r", full=True)
    assert asked == [3, 2]


def test_parts_side_by_side_in_one_thread(visits: psycopg.Connection, database: Database) -> None:
    visits.execute("update visit set at = int4range(lower(at), upper(at) + 1) where id < 1900")

    async def work() -> dict[str, object]:
        async with api.aconnect(database.dsn) as client:
            return await client.detect_conflicts("r", workers=2)

    assert asyncio.run(work())["pairs_open"] == 1900


def test_from_the_shell(visits: psycopg.Connection, dsn: str, sqlkit: RunSqlkit) -> None:
    visits.execute("alter table visit add column is_bad boolean")
    visits.execute("update visit set at = int4range(0, 70) where id in (0, 1)")

    def run(*arguments: str, code: int = 0) -> str:
        done = sqlkit("conflicts", *arguments, env={"SQLKIT_DSN": dsn})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    assert run("detect", code=3) == "r: 2 open; 2 new, 0 changed, 0 gone\n"
    first, second = json.loads(run("--json"))
    assert first["first_key"] == {"id": 0}
    assert run("flag", "r", "is_bad") == "2,000 rows written\n"
    assert run("resolve", str(second["conflict_id"])) == "1 resolved\n"
    assert run("ignore", str(first["conflict_id"]), "--note", "as agreed") == "1 ignored\n"
    assert run("list", "r", "--state", "ignored").endswith(
        "r: public.visit id=0 and id=100 of carer=0: overlap by 10, ignored (as agreed)\n"
    )
    failed = sqlkit("conflicts", "detect", "--workers", "many", env={"SQLKIT_DSN": dsn})
    assert (failed.returncode, "--workers many" in failed.stderr) == (2, True)
    assert run("detect", "--full", "--workers", "2") == "r: 0 open; 0 new, 0 changed, 0 gone\n"
    assert "(as agreed)" in run("history", str(first["conflict_id"]))
    visits.execute("update visit set at = int4range(lower(at), null) where id in (1805, 1905)")
    assert run("detect", code=3) == "r: 1 open; 1 new, 0 changed, 0 gone\n"
    assert run().endswith("id=1805 and id=1905 of carer=5: overlap without end, open\n")
    assert run("history", "4711", code=1) == run("list", "no", code=1) == ""
    assert run("--state", "opn", code=2) == ""
    (third,) = json.loads(run("--json"))
    assert run("history", str(third["conflict_id"])) == (
        f"nothing has happened to conflict {third['conflict_id']} since it was found\n"
    )
    failed = sqlkit("conflicts", "detect", "no", "--json", env={"SQLKIT_DSN": dsn})
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["code"] == "SK802"

    # A rule whose table is gone keeps no other from being detected.
    visits.execute(
        "create table gone (like visit including all);"
        "select sqlkit.define_overlap('a', 'gone', array['carer'], p_range => 'at');"
        "drop table gone"
    )
    failed = sqlkit("conflicts", "detect", "--json", env={"SQLKIT_DSN": dsn})
    assert failed.returncode == 1
    assert failed.stderr == 'error: a: relation "public.gone" does not exist\n'
    told = json.loads(failed.stdout)
    assert (told["a"]["error"]["code"], told["r"]["pairs_open"]) == ("42P01", 1)


def test_a_view_and_a_partitioned_table(database: Database, tmp_path: Path) -> None:
    """A view is a filter, and computes what a rule needs; partitions tell what was touched."""
    with database.connect() as connection:
        connection.execute(
            """
            create table visit (
                id integer, day date, carer integer, minutes int4range, primary key (id, day)
            ) partition by range (day);
            create table visit_1 partition of visit for values from (minvalue) to ('2026-02-01');
            create table visit_2 partition of visit for values from ('2026-02-01') to (maxvalue);
            insert into visit values (1, '2026-01-31', 7, '[0,9)'), (2, '2026-02-01', 7, '[5,6)');
            create view cancelled_not as select * from visit where not isempty(minutes);
            select sqlkit.define_overlap('r', 'visit', array['carer'], p_range => 'minutes');
            select sqlkit.define_overlap(
                'v', 'cancelled_not', array['carer'], p_range => 'minutes',
                p_key => array['id', 'day']
            );
            """
        )
        assert detect(connection) == (1, 0, 0, 1, True)
        connection.execute("insert into visit values (3, '2026-02-02', 7, '[5,6)')")
        assert detect(connection) == (2, 0, 0, 3, False)
        for _ in range(2):  # a view does not tell what was touched
            row = connection.execute(
                "select pairs_open, is_full from sqlkit.detect_conflicts('v')"
            ).fetchone()
            assert row == (3, True)
        with pytest.raises(psycopg.DatabaseError, match="not a table"):
            connection.execute(
                sql.SQL("select sqlkit.flag_conflicts('v', {})").format(sql.Literal("carer"))
            )


VISITS = """id,carer,at
5000,0,"[1195,1210)"
5001,500,"[0,10)"
5002,500,"[5,20)"
5003,501,"[0,10)"
5004,501,nonsense
"""


@pytest.fixture
def visits_file(visits: psycopg.Connection, tmp_path: Path) -> Path:
    visits.execute("select sqlkit.define_duplicate('same', 'visit', array['carer', 'at'])")
    path = tmp_path / "visits.csv"
    path.write_text(VISITS)
    return path


def test_a_load_that_refuses_what_contradicts(
    visits: psycopg.Connection, database: Database, visits_file: Path
) -> None:
    """Against the table and within the batch; beside other bad rows, within the same limit."""
    with api.connect(database.dsn) as client:
        with pytest.raises(RejectLimitError, match="3 rows were refused") as raised:
            client.load(visits_file, into="public.visit", conflicts="reject", reject_limit=2)
        assert "line 2: column at: contradicts" in (raised.value.detail or "")
        assert visits.execute("select count(*) from visit where id >= 5000").fetchone() == (0,)

        result = client.load(visits_file, into="public.visit", conflicts="reject", reject_limit=3)
        rows = result.rows
        assert (rows.read, rows.inserted, rows.rejected) == (5, 2, 3)
        kept = visits.execute(
            "select first_line, sqlstate, message, raw from sqlkit.reject where run_id = %s"
            " order by 1",
            [result.run_id],
        ).fetchall()
        assert [row[:2] for row in kept] == [(2, "SK806"), (4, "SK806"), (6, "22P02")]
        assert kept[0][2:] == ('contradicts {"id": 1900} by rule r', '5000,0,"[1195,1210)"')
        assert kept[1][2] == "contradicts line 3 by rule r"

        # What was refused may come again when it is free, and not before.
        (again,) = client.replay_rejects(result.run_id or 0, reject_limit=None)
        assert again.rows.rejected == 3
        visits.execute("delete from visit where carer = 0")
        (again,) = client.replay_rejects(again.run_id or 0, reject_limit=None)
        assert (again.rows.inserted, again.rows.rejected) == (1, 2)
    assert detect(visits, full=True)[3] == 0


def test_a_load_that_cuts_what_overlaps(
    visits: psycopg.Connection, dsn: str, visits_file: Path, sqlkit: RunSqlkit
) -> None:
    env = {"SQLKIT_DSN": dsn}
    arguments = ("load", str(visits_file), "--into", "public.visit", "--conflicts", "trim")
    done = sqlkit(*arguments, "--reject-limit", "5", env=env)
    assert done.returncode == 3, done.stderr
    assert "5 rows read: 4 inserted, 1 rejected" in done.stdout
    assert "2 rows cut so that they overlap no other" in done.stdout
    found = visits.execute("select id, at::text from visit where id >= 5000 order by id").fetchall()
    assert found == [(5000, "[1200,1210)"), (5001, "[0,10)"), (5002, "[10,20)"), (5003, "[0,10)")]
    kept = visits.execute(
        "select first_line, span_before, span_after, source_id is not null"
        " from sqlkit.trimmed_row order by 1"
    ).fetchall()
    assert kept == [(2, "[1195,1210)", "[1200,1210)", True), (4, "[5,20)", "[10,20)", True)]
    assert detect(visits, full=True)[3] == 0


def test_a_load_that_reports_what_contradicts(
    visits: psycopg.Connection, dsn: str, visits_file: Path, sqlkit: RunSqlkit
) -> None:
    visits_file.write_text(VISITS.replace("nonsense", '"[0,10)"'))
    arguments = (
        "load",
        str(visits_file),
        "--into",
        "public.visit",
        "--conflicts",
        "report",
        "--json",
    )
    done = sqlkit(*arguments, env={"SQLKIT_DSN": dsn})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"]["inserted"] == 5
    assert {name: found["pairs_opened"] for name, found in told["conflicts"].items()} == {
        "r": 3,
        "same": 1,
    }
    assert visits.execute("select count(*) from sqlkit.conflict").fetchone() == (4,)
    for wrong in (("--dry-run",), ("--conflicts", "hide")):
        done = sqlkit(*arguments, *wrong, env={"SQLKIT_DSN": dsn})
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["code"] == "SK805"


def test_batch_after_batch_is_held_to_what_came_before(
    visits: psycopg.Connection, database: Database, tmp_path: Path
) -> None:
    """Also where a batch boundary, or an atomic load's transaction, lies between two rows."""
    lines = [f'{6000 + n},{600 + n % 7},"[{n},{n + 10})"' for n in range(400)]
    path = tmp_path / "visits.csv"
    path.write_text("id,carer,at\n" + "\n".join(lines) + "\n")
    free: dict[int, int] = {}
    wanted = 0
    for n in range(400):
        if free.get(n % 7, 0) <= n:
            free[n % 7] = n + 10
            wanted += 1
    with api.connect(database.dsn) as client:
        for atomic in (False, True):
            result = client.load(
                path,
                into="public.visit",
                conflicts="reject",
                reject_limit=None,
                batch_bytes=1000,
                atomic=atomic,
                again=atomic,
            )
            assert result.batches == 1 or result.batches > 3
            assert result.rows.read == 400
            assert result.rows.inserted == wanted
            visits.execute("delete from visit where id >= 6000")


PROJECT = """
tables:
  visit: {source: visit.csv, conflicts: reject, reject_limit: 5, depends_on: far}
  far: {source: far.csv, create: true, key: id}
rules:
  r: {kind: overlap, table: public.visit, resource: carer, range: at, changed_by: id}
  way:
    {kind: distance, table: visit, resource: carer, range: at, gap: 3, place: carer,
     travel: 'pg_catalog.int4pl(int4, int4)'}
  same: {kind: disagree, table: visit, other: far, columns: carer, missing: false}
  twice: {kind: duplicate, table: visit, columns: [carer, at]}
"""


def test_rules_are_made_by_a_project(
    visits: psycopg.Connection,
    dsn: str,
    sqlkit: RunSqlkit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the rows come; one about a table that the run makes, as soon as it is there."""
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    (tmp_path / "sqlkit.yml").write_text(PROJECT)
    (tmp_path / "visit.csv").write_text('id,carer,at\n9000,7,"[30,40)"\n9001,200,"[0,9)"\n')
    (tmp_path / "far.csv").write_text("id,carer\n9001,201\n")
    undone = sqlkit("conflicts", "define", "--project", str(tmp_path))
    assert undone.returncode == 1
    assert 'rule same: relation "far" does not exist' in undone.stderr
    rules = "select array_agg(name order by name) from sqlkit.conflict_rule"
    assert visits.execute(rules.encode()).fetchone() == (["r"],)  # none of them

    done = sqlkit("run", "--project", str(tmp_path), "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    assert visits.execute(rules.encode()).fetchone() == (["r", "same", "twice", "way"],)
    refused = visits.execute("select message from sqlkit.reject").fetchall()
    assert refused == [('contradicts {"id": 7} by rule r',)]
    with api.connect(dsn) as client:
        assert client.detect_conflicts("same")["pairs_open"] == 1
        assert client.detect_conflicts("way")["pairs_open"] > 0
    row = visits.execute("select definition, changed_by from sqlkit.conflict_rule where name = 'r'")
    assert row.fetchone() == (
        {"resource": ["carer"], "range": "at", "exempt": [], "across": []},
        "id",
    )

    again = sqlkit("conflicts", "define", "--project", str(tmp_path), "--json")
    assert json.loads(again.stdout) == ["r", "way", "same", "twice"]
    # What did not change goes on from where its detection was.
    marks = "select count(*) from sqlkit.conflict_rule where mark is not null"
    assert visits.execute(marks.encode()).fetchone() == (2,)
    (tmp_path / "sqlkit.yml").write_text(
        PROJECT.replace("range: at, changed", "range: nope, changed")
    )
    wrong = sqlkit("run", "visit", "--project", str(tmp_path), "--json")
    error = json.loads(wrong.stdout)["tables"][0]["error"]
    assert (error["code"], error["message"]) == (
        "SK204",
        "rule r: columns that are not there: nope",
    )
