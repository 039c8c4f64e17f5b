"""Text in any of Python's encodings, brought to UTF-8.

Errors: UsageError for an encoding that does not exist, SourceError SK107 for bytes that do not
belong to the encoding, with their line and offset.
"""

from __future__ import annotations

import codecs

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.archive import Binary
from sqlkit.sources.repertoire import MARKED

_BYTE_ORDER_MARKS = (  # longest first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def codec_name(encoding: str) -> str:
    """Python's own name of a text encoding; raises UsageError for anything else."""
    try:
        info = codecs.lookup(encoding)
    except (LookupError, ValueError):
        info = None
    if info is None or not getattr(info, "_is_text_encoding", True):
        raise UsageError(
            f"{encoding!r} is no text encoding that Python knows",
            hint="Name one of https://docs.python.org/3/library/codecs.html#standard-encodings, "
            "such as utf-8, cp1255, iso-8859-8, utf-16 or shift_jis.",
        )
    if info.incrementaldecoder is None:
        raise UsageError(f"the encoding {encoding!r} cannot be read piece by piece")
    return info.name


def choose_codec(head: bytes, encoding: str | None, name: str) -> tuple[str, int]:
    """The codec to read with, and the length of the byte order mark before the text."""
    wanted = None if encoding is None else codec_name(encoding)
    for mark, codec in _BYTE_ORDER_MARKS:
        if not head.startswith(mark):
            continue
        # 'utf-16' says no byte order, 'utf-8-sig' says that there may be a mark
        if wanted is None or wanted in (codec, codec.removesuffix("-le").removesuffix("-be")):
            return codec, len(mark)
        if codec == "utf-8" and wanted == "utf-8-sig":
            return codec, len(mark)
        raise SourceError(
            f"begins with the byte order mark of {codec}, but the encoding was said to be {wanted}",
            source=name,
            line=1,
            code="SK107",
            hint="Leave out --encoding: the byte order mark tells it.",
        )
    if wanted is None or wanted == "utf-8-sig":
        return "utf-8", 0
    return wanted, 0


class Transcoded:
    """Text of another encoding as UTF-8.

    A byte that does not belong is an error, `fault`: raised where it `is_strict`, else kept as it
    is marked (see `repertoire.MARKED`), so that its record can be told.
    """

    def __init__(
        self, binary: Binary, head: bytes, codec: str, skipped: int, name: str, *, is_strict: bool
    ) -> None:
        self.is_strict = is_strict
        self.fault: SourceError | None = None
        self._binary = binary
        self._head = head
        self._codec = codec
        self._name = name
        self._decoder = codecs.getincrementaldecoder(codec)("strict")
        self._offset = skipped  # bytes given to the decoder, before the present ones
        self._line = 1
        self._ended = False

    def read(self, size: int) -> bytes:
        while not self._ended:
            data = self._head or self._binary.read(size)
            self._head = b""
            self._ended = not data
            state = self._decoder.getstate()
            try:
                text = self._decoder.decode(data, final=self._ended)
                encoded = text.encode("utf-8", "strict" if self.fault is None else "surrogatepass")
            except UnicodeError as error:
                self.fault = self._error(error, len(data))
                if self.is_strict or not isinstance(error, UnicodeDecodeError):
                    raise self.fault from error
                self._decoder = codecs.getincrementaldecoder(self._codec)(MARKED)
                self._decoder.setstate(state)
                text = self._decoder.decode(data, final=self._ended)
                encoded = text.encode("utf-8", "surrogatepass")
            self._offset += len(data)
            self._line += encoded.count(b"\n")
            if encoded:
                return encoded
        return b""

    def _error(self, error: UnicodeError, length: int) -> SourceError:
        offset, line = self._offset, self._line
        reason = str(error)
        if isinstance(error, UnicodeDecodeError):
            # `object` is what the decoder kept from before, and then the present bytes
            seen = error.object[: error.start]
            offset += length - len(error.object) + error.start
            line += seen.decode(self._codec, "ignore").count("\n")
            bad = error.object[error.start : max(error.end, error.start + 1)]
            reason = f"{bad.hex(' ')}: {error.reason}"
        return SourceError(
            f"the bytes at offset {offset} are not {self._codec} ({reason})",
            source=self._name,
            line=line,
            code="SK107",
            detail=f"decoded byte {offset}",
            hint="Name the encoding of the file with --encoding.",
        )
