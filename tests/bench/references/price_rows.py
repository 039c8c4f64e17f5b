"""The dicts that the programs beside it load: half of their keys are in the table, half are new."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

ROWS = int(os.environ["ROWS"])
COLUMNS = (
    "product_id", "supplier_id", "store_id", "price", "currency", "availability", "observed_at",
)  # fmt: skip


def price_rows() -> Iterator[dict[str, Any]]:
    """As many as ROWS says."""
    at = dt.datetime(2025, 3, 3, tzinfo=dt.UTC)
    for i in range(ROWS):
        yield {
            "product_id": 1 + i // 40 if i % 2 else 1_000_000 + i,
            "supplier_id": i % 997,
            "store_id": 1 + i % 40,
            "price": Decimal(99 + i % 99_900).scaleb(-2),
            "currency": "EUR",
            "availability": i % 3 == 0,
            "observed_at": at + dt.timedelta(seconds=i % 86_400),
        }
