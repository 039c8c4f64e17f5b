"""Parts of a table are there once, each with its mark, wherever a run is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.behaviour.sources.conftest import Run, there  # noqa: F401 - a fixture
from tests.conftest import environment, in_public
from tests.crash.conftest import LIMIT, value, wait_until

PARTS, EACH = 6, 400
FILE = """\
connections:
  main: {dsn: '${SQLKIT_DSN}'}
  there: {url: '${THERE}'}
tables:
  target:
    from: there
    policy: append
    partitions:
      query: select part, max(id) as mark from item group by part order by part
      mark: mark
    query: >-
      select id, part from item where part = {{ part }} and id <= {{ mark }}
      {% if since is not none %}and id > {{ since }}{% endif %}
"""
BESIDE = """
    select exists (select from pg_stat_activity
        where datname = current_database() and application_name = 'sqlkit')
"""


@pytest.mark.parametrize("there", ["postgresql", "mysql"], indirect=True)
def test_a_run_that_is_killed_goes_on_with_the_parts_that_are_missing(
    there: tuple[str, Run],  # noqa: F811
    tmp_path: Path,
    dsn: str,
    connection: psycopg.Connection,
) -> None:
    address, run = there
    run("create table item (id integer primary key, part integer)")
    connection.execute("create table target (id integer, part integer)")
    connection.execute(
        "create function hold() returns trigger language plpgsql as $$ begin"
        " perform pg_advisory_xact_lock_shared(7); return new; end $$"
    )
    (tmp_path / "sqlkit.yml").write_text(FILE)
    given = environment() | {"SQLKIT_DSN": in_public(dsn), "THERE": address}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sqlkit.cli.app", "run"],
            cwd=tmp_path,
            env=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    for turn in range(2):
        first = turn * PARTS * EACH
        rows = ", ".join(f"({first + n}, {n % PARTS})" for n in range(PARTS * EACH))
        run(f"insert into item values {rows}")
        connection.execute(
            "create trigger hold before insert on target for each row"
            f" when (new.id = {first + 2 * EACH + 3}) execute function hold()".encode()
        )
        connection.execute("select pg_advisory_lock(7)")
        running = start()
        wait_until(
            lambda: value(
                connection,
                "select exists (select from pg_locks where locktype = 'advisory'"
                " and objid = 7 and not granted)",
            )
        )
        running.kill()
        running.communicate()
        connection.execute("select pg_advisory_unlock(7)")
        wait_until(lambda: not value(connection, BESIDE))
        connection.execute("drop trigger hold on target")
        # As many parts are there as have a mark, and each of them wholly.
        found = connection.execute(
            "select part, count(*), max(id) from target where id >= %s group by part", [first]
        ).fetchall()
        assert 0 < len(found) < PARTS
        assert {count for _, count, _ in found} == {EACH}
        marks = connection.execute(
            "select value::integer from sqlkit.watermark where value::integer >= %s", [first]
        ).fetchall()
        assert sorted(mark for (mark,) in marks) == sorted(mark for _, _, mark in found)
        again = start()
        output, _ = again.communicate(timeout=LIMIT)
        assert again.returncode == 0, output
        counted = "select count(*), count(distinct id) from target"
        number = (turn + 1) * PARTS * EACH
        assert connection.execute(counted.encode()).fetchone() == (number, number)
