"""Foreign servers: what makes one is rendered from a template, a user's own where there is one.

Names and values get into it quoted. A password does not get into it at all.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql

from sqlkit.errors import UsageError

TEMPLATES = Path(__file__).parent / "template" / "fdw"

KINDS = {
    "postgres": "password",
    "mysql": "password",
    "file": None,
    "tds": "password",
    "oracle": "password",
    "snowflake": "odbc_PWD",
}
"""The kinds that there is a template for, and what the wrapper calls a password."""

SECRETS = {"odbc_fdw": "odbc_PWD"}
"""What wrappers call a password that do not call it password."""

NOT_RUN = ("tds", "oracle", "snowflake")
"""Kinds whose template no test has run."""

UNPACK = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Programs that unpack files on the server, by the end of the name."""


@dataclass(frozen=True)
class ForeignServer:
    """A foreign server and the tables that are made for it.

    `schema` is where its tables go, `remote_schema` and `tables` which ones they are; `options` are
    the wrapper's, those of the server or, of kind file, of the table. Of kind file, `path` is a
    file on the database server, or `program` a command there that prints one, and `like` the table
    that it has the columns of. `template` is a file with a template of the user's own.
    """

    name: str
    kind: str
    schema: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    user: str | None = None
    remote_schema: str | None = None
    tables: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    program: str | None = None
    like: str | None = None
    template: Path | None = None

    def check(self) -> None:
        """Raises UsageError for what is missing or too much."""
        if self.template is None and self.kind not in KINDS:
            raise UsageError(
                f"there is no kind {self.kind!r} of foreign server",
                hint=f"One of {', '.join(KINDS)}; or a template of your own: --template FILE.",
            )
        needed = {
            "file": (("like", self.like),),
            "postgres": (("database", self.database),),
        }.get(self.kind, (("host", self.host), ("database", self.database)))
        if missing := [name for name, value in needed if not value and self.template is None]:
            raise UsageError(
                f"kind {self.kind} needs {' and '.join(f'--{name}' for name in missing)}"
            )
        schema = self.name if self.schema is None else self.schema
        for name in (self.name, schema):
            if not 0 < len(name.encode()) < 64:
                raise UsageError(
                    f"no name for a server or a schema: {name!r}; they have 1 to 63 bytes"
                )
        if schema in ("sqlkit", "sqlkit_stage"):
            raise UsageError(
                f"schema {schema} is sqlkit's own", hint="Say where its tables go: --schema NAME."
            )
        if self.kind == "file" and (self.path is None) == (self.program is None):
            raise UsageError("kind file needs either --path or --program")
        if any(name in self.options for name in ("password", "odbc_PWD")):
            raise UsageError(
                "a password is no option of a server: everybody can read those",
                hint="Name the environment variable that holds it: --password-env NAME.",
            )

    @property
    def secret_option(self) -> str:
        """What the user mapping calls the password."""
        return KINDS.get(self.kind) or "password"

    def render(self, columns: list[tuple[str, str]] | None = None) -> str:
        """The script that makes it. `columns` (name, type) are those of `like`.

        Raises UsageError for a template that cannot be rendered.
        """
        import jinja2

        folders = [str(TEMPLATES)]
        name = f"{self.kind}.sql.j2"
        if self.template is not None:
            folders.insert(0, str(self.template.parent))
            name = self.template.name
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folders),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters.update(
            ident=_identifier, literal=_literal, json=json.dumps, given=_given
        )
        path, program = self.path, self.program
        ending = Path(path or "").suffix
        if path is not None and ending in UNPACK:
            program, path = f"{UNPACK[ending]} -dc {shlex.quote(path)}", None
        try:
            return environment.get_template(name).render(
                name=self.name,
                kind=self.kind,
                schema=self.name if self.schema is None else self.schema,
                host=self.host,
                port=self.port,
                database=self.database,
                user=self.user,
                remote_schema=self.remote_schema,
                tables=self.tables,
                table=self.tables[0] if self.tables else self.name,
                options=self.options,
                path=path,
                program=program,
                columns=columns or [],
            )
        except (jinja2.TemplateError, OSError) as error:
            raise UsageError(f"the template {name} cannot be rendered: {error}") from error


def _identifier(name: Any) -> str:
    return sql.Identifier(str(name)).as_string()


def _literal(value: Any) -> str:
    return sql.Literal(str(value)).as_string()


def _given(defaults: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, str]:
    """Defaults that have a value, with a user's options in their place; '' leaves one out."""
    merged = {**defaults, **options}
    return {name: str(value) for name, value in merged.items() if value not in (None, "")}
