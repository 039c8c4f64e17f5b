"""Tables and queries of any database that has a driver: by ADBC, or by a DB-API module of Python.

    adbc+postgresql://user@host/database#table     adbc://flightsql?uri=grpc%3A%2F%2Fhost%3A1#table
    dbapi+oracledb://user@host:1521/service#table  dbapi+sqlite3:///folder/file.db#table

Rows come as batches of Arrow where the driver has them, else as tuples. They are read once, and
kept on disk until they are committed (`spool`). What is not wanted is left out by the query: the
columns that are loaded, and the condition, are written around it.

What the driver is called with may name variables of the environment, ``${NAME}``. Neither they nor
passwords are shown: not in names, and not in what a driver says (`Database.said`).

Errors (`SourceError`): SK101 the database, or the driver, refuses; SK111 a name that two columns
have; SK125 a column by which newer rows are not known.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.addresses import shortened
from sqlkit.sources.base import BinaryReader, CopyFormat, Piece, Progress, ResumePoint, WantedColumn
from sqlkit.sources.newer import Mark, Newer, identity_of, with_condition
from sqlkit.sources.rows import RowsSource
from sqlkit.sources.text_rows import ROWS

PASSWORD = "SQLKIT_SOURCE_PASSWORD"
"""The variable of a password that the address leaves out."""

FETCHED = 2_000
"""Rows that a driver without Arrow is asked for at a time."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_TABLE = re.compile(r'(?:[\w$]+|"(?:[^"]|"")+"|`[^`]+`)(?:\.(?:[\w$]+|"(?:[^"]|"")+"|`[^`]+`))*')
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_NOBODY = "sqlkit_no_such_column"

Connect = Callable[[], Any]


def source_of(text: str, query: str | None, *, null_invalid: bool = False) -> QuerySource:
    """The source that an address names. Raises UsageError."""
    scheme, _, rest = text.partition("://")
    kind, _, driver = scheme.partition("+")
    try:
        # Modules may have names that schemes may not.
        parts = urlsplit(f"any://{rest}")._replace(scheme=scheme)
        _ = parts.port
    except ValueError:
        # Without its text, which may hold a password.
        raise UsageError(f"an address of {kind} cannot be read") from None
    secrets = Secrets()
    if kind == "adbc":
        database = _adbc(driver, text.partition("#")[0], parts, secrets)
    else:
        database = _dbapi(driver, parts, secrets)
    return QuerySource(database, unquote(parts.fragment) or None, query)


class Secrets:
    """What must not be shown."""

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def add(self, text: str) -> str:
        """One more; the text itself."""
        if text:
            self._texts |= {text, quote(text, safe="")}
        return text

    def filled(self, text: str) -> str:
        """A text with the variables that it names. Raises UsageError where one is not set."""

        def value(found: re.Match[str]) -> str:
            if found[1] not in os.environ:
                raise UsageError(
                    f"{found[1]}, which an address names, is not set in the environment"
                )
            return self.add(os.environ[found[1]])

        return _VARIABLE.sub(value, text)

    def hidden(self, text: str) -> str:
        """A text without them."""
        for secret in sorted(self._texts, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


@dataclass
class Database:
    """A database, and how it is asked."""

    name: str
    connect: Connect
    secrets: Secrets
    needs: str  # what to install where the driver is missing
    quote: str | None = None  # of names; None: to be found out
    tells_types: bool = True  # the types of an answer are known without its rows
    is_upper: bool = False  # names that nobody quoted are in upper case
    ask: Callable[[Any, str], Any] | None = None  # a cursor, if not by execute(); what answers
    batches: Callable[[Any], Any] | None = None  # what gives Arrow, if it is special

    def said(self, error: Exception, what: str = "the database says") -> SourceError:
        """An error of the driver's, without secrets."""
        text = self.secrets.hidden(str(error).strip() or type(error).__name__)
        return SourceError(f"{what}: {text.splitlines()[0][:300]}", source=self.name)

    def opened(self) -> Any:
        """A connection. Raises UsageError where there is no driver, and SourceError."""
        try:
            return self.connect()
        except ImportError as missing:
            raise UsageError(
                f"{self.name} needs {missing.name or 'a driver'}", hint=f"pip install {self.needs}"
            ) from None
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001  (every driver has its own)
            raise self.said(error, "cannot be connected to") from None


def shown_address(parts: SplitResult) -> str:
    """An address without user, password, options and table."""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def password_of(parts: SplitResult, secrets: Secrets, *variables: str) -> str | None:
    """The password that the address has, or the environment."""
    if parts.password is not None:
        return secrets.add(secrets.filled(unquote(parts.password)))
    for name in variables:
        if name in os.environ:
            return secrets.add(os.environ[name])
    return None


def options_of(parts: SplitResult, secrets: Secrets) -> dict[str, str]:
    """What stands behind the question mark."""
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in found.items():
        if re.search("pass|pwd|secret|token|key", name, re.IGNORECASE):
            secrets.add(value)
    return {name: secrets.filled(value) for name, value in found.items()}


def _adbc(driver: str, address: str, parts: SplitResult, secrets: Secrets) -> Database:
    if driver:
        name = shown_address(parts)
    else:
        driver, name = parts.netloc, f"adbc://{parts.netloc}"
    if not _MODULE.fullmatch(driver):
        raise UsageError(
            "an address of ADBC names no driver",
            hint="Write adbc+postgresql://user@host/database#table, or adbc://DRIVER?uri=...",
        )

    def arguments() -> tuple[str | None, dict[str, str]]:
        if parts.scheme == "adbc":
            options = options_of(parts, secrets)
            return options.pop("uri", None), options
        if driver == "sqlite":
            return f"file:{quote(unquote(parts.path))}?mode=ro", {}
        uri = secrets.filled(address.removeprefix("adbc+"))
        password = password_of(parts, secrets, PASSWORD)
        if password and parts.password is None and parts.username:
            user, _, host = parts.netloc.rpartition("@")
            uri = uri.replace(f"{user}@{host}", f"{user}:{quote(password, safe='')}@{host}", 1)
        return uri, {}

    def connect() -> Any:
        uri, options = arguments()
        try:
            module = import_module(f"adbc_driver_{driver}.dbapi")
        except ModuleNotFoundError as error:
            if error.name != f"adbc_driver_{driver}":
                raise
            # A shared library, perhaps.
            try:
                manager = import_module("adbc_driver_manager.dbapi")
            except ImportError:
                raise error from None
            more = options if uri is None else {"uri": uri, **options}
            try:
                return manager.connect(driver=driver, db_kwargs=more, autocommit=True)
            except Exception as refused:
                if getattr(getattr(refused, "status_code", None), "name", "") != "NOT_FOUND":
                    raise
                raise error from None
        if options:
            return module.connect(uri, db_kwargs=options)
        return module.connect(uri)

    return Database(
        name,
        connect,
        secrets,
        needs=f"adbc-driver-{driver}",
        tells_types=driver != "sqlite",
    )


def _dbapi(module: str, parts: SplitResult, secrets: Secrets) -> Database:
    if not _MODULE.fullmatch(module):
        raise UsageError(
            "an address names no module of Python",
            hint="Write dbapi+MODULE://user@host/database#table",
        )

    def connect() -> Any:
        driver = import_module(module)
        if not (hasattr(driver, "apilevel") and hasattr(driver, "connect")):
            raise UsageError(
                f"{module} is no DB-API module: it has no connect() and apilevel",
                hint="Name the module whose connect() is called, such as oracledb.",
            )
        options: dict[str, Any] = {
            name: plain(value) for name, value in options_of(parts, secrets).items()
        }
        path = secrets.filled(unquote(parts.path))
        if module == "sqlite3":
            options = {"check_same_thread": False, **options}  # one after the other
        if parts.hostname is None:
            return driver.connect(path, **options) if path else driver.connect(**options)
        found = {
            "host": unquote(parts.hostname),
            "port": parts.port,
            "user": None if parts.username is None else unquote(parts.username),
            "password": password_of(parts, secrets, PASSWORD),
            "database": path.removeprefix("/") or None,
        }
        said = {name: value for name, value in found.items() if value is not None}
        return driver.connect(**{**said, **options})

    return Database(
        shown_address(parts),
        connect,
        secrets,
        needs=module.partition(".")[0],
        tells_types=module == "duckdb",
        # As a relation it is read as a stream.
        ask=(lambda cursor, statement: cursor.sql(statement)) if module == "duckdb" else None,
        is_upper=module == "oracledb",
    )


def plain(value: str) -> object:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    return int(value) if value.isdecimal() else value


class QuerySource:
    """A table, or the rows of a query. Use it for one load."""

    format = "query"
    reading: Mapping[str, Any] = MappingProxyType({})
    passes_through = False
    declares_columns = True
    repeatable = True
    can_reopen = True
    is_live = True
    size: int | None = None
    row_count: int | None = None

    def __init__(self, database: Database, table: str | None, query: str | None) -> None:
        name = database.name
        if (query is None) == (table is None):
            raise UsageError(
                f"{name}: name a table or a query, one of them",
                hint=f"{name}#table, or {name} and --query 'select ...'",
            )
        if table is not None and not _TABLE.fullmatch(table):
            raise UsageError(
                f"{name}: {table} is no name of a table", hint='Write what is special as "a"."b".'
            )
        self.name = f"{name}#{table}" if query is None else f"{name}: {shortened(query)}"
        self.where = ""
        self.identity = identity_of(self.name if query is None else database.name, query)
        self.newer: Newer | None = None
        self.greatest: str | None = None
        self.mark: Mark | None = None
        self.columns: tuple[str, ...] = ()
        self.types: Mapping[str, str] = {}
        database.name = self.name
        self._database = database
        self._bare = f"select * from {table}" if query is None else query.strip().rstrip(";")  # noqa: S608
        self._from = table if query is None else f"(\n{self._bare}\n) sqlkit_query"
        self._connection: Any = None
        self._theirs: dict[str, str] = {}  # the database's names of columns
        self._can_wrap = True
        self._answers: dict[tuple[str, ...] | None, Any] = {}
        self._cursors = contextlib.ExitStack()
        self._fingerprint = hashlib.sha256(uuid.uuid4().bytes).hexdigest()

    def __repr__(self) -> str:
        return f"QuerySource({self.name!r})"

    def filter(self, condition: str) -> None:
        """Ask only for rows for which a condition, in the database's SQL, holds."""
        self.where = f"(\n{condition}\n)"  # it may end in a comment
        self.identity = with_condition(self.identity, condition)

    def ask(self, newer: Newer) -> None:
        """Ask only for newer rows, unless some were asked for already."""
        if self._connection is None:
            self.newer = newer

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> QueryReader:
        """Open it, or go on at a point that an earlier reader has given."""
        if self._connection is None:
            self._connection = self._database.opened()
            try:
                self._look()
                if self.newer is not None:
                    self._ask_newer(self.newer)
            except BaseException:
                self.close()
                raise
        return QueryReader(self, database_encoding, resume)

    # Asking -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Find out which columns there are."""
        try:
            # What a database says of no rows costs it little.
            self._execute(f"select * from {self._from} where 1 = 0")  # noqa: S608
            answer = self._answer(None) if self._database.tells_types else None
        except SourceError:
            self._can_wrap = False  # as some have it of some queries; else it will say so again
            self._undo()
            answer = None
        if answer is None or isinstance(answer, RowsSource):
            answer = self.answer(None)
        reader = answer.open()
        self.columns = reader.columns
        self.types = reader.column_types

    def _ask_newer(self, newer: Newer) -> None:
        """Put the condition of newer rows to the others."""
        newer.check(self.columns, self.name)
        mark = self._quote if self._can_wrap else ""
        if not mark:
            raise SourceError(
                f"column {newer.column}, by which newer rows are known, cannot be asked for",
                source=self.name,
                code="SK125",
                hint="Nobody knows how it quotes names: write the condition into --query.",
            )
        column = mark + self._theirs[newer.column].replace(mark, mark * 2) + mark
        where = f" where {self.where}" if self.where else ""
        if newer.strictly:
            both = f"{where} and" if where else " where"
            self._execute(f"select count(*) from {self._from}{both} {column} is null")  # noqa: S608
            if self._one_value():
                raise newer.refuse_null(self.name)
        self._execute(f"select max({column}) from {self._from}{where}")  # noqa: S608 - quoted
        greatest = self._one_value()
        is_number = isinstance(greatest, int | float | Decimal)
        if greatest is not None:
            self.greatest = (
                greatest.isoformat(" ") if isinstance(greatest, datetime) else str(greatest)
            )
        condition = newer.condition(
            column,
            self.name,
            is_number=is_number,
            literal=lambda value: "'" + value.replace("'", "''") + "'",
        )
        if newer.strictly and self.greatest is not None:
            # What was committed since is left for the next time, which begins above that.
            text = self.greatest if is_number else "'" + self.greatest.replace("'", "''") + "'"
            condition = (
                f"{condition} and {column} <= {text}" if condition else f"{column} <= {text}"
            )
        if condition is not None:
            self.where = f"{self.where} and {condition}" if self.where else condition

    def _one_value(self) -> Any:
        try:
            [(value,)] = self._found.fetchall()
        except Exception as error:  # noqa: BLE001  (every driver has its own)
            raise self._database.said(error) from None
        return value

    def answer(self, names: Sequence[str] | None) -> Any:
        """The rows as a source, of some columns if that can be asked for, and all else."""
        wanted = None if names is None or set(names) == set(self.columns) else tuple(names)
        if wanted is not None and not (self._can_wrap and self._quote):
            wanted = None
        if wanted not in self._answers:
            statement = self._bare
            if wanted is not None or self.where:
                listed = "*"
                if wanted is not None:
                    mark = self._quote or ""
                    theirs = (self._theirs[name].replace(mark, mark * 2) for name in wanted)
                    listed = ", ".join(f"{mark}{name}{mark}" for name in theirs)
                where = f" where {self.where}" if self.where else ""
                statement = f"select {listed} from {self._from}{where}"  # noqa: S608 - quoted
            self._execute(statement)
            self._answers[wanted] = self._answer(wanted)
        return self._answers[wanted]

    @property
    def _quote(self) -> str:
        """What names are quoted by; empty if nobody knows, and a quoted name might be a text."""
        if self._database.quote is None:
            self._database.quote = ""
            for mark in '"`':
                try:
                    self._execute(f"select {mark}{_NOBODY}{mark} from {self._from} where 1 = 0")  # noqa: S608
                except SourceError:
                    # It looked for a column. So it finds the others.
                    self._undo()
                    self._database.quote = mark
                    break
        return self._database.quote

    def _execute(self, statement: str) -> None:
        # A connection has one answer at a time.
        self._answers.clear()
        self._cursors.close()
        cursor = self._found = self._connection.cursor()
        self._cursors.callback(_quietly, cursor.close)
        try:
            if self._database.ask is not None:
                self._found = self._database.ask(cursor, statement)
            else:
                cursor.execute(statement)
        except Exception as error:  # noqa: BLE001  (every driver has its own)
            raise self._database.said(error) from None

    def _undo(self) -> None:
        """Where an error ends a transaction, that is over."""
        self._cursors.close()
        if hasattr(self._connection, "rollback"):
            _quietly(self._connection.rollback)

    def _answer(self, wanted: tuple[str, ...] | None) -> Any:
        cursor = self._found
        if cursor is None or not cursor.description:
            raise SourceError("the query has no rows to give", source=self.name)
        theirs = [str(column[0]) for column in cursor.description]
        ours = [
            name.lower() if self._database.is_upper and name.isupper() else name for name in theirs
        ]
        if len(set(ours)) < len(ours):
            raise SourceError(
                "names a column twice",
                source=self.name,
                code="SK111",
                detail=", ".join(theirs),
                hint="Give each a name of its own: select a.id, b.id as b_id ...",
            )
        if wanted is None:
            self._theirs = dict(zip(ours, theirs, strict=True))
        try:
            reader = self._arrow(cursor)
        except Exception as error:  # noqa: BLE001  (every driver has its own)
            raise self._database.said(error) from None
        if reader is None:
            return RowsSource(self._rows(cursor), columns=ours, name=self.name)
        return self._as_stream(reader, ours)

    def _arrow(self, cursor: Any) -> Any:
        """What gives batches of Arrow, if the driver has it."""
        if self._database.batches is not None:
            return self._database.batches(cursor)
        for name, arguments in (("to_arrow_reader", (100_000,)), ("fetch_record_batch", ())):
            if hasattr(cursor, name):
                return getattr(cursor, name)(*arguments)
        return None

    def _as_stream(self, reader: Any, names: Sequence[str]) -> Any:
        try:
            import pyarrow as pa

            from sqlkit.sources.arrow import ArrowStreamSource
        except ImportError:
            raise UsageError(
                "databases that give Arrow need pyarrow and pgpq",
                hint="pip install 'sqlkit[parquet]'",
            ) from None
        fields = zip(names, reader.schema.types, strict=True)
        schema = pa.schema([pa.field(name, kind) for name, kind in fields])

        def batches() -> Iterator[Any]:
            try:
                for batch in reader:
                    yield pa.record_batch(batch.columns, schema=schema)
            except Exception as error:  # noqa: BLE001  (every driver has its own)
                text = self._database.secrets.hidden(str(error).strip())
                raise pa.ArrowInvalid(text) from None

        stream = pa.RecordBatchReader.from_batches(schema, batches())
        return ArrowStreamSource(stream, name=self.name)

    def _rows(self, cursor: Any) -> Iterator[tuple[Any, ...]]:
        while True:
            try:
                rows = cursor.fetchmany(FETCHED)
            except Exception as error:  # noqa: BLE001  (every driver has its own)
                raise self._database.said(error) from None
            if not rows:
                return
            for row in rows:
                yield tuple(row)

    # A source -------------------------------------------------------------------------------

    def head_sha256(self) -> str:
        """As `fingerprint`."""
        return self._fingerprint

    def fingerprint(self) -> str:
        """What only this answer has; nothing is read for it."""
        return self._fingerprint

    def version(self) -> None:
        """There is none."""

    def release(self) -> None:
        """What is kept goes when the load is over: see `close`."""

    def forget(self, offset: int) -> None:
        """What stands before `offset` is committed."""
        for answer in self._answers.values():
            answer.forget(offset)

    def close(self) -> None:
        """The load is over: nothing is committed there."""
        self._cursors.close()
        for answer in self._answers.values():
            _quietly(answer.close)
        self._answers.clear()
        if self._connection is not None:
            self._undo()
            _quietly(self._connection.close)
            self._connection = None


def _quietly(call: Callable[[], object]) -> None:
    # Of a connection that is given up, nobody wants to know how.
    with contextlib.suppress(Exception):
        call()


class Answering(Protocol):
    """What is asked once it is known which columns are wanted."""

    columns: tuple[str, ...]
    types: Mapping[str, str]

    def fingerprint(self) -> str:
        """See `base.Source`."""

    def answer(self, names: Sequence[str] | None) -> Any:
        """The rows, of some columns if that can be asked for; its `open` gives a reader."""


class QueryReader:
    """A table or query, opened (see `base.Reader`): its columns, and behind them the answer."""

    def __init__(
        self, source: Answering, database_encoding: str, resume: ResumePoint | None
    ) -> None:
        self._source = source
        self._encoding = database_encoding
        self._resume = resume
        self._answer: Any = None
        self.may_be_binary = True
        self.columns = source.columns
        self.column_types = source.types

    def _opened(self, wanted: Sequence[WantedColumn]) -> Any:
        if self._answer is None:
            answer = self._source.answer([column.name for column in wanted])
            self._answer = answer.open(database_encoding=self._encoding, resume=self._resume)
            if isinstance(self._answer, BinaryReader):
                self._answer.may_be_binary = self.may_be_binary
        return self._answer

    single_format: CopyFormat = ROWS
    counts_lines = False

    @property
    def copy_format(self) -> CopyFormat:
        """That of the answer, once it is known what is wanted."""
        return ROWS if self._answer is None else self._answer.copy_format

    @property
    def progress(self) -> Progress:
        """How far it was read."""
        return Progress() if self._answer is None else self._answer.progress

    @property
    def layout(self) -> dict[str, Any]:
        """How refused rows are written: as JSON lines."""
        return {"format": "jsonl", "whole": False, "encoding": "utf-8"}

    @property
    def fingerprint(self) -> str | None:
        """That of the answer, once all of it was read."""
        is_over = self._answer is not None and self._answer.is_at_end
        return self._source.fingerprint() if is_over else None

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """The first rows, where the types are not known without them."""
        if set(self.column_types) >= set(self.columns):
            return []
        found: list[tuple[str | None, ...]] = self._source.answer(None).open().sample(rows)
        return found

    def pieces(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """See `base.Reader`."""
        found: Iterator[Piece] = self._opened(wanted).pieces(wanted, piece_bytes, ignored)
        return found

    def single_records(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """See `base.Reader`."""
        found: Iterator[Piece] = self._opened(wanted).single_records(wanted, piece_bytes, ignored)
        return found

    def close(self) -> None:
        """The source keeps what is open."""
        if self._answer is not None:
            self._answer.close()
