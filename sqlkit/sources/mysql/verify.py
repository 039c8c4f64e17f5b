"""Whether a table arrived: rows counted and their checksums added up, on both sides.

Each row is written in one spelling that both servers can make, and the sum of the beginnings of its
MD5 does not depend on order. JSON and floating point have no such spelling: of these it is counted
how many are not null.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlkit.infer import quoted as ours
from sqlkit.sources.mysql.catalog import GEOMETRIES, Table, TableColumn, quoted
from sqlkit.sources.mysql.session import Session

_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint", "year")


def _their_text(column: TableColumn) -> str | None:
    """A column in the common spelling, in MySQL's SQL; None if it has none."""
    name, kind = quoted(column.name), column.kind
    if column.is_json or column.kind in ("float", "double", "json"):
        return None
    if column.type == "boolean":
        return f"if({name}, 't', 'f')"
    if kind == "bit":
        return f"lpad(bin({name} + 0), {column.arguments}, '0')"
    if kind in ("date", "datetime", "timestamp"):
        pattern = "%Y-%m-%d" if kind == "date" else "%Y-%m-%d %H:%i:%s.%f"
        text = f"cast({name} as char)"
        return (
            f"if({text} like '%-00%' or {text} like '0000-%', null, "
            f"date_format({name}, '{pattern}'))"
        )
    if kind == "time":
        return (
            f"cast(cast(time_to_sec({name}) as decimal(20)) * 1000000 + "
            f"if({name} < 0, -1, 1) * microsecond({name}) as char)"
        )
    if kind in GEOMETRIES:
        return f"lower(hex(st_aswkb({name})))"
    if column.type == "bytea":
        return f"lower(hex({name}))"
    if kind in ("decimal", *_WHOLE):
        return (
            f"cast({name} + 0 as char)"
            if "zerofill" in column.declared
            else f"cast({name} as char)"
        )
    return f"convert({name} using utf8mb4)"


def _our_text(column: TableColumn, name: str) -> str:
    """The same in PostgreSQL's SQL."""
    kind = column.kind
    if column.type == "boolean":
        return f"case when {name} then 't' when not {name} then 'f' end"
    if kind == "date":
        return f"to_char({name}, 'YYYY-MM-DD')"
    if kind == "datetime":
        return f"to_char({name}, 'YYYY-MM-DD HH24:MI:SS.US')"
    if kind == "timestamp":
        return f"to_char({name} at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    if kind == "time":
        return f"((extract(epoch from {name}) * 1000000)::bigint)::text"
    if column.type == "bytea":
        return f"encode({name}, 'hex')"
    if kind == "set":
        return f"array_to_string({name}, ',')"
    if column.type == "inet":
        return f"host({name})"
    return f"{name}::text"


def their_sums(session: Session, table: Table) -> list[int]:
    """Rows, the sum over them, and how many values of each column that has no spelling."""
    texts = [(column, _their_text(column)) for column in table.columns]
    parts = ", ".join(f"coalesce({text}, 'N')" for _, text in texts if text is not None) or "''"
    counts = "".join(f", count({quoted(column.name)})" for column, text in texts if text is None)
    row = session.ask(
        f"select count(*), coalesce(sum(cast(conv(substr(md5(concat_ws('|', {parts})), 1, 8), "
        f"16, 10) as unsigned)), 0){counts} from {table.quoted}"
    )[0]
    return [int(value or 0) for value in row]


def our_query(into: str, table: Table) -> str:
    """The same sums, as a query of PostgreSQL."""
    spelled = [column for column in table.columns if _their_text(column) is not None]
    parts = (
        ", ".join(f"coalesce({_our_text(column, ours(column.name))}, 'N')" for column in spelled)
        or "''"
    )
    counts = "".join(
        f", count({ours(column.name)})" for column in table.columns if column not in spelled
    )
    return (
        f"select count(*), coalesce(sum(('x' || substr(md5(concat_ws('|', {parts})), 1, 8))"
        f"::bit(32)::bigint), 0){counts} from {into}"
    )


def compare(table: Table, theirs: Sequence[int], mine: Sequence[int]) -> str | None:
    """What differs, in words; None if nothing does."""
    if theirs[0] != mine[0]:
        return f"{theirs[0]:,} rows there and {mine[0]:,} here"
    if theirs[1] != mine[1]:
        return "the rows are as many, but not the same: their checksums differ"
    counted = [column.name for column in table.columns if _their_text(column) is None]
    for name, there, here in zip(counted, theirs[2:], mine[2:], strict=True):
        if there != here:
            return f"column {name}: {there:,} values there and {here:,} here"
    return None
