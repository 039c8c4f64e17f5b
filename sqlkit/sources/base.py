"""What every source offers the loader.

A source is opened as a reader. The reader first says which columns it has and how COPY must
read its bytes, then yields pieces: runs of whole records in source order, each ready to be
handed to COPY as it is. Readers are synchronous and block; the loader runs them in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from sqlkit.sources.repertoire import Repertoire
    from sqlkit.sources.screen import Screening, Sieve


@dataclass(frozen=True)
class CopyFormat:
    """The options of COPY FROM STDIN under which PostgreSQL reads a piece."""

    format: str = "csv"  # csv | text | binary
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    null: str = ""
    encoding: str = "UTF8"  # PostgreSQL's name of the encoding of the bytes

    @property
    def head(self) -> bytes:
        """What stands before the pieces of one COPY."""
        return b"PGCOPY\n\xff\r\n\0" + bytes(8) if self.format == "binary" else b""

    @property
    def tail(self) -> bytes:
        """What stands after them."""
        return b"\xff\xff" if self.format == "binary" else b""


@dataclass(frozen=True)
class WantedColumn:
    """A column to be delivered: the name in the source, and what its target is.

    `type` is the target's type as SQL writes it; empty for a column that goes nowhere.
    """

    name: str
    is_json: bool = False
    type: str = ""
    takes_rest: bool = False  # an object of all that goes nowhere else; the name means nothing
    # A JSON array of what a record has no key for, null if there is none: keys to look for, each
    # with what it is called there. The name means nothing.
    tells_absent: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ResumePoint:
    """Where an earlier run left a source: nothing before `offset` is delivered again.

    `offset` counts decoded bytes (decompressed, without byte order mark, and in UTF-8 where the
    reader transcodes) and lies on a record boundary; `line` is the first physical line after it.
    `stored_offset` and `stored_sha256` tie it to the content: the first `stored_offset` bytes as
    stored had that digest.
    """

    offset: int
    line: int
    stored_offset: int
    stored_sha256: str


@dataclass(frozen=True)
class Piece:
    """Whole records, contiguous in the source, as COPY takes them."""

    data: bytes
    first_line: int  # physical lines of the decoded source, from 1
    last_line: int
    start: int  # offsets in the decoded source, in bytes: [start, end)
    end: int
    resume: ResumePoint  # the point right after this piece
    seconds: float = 0.0  # spent reading and decoding it
    decoded_bytes: int = 0  # up to its end, of a reader that counts from where it was opened
    original: bytes = b""  # its records as they stand in the source, where those are others


@dataclass
class Progress:
    """Counters that a reader keeps up to date while it is read."""

    stored_bytes: int = 0  # read from the file, the archive or the network
    decoded_bytes: int = 0
    seconds: float = 0.0  # spent reading and decoding
    is_of_rest: bool = False  # it counts from where it was opened, not from the first byte


class Reader(Protocol):
    """An opened source, positioned after its header."""

    columns: tuple[str, ...]
    column_types: Mapping[str, str]  # types for a new table, of the columns whose type is known
    copy_format: CopyFormat
    single_format: CopyFormat  # how COPY reads what `single_records` yields
    progress: Progress
    counts_lines: bool  # or records: what `first_line` and the like of its pieces say

    @property
    def layout(self) -> dict[str, Any]:
        """How records are written, as plain data: format, and what the format needs to be read."""

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 (hex) of all stored bytes; None until the last piece was yielded."""

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """The first records as text, null as None, without consuming them."""

    def pieces(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The records in order, about `piece_bytes` decoded bytes at a time.

        `wanted` names the columns to deliver and their order, `ignored` those that may be left
        out (None: any). A reader that passes bytes through untouched (CSV) delivers all its
        columns in their own order, whatever is wanted.
        """

    def single_records(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The same pieces for a stage of text, which takes any record: see `singly`."""

    def close(self) -> None:
        """Release files and threads; may be called at any time, more than once."""


@dataclass(frozen=True)
class NewTable:
    """A table that is to be made for a source which knows more of it than the types of columns."""

    ddl: str  # statements, with what is not as it was in comments at their head
    key: tuple[str, ...]
    after: tuple[str, ...] = ()  # statements for when the rows are there
    notes: tuple[str, ...] = ()  # the comments


@runtime_checkable
class DescribedReader(Reader, Protocol):
    """A reader of a table whose keys, defaults and comments are known."""

    def new_table(
        self,
        into: str,
        *,
        key: Sequence[str],
        renamed: Mapping[str, str],
        chosen: Sequence[str],
        left_out: Sequence[str],
    ) -> NewTable | None:
        """The table `into`, as SQL names it; None if nothing more than its columns is known."""


@runtime_checkable
class ScreeningReader(Reader, Protocol):
    """A reader whose pieces can be freed of bad rows before COPY takes them."""

    repertoire: Repertoire  # of what pieces hold

    def screenings(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None,
        sieve: Sieve,
    ) -> Iterator[Screening]:
        """The same pieces, each with what is in doubt: see `screen`. Data is in `single_format`."""


class Source(Protocol):
    """Something that rows come from, not opened yet. Describing it reads nothing."""

    @property
    def name(self) -> str:
        """Shown to people and kept in the ledger; no secrets."""

    @property
    def format(self) -> str:
        """csv | tsv | jsonl | ..."""

    @property
    def reading(self) -> Mapping[str, Any]:
        """What was said of how to read it, as plain data; what it shows by itself is left out."""

    @property
    def passes_through(self) -> bool:
        """True: `pieces` yields every column as it stands."""

    @property
    def declares_columns(self) -> bool:
        """True: a reader's columns are all there are. False: more may turn up later."""

    @property
    def size(self) -> int | None:
        """Stored bytes, where known."""

    @property
    def row_count(self) -> int | None:
        """Rows, where known."""

    @property
    def repeatable(self) -> bool:
        """False for standard input, whose `fingerprint()` raises SK110: nobody knows it before."""

    @property
    def can_reopen(self) -> bool:
        """True if `open` may be called again, and `resume` given."""

    @property
    def is_live(self) -> bool:
        """True if a later run, after a crash say, would find another content under the same name,
        and could not go on. Policies that take a row for new in each run then commit it whole."""

    def open(self, *, database_encoding: str, resume: ResumePoint | None = None) -> Reader:
        """Open it; with `resume`, continue there or raise SourceError where the content differs."""

    def head_sha256(self) -> str:
        """SHA-256 (hex) of the first 64 KiB as stored: tells cheaply that sources differ."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all stored bytes, reading the source through once."""

    def version(self) -> str | None:
        """What tells, without reading it, that it is what it was; None where nothing does.

        Sources of the same version have the same fingerprint; those of another one may, too.
        """

    def release(self) -> None:
        """It was loaded, and will hardly be opened again by this load."""

    def forget(self, offset: int) -> None:
        """What stands before `offset` is committed: a source that keeps it need not for long."""


@runtime_checkable
class BinaryReader(Protocol):
    """A reader whose rows may be in COPY's binary format, which nothing but COPY reads."""

    may_be_binary: bool


@runtime_checkable
class AbsenceReader(Protocol):
    """A reader that may know what a record says nothing of from what it says is null."""

    knows_absent: bool


@runtime_checkable
class SpreadSource(Protocol):
    """A source that several connections may read at once."""

    def spread(self, workers: int) -> None:
        """So many, from the next time on that it is opened."""


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written; None means: found out from the file."""

    delimiter: str | None = None
    quote: str = '"'
    escape: str | None = None  # None: the quote doubled
    header: bool = True
    null: str = ""
    encoding: str | None = None  # a Python codec; None: UTF-8, or what the byte order mark says
    columns: tuple[str, ...] = field(default=())  # names for a file without header
