"""The table of PostgreSQL that stands for one of MySQL, made from MySQL's catalog.

What cannot be the same is said in comments at the head of the statements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlkit.infer import check_table_name, quoted
from sqlkit.sources.base import NewTable
from sqlkit.sources.mysql.catalog import Table, TableColumn

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_NOW = re.compile(r"(current_timestamp|now)(\(\d*\))?", re.IGNORECASE)
_BITS = re.compile(r"b'([01]*)'")
_SAME = {
    "tinyint": "smallint", "int": "integer", "decimal": "numeric", "datetime": "timestamp",
    "float": "real", "double": "double precision",
}  # fmt: skip
_DATES = ("date", "datetime", "timestamp")


def literal(value: str) -> str:
    """A text as PostgreSQL writes it."""
    escaped = value.replace("'", "''")
    if "\\" in escaped:  # whatever standard_conforming_strings says
        escaped = escaped.replace("\\", "\\\\")
        return f"E'{escaped}'"
    return f"'{escaped}'"


def type_name(column: TableColumn) -> str:
    """The type of a column of a new table: that of its values, or one that can count on."""
    if "auto_increment" in column.extra and column.type.startswith("numeric"):
        return "bigint"
    return column.type


@dataclass(frozen=True)
class Naming:
    """What the columns are called, and which of them there are."""

    renamed: Mapping[str, str]
    chosen: Sequence[str]
    left_out: Sequence[str]

    def has(self, name: str) -> bool:
        """Whether a column is to be there."""
        return name not in self.left_out and (not self.chosen or name in self.chosen)

    def of(self, name: str) -> str:
        """Its name, as SQL writes it."""
        return quoted(self.renamed.get(name, name))


def make_table(
    into: str,
    table: Table,
    key: Sequence[str],
    naming: Naming,
    *,
    null_invalid: bool,
) -> NewTable:
    """CREATE TABLE `into`, with keys, indexes and comments. Raises UsageError for a bad name."""
    check_table_name(into)
    notes: list[str] = []
    lines: list[str] = []
    comments: list[str] = []
    after: list[str] = []
    columns = [column for column in table.columns if naming.has(column.name)]
    for column in columns:
        name = naming.of(column.name)
        parts, changes = _define(column, name, null_invalid=null_invalid)
        lines.append("    " + " ".join([name, *parts]))
        notes += [f"{column.name}: {change}" for change in changes]
        if column.comment:
            comments.append(f"comment on column {into}.{name} is {literal(column.comment)}")
        if "auto_increment" in column.extra:
            plain = naming.renamed.get(column.name, column.name)
            # Nothing, if the table is another one and counts otherwise.
            after.append(
                "select pg_catalog.setval("
                f"pg_catalog.pg_get_serial_sequence({literal(into)}::text, attname::text)::regclass"
                ", coalesce(greatest(last, 1), 1)"
                ", coalesce(last, 0) operator(pg_catalog.>) 0::bigint) "
                "from pg_catalog.pg_attribute, "
                f"(select pg_catalog.max({name})::bigint as last from {into}) as found "
                "where attrelid operator(pg_catalog.=) "
                f"pg_catalog.to_regclass({literal(into)}::text)::oid "
                f"and attname operator(pg_catalog.=) {literal(plain)}::name "
                "and attidentity operator(pg_catalog.<>) ''::\"char\""
            )
    insensitive = sorted({c.collation for c in columns if c.collation.endswith("_ci")})
    if insensitive:
        notes.append(
            f"text of collation {', '.join(insensitive)} does not tell case (and accents) there; "
            "here it compares as the database does"
        )
    names = {column.name for column in columns}
    indexes: list[str] = []
    primary: tuple[str, ...] = tuple(key)
    for index in table.indexes:
        if not set(index.columns) <= names:
            notes.append(f"index {index.name}: left out with its columns")
        elif index.kind != "BTREE":
            notes.append(f"index {index.name}: {index.kind.lower()}, left out")
        elif index.name == "PRIMARY":
            if not primary:
                primary = tuple(naming.renamed.get(name, name) for name in index.columns)
        elif index.is_unique and not any(index.prefixes):
            listed = ", ".join(map(naming.of, index.columns))
            lines.append(f"    unique ({listed})")
        else:
            if index.is_unique:
                notes.append(f"index {index.name}: unique for a prefix only, here it is not unique")
            listed = ", ".join(
                f"pg_catalog.left({naming.of(name)}, {prefix})" if prefix else naming.of(name)
                for name, prefix in zip(index.columns, index.prefixes, strict=True)
            )
            indexes.append(f"create index on {into} ({listed})")
    if primary:
        lines.append(f"    primary key ({', '.join(map(quoted, primary))})")
    if table.comment:
        comments.append(f"comment on table {into} is {literal(table.comment)}")
    head = "".join(f"-- {_one_line(note)}\n" for note in notes)
    create = f"create table {into} (\n" + ",\n".join(lines) + "\n)"
    return NewTable(
        ddl=head + ";\n".join([create, *indexes, *comments]),
        key=primary,
        after=tuple(after),
        notes=tuple(map(_one_line, notes)),
    )


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _define(column: TableColumn, name: str, *, null_invalid: bool) -> tuple[list[str], list[str]]:
    """What stands behind a column's name, and what is not as it was."""
    type = type_name(column)
    parts, changes = [type], []
    plain = re.sub(r"\(.*\)", "", type)
    if column.kind not in (plain, "varchar") and _SAME.get(column.kind) != plain:
        changes.append(f"{column.declared[:60]} becomes {type}")
    elif column.is_unsigned:
        changes.append("unsigned, which nothing asks for here")
    if not column.nullable:
        if null_invalid and (column.kind in _DATES):
            changes.append("not null, left out: zero dates become null")
        else:
            parts.append("not null")
    if "auto_increment" in column.extra:
        parts.append("generated by default as identity")
    elif "GENERATED" in column.extra.upper().replace("DEFAULT_GENERATED", ""):
        changes.append("computed there, a plain column here")
    elif column.default is not None and column.default != "NULL":
        default = _default(column, type)
        if default is None:
            changes.append(f"default {column.default[:60]}, left out")
        else:
            parts.append(f"default {default}")
    if "on update" in column.extra.lower():
        changes.append("on update current_timestamp, left out")
    if column.kind in ("enum", "set"):
        listed = ", ".join(map(literal, column.labels))
        parts.append(
            f"check ({name} in ({listed}))"
            if column.kind == "enum"
            else f"check ({name} operator(pg_catalog.<@) array[{listed}]::text[])"
        )
    return parts, changes


def _default(column: TableColumn, type: str) -> str | None:
    """A default as PostgreSQL writes it; None if it has none like it."""
    text = column.default or ""
    if column.kind in ("timestamp", "datetime") and _NOW.fullmatch(text):
        return "current_timestamp"
    if found := _BITS.fullmatch(text):
        digits = found[1]
        return (
            ("true" if "1" in digits else "false")
            if type == "boolean"
            else (f"B'{digits.zfill(int(column.arguments or 1))}'")
        )
    is_text = text.startswith("'") and text.endswith("'") and len(text) > 1
    if is_text:
        text = text[1:-1].replace("''", "'").replace("\\'", "'").replace("\\\\", "\\")
    elif not _NUMBER.fullmatch(text) and "DEFAULT_GENERATED" in column.extra:
        return None
    if type == "boolean":
        return {"0": "false", "1": "true"}.get(text)
    if column.kind in _DATES and ("-00" in text or text.startswith("0000")):
        return None
    if column.kind == "set":
        return f"array[{', '.join(map(literal, filter(None, text.split(','))))}]::text[]"
    if type in ("bytea", "jsonb"):
        return None
    if _NUMBER.fullmatch(text) and not is_text:
        return text
    if not is_text and column.kind not in ("char", "varchar", "enum", *_DATES, "time"):
        return None
    if not is_text and "(" in text:
        return None
    return literal(text)
