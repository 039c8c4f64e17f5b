"""Names of sources: what is an address, how it may be shown, and the order of names."""

from __future__ import annotations

import re

SCHEMES = {
    "http": "http", "https": "http",
    "s3": "s3", "s3a": "s3",
    "abfs": "azure", "abfss": "azure", "az": "azure",
    "gs": "gcs", "gcs": "gcs",
}  # fmt: skip
"""What addresses begin with, and the extra that reads them (HTTP needs none)."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def scheme_of(address: str) -> str | None:
    """The scheme of an address, in lower case; None for what is none."""
    found = _ADDRESS.match(address)
    return found[1].lower() if found else None


def shown(address: str) -> str:
    """An address as it may be told: without password, query and fragment."""
    scheme, _, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    if ":" in authority.rpartition("@")[0]:
        authority = authority.rpartition("@")[2]
    if scheme.lower() in ("http", "https"):
        authority = re.split(r"[?#]", authority.rpartition("@")[2])[0]
        path = re.split(r"[?#]", path)[0]
    return f"{scheme}://{authority}{slash}{path}"


def natural(text: str) -> list[tuple[int, int, str]]:
    """Digits compare as numbers; the text itself settles what is equal otherwise."""
    parts = re.split(r"(\d+)", text)
    key = [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts]
    return [*key, (0, 0, text)]


def shortened(query: str, length: int = 100) -> str:
    """A query in one line, of which the beginning tells enough to know it by."""
    query = re.sub(r"\s+", " ", query).strip()
    return query if len(query) <= length else query[:length] + "..."
