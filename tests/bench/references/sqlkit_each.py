"""The same files, each by a call of its own, so that no two share a batch."""

import os
from pathlib import Path

import sqlkit

with sqlkit.connect() as client:
    files = Path(os.environ["FILE"])
    for path in sorted(files.parent.glob(files.name)):
        client.load(path, into="bench.price", key=["product_id", "store_id"])
