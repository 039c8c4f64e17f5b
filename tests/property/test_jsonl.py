"""Any JSON object on a line survives: what COPY reads is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlkit.errors import SourceError
from sqlkit.sources.base import WantedColumn
from sqlkit.sources.json_rows import BadLine, RowMaker, members
from tests.behaviour.sources.json_reading import Fields, copied, rows, source

SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Characters that mean something to JSON or COPY are frequent; any other occurs too.
SPECIAL = "\\\"'/nNtrbfvux0.1\n\r\t\b\f\x01\x0b\x1e\x1f\x7f,:{}[] null\u05d0é€😀\u2028"
TEXT = st.text(
    st.one_of(
        st.sampled_from(SPECIAL),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=12,
) | st.sampled_from(["", "null", "NULL", "\\N", "\\.", "\\", '"', '"null"', "n\\ull", "\\u0000"])
NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True
)
KEYS = st.text(
    st.one_of(st.sampled_from('abé."\\\n א'), st.characters(exclude_categories=["Cs"])), max_size=5
)
SPACE = st.sampled_from(["", "", "", " ", "\t", "\r", " \r "])


class Number(str):
    """The text of a number."""


@st.composite
def strings(draw: st.DrawFn, text: str) -> str:
    """A token for this text: every character as it is, escaped, or by its code."""
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    parts = []
    for character in text:
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        codes = json.dumps(character + "\x80")[1:-7]
        if len(codes) < 6:
            codes = f"\\u{ord(character):04x}"
        ways = [plain, codes, codes.upper().replace("\\U", "\\u")]
        parts.append(draw(st.sampled_from([*ways, "\\/"] if character == "/" else ways)))
    return f'"{"".join(parts)}"'


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS.map(Number) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def tokens(draw: st.DrawFn, value: Any) -> str:
    """Some way to write this value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return draw(strings(value))
    if isinstance(value, list):
        inner = [draw(SPACE) + draw(tokens(item)) + draw(SPACE) for item in value]
        return f"[{','.join(inner) or draw(SPACE)}]"
    return draw(objects({key: draw(tokens(item)) for key, item in value.items()}))


@st.composite
def objects(draw: st.DrawFn, members: dict[str, str]) -> str:
    inner = [
        f"{draw(SPACE)}{draw(strings(key))}{draw(SPACE)}:{draw(SPACE)}{token}{draw(SPACE)}"
        for key, token in members.items()
    ]
    return f"{{{','.join(inner) or draw(SPACE)}}}"


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str], set[str], list[Fields]]:
    """Text, keys, those that go to json columns, and what COPY should read."""
    keys = draw(st.lists(KEYS, min_size=1, max_size=4, unique=True))
    json_keys = set(draw(st.lists(st.sampled_from(keys), max_size=2)))
    # A column usually holds values of one kind, which goes another way than a mixture.
    kinds = [st.none() | TEXT, TEXT, NUMBERS.map(Number), VALUES, VALUES]
    columns = {key: draw(st.sampled_from(kinds)) for key in keys}
    lines: list[str] = []
    expected: list[Fields] = []
    first = dict.fromkeys(keys, "null")  # so that all keys are known, in this order
    for number in range(draw(st.integers(0, 6))):
        present = draw(st.permutations(keys))[: draw(st.integers(0, len(keys)))]
        values = {key: draw(columns[key]) for key in present}
        written = {key: draw(tokens(value)) for key, value in values.items()}
        lines.extend([draw(SPACE)] * draw(st.sampled_from([0, 0, 0, 1])) if number else [])
        lines.append(draw(SPACE) + draw(objects(written)) + draw(SPACE))
        expected.append(
            {key: _expected(values.get(key), written.get(key), key in json_keys) for key in keys}
        )
    lines.insert(0, draw(objects(first)))
    expected.insert(0, dict.fromkeys(keys))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(lines) + draw(st.sampled_from(["", end])), keys, json_keys, expected


def _expected(value: Any, token: str | None, is_json: bool) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) and not is_json else token


@SETTINGS
@given(files(), st.sampled_from([1, 30, 1 << 20]))
def test_values_survive(
    tmp_path: Path, file: tuple[str, list[str], set[str], list[Fields]], piece_bytes: int
) -> None:
    text, keys, json_keys, expected = file
    path = tmp_path / "f.jsonl"
    path.write_bytes(text.encode())
    found = rows(path, piece_bytes, json_columns=json_keys)
    assert list(found[0]) == keys
    # A string goes to a json column as its token.
    assert found == expected


@SETTINGS
@given(files())
def test_both_ways_give_the_same_rows(
    file: tuple[str, list[str], set[str], list[Fields]],
) -> None:
    text, keys, json_keys, _ = file
    maker = RowMaker([WantedColumn(key, key in json_keys) for key in keys], frozenset())
    data = text.encode()
    assert maker.rows(data) == maker._careful_rows(data.split(b"\n"))


@SETTINGS
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.text(st.sampled_from('{}[]":,\\u0dn1 tfae\x00\x1f'), max_size=20).map(str.encode),
            st.binary(max_size=6).map(lambda b: b'{"a":"' + b + b'"}'),
            st.text(st.sampled_from(r'\uUdDcC08"'), max_size=14).map(
                lambda t: f'{{"a":"{t}"}}'.encode()
            ),
        ),
        max_size=4,
    )
)
def test_whatever_stands_in_a_file_is_read_or_refused_with_a_reason(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"a":1}\n' + b"\n".join(lines))
    try:
        found = rows(path, ignored=None)
    except SourceError as error:
        assert error.code in ("SK107", "SK114", "SK115", "SK117")
        assert error.line is not None
        assert error.line >= 2
        bad = b"\n".join(lines).split(b"\n")[error.line - 2]
        assert not _acceptable(bad)
    else:
        full = [line for line in b"\n".join(lines).split(b"\n") if line.strip(b" \t\r")]
        assert len(found) == len(full) + 1
        assert all(map(_acceptable, full))


def _acceptable(line: bytes) -> bool:
    """Whether Python's own json reads an object that PostgreSQL can store."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:  # also of UTF-8, in or out
        return False
    texts = [value["a"]] if isinstance(value, dict) and isinstance(value.get("a"), str) else []
    return isinstance(value, dict) and not any("\0" in text for text in texts)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


@SETTINGS
@given(st.dictionaries(KEYS, TEXT | NUMBERS.map(Number), min_size=1, max_size=4), st.data())
def test_samples_are_what_copy_reads(
    tmp_path: Path, record: dict[str, Any], data: st.DataObject
) -> None:
    line = data.draw(objects({key: data.draw(tokens(value)) for key, value in record.items()}))
    path = tmp_path / "f.jsonl"
    path.write_bytes(line.encode())
    reader = source(path).open()
    try:
        assert reader.sample(5) == [tuple(str(value) for value in record.values())]
    finally:
        reader.close()
    assert rows(path) == [{key: str(value) for key, value in record.items()}]


def test_a_line_is_an_object_or_refused() -> None:
    assert list(members(b'{"b":1,"a":2}', 0)) == ["b", "a"]
    for line in (b"[]", b"{", b"1", b""):
        try:
            members(line, 3)
        except BadLine as error:
            assert error.index == 3
        else:
            raise AssertionError(line)


def test_copied_reads_what_the_documentation_of_copy_says() -> None:
    assert copied(b"a\\tb\x1fnull\x1fn\\ull\x1f\\x41\\101\\\\N\n\n") == [
        ["a\tb", None, "null", "AA\\N"],
        [""],
    ]
