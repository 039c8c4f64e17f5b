"""Bad input, from the command line: a message that says where and what to do, and nothing changed.

Whatever goes wrong, the target stays as it was, the ledger says that the run failed, and no stage
is left behind.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from sqlkit.ways import PIECE_BYTES
from tests.conftest import Database, OpenServer, RunSqlkit, environment

BEFORE = [(1, "one", None), (2, "two", None)]


@pytest.fixture
def target(connection: psycopg.Connection) -> str:
    """A table with a key and two rows, that a failed load must leave as they are."""
    connection.execute(
        "create table item (id integer primary key, name text not null, price numeric(10, 2))"
    )
    connection.execute("insert into item values (1, 'one', null), (2, 'two', null)")
    return "public.item"


class Refused:
    """Loads that fail, and what must hold for every one of them."""

    def __init__(self, run: RunSqlkit, database: Database, connection: psycopg.Connection) -> None:
        self._run = run
        self._database = database
        self._connection = connection

    def __call__(
        self,
        *arguments: str | Path,
        exit_code: int = 1,
        code: str | None = None,
        run: str | None = "failed",
        **options: Any,
    ) -> str:
        """Run ``sqlkit load ARGUMENTS`` into item; returns what it printed on stderr.

        `run` is the state of the run in the ledger, None where none may be there.
        """
        into = () if "--into" in arguments else ("--into", "public.item")
        done = self._run("load", *arguments, *into, "--dsn", self._database.dsn, **options)
        assert "Traceback" not in done.stderr + done.stdout
        assert done.returncode == exit_code, done.stderr + done.stdout
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        self.check_nothing_happened(run, code)
        return done.stderr

    def rows(self, *arguments: str | Path, **options: Any) -> str:
        """Run it with bad rows in a file: they pass the limit, which is none. Forgets the run."""
        told = self(*arguments, exit_code=4, code="SK301", **options)
        assert "nothing of the batch was kept" in told
        assert "--reject-limit" in told
        self.forget()
        return told

    def forget(self) -> None:
        """What the ledger holds of the last load goes, so that another can be looked at."""
        self._database.server.run("truncate sqlkit.run, sqlkit.source cascade", self._database.name)

    def check_nothing_happened(self, run: str | None, code: str | None = None) -> None:
        assert self._connection.execute("select * from item order by id").fetchall() == BEFORE
        runs = self._connection.execute(
            "select state, error_code, error_message from sqlkit.run"
        ).fetchall()
        assert [state for state, _, _ in runs] == ([] if run is None else [run]), runs
        if code is not None:
            assert [found for _, found, _ in runs] == [code]
        for query in (
            "select name from sqlkit.stage",
            "select relname from pg_class where relnamespace = 'sqlkit_stage'::regnamespace",
            "select * from sqlkit.batch",
        ):
            assert self._connection.execute(query).fetchall() == []


@pytest.fixture
def refused(
    sqlkit: RunSqlkit, database: Database, connection: psycopg.Connection, target: str
) -> Refused:
    return Refused(sqlkit, database, connection)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write("a.csv", b"...")`` makes a file where the command runs."""

    def make(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Path(name)

    return make


Write = Callable[..., Path]


# Files that cannot be read ---------------------------------------------------------------------


def test_an_empty_file(refused: Refused, write: Write) -> None:
    told = refused(write("empty.csv", b""), code="SK108")
    assert "empty.csv: is empty" in told
    assert "header" in told


def test_a_header_alone_loads_nothing(
    sqlkit: RunSqlkit, refused: Refused, write: Write, dsn: str, connection: psycopg.Connection
) -> None:
    """No rows are no error: tomorrow's delivery may be empty."""
    path = write("header.csv", "id,name,price\n")
    done = sqlkit("load", path, "--into", "public.item", "--dsn", dsn, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["rows"].values()) == {0}
    assert connection.execute("select * from item order by id").fetchall() == BEFORE
    assert connection.execute("select state from sqlkit.run").fetchall() == [("done",)]
    assert connection.execute("select state from sqlkit.source").fetchall() == [("loaded",)]
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


def test_a_missing_file(refused: Refused) -> None:
    told = refused("nowhere.csv", run=None)
    assert "nowhere.csv: there is no such file" in told
    assert "hint: " in told


def test_a_pattern_without_files(refused: Refused) -> None:
    assert "no file matches" in refused("nowhere/*.csv", run=None)


def test_a_missing_file_among_others_stops_them_all(refused: Refused, write: Write) -> None:
    path = write("good.csv", "id,name,price\n3,three,3\n")
    assert "nowhere.csv" in refused(path, "nowhere.csv", run=None)


def test_a_directory(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    told = refused("folder", run=None)
    assert "folder: is a directory" in told
    assert "folder/*.csv" in told


@pytest.mark.parametrize("pattern", ["", "**/*.csv", "*/secret.csv"])
def test_an_unreadable_file(
    pattern: str,
    target: str,
    write: Write,
    tmp_path: Path,
    dsn: str,
    connection: psycopg.Connection,
) -> None:
    path = tmp_path / write("secret.csv", "id,name,price\n3,three,3\n")
    (tmp_path / "b").mkdir()
    write("b/other.csv", "id,name,price\n4,four,4\n")
    hidden = tmp_path / "a"
    if pattern:
        # Nothing passes over what may be in there.
        hidden.mkdir()
        path = path.rename(hidden / "secret.csv")
        hidden.chmod(0)
    else:
        path.chmod(0)
    powerless: list[str] = []
    if os.geteuid() == 0:
        # Root reads everything, unless it is root in name only.
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot put its power away: setpriv (util-linux) is not installed")
        power = "-dac_override,-dac_read_search"
        powerless = ["setpriv", f"--bounding-set={power}", f"--inh-caps={power}"]
    done = subprocess.run(
        [
            *(*powerless, sys.executable, "-m", "sqlkit.cli.app"),
            *("load", pattern or str(path), "--into", target, "--dsn", dsn),
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    hidden.chmod(0o700) if pattern else None
    assert done.returncode == 1
    if pattern:
        assert f"{pattern}: this pattern leads into a folder that cannot be read" in done.stderr
        assert "detail: a/" in done.stderr
    else:
        assert f"{path}: cannot be opened: Permission denied" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert connection.execute("select count(*) from sqlkit.run").fetchone() == (0,)


@pytest.mark.parametrize(
    ("kind", "compress"),
    [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)],
)
@pytest.mark.parametrize("rows", [200, 20_000])
def test_a_cut_off_archive(
    refused: Refused, write: Write, kind: str, compress: Callable[[bytes], bytes], rows: int
) -> None:
    whole = compress(numbered(rows))
    told = refused(write("cut.csv.gz", whole[: len(whole) * 2 // 3]), code="SK105")
    assert re.search(rf"cut\.csv\.gz: the {kind} archive is cut off: it ends at byte \d+", told)


def test_a_cut_off_archive_larger_than_a_piece(refused: Refused, write: Write) -> None:
    """Pieces were copied by then: they go with the batch."""
    whole = gzip.compress(numbered(MANY), 1)
    told = refused(write("cut.csv.gz", whole[:-9]), "--workers", "3", code="SK105")
    assert "cut off" in told


def test_a_damaged_archive(refused: Refused, write: Write) -> None:
    whole = bytearray(gzip.compress(numbered(20_000)))
    whole[len(whole) // 2] ^= 0xFF
    told = refused(write("bad.csv.gz", bytes(whole)))
    assert "the gzip archive is corrupt" in told


def test_a_cut_off_zip(refused: Refused, write: Write, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", numbered(2000))
    write("a.zip", (tmp_path / "a.zip").read_bytes()[:-100])
    assert "a.zip: the zip archive is cut off" in refused("a.zip", run=None)


# Rows that cannot be stored ---------------------------------------------------------------------


MANY = 6000


def numbered(rows: int, first: int = 100) -> bytes:
    """Good rows; MANY of them are so long that they fill more than one piece."""
    rest = "." * (PIECE_BYTES // 4000) if rows == MANY else ""
    lines = [f"{n},name {n}{rest},{n % 1000}.5" for n in range(first, first + rows)]
    return ("id,name,price\n" + "\n".join(lines) + "\n").encode()


def broken_at(line: int, text: str | bytes, rows: int) -> bytes:
    """`rows` good rows, but for what stands in the physical line `line`."""
    lines = numbered(rows).split(b"\n")
    lines[line - 1] = text if isinstance(text, bytes) else text.encode()
    return b"\n".join(lines)


PLACES = pytest.mark.parametrize(
    ("line", "rows", "extra"),
    [
        (2, 3, ()),
        (57, 100, ()),
        (MANY - 999, MANY, ("--workers", "1")),  # in a later piece
        (MANY - 999, MANY, ("--workers", "3")),
        (57, 100, ("--atomic", "--batch-bytes", "500")),
    ],
    ids=str,
)


@PLACES
def test_a_value_of_another_type(
    refused: Refused, write: Write, line: int, rows: int, extra: tuple[str, ...]
) -> None:
    path = write("bad.csv", broken_at(line, "7,seven,cheap", rows))
    told = refused.rows(path, *extra)
    assert f"bad.csv, line {line}: column price: " in told
    assert 'invalid input syntax for type numeric: "cheap"' in told
    assert "7,seven,cheap" in told


@PLACES
def test_a_value_of_another_type_in_standard_input(
    refused: Refused, line: int, rows: int, extra: tuple[str, ...]
) -> None:
    told = refused.rows("-", *extra, input=broken_at(line, "7,seven,cheap", rows))
    assert f"-, line {line}: column price: " in told
    assert 'invalid input syntax for type numeric: "cheap"' in told
    assert "7,seven,cheap" in told


@PLACES
def test_a_value_of_another_type_on_the_way_to_an_empty_table(
    refused: Refused,
    write: Write,
    connection: psycopg.Connection,
    sqlkit: RunSqlkit,
    dsn: str,
    line: int,
    rows: int,
    extra: tuple[str, ...],
) -> None:
    """The first load goes to the table itself; its index must be back afterwards."""
    name = "empty, line 3 ריק"
    table = sql.Identifier(name)
    connection.execute(sql.SQL("create table {} (like item including all)").format(table))
    path = write("bad.csv", broken_at(line, "7,seven,cheap", rows))
    into = ("--into", f'public."{name}"', "--dsn", dsn)
    done = sqlkit("load", path, *into, *extra)
    assert done.returncode == 4, done.stderr
    assert f"bad.csv, line {line}: column price: " in done.stderr
    refused.check_nothing_happened("failed", "SK301")
    refused.forget()
    done = sqlkit("load", "-", *into, *extra, input=broken_at(line, "7,seven,cheap", rows))
    assert done.returncode == 4, done.stderr
    assert f"-, line {line}: column price: " in done.stderr
    refused.check_nothing_happened("failed", "SK301")
    assert connection.execute(sql.SQL("select count(*) from {}").format(table)).fetchone() == (0,)
    assert connection.execute(
        "select indisprimary from pg_index where indrelid = to_regclass(quote_ident(%s))", [name]
    ).fetchall() == [(True,)]


@PLACES
def test_appending_a_value_of_another_type(
    refused: Refused, write: Write, line: int, rows: int, extra: tuple[str, ...]
) -> None:
    content = broken_at(line, "7,seven,cheap", rows)
    told = refused.rows(write("bad.csv", content), *extra, "--policy", "append")
    assert f"bad.csv, line {line}: column price: " in told
    told = refused.rows("-", *extra, "--policy", "append", input=content)
    assert f"-, line {line}: column price: " in told


def test_a_value_after_embedded_newlines(refused: Refused, write: Write) -> None:
    """Lines are those of an editor, not records."""
    content = 'id,name,price\n2,two,\n3,"three\nlines\nhere",3\n4,"two\nlines",4\n5,five,cheap\n'
    assert "bad.csv, line 8: column price: " in refused.rows(write("bad.csv", content))
    assert "-, line 8: column price: " in refused.rows("-", input=content)


def test_a_value_too_large(refused: Refused, write: Write) -> None:
    told = refused.rows(write("bad.csv", broken_at(3, "99999999999,big,1", 5)))
    assert "bad.csv, line 3: column id: " in told
    assert "99999999999" in told


def test_the_column_is_found_whatever_its_name(
    refused: Refused, write: Write, connection: psycopg.Connection
) -> None:
    """Told by its name in the table, as rejects keep it."""
    odd = 'price: "each", in ₪'
    connection.execute(sql.SQL("alter table item rename price to {}").format(sql.Identifier(odd)))
    content = "Item No,שם,Price: (₪)\n3,three,3\n4,four,cheap\n"
    names = ("--map", "Item No=id", "--map", "שם=name", "--map", f"Price: (₪)={odd}")
    assert f"bad.csv, line 3: column {odd} (Price: (₪) in the source): " in refused.rows(
        write("bad.csv", content), *names
    )
    told = refused.rows("-", *names, input=content)
    assert f"-, line 3: column {odd} (Price: (₪) in the source): " in told
    assert "cheap" in told


@pytest.mark.parametrize("policy", ["update", "append"])
@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("7,seven", "2 fields where there should be 3"),
        ("7,seven,7,7,7", "5 fields where there should be 3"),
        ("", "the line is empty"),
    ],
)
def test_ragged_rows(refused: Refused, write: Write, policy: str, record: str, reason: str) -> None:
    content = broken_at(4, record, 10)
    told = refused.rows(write("ragged.csv", content), "--policy", policy)
    assert f"ragged.csv, line 4: {reason}" in told
    assert record in told
    told = refused.rows("-", "--policy", policy, input=content)
    assert f"-, line 4: {reason}" in told
    assert record in told


def test_a_quote_that_is_never_closed(refused: Refused, write: Write) -> None:
    told = refused.rows(write("open.csv", broken_at(4, '7,"seven,7', 10)))
    assert "open.csv, line 4: a quote is opened and never closed" in told


def test_a_nul_byte(refused: Refused, write: Write) -> None:
    content = broken_at(4, b"7,se\0ven,7", 10)
    told = refused.rows(write("nul.csv", content))
    assert "nul.csv, line 4: " in told
    told = refused.rows("-", input=content)
    assert "-, line 4: a NUL character" in told


def test_another_encoding(refused: Refused, write: Write) -> None:
    content = broken_at(4, "7,שבע,7".encode("cp1255"), 10)
    told = refused.rows(write("hebrew.csv", content))
    assert "hebrew.csv, line 4: " in told
    told = refused.rows("-", input=content)
    assert "-, line 4: bytes that are not utf-8" in told


def test_the_wrong_codec(refused: Refused, write: Write) -> None:
    path = write("latin.csv", broken_at(4, "7,sévén,7".encode("latin-1"), 10))
    assert "latin.csv" in refused(path, "--encoding", "utf-16-le")
    refused.forget()
    path = write("latin2.csv", broken_at(4, b"7,\xff\x81,7", 10))
    told = refused.rows(path, "--encoding", "cp1252")
    assert "latin2.csv, line 4: bytes that are not cp1252" in told


def test_a_json_line_that_is_none(refused: Refused, write: Write) -> None:
    content = '{"id": 3, "name": "three"}\n\n{"id": 4, "name": four}\n'
    assert "bad.jsonl, line 3: " in refused.rows(write("bad.jsonl", content))
    told = refused.rows("-", "--format", "jsonl", input=content)
    assert "-, line 3: " in told


def test_a_json_value_of_another_type(refused: Refused, write: Write) -> None:
    content = '{"id": 3, "name": "x"}\n{"id": 5, "name": "z", "price": "cheap"}\n'
    told = refused.rows(write("bad.jsonl", content))
    assert "bad.jsonl, line 2: column price: " in told
    told = refused.rows("-", "--format", "jsonl", input=content)
    assert "-, line 2: column price: " in told
    assert "cheap" in told


@pytest.mark.parametrize("policy", ["update", "append", "ignore"])
def test_a_null_where_none_may_be(refused: Refused, write: Write, policy: str) -> None:
    content = broken_at(4, "7,,7", 10)
    told = refused.rows(write("null.csv", content), "--policy", policy)
    assert "null.csv, line 4: column name: null value in column" in told
    told = refused.rows("-", "--policy", policy, input=content)
    assert "-, line 4: column name: null value in column" in told


@pytest.mark.parametrize("policy", ["update", "append"])
def test_a_row_that_a_check_forbids(
    refused: Refused, write: Write, policy: str, connection: psycopg.Connection
) -> None:
    connection.execute("alter table item add constraint item_price_check check (price > 0)")
    content = broken_at(4, "7,seven,-7", 10)
    told = refused.rows(write("check.csv", content), "--policy", policy)
    assert "check.csv, line 4: column price: " in told
    assert "item_price_check" in told
    told = refused.rows("-", "--policy", policy, input=content)
    assert "-, line 4: column price: " in told
    assert "item_price_check" in told


@pytest.mark.parametrize("policy", ["update", "append"])
def test_a_row_that_refers_to_nothing(
    refused: Refused, write: Write, connection: psycopg.Connection, policy: str
) -> None:
    connection.execute("create table parent (name text primary key)")
    connection.execute("insert into parent values ('one'), ('two'), ('three')")
    connection.execute(
        "alter table item add constraint item_name_fkey foreign key (name) references parent"
    )
    content = "id,name,price\n3,three,3\n4,four,4\n"
    told = refused.rows(write("orphan.csv", content), "--policy", policy)
    assert "orphan.csv, line 3: column name: " in told
    assert "item_name_fkey" in told
    told = refused.rows("-", "--policy", policy, input=content)
    assert "-, line 3: column name: " in told
    assert "item_name_fkey" in told


def test_a_row_that_a_trigger_refuses(
    refused: Refused, write: Write, connection: psycopg.Connection
) -> None:
    connection.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin "
        "if new.price = 7 then raise 'not %, please', new.name; end if; return new; end $$"
    )
    connection.execute(
        "create trigger refuse before insert on item for each row execute function refuse()"
    )
    content = broken_at(4, "7,seven,7", 10)
    told = refused.rows(write("trigger.csv", content))
    assert "trigger.csv, line 4: not seven, please" in told
    told = refused.rows("-", input=content)
    assert "-, line 4: not seven, please" in told


def test_an_existing_key_under_policy_error(refused: Refused, write: Write) -> None:
    path = write("again.csv", "id,name,price\n2,two,2\n3,three,3\n")
    told = refused(path, "--policy", "error", code="SK302")
    assert "(2)" in told
    assert "hint: " in told


def test_a_repeated_key_under_policy_error(refused: Refused, write: Write) -> None:
    path = write("twice.csv", "id,name,price\n3,three,2\n3,three,3\n")
    told = refused(path, "--policy", "error", code="SK303")
    assert "(3)" in told


def test_an_existing_key_under_policy_append(refused: Refused, write: Write) -> None:
    content = "id,name,price\n3,three,3\n2,two,2\n"
    told = refused.rows(write("again.csv", content), "--policy", "append")
    assert "again.csv, line 3: " in told
    told = refused.rows("-", "--policy", "append", input=content)
    assert "-, line 3: " in told


# Tables and columns -----------------------------------------------------------------------------


def test_an_unknown_column(refused: Refused, write: Write) -> None:
    path = write("more.csv", "id,name,price,colour\n3,three,3,red\n")
    told = refused(path, code="SK204")
    assert "only in more.csv: colour" in told
    assert "id, name, price" in told
    assert "--leave-out" in told


def test_names_in_another_spelling(refused: Refused, write: Write) -> None:
    told = refused(write("upper.csv", "ID,Na-me, price\n3,three,3\n"), code="SK204")
    assert "Rename with --map ID=id --map Na-me=name --map ' price=price', or" in told


def test_a_missing_column(refused: Refused, write: Write) -> None:
    told = refused(write("less.csv", "id,name\n3,three\n"), code="SK204")
    assert "only in public.item: price" in told
    assert "--leave-out" in told


def test_columns_that_do_not_meet_at_all(refused: Refused, write: Write) -> None:
    told = refused(write("other.csv", "a,b\n3,three\n"), "--leave-out", "*", code="SK204")
    assert "has no column that public.item has" in told


@pytest.mark.parametrize("policy", ["update", "ignore", "newer", "fill", "error"])
@pytest.mark.parametrize("rows", [3, 700_000])
def test_input_without_the_key(
    refused: Refused,
    write: Write,
    connection: psycopg.Connection,
    policy: str,
    rows: int,
    sqlkit: RunSqlkit,
    dsn: str,
) -> None:
    """Also where the table is empty, and the rows would go straight into it."""
    connection.execute(
        "create table numbered (id bigint generated by default as identity primary key, n integer)"
    )
    path = write("keyless.csv", "n\n" + "\n".join(map(str, range(rows))) + "\n")
    order = ("--order-by", "n") if policy == "newer" else ()
    done = sqlkit(
        "load", path, "--into", "public.numbered", "--policy", policy, *order, "--dsn", dsn
    )
    assert done.returncode == 1
    assert "key columns that the input does not have: id" in done.stderr
    refused.check_nothing_happened("failed", "SK204")
    assert connection.execute("select count(*) from numbered").fetchone() == (0,)


@pytest.mark.parametrize("rows", [3, MANY])
@pytest.mark.parametrize("into_empty", [True, False])
def test_newer_by_a_column_that_is_not_there(
    refused: Refused,
    write: Write,
    sqlkit: RunSqlkit,
    dsn: str,
    connection: psycopg.Connection,
    rows: int,
    into_empty: bool,
) -> None:
    connection.execute("create table hollow (like item including all)")
    into = "public.hollow" if into_empty else "public.item"
    path = write("good.csv", numbered(rows))
    arguments = ("--into", into, "--policy", "newer", "--order-by", "updated_at")
    done = sqlkit("load", path, *arguments, "--dsn", dsn)
    assert done.returncode == 1
    assert "updated_at" in done.stderr
    refused.check_nothing_happened("failed", "SK207")


def test_a_missing_table(refused: Refused, write: Write) -> None:
    path = write("good.csv", numbered(3))
    told = refused(path, "--into", "public.nothing", run=None)
    assert "there is no table public.nothing" in told
    assert "--create" in told


@pytest.mark.parametrize(
    "name", ["a.b.c.d", "no such thing", '"', "", "1st", "a.", "drop table a;"]
)
def test_what_is_no_name_of_a_table(refused: Refused, write: Write, name: str) -> None:
    path = write("good.csv", numbered(3))
    for more in ((), ("--create",)):
        refused(path, "--into", name, *more, run=None, exit_code=2)


@pytest.mark.parametrize("into", [None, 5, "t" * 64, f'public."{"ש" * 32}"'])
def test_what_cannot_be_a_table(into: Any, write: Write, tmp_path: Path, dsn: str) -> None:
    path = tmp_path / write("a.csv", "id\n1\n")
    with api.connect(dsn) as client, pytest.raises(api.UsageError, match="name"):
        client.load(path, into=into, create=True, policy="append")


def test_a_column_whose_name_would_be_cut(refused: Refused, write: Write) -> None:
    long = "n" * 64
    path = write("a.csv", f"id,{long}\n1,a\n")
    arguments = (path, "--into", "public.longer", "--create", "--policy", "append")
    told = refused(*arguments, exit_code=2, run=None)
    assert f"the name {long} has 64 bytes" in told
    assert "--map" in told


def test_columns_with_names_that_rejects_need(
    refused: Refused, write: Write, connection: psycopg.Connection
) -> None:
    connection.execute("create table odd (sqlkit_raw integer primary key, n integer)")
    path = write("a.csv", "sqlkit_raw,n\n1,1\n2,x\n")
    told = refused(path, "--into", "public.odd", "--reject-limit", "1", exit_code=2, code="SK001")
    assert "column sqlkit_raw has a name that is kept" in told
    refused.forget()


def test_a_view(refused: Refused, write: Write, connection: psycopg.Connection) -> None:
    connection.execute("create view item_view as select * from item")
    told = refused(write("good.csv", numbered(3)), "--into", "public.item_view", run=None)
    assert "not a table" in told
    assert "item_view" in told


def test_no_key(refused: Refused, write: Write, connection: psycopg.Connection) -> None:
    connection.execute("create table keyless (id integer, name text, price numeric)")
    told = refused(write("good.csv", numbered(3)), "--into", "public.keyless", run=None)
    assert "needs a key" in told
    assert "keyless" in told
    assert "hint: " in told


def test_a_key_that_is_not_unique(refused: Refused, write: Write) -> None:
    told = refused(write("good.csv", numbered(3)), "--key", "name", run=None)
    assert "no unique index" in told
    assert "name" in told


def test_a_key_that_is_not_there(refused: Refused, write: Write) -> None:
    told = refused(write("good.csv", numbered(3)), "--key", "colour", run=None)
    assert "colour" in told


def test_no_privilege(
    refused: Refused, write: Write, superuser: psycopg.Connection, database: Database
) -> None:
    """A role may have sqlkit and not the table."""
    role = f"reader_{database.name}"
    superuser.execute(f"create role {role} login")
    try:
        superuser.execute(f"grant usage on schema public to {role}")
        superuser.execute(f"grant select on item to {role}")
        path = write("good.csv", numbered(3))
        done = refused._run(
            "load",
            path,
            "--into",
            "public.item",
            "--dsn",
            database.server.dsn(database.name, user=role),
        )
        assert done.returncode == 1
        assert "permission denied" in done.stderr
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr
        refused.check_nothing_happened(None)

        # With all that sqlkit asks for, only the table is missing.
        for statement in (
            "grant usage on schema sqlkit to {0}",
            "grant usage, create on schema sqlkit_stage to {0}",
            "grant select, insert, update, delete on all tables in schema sqlkit to {0}",
            "grant usage on all sequences in schema sqlkit to {0}",
            "grant execute on all functions in schema sqlkit to {0}",
        ):
            superuser.execute(statement.format(role).encode())
        for policy in ("update", "append"):
            superuser.execute("truncate sqlkit.run, sqlkit.source cascade")
            done = refused._run(
                *("load", path, "--into", "public.item", "--policy", policy),
                *("--dsn", database.server.dsn(database.name, user=role)),
            )
            assert done.returncode == 1
            assert "permission denied for table item" in done.stderr
            refused.check_nothing_happened("failed", "42501")
    finally:
        superuser.execute(f"drop owned by {role}")
        superuser.execute(f"drop role {role}")


def test_a_statement_timeout_that_is_too_short(
    refused: Refused, write: Write, connection: psycopg.Connection
) -> None:
    """Whoever set it had a reason: it is heeded, and said how to do without."""
    path = write("good.csv", numbered(3))
    with connection.transaction():
        connection.execute("lock table item in access exclusive mode")
        told = refused(path, run=None, env={"PGOPTIONS": "-c statement_timeout=300ms"})
    assert "statement timeout" in told
    assert "PGOPTIONS='-c statement_timeout=0'" in told


def test_no_schema(sqlkit: RunSqlkit, write: Write, empty_database: Database) -> None:
    path = write("good.csv", numbered(3))
    done = sqlkit("load", path, "--into", "public.item", "--dsn", empty_database.dsn)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "sqlkit up" in done.stderr or "sqlkit migrate" in done.stderr


# Wrong usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "SOURCE"),
        (("good.csv", "--policy", "replace"), "replace"),
        (("good.csv", "--policy", "newer"), "order"),
        (("good.csv", "--order-by", "id"), "order"),
        (("good.csv", "--workers", "0"), "workers"),
        (("good.csv", "--workers", "many"), "--workers"),
        (("good.csv", "--batch-bytes", "0"), "bytes"),
        (("good.csv", "--batch-bytes", "lots"), "lots"),
        (("good.csv", "--format", "xlsx"), "xlsx"),
        (("good.csv", "--delimiter", "ab"), "delimiter"),
        (("good.csv", "--delimiter", "é"), "delimiter"),
        (("good.csv", "--encoding", "klingon"), "klingon"),
        (("good.csv", "--map", "id"), "id"),
        (("good.csv", "--key", "id,,name"), "names"),
        (("good.csv", "--columns", ""), "names"),
        (
            (
                "good.csv",
                "--no-such-option",
            ),
            "--no-such-option",
        ),
        (("-", "-"), "standard input"),
        (("good.csv", "--null", "a,b", "--delimiter", ","), "null"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage(refused: Refused, write: Write, arguments: tuple[str, ...], told: str) -> None:
    write("good.csv", numbered(3))
    assert told.lower() in refused(*arguments, exit_code=2, run=None).lower()


def test_renaming_a_column_that_is_not_there(refused: Refused, write: Write) -> None:
    told = refused(write("good.csv", numbered(3)), "--map", "colour=name", exit_code=2)
    assert "good.csv has no column colour" in told
    assert "id, name, price" in told


def test_loading_a_column_that_is_not_there(refused: Refused, write: Write) -> None:
    path = write("good.jsonl", '{"id": 3, "name": "three"}\n')
    told = refused(path, "--map", "colour=name", exit_code=2)
    assert "colour" in told


def test_errors_as_json(sqlkit: RunSqlkit, target: str, write: Write, dsn: str) -> None:
    path = write("bad.csv", broken_at(3, "7,seven,cheap", 5))
    done = sqlkit("load", path, "--into", target, "--dsn", dsn, "--json")
    assert done.returncode == 4
    found = json.loads(done.stdout)["error"]
    assert found["code"] == "SK301"
    assert "bad.csv, line 3" in found["detail"]


# The server goes --------------------------------------------------------------------------------


def test_no_server(sqlkit: RunSqlkit, write: Write) -> None:
    path = write("good.csv", numbered(3))
    nowhere = "host=127.0.0.1 port=1 dbname=none"
    done = sqlkit("load", path, "--into", "public.item", "--dsn", nowhere, "--retry-for", "0")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "port 1" in done.stderr
    assert "hint: " in done.stderr


def test_a_server_that_never_answers_is_given_up_soon(sqlkit: RunSqlkit, write: Write) -> None:
    path = write("good.csv", numbered(3))
    nowhere = "host=127.0.0.1 port=1 dbname=none"
    done = sqlkit("load", path, "--into", "public.item", "--dsn", nowhere, timeout=60)
    assert done.returncode == 1
    assert "waiting: nothing answers at the server's address" in done.stderr
    assert "port 1" in done.stderr
    assert "sqlkit status" in done.stderr


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Callable[[list[str]], subprocess.Popen[bytes]]]:
    """Starts a load from a pipe that stays open, fed until somebody stops it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(arguments: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "sqlkit.cli.app", "load", "-", *arguments],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)

        def feed() -> None:
            assert process.stdin is not None
            number = 100
            try:
                process.stdin.write(b"id,name,price\n")
                while process.poll() is None:
                    process.stdin.write(numbered(20_000, number).split(b"\n", 1)[1])
                    process.stdin.flush()
                    number += 20_000
                    time.sleep(0.01)
            except (BrokenPipeError, ValueError):
                pass

        threading.Thread(target=feed, daemon=True).start()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    assert process.stderr is not None
    assert process.wait(60) is not None
    return process.returncode, process.stderr.read().decode()


@pytest.mark.parametrize("victim", ["copying", "all"])
def test_a_terminated_session(
    endless: Callable[[list[str]], subprocess.Popen[bytes]],
    target: str,
    database: Database,
    connection: psycopg.Connection,
    victim: str,
) -> None:
    process = endless(["--into", target, "--dsn", database.dsn, "--retry-for", "0"])

    def copying() -> bool:
        return connection.execute(
            "select count(*) > 0 from pg_stat_activity "
            "where datname = current_database() and query ilike 'copy sqlkit_stage%'"
        ).fetchone() == (True,)

    wait_for(copying)
    while process.poll() is None:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() "
            "and backend_type = 'client backend' "
            + ("and query ilike 'copy sqlkit_stage%'" if victim == "copying" else "")
        )
        time.sleep(0.05)
    code, told = ended(process)
    assert code == 1
    assert told.startswith("error: ")
    assert "Traceback" not in told
    assert "hint: " in told
    assert connection.execute("select * from item order by id").fetchall() == BEFORE
    if victim == "copying":
        # The session that keeps the ledger was there to note it, and to clear up.
        assert connection.execute("select state from sqlkit.run").fetchall() == [("failed",)]
        assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)


@pytest.mark.slow
def test_a_server_that_stops(
    endless: Callable[[list[str]], subprocess.Popen[bytes]], own_server: OpenServer
) -> None:
    from sqlkit import migrate

    server = own_server()
    server.create_database("shop")
    dsn = server.dsn("shop")
    migrate.up(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table item (id integer primary key, name text, price numeric)")
        connection.execute("insert into item values (1, 'one', null)")
        process = endless(["--into", "public.item", "--dsn", dsn, "--retry-for", "0"])
        wait_for(
            lambda: (
                connection.execute(
                    "select count(*) > 0 from pg_stat_activity "
                    "where datname = current_database() and query ilike 'copy sqlkit_stage%'"
                ).fetchone()
                == (True,)
            )
        )
    assert server.cluster is not None
    server.cluster.stop("immediate")
    code, told = ended(process)
    assert code == 1
    assert told.startswith("error: ")
    assert "Traceback" not in told
    assert "hint: " in told
    server.cluster.start(server.port)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select * from item").fetchall() == [(1, "one", None)]


def test_the_name_of_a_file_may_be_any_bytes(
    tmp_path: Path, connection: psycopg.Connection, dsn: str
) -> None:
    connection.execute("create table item (id integer primary key, name text)")
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")
    Path(path).write_text("id,name\n1,a\n")
    with api.connect(dsn) as client:
        result = client.load(path, into="public.item")
    assert result.rows == api.RowCounts(read=1, inserted=1)
    assert result.sources[0].name.endswith(r"/\xff.csv")
