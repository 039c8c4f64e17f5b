"""Errors that sqlkit raises, and the exit codes that the command line makes of them."""

from __future__ import annotations

from typing import Any


class SqlkitError(Exception):
    """Base of every error that sqlkit raises on purpose.

    `code` is an SQLSTATE: PostgreSQL's own where the server raised the error, one of class
    ``SK`` (see ``sql/errors.toml``) where sqlkit did. `detail` holds the values concerned,
    `hint` says what to do next. The message says what went wrong and where.
    """

    exit_code = 1
    default_code = "SK000"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.detail = detail
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[SqlkitError], args: tuple[Any, ...], said: dict[str, Any]) -> Any:
    """An error that came from another process."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(said)
    return error


class UsageError(SqlkitError):
    """The call itself is wrong: an unknown option, options that contradict each other."""

    exit_code = 2
    default_code = "SK001"


def place_of(source: str, line: int | None = None, record: int | None = None) -> str:
    """Where something stands, for people: the number of a record says more than a line alone."""
    if record is None:
        return source if line is None else f"{source}, line {line}"
    return f"{source}, record {record}" + ("" if line is None else f" (line {line})")


class SourceError(SqlkitError):
    """A source cannot be read: missing, cut off, in another encoding, malformed.

    `source` is the name of the source, `line` the physical line (from 1) where it is known, and
    `record` the number of the record (from 1) where that is no matter of lines.
    """

    default_code = "SK101"

    def __init__(
        self,
        message: str,
        *,
        source: str,
        line: int | None = None,
        record: int | None = None,
        code: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = place_of(source, line, record)
        super().__init__(f"{where}: {message}", code=code, detail=detail, hint=hint)
        self.source = source
        self.line = line
        self.record = record


class LostSourceError(SourceError):
    """The way to a source was lost while it was read; it may be there again in a while.

    What the source holds then may differ from what was read of it: it is read from its beginning.
    """

    default_code = "08006"


class DatabaseError(SqlkitError):
    """The server refused a statement; `code` is the SQLSTATE it gave."""


class RejectLimitError(SqlkitError):
    """More rows were refused than the limit allows; nothing of the batch was kept."""

    exit_code = 4
    default_code = "SK301"
