"""From what a user names to the list of sources.

Errors (`SourceError` unless said otherwise):

SK102  no such file, no file matches a pattern, an archive without files
SK104  a directory, a pipe
SK120, SK121  a store that does not answer, or denies access
SK105, SK109  a zip archive that is cut off, encrypted or packed in a way that is not read
SK001  (UsageError) an unknown format, standard input named twice
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.addresses import natural, scheme_of
from sqlkit.sources.archive import COMPRESSION_SUFFIXES
from sqlkit.sources.base import Dialect, Source
from sqlkit.sources.delimited import DelimitedSource, check_dialect
from sqlkit.sources.stored import StoredFile, StoredSource, open_regular

FORMATS = ("csv", "tsv", "jsonl", "xml", "parquet", "arrow")

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".xml": "xml",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
_DATABASES = {
    "mysql": "sqlkit.sources.mysql",
    "mariadb": "sqlkit.sources.mysql",
    "postgresql": "sqlkit.sources.postgres",
    "postgres": "sqlkit.sources.postgres",
    "duckdb": "sqlkit.sources.arrow_query",
    "sqlite": "sqlkit.sources.arrow_query",
    "snowflake": "sqlkit.sources.snowflake",
}
"""Schemes of addresses of databases, and the modules that read from them (`source_of`)."""
_DOCUMENT_MARKS = {"[Content_Types].xml", "META-INF/manifest.xml"}
"""What is in the zip archives that workbooks of Excel (.xlsx) and OpenDocument (.ods) are."""
_BY_DRIVER = re.compile(r"adbc(\+.*)?|dbapi\+.*")
"""Schemes of what is read by any driver, by `sqlkit.sources.queries`."""

_JSON_START = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*["}]')
_XML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[?!A-Za-z]|\xff\xfe<\0|\xfe\xff\0<")


def find_sources(
    specs: Sequence[str],
    *,
    format: str | None = None,
    dialect: Dialect | None = None,
    whole: bool = False,
    record: str | None = None,
    feed: str | None = None,
    query: str | None = None,
    where: str | None = None,
    null_invalid: bool = False,
) -> list[Source]:
    """The sources that `specs` name: paths, patterns, addresses of objects and files, '-' for
    standard input, and tables of other databases, by their addresses.

    The order is the one given; the files of one pattern come in natural order (part2 before
    part10). Each file of a zip archive is a source by itself, named ``path!member``, in natural
    order too; ``path!pattern`` names some of them. A path that exists is taken as it is even if it
    looks like a pattern.

    The format is `format`, else what the name says (also before .gz and the like), else what the
    content looks like. Every source is checked to be a file that can be opened, so that a load does
    not begin where a later file is missing; nothing more is read, except for the beginning of files
    whose name says nothing. An address of a database names a table, or `query` is what is asked
    there, for rows for which `where` holds; with `null_invalid`, what PostgreSQL has no value for
    becomes null. `record` names the element of XML that is a row, `feed` a mapping of XML that is
    known (see `feeds`). With `whole`, files are JSON lines, each delivered whole.

    Raises SourceError and UsageError, see above.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(
            f"{format!r} is no format that sqlkit reads", hint=f"One of {', '.join(FORMATS)}."
        )
    if whole:
        if format not in (None, "jsonl"):
            raise UsageError(
                f"lines of {format} cannot go whole into one column",
                hint="Only JSON lines can: --format jsonl, or leave --format out.",
            )
        format = "jsonl"
    if record is not None or feed is not None:
        if format not in (None, "xml"):
            raise UsageError(f"{format} has no records by the name of an element")
        format = "xml"
    if not specs:
        raise UsageError(
            "no source was named",
            hint="Name a file, a pattern, or - for stdin; if there may be no rows: sqlkit.rows(x).",
        )
    if any(database_of(spec) for spec in specs):
        if len(specs) > 1:
            return [
                source
                for spec in specs
                for source in find_sources(
                    [spec], format=format, dialect=dialect, whole=whole, record=record, feed=feed,
                    query=query, where=where, null_invalid=null_invalid,
                )
            ]  # fmt: skip
        module = import_module(_DATABASES.get(database_of(specs[0]), "sqlkit.sources.queries"))
        source = module.source_of(specs[0], query, null_invalid=null_invalid)
        if where is not None:
            source.filter(where)
        return [source]
    if query is not None or where is not None:
        raise UsageError(
            "only a database can be asked a query", hint="Name one: mysql://user@host/database"
        )
    dialect = check_dialect(dialect or Dialect())
    if list(specs).count("-") > 1:
        raise UsageError("standard input can be read only once, but '-' is named twice")
    return [
        _source(file, format, dialect, whole, record, feed)
        for spec in specs
        for place, members in (_in_archive(spec),)
        for path in _paths(place)
        for file in _files(path, members)
    ]


def database_of(spec: str) -> str:
    """The scheme of an address of a database; empty if it is none."""
    scheme, found, _ = spec.partition("://")
    is_known = scheme in _DATABASES or _BY_DRIVER.fullmatch(scheme)
    return scheme if found and is_known else ""


def _in_archive(spec: str) -> tuple[str, str | None]:
    """Where to look, and which members of the archives there: ``path!pattern``."""
    path, mark, members = spec.partition("!")
    return (path, members) if mark and path and members and not _exists(spec) else (spec, None)


def _paths(spec: str) -> list[str]:
    if spec == "-" or not glob.has_magic(spec) or _exists(spec) or scheme_of(spec) is not None:
        return [spec]
    if hidden := _unreadable(spec):
        raise SourceError(
            "this pattern leads into a folder that cannot be read",
            source=spec,
            code="SK102",
            detail=hidden,
            hint="Ask for the right to read it, or name the folders that are meant.",
        )
    found = sorted(glob.glob(spec, recursive=True), key=natural)  # noqa: PTH207  (keeps the spelling)
    files = [path for path in found if not Path(path).is_dir()]
    if files:
        return files
    what = "only directories match" if found else "no file matches"
    raise SourceError(
        f"{what} this pattern",
        source=spec,
        code="SK102",
        hint=f"Relative patterns start from {Path.cwd()}; '**' matches folders of any depth.",
    )


def _unreadable(spec: str) -> str | None:
    """A folder that a pattern leads into and that cannot be looked into: glob passes it over."""
    parts = spec.split("/")
    for number, part in enumerate(parts):
        folder = "/".join((*parts[:number], "")) or "./"
        needed = os.R_OK | os.X_OK if glob.has_magic(part) else os.X_OK
        for path in glob.iglob(folder, recursive=True):  # noqa: PTH207  (keeps the spelling)
            if not os.access(path, needed):
                return path
    return None


def _exists(path: str) -> bool:
    try:
        Path(path).lstat()
    except (OSError, ValueError):
        return False
    return True


def _files(path: str, members: str | None) -> Iterator[StoredFile]:
    file = StoredFile(path)
    if path == "-":
        yield file
        return
    if scheme_of(path) is not None and not _exists(path):
        from sqlkit.sources.remote import find_remote

        for remote in find_remote(path):
            yield from _members(StoredFile(remote.name, remote=remote), members)
        return
    open_regular(path).close()  # says what is wrong with it
    yield from _members(file, members)


def _members(file: StoredFile, pattern: str | None) -> Iterator[StoredFile]:
    if not file.is_zip():
        if pattern is not None:
            raise SourceError(
                f"is no zip archive, so that there is no {pattern} in it",
                source=file.name,
                code="SK102",
            )
        yield file
        return
    with file.open_zip() as archive:
        members = sorted(
            (m.filename for m in archive.infolist() if _holds_rows(m.filename, m.external_attr)),
            key=natural,
        )
    if pattern is None and (marks := _DOCUMENT_MARKS.intersection(members)):
        raise SourceError(
            f"is an office document ({min(marks)} is in it), which sqlkit does not read",
            source=file.name,
            code="SK109",
            hint="Save the sheet as CSV first.",
        )
    if pattern is not None and members:
        members, there = [name for name in members if fnmatchcase(name, pattern)], members
        if not members:
            raise SourceError(
                f"has no member that matches {pattern}",
                source=file.name,
                code="SK102",
                hint=f"It holds {', '.join(there[:5])}{' ...' if len(there) > 5 else ''}.",
            )
    if not members:
        raise SourceError("is a zip archive without files", source=file.name, code="SK102")
    for member in members:
        yield file.member_of(member)


def _holds_rows(member: str, attributes: int) -> bool:
    """Leaves out folders, links, and what macOS and Windows add to archives."""
    parts = member.split("/")
    return not (
        member.endswith("/")
        or stat.S_ISLNK(attributes >> 16)
        or parts[0] == "__MACOSX"
        or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")
    )


def format_of(file: StoredFile) -> str:
    """One of `FORMATS`: by name, else by content."""
    name = file.name if file.member is None else file.member
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    while suffixes and (suffixes[-1] in COMPRESSION_SUFFIXES or suffixes[-1] == ".zip"):
        suffixes.pop()
    if suffixes and (known := _SUFFIXES.get(suffixes[-1])):
        return known
    head = file.peek()
    for magic, format in ((b"PAR1", "parquet"), (b"ARROW1", "arrow")):
        if head.startswith(magic):
            return format
    if _XML_START.match(head):
        return "xml"
    return "jsonl" if _JSON_START.match(head) else "csv"


@dataclass(frozen=True)
class FileDescription:
    """A file, object or member of an archive, for another process (see `parts.Description`)."""

    path: str  # absolute, or an address
    member: str | None
    name: str
    format: str
    dialect: Dialect
    whole: bool
    record: str | None
    feed: str | None

    def source(self) -> Source:
        """The same source, if the same file is there."""
        if scheme_of(self.path) is not None:
            from sqlkit.sources.remote import find_remote

            (remote,) = find_remote(self.path)
            file = StoredFile(remote.name, remote=remote)
            if self.member is not None:
                file = file.member_of(self.member)
        else:
            open_regular(self.path).close()
            file = StoredFile(self.path, member=self.member, name=self.name)
        return _source(file, self.format, self.dialect, self.whole, self.record, self.feed)


def _described(
    file: StoredFile,
    format: str,
    dialect: Dialect,
    whole: bool,
    record: str | None,
    feed: str | None,
) -> FileDescription | None:
    """None for what is read once, and for addresses that hold secrets."""
    if file.is_stdin or (file.remote is not None and not file.remote.is_public):
        return None
    path = str(Path(file.path).absolute()) if file.remote is None else file.remote.name
    return FileDescription(path, file.member, file.name, format, dialect, whole, record, feed)


def _source(
    file: StoredFile,
    format: str | None,
    dialect: Dialect,
    whole: bool,
    record: str | None,
    feed: str | None,
) -> Source:
    chosen = format or format_of(file)
    found = _read_as(file, chosen, dialect, whole, record, feed)
    if isinstance(found, StoredSource):
        found.described = _described(file, chosen, dialect, whole, record, feed)
    return found


def _read_as(
    file: StoredFile,
    chosen: str,
    dialect: Dialect,
    whole: bool,
    record: str | None,
    feed: str | None,
) -> Source:
    if chosen == "xml":
        from sqlkit.sources.xml import XmlSource

        return XmlSource(file, record=record, feed=feed, encoding=dialect.encoding)
    if chosen == "jsonl":
        from sqlkit.sources.jsonl import JsonLinesSource

        return JsonLinesSource(
            file, encoding=dialect.encoding, whole=whole, columns=dialect.columns
        )
    if chosen in ("parquet", "arrow"):
        from sqlkit.sources.arrow import ArrowFileSource

        return ArrowFileSource(file, format=chosen)
    return DelimitedSource(file, dialect, format=chosen)
