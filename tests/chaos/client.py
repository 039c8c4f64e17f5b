"""One load in a process of its own, as ``python -m tests.chaos.client JSON``, to be killed.

Prints the result as JSON. Half of the loads go through the asynchronous API.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import sqlkit
from sqlkit import LoadResult, Waiting


def _tell(wait: Waiting) -> None:
    print(f"waiting: {wait}", file=sys.stderr, flush=True)


def _load(dsn: str, files: list[str], options: dict[str, Any]) -> LoadResult:
    with sqlkit.connect(dsn) as client:
        return client.load(files, into="chaos.target", on_wait=_tell, **options)


async def _aload(dsn: str, files: list[str], options: dict[str, Any]) -> LoadResult:
    async with sqlkit.aconnect(dsn) as client:
        return await client.load(files, into="chaos.target", on_wait=_tell, **options)


def main() -> None:
    """Load what the argument says."""
    call = json.loads(sys.argv[1])
    arguments = (call["dsn"], call["files"], call["options"])
    result = asyncio.run(_aload(*arguments)) if call["asynchronous"] else _load(*arguments)
    print(json.dumps(result.as_dict()))


if __name__ == "__main__":
    main()
