r"""CSV and TSV: the bytes of the file go to COPY as they stand, cut between records.

Python parses the header and, if asked, a sample; no other row. What is touched at all:

- text in another encoding than UTF-8 and the database's is transcoded to UTF-8, strictly;
- a field with a quote inside that is no quoting (``5" pipe``) is quoted: COPY would drop the
  quote and misread what follows (see `records`);
- a line end among others of another kind is made like them, and a lone one of the other kind
  inside a field is kept as data, in quotes: COPY takes one kind and refuses the rest;
- a record of ``\.`` alone is quoted: before PostgreSQL 18 it would end the data silently;
- blank lines after the last record are dropped, unless there is only one column, where an empty
  line is a null. Blank lines elsewhere are left for PostgreSQL to refuse ('missing data').

Whether UTF-8 is valid and free of NUL is for PostgreSQL to judge (SQLSTATE 22021).

Errors (`SourceError` unless said otherwise):

SK103  the content differs from what was loaded
SK107  the header is not in the encoding said
SK108  empty: not even a header
SK111  the header names a column twice, or not at all, or does not fit the names given
SK112  a quote that is never closed, or quotes that make no sense
SK113  a record longer than 64 MiB
SK001  (UsageError) a dialect that COPY cannot read
"""

from __future__ import annotations

import codecs
import operator
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Any

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.base import CopyFormat, Dialect, Piece, ResumePoint, WantedColumn
from sqlkit.sources.records import NO_QUOTE, BrokenQuotes, Grammar
from sqlkit.sources.repertoire import SERVER_CODECS, BadRecord, Repertoire
from sqlkit.sources.screen import Place, Screening, Sieve, line_ends, span
from sqlkit.sources.singly import MALFORMED, DelimitedRows, numbered
from sqlkit.sources.stored import CHUNK, ByteStream, StoredFile, StoredSource, codec_name

_AFTER_BROKEN = 1 << 14  # decoded bytes looked at after a line whose quotes make no sense
MAX_RECORD = 64 << 20  # decoded bytes; a quote that is never closed must not fill the memory

_HEAD = 1 << 16  # decoded bytes from which delimiter and line ends are found out
_MAX_HEADER = 1 << 20
_MAX_SAMPLE = 1 << 24
_DELIMITERS = b",;\t|"
_BLANK = re.compile(rb"[\r\n]*")


def check_dialect(dialect: Dialect) -> Dialect:
    """The dialect with its spellings resolved; raises UsageError where COPY cannot read it.

    A delimiter may be written ``tab`` or ``\\t``; no quote (``""``) means that quotes are data.
    """
    delimiter = dialect.delimiter
    if delimiter in ("tab", r"\t"):
        delimiter = "\t"
    escape = dialect.escape or None
    for what, character in (("delimiter", delimiter), ("quote", dialect.quote), ("escape", escape)):
        if not character:
            if what == "delimiter" and character == "":
                raise UsageError("the delimiter is empty", hint="Leave it out to find it out.")
            continue
        if len(character) != 1 or not character.isascii():
            raise UsageError(
                f"the {what} {character!r} is not one ASCII character",
                hint="PostgreSQL's COPY takes only one. Replace it on the way, for example: "
                "sed 's/||/\\x1f/g' FILE | sqlkit load - --delimiter $'\\x1f'"
                if what == "delimiter"
                else "PostgreSQL's COPY takes only one.",
            )
        if character in "\r\n\0":
            raise UsageError(f"the {what} cannot be {character!r}, which ends a line")
    quote = dialect.quote or NO_QUOTE.decode()
    if delimiter == quote:
        raise UsageError(f"the delimiter and the quote are both {delimiter!r}")
    if escape is not None and escape == delimiter:
        raise UsageError(f"the delimiter and the escape are both {delimiter!r}")
    if escape is not None and not dialect.quote:
        raise UsageError(
            "an escape without a quote",
            hint="Escapes are read only inside quotes; leave --escape out or give --quote.",
        )
    for character, what in (("\r", "a line end"), ("\n", "a line end"), (quote, "the quote")):
        if character in dialect.null:
            raise UsageError(f"the text for null, {dialect.null!r}, holds {what}")
    if delimiter is not None and delimiter in dialect.null:
        raise UsageError(f"the text for null, {dialect.null!r}, holds the delimiter")
    if dialect.encoding is not None:
        codec_name(dialect.encoding)
    return replace(dialect, delimiter=delimiter, escape=escape)


class DelimitedSource(StoredSource):
    """A CSV or TSV file."""

    passes_through = True
    declares_columns = True

    def __init__(
        self, stored: StoredFile, dialect: Dialect | None = None, *, format: str = "csv"
    ) -> None:
        super().__init__(stored)
        dialect = check_dialect(dialect or Dialect())
        if format == "tsv" and dialect.delimiter is None:
            dialect = replace(dialect, delimiter="\t")
        self.format = format
        self.dialect = dialect

    @property
    def reading(self) -> Mapping[str, Any]:
        """What of the dialect is not found out from the file, or the usual."""
        said = asdict(self.dialect) | {"columns": list(self.dialect.columns)}
        usual = asdict(Dialect()) | {"columns": []}
        return {name: value for name, value in said.items() if value != usual[name]}

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> DelimitedReader:
        """Open it; with `resume`, continue there or raise SourceError where the content differs."""
        passes = {"utf-8"}
        if own := SERVER_CODECS.get(database_encoding.upper()):
            passes.add(codecs.lookup(own).name)
        stream = self.stored.open(
            encoding=self.dialect.encoding,
            passes=frozenset(passes),
            resume=resume,
            is_strict=False,
        )
        try:
            return DelimitedReader(
                stream, self.dialect, database_encoding=database_encoding, resume=resume
            )
        except BaseException:
            stream.close()
            raise


class DelimitedReader:
    """An opened CSV or TSV file, positioned after its header (see `base.Reader`).

    Without a header and without names the columns are called ``column1``, ``column2`` and so on,
    as many as the first record has fields.
    """

    columns: tuple[str, ...]
    column_types: Mapping[str, str] = MappingProxyType({})
    counts_lines = True
    copy_format: CopyFormat
    single_format: CopyFormat

    def __init__(
        self,
        stream: ByteStream,
        dialect: Dialect,
        *,
        database_encoding: str = "UTF8",
        resume: ResumePoint | None = None,
    ) -> None:
        self._stream = stream
        self._name = stream.name
        self.progress = stream.progress
        self._ahead = b""  # decoded and not used yet
        self._used = 0  # of `_ahead`
        self._offset = 0  # of what comes next
        self._line = 1
        self._broken_lines: dict[int, str] = {}  # why, by where they begin
        self._open_line = False  # the last record may lack the end of its line

        head = self._read_head()
        if not head.strip(b"\r\n"):
            raise SourceError(
                "is empty" if not head else "is empty: it has nothing but blank lines",
                source=self._name,
                code="SK108",
                hint="Expected a header line."
                if dialect.header
                else "Leave it out if there is nothing to load from it.",
            )
        quote = dialect.quote.encode()
        escape = (dialect.escape or dialect.quote).encode()
        outside = _outside_quotes(
            head, quote, escape, (dialect.delimiter or "").encode() or _DELIMITERS
        )
        eol = _line_end(outside)
        delimiter = (
            dialect.delimiter.encode()
            if dialect.delimiter is not None
            else _sniff_delimiter(outside, quote, eol, header=dialect.header)
        )
        if delimiter in dialect.null.encode():
            raise UsageError(
                f"the text for null, {dialect.null!r}, holds the delimiter {delimiter.decode()!r}"
            )
        self._eol = eol
        self._grammar = Grammar(
            delimiter=delimiter,
            quote=quote,
            escape=escape,
            eol=eol,
            null=dialect.null.encode(stream.encoding),
        )
        mark = dialect.quote or NO_QUOTE.decode()
        self.copy_format = CopyFormat(
            format="csv",
            delimiter=delimiter.decode(),
            quote=mark,
            escape=dialect.escape or mark,
            null=dialect.null,
            encoding="UTF8" if stream.encoding == "utf-8" else database_encoding.upper(),
        )
        self.single_format = self.copy_format
        # A text may be in UTF-8, and the database have no such character.
        self._is_converted = self.copy_format.encoding != database_encoding.upper()
        self.repertoire = Repertoire(database_encoding, self.codec, encoding=stream.source_codec)
        self._read_header(dialect)
        if resume is not None:
            self._ahead = stream.skip_to_resume(self._ahead[self._used :])
            self._used = 0
            self._offset = resume.offset
            self._line = resume.line

    @property
    def layout(self) -> dict[str, Any]:
        """How records are written (see `base.Reader`)."""
        format = self.copy_format
        return {
            "format": "csv",
            "delimiter": format.delimiter,
            "quote": "" if format.quote == NO_QUOTE.decode() else format.quote,
            "escape": None if format.escape == format.quote else format.escape,
            "null": format.null,
            "encoding": self._stream.encoding,
            "columns": list(self.columns),
            **self._unusual,
        }

    @property
    def _unusual(self) -> dict[str, Any]:
        """What of the layout is seldom so: no header, another line end, a byte order mark."""
        unusual: dict[str, Any] = {}
        if not self._has_header:
            unusual["has_header"] = False
        if self._line_end != b"\n":
            unusual["line_end"] = self._line_end.decode()
        if self._stream.has_mark:
            unusual["has_mark"] = True
        return unusual

    @property
    def codec(self) -> str:
        """The Python codec of what pieces hold."""
        return "utf-8" if self.copy_format.encoding == "UTF8" else self._stream.encoding

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 (hex) of all stored bytes; None until the last piece was yielded."""
        return self._stream.fingerprint

    def close(self) -> None:
        """Release the file; may be called at any time, more than once."""
        self._stream.close()

    # --- the beginning

    def _read_head(self) -> bytes:
        while True:
            more = self._stream.read(_HEAD)
            self._ahead += more
            # the last line end must be seen whole: \r may be half of one
            if not more or (len(self._ahead) >= _HEAD and not self._ahead.endswith(b"\r")):
                return self._ahead

    def _read_header(self, dialect: Dialect) -> None:
        if dialect.header:
            blank = _BLANK.match(self._ahead)
            self._advance(blank.end() if blank else 0)
        record = self._first_record()
        self._has_header = dialect.header
        self._line_end = b"\r\n" if record.endswith(b"\r\n") else self._eol
        if not dialect.header:
            count = len(self._grammar.fields(record))
            self.columns = dialect.columns or tuple(f"column{i + 1}" for i in range(count))
            if len(self.columns) != count:
                raise SourceError(
                    f"its first record has {count} fields, but {len(self.columns)} columns "
                    "were named",
                    source=self._name,
                    line=1,
                    code="SK111",
                    detail=f"columns named: {', '.join(self.columns)}",
                    hint="Name every column of the file, in its order.",
                )
            return
        line = self._line
        names = tuple(self._text(value or b"", line) for value in self._grammar.fields(record))
        if dialect.columns:
            if len(dialect.columns) != len(names):
                raise SourceError(
                    f"its header has {len(names)} columns, but {len(dialect.columns)} were named",
                    source=self._name,
                    line=line,
                    code="SK111",
                    detail=f"header: {', '.join(names)}",
                    hint="Name every column of the file, in its order.",
                )
            names = dialect.columns
        else:
            self._check_names(names, line)
        self.columns = names
        self._advance(len(record))

    def _first_record(self) -> bytes:
        """The record that comes next, with its line end, without consuming it."""
        while True:
            try:
                end = self._grammar.record_end(self._ahead, self._used)
                if end is not None:
                    return self._ahead[self._used : end]
                size = len(self._ahead) - self._used
                if size <= _MAX_HEADER and (more := self._stream.read(max(size, _HEAD))):
                    self._ahead += more
                    continue
                if size <= _MAX_HEADER:
                    self._grammar.explain(self._ahead, self._used, final=True)
                    return self._ahead[self._used :]
            except BrokenQuotes as error:
                raise self._broken(error, self._ahead, self._used, self._line) from None
            raise SourceError(
                "its first line does not end within 1 MiB",
                source=self._name,
                line=self._line,
                code="SK113",
                hint="Is this a CSV file? See --format, --quote and --delimiter.",
            )

    def _check_names(self, names: tuple[str, ...], line: int) -> None:
        remedy = (
            "Mend the header, or name the columns yourself, all of them and in their order: "
            "tail -n +2 FILE | sqlkit load - --no-header --columns a,b,c"
        )
        seen: dict[str, int] = {}
        for position, name in enumerate(names, 1):
            if not name.strip():
                raise SourceError(
                    f"column {position} of {len(names)} has no name in the header",
                    source=self._name,
                    line=line,
                    code="SK111",
                    detail=f"header: {', '.join(names)}",
                    hint=remedy,
                )
            if name in seen:
                raise SourceError(
                    f"the header names {name!r} twice, as column {seen[name]} and {position}",
                    source=self._name,
                    line=line,
                    code="SK111",
                    detail=f"header: {', '.join(names)}",
                    hint=remedy,
                )
            seen[name] = position

    def _text(self, value: bytes, line: int) -> str:
        try:
            text = value.decode(self._stream.encoding)
            reason = "a NUL byte" if "\0" in text else None
        except UnicodeDecodeError as error:
            text, reason = "", f"{error.object[error.start : error.end].hex(' ')}: {error.reason}"
        if reason is not None:
            raise self._stream.fault or SourceError(
                f"the header is not {self._stream.encoding} ({reason})",
                source=self._name,
                line=line,
                code="SK107",
                detail=f"header field {value!r}",
                hint="Name the encoding of the file with --encoding.",
            )
        return text

    def _advance(self, size: int) -> None:
        used = self._used + size
        self._line += self._ahead.count(self._eol, self._used, used)
        self._used = used
        self._offset += size

    # --- the records

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """The first records as text, null as None, without consuming them.

        At most `rows`, and as many as begin within the next 16 MiB. What is not in the encoding
        is replaced: whether it may be loaded is judged when it is.
        """
        grammar, encoding = self._grammar, self._stream.encoding
        found: list[tuple[str | None, ...]] = []
        position = self._used
        ended = False
        while len(found) < rows and not (ended and position >= len(self._ahead)):
            try:
                end = grammar.record_end(self._ahead, position)
                if end is None and ended:
                    grammar.explain(self._ahead, position, final=True)
                    end = len(self._ahead)
            except BrokenQuotes as error:
                raise self._broken(error, self._ahead, self._used, self._line) from None
            if end is None:
                if len(self._ahead) - self._used > _MAX_SAMPLE:
                    break
                more = self._stream.read()
                ended = not more
                self._ahead = self._ahead[self._used :] + more
                position -= self._used
                self._used = 0
                continue
            record = self._ahead[position:end]
            position = end
            if len(self.columns) == 1 or record.strip(b"\r\n"):
                found.append(
                    tuple(
                        None if value is None else value.decode(encoding, "replace")
                        for value in grammar.fields(record)
                    )
                )
        return found

    def pieces(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The records in order, about `piece_bytes` decoded bytes at a time.

        A piece exceeds `piece_bytes` by less than 1 MiB and the longest record. `wanted` must be
        all columns in their own order: COPY is told which is which. Memory stays within a few
        times a piece; a record may have up to 64 MiB.
        """
        self._stream.be_strict()
        yield from self._pieces(wanted, piece_bytes)

    def _pieces(
        self, wanted: Sequence[WantedColumn], piece_bytes: int, *, keeps_broken: bool = False
    ) -> Iterator[Piece]:
        """The pieces; with `keeps_broken` a line whose quotes make no sense is one by itself.

        Why they make none is in `_broken_lines` then. Without, such a line is an error.
        """
        if tuple(column.name for column in wanted) != self.columns:
            raise ValueError("a delimited file delivers all its columns, in its own order")
        chunk = max(1, min(CHUNK, piece_bytes))
        piece = _PieceInMaking(self._offset, self._line)
        text = b""
        step = chunk
        ended = False
        while not ended:
            more = self._take(max(step, len(text)))
            step = min(2 * step, chunk)
            text += more
            ended = not more
            reason = None
            try:
                run, cut = self._cut_last(text) if ended else self._cut(text)
            except BrokenQuotes as error:
                if not keeps_broken:
                    raise self._broken(error, text, 0, self._line) from None
                ended = False  # there is more, in `text`
                run, cut = self._grammar.prepare(text, error.offset) if error.offset else (b"", 0)
                if not cut and more and self._eol not in text and len(text) < MAX_RECORD:
                    continue  # its line is yet to come
                if not cut:
                    reason = error.reason
                    run = text[: text.find(self._eol) + 1] or text
                    cut = len(run)
            if reason is not None and piece.runs:
                yield self._made(piece)
                piece = _PieceInMaking(self._offset, self._line)
            if cut:
                line_end = self._grammar.first_line_end(run) if reason is None else b""
                if not piece.agrees_with(line_end):
                    yield self._made(piece)
                    piece = _PieceInMaking(self._offset, self._line)
                changed = keeps_broken and not text.startswith(run)
                piece.add(run, line_end, text[:cut] if changed else run)
                if reason is not None:
                    self._broken_lines[piece.start] = reason
                self._offset += cut
                self._line += text.count(self._eol, 0, cut)
                self._open_line = not text.endswith(self._eol, 0, cut)
                text = text[cut:]
            if reason is not None:
                # Up to 64 MiB were read for its quote: pieces are not to be so large. And where one
                # line is broken the next is too, more often than not: then little is read in vain.
                text = self._give_back(text)
                step = min(chunk, _AFTER_BROKEN)
            is_full = self._offset - piece.start >= piece_bytes
            if piece.runs and (ended or is_full or reason is not None):
                made = self._made(piece)
                del run
                yield made
                del made
                piece = _PieceInMaking(self._offset, self._line)

    def single_records(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The same pieces with the records one by one, malformed ones too: see `singly`."""
        rows = DelimitedRows(self.copy_format, len(self.columns), self.repertoire)
        for piece in self._pieces(wanted, piece_bytes, keeps_broken=True):
            began = time.perf_counter()
            data = b"".join(self._singly(piece, rows))
            yield replace(piece, data=data, seconds=piece.seconds + time.perf_counter() - began)

    def _singly(self, piece: Piece, rows: DelimitedRows) -> Iterator[bytes]:
        grammar, data = self._grammar, piece.data
        if broken := self._broken_line(piece, rows):
            yield broken
            return
        end = grammar.first_line_end(data) or grammar.eol
        suspect = self.repertoire.fault(data) is not None
        quoted = bool(grammar.quote) and grammar.quote in data
        records = grammar.records(data) if quoted else _lines(data, grammar.eol)
        originals = _Originals(piece, grammar.eol)
        for first, last, record in numbered(records, piece.first_line, grammar.eol):
            bad = self._fault(record, suspect=suspect)
            raw = originals.raw(first, last, record)
            if bad is None:
                yield rows.good(first, last, raw, record, end)
            else:
                yield rows.bad(first, last, raw, bad, end)

    def _broken_line(self, piece: Piece, rows: DelimitedRows) -> bytes:
        """The row that says so, if a piece is a line whose quotes make no sense."""
        reason = self._broken_lines.pop(piece.start, None)
        if reason is None:
            return b""
        raw = _without_line_end(piece.data, self._grammar.eol)
        bad = BadRecord(MALFORMED, reason)
        if fault := self.repertoire.fault(raw):
            bad = BadRecord(fault.sqlstate, f"{reason}; {fault.message}")
        return rows.bad(piece.first_line, piece.first_line, raw, bad, self._grammar.eol)

    def _fault(self, raw: bytes, *, suspect: bool) -> BadRecord | None:
        """Why a record is no row, if it is none; its characters are looked at where suspect."""
        grammar, width = self._grammar, len(self.columns)
        if suspect and (fault := self.repertoire.fault(raw)):
            return fault
        if not raw and width > 1:
            return BadRecord(MALFORMED, "the line is empty")
        if grammar.quote and grammar.quote in raw:
            fields = len(grammar.fields(raw))
        else:
            fields = raw.count(grammar.delimiter) + 1
        if fields != width:
            return BadRecord(MALFORMED, f"{fields} fields where there should be {width}")
        return None

    def screenings(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None,
        sieve: Sieve,
    ) -> Iterator[Screening]:
        """The same pieces, each with the records that may be bad: see `screen`."""
        rows = DelimitedRows(self.copy_format, len(self.columns), self.repertoire)
        for piece in self._pieces(wanted, piece_bytes, keeps_broken=True):
            began = time.perf_counter()
            screening = self._screening(piece, rows, sieve)
            seconds = piece.seconds + time.perf_counter() - began
            yield replace(screening, piece=replace(screening.piece, seconds=seconds))

    def _screening(self, piece: Piece, rows: DelimitedRows, sieve: Sieve) -> Screening:
        grammar, data = self._grammar, piece.data
        if broken := self._broken_line(piece, rows):
            # No row is left of it.
            return Screening(replace(piece, data=b""), {}, broken, list, _no_place)
        line_end = grammar.first_line_end(data) or grammar.eol
        suspect = self.repertoire.fault(data) is not None
        is_simple = self._is_simple(data)
        ends = cache(partial(self._ends, data, is_simple=is_simple))
        is_ascii = suspect or self._is_converted
        doubtful = sieve.doubtful(data, None if is_simple else ends(), line_end, is_ascii=is_ascii)
        firsts: list[int] = []  # physical lines, once they are asked for
        originals = _Originals(piece, grammar.eol)

        def find(row: int) -> tuple[int, int, bytes]:
            start, end = doubtful.get(row) or span(ends(), row)
            record = _without_line_end(data[start:end], grammar.eol)
            if is_simple:
                line = piece.first_line + row
            else:
                if not firsts:
                    counts = (
                        max(1, data.count(grammar.eol, start, end))
                        for start, end in pairwise([0, *ends()])
                    )
                    firsts.extend(accumulate(counts, initial=piece.first_line))
                line = firsts[row]
            return line, line + record.count(grammar.eol), record

        def place(row: int) -> Place:
            first, last, record = find(row)
            return Place(first, last, originals.raw(first, last, record))

        singles = []
        for row in doubtful:
            first, last, record = find(row)
            bad = self._fault(record, suspect=suspect)
            raw = originals.raw(first, last, record)
            if bad is None:
                singles.append(rows.good(first, last, raw, record, line_end))
            else:
                singles.append(rows.bad(first, last, raw, bad, line_end))
        return Screening(piece, doubtful, b"".join(singles), ends, place)

    def _is_simple(self, data: bytes) -> bool:
        """True if every line of a piece is a record."""
        quote = self._grammar.quote
        if not quote or quote not in data:
            return True
        lines = data.split(self._grammar.eol)
        return self._grammar.escape == quote and not any(line.count(quote) & 1 for line in lines)

    def _ends(self, data: bytes, *, is_simple: bool) -> list[int]:
        """Where each record of a piece ends."""
        if is_simple:
            return line_ends(data, self._grammar.eol)
        return list(accumulate(map(len, self._grammar.records(data))))

    def _made(self, piece: _PieceInMaking) -> Piece:
        data = b"".join(piece.runs)
        is_original = all(map(operator.is_, piece.runs, piece.originals))
        original = b"" if is_original else b"".join(piece.originals)
        piece.runs.clear()
        piece.originals.clear()
        return Piece(
            data=data,
            original=original,
            first_line=piece.first_line,
            last_line=self._line - 1 + self._open_line,
            start=piece.start,
            end=self._offset,
            resume=self._stream.resume_at(self._offset, self._line),
            seconds=time.perf_counter() - piece.began,
        )

    def _take(self, size: int) -> bytes:
        if self._used < len(self._ahead):
            data = self._ahead[self._used : self._used + size]
            self._used += len(data)
            return data
        self._ahead = b""
        self._used = 0
        return self._stream.read(size)

    def _give_back(self, text: bytes) -> bytes:
        """Have what was taken last read again, in chunks; what is left of it, which is nothing."""
        if self._used >= len(text):
            self._used -= len(text)
        else:
            self._ahead = text + self._ahead[self._used :]
            self._used = 0
        return b""

    def _cut(self, text: bytes) -> tuple[bytes, int]:
        """The whole records that `text` begins with, ready for COPY, and their length."""
        grammar = self._grammar
        if self._eol == b"\r" and text.endswith(b"\r"):
            text = text[:-1]  # may be the first half of a line end
        cut = grammar.boundary(text)
        if not cut and grammar.quote in text:
            cut = grammar.careful_boundary(text)
        if cut and len(self.columns) > 1:
            cut = self._without_blank_lines(text, cut)
        run = b""
        if cut:
            run, cut = grammar.prepare(text, cut)
        if not cut:
            grammar.explain(text, 0)
            if len(text) >= MAX_RECORD:
                grammar.explain(text, 0, final=True, within=f" within {MAX_RECORD >> 20} MiB")
            if len(text) >= MAX_RECORD:
                raise SourceError(
                    f"the record that begins here is longer than {MAX_RECORD >> 20} MiB",
                    source=self._name,
                    line=self._line,
                    code="SK113",
                    hint="Are quote and line end of the file what they were said to be?",
                )
        return run, cut

    def _without_blank_lines(self, text: bytes, cut: int) -> int:
        """A cut that leaves blank lines at its end for later: they may be the last of the file."""
        doubled = text.endswith((b"\n\n", b"\n\r\n", b"\r\r"), max(0, cut - 3), cut)
        if not doubled and cut > 2:
            return cut
        kept = len(text[:cut].rstrip(b"\r\n"))
        if not kept:
            return 0
        return self._grammar.line_end(text, kept) or cut

    def _cut_last(self, text: bytes) -> tuple[bytes, int]:
        if len(self.columns) > 1 and not text.strip(b"\r\n"):
            return b"", 0
        if not text:
            return b"", 0
        if self._eol == b"\n" and text.endswith(b"\r"):
            text = text[:-1] + b"\n"  # the file was cut between \r and \n
        return self._grammar.prepare_last(text), len(text)

    def _broken(self, error: BrokenQuotes, text: bytes, start: int, line: int) -> SourceError:
        return SourceError(
            f"{error.reason}, in the record that begins here",
            source=self._name,
            line=line + text.count(self._eol, start, error.offset),
            code="SK112",
            detail=text[error.offset : error.offset + 200].decode(self._stream.encoding, "replace"),
            hint="Close or double the quote there; if quotes mean nothing in this file, "
            "give --quote ''.",
        )


def _lines(data: bytes, eol: bytes) -> list[bytes]:
    lines = [line + eol for line in data.split(eol)]
    last = lines.pop()
    return [*lines, last[:-1]] if last != eol else lines


def _without_line_end(record: bytes, eol: bytes) -> bytes:
    record = record.removesuffix(eol)
    return record.removesuffix(b"\r") if eol == b"\n" else record


def _no_place(row: int) -> Place:
    raise IndexError(row)


class _PieceInMaking:
    """Runs of whole records that will be one piece: all with the same line end, as COPY wants."""

    def __init__(self, start: int, first_line: int) -> None:
        self.began = time.perf_counter()
        self.runs: list[bytes] = []
        self.originals: list[bytes] = []  # the same bytes, but where COPY needs others
        self.start = start
        self.first_line = first_line
        self._line_end = b""

    def agrees_with(self, line_end: bytes) -> bool:
        return not self._line_end or not line_end or line_end == self._line_end

    def add(self, run: bytes, line_end: bytes, original: bytes) -> None:
        self.runs.append(run)
        self.originals.append(original)
        self._line_end = self._line_end or line_end


class _Originals:
    """What the records of a piece are in the source, where COPY is given something else."""

    def __init__(self, piece: Piece, eol: bytes) -> None:
        # Quotes that are added for COPY move no record to another physical line.
        self._lines = piece.original.split(eol) if piece.original else []
        self._first_line = piece.first_line
        self._eol = eol

    def raw(self, first: int, last: int, record: bytes) -> bytes:
        """The record on these physical lines, without its line end."""
        if not self._lines:
            return record
        lines = self._lines[first - self._first_line : last - self._first_line + 1]
        text = self._eol.join(lines)
        if self._eol == b"\r":
            return text.removeprefix(b"\n")  # of the line end before it
        return text.removesuffix(b"\r")


def _outside_quotes(head: bytes, quote: bytes, escape: bytes, delimiter: bytes) -> bytes:
    """What stands outside quotes; a quote opens only where a field can begin."""
    if not quote:
        return head
    q, e = re.escape(quote), re.escape(escape)
    if quote == escape:
        inner = rb"[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q)
    else:
        inner = rb"[^%b%b]*+(?:%b.[^%b%b]*+)*+" % (q, e, e, q, e)
    before = rb"(?<![^\r\n%b])" % re.escape(delimiter)
    quoted = rb"%b%b%b(?:%b|\Z)" % (before, q, inner, q)
    return re.sub(quoted, b"", head, flags=re.DOTALL)


def _line_end(outside: bytes) -> bytes:
    """The byte that ends a line; \\r only where no \\n stands outside quotes."""
    return b"\r" if b"\r" in outside and b"\n" not in outside else b"\n"


def _sniff_delimiter(outside: bytes, quote: bytes, eol: bytes, *, header: bool) -> bytes:
    """The likeliest delimiter: the most frequent in the header outside quotes.

    Without a header, one that every line holds equally often is preferred. A file without any
    has one column.
    """
    lines = outside.lstrip(b"\r\n").split(eol)
    if len(lines) > 2:
        lines.pop()  # may be cut off
    candidates = [bytes([d]) for d in _DELIMITERS if bytes([d]) != quote]
    if not header:
        lines = [line for line in lines[:100] if line.strip(b"\r")]
        even = [d for d in candidates if len({line.count(d) for line in lines}) == 1]
        candidates = [d for d in even if d in lines[0]] or candidates
    return max(candidates, key=lambda d: lines[0].count(d))
