"""Tables that are fetched in parts: only those that have anything to do, each exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqlkit.comparing import verify_project
from sqlkit.config import Project, read_project
from sqlkit.partitions import PartitionedResult
from sqlkit.pipeline import TableReport, run_project
from sqlkit.plan import TablePlan, plan_project
from tests.behaviour.sources.conftest import Run
from tests.conftest import RunSqlkit, in_public
from tests.crash.conftest import value, wait_until

FILE = """\
connections:
  main: {dsn: '${SQLKIT_DSN}'}
  there: {url: '${THERE}'}
tables:
  item:
    from: there
    partitions:
      query: select tenant, max(version) as version from item group by tenant order by tenant
      mark: version
    query: select id, tenant, amount from item where tenant = {{ tenant | literal }}
"""

Write = Callable[[str], Project]


@pytest.fixture
def write(
    there: tuple[str, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    connection: psycopg.Connection,
) -> Write:
    """Makes a project of a text. What is there, and what is loaded, has a table item."""
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    monkeypatch.setenv("THERE", there[0])
    monkeypatch.chdir(tmp_path)
    columns = "id integer primary key, tenant varchar(20), amount integer"
    there[1](f"create table item ({columns}, version integer)")
    connection.execute(f"create table item ({columns} check (amount < 100))".encode())

    def make(text: str) -> Project:
        (tmp_path / "sqlkit.yml").write_text(text)
        return read_project(Path("sqlkit.yml"))

    return make


def run(project: Project, **more: Any) -> TableReport:
    (report,) = asyncio.run(run_project(project, **more)).tables
    return report


def loaded(report: TableReport) -> dict[str, int]:
    """The parts that were fetched, and how many of their rows were written."""
    assert isinstance(report.result, PartitionedResult), report.error
    return {
        part.name: part.rows.inserted + part.rows.updated
        for part in report.result.partitions
        if part.state == "loaded"
    }


def plan(project: Project) -> TablePlan:
    (found,) = asyncio.run(plan_project(project))
    return found


def test_only_parts_that_changed_are_fetched_and_a_failure_keeps_no_other(
    there: tuple[str, Run], write: Write, connection: psycopg.Connection
) -> None:
    change, is_mysql = there[1], there[0].startswith("mysql")
    odd = "o''x\\\\y" if is_mysql else "o''x\\y"
    project = write(FILE)
    change("insert into item values (1, 'a', 1, 1), (2, 'a', 2, 2), (3, 'b', 3, 1)")
    change(f"insert into item values (4, '{odd}', 4, 1)")
    planned = plan(project)
    assert planned.notes == ("3 of 3 partitions have something to do",)
    assert planned.strategy is not None
    assert "streams" not in planned.strategy.way  # each part is a load by one
    assert not planned.problems
    assert planned.sql == "select id, tenant, amount from item where tenant = 'a'"
    assert planned.estimate is not None
    assert (planned.estimate.read, planned.estimate.inserted) == (2, 2)
    assert loaded(run(project)) == {"tenant=a": 2, "tenant=b": 1, "tenant=o'x\\y": 1}
    runs = "select count(*) from sqlkit.run where kind = 'load'"
    assert connection.execute(runs.encode()).fetchone() == (3,)
    assert plan(project).notes == ("0 of 3 partitions have something to do",)
    report = run(project)
    assert isinstance(report.result, PartitionedResult)
    assert (report.result.unchanged, loaded(report)) == (3, {})

    change("update item set amount = 500, version = 5 where tenant = 'b'")
    change("update item set amount = 7, version = 6 where id in (1, 4)")
    report = run(project)
    assert (report.state, report.exit_code) == ("failed", 4)
    assert report.error is not None
    assert report.error.message == "1 of 3 partitions could not be loaded"
    assert "tenant=b: " in str(report.error.detail)
    assert "item_amount_check" in str(report.error.detail)
    assert loaded(report) == {"tenant=a": 1, "tenant=o'x\\y": 1}
    # Nobody else has to be asked for again; and what fails for once is tried once more.
    change("update item set amount = 50 where tenant = 'b'")
    connection.execute(
        """
        create sequence tried;
        create function fail_once() returns trigger language plpgsql
        set search_path = pg_catalog as $$ begin
            if nextval('public.tried') = 1 then
                raise exception 'not now' using errcode = '55000';
            end if;
            return new;
        end $$;
        create trigger fail_once before update on item for each row execute function fail_once();
        """
    )
    report = run(project)
    assert loaded(report) == {"tenant=b": 1}
    assert isinstance(report.result, PartitionedResult)
    assert [part.attempts for part in report.result.partitions] == [2]
    assert loaded(run(project)) == {}
    found = connection.execute("select id, amount from item order by id").fetchall()
    assert found == [(1, 7), (2, 2), (3, 50), (4, 7)]
    assert len(loaded(run(project, again=True))) == 3
    (verified,) = asyncio.run(verify_project(project))
    assert (verified.state, verified.rows_source) == ("same", 4), verified.error


@pytest.mark.parametrize("there", ["postgresql"], indirect=True)
def test_a_part_is_fetched_while_another_is_merged(
    there: tuple[str, Run], write: Write, connection: psycopg.Connection
) -> None:
    project = write(FILE)
    there[1]("insert into item values (1, 'a', 1, 1), (2, 'b', 2, 1), (3, 'b', 3, 1)")
    connection.execute(
        """
        create function hold() returns trigger language plpgsql set search_path = pg_catalog as $$
        begin
            perform pg_advisory_xact_lock_shared(7);
            return new;
        end $$;
        create trigger hold before insert on item for each row execute function hold();
        """
    )
    is_merging = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
    stages = "select name from sqlkit.stage where target = 'public.item'"

    def fetched() -> list[int]:
        """How many rows the stages hold."""
        found = [name for (name,) in connection.execute(stages.encode())]
        return sorted(value(connection, f"select count(*) from sqlkit_stage.{n}") for n in found)

    with ThreadPoolExecutor() as pool:
        connection.execute("select pg_advisory_lock(7)")
        running = pool.submit(run, project)
        try:
            wait_until(lambda: bool(value(connection, is_merging)))
            # One merge goes on until the lock is given up; the rows of the other part are there.
            wait_until(lambda: fetched() == [1, 2])
            assert value(connection, is_merging)
        finally:
            connection.execute("select pg_advisory_unlock(7)")
        assert loaded(running.result()) == {"tenant=a": 1, "tenant=b": 2}


@pytest.mark.parametrize("there", ["postgresql"], indirect=True)
def test_parts_that_fail_are_tried_again_when_all_others_are_done_one_by_one(
    there: tuple[str, Run], write: Write, connection: psycopg.Connection
) -> None:
    project = write(FILE + "    workers: 4\n")
    there[1]("insert into item values (1, 'a', 1, 1), (2, 'b', 2, 1), (3, 'c', 3, 1)")
    there[1]("insert into item values (4, 'd', 4, 1)")
    connection.execute(
        """
        create sequence tried_b;
        create sequence tried_c;
        create function fail_once() returns trigger language plpgsql
        set search_path = pg_catalog as $$ begin
            if nextval(concat('public.tried_', new.tenant)::regclass) = 1 then
                raise exception 'not now' using errcode = '55000';
            end if;
            return new;
        end $$;
        create trigger fail_once before insert on item for each row
        when (new.tenant operator(pg_catalog.=) any (array['b', 'c'])) execute function fail_once();
        """
    )
    report = run(project)
    assert loaded(report) == dict.fromkeys(("tenant=a", "tenant=b", "tenant=c", "tenant=d"), 1)
    assert isinstance(report.result, PartitionedResult)
    attempts = {part.name: part.attempts for part in report.result.partitions}
    assert attempts == {"tenant=a": 1, "tenant=b": 2, "tenant=c": 2, "tenant=d": 1}
    runs = connection.execute(
        "select run_id, started_at, finished_at from sqlkit.run where kind = 'load'"
    ).fetchall()
    again = [part.run_id for part in report.result.partitions if part.attempts == 2]
    ended = max(finished for run_id, _, finished in runs if run_id not in again)
    first, second = sorted((begun, end) for run_id, begun, end in runs if run_id in again)
    assert ended <= first[0] < first[1] <= second[0]


def test_append_takes_what_is_between_two_marks(
    there: tuple[str, Run], write: Write, connection: psycopg.Connection
) -> None:
    change = there[1]
    connection.execute("alter table item drop constraint item_pkey")
    text = FILE.replace("    query: select id", "    policy: append\n    query: select id")
    project = write(text)
    change("insert into item values (1, 'a', 1, 1), (2, 'b', 2, 1)")
    assert loaded(run(project)) == {"tenant=a": 1, "tenant=b": 1}
    change("insert into item values (3, 'b', 3, 2)")
    report = run(project)
    assert loaded(report) == {}
    assert "would take all of its rows for new ones" in str(report.error and report.error.detail)
    project = write(
        text.rstrip()
        + " and version <= {{ version }}{% if since is not none %} and version > {{ since }}"
        "{% endif %}\n"
    )
    # Another query: its parts are others, too.
    connection.execute("truncate item")
    assert loaded(run(project)) == {"tenant=a": 1, "tenant=b": 2}
    change("insert into item values (4, 'b', 4, 10)")
    change("insert into item values (5, 'c', 5, 3)")
    assert loaded(run(project)) == {"tenant=b": 1, "tenant=c": 1}
    assert loaded(run(project)) == {}
    assert connection.execute("select count(*), count(distinct id) from item").fetchone() == (5, 5)


@pytest.mark.parametrize("there", ["sqlite"], indirect=True)
def test_what_cannot_be_is_told(
    there: tuple[str, Run], write: Write, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    change = there[1]
    change("insert into item values (1, null, 1, 1), (2, 'b', 2, null), (3, 'c', 3, 3)")
    project = write(FILE)
    report = run(project)
    assert loaded(report) == {"tenant=b": 1, "tenant=c": 1}
    assert "tenant is null: query: a value is null" in str(report.error and report.error.detail)
    # Without a mark nobody knows whether it changed.
    assert loaded(run(project)) == {"tenant=b": 0}
    change("insert into item values (4, 'c', 4, 4)")
    for old, new, problem in (
        ("mark: version", "mark: verison", "has no column verison for a mark. It has tenant"),
        ("group by tenant", "group by id", "gives tenant=c twice"),
        ("{{ tenant | literal }}", "{{ tenat | literal }}", "'tenat' is undefined"),
        ("{{ tenant | literal }}", "{{ tenant }}", "text cannot be put into SQL as it is"),
        ("from item group", "from itme group", "no such table: itme"),
    ):
        report = run(write(FILE.replace(old, new)))
        assert report.error is not None
        told = f"{report.error.message}. {report.error.hint}. {report.error.detail}"
        assert report.state == "failed"
        assert problem in told, told
    change("delete from item")
    assert run(write(FILE)).state == "done"
    planned = sqlkit("plan")
    assert planned.returncode == 0, planned.stderr
    assert "no partition has anything to do" in planned.stdout


@pytest.mark.parametrize("there", ["sqlite"], indirect=True)
@pytest.mark.parametrize("driver", ["dbapi+sqlite3", "adbc+sqlite"])
def test_any_driver_will_do(
    driver: str, there: tuple[str, Run], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERE", driver + there[0].removeprefix("sqlite"))
    there[1]("insert into item values (1, 'o''x', 1, 1), (2, 'b', 2, 1), (3, 'a\\b', 3, 1)")
    report = run(write(FILE))
    assert loaded(report) == {"tenant=o'x": 1, "tenant=b": 1}
    # What a backslash means, nobody knows of any database.
    assert report.error is not None
    assert (report.exit_code, "writes the backslash in" in str(report.error.detail)) == (2, True)


@pytest.mark.parametrize("there", ["sqlite"], indirect=True)
def test_the_first_part_makes_the_table(
    there: tuple[str, Run], write: Write, connection: psycopg.Connection
) -> None:
    there[1]("insert into item values (1, 'a', 1, 1), (2, 'b', 2, 1), (3, 'c', 3, 1)")
    connection.execute("drop table item")
    text = FILE.replace(
        "    query: select id", "    create: true\n    key: id\n    query: select id"
    )
    assert loaded(run(write(text))) == {"tenant=a": 1, "tenant=b": 1, "tenant=c": 1}
    assert connection.execute("select count(*) from item").fetchone() == (3,)
