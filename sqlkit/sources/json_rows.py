r"""JSON objects, one a line, made rows of COPY's text format without touching single values.

msgspec validates a line and cuts it into tokens, whose bytes are kept as they are written
(`msgspec.Raw`): a number reaches PostgreSQL as its own text, 1.10 as ``1.10``. What is left to do
is done for a whole column at a time, because of three happy facts:

- inside quotes, every escape of JSON but ``\u`` means the same in COPY's text format, so that a
  string is its token without the quotes;
- no JSON text holds the control character 0x1f, which can therefore part the fields, and a tab
  needs no care;
- with ``null`` as COPY's mark for null, the token of JSON's null is already right. A string of
  these four letters is written ``n\ull``: COPY compares before it removes escapes, and an
  escaped u is a u.

Where anything is unusual, the block is done again line by line (`_careful_rows`), which either
gives the very same rows or says which line is wrong, and why.

Small blocks are faster: what a block needs should stay in the processor's cache and in memory
that the allocator keeps, since fetching fresh pages for every block doubles the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw

from sqlkit.sources.base import CopyFormat, WantedColumn

ROWS = CopyFormat(format="text", delimiter="\x1f", null="null")
"""How COPY reads what `RowMaker` makes (quote and escape do not apply to the text format)."""

BLOCK = 96 << 10  # bytes of text that are best handed to `RowMaker.rows` at a time

_FIELD = b"\x1f"
_NULL = b"null"
_ABSENT = Raw(_NULL)  # known by its identity
_BLANK = b" \t\r"  # with the newline, what JSON allows between tokens

# What msgspec and the codecs raise for text that is wrong, besides this module's own doubts.
_TROUBLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_object = msgspec.json.Decoder(dict[str, Raw])
_any = msgspec.json.Decoder()
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str | None])
_encoder = msgspec.json.Encoder()

# In a string as msgspec writes it, \u stands for control characters alone.
_CONTROL = re.compile(rb"\\(?:\\|u00([01][0-9a-f]))")
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2}))"
)
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_NO_NUMBER = re.compile(rb"[-+]?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)
_POSITION = re.compile(r"(.*?)(?: - at .*)? \(byte (\d+)\)$", re.DOTALL)
_EXCERPT = 24


class BadLine(Exception):  # noqa: N818  (made a SourceError where the file is known)
    """A line that is no record. `index` counts the lines of the text given, from 0."""

    def __init__(self, index: int, message: str, *, code: str, hint: str, detail: str) -> None:
        super().__init__(message)
        self.index = index
        self.message = message
        self.code = code
        self.hint = hint
        self.detail = detail


class _Unusual(Exception):  # noqa: N818  (never leaves this module)
    """The fast way does not cover this block."""


class RowMaker:
    """Makes rows of the wanted keys, in their order, from lines that hold one object each.

    A key that is absent, or null, becomes null. For a column whose target is json or jsonb the
    token is handed over as it is written; for any other a string loses its quotes and escapes,
    and everything else, an object or array too, is the text of its token. Of a key that occurs
    twice in an object the last one counts, as in PostgreSQL's jsonb.

    A wanted name that has dots is a path, unless it is one of `keys` or the key of an object:
    ``a.b`` is the key b of the object at key a. The column that takes the rest gets an object of
    the keys that are neither wanted, nor the beginning of a path, nor ignored; null if there are
    none. The column that tells what is absent gets an array of that.

    `ignored` are the keys besides the wanted ones that may occur; None allows any.
    """

    def __init__(
        self,
        wanted: Sequence[WantedColumn],
        ignored: frozenset[str] | None,
        keys: Collection[str] = (),
    ) -> None:
        if not wanted:
            raise ValueError("no column is wanted")
        self._wanted = tuple(wanted)
        self._allowed = None
        own = (column for column in wanted if not (column.takes_rest or column.tells_absent))
        names = list(dict.fromkeys(column.name for column in own))
        self._decode: Callable[[bytes], Any] | None = None
        self._has_rest = any(column.takes_rest for column in wanted)
        self._paths = {
            name: path for name in names if name not in keys and len(path := name.split(".")) > 1
        }
        self._by_key = bool(
            self._has_rest or self._paths or any(column.tells_absent for column in wanted)
        )
        if self._by_key:
            roots = {path[0] for path in self._paths.values()}
            self._taken = roots.union(names, ignored or ())
            if ignored is not None and not self._has_rest:
                self._allowed = frozenset(self._taken)
            self._decode = _object.decode
            self._getters = [self._getter(column) for column in wanted]
            return
        if ignored is not None:
            self._allowed = ignored.union(names)
            names += sorted(self._allowed.difference(names))
        fields = {name: f"f{position}" for position, name in enumerate(names)}
        self._getters = [attrgetter(fields[column.name]) for column in wanted]
        try:
            record = msgspec.defstruct(
                "Record",
                [
                    (field, Raw, msgspec.field(name=name, default=Raw(_NULL)))
                    for name, field in fields.items()
                ],
                gc=False,
                forbid_unknown_fields=ignored is not None,
            )
            self._decode = msgspec.json.Decoder(record).decode
        except ValueError:
            # Keys with quotes, backslashes or control characters cannot be fields of a Struct.
            pass

    def _getter(self, column: WantedColumn) -> Callable[[dict[str, Raw]], Any]:
        """What gets a column out of a decoded object: a key, a path, the rest, what is absent."""
        name = column.name
        if column.tells_absent:
            looked_for = [
                (self._getter(WantedColumn(key)), called) for key, called in column.tells_absent
            ]

            def absent(record: dict[str, Raw]) -> Any:
                found = [called for get, called in looked_for if get(record) is _ABSENT]
                return _encoder.encode(found) if found else _NULL

            return absent
        if column.takes_rest:
            taken = self._taken
            # Where nothing else is wanted, it is the record itself, which may be empty.
            empty = _NULL if len(self._wanted) > 1 else _encoder.encode({})

            def rest(record: dict[str, Raw]) -> Any:
                left = {key: value for key, value in record.items() if key not in taken}
                return _encoder.encode(left) if left else empty

            return rest
        path = self._paths.get(name)
        if path is None:
            return lambda record: record.get(name, _ABSENT)

        def follow(record: dict[str, Raw]) -> Any:
            if name in record:
                return record[name]
            value: Any = record
            for key in path:
                if not isinstance(value, dict):
                    token = bytes(value).lstrip(_BLANK)
                    value = _object.decode(token) if token.startswith(b"{") else {}
                value = value.get(key, _ABSENT)
            return value

        return follow

    def rows(self, text: bytes) -> bytes:
        """The rows of whole lines (the last may lack its newline); blank lines give none.

        Raises BadLine.
        """
        lines = text.split(b"\n")
        if not lines[-1]:
            lines.pop()
        decode = self._decode
        if decode is not None:
            try:
                if not text.isascii():
                    text.decode()
                try:
                    return self._rows(list(map(decode, lines)))
                except msgspec.DecodeError:
                    full = [line for line in lines if line.strip(_BLANK)]
                    if len(full) == len(lines):
                        raise
                    return self._rows(list(map(decode, full)))
            except (*_TROUBLE, _Unusual):
                pass
        return self._careful_rows(lines)

    # --- the fast way: whole columns

    def _rows(self, records: list[Any]) -> bytes:
        if not records:
            return b""
        if self._allowed is not None and self._by_key:
            allowed = self._allowed
            if not all(map(allowed.issuperset, records)):
                raise _Unusual  # which key that is, the careful way says
        columns = [
            _json_column(list(map(getter, records)))
            if column.is_json
            else _column(list(map(getter, records)))
            for column, getter in zip(self._wanted, self._getters, strict=True)
        ]
        return _joined(zip(*columns, strict=True))

    # --- the careful way: one value at a time

    def _careful_rows(self, lines: list[bytes]) -> bytes:
        rows = []
        for index, line in enumerate(lines):
            if not line.strip(_BLANK):
                continue
            values = members(line, index)
            if self._allowed is not None and not self._allowed.issuperset(values):
                unknown = next(key for key in values if key not in self._allowed)
                raise BadLine(
                    index,
                    f"the key {unknown!r} was not seen before and goes nowhere",
                    code="SK116",
                    hint="Leave it out (--leave-out NAME, or '*' for all such keys), or name "
                    "the keys to load with --columns.",
                    detail=f"its value: {_shortened(bytes(values[unknown]))}",
                )
            if self._by_key:
                values = {
                    column.name: getter(values)
                    for column, getter in zip(self._wanted, self._getters, strict=True)
                }
            rows.append([self._field(values, column, index) for column in self._wanted])
        return _joined(rows) if rows else b""

    @staticmethod
    def _field(values: dict[str, Raw], column: WantedColumn, index: int) -> bytes:
        raw = values.get(column.name)
        token = _NULL if raw is None else bytes(raw)
        if column.is_json:
            return token.replace(b"\\", b"\\\\")
        try:
            return _text_field(token)
        except _Unusual:
            raise BadLine(
                index,
                rf"the text of key {column.name!r} holds \u0000, which PostgreSQL cannot store",
                code="SK117",
                hint="Remove the NUL characters, or load the key into a column of type json.",
                detail=f"the value: {_shortened(token)}",
            ) from None


def _joined(rows: Iterable[Iterable[bytes]]) -> bytes:
    data = b"\n".join(map(_FIELD.join, rows)) + b"\n"
    # Only outside strings, between tokens of a nested value; COPY takes none as it is.
    return data.replace(b"\r", rb"\r") if b"\r" in data else data


def _json_column(tokens: list[Any]) -> list[Any]:
    text = _FIELD.join(tokens)
    return text.replace(b"\\", b"\\\\").split(_FIELD) if b"\\" in text else tokens


def _column(tokens: list[Any]) -> list[Any]:
    text = _FIELD.join(tokens)
    if b'"' not in text:
        return tokens
    separator = _FIELD
    if rb"\u" in text:
        try:
            strings = _strings.decode(b"[%b]" % text.replace(_FIELD, b","))
        except msgspec.ValidationError:  # not strings alone
            return [_text_field(token) for token in text.split(_FIELD)]
        # Written again, strings are in UTF-8 and escape no more than they must.
        text = _encoder.encode_lines(strings)[:-1]
        separator = b"\n"
        if rb"\u" in text:
            text = _CONTROL.sub(_control, text)
    # Make the nulls strings too. Only at the beginning of a token, a null has no quote before it.
    quoted = text.replace(b'"null"', rb'"n\ull"') if b'"null"' in text else text
    if separator + _NULL in quoted:
        quoted = quoted.replace(separator + _NULL, separator + b'"null"')
    if quoted.startswith(_NULL):
        quoted = b'"null"' + quoted[len(_NULL) :]
    if quoted.startswith(b'"') and quoted.endswith(b'"'):
        fields = quoted[1:-1].split(b'"%b"' % separator)
        if len(fields) == len(tokens):
            return fields
    # Strings among numbers, objects and so on
    return [_text_field(token) for token in text.split(separator)]


def _control(found: re.Match[bytes]) -> bytes:
    digits = found[1]
    if digits is None:
        return found[0]  # an escaped backslash
    if digits == b"00":
        raise _Unusual
    return rb"\x" + digits


def _text_field(token: bytes) -> bytes:
    """The field of a column that is not json for one token; _Unusual if it holds \\u0000."""
    if token.startswith(b'"'):
        if rb"\u" in token:
            token = _CONTROL.sub(_control, _encoder.encode(_string.decode(token)))
        return rb"n\ull" if token == b'"null"' else token[1:-1]
    return token.replace(b"\\", b"\\\\")


# --- single lines


def objects(lines: Iterable[bytes]) -> Iterator[dict[str, Raw]]:
    """Keys and tokens of the lines that are JSON objects; other lines are passed over."""
    for line in lines:
        try:
            yield _object.decode(line)
        except _TROUBLE:
            continue


def text_of(token: Raw | None) -> str | None:
    """A value as text: strings without quotes and escapes, None for null or nothing."""
    if token is None:
        return None
    data = bytes(token)
    if data.startswith(b'"'):
        return _string.decode(data)
    return None if data == _NULL else data.decode(errors="replace")


def check_utf8(line: bytes, index: int) -> None:
    """Raise BadLine unless the line is UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        bad = line[error.start : max(error.end, error.start + 1)]
        raise BadLine(
            index,
            f"byte {error.start + 1} of the line is not UTF-8 ({bad.hex(' ')}: {error.reason})",
            code="SK107",
            hint="Name the encoding of the file with --encoding.",
            detail=_around(line, error.start),
        ) from None


def members(line: bytes, index: int) -> dict[str, Raw]:
    """The keys and tokens of one line; raises BadLine unless it is a JSON object."""
    check_utf8(line, index)
    try:
        return _object.decode(line)
    except RecursionError:
        raise _too_deep(index) from None
    except msgspec.ValidationError:
        pass
    except msgspec.DecodeError as error:
        raise _malformed(line, index, str(error)) from None
    # Valid as far as was read, but not an object: say first what is wrong with it as JSON.
    try:
        _any.decode(line)
    except RecursionError:
        raise _too_deep(index) from None
    except msgspec.DecodeError as error:
        if not isinstance(error, msgspec.ValidationError):  # such as a number beyond a double
            raise _malformed(line, index, str(error)) from None
    start = line.lstrip(_BLANK)[:1]
    what = {b"[": "an array", b'"': "a string", b"n": "null", b"t": "true", b"f": "false"}
    hint = 'Every line must be an object, such as {"id": 1}.'
    if start == b"[":
        hint += " An array of objects is made lines by: jq -c '.[]' FILE"
    raise BadLine(
        index,
        f"the line is {what.get(start, 'a number')}, not a JSON object",
        code="SK115",
        hint=hint,
        detail=_shortened(line),
    )


def _too_deep(index: int) -> BadLine:
    return BadLine(
        index,
        "the JSON is nested too deeply",
        code="SK114",
        hint="No more than some 900 arrays and objects may stand inside each other.",
        detail="nesting",
    )


def _malformed(line: bytes, index: int, said: str) -> BadLine:
    found = _POSITION.match(said)
    reason, position = (found[1], int(found[2])) if found else (said, len(line))
    reason = reason.removeprefix("JSON is malformed: ")
    hint = "Every line must be one whole JSON object, and valid by RFC 8259."
    surrogate = _LONE_SURROGATE.search(_PAIR.sub(lambda pair: b"." * len(pair[0]), line))
    if surrogate and surrogate.start(1) <= position:
        position = surrogate.start(1)
        reason = f"{surrogate[1].decode()} is half of a surrogate pair, which is no character"
        hint = "The program that wrote the file cut a string in the middle of a character."
    elif _NO_NUMBER.match(line, position) or _NO_NUMBER.match(line, max(0, position - 1)):
        reason = "NaN and Infinity are no JSON"
        hint = 'Write null, or a string, which PostgreSQL\'s numbers do read: "NaN".'
    elif reason == "Input data was truncated":
        position = len(line)
        reason = "it ends in the middle of a value"
        hint = "An object must stand on one line, from its first brace to its last: "
        hint += "jq -c '.[]' FILE" if line.lstrip(_BLANK).startswith(b"[") else "jq -c . FILE"
    elif reason == "trailing characters":
        position -= 1
        reason = "something follows the object"
        hint = "Every object must stand on a line of its own."
    return BadLine(
        index,
        f"the line is not valid JSON, at its byte {position + 1}: {reason}",
        code="SK114",
        hint=hint,
        detail=_around(line, position),
    )


def _around(line: bytes, position: int) -> str:
    start = max(0, position - _EXCERPT)
    end = position + _EXCERPT
    text = line[start:end].decode(errors="backslashreplace")
    return f"near: {'…' if start else ''}{text}{'…' if end < len(line) else ''}"


def _shortened(token: bytes) -> str:
    text = token[:200].decode(errors="backslashreplace")
    return text + "…" if len(token) > 200 else text
