"""Parquet, Arrow and Feather files, and whatever gives Arrow data: pandas, polars, DuckDB, ADBC.

Rows go to PostgreSQL in COPY's binary format, made by pgpq, wherever each column has a form that
the receiving type reads as the very same value; then nobody has to write or parse text. Where one
has none (text for a date, a float for a numeric), the rows go as text, under the same rules as text
from any other source. The target's types decide, and not those of the file:

- timestamps without zone go into timestamptz by the session's time zone, as text does; nanoseconds
  are cut to microseconds, PostgreSQL's own;
- nested values go into json(b) as JSON, lists into arrays; a string for json(b) is JSON already;
- dictionaries are what they stand for; a null column is null in any type.

A row group or a record batch, or a part of it that makes a piece, is what a load is resumed at.

Errors (`SourceError`): SK103 the content differs, SK106 the file is corrupt, SK109 a kind of file
that cannot be read from here, SK118 a value that cannot be loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types
    from pgpq import ArrowToPostgresBinaryEncoder
except ImportError as missing:
    from sqlkit import errors

    raise errors.UsageError(
        f"Parquet and Arrow need {missing.name}", hint="pip install 'sqlkit[parquet]'"
    ) from None

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.archive import recognise
from sqlkit.sources.base import CopyFormat, ResumePoint, WantedColumn
from sqlkit.sources.blocks import Block, BlockReader
from sqlkit.sources.spool import Made, Spool, used_before
from sqlkit.sources.stored import StoredFile, StoredSource
from sqlkit.sources.text_rows import ROWS, BadRow, encode_rows

BINARY = CopyFormat(format="binary")
_NOTHING = hashlib.sha256().hexdigest()
_MOST_ROWS = 1 << 17
LEAST_PART = 4 << 20
"""Bytes, before compression, of row groups that are worth a worker of their own."""

_TYPMOD = re.compile(r"\(.*?\)")

Convert = Callable[[pa.Array], pa.Array]


# Types ------------------------------------------------------------------------------------------


def column_type(kind: pa.DataType) -> str:
    """PostgreSQL's type for values of one of Arrow's, for a table that is to be made."""
    for applies, name in (
        (types.is_boolean, "boolean"),
        (types.is_int8, "smallint"), (types.is_uint8, "smallint"), (types.is_int16, "smallint"),
        (types.is_uint16, "integer"), (types.is_int32, "integer"),
        (types.is_uint32, "bigint"), (types.is_int64, "bigint"),
        (types.is_uint64, "numeric(20,0)"),
        (types.is_float16, "real"), (types.is_float32, "real"),
        (types.is_float64, "double precision"),
        (types.is_date, "date"), (types.is_time, "time"), (types.is_duration, "interval"),
    ):  # fmt: skip
        if applies(kind):
            return name
    if types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    if types.is_fixed_size_binary(kind) and isinstance(kind, pa.BaseExtensionType):
        return "uuid"
    if _is_binary(kind):
        return "bytea"
    if types.is_dictionary(kind):
        return column_type(kind.value_type)
    if _is_list(kind):
        element = column_type(kind.value_type)
        return "jsonb" if element in ("jsonb", "json") or element.endswith("]") else element + "[]"
    if types.is_nested(kind):
        return "jsonb"
    if getattr(kind, "extension_name", "") == "arrow.uuid":
        return "uuid"
    return "text"


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _to(kind: pa.DataType) -> Convert:
    return lambda values: values.cast(kind)


def _cut_to(kind: pa.DataType) -> Convert:
    return lambda values: values.cast(kind, safe=False)


def _as_it_is(values: pa.Array) -> pa.Array:
    return values


def _json_text(values: pa.Array) -> pa.Array:
    from sqlkit.sources.text_rows import to_json

    found = [None if value is None else to_json(value) for value in values.to_pylist()]
    return pa.array(found, pa.string())


def _jsonb(text: Convert) -> Convert:
    version = pa.scalar("\x01")
    return lambda values: pc.binary_join_element_wise(version, text(values).cast(pa.string()), "")


_INTEGERS = {"smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64()}
_ELEMENTS = {
    "boolean": pa.bool_(),
    **_INTEGERS,
    "real": pa.float32(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "date": pa.date32(),
}
"""Types whose arrays pgpq writes under the right name of the element."""


def binary_form(kind: pa.DataType, target: str) -> Convert | None:
    """What makes of Arrow's values those whose bytes the target's type receives; None if nothing.

    `target` is a type as PostgreSQL's format_type writes it.
    """
    base = _TYPMOD.sub("", target)
    if types.is_null(kind):
        return _to(pa.string())
    if base.endswith("[]"):
        element = _ELEMENTS.get(base[:-2])
        if element is None or not _is_list(kind) or binary_form(kind.value_type, base[:-2]) is None:
            return None
        return _to(pa.list_(element))
    if base in ("json", "jsonb"):
        if _is_text(kind):
            text: Convert = _to(pa.string())
        elif types.is_nested(kind):
            text = _json_text
        else:
            return None
        return text if base == "json" else _jsonb(text)
    if base in _INTEGERS and types.is_integer(kind):
        return _to(_INTEGERS[base])
    if base in ("text", "character varying", "character") and _is_text(kind):
        return _as_it_is
    if base == "bytea" and _is_binary(kind):
        return _to(pa.large_binary()) if types.is_binary_view(kind) else _as_it_is
    if base == "uuid" and types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return _as_it_is
    if base == "numeric":
        if types.is_decimal(kind) and not types.is_decimal256(kind):
            return _to(pa.decimal128(kind.precision, kind.scale))
        if types.is_integer(kind):
            return _to(pa.decimal128(20, 0))
        return None
    if base == "date" and types.is_date(kind):
        return _to(pa.date32())
    if base == "boolean" and types.is_boolean(kind):
        return _as_it_is
    if base == "double precision" and types.is_floating(kind):
        return _to(pa.float64())
    if base == "real" and types.is_floating(kind) and not types.is_float64(kind):
        return _to(pa.float32())
    if base == "time without time zone" and types.is_time(kind):
        return _cut_to(pa.time64("us"))
    if base == "timestamp without time zone" and types.is_timestamp(kind) and kind.tz is None:
        return _cut_to(pa.timestamp("us"))
    if base == "timestamp with time zone" and types.is_timestamp(kind) and kind.tz is not None:
        return lambda values: values.cast(pa.timestamp("us", kind.tz), safe=False).cast(
            pa.timestamp("us")
        )
    if base == "interval" and types.is_duration(kind):
        return _cut_to(pa.duration("us"))
    return None


def _plain(values: pa.Array) -> pa.Array:
    """Values without what Arrow has only to store them: dictionaries, runs, extensions."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(values.storage)
    if types.is_dictionary(kind):
        return _plain(values.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(values))
    return values


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    return kind


def binary_rows(columns: Sequence[pa.Array]) -> bytes:
    """Rows of COPY's binary format, without what stands before and after them."""
    batch = pa.record_batch(columns, names=[str(position) for position in range(len(columns))])
    encoder = ArrowToPostgresBinaryEncoder(batch.schema)
    head = encoder.write_header()
    data: bytes = head + encoder.write_batch(batch) + encoder.finish()
    return data[len(BINARY.head) : -len(BINARY.tail)]


def _texts(values: pa.Array, column: WantedColumn) -> list[Any]:
    """Values as texts, or as Python's where `text_rows` knows better how to write them."""
    kind = values.type
    if types.is_timestamp(kind) and kind.unit == "ns":
        values = values.cast(pa.timestamp("us", kind.tz), safe=False)
    elif types.is_time64(kind) and kind.unit == "ns":
        values = values.cast(pa.time64("us"), safe=False)
    elif types.is_duration(kind) and kind.unit == "ns":
        values = values.cast(pa.duration("us"), safe=False)
    if column.type == "uuid" and types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        found = values.to_pylist()
        return [None if value is None else uuid.UUID(bytes=value) for value in found]
    if types.is_nested(kind) or _is_binary(kind) or types.is_duration(kind) or column.is_json:
        return values.to_pylist()  # type: ignore[no-any-return]
    if types.is_interval(kind):
        return [
            None if v is None else f"{v.months} mons {v.days} days {v.nanoseconds // 1000} us"
            for v in values.to_pylist()
        ]
    return values.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def text_rows(
    batch: pa.RecordBatch, line: int, wanted: Sequence[WantedColumn]
) -> tuple[bytes, list[BadRow]]:
    """Rows of COPY's text format, and those that cannot be made any."""
    columns = [_texts(_plain(batch.column(column.name)), column) for column in wanted]
    return encode_rows(columns, wanted, line)


# Sources ----------------------------------------------------------------------------------------


class Batches(Protocol):
    """Where record batches come from: something that was opened."""

    schema: pa.Schema

    def blocks(self, offset: int, most_rows: int) -> Iterator[Block[pa.RecordBatch]]:
        """The rows from `offset` on, so many at most in a block."""

    def head(self, rows: int) -> pa.RecordBatch:
        """The first rows, as many as are had cheaply."""

    def close(self) -> None:
        """Release the file."""


class ArrowReader(BlockReader[pa.RecordBatch]):
    """Opened Arrow data (see `base.Reader`). A block's offset is what `Batches` says it is."""

    def __init__(
        self,
        name: str,
        batches: Batches,
        resume: ResumePoint | None,
        point: Callable[[int, int], ResumePoint],
        *,
        database_encoding: str,
    ) -> None:
        super().__init__(resume, database_encoding)
        self._name = name
        self._batches = batches
        self._is_utf8 = database_encoding == "UTF8"
        self.may_be_binary = True
        self._point = point
        self.columns = tuple(batches.schema.names)
        self.column_types = {field.name: column_type(field.type) for field in batches.schema}
        self._forms: list[Convert] = []
        if len(set(self.columns)) < len(self.columns):
            raise SourceError(
                "names a column twice", source=name, code="SK111", detail=", ".join(self.columns)
            )

    @property
    def fingerprint(self) -> str | None:
        """That of the source, once all of it was read."""
        return self._point(0, 1).stored_sha256 if self.is_at_end else None

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """Nothing is to be found out: every column has its type."""
        return []

    def pieces(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Any]:
        """See `base.Reader`. The copy format is settled by what is wanted."""
        forms = [
            binary_form(_plain_type(self._batches.schema.field(column.name).type), column.type)
            for column in wanted
        ]
        self._forms = [form for form in forms if form is not None]
        is_exact = len(self._forms) == len(wanted)
        is_binary = is_exact and self._is_utf8 and self.may_be_binary
        self.copy_format = BINARY if is_binary else ROWS
        return super().pieces(wanted, piece_bytes, ignored)

    def _blocks(
        self,
        wanted: tuple[WantedColumn, ...],
        ignored: frozenset[str] | None,
        piece_bytes: int,
    ) -> Iterator[Block[pa.RecordBatch]]:
        # About one piece: a value takes some ten bytes, longer ones are seen in the first rows.
        head = self._batches.head(100)
        width = max(10 * len(wanted), head.nbytes // max(1, head.num_rows))
        most = max(1, min(piece_bytes // width, _MOST_ROWS))
        return self._batches.blocks(self._start, most)

    def _rows(self, block: Block[pa.RecordBatch], wanted: tuple[WantedColumn, ...]) -> bytes:
        if self.copy_format is BINARY:
            try:
                return binary_rows(
                    [
                        form(_plain(block.content.column(column.name)))
                        for form, column in zip(self._forms, wanted, strict=True)
                    ]
                )
            except (pa.ArrowInvalid, ValueError) as error:
                raise SourceError(
                    f"a value cannot be loaded: {error}",
                    source=self._name,
                    record=block.line,
                    code="SK118",
                    detail=f"rows {block.line} to {block.line + block.rows - 1}",
                ) from error
        data, bad = text_rows(block.content, block.line, wanted)
        for row in bad:
            raise row.as_error(self._name)
        return data

    def _single_rows(self, block: Block[pa.RecordBatch], wanted: tuple[WantedColumn, ...]) -> bytes:
        data, bad = text_rows(block.content, block.line, wanted)
        return self._singly(data, block, wanted, bad)

    def _resume_at(self, offset: int, line: int) -> ResumePoint:
        return self._point(offset, line)

    def close(self) -> None:
        """Release the file; may be called at any time, more than once."""
        self._batches.close()


class ArrowFileSource(StoredSource):
    """A Parquet, Feather (version 2) or Arrow file: format parquet or arrow.

    Offsets count rows. The file must be one of its own, since its directory is at its end.
    """

    passes_through = False
    declares_columns = True

    def __init__(self, stored: StoredFile, *, format: str) -> None:
        super().__init__(stored)
        self.format = format
        self._fingerprint: str | None = None
        if stored.is_stdin or stored.member is not None:
            raise SourceError(
                f"a {format} file cannot be read from a stream, for it is read from its end",
                source=stored.name,
                code="SK109",
                hint="Store it in a file first, and name that.",
            )

    @property
    def row_count(self) -> int | None:
        """Rows, as the file says, or None if that takes reading or fetching it."""
        if self.format != "parquet" or self.stored.remote is not None:
            return None
        try:
            opened = _ParquetFile(self.stored.local_path)
        except (pa.ArrowInvalid, OSError):
            return None  # said when it is loaded
        with_rows: int = opened.file.metadata.num_rows
        opened.close()
        return with_rows

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the file, which is read through once for it."""
        self._fingerprint = super().fingerprint()
        return self._fingerprint

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> ArrowReader:
        """Open it; with `resume`, continue there or raise SourceError where the content differs."""
        return self._open(database_encoding, resume, None)

    def open_until(
        self, *, database_encoding: str, resume: ResumePoint | None, until: int
    ) -> ArrowReader:
        """As `open`, of the row groups before the row `until`."""
        return self._open(database_encoding, resume, until)

    def cuts(self, parts: int) -> list[ResumePoint]:
        """Where row groups of a Parquet file begin, for about so many parts (see `parts`)."""
        if self.format != "parquet":
            return []
        digest = self._fingerprint or self.fingerprint()
        path = self.stored.local_path
        opened = _ParquetFile(path)
        with contextlib.closing(opened):
            metadata = opened.file.metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        enough = max(LEAST_PART, sum(group.total_byte_size for group in groups) // parts)
        found: list[ResumePoint] = []
        row = size = 0
        for group in groups:
            if size >= enough:
                found.append(ResumePoint(row, row + 1, Path(path).stat().st_size, digest))
                size = 0
            row += group.num_rows
            size += group.total_byte_size
        return found

    def _open(
        self, database_encoding: str, resume: ResumePoint | None, until: int | None
    ) -> ArrowReader:
        digest = self._fingerprint or self.fingerprint()
        path = self.stored.local_path
        size = Path(path).stat().st_size
        if resume is not None and (resume.stored_offset, resume.stored_sha256) != (size, digest):
            raise SourceError("the content differs", source=self.name, code="SK103")
        try:
            if self.format == "parquet":
                batches: _ParquetFile | _ArrowFile = _ParquetFile(path, until)
            else:
                batches = _ArrowFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            with Path(path).open("rb") as file:
                kind = recognise(file.read(16), self.name)
            if kind is not None:
                raise SourceError(
                    f"is a {self.format} file within a {kind.name} archive, which cannot be read "
                    "from its end",
                    source=self.name,
                    code="SK109",
                    hint="Decompress it first: such files are compressed in themselves.",
                ) from None
            raise SourceError(
                f"is no {self.format} file, or a corrupt one: {error}",
                source=self.name,
                code="SK106",
                hint="Fetch or write the file again; it may have been cut off.",
            ) from None
        return ArrowReader(
            self.name,
            batches,
            resume,
            lambda offset, line: ResumePoint(offset, line, size, digest),
            database_encoding=database_encoding,
        )


def _slices(
    batch: pa.RecordBatch, row: int, offset: int, most: int
) -> Iterator[Block[pa.RecordBatch]]:
    """A batch that begins at `row`, from `offset` on, in blocks."""
    for start in range(max(0, offset - row), batch.num_rows, most):
        part = batch.slice(start, most)
        first = row + start
        yield Block(first, first + part.num_rows, first + 1, part.num_rows, part)


class _ParquetFile:
    def __init__(self, path: str, until: int | None = None) -> None:
        import pyarrow.parquet as pq

        self.file = pq.ParquetFile(path, pre_buffer=False)
        self.schema = self.file.schema_arrow
        self._until = until  # row; with it, a row group begins

    def blocks(self, offset: int, most_rows: int) -> Iterator[Block[pa.RecordBatch]]:
        row = 0
        for number in range(self.file.num_row_groups):
            if row == self._until:
                return
            rows = self.file.metadata.row_group(number).num_rows
            if row + rows > offset:
                at = row
                for batch in self.file.iter_batches(most_rows, row_groups=[number]):
                    yield from _slices(batch, at, offset, most_rows)
                    at += batch.num_rows
            row += rows

    def head(self, rows: int) -> pa.RecordBatch:
        return next(
            self.file.iter_batches(rows),
            pa.RecordBatch.from_pylist([], schema=self.schema),
        )

    def close(self) -> None:
        self.file.close()


class _ArrowFile:
    """A file of record batches, with a directory or, as a stream, without."""

    def __init__(self, path: str) -> None:
        self._file = pa.OSFile(path)
        magic = self._file.read(6)
        self._file.seek(0)
        self._is_stream = magic != b"ARROW1"
        self._open()
        self.schema = self._reader.schema

    def _open(self) -> None:
        self._file.seek(0)
        open_ = pa.ipc.open_stream if self._is_stream else pa.ipc.open_file
        self._reader = open_(self._file)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._is_stream:
            self._open()
            yield from self._reader
            return
        for number in range(self._reader.num_record_batches):
            yield self._reader.get_batch(number)

    def blocks(self, offset: int, most_rows: int) -> Iterator[Block[pa.RecordBatch]]:
        row = 0
        for batch in self._batches():
            yield from _slices(batch, row, offset, most_rows)
            row += batch.num_rows

    def head(self, rows: int) -> pa.RecordBatch:
        empty = pa.RecordBatch.from_pylist([], schema=self.schema)
        return next(self._batches(), empty).slice(0, rows)

    def close(self) -> None:
        self._file.close()


class ArrowStreamSource:
    """Arrow data of Python's: anything that has ``__arrow_c_stream__``. Use it for one load.

    A stream can be read only once: its batches are kept on disk until they are committed.
    """

    format = "arrow"
    reading: Mapping[str, Any] = MappingProxyType({})
    passes_through = False
    declares_columns = True
    repeatable = True
    can_reopen = True
    is_live = False  # it is gone after a crash
    size: int | None = None

    def __init__(self, data: Any, *, name: str = "arrow", total: int | None = None) -> None:
        self.name = name
        self.row_count = len(data) if total is None and hasattr(data, "__len__") else total
        self._data = data
        self._is_over = False
        self._fingerprint = hashlib.sha256(uuid.uuid4().bytes).hexdigest()

    def __repr__(self) -> str:
        return f"ArrowStreamSource({self.name!r})"

    @cached_property
    def _batches(self) -> _Spooled:
        if hasattr(self._data, "columns") and hasattr(self._data, "iloc"):  # pandas
            return _Spooled(
                pa.Table.from_pandas(self._data, preserve_index=False).to_reader(), self.name
            )
        try:
            return _Spooled(pa.RecordBatchReader.from_stream(self._data), self.name)
        except pa.ArrowInvalid as error:  # a Series, say
            raise UsageError(
                f"{self.name}: a {type(self._data).__name__} is no table: {error}",
                hint="Give one whose columns have names: of a Series, series.to_frame().",
            ) from None

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> ArrowReader:
        """Open it, or go on at a point that an earlier reader has given."""
        return ArrowReader(
            self.name,
            self._batches,
            resume,
            lambda offset, line: ResumePoint(offset, line, 0, _NOTHING),
            database_encoding=database_encoding,
        )

    def head_sha256(self) -> str:
        """As `fingerprint`."""
        return self._fingerprint

    def fingerprint(self) -> str:
        """What only this source has; nothing is read for it."""
        if self._is_over:
            raise used_before(self.name)
        return self._fingerprint

    def version(self) -> None:
        """There is none."""

    def release(self) -> None:
        """What is kept goes when the load is over: see `close`."""

    def forget(self, offset: int) -> None:
        """What stands before `offset` is committed, and not kept for long."""
        self._batches.spool.forget_later(offset)

    def close(self) -> None:
        """The load is over."""
        self._is_over = True
        if "_batches" in self.__dict__:
            self._batches.spool.close()


class _Spooled:
    """The batches of a stream, in parts of about a megabyte, each read once."""

    def __init__(self, reader: pa.RecordBatchReader, name: str) -> None:
        self._name = name
        self.schema = pa.schema(
            [pa.field(field.name, _plain_type(field.type)) for field in reader.schema]
        )
        self._parts = self._cut(reader)
        self.spool = Spool(self._next)

    def _cut(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            plain = pa.record_batch([_plain(column) for column in batch], schema=self.schema)
            rows = max(1, plain.num_rows * (1 << 20) // max(1, plain.nbytes))
            for start in range(0, plain.num_rows, rows):
                yield plain.slice(start, rows)

    def _next(self, line: int) -> Made | None:
        try:
            part = next(self._parts, None)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"the rows ended with an error: {str(error).splitlines()[0]}",
                source=self._name,
                hint="It comes from where the rows come from, not from the target.",
            ) from None
        return None if part is None else Made(part.serialize().to_pybytes(), part.num_rows)

    def blocks(self, offset: int, most_rows: int) -> Iterator[Block[pa.RecordBatch]]:
        for block in self.spool.blocks(offset):
            batch = pa.ipc.read_record_batch(pa.py_buffer(block.content.data), self.schema)
            yield Block(block.start, block.end, block.line, block.rows, batch)

    def head(self, rows: int) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=self.schema)

    def close(self) -> None:
        """What is kept belongs to the source."""
