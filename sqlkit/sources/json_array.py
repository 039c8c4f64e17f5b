"""One JSON array cut into its elements, as it is read.

An end of an element is guessed, from the end of what was read, where two objects meet (``},{``),
and the guess is proved by msgspec, which then has the elements too. Where nested arrays of objects
make most guesses wrong, or something is no JSON at all, the text is gone through token by token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw

from sqlkit.sources.singly import Lines

_MEETING = re.compile(rb"\}[ \t\r\n]*,(?=[ \t\r\n]*\{)")
# A string that does not end in what was read takes all the rest.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_GUESSES = 16
_BACK = 1 << 14  # bytes from the end in which guesses are made first
_SPACE = b" \t\r\n"

_elements = msgspec.json.Decoder(list[Raw])


def cut(text: bytes, *, ended: bool) -> tuple[list[bytes], int, bool]:
    """The whole elements that `text` begins with, how much of it they take, and if the array ends.

    `text` begins with an element, or with the bracket that closes an empty array. An element is the
    text that stands between two commas: whether it is valid is for others to say.
    """
    if ended and text.rstrip(_SPACE).endswith(b"]"):
        whole = text.rstrip(_SPACE)[:-1]
        try:
            return list(map(bytes, _elements.decode(b"[%b]" % whole))), len(text), True
        except (msgspec.DecodeError, RecursionError):
            pass
    for end in _guesses(text):
        try:
            return list(map(bytes, _elements.decode(b"[%b]" % text[:end]))), end + 1, False
        except (msgspec.DecodeError, RecursionError):
            continue
    return _walk(text)


def _guesses(text: bytes) -> list[int]:
    """Places of commas that may part elements, the last ones first."""
    start = max(0, len(text) - _BACK)
    found = [match.end() - 1 for match in _MEETING.finditer(text, start)]
    if not found and start:
        found = [match.end() - 1 for match in _MEETING.finditer(text)]
    return found[: -_GUESSES - 1 : -1]


def _walk(text: bytes) -> tuple[list[bytes], int, bool]:
    depth = start = 0
    found: list[bytes] = []
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind in b"[{":
            depth += 1
        elif kind == b"," and not depth:
            found.append(text[start : token.start()])
            start = token.end()
        elif kind in b"]}":
            depth -= 1
            if depth < 0:
                last = text[start : token.start()]
                if found or start or last.strip(_SPACE):
                    found.append(last)
                return found, token.end(), True
    return found, start, False


def lines_of(text: bytes, elements: list[bytes], line: int) -> Iterator[Lines]:
    """The physical lines of the elements that `text`, which begins on `line`, was cut into."""
    position = 0
    for element in elements:
        element = element.strip(_SPACE)
        start = text.index(element, position)
        first = line + text.count(b"\n", position, start)
        line = first + element.count(b"\n")
        position = start + len(element)
        yield first, line


def as_line(element: bytes) -> bytes:
    """An element on one line: outside strings a newline means no more than a space.

    Where there is none between two commas, the line is what stands there: no JSON.
    """
    element = as_written(element)
    return element.replace(b"\n", b" ") if b"\n" in element else element


def as_written(element: bytes) -> bytes:
    """An element as it stands in the file; a comma where there is none."""
    return element.strip(_SPACE) or b","
