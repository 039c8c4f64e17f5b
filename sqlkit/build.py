"""Renders ``sql/`` into ``sqlkit/dist``, and asynchronous modules into their synchronous twins.

    python -m sqlkit.build                    write what is not current
    python -m sqlkit.build --check            name what is not current, and fail
    python -m sqlkit.build --release 0.1.0    freeze a release: nothing of it changes any more
    python -m sqlkit.build --start 0.2.0      begin the next one

What a release looks like in a database is recorded by ``python -m tests.release.record``.

It runs in a source checkout only, and the same sources give the same bytes everywhere.

A release has one body for each version that it starts from: header, declared drops, the changes
since that version, every object, the grants, and a row for ``sqlkit.deployment``. The migration
script *is* the body; the extension script is the body between a preamble and an epilogue that
only an extension understands.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlkit.errors import SqlkitError, UsageError
from sqlkit.fingerprint import is_recorded_from

ROOT = Path(__file__).resolve().parent.parent
BASE = "base"
"""Stands for "nothing deployed" where a version is expected, as in Alembic."""

LOCK_KEY = int.from_bytes(hashlib.sha256(b"sqlkit deployment").digest()[:8], "big", signed=True)
"""Advisory lock that every deployment holds. It cannot be keyed by one of our tables, as other
locks are: there is none before the first deployment."""


class BuildError(SqlkitError):
    """The sources under ``sql/`` contradict each other, or a frozen file was changed."""

    default_code = "SK000"


@dataclass(frozen=True)
class Release:
    """One entry of ``release.toml``."""

    version: str
    changes: tuple[str, ...]
    drops: tuple[str, ...]
    oldest_client: str
    oldest_schema: str
    released: bool


def version_key(version: str) -> tuple[int, ...]:
    """Sort key of a version; raises UsageError unless it is numbers separated by dots."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise UsageError(f"{version!r} is not a version", hint="Write it as 1.2.3.")
    return tuple(int(part) for part in version.split("."))


def read_releases(root: Path = ROOT) -> list[Release]:
    """Reads ``release.toml``: oldest first, every change file in exactly one release."""
    manifest = root / "sql" / "release.toml"
    entries = tomllib.loads(manifest.read_text(encoding="utf-8")).get("release", [])
    if not entries:
        raise BuildError(f"{manifest} names no release")
    present = sorted(path.name for path in (root / "sql" / "changes").glob("*.sql"))
    taken: set[str] = set()
    releases: list[Release] = []
    for position, entry in enumerate(entries):
        known = {"version", "changes", "drops", "oldest_client", "oldest_schema"}
        if unknown := sorted(set(entry) - known):
            raise BuildError(f"{manifest} has unknown keys: {', '.join(unknown)}")
        released = "changes" in entry
        if not released and position != len(entries) - 1:
            raise BuildError(
                f"{manifest}: {entry['version']} is not released, and is not the last one",
                hint="Release it first: python -m sqlkit.build --release " + entry["version"],
            )
        changes = entry.get("changes", [name for name in present if name not in taken])
        if missing := [name for name in changes if name not in present]:
            raise BuildError(f"{manifest} names change files that do not exist: {missing}")
        if twice := [name for name in changes if name in taken]:
            raise BuildError(f"{manifest} names change files twice: {twice}")
        taken.update(changes)
        releases.append(
            Release(
                version=entry["version"],
                changes=tuple(changes),
                drops=tuple(entry.get("drops", [])),
                oldest_client=entry["oldest_client"],
                oldest_schema=entry["oldest_schema"],
                released=released,
            )
        )
    keys = [version_key(release.version) for release in releases]
    if keys != sorted(set(keys)):
        raise BuildError(f"{manifest}: versions do not grow from one release to the next")
    order = [name for release in releases for name in release.changes]
    if order != sorted(order):
        raise BuildError(
            "change files are not released in the order of their numbers",
            detail=", ".join(order),
            hint="Give a new change a number above all released ones.",
        )
    numbers = [name.split("_")[0] for name in order]
    if len(set(numbers)) != len(numbers) or not all(re.fullmatch(r"\d{4}", n) for n in numbers):
        raise BuildError(
            "change files need numbers of four digits, each once", detail=", ".join(order)
        )
    return releases


def read_toml(root: Path, name: str) -> dict[str, Any]:
    """Reads ``sql/<name>``; an absent file is empty."""
    path = root / "sql" / name
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# Grants -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grant:
    """One privilege of one role on one object; `kind` as GRANT names it."""

    role: str
    privilege: str
    kind: str  # database | schema | table | sequence | routine
    name: str  # of a schema, or of an object in schema sqlkit; empty for the database


KINDS = {
    "select": "table",
    "insert": "table",
    "update": "table",
    "delete": "table",
    "execute": "routine",
    "sequences": "sequence",
}
"""Keys of a role in ``grants.toml`` that list objects."""

CREATES = re.compile(
    r"^create (?:or replace )?(?:unlogged )?(table|view|function|procedure) "
    r"(?:if not exists )?sqlkit\.(\w+)",
    re.MULTILINE,
)
DROPS = re.compile(r"^drop (?:table|view) (?:if exists )?sqlkit\.(\w+)", re.MULTILINE)


def read_objects(sources: Iterable[str]) -> dict[str, set[str]]:
    """Names of the tables (and views) and routines that the sources make, by kind."""
    names: dict[str, set[str]] = {"table": set(), "routine": set(), "sequence": set()}
    for text in sources:
        names["table"].difference_update(DROPS.findall(text))
        for kind, name in CREATES.findall(text):
            names["table" if kind in ("table", "view") else "routine"].add(name)
    return names


def read_grants(root: Path, objects: Mapping[str, set[str]]) -> list[Grant]:
    """The privileges of ``grants.toml``, with patterns resolved against `objects`."""
    entries = read_toml(root, "grants.toml")
    allowed = {"comment", "includes", "schemas", "database", *KINDS}

    def own(role: str, entry: Mapping[str, Any]) -> Iterator[Grant]:
        if unknown := sorted(set(entry) - allowed):
            raise BuildError(f"grants.toml, {role}: unknown keys {', '.join(unknown)}")
        for included in entry.get("includes", []):
            for grant in own(included, entries[included]):
                yield Grant(role, grant.privilege, grant.kind, grant.name)
        for privilege in entry.get("database", []):
            yield Grant(role, privilege, "database", "")
        for schema, privileges in entry.get("schemas", {}).items():
            for privilege in privileges:
                yield Grant(role, privilege, "schema", schema)
        for key, kind in KINDS.items():
            for pattern in entry.get(key, []):
                names = fnmatch.filter(sorted(objects[kind]), pattern)
                if kind == "sequence":
                    names = [pattern]  # of an identity column: no source names it
                if not names:
                    raise BuildError(
                        f"grants.toml, {role}: no {kind} is called {pattern}",
                        detail="There are " + ", ".join(sorted(objects[kind])),
                    )
                for name in names:
                    yield Grant(role, "usage" if key == "sequences" else key, kind, name)

    grants = {grant: None for role, entry in entries.items() for grant in own(role, entry)}
    return list(grants)


def read_roles(root: Path) -> dict[str, str]:
    """The optional roles and what they are for."""
    return {role: entry["comment"] for role, entry in read_toml(root, "grants.toml").items()}


def _grant_context(root: Path, releases: list[Release]) -> dict[str, Any]:
    """What the templates that grant need: `roles` and `grants`."""
    names = [name for release in releases for name in release.changes]
    sources = [(root / "sql" / "changes" / name).read_text(encoding="utf-8") for name in names]
    sources += [path.read_text(encoding="utf-8") for path in _object_files(root)]
    return {
        "roles": read_roles(root),
        "grants": read_grants(root, read_objects(sources)),
    }


def _object_files(root: Path) -> list[Path]:
    """The files of ``sql/objects`` in the order in which they are applied."""
    folder = root / "sql" / "objects"
    return sorted([*folder.glob("*.sql"), *folder.glob("*.sql.j2")], key=lambda path: path.name)


# Bodies and scripts -----------------------------------------------------------------------------


def _render(root: Path, path: Path, context: Mapping[str, Any]) -> str:
    """The text of an SQL source; only ``.sql.j2`` is a template."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".j2":
        return text
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    try:
        return environment.from_string(text).render(context)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f"{path.relative_to(root)}" + (f", line {line}" if line else "")
        raise BuildError(f"{where}: {error}") from error


def _section(root: Path, path: Path, context: Mapping[str, Any]) -> str:
    """One source file of a body, under its name."""
    text = _render(root, path, context).strip("\n")
    return f"\n-- {path.relative_to(root / 'sql')}\n\n{text}\n"


def render_body(root: Path, releases: list[Release], previous: str | None) -> str:
    """The script that takes a database from `previous` (None: nothing) to the last release."""
    last = releases[-1]
    versions = [release.version for release in releases]
    since = versions.index(previous) + 1 if previous else 0
    sql = root / "sql"
    context: dict[str, Any] = {
        "name": migration_name(previous, last.version),
        "version": last.version,
        "previous": previous,
        "oldest_client": last.oldest_client,
        "lock_key": LOCK_KEY,
        "errors": read_toml(root, "errors.toml"),
        **_grant_context(root, releases),
    }
    parts = [_render(root, sql / "frame" / "header.sql.j2", context)]
    if previous:
        drops = [drop.rstrip(";") + ";\n" for release in releases[since:] for drop in release.drops]
        if drops:
            parts.append("\n-- declared drops\n\n" + "".join(drops))
    for release in releases[since:]:
        parts.extend(_section(root, sql / "changes" / name, context) for name in release.changes)
    last_files = [*_object_files(root), sql / "frame" / "footer.sql.j2"]
    parts.extend(_section(root, path, context) for path in last_files)
    return "".join(parts)


def migration_name(previous: str | None, version: str) -> str:
    """File name of the script from `previous` (None: nothing) to `version`."""
    return f"migrate--{previous or BASE}--{version}.sql"


def extension_name(previous: str | None, version: str) -> str:
    """File name that CREATE or ALTER EXTENSION looks for."""
    return f"sqlkit--{previous}--{version}.sql" if previous else f"sqlkit--{version}.sql"


REVISION = '''"""sqlkit {version}

Generated by python -m sqlkit.build. Do not edit.
"""

from __future__ import annotations

from sqlkit import migrate

revision = "{version}"
down_revision = {down_revision}
branch_labels = {branch_labels}
depends_on = None


def upgrade() -> None:
    migrate.apply_revision(
        "{script}",
        sha256="{sha256}",
    )


def downgrade() -> None:
    raise NotImplementedError("sqlkit migrates forward only; sqlkit migrate uninstall removes it")
'''


def render_dist(root: Path = ROOT) -> dict[Path, str]:
    """Every generated file of the last release, by path. Earlier releases are frozen."""
    releases = read_releases(root)
    last = releases[-1]
    previous = releases[-2].version if len(releases) > 1 else None
    dist = root / "sqlkit" / "dist"
    extension = root / "sql" / "extension"
    files: dict[Path, str] = {}
    for start in (None, previous) if previous else (None,):
        body = render_body(root, releases, start)
        context: dict[str, Any] = {"version": last.version, "previous": start}
        preamble = _render(root, extension / "preamble.sql.j2", context)
        epilogue = _render(root, extension / "epilogue.sql.j2", context)
        files[dist / migration_name(start, last.version)] = body
        files[dist / extension_name(start, last.version)] = preamble + body + epilogue
    script = migration_name(previous, last.version)
    files[root / "migrations" / "versions" / f"{last.version}.py"] = REVISION.format(
        version=last.version,
        down_revision=f'"{previous}"' if previous else "None",
        branch_labels=None if previous else '("sqlkit",)',
        script=script,
        sha256=sha256(files[dist / script]),
    )
    context = {
        "version": last.version,
        "lock_key": LOCK_KEY,
        "versions": [release.version for release in releases],
        "oldest_client": last.oldest_client,
        **_grant_context(root, releases),
    }
    # The grants stand in the roles' script once more, for roles that come after the schema.
    context["grant_script"] = _render(root, root / "sql/objects/95_grant.sql.j2", context)
    files[dist / "sqlkit.control"] = _render(root, extension / "sqlkit.control.j2", context)
    for name in ("sqlkit.sql", "roles.sql"):
        template = root / "sql" / "frame" / f"{name}.j2"
        files[dist / name] = _render(root, template, context)
    files[dist / "__init__.py"] = '"""Generated by python -m sqlkit.build: the SQL to deploy."""\n'
    files[root / "sqlkit" / "_release.py"] = RELEASE_MODULE.format(
        versions="".join(f'    "{release.version}",\n' for release in releases),
        oldest_schema=last.oldest_schema,
        lock_key=LOCK_KEY,
    )
    return files


RELEASE_MODULE = '''"""What this package ships. Generated by python -m sqlkit.build; do not edit."""

# fmt: off
VERSIONS = (
{versions})
# fmt: on
"""Every release of the schema, oldest first."""

VERSION = VERSIONS[-1]
"""The schema that this package brings."""

OLDEST_SCHEMA = "{oldest_schema}"
"""The oldest schema that this package works with."""

LOCK_KEY = {lock_key}
"""Advisory lock that every deployment holds."""
'''


def sha256(text: str | bytes) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


# Synchronous twins ------------------------------------------------------------------------------

NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "StopAsyncIteration": "StopIteration",
    "acall_with_retry": "call_with_retry",
    "aclose": "close",
    "aclosing": "closing",
    "aconnect": "connect",
    "aiter": "iter",
    "aload": "load",
    "anext": "next",
    "asynccontextmanager": "contextmanager",
    "asynchronous": "synchronous",
    "Asynchronous": "Synchronous",
}
"""Names whose twin does not follow from the patterns: ``AsyncX`` -> ``X``, ``x_async`` -> ``x``."""

ASYNC_ONLY = re.compile(
    r"^[ \t]*# async only: begin\n.*?^[ \t]*# async only: end\n", re.MULTILINE | re.DOTALL
)
"""Lines that the twin has no use for stand between these two comments."""


def async_modules(root: Path = ROOT) -> list[Path]:
    """The modules that have a synchronous twin: ``sqlkit/**/x_async.py`` gives ``x.py``."""
    return sorted((root / "sqlkit").rglob("*_async.py"))


def _twin_words(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        word = match.group()
        if word in NAMES:
            return NAMES[word]
        word = re.sub(r"^(_*)Async(?=[A-Z])", r"\1", word)
        return word.removesuffix("_async")

    return re.sub(r"[A-Za-z_]\w*", replace, text)


def to_sync(source: str) -> str:
    """The synchronous twin of a module, before formatting.

    The keywords ``async`` and ``await`` go, and names change as `NAMES` and the patterns say;
    in strings and comments, names change too. Everything else stays as written.
    """
    source = ASYNC_ONLY.sub("", source)
    lines = source.splitlines(keepends=True)
    pieces: list[str] = []
    row, column = 1, 0

    def upto(end_row: int, end_column: int) -> str:
        nonlocal row, column
        text = ""
        while row < end_row:
            text += lines[row - 1][column:]
            row, column = row + 1, 0
        if row <= len(lines):
            text += lines[row - 1][column:end_column]
        column = end_column
        return text

    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        pieces.append(upto(*token.start))
        if token.type == tokenize.ENDMARKER:
            break
        text = upto(*token.end)
        if token.type == tokenize.NAME and text in ("async", "await"):
            following = lines[row - 1][column:]
            column += len(following) - len(following.lstrip(" "))
            continue
        if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT):
            text = _twin_words(text)
        pieces.append(text)
    return "".join(pieces)


def _ruff(arguments: list[str], text: str, path: Path) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(path), "-"]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise BuildError(
            f"ruff cannot format the twin of {path.name}",
            detail=done.stderr.strip() or done.stdout.strip(),
            hint="Is it installed? pip install ruff",
        )
    return done.stdout


def render_twins(root: Path = ROOT) -> dict[Path, str]:
    """Every synchronous twin, by path."""
    files: dict[Path, str] = {}
    for source in async_modules(root):
        path = source.with_name(source.name.removesuffix("_async.py") + ".py")
        origin = source.relative_to(root)
        header = f"# Generated from {origin} by python -m sqlkit.build; do not edit.\n\n"
        text = header + to_sync(source.read_text(encoding="utf-8"))
        text = _ruff(["check", "--select", "I", "--fix", "--quiet"], text, path)
        files[path] = _ruff(["format", "--quiet"], text, path)
    return files


# Frozen releases --------------------------------------------------------------------------------


def read_frozen(root: Path = ROOT) -> dict[str, str]:
    """Path -> SHA-256 of every file of a release, from ``sql/frozen.txt``."""
    path = root / "sql" / "frozen.txt"
    if not path.exists():
        return {}
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in pairs}


def frozen_differences(root: Path = ROOT) -> list[str]:
    """Files of a release that are missing or have changed since, by path."""
    return [
        name
        for name, digest in read_frozen(root).items()
        if not (root / name).exists() or sha256((root / name).read_bytes()) != digest
    ]


def release_files(root: Path, release: Release, previous: str | None) -> Iterator[Path]:
    """The files that a release freezes."""
    dist = root / "sqlkit" / "dist"
    for name in release.changes:
        yield root / "sql" / "changes" / name
    for start in (None, previous) if previous else (None,):
        yield dist / migration_name(start, release.version)
        yield dist / extension_name(start, release.version)
    yield dist / fingerprint_name(release.version)
    yield root / "migrations" / "versions" / f"{release.version}.py"


def fingerprint_name(version: str) -> str:
    """File name of what a release looks like in the catalog."""
    return f"fingerprint--{version}.json"


def _edit_manifest(root: Path, release: Release) -> None:
    """Writes the list of changes into the last entry, which makes it a release."""
    manifest = root / "sql" / "release.toml"
    head, mark, tail = manifest.read_text(encoding="utf-8").rpartition(
        f'version = "{release.version}"\n'
    )
    names = "".join(f'    "{name}",\n' for name in release.changes)
    manifest.write_text(f"{head}{mark}changes = [\n{names}]\n{tail}", encoding="utf-8")


def freeze(version: str, root: Path = ROOT) -> list[str]:
    """Releases `version`: lists its changes, freezes its files. Returns what was frozen."""
    releases = read_releases(root)
    release = releases[-1]
    previous = releases[-2].version if len(releases) > 1 else None
    if release.version != version or release.released:
        raise UsageError(
            f"{version} is not the release in the making",
            detail=f"the last one is {release.version}"
            + (", released already" if release.released else ""),
            hint="Begin it: python -m sqlkit.build --start " + version,
        )
    if stale := [path for path, text in render_dist(root).items() if _is_stale(path, text)]:
        raise UsageError(
            "the built files are not current",
            detail=", ".join(str(path.relative_to(root)) for path in stale),
            hint="Run python -m sqlkit.build, then the tests, then release.",
        )
    names = [str(path.relative_to(root)) for path in release_files(root, release, previous)]
    if _stale_fingerprint(root, render_dist(root)):
        raise UsageError(
            f"the fingerprint of {version} is not current", hint=f"Record it: {RECORD}"
        )
    _edit_manifest(root, release)
    lines = [f"{sha256((root / name).read_bytes())}  {name}\n" for name in names]
    with (root / "sql" / "frozen.txt").open("a", encoding="utf-8") as frozen:
        frozen.writelines(lines)
    return names


def start(version: str, root: Path = ROOT) -> None:
    """Begins the release after the last one, in ``release.toml`` and ``pyproject.toml``; until it
    is released its files may change."""
    releases = read_releases(root)
    last = releases[-1]
    if not last.released:
        raise UsageError(f"{last.version} is not released yet")
    if version_key(version) <= version_key(last.version):
        raise UsageError(f"{version} does not come after {last.version}")
    with (root / "sql" / "release.toml").open("a", encoding="utf-8") as manifest:
        manifest.write(
            f'\n[[release]]\nversion = "{version}"\ndrops = []\n'
            f'oldest_client = "{last.oldest_client}"\noldest_schema = "{version}"\n'
        )
    project = root / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(
        text.replace(f'\nversion = "{last.version}"', f'\nversion = "{version}"', 1),
        encoding="utf-8",
    )


# Writing and checking ---------------------------------------------------------------------------


RECORD = "python -m tests.release.record"
"""The command that records fingerprints; it needs servers, which a build does not."""


def _is_stale(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != text


def _orphans(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Generated files that nothing generates any more and no release has frozen."""
    frozen = read_frozen(root)
    versions = {release.version for release in read_releases(root)}
    dist = root / "sqlkit" / "dist"
    present = [*dist.glob("*.sql"), *(root / "migrations" / "versions").glob("*.py")]
    orphans = [
        path for path in present if path not in wanted and str(path.relative_to(root)) not in frozen
    ]
    orphans += [
        path
        for path in dist.glob("fingerprint--*.json")
        if path.stem.removeprefix("fingerprint--") not in versions
    ]
    return sorted(orphans)


def stale_files(root: Path = ROOT) -> list[str]:
    """Paths that a build would change, and frozen files that were changed."""
    wanted = render_dist(root) | render_twins(root)
    names = {str(path.relative_to(root)) for path, text in wanted.items() if _is_stale(path, text)}
    names.update(str(path.relative_to(root)) for path in _orphans(root, wanted))
    names.update(frozen_differences(root))
    names.update(_stale_fingerprint(root, wanted))
    return sorted(names)


def _stale_fingerprint(root: Path, wanted: Mapping[Path, str]) -> list[str]:
    """The last release's fingerprint, unless it was taken from what its script deploys."""
    version = read_releases(root)[-1].version
    dist = root / "sqlkit" / "dist"
    path = dist / fingerprint_name(version)
    script = wanted[dist / migration_name(None, version)]
    if path.exists() and is_recorded_from(path.read_text(encoding="utf-8"), script):
        return []
    return [str(path.relative_to(root))]


def build(root: Path = ROOT) -> list[str]:
    """Writes what is not current and removes what is not wanted. Returns the paths."""
    if changed := frozen_differences(root):
        raise BuildError(
            "files of a release were changed",
            detail=", ".join(changed),
            hint="Put them back (git checkout); mend the fault in a new release.",
        )
    wanted = render_dist(root) | render_twins(root)
    frozen = read_frozen(root)
    written = []
    for path, text in wanted.items():
        name = str(path.relative_to(root))
        if not _is_stale(path, text):
            continue
        if name in frozen:
            raise BuildError(
                f"{name} belongs to a release, and its sources have changed",
                hint="Begin a new release: python -m sqlkit.build --start VERSION",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(name)
    for path in _orphans(root, wanted):
        path.unlink()
        written.append(f"{path.relative_to(root)} (removed)")
    return written


def main(arguments: list[str] | None = None) -> int:
    """The command ``python -m sqlkit.build``; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m sqlkit.build", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="name what is not current, and fail")
    choice.add_argument("--release", metavar="VERSION", help="freeze a release")
    choice.add_argument("--start", metavar="VERSION", help="begin the next release")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            stale = stale_files()
            for name in stale:
                print(f"not current: {name}", file=sys.stderr)
            if stale:
                print("Run python -m sqlkit.build and commit the result.", file=sys.stderr)
            if any("fingerprint--" in name for name in stale):
                print(f"The fingerprint is recorded by {RECORD}.", file=sys.stderr)
            return 1 if stale else 0
        if options.release:
            for name in freeze(options.release):
                print(f"frozen: {name}")
            return 0
        if options.start:
            start(options.start)
        for name in build():
            print(name)
        if _stale_fingerprint(ROOT, render_dist()):
            print(f"the fingerprint is not current: before committing, {RECORD}", file=sys.stderr)
    except SqlkitError as error:
        for text in (error.message, error.detail, error.hint):
            if text:
                print(text, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
