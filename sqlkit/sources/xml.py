r"""XML: one element a row, read as a stream.

The record is an element, by its name (`--record Item`); what stands in it makes the columns:

- ``ItemCode``        the text of a child; one that holds elements, or occurs several times, is JSON
- ``Club/Id``         the text of a child's child, and so on
- ``@id``             an attribute of the record; ``Club/@id`` of a child
- ``../StoreId``      the last value of that name that stands above or beside the record, before it;
                      ``../@Count`` an attribute of an element that the record is in

The column that takes the rest gets an object of what is neither wanted, nor the beginning of a
path, nor left out, nor empty; null if there is nothing.

An empty element is null. Names are without their prefixes; text is in the encoding that the file
declares, or that its byte order mark says.

Expat reads what is there, without building a tree. Records that hold nothing but plain children, as
nearly all do, are cut out before by a regular expression that is made from the first of them: it
takes what is well-formed beyond doubt, contiguously, and leaves everything else to expat. Once a
file shows a comment, a CDATA section or the like, all that follows goes to expat.

Entities that a file declares are refused, whatever they are for, as are elements nested more than
256 deep and records of more than 64 MiB; nothing outside the file is ever read.

Offsets count records, and so do lines. A load that was cut off reads the file from its beginning
and passes over the records that it has.

Errors (`SourceError`): SK119 the XML is not well-formed, or what it has is refused; SK105 it is cut
off; SK116 an element that goes nowhere; SK118 a value that cannot be loaded; SK108 no record.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn
from xml.parsers import expat

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.base import ResumePoint, WantedColumn
from sqlkit.sources.blocks import Block, BlockReader
from sqlkit.sources.feeds import FEEDS, Feed
from sqlkit.sources.singly import Lines
from sqlkit.sources.stored import ByteStream, StoredFile, StoredSource
from sqlkit.sources.text_rows import encode_rows, fields_of, to_json

MAX_DEPTH = 256
MAX_RECORD = 64 << 20
TOO_LONG = "a record, a tag or a text that is too long"
CHUNK = 256 << 10

_FIRST_RECORDS = 100
_NOTHING = hashlib.sha256().hexdigest()
_DECLARED = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_CHILD = re.compile(r"\s*<([^\s<>/&!?]+)(?:\s*/>|>([^<]*)</\1\s*>)")
_ENTITY = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9a-fA-F]{1,6}));")
_DOUBTFUL = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});)")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

Record = dict[str, Any]
"""Names and values: a text, None, a dict of the same, or a list of these where a name repeats."""
Above = Mapping[str, str | None]


@dataclass(frozen=True)
class Chunk:
    """Some records: each by itself, or, of plain ones, the texts of each name (empty for null)."""

    count: int
    records: list[tuple[Record, Above]]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    above: Above = field(default_factory=dict)
    begins: int = 1  # the line that plain records begin on
    texts: Sequence[str] = ()  # and what stands there, up to the next one
    stands_on: Sequence[Lines] = ()  # the physical lines of those by themselves

    def since(self, start: int) -> Chunk:
        """Without the first ones."""
        columns = {name: values[start:] for name, values in self.columns.items()}
        begins = self.begins + sum(text.count("\n") for text in self.texts[:start])
        left = self.count - start, self.records[start:], columns, self.above
        return Chunk(*left, begins, self.texts[start:], self.stands_on[start:])

    def lines(self) -> list[Lines]:
        """The physical lines of each record."""
        found = list(self.stands_on)
        line = self.begins
        for text in self.texts:
            found.append((line, line + text.rstrip().count("\n")))
            line += text.count("\n")
        return found

    def names(self) -> set[str]:
        """All names of the records."""
        found = set(self.columns)
        for record, _ in self.records:
            found.update(record)
        return found


class XmlSource(StoredSource):
    """An XML file whose rows are the elements called `record`, or those of a `feed`."""

    format = "xml"
    passes_through = False

    def __init__(
        self,
        stored: StoredFile,
        *,
        record: str | None = None,
        feed: str | None = None,
        encoding: str | None = None,
    ) -> None:
        super().__init__(stored)
        if feed is not None and feed not in FEEDS:
            raise UsageError(f"there is no feed {feed!r}", hint=f"One of {', '.join(FEEDS)}.")
        if (record is None) == (feed is None):
            raise UsageError(
                "XML needs the name of the element that is a row",
                hint="--record Item; or --feed for one that sqlkit knows: " + ", ".join(FEEDS),
            )
        self._feed_name = feed
        self.feed = None if feed is None else FEEDS[feed]
        self.declares_columns = feed is not None
        self.record = record
        self.encoding = encoding
        self._digest: str | None = None

    @property
    def reading(self) -> Mapping[str, Any]:
        """The element or feed, and the encoding where it was given."""
        said = {"record": self.record, "feed": self._feed_name, "encoding": self.encoding}
        return {name: value for name, value in said.items() if value}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the file, which is read through once for it."""
        self._digest = super().fingerprint()
        return self._digest

    def open(
        self, *, database_encoding: str = "UTF8", resume: ResumePoint | None = None
    ) -> XmlReader:
        """Open it; with `resume`, pass over the records before, or raise where the file differs."""
        digest = _NOTHING
        if self.repeatable:
            digest = self._digest or self.fingerprint()
            if resume is not None and resume.stored_sha256 != digest:
                raise SourceError("the content differs", source=self.name, code="SK103")
        stream = self.stored.open(encoding=self.encoding or _declared_encoding(self.stored.peek()))
        try:
            return XmlReader(stream, self.record, self.feed, resume, digest, database_encoding)
        except BaseException:
            stream.close()
            raise


def _declared_encoding(head: bytes) -> str | None:
    """The codec that the file declares; None where a byte order mark says it, or nothing does."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return None
    if head.startswith(b"<\0"):
        return "utf-16-le"
    if head.startswith(b"\0<"):
        return "utf-16-be"
    found = _DECLARED.match(head[:1000].lstrip())
    if found is None:
        return None
    name = found[1].decode()
    try:
        # What is marked as UTF-16 and begins with a plain < is not.
        return None if codecs.lookup(name).name.startswith("utf-16") else name
    except LookupError:
        return None


class XmlReader(BlockReader[Chunk]):
    """An opened XML file (see `base.Reader`)."""

    column_types: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        stream: ByteStream,
        record: str | None,
        feed: Feed | None,
        resume: ResumePoint | None,
        digest: str,
        database_encoding: str,
    ) -> None:
        super().__init__(resume, database_encoding)
        self._stream = stream
        self._name = stream.name
        self.progress = stream.progress
        self._feed = feed
        self._digest = digest
        self._records = _Records(stream, record, feed)
        self._first: list[Chunk] = []
        self._taken: frozenset[str] = frozenset()
        seen = 0
        for chunk in self._records:
            self._first.append(chunk)
            seen += chunk.count
            if seen >= _FIRST_RECORDS:
                break
        if not self._first:
            what = record or " or ".join(feed.records if feed else ())
            raise SourceError(
                f"has no element {what}",
                source=self._name,
                code="SK108",
                hint="Names are as in the file, upper and lower case told apart.",
            )
        if feed is not None:
            self.columns = tuple(feed.columns)
        else:
            names: dict[str, None] = {}
            for chunk in self._first:
                names.update(dict.fromkeys(chunk.columns))
                for found, _ in chunk.records:
                    names.update(dict.fromkeys(found))
            self.columns = tuple(names)

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 (hex) of all stored bytes; None until the last piece was yielded."""
        return self._digest if self.is_at_end and self._digest != _NOTHING else None

    def sample(self, rows: int) -> list[tuple[str | None, ...]]:
        """The first records as text, null as None, without consuming them."""
        wanted = tuple(WantedColumn(name) for name in self.columns)
        found: list[tuple[str | None, ...]] = []
        for chunk in self._first:
            data, _ = encode_rows(self._columns(chunk, wanted), wanted, 1)
            found += [tuple(fields_of(row)) for row in data.split(b"\n")[:-1]]
        return found[:rows]

    def _blocks(
        self,
        wanted: tuple[WantedColumn, ...],
        ignored: frozenset[str] | None,
        piece_bytes: int,
    ) -> Iterator[Block[Chunk]]:
        allowed = None
        if self._feed is None:
            roots = (column.name.split("/")[0] for column in wanted if not column.takes_rest)
            self._taken = frozenset(ignored or ()).union(roots)
            if ignored is not None and not any(column.takes_rest for column in wanted):
                allowed = self._taken
        number = 0
        first, self._first = self._first, []
        for chunk in itertools.chain(first, self._records):
            start, number = number, number + chunk.count
            if number <= self._start:
                continue
            if start < self._start:
                chunk, start = chunk.since(self._start - start), self._start
            if allowed is not None and not allowed.issuperset(chunk.names()):
                unknown = min(chunk.names() - allowed)
                raise SourceError(
                    f"the element {unknown!r} was not seen before and goes nowhere",
                    source=self._name,
                    record=start + 1,
                    code="SK116",
                    detail=f"in one of the records {start + 1} to {number}",
                    hint="Leave it out: --leave-out NAME, or '*' for all such elements.",
                )
            yield Block(start, number, start + 1, chunk.count, chunk)

    def _columns(self, chunk: Chunk, wanted: Sequence[WantedColumn]) -> list[Sequence[Any]]:
        return [
            _rest(chunk, self._taken) if column.takes_rest else _values(chunk, column, self._feed)
            for column in wanted
        ]

    def _rows(self, block: Block[Chunk], wanted: tuple[WantedColumn, ...]) -> bytes:
        data, bad = encode_rows(self._columns(block.content, wanted), wanted, block.line)
        for row in bad:
            raise row.as_error(self._name)
        return data

    def _single_rows(self, block: Block[Chunk], wanted: tuple[WantedColumn, ...]) -> bytes:
        data, bad = encode_rows(self._columns(block.content, wanted), wanted, block.line)
        return self._singly(data, block, wanted, bad, block.content.lines())

    def _resume_at(self, offset: int, line: int) -> ResumePoint:
        return ResumePoint(offset, line, 0, self._digest)

    def close(self) -> None:
        """Release the file; may be called at any time, more than once."""
        self._stream.close()


def _rest(chunk: Chunk, taken: frozenset[str]) -> list[str | None]:
    """What records have beside what is taken, each as one object."""
    records: Sequence[Mapping[str, Any]] = [record for record, _ in chunk.records]
    if chunk.columns:
        names = [name for name in chunk.columns if name not in taken]
        columns = (chunk.columns[name] for name in names)
        values = zip(*columns, strict=True) if names else itertools.repeat((), chunk.count)
        records = [dict(zip(names, row, strict=True)) for row in values]
    found = (
        {name: value for name, value in record.items() if value and name not in taken}
        for record in records
    )
    return [to_json(left) if left else None for left in found]


def _values(chunk: Chunk, column: WantedColumn, feed: Feed | None) -> Sequence[Any]:
    """The values of a column: texts, None, and JSON of what is more than a text."""
    if feed is not None:
        names: tuple[str, ...] = feed.columns[column.name]
        paths = [[name] for name in names]
    else:
        is_outer = column.name.startswith("../")
        names = (column.name[3:],) if is_outer else ()
        paths = [] if is_outer else [column.name.split("/")]
    if chunk.columns:
        for path in paths:
            found = chunk.columns.get(path[0]) if len(path) == 1 else None
            if found is not None:
                values = [value or None for value in found] if "" in found else found
                return [v and to_json(v) for v in values] if column.is_json else values
        above = next((chunk.above[name] for name in names if name in chunk.above), None)
        return [_written(above, column)] * chunk.count
    return [
        _written(_found(record, above, paths, names), column) for record, above in chunk.records
    ]


def _found(record: Record, above: Above, paths: list[list[str]], names: tuple[str, ...]) -> Any:
    for path in paths:
        value: Any = record
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None or (len(path) == 1 and path[0] in record):
            return value
    return next((above[name] for name in names if name in above), None)


def _written(value: Any, column: WantedColumn) -> str | None:
    if value is None or (type(value) is str and not column.is_json):
        return value
    return to_json(value)


class _Records:
    """The records of a file, some at a time, with what stands above them."""

    def __init__(self, stream: ByteStream, record: str | None, feed: Feed | None) -> None:
        self._stream = stream
        self._parser = _Parser(stream.name, record, feed)
        self._is_plain = True  # as long as nothing was seen that only expat can tell
        self._pattern: re.Pattern[str] | None = None
        self._names: list[str] = []
        self._open: re.Pattern[str] | None = None
        self._iterator = self._read()

    def __iter__(self) -> Iterator[Chunk]:
        return self._iterator

    def __next__(self) -> Chunk:
        return next(self._iterator)

    def _read(self) -> Iterator[Chunk]:
        parser = self._parser
        decoder = codecs.getincrementaldecoder("utf-8")()
        text = ""
        before = b""
        while more := self._stream.read(CHUNK):
            try:
                text += decoder.decode(more)
            except UnicodeDecodeError as error:
                parser.refuse(f"bytes that are not UTF-8: {error.reason}", code="SK107")
            if self._is_plain:
                self._is_plain = _is_plain(before + more, at_start=not before)
            before = more[-2:]
            if not self._is_plain:
                parser.feed(text)
                text = ""
            else:
                text = yield from self._cut(text)
            if parser.rows:
                yield parser.taken()
        parser.feed(text + decoder.decode(b"", final=False))
        parser.finish()
        if parser.rows:
            yield parser.taken()

    def _cut(self, text: str) -> Generator[Chunk, None, str]:
        """Go through the whole records of a text; what is left of it is to be read on."""
        parser = self._parser
        position = 0
        while True:
            tag = parser.tag
            if tag is None:
                # Expat has to find the first record, and how its tag is spelt.
                end = text.rfind("<", position)
                if end <= position:
                    return text[position:]
                parser.feed(text[position:end])
                position = end
                if parser.tag is None:
                    return text[position:]
                continue
            if parser.is_in_record:
                end = text.find(f"</{tag}", position)
                end = -1 if end < 0 else text.find(">", end)
                if end < 0:
                    # What is fed must not end within a tag.
                    cut = text.rfind("<", position + 1)
                    if cut > position:
                        parser.feed(text[position:cut])
                        position = cut
                    return self._rest(text, position)
                parser.feed(text[position : end + 1])
                position = end + 1
                continue
            close = text.rfind(f"</{tag}>")
            end = close + len(tag) + 3
            if close < position:
                return self._rest(text, position)
            start = self._start_of_record(text, position, end)
            if start > position:
                parser.feed(text[position:start])
                position = start
                if start == end:
                    continue
            run = self._run(text, position, end)
            if run is not None:
                chunk, position = run
                if parser.rows:
                    yield parser.taken()
                yield chunk
                continue
            # One record that is not plain
            end = text.find(f"</{tag}>", position) + len(tag) + 3
            parser.feed(text[position:end])
            position = end

    def _rest(self, text: str, position: int) -> str:
        """What is to be read on, unless it is too much."""
        if len(text) - position > MAX_RECORD:
            self._parser.refuse(TOO_LONG, code="SK113")
        return text[position:]

    def _start_of_record(self, text: str, position: int, end: int) -> int:
        if self._open is None:
            self._open = re.compile(rf"<{re.escape(self._parser.tag or '')}(?=[\s/>])")
        found = self._open.search(text, position, end)
        return found.start() if found else end

    def _run(self, text: str, position: int, end: int) -> tuple[Chunk, int] | None:
        """Plain records that stand one after the other; None if the first is not plain."""
        if self._pattern is None or not self._pattern.match(text, position):
            self._pattern = self._shape(text, position)
            if self._pattern is None:
                return None
        block = text[position:end]
        found = self._pattern.findall(block)
        if sum(len(values[0]) for values in found) != len(block):
            # Something else stands between them: up to there, one after the other.
            found = []
            stop = position
            while match := self._pattern.match(text, stop, end):
                found.append(match.groups(""))
                stop = match.end()
            block = text[position:stop]
        if "&" in block and _DOUBTFUL.search(block):
            return None
        texts, *values = zip(*found, strict=True)
        columns: dict[str, Sequence[str]] = dict(zip(self._names, values, strict=True))
        if "&" in block or "\r" in block:
            columns = {name: _plain_texts(values) for name, values in columns.items()}
        begins = self._parser.line
        self._parser.skip(block)
        chunk = Chunk(len(found), [], columns, self._parser.above(), begins, texts)
        return chunk, position + len(block)

    def _shape(self, text: str, position: int) -> re.Pattern[str] | None:
        """A pattern for records like the one at `position`; None unless it is plain."""
        tag = self._parser.tag or ""
        start = f"<{tag}>"
        if not text.startswith(start, position):
            return None
        position += len(start)
        names: list[str] = []
        while found := _CHILD.match(text, position):
            names.append(found[1])
            position = found.end()
        if (
            not names
            or len(set(names)) < len(names)
            or not re.compile(rf"\s*</{re.escape(tag)}>").match(text, position)
        ):
            return None
        children = "".join(
            rf"(?:<{name}(?:>([^<]*+)</{name}>|\s*+/>)\s*+)?+" for name in map(re.escape, names)
        )
        self._names = list(map(self._parser.fold, names))
        return re.compile(rf"({re.escape(start)}\s*+{children}</{re.escape(tag)}>\s*+)")


def _is_plain(data: bytes, *, at_start: bool) -> bool:
    """Whether nothing but elements and text stands there, apart from the declaration."""
    start = 5 if at_start else 0
    # One character is found many times faster than two that begin with a frequent one.
    return not (
        (b"!" in data and b"<!" in data)
        or (data.find(b"?", start) >= 0 and data.find(b"<?", start) >= 0)
        or (b"]" in data and b"]]>" in data)
    )


def _plain_texts(values: Sequence[str]) -> Sequence[str]:
    text = "".join(values)
    return list(map(_plain_text, values)) if "&" in text or "\r" in text else values


def _plain_text(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _ENTITY.sub(_meant, text) if "&" in text else text


def _meant(found: re.Match[str]) -> str:
    if found[1]:
        return _NAMED[found[1]]
    number = int(found[2]) if found[2] else int(found[3], 16)
    return chr(number) if number < 0x110000 else "\0"


class _Parser:
    """Expat, with the records that it has come to the end of."""

    def __init__(self, name: str, record: str | None, feed: Feed | None) -> None:
        self.rows: list[tuple[Record, Above]] = []
        self.tag: str | None = None  # of records, as it is spelt
        self.fed = 0
        self._name = name
        self._record_names = frozenset(feed.records if feed else (record,))
        self._folds_case = feed is not None
        self._above: dict[str, str | None] = {}
        self._shared: Above | None = None  # a copy that rows have, as long as it is true
        self._nodes: list[tuple[str, Record, list[str]]] = []  # open elements
        self._depth_of_record = 0
        self._record_at = 0  # in what expat was given
        self._record_line = 1
        self.stands_on: list[Lines] = []  # of `rows`
        self.line = 1  # physical, that what comes next begins on
        self._skipped = 0  # bytes that expat was not given
        self._skipped_lines = 0
        parser = self._expat = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity
        parser.ExternalEntityRefHandler = self._entity

    @property
    def is_in_record(self) -> bool:
        """Whether what was fed ends within a record."""
        return self._depth_of_record > 0

    def fold(self, name: str) -> str:
        """A name as columns are called by it."""
        name = name.rpartition(":")[2]
        return name.lower() if self._folds_case else name

    def above(self) -> Above:
        """What stands above and beside records, at this place."""
        if self._shared is None:
            self._shared = dict(self._above)
        return self._shared

    def taken(self) -> Chunk:
        """The records that were found, which are the caller's now."""
        rows, self.rows = self.rows, []
        lines, self.stands_on = self.stands_on, []
        return Chunk(len(rows), rows, stands_on=lines)

    def skip(self, text: str) -> None:
        """Text that expat is not given, for it is whole records."""
        self._skipped += len(text) if text.isascii() else len(text.encode())
        lines = text.count("\n")
        self._skipped_lines += lines
        self.line += lines

    def feed(self, text: str) -> None:
        """Parse the text that comes next."""
        data = text.encode("utf-8", "surrogatepass")
        self.fed += len(data)
        self.line += data.count(b"\n")
        try:
            self._expat.Parse(data, False)
        except expat.ExpatError as error:
            self._broken(error)
        begun = self._record_at if self._depth_of_record else self._expat.CurrentByteIndex
        if self.fed - max(0, begun) > MAX_RECORD:
            self.refuse(TOO_LONG, code="SK113")

    def finish(self) -> None:
        """The file ends here."""
        try:
            self._expat.Parse(b"", True)
        except expat.ExpatError as error:
            raise SourceError(
                f"the XML is cut off: it ends at byte {self.fed + self._skipped} within "
                + (f"<{self._nodes[-1][0]}>" if self._nodes else "its beginning"),
                source=self._name,
                code="SK105",
                detail=f"decoded byte {self.fed + self._skipped}: {error}",
                hint="Fetch or write the file again; it was probably still being copied.",
            ) from None

    def _broken(self, error: expat.ExpatError) -> NoReturn:
        at = self._expat.ErrorByteIndex + self._skipped
        reason = expat.errors.messages.get(error.code, str(error))
        raise SourceError(
            f"the XML is not well-formed, at its byte {at}: {reason}",
            source=self._name,
            code="SK119",
            detail=f"decoded byte {at}",
            hint="Is this the encoding that the file declares? Else have it written anew.",
        ) from None

    def refuse(self, reason: str, *, code: str = "SK119") -> NoReturn:
        """Raise what says that the file has something that is not read."""
        raise SourceError(
            f"has {reason}, which is not read",
            source=self._name,
            code=code,
            detail=f"decoded byte {self.fed + self._skipped}",
            hint="Such files are made to exhaust whoever reads them, or are broken.",
        )

    def _entity(self, *_: Any) -> NoReturn:
        self.refuse("a declaration of an entity")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = self.fold(name)
        if not self._depth_of_record and local in self._record_names:
            self.tag = self.tag or name
            self._record_at = self._expat.CurrentByteIndex
            self._record_line = self._expat_line()
            self._depth_of_record = len(self._nodes) + 1
        elif self._depth_of_record and local in self._record_names - {self._record_name()}:
            # What looked like a record holds records of another name.
            for _, outer, _ in self._nodes[self._depth_of_record - 1 :]:
                self._above.update({k: v for k, v in outer.items() if isinstance(v, str)})
            self._shared = None
            self.tag = name
            self._record_line = self._expat_line()
            self._depth_of_record = len(self._nodes) + 1
        if len(self._nodes) >= MAX_DEPTH:
            self.refuse(f"elements nested more than {MAX_DEPTH} deep")
        node: Record = {}
        for key, value in attributes.items():
            if key.rpartition(":")[0] != "xmlns" and key != "xmlns":
                node["@" + self.fold(key)] = value
        if node and not self._depth_of_record:
            self._above.update(node)
            self._shared = None
        self._nodes.append((local, node, []))

    def _expat_line(self) -> int:
        """The physical line of the tag that expat tells of."""
        return self._expat.CurrentLineNumber + self._skipped_lines

    def _record_name(self) -> str:
        return self._nodes[self._depth_of_record - 1][0]

    def _text(self, text: str) -> None:
        if self._nodes:
            self._nodes[-1][2].append(text)

    def _end(self, name: str) -> None:
        depth = len(self._nodes)
        local, node, texts = self._nodes.pop()
        text = "".join(texts) or None
        if depth == self._depth_of_record:
            self._depth_of_record = 0
            self.rows.append((node, self.above()))
            self.stands_on.append((self._record_line, self._expat_line()))
            return
        if not self._depth_of_record:
            if text is not None and not text.isspace():
                self._above[local] = text
                self._shared = None
            return
        value: Any = text
        if node:
            value = node
            if text is not None and not text.isspace():
                node["#text"] = text
        parent = self._nodes[-1][1]
        if local not in parent:
            parent[local] = value
        elif isinstance(parent[local], list):
            parent[local].append(value)
        else:
            parent[local] = [parent[local], value]
