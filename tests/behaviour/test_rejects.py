"""Rejects: every class of bad row ends in sqlkit.reject with its place and reason, and no other."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sqlkit as api
from tests.conftest import Database, RunSqlkit, environment

TABLES = """
create type colour as enum ('red', 'green');
create domain percent as integer check (value between 0 and 100);
create table maker (id integer primary key);
insert into maker values (1), (2);
create table part (
    id integer primary key,
    name varchar(14) not null,
    price numeric(6, 2) constraint part_price_check check (price > 0),
    colour colour,
    share percent,
    sold date,
    maker integer constraint part_maker_fkey references maker,
    code text constraint part_code_key unique,
    during int4range,
    constraint part_during_excl exclude using gist (during with &&)
);
create function refuse() returns trigger language plpgsql as $$
begin
    if new.name = 'cursed' then
        raise exception 'nobody takes what is cursed';
    elsif new.name = 'haunted' then
        raise exception 'nor what is haunted' using errcode = 'WH013';
    elsif new.name = 'doubtful' then
        raise exception 'nor what is doubtful' using errcode = 'P0013';
    end if;
    return new;
end $$;
create trigger refuse before insert or update on part for each row execute function refuse();
"""
HEADER = "id,name,price,colour,share,sold,maker,code,during\n"


@dataclass(frozen=True)
class Bad:
    """One class of bad row: its record, and what the reject says of it."""

    record: str
    column: str | None
    code: str
    told: str
    lines: int = 1


BAD = {
    "too few fields": Bad("7,short", None, "22P04", "2 fields where there should be 9"),
    "too many fields": Bad("7,a,1,red,5,,1,,,,", None, "22P04", "11 fields"),
    "quotes without sense": Bad('7,"a"b"c",1,red,5,,1,,', None, "22P04", "another quote"),
    "an empty line": Bad("", None, "22P04", "the line is empty"),
    "not in the encoding": Bad("7,\udcff,1,red,5,,1,,", None, "22021", "not utf-8"),
    "a NUL": Bad("7,a\0b,1,red,5,,1,,", None, "22021", "NUL"),
    "no number": Bad("7,a,cheap,red,5,,1,,", "price", "22P02", '"cheap"'),
    "no number on two lines": Bad('7,"a\nb",x,red,5,,1,,', "price", "22P02", '"x"', lines=2),
    "no date": Bad("7,a,1,red,5,2024-02-30,1,,", "sold", "22008", "2024-02-30"),
    "no colour": Bad("7,a,1,blue,5,,1,,", "colour", "22P02", '"blue"'),
    "out of range": Bad("7,a,123456.1,red,5,,1,,", "price", "22003", "overflow"),
    "an id out of range": Bad("9999999999,a,1,red,5,,1,,", "id", "22003", "out of range"),
    "too long": Bad("7,by far too long,1,red,5,,1,,", "name", "22001", "too long"),
    "a null": Bad("7,,1,red,5,,1,,", "name", "23502", "null value"),
    "a check": Bad("7,a,-1,red,5,,1,,", "price", "23514", "part_price_check"),
    "a domain": Bad("7,a,1,red,101,,1,,", "share", "23514", "percent"),
    "a foreign key": Bad("7,a,1,red,5,,3,,", "maker", "23503", "part_maker_fkey"),
    "unique": Bad("7,a,1,red,5,,1,taken,", "code", "23505", "part_code_key"),
    "an exclusion": Bad('7,a,1,red,5,,1,,"[5,15)"', None, "23P01", "part_during_excl"),
    "a trigger": Bad("7,cursed,1,red,5,,1,,", None, "P0001", "nobody takes what is cursed"),
    "a trigger's own code": Bad("7,haunted,1,red,5,,1,,", None, "WH013", "nor what is haunted"),
    "one like PL/pgSQL's": Bad("7,doubtful,1,red,5,,1,,", None, "P0013", "nor what is doubtful"),
}
ABOVE = ['1,"first, of all",1.50,red,5,2024-02-29,1,taken,"[1,10)"', "2,b,2,,,,,,", "3,c,3,,,,,,"]
BELOW = ["4,ד,4,green,100,,2,,", '5,"two\nlines",5,,,,,,', "6,f,6,,,,,,"]

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make("a.csv", records)`` writes a file of parts."""

    def write(name: str, records: list[str], header: str = HEADER) -> Path:
        path = tmp_path / name
        text = header + "".join(record + "\n" for record in records)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return write


@pytest.fixture
def part(database: Database, superuser: psycopg.Connection) -> str:
    """A table that refuses for every reason there is."""
    superuser.execute(TABLES.encode())
    for table in ("part", "maker"):
        superuser.execute(f"grant all on {table} to public".encode())
    return "public.part"


def rejects_of(connection: psycopg.Connection, run_id: int | None) -> list[tuple[object, ...]]:
    return connection.execute(
        "select s.name, j.first_line, j.last_line, j.raw, j.column_name, j.sqlstate, j.message "
        "from sqlkit.reject as j join sqlkit.batch as b using (run_id, batch_id) "
        "join sqlkit.source as s on s.source_id = j.source_id and s.source_id = b.source_id "
        "where j.run_id = %s and j.state = 'open' order by j.first_line",
        [run_id],
    ).fetchall()


def check(found: tuple[object, ...], path: Path, line: int, bad: Bad) -> None:
    """A reject against what is known of its row."""
    name, first, last, raw, column, code, message = found
    shown = bad.record.replace("\udcff", r"\xff").replace("\0", r"\x00")
    assert (name, raw) == (str(path), shown)
    assert (first, last) == (line, line + bad.lines - 1)
    assert (column, code) == (bad.column, bad.code), message
    assert bad.told in str(message)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_kept_and_its_neighbours_are_loaded(
    kind: str, make: Make, part: str, connection: psycopg.Connection, dsn: str
) -> None:
    bad = BAD[kind]
    path = make("parts.csv", [*ABOVE, bad.record, *BELOW])
    with api.connect(dsn) as client:
        result = client.load(path, into=part, reject_limit=1)
    assert (result.rows.read, result.rows.inserted, result.rows.rejected) == (7, 6, 1)
    found = rejects_of(connection, result.run_id)
    assert len(found) == 1
    check(found[0], path, 5, bad)
    ids = connection.execute("select array_agg(id order by id), max(name) from part").fetchone()
    assert ids is not None
    assert ids[0] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("options", [{}, {"batch_bytes": 10}, {"policy": "append", "workers": 3}])
def test_a_quote_that_is_never_closed_costs_one_line(
    options: dict[str, Any], make: Make, part: str, connection: psycopg.Connection, dsn: str
) -> None:
    bad = '7,"open,1,red,5,,1,,'
    path = make("parts.csv", [*ABOVE, bad, "8,a,1,,,,,,", "9,b,1,,,,,,"])
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError) as caught:
            client.load(path, into=part, **options)
        assert "line 5: a quote is opened and never closed" in (caught.value.detail or "")
        result = client.load(path, into=part, reject_limit=1, **options)
    assert result.rows.rejected == 1
    assert [row[1:] for row in rejects_of(connection, result.run_id)] == [
        (5, 5, bad, None, "22P04", "a quote is opened and never closed")
    ]
    ids = connection.execute("select array_agg(id order by id) from part").fetchone()
    assert ids == ([1, 2, 3, 8, 9],)


@pytest.mark.parametrize("options", [{}, {"batch_bytes": 10}, {"policy": "append", "workers": 3}])
@pytest.mark.parametrize(
    ("opened", "closing", "name"),
    [
        ('7,"open,1,,,,,,', '9,5" pipe,1,,,,,,', '5" pipe'),
        ('7,a,"1,,,,,,', '9,"b",1,,,,,,', "b"),
        ('7,a,1,,,,,"open,', '"9","b","1",,,,,,', "b"),
    ],
)
def test_a_quote_that_another_one_closes_swallows_no_lines(
    opened: str,
    closing: str,
    name: str,
    options: dict[str, Any],
    make: Make,
    part: str,
    connection: psycopg.Connection,
    dsn: str,
) -> None:
    path = make("parts.csv", [*ABOVE, opened, "8,a,1,,,,,,", closing, "10,c,1,,,,,,"])
    with api.connect(dsn) as client:
        if not options:
            with pytest.raises(api.RejectLimitError) as caught:
                client.load(path, into=part)
            assert f"{path}, line 5: a quote is opened" in (caught.value.detail or "")
        result = client.load(path, into=part, reject_limit=1, **options)
    assert (result.rows.inserted, result.rows.rejected) == (6, 1)
    ((_, first, last, raw, _, code, message),) = rejects_of(connection, result.run_id)
    assert (first, last, raw, code) == (5, 5, opened, "22P04")
    assert "a quote is opened" in str(message)
    found = connection.execute("select id, name from part where id > 6 order by id").fetchall()
    assert found == [(8, "a"), (9, name), (10, "c")]


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("policy", ["update", "append"])
def test_all_of_them_at_once(
    policy: str, make: Make, part: str, connection: psycopg.Connection, dsn: str
) -> None:
    # Rows 10, 11, ... stand between the bad ones, so that each of these has two good neighbours.
    records = [*ABOVE]
    lines = {}
    for number, (kind, bad) in enumerate(BAD.items(), start=10):
        lines[2 + sum(record.count("\n") + 1 for record in records)] = kind
        records += [bad.record.replace("7,", f"{number + 100},", 1), f"{number},good,1,,,,,,"]
    path = make("parts.csv", [*records, *BELOW])
    good = 6 + len(BAD)
    with api.connect(dsn) as client:
        for limit in (0, len(BAD) - 1):
            with pytest.raises(api.RejectLimitError) as raised:
                client.load(path, into=part, policy=policy, reject_limit=limit)
            assert str(raised.value).startswith(f"{len(BAD)} rows were refused")
            told = connection.execute(
                "select first_line, column_name, sqlstate from sqlkit.reject "
                "where batch_id is null order by first_line"
            ).fetchall()
            assert told == [
                (line, BAD[kind].column, BAD[kind].code) for line, kind in lines.items()
            ]
            assert connection.execute("select count(*) from part").fetchone() == (0,)
        result = client.load(path, into=part, policy=policy, reject_limit=len(BAD))
    assert (result.rows.inserted, result.rows.rejected) == (good, len(BAD))
    found = rejects_of(connection, result.run_id)
    assert [line for _, line, *_ in found] == list(lines)
    for reject, kind in zip(found, lines.values(), strict=True):
        assert (reject[4], reject[5]) == (BAD[kind].column, BAD[kind].code)
    assert connection.execute("select count(*) from part").fetchone() == (good,)


def test_many_bad_rows_among_more_good_ones(
    make: Make,
    part: str,
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    dsn: str,
) -> None:
    """Several pieces and batches, screened: what is refused is what should be, and in its place."""
    superuser.execute("drop trigger refuse on part")
    bad = ["{},a,cheap,red,5,,1,,", "{},,1,red,5,,1,,", "{},a,-1,red,5,,1,,", "{},a,1,red,5,,3,,"]
    good = ["{},good,1.5,red,5,2024-02-28,1,,", '{},"go""od",,,,,,,', "{},ok,2,green,,,2,,"]
    records, lines = [], []
    for number in range(20_000):
        if number % 97 == 96:
            lines.append(number + 2)
            records.append(bad[number % 4].format(number))
        else:
            records.append(good[number % 3].format(number))
    path = make("parts.csv", records)
    with api.connect(dsn) as client:
        result = client.load(path, into=part, reject_share=0.02, reject_limit=None)
        assert result.rows.rejected == len(lines)
        assert [row[1:4] for row in rejects_of(connection, result.run_id)] == [
            (line, line, records[line - 2]) for line in lines
        ]
        again = client.load(
            path, into=part, reject_limit=None, again=True, batch_bytes=100_000, workers=3
        )
        assert again.batches > 3
        assert (again.rows.unchanged, again.rows.rejected) == (result.rows.inserted, len(lines))
        superuser.execute("truncate part")
        superuser.execute("alter table part drop constraint part_during_excl")
        appended = client.load(path, into=part, policy="append", reject_limit=None, again=True)
        assert (appended.rows.inserted, appended.rows.rejected) == (
            result.rows.inserted,
            len(lines),
        )
        assert appended.batches < 5


def test_json_lines(tmp_path: Path, part: str, connection: psycopg.Connection, dsn: str) -> None:
    records = [
        '{"id": 1, "name": "a", "price": 1.50}',
        "",
        '{"id": 2, "name": "b", "price": "cheap"}',
        '{"id": 3, "name": "c"',
        "[4]",
        '{"id": 5, "name": "e", "price": -1}',
        '{"id": 6, "name": "\\u0000"}',
        '{"id": 7, "name": null}',
        '{"id": 8, "name": "ה", "price": null, "maker": 1}',
    ]
    path = tmp_path / "parts.jsonl"
    path.write_text("".join(record + "\n" for record in records * 300), encoding="utf-8")
    with api.connect(dsn) as client:
        result = client.load(path, into=part, reject_limit=None, leave_out=["*"])
    assert result.rows.read == 8 * 300
    assert result.rows.rejected == 6 * 300
    found = rejects_of(connection, result.run_id)
    assert [(line, raw, column, code) for _, line, _, raw, column, code, _ in found[-6:]] == [
        (2694, records[2], "price", "22P02"),
        (2695, records[3], None, "22P04"),
        (2696, records[4], None, "22P04"),
        (2697, records[5], "price", "23514"),
        (2698, records[6], None, "22P05"),
        (2699, records[7], "name", "23502"),
    ]
    assert connection.execute("select id from part order by id").fetchall() == [(1,), (8,)]


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("policy", ["update", "append"])
def test_all_of_them_at_once_in_json(
    policy: str, tmp_path: Path, part: str, connection: psycopg.Connection, dsn: str
) -> None:
    """The same rows in JSON, between good ones; of the malformed ones, what JSON has for them."""
    names = HEADER.strip().split(",")
    bad: list[tuple[str, str | None, str]] = [
        ('{"id": 7, "name": "a"', None, "22P04"),
        ('{"id": 7, "name": "a",}', None, "22P04"),
        ('[7, "a"]', None, "22P04"),
        ('{"id": 7, "name": "\udcff"}', None, "22021"),
        ('{"id": 7, "name": "\\u0000"}', None, "22P05"),
    ]
    for row in BAD.values():
        if row.code not in ("22P04", "22021"):
            (fields,) = csv.reader([row.record], strict=True) if row.lines == 1 else [[]]
            if fields:
                record = {name: value or None for name, value in zip(names, fields, strict=True)}
                bad.append((json.dumps(record), row.column, row.code))
    lines = [json.dumps(dict(zip(names, next(csv.reader([text])), strict=True))) for text in ABOVE]
    lines = [line.replace('""', "null") for line in lines]
    for number, (text, *_) in enumerate(bad, start=10):
        text = text.replace('"id": "7"', f'"id": "{number + 100}"')
        lines += [text, f'{{"id": {number}, "name": "good"}}']
    path = tmp_path / "parts.jsonl"
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError) as raised:
            client.load(path, into=part, policy=policy, reject_limit=len(bad) - 1)
        assert str(raised.value).startswith(f"{len(bad)} rows were refused")
        assert connection.execute("select count(*) from part").fetchone() == (0,)
        result = client.load(path, into=part, policy=policy, reject_limit=len(bad))
    assert (result.rows.inserted, result.rows.rejected) == (3 + len(bad), len(bad))
    found = [
        (line, column, code)
        for _, line, _, _, column, code, _ in rejects_of(connection, result.run_id)
    ]
    assert found == [(4 + 2 * number, column, code) for number, (_, column, code) in enumerate(bad)]


def test_standard_input(
    make: Make, part: str, sqlkit: RunSqlkit, connection: psycopg.Connection, dsn: str
) -> None:
    bad = [BAD[kind].record for kind in ("no number", "a check", "unique")]
    text = make("parts.csv", [*ABOVE, *bad, *BELOW]).read_bytes()
    command = ("load", "-", "--into", part, "--dsn", dsn, "--reject-limit", "3", "--json")
    done = sqlkit(*command, input=text)
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"]["inserted"], result["rows"]["rejected"]) == (6, 3)
    found = rejects_of(connection, result["run_id"])
    assert [(name, line, raw) for name, line, _, raw, *_ in found] == [
        ("-", 5, bad[0]), ("-", 6, bad[1]), ("-", 7, bad[2])
    ]  # fmt: skip
    # It is loaded whenever it is given.
    again = json.loads(sqlkit(*command, input=text).stdout)
    assert (again["rows"]["unchanged"], again["rows"]["rejected"]) == (6, 3)


# Limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "exit_code"), [(None, 4), ("2", 4), ("3", 3), ("20%", 4), ("30%", 3)]
)
def test_limits_and_exit_codes(
    limit: str | None,
    exit_code: int,
    make: Make,
    part: str,
    sqlkit: RunSqlkit,
    connection: psycopg.Connection,
    dsn: str,
) -> None:
    bad = [BAD[kind].record for kind in ("no number", "a check", "unique")]
    path = make("parts.csv", [*ABOVE, *bad, *BELOW, "20,g,1,,,,,,", "21,h,1,,,,,,"])
    options = () if limit is None else ("--reject-limit", limit)
    done = sqlkit("load", path, "--into", part, "--dsn", dsn, *options)
    assert done.returncode == exit_code, done.stderr
    rows = connection.execute("select count(*) from part").fetchone()
    if exit_code == 3:
        assert rows == (8,)
        return
    assert rows == (0,)
    for line, kind in ((5, "no number"), (6, "a check"), (7, "unique")):
        assert f"parts.csv, line {line}: column {BAD[kind].column}: " in done.stderr
        assert BAD[kind].record in done.stderr
    assert "3 rows were refused" in done.stderr


def test_the_limit_is_of_the_run(make: Make, part: str, dsn: str) -> None:
    """Two files with two bad rows each are four bad rows."""
    paths = [
        make(f"{name}.csv", [f"{name}1,a,x,,,,,,", f"{name}2,a,x,,,,,,", f"{name}3,a,1,,,,,,"])
        for name in ("1", "2")
    ]
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError):
            client.load(paths, into=part, reject_limit=3)
        result = client.load(paths, into=part, reject_limit=4)
    # The first file was committed before the second passed the limit.
    assert (result.rows.read, result.rows.rejected) == (3, 2)


# What is done with them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"batch_bytes": 10}, {"policy": "append", "workers": 3}, {"careful": True}]
)
def test_what_copy_is_given_otherwise_is_told_as_it_stood(
    options: dict[str, Any],
    part: str,
    superuser: psycopg.Connection,
    sqlkit: RunSqlkit,
    dsn: str,
    tmp_path: Path,
) -> None:
    bad = [
        b'7,5" pipe,cheap,,,,,,',
        b'8,6" pipe,-1,,,,,,',
        b'9,"7"" long" pipe,1,,,,3,,',
        b'10,8" pipe',
        b"11,a\rb,-1,,,,,,",
        b'12,"c\nd"" e",-1,,,,,,',
    ]
    ends = (b"\n", b"\r\n", b"\n")
    good = b'%d,"quite" good,1,,,,,,%b'
    lines = [good % (n, ends[n % 3]) + bad[n] + ends[n % 2] for n in range(len(bad))]
    (tmp_path / "parts.csv").write_bytes(HEADER.encode() + b"".join(lines))
    if options.pop("careful", False):  # row by row, since nobody knows what a trigger refuses
        superuser.execute(
            "create trigger again before insert on part for each row execute function refuse()"
        )
    with api.connect(dsn) as client:
        result = client.load(tmp_path / "parts.csv", into=part, reject_limit=None, **options)
    assert (result.rows.inserted, result.rows.rejected) == (len(bad), len(bad))
    assert [row[1:4] for row in rejects_of(superuser, result.run_id)] == [
        *((3 + 2 * n, 3 + 2 * n, text.decode()) for n, text in enumerate(bad[:-1])),
        (13, 14, bad[-1].decode()),
    ]
    done = sqlkit("rejects", "export", str(result.run_id), "mend.csv", "--dsn", dsn)
    assert done.returncode == 0, done.stderr
    exported = (tmp_path / "mend.csv").read_bytes()
    assert exported == HEADER.encode() + b"".join(text + b"\n" for text in bad)


def test_list_export_mend_and_load(
    make: Make,
    part: str,
    sqlkit: RunSqlkit,
    connection: psycopg.Connection,
    dsn: str,
    tmp_path: Path,
) -> None:
    bad = ["7,a,cheap,red,5,,1,,", '8,"b\nb",cheap,red,5,,1,,', "9,c,-1,red,5,,1,,"]
    path = make("parts.csv", ["1,a,1,,,,,,", "2,b,2,,,,,,", "3,c,3,,,,,,", *bad])
    path.write_text(path.read_text().replace(",", ";"))
    loaded = sqlkit("load", path, "--into", part, "--dsn", dsn, "--reject-limit", "3", "--json")
    assert loaded.returncode == 3, loaded.stderr
    run = json.loads(loaded.stdout)["run_id"]
    listed = sqlkit("rejects", str(run), "--dsn", dsn)
    assert f"run {run}, public.part: 2 open: 22P02 column price: " in listed.stdout
    assert f"run {run}, public.part: 1 open: 23514 column price: " in listed.stdout
    one_by_one = json.loads(sqlkit("rejects", "list", "--rows", "--json", "--dsn", dsn).stdout)
    assert [reject["first_line"] for reject in one_by_one] == [5, 6, 8]
    exported = sqlkit("rejects", "export", str(run), "mend.csv", "--dsn", dsn)
    assert exported.returncode == 0, exported.stderr
    mend = tmp_path / "mend.csv"
    assert mend.read_text().split("\n", 1)[0] == HEADER.strip().replace(",", ";")
    mend.write_text(mend.read_text().replace("cheap", "0.5").replace("-1", "1"))
    done = sqlkit("load", "mend.csv", "--into", part, "--dsn", dsn)
    assert done.returncode == 0, done.stderr
    names = connection.execute("select id, name, price::text from part where id > 6 order by id")
    assert names.fetchall() == [(7, "a", "0.50"), (8, "b\nb", "0.50"), (9, "c", "1.00")]


@pytest.mark.parametrize(
    ("header", "line_end", "mark"),
    [
        (True, "\r\n", b""),
        (False, "\n", b""),
        (True, "\n", b"\xef\xbb\xbf"),
        (False, "\r\n", b"\xef\xbb\xbf"),
        (True, "\r", b""),
    ],
)
def test_an_export_is_as_the_input_is(
    header: bool,
    line_end: str,
    mark: bytes,
    part: str,
    connection: psycopg.Connection,
    dsn: str,
    tmp_path: Path,
) -> None:
    """With its header or without, its line ends and its byte order mark: loaded as it was."""
    records = ["1,a,1,,,,,,", "2,ש,cheap,,,,,,", "3,c,3", "4,d,-1,,,,,,"]
    first = [HEADER.strip()] if header else []
    path = tmp_path / "parts.csv"
    text = line_end.join([*first, *records, ""])
    path.write_bytes(mark + text.encode())
    names = HEADER.strip().split(",")
    how: dict[str, Any] = (
        {} if header else {"dialect": api.Dialect(header=False, columns=tuple(names))}
    )
    with api.connect(dsn) as client:
        result = client.load(path, into=part, reject_limit=3, **how)
        assert (result.rows.inserted, result.rows.rejected) == (1, 3)
        (file,) = client.export_rejects(result.run_id or 0)
        assert file.content == mark + line_end.join([*first, *records[1:], ""]).encode()
        mended = tmp_path / "mended.csv"
        mended.write_bytes(file.content.replace(b"cheap", b"1").replace(b"3,c,3", b"3,c,3,,,,,,"))
        again = client.load(mended, into=part, reject_limit=1, **how)
        assert (again.rows.inserted, again.rows.rejected) == (2, 1)
        (replayed,) = client.replay_rejects(
            result.run_id or 0, edit_sql="replace(replace(raw, 'cheap', '1'), '-1', '1')"
        )
        assert (replayed.rows.read, replayed.rows.rejected) == (3, 1)
    assert connection.execute("select array_agg(id order by id) from part").fetchone() == (
        [1, 2, 3, 4],
    )


def test_replays_at_once_load_each_reject_once(
    make: Make, connection: psycopg.Connection, dsn: str
) -> None:
    connection.execute("create table noted (id integer, name text)")
    path = make("noted.csv", [f"q{n},{n}" for n in range(20)], header="id,name\n")
    with api.connect(dsn) as client:
        run = client.load(path, into="public.noted", policy="append", reject_limit=None).run_id
    assert run is not None

    def replay(edit: str) -> int:
        with api.connect(dsn) as client:
            return sum(r.rows.inserted for r in client.replay_rejects(run, edit_sql=edit))

    edits = ["replace(raw, 'q', '')", "ltrim(raw, 'q')", "substr(raw, 2) || 'x'"]
    with ThreadPoolExecutor(len(edits)) as pool:
        replays = [pool.submit(replay, edit) for edit in edits]
    refused = [error for r in replays if (error := r.exception()) is not None]
    assert all(isinstance(e, api.SqlkitError) and e.code == "SK406" for e in refused), refused
    assert [r.result() for r in replays if r.exception() is None and r.result()] == [20]
    assert connection.execute("select count(*) from noted").fetchone() == (20,)


def test_rejects_of_a_batch_that_was_not_loaded_come_with_it(
    make: Make, part: str, superuser: psycopg.Connection, dsn: str
) -> None:
    path = make("parts.csv", [*ABOVE, "7,a,1,red,5,,3,,"])
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError):
            client.load(path, into=part)
        superuser.execute("insert into maker values (3)")
        (run,) = superuser.execute("select max(run_id) from sqlkit.run").fetchone() or (0,)
        with pytest.raises(api.SqlkitError, match="a batch that was not loaded") as caught:
            client.replay_rejects(run)
        assert caught.value.code == "SK406"
        result = client.load(path, into=part)
    assert result.rows.inserted == len(ABOVE) + 1


def test_replay_and_dismiss(
    make: Make, part: str, sqlkit: RunSqlkit, superuser: psycopg.Connection, dsn: str
) -> None:
    bad = ["7,a,1,red,5,,3,,", "8,b,cheap,red,5,,1,,", "9,c,-1,red,5,,1,,"]
    path = make("parts.csv", [*ABOVE, *bad])
    with api.connect(dsn) as client:
        run = client.load(path, into=part, reject_limit=None).run_id
    superuser.execute("insert into maker values (3)")
    again = sqlkit("rejects", "replay", str(run), "--dsn", dsn, "--json")
    assert again.returncode == 3, again.stderr
    result = json.loads(again.stdout)[0]
    assert result["run_id"] != run
    assert (result["rows"]["inserted"], result["rows"]["rejected"]) == (1, 2)
    found = superuser.execute(
        "select state, settled_by_run_id from sqlkit.reject where run_id = %s", [run]
    )
    assert found.fetchall() == [("replayed", result["run_id"])] * 3
    late = sqlkit("rejects", "replay", str(run), "--dsn", dsn)
    assert (late.returncode, late.stdout) == (
        0,
        f"nothing to replay: run {run} has no open rejects; they were replayed by run "
        f"{result['run_id']}, which has those that were refused again\n",
    )
    late = sqlkit("rejects", "dismiss", str(run), "--dsn", dsn)
    assert late.stdout.startswith(f"0 dismissed: run {run} has no open rejects; they were")
    wrong = sqlkit(
        *("rejects", "replay", str(result["run_id"]), "--dsn", dsn, "--edit-sql", "replace(raw,")
    )
    assert wrong.returncode == 2
    assert "the edit of the rejects cannot be run: syntax error" in wrong.stderr
    assert "replace(raw, 'N/A', '')" in wrong.stderr
    edited = sqlkit(
        *("rejects", "replay", str(result["run_id"]), "--dsn", dsn, "--json"),
        # A percent sign and a comment are SQL like any other.
        *(
            "--edit-sql",
            "case when raw like '%cheap%' then replace(raw, 'cheap', '0.5') else raw end -- so",
        ),
    )
    assert edited.returncode == 3, edited.stderr
    last = json.loads(edited.stdout)[0]
    assert (last["rows"]["inserted"], last["rows"]["rejected"]) == (1, 1)
    dismissed = sqlkit("rejects", "dismiss", str(last["run_id"]), "--dsn", dsn)
    assert dismissed.stdout == "1 dismissed\n"
    left = superuser.execute("select count(*) from sqlkit.reject where state = 'open'").fetchone()
    assert left == (0,)
    assert superuser.execute("select array_agg(id order by id) from part").fetchone() == (
        [1, 2, 3, 7, 8],
    )


def test_replay_once_more_after_it_was_too_early(
    make: Make, part: str, superuser: psycopg.Connection, dsn: str
) -> None:
    """The same text was read before and refused: that does not make it loaded."""
    path = make("parts.csv", [*ABOVE, "7,a,1,red,5,,3,,"])
    with api.connect(dsn) as client:
        run = client.load(path, into=part, reject_limit=None).run_id
        assert run is not None
        (early,) = client.replay_rejects(run)
        assert early.rows == api.RowCounts(read=1, rejected=1)
        assert early.sources[0].name == f"rejects of run {run}"
        superuser.execute("insert into maker values (3)")
        assert early.run_id is not None
        (late,) = client.replay_rejects(early.run_id)
        assert late.rows == api.RowCounts(read=1, inserted=1)
    assert superuser.execute("select count(*) from part where id = 7").fetchone() == (1,)
    left = superuser.execute("select count(*) from sqlkit.reject where state = 'open'").fetchone()
    assert left == (0,)


def test_what_a_terminal_would_obey_is_shown_as_text(
    make: Make, part: str, sqlkit: RunSqlkit, dsn: str
) -> None:
    path = make("parts.csv", ["7,a,1\x1b[2J,red,5,,1,,"])
    refused = sqlkit("load", path, "--into", part, "--dsn", dsn)
    assert refused.returncode == 4
    listed = sqlkit("rejects", "--dsn", dsn)
    for told in (refused.stderr, listed.stdout):
        assert r"1\x1b[2J" in told
        assert "\x1b" not in told


@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("policy", ["append", "update", "ignore", "fill"])
def test_what_a_row_policy_refuses(
    policy: str, superuser: psycopg.Connection, database: Database, tmp_path: Path
) -> None:
    role = f"tenant_{database.name}"
    superuser.execute(
        f"""
        create role {role} login;
        grant usage on schema sqlkit to {role};
        grant execute on all routines in schema sqlkit to {role};
        grant usage, create on schema sqlkit_stage to {role};
        grant all on all tables in schema sqlkit to {role};
        grant all on all sequences in schema sqlkit to {role};
        create table public.rented (id integer primary key, tenant text, price integer);
        insert into public.rented values (1, 'other', 1);
        grant select, insert, update on public.rented to {role};
        alter table public.rented enable row level security;
        create policy own on public.rented using (tenant = 'own');
        """.encode()
    )
    path = tmp_path / "a.csv"
    # The first is there, and hidden.
    path.write_text("id,tenant,price\n1,own,2\n2,own,2\n3,other,2\n4,own,2\n")
    try:
        with api.connect(database.server.dsn(database.name, user=role)) as client:
            with pytest.raises(api.RejectLimitError, match="2 rows were refused"):
                client.load(path, into="public.rented", policy=policy)
            result = client.load(path, into="public.rented", policy=policy, reject_limit=2)
            assert result.rows == api.RowCounts(read=4, inserted=2, rejected=2)
            # What is not missing for one is missing for all.
            superuser.execute(f"revoke insert on public.rented from {role}".encode())
            with pytest.raises(api.SqlkitError, match="permission denied for table rented"):
                client.load(path, into="public.rented", policy=policy, reject_limit=9, again=True)
        refused = superuser.execute(
            "select first_line, sqlstate from sqlkit.reject where run_id = %s order by 1",
            [result.run_id],
        ).fetchall()
        assert refused == [(2, "23505"), (4, "42501")]
    finally:
        superuser.execute(f"drop owned by {role} cascade; drop role {role}".encode())


def test_what_a_trigger_denies(
    superuser: psycopg.Connection, database: Database, dsn: str, tmp_path: Path
) -> None:
    superuser.execute(
        f"""
        create table public.held (id integer primary key, price integer);
        grant select, insert, update on public.held to "{database.user}";
        create function public.deny() returns trigger language plpgsql as $$ begin
            if new.price > 100 then
                raise insufficient_privilege using message = 'not for you';
            end if;
            return new;
        end $$;
        create trigger deny before insert on public.held for each row execute function deny();
        """.encode()
    )
    path = tmp_path / "a.csv"
    path.write_text("id,price\n1,2\n2,200\n3,2\n")
    with api.connect(dsn) as client:
        with pytest.raises(api.RejectLimitError, match="1 row was refused") as caught:
            client.load(path, into="public.held")
        assert "not for you" in str(caught.value.detail)
        assert "lacks" in str(caught.value.hint)
        result = client.load(path, into="public.held", reject_limit=1)
    assert result.rows == api.RowCounts(read=3, inserted=2, rejected=1)


def test_rejects_that_were_opened_again_are_loaded_again(
    make: Make, connection: psycopg.Connection, superuser: psycopg.Connection, dsn: str
) -> None:
    """What was replayed once may be undone, in the table and in the ledger."""
    connection.execute("create table noted (id integer primary key)")
    path = make("noted.csv", ["1", "x2"], header="id\n")
    with api.connect(dsn) as client:
        run = client.load(path, into="public.noted", reject_limit=None).run_id
        assert run is not None
        for _ in range(2):
            (result,) = client.replay_rejects(run, edit_sql="ltrim(raw, 'x')")
            assert result.rows == api.RowCounts(read=1, inserted=1)
            connection.execute("delete from noted where id = 2")
            superuser.execute("update sqlkit.reject set state = 'open', settled_at = null")


def test_rejects_that_change_while_they_are_replayed(
    make: Make, connection: psycopg.Connection, database: Database, dsn: str
) -> None:
    """Somebody mends the text of one that was read already: nothing is loaded, and it is told."""
    connection.execute("create table noted (id integer primary key)")
    path = make("noted.csv", ["x1", "x2"], header="id\n")
    with api.connect(dsn) as client:
        run = client.load(path, into="public.noted", reject_limit=None).run_id
        assert run is not None
        with database.connect() as other, ThreadPoolExecutor(1) as pool:
            with other.transaction():
                other.execute("update sqlkit.reject set raw = '22' where raw = 'x2'")
                replay = pool.submit(client.replay_rejects, run)
                while not other.execute(
                    "select 1 from pg_locks where not granted and locktype = 'transactionid'"
                ).fetchone():
                    assert not replay.done()
            error = replay.exception()
        assert isinstance(error, api.SqlkitError)
        assert error.code == "SK406"
        (result,) = client.replay_rejects(run, edit_sql="ltrim(raw, 'x')")
        assert result.rows == api.RowCounts(read=2, inserted=2)
    assert connection.execute("select id from noted order by id").fetchall() == [(1,), (22,)]


@pytest.mark.parametrize(
    ("columns", "text", "options"),
    [
        ("more jsonb", "id,a\n1,b\nx2,c\n", {"discard": "more"}),
        ("a text", "id,a\n1,b\nx2,c\n", {"schema": "freeze"}),
        ("more jsonb", '{"id": 1, "a": 2}\n{"id": "x2", "a": 3}\n', {"discard": "more"}),
        (None, '{"id": 1}\n{"id": "x2"}\n', {"raw": True}),
        (None, "id,a\n1,b\nx2,c\n", {"raw": True}),
    ],
    ids=str,
)
def test_they_are_replayed_as_they_were_loaded(
    columns: str | None,
    text: str,
    options: dict[str, Any],
    superuser: psycopg.Connection,
    database: Database,
    dsn: str,
    tmp_path: Path,
) -> None:
    if columns is None:
        superuser.execute("select sqlkit.create_raw_table('public.noted')")
        superuser.execute("alter table noted add check (raw_data ->> 'id' !~ 'x')")
    else:
        superuser.execute(f"create table noted (id integer primary key, {columns})".encode())
    superuser.execute(f'grant all on noted to "{database.user}"'.encode())
    path = tmp_path / "noted"
    path.write_text(text)
    with api.connect(dsn) as client:
        run = client.load(path, into="public.noted", reject_limit=None, **options).run_id
        assert run is not None
        (result,) = client.replay_rejects(run, edit_sql="replace(raw, 'x', '')")
    assert result.rows == api.RowCounts(read=1, inserted=1)


def test_an_export_is_whole_or_not_there(
    make: Make, connection: psycopg.Connection, sqlkit: RunSqlkit, dsn: str, tmp_path: Path
) -> None:
    """Half of one would be mended and loaded, and the rest dismissed with it."""
    connection.execute("create table noted (id integer primary key)")
    path = make("noted.csv", ["x1" * 5000, "x2"], header="id\n")
    with api.connect(dsn) as client:
        run = client.load(path, into="public.noted", reject_limit=None).run_id
    limited = {"SQLKIT_DSN": dsn}
    (tmp_path / "limit.py").write_text(
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from sqlkit.cli.app import main\n"
        f"sys.argv = ['sqlkit', 'rejects', 'export', '{run}', 'mend.csv']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "limit.py"],
        cwd=tmp_path,
        env=environment() | limited,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "error: File too large\n")
    assert [file.name for file in tmp_path.glob("mend*")] == []
    whole = sqlkit("rejects", "export", str(run), "mend.csv", env=limited)
    assert whole.returncode == 0, whole.stderr
    again = sqlkit("rejects", "export", str(run), "mend.csv", env=limited)
    assert again.returncode == 1
    assert "mend.csv is there already" in again.stderr
    assert [file.name for file in tmp_path.glob("mend*")] == ["mend.csv"]
