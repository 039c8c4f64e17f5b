"""What sqlkit.yml may say: the models by which it is validated, and its JSON schema is made."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from sqlkit.errors import UsageError
from sqlkit.infer import check_table_name
from sqlkit.maintenance_plan import ACTIONS, MaintenanceOptions
from sqlkit.model import Lookup
from sqlkit.options import CONFLICTS, INDEXES, POLICIES
from sqlkit.options import STRATEGIES as LOAD_STRATEGIES
from sqlkit.refresh import STRATEGIES
from sqlkit.sources.base import Dialect
from sqlkit.sources.feeds import FEEDS
from sqlkit.sources.find import FORMATS
from sqlkit.transient import RETRY_FOR
from sqlkit.units import parse_bytes, parse_limit, parse_overlap, parse_seconds

FILE = "sqlkit.yml"

_INTERVAL = ("starts", "ends", "range", "exempt", "across", "changed_by")
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "overlap": (("resource",), (*_INTERVAL, "bounds", "nulls")),
    "distance": (("resource", "gap"), (*_INTERVAL, "travel", "place")),
    "duplicate": (("columns",), ("normalised", "changed_by")),
    "disagree": (("other",), ("columns", "missing")),
}
"""The kinds of conflict rules: the keys that each needs, and those that it may have."""

OF_RULES = {key for needed, more in RULES.values() for key in (*needed, *more)}


class Limit(NamedTuple):
    """A number of rows, or a share of them (0 to 1)."""

    rows: int | None
    share: float | None

    def __str__(self) -> str:
        return str(self.rows) if self.share is None else f"{self.share * 100:g}%"


def listed(value: Any) -> Any:
    """One thing as a list of it."""
    return [value] if isinstance(value, str | dict) else value


def _words(value: Any) -> Any:
    try:
        return shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise PydanticCustomError("command", "is no command: {why}", {"why": str(error)}) from None


def _parsed(parse: Any) -> BeforeValidator:
    """Text that one of the parsers of `sqlkit.units` understands."""

    def validate(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise PydanticCustomError("text", "must be a number or text")
        try:
            return parse(str(value))
        except UsageError as error:
            raise PydanticCustomError(
                "unit", "is not understood. {hint}", {"hint": error.hint}
            ) from None

    return BeforeValidator(validate)


def _limit(text: str) -> Limit:
    limit = Limit(*parse_limit(text))
    if (limit.rows or 0) < 0 or not 0 <= (limit.share or 0) <= 1:
        raise UsageError(f"{text!r} is not a limit", hint="Write a number of rows, or 1%.")
    return limit


_REFERENCE: dict[str, Any] = {"type": "string", "pattern": r"\$\{"}
"""What stands for any value that is no list and has no keys: ${NAME}, ${NAME:-3}, ${file:PATH}."""


def _one_of(allowed: Sequence[str]) -> tuple[AfterValidator, Any]:
    def validate(value: str) -> str:
        if value not in allowed:
            raise PydanticCustomError("one_of", "not known", {"allowed": list(allowed)})
        return value

    schema = {"anyOf": [{"enum": list(allowed)}, _REFERENCE]}
    return AfterValidator(validate), WithJsonSchema(schema)


def _table_name(value: str) -> str:
    try:
        check_table_name(value)
    except UsageError as error:
        raise PydanticCustomError("table", "{why}", {"why": error.message}) from None
    return value


_TEXT: dict[str, Any] = {"type": "string"}
_ONE_OR_MORE = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_NUMBER_OR_TEXT = WithJsonSchema({"type": ["number", "string"]})

Names = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(listed),
    WithJsonSchema(_ONE_OR_MORE),
]
Words = Annotated[
    tuple[str, ...], Field(min_length=1), BeforeValidator(_words), WithJsonSchema(_ONE_OR_MORE)
]
RowLimit = Annotated[
    Limit,
    _parsed(_limit),
    WithJsonSchema(
        {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9.]+%?$"}, _REFERENCE]}
    ),
]
ByteCount = Annotated[int, _parsed(parse_bytes), _NUMBER_OR_TEXT]
Overlap = Annotated[timedelta | Decimal, _parsed(parse_overlap), _NUMBER_OR_TEXT]
Duration = Annotated[float, _parsed(parse_seconds), _NUMBER_OR_TEXT]
TableName = Annotated[str, AfterValidator(_table_name)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


SCHEMES = (
    *("mysql", "mariadb", "postgresql", "postgres", "duckdb", "sqlite", "snowflake"),
    *("adbc", "adbc+DRIVER", "dbapi+MODULE"),
)
"""Databases that rows are read from."""


class Connection(_Model):
    """A server and a database: a connection string, or its parts, or both (the parts count).

    With `url` it is another database, which tables come `from`.
    """

    dsn: str | None = None
    url: str | None = Field(
        default=None,
        description="Of a database to read from: mysql://user@host/database, postgresql://, "
        "duckdb:///file, sqlite:///file, snowflake://, adbc+DRIVER://, dbapi+MODULE://. Only "
        "password may stand beside it.",
    )
    service: str | None = None
    host: str | None = None
    port: int | None = None
    dbname: str | None = None
    user: str | None = None
    password: str | None = Field(default=None, description="A reference: ${NAME} or ${file:PATH}.")
    sslmode: str | None = None
    sslrootcert: str | None = None
    passfile: str | None = None

    def conninfo(self) -> str:
        """What libpq takes. It may hold a password."""
        parts = self.model_dump(exclude={"dsn", "url"}, exclude_none=True)
        return make_conninfo(self.dsn or "", **parts)

    def address(self, table: str | None = None) -> str:
        """Where sources are read from: the database, or one of its tables. May hold a password."""
        url = self.url
        if url is None:
            url = f"postgresql://?{urlencode(conninfo_to_dict(self.conninfo()), quote_via=quote)}"
        elif self.password is not None:
            scheme, _, rest = url.partition("://")
            user, found, host = rest.rpartition("@")
            user = user.partition(":")[0] if found else ""
            url = f"{scheme}://{user}:{quote(self.password, safe='')}@{host or rest}"
        return url if table is None else f"{url}#{quote(table, safe='.')}"


class FileDialect(_Model):
    """How a delimited file is written; what is not said is found out."""

    delimiter: str | None = None
    quote: str = '"'
    escape: str | None = None
    header: bool = True
    null: str = ""
    encoding: str | None = None

    def as_dialect(self) -> Dialect:
        """The same as sources take it."""
        return Dialect(**self.model_dump())


class Hook(_Model):
    """Something done before or after a table is loaded: SQL or a command, one of them."""

    sql: str | None = Field(default=None, description="Run in the table's database.")
    command: Words | None = Field(
        default=None, description="Run in the project's folder, by no shell."
    )


Hooks = Annotated[
    tuple[Hook, ...],
    BeforeValidator(listed, json_schema_input_type=Hook | tuple[Hook, ...]),
]


class Refresh(_Model):
    """The table is given a whole new content, instead of being added to."""

    strategy: Annotated[str, *_one_of(STRATEGIES)] = "mirror"
    scope: Names | None = None
    max_delete: RowLimit = Limit(None, 0.1)


Action = Annotated[str, *_one_of(ACTIONS)]
Actions = Annotated[
    tuple[Action, ...],
    Field(min_length=1),
    BeforeValidator(listed, json_schema_input_type=Action | tuple[Action, ...]),
]


class Maintenance(_Model):
    """What of maintenance the table gets after its rows, where it needs it: see sqlkit optimize."""

    actions: Actions = ("vacuum", "analyze", "reindex")
    budget: Duration | None = Field(default=None, description="Stop after so long: 90s, 15m.")
    max_load: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Wait while more other sessions than so are at work."
    )
    lock_timeout: Duration = Field(default=5.0, description="Wait for a lock no longer.")
    min_size: ByteCount = Field(default=1 << 20, description="Rebuild to gain at least so much.")

    def options(self, table: str) -> MaintenanceOptions:
        """The same as `sqlkit.Client.optimize` takes it. What was interrupted is cleaned up too."""
        return MaintenanceOptions(
            tables=(table,),
            actions=tuple(dict.fromkeys(("clean", *self.actions))),
            budget=self.budget,
            max_load=self.max_load,
            lock_timeout=self.lock_timeout,
            least_bytes=self.min_size,
        )

    def __str__(self) -> str:
        text = f"{', '.join(self.actions)}, where the table needs it"
        return text if self.budget is None else f"{text}, for {self.budget:g} s at most"


def _actions(value: Any) -> Any:
    return {"actions": value} if isinstance(value, str | list) else value


class SizeRule(_Model):
    """A strategy for sources that are, together, no larger than this."""

    bytes: ByteCount | None = None
    rows: Annotated[int, Field(ge=0)] | None = None
    strategy: Annotated[str, *_one_of(LOAD_STRATEGIES)]

    def fits(self, size: int | None, rows: int | None) -> bool:
        """Whether it is for sources of this size; what is not known is not within a bound."""
        return all(
            bound is None or (found is not None and found <= bound)
            for bound, found in ((self.bytes, size), (self.rows, rows))
        )

    def __str__(self) -> str:
        bounds = []
        if self.bytes is not None:
            bounds.append(f"up to {self.bytes:,} bytes")
        if self.rows is not None:
            bounds.append(f"up to {self.rows:,} rows")
        return f"{' and '.join(bounds) or 'all else'}: {self.strategy}"


class Performance(_Model):
    """How rows get to the server. The result is the same."""

    enabled: bool = Field(
        default=True, description="False: the plain reference way, one stream of INSERTs."
    )
    strategy: Annotated[str, *_one_of(LOAD_STRATEGIES)] = "auto"
    rules: tuple[SizeRule, ...] = Field(
        default=(), description="With strategy auto: the first that fits decides."
    )


class Watermark(_Model):
    """Of a database only rows are fetched from a column's greatest value of the last load on."""

    column: str
    overlap: Overlap | None = Field(
        default=None, description="So far before it, for late commits: 10m, or 1000."
    )


def _column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class Partitions(_Model):
    """A database is asked which parts have anything to do; only those are fetched."""

    query: str = Field(
        description="Cheap, where the rows come from: a row for each part, whose columns are "
        "values for the table's query."
    )
    mark: str | None = Field(
        default=None,
        description="A column of it: a part is passed over while that is what it was when the "
        "part was loaded last.",
    )


class KeptExtracts(_Model):
    """What was fetched of a database is kept for a while, and loaded from there."""

    for_: Duration = Field(alias="for", description="How long: 90s, 15m, 2h or 1d.")
    in_: str = Field(
        default=".sqlkit/extracts", alias="in", description="A folder, or redis://host/number."
    )
    at_most: ByteCount = Field(default=1 << 30, description="So many bytes of them in the folder.")


SCHEMAS = ("evolve", "freeze", "discard")


SchemaName = Annotated[str, *_one_of(SCHEMAS)]


class SchemaPolicy(_Model):
    """What becomes of columns that the source has and the table has not."""

    policy: SchemaName
    into: str | None = Field(default=None, description="With discard: the json(b) column.")


def _schema_policy(value: Any) -> Any:
    return {"policy": value} if isinstance(value, str) else value


def _kept(value: Any) -> Any:
    return {"for": value} if isinstance(value, str | int) else value


class Transform(_Model):
    """Rows are made by a SELECT in a template, of the rows of another table that changed."""

    source: str = Field(description="The table of this file whose rows are transformed.")
    sql: str = Field(description="The template, such as sql/price.sql.j2.")


class TableLookup(_Model):
    """A column that gets surrogate ids of a dimension, found by its natural key."""

    table: TableName = Field(description="The dimension.")
    key: Names = Field(description="Its natural key, which a unique index covers.")
    from_: Names | None = Field(
        default=None,
        alias="from",
        description="The source's columns that the key stands in, if they are named otherwise.",
    )
    id: str | None = Field(default=None, description="The column of the id: else the primary key.")
    create: bool = Field(default=True, description="Make keys that the dimension does not have.")
    defaults: dict[str, str | bool | int | float | None] = Field(
        default={}, description="What other columns of a row that is made hold."
    )
    placeholder: str | int | None = Field(
        default=None, description="The id where none is found, instead of null."
    )

    def lookup(self, column: str, *, may_create: bool = True) -> Lookup:
        """The same as loads take it."""
        return Lookup(
            column,
            self.table,
            self.key,
            self.from_,
            self.id,
            self.create and may_create,
            self.defaults,
            None if self.placeholder is None else str(self.placeholder),
        )


class Table(_Model):
    """A table and what goes into it. Its name in the file is the target's, unless that is said."""

    target: TableName | None = None
    connection: str | None = None
    source: Names | None = Field(default=None, description="Files and patterns, in this order.")
    from_: str | None = Field(
        default=None,
        alias="from",
        description="The connection that source, a table there, or query is read from.",
    )
    query: str | None = Field(
        default=None,
        description="Rows of a database: of the one that `from` names, or source; with refresh and "
        "neither, of the table's own.",
    )
    watermark: (
        Annotated[Watermark, BeforeValidator(_column, json_schema_input_type=str | Watermark)]
        | None
    ) = None
    cache: (
        Annotated[
            KeptExtracts, BeforeValidator(_kept, json_schema_input_type=Duration | KeptExtracts)
        ]
        | None
    ) = Field(default=None, description="Extracts of a database are kept for a while.")
    partitions: Partitions | None = Field(
        default=None, description="The query is a template, which is asked for each of them."
    )
    where: str | None = Field(
        default=None, description="A condition for rows of another database, not of MySQL."
    )
    transform: Transform | None = Field(
        default=None, description="Instead of a source: rows of another table of this file."
    )
    raw: bool = Field(
        default=False, description="Rows are appended as they are, each as one object, raw_data."
    )
    format: Annotated[str, *_one_of(FORMATS)] | None = None
    dialect: FileDialect = FileDialect()
    columns: Names | None = None
    map: dict[str, str] = Field(
        default={}, description="Columns of the source to columns of the target."
    )
    leave_out: Names | None = None
    lookups: dict[str, TableLookup] = Field(
        default={}, description="Columns of the target that get ids of a dimension."
    )
    whole: str | None = None
    rest: str | None = None
    schema_: (
        Annotated[
            SchemaPolicy,
            BeforeValidator(_schema_policy, json_schema_input_type=SchemaName | SchemaPolicy),
        ]
        | None
    ) = Field(
        default=None,
        alias="schema",
        description="Of columns that the table has not: evolve adds them, freeze refuses them "
        "before anything is written, discard puts them into one jsonb column.",
    )
    record: str | None = None
    feed: Annotated[str, *_one_of(tuple(FEEDS))] | None = None
    policy: Annotated[str, *_one_of(POLICIES)] = "update"
    key: Names | None = None
    order_by: str | None = None
    create: bool = False
    reject_limit: RowLimit = Limit(0, None)
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    executor: str | None = Field(default=None, description="As --executor of sqlkit load.")
    tune: bool = False
    warm: bool = False
    performance: Performance = Performance()
    conflicts: Annotated[str, *_one_of(CONFLICTS)] | None = None
    null_invalid: bool = False
    indexes: Annotated[str, *_one_of(INDEXES)] = "auto"
    batch_bytes: ByteCount | None = None
    atomic: bool = False
    retry_for: Duration = RETRY_FOR
    depends_on: Names | None = Field(
        default=None, description="Tables of this file that come first."
    )
    refresh: Refresh | None = None
    maintenance: (
        Annotated[
            Maintenance, BeforeValidator(_actions, json_schema_input_type=Actions | Maintenance)
        ]
        | None
    ) = Field(
        default=None,
        description="After the rows, and before the hooks after: what of sqlkit optimize.",
    )
    before: Hooks = ()
    after: Hooks = ()

    @property
    def discard(self) -> str | None:
        """The column that takes columns which the table has not."""
        return None if self.schema_ is None else self.schema_.into

    @property
    def schema_policy(self) -> str | None:
        """What else becomes of them: evolve or freeze."""
        return None if self.schema_ is None or self.discard else self.schema_.policy


class Rule(_Model):
    """By which rows of a table contradict each other: see docs/conflicts.md.

    The keys are the arguments of ``sqlkit.define_overlap()`` and its sisters, without ``p_``.
    """

    kind: Annotated[str, *_one_of(tuple(RULES))]
    table: TableName = Field(description="The table or view that it is about.")
    connection: str | None = None
    key: Names | None = None
    changed_by: str | None = None
    resource: Names | None = None
    starts: str | None = None
    ends: str | None = None
    range: str | None = None
    bounds: Annotated[str, *_one_of(("[)", "[]", "(]", "()"))] | None = None
    nulls: Annotated[str, *_one_of(("unbounded", "unknown"))] | None = None
    exempt: Names | None = None
    across: Names | None = None
    gap: str | int | float | None = None
    travel: str | None = Field(default=None, description="A function: app.way(integer, integer).")
    place: Names | None = None
    columns: Names | None = None
    normalised: Names | None = None
    other: TableName | None = None
    missing: bool | None = None

    def arguments(self) -> dict[str, Any]:
        """What the function that makes it is told, beside the name and the table."""
        given = self.model_dump(exclude={"kind", "table", "connection"}, exclude_none=True)
        return {name: _told(name, value) for name, value in given.items()}


def _told(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if name == "gap" else value


class OnFailure(_Model):
    """Who is told of a run that did not do everything."""

    command: Words | None = Field(
        default=None, description="Gets the report as JSON on standard input."
    )
    webhook: str | None = Field(default=None, description="Gets the report as JSON, by POST.")


Variable = str | bool | int | float | date | None


class Project(_Model):
    """A project: connections, and the tables that are loaded through them."""

    connections: dict[str, Connection] = {}
    variables: dict[str, Variable | list[Variable]] = Field(
        default={}, description="What templates know beside stage, target, run and their like."
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        default=8,
        description="How many connections the tables that are loaded at once may have together.",
    )
    tables: Annotated[dict[str, Table], Field(min_length=1)]
    rules: dict[str, Rule] = Field(
        default={}, description="By which rows contradict each other, each with a name."
    )
    on_failure: OnFailure = OnFailure()
    _written: dict[tuple[str | int, ...], str] = PrivateAttr(default={})

    def remember(self, written: dict[tuple[str | int, ...], str]) -> None:
        """Keep texts with references as the file has them, by their places there."""
        self._written = written

    def as_written(self, text: str, *place: str | int) -> str:
        """A text of the file to be shown: what references brought in may be secret. SQL of a file
        is put in all the same."""
        return self._written.get(place, text)

    def hooks_of(self, name: str, moment: str) -> tuple[str, ...]:
        """The hooks `before` or `after` a table to be shown: SQL, or a command behind a $."""
        shown = []
        hooks: tuple[Hook, ...] = getattr(self.tables[name], moment)
        above = ("tables", name, moment)
        for at, hook in enumerate(hooks):
            key = "sql" if hook.command is None else "command"
            text = hook.sql or ""
            if hook.command is not None:
                words = enumerate(hook.command)
                text = shlex.join(
                    self.as_written(self.as_written(word, *above, key, n), *above, at, key, n)
                    for n, word in words
                )
            # A single one need not be in a list.
            text = self.as_written(self.as_written(text, *above, key), *above, at, key)
            shown.append(text if hook.command is None else f"$ {text}")
        return tuple(shown)

    def target_of(self, name: str) -> str:
        """The table in the database, as it is written in the file."""
        return self.tables[name].target or name

    def needs_of(self, name: str) -> set[str]:
        """The tables that come first, as the file says it."""
        table = self.tables[name]
        return {*(table.depends_on or ()), *([table.transform.source] if table.transform else [])}

    def lookups_of(self, name: str, *, may_create: bool = True) -> tuple[Lookup, ...]:
        """The lookups of a table, in the order of the file."""
        found = self.tables[name].lookups
        return tuple(told.lookup(name, may_create=may_create) for name, told in found.items())

    def connection_of(self, name: str) -> str | None:
        """The connection of a table: its own, else the first that is no source."""
        return self.tables[name].connection or self.first_connection

    @property
    def first_connection(self) -> str | None:
        """The first connection that is no source."""
        own = (alias for alias, found in self.connections.items() if found.url is None)
        return next(own, None)

    def rules_at(self, alias: str | None) -> dict[str, Rule]:
        """The conflict rules of a connection, by name."""
        first = self.first_connection
        return {
            name: rule for name, rule in self.rules.items() if (rule.connection or first) == alias
        }

    def sources_of(self, name: str) -> tuple[str, ...]:
        """What a table is loaded from, as `sqlkit.sources.find` takes it. May hold passwords."""
        table = self.tables[name]
        if table.from_ is None:
            return table.source or ()
        connection = self.connections[table.from_]
        if table.source is None:
            return (connection.address(),)
        return tuple(connection.address(source) for source in table.source)


class _WithReferences(GenerateJsonSchema):
    """A schema of the file as it is written, in which a reference may stand for any value."""

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {"anyOf": [super().int_schema(schema), _REFERENCE]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return {"anyOf": [super().bool_schema(schema), _REFERENCE]}

    def encode_default(self, dft: Any) -> Any:
        """Defaults are shown as they would be written too."""
        return str(dft) if isinstance(dft, Limit) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """The JSON schema of sqlkit.yml, for editors. What `read_project` takes is valid under it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Project.model_json_schema(schema_generator=_WithReferences),
        "title": FILE,
    }
