"""Small sources share batches, and all is as if each had been loaded by itself."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit as api
from sqlkit import SqlkitError
from sqlkit.results import RowCounts
from sqlkit.sources.base import Piece, ResumePoint
from sqlkit.telling import Tally

Rows = list[tuple[Any, ...]]


@pytest.fixture
def query(connection: psycopg.Connection) -> Callable[..., Rows]:
    connection.execute(
        "create table public.item"
        " (id integer primary key, name text, seen integer check (seen > 0))"
    )
    return lambda text: connection.execute(text).fetchall()


def write(folder: Path, number: int, *rows: str, header: str = "id,name,seen") -> Path:
    path = folder / f"{number:03}.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def overlapping(folder: Path, number: int = 40) -> list[Path]:
    """Files whose keys come again and again, in versions that grow and shrink; one has no row."""
    return [
        write(
            folder,
            part,
            *(
                f"{key},{f'{part}/{key}' if (key + part) % 5 else ''},{(part * 7 + key) % 20 + 1}"
                for key in range(part % 7 * (part % 3 > 0), 30, 2 + part % 3)
                if part != 11
            ),
        )
        for part in range(number)
    ]


def test_each_file_is_known(query: Callable[..., Rows], dsn: str, tmp_path: Path) -> None:
    paths = [write(tmp_path, n, f"{n},a,1", f"{n + 100},b,1") for n in range(20)]
    with gzip.open(tmp_path / "020.csv.gz", "wt") as file:
        file.write("seen,id,name\n5,500,of other order\n")
    paths += [tmp_path / "020.csv.gz", write(tmp_path, 21)]
    with api.connect(dsn) as client:
        result = client.load(paths, into="public.item")
        assert (result.batches, result.rows) == (1, RowCounts(read=41, inserted=41))
        assert [(s.state, s.batches, s.rows.read, s.shared) for s in result.sources] == [
            *[("loaded", 1, 2, True)] * 20,
            ("loaded", 1, 1, True),
            ("loaded", 1, 0, True),
        ]
        (batch,) = client.batches(result.run_id or 0)
        assert batch["source"] == f"22 sources, {paths[0]} the first"
        assert query("select count(*), sum(rows_read)::integer from sqlkit.batch_part") == [
            (22, 41)
        ]
        assert query("select distinct state from sqlkit.source") == [("loaded",)]

        paths[3] = paths[3].rename(tmp_path / "renamed.csv")
        paths[5].write_text("id,name,seen\n5,changed,1\n")
        again = client.load(paths, into="public.item")
        assert again.rows == RowCounts(read=1, updated=1)
        assert [s.name for s in again.sources if s.state == "loaded"] == [str(paths[5])]
        assert again.sources[5].rows == again.rows, "a batch of its own tells all"


@pytest.mark.parametrize(
    "options", [{}, {"workers": 1}, {"workers": 4, "batch_bytes": 900}], ids=str
)
def test_they_end_as_one_by_one(
    query: Callable[..., Rows],
    connection: psycopg.Connection,
    dsn: str,
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    paths = overlapping(tmp_path)
    with api.connect(dsn) as client:
        for policy in ("update", "ignore", "fill", "newer", "append"):
            if policy == "append":
                connection.execute("alter table public.item drop constraint item_pkey")
            how: dict[str, Any] = {
                "policy": policy,
                "order_by": "seen" if policy == "newer" else None,
            }
            for way in ("together", "apart"):
                connection.execute(f"create table public.{policy}_{way} (like item including all)")
            result = client.load(paths, into=f"public.{policy}_together", **how, **options)
            apart = [client.load(path, into=f"public.{policy}_apart", **how) for path in paths]
            if "batch_bytes" in options:
                assert 2 < result.batches < 20
            else:
                assert result.batches == 1
            assert result.rows.read == sum(one.rows.read for one in apart)
            assert result.rows.inserted == sum(one.rows.inserted for one in apart)
            assert [s.rows.read for s in result.sources] == [one.rows.read for one in apart]
            order = "order by id, name, seen"
            assert query(f"select * from public.{policy}_together {order}") == query(
                f"select * from public.{policy}_apart {order}"
            )


def test_a_bad_row_is_told_with_its_file(
    query: Callable[..., Rows], dsn: str, tmp_path: Path
) -> None:
    """Those before it are loaded, as they are if each is loaded by itself, and none after it."""
    paths = [write(tmp_path, n, f"{n},a,1") for n in range(30)]
    write(tmp_path, 17, "17,a,1", "17x,a,1")
    with api.connect(dsn) as client:
        with pytest.raises(SqlkitError, match="1 row was refused") as caught:
            client.load(paths, into="public.item")
        assert "017.csv, line 3: column id" in (caught.value.detail or "")
        assert query("select max(id), count(*) from public.item") == [(16, 17)]
        result = client.load(paths, into="public.item", reject_limit=1)
        assert (result.rows.inserted, result.rows.rejected, result.batches) == (13, 1, 2)
        assert query(
            "select right(s.name, 7), r.first_line, r.raw, r.batch_id is not null"
            " from sqlkit.reject as r join sqlkit.source as s using (source_id)"
        ) == [("017.csv", 3, "17x,a,1", True)]


def test_rows_that_the_target_refuses_are_found(
    query: Callable[..., Rows], dsn: str, tmp_path: Path
) -> None:
    """Nobody knows whose they are until the files are loaded in smaller batches."""
    paths = [
        write(tmp_path, n, f"{n},a,1", f"{n + 100},b,{-1 if n in (5, 23) else 1}")
        for n in range(40)
    ]
    with api.connect(dsn) as client:
        result = client.load(paths, into="public.item", reject_limit=2)
    assert result.rows == RowCounts(read=80, inserted=78, rejected=2)
    assert result.batches < 20
    assert query(
        "select right(s.name, 7), r.first_line, r.column_name, r.sqlstate"
        " from sqlkit.reject as r join sqlkit.source as s using (source_id) order by 1"
    ) == [("005.csv", 3, "seen", "23514"), ("023.csv", 3, "seen", "23514")]
    assert query(
        "select count(*) from sqlkit.batch as b where rows_read <> coalesce("
        "(select sum(p.rows_read) from sqlkit.batch_part as p where p.batch_id = b.batch_id),"
        " rows_read)"
    ) == [(0,)]


def test_a_file_of_another_kind_begins_another_batch(
    query: Callable[..., Rows], dsn: str, tmp_path: Path
) -> None:
    paths = [write(tmp_path, n, f"{n},a,1") for n in range(4)]
    paths += [write(tmp_path, n, f"{n},a", header="id,name") for n in range(4, 8)]
    (tmp_path / "008.jsonl").write_text('{"id": 8, "name": "a", "seen": 1}\n')
    (tmp_path / "009.jsonl").write_text('{"id": 9, "name": "a", "seen": 1}\n')
    paths += [tmp_path / "008.jsonl", tmp_path / "009.jsonl", write(tmp_path, 10, "10,a,1")]
    with api.connect(dsn) as client:
        result = client.load(paths, into="public.item", leave_out=["seen"])
        assert result.rows.inserted == 11
        assert query("select count(*) from public.item where seen is null") == [(11,)]
        write(tmp_path, 9, "20,a,1", header="ident,name,seen")
        with pytest.raises(SqlkitError, match=r"009.csv: .*key"):
            client.load(
                [write(tmp_path, n, f"{n},b,1") for n in (12, 13)] + [tmp_path / "009.csv"],
                into="public.item",
                leave_out=["*"],
            )
        assert query("select count(*) from public.item where name = 'b'") == [(2,)]


def test_the_same_content_twice(query: Callable[..., Rows], dsn: str, tmp_path: Path) -> None:
    paths = [write(tmp_path, n, f"{n % 3},a,1") for n in range(6)]
    with psycopg.connect(dsn, autocommit=True) as connection, api.connect(dsn) as client:
        connection.execute("alter table public.item drop constraint item_pkey")
        result = client.load(paths, into="public.item", policy="append")
        assert [s.state for s in result.sources].count("loaded") == 3
        assert query("select count(*) from public.item") == [(3,)]
        client.load(paths, into="public.item", policy="append", again=True)
        assert query("select count(*) from public.item") == [(6,)]


@pytest.mark.parametrize("policy", ["append", "error"])
def test_processes_share_the_work(
    query: Callable[..., Rows], dsn: str, tmp_path: Path, policy: str
) -> None:
    paths = [write(tmp_path, n, f"{n},a,1", f"{n + 1000},b,1") for n in range(120)]

    def load(some: list[Path]) -> api.LoadResult:
        with api.connect(dsn) as client:
            return client.load(some, into="public.item", policy=policy, batch_bytes=200)

    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(load, [paths, paths[::-1], paths[30:90]]))
    assert sum(result.rows.inserted for result in results) == 240
    assert query("select count(*), count(distinct id) from public.item") == [(240, 240)]
    assert query("select count(*) from sqlkit.source where state <> 'loaded'") == [(0,)]


def test_what_was_half_loaded_goes_on(query: Callable[..., Rows], dsn: str, tmp_path: Path) -> None:
    paths = [write(tmp_path, n, f"{n},a,1", f"{n + 1000},b,1") for n in range(10)]
    write(tmp_path, 4, *(f"{n + 100},c,1" for n in range(50)), "x,c,1")
    with api.connect(dsn) as client:
        with pytest.raises(SqlkitError):
            client.load(paths[4], into="public.item", policy="append", batch_bytes=100)
        (begun,) = query("select next_offset > 0, state from sqlkit.source")
        assert begun == (True, "loading")
        result = client.load(paths, into="public.item", policy="append", reject_limit=1)
    assert result.rows.rejected == 1
    assert query("select count(*) from public.item") == [(68,)]


@pytest.mark.parametrize(
    "options", [{"atomic": True}, {"dry_run": True}, {"use_copy": False}], ids=str
)
def test_other_ways(
    query: Callable[..., Rows], dsn: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    paths = overlapping(tmp_path, 12)
    with api.connect(dsn) as client:
        result = client.load(paths, into="public.item", **options)
        assert (result.batches, result.rows.inserted) == (1, 28)
        assert query("select count(*) from public.item") == [(0 if "dry_run" in options else 28,)]
        path = write(tmp_path, 99, "1,x,-1")
        if "atomic" in options:
            others = [write(tmp_path, n, f"{n},z,1") for n in (100, 101)]
            with pytest.raises(SqlkitError):
                client.load([*others, path], into="public.item", **options)
            assert query("select count(*) from public.item where name = 'z'") == [(0,)]


def test_policy_error_names_the_file(query: Callable[..., Rows], dsn: str, tmp_path: Path) -> None:
    paths = [write(tmp_path, n, f"{n},a,1") for n in range(6)]
    paths[3] = write(tmp_path, 3, "3,a,1", "0,once more,1")
    with api.connect(dsn) as client, pytest.raises(SqlkitError) as caught:
        client.load(paths, into="public.item", policy="error")
    assert caught.value.code == "SK302"
    assert str(paths[3]) in caught.value.message
    assert query("select array_agg(id order by id) from item") == [([0, 1, 2],)]


def test_one_begun_in_another_way_stops_none_before_it(
    query: Callable[..., Rows], dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    paths = [write(tmp_path, n, f"{n},a,1", f"{n + 10},b,1") for n in range(6)]
    connection.execute("alter table item add constraint late check (id <> 13)")
    with api.connect(dsn) as client:
        with pytest.raises(SqlkitError):
            client.load(paths[3], into="public.item", policy="ignore", batch_bytes=1)
        with pytest.raises(SqlkitError) as caught:
            client.load(paths, into="public.item")
    assert caught.value.code == "SK410"
    assert str(paths[3]) in caught.value.message
    assert query("select array_agg(id order by id) from item") == [([0, 1, 2, 3, 10, 11, 12],)]


def test_more_rejects_than_the_limit_are_told_with_the_file_that_passed_it(
    query: Callable[..., Rows], dsn: str, tmp_path: Path
) -> None:
    paths = [write(tmp_path, n, f"{n},a,1", f"{n + 10},b,none") for n in range(4)]
    with api.connect(dsn) as client, pytest.raises(api.RejectLimitError) as caught:
        client.load(paths, into="public.item", reject_limit=2)
    assert "1 row was refused, after 2 before, and the limit is 2" in caught.value.message
    assert str(paths[2]) in (caught.value.detail or "")
    assert str(paths[1]) not in (caught.value.detail or "")
    assert query("select count(*) from sqlkit.reject where batch_id is not null") == [(2,)]


def test_what_streams_note_at_once_adds_up() -> None:
    class Read:
        stored_bytes = 7
        decoded_bytes = 11

    class Reader:
        progress = Read()

    piece = Piece(
        data=b"", first_line=1, last_line=3, start=0, end=11, resume=ResumePoint(11, 4, 7, "")
    )
    tally = Tally()
    sources = [object() for _ in range(20_000)]

    def note(source: object) -> None:
        tally.note(source, Reader(), piece)  # type: ignore[arg-type]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(note, sources))
    finally:
        sys.setswitchinterval(interval)
    assert (tally.bytes_read, tally.bytes_decoded, tally.lines) == (140_000, 220_000, 60_000)
