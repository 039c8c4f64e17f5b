"""sqlkit.yml: what is loaded, from where, how, and in which order.

The file is read as YAML 1.1 whose keys are always text, references to the environment are put in,
and the result is validated by the models below, which are also the JSON schema for editors. All
that is wrong is told at once (SK501), each with its line, its key path, its value, what is allowed
and the nearest right spelling. Secrets must not stand in the text; what references bring in is
never shown.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from sqlkit.errors import UsageError
from sqlkit.infer import check_table_name
from sqlkit.options import CONFLICTS, INDEXES, POLICIES
from sqlkit.options import STRATEGIES as LOAD_STRATEGIES
from sqlkit.refresh import STRATEGIES
from sqlkit.sources.base import Dialect
from sqlkit.sources.feeds import FEEDS
from sqlkit.sources.find import FORMATS
from sqlkit.transient import RETRY_FOR
from sqlkit.units import parse_bytes, parse_limit, parse_seconds

FILE = "sqlkit.yml"

TEMPLATE_NAMES = ("stage", "target", "run", "batch", "watermark", "full_refresh")
"""What every template knows. No variable may have such a name."""

SECRETS = ("password", "sslpassword", "oauth_client_secret")
"""Parameters of a connection that must come from the environment or from a file."""

Path_ = tuple[str | int, ...]
"""Keys and positions that lead from the top of the file to a value."""


_INTERVAL = ("starts", "ends", "range", "exempt", "across", "changed_by")
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "overlap": (("resource",), (*_INTERVAL, "bounds", "nulls")),
    "distance": (("resource", "gap"), (*_INTERVAL, "travel", "place")),
    "duplicate": (("columns",), ("normalised", "changed_by")),
    "disagree": (("other",), ("columns", "missing")),
}
"""The kinds of conflict rules: the keys that each needs, and those that it may have."""

_OF_RULES = {key for needed, more in RULES.values() for key in (*needed, *more)}


class ConfigError(UsageError):
    """A project's file is wrong; `problems` lists all that is."""

    default_code = "SK501"

    def __init__(self, file: Path, problems: Sequence[Problem]) -> None:
        number = len(problems)
        super().__init__(
            f"{file}: {'one thing is' if number == 1 else f'{number} things are'} wrong",
            detail="\n".join(str(problem) for problem in problems),
            hint="sqlkit config schema prints a JSON schema, with which editors check the file.",
        )
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what stands there, what may, and what was probably meant."""

    file: str
    line: int
    path: str
    message: str
    value: str | None = None
    allowed: tuple[str, ...] = ()
    suggestion: str | None = None

    def __str__(self) -> str:
        text = f"{self.file}, line {self.line}: {self.path or 'the file'}: {self.message}"
        if self.suggestion is not None:
            text += f"; did you mean {self.suggestion}?"
        if self.allowed:
            text += f" Allowed: {', '.join(self.allowed)}."
        return text

    def as_dict(self) -> dict[str, Any]:
        """The problem as plain data, as ``sqlkit config check --json`` prints it."""
        return asdict(self)


# --------------------------------------------------------------------------------------------
# The models
# --------------------------------------------------------------------------------------------


class Limit(NamedTuple):
    """A number of rows, or a share of them (0 to 1)."""

    rows: int | None
    share: float | None


def _listed(value: Any) -> Any:
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


def _one_of(allowed: Sequence[str]) -> tuple[AfterValidator, Any]:
    def validate(value: str) -> str:
        if value not in allowed:
            raise PydanticCustomError("one_of", "not known", {"allowed": list(allowed)})
        return value

    return AfterValidator(validate), Field(json_schema_extra={"enum": list(allowed)})


def _table_name(value: str) -> str:
    try:
        check_table_name(value)
    except UsageError as error:
        raise PydanticCustomError("table", "{why}", {"why": error.message}) from None
    return value


_TEXT: dict[str, Any] = {"type": "string"}
_ONE_OR_MORE = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_NUMBER_OR_TEXT = WithJsonSchema({"type": ["integer", "string"]})

Names = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_listed),
    WithJsonSchema(_ONE_OR_MORE),
]
Words = Annotated[
    tuple[str, ...], Field(min_length=1), BeforeValidator(_words), WithJsonSchema(_ONE_OR_MORE)
]
RowLimit = Annotated[
    Limit,
    _parsed(_limit),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9.]+%?$"}]}),
]
ByteCount = Annotated[int, _parsed(parse_bytes), _NUMBER_OR_TEXT]
Duration = Annotated[float, _parsed(parse_seconds), _NUMBER_OR_TEXT]
TableName = Annotated[str, AfterValidator(_table_name)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Connection(_Model):
    """A server and a database: a connection string, or its parts, or both (the parts count)."""

    dsn: str | None = None
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
        parts = self.model_dump(exclude={"dsn"}, exclude_none=True)
        return make_conninfo(self.dsn or "", **parts)


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


class Refresh(_Model):
    """The table is given a whole new content, instead of being added to."""

    strategy: Annotated[str, *_one_of(STRATEGIES)] = "mirror"
    scope: Names | None = None
    max_delete: RowLimit = Limit(None, 0.1)


class Performance(_Model):
    """How rows get to the server. The result is the same."""

    enabled: bool = Field(
        default=True, description="False: the plain reference way, one stream of INSERTs."
    )
    strategy: Annotated[str, *_one_of(LOAD_STRATEGIES)] = "auto"


class Transform(_Model):
    """Rows are made by a SELECT in a template, of the rows of another table that changed."""

    source: str = Field(description="The table of this file whose rows are transformed.")
    sql: str = Field(description="The template, such as sql/price.sql.j2.")


class Table(_Model):
    """A table and what goes into it. Its name in the file is the target's, unless that is said."""

    target: TableName | None = None
    connection: str | None = None
    source: Names | None = Field(default=None, description="Files and patterns, in this order.")
    query: str | None = Field(
        default=None, description="With refresh: the new content, as a query."
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
    whole: str | None = None
    rest: str | None = None
    record: str | None = None
    feed: Annotated[str, *_one_of(tuple(FEEDS))] | None = None
    policy: Annotated[str, *_one_of(POLICIES)] = "update"
    key: Names | None = None
    order_by: str | None = None
    create: bool = False
    reject_limit: RowLimit = Limit(0, None)
    workers: Annotated[int, Field(ge=1, le=64)] = 2
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
    before: Annotated[tuple[Hook, ...], BeforeValidator(_listed)] = ()
    after: Annotated[tuple[Hook, ...], BeforeValidator(_listed)] = ()


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

    def target_of(self, name: str) -> str:
        """The table in the database, as it is written in the file."""
        return self.tables[name].target or name

    def needs_of(self, name: str) -> set[str]:
        """The tables that come first, as the file says it."""
        table = self.tables[name]
        return {*(table.depends_on or ()), *([table.transform.source] if table.transform else [])}

    def connection_of(self, name: str) -> str | None:
        """The connection of a table: its own, else the first; None where there are none."""
        return self.tables[name].connection or next(iter(self.connections), None)

    def rules_at(self, alias: str | None) -> dict[str, Rule]:
        """The conflict rules of a connection, by name."""
        first = next(iter(self.connections), None)
        return {
            name: rule for name, rule in self.rules.items() if (rule.connection or first) == alias
        }


def json_schema() -> dict[str, Any]:
    """The JSON schema of sqlkit.yml, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Project.model_json_schema(),
        "title": FILE,
    }


# --------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------


def read_project(file: Path, environment: Mapping[str, str] = os.environ) -> Project:
    """The project that a file describes. Relative paths in it start from the current directory.

    Raises ConfigError with all that is wrong, UsageError where there is no such file.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(
            f"there is no {file}",
            code="SK501",
            hint="Make a project with sqlkit init, or name its folder with --project.",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(file, [Problem(str(file), 1, "", f"is not UTF-8: {error}")]) from None
    return _Reading(file, environment).read(text)


class _Reading:
    """One file, and what was found to be wrong with it."""

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment
        self._problems: list[Problem] = []
        self._keys: dict[Path_, yaml.Node] = {}
        self._values: dict[Path_, yaml.Node] = {}

    def read(self, text: str) -> Project:
        try:
            data = self._parse(text)
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            what = getattr(error, "problem", None) or "cannot be read"
            line = 1 if mark is None else mark.line + 1
            self._problems.append(Problem(str(self._file), line, "", f"is no YAML: {what}"))
            raise ConfigError(self._file, self._problems) from None
        data = {} if data is None else data
        given = self._resolved(data, ())
        project = None
        try:
            project = Project.model_validate(given)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                self._translate(found)
        if isinstance(given, dict):
            self._check_secrets(data)
            self._check_rules(given)
        if self._problems or project is None:
            raise ConfigError(self._file, sorted(self._problems, key=lambda problem: problem.line))
        return project

    # YAML -----------------------------------------------------------------------------------

    def _parse(self, text: str) -> Any:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            self._prepare(node, (), ())
            data = loader.construct_document(node)  # merges << on the way
            self._note(node, ())
            return data
        finally:
            loader.dispose()

    def _prepare(self, node: yaml.Node, path: Path_, above: tuple[yaml.Node, ...]) -> None:
        """Make every key text (null, yes and 1 too), and find keys that are there twice."""
        if node in above:
            raise yaml.MarkedYAMLError(problem="an alias within itself", problem_mark=_mark(node))
        above = (*above, node)
        if isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self._prepare(item, (*path, position), above)
        elif isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                    key.tag = "tag:yaml.org,2002:str"
                    first = seen.setdefault(key.value, _line(key))
                    if first != _line(key):
                        self._keys[(*path, key.value)] = key
                        self._add(
                            (*path, key.value), f"is there already, on line {first}", at_key=True
                        )
                self._prepare(value, (*path, str(key.value)), above)

    def _note(self, node: yaml.Node, path: Path_) -> None:
        """Remember where everything stands."""
        self._values[path] = node
        if isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self._note(item, (*path, position))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._keys[(*path, key.value)] = key
                self._note(value, (*path, key.value))

    # References -----------------------------------------------------------------------------

    def _resolved(self, value: Any, path: Path_) -> Any:
        """The value with ${NAME}, ${NAME:-default} and ${file:PATH} put in; $${ stands for ${."""
        if isinstance(value, dict):
            return {key: self._resolved(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item, (*path, at)) for at, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        return _REFERENCE.sub(lambda found: self._reference(found, path), value)

    def _reference(self, found: re.Match[str], path: Path_) -> str:
        if found[0].startswith("$$"):
            return found[0][1:]
        if (file := found["file"]) is not None:
            try:
                return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is not text"
                self._add(path, f"the file {file} cannot be read: {why}")
                return ""
        name, default = found["name"], found["default"]
        value = self._environment.get(name) or default
        if value is None:
            self._add(
                path,
                f"the variable {name} is not set in the environment",
                allowed_from=list(self._environment),
                word=name,
                tell_allowed=False,
            )
            return ""
        return value

    # What is wrong --------------------------------------------------------------------------

    def _add(
        self,
        path: Path_,
        message: str,
        *,
        allowed_from: Sequence[str] = (),
        word: str | None = None,
        tell_allowed: bool = True,
        at_key: bool = False,
    ) -> None:
        """Note a problem; `word` is what may be a misspelling of one of `allowed_from`."""
        close = difflib.get_close_matches(word or "", allowed_from, 1) if word else []
        known = path
        while known and known not in self._values and known not in self._keys:
            known = known[:-1]
        node = self._keys.get(known) if at_key else self._values.get(known)
        node = node or self._keys.get(known)
        shown = None
        if isinstance(node, yaml.ScalarNode) and known == path and not at_key:
            is_secret = path[:1] == ("connections",) and path[-1] in ("dsn", *SECRETS)
            shown = "***" if is_secret or path[-1:] == ("webhook",) else node.value
        self._problems.append(
            Problem(
                file=str(self._file),
                line=1 if node is None else _line(node),
                path=_written(path),
                message=message if shown is None else f"{_short(shown)} {message}",
                value=shown,
                allowed=tuple(allowed_from) if tell_allowed else (),
                suggestion=close[0] if close else None,
            )
        )

    def _translate(self, error: Any) -> None:
        """A problem that pydantic found, in our words."""
        path, kind, context = tuple(error["loc"]), error["type"], error.get("ctx") or {}
        node = self._values.get(path)
        word = node.value if isinstance(node, yaml.ScalarNode) else None
        if kind == "extra_forbidden":
            fields = _fields_at(path[:-1])
            self._add(path, "is no key here", allowed_from=fields, word=str(path[-1]), at_key=True)
        elif kind == "missing":
            self._add(path, "is missing")
        elif kind == "one_of":
            self._add(path, "is not known", allowed_from=context["allowed"], word=word)
        elif kind in _MESSAGES:
            self._add(path, _MESSAGES[kind])
        else:
            self._add(path, str(error["msg"]).replace("Input should", "should"))

    def _check_secrets(self, data: Any) -> None:
        for name, given in _entries(data, "connections"):
            path: Path_ = ("connections", name)
            for key in SECRETS:
                if isinstance(given.get(key), str) and _literal(given[key]).strip(_TOKEN):
                    self._add((*path, key), _NO_SECRET.format(variable=f"{name.upper()}_PASSWORD"))
            if isinstance(dsn := given.get("dsn"), str):
                try:
                    parts = conninfo_to_dict(_literal(dsn))
                except ProgrammingError:
                    parts = {}
                    if not _REFERENCE.search(dsn):
                        self._add((*path, "dsn"), "is no connection string")
                if any(str(parts.get(key) or "").strip(_TOKEN) for key in SECRETS):
                    self._add((*path, "dsn"), _NO_SECRET.format(variable=f"{name.upper()}_DSN"))
        hook = data.get("on_failure")
        if isinstance(hook, dict) and isinstance(hook.get("webhook"), str):
            address = urlsplit(_literal(hook["webhook"]))
            if (address.password or "").strip(_TOKEN):
                self._add(("on_failure", "webhook"), _NO_SECRET.format(variable="WEBHOOK"))
            elif not _literal(hook["webhook"]).startswith(("http://", "https://", _TOKEN)):
                self._add(("on_failure", "webhook"), "must begin with https:// or http://")

    def _check_rules(self, data: dict[str, Any]) -> None:
        """What several keys say together."""
        tables = dict(_entries(data, "tables"))
        connections = dict(_entries(data, "connections"))
        for name, table in tables.items():
            path: Path_ = ("tables", name)
            for kind, keys in _WITHOUT.items():
                for key in keys if table.get(kind) not in (None, False) else ():
                    if key in table:
                        self._add((*path, key), f"has no meaning with {kind}", at_key=True)
            if isinstance(transform := table.get("transform"), dict):
                self._check_transform(path, transform, tables, table, connections)
            if sum(key in table for key in ("source", "query", "transform")) != 1:
                self._add(path, "needs source, query or transform, one of them", at_key=True)
            elif "query" in table and "refresh" not in table:
                self._add((*path, "query"), "is for tables with refresh", at_key=True)
            if table.get("policy") == "newer" and "order_by" not in table:
                self._add((*path, "policy"), "needs order_by, a column that grows")
            if "order_by" in table and table.get("policy") not in ("newer", "history"):
                self._add((*path, "order_by"), "is for policies newer and history", at_key=True)
            for moment in ("before", "after"):
                hooks = _listed(table.get(moment))
                for at, hook in enumerate(hooks if isinstance(hooks, list) else ()):
                    if isinstance(hook, dict) and ("sql" in hook) == ("command" in hook):
                        self._add((*path, moment, at), "needs sql or command, one of them")
            wanted = table.get("connection")
            if isinstance(wanted, str) and wanted not in connections:
                self._add(
                    (*path, "connection"),
                    "is none of the connections",
                    allowed_from=list(connections),
                    word=wanted,
                )
            for at, other in enumerate(_before(table)):
                if other not in tables:
                    place = (*path, "depends_on", at)
                    place = place if place in self._values else place[:-1]
                    self._add(
                        place, "is none of the tables", allowed_from=list(tables), word=str(other)
                    )
            if "target" not in table:
                try:
                    check_table_name(name)
                except UsageError as error:
                    self._add(path, error.message, at_key=True)
        for name, rule in _entries(data, "rules"):
            self._check_rule(("rules", name), rule, connections)
        for name in data["variables"] if isinstance(data.get("variables"), dict) else ():
            if name in TEMPLATE_NAMES or not name.isidentifier():
                self._add(
                    ("variables", name),
                    "is the name of something else in templates"
                    if name in TEMPLATE_NAMES
                    else "is no name that a template could use: letters, digits and _",
                    at_key=True,
                )
        try:
            graph = {name: _before(table) + _transformed(table) for name, table in tables.items()}
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = " needs ".join(reversed(error.args[1]))
            self._add(("tables", error.args[1][0], "depends_on"), f"goes in a circle: {circle}")

    def _check_rule(
        self, path: Path_, rule: dict[str, Any], connections: dict[str, dict[str, Any]]
    ) -> None:
        kind = rule.get("kind")
        needed, more = RULES.get(kind, ((), None)) if isinstance(kind, str) else ((), None)
        if more is not None:
            for key in needed:
                if key not in rule:
                    self._add(path, f"needs {key}, of kind {kind}", at_key=True)
            for key in rule:
                if key in _OF_RULES and key not in (*needed, *more):
                    self._add((*path, key), f"has no meaning with kind {kind}", at_key=True)
        wanted = rule.get("connection")
        if isinstance(wanted, str) and wanted not in connections:
            self._add(
                (*path, "connection"),
                "is none of the connections",
                allowed_from=list(connections),
                word=wanted,
            )

    def _check_transform(
        self,
        path: Path_,
        transform: dict[str, Any],
        tables: dict[str, dict[str, Any]],
        table: dict[str, Any],
        connections: dict[str, Any],
    ) -> None:
        source, file = transform.get("source"), transform.get("sql")
        if isinstance(source, str) and source not in tables:
            self._add(
                (*path, "transform", "source"),
                "is none of the tables",
                allowed_from=list(tables),
                word=source,
            )
        elif isinstance(source, str):
            first = next(iter(connections), None)
            if tables[source].get("connection", first) != table.get("connection", first):
                self._add((*path, "transform", "source"), "has another connection")
        if isinstance(file, str) and not file.endswith(".sql.j2"):
            self._add((*path, "transform", "sql"), "is no template: their names end in .sql.j2")


_REFERENCE = re.compile(
    r"\$?\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?)\}"
)
_TOKEN = "\x7f"
"""Stands where a reference stood, while the text around it is looked at."""

_NO_SECRET = (
    "a secret must not stand in the text. Put it into the environment or a file and refer to it: "
    "${{{variable}}} or ${{file:/run/secrets/...}}"
)

_TAKES_ROWS = (
    "create",
    "reject_limit",
    "whole",
    "rest",
    "record",
    "feed",
    "workers",
    "performance",
    "conflicts",
    "null_invalid",
    "indexes",
    "batch_bytes",
)

_WITHOUT = {
    "refresh": (*_TAKES_ROWS, "policy", "order_by", "atomic", "raw"),
    "raw": ("policy", "key", "order_by", "map", "leave_out", "whole", "rest"),
    "transform": (
        *_TAKES_ROWS,
        *("atomic", "raw", "refresh", "format", "dialect", "columns", "map", "leave_out"),
    ),
}
"""Keys that have no meaning beside another one."""

_MESSAGES = {
    "string_type": "must be text (in quotes, if it looks like something else)",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "dict_type": "must have keys of its own",
    "model_type": "must have keys of its own",
    "tuple_type": "must be text or a list",
    "too_short": "must not be empty",
}


def _literal(text: str) -> str:
    """The text with what defaults of references say, and a token for what comes from elsewhere."""
    return _REFERENCE.sub(
        lambda found: _TOKEN if found["default"] is None else found["default"], text
    )


def _entries(data: Any, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = data.get(section)
    for name, entry in found.items() if isinstance(found, dict) else ():
        if isinstance(entry, dict):
            yield name, entry


def _before(table: dict[str, Any]) -> list[Any]:
    names = _listed(table.get("depends_on"))
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _transformed(table: dict[str, Any]) -> list[Any]:
    transform = table.get("transform")
    source = transform.get("source") if isinstance(transform, dict) else None
    return [source] if isinstance(source, str) else []


def _fields_at(path: Path_) -> list[str]:
    """The keys that the model at a path has."""
    kind: Any = Project
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        while get_origin(kind) in (Annotated, Union, UnionType):
            kind = get_args(kind)[0]
    return list(kind.model_fields) if issubclass(kind, BaseModel) else []


def _written(path: Path_) -> str:
    text = ""
    for part in path:
        is_word = isinstance(part, str) and re.fullmatch(r"\w+", part) is not None
        text += f".{part}" if is_word else f"[{json.dumps(part, ensure_ascii=False)}]"
    return text.removeprefix(".")


def _short(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[:length] + " ...")


def _mark(node: yaml.Node) -> Any:
    return node.start_mark


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
