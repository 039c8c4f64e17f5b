"""Random rows against brute force: every bound, null, empty and zero-length interval.

The model knows nothing of sorting: an interval is the set of points that it holds, and two of them
overlap where they have a point in common.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from tests.conftest import Database

# Ends are whole numbers from 0 to MOST, so that these are all points that can make a difference;
# numbers that follow one another have no halves.
MOST = 6
EXAMPLES = int(os.environ.get("SQLKIT_TEST_EXAMPLES", "15"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
POINTS = [point / 2 for point in range(-3, 2 * MOST + 4)]
WHOLE = [point for point in POINTS if point == int(point)]


class Row(NamedTuple):
    """A row: whose it is, from when to when, and the group it is exempt or counted by."""

    resource: str | None
    starts: int | None
    ends: int | None
    bounds: str  # of this row; used where the interval is a range
    team: int | None


class Kind(NamedTuple):
    """How a table has its intervals."""

    type: str  # of the columns, or of the range
    is_range: bool
    is_whole: bool
    value: str = "%s"  # what a whole number stands for


# Half an hour each, of the night in which the clocks of Berlin are put back.
MOMENT = "timestamptz '2026-10-25 00:00+02' + %s::integer * interval '30 minutes'"
DAY = "date '2026-03-28' + %s::integer"
KINDS = (
    Kind("integer", False, True),
    Kind("numeric", False, False),
    Kind("double precision", False, False),
    Kind("int4range", True, True),
    Kind("numrange", True, False),
    Kind("timestamptz", False, False, MOMENT),
    Kind("tstzrange", True, False, MOMENT),
    Kind("date", False, True, DAY),
    Kind("daterange", True, True, DAY),
)

rows = st.builds(
    Row,
    resource=st.sampled_from(["a", "b", None]) | st.just("a"),
    starts=st.none() | st.integers(0, MOST),
    ends=st.none() | st.integers(0, MOST),
    bounds=st.sampled_from(["[)", "[]", "(]", "()"]),
    team=st.none() | st.integers(1, 2),
)
tables = st.lists(rows, max_size=12)


def holds(row: Row, bounds: str, point: float) -> bool:
    """Whether a point is in the interval of a row."""
    after = row.starts is None or point > row.starts or (point == row.starts and bounds[0] == "[")
    before = row.ends is None or point < row.ends or (point == row.ends and bounds[1] == "]")
    return after and before


class Rule(NamedTuple):
    """A rule of kind overlap."""

    kind: Kind
    bounds: str
    nulls: str
    grouped: str  # exempt | across | no

    def pairs(self, table: dict[int, Row]) -> set[tuple[int, int]]:
        """What it finds, by trying all pairs."""
        points = WHOLE if self.kind.is_whole else POINTS
        found = set()
        for (a, first), (b, second) in itertools.combinations(sorted(table.items()), 2):
            if first.resource is None or first.resource != second.resource:
                continue
            if self.nulls == "unknown" and None in (*first[1:3], *second[1:3]):
                continue
            if self.grouped == "exempt" and first.team is not None and first.team == second.team:
                continue
            if self.grouped == "across" and (
                None in (first.team, second.team) or first.team == second.team
            ):
                continue
            own = self.kind.is_range
            if any(
                holds(first, first.bounds if own else self.bounds, point)
                and holds(second, second.bounds if own else self.bounds, point)
                for point in points
            ):
                found.add((a, b))
        return found


rules = st.builds(
    Rule,
    kind=st.sampled_from(KINDS),
    bounds=st.sampled_from(["[)", "[]", "(]", "()"]),
    nulls=st.sampled_from(["unbounded", "unknown"]),
    grouped=st.sampled_from(["no", "exempt", "across"]),
)


@contextlib.contextmanager
def arena(database: Database) -> Iterator[psycopg.Connection]:
    """A connection, and nothing of this example left afterwards.

    Every statement is a transaction: what one writes has to be told from what the next one does.
    """
    with database.connect() as connection:
        connection.execute("set timezone = 'Europe/Berlin'")
        try:
            yield connection
        finally:
            connection.execute(
                """
                drop table if exists visit, mine, theirs;
                drop function if exists way;
                delete from sqlkit.conflict_rule;
                """
            )


def write(
    connection: psycopg.Connection, kind: Kind, table: dict[int, Row], into: str = "visit"
) -> None:
    ends = f"{kind.value}, {kind.value}"
    interval = f"{kind.type}({ends}, %s)" if kind.is_range else ends
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into {into} values (%s, %s, {interval}, %s)".encode(),
            [
                (key, *row) if kind.is_range else (key, *row[:3], row.team)
                for key, row in table.items()
            ],
        )


def proper(row: Row, kind: Kind) -> Row:
    """A range that ends before it begins is no value at all."""
    if not kind.is_range or None in (row.starts, row.ends):
        return row
    starts, ends = sorted([row.starts or 0, row.ends or 0])
    return row._replace(starts=starts, ends=ends)


def detect(connection: psycopg.Connection, full: bool) -> Any:
    return connection.execute("select * from sqlkit.detect_conflicts('r', %s)", [full]).fetchone()


def found(connection: psycopg.Connection) -> set[tuple[int, int]]:
    rows_ = connection.execute(
        """
        select (first_key ->> 'id')::integer, (second_key ->> 'id')::integer
        from sqlkit.conflict where state = 'open'
        """
    ).fetchall()
    pairs = [(min(row), max(row)) for row in rows_]
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


@given(rule=rules, first=tables, second=tables)
@example(
    # A row that has no end touches all that come after it, far behind others too.
    rule=Rule(KINDS[1], "[)", "unbounded", "no"),
    first=[Row("a", 0, None, "[)", 1), Row("a", 1, 2, "[)", 1), Row("a", 3, 4, "[)", 1)],
    second=[],
)
@settings(SETTINGS, max_examples=EXAMPLES * 3)
def test_overlaps_are_those_that_brute_force_finds(
    rule: Rule, first: list[Row], second: list[Row], database: Database
) -> None:
    """Also after every other row was changed, looked for among what was touched alone."""
    kind = rule.kind
    before = {key: proper(row, kind) for key, row in enumerate(first)}
    # Rows that stay, rows that change, rows that go and rows that come.
    after = {
        key: proper(second[key], kind) if key % 2 and key < len(second) else before[key]
        for key in before
        if key % 5 or key == 0
    } | {key + 100: proper(row, kind) for key, row in enumerate(second) if not key % 2}
    columns = f"span {kind.type}" if kind.is_range else f"starts {kind.type}, ends {kind.type}"
    interval = (
        "p_range => 'span'"
        if kind.is_range
        else "'starts', 'ends', p_nulls => %(nulls)s, p_bounds => %(bounds)s"
    )
    if kind.is_range:
        rule = rule._replace(nulls="unbounded")
    group = "" if rule.grouped == "no" else f", p_{rule.grouped} => array['team']"
    with arena(database) as connection:
        connection.execute(
            "create table visit"
            f" (id integer primary key, resource text, {columns}, team integer)".encode()
        )
        connection.execute(
            "select sqlkit.define_overlap("
            f"'r', 'visit', array['resource'], {interval}{group})".encode(),
            {"nulls": rule.nulls, "bounds": rule.bounds},
        )
        write(connection, kind, before)
        detect(connection, full=False)
        assert found(connection) == rule.pairs(before)
        # Nothing happened: nothing is found, touched or not.
        assert detect(connection, full=True)[:3] == (0, 0, 0)

        gone = [key for key in before if after.get(key) != before[key]]
        connection.execute("delete from visit where id = any(%s)", [gone])
        write(connection, kind, {key: row for key, row in after.items() if before.get(key) != row})
        note(str(detect(connection, full=False)))
        assert found(connection) == rule.pairs(after)
        assert detect(connection, full=True)[:3] == (0, 0, 0)


@given(rule=rules, first=tables, second=tables, shift=st.sampled_from([0, 3, 100]))
@example(
    # Two rows without an end, or without either, of one batch: the later one is cut, or refused.
    rule=Rule(KINDS[0], "[)", "unbounded", "no"),
    first=[],
    second=[Row("a", None, 0, "[)", None), Row("a", None, None, "[)", None)],
    shift=0,
)
@settings(SETTINGS, max_examples=EXAMPLES * 3)
def test_a_batch_that_was_held_to_a_rule_brings_no_overlap(
    rule: Rule, first: list[Row], second: list[Row], shift: int, database: Database
) -> None:
    """Rejected: by walking along its lines, where no key is there already. Trimmed: never more."""
    kind = rule.kind
    if kind.is_range:
        rule = rule._replace(nulls="unbounded")
    before = {key: proper(row, kind) for key, row in enumerate(first)}
    batch = {key + shift: proper(row, kind) for key, row in enumerate(second)}
    accepted = dict(before)
    for key, row in batch.items():
        pairs = rule.pairs(accepted | {key: row})
        if not any(key in pair for pair in pairs):
            accepted[key] = row
    columns = f"span {kind.type}" if kind.is_range else f"starts {kind.type}, ends {kind.type}"
    interval = (
        "p_range => 'span'"
        if kind.is_range
        else "'starts', 'ends', p_nulls => %(nulls)s, p_bounds => %(bounds)s"
    )
    group = "" if rule.grouped == "no" else f", p_{rule.grouped} => array['team']"
    with arena(database) as connection:
        connection.execute(
            "create table visit"
            f" (id integer primary key, resource text, {columns}, team integer)".encode()
        )
        connection.execute(
            "select sqlkit.define_overlap("
            f"'r', 'visit', array['resource'], {interval}{group})".encode(),
            {"nulls": rule.nulls, "bounds": rule.bounds},
        )
        write(connection, kind, before)
        old = detect(connection, full=True)[3]
        for way in ("reject", "trim"):
            with connection.transaction(force_rollback=True):
                connection.execute("select sqlkit.create_stage('visit', p_name => 'batch')")
                write(connection, kind, batch, "sqlkit_stage.batch")
                told = connection.execute(
                    "select array[c.rows_read, c.rows_inserted, c.rows_updated, c.rows_unchanged,"
                    " c.rows_ignored, c.rows_duplicate, c.rows_rejected]"
                    " from sqlkit.merge_checked_stage('sqlkit_stage.batch', %s) as c",
                    [way],
                ).fetchone()
                assert told is not None
                counts: list[int] = told[0]
                read, *parts = counts
                # Not in one statement, which would not see what its own function wrote.
                (trimmed,) = connection.execute(
                    "select count(*) from sqlkit.trimmed_row"
                ).fetchall()[0]
                note(f"{way}: {counts}, {trimmed} trimmed")
                assert read == len(batch) == sum(parts)
                rejected = parts[-1]
                there = connection.execute("select id from visit order by id").fetchall()
                if way == "reject" and not before.keys() & batch.keys():
                    assert [key for (key,) in there] == sorted(accepted)
                    assert rejected == len(before | batch) - len(accepted)
                if way == "trim" and not before.keys() & batch.keys():
                    assert len(there) == len(before) + len(batch) - rejected
                    assert trimmed or rejected or len(accepted) == len(before | batch)
                # Whatever was there before may go on contradicting itself, or be overwritten.
                opened, _, _, left = detect(connection, full=True)[:4]
                assert opened == 0
                assert left <= old


def too_close(table: dict[int, Row], gap: int, asked: bool) -> set[tuple[int, int]]:
    """Pairs of rows that are less apart than they have to be, by trying all pairs."""
    known = {
        key: row
        for key, row in table.items()
        if row.starts is not None and row.ends is not None and row.starts <= row.ends
    }
    wanted = set()
    for a, b in itertools.permutations(known, 2):
        one, other = known[a], known[b]
        if one.resource is None or one.resource != other.resource:
            continue
        needed = gap
        if asked:
            needed = 3 if None not in (one.team, other.team) and one.team != other.team else 0
        assert one.ends is not None
        assert other.starts is not None
        if 0 <= other.starts - one.ends < needed:
            wanted.add((min(a, b), max(a, b)))
    return wanted


@given(first=tables, second=tables, gap=st.integers(0, 3), asked=st.booleans())
@SETTINGS
def test_distances_are_those_that_brute_force_finds(
    first: list[Row], second: list[Row], gap: int, asked: bool, database: Database
) -> None:
    """A gap that is said, and one that a function says: three between teams, nothing inside one.

    Also after rows have changed, gone and come, among what was touched alone.
    """
    before = dict(enumerate(first))
    after = {key: row for key, row in before.items() if key % 3} | dict(enumerate(second[::2], 6))
    with arena(database) as connection:
        connection.execute(
            "create table visit (id integer primary key, resource text, starts numeric,"
            " ends numeric, team integer)"
        )
        connection.execute(
            "create function way(integer, integer) returns numeric language sql"
            " return case when $1 <> $2 then 3 end"
        )
        if asked:
            connection.execute(
                "select sqlkit.define_distance('r', 'visit', array['resource'], '3', 'starts',"
                " 'ends', p_travel => 'way(integer, integer)', p_place => array['team'])"
            )
        else:
            connection.execute(
                "select sqlkit.define_distance("
                "'r', 'visit', array['resource'], %s, 'starts', 'ends')",
                [str(gap)],
            )
        write(connection, KINDS[1], before)
        detect(connection, full=False)
        assert found(connection) == too_close(before, gap, asked)

        gone = [key for key in before if after.get(key) != before[key]]
        connection.execute("delete from visit where id = any(%s)", [gone])
        write(
            connection,
            KINDS[1],
            {key: row for key, row in after.items() if before.get(key) != row},
        )
        detect(connection, full=False)
        assert found(connection) == too_close(after, gap, asked)
        assert detect(connection, full=True)[:3] == (0, 0, 0)


spoken = st.lists(
    st.tuples(st.sampled_from(["Ab", "ab ", "a  b", "A b", "", None]), st.integers(1, 2)),
    max_size=10,
)


@given(words=spoken, later=spoken)
@SETTINGS
def test_duplicates_are_those_that_a_dictionary_finds(
    words: list[tuple[str | None, int]], later: list[tuple[str | None, int]], database: Database
) -> None:
    def wanted(table: dict[int, tuple[str | None, int]]) -> set[tuple[int, int]]:
        seen: dict[tuple[str, int], int] = {}
        pairs = set()
        for key, (word, number) in sorted(table.items()):
            if word is not None:
                same = seen.setdefault((" ".join(word.lower().split()), number), key)
                if same != key:
                    pairs.add((same, key))
        return pairs

    before = dict(enumerate(words))
    after = {key: row for key, row in before.items() if key % 3} | dict(enumerate(later[::2], 4))
    with arena(database) as connection:
        connection.execute("create table visit (id integer primary key, word text, number integer)")
        connection.execute(
            "select sqlkit.define_duplicate('r', 'visit', array['number'], array['word'])"
        )
        for key, row in before.items():
            connection.execute("insert into visit values (%s, %s, %s)", [key, *row])
        detect(connection, full=False)
        assert found(connection) == wanted(before)

        connection.execute(
            "delete from visit where id = any(%s)", [[*before.keys() - after.keys()]]
        )
        for key, row in after.items():
            if before.get(key) != row:
                connection.execute(
                    "insert into visit values (%s, %s, %s) on conflict (id)"
                    " do update set word = excluded.word, number = excluded.number",
                    [key, *row],
                )
        detect(connection, full=False)
        assert found(connection) == wanted(after)
        assert detect(connection, full=True)[:3] == (0, 0, 0)


sides = st.dictionaries(
    st.integers(0, 6), st.tuples(st.none() | st.integers(0, 1), st.integers(0, 1))
)


@given(one=sides, other=sides, later=sides, missing=st.booleans())
@SETTINGS
def test_disagreements_are_those_that_a_dictionary_finds(
    one: dict[int, Any],
    other: dict[int, Any],
    later: dict[int, Any],
    missing: bool,
    database: Database,
) -> None:
    def wanted(left: dict[int, Any], right: dict[int, Any]) -> set[tuple[int, int]]:
        keys = left.keys() | right.keys() if missing else left.keys() & right.keys()
        return {(key, key) for key in keys if left.get(key) != right.get(key)}

    with arena(database) as connection:
        for table in ("mine", "theirs"):
            connection.execute(
                f"create table {table} (id integer primary key, a integer, b integer)".encode()
            )
        connection.execute(
            "select sqlkit.define_disagreement('r', 'mine', 'theirs', p_missing => %s)", [missing]
        )
        for table, side in (("mine", one), ("theirs", other)):
            for key, row in side.items():
                connection.execute(f"insert into {table} values (%s, %s, %s)".encode(), [key, *row])
        detect(connection, full=False)
        assert found(connection) == wanted(one, other)

        connection.execute("delete from theirs")
        for key, row in later.items():
            connection.execute("insert into theirs values (%s, %s, %s)", [key, *row])
        detect(connection, full=False)
        assert found(connection) == wanted(one, later)
        assert detect(connection, full=True)[:3] == (0, 0, 0)
