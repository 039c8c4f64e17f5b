"""--create: a table that nothing could be loaded into is not left behind; a new one is filled."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit.infer import infer_type


def tables(connection: psycopg.Connection) -> list[str]:
    query = "select tablename from pg_tables where schemaname = 'public'"
    return [name for (name,) in connection.execute(query)]


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """What looks like numbers for longer than it is looked at."""
    path = tmp_path / "late.csv"
    rows = "".join(f"{n},{n}\n" for n in range(1, 20_001))
    path.write_text("id,size\n" + rows + "20001,large\n")
    return path


@pytest.mark.parametrize("atomic", [False, True])
def test_it_goes_where_the_load_fails(
    late: Path, connection: psycopg.Connection, dsn: str, atomic: bool
) -> None:
    with api.connect(dsn) as client, pytest.raises(api.RejectLimitError) as told:
        client.load(late, into="public.made", create=True, key="id", atomic=atomic)
    assert tables(connection) == []
    assert "create table public.made" in (told.value.detail or "")
    assert "size bigint" in (told.value.detail or "")
    assert "with types that take all" in (told.value.hint or "")
    assert connection.execute("select state from sqlkit.run").fetchall() == [("failed",)]


def test_it_stays_with_what_was_loaded(
    late: Path, connection: psycopg.Connection, dsn: str
) -> None:
    with api.connect(dsn) as client, pytest.raises(api.RejectLimitError):
        client.load(late, into="public.made", create=True, key="id", batch_bytes=50_000)
    assert tables(connection) == ["made"]
    ((kept,),) = connection.execute("select count(*) from made").fetchall()
    ((told,),) = connection.execute("select sum(rows_inserted) from sqlkit.batch").fetchall()
    assert kept == told > 0


def test_a_key_is_asked_for_first(late: Path, connection: psycopg.Connection, dsn: str) -> None:
    with api.connect(dsn) as client:
        with pytest.raises(api.UsageError, match="policy update needs a key") as told:
            client.load(late, into="public.made", create=True)
        assert told.value.code == "SK202"
        assert "--key" in (told.value.hint or "")
        assert tables(connection) == []


def test_a_table_of_the_same_name_is_another_one(
    tmp_path: Path, connection: psycopg.Connection, dsn: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,name\n1,a\n2,b\n")
    with api.connect(dsn) as client:
        client.load(path, into="public.made", create=True, key="id")
        again = client.load(path, into="public.made", create=True, key="id")
        assert again.sources[0].state == "skipped"
        connection.execute("drop table made")
        anew = client.load(path, into="public.made", create=True, key="id")
    assert anew.rows == api.RowCounts(read=2, inserted=2)
    assert connection.execute("select count(*) from made").fetchone() == (2,)


def test_whole_lines_are_jsonb(tmp_path: Path, connection: psycopg.Connection, dsn: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n')
    with api.connect(dsn) as client:
        client.load(path, into="public.made", create=True, whole="doc", policy="append")
    assert connection.execute("select doc from made").fetchall() == [({"a": 1},)]
    query = "select format_type(atttypid, atttypmod) from pg_attribute where attname = 'doc'"
    assert connection.execute(query).fetchall() == [("jsonb",)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2026-02-28", "2024-02-29"], "date"),
        (["2026-02-28", "2026-02-30"], "text"),
        (["2026-02-30 10:00:00"], "text"),
        (["2026-02-28T10:00:00+02:00"], "timestamptz"),
        (['{"a": [1, 2]}', "[]", None], "jsonb"),
        (["{1,2}"], "text"),
        (['["\\u0000"]'], "text"),
        (["[NaN]"], "text"),
        (["[1]", "one"], "text"),
    ],
)
def test_types_take_every_value_of_the_sample(values: list[str | None], expected: str) -> None:
    assert infer_type(values) == expected


def test_nested_json_becomes_jsonb(
    tmp_path: Path, connection: psycopg.Connection, dsn: str
) -> None:
    path = tmp_path / "nested.jsonl"
    path.write_text('{"id": 1, "tags": ["a", "b"]}\n{"id": 2, "tags": "none"}\n')
    with api.connect(dsn) as client:
        client.load(path, into="public.loose", create=True, policy="append")
        path.write_text('{"id": 1, "tags": ["a", "b"]}\n{"id": 2, "tags": null}\n')
        client.load(path, into="public.nested", create=True, policy="append")
    types: dict[str, str] = dict(
        connection.execute(
            "select attrelid::regclass::text, atttypid::regtype::text from pg_attribute "
            "where attname = 'tags' and attrelid in ('loose'::regclass, 'nested'::regclass)"
        ).fetchall()
    )
    assert types == {"loose": "text", "nested": "jsonb"}
