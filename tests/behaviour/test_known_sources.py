"""What counts as loaded before: the same content in the same manner, whatever its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit as api
from sqlkit import Dialect

LOADED: dict[str, Any] = {"into": "public.item", "policy": "ignore", "leave_out": ["*"]}


@pytest.fixture
def path(connection: psycopg.Connection, tmp_path: Path) -> Path:
    """A file that was loaded once, as `LOADED` says."""
    connection.execute(
        "create table item (id integer primary key, name text unique, seen integer, other text)"
    )
    path = tmp_path / "items.csv"
    path.write_text("id,name,seen,note\n1,one,1,x\n2,two,1,y\n")
    return path


@pytest.fixture
def client(dsn: str, path: Path) -> Any:
    with api.connect(dsn) as client:
        assert client.load(path, **LOADED).rows.inserted == 2
        yield client


@pytest.mark.parametrize(
    "change",
    [
        {"workers": 4},
        {"batch_bytes": 10},
        {"reject_limit": 100},
        {"reject_share": 0.5},
        {"atomic": True},
        {"use_copy": False},
        {"retry_for": 1.0},
        {"create": True},
        {"dialect": Dialect()},
        {"key": ["id"]},  # the table's own
    ],
)
def test_how_fast_and_how_careful_does_not_matter(
    client: api.Client, path: Path, change: dict[str, Any]
) -> None:
    options = {**LOADED, **change}
    result = client.load(path.rename(path.with_name("renamed.csv")), **options)
    assert (result.rows.read, result.sources[0].state) == (0, "skipped")


@pytest.mark.parametrize(
    "change",
    [
        {"policy": "update"},
        {"policy": "newer", "order_by": "seen"},
        {"columns": ["id", "name"]},
        {"map": {"name": "other"}},
        {"leave_out": ["note", "other", "seen"]},
        {"key": ["name"]},
        {"dialect": Dialect(null="one")},
        {"dialect": Dialect(encoding="latin-1")},
        {"dialect": Dialect(columns=("id", "other", "seen", "note"))},
        {"format": "tsv", "dialect": Dialect(delimiter=",")},
    ],
)
def test_what_is_written_does(client: api.Client, path: Path, change: dict[str, Any]) -> None:
    options = {**LOADED, **change}
    result = client.load(path, **options)
    assert (result.rows.read, result.sources[0].state) == (2, "loaded")
    # In this manner it is loaded now, and still in the first one.
    assert client.load(path, **options).rows.read == 0
    assert client.load(path, **LOADED).rows.read == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"map": {"nam": "name"}}, "nam"),
        ({"columns": ["id", "nam"]}, "nam"),
        ({"policy": "newer", "order_by": "nam"}, "nam"),
        ({"key": ["nam"]}, "nam"),
        ({"reject_limit": -1}, "limit"),
        ({"policy": "upsert"}, "upsert"),
    ],
)
def test_what_is_wrong_is_told_all_the_same(
    client: api.Client, path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(api.SqlkitError) as caught:
        client.load(path, **{**LOADED, **change})
    assert told in caught.value.message


def test_half_loaded_it_does_not_go_on_in_another_manner(
    client: api.Client, path: Path, connection: psycopg.Connection
) -> None:
    half = path.with_name("half.csv")
    half.write_text("id,name,seen,note\n3,three,1,x\n4,four,nothing,y\n5,five,1,z\n")
    with pytest.raises(api.RejectLimitError):
        client.load(half, **LOADED, batch_bytes=1)
    assert connection.execute("select count(*) from item").fetchone() == (3,)
    with pytest.raises(api.SqlkitError) as caught:
        client.load(half, **{**LOADED, "policy": "update"})
    assert caught.value.code == "SK410"
    assert '"policy": "ignore"' in (caught.value.detail or "")
    assert '"policy": "update"' in (caught.value.detail or "")
    assert "--again" in (caught.value.hint or "")
    # As it was begun it goes on, with whatever limit.
    result = client.load(half, **LOADED, reject_limit=1)
    assert (result.rows.read, result.rows.inserted, result.rows.rejected) == (2, 1, 1)
    # Once it is whole, another manner is another load.
    result = client.load(half, **{**LOADED, "policy": "update"}, reject_limit=1)
    assert (result.rows.read, result.rows.unchanged, result.rows.rejected) == (3, 2, 1)


def test_half_loaded_it_may_begin_anew_in_another_manner(client: api.Client, path: Path) -> None:
    half = path.with_name("half.csv")
    half.write_text("id,name,seen,note\n3,three,1,x\n4,four,nothing,y\n5,five,1,z\n")
    with pytest.raises(api.RejectLimitError):
        client.load(half, **LOADED, batch_bytes=1)
    update = {**LOADED, "policy": "update"}
    result = client.load(half, **update, reject_limit=1, again=True)
    assert (result.rows.unchanged, result.rows.inserted, result.rows.rejected) == (1, 1, 1)
    assert client.load(half, **update).rows.read == 0


def test_a_version_that_kept_no_manner_has_loaded_it_in_any(
    client: api.Client, path: Path, superuser: psycopg.Connection
) -> None:
    superuser.execute("update sqlkit.source set manner = null")
    for change in ({}, {"policy": "update"}, {"columns": ["id"]}):
        assert client.load(path, **{**LOADED, **change}).rows.read == 0
