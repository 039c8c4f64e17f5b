"""Files that are not what they should be: a clear message or a reject, and every row accounted for.

The corpora of ``../shared/data/malformed``, and real files that were cut off or mis-encoded.
"""

from __future__ import annotations

import gzip
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit as api
from tests.conftest import RunSqlkit
from tests.real_data import real_data

SEED = 20261123


def settled(connection: psycopg.Connection, table: str) -> None:
    """What holds after any load: counters add up, and nothing is left behind."""
    for row in connection.execute(
        "select rows_read, rows_inserted + rows_updated + rows_unchanged + rows_ignored "
        "+ rows_duplicate + rows_rejected from sqlkit.run_summary"
    ):
        assert row[0] == row[1]
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)
    assert connection.execute(
        "select count(*) from pg_class where relnamespace = 'sqlkit_stage'::regnamespace"
    ).fetchone() == (0,)
    # Every row of the table was counted, and every row refused is there.
    counted = connection.execute(
        "select coalesce(sum(rows_inserted), 0), coalesce(sum(rows_rejected), 0) "
        "from sqlkit.run_summary"
    ).fetchone()
    there = connection.execute(
        f"select (select count(*) from {table}), "
        "(select count(*) from sqlkit.reject where batch_id is not null)"
    ).fetchone()
    assert counted == there


@pytest.fixture(scope="module")
def all_json() -> dict[str, bytes]:
    """The cases of JSONTestSuite, by name."""
    found = {}
    with tarfile.open(real_data("malformed", "json", "JSONTestSuite-test_parsing.tar.gz")) as tar:
        for member in tar.getmembers():
            if (file := tar.extractfile(member)) is not None:
                found[Path(member.name).name] = file.read()
    return found


def fits_line(content: bytes) -> bool:
    return bool(content.strip()) and b"\n" not in content and b"\r" not in content


@pytest.fixture(scope="module")
def json_suite(all_json: dict[str, bytes]) -> dict[str, bytes]:
    """Those that fit a line."""
    found = {name: content for name, content in all_json.items() if fits_line(content)}
    assert len(found) > 250
    return found


@pytest.mark.parametrize("is_whole", [True, False])
def test_json_that_is_none(
    json_suite: dict[str, bytes],
    is_whole: bool,
    tmp_path: Path,
    connection: psycopg.Connection,
    dsn: str,
) -> None:
    """What is no JSON is a reject, and nothing else is, whatever it stands between."""
    connection.execute("create table doc (line jsonb)")
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b"".join(b'{"line": 1}\n%b\n' % content for content in json_suite.values()))
    with api.connect(dsn) as client:
        result = client.load(
            path,
            into="public.doc",
            policy="append",
            whole="line" if is_whole else None,
            leave_out=() if is_whole else ["*"],
            reject_limit=None,
        )
    assert result.rows.read == 2 * len(json_suite)
    settled(connection, "doc")
    names = list(json_suite)
    refused = {}
    for line, last, code in connection.execute(
        "select first_line, last_line, sqlstate from sqlkit.reject"
    ):
        assert line == last
        assert line % 2 == 0, "a good line was refused"
        refused[names[line // 2 - 1]] = code
    assert {code[:2] for code in refused.values()} <= {"22", "54"}
    assert not [name for name in names if name.startswith("n_") and name not in refused]
    # What is valid and refused all the same has a character that PostgreSQL cannot store,
    # or, as rows, is no object.
    for name in refused:
        if name.startswith("y_") and (is_whole or json_suite[name].lstrip().startswith(b"{")):
            assert b"u0000" in json_suite[name], name


def test_json_that_fits_no_line(
    all_json: dict[str, bytes], tmp_path: Path, connection: psycopg.Connection, dsn: str
) -> None:
    """The others, each a file of its own: rows, rejects, or a message that names it."""
    connection.execute("create table doc (a text, line jsonb)")
    cases = {name: content for name, content in all_json.items() if not fits_line(content)}
    assert len(cases) > 10
    # An array is read as a whole, and may end anywhere; as lines, everything else is.
    cases |= {name: text for name, text in all_json.items() if text.lstrip()[:1] == b"["}
    messages = 0
    with api.connect(dsn) as client:
        for name, content in cases.items():
            path = tmp_path / name
            path.write_bytes(content)
            try:
                result = client.load(
                    path,
                    into="public.doc",
                    format="jsonl",
                    policy="append",
                    leave_out=["*"],
                    reject_limit=None,
                )
                assert result.rows.read == result.rows.inserted + result.rows.rejected
            except api.SqlkitError as error:
                messages += 1
                assert name in str(error), error
                assert error.hint, name
    assert 0 < messages < len(cases)
    settled(connection, "doc")


@pytest.fixture(scope="module")
def prices() -> bytes:
    """Real prices, a line each, below a header; in UTF-8 without a mark."""
    with gzip.open(real_data("prices", "israeli_prices_2026-08-09.csv.gz")) as file:
        lines = [next(file).removeprefix(b"\xef\xbb\xbf"), *(next(file) for _ in range(3000))]
    return b"".join(line for line in lines if b'"' not in line)


@pytest.fixture
def price(prices: bytes, connection: psycopg.Connection) -> str:
    """A table for them."""
    names = prices.decode().partition("\n")[0].strip().split(",")
    columns = ", ".join(f'"{name}" text' for name in names)
    connection.execute(f"create table price ({columns})".encode())
    return "public.price"


@pytest.mark.parametrize("kind", ["cut in a record", "cut in a quote", "cut archive", "a byte"])
def test_real_files_cut_off(
    kind: str,
    prices: bytes,
    price: str,
    tmp_path: Path,
    sqlkit: RunSqlkit,
    connection: psycopg.Connection,
    dsn: str,
) -> None:
    """From the command line, at several places: a message, and the target as it was."""
    whole = prices
    chance = random.Random(SEED)
    for number in range(4):
        path = tmp_path / f"{kind} {number}.csv"
        place = chance.randrange(len(whole) // 2, len(whole) - 2)
        if kind == "cut in a record":
            content = whole[: whole.rindex(b",", 0, place)]
        elif kind == "cut in a quote":
            content = whole[: whole.index(b"\n", place) + 1] + b'"open, and never closed'
        elif kind == "cut archive":
            content = gzip.compress(whole)[: chance.randrange(40, 200)]
        else:
            content = whole[:place] + b"\xff" + whole[place:]
        path.write_bytes(content)
        arguments = (
            *("load", path, "--into", price, "--policy", "append"),
            *("--dsn", dsn, "--json"),
        )
        done = sqlkit(*arguments)
        assert "Traceback" not in done.stdout + done.stderr
        assert done.returncode in (1, 4), (done.stdout, done.stderr)
        assert path.name in done.stdout
        assert connection.execute("select count(*) from price").fetchone() == (0,)
        settled(connection, "price")
    if kind in ("cut in a record", "a byte"):
        done = sqlkit(*arguments, "--reject-limit", "1")
        assert done.returncode == 3, done.stdout
        result = json.loads(done.stdout)["rows"]
        assert (result["rejected"], result["inserted"]) == (1, result["read"] - 1)
        settled(connection, "price")


@pytest.mark.parametrize("encoding", ["cp1255", "utf-16", "utf-16-le"])
def test_real_files_mis_encoded(
    encoding: str,
    prices: bytes,
    price: str,
    tmp_path: Path,
    sqlkit: RunSqlkit,
    connection: psycopg.Connection,
    dsn: str,
) -> None:
    """Taken for UTF-8: a message, or rejects beside what is ASCII. Named or marked: all of it."""
    header, _, text = prices.decode().partition("\n")
    fields = header.count(",") + 1
    lines = [*text.splitlines(), *(",".join([f"row {n}"] * fields) for n in range(20))]

    def load(name: str, content: bytes, *options: str) -> tuple[int, dict[str, Any]]:
        (tmp_path / name).write_bytes(content)
        arguments = ("load", name, "--into", price, "--policy", "append", "--dsn", dsn, "--json")
        done = sqlkit(*arguments, *options)
        assert "Traceback" not in done.stdout + done.stderr
        settled(connection, "price")
        return done.returncode, json.loads(done.stdout)

    whole = "\n".join([header, *lines, ""]).encode(encoding, "replace")
    code, told = load("whole.csv", whole, "--reject-limit", "100%")
    if encoding == "utf-16":
        assert (code, told["rows"]["inserted"]) == (0, len(lines))
    else:
        assert code == 1
        assert "whole.csv, line 1: the header is not utf-8" in told["error"]["message"]
        assert "--encoding" in told["error"]["hint"]
        assert load("whole.csv", whole, "--encoding", encoding)[0] == 0
    written = [line.split(",")[4] for line in whole.decode(encoding).splitlines()[1:]]
    found = connection.execute("select coalesce(\"שם מוצר\", '') from price").fetchall()
    assert sorted(name for (name,) in found) == sorted(written)

    records = "\n".join([*lines, ""]).encode(encoding, "replace")
    mixed = (header + "\n").encode() + records
    code, told = load("mixed.csv", mixed)
    assert code == 4
    assert "mixed.csv, line 2: " in told["error"]["detail"]
    code, told = load("mixed.csv", mixed, "--reject-limit", "100%")
    assert code == 3
    # UTF-16 has a NUL in each ASCII character, and half of the last line's end stands by itself.
    assert told["rows"]["read"] == len([line for line in records.split(b"\n") if line])
    assert told["rows"]["inserted"] == (20 if encoding == "cp1255" else 0)
    assert told["rows"]["rejected"] == told["rows"]["read"] - told["rows"]["inserted"]
