"""Dicts into a table, by sqlkit."""

from __future__ import annotations

from price_rows import price_rows

import sqlkit

with sqlkit.connect("") as client:
    client.load(price_rows(), into="bench.price")
