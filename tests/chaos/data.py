"""What is loaded while everything breaks: real shelf prices, and generated rows of every kind."""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.real_data import find_real_data

DAYS = ("2026-08-09", "2026-08-10", "2026-08-11")


@dataclass(frozen=True)
class Work:
    """Files, a table, and how the ones are loaded into the other."""

    name: str
    ddl: str  # of chaos.target and its indexes
    files: tuple[Path, ...]
    options: dict[str, object] = field(default_factory=dict)
    # False where counters depend on where batches begin, which they may after a resume.
    counts_are_fixed: bool = True


def make_all(folder: Path, share: float = 1.0) -> list[Work]:
    """All kinds of work, or smaller ones; real data first. Raises Missing where that is not."""
    makers: list[Callable[[Path, float], Work]] = [
        _prices,
        _events,
        _wide_events,
        _first_load,
        _repeated,
        _small,
        _atomic,
        _dirty,
        _tuned,
    ]
    return [make(folder, share) for make in makers]


def _prices(folder: Path, share: float) -> Work:
    """The first rows of three days: inserted, updated and unchanged ones."""
    real = find_real_data("prices")
    files = []
    columns: list[str] = []
    for day in DAYS:
        path = folder / f"prices-{day}.csv.gz"
        with (
            gzip.open(real / f"israeli_prices_{day}.csv.gz", "rt", encoding="utf-8-sig") as source,
            gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as target,
        ):
            reader = csv.reader(source)
            columns = next(reader)
            writer = csv.writer(target, lineterminator="\n")
            writer.writerow(columns)
            for number, record in enumerate(reader):
                if number >= 15_000 * share:
                    break
                writer.writerow(record)
        files.append(path)
    named = ", ".join(f'"{name}" text' for name in columns)
    key = ", ".join(f'"{name}"' for name in columns[1:4])
    return Work(
        "real prices",
        f"create table chaos.target ({named}, primary key ({key}));",
        tuple(files),
        {"batch_bytes": 400_000},
    )


def _write(path: Path, header: str, lines: list[str]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(header + "\n")
        file.write("\n".join(lines) + "\n")
    return path


def _events(folder: Path, share: float) -> Work:
    """A log without key: whatever is loaded twice is there twice."""
    files = tuple(
        _write(
            folder / f"events-{part}.csv",
            "part,number,body",
            [f"{part},{row},event {row} of {part}" for row in range(int(40_000 * share))],
        )
        for part in range(3)
    )
    return Work(
        "append",
        "create table chaos.target (part integer, number integer, body text);",
        files,
        {"policy": "append", "batch_bytes": 150_000},
    )


def _wide_events(folder: Path, share: float) -> Work:
    """The same in large pieces, which streams append side by side."""
    chance = random.Random(7)
    body = "".join(chance.choice("abcdefghij ") for _ in range(2_000))
    lines = [f"{row},{body[row % 1_500 :][:300]}" for row in range(int(120_000 * share))]
    return Work(
        "append side by side",
        "create table chaos.target (at bigint, body text);",
        (_write(folder / "wide.csv", "at,body", lines),),
        {"policy": "append", "workers": 3},
    )


def _first_load(folder: Path, share: float) -> Work:
    """Into an empty table, whose indexes are taken away and built again."""
    lines = [
        f"{row * 7919 % 150_001},{row % 97},name {row},{row / 8}"
        for row in range(int(150_000 * share))
    ]
    return Work(
        "first load",
        "create table chaos.target (id bigint primary key, kind integer, name text, price numeric);"
        "create index target_kind_idx on chaos.target (kind) where kind > 3;"
        "create unique index target_name_idx on chaos.target (lower(name), id);",
        (_write(folder / "first.csv.gz", "id,kind,name,price", lines),),
    )


def _repeated(folder: Path, share: float) -> Work:
    """JSON lines in which keys come again and again: the newest version wins."""
    chance = random.Random(11)
    files = []
    version = 0
    for part in range(2):
        path = folder / f"versions-{part}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for _ in range(int(30_000 * share)):
                version += 1
                key = chance.randrange(int(9_000 * share))
                file.write(f'{{"id": {key}, "version": {version}, "name": "v{version}"}}\n')
        files.append(path)
    return Work(
        "newest version",
        "create table chaos.target (id integer primary key, version integer, name text);",
        tuple(files),
        {"policy": "newer", "order_by": "version", "batch_bytes": 300_000},
        counts_are_fixed=False,
    )


def _small(folder: Path, share: float) -> Work:
    """Many small files, which share batches of some dozens; a few hold a row that is refused."""
    files = tuple(
        _write(
            folder / f"small-{part:03}.csv",
            "part,number,pieces",
            [
                f"{part},{row},{-1 if part % 37 == 36 and row == 40 else row}"
                for row in range(int(400 * share))
            ],
        )
        for part in range(150)
    )
    return Work(
        "small files",
        "create table chaos.target (part integer, number integer,"
        " pieces integer check (pieces >= 0), unique (part, number));",
        files,
        {
            "policy": "error",
            "key": ["part", "number"],
            "reject_limit": None,
            "batch_bytes": 100_000,
        },
    )


def _atomic(folder: Path, share: float) -> Work:
    """Two files, committed together or not at all."""
    half = int(20_000 * share)
    files = tuple(
        _write(
            folder / f"atomic-{part}.csv",
            "id,part,name",
            [f"{part * half + row},{part},name {row}" for row in range(2 * half)],
        )
        for part in range(2)
    )
    return Work(
        "atomic",
        "create table chaos.target (id integer primary key, part integer, name text);",
        files,
        {"atomic": True, "batch_bytes": 400_000},
    )


def _dirty(folder: Path, share: float) -> Work:
    """Some rows are no numbers, some break a constraint: they are kept as rejects, once each."""
    lines = [
        f"{row},{'twelve' if row % 901 == 5 else -1 if row % 1_201 == 7 else row % 50},row {row}"
        for row in range(int(25_000 * share))
    ]
    return Work(
        "rejects",
        "create table chaos.target (id integer primary key, pieces integer check (pieces >= 0),"
        " name text);",
        (_write(folder / "dirty.csv", "id,pieces,name", lines),),
        {"reject_limit": None, "batch_bytes": 60_000},
    )


def _tuned(folder: Path, share: float) -> Work:
    """With what is changed for as long as a run lasts, beside what the table's owner has set."""
    rows = int(30_000 * share)
    files = tuple(
        _write(
            folder / f"tuned-{part}.csv",
            "id,part,name",
            # The first half has the keys of the second half of the file before.
            [f"{part * rows // 2 + row},{part},name {row}" for row in range(rows)],
        )
        for part in range(3)
    )
    return Work(
        "tuned",
        "create table chaos.target (id integer primary key, part integer, name text)"
        " with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.5);",
        files,
        {"tune": True, "batch_bytes": 150_000},
    )
