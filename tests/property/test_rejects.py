"""Random loads with bad rows of every class: all of these are refused, and nothing else is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

import sqlkit as api
from sqlkit import ways
from sqlkit.results import RowCounts
from tests.conftest import Database
from tests.merge_model import PARTS, Row, Table

NUMBERS = itertools.count(1)

TYPES = """
create type colour as enum ('red', 'green');
create domain percent as integer check (value between 0 and 100);
create table maker (id integer primary key);
insert into maker values (1), (2);
create function refuse() returns trigger language plpgsql as $$
begin
    if new.name = 'cursed' then
        raise exception 'nobody takes what is cursed';
    end if;
    return new;
end $$
"""
TABLE = """
create table {0} (
    id integer primary key,
    name varchar(9) not null,
    price numeric(6, 2) check (price >= 0),
    colour colour,
    share percent,
    sold date,
    maker integer references maker,
    code text unique,
    during int4range,
    exclude using gist (during with &&)
);
insert into {0} values (-1, 'there', 1, 'red', 1, '2024-01-01', 1, 'taken', '[1,10)')
"""
TRIGGER = """
create trigger refuse before insert or update on {0} for each row execute function refuse()
"""
COLUMNS = ("id", "name", "price", "colour", "share", "sold", "maker", "code", "during")
KEY = (0,)

GOOD = {"name": "good", "price": 1, "colour": "red", "share": 5, "sold": "2024-02-29", "maker": 1}
"""The values of a sound row, and of a bad one in all columns but one."""

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no number": ({"price": "cheap"}, "22P02"),
    "no date": ({"sold": "2024-02-30"}, "22008"),
    "no colour": ({"colour": "blue"}, "22P02"),
    "out of range": ({"price": 123456}, "22003"),
    "too long": ({"name": "much too long"}, "22001"),
    "a null": ({"name": None}, "23502"),
    "a check": ({"price": -1}, "23514"),
    "a domain": ({"share": 101}, "23514"),
    "a foreign key": ({"maker": 3}, "23503"),
    "unique": ({"code": "taken"}, "23505"),
    "an exclusion": ({"during": "[5,15)"}, "23P01"),
    "a trigger": ({"name": "cursed"}, "P0001"),
}
MALFORMED: dict[str, dict[str, tuple[Callable[[int], bytes], str]]] = {
    "csv": {
        "too few fields": (lambda number: b"%d,short" % number, "22P04"),
        "too many fields": (lambda number: b"%d,a,1,red,5,,1,,,," % number, "22P04"),
        "an empty line": (lambda _: b"", "22P04"),
        "not in the encoding": (lambda number: b"%d,\xff,1,red,5,,1,," % number, "22021"),
        "a NUL": (lambda number: b"%d,a\0b,1,red,5,,1,," % number, "22021"),
        "quotes without sense": (lambda number: b'%d,"a"b"c",1,,,,,,' % number, "22P04"),
    },
    "jsonl": {
        "no JSON": (lambda number: b'{"id": %d' % number, "22P04"),
        # Not in brackets: where a file begins with one, it is an array of objects.
        "no object": (lambda number: b'"%d"' % number, "22P04"),
        "not in the encoding": (lambda number: b'{"id": %d, "name": "\xff"}' % number, "22021"),
        "a NUL": (lambda number: b'{"id": %d, "name": "\\u0000"}' % number, "22P05"),
    },
}
BAD = [*WRONG, *MALFORMED["csv"], *MALFORMED["jsonl"]]


class Item(NamedTuple):
    """A row to be: a sound one with a key, a name and a price, or a bad one of a class."""

    key: int
    name: str
    price: int
    bad: str | None


class Plan(NamedTuple):
    """One load."""

    format: str
    policy: str
    files: list[list[Item]]
    batch_bytes: int | None
    workers: int
    atomic: bool
    has_trigger: bool
    few: bool  # at first one bad row less is allowed than there are


sound = st.builds(
    Item,
    key=st.integers(0, 12),
    name=st.sampled_from(["a", 'b "c"', "d\ne", "שם"]),
    price=st.integers(0, 3),
    bad=st.none(),
)
bad = st.builds(Item, key=st.none(), name=st.just(""), price=st.just(0), bad=st.sampled_from(BAD))
plans = st.builds(
    Plan,
    format=st.sampled_from(["csv", "jsonl"]),
    policy=st.sampled_from(["update", "ignore", "newer", "fill", "error", "append"]),
    files=st.lists(st.lists(sound | sound | bad, min_size=1, max_size=30), min_size=1, max_size=2),
    batch_bytes=st.none() | st.sampled_from([1, 200, 1000]),
    workers=st.integers(1, 3),
    atomic=st.booleans(),
    has_trigger=st.booleans(),
    few=st.booleans(),
)


def prepared(plan: Plan) -> Plan:
    """The plan with classes that its format and table know, and keys as its policy wants them."""
    fresh = itertools.count(100)
    known = {*WRONG, *MALFORMED[plan.format]}
    if not plan.has_trigger:
        known -= {"a trigger"}
    files = []
    for items in plan.files:
        kept = [item for item in items if item.bad is None or item.bad in known]
        files.append(
            [
                # A bad row has a key of its own, so that it is refused whatever the policy is.
                item._replace(key=next(fresh))
                if item.bad is not None or plan.policy in ("error", "append")
                else item
                for item in kept
            ]
            # At the end of a file, an empty line is none.
            + [Item(next(fresh), "last", 1, None)]
        )
    return plan._replace(files=files)


def record_of(item: Item, format: str) -> bytes:
    """A row as it stands in a file."""
    if item.bad in MALFORMED[format]:
        return MALFORMED[format][item.bad][0](item.key)
    values = {"id": item.key, **GOOD}
    if item.bad is None:
        values |= {"name": item.name, "price": item.price}
    else:
        values |= WRONG[item.bad][0]
    if format == "jsonl":
        return json.dumps(values, ensure_ascii=False).encode()
    fields = ("" if (value := values.get(name)) is None else str(value) for name in COLUMNS)
    return ",".join(
        '"' + field.replace('"', '""') + '"' if set(field) & set('",\n') else field
        for field in fields
    ).encode()


def code_of(item: Item, format: str) -> str:
    """The SQLSTATE that a bad row is refused with."""
    assert item.bad is not None
    malformed = MALFORMED[format].get(item.bad)
    return WRONG[item.bad][1] if malformed is None else malformed[1]


def write(path: Path, items: list[Item], format: str) -> list[int]:
    """Write a file; the physical lines on which its records begin."""
    lines = []
    data = (",".join(COLUMNS) + "\n").encode() if format == "csv" else b""
    for item in items:
        lines.append(data.count(b"\n") + 1)
        data += record_of(item, format) + b"\n"
    path.write_bytes(data)
    return lines


def shown(record: bytes) -> str:
    """A record as a reject has it."""
    return record.decode("utf-8", "backslashreplace").replace("\0", r"\x00")


@settings(
    max_examples=40,
    deadline=None,
    # A smaller example would be nice, and take minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=plans, piece_bytes=st.sampled_from([1, 100, 500, 1 << 20]))
def test_what_is_bad_is_refused_and_nothing_else(
    superuser: psycopg.Connection,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plan: Plan,
    piece_bytes: int,
) -> None:
    monkeypatch.setattr(ways, "PIECE_BYTES", piece_bytes)
    plan = prepared(plan)
    note(f"{plan}")
    number = next(NUMBERS)
    table = f"part{number}"
    if superuser.execute("select to_regtype('colour') is null").fetchone() == (True,):
        superuser.execute(TYPES.encode())
        superuser.execute("grant all on maker to public")
    superuser.execute(TABLE.format(table).encode())
    if plan.has_trigger:
        superuser.execute(TRIGGER.format(table).encode())
    superuser.execute(f"grant all on {table} to public".encode())

    paths = [tmp_path / f"{number}-{file}.{plan.format}" for file in range(len(plan.files))]
    lines = [write(path, items, plan.format) for path, items in zip(paths, plan.files, strict=True)]
    refused = [
        (str(path), line, shown(record_of(item, plan.format)), code_of(item, plan.format))
        for path, items, begins in zip(paths, plan.files, lines, strict=True)
        for item, line in zip(items, begins, strict=True)
        if item.bad is not None
    ]
    options: dict[str, Any] = {
        "into": f"public.{table}",
        "policy": plan.policy,
        "order_by": "price" if plan.policy == "newer" else None,
        "batch_bytes": plan.batch_bytes,
        "workers": plan.workers,
        "atomic": plan.atomic,
    }
    total = RowCounts()
    with api.connect(database.dsn) as client:
        if plan.few and refused:
            with pytest.raises(api.RejectLimitError) as caught:
                client.load(paths, reject_limit=len(refused) - 1, **options)
            assert f"limit is {len(refused) - 1}:" in caught.value.message
            total = committed(superuser, table)
            assert not (plan.atomic and total.read)
        result = client.load(paths, reject_limit=len(refused), **options)
    assert astuple(result.rows)[0] == sum(astuple(result.rows)[1:])
    total += result.rows
    assert total == committed(superuser, table)
    assert total.read == sum(map(len, plan.files))

    found = superuser.execute(
        "select s.name, j.first_line, j.raw, j.sqlstate from sqlkit.reject as j "
        "join sqlkit.source as s using (source_id) where s.target = %s and j.batch_id is not null "
        "order by 1, 2",
        [f"public.{table}"],
    ).fetchall()
    assert found == refused
    assert total.rejected == len(refused)
    check_rows(superuser, table, plan, lines)
    assert superuser.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


def committed(connection: psycopg.Connection, table: str) -> RowCounts:
    """What the ledger has counted for a table."""
    row = connection.execute(
        "select sum(rows_read), sum(rows_inserted), sum(rows_updated), sum(rows_unchanged), "
        "sum(rows_ignored), sum(rows_duplicate), sum(rows_rejected) from sqlkit.run_summary "
        "where target = %s",
        [f"public.{table}"],
    ).fetchone()
    assert row is not None
    return RowCounts(*map(int, row))


def zip_file(plan: Plan, lines: list[list[int]], name: str) -> Iterator[tuple[Item, int]]:
    """The rows of a file, each with its line."""
    file = int(Path(name).stem.rpartition("-")[2])
    return zip(plan.files[file], lines[file], strict=True)


def check_rows(
    connection: psycopg.Connection, table: str, plan: Plan, lines: list[list[int]]
) -> None:
    """The table holds what the model makes of the sound rows, batch by batch."""
    model = Table(KEY, order_by=2)
    found = connection.execute(
        f"select batch_id, s.name, first_line, last_line from ({PARTS}) as part "
        "join sqlkit.source as s using (source_id) where s.target = %s "
        "order by batch_id, source_id".encode(),
        [f"public.{table}"],
    ).fetchall()
    for _, parts in itertools.groupby(found, key=lambda part: part[0]):
        rows: list[Row] = [
            (item.key, item.name, item.price)
            for _, name, first, last in parts
            for item, line in zip_file(plan, lines, name)
            if first <= line <= last and item.bad is None
        ]
        model.merge(rows, "update" if plan.policy == "append" else plan.policy)
    stored = connection.execute(
        f"select id, name, price::integer from {table} where id >= 0".encode()
    ).fetchall()
    assert {model.key_of(row): row for row in stored} == model.rows
