"""Parquet, Arrow and Feather files, and tables of pandas, polars and Arrow."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

import sqlkit
from sqlkit import demo
from sqlkit.errors import RejectLimitError, SourceError, UsageError
from sqlkit.sources import arrow
from sqlkit.sources.arrow import BINARY, ArrowFileSource, binary_form
from sqlkit.sources.base import WantedColumn
from sqlkit.sources.stored import StoredFile
from tests.conftest import Database

D = decimal.Decimal
NOW = dt.datetime(2024, 2, 29, 23, 59, 59, 123456)
ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))

# PostgreSQL's type, Arrow's values, what comes back, whether it goes in the binary format
TYPES: list[tuple[str, pa.Array, list[Any], bool]] = [
    ("boolean", pa.array([True, False, None]), [True, False, None], True),
    ("smallint", pa.array([1, -128, None], pa.int8()), [1, -128, None], True),
    ("integer", pa.array([65535, 0, None], pa.uint16()), [65535, 0, None], True),
    ("bigint", pa.array([2**63 - 1, -(2**63), None]), [2**63 - 1, -(2**63), None], True),
    ("integer", pa.array([7, None, 9], pa.int64()), [7, None, 9], True),
    ("numeric", pa.array([2**64 - 1, 0, None], pa.uint64()), [D(2**64 - 1), D(0), None], True),
    ("numeric", pa.array([2**63 - 1, -5, None]), [D(2**63 - 1), D(-5), None], True),
    (
        "numeric",
        pa.array([D("-1.10"), D("0.00"), D("123456789012345678901234567890.12")],
                 pa.decimal128(38, 2)),
        [D("-1.10"), D("0.00"), D("123456789012345678901234567890.12")], True,
    ),
    ("numeric(6,1)", pa.array([D("1.25"), None, D("-9.99")], pa.decimal128(5, 2)),
     [D("1.3"), None, D("-10.0")], True),
    ("numeric", pa.array([0.1, 1e20, None]), [D("0.1"), D("1e20"), None], False),
    ("real", pa.array([1.5, None, -0.0], pa.float32()), [1.5, None, 0.0], True),
    ("double precision", pa.array([0.1, float("inf"), None]), [0.1, float("inf"), None], True),
    ("text", pa.array(["", "שלום\n\\N\t", None]), ["", "שלום\n\\N\t", None], True),
    ("varchar(3)", pa.array(["abc", None, "ü"], pa.large_string()), ["abc", None, "ü"], True),
    ("text", pa.array(["a", "b", None]).dictionary_encode(), ["a", "b", None], True),
    ("text", pa.array([1, 2, None]), ["1", "2", None], False),
    ("integer", pa.array(["1", "2", None]), [1, 2, None], False),
    ("bytea", pa.array([bytes(range(256)), b"", None]), [bytes(range(256)), b"", None], True),
    ("uuid", pa.array([uuid.UUID(int=1).bytes, None, None], pa.binary(16)),
     [uuid.UUID(int=1), None, None], True),
    ("date", pa.array([dt.date(1969, 1, 1), None, dt.date(9999, 12, 31)]),
     [dt.date(1969, 1, 1), None, dt.date(9999, 12, 31)], True),
    ("date", pa.array([86_400_000, None, 0], pa.date64()),
     [dt.date(1970, 1, 2), None, dt.date(1970, 1, 1)], True),
    ("date", pa.array(["2024-02-29", None, "1999-01-01"]),
     [dt.date(2024, 2, 29), None, dt.date(1999, 1, 1)], False),
    ("time", pa.array([dt.time(23, 59, 59, 1), None, dt.time(0)]),
     [dt.time(23, 59, 59, 1), None, dt.time(0)], True),
    ("timestamp", pa.array([NOW, None, NOW]), [NOW, None, NOW], True),
    ("timestamp", pa.array([1_000_000_001, None, 0], pa.timestamp("ns")),
     [dt.datetime(1970, 1, 1, 0, 0, 1), None, dt.datetime(1970, 1, 1)], True),
    ("timestamptz", pa.array([NOW.replace(tzinfo=ZONE), None, None], pa.timestamp("us", "UTC")),
     [NOW.replace(tzinfo=ZONE), None, None], True),
    ("timestamptz", pa.array([NOW, None, None]),
     [NOW.replace(tzinfo=dt.timezone(dt.timedelta(hours=-9))), None, None], False),
    ("interval", pa.array([dt.timedelta(days=-1, microseconds=5), None, dt.timedelta(0)]),
     [dt.timedelta(days=-1, microseconds=5), None, dt.timedelta(0)], True),
    ("jsonb", pa.array([{"a": [1, None], "b": "ü"}, None, {"a": [], "b": None}]),
     [{"a": [1, None], "b": "ü"}, None, {"a": [], "b": None}], True),
    ("json", pa.array(['{"a": 1.10}', None, "null"]), [{"a": 1.1}, None, None], True),
    ("jsonb", pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())),
     [[["k", 1]], None, []], True),
    ("int[]", pa.array([[1, None], None, []]), [[1, None], None, []], True),
    ("text[]", pa.array([["a,b", '"'], None, [None]]), [["a,b", '"'], None, [None]], True),
    ("timestamptz[]", pa.array([[NOW], None, []], pa.list_(pa.timestamp("us", "UTC"))),
     [[NOW.replace(tzinfo=dt.UTC)], None, []], False),
    ("date", pa.nulls(3), [None, None, None], True),
]  # fmt: skip


@pytest.mark.parametrize("is_text", [False, True], ids=["binary", "text"])
def test_types_arrive_as_the_target_means_them(
    database: Database,
    connection: psycopg.Connection,
    tmp_path: Path,
    is_text: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = [row for row in TYPES if row[3] or is_text]
    names = [f"c{number}" for number in range(len(chosen))]
    columns = ", ".join(f"{name} {row[0]}" for name, row in zip(names, chosen, strict=True))
    connection.execute(f"create table public.typed (id int primary key, {columns})")
    connection.execute("alter role current_user set timezone = 'America/Anchorage'")
    if is_text:
        monkeypatch.setattr(arrow, "binary_form", lambda kind, target: None)
    table = pa.table({"id": [0, 1, 2], **dict(zip(names, (row[1] for row in chosen), strict=True))})
    path = tmp_path / "typed.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    try:
        with sqlkit.connect(database.dsn) as client:
            assert client.load(path, into="public.typed").rows.inserted == 3
            assert client.load(table, into="public.typed").rows.unchanged == 3
    finally:
        connection.execute("alter role current_user reset timezone")
    rows = connection.execute("select * from public.typed order by id").fetchall()
    for number, (kind, _, expected, _) in enumerate(chosen, start=1):
        assert [row[number] for row in rows] == expected, kind


def test_what_has_a_binary_form_is_sent_in_it(connection: psycopg.Connection) -> None:
    for name, values, _, is_binary in TYPES:
        found = connection.execute("select format_type(%s::regtype, null)", [name.split("(")[0]])
        (target,) = found.fetchone() or ("",)
        kind = arrow._plain_type(values.type)
        assert (binary_form(kind, target) is not None) == is_binary, (name, kind)


@pytest.fixture
def flights() -> pd.DataFrame:
    return pd.read_csv(demo.find_data() / demo.FILES["flight"], nrows=20_000)


@pytest.fixture
def client(database: Database) -> Iterator[sqlkit.Client]:
    with sqlkit.connect(database.dsn) as made:
        yield made


KEY = ["year", "month", "day", "carrier", "flight", "origin"]


def test_flights_from_every_kind_of_table_are_the_same(
    client: sqlkit.Client, connection: psycopg.Connection, flights: pd.DataFrame, tmp_path: Path
) -> None:
    csv = tmp_path / "flights.csv"
    flights.to_csv(csv, index=False)
    parquet = tmp_path / "flights.parquet"
    flights.to_parquet(parquet, row_group_size=7_000, index=False)
    first = client.load(parquet, into="public.flight", create=True, key=KEY)
    assert first.rows.inserted == len(flights)
    feather = tmp_path / "flights.feather"
    table = pq.read_table(parquet)
    pyarrow.feather.write_feather(table, str(feather))
    stream = tmp_path / "flights.arrows"
    with pa.OSFile(str(stream), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    kinds: list[Any] = [
        csv,
        feather,
        stream,
        table,
        table.to_reader(max_chunksize=1000),
        flights,
        pl.from_arrow(table),
    ]
    for kind in kinds:
        result = client.load(kind, into="public.flight", key=KEY)
        assert result.rows.unchanged == result.rows.read == len(flights), kind


def test_a_table_is_made_with_the_types_of_the_file(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path
) -> None:
    table = pa.table(
        {name: values for name, (_, values, _, _) in enumerate_names() if len(values) == 3}
    )
    path = tmp_path / "made.parquet"
    pq.write_table(table.select(["c1", "c5", "c7", "c12", "c17", "c23", "c25", "c28", "c31"]), path)
    result = client.load(path, into="public.made", create=True, policy="append")
    assert result.ddl is not None
    types = [line.split(maxsplit=1)[1].rstrip(",") for line in result.ddl.splitlines()[1:-1]]
    assert types == [
        "smallint", "numeric(20,0)", "numeric(38,2)", "text", "bytea", "timestamp", "timestamptz",
        "jsonb", "bigint[]",
    ]  # fmt: skip


def enumerate_names() -> Iterator[tuple[str, tuple[str, pa.Array, list[Any], bool]]]:
    for number, row in enumerate(TYPES):
        yield f"c{number}", row


class Cut(Exception):  # noqa: N818
    pass


def test_a_load_is_taken_up_again_between_row_groups_and_within_them(
    client: sqlkit.Client, connection: psycopg.Connection, flights: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "flights.parquet"
    flights.to_parquet(path, row_group_size=9_000, index=False)
    client.load(path, into="public.flight", create=True, key=KEY, dry_run=True)
    client.load(flights.head(1), into="public.flight", create=True, key=KEY)

    def cut(progress: sqlkit.LoadProgress) -> None:
        if progress.phase == "merge" and progress.rows > 11_000:
            raise Cut

    with pytest.raises(Cut):
        client.load(path, into="public.flight", key=KEY, batch_bytes=150_000, progress=cut)
    (state,) = connection.execute(
        "select next_offset from sqlkit.source where state = 'loading'"
    ).fetchall()
    assert 0 < state[0] < len(flights)
    assert state[0] % 9_000
    result = client.load(path, into="public.flight", key=KEY)
    assert result.rows.read == len(flights) - state[0]
    assert connection.execute("select count(*) from public.flight").fetchone() == (len(flights),)
    assert client.load(path, into="public.flight", key=KEY).sources[0].state == "skipped"


@pytest.mark.parametrize("kind", ["parquet", "table"])
def test_bad_rows_are_found_one_by_one(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path, kind: str
) -> None:
    connection.execute(
        "create table public.item (id integer primary key, name text, price numeric(5,2))"
    )
    ids: list[int | None] = list(range(5000))
    ids[17] = 2**40
    ids[18] = None
    names = [f"n{i}" for i in range(5000)]
    names[19] = "nul \0"
    prices = [D("1.10")] * 5000
    prices[20] = D("12345.00")
    table = pa.table({"id": ids, "name": names, "price": pa.array(prices, pa.decimal128(9, 2))})
    source: Any = table
    if kind == "parquet":
        source = tmp_path / "item.parquet"
        pq.write_table(table, source, row_group_size=1000)
    with pytest.raises(RejectLimitError) as raised:
        client.load(source, into="public.item")
    assert "record 18: column id" in str(raised.value.detail)
    result = client.load(source, into="public.item", reject_limit=4)
    assert (result.rows.inserted, result.rows.rejected) == (4996, 4)
    assert result.run_id is not None
    rejects = client.rejects(result.run_id)
    assert [reject["record"] for reject in rejects] == [18, 19, 20, 21]
    assert rejects[3]["raw"] == '{"id":"20","name":"n20","price":"12345.00"}'


def test_files_that_are_cut_off_or_of_another_kind_are_refused(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute("create table public.item (id integer primary key)")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [1]}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(SourceError) as raised:
        client.load(path, into="public.item")
    assert raised.value.code == "SK106"
    zipped = tmp_path / "a.parquet.gz"
    import gzip

    zipped.write_bytes(gzip.compress(whole))
    with pytest.raises(SourceError, match="within a gzip archive") as raised:
        client.load(zipped, into="public.item")
    assert raised.value.code == "SK109"
    pq.write_table(pa.table({}), path)
    with pytest.raises(UsageError, match="no columns"):
        client.load(path, into="public.made", create=True, policy="append")


def test_pieces_are_cut_by_size_and_memory_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"id": range(200_000), "name": ["x" * 100] * 200_000})
    pq.write_table(table, path, row_group_size=50_000)
    reader = ArrowFileSource(StoredFile(str(path)), format="parquet").open()
    wanted = [WantedColumn("id", type="integer"), WantedColumn("name", type="text")]
    before = pa.total_allocated_bytes()
    sizes = []
    most = 0
    for piece in reader.pieces(wanted, 1 << 20):
        sizes.append(len(piece.data))
        most = max(most, pa.total_allocated_bytes() - before)
    reader.close()
    assert reader.copy_format is BINARY
    assert len(sizes) > 10
    assert max(sizes) < 3 << 20
    assert most < table.nbytes


def test_values_without_names_are_no_table(database: Database) -> None:
    for values in (pl.Series("price", [1.5]), pa.chunked_array([[1]])):
        with (
            sqlkit.connect(database.dsn) as client,
            pytest.raises(UsageError, match="is no table") as caught,
        ):
            client.load(values, into="item", create=True, policy="append")
        assert "to_frame()" in (caught.value.hint or "")
