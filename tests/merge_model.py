"""What a merge must do, said again in Python: a dictionary from keys to rows or to versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlkit.results import RowCounts

Row = tuple[Any, ...]

PARTS = """
    select batch_id, source_id, first_line, last_line from sqlkit.batch where source_id is not null
    union all
    select batch_id, source_id, first_line, last_line from sqlkit.batch_part
"""
"""A query of what each source gave to each batch."""


class KeyError_(Exception):  # noqa: N801, N818 - Python's own means something else
    """Policy error met a key that exists, or that is repeated."""


@dataclass
class Table:
    """A table, and what merging batches into it leaves and counts.

    `key` are the positions of the key's columns, `order_by` that of policy newer's.
    """

    key: tuple[int, ...]
    order_by: int = 0
    rows: dict[Row, Row] = field(default_factory=dict)

    def key_of(self, row: Row) -> Row:
        return tuple(row[place] for place in self.key)

    def merge(self, batch: Iterable[Row], policy: str) -> RowCounts:
        """Merge one batch under a policy other than append. Raises KeyError_."""
        read = 0
        groups: dict[Row, list[Row]] = {}
        for row in batch:
            read += 1
            groups.setdefault(self.key_of(row), []).append(row)
        if policy == "error" and (len(groups) < read or groups.keys() & self.rows.keys()):
            raise KeyError_
        inserted = updated = unchanged = ignored = 0
        for key, group in groups.items():
            new = self._one_of(group, policy)
            old = self.rows.get(key)
            if old is None:
                self.rows[key] = new
                inserted += 1
                continue
            if policy == "fill":
                new = _filled(old, new)
            if policy == "ignore":
                ignored += 1
            elif new == old:
                unchanged += 1
            elif policy == "newer" and not self._is_newer(new, old):
                ignored += 1
            else:
                self.rows[key] = new
                updated += 1
        return RowCounts(
            read=read,
            inserted=inserted,
            updated=updated,
            unchanged=unchanged,
            ignored=ignored,
            duplicates=read - len(groups),
        )

    def _one_of(self, group: Sequence[Row], policy: str) -> Row:
        """The row that a batch has for a key, as if its rows came one by one."""
        if policy == "update":
            return group[-1]
        found = group[0]
        for row in group[1:]:
            if policy == "newer" and self._is_newer(row, found):
                found = row
            elif policy == "fill":
                found = _filled(found, row)
        return found

    def _is_newer(self, row: Row, than: Row) -> bool:
        mine, other = row[self.order_by], than[self.order_by]
        return mine is not None and (other is None or mine > other)


def _filled(old: Row, new: Row) -> Row:
    return tuple(b if a is None else a for a, b in zip(old, new, strict=True))


@dataclass
class Version:
    """A row that is valid from `begins` until right before `ends` (None: for ever)."""

    begins: Any
    ends: Any
    row: Row


@dataclass
class History:
    """A table that keeps versions. Rows are merged one by one, whatever batches they come in.

    `key` are the positions of the key's columns, `order_by` that of the moment.
    """

    key: tuple[int, ...]
    order_by: int
    versions: dict[Row, list[Version]] = field(default_factory=dict)

    def merge(self, batch: Iterable[Row]) -> RowCounts:
        """Merge one batch."""
        counts = RowCounts()
        for row in batch:
            counts += self._merge_row(row)
        return counts

    def _merge_row(self, row: Row) -> RowCounts:
        at = row[self.order_by]
        there = self.versions.setdefault(tuple(row[place] for place in self.key), [])
        later = [version.begins for version in there if version.begins > at]
        ends = min(later, default=None)
        for version in there:
            if version.begins <= at and (version.ends is None or at < version.ends):
                if self._values(version.row) == self._values(row):
                    return RowCounts(read=1, unchanged=1)
                if version.begins == at:
                    version.row = row
                    return RowCounts(read=1, updated=1)
                ends, version.ends = version.ends, at
                break
        there.append(Version(at, ends, row))
        there.sort(key=lambda version: version.begins)
        return RowCounts(read=1, inserted=1)

    def _values(self, row: Row) -> Row:
        return tuple(value for place, value in enumerate(row) if place != self.order_by)
