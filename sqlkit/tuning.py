# Generated from sqlkit/tuning_async.py by python -m sqlkit.build; do not edit.

"""Tuning: what the server's machine is, and changing what was asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from sqlkit import calls as calls
from sqlkit._acompat import run
from sqlkit.connection import is_here
from sqlkit.errors import UsageError

EVERYTHING = "all"
AT_ONCE = "at once"
"""What needs no restart. No setting has such a name."""

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """A machine that a server runs on, as far as it is known."""

    memory_bytes: int | None = None
    cores: int | None = None
    storage: str | None = None  # ssd or hdd


def machine(connection: Connection[Any]) -> Machine:
    """The machine of the server, where it is this one; an empty one otherwise."""
    if not is_here(connection.info.host or ""):
        return Machine()
    directory = calls.data_directory(connection)
    return run(partial(_this_machine, directory))


def _this_machine(directory: str | None) -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _limit_of_container()
    if limit is not None:
        memory = min(memory, limit)
    return Machine(memory, len(os.sched_getaffinity(0)), _storage_of(directory))


def _limit_of_container() -> int | None:
    """How much memory the container has in which this is; None where there is no limit, or none.

    A container sees its own group at the root of the tree (cgroup 2, then 1), other processes see
    that of the whole machine there.
    """
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            told = (_CGROUPS / name).read_text().strip()
        except OSError:
            continue
        return int(told) if told.isdigit() else None
    return None


def _storage_of(directory: str | None) -> str | None:
    """What the kernel says of the disk of a directory, or nothing."""
    if directory is None or not Path(directory).is_dir():
        return None
    device = Path(directory).stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    for place in (block, block.parent):  # of a partition, its disk's
        rotational = place / "queue" / "rotational"
        if rotational.is_file():
            # A virtual disk says that it turns, whatever it lies on.
            turns = rotational.read_text().strip() == "1"
            is_virtual = place.name.startswith(("vd", "xvd", "nvme", "loop", "dm-"))
            return None if turns and is_virtual else "hdd" if turns else "ssd"
    return None


def chosen_of(advice: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The advice for the settings named, all of it where none is, or `EVERYTHING`.

    Raises UsageError for a setting of which there is no advice.
    """
    known = {line["name"] for line in advice}
    if unknown := [name for name in names if name not in known and name != EVERYTHING]:
        raise UsageError(
            f"there is no advice for {', '.join(unknown)}",
            hint=f"Name some of {', '.join(sorted(known))}, or {EVERYTHING}.",
        )
    return [line for line in advice if not names or EVERYTHING in names or line["name"] in names]


def apply(
    connection: Connection[Any], advice: Sequence[dict[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Set those of the settings named whose advice is not met, for the whole server.

    By ALTER SYSTEM, in effect at once but for those that need a restart. `EVERYTHING` and `AT_ONCE`
    (all that need none) stand for names. Returns what was changed. Raises UsageError for a setting
    of which there is no advice.
    """
    named = [name for name in names if name != AT_ONCE]
    wanted = [line for line in chosen_of(advice, named) if named and not line["is_met"]]
    if AT_ONCE in names:
        wanted += [
            line
            for line in advice
            if not (line["is_met"] or line["needs_restart"] or line in wanted)
        ]
    for line in wanted:
        connection.execute(
            sql.SQL("alter system set {} = {}").format(
                sql.Identifier(line["name"]), sql.Literal(line["advised"])
            )
        )
    if wanted:
        connection.execute("select pg_catalog.pg_reload_conf()")
    return wanted
