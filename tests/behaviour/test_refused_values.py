"""The careful way refuses exactly the values that COPY would refuse, of every type.

What is right is asked of PostgreSQL itself: each value goes to COPY alone.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import sqlkit as api

NUMBERS = [
    *("0", "-0", "1", "+1", " 1 ", "01", "1.", ".5", "-.5", "1.5", "1e3", "1E-3", "1_000", "0x1F"),
    *(
        "NaN",
        "Infinity",
        "-inf",
        "abc",
        "1,5",
        "١",
        "12345",
        "32767",
        "32768",
        "-32768",
        "2147483647",
    ),
    *("2147483648", "-2147483648", "9223372036854775807", "9223372036854775808", "999.994"),
    *("999.995", "99.995", "1e400", "1e-400", "1" * 40, "1.7976931348623159e308", "--1", "", " "),
]
WORDS = [
    *("a", "abc", "abcd", "abc ", "abc  x", "", " ", "שלום", "bad", "ok", "A", "NULL", "\\", "'"),
]
TIMES = [
    *("2024-02-28", "2024-02-29", "2023-02-29", "2024-13-01", "2024-1-1", "20240101", "01/02/2024"),
    *("2024-01-01 10:00", "2024-01-01T10:00:00", "2024-01-01 10:00:00.1234567", "2024-01-01 24:00"),
    *("2024-01-01 25:00", "2024-01-01 10:60", "2024-01-01 10:00:60", "2024-01-01 10:00+02"),
    *("2024-01-01 10:00:00Z", "2024-01-01 10:00+1530", "2024-01-01 10:00+16", "infinity", "now"),
    *("2024-01-01 10:00 Asia/Jerusalem", "2024-01-01 10:00 Nowhere/Land", "10:00", "10:00:61"),
    *("1 day", "1 fortnight", "P1D", "10000000-01-01", "0001-01-01 BC", "2024-04-31", ""),
]
OTHERS = {
    "boolean": [
        "t",
        "f",
        "true",
        "FALSE",
        "yes",
        "n",
        "on",
        "of",
        "off",
        "1",
        "0",
        "2",
        " true ",
        "",
    ],
    "uuid": [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A1",
        "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "",
    ],
    "json": ['{"a": 1}', "{a: 1}", "1", '"\\u0000"', "[1,]", "nul", ""],
    "jsonb": ['{"a": 1}', "{a: 1}", "1", '"\\u0000"', "[1,]", "1e999999", ""],
    "bytea": ["\\x00ff", "\\x0", "\\xzz", "abc", "\\000", "\\9", ""],
    "inet": ["10.0.0.1", "10.0.0.256", "::1", "10.0.0.0/8", "10.0.0.0/99", ""],
    "integer[]": ["{}", "{1,2}", "{1,x}", "1", "{1,{2}}", "{{1},{2}}", "{1,null}", ""],
    "varchar(3)[]": ["{abc}", "{abcd}", "{a,b}", '{"abc  "}'],
    "point": ["(1,2)", "1,2", "(1)", "x", ""],
    "int4range": ["[1,5)", "[5,1)", "empty", "(,)", "[1;5)", ""],
    "bit(3)": ["101", "10", "1010", "12", ""],
    "money": ["1.50", "$1", "abc", ""],
    "tsvector": ["a b", "'a", "a:1A", ""],
    "colour": ["red", "green", "Red", "", " red"],
    "pair": ["(1,x)", "(x,1)", "(1)", "1,x", "(,)", ""],
    "short_word": WORDS,
    "needed": WORDS,
    "checked": WORDS,
    "nested": WORDS,
    "stern": ["1", "0", "abc", "", "5"],
    "small": NUMBERS,
}
TYPES = {
    **dict.fromkeys(
        (
            *("smallint", "integer", "bigint", "numeric", "numeric(5, 2)", "numeric(4, 4)"),
            *("numeric(2, -1)", "real", "double precision"),
        ),
        NUMBERS,
    ),
    **dict.fromkeys(("text", "varchar", "varchar(3)", "char(3)", "char", '"char"', "name"), WORDS),
    **dict.fromkeys(
        ("date", "timestamp", "timestamptz", "timestamp(0)", "time", "timetz", "interval"), TIMES
    ),
    **OTHERS,
}

DEFINITIONS = """
create type colour as enum ('red', 'green');
create type pair as (a integer, b text);
create domain short_word as varchar(3);
create domain needed as text not null;
create domain checked as varchar(4) check (value is not null and value <> 'bad');
create domain nested as checked check (value <> 'ok');
create domain small as numeric(3, 1) check (value < 50);
create domain stern as text check (10 / value::integer > 1);
"""


@pytest.mark.oldest_and_newest
def test_what_copy_refuses_is_refused(
    connection: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    connection.execute(DEFINITIONS.encode())
    wrong: dict[str, object] = {}
    with api.connect(dsn) as client:
        for number, (type_name, values) in enumerate(TYPES.items()):
            try:
                found = differences(connection, client, tmp_path, f"t{number}", type_name, values)
            except api.SqlkitError as error:
                found = [error.message]
            if found:
                wrong[type_name] = found
    assert not wrong


def differences(
    connection: psycopg.Connection,
    client: api.Client,
    folder: Path,
    table: str,
    type_name: str,
    values: list[str],
) -> list[object]:
    """What the load and COPY do not agree about."""
    for name in (table, f"{table}_alone"):
        connection.execute(
            sql.SQL("create table {} (id integer primary key, value {})").format(
                sql.Identifier(name), sql.SQL(type_name)
            )
        )
    # The last two are a null, and one that is bad in any case, so that the careful way is taken.
    lines = [f"{n},{quoted(value)}" for n, value in enumerate(values)]
    lines += [f"{len(values)},", f"no number,{quoted(values[0])}"]
    refused = set()
    for number, line in enumerate(lines):
        try:
            with connection.cursor().copy(
                sql.SQL("copy {} from stdin (format csv)").format(sql.Identifier(f"{table}_alone"))
            ) as copy:
                copy.write(line + "\n")
        except psycopg.Error:
            refused.add(number + 2)

    path = folder / f"{table}.csv"
    path.write_text("id,value\n" + "".join(line + "\n" for line in lines), encoding="utf-8")
    result = client.load(path, into=f"public.{table}", reject_limit=None)
    found = connection.execute(
        "select first_line, raw from sqlkit.reject where run_id = %s", [result.run_id]
    ).fetchall()
    told = {line for line, _ in found}
    wrong: list[object] = [("refused", raw) for line, raw in found if line not in refused]
    wrong += [("not refused", lines[line - 2]) for line in sorted(refused - told)]
    assert result.rows.inserted == len(lines) - len(told)
    # 'now' depends on when it was.
    query = sql.SQL(
        "select o.value::text, a.value::text from {} as o join {} as a using (id) "
        "where o.value::text is distinct from a.value::text and id <> {}"
    ).format(
        sql.Identifier(table),
        sql.Identifier(f"{table}_alone"),
        sql.Literal(values.index("now") if "now" in values else -1),
    )
    return wrong + connection.execute(query).fetchall()


def quoted(value: str) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow([value])
    return text.getvalue()
