"""Rows of a file of prices in XML, made but not loaded, by sqlkit on one core."""

from __future__ import annotations

import os
import sys

from sqlkit.sources.base import WantedColumn
from sqlkit.sources.stored import StoredFile
from sqlkit.sources.xml import XmlSource

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
reader = XmlSource(StoredFile(sys.argv[1]), feed="prices").open()
for _ in reader.pieces([WantedColumn(name) for name in reader.columns], 4 << 20):
    pass
