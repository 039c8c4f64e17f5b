"""sqlkit as an extension: its files on a server, and its script for pg_tle."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

from sqlkit._release import VERSION, VERSIONS
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.migrate import DIST, read_script


def files() -> list[Path]:
    """The control file and the scripts of every release and upgrade."""
    return [DIST / "sqlkit.control", *sorted(DIST.glob("sqlkit--*.sql"))]


def server_directory(pg_config: str = "pg_config") -> Path:
    """Where the server that `pg_config` belongs to looks for extensions."""
    try:
        done = subprocess.run(
            [pg_config, "--sharedir"], capture_output=True, text=True, check=True, timeout=60
        )
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no program {pg_config}",
            hint="Name the server's own: --pg-config /usr/lib/postgresql/18/bin/pg_config, or "
            "where the files shall go: --directory.",
        ) from error
    except (PermissionError, subprocess.SubprocessError) as error:
        raise UsageError(f"{pg_config} --sharedir fails: {error}") from error
    return Path(done.stdout.strip()) / "extension"


def copy_file(source: Path, target: Path) -> None:
    """Copies a file for everybody to read; whoever reads it meanwhile sees all of it or none."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        shutil.copyfile(source, temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def install(directory: Path) -> list[Path]:
    """Copies the files into `directory` and returns where they are now.

    The control file comes last, so that no server sees a version whose script is not there yet.
    Raises SqlkitError where the directory is missing or cannot be written.
    """
    if not directory.is_dir():
        raise SqlkitError(
            f"{directory} is not a directory",
            hint="Is the server installed on this machine? Its packages make that directory.",
        )
    copied = []
    control, *scripts = files()
    for source in [*scripts, control]:
        target = directory / source.name
        try:
            copy_file(source, target)
        except PermissionError as error:
            raise SqlkitError(
                f"{directory} cannot be written by this user",
                hint="Run it as root, or copy into a directory of your own (--directory) and name "
                "that in extension_control_path (PostgreSQL 18).",
            ) from error
        copied.append(target)
    return copied


def _body(name: str) -> str:
    """An extension script without its first line, which only psql understands."""
    first, _, rest = read_script(name).partition("\n")
    if not first.startswith("\\echo"):
        raise SqlkitError(f"{name} does not begin as an extension script does")
    return rest.lstrip("\n")


def _dollar_quoted(text: str) -> str:
    tag = "$sqlkit_tle$"
    if tag in text:
        raise SqlkitError(f"a script contains {tag}")
    return f"{tag}\n{text}{tag}"


def tle_script() -> str:
    """The script that registers sqlkit with pg_tle, for servers that take no files.

    Run it as a role with pgtle_admin, again with each release. Afterwards ``create extension
    sqlkit`` and ``alter extension sqlkit update`` work as they do with files. The first release
    is registered whole and every other as the way to it, which is what databases need that have
    an earlier one.
    """
    first, comment = VERSIONS[0], "Loads anything into PostgreSQL exactly once, at COPY speed"
    body = _dollar_quoted(_body(f"sqlkit--{first}.sql"))
    parts = [
        f"""-- sqlkit {VERSION} for pg_tle. Run it by psql -1 -v ON_ERROR_STOP=1,
-- as a member of pgtle_admin; then: create extension sqlkit; or alter extension sqlkit update;

select pgtle.install_extension('sqlkit', '{first}', '{comment}',
{body}
)
where not exists (select from pgtle.available_extensions() as e where e.name = 'sqlkit');
"""  # noqa: S608 (our own files and version numbers)
    ]
    for before, after in pairwise(VERSIONS):
        body = _dollar_quoted(_body(f"sqlkit--{before}--{after}.sql"))
        parts.append(f"""
select pgtle.install_update_path('sqlkit', '{before}', '{after}',
{body}
)
where not exists (
    select
    from pgtle.extension_update_paths('sqlkit') as p
    where p.source = '{before}' and p.target = '{after}' and p.path = '{before}--{after}'
);
""")  # noqa: S608
    parts.append(f"\nselect pgtle.set_default_version('sqlkit', '{VERSION}');\n")
    return "".join(parts)
