"""Tables of many shapes, to hold estimates of bloat to the truth.

Each shape is a table with its indexes, filled with `rows` rows and then changed, vacuumed and
analyzed as databases are. The numbers in them come from hashes: the same every time.
"""

# ruff: noqa: E501 - a table reads best with one shape a line or two

from __future__ import annotations

from dataclasses import dataclass

import psycopg


@dataclass(frozen=True)
class Shape:
    """A table: its columns, what fills it, its indexes, and what happens to it afterwards."""

    name: str
    columns: str
    values: str  # an expression list over i, from 1 to the number of rows
    indexes: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    storage: str = ""
    share: float = 1.0  # of the rows asked for: wide tables need fewer


def _h(n: int) -> str:
    """A number from 0 to 2**31 that depends on i and n and nothing else."""
    return f"(hashint8(i * 7 + {n})::bigint & 2147483647)"


def _text(length: str, n: int = 0) -> str:
    """Text of that many characters which does not compress."""
    return (
        "(select string_agg(md5(i::text || ' ' || k), '') from "
        f"generate_series(1, ({length}) / 32 + 1 + {n} * 0) as k)::text"
    )


DELETE_HALF = "delete from {t} where id % 2 = 0"
DELETE_OLD = "delete from {t} where id <= (select max(id) * 0.7 from {t})"
UPDATE_ALL = "update {t} set id = id"
UPDATE_THIRD = "update {t} set id = id where id % 3 = 0"

SHAPES = (
    Shape("narrow", "id int primary key, v int", f"i, {_h(1)}", ("(v)",)),
    Shape("narrow_half", "id int primary key, v int", f"i, {_h(1)}", ("(v)",), (DELETE_HALF,)),
    Shape("bigints", "id bigint primary key, a bigint, b bigint, c int",
          f"i, {_h(1)}, {_h(2)} % 1000, {_h(3)} % 10", ("(a)", "(b)", "(c)", "(b, c)")),
    Shape("bigints_old", "id bigint primary key, a bigint, b bigint, c int",
          f"i, {_h(1)}, {_h(2)} % 1000, {_h(3)} % 10", ("(a)", "(b)", "(c)"), (DELETE_OLD,)),
    Shape("badly_aligned", "a bool, id bigint primary key, b smallint, c timestamptz, d bool",
          f"i % 2 = 0, i, {_h(1)} % 30000, timestamptz 'epoch' + {_h(2)} * interval '1 s', true",
          ("(c)", "(b)", "(a, c)")),
    Shape("badly_aligned_updated",
          "a bool, id bigint primary key, b smallint, c timestamptz, d bool",
          f"i % 2 = 0, i, {_h(1)} % 30000, timestamptz 'epoch' + {_h(2)} * interval '1 s', true",
          ("(c)", "(b)"), (UPDATE_ALL,)),
    Shape("booleans", "id int primary key, " + ", ".join(f"b{n} bool" for n in range(20)),
          "i, " + ", ".join(f"{_h(n)} % 2 = 0" for n in range(20)), ("(b1)", "(b1, b2, b3)")),
    Shape("numerics", "id int primary key, price numeric(12, 2), rate numeric, paid numeric",
          f"i, {_h(1)} / 100.0, {_h(2)} / 7.0, {_h(3)}", ("(price)", "(rate)")),
    Shape("numerics_updated", "id int primary key, price numeric(12, 2), rate numeric, n numeric",
          f"i, {_h(1)} / 100.0, {_h(2)} / 7.0, {_h(3)}", ("(price)", "(rate)"),
          (UPDATE_THIRD, UPDATE_THIRD, DELETE_HALF)),
    Shape("short_texts", "id int primary key, name text, city text",
          f"i, {_h(1)}::text || ' Street', 'city ' || {_h(2)} % 200", ("(name)", "(city)")),
    Shape("short_texts_half", "id int primary key, name text, city text",
          f"i, {_h(1)}::text || ' Street', 'city ' || {_h(2)} % 200", ("(name)", "(city)"),
          (DELETE_HALF,)),
    Shape("text_then_bigint", "t text, id bigint primary key, u text, n bigint",
          f"left(md5(i::text), ({_h(1)} % 20)::int), i, left(md5(i::text), 3), {_h(2)}",
          ("(t)", "(u, n)")),
    Shape("long_texts", "id int primary key, t text", f"i, left({_text('400')}, 100 + ({_h(1)} % 400)::int)",
          ("(left(t, 20))",), share=0.3),
    Shape("long_texts_updated", "id int primary key, t text",
          f"i, left({_text('400')}, 100 + ({_h(1)} % 400)::int)", ("(left(t, 20))",),
          (UPDATE_ALL, DELETE_HALF), share=0.3),
    Shape("two_to_a_page", "id int primary key, t text", f"i, left({_text('1500')}, 1500)",
          (), (DELETE_HALF,), share=0.1),
    Shape("hebrew", "id int primary key, t text, n int",
          f"i, repeat('שלום ', 1 + ({_h(1)} % 8)::int), {_h(2)}", ("(t)", "(n)")),
    Shape("many_nulls", "id int primary key, " + ", ".join(f"c{n} bigint" for n in range(20)),
          "i, " + ", ".join(f"case when {_h(n)} % 10 = 0 then {_h(n + 50)} end" for n in range(20)),
          ("(c1)", "(c2)", "(c3) where c3 is not null"), share=0.5),
    Shape("many_nulls_updated", "id int primary key, " + ", ".join(f"c{n} text" for n in range(20)),
          "i, " + ", ".join(f"case when {_h(n)} % 10 = 0 then 'value ' || {_h(n + 50)} end" for n in range(20)),
          ("(c1)", "(c2)"), (UPDATE_ALL,), share=0.5),
    Shape("one_nullable", "id int primary key, a bigint, n int",
          f"i, case when i % 3 = 0 then {_h(1)} end, {_h(2)}", ("(a)", "(n, a)")),
    Shape("dates", "id int primary key, d date, e date, p bool",
          f"i, date '2020-01-01' + ({_h(1)} % 1500)::int, date '2020-01-01' + i / 100, i % 7 = 0",
          ("(d)", "(e)", "(id) where p")),
    Shape("dates_half", "id int primary key, d date, e date, p bool",
          f"i, date '2020-01-01' + ({_h(1)} % 1500)::int, date '2020-01-01' + i / 100, i % 7 = 0",
          ("(d)", "(e)", "(id) where p"), (DELETE_HALF,)),
    Shape("uuids", "id int primary key, u uuid, v uuid",
          "i, md5(i::text)::uuid, md5((i / 4)::text)::uuid", ("(u)", "(v)")),
    Shape("uuids_random_inserts", "u uuid primary key, id int", "md5(i::text)::uuid, i",
          ("(id)",), ("insert into {t} select md5((id + 1e7)::text)::uuid, id + 10000000 from {t}",)),
    Shape("skewed", "id int primary key, k int, s text",
          f"i, (1e6 / (1 + {_h(1)} % 100000))::int, 'kind ' || least({_h(2)} % 100, 3)", ("(k)", "(s)")),
    Shape("pairs", "id int primary key, k int", "i, i / 2", ("(k)",)),
    Shape("filled_70", "id int primary key, v bigint", f"i, {_h(1)}", ("(v) with (fillfactor = 50)",),
          storage="with (fillfactor = 70)"),
    Shape("filled_70_updated", "id int primary key, v bigint", f"i, {_h(1)}", ("(v)",),
          (UPDATE_THIRD, DELETE_HALF), storage="with (fillfactor = 70)"),
    Shape("filled_50_text", "id int primary key, t text", f"i, left({_text('90')}, 20 + ({_h(1)} % 60)::int)",
          ("(t) with (fillfactor = 70)",), (DELETE_OLD,), storage="with (fillfactor = 50)"),
    Shape("not_deduplicated", "id int primary key, k int", f"i, {_h(1)} % 50",
          ("(k) with (deduplicate_items = off)",)),
    Shape("included", "id int primary key, k int, v int", f"i, {_h(1)} % 50, {_h(2)}",
          ("(k) include (v)", "(k, v)")),
    Shape("two_columns", "id int primary key, a int, b int", f"i, {_h(1)} % 30, {_h(2)} % 40",
          ("(a, b)", "(b)")),
    Shape("correlated", "id int primary key, a int, b text", f"i, {_h(1)} % 300, 'b' || {_h(1)} % 300",
          ("(a, b)",)),
    Shape("correlated_known", "id int primary key, a int, b text", f"i, {_h(1)} % 300, 'b' || {_h(1)} % 300",
          ("(a, b)",), ("create statistics {t}_s (ndistinct) on a, b from {t}",)),
    Shape("names", "id int primary key, n name, c char(30)", f"i, 'name_' || {_h(1)} % 1000, 'c' || {_h(2)}",
          ("(n)", "(c)")),
    Shape("arrays", "id int primary key, a int[], j jsonb",
          f"i, array[i, i + 1, i + 2], jsonb_build_object('a', i, 'b', {_h(1)})", ("(a)",), share=0.5),
    Shape("arrays_half", "id int primary key, a int[], j jsonb",
          f"i, array[i, i + 1, i + 2], jsonb_build_object('a', i, 'b', {_h(1)})", ("(a)",),
          (DELETE_HALF,), share=0.5),
    Shape("floats", "id int primary key, x float8, y float4", f"i, {_h(1)} % 1000 / 7.0, {_h(2)} % 100",
          ("(x)", "(y)"), (UPDATE_ALL, UPDATE_ALL)),
    Shape("mixed_case", "id int primary key, t text", f"i, 'Value ' || {_h(1)} % 5000",
          ("(lower(t))", "(t)"), (UPDATE_THIRD,)),
    Shape("column_dropped", "id int primary key, old text, v int", f"i, {_text('40')}, {_h(1)}", (),
          ("alter table {t} drop column old",)),
    Shape("churned", "id int primary key, k int, v text", f"i, {_h(1)} % 1000, 'v' || {_h(2)}",
          ("(k)", "(v)"),
          tuple(f"update {{t}} set k = (k * 31 + {n}) % 1000 where id % 4 = {n % 4}; vacuum {{t}}"
                for n in range(6))),
    Shape("queue", "id int primary key, state text, at timestamptz",
          "i, 'new', timestamptz 'epoch' + i * interval '1 s'", ("(state)", "(at)"),
          ("update {t} set state = 'done'; vacuum {t}", DELETE_OLD)),
    Shape("toast_10k", "id int primary key, t text", f"i, {_text('10000')}", share=0.02),
    Shape("toast_10k_half", "id int primary key, t text", f"i, {_text('10000')}", (), (DELETE_HALF,), share=0.02),
    Shape("toast_3k_half", "id int primary key, t text", f"i, left({_text('4000')}, 2100 + ({_h(1)} % 1800)::int)",
          (), (DELETE_HALF,), share=0.05),
    Shape("toast_random", "id int primary key, t text", f"i, left({_text('20000')}, 3000 + ({_h(1)} % 16000)::int)",
          (), (DELETE_OLD,), share=0.02),
    Shape("toast_mixed", "id int primary key, t text", f"i, left({_text('5000')}, ({_h(1)} % 5000)::int)",
          ("(id, left(t, 8))",), (DELETE_HALF,), share=0.05),
)  # fmt: skip


def make(connection: psycopg.Connection, shape: Shape, rows: int) -> None:
    """Make the table of a shape in schema public, and let happen to it what does."""
    count = max(200, int(rows * shape.share))
    execute = connection.execute
    table = shape.name
    execute(f"create table {table} ({shape.columns}) {shape.storage}".encode())
    execute(f"alter table {table} set (autovacuum_enabled = off)".encode())
    for index in shape.indexes:
        execute(f"create index on {table} {index}".encode())
    execute(
        f"insert into {table} select {shape.values} from generate_series(1, {count}) as i".encode()
    )
    _vacuum(connection, table)
    for statements in shape.then:
        for statement in statements.format(t=table).split("; "):
            execute(statement.encode())
    _vacuum(connection, table)


def _vacuum(connection: psycopg.Connection, table: str) -> None:
    # What this session wrote is counted within a second or now; later it would count twice.
    connection.execute(b"select pg_stat_force_next_flush()")
    connection.execute(f"vacuum analyze {table}".encode())
