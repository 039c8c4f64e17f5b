r"""JSON lines: one JSON object a line, its keys the columns; or each line whole, one column.

One array of objects is read the same way, an element at a time (see `json_array`): what is said of
lines here holds for its elements. Their numbers are counted in place of lines; where one is told
of, its lines are too.

Numbers keep their text, whatever their length. Blank lines give no row and count as lines. The
columns are the keys of the first 4 MiB, in the order in which they appear; a key that appears
only later is an error unless it is wanted, or may be left out (see `JsonLinesReader.pieces`).
How rows are made is told in `json_rows`.

Errors (`SourceError`):

SK103  the content differs from what was loaded
SK107  the bytes are not in the encoding said
SK108  empty: nothing but blank lines
SK113  a line longer than 64 MiB
SK114  a line is not valid JSON (RFC 8259: NaN, half a surrogate pair and the like are not), or
       is nested too deeply
SK115  a line is valid JSON, but not an object
SK116  a key that goes nowhere
SK117  \u0000 in a text, which PostgreSQL cannot store
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import count, islice
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlkit.errors import SourceError
from sqlkit.sources import json_array, json_rows
from sqlkit.sources.base import CopyFormat, Piece, ResumePoint, WantedColumn
from sqlkit.sources.json_rows import BLOCK, ROWS, BadLine, RowMaker
from sqlkit.sources.repertoire import NOT_IN_ENCODING, UNTRANSLATABLE, BadRecord, Repertoire
from sqlkit.sources.screen import Place, Screening, Sieve, line_ends
from sqlkit.sources.singly import MALFORMED, Lines, TextRows
from sqlkit.sources.stored import ByteStream, StoredFile, StoredSource

WHOLE_COLUMN = "line"
"""What the only column is called where lines are delivered whole."""

WHOLE = CopyFormat(format="csv", delimiter="\x02", quote="\x01", escape="\x01", null="\x03")
"""How COPY reads whole lines: by characters that no JSON text holds."""

SQLSTATES = {"SK117": UNTRANSLATABLE, "SK107": NOT_IN_ENCODING}
"""How a reject calls what is wrong with a line; anything else is malformed."""

_TOGETHER = 64  # lines

MAX_LINE = 64 << 20  # decoded bytes; a file that is no text must not fill the memory

_HEAD = 4 << 20  # decoded bytes from which the keys are found out
_BLANK = b" \t\r\n"


class _Line(NamedTuple):
    """A line, or an element of an array on one, which has physical lines besides."""

    number: int
    text: bytes
    raw: bytes  # as it stands in the file
    stands_on: Lines | None


class JsonLinesSource(StoredSource):
    """A file of JSON lines.

    With `whole`, every line goes untouched into one column, `WHOLE_COLUMN`, whose target is json
    or jsonb; the lines may then be any JSON, and PostgreSQL judges whether they are. `columns`
    names the keys to offer instead of those found at the beginning of the file.
    """

    format = "jsonl"
    passes_through = False

    def __init__(
        self,
        stored: StoredFile,
        *,
        encoding: str | None = None,
        whole: bool = False,
        columns: Sequence[str] = (),
    ) -> None:
        super().__init__(stored)
        self.encoding = encoding
        self.whole = whole
        self.declares_columns = whole
        self.columns = tuple(columns)

    @property
    def reading(self) -> Mapping[str, Any]:
        """Encoding, keys to offer, and whether lines are taken whole, where they were given."""
        said = {
            "encoding": self.encoding,
            "whole": self.whole,
            "columns": list(self.columns),
        }
        return {name: value for name, value in said.items() if value}

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> JsonLinesReader:
        """Open it; with `resume`, continue there or raise SourceError where the content differs.

        Rows are always UTF-8, which PostgreSQL converts to `database_encoding` itself.
        """
        stream = self.stored.open(encoding=self.encoding, resume=resume, is_strict=False)
        try:
            return JsonLinesReader(
                stream,
                whole=self.whole,
                columns=self.columns,
                resume=resume,
                database_encoding=database_encoding,
            )
        except BaseException:
            stream.close()
            raise


class JsonLinesReader:
    """An opened file of JSON lines (see `base.Reader`)."""

    columns: tuple[str, ...]
    column_types: Mapping[str, str] = MappingProxyType({})
    copy_format: CopyFormat
    single_format: CopyFormat = ROWS

    def __init__(
        self,
        stream: ByteStream,
        *,
        whole: bool = False,
        columns: tuple[str, ...] = (),
        resume: ResumePoint | None = None,
        database_encoding: str = "UTF8",
    ) -> None:
        self._stream = stream
        # Rows are in UTF-8, and the database may have no such character.
        self._is_converted = database_encoding.upper() != "UTF8"
        self.repertoire = Repertoire(database_encoding, encoding=stream.source_codec, is_json=True)
        self._name = stream.name
        self.progress = stream.progress
        self._whole = whole
        self._is_array = False
        self._has_ended = False  # the array
        self._is_resumed = resume is not None
        self._offset = 0
        self._line = 1  # or element
        self._physical_line = 1
        self._cut_last: tuple[bytes, list[bytes]] = b"", []  # of an array: text and elements
        self._used = 0  # of `_ahead`
        self._ahead = self._read_head()  # decoded and not used yet
        if not self._ahead.strip(_BLANK):
            raise SourceError(
                "is empty: it has nothing but blank lines" if self._ahead else "is empty",
                source=self._name,
                code="SK108",
                hint="Leave it out if there is nothing to load from it.",
            )
        if not whole and self._ahead.lstrip(_BLANK).startswith(b"["):
            self._is_array = True
            self._used = self._offset = self._ahead.index(b"[") + 1
            self._physical_line += self._ahead.count(b"\n", 0, self._used)
        self.counts_lines = not self._is_array
        self.knows_absent = not whole
        if whole:
            self.columns = (WHOLE_COLUMN,)
            self.column_types = {WHOLE_COLUMN: "jsonb"}
            self.copy_format = WHOLE
        else:
            self.columns = columns or self._find_keys()
            self.copy_format = ROWS
        if resume is not None:
            self._ahead = stream.skip_to_resume(self._ahead)
            self._used = 0
            self._offset = resume.offset
            self._line = resume.line
            self._physical_line = 1 + stream.lines_passed

    @property
    def layout(self) -> dict[str, Any]:
        """How records are written (see `base.Reader`)."""
        layout = {"format": "jsonl", "whole": self._whole, "encoding": self._stream.encoding}
        if self._is_array:
            layout["is_array"] = True
        if self._stream.has_mark:
            layout["has_mark"] = True
        return layout

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 (hex) of all stored bytes; None until the last piece was yielded."""
        return self._stream.fingerprint

    def close(self) -> None:
        """Release the file; may be called at any time, more than once."""
        self._stream.close()

    # --- the beginning

    def _read_head(self) -> bytes:
        """The first 4 MiB or more: to the end of the first line that is not blank."""
        parts = []
        size = 0
        found = False
        while size < _HEAD or not found:
            more = self._stream.read()
            if not more:
                break
            size += len(more)
            parts.append(more)
            if size >= _HEAD:
                parts = [b"".join(parts)]
                begun = parts[0].lstrip(_BLANK)
                found = b"\n" in begun
                if len(begun) > MAX_LINE and not found:
                    raise self._too_long(parts[0].count(b"\n") + 1)
                if not begun and size > MAX_LINE:
                    break
        return b"".join(parts)

    def _head_lines(self) -> list[bytes]:
        """The lines that were read ahead; the last only where it is whole, or the only one."""
        text = self._ahead[self._used :]
        if self._is_array:
            elements, _, ended = json_array.cut(text, ended=len(text) < _HEAD)
            self._cut_last = text, elements if elements or ended else [text]
            return list(map(json_array.as_line, self._cut_last[1]))
        lines = text.split(b"\n")
        if len(text) >= _HEAD and len(lines) > 1:
            lines.pop()
        return lines

    def _find_keys(self) -> tuple[str, ...]:
        lines = self._head_lines()
        keys: dict[str, None] = {}
        none_valid = True
        for record in json_rows.objects(lines):
            keys.update(dict.fromkeys(record))
            none_valid = False
        if none_valid:
            index = next((i for i, line in enumerate(lines) if line.strip(_BLANK)), None)
            if index is None:  # an empty array
                return ()
            try:
                json_rows.members(lines[index], index)
            except BadLine as error:
                raise self._stream.fault or self._bad_line(error) from None
        return tuple(keys)

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """The first records as text, null as None, without consuming them.

        At most `rows`, and as many as were read to find the keys. Strings are without quotes and
        escapes, everything else is the text as it is written. Lines that are no object are left
        out: whether they may be loaded is judged when they are.
        """
        lines = self._head_lines()
        if self._whole:
            full = (line for line in lines if line.strip(_BLANK))
            return [(line.decode(errors="replace").strip(),) for line in islice(full, rows)]
        return [
            tuple(json_rows.text_of(record.get(name)) for name in self.columns)
            for record in islice(json_rows.objects(lines), rows)
        ]

    # --- the records

    def pieces(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The records in order, about `piece_bytes` decoded bytes at a time.

        `wanted` may name any key, whether in `columns` or not; one that is absent is null.
        `ignored` are the keys that may occur besides; any other is an error that names key and
        line (SK116). None: whatever else occurs is left out.

        A piece exceeds `piece_bytes` by less than 1 MiB and the longest line. Memory stays within
        a few times a piece.
        """
        make: Callable[[bytes], bytes]
        if self._whole:
            if tuple(column.name for column in wanted) != self.columns:
                raise ValueError(f"whole lines have one column, {WHOLE_COLUMN}")
            make = whole_lines
        else:
            make = RowMaker(wanted, ignored, self.columns).rows
        self._stream.be_strict()
        return self._pieces(make, piece_bytes)

    def single_records(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The same pieces with the lines one by one, malformed ones too: see `singly`."""
        rows = TextRows(self.single_format, len(wanted), self.repertoire)
        maker = None if self._whole else RowMaker(wanted, ignored, self.columns)

        def make(text: bytes) -> bytes:
            return b"".join(self._singly(self._lines(text), maker, rows))

        return self._pieces(make, piece_bytes)

    def _singly(
        self, lines: list[_Line], maker: RowMaker | None, rows: TextRows
    ) -> Iterator[bytes]:
        # Most lines are well: a few at a time, and one by one only where one is not.
        for start in range(0, len(lines), _TOGETHER):
            some = lines[start : start + _TOGETHER]
            try:
                made = _rows_of([line.text for line in some], maker)
                if len(made) != len(some):
                    raise ValueError("a line gave no row")
                for line, row in zip(some, made, strict=True):
                    yield rows.good(line.number, line.raw, row, line.stands_on)
            except (BadLine, ValueError):
                for line in some:
                    try:
                        row = _rows_of([line.text], maker)[0]
                        yield rows.good(line.number, line.raw, row, line.stands_on)
                    except BadLine as error:
                        bad = self._bad_record(line.text, error)
                        yield rows.bad(line.number, line.raw, bad, line.stands_on)

    def _lines(self, text: bytes) -> list[_Line]:
        """The lines of what was cut last, which is `text`, but the blank ones."""
        lines = text.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if not self._is_array:
            numbered = enumerate(lines, self._line)
            return [_Line(n, line, line, None) for n, line in numbered if line.strip(_BLANK)]
        raws, spans = self._elements()
        return list(map(_Line, count(self._line), lines, raws, spans))

    def _elements(self) -> tuple[list[bytes], list[Lines]]:
        """The elements that were cut last, as they are written, and the lines they stand on."""
        text, elements = self._cut_last
        spans = json_array.lines_of(text, elements, self._physical_line)
        return list(map(json_array.as_written, elements)), list(spans)

    def screenings(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None,
        sieve: Sieve,
    ) -> Iterator[Screening]:
        """The same pieces, without the lines that are malformed: see `screen`."""
        texts = TextRows(self.single_format, len(wanted), self.repertoire)
        maker = None if self._whole else RowMaker(wanted, ignored, self.columns)
        records: list[_Line] = []  # of the piece in the making
        singles: list[bytes] = []

        def make(text: bytes) -> bytes:
            lines = self._lines(text)
            made, bad = _sound_rows([line.text for line in lines], maker)
            for index, error in bad:
                line = lines[index]
                record = self._bad_record(line.text, error)
                singles.append(texts.bad(line.number, line.raw, record, line.stands_on))
            refused = {index for index, _ in bad}
            records.extend(line for index, line in enumerate(lines) if index not in refused)
            return made

        for piece in self._pieces(make, piece_bytes, keeps_empty=True):
            began = time.perf_counter()
            doubtful = sieve.doubtful(piece.data, None, b"\n", is_ascii=self._is_converted)
            placed = records.copy()
            for row, (start, end) in doubtful.items():
                line = placed[row]
                data = piece.data[start : end - 1]
                singles.append(texts.good(line.number, line.raw, data, line.stands_on))
            seconds = piece.seconds + time.perf_counter() - began
            yield Screening(
                replace(piece, seconds=seconds),
                doubtful,
                b"".join(singles),
                cache(partial(line_ends, piece.data, b"\n")),
                partial(self._placed, placed),
            )
            records.clear()
            singles.clear()

    def _bad_record(self, line: bytes, error: BadLine) -> BadRecord:
        fault = self.repertoire.fault(line) if error.code == "SK107" else None
        return fault or BadRecord(SQLSTATES.get(error.code, MALFORMED), error.message)

    def _placed(self, records: list[_Line], row: int) -> Place:
        line = records[row]
        shown = self.repertoire.shown(line.raw)
        if line.stands_on is None:
            return Place(line.number, line.number, shown)
        return Place(*line.stands_on, shown, line.number)

    def _pieces(
        self,
        make: Callable[[bytes], bytes],
        piece_bytes: int,
        *,
        keeps_empty: bool = False,
    ) -> Iterator[Piece]:
        block = max(1, min(BLOCK, piece_bytes))
        began = time.perf_counter()
        runs: list[bytes] = []
        start, first_line = self._offset, self._line
        text = b""
        ended = False
        while not ended or (self._is_array and (text or not self._has_ended)):
            more = self._take(max(block, len(text)))
            text += more
            ended = not more
            lines, cut = self._cut(text, ended=ended)
            if cut:
                run = self._make(make, lines) if lines else b""
                if run or keeps_empty:
                    runs.append(run)
                self._offset += cut
                if self._is_array:
                    self._physical_line += text.count(b"\n", 0, cut)
                self._line += lines.count(b"\n") + (0 if lines.endswith(b"\n") else bool(lines))
                text = text[cut:]
                del lines
            elif len(text) > MAX_LINE:
                raise self._too_long(self._physical_line if self._is_array else self._line)
            if runs and (ended or self._offset - start >= piece_bytes):
                data = b"".join(runs)
                runs.clear()
                yield Piece(
                    data=data,
                    first_line=first_line,
                    last_line=self._line - 1,
                    start=start,
                    end=self._offset,
                    resume=self._stream.resume_at(self._offset, self._line),
                    seconds=time.perf_counter() - began,
                )
                del data
                began = time.perf_counter()
                start, first_line = self._offset, self._line

    def _cut(self, text: bytes, *, ended: bool) -> tuple[bytes, int]:
        """The whole records that `text` begins with, one a line, and how much of it they take."""
        if not self._is_array:
            cut = len(text) if ended else text.rfind(b"\n") + 1
            return (text if cut == len(text) else text[:cut]), cut
        if self._has_ended:
            if text.strip(_BLANK):
                raise self._broken_array("something follows the array", text)
            return b"", len(text)
        if ended and self._is_resumed and not text.strip(_BLANK):
            self._has_ended = True  # it was resumed right after the bracket
            return b"", len(text)
        elements, cut, self._has_ended = json_array.cut(text, ended=ended)
        if ended and not self._has_ended and not cut:
            raise self._broken_array("the array is cut off", b"", len(text))
        self._cut_last = text[:cut], elements
        return b"".join(json_array.as_line(element) + b"\n" for element in elements), cut

    def _broken_array(self, reason: str, near: bytes, further: int = 0) -> SourceError:
        return SourceError(
            f"{reason}, at byte {self._offset + further}",
            source=self._name,
            line=self._physical_line,
            code="SK114",
            detail=near[:200].decode(errors="backslashreplace") or None,
            hint="Fetch or write the file again: an array ends with its bracket.",
        )

    def _make(self, make: Callable[[bytes], bytes], text: bytes) -> bytes:
        began = time.perf_counter()
        try:
            return make(text)
        except BadLine as error:
            raise self._bad_line(error) from None
        finally:
            self.progress.seconds += time.perf_counter() - began

    def _take(self, size: int) -> bytes:
        if self._used < len(self._ahead):
            data = self._ahead[self._used : self._used + size]
            self._used += len(data)
            return data
        self._ahead = b""
        self._used = 0
        return self._stream.read(size)

    def _bad_line(self, error: BadLine) -> SourceError:
        line, record = self._line + error.index, None
        if self._is_array:
            _, spans = self._elements()
            line, record = spans[error.index][0], line
        return SourceError(
            error.message,
            source=self._name,
            line=line,
            record=record,
            code=error.code,
            detail=error.detail,
            hint=error.hint,
        )

    def _too_long(self, line: int) -> SourceError:
        return SourceError(
            f"the line is longer than {MAX_LINE >> 20} MiB",
            source=self._name,
            line=line,
            code="SK113",
            hint="Is this a file of JSON lines? A JSON array is made one by: jq -c '.[]' FILE",
        )


def _sound_rows(
    lines: list[bytes], maker: RowMaker | None
) -> tuple[bytes, list[tuple[int, BadLine]]]:
    """The rows of the lines that are well, and what is wrong with the others, by index."""
    made: list[bytes] = []
    bad: list[tuple[int, BadLine]] = []
    start = 0
    while start < len(lines):
        try:
            made.append(_made_rows(lines[start:], maker))
            break
        except BadLine as error:
            end = start + error.index
            made.append(_made_rows(lines[start:end], maker))
            bad.append((end, error))
            start = end + 1
    return b"".join(made), bad


def _made_rows(lines: list[bytes], maker: RowMaker | None) -> bytes:
    if maker is not None:
        return maker.rows(b"\n".join(lines)) if lines else b""
    full = [line for line in lines if line.strip(_BLANK)]
    return b"".join(row + b"\n" for row in _rows_of(full, None))


def _rows_of(lines: list[bytes], maker: RowMaker | None) -> list[bytes]:
    """The rows of some lines in COPY's text format, without their newlines. Raises BadLine."""
    if not lines:
        return []
    if maker is not None:
        return maker.rows(b"\n".join(lines)).split(b"\n")[:-1]
    for index, line in enumerate(lines):
        json_rows.check_utf8(line, index)
    _refuse_marks(lines)
    return [_whole_field(line.removesuffix(b"\r")) for line in lines]


def _whole_field(line: bytes) -> bytes:
    """A line, be it JSON or not, as one field of COPY's text format."""
    if line == ROWS.null.encode():
        return rb"n\ull"  # a null of JSON, not of SQL
    field = line.replace(b"\\", b"\\\\").replace(b"\r", rb"\r")
    return field.replace(ROWS.delimiter.encode(), rb"\x1f")


def whole_lines(text: bytes) -> bytes:
    """Lines for COPY to take whole: `text` itself, unless there are blank lines or odd line ends.

    What could mislead COPY is refused, and is no JSON anyway. Raises BadLine.
    """
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            for index, line in enumerate(lines):
                json_rows.check_utf8(line, index)
    if any(mark in text for mark in (b"\0", b"\1", b"\2", b"\3")) or rb"\." in text:
        _refuse_marks(lines)
    if b"\r" not in text and text.endswith(b"\n") and all(map(_is_full, lines)):
        return text
    rows = _with_one_line_end(line for line in lines if _is_full(line))
    return b"".join(rows)


def _is_full(line: bytes) -> bytes:
    return line.strip(_BLANK)


def _refuse_marks(lines: list[bytes]) -> None:
    for index, line in enumerate(lines):
        if line == rb"\.":  # where data ends, to COPY before PostgreSQL 18
            reason = r"it is \."
        elif marks := [mark for mark in b"\0\1\2\3" if mark in line]:
            reason = f"it holds the control character 0x{marks[0]:02x}"
        else:
            continue
        raise BadLine(
            index,
            f"the line is not valid JSON: {reason}",
            code="SK114",
            hint="Inside strings, control characters are written as \\u and four digits.",
            detail=repr(line[:200]),
        )


def _with_one_line_end(lines: Iterable[bytes]) -> Iterator[bytes]:
    r"""Lines that end in \n; \r elsewhere needs the quotes of COPY."""
    for line in lines:
        line = line.removesuffix(b"\r")
        yield b"\1%b\1\n" % line if b"\r" in line else line + b"\n"
