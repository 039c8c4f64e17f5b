"""sqlkit.yml: what is loaded, from where, how, and in which order.

The file is read as YAML 1.1 whose keys are always text, references to the environment are put in,
and the result is validated by the models of `config_models`, which are also the JSON schema for
editors. All that is wrong is told at once (SK501), each with its line, its key path, its value,
what is allowed and the nearest right spelling. Secrets must not stand in the text; what references
bring in is never shown.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import parse_qsl, urlsplit

import yaml
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, TypeAdapter, ValidationError

from sqlkit.config_models import (
    FILE,
    OF_RULES,
    RULES,
    SCHEMES,
    Hook,
    Project,
    Rule,
    Table,
    Watermark,
    json_schema,
    listed,
)
from sqlkit.errors import UsageError
from sqlkit.infer import check_table_name
from sqlkit.sources.find import database_of

__all__ = [
    "FILE",
    "TEMPLATE_NAMES",
    "ConfigError",
    "Hook",
    "Problem",
    "Project",
    "Rule",
    "Table",
    "Watermark",
    "json_schema",
    "read_project",
]

TEMPLATE_NAMES = ("stage", "target", "run", "batch", "watermark", "full_refresh")
"""What every template knows. No variable may have such a name."""

SECRETS = ("password", "sslpassword", "oauth_client_secret")
"""Parameters of a connection that must come from the environment or from a file."""

Path_ = tuple[str | int, ...]
"""Keys and positions that lead from the top of the file to a value."""


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
            text += f"{'.' if self.suggestion is None else ''} Allowed: {', '.join(self.allowed)}."
        return text

    def as_dict(self) -> dict[str, Any]:
        """The problem as plain data, as ``sqlkit config check --json`` prints it."""
        return asdict(self)


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
        self._written: dict[Path_, str] = {}

    def read(self, text: str) -> Project:
        try:
            data = self._parse(text)
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            what = getattr(error, "problem", None) or "cannot be read"
            line = 1 if mark is None else mark.line + 1
            if "'\\t'" in str(what):
                what = f"{what}; indent with spaces"
            self._problems.append(Problem(str(self._file), line, "", f"is no YAML: {what}"))
            raise ConfigError(self._file, self._problems) from None
        data = {} if data is None else data
        given = self._resolved(data, ())
        project = None
        try:
            project = Project.model_validate(given)
        except ValidationError as error:
            self._translate_all(error.errors(include_url=False))
        if isinstance(given, dict):
            self._check_secrets(data)
            self._check_rules(given)
        if self._problems or project is None:
            found = dict.fromkeys(self._problems)  # what is referred to may be looked at twice
            raise ConfigError(self._file, sorted(found, key=lambda problem: problem.line))
        project.remember(self._written)
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
        text = _REFERENCE.sub(lambda found: self._reference(found, path), value)
        if _REFERENCE.search(value):
            self._written[path] = _REFERENCE.sub(
                lambda found: self._reference(found, path) if _is_sql(found) else found[0], value
            )
        return text

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
        tell_whole: bool = False,
    ) -> None:
        """Note a problem; `word` is what may be a misspelling of one of `allowed_from`.

        A value with keys or items of its own is only told with `tell_whole`.
        """
        close = difflib.get_close_matches(word or "", allowed_from, 1) if word else []
        known = path
        while known and known not in self._values and known not in self._keys:
            known = known[:-1]
        node = self._keys.get(known) if at_key else self._values.get(known)
        node = node or self._keys.get(known)
        shown = None
        is_told = isinstance(node, yaml.ScalarNode) or tell_whole
        if node is not None and is_told and known == path and not at_key:
            text = _as_written(node)
            shown = "***" if _may_be_secret(path, node, text) else text
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

    def _translate_all(self, errors: Sequence[Any]) -> None:
        """What pydantic found, in our words: a value that may be of several types is one problem.

        Of such a value pydantic tells for each type, under its name, why it is none.
        """
        by_value: dict[Path_, list[str]] = {}
        for error in errors:
            path, branch = self._place(error)
            if branch is None:
                self._translate(error, path)
            else:
                by_value.setdefault(path, []).append(branch)
        for path, branches in by_value.items():
            # Of a list the items that are wrong are told, not the list.
            if not any(other[: len(path)] == path != other for other in by_value):
                self._add(path, f"must be {_any_of(branches)}", tell_whole=True)

    def _place(self, error: Any) -> tuple[Path_, str | None]:
        """Where in the document a problem is, and the type that the value there is none of, if it
        is about one of several."""
        path: Path_ = ()
        branch = None
        for part in error["loc"]:
            if (*path, part) in self._values or (*path, part) in self._keys:
                path, branch = (*path, part), None
            elif isinstance(part, str):
                branch = part
        if error["type"] == "missing" and branch is not None:
            return (*path, branch), None
        return path, branch if (branch or "").partition("[")[0] in _TYPES else None

    def _translate(self, error: Any, path: Path_) -> None:
        """A problem that pydantic found, in our words."""
        kind, context = error["type"], error.get("ctx") or {}
        node = self._values.get(path)
        word = node.value if isinstance(node, yaml.ScalarNode) else None
        if kind == "extra_forbidden":
            fields = _fields_at(error["loc"][:-1])
            self._add(path, "is no key here", allowed_from=fields, word=str(path[-1]), at_key=True)
        elif kind == "missing":
            self._add(path, "is missing")
        elif kind == "one_of":
            self._add(path, "is not known", allowed_from=context["allowed"], word=word)
        elif kind in _MESSAGES:
            self._add(path, _MESSAGES[kind])
        elif kind == "text":
            self._add(path, str(error["msg"]), tell_whole=True)
        else:
            self._add(path, str(error["msg"]).replace("Input should", "should"))

    def _check_secrets(self, data: Any) -> None:
        for name, given in _entries(data, "connections"):
            path: Path_ = ("connections", name)
            for key in SECRETS:
                if isinstance(given.get(key), str) and _literal(given[key]).strip(_TOKEN):
                    self._add((*path, key), _NO_SECRET.format(variable=f"{name.upper()}_PASSWORD"))
            if isinstance(url := given.get("url"), str):
                self._check_address((*path, "url"), url, name)
                more = () if url.startswith("adbc://") else ("password",)  # it has no user
                for key in (key for key in given if key not in ("url", *more)):
                    self._add((*path, key), "has no meaning with url", at_key=True)
            if isinstance(dsn := given.get("dsn"), str):
                try:
                    parts = conninfo_to_dict(_literal(dsn))
                except ProgrammingError:
                    parts = {}
                    if not _REFERENCE.search(dsn):
                        self._add((*path, "dsn"), "is no connection string")
                if any(str(parts.get(key) or "").strip(_TOKEN) for key in SECRETS):
                    self._add((*path, "dsn"), _NO_SECRET.format(variable=f"{name.upper()}_DSN"))
        for name, given in _entries(data, "tables"):
            sources = listed(given.get("source"))
            for at, source in enumerate(sources if isinstance(sources, list) else ()):
                if isinstance(source, str) and "://" in source:
                    place: Path_ = ("tables", name, "source", at)
                    self._check_password(
                        place if place in self._values else place[:-1], source, f"{name}_PASSWORD"
                    )
            cache = given.get("cache")
            if isinstance(cache, dict) and isinstance(kept_in := cache.get("in"), str):
                self._check_password(("tables", name, "cache", "in"), kept_in, "CACHE")
        hook = data.get("on_failure")
        if isinstance(hook, dict) and isinstance(webhook := hook.get("webhook"), str):
            self._check_password(("on_failure", "webhook"), webhook, "WEBHOOK")
            if not _literal(webhook).startswith(("http://", "https://", _TOKEN)):
                self._add(("on_failure", "webhook"), "must begin with https:// or http://")

    def _check_address(self, path: Path_, url: str, name: str) -> None:
        scheme = _literal(url).partition("://")[0]
        if _TOKEN not in scheme and not database_of(f"{scheme}://"):
            self._add(path, "is no address of a database", allowed_from=SCHEMES, word=scheme)
        self._check_password(path, url, f"{name}_PASSWORD")

    def _check_password(self, path: Path_, url: str, variable: str) -> None:
        try:
            parts = urlsplit(_literal(url))
            said = [parts.password or ""]
        except ValueError:
            return
        said += [value for key, value in parse_qsl(parts.query) if _SECRET.search(key)]
        if any(text.strip(_TOKEN) for text in said):
            variable = re.sub(r"\W", "_", variable).upper()
            self._add(path, _NO_SECRET.format(variable=variable))

    def _check_rules(self, data: dict[str, Any]) -> None:
        """What several keys say together."""
        tables = {name: _said(table) for name, table in _entries(data, "tables")}
        connections = {name: _said(given) for name, given in _entries(data, "connections")}
        for name, table in tables.items():
            path: Path_ = ("tables", name)
            for kind, keys in _WITHOUT.items():
                for key in keys if kind in table and not _is(table[kind], False) else ():
                    if key in table:
                        self._add((*path, key), f"has no meaning with {kind}", at_key=True)
            if isinstance(transform := table.get("transform"), dict):
                self._check_transform(path, transform, tables, table, connections)
            self._check_source(path, table, connections)
            for column, lookup in _entries(table, "lookups"):
                self._check_lookup((*path, "lookups", column), _said(lookup))
            if table.get("policy") == "newer" and "order_by" not in table:
                self._add((*path, "policy"), "needs order_by, a column that grows")
            if "order_by" in table and table.get("policy") not in ("newer", "history"):
                self._add((*path, "order_by"), "is for policies newer and history", at_key=True)
            for moment in ("before", "after"):
                hooks = listed(table.get(moment))
                for at, hook in enumerate(hooks if isinstance(hooks, list) else ()):
                    if isinstance(hook, dict) and ("sql" in hook) == ("command" in hook):
                        self._add((*path, moment, at), "needs sql or command, one of them")
            for key in ("connection", "from"):
                wanted = table.get(key)
                if isinstance(wanted, str) and wanted not in connections:
                    self._add(
                        (*path, key),
                        "is none of the connections",
                        allowed_from=list(connections),
                        word=wanted,
                    )
            if "url" in connections.get(str(table.get("connection")), {}):
                self._add((*path, "connection"), "is only read from: say from", at_key=True)
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
            self._check_rule(("rules", name), _said(rule), connections)
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
                if key in OF_RULES and key not in (*needed, *more):
                    self._add((*path, key), f"has no meaning with kind {kind}", at_key=True)
        wanted = rule.get("connection")
        if isinstance(wanted, str) and wanted not in connections:
            self._add(
                (*path, "connection"),
                "is none of the connections",
                allowed_from=list(connections),
                word=wanted,
            )

    def _check_lookup(self, path: Path_, lookup: dict[str, Any]) -> None:
        key, named = listed(lookup.get("key")), listed(lookup.get("from"))
        if isinstance(key, list) and isinstance(named, list) and len(key) != len(named):
            self._add((*path, "from"), f"must name as many columns as key, {len(key)}")
        if _is(lookup.get("create"), False) and "defaults" in lookup:
            self._add((*path, "defaults"), "has no meaning with create: false", at_key=True)

    def _check_source(
        self, path: Path_, table: dict[str, Any], connections: dict[str, Any]
    ) -> None:
        """Where rows come from."""
        sources = listed(table.get("source"))
        places = [s for s in sources if isinstance(s, str)] if isinstance(sources, list) else []
        is_address = "from" in table or (
            bool(places)
            and all(s.startswith(_TOKEN) or database_of(s) for s in map(_literal, places))
        )
        has_query, has_source = "query" in table, "source" in table
        if "transform" in table and (has_query or has_source):
            key = "source" if has_source else "query"
            self._add((*path, key), "has no meaning with transform", at_key=True)
        elif not ("transform" in table or has_query or has_source):
            self._add(path, "needs source, query or transform, one of them", at_key=True)
        elif has_query and "from" in table and has_source:
            self._add((*path, "query"), "needs no source beside from", at_key=True)
        elif has_query and has_source and (not is_address or len(places) != 1):
            self._add((*path, "query"), "needs the address of one database for source", at_key=True)
        elif has_query and not has_source and "from" not in table and "refresh" not in table:
            self._add((*path, "query"), "needs from, a connection, or refresh", at_key=True)
        if "lookups" in table and has_query and not has_source and "from" not in table:
            self._add((*path, "lookups"), "has no meaning with a query here: join", at_key=True)
        if "watermark" in table and not is_address:
            self._add((*path, "watermark"), "is for sources that are databases", at_key=True)
        elif (
            isinstance(mark := table.get("watermark"), dict)
            and "overlap" in mark
            and table.get("policy") in ("append", "error")
        ):
            why = f"is not for policy {table['policy']}"
            self._add((*path, "watermark", "overlap"), why, at_key=True)
        if (schema := table.get("schema")) is not None:
            said = schema if isinstance(schema, dict) else {"policy": schema}
            if (said.get("policy") == "discard") != ("into" in said):
                self._add((*path, "schema"), "needs into, with discard, and only then", at_key=True)
            elif said.get("policy") == "discard" and "rest" in table:
                self._add((*path, "rest"), "has no meaning with schema discard", at_key=True)
            elif said.get("policy") != "discard" and "*" in (listed(table.get("leave_out")) or ()):
                why = "leaves nothing for schema to decide"
                self._add((*path, "leave_out"), why, at_key=True)
        if "cache" in table and not is_address:
            self._add((*path, "cache"), "is for sources that are databases", at_key=True)
        if isinstance(parts := table.get("partitions"), dict):
            if not (has_query and is_address):
                self._add((*path, "partitions"), "needs query, of another database", at_key=True)
            if "mark" not in parts and table.get("policy") in ("append", "error"):
                why = f"needs mark, with policy {table['policy']}: rows would come again"
                self._add((*path, "partitions"), why, at_key=True)
        performance = table.get("performance")
        if (
            isinstance(performance, dict)
            and "rules" in performance
            and (
                performance.get("strategy", "auto") != "auto"
                or _is(performance.get("enabled"), False)
            )
        ):
            self._add((*path, "performance", "rules"), "are for strategy auto", at_key=True)

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
            first = next((n for n, given in connections.items() if "url" not in given), None)
            if tables[source].get("connection", first) != table.get("connection", first):
                self._add((*path, "transform", "source"), "has another connection")
        if isinstance(file, str) and not file.endswith(".sql.j2"):
            self._add((*path, "transform", "sql"), "is no template: their names end in .sql.j2")
        elif isinstance(file, str) and not (_REFERENCE.search(file) or Path(file).is_file()):
            self._add((*path, "transform", "sql"), "there is no such file")


_FLAG = TypeAdapter(bool)
_REFERENCE = re.compile(
    r"\$?\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?)\}"
)
_SECRET = re.compile(
    "pass(word|wd|phrase)?$|pwd|secret|token|api[-_]?key|signature|^sig$|credential", re.IGNORECASE
)
"""Options of an address that hold secrets."""
_TOKEN = "\x7f"
"""Stands where a reference stood, while the text around it is looked at."""

_NO_SECRET = (
    "a secret must not stand in the text. Put it into the environment or a file and refer to it: "
    "${{{variable}}} or ${{file:/run/secrets/...}}"
)

_TAKES_ROWS = (
    "schema",
    "create",
    "whole",
    "rest",
    "record",
    "feed",
    "workers",
    "where",
    "executor",
    "tune",
    "warm",
    "performance",
    "conflicts",
    "null_invalid",
    "indexes",
    "batch_bytes",
)

_WITHOUT = {
    "refresh": (
        *_TAKES_ROWS,
        "reject_limit",
        "policy",
        "order_by",
        "atomic",
        "raw",
        "watermark",
        "partitions",
        "cache",
    ),
    "watermark": ("cache",),
    "partitions": ("watermark", "executor", "atomic"),
    "raw": (
        *("policy", "key", "order_by", "map", "leave_out", "lookups", "whole", "rest", "schema"),
    ),
    "transform": (
        *_TAKES_ROWS,
        *("atomic", "raw", "refresh", "format", "dialect", "columns", "map", "leave_out"),
        *("from", "watermark", "partitions", "cache"),
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


_TYPES = {
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "date": "a date",
    "list": "a list of them",
}
"""Of values that may be of several types: what pydantic calls them, and we."""


def _any_of(names: Sequence[str]) -> str:
    """What a value may be, of types as pydantic calls them."""
    found = dict.fromkeys(_TYPES[name.partition("[")[0]] for name in names)
    if _TYPES["float"] in found:
        found.pop(_TYPES["int"], None)
    *most, last = found
    return f"{', '.join(most)} or {last}" if most else last


def _is_sql(reference: re.Match[str]) -> bool:
    """Whether a reference is one to a file of SQL, which is no secret."""
    return (reference["file"] or "").endswith(".sql")


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


def _said(entry: dict[str, Any]) -> dict[str, Any]:
    """The keys of an entry that have a value."""
    return {key: value for key, value in entry.items() if value is not None}


def _is(value: Any, wanted: bool) -> bool:
    """Whether a value is true, or false, as it is read: a reference brings in a text for it."""
    try:
        return _FLAG.validate_python(value) is wanted
    except ValidationError:
        return False


def _before(table: dict[str, Any]) -> list[Any]:
    names = listed(table.get("depends_on"))
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
            kind = next(
                field.annotation
                for name, field in kind.model_fields.items()
                if (field.alias or name) == part
            )
        else:
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        while get_origin(kind) in (Annotated, Union, UnionType):
            kind = get_args(kind)[0]
    if not issubclass(kind, BaseModel):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


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


def _may_be_secret(path: Path_, node: yaml.Node, text: str) -> bool:
    """Whether a value is not to be repeated; of one with keys, their names may tell it."""
    if path[:1] == ("connections",) and path[-1] in ("dsn", "url", *SECRETS):
        return True
    if path[-1:] == ("webhook",) or "://" in text:
        return True
    return not isinstance(node, yaml.ScalarNode) and _SECRET.search(text) is not None


def _as_written(node: yaml.Node) -> str:
    """The value of a scalar; else the text of it, in one line."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    start, end = node.start_mark, node.end_mark
    return " ".join(str(start.buffer)[start.pointer : end.pointer].split())


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
