"""Templates: one SELECT each, into which text gets only as a literal or as a name."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqlkit.templates import TemplateFailedError, Templates, identifier, literal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def rendered(folder: Path, text: str, **variables: Any) -> str:
    (folder / "a.sql.j2").write_text(text)
    return Templates(folder).render("a.sql.j2", target='"s"."t"', variables=variables)


VALUES: list[Any] = [
    None,
    True,
    0,
    -7,
    1.5,
    Decimal("12345678901234567890.123"),
    "",
    "it's",
    "a\\'b",
    "\\",
    "$$;--",
    "עברית",
    date(2026, 1, 31),
    datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
]


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_literals_are_read_back_as_they_were(
    folder: Path, connection: psycopg.Connection, conforming: str
) -> None:
    connection.execute(f"set standard_conforming_strings = {conforming}")
    for value in VALUES:
        text = rendered(folder, "select {{ value | literal }}", value=value)
        row = connection.execute(text.encode()).fetchone()
        assert row == (value,), text


def test_names_are_quoted(folder: Path, connection: psycopg.Connection) -> None:
    for name in ('a"b', "select", "with space", "עברית", "a'b;--"):
        cursor = connection.execute(
            rendered(folder, "select 1 as {{ n | identifier }}", n=name).encode()
        )
        assert cursor.description is not None
        assert cursor.description[0].name == name
    assert rendered(folder, "{{ n | identifier }}", n=["a", "b"]) == '"a", "b"\n'
    assert rendered(folder, "in ({{ n | literal }})", n=["a", 1]) == "in ('a', 1)\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select {{ x }}", 'line 1: text cannot be put into SQL as it is: "x\'"'),
        ("\n{{ 'a' ~ x }}", 'line 2: text cannot be put into SQL as it is: "ax\'"'),
        ("{{ unknown }}", "line 1: 'unknown' is undefined"),
        ("{{ unknown.more | literal }}", "line 1: 'unknown' is undefined"),
        ("\n\n{{ x", "line 3: unexpected end of template"),
        ("{{ x.__class__.__mro__ | literal }}", "line 1: access to attribute '__class__'"),
        ("{{ [] | literal }}", "line 1: an empty list cannot be written"),
        ("{{ {} | literal }}", "line 1: dict cannot be written"),
        ("{{ '' | identifier }}", "line 1: '' is no name"),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
        ("{% include 'no.sql.j2' %}", "there is no template no.sql.j2"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(TemplateFailedError) as told:
        rendered(folder, text, x="x'")
    assert told.value.code == "SK503"
    assert message in told.value.message


def test_what_a_template_knows(folder: Path) -> None:
    text = rendered(
        folder,
        "{% macro cell(name) %}r.{{ name | identifier }}{% endmacro %}"
        "insert {{ target }} {{ stage }} {{ run.id }} {{ batch.rows }} {{ watermark }} "
        "{{ cell('a') }}"
        "{% if full_refresh %} all{% endif %}"
        "{% for n in names %}{{ n }}{{ ', ' if not loop.last }}{% endfor %};\n",
        names=[1, 2],
    )
    assert text == (
        'insert "s"."t" pg_temp.sqlkit_changed '
        "nullif(pg_catalog.current_setting('sqlkit.run_id', true), '')::bigint "
        "nullif(pg_catalog.current_setting('sqlkit.batch_rows', true), '')::bigint "
        "nullif(pg_catalog.current_setting('sqlkit.watermark', true), '')::timestamptz "
        'r."a"1, 2\n'
    )


def test_a_null_byte_has_no_place_in_sql() -> None:
    for write in (literal, identifier):
        with pytest.raises(Exception, match=r"null byte|no name"):
            write("a\0b")
