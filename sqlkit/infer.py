"""The table that a source seems to be meant for, from its first rows."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from sqlkit.errors import UsageError
from sqlkit.sources.base import DescribedReader, NewTable, Reader

SAMPLE_ROWS = 10_000

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)?(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_TIME = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
_TIMESTAMP = re.compile(_DATE.pattern + "[T ]" + _TIME)
_TIMESTAMPTZ = re.compile(_TIMESTAMP.pattern + r" ?(Z|[+-]\d{2}(:?\d{2})?)")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BOOLEAN = re.compile(r"true|false|t|f", re.IGNORECASE)
_IDENTIFIER = r'([^\W\d][\w$]*|"([^"\0]|"")+")'
_TABLE_NAME = re.compile(rf"({_IDENTIFIER}\.)?{_IDENTIFIER}")
_NUMBERS = ("smallint", "integer", "bigint", "numeric")
LONGEST_NAME = 63  # bytes
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")


def _is_date(value: str) -> bool:
    """True for a day that there is, or a time of one."""
    try:
        dt.date.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _is_nested(value: str) -> bool:
    """True for an object or array of JSON that jsonb takes."""
    if not value.lstrip().startswith(("{", "[")) or "\\u0000" in value:
        return False
    try:
        json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _is_bigint(value: str) -> bool:
    return bool(_INTEGER.fullmatch(value)) and -(2**63) <= int(value) < 2**63


def _is_number(value: str) -> bool:
    return bool(_NUMBER.fullmatch(value)) and any(character.isdigit() for character in value)


# From the narrowest to the widest: the first that takes every value is the type. Numbers with
# leading zeros are codes, and stay text; integers are bigint, since later rows may be larger.
_TYPES = (
    ("boolean", lambda value: bool(_BOOLEAN.fullmatch(value))),
    ("bigint", _is_bigint),
    ("numeric", _is_number),
    ("date", lambda value: bool(_DATE.fullmatch(value)) and _is_date(value)),
    ("timestamp", lambda value: bool(_TIMESTAMP.fullmatch(value)) and _is_date(value)),
    ("timestamptz", lambda value: bool(_TIMESTAMPTZ.fullmatch(value)) and _is_date(value)),
    ("uuid", lambda value: bool(_UUID.fullmatch(value))),
    ("jsonb", _is_nested),
)


def infer_type(values: Iterable[str | None]) -> str:
    """The narrowest type that takes all values: see `_TYPES`; text if there are none."""
    present = {value for value in values if value is not None}
    if not present:
        return "text"
    for name, takes in _TYPES:
        if all(takes(value) for value in present):
            return name
    return "text"


def new_table(
    reader: Reader,
    into: str,
    *,
    key: Sequence[str] = (),
    renamed: Mapping[str, str],
    chosen: Sequence[str],
    left_out: Sequence[str],
    is_extract: bool = False,
) -> NewTable:
    """The table that a source is meant for, as far as it tells, and by its first rows.

    With `is_extract`, what is loaded will be an extract of it, which knows of columns and types and
    nothing beyond. Reads from the source. Raises UsageError as `infer_table`.
    """
    if isinstance(reader, DescribedReader) and not is_extract:
        known = reader.new_table(into, key=key, renamed=renamed, chosen=chosen, left_out=left_out)
        if known is not None:
            return known
    ddl = infer_table(
        into,
        reader.columns,
        reader.sample(SAMPLE_ROWS),
        key=key,
        renamed=renamed,
        chosen=chosen,
        left_out=left_out,
        types=reader.column_types,
    )
    return NewTable(ddl, tuple(key))


def column_types(reader: Reader, names: Sequence[str]) -> dict[str, str]:
    """The types that some columns of a new table would have. It may read from the source."""
    types = {name: reader.column_types[name] for name in names if name in reader.column_types}
    if len(types) < len(names):
        sample = reader.sample(SAMPLE_ROWS)
        place = {name: at for at, name in enumerate(reader.columns)}
        for name in names:
            if name not in types:
                types[name] = infer_type(row[place[name]] for row in sample)
    return types


def takes(target: str, source: str, *, is_known: bool) -> bool:
    """Whether a column of one type takes, as far as can be told, all values of another.

    Unless the source's type `is_known`, it is the narrowest that took some values (`infer_type`),
    which makes every whole number a bigint.
    """
    target, source = _plain_type(target), _plain_type(source)
    if target == source or target in ("text", "varchar", "bpchar"):
        return True
    if source in _WIDTHS and target in _WIDTHS:
        is_whole = not is_known and source == "bigint"
        return is_whole or _WIDTHS.index(source) <= _WIDTHS.index(target)
    if source in ("date", "timestamp", "timestamptz"):
        return target in ("timestamp", "timestamptz")
    return target in ("json", "jsonb") and source in ("json", "jsonb", "boolean", *_WIDTHS)


_WIDTHS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
"""Numbers: each takes the values of those before it, if not to the last digit."""

_ALIASES = {
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "character varying": "varchar",
    "character": "bpchar",
}


def _plain_type(name: str) -> str:
    """A type without its length, under one name."""
    name = re.sub(r"\([^)]*\)", "", name).strip()
    return _ALIASES.get(name, name)


def common_type(one: str, other: str) -> str:
    """A type that takes the values of two."""
    if one == other:
        return one
    if one.startswith(_NUMBERS) and other.startswith(_NUMBERS):
        return "numeric"
    return "timestamp" if {one, other} == {"date", "timestamp"} else "text"


def infer_table(
    into: str,
    columns: Sequence[str],
    sample: Sequence[Sequence[str | None]],
    *,
    key: Sequence[str],
    renamed: Mapping[str, str],
    chosen: Sequence[str],
    left_out: Sequence[str],
    types: Mapping[str, str] | None = None,
) -> str:
    """CREATE TABLE for the columns of a source, whose types are `types`, or fit the sample.

    `into` is a table as SQL names it, with or without schema. Raises UsageError if it is no such
    name, or if a column of the key is not there.
    """
    check_table_name(into)
    lines = []
    names = []
    for position, name in enumerate(columns):
        if name in left_out or (chosen and name not in chosen):
            continue
        column = renamed.get(name, name)
        check_length(column)
        names.append(column)
        type_name = (types or {}).get(name) or infer_type(row[position] for row in sample)
        lines.append(f"    {quoted(column)} {type_name}")
    if not names:
        raise UsageError(
            f"{into} cannot be made: the source tells of no columns",
            hint="Make the table yourself, or load a source that has rows.",
        )
    if missing := [name for name in key if name not in names]:
        raise UsageError(
            f"the key names columns that are not there: {', '.join(missing)}",
            detail=f"Columns: {', '.join(names)}.",
        )
    if key:
        lines.append(f"    primary key ({', '.join(map(quoted, key))})")
    return f"create table {into} (\n" + ",\n".join(lines) + "\n)"


def check_table_name(into: object) -> None:
    """Raises UsageError unless it is a table as SQL names it, with or without schema."""
    if not isinstance(into, str) or not _TABLE_NAME.fullmatch(into):
        raise UsageError(
            f"{into!r} is not the name of a table",
            hint="Write schema.table; a name with other than lower-case letters goes in quotes.",
        )
    for part in re.findall(r'"(?:[^"]|"")+"|[^".]+', into):
        check_length(part[1:-1].replace('""', '"') if part.startswith('"') else part)


def check_length(name: str) -> None:
    """Raises UsageError for a name that PostgreSQL would cut, to one that another may have."""
    if len(name.encode()) > LONGEST_NAME:
        raise UsageError(
            f"the name {name} has {len(name.encode())} bytes, and PostgreSQL keeps {LONGEST_NAME}",
            hint="Choose a shorter one; a column gets it by --map 'NAME=shorter'.",
        )


def quoted(name: str) -> str:
    """A name as SQL wants it, in quotes unless it needs none."""
    if _PLAIN_NAME.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


# Key words that cannot be column names without quotes (PostgreSQL 18, appendix C).
_RESERVED = frozenset(
    """all analyse analyze and any array as asc asymmetric authorization binary both case cast check
    collate collation column concurrently constraint create cross current_catalog current_date
    current_role current_schema current_time current_timestamp current_user default deferrable desc
    distinct do else end except false fetch for foreign freeze from full grant group having ilike in
    initially inner intersect into is isnull join lateral leading left like limit localtime
    localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
    references returning right select session_user similar some symmetric system_user table
    tablesample then to trailing true union unique user using variadic verbose when where window
    with""".split()  # noqa: SIM905 - a list would take a page
)
