"""How large batches are: as the target is, and as long as writing them takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit
from tests.conftest import Database

SMALLEST, LARGEST = 20_000, 100_000


@pytest.fixture
def sizes(
    database: Database,
    connection: psycopg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[int]]:
    """Loads half a megabyte into a table that takes 20 s a million rows; the batches' sizes."""
    for name, value in (
        ("SMALLEST_BATCH", SMALLEST),
        ("LARGEST_BATCH", LARGEST),
        ("PIECE_BYTES", 5000),
        ("APPENDED_BYTES", 5000),
        ("WRITTEN_IN", 0.02),
        ("REPEATED", 1000.0),
    ):
        monkeypatch.setattr(f"sqlkit.ways.{name}", value)
    connection.execute("create table item (id integer primary key, name text)")
    connection.execute("insert into item select -n, 'there' from generate_series(1, 5000) as n")
    connection.execute(
        "create function slow() returns trigger language plpgsql as $$ begin "
        "perform pg_sleep((select count(*) from arrived) * 0.00002); return null; end $$"
    )
    connection.execute(
        "create trigger slow after insert on item referencing new table as arrived "
        "for each statement execute function slow()"
    )
    path = tmp_path / "item.csv"
    path.write_text("id,name\n" + "".join(f"{n},item {n}\n" for n in range(25_000)))

    def load(**options: Any) -> list[int]:
        with sqlkit.connect(database.dsn) as client:
            result = client.load(path, into="public.item", **options)
        assert result.rows.inserted == 25_000
        found = connection.execute(
            "select end_offset - start_offset from sqlkit.batch order by start_offset"
        ).fetchall()
        return [size for (size,) in found[:-1]]  # the last is what is left

    return load


@pytest.mark.parametrize("policy", ["update", "append"])
def test_slow_batches_make_smaller_ones(sizes: Callable[..., list[int]], policy: str) -> None:
    found = sizes(policy=policy)
    assert found[0] >= LARGEST
    assert all(SMALLEST <= size < 3 * SMALLEST for size in found[3:])
    assert len(found) > 6


def test_what_is_done_again_for_each_batch_keeps_them_large(
    sizes: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlkit.ways.REPEATED", 0.001)
    assert min(sizes()) >= LARGEST


@pytest.mark.parametrize("options", [{"batch_bytes": LARGEST}, {"reject_share": 0.5}], ids=str)
def test_a_size_that_was_asked_for_stays(
    sizes: Callable[..., list[int]], options: dict[str, Any]
) -> None:
    assert min(sizes(**options)) >= LARGEST
