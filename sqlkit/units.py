"""Numbers, shares, times and sizes as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from sqlkit.errors import UsageError


def parse_limit(text: str) -> tuple[int | None, float | None]:
    """A limit of rejects, as 100 or 1%: a number or a share of the rows. Raises UsageError."""
    try:
        if text.strip().endswith("%"):
            return None, float(text.strip()[:-1]) / 100
        return int(text), None
    except ValueError:
        raise UsageError(
            f"{text!r} is not a limit", hint="Write a number of rows, or 1%."
        ) from None


_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_seconds(text: str) -> float:
    """A time, as 90, 30s, 15m or 2h, in seconds. Raises UsageError."""
    number = text.strip().lower()
    unit = number[-1:] if number[-1:] in _TIMES else ""
    try:
        found = float(number.removesuffix(unit)) * _TIMES[unit]
    except ValueError:
        found = -1
    if not 0 <= found < float("inf"):
        raise UsageError(f"{text!r} is not a time", hint="Write it as 90, 30s, 15m or 2h.")
    return found


def parse_overlap(text: str) -> timedelta | Decimal:
    """How far to go back: a time, as 90s, 15m, 2h or 3d, or a number without a unit."""
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return Decimal(text.strip())
    return timedelta(seconds=parse_seconds(text))


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_bytes(text: str) -> int:
    """A number of bytes, as 1000, 64kB, 256MB or 4GB. Raises UsageError."""
    number = text.strip().lower().removesuffix("b").removesuffix("i").strip()
    unit = number[-1:] if number[-1:] in "kmg" else ""
    try:
        found = float(number.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        found = 0
    if found < 1:
        raise UsageError(f"{text!r} is not a number of bytes", hint="Write it as 256MB or 1GB.")
    return int(found)
