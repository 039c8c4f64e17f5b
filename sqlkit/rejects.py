# Generated from sqlkit/rejects_async.py by python -m sqlkit.build; do not edit.

"""Rejects: listing, writing them as a file in the input's own format, replaying, dismissing."""

from __future__ import annotations

import codecs
import csv
import io
import json
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from sqlkit import calls as calls
from sqlkit.connection import from_psycopg
from sqlkit.connections import Connections
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.model import Lookup
from sqlkit.options import LoadOptions
from sqlkit.results import LoadResult
from sqlkit.sources.base import Dialect, Source
from sqlkit.sources.delimited import DelimitedSource
from sqlkit.sources.jsonl import JsonLinesSource
from sqlkit.sources.repertoire import NOT_IN_ENCODING, UNTRANSLATABLE, restored
from sqlkit.sources.stored import StoredFile, StoredSource


@dataclass(frozen=True)
class RejectFile:
    """Rejects that are written alike, as a file can hold them.

    `layout` says how (see `base.Reader`); `records` are theirs, as they stand in the source.
    """

    layout: dict[str, Any]
    reject_ids: tuple[int, ...]
    records: bytes

    @property
    def suffix(self) -> str:
        """How the name of such a file ends."""
        if self.layout["format"] != "jsonl":
            return ".csv"
        return ".json" if self.layout.get("is_array") else ".jsonl"

    @property
    def content(self) -> bytes:
        """What a file holds that is written as the source is, to be mended and loaded like it."""
        mark = codecs.BOM_UTF8 if self.layout.get("has_mark") else b""
        return mark + self._text(has_header=self.layout.get("has_header", True))

    def source(self, folder: Path, name: str) -> Source:
        """A source of this name that has the rejects, from a file that is written in a folder.

        It is like no other, whatever else reads the same and was loaded: that these rejects are
        loaded once, their states see to.
        """
        layout = self.layout
        path = folder / f"{name.replace(' ', '-')}-{self.reject_ids[0]}{self.suffix}"
        # The first record of a file without a header says how many columns there are.
        path.write_bytes(self._text(has_header=True))
        stored = StoredFile(str(path), name=name)
        source: StoredSource
        if layout["format"] == "jsonl":
            source = JsonLinesSource(stored, encoding=layout["encoding"], whole=layout["whole"])
        else:
            source = DelimitedSource(
                stored,
                Dialect(
                    delimiter=layout["delimiter"],
                    quote=layout["quote"],
                    escape=layout["escape"],
                    null=layout["null"],
                    encoding=layout["encoding"],
                ),
            )
        source.identity = f"rejects {uuid.uuid4()}"
        return source

    def _text(self, *, has_header: bool) -> bytes:
        layout = self.layout
        if layout["format"] != "jsonl" and has_header:
            return _header(layout).encode(layout["encoding"], "backslashreplace") + self.records
        return self.records


def reject_files(rejects: Iterable[dict[str, Any]]) -> list[RejectFile]:
    """The rejects as files: one for each way in which their sources are written.

    Records stand as they stood in the source.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for reject in rejects:
        if reject["layout"] is not None:
            groups.setdefault(json.dumps(reject["layout"], sort_keys=True), []).append(reject)
    return [
        RejectFile(
            layout=group[0]["layout"],
            reject_ids=tuple(reject["reject_id"] for reject in group),
            records=_records(group[0]["layout"], group),
        )
        for group in groups.values()
    ]


def _records(layout: dict[str, Any], rejects: list[dict[str, Any]]) -> bytes:
    records = [_record(layout, reject) for reject in rejects]
    if layout.get("is_array"):
        return b"[\n" + b",\n".join(records) + b"\n]\n"
    line_end = layout.get("line_end", "\n").encode(layout["encoding"])
    return b"".join(record + line_end for record in records)


def _record(layout: dict[str, Any], reject: dict[str, Any]) -> bytes:
    """A record as it stood in the source: the escapes by which it could be kept are undone.

    Only where it was refused for its bytes are there any; where a value was, its column is named.
    """
    raw, codec, code = reject["raw"], layout["encoding"], reject["sqlstate"]
    is_json = layout["format"] == "jsonl"
    if reject["column_name"] is None and (
        code == NOT_IN_ENCODING or (code == UNTRANSLATABLE and not is_json)
    ):
        return restored(raw, codec, is_json=is_json)
    return str(raw).encode(codec, "backslashreplace")


def _header(layout: dict[str, Any]) -> str:
    buffer = io.StringIO()
    quote, escape = layout["quote"] or None, layout["escape"]
    csv.writer(
        buffer,
        delimiter=layout["delimiter"],
        quotechar=quote,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        doublequote=escape is None,
        escapechar=escape,
        lineterminator=layout.get("line_end", "\n"),
    ).writerow(layout["columns"])
    return buffer.getvalue()


class Load(Protocol):
    """How replaying loads."""

    def __call__(
        self, sources: list[Source], into: str, options: LoadOptions, versions: dict[int, str]
    ) -> LoadResult:
        """Load what these versions of rejects became into the target, under the options."""


def replay(
    connections: Connections,
    run_id: int,
    load: Load,
    *,
    edit_sql: str | None,
    reject_limit: int | None,
) -> list[LoadResult]:
    """Load the open rejects of a run again, under the options of that run, as runs of their own.

    What is refused again is a reject of the new run; the old ones are replayed in the transaction
    that loads them. So it may be called again when it was cut off, and by two at the same time.
    Raises SK406 where somebody else has settled or changed some of them, or no batch was loaded
    without them.
    """
    connection = connections.main()
    found = calls.run_options(connection, run_id)
    if found is None:
        raise SqlkitError(f"there is no run {run_id}", code="SK401", hint="sqlkit runs lists them.")
    versions = calls.reject_versions(connection, run_id)
    found_open = calls.rejects_of(connection, run_id, "open")
    # The others are only told of: their batch was not loaded, and will be with them.
    rejects = [reject for reject in found_open if reject["batch_id"] is not None]
    if found_open and not rejects:
        raise SqlkitError(
            f"the rejects of run {run_id} are of a batch that was not loaded",
            code="SK406",
            hint="Load the source again: once the rule is mended, or with a limit for rejects.",
        )
    if any(reject["layout"] is None for reject in rejects):
        raise SqlkitError(
            f"the rejects of run {run_id} are of no file that could be loaded again",
            code="SK406",
            hint="A transform makes them again. Mend the rows that they were made of: the next run "
            "takes them, and sqlkit rejects dismiss settles these. Or mend the query and look at "
            "all rows, which settles them: sqlkit run --full-refresh, full_refresh=True in Python.",
        )
    if edit_sql is not None:
        try:
            edited = calls.edited_rejects(connection, run_id, edit_sql)
        except (psycopg.ProgrammingError, psycopg.DataError) as error:
            said = from_psycopg(error)
            raise UsageError(
                f"the edit of the rejects cannot be run: {said.message}",
                code=said.code,
                detail=said.detail or edit_sql,
                hint=said.hint
                or "It is one SQL expression over the columns of sqlkit.reject, such as "
                "replace(raw, 'N/A', '').",
            ) from error
        rejects = [
            {**reject, "raw": edited[reject["reject_id"]]}
            for reject in rejects
            if edited.get(reject["reject_id"]) is not None
        ]
    recorded = found["options"]
    options = LoadOptions(
        policy=found["policy"],
        key=None if found["key_columns"] is None else tuple(found["key_columns"]),
        order_by=recorded.get("order_by"),
        columns=tuple(recorded.get("columns", ())),
        renamed=recorded.get("map", {}),
        left_out=tuple(recorded.get("left_out", ())),
        rest=recorded.get("rest"),
        schema=recorded.get("schema"),
        discard=recorded.get("discard"),
        raw=recorded.get("raw", False),
        reject_limit=reject_limit,
        atomic=True,
        conflicts=recorded.get("conflicts"),
        lookups=tuple(map(Lookup.from_told, recorded.get("lookups", ()))),
    )
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for file in reject_files(rejects):
            source = file.source(Path(folder), f"rejects of run {run_id}")
            # One that was opened since has none, which no version is equal to.
            replayed = {number: versions.get(number, "") for number in file.reject_ids}
            results.append(load([source], found["target"], options, replayed))
    return results
