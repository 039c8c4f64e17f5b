"""One big JSON array, paths into objects, and the column that takes what has no other."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlkit
from sqlkit.errors import SourceError, UsageError
from sqlkit.sources import json_array
from sqlkit.sources.base import WantedColumn
from sqlkit.sources.copied import rows_of
from sqlkit.sources.jsonl import JsonLinesSource
from sqlkit.sources.stored import StoredFile
from tests.conftest import Database, RunSqlkit
from tests.real_data import real_data

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\},{[]\n: '),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("k,}{"), inner, max_size=4),
    max_leaves=12,
)


def opened(path: Path) -> Any:
    return JsonLinesSource(StoredFile(str(path))).open()


def read(path: Path, piece_bytes: int, names: list[str]) -> list[list[str | None]]:
    reader = opened(path)
    wanted = [WantedColumn(name, is_json=True) for name in names]
    try:
        return [
            row
            for piece in reader.pieces(wanted, piece_bytes)
            for row in rows_of(reader.copy_format, piece.data)
        ]
    finally:
        reader.close()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"v": VALUES}), max_size=12),
    st.sampled_from([None, 0, 2]),
    st.sampled_from([1, 7, 64, 1 << 20]),
)
def test_an_array_is_its_elements(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None, piece_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(" \n" + json.dumps(rows, indent=indent, ensure_ascii=False) + "\n ")
    found = read(path, piece_bytes, ["v"])
    assert [None if row[0] is None else json.loads(row[0]) for row in found] == [
        row["v"] for row in rows
    ]


def test_the_walk_and_the_guesses_agree() -> None:
    rows = [{"v": [{"a": "},{"}, {"b": i}], "w": "]"} for i in range(200)]
    text = json.dumps(rows)[1:].encode()
    elements, used, ended = json_array.cut(text, ended=True)
    walked = [element.strip() for element in json_array._walk(text)[0]]
    assert (elements, used, ended) == (walked, len(text), True)
    part = text[: len(text) // 2]
    elements, used, ended = json_array.cut(part, ended=False)
    assert not ended
    assert list(map(json.loads, elements)) == rows[: len(elements)]
    assert len(elements) > 90
    assert text[used:].lstrip().startswith(b'{"v"')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1}, {"a": 2}', "the array is cut off, at byte 19"),
        ('[{"a": 1}, {"a": 2},', "the array is cut off, at byte 20"),
        ('[{"a": 1}] x', "something follows the array"),
        ('[{"a": 1},, {"a": 2}]', "record 2 (line 1): the line is not valid JSON"),
        ('[{"a": 1}, {"a": tru}, {"a": 2}]', "record 2 (line 1): the line is not valid JSON"),
        ('[{"a": 1}, 7]', "record 2 (line 1): the line is a number"),
    ],
)
def test_what_is_no_array_of_objects_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=re.escape(says)):
        read(path, 1 << 20, ["a"])


@pytest.fixture
def client(database: Database) -> Iterator[sqlkit.Client]:
    with sqlkit.connect(database.dsn) as made:
        yield made


class Cut(Exception):  # noqa: N818
    pass


def test_a_log_as_an_array_is_the_log_as_lines(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path
) -> None:
    lines = real_data("zeek", "weird.json.gz")
    with gzip.open(lines, "rt") as file:
        records = file.read().splitlines()
    array = tmp_path / "weird.json.gz"
    with gzip.open(array, "wt", compresslevel=1) as file:
        file.write("[" + ",\n".join(records) + "]")
    client.load(lines, into="public.one", create=True, policy="append")
    connection.execute("create table public.two (like public.one)")

    def cut(progress: sqlkit.LoadProgress) -> None:
        if progress.rows > 8_000:
            raise Cut

    with pytest.raises(Cut):
        client.load(array, into="public.two", policy="append", batch_bytes=500_000, progress=cut)
    partly = connection.execute("select count(*) from two").fetchone()
    assert partly is not None
    assert 0 < partly[0] < len(records)
    client.load(array, into="public.two", policy="append")
    differ = "(table one except all table two) union all (table two except all table one)"
    assert connection.execute(differ).fetchall() == []


def test_a_bad_element_is_a_reject_with_its_number(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute("create table item (id integer primary key)")
    path = tmp_path / "a.json"
    path.write_text('[\n{"id": 1},\n{"id": "x"}, {"id": tru},\n{\n"id": 4}\n]')
    result = client.load(path, into="public.item", reject_limit=2)
    assert (result.rows.inserted, result.rows.rejected) == (2, 2)
    rejects = client.rejects(result.run_id)
    assert [(r["record"], r["first_line"], r["last_line"], r["raw"]) for r in rejects] == [
        (2, 3, 3, '{"id": "x"}'),
        (3, 3, 3, '{"id": tru}'),
    ]


ELEMENT = """  {
    "id": %s,

    "name": "%s"
  }"""


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("is_careful", [False, True])
@pytest.mark.parametrize("between", [",\n", " ,\r\n\r\n", ", "])
def test_a_bad_element_has_its_lines_and_its_text(
    is_careful: bool,
    between: str,
    client: sqlkit.Client,
    connection: psycopg.Connection,
    tmp_path: Path,
) -> None:
    """However it is found, where it stands in the file; its export is an array, as the input is.

    A load that was cut off within the file counts on from there.
    """
    connection.execute("create table item (id integer primary key, name varchar(200))")
    if is_careful:  # row by row, since nobody knows what a trigger refuses
        connection.execute(
            "create function pass() returns trigger language plpgsql as 'begin return new; end'"
        )
        connection.execute(
            "create trigger pass before insert on item for each row execute function pass()"
        )
    bad = {7: "x" * 201, 401: "y" * 201, 498: "z" * 201}
    elements = [ELEMENT % (id, bad.get(id, "a" * 100)) for id in range(500)]
    elements[450] = elements[450].replace('"id"', "id")  # no JSON at all
    path = tmp_path / "a.json"
    path.write_text("\n\n[\n" + between.join(elements) + "\n]\n", newline="")
    how: dict[str, Any] = {"into": "public.item", "reject_limit": 4}

    def cut(event: sqlkit.Progress) -> None:
        if event.rows > 100:
            raise Cut

    with pytest.raises(Cut):
        client.load(path, **how, batch_bytes=5000, progress=cut)
    result = client.load(path, **how)
    assert 0 < result.rows.inserted < 496
    assert connection.execute("select count(*) from item").fetchone() == (496,)
    rejects = client.rejects()
    assert [found["record"] for found in rejects] == [8, 402, 451, 499]
    lines = path.read_bytes().decode().split("\n")
    for found in rejects:
        assert found["raw"] == elements[found["record"] - 1].strip()
        stood = "\n".join(lines[found["first_line"] - 1 : found["last_line"]])
        assert found["raw"] in stood
        assert stood.count("\n") == found["raw"].count("\n")

    ((file,),) = (client.export_rejects(run) for run in {r["run_id"] for r in rejects[1:]})
    assert (file.suffix, file.content.decode()) == (
        ".json",
        "[\n" + ",\n".join(found["raw"] for found in rejects[1:]) + "\n]\n",
    )
    mended = tmp_path / "mended.json"
    mended.write_bytes(file.content.replace(b"y" * 201, b"y").replace(b"z" * 201, b"z"))
    again = client.load(mended, into="public.item", reject_limit=1)
    assert (again.rows.inserted, again.rows.rejected) == (2, 1)
    (replayed,) = client.replay_rejects(
        again.run_id or 0, edit_sql="replace(raw, ' id:', ' \"id\":')"
    )
    assert replayed.rows.inserted == 1


NESTED = [
    '{"id": 1, "buyer": {"name": "A", "address": {"city": "שלום", "zip": "0017"}}, "n": 1.10}',
    '{"id": 2, "buyer": null, "later": [1]}',
    '{"id": 3}',
    '{"id": 4, "buyer": {"address": "no object"}, "other": {"x": null}, "n": 1e400}',
]


def test_paths_and_the_rest(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path, sqlkit: RunSqlkit,
    database: Database,
) -> None:  # fmt: skip
    connection.execute(
        "create table public.sale (id integer primary key, name text, city text, extra jsonb)"
    )
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(NESTED))
    done = sqlkit(
        "load", path, "--into", "public.sale", "--dsn", database.dsn, "--rest", "extra",
        "--map", "buyer.name=name", "--map", "buyer.address.city=city",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = connection.execute("select id, name, city, extra::text from sale order by id").fetchall()
    assert rows == [
        (1, "A", "שלום", '{"n": 1.10}'),
        (2, None, None, '{"later": [1]}'),
        (3, None, None, None),
        (4, None, None, f'{{"n": 1{"0" * 400}, "other": {{"x": null}}}}'),
    ]


def test_paths_without_the_rest_still_refuse_unknown_keys(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute("create table public.sale (id integer primary key, name text)")
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "buyer": {"name": "A", "age": 3}}\n')
    client.load(path, into="public.sale", map={"buyer.name": "name"})
    assert connection.execute("table sale").fetchall() == [(1, "A")]
    path.write_text('{"id": 1, "buyer": {"name": "A"}, "x": 3}\n')
    with pytest.raises(sqlkit.SqlkitError, match=r"only in .*: x"):
        client.load(path, into="public.sale", map={"buyer.name": "name"})


def test_the_rest_of_mappings(client: sqlkit.Client, connection: psycopg.Connection) -> None:
    connection.execute("create table public.sale (id integer primary key, extra jsonb)")
    client.load(
        [{"id": 1, "a": [1]}, {"id": 2}, {"id": 3, "b": None}], into="public.sale", rest="extra"
    )
    assert connection.execute("table sale").fetchall() == [
        (1, {"a": [1]}),
        (2, None),
        (3, {"b": None}),
    ]
    with pytest.raises(UsageError, match="no column nothing of type json"):
        client.load([{"id": 1}], into="public.sale", rest="nothing")


def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.json"
        path.write_text("[" + ",".join([json.dumps({"v": "x" * 1000})] * rows) + "]")
        reader = opened(path)
        tracemalloc.start()
        try:
            for _ in reader.pieces([WantedColumn("v")], 1 << 20):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            reader.close()

    assert peak(40_000) < 1.2 * peak(10_000) + 1_000_000
