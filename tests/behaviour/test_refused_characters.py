"""Text that is not in its encoding, or that the database has no room for: rejects, and exact ones.

A record is shown with escapes, and is the very same bytes where it is exported or replayed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit import migrate
from tests.conftest import Database
from tests.servers import Server

HAN = "the character U+6F22, which the database's encoding WIN1255 lacks"

Told = list[tuple[int, str, str, str]]


@contextmanager
def database_in(encoding: str, server: Server) -> Iterator[Database]:
    """A database in an encoding of its own, with table t."""
    name = f"{encoding.lower()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    server.drop_database(name)
    server.run(f"create database {name} encoding '{encoding}' locale 'C' template template0")
    made = Database(name, server)
    migrate.up(made.dsn)
    with made.connect(client_encoding="utf8") as connection:
        connection.execute("create table t (id integer primary key, name text)")
    yield made
    server.drop_database(name)


@pytest.fixture(scope="module")
def hebrew(server: Server) -> Iterator[Database]:
    """A database that knows Hebrew and English, and nothing else; table t."""
    with database_in("WIN1255", server) as made:
        yield made


def rejects_of(connection: psycopg.Connection, run_id: int | None) -> Told:
    return connection.execute(
        "select first_line, sqlstate, raw, message from sqlkit.reject where run_id = %s"
        " and column_name is null order by first_line",
        [run_id],
    ).fetchall()


def load_and_replay(
    made: Database, source: object, *, encoding: str | None = None, into: str = "public.t"
) -> tuple[list[int], Told, list[bytes]]:
    """The ids that were loaded, the rejects, and what they are when exported; replaying those
    that are as they were refuses all of them again."""
    with made.connect(client_encoding="utf8") as connection, api.connect(made.dsn) as client:
        connection.execute(f"truncate {into}".encode())
        result = client.load(
            source,  # type: ignore[arg-type]
            into=into,
            reject_limit=None,
            again=True,
            dialect=api.Dialect(encoding=encoding),
        )
        assert result.run_id is not None
        told = rejects_of(connection, result.run_id)
        assert len(told) == result.rows.rejected
        exported = [file.content for file in client.export_rejects(result.run_id)]
        again = client.replay_rejects(result.run_id, reject_limit=None)
        assert [done.rows for done in again] == [
            api.RowCounts(read=len(told), rejected=len(told))
        ] * len(exported)
        assert rejects_of(connection, again[0].run_id)[0][1:3] == told[0][1:3]
        ids = connection.execute(f"select id from {into} order by id".encode()).fetchall()
        return [number for (number,) in ids], told, exported


def test_a_character_that_the_database_lacks(hebrew: Database, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = b'id,name\n1,"\xd7\x90"\n2,\xe6\xbc\xa2 \\x41\n3,c\n4,\xff\\\n5,\xd7\x91\n'
    path.write_bytes(text)
    ids, told, exported = load_and_replay(hebrew, path)
    assert ids == [1, 3, 5]
    assert told == [
        (3, "22P05", r"2,\u6f22 \x5cx41", HAN),
        (5, "22021", r"4,\xff" + "\\", "bytes that are not utf-8"),
    ]
    lines = text.splitlines(keepends=True)
    assert exported == [lines[0] + lines[2] + lines[4]]


def test_the_same_in_json_is_escaped_as_json(hebrew: Database, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 1, "name": "א"}\n{"id": 2, "name": "\\u6f22"}\n{"id": 3, "name": "😀漢"}\n'
        '{"id": 4, "name": "d"}\n',
        encoding="utf-8",
    )
    ids, told, exported = load_and_replay(hebrew, path)
    assert ids == [1, 4]
    emoji = HAN.replace("6F22", "1F600")
    assert told == [
        (2, "22P05", '{"id": 2, "name": "\\u6f22"}', HAN),
        (3, "22P05", r'{"id": 3, "name": "\ud83d\ude00\u6f22"}', emoji),
    ]
    assert exported == [(told[0][2] + "\n" + told[1][2] + "\n").encode()]
    ids, told, _ = load_and_replay(hebrew, [{"id": 1, "name": "א"}, {"id": 2, "name": "漢"}])
    assert (ids, [code for _, code, *_ in told]) == ([1], ["22P05"])


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize(
    ("encoding", "good", "bad"),
    [
        # What PostgreSQL has and Python has not, and the other way round.
        ("EUC_JP", "\u2460漢", "\u203e"),
        ("EUC_KR", "\u20ac가", "\uac02"),
        ("EUC_JIS_2004", "\uff5e\U0002000b", "\u0122"),
        ("EUC_TW", "漢", "\u05d0"),
    ],
)
def test_an_encoding_of_which_only_the_server_knows_what_it_has(
    encoding: str, good: str, bad: str, server: Server, tmp_path: Path
) -> None:
    text = f"id,name\n1,{good}\n2,{bad}\\x41\n3,c\n4,{good}\n".encode()
    path = tmp_path / "a.csv"
    path.write_bytes(text)
    objects = tmp_path / "a.jsonl"
    objects.write_text(
        f'{{"id": 1, "name": "{good}"}}\n{{"id": 2, "name": "{bad}"}}\n', encoding="utf-8"
    )
    message = f"the character U+{ord(bad):04X}, which the database's encoding {encoding} lacks"
    with database_in(encoding, server) as made:
        ids, told, exported = load_and_replay(made, path)
        assert ids == [1, 3, 4]
        assert told == [(3, "22P05", rf"2,\u{ord(bad):04x}\x5cx41", message)]
        lines = text.splitlines(keepends=True)
        assert exported == [lines[0] + lines[2]]
        ids, told, exported = load_and_replay(made, objects)
        assert ids == [1]
        assert told == [(2, "22P05", rf'{{"id": 2, "name": "\u{ord(bad):04x}"}}', message)]
        ids, told, _ = load_and_replay(made, [{"id": 1, "name": good}, {"id": 2, "name": bad}])
        assert (ids, [code for _, code, *_ in told]) == ([1], ["22P05"])


def test_a_key_that_goes_nowhere_may_hold_anything(hebrew: Database, tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(
        '{"id": 1, "more": "漢"}\n{"id": "one", "more": "漢"}\n{"id": 2, "more": "א"}\n',
        encoding="utf-8",
    )
    with hebrew.connect(client_encoding="utf8") as connection, api.connect(hebrew.dsn) as client:
        connection.execute("truncate t")
        for options in ({}, {"atomic": True}):
            result = client.load(
                path,
                into="public.t",
                reject_limit=None,
                leave_out=["*"],
                again=True,
                **options,  # type: ignore[arg-type]
            )
            assert (result.rows.read, result.rows.rejected) == (3, 1)
            found = connection.execute(
                "select raw, column_name from sqlkit.reject where run_id = %s", [result.run_id]
            ).fetchall()
            assert found == [('{"id": "one", "more": "\\u6f22"}', "id")]


@pytest.mark.parametrize("rows_before", [0, 30_000])
@pytest.mark.parametrize(
    ("encoding", "word", "bad"),
    [
        ("cp1255", "א", b"\xd9\xff"),
        ("shift_jis", "漢", b"\x81\xff"),
        ("utf-16-le", "漢", b"\0\xdc"),
    ],
)
def test_a_byte_that_is_not_in_the_encoding_of_the_file(
    rows_before: int,
    encoding: str,
    word: str,
    bad: bytes,
    connection: psycopg.Connection,
    database: Database,
    tmp_path: Path,
) -> None:
    connection.execute("create table t (id integer primary key, name text)")
    shown = "".join(rf"\x{byte:02x}" for byte in bad)
    before = "".join(f"{number},{word}\n" for number in range(10, 10 + rows_before))
    path = tmp_path / "a.csv"
    path.write_bytes(
        f"id,name\n{before}1,{word}\n2,{word}".encode(encoding)
        + bad
        + f"\n3,{word}\n".encode(encoding)
    )
    ids, told, exported = load_and_replay(database, path, encoding=encoding)
    assert (ids[:2], len(ids)) == ([1, 3], rows_before + 2)
    assert told == [
        (rows_before + 3, "22021", f"2,{word}{shown}", f"bytes that are not {encoding}")
    ]
    # Exported is what the load made of it, in UTF-8, around the bytes that are none.
    assert exported == [b"id,name\n2," + word.encode() + bad + b"\n"]


def test_json_lines_in_another_encoding(
    connection: psycopg.Connection, database: Database, tmp_path: Path
) -> None:
    connection.execute("create table t (id integer primary key, name text)")
    path = tmp_path / "a.jsonl"
    text = '{"id": 1, "name": "é"}\n{"id": 2, "name": "%s"}\n{"id": 3, "name": "ö"}\n'
    path.write_bytes(text.encode("cp1252").replace(b"%s", b"\x81"))
    ids, told, _ = load_and_replay(database, path, encoding="cp1252")
    assert ids == [1, 3]
    assert told == [
        (2, "22021", r'{"id": 2, "name": "\x81"}', "bytes that are not cp1252"),
    ]


def test_a_byte_that_only_the_server_takes_breaks_a_rule_too(
    hebrew: Database, tmp_path: Path
) -> None:
    # In its own encoding the database takes any byte, and Python does not know this one.
    with hebrew.connect() as connection:
        connection.execute("create table ruled (id integer primary key check (id > 0), name text)")
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,name\n1,\xe0\n-1,\xd9\n")
    ids, told, exported = load_and_replay(hebrew, path, encoding="cp1255", into="public.ruled")
    assert ids == [1]
    assert told == [(3, "22021", r"-1,\xd9", "bytes that are not cp1255")]
    assert exported == [b"id,name\n-1,\xd9\n"]
