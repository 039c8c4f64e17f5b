"""What goes on and what went on, shown: on a terminal, for Prometheus, on a page."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
import zlib
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pytest

import sqlkit as package
from sqlkit.cli.metrics import as_text, make_server
from sqlkit.cli.watch import page
from sqlkit.report import COLORS, Bar, bars, nice_step, read_report, render
from tests.conftest import Database, RunSqlkit, environment, missing
from tests.maintain.test_optimize import OPTIONS, fill, one

SAMPLE = re.compile(r'^[a-z_]+\{([a-z]+="([^"\\\n]|\\[\\"n])*",?)*\} [-+.e0-9]+$')


@pytest.fixture
def loaded(connection: psycopg.Connection, dsn: str, tmp_path: Path) -> str:
    """The connection string of a database with three loads into a table with an odd name."""
    connection.execute('create table "a <b> [c] ""d""" (id int primary key, v int)')
    connection.execute('create index on "a <b> [c] ""d""" (v)')
    file = tmp_path / "rows.csv"
    with package.connect(dsn) as client:
        for first in (0, 1000, 2000):
            file.write_text("id,v\n" + "".join(f"{n},{n}\n" for n in range(first, first + 500)))
            client.load(file, into='public."a <b> [c] ""d"""')
        client.set_baseline(1)
    # Sessions tell what they did when they end, which is after their client.
    told = b"select n_tup_ins from pg_stat_user_tables where relname like 'a <b>%'"
    until = time.monotonic() + 10
    while connection.execute(told).fetchone() != (1500,):
        assert time.monotonic() < until
        time.sleep(0.02)
    connection.execute('analyze "a <b> [c] ""d"""')
    return dsn


def test_metrics_are_prometheus_text(loaded: str, sqlkit: RunSqlkit) -> None:
    done = sqlkit("metrics", "--dsn", loaded)
    assert done.returncode == 0, done.stderr
    samples = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert samples
    assert [line for line in samples if not SAMPLE.match(line)] == []
    target = r'target="public.\"a <b> [c] \"\"d\"\"\""'
    assert f'sqlkit_rows_total{{target={target[7:]},outcome="inserted"}} 1500.0' in [
        line.replace('{outcome="inserted",' + target + "}", f'{{{target},outcome="inserted"}}')
        for line in samples
    ]
    names = re.findall(r"^# TYPE (\w+) (?:counter|gauge)$", done.stdout, re.MULTILINE)
    assert len(names) == len(set(names)) == len(re.findall("# HELP", done.stdout))
    assert as_text([]) == "\n"


def test_metrics_are_served_on_loopback_only(loaded: str, sqlkit: RunSqlkit) -> None:
    with make_server(0, loaded) as server:
        assert server.server_address[0] == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert b"# TYPE sqlkit_runs_total counter" in answer.read()
            taken = sqlkit("metrics", "--serve", address.rpartition(":")[2], "--dsn", loaded)
            assert (taken.returncode, "cannot be had" in taken.stderr) == (2, True)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{address}/other", timeout=30)
        finally:
            server.shutdown()
            thread.join()


def test_watch_shows_what_goes_on(
    loaded: str, sqlkit: RunSqlkit, database: Database, connection: psycopg.Connection
) -> None:
    connection.execute('delete from "a <b> [c] ""d""" where id < 100')
    connection.execute("select pg_stat_force_next_flush()")
    done = sqlkit("watch", "--dsn", loaded, env={"COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    assert "nothing runs" in done.stdout
    assert re.search(r"\b1 .* 500 .* 1\.00 x", done.stdout), "the baseline among the latest runs"
    assert re.search(r"1,400 +100 +7%", done.stdout), "dead rows"
    assert "█" in done.stdout
    assert 'a <b> [c] ""d""' in done.stdout
    narrow = sqlkit("watch", "--dsn", loaded, env={"COLUMNS": "80"}).stdout
    minutes = narrow.partition("rows per minute")[2].partition("latest runs")[0]
    assert 'a <b> [c] ""d""' in minutes, "bars leave room for the target"
    connection.execute("select sqlkit.start_run('load', '\"a <b> [c] \"\"d\"\"\"', 'update')")
    with database.connect() as holder, database.connect() as waiter, holder.transaction():
        pid = holder.info.backend_pid
        holder.execute('lock table "a <b> [c] ""d"""')
        thread = threading.Thread(target=_try_to_read, args=(waiter,))
        thread.start()
        with package.connect(loaded) as client:
            for _ in range(500):
                if client.monitor("waiting_lock"):
                    break
                time.sleep(0.02)
            # What is locked away is not waited for.
            shown = _as_text(page(client, 160))
        waiter.cancel()
        thread.join(30)
    assert "waiting for locks" in shown
    assert str(pid) in shown
    assert "running" in shown
    assert "largest tables" in shown


def test_what_the_server_does_for_a_run(connection: psycopg.Connection, database: Database) -> None:
    """As PostgreSQL tells of COPY, CREATE INDEX and VACUUM while they go on."""
    connection.execute("create table price (id int)")
    connection.execute("insert into price select generate_series(1, 20000)")

    def until(doing: str) -> tuple[int, float | None]:
        """Wait until the run does that; rows that it has in COPY, how far it is."""
        deadline = time.monotonic() + 20
        while True:
            row = connection.execute(
                "select doing, rows_copied, share_done from sqlkit.run_progress"
            ).fetchone()
            assert row is not None
            if row[0] == doing and (row[1] or row[2] is not None):
                return row[1], row[2]
            assert time.monotonic() < deadline, row
            time.sleep(0.02)

    with database.connect() as worker, database.connect() as other:
        worker.execute("select sqlkit.attach_run(sqlkit.start_run('load', 'price', 'update'))")
        with worker.cursor().copy("copy price from stdin") as copy:
            copy.write("7\n" * 100_000)
            copied, _ = until("copy, 1 streams")
        assert 0 < copied <= 100_000
        with other.transaction():
            other.execute("insert into price values (1)")
            statement = "create index concurrently on price (id)"
            thread = threading.Thread(target=worker.execute, args=(statement,))
            thread.start()
            # It counts those whom it waits for, not yet blocks.
            deadline = time.monotonic() + 20
            while (
                one(connection, "select doing from sqlkit.run_progress")
                != "CREATE INDEX CONCURRENTLY: waiting for writers before build"
            ):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        thread.join(30)
        worker.execute("set vacuum_cost_delay = 100")
        worker.execute("set vacuum_cost_limit = 1")
        thread = threading.Thread(target=_vacuum_until_cancelled, args=(worker,))
        thread.start()
        _, share = until("scanning heap")
        worker.cancel()
        thread.join(30)
        assert share is not None
        assert 0 <= share < 1


def _vacuum_until_cancelled(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("vacuum (disable_page_skipping) price")


def test_watch_lives_on_a_terminal(loaded: str, connection: psycopg.Connection) -> None:
    connection.execute("create table today (id int)")
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (60, 160))
    with subprocess.Popen(
        [sys.executable, "-m", "sqlkit.cli.app", "watch", "--every", "0.2", "--dsn", loaded],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment() | {"TERM": "xterm"},
        start_new_session=True,
    ) as process:
        os.close(follower)
        shown = ""

        def wait_for(text: str) -> None:
            nonlocal shown
            deadline = time.monotonic() + 60
            while text not in shown:
                assert select.select([leader], [], [], deadline - time.monotonic())[0], shown
                shown += os.read(leader, 1 << 16).decode(errors="replace")
            shown = shown.rpartition(text)[2]

        try:
            wait_for("nothing runs")
            run_id = one(connection, "select sqlkit.start_run('load', 'today', 'update')")
            wait_for("today")
            connection.execute("select sqlkit.finish_run(%s)", [run_id])
            wait_for("nothing runs")
            process.send_signal(signal.SIGINT)
            # The screen that was there before comes back.
            wait_for("\x1b[?1049l")
            assert process.wait(30) == 130
        finally:
            process.kill()
            os.close(leader)


def _try_to_read(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute('table "a <b> [c] ""d"""')


def _as_text(shown: object) -> str:
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    console.print(shown)
    return console.export_text()


class Page(HTMLParser):
    """The tags of a page, of which every one has to be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_report_is_one_sound_page(
    loaded: str, sqlkit: RunSqlkit, connection: psycopg.Connection, tmp_path: Path
) -> None:
    fill(connection)
    with package.connect(loaded) as client:
        maintained = client.optimize(OPTIONS)
    done = sqlkit("report", "--html", tmp_path / "page.html", "--dsn", loaded)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.html").read_text()
    parsed = Page()
    parsed.feed(text)
    assert parsed.open == []
    tags = [tag for tag, _ in parsed.seen]
    assert tags.count("svg") >= 4
    # Nothing is fetched, and nothing runs.
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    addresses = {name for _, attrs in parsed.seen for name in attrs if name in ("src", "href")}
    assert addresses == set()
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "a &lt;b&gt; [c]" in text
    assert "<b>" not in text
    for plot in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        drawn = ElementTree.fromstring(plot)
        for rect in drawn.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(rect.attrib["y"]) >= 0
            assert float(rect.attrib["height"]) >= 0
            assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= 861
    assert "times run 1" in text
    # Each run stands where it began, the rows at their minutes.
    began = one(connection, "select to_char(min(started_at), 'MM-DD HH24:MI') from sqlkit.run")
    throughput = re.search(r"<h2>Throughput</h2>.*?</svg>", text, re.DOTALL)
    assert throughput is not None
    assert re.search(rf">{began}</text>", throughput[0])
    assert f"<title>run 1, {began}, public." in throughput[0]
    minutes = re.findall(r"<title>\d\d-\d\d \d\d:\d\d: ([0-9,]+) rows</title>", text)
    assert len(minutes) == 60
    assert sum(int(rows.replace(",", "")) for rows in minutes) == 1500
    # What maintenance did is seen in size and in bloat.
    assert {outcome.step.action for outcome in maintained} == {"vacuum", "reindex"}
    for title, what in (("Maintenance", "bytes"), ("Bloat before and after", "bloat")):
        section = re.search(rf"<h2>{title}</h2>.*?</section>", text, re.DOTALL)
        assert section is not None
        for when in ("before", "after"):
            size = one(
                connection,
                f"select round({what}_{when} / 1e6, 1)::text from sqlkit.maintenance "
                "where relation = 'public.price_amount'",
            )
            statement = "reindex index concurrently public.price_amount"
            assert f"<title>{size} MB {when} {statement}</title>" in section[0]
    smaller = "select bool_and(bloat_after < 0.2 * bloat_before) from sqlkit.maintenance"
    assert one(connection, f"{smaller} where action = 'reindex'") is True


def test_the_report_shows_in_a_browser(loaded: str, sqlkit: RunSqlkit, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        missing("Chromium is not installed: tests/install-services.sh installs it on Debian")
    sqlkit("report", "--html", tmp_path / "page.html", "--dsn", loaded)
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    subprocess.run(
        [browser, *options, "--window-size=900,420", f"--screenshot={picture}",
         f"file://{tmp_path}/page.html"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    # Three runs, of which the fastest is as high as the plot.
    drawn = tuple(bytes.fromhex(COLORS[0].removeprefix("#")))
    assert 30_000 < count_pixels(picture, drawn) < 3 * 45_000
    seen = subprocess.run(
        [browser, *options, "--dump-dom", f"file://{tmp_path}/page.html"],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert seen.stdout.count("<svg") >= 4


def count_pixels(picture: Path, color: tuple[int, ...]) -> int:
    """How many pixels of a PNG, of eight bits a channel and not interlaced, have that colour."""
    data = picture.read_bytes()
    packed = b""
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colors, *_, interlaced = struct.unpack(">IIBBBBB", content)
        elif kind == b"IDAT":
            packed += content
        at += 12 + length
    assert (depth, interlaced) == (8, 0)
    step = {2: 3, 6: 4}[colors]
    rows = zlib.decompress(packed)
    above = bytearray(width * step)
    found = 0
    for row in range(height):
        kind_of_filter, *line = rows[row * (width * step + 1) : (row + 1) * (width * step + 1)]
        for x in range(width * step):
            left, corner = (line[x - step], above[x - step]) if x >= step else (0, 0)
            if kind_of_filter == 4:  # whichever is nearest to what they let expect
                guess = left + above[x] - corner
                by = min(
                    (abs(guess - near), place, near)
                    for place, near in enumerate((left, above[x], corner))
                )[2]
            else:
                by = (0, left, above[x], (left + above[x]) // 2)[kind_of_filter]
            line[x] = (line[x] + by) & 255
        above = bytearray(line)
        found += sum(tuple(line[x : x + 3]) == color for x in range(0, width * step, step))
    return found


def test_a_report_of_nothing_is_a_page(dsn: str) -> None:
    with package.connect(dsn) as client:
        text = render(read_report(client, 10))
    assert "Nothing to show yet." in text


@pytest.mark.parametrize("top", [0.003, 0.7, 1, 4.9, 5, 99, 1234, 7.5e6])
def test_ticks_are_round_and_few(top: float) -> None:
    step = nice_step(top)
    assert 2 <= top / step <= 5.001
    assert f"{step:e}"[0] in "125"
    assert bars([Bar("x", (0,), "nothing")]) is None


def test_a_baseline_is_set_and_shown(loaded: str, sqlkit: RunSqlkit) -> None:
    done = sqlkit("runs", "--baseline", "2", "--dsn", loaded)
    assert done.returncode == 0, done.stderr
    assert "run 2 is the baseline of" in done.stdout
    shown = sqlkit("runs", "3", "--dsn", loaded)
    assert re.search(r"speed_ratio +\d", shown.stdout), shown.stdout
    assert re.search(r"memory_ratio +\d", shown.stdout), shown.stdout
    assert sqlkit("runs", "--baseline", "99", "--dsn", loaded).returncode == 1


def test_a_run_tells_how_it_was_against_the_baseline(
    connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    connection.execute("create table price (id integer primary key)")
    (tmp_path / "price.csv").write_text("id\n1\n2\n")
    commands = (
        ("load", "price.csv", "--again", "--into", "public.price"),
        ("refresh", "public.price", "--from", "price.csv"),
    )
    for command in commands:
        first = sqlkit(*command, "--dsn", dsn)
        assert first.returncode == 0, first.stderr
        assert "baseline" not in first.stdout
        # A refresh from files has a run of its own for what fills its stage.
        newest = one(connection, f"select max(run_id) from sqlkit.run where kind = '{command[0]}'")
        assert sqlkit("runs", "--baseline", str(newest), "--dsn", dsn).returncode == 0
        then = sqlkit(*command, "--dsn", dsn).stdout
        against = (
            rf"against run {newest}, the baseline: (\S+) times its speed, \S+ times its memory"
        )
        told = re.search(against, then)
        assert told, then
        ratio = one(
            connection,
            "select speed_ratio from sqlkit.run_speed where speed_ratio is not null "
            "order by run_id desc",
        )
        assert float(told[1]) == pytest.approx(float(str(ratio)), abs=0.006)
        speed = json.loads(sqlkit(*command, "--json", "--dsn", dsn).stdout)["speed"]
        assert speed["baseline_run_id"] == newest
