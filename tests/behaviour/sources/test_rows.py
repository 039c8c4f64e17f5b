"""Rows from Python: what is taken for a row, what becomes of values, and that loads of them do all
that loads of files do."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import enum
import gzip
import sqlite3
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import attrs
import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.range import Range

import sqlkit
from sqlkit.errors import RejectLimitError, SourceError, UsageError
from sqlkit.sources.base import WantedColumn
from sqlkit.sources.copied import rows_of
from sqlkit.sources.rows import RowsReader, RowsSource
from sqlkit.sources.text_rows import ROWS, encode_columns, fields_of
from sqlkit.ways import Ways
from tests.conftest import Database
from tests.real_data import real_data


@dataclass
class DataRow:
    id: int
    name: str | None


@attrs.define
class AttrsRow:
    id: int
    name: str | None


class StructRow(msgspec.Struct):
    id: int
    name: str | None


class ModelRow(pydantic.BaseModel):
    id: int
    name: str | None


class NamedRow(NamedTuple):
    id: int
    name: str | None


KINDS = [DataRow, AttrsRow, StructRow, ModelRow, NamedRow, dict]


@pytest.fixture
def client(database: Database, connection: psycopg.Connection) -> Iterator[sqlkit.Client]:
    connection.execute("create table public.item (id integer primary key, name text)")
    with sqlkit.connect(database.dsn) as made:
        yield made


def content(connection: psycopg.Connection, table: str = "public.item") -> list[Any]:
    return connection.execute(f"select * from {table} order by 1").fetchall()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_objects_with_fields_are_rows(
    client: sqlkit.Client, connection: psycopg.Connection, kind: Any
) -> None:
    names = ["a", None, "", r"\N", "\x1e", "tab\tline\nback\\slash\x1f\r", "שלום", '"']
    result = client.load(
        (kind(id=i, name=name) for i, name in enumerate(names)), into="public.item"
    )
    assert result.rows.inserted == result.rows.read == len(names)
    assert content(connection) == list(enumerate(names))
    again = client.load([kind(id=i, name=name) for i, name in enumerate(names)], into="public.item")
    assert again.rows.unchanged == len(names)


def test_tuples_need_columns(client: sqlkit.Client, connection: psycopg.Connection) -> None:
    with pytest.raises(UsageError, match="does not say what its values are"):
        client.load([(1, "a")], into="public.item")
    client.load([("a", 1), ("b", 2)], into="public.item", columns=["name", "id"])
    assert content(connection) == [(1, "a"), (2, "b")]
    client.load(iter([[3, "c"]]), into="public.item", columns=["id", "name"])
    assert content(connection)[-1] == (3, "c")


def test_cursors_of_database_drivers_say_what_their_columns_are(
    client: sqlkit.Client, connection: psycopg.Connection
) -> None:
    other = sqlite3.connect(":memory:", check_same_thread=False)  # rows are taken in a thread
    other.execute("create table t (name text, id integer)")
    other.executemany("insert into t values (?, ?)", [(f"n{i}", i) for i in range(1000)])
    cursor = other.execute("select id, name from t order by id")
    assert client.load(cursor, into="public.item").rows.inserted == 1000
    other.close()
    connection.execute("create table public.copied (like item including all)")
    with connection.transaction(), connection.cursor("source") as stream:
        stream.execute("select * from item")
        assert client.load(stream, into="public.copied").rows.inserted == 1000
    assert content(connection, "public.copied") == content(connection)


def test_what_is_no_iterable_of_rows_is_refused(client: sqlkit.Client) -> None:
    for wrong, reason in (({"id": 1}, "no iterable"), (7, "no iterable"), ([1, 2], "no row")):
        with pytest.raises(UsageError, match=reason):
            client.load(wrong, into="public.item")  # type: ignore[arg-type]


def test_rows_are_loaded_once(client: sqlkit.Client) -> None:
    source = sqlkit.rows(iter([{"id": 1, "name": "a"}]))
    client.load(source, into="public.item")
    with pytest.raises(UsageError, match="can be gone through only once"):
        client.load(source, into="public.item")


def test_rows_that_cannot_be_kept_are_an_error(
    client: sqlkit.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> Any:
        return open("/dev/full", "r+b", buffering=0)  # noqa: PTH123

    monkeypatch.setattr("sqlkit.sources.spool.tempfile.TemporaryFile", full)
    with pytest.raises(SourceError, match="cannot be kept until it is committed: No space left"):
        client.load([{"id": 1, "name": "a"}], into="public.item")


def test_no_rows_are_no_error(client: sqlkit.Client) -> None:
    result = client.load(sqlkit.rows([], columns=["id", "name"]), into="public.item")
    assert result.rows.read == 0
    assert client.load(iter([]), into="public.item", leave_out=["*"]).rows.read == 0


class Colour(enum.StrEnum):
    RED = "red"


VALUES = [
    ("boolean", True),
    ("bigint", -(2**63)),
    ("numeric", Decimal("12345678901234567890.123456789012345678901")),
    ("numeric", 10**40),
    ("numeric", Decimal("NaN")),
    ("double precision", 0.1 + 0.2),
    ("double precision", float("-inf")),
    ("text", "NULL"),
    ("bytea", bytes(range(256))),
    ("date", dt.date(5, 1, 2)),
    ("timestamp", dt.datetime(2024, 2, 29, 23, 59, 59, 999999)),
    ("timestamptz", dt.datetime(2024, 2, 29, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3.5)))),
    ("time", dt.time(23, 59, 59, 1)),
    ("interval", dt.timedelta(days=-3, microseconds=7)),
    ("uuid", uuid.UUID(int=7)),
    ("int[]", [1, None, 3]),
    ("text[]", ["a,b", '"', None, "\\"]),
    ("int4range", Range(1, 5)),
    ("text", Colour.RED),
    ("jsonb", {"a": [1, {"b": None}], "c": "\\ \n\x1f"}),
    ("jsonb", [1.5, "x"]),
    ("json", DataRow(1, None)),
    ("jsonb", ModelRow(id=1, name="n")),
    ("jsonb", '{"already": "json"}'),
    ("jsonb", {"exact": Decimal("1.10")}),
]


def test_values_arrive_as_they_are(database: Database, connection: psycopg.Connection) -> None:
    columns = [f"v{i}" for i in range(len(VALUES))]
    typed = ", ".join(f"{c} {kind}" for c, (kind, _) in zip(columns, VALUES, strict=True))
    connection.execute(f"create table public.kinds (id int primary key, {typed})")
    values = [value for _, value in VALUES]
    with sqlkit.connect(database.dsn) as client:
        client.load(
            [(1, *values), (2, *[None] * len(values)), (3, *values)],
            into="public.kinds",
            columns=["id", *columns],
        )
    first, nulls, third = content(connection, "public.kinds")
    assert str(first[1:]) == str(third[1:])
    assert nulls[1:] == (None,) * len(values)
    expected = [
        {"id": 1, "name": None} if isinstance(value, DataRow)
        else value.model_dump() if isinstance(value, ModelRow)
        else {"already": "json"} if kind == "jsonb" and isinstance(value, str)
        else {"exact": 1.1} if isinstance(value, dict) and "exact" in value
        else value
        for kind, value in VALUES
    ]  # fmt: skip
    for column, got, wanted in zip(columns, first[1:], expected, strict=True):
        assert got == wanted or (got != got and wanted != wanted), column
    exact = connection.execute("select v24::text from public.kinds where id = 1").fetchone()
    assert exact == ('{"exact": 1.10}',)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
            st.one_of(st.none(), st.text("\\\n\r\t\x1e\x1fxN0.u", max_size=4)),
        ),
        min_size=1,
    )
)
def test_any_text_survives(rows: list[tuple[str | None, str | None]]) -> None:
    rows = [tuple(v.replace("\0", "") if v else v for v in row) for row in rows]  # type: ignore[misc]
    data = encode_columns(list(zip(*rows, strict=True)), [WantedColumn("a"), WantedColumn("b")])
    assert [tuple(row) for row in rows_of(ROWS, data)] == rows
    assert [tuple(fields_of(row)) for row in data.split(b"\n")[:-1]] == rows


@given(
    st.integers(-(10**30), 10**30),
    st.dates(),
    st.uuids(),
    st.datetimes(),
    st.datetimes(timezones=st.sampled_from([dt.UTC, ZoneInfo("Asia/Jerusalem")])),
)
def test_text_of_a_column_is_that_of_each_value(
    number: int, date: dt.date, one: uuid.UUID, plain: dt.datetime, zoned: dt.datetime
) -> None:
    """Of a zone, also with an offset of seconds, and of years that have less than four digits."""
    values = (number, date, one, plain, zoned)
    wanted = [WantedColumn(str(position)) for position in range(len(values))]
    data = encode_columns([[value] * 2 for value in values], wanted)
    first, second = data.decode().splitlines()
    assert first == second
    texts = [str(number), str(date), str(one), plain.isoformat(), zoned.isoformat()]
    assert fields_of(first.encode()) == texts


def test_keys_may_come_late_or_be_absent(
    client: sqlkit.Client, connection: psycopg.Connection
) -> None:
    rows: list[dict[str, Any]] = [{"id": i, "name": "x"} for i in range(500)]
    rows[3] = {"id": 3}
    rows[450] = {"id": 450, "other": 1}
    with pytest.raises(RejectLimitError) as raised:
        client.load(rows, into="public.item")
    assert "record 451: the key 'other' was not seen before" in str(raised.value.detail)
    result = client.load(rows, into="public.item", leave_out=["other"])
    assert result.rows.inserted == 500
    assert content(connection)[3] == (3, None)


def test_bad_rows_are_found_one_by_one(
    client: sqlkit.Client, connection: psycopg.Connection
) -> None:
    def rows() -> Iterator[Any]:
        for i in range(3000):
            yield {"id": i, "name": f"n{i}"}
            if i == 1000:
                yield {"id": "no number", "name": "x"}
                yield {"id": 5000, "name": "nul \0"}
                yield {"id": 5001, "name": object()}
                yield 17

    with pytest.raises(RejectLimitError) as raised:
        client.load(rows(), into="public.item")
    assert "record 1002" in str(raised.value.detail)
    assert content(connection) == []
    result = client.load(rows(), into="public.item", reject_limit=4)
    assert (result.rows.inserted, result.rows.rejected) == (3000, 4)
    assert result.rows.read == 3004
    assert result.run_id is not None
    rejects = client.rejects(result.run_id)
    assert [reject["record"] for reject in rejects] == [1002, 1003, 1004, 1005]
    assert rejects[0]["raw"] == '{"id":"no number","name":"x"}'
    (replayed,) = client.replay_rejects(
        result.run_id, edit_sql="""case when strpos(raw, 'number') > 0 then '{"id": 9999}' end"""
    )
    assert replayed.rows.inserted == 1
    assert content(connection)[-1] == (9999, None)


def test_an_error_of_the_iterable_is_the_callers_and_what_was_committed_stays(
    client: sqlkit.Client, connection: psycopg.Connection
) -> None:
    class MineError(Exception):
        pass

    def rows(error: Exception) -> Iterator[Any]:
        yield from ({"id": i, "name": "x" * 100} for i in range(20_000))
        raise error

    with pytest.raises(MineError):
        client.load(rows(MineError()), into="public.item", batch_bytes=100_000)
    some = len(content(connection))
    assert 0 < some < 20_000
    # One of another database must not be mistaken for one of the target that is to be waited for.
    with pytest.raises(SourceError, match="the rows ended with an error: server closed"):
        client.load(
            rows(psycopg.OperationalError("server closed")), into="public.item", retry_for=60
        )


def test_a_lost_connection_is_waited_for(
    client: sqlkit.Client, connection: psycopg.Connection, superuser: psycopg.Connection
) -> None:
    waits: list[Any] = []

    def rows() -> Iterator[Any]:
        for i in range(40_000):
            if i in (15_000, 30_000):
                superuser.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                    " and backend_type = 'client backend' and application_name like 'sqlkit%'"
                )
            yield DataRow(i, "x" * 50)

    result = client.load(rows(), into="public.item", batch_bytes=200_000, on_wait=waits.append)
    assert waits
    assert result.rows.inserted == 40_000
    assert len(content(connection)) == 40_000


def test_progress_knows_the_total_of_a_list_and_not_that_of_a_generator(
    client: sqlkit.Client,
) -> None:
    told: list[sqlkit.LoadProgress] = []
    rows = [{"id": i, "name": "x"} for i in range(100)]
    client.load(rows, into="public.item", progress=told.append)
    assert told
    assert {progress.rows_total for progress in told} == {100}
    assert told[-1].rows == 100
    told.clear()
    client.load(iter(rows), into="public.item", progress=told.append)
    assert {progress.rows_total for progress in told} == {None}
    told.clear()
    client.load(
        sqlkit.rows(iter(rows), total=100, name="mine"), into="public.item", progress=told.append
    )
    assert {(progress.rows_total, progress.source) for progress in told} == {(100, "mine")}


def test_async_iterables_load_in_both_dialects(database: Database, client: sqlkit.Client) -> None:
    async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
        for i in range(start, start + 1000):
            if i % 100 == 0:
                await asyncio.sleep(0)
            yield {"id": i, "name": "x"}

    async def load() -> int:
        async with sqlkit.aconnect(database.dsn) as aclient:
            result = await aclient.load(rows(0), into="public.item")
            from_list = await aclient.load([{"id": 5, "name": "y"}], into="public.item")
            return result.rows.inserted + from_list.rows.updated

    assert asyncio.run(load()) == 1001
    assert client.load(rows(1000), into="public.item").rows.inserted == 1000


def test_a_table_is_made_from_the_classes_of_the_values(
    database: Database, connection: psycopg.Connection
) -> None:
    rows = [
        {"id": 1, "code": "0017", "at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "tags": ["a"]},
        {"id": 2, "code": "12", "at": dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "tags": []},
    ]
    with sqlkit.connect(database.dsn) as client:
        result = client.load(rows, into="public.made", create=True, key=["id"])
    assert result.ddl is not None
    assert "id bigint" in result.ddl
    assert "code text" in result.ddl  # though it looks like a number
    assert "at timestamptz" in result.ddl
    assert "tags jsonb" in result.ddl
    assert content(connection, "public.made") == [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("policy", ["update", "append"])
def test_inserts_do_the_same_as_copy(
    client: sqlkit.Client, connection: psycopg.Connection, policy: str, tmp_path: Any
) -> None:
    names = ["a", None, "", "\\N", '"q"', "a,b\nc", "\\"]
    rows = [{"id": i, "name": name} for i, name in enumerate(names)]
    result = client.load(rows, into="public.item", use_copy=False, policy=policy)
    assert result.rows.inserted == len(names)
    assert content(connection) == list(enumerate(names))
    path = tmp_path / "more.csv"
    path.write_text('id,name\n10,"a ""b""\n"\n11,\n12,""\n')
    client.load(path, into="public.item", use_copy=False, policy=policy)
    assert content(connection)[-3:] == [(10, 'a "b"\n'), (11, None), (12, "")]
    # What has a binary form goes as text: of files together, of one, and of a stream.
    ids = pa.array(range(20, 320), pa.int32())
    table = pa.table({"id": ids, "name": pa.array(["a\tb", None, "\\"] * 100)})
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for number, path in enumerate(paths):
        pq.write_table(table.slice(number * 10, 10), path)
    for source in (paths[:2], paths[2], table.slice(30)):
        client.load(source, into="public.item", use_copy=False, policy=policy)
    assert content(connection)[-300:] == [tuple(row.values()) for row in table.to_pylist()]


def test_the_result_says_how_fast_it_was(client: sqlkit.Client) -> None:
    result = client.load([{"id": 1, "name": "a"}], into="public.item")
    assert result.rows_per_second == pytest.approx(1 / result.seconds.total)
    assert result.seconds_per_batch == pytest.approx(result.seconds.total / result.batches)
    assert result.as_dict()["rows_per_second"] == result.rows_per_second


def test_a_day_of_prices_from_python_is_the_day_from_the_file(
    database: Database, connection: psycopg.Connection
) -> None:
    path = real_data("prices", "israeli_prices_2026-08-14.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or ())
        columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" text' for name in names)
        connection.execute(f"create table public.price ({columns})")
        connection.execute("create table public.from_file (like public.price)")
        with sqlkit.connect(database.dsn) as client:
            result = client.load(
                ({name: value or None for name, value in row.items()} for row in rows),
                into="public.price",
                policy="append",
            )
            client.load(path, into="public.from_file", policy="append")
    assert result.rows.inserted == 58_612
    differ = connection.execute(
        "(table price except all table from_file)"
        " union all (table from_file except all table price)"
    ).fetchall()
    assert differ == []


def drained(source: RowsSource) -> Sequence[int]:
    reader = source.open()
    assert isinstance(reader, RowsReader)
    wanted = [WantedColumn(name) for name in reader.columns]
    sizes = []
    for piece in reader.pieces(wanted, 1 << 20):
        sizes.append(len(piece.data))
        source.forget(piece.end)
    return sizes


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(number: int) -> int:
        tracemalloc.start()
        try:
            drained(sqlkit.rows({"id": i, "name": "x" * 100} for i in range(number)))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(80_000) < 1.2 * peak(20_000) + 100_000


def test_a_row_of_another_width_has_a_code() -> None:
    reader = sqlkit.rows([(1, "a"), (2,)], columns=["id", "name"]).open(database_encoding="UTF8")
    wanted = [WantedColumn("id"), WantedColumn("name")]
    with pytest.raises(SourceError, match="record 2: 1 values where there should be 2") as raised:
        list(reader.pieces(wanted, 1000, None))
    assert raised.value.code == "SK118"


def test_rows_are_merged_while_the_next_are_made_text(
    database: Database, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute("create table item (id integer primary key, name text)")
    connection.execute("insert into item select n, 'old' from generate_series(1, 2000) as n")
    monkeypatch.setattr("sqlkit.ways.EARLY_BYTES", 1000)
    monkeypatch.setattr("sqlkit.sources.rows.BLOCK_BYTES", 1000)
    monkeypatch.setattr("sqlkit.ways.SHORTEST_BATCH", 0)
    asked: list[bool] = []

    def is_long_enough(self: Ways, merging: object, batch: object) -> bool:
        asked.append(batch_is_due(self, merging, batch))  # type: ignore[arg-type]
        return len(asked) % 3 > 0  # whatever the clock says

    batch_is_due = Ways._is_long_enough
    monkeypatch.setattr(Ways, "_is_long_enough", is_long_enough)
    with sqlkit.connect(database.dsn) as client:
        rows = ({"id": n, "name": f"new {n}"} for n in range(1, 4001))
        loaded = client.load(rows, into="public.item")
        assert loaded.batches > 3
        assert (loaded.rows.read, loaded.rows.inserted, loaded.rows.updated) == (4000, 2000, 2000)
        # The same rows at once, where it is said how much that is.
        again = ({"id": n, "name": f"new {n}"} for n in range(1, 4001))
        loaded = client.load(again, into="public.item", batch_bytes=1 << 30)
        assert (loaded.batches, loaded.rows.unchanged) == (1, 4000)
    count = "select count(*) from item where name = 'new ' || id"
    assert connection.execute(count.encode()).fetchone() == (4000,)
    torn = """
        select count(*) from (
            select start_offset <> lag(end_offset, 1, 0::bigint) over w as is_torn
            from sqlkit.batch window w as (partition by source_id order by start_offset)
        ) as b where is_torn"""
    assert connection.execute(torn.encode()).fetchone() == (0,)
