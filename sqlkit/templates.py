"""Transforms of a project: Jinja templates that become one SELECT each.

A template knows `stage` (what it reads from), `target`, `run`, `batch`, `watermark`, `full_refresh`
and the project's variables, and nothing else: a name that does not exist is an error. What is known
at run time only is put in as SQL that asks for it, so that a template becomes the same text each
time, which can be read, linted and run by hand.

Text never gets into the SQL as it is: it has to pass the filter `literal` or `identifier`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import (
    BaseLoader,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
)
from jinja2.exceptions import TemplateNotFound, TemplateRuntimeError, UndefinedError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from sqlkit.config import TEMPLATE_NAMES
from sqlkit.errors import SqlkitError

STAGE = "pg_temp.sqlkit_changed"
"""The view of the rows that changed; made for the time of a transform."""


class TemplateFailedError(SqlkitError):
    """A template cannot become SQL."""

    default_code = "SK503"


@dataclass(frozen=True)
class _Run:
    """The run in the ledger that a transform belongs to."""

    id: Markup


@dataclass(frozen=True)
class _Batch:
    """The rows that a transform sees."""

    rows: Markup


def _setting(name: str, type: str) -> Markup:
    """SQL for a setting that sqlkit.apply_transform() makes; null where it is empty."""
    return Markup(f"nullif(pg_catalog.current_setting('sqlkit.{name}', true), '')::{type}")


RUN = _Run(_setting("run_id", "bigint"))
BATCH = _Batch(_setting("batch_rows", "bigint"))
WATERMARK = _setting("watermark", "timestamptz")
"""When the transform was applied last; null at first and in a full refresh."""


def identifier(value: Any) -> Markup:
    """A name, quoted as SQL wants it; of a list, all of them with commas between."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return Markup(", ").join(identifier(item) for item in value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise TemplateRuntimeError(f"{value!r} is no name of anything in SQL")
    return Markup('"' + value.replace('"', '""') + '"')


def literal(value: Any) -> Markup:
    """A value as SQL writes it; of a list, all of them with commas between."""
    if value is None:
        return Markup("null")
    if isinstance(value, bool):
        return Markup("true" if value else "false")
    if isinstance(value, int | Decimal):
        return Markup(f"({value})" if value < 0 else str(value))
    if isinstance(value, float):
        return Markup(f"'{value!r}'::double precision")
    if isinstance(value, datetime):
        return Markup(f"'{value.isoformat()}'::timestamptz")
    if isinstance(value, date):
        return Markup(f"'{value.isoformat()}'::date")
    if isinstance(value, str):
        if "\0" in value:
            raise TemplateRuntimeError("text in SQL cannot hold a null byte")
        quoted = "'" + value.replace("'", "''") + "'"
        # The same with backslashes, however standard_conforming_strings is set.
        return Markup(" E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted)
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        items = [literal(item) for item in value]
        if not items:
            raise TemplateRuntimeError("an empty list cannot be written in SQL")
        return Markup(", ").join(items)
    raise TemplateRuntimeError(f"{type(value).__name__} cannot be written in SQL")


def _environment(
    literal: Callable[[Any], Markup], loader: BaseLoader | None = None
) -> ImmutableSandboxedEnvironment:
    """What templates become SQL in; `literal` writes the values of the SQL that is meant."""

    def finalize(value: Any) -> Any:
        if isinstance(value, Markup | Undefined):
            return value
        if isinstance(value, str):
            if not value.strip(" ,\n"):  # between the items of a list
                return Markup(value)
            raise TemplateRuntimeError(
                f"text cannot be put into SQL as it is: {value[:60]!r}; "
                "{{ ... | literal }} writes a value, {{ ... | identifier }} a name"
            )
        return literal(value)

    made = ImmutableSandboxedEnvironment(
        loader=loader,
        undefined=StrictUndefined,
        finalize=finalize,
        # What macros and blocks yield is SQL, and known as such.
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"identifier": identifier, "literal": literal}
    return made


class QueryTemplate:
    """A query of another database, into which values are put.

    `quote` writes a text as a literal of that database. Null is refused, since nothing is equal to
    it: a query that wrote it would find no rows, and nobody would know.
    """

    def __init__(self, text: str, quote: Callable[[str], str]) -> None:
        def written(value: Any) -> Markup:
            if value is None:
                raise TemplateRuntimeError(
                    "a value is null, to which nothing is equal: ask {% if NAME is none %}"
                )
            if isinstance(value, bool | int | Decimal):
                return literal(value)
            if isinstance(value, str | float | date):
                shown = value.isoformat(" ") if isinstance(value, datetime) else str(value)
                return Markup(quote(shown))
            if isinstance(value, Iterable) and not isinstance(value, Mapping):
                return Markup(", ").join([written(item) for item in value])
            raise TemplateRuntimeError(f"{type(value).__name__} cannot be written in SQL")

        self._environment = _environment(written)
        try:
            self._template = self._environment.from_string(text)
            parsed = self._environment.parse(text)
        except TemplateSyntaxError as error:
            raise TemplateFailedError(f"query, line {error.lineno}: {error.message}") from None
        self.names = frozenset(find_undeclared_variables(parsed))
        """What it uses."""

    def render(self, values: Mapping[str, Any]) -> str:
        """The query with values. Raises TemplateFailedError."""
        try:
            text = self._template.render(values)
        except TemplateError as error:
            hint = f"It knows {', '.join(values)}." if isinstance(error, UndefinedError) else None
            raise TemplateFailedError(f"query: {error.message}", hint=hint) from None
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise TemplateFailedError(f"query: {error}") from None
        return text.strip().rstrip(";").rstrip()


class Templates:
    """The templates of a project's folder."""

    def __init__(self, folder: Path = Path()) -> None:
        self._environment = _environment(literal, FileSystemLoader(folder))

    def render(
        self,
        name: str,
        *,
        target: str,
        variables: Mapping[str, Any],
        full_refresh: bool = False,
        stage: str = STAGE,
    ) -> str:
        """The SELECT that a template becomes; `target` and `stage` are put in as they are.

        Raises TemplateFailedError (SK503), with file and line.
        """
        try:
            text = self._environment.get_template(name).render(
                **variables,
                stage=Markup(stage),
                target=Markup(target),
                run=RUN,
                batch=BATCH,
                watermark=WATERMARK,
                full_refresh=full_refresh,
            )
        except TemplateNotFound as error:
            raise TemplateFailedError(f"there is no template {error.name}") from None
        except TemplateSyntaxError as error:
            where = f"{error.filename or error.name or name}, line {error.lineno}"
            raise TemplateFailedError(f"{where}: {error.message}") from None
        except TemplateError as error:
            raise TemplateFailedError(
                f"{_where(error, name)}: {error.message}", hint=_hint(error)
            ) from None
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise TemplateFailedError(f"{_where(error, name)}: {error}") from None
        return text.strip().rstrip(";").rstrip() + "\n"


def _where(error: BaseException, name: str) -> str:
    """File and line of a template where an error was raised."""
    place, trace = name, error.__traceback__
    while trace is not None:
        # Jinja writes the template's own lines into the traceback.
        if trace.tb_frame.f_code.co_filename.endswith(".j2"):
            place = f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _hint(error: TemplateError) -> str | None:
    if isinstance(error, UndefinedError):
        return f"A template knows {', '.join(TEMPLATE_NAMES)}, and the variables of sqlkit.yml."
    return None
