"""How much memory this process takes."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path


def forget_peak() -> bool:
    """Have `peak_memory` count from now on; False where the system does not do that.

    Linux does, see proc(5), clear_refs.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def peak_memory() -> int:
    """The most bytes that this process has had in memory so far.

    Linux tells it in proc(5). What getrusage(2) says there counts in the program that started this
    one: until exec(2) it had that program's memory.
    """
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
