"""What is built is what the sources say, and what was released stays as it was."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from sqlkit import build, migrate
from sqlkit._release import VERSION, VERSIONS
from sqlkit.errors import SqlkitError
from tests.release.conftest import ROOT, Checkout, copy_sources


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources."""
    copy_sources(tmp_path)
    return tmp_path


def test_everything_built_is_current() -> None:
    assert build.stale_files() == []


def test_frozen_files_are_as_they_were_released() -> None:
    assert build.frozen_differences() == []


def test_every_release_but_the_last_is_frozen() -> None:
    frozen = build.read_frozen()
    for release in build.read_releases()[:-1]:
        assert f"sqlkit/dist/migrate--base--{release.version}.sql" in frozen
        assert f"sqlkit/dist/fingerprint--{release.version}.json" in frozen


def test_package_and_schema_have_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION == build.read_releases()[-1].version


def test_the_same_sources_give_the_same_bytes(copy: Path) -> None:
    here = {path.relative_to(ROOT): text for path, text in build.render_dist(ROOT).items()}
    there = {path.relative_to(copy): text for path, text in build.render_dist(copy).items()}
    assert here == there


def test_extension_script_holds_the_migration_script_byte_for_byte() -> None:
    chain: list[tuple[str | None, str]] = [(None, version) for version in VERSIONS]
    chain += pairwise(VERSIONS)
    for before, after in chain:
        body = (migrate.DIST / build.migration_name(before, after)).read_text()
        script = (migrate.DIST / build.extension_name(before, after)).read_text()
        preamble, found, epilogue = script.partition(body)
        assert found == body
        assert preamble.startswith("\\echo")
        assert "pg_extension_config_dump" in epilogue
        assert "\\echo" not in body
        assert "pg_extension_config_dump" not in body


def test_revisions_carry_the_hash_of_their_script() -> None:
    for before, after in migrate.steps(None):
        text = (migrate.location() / "versions" / f"{after}.py").read_text()
        script = build.migration_name(before, after)
        assert f'"{script}"' in text
        assert f'sha256="{build.sha256((migrate.DIST / script).read_bytes())}"' in text


def test_check_names_each_file_that_is_not_current(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "sql" / "objects" / "90_new.sql").write_text(
        "create or replace function sqlkit.f() returns int language sql return 1;\n"
    )
    (copy / "sqlkit" / "dist" / "migrate--base--9.9.9.sql").write_text("select 1;\n")
    monkeypatch.setattr(build.stale_files, "__defaults__", (copy,))
    assert build.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert f"not current: sqlkit/dist/migrate--base--{VERSION}.sql" in told
    assert f"not current: migrations/versions/{VERSION}.py" in told
    assert "not current: sqlkit/dist/migrate--base--9.9.9.sql" in told
    assert "python -m sqlkit.build" in told


def test_building_mends_what_was_edited_by_hand(copy: Path) -> None:
    build.build(copy)
    control = copy / "sqlkit" / "dist" / "sqlkit.control"
    control.write_text("default_version = '7'\n")
    assert "sqlkit/dist/sqlkit.control" in build.stale_files(copy)
    assert build.build(copy) == ["sqlkit/dist/sqlkit.control"]
    assert "sqlkit/dist/sqlkit.control" not in build.stale_files(copy)


def test_sqlfluff_reads_the_built_scripts() -> None:
    """Templates are linted as what they render to. Layout is judged in the sources: in a file of
    many bodies, sqlfluff loses count of the indentation."""
    from sqlfluff.core import FluffConfig, Linter

    configured = FluffConfig.from_path(str(ROOT)).get("exclude_rules")
    config = FluffConfig.from_root(
        overrides={
            "dialect": "postgres",
            "exclude_rules": f"{configured},layout",
            # A script holds all bodies, which is more than sqlfluff expects of one file.
            "max_parse_nodes": 0,
        }
    )
    linter = Linter(config=config)
    assert [
        (name, violation.line_no, violation.rule_code(), violation.desc())
        for name, text in _built_texts().items()
        for violation in linter.lint_string(text).get_violations()
    ] == []


BETWEEN_OBJECTS = "\n\n\n"


def _built_texts() -> dict[str, str]:
    """Each script of the release in the making: one of them whole, and what others have beyond."""
    names = [path.name for path in migrate.DIST.glob("*.sql") if path.name not in _released()]
    whole = build.migration_name(None, VERSION)
    assert whole in names
    base = (migrate.DIST / whole).read_text()
    texts = {whole: base}
    for name in sorted(set(names) - {whole}):
        text = _without_psql((migrate.DIST / name).read_text())
        theirs = set(base.split(BETWEEN_OBJECTS))
        texts[name] = BETWEEN_OBJECTS.join(
            part for part in text.split(BETWEEN_OBJECTS) if part not in theirs
        )
    assert len(texts) >= 6
    return texts


def _released() -> set[str]:
    return {Path(name).name for name in build.read_frozen(ROOT)}


def _without_psql(text: str) -> str:
    """A script as its statements alone: without psql's commands, with a value in each variable."""
    text = re.sub(r"\s*\\gset", ";", text)
    text = re.sub(r"(?m)^ *\\.*$", "", text)
    text = re.sub(r':"[a-z_]+"', "postgres", text)
    text = re.sub(r":('[a-z_]+')", r"variable(\1)", text)
    # These are valid, and unknown to sqlfluff's grammar.
    text = re.sub(r"(?m)^set local sqlkit\.", "set local sqlkit_", text)
    return re.sub(r"(?m)^begin transaction [^;]*;", "begin;", text)


# Releasing --------------------------------------------------------------------------------------


def test_a_released_file_cannot_change(checkout: Checkout) -> None:
    change = checkout.root / "sql" / "changes" / "0001_schema.sql"
    text = change.read_text()
    try:
        change.write_text(text + "\n-- afterthought\n")
        assert build.frozen_differences(checkout.root) == ["sql/changes/0001_schema.sql"]
        assert "sql/changes/0001_schema.sql" in build.stale_files(checkout.root)
        done = checkout.run("sqlkit.build")
        assert done.returncode != 0
        assert "sql/changes/0001_schema.sql" in done.stderr
        assert "new release" in done.stderr
    finally:
        change.write_text(text)
    assert not build.frozen_differences(checkout.root)


def test_what_is_released_is_listed(checkout: Checkout) -> None:
    old, middle, new = build.read_releases(checkout.root)[-3:]
    assert (old.version, middle.version, new.version) == (
        checkout.old,
        checkout.middle,
        checkout.new,
    )
    assert old.released
    assert middle.released
    assert not new.released
    assert "0001_schema.sql" in build.read_releases(checkout.root)[0].changes
    assert middle.changes[0].endswith("_middle.sql")
    frozen = build.read_frozen(checkout.root)
    for name in (
        f"sql/changes/{middle.changes[0]}",
        f"sqlkit/dist/sqlkit--{old.version}--{middle.version}.sql",
        f"sqlkit/dist/migrate--base--{middle.version}.sql",
        f"migrations/versions/{middle.version}.py",
    ):
        assert name in frozen
    assert f"migrations/versions/{new.version}.py" not in frozen


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--release", "7.0.0"), "not the release in the making"),
        (("--start", "9.0.0"), "is not released yet"),
        (("--release", "1"), "not the release in the making"),
    ],
)
def test_releases_come_in_order(checkout: Checkout, arguments: tuple[str, ...], told: str) -> None:
    done = checkout.run("sqlkit.build", *arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_release_needs_the_fingerprint_of_its_own_script(checkout: Checkout) -> None:
    done = checkout.run("sqlkit.build", "--release", checkout.new)
    assert done.returncode == 2
    assert f"the fingerprint of {checkout.new} is not current" in done.stderr
    assert "tests.release.record" in done.stderr
    assert "changes" not in (checkout.root / "sql/release.toml").read_text().split(checkout.new)[1]


def test_a_stale_build_is_not_released(copy: Path) -> None:
    release = build.read_releases(copy)[-1]
    if release.released:
        build.start("99.0.0", copy)
        release = build.read_releases(copy)[-1]
    with pytest.raises(SqlkitError, match="not current"):
        (copy / "sqlkit" / "dist" / "sqlkit.control").unlink()
        build.freeze(release.version, copy)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("schema.sql", "four digits"),
        ("0001_again.sql", "four digits, each once"),
    ],
)
def test_changes_need_numbers_of_their_own(copy: Path, name: str, told: str) -> None:
    if build.read_releases(copy)[-1].released:
        build.start("99.0.0", copy)
    (copy / "sql" / "changes" / name).write_text("select 1;\n")
    with pytest.raises(SqlkitError, match=f"{told}|order of their numbers"):
        build.read_releases(copy)


def test_a_grant_on_nothing_is_refused(copy: Path) -> None:
    grants = copy / "sql" / "grants.toml"
    grants.write_text(grants.read_text().replace('"run_summary"', '"run_summry"'))
    with pytest.raises(SqlkitError, match="run_summry") as caught:
        build.render_dist(copy)
    assert caught.value.code == "SK000"
    assert "run_summary" in (caught.value.detail or "")


def test_a_mistake_in_a_template_names_its_file(copy: Path) -> None:
    (copy / "sql" / "objects" / "90_bad.sql.j2").write_text("select {{ nothing_like_it }};\n")
    with pytest.raises(SqlkitError, match=r"sql/objects/90_bad.sql.j2.*nothing_like_it"):
        build.render_dist(copy)


def test_only_templates_are_rendered(copy: Path) -> None:
    odd = "select '{%s} {{1,2}} {#' as odd;"
    (copy / "sql" / "objects" / "90_odd.sql").write_text(odd + "\n")
    script = build.render_dist(copy)[copy / "sqlkit/dist" / build.migration_name(None, VERSION)]
    assert odd in script


# Synchronous twins ------------------------------------------------------------------------------

ASYNC = '''
"""Connections: AsyncThing, `load_async`."""

from contextlib import asynccontextmanager

import psycopg
from sqlkit.thing_async import AsyncThing


@asynccontextmanager
async def opened(thing: AsyncThing) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(thing.dsn) as connection:
        rows = [row async for row in await connection.execute("select 'await async'")]
        await  thing.wait(  # await the AsyncThing
            rows
        )
        yield connection
    # async only: begin
    await nobody()
    # async only: end


class AsyncPile(AsyncThing):
    async def __aenter__(self) -> "AsyncPile":
        return self
'''

SYNC = '''
"""Connections: Thing, `load`."""

from contextlib import contextmanager

import psycopg
from sqlkit.thing import Thing


@contextmanager
def opened(thing: Thing) -> Iterator[psycopg.Connection]:
    with psycopg.Connection.connect(thing.dsn) as connection:
        rows = [row for row in connection.execute("select 'await async'")]
        thing.wait(  # await the Thing
            rows
        )
        yield connection


class Pile(Thing):
    def __enter__(self) -> "Pile":
        return self
'''


def test_the_twin_is_the_same_without_waiting() -> None:
    assert build.to_sync(ASYNC) == SYNC


def test_every_twin_says_where_it_comes_from() -> None:
    for path, text in build.render_twins().items():
        origin = f"sqlkit/{path.relative_to(ROOT / 'sqlkit').with_suffix('')}_async.py"
        assert text.startswith(f"# Generated from {origin}")
        assert not re.search(r"^\s*(async|await)\b", text, re.MULTILINE)
