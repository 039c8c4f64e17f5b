"""What readers of rows that are no text have in common: blocks of rows made pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlkit.sources.base import CopyFormat, Piece, Progress, ResumePoint, WantedColumn
from sqlkit.sources.repertoire import Repertoire
from sqlkit.sources.singly import Lines
from sqlkit.sources.text_rows import ROWS, BadRow, single_rows

T = TypeVar("T")

PIECE_SECONDS = 2.0
"""A piece is handed on after so long, however small it is: what comes slowly is loaded so."""


@dataclass(frozen=True)
class Block(Generic[T]):
    """Rows that are made text together: [start, end) in the source, from its line `line` on."""

    start: int
    end: int
    line: int
    rows: int
    content: T


class BlockReader(Generic[T]):
    """A reader (see `base.Reader`) whose subclass yields blocks and makes rows of one.

    Where a block begins and ends, a load may be taken up again.
    """

    columns: tuple[str, ...]
    column_types: Mapping[str, str]
    counts_lines = False
    copy_format: CopyFormat = ROWS
    single_format: CopyFormat = ROWS

    def __init__(self, resume: ResumePoint | None, database_encoding: str) -> None:
        self.repertoire = Repertoire(database_encoding, is_json=True)
        self._start = resume.offset if resume is not None else 0
        self._line = resume.line if resume is not None else 1
        self.progress = Progress(is_of_rest=True)
        self._single_bytes: int | None = None
        self.is_at_end = False

    @property
    def layout(self) -> dict[str, Any]:
        """How refused rows are written: as JSON lines."""
        return {"format": "jsonl", "whole": False, "encoding": "utf-8"}

    def _blocks(
        self,
        wanted: tuple[WantedColumn, ...],
        ignored: frozenset[str] | None,
        piece_bytes: int,
    ) -> Iterator[Block[T]]:
        """The blocks from `_start` on, none much larger than a piece."""
        raise NotImplementedError

    def _rows(self, block: Block[T], wanted: tuple[WantedColumn, ...]) -> bytes:
        """The rows of a block under `copy_format`. Raises SourceError for a bad one."""
        raise NotImplementedError

    def _single_rows(self, block: Block[T], wanted: tuple[WantedColumn, ...]) -> bytes:
        """The rows of a block for a stage of text, bad ones too: see `text_rows.single_rows`."""
        raise NotImplementedError

    def _singly(
        self,
        data: bytes,
        block: Block[T],
        wanted: tuple[WantedColumn, ...],
        bad: Sequence[BadRow] = (),
        lines: Sequence[Lines] | None = None,
    ) -> bytes:
        """What `_single_rows` gives, of the rows of a block and of those that are none.

        `lines` are the physical lines of each, if it has any.
        """
        self._single_bytes = len(data)
        return b"".join(single_rows(data, block.line, wanted, self.repertoire, bad, lines))

    def _resume_at(self, offset: int, line: int) -> ResumePoint:
        raise NotImplementedError

    def pieces(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The rows in order, about `piece_bytes` bytes at a time; raises for the first bad one."""
        return self._pieces(tuple(wanted), piece_bytes, ignored, self._rows)

    def single_records(
        self,
        wanted: Sequence[WantedColumn],
        piece_bytes: int,
        ignored: frozenset[str] | None = None,
    ) -> Iterator[Piece]:
        """The same pieces for a stage of text, bad rows too: see `singly`."""
        return self._pieces(tuple(wanted), piece_bytes, ignored, self._single_rows)

    def _pieces(
        self,
        wanted: tuple[WantedColumn, ...],
        piece_bytes: int,
        ignored: frozenset[str] | None,
        make: Callable[[Block[T], tuple[WantedColumn, ...]], bytes],
    ) -> Iterator[Piece]:
        began = time.perf_counter()
        parts: list[bytes] = []
        first: Block[T] | None = None
        size = made_size = 0

        def piece(first: Block[T], last: Block[T]) -> Piece:
            seconds = time.perf_counter() - began
            self.progress.decoded_bytes += size
            self.progress.seconds += seconds
            line = last.line + last.rows
            return Piece(
                data=b"".join(parts),
                first_line=first.line,
                last_line=line - 1,
                start=first.start,
                end=last.end,
                resume=self._resume_at(last.end, line),
                seconds=seconds,
                decoded_bytes=self.progress.decoded_bytes,
            )

        last: Block[T] | None = None
        for block in self._blocks(wanted, ignored, piece_bytes):
            data = make(block, wanted)
            parts.append(data)
            # Taken singly, rows have their raw text too; they are not more for that.
            size += len(data) if self._single_bytes is None else self._single_bytes
            made_size += len(data)
            first, last = first or block, block
            if made_size >= piece_bytes or time.perf_counter() - began >= PIECE_SECONDS:
                yield piece(first, last)
                began = time.perf_counter()
                parts, first, size, made_size = [], None, 0, 0
        self.is_at_end = True
        if first is not None and last is not None:
            yield piece(first, last)

    def close(self) -> None:
        """Nothing is open."""
