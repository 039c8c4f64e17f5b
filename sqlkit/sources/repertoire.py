r"""Which characters a database has, and how text is shown to one that lacks some of it.

What is no text in its encoding, or has a character that the database has not, can only be kept with
escapes: ``\xNN`` for a byte, and for a character ``\uNNNN`` or ``\UNNNNNNNN``. A backslash before
what would read like one of these becomes ``\x5c``, so that `restored` gives back the very bytes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass

NOT_IN_ENCODING = "22021"  # character_not_in_repertoire
UNTRANSLATABLE = "22P05"  # untranslatable_character

# PostgreSQL's server encodings and the codecs that read the same bytes.
SERVER_CODECS = {
    "EUC_CN": "gb2312",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "ISO_8859_5": "iso8859-5",
    "ISO_8859_6": "iso8859-6",
    "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "LATIN1": "iso8859-1",
    "LATIN2": "iso8859-2",
    "LATIN3": "iso8859-3",
    "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "WIN866": "cp866",
    "WIN874": "cp874",
    **{f"WIN{page}": f"cp{page}" for page in range(1250, 1259)},
}

# PostgreSQL converts other characters to these than Python does, or Python knows nothing of them.
_OTHERWISE = ("EUC_JIS_2004", "EUC_JP", "EUC_KR", "EUC_TW")
_LEARNT: dict[str, dict[int, bytes]] = {}
_LEARNT_CODEC = "sqlkit_has_"

_BACKSLASH = re.compile(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_BYTE = re.compile(r"\\x([0-9a-f]{2})")
_BYTE_OR_CHARACTER = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_MARK = re.compile("[\udc00-\udcff]")

MARKED = "sqlkit_marked"
"""How text is decoded whose foreign bytes are looked for later: each becomes a lone surrogate,
0xDC00 above it, which UTF-8 has no room for."""


def _as_marks(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    end = max(error.end, error.start + 1)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : end]), end


codecs.register_error(MARKED, _as_marks)


def has_to_learn(database_encoding: str) -> bool:
    """True if only a server knows which characters the encoding has, and none was asked yet."""
    return database_encoding.upper() in set(_OTHERWISE).difference(_LEARNT)


def learn(database_encoding: str, points: Iterable[int]) -> None:
    """Such is the answer of a server (`sqlkit.characters_of`)."""
    known = [*range(128), *points]
    _LEARNT[database_encoding.upper()] = {point: chr(point).encode() for point in known}


def _find_learnt(name: str) -> codecs.CodecInfo | None:
    """The codec of what was learnt: UTF-8 of these characters, and of no others."""
    found = _LEARNT.get(name.removeprefix(_LEARNT_CODEC).upper())
    if found is None or not name.startswith(_LEARNT_CODEC):
        return None

    def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
        return codecs.charmap_encode(text, errors, found)

    return codecs.CodecInfo(encode, codecs.utf_8_decode, name=name)


codecs.register(_find_learnt)


@dataclass(frozen=True)
class BadRecord:
    """Why a record is no row."""

    sqlstate: str
    message: str


class Repertoire:
    """What of a text in `codec` a database can keep.

    `encoding` is what the source is in. Where that is another one, the text was made UTF-8 of it,
    with `MARKED` bytes.
    """

    def __init__(
        self,
        database_encoding: str,
        codec: str = "utf-8",
        *,
        encoding: str | None = None,
        is_json: bool = False,
    ) -> None:
        self.codec = codec
        self._name = database_encoding.upper()
        self._encoding = encoding or codec
        self._is_json = is_json

    @property
    def _own(self) -> str | None:
        """The codec of what the database has, where text is converted for it."""
        if self.codec != "utf-8":
            return None
        if self._name not in _OTHERWISE:
            return SERVER_CODECS.get(self._name)
        # Until it was asked, PostgreSQL has to say what is wrong.
        return _LEARNT_CODEC + self._name.lower() if self._name in _LEARNT else None

    def fault(self, text: bytes) -> BadRecord | None:
        """Why the database cannot keep a text, if it cannot."""
        if b"\0" in text:
            message = "a NUL character, which PostgreSQL cannot store"
            return BadRecord(NOT_IN_ENCODING, message)
        if text.isascii():
            return None
        try:
            decoded = text.decode(self.codec)
            if self._own is not None:
                decoded.encode(self._own)
        except UnicodeDecodeError:
            return BadRecord(NOT_IN_ENCODING, f"bytes that are not {self._encoding}")
        except UnicodeEncodeError as error:
            point = ord(error.object[error.start])
            lacks = f"the character U+{point:04X}, which the database's encoding {self._name} lacks"
            return BadRecord(UNTRANSLATABLE, lacks)
        return None

    def shown(self, raw: bytes) -> bytes:
        """A text as the database can keep it, with escapes where it has to."""
        if self.fault(raw) is None:
            return raw
        try:
            text = raw.decode(self.codec)
        except UnicodeDecodeError:
            # Bytes of a text that was made UTF-8 are marked already.
            is_marked = self._encoding != self.codec
            text = raw.decode(self.codec, "surrogatepass" if is_marked else MARKED)
        marked = _MARK.search(text) or "\0" in text
        if marked or not self._is_json:
            text = _BACKSLASH.sub(r"\\x5c", text)
            text = _MARK.sub(lambda found: rf"\x{ord(found[0]) - 0xDC00:02x}", text)
            text = text.replace("\0", r"\x00")
        if self._own is not None:
            text = self._escaped(text, self._own)
        return text.encode(self.codec, "backslashreplace")

    def _escaped(self, text: str, own: str) -> str:
        """Text with the characters escaped that the database lacks; in JSON by its own escapes."""
        if not self._is_json:
            return text.encode(own, "backslashreplace").decode(own)
        return "".join(
            character if character.encode(own, "ignore") else _json_escape(character)
            for character in text
        )


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(rf"\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def restored(text: str, codec: str, *, is_json: bool) -> bytes:
    """The bytes that `Repertoire.shown` has shown."""
    pattern = _BYTE if is_json else _BYTE_OR_CHARACTER
    parts: list[bytes] = []
    position = 0
    for found in pattern.finditer(text):
        parts.append(text[position : found.start()].encode(codec, "backslashreplace"))
        byte, *points = found.groups()
        if byte is not None:
            parts.append(bytes([int(byte, 16)]))
        else:
            point = int(next(filter(None, points)), 16)
            parts.append(chr(point).encode(codec, "backslashreplace"))
        position = found.end()
    parts.append(text[position:].encode(codec, "backslashreplace"))
    return b"".join(parts)
