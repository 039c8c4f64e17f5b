"""sqlkit loads anything into PostgreSQL exactly once, at COPY speed.

    import sqlkit

    with sqlkit.connect("postgresql://localhost/shop") as client:
        result = client.load("prices/*.csv.gz", into="shop.price")
        print(result.rows.inserted, result.rows.updated, result.rows.unchanged)

`aconnect` is the same for asyncio.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlkit.client import Client, connect
    from sqlkit.client_async import AsyncClient, aconnect
    from sqlkit.errors import (
        DatabaseError,
        RejectLimitError,
        SourceError,
        SqlkitError,
        UsageError,
    )
    from sqlkit.maintenance_plan import MaintenanceOptions, MaintenanceOutcome
    from sqlkit.model import Lookup, MaintenanceStep
    from sqlkit.results import LoadProgress, LoadResult, RefreshResult, RowCounts, SourceResult
    from sqlkit.retry import call_with_retry
    from sqlkit.retry_async import acall_with_retry
    from sqlkit.sources.base import Dialect
    from sqlkit.sources.rows import rows
    from sqlkit.transient import LockWaiting, Waiting

_HOME = {
    "AsyncClient": "sqlkit.client_async",
    "Client": "sqlkit.client",
    "DatabaseError": "sqlkit.errors",
    "Dialect": "sqlkit.sources.base",
    "LoadProgress": "sqlkit.results",
    "LoadResult": "sqlkit.results",
    "LockWaiting": "sqlkit.transient",
    "Lookup": "sqlkit.model",
    "MaintenanceOptions": "sqlkit.maintenance_plan",
    "MaintenanceOutcome": "sqlkit.maintenance_plan",
    "MaintenanceStep": "sqlkit.model",
    "RefreshResult": "sqlkit.results",
    "RejectLimitError": "sqlkit.errors",
    "RowCounts": "sqlkit.results",
    "SourceError": "sqlkit.errors",
    "SourceResult": "sqlkit.results",
    "SqlkitError": "sqlkit.errors",
    "UsageError": "sqlkit.errors",
    "Waiting": "sqlkit.transient",
    "acall_with_retry": "sqlkit.retry_async",
    "aconnect": "sqlkit.client_async",
    "call_with_retry": "sqlkit.retry",
    "connect": "sqlkit.client",
    "rows": "sqlkit.sources.rows",
}

__all__ = [
    "AsyncClient",
    "Client",
    "DatabaseError",
    "Dialect",
    "LoadProgress",
    "LoadResult",
    "LockWaiting",
    "Lookup",
    "MaintenanceOptions",
    "MaintenanceOutcome",
    "MaintenanceStep",
    "RefreshResult",
    "RejectLimitError",
    "RowCounts",
    "SourceError",
    "SourceResult",
    "SqlkitError",
    "UsageError",
    "Waiting",
    "acall_with_retry",
    "aconnect",
    "call_with_retry",
    "connect",
    "rows",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `sqlkit --help` needs none of it.
    if name not in _HOME:
        raise AttributeError(f"module 'sqlkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
