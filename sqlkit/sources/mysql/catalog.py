"""What MySQL's catalog says of a table: its columns, their types, the key that it is read by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlkit.errors import SourceError
from sqlkit.sources.mysql import rows
from sqlkit.sources.mysql.session import Column, Row, Session, text

_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_AS_NUMBERS = (*_INTEGERS, "decimal", "year")
_AS_TEXTS = ("char", "varchar", "date", "datetime", "timestamp", "time")
_AS_BYTES = ("binary", "varbinary")
GEOMETRIES = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
    "multipolygon", "geometrycollection", "geomcollection",
)  # fmt: skip
_JSON_CHECK = re.compile(r"json_valid\s*\(\s*`((?:[^`]|``)+)`\s*\)", re.IGNORECASE)
_FOREIGN_KEY = re.compile(r"\s*CONSTRAINT `((?:[^`]|``)+)` FOREIGN KEY ")
_RULE = re.compile(r" ON (DELETE|UPDATE) (CASCADE|SET NULL|RESTRICT|NO ACTION)")


def quoted(name: str) -> str:
    """A name as MySQL writes it."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class TableColumn:
    """A column as the catalog has it."""

    name: str
    kind: str  # int, varchar, ...
    declared: str  # int(10) unsigned
    nullable: bool
    default: str | None
    extra: str
    comment: str
    collation: str
    is_json: bool  # longtext that MariaDB holds to JSON, or MySQL's json

    @property
    def arguments(self) -> str:
        """What stands in parentheses behind the type."""
        found = re.match(r"\w+\s*\((.*)\)", self.declared, re.DOTALL)
        return found[1] if found else ""

    @property
    def is_unsigned(self) -> bool:
        """Whether a number has no sign."""
        return re.search(r"\bunsigned\b", self.declared) is not None

    @property
    def type(self) -> str:
        """PostgreSQL's type for it."""
        return type_of(self)

    @property
    def labels(self) -> list[str]:
        """What enum or set may hold."""
        return [
            label.replace("''", "'").replace("\\\\", "\\")
            for label in re.findall(r"'((?:[^']|'')*)'", self.arguments)
        ]


def type_of(column: TableColumn) -> str:
    """PostgreSQL's type for a column of MySQL's, which holds every value of it but zero dates.

    Without sign: the next wider type. tinyint(1) and bit(1) are boolean, year is smallint. datetime
    is timestamp, timestamp is timestamptz, and time, which may exceed a day, is interval. enum is
    text, set text[], both with a CHECK; json is jsonb. Bytes, and geometry as WKB, are bytea.
    """
    kind, unsigned = column.kind, column.is_unsigned
    if column.is_json:
        return "jsonb"
    if column.declared == "tinyint(1)":
        return "boolean"
    if kind == "bit":
        return "boolean" if column.arguments == "1" else f"bit({column.arguments})"
    if kind in ("decimal", "numeric"):
        return f"numeric({column.arguments})"
    if kind in ("char", "varchar"):
        # MySQL has empty ones.
        return f"varchar({max(1, int(column.arguments or 1))})"
    if kind in ("datetime", "timestamp", "time"):
        name = {"datetime": "timestamp", "timestamp": "timestamptz", "time": "interval"}[kind]
        return f"{name}({column.arguments or 0})"
    if kind in GEOMETRIES:
        return "bytea"
    known = {
        "tinyint": "smallint",
        "smallint": "integer" if unsigned else "smallint",
        "mediumint": "integer",
        "int": "bigint" if unsigned else "integer",
        "bigint": "numeric(20,0)" if unsigned else "bigint",
        "float": "real",
        "double": "double precision",
        "year": "smallint",
        "date": "date",
        "set": "text[]",
        "inet4": "inet",
        "inet6": "inet",
        "uuid": "uuid",
    }
    if kind in known:
        return known[kind]
    return "bytea" if kind.endswith(("binary", "blob")) else "text"


def column_type(column: Column, values: Iterable[bytes | None]) -> str:
    """PostgreSQL's type for a column of a query, by what the answer tells of it.

    `values` are the first ones: the answer does not always tell bytes from text.
    """
    kind, unsigned = column.type, column.is_unsigned
    if kind == rows.TINY:
        return "boolean" if column.length == 1 and not unsigned else "smallint"
    if kind == rows.BIT:
        return "boolean" if column.length == 1 else f"bit({column.length})"
    known = {
        rows.SHORT: "integer" if unsigned else "smallint",
        rows.INT24: "integer",
        rows.LONG: "bigint" if unsigned else "integer",
        rows.LONGLONG: "numeric(20,0)" if unsigned else "bigint",
        rows.NEWDECIMAL: "numeric",
        rows.FLOAT: "real",
        rows.DOUBLE: "double precision",
        rows.YEAR: "smallint",
        rows.DATE: "date",
        rows.NEWDATE: "date",
        rows.TIME: "interval",
        rows.DATETIME: "timestamp",
        rows.TIMESTAMP: "timestamptz",
        rows.JSON: "jsonb",
        rows.GEOMETRY: "bytea",
    }
    if kind in known:
        return known[kind]
    is_bytes = column.may_be_bytes and not all(
        value is None or rows.is_utf8(value) for value in values
    )
    return "bytea" if is_bytes else "text"


@dataclass(frozen=True)
class Key:
    """A unique key without nulls, by whose order a table is read."""

    index: str  # quoted
    columns: tuple[TableColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns."""
        return tuple(column.name for column in self.columns)

    @property
    def order(self) -> str:
        """What to order by."""
        return ", ".join(map(quoted, self.names))

    @property
    def begins_with_integer(self) -> bool:
        """Whether ranges of about equal size can be told by its first column alone."""
        return self.columns[0].kind in _INTEGERS

    def within(
        self,
        session: Session,
        *,
        after: Row | None = None,
        least: int | None = None,
        below: int | None = None,
    ) -> str:
        """The condition, with WHERE, for the rows behind a key, or from a value of its first column
        on, and up to, not with, another. It is answered by a range of the index."""
        first = quoted(self.names[0])
        parts = []
        if after is not None:
            parts.append(self._behind(after, session))
        elif least is not None:
            parts.append(f"{first} >= {least}")
        if below is not None:
            parts.append(f"{first} < {below}")
        return " where " + " and ".join(parts) if parts else ""

    def _behind(self, last: Row, session: Session) -> str:
        # (a, b) > (1, 2) would be read from the index's beginning.
        values = [
            _literal(column, value, session)
            for column, value in zip(self.columns, last, strict=True)
        ]
        names = [quoted(name) for name in self.names]
        parts = []
        for position in range(len(names)):
            equal = [f"{names[before]} = {values[before]}" for before in range(position)]
            parts.append(" and ".join([*equal, f"{names[position]} > {values[position]}"]))
        return "((" + ") or (".join(parts) + "))"


def _literal(column: TableColumn, value: bytes | None, session: Session) -> str:
    assert value is not None
    if column.kind in _AS_NUMBERS:
        if not re.fullmatch(rb"-?\d+(\.\d+)?", value):
            raise ValueError(f"{value!r} is no number")
        return value.decode()
    if column.kind in _AS_BYTES:
        return f"x'{value.hex()}'"
    return session.literal(value)


@dataclass(frozen=True)
class Index:
    """An index, as the catalog has it."""

    name: str
    kind: str  # BTREE, FULLTEXT, SPATIAL, HASH
    is_unique: bool
    columns: tuple[str, ...]
    prefixes: tuple[int | None, ...]  # characters that are indexed of each, where not all are


@dataclass(frozen=True)
class Table:
    """A table or view."""

    schema: str
    name: str
    columns: tuple[TableColumn, ...]
    key: Key | None
    indexes: tuple[Index, ...]
    row_bytes: int  # of an average row
    bytes: int  # of all rows, about
    comment: str

    @property
    def quoted(self) -> str:
        """Its name, as MySQL writes it."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns."""
        return tuple(column.name for column in self.columns)

    @property
    def types(self) -> Mapping[str, str]:
        """PostgreSQL's types of its columns."""
        return {column.name: column.type for column in self.columns}

    def selected(self, names: Iterable[str]) -> str:
        """Columns as they are to be selected."""
        by_name = {column.name: column for column in self.columns}
        return ", ".join(_selected(by_name[name]) for name in names)


def _selected(column: TableColumn) -> str:
    # A float is written with six digits, which are not all it has.
    name = quoted(column.name)
    return f"{name} + 0e0 as {name}" if column.kind == "float" else name


def look_up(session: Session, schema: str, name: str) -> Table:
    """What the catalog says of a table. Raises SourceError."""
    where = f"table_schema = {_text(session, schema)} and table_name = {_text(session, name)}"
    found = session.ask(
        "select avg_row_length, data_length, table_comment, table_type "
        f"from information_schema.tables where {where}"
    )
    if not found:
        near = [
            text(row[0])
            for row in session.ask(
                "select table_name from information_schema.tables "
                f"where table_schema = {_text(session, schema)} order by 1"
            )
        ]
        raise SourceError(
            f"there is no table {name} in {schema}, or the user may not see it",
            source=session.name,
            code="SK102",
            detail=f"Tables: {', '.join(near)}." if near else None,
            hint="Name one behind the #, in the case in which the server has it.",
        )
    is_table = found[0][3] == b"BASE TABLE"
    json_columns = _json_columns(session, schema, name) if is_table else set()
    columns = tuple(
        TableColumn(
            name=text(row[0]),
            kind=text(row[1]).lower(),
            declared=text(row[2]),
            nullable=row[3] == b"YES",
            default=None if row[4] is None else text(row[4]),
            extra=text(row[5]),
            comment=text(row[6]),
            collation=text(row[7]),
            is_json=row[1] == b"json" or text(row[0]) in json_columns,
        )
        for row in session.ask(
            "select column_name, data_type, column_type, is_nullable, column_default, extra, "
            f"column_comment, collation_name from information_schema.columns where {where} "
            "order by ordinal_position"
        )
    )
    indexes = _indexes(session, where)
    row_bytes, all_bytes, comment, _ = found[0]
    return Table(
        schema=schema,
        name=name,
        columns=columns,
        key=_key(indexes, columns),
        indexes=indexes,
        row_bytes=int(row_bytes or 0),
        bytes=int(all_bytes or 0),
        comment=text(comment) if is_table else "",
    )


def _text(session: Session, value: str) -> str:
    return session.literal(value.encode())


def _statement(session: Session, schema: str, name: str) -> str:
    """CREATE TABLE as the server has it; of checks and rules the catalog tells only an owner."""
    return text(session.ask(f"show create table {quoted(schema)}.{quoted(name)}")[0][1])


def _json_columns(session: Session, schema: str, name: str) -> set[str]:
    """Those that MariaDB holds to JSON, which it has no type for."""
    if not session.is_mariadb:
        return set()
    found = _JSON_CHECK.findall(_statement(session, schema, name))
    return {column.replace("``", "`") for column in found}


def _indexes(session: Session, where: str) -> tuple[Index, ...]:
    found: dict[str, list[Row]] = {}
    for row in session.ask(
        "select index_name, index_type, non_unique, column_name, sub_part "
        f"from information_schema.statistics where {where} "
        "order by index_name = 'PRIMARY' desc, index_name, seq_in_index"
    ):
        found.setdefault(text(row[0]), []).append(row)
    return tuple(
        Index(
            name=name,
            kind=text(parts[0][1]),
            is_unique=parts[0][2] == b"0",
            columns=tuple(text(part[3]) for part in parts),  # empty for an expression
            prefixes=tuple(None if part[4] is None else int(part[4]) for part in parts),
        )
        for name, parts in found.items()
    )


def _key(indexes: Iterable[Index], columns: Sequence[TableColumn]) -> Key | None:
    """The primary key, else a unique one that holds no null, if its order can be read by."""
    by_name = {column.name: column for column in columns}
    usable = _AS_NUMBERS + _AS_TEXTS + _AS_BYTES
    for index in indexes:
        parts = [by_name.get(name) for name in index.columns]
        if (
            index.is_unique
            and index.kind == "BTREE"
            and not any(index.prefixes)
            and all(part and not part.nullable and part.kind in usable for part in parts)
        ):
            return Key(quoted(index.name), tuple(part for part in parts if part is not None))
    return None


# Databases --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a database holds."""

    tables: tuple[str, ...]
    left_out: tuple[str, ...]  # what is no table: views, triggers, routines, events


def find_tables(session: Session, schema: str) -> Found:
    """The tables of a database, by name. Raises SourceError (SK102) if it has none."""
    name = _text(session, schema)
    tables, others = [], []
    for table, kind in session.ask(
        "select table_name, table_type from information_schema.tables "
        f"where table_schema = {name} order by table_name"
    ):
        if kind == b"BASE TABLE":
            tables.append(text(table))
        else:
            others.append(f"{text(kind).lower()} {text(table)}")
    if not tables:
        raise SourceError(
            "the database has no tables, or the user may not see them",
            source=session.name,
            code="SK102",
        )
    for named, column, place in (
        ("trigger", "trigger_name", "triggers where trigger_schema"),
        ("routine", "routine_name", "routines where routine_schema"),
        ("event", "event_name", "events where event_schema"),
    ):
        others += [
            f"{named} {text(row[0])}"
            for row in session.ask(
                f"select {column} from information_schema.{place} = {name} order by 1"
            )
        ]
    return Found(tuple(tables), tuple(others))


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, as the catalog has it."""

    table: str
    name: str
    columns: tuple[str, ...]
    schema_of_other: str
    other: str
    others: tuple[str, ...]
    on_delete: str
    on_update: str

    @property
    def shortened(self) -> str:
        """Its name, as long as PostgreSQL has it."""
        return self.name.encode()[:63].decode("utf-8", "ignore")


def find_foreign_keys(session: Session, schema: str) -> list[ForeignKey]:
    """The foreign keys of a database's tables."""
    name = _text(session, schema)
    found: dict[tuple[str, str], list[Row]] = {}
    for row in session.ask(
        "select table_name, constraint_name, column_name, referenced_table_schema, "
        "referenced_table_name, referenced_column_name from information_schema.key_column_usage "
        f"where table_schema = {name} and referenced_table_name is not null "
        "order by table_name, constraint_name, ordinal_position"
    ):
        found.setdefault((text(row[0]), text(row[1])), []).append(row)
    rules: dict[tuple[str, str], Mapping[str, str]] = {}
    for table in dict.fromkeys(table for table, _ in found):
        for line in _statement(session, schema, table).splitlines():
            if key := _FOREIGN_KEY.match(line):
                rules[table, key[1].replace("``", "`")] = dict(_RULE.findall(line[key.end() :]))
    return [
        ForeignKey(
            table=table,
            name=key,
            columns=tuple(text(part[2]) for part in parts),
            schema_of_other=text(parts[0][3]),
            other=text(parts[0][4]),
            others=tuple(text(part[5]) for part in parts),
            on_delete=rules[table, key].get("DELETE", "no action").lower(),
            on_update=rules[table, key].get("UPDATE", "no action").lower(),
        )
        for (table, key), parts in found.items()
    ]
