"""How much memory this process takes."""

from __future__ import annotations

import resource
import sys


def peak_memory() -> int:
    """The most bytes that this process has had in memory so far, from getrusage(2)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
