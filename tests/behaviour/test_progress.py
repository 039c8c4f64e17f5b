"""The line that tells how far a load has come."""

from __future__ import annotations

import io
import os

import pytest

from sqlkit.cli.progress import ProgressLine, describe
from sqlkit.results import LoadProgress

LONG = "a/rather/long/directory/name/for/the/data/of/today/prices.csv.gz"


def progress(source: str = LONG, rows: int = 1_234_567) -> LoadProgress:
    return LoadProgress(
        source=source,
        rows=rows,
        bytes_read=12_000_000,
        bytes_total=24_000_000,
        seconds=3.0,
        phase="copy",
    )


@pytest.mark.parametrize("width", [10, 60, 79, 100, 200])
def test_it_fits_the_width_and_the_name_gives_way_first(width: int) -> None:
    line = describe(progress(), width)
    assert len(line) <= width
    if width >= 79:
        assert "1,234,567 rows" in line
        assert "3 s left" in line
        assert line.startswith(LONG if width == 200 else "…")
        assert line.split("  ")[0].endswith(".gz")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda **_: os.terminal_size((80, 24)))
    monkeypatch.setattr("sqlkit.cli.progress.TERMINAL_EVERY", 0.0)
    stream = Terminal()
    with ProgressLine(stream) as line:
        line.show(progress())
        line.show(progress(rows=7))
    shown = stream.getvalue().split("\r")
    assert all(len(text) < 80 for text in shown)
    assert shown[-2].strip() == ""
    assert shown[-1] == ""


def test_elsewhere_each_is_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlkit.cli.progress.PLAIN_EVERY", 0.0)
    stream = io.StringIO()
    with ProgressLine(stream) as line:
        line.show(progress())
    assert stream.getvalue() == describe(progress()) + "\n"
    assert LONG in stream.getvalue()
