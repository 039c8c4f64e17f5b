"""How far a load has come: one line that is rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import shutil
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from sqlkit.results import LoadProgress

TERMINAL_EVERY = 0.2
PLAIN_EVERY = 10.0


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Text from a file or a database as a terminal may see it: control characters as \\xNN.

    Else a value could clear the screen, or worse. Newlines and tabs stay.
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class ProgressLine:
    """Shows progress on a stream: rows, bytes, rate and time left."""

    def __init__(self, stream: TextIO, *, enabled: bool = True) -> None:
        self._stream = stream
        self._enabled = enabled
        self._is_terminal = stream.isatty()
        self._every = TERMINAL_EVERY if self._is_terminal else PLAIN_EVERY
        self._shown_at = time.monotonic()
        self._width = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def show(self, progress: LoadProgress) -> None:
        """Show it, unless the last one was shown only just now."""
        now = time.monotonic()
        if not self._enabled or now - self._shown_at < self._every:
            return
        self._shown_at = now
        if self._is_terminal:
            # A line that wraps could not be written over.
            text = describe(progress, shutil.get_terminal_size().columns - 1)
            self._stream.write("\r" + text.ljust(self._width))
            self._width = max(self._width, len(text))
        else:
            self._stream.write(describe(progress) + "\n")
        self._stream.flush()

    def note(self, text: str) -> None:
        """Write a line of its own, which stays, whatever else is shown."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._stream.write(printable(text) + "\n")
        self._stream.flush()


def describe(progress: LoadProgress, width: int | None = None) -> str:
    """One line: where, rows, bytes, rate, and the time left where the total is known.

    In no more than `width` characters: the name of the source gives way first, from its left.
    """
    rate = progress.rows / progress.seconds if progress.seconds else 0
    parts = [
        progress.phase,
        f"{progress.rows:,} rows",
        human_bytes(progress.bytes_read),
        f"{rate:,.0f} rows/s",
    ]
    if progress.bytes_total and progress.bytes_read:
        share = min(progress.bytes_read / progress.bytes_total, 1.0)
        left = progress.seconds * (1 - share) / share
        parts[2] += f" of {human_bytes(progress.bytes_total)} ({share:.0%})"
        parts.append(f"{human_seconds(left)} left")
    elif progress.rows_total and progress.rows:
        share = min(progress.rows / progress.rows_total, 1.0)
        left = progress.seconds * (1 - share) / share
        parts[1] += f" of {progress.rows_total:,} ({share:.0%})"
        parts.append(f"{human_seconds(left)} left")
    source, facts = printable(progress.source), "  ".join(parts)
    if width is not None:
        room = width - len(facts) - 2
        if room < len(source):
            source = "…" + source[len(source) - room + 1 :] if room > 1 else ""
        return f"{source}  {facts}"[:width] if source else facts[:width]
    return f"{source}  {facts}"


def human_bytes(number: float) -> str:
    """Bytes with a unit: 1.5 MB; units are powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def human_seconds(seconds: float) -> str:
    """A duration: 12 s, 3:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
