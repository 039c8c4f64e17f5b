"""sqlkit run: tables of a project, each after those it needs, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest
from psycopg import sql

from sqlkit import pipeline
from sqlkit.config import read_project
from sqlkit.errors import UsageError
from sqlkit.pipeline import TableReport, choose, find_needs, schedule
from sqlkit.plan import Drift, TablePlan, plan_project
from sqlkit.results import RowCounts
from sqlkit.ways_async import LOCK_TIMEOUT
from tests.conftest import Database, RunSqlkit, in_public
from tests.real_data import real_data
from tests.servers import Server


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> Path:
    """The folder of a project; the server is the test's."""
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, **files: str) -> None:
    (folder / "sqlkit.yml").write_text(text)
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content)


def run(sqlkit: RunSqlkit, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = sqlkit("run", *arguments, "--json")
    report = json.loads(done.stdout)
    assert report["exit_code"] == done.returncode
    return done.returncode, {table["table"]: table for table in report["tables"]}


# The order -----------------------------------------------------------------------------------


def worked(
    needs: dict[str, set[str]], cost: dict[str, int], budget: int, bad: str = ""
) -> tuple[list[str], int, dict[str, str]]:
    """Schedule work that ends in the order in which it began: order, most at once, states."""
    order: list[str] = []
    used = most = 0

    async def work(name: str) -> TableReport:
        nonlocal used, most
        order.append(name)
        used += cost[name]
        most = max(most, used)
        for _ in range(3):
            await asyncio.sleep(0)
        used -= cost[name]
        return TableReport(name, name, "failed" if name == bad else "done")

    def skip(name: str, failed: str) -> TableReport:
        return TableReport(name, name, "skipped", waited_for=failed)

    frozen = {name: frozenset(others) for name, others in needs.items()}
    reports = asyncio.run(schedule(frozen, cost, budget, work, skip, lambda report: None))
    return order, most, {report.name: report.state for report in reports}


def test_a_table_begins_when_those_it_needs_are_done() -> None:
    needs = {"c": {"a", "b"}, "b": {"a"}, "a": set(), "free": set()}
    order, most, states = worked(needs, dict.fromkeys(needs, 1), budget=9)
    assert order == ["a", "free", "b", "c"]
    assert most == 2
    assert set(states.values()) == {"done"}


def test_the_budget_is_kept_and_what_is_larger_runs_alone() -> None:
    needs: dict[str, set[str]] = {name: set() for name in "abcde"}
    cost = {"a": 3, "b": 3, "c": 9, "d": 3, "e": 3}
    order, most, states = worked(needs, cost, budget=6)
    assert sorted(order) == sorted(states) == list("abcde")
    assert most == 9
    assert worked({name: set() for name in "abde"}, cost, budget=6)[1] == 6


def test_a_failure_skips_those_that_need_it_and_no_others() -> None:
    needs = {"a": set[str](), "b": {"a"}, "c": {"a", "b"}, "free": set()}
    _, _, states = worked(needs, dict.fromkeys(needs, 1), budget=9, bad="a")
    assert states == {"a": "failed", "b": "skipped", "c": "skipped", "free": "done"}


def test_needs_come_from_the_file_foreign_keys_and_common_targets(
    project: Path, connection: psycopg.Connection
) -> None:
    connection.execute(
        """
        create table store (id int primary key);
        create table "Price" (id int primary key, store int references store);
        alter table store add best int references "Price";
        create table sale (price int references "Price");
        """
    )
    write(
        project,
        """\
tables:
  sale: {source: a.csv}
  price: {source: a.csv, target: '"Price"'}
  store: {source: a.csv, depends_on: more}
  more: {source: a.csv, target: public.store, depends_on: [other]}
  other: {source: a.csv}
""",
    )
    found = read_project(project / "sqlkit.yml")

    def needs(*chosen: str) -> dict[str, set[str]]:
        said = asyncio.run(find_needs(found, choose(found, chosen)))
        return {name: set(others) for name, others in said.items()}

    assert needs()["other"] == set()
    assert needs()["store"] >= {"more", "other"}
    assert needs()["sale"] >= {"price"}
    # A circle of foreign keys cannot be kept; one of them counts.
    assert ("store" in needs()["price"]) != ("price" in needs()["store"])
    # By way of a table that is not chosen.
    assert needs("other", "store") == {"other": set(), "store": {"other"}}
    with pytest.raises(UsageError, match="no table nothing"):
        choose(found, ["nothing"])


# Runs ----------------------------------------------------------------------------------------


TWO = """\
tables:
  price:
    source: price.csv
    depends_on: store
  store: {source: store.csv}
  free: {source: free.csv, reject_limit: 1}
  late: {source: free.csv, depends_on: price}
"""


@pytest.fixture
def tables(connection: psycopg.Connection) -> None:
    connection.execute(
        """
        create table store (id int primary key);
        create table price (id int primary key, store int references store);
        create table free (id int primary key);
        create table late (id int primary key);
        """
    )


@pytest.mark.usefixtures("tables")
def test_a_run_goes_on_beside_a_failure_and_after_it_is_mended(
    project: Path, sqlkit: RunSqlkit
) -> None:
    write(project, TWO, store="id\n1\n2\n", price="id,store\n1,1\n2,x\n", free="id\n1\nx\n")
    code, first = run(sqlkit, "store", "price", "free", "late")
    assert code == 4
    assert {name: table["state"] for name, table in first.items()} == {
        "store": "done",
        "free": "done",
        "price": "failed",
        "late": "skipped",
    }
    assert first["free"]["exit_code"] == 3
    assert first["free"]["result"]["rows"]["rejected"] == 1
    assert first["price"]["error"]["code"] == "SK301"
    assert first["late"]["waited_for"] == "price"

    (project / "price.csv").write_text("id,store\n1,1\n2,2\n")
    (project / "free.csv").write_text("id\n1\n2\n")
    code, second = run(sqlkit)
    assert code == 0
    assert second["store"]["result"]["sources"][0]["state"] == "skipped"
    assert second["price"]["result"]["rows"]["inserted"] == 2
    assert second["late"]["result"]["rows"]["inserted"] == 2
    assert second["free"]["result"]["rows"]["unchanged"] == 1


def test_loads_run_side_by_side_within_the_budget_of_connections(
    project: Path, connection: psycopg.Connection, database: Database
) -> None:
    names = ("a", "b", "c")
    connection.execute(
        """
        create function wait() returns trigger language plpgsql set search_path = pg_catalog as $$
        begin
            perform pg_advisory_xact_lock_shared(7);
            return null;
        end $$
        """
    )
    for name in names:
        connection.execute(f"create table {name} (id int primary key)".encode())
        connection.execute(
            f"create trigger wait after insert on {name} for each statement "
            "execute function wait()".encode()
        )
    loads = ", ".join(f"{name}: {{source: one.csv}}" for name in names)
    write(project, f"max_connections: 8\ntables: {{{loads}}}", one="id\n1\n")
    sessions = """
        select count(*), count(*) filter (where wait_event = 'advisory') from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend'
            and pid <> all(%s)
    """
    reports: list[pipeline.RunReport] = []
    most = 0
    with database.connect() as holder:
        ours = [connection.info.backend_pid, holder.info.backend_pid]

        def look() -> int:
            nonlocal most
            (number, waiting) = connection.execute(sessions.encode(), [ours]).fetchone() or (0, 0)
            most = max(most, number)
            return int(waiting)

        holder.execute("select pg_advisory_lock(7)")
        found = read_project(project / "sqlkit.yml")
        runs = threading.Thread(
            target=lambda: reports.append(asyncio.run(pipeline.run_project(found)))
        )
        runs.start()
        try:
            until = time.monotonic() + 30
            while look() < 2:
                assert time.monotonic() < until
            # Both are in the middle of their merges; a third would need more connections.
            for _ in range(50):
                assert look() == 2
            begun = connection.execute("select target from sqlkit.run order by 1").fetchall()
            assert begun == [("public.a",), ("public.b",)]
        finally:
            holder.execute("select pg_advisory_unlock(7)")
            while runs.is_alive():
                look()
            runs.join()
    assert [table.state for table in reports[0].tables] == ["done"] * 3
    assert 4 <= most <= 8


@pytest.mark.usefixtures("tables")
def test_the_summary_names_every_table(project: Path, sqlkit: RunSqlkit) -> None:
    write(project, TWO, store="id\n1\n", price="id,store\n1,7\n", free="id\n1\n")
    done = sqlkit("run")
    assert done.returncode == 4
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["table", "state", "read", "inserted"]
    states = {words[0]: words[1] for words in map(str.split, lines[1:5])}
    assert states == {"store": "done", "free": "done", "price": "failed", "late": "skipped"}
    assert lines[-1].startswith("4 tables: 2 done, 1 failed, 1 skipped; ")
    assert "late: skipped, since price was not done" in done.stderr


@pytest.mark.usefixtures("tables")
def test_a_table_can_be_refreshed(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute("insert into free values (1), (2), (3); insert into late values (8), (9)")
    write(
        project,
        """\
tables:
  free: {source: free.csv, refresh: {max_delete: 1}}
  late: {query: select 9 as id, refresh: {max_delete: 10%}}
""",
        free="id\n2\n3\n4\n",
    )
    code, tables = run(sqlkit)
    assert code == 1
    assert tables["free"]["result"]["deleted"] == 1
    assert tables["late"]["error"]["code"] == "SK304"
    assert connection.execute("select id from free order by id").fetchall() == [(2,), (3,), (4,)]


@pytest.mark.usefixtures("tables")
def test_hooks_run_before_and_after_and_their_failure_is_the_tables(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    write(
        project,
        f"""\
tables:
  free:
    source: made.csv
    before:
      - command: ['{sys.executable}', -c, 'import os; open("made.csv", "w").write("id\\n5\\n"); \
open("told", "w").write(os.environ["SQLKIT_TARGET"])']
      - sql: insert into store values (7)
    after: {{sql: vacuum free}}
  late:
    source: late.csv
    before:
      command: '{sys.executable} -c "print(\\"no luck\\"); raise SystemExit(5)"'
  price:
    source: late.csv
    leave_out: store
    after: [{{sql: select 1}}, {{sql: select 1/0}}]
""".replace("\\\n", ""),
        late="id\n1\n",
    )
    code, tables = run(sqlkit)
    assert code == 1
    assert tables["free"]["result"]["rows"]["inserted"] == 1
    assert (project / "told").read_text() == "free"
    assert connection.execute("select id from store").fetchall() == [(7,)]
    assert tables["late"]["error"]["code"] == "SK502"
    assert tables["late"]["error"]["message"].startswith("hook before: the command ")
    assert tables["late"]["error"]["detail"] == "no luck"
    assert connection.execute("select count(*) from late").fetchone() == (0,)
    assert tables["price"]["state"] == "failed"
    assert tables["price"]["error"]["message"] == "hook 2 after: division by zero"


def test_a_server_that_is_not_there_fails_its_own_tables(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute("create table item (id int primary key)")
    write(
        project,
        """\
connections:
  main: {dsn: '${SQLKIT_DSN}'}
  gone: {host: 127.0.0.1, port: 1, dbname: x, user: y}
tables:
  item: {source: item.csv}
  other: {source: item.csv, connection: gone}
  third: {source: item.csv, connection: gone}
""",
        item="id\n1\n",
    )
    planned = plan(project)
    assert planned["item"].problems == ()
    for name in ("other", "third"):
        [problem] = planned[name].problems
        assert "Connection refused" in problem
    code, tables = run(sqlkit)
    assert code == 1
    assert {name: table["state"] for name, table in tables.items()} == {
        "item": "done",
        "other": "failed",
        "third": "failed",
    }
    for command in ("plan", "run"):
        done = sqlkit(command, "other")
        assert (done.returncode, "Connection refused" in done.stderr) == (1, True)


class Listener(BaseHTTPRequestHandler):
    heard: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address, and what was posted there."""
    heard: list[dict[str, Any]] = []
    handler = type("Heard", (Listener,), {"heard": heard})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", heard
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("tables")
def test_a_failure_is_told_to_a_command_and_a_webhook(
    project: Path, sqlkit: RunSqlkit, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    address, heard = webhook
    text = f"""\
tables:
  free: {{source: free.csv}}
on_failure:
  webhook: {address}
  command: [tee, told.json]
"""
    write(project, text, free="id\n1\n")
    assert run(sqlkit)[0] == 0
    assert heard == []
    (project / "free.csv").unlink()
    assert run(sqlkit)[0] == 1
    assert heard == [json.loads((project / "told.json").read_text())]
    assert heard[0]["tables"][0]["error"]["code"] == "SK102"


def test_a_run_that_cannot_begin_is_told_too(
    project: Path, sqlkit: RunSqlkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLKIT_DSN", "host=127.0.0.1 port=1 dbname=x user=y")
    write(
        project,
        "tables: {item: {source: item.csv}}\non_failure: {command: [tee, told]}\n",
    )
    done = sqlkit("run")
    assert (done.returncode, "Connection refused" in done.stderr) == (1, True)
    told = json.loads((project / "told").read_text())
    assert (told["exit_code"], told["tables"][0]["state"]) == (1, "failed")
    assert "Connection refused" in told["tables"][0]["error"]["message"]


def test_a_webhook_that_does_not_answer_is_waited_for_no_longer_than_that(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WEBHOOK_PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/secret"
        write(
            project, f"tables: {{free: {{source: x.csv}}}}\non_failure: {{webhook: '{address}'}}\n"
        )
        found = read_project(project / "sqlkit.yml")
        (problem,) = asyncio.run(pipeline.tell_failure(found, pipeline.RunReport((), 0)))
    assert problem.message == "the webhook could not be told: no answer within 0.3 s"


def test_a_server_that_is_not_there_is_one_error(project: Path, sqlkit: RunSqlkit) -> None:
    write(project, "connections: {main: {host: 127.0.0.1, port: 1}}\n" + TWO)
    done = sqlkit("run")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_real_prices_and_promotions_are_loaded_side_by_side(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    chosen = {"prices": (1, 2, 3, 10), "promos": (1, 2, 3, 4, 8)}
    text = "tables:\n"
    for name, places in chosen.items():
        files = real_data("prices") / f"israeli_{name}_2026-08-${{DAY}}.csv.gz"
        with gzip.open(str(files).replace("${DAY}", "09"), "rt", encoding="utf-8-sig") as opened:
            columns = opened.readline().strip().split(",")
        *key, value = [columns[place] for place in places]
        connection.execute(
            sql.SQL("create table {} ({}, {} numeric, primary key ({}))").format(
                sql.Identifier(name),
                sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(k)) for k in key),
                sql.Identifier(value),
                sql.SQL(", ").join(map(sql.Identifier, key)),
            )
        )
        text += f"  {name}: {{source: '{files}', columns: {[*key, value]}, retry_for: 0}}\n"
    write(project, text)
    counts = []
    for day in ("09", "10"):
        done = sqlkit("run", "--json", env={"DAY": day})
        assert done.returncode == 0, done.stderr
        tables = {table["table"]: table for table in json.loads(done.stdout)["tables"]}
        rows = [tables[name]["result"]["rows"] for name in chosen]
        assert all(r["read"] == r["inserted"] + r["updated"] + r["unchanged"] for r in rows)
        counts.append([(r["read"], r["inserted"]) for r in rows])
    assert counts == [
        [(66_655, 66_655), (68_303, 68_303)],
        [(75_202, 8_833), (95_959, 29_050)],
    ]


# Plans ---------------------------------------------------------------------------------------


def plan(project: Path, *names: str) -> dict[str, TablePlan]:
    found = asyncio.run(plan_project(read_project(project / "sqlkit.yml"), names))
    return {table.name: table for table in found}


def test_a_plan_tells_columns_strategy_and_what_would_change(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute(
        """
        create table price (
            id int primary key, price numeric(8, 2), noted date default '2026-01-01', "by" text,
            twice numeric generated always as (price * 2) stored
        );
        create index price_noted on price (noted);
        create table event (id int);
        """
    )
    write(
        project,
        """\
tables:
  price: {source: '*price.csv', leave_out: [colour, by]}
  event: {source: event.csv, policy: append}
  strange: {target: price, source: 2price.csv}
  fresh: {source: event.csv, create: true, key: id}
  gone: {source: event.csv}
  lost: {target: event, source: nowhere.csv}
""",
        **{"1price": "id,price,colour\n1,1.0,red\n2,2,red\n", "event": "id\n1\n"},
    )
    assert run(sqlkit, "price")[0] == 0
    (project / "2price.csv").write_text("id,price,colour\n1,1.00,\n2,2.50,\n3,3,\n")
    ledger = "select (select count(*) from sqlkit.run), (select count(*) from sqlkit.source)"
    before = connection.execute(ledger).fetchone()
    plans = plan(project)

    price = plans["price"]
    assert [(s.name, s.state) for s in price.sources] == [
        ("1price.csv", "loaded"),
        ("2price.csv", "new"),
    ]
    assert [(d.column, d.side, d.becomes) for d in price.drift] == [
        ("colour", "source", "left out"),
        ("noted", "target", "its default"),
        ("by", "target", "null"),
        ("twice", "target", "computed"),
    ]
    assert price.estimate == RowCounts(read=3, inserted=1, updated=1, unchanged=1)
    assert price.strategy is not None
    assert price.strategy.why == "the table holds rows"
    assert price.strategy.indexes is not None
    assert price.strategy.indexes.startswith("price_noted: kept, about ")
    assert price.strategy.indexes.endswith("(rebuild_rows)")
    assert price.problems == ()
    copy, lock, difference, update, insert = price.statements
    assert copy.startswith("copy sqlkit_stage.stage (id, price")
    assert lock == "lock table public.price in share row exclusive mode"
    # They are what a merge executes: they are executed here.
    shown = list(map(str.encode, (lock, difference, update, insert)))
    with connection.transaction(force_rollback=True):
        stage = "select sqlkit.create_stage('price', '{id,price}', 'stage')"
        connection.execute(stage.encode())
        connection.execute("insert into sqlkit_stage.stage values (1, 1), (2, 2.5), (3, 3)")
        written = [connection.execute(statement).rowcount for statement in shown]
    assert written == [-1, 2, 1, 1]

    assert plans["event"].strategy is not None
    assert "2 streams at once" in plans["event"].strategy.way
    assert plans["fresh"].ddl is not None
    assert plans["fresh"].ddl.startswith("create table fresh")
    assert plans["strange"].drift[0] == Drift("colour", "source", "refused")
    assert "do not have the same columns" in plans["strange"].problems[0]
    assert "there is no table gone" in plans["gone"].problems[0]
    assert "nowhere.csv" in plans["lost"].problems[0]

    assert connection.execute(ledger).fetchone() == before
    assert connection.execute("select to_regclass('fresh')").fetchone() == (None,)

    code, done = run(sqlkit, "price")
    assert code == 0
    assert done["price"]["result"]["rows"] == asdict(price.estimate)
    after = plan(project, "price")["price"]
    assert after.strategy is not None
    assert after.strategy.way == "nothing is loaded"


def test_a_plan_tells_types_that_differ(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute(
        """
        create table item (
            id int primary key, amount int, noted date, name varchar(9), is_new boolean, extra jsonb
        )
        """
    )
    text = "id,amount,noted,name,is_new,more\n1,1.5,soon,7,true,x\n2,2,,8,f,\n"
    for schema in ("evolve", "freeze", "{policy: discard, into: extra}"):
        write(project, f"tables: {{item: {{source: item.csv, schema: {schema}}}}}\n", item=text)
        drift = {column.column: column for column in plan(project)["item"].drift}
        assert drift["amount"] == Drift(
            "amount", "both", "read as integer, or refused", "numeric", "integer"
        )
        assert (drift["noted"].source_type, drift["noted"].target_type) == ("text", "date")
        assert {"id", "name", "is_new"}.isdisjoint(drift)
        assert drift["more"].becomes == {
            "evolve": "added: text",
            "freeze": "refused",
        }.get(schema, "kept in extra")
    shown = sqlkit("plan").stdout
    assert (
        "  column    amount: numeric in the source, integer in the table, "
        "read as integer, or refused\n" in shown
    )
    # What a source says of its types is taken at its word.
    table = pa.table({"id": pa.array([1], pa.int64()), "amount": pa.array([1], pa.int32())})
    pa.parquet.write_table(table, project / "item.parquet")
    write(project, "tables: {item: {source: item.parquet, leave_out: '*'}}\n")
    drift = {column.column: column for column in plan(project)["item"].drift}
    assert drift["id"] == Drift("id", "both", "read as integer, or refused", "bigint", "integer")
    assert "amount" not in drift


def test_a_plan_of_a_refresh_and_of_bad_values(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute("create table item (id int primary key)")
    write(
        project,
        """\
tables:
  item: {source: item.csv, refresh: {}}
  query: {target: item, query: select 1 as id, refresh: {}}
  bad: {target: item, source: bad.csv}
  some: {target: item, source: bad.csv, reject_limit: 1}
""",
        item="id\n1\n",
        bad="id\n3\nx\n4\n",
    )
    plans = plan(project, "item", "query", "some")
    assert plans["some"].problems == ()
    some = plans.pop("some")
    assert some.estimate == RowCounts(read=3, inserted=2, rejected=1)
    [note] = some.notes
    assert note.startswith("of the first 3 rows 1 would be refused: invalid input syntax")
    assert plans["item"].estimate == RowCounts(read=1, inserted=1)
    assert {p.strategy.way.split(":")[0] for p in plans.values() if p.strategy} == {"mirror"}
    done = sqlkit("plan")
    assert done.returncode == 1
    assert "  estimate  1 inserted, of the first 1 row\n" in done.stdout
    assert '  problem   invalid input syntax for type integer: "x"' in done.stdout
    told = json.loads(sqlkit("plan", "item", "--json").stdout)
    assert told["tables"][0]["sources"][0] == {"name": "item.csv", "bytes": 5, "state": "new"}


def test_a_plan_tells_the_statements_hooks_and_locks_of_each_way(
    project: Path,
    connection: psycopg.Connection,
    sqlkit: RunSqlkit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    connection.execute(
        """
        create table full_one (id int primary key, name text);
        insert into full_one values (1, 'a');
        create table bare (id int primary key, name text unique);
        create index bare_lower on bare (lower(name));
        select sqlkit.create_raw_table('public.feed');
        """
    )
    (project / "first.sql").write_text("select 7")
    refreshed = "".join(
        f"  {name}: {{target: full_one, source: small.csv, refresh: {{strategy: {name}}}}}\n"
        for name in ("mirror", "truncate", "swap", "auto")
    )
    write(
        project,
        f"""\
tables:
  merge:
    target: full_one
    source: small.csv
    before: [{{sql: '${{file:first.sql}}'}}, {{command: [curl, -H, 'x: ${{TOKEN}}']}}]
    after: {{sql: analyze full_one}}
  append: {{target: full_one, source: small.csv, policy: append, workers: 1}}
  first: {{target: bare, source: large.csv}}
  made: {{target: fresh, source: small.csv, create: true, key: id}}
  raw: {{target: public.feed, source: small.csv, raw: true}}
{refreshed}
  scope: {{target: full_one, source: small.csv, refresh: {{strategy: auto, scope: name}}}}
  asked: {{target: full_one, query: select 1 as id, refresh: {{strategy: swap}}}}
""",
        small="id,name\n1,b\n",
        large="id,name\n" + f"1,{'x' * 1000}\n" * 5000,
    )
    plans = plan(project)
    assert not [table.problems for table in plans.values() if table.problems]
    strategies = {name: table.strategy for name, table in plans.items() if table.strategy}
    locks = {name: str(strategy.lock).split(":")[0] for name, strategy in strategies.items()}
    assert locks == {
        "merge": "SHARE ROW EXCLUSIVE",
        "append": "ROW EXCLUSIVE",
        "first": f"ACCESS EXCLUSIVE, if it is to be had within {LOCK_TIMEOUT}",
        "made": "SHARE ROW EXCLUSIVE",
        "raw": "ROW EXCLUSIVE",
        "mirror": "SHARE ROW EXCLUSIVE, from when all is staged",
        "truncate": "ACCESS EXCLUSIVE, from when all is staged until the table is filled and its "
        "indexes are built",
        "swap": "ACCESS EXCLUSIVE for the exchange, when the new table is ready",
        "auto": "SHARE ROW EXCLUSIVE, from when all is staged",
        "scope": "SHARE ROW EXCLUSIVE, from when all is staged",
        "asked": "ACCESS EXCLUSIVE for the exchange, when the new table is ready",
    }
    assert strategies["auto"].way == f"auto, as things are now {strategies['mirror'].way}"
    assert strategies["auto"].why.startswith("refresh says auto; at most ")
    assert strategies["scope"].way == strategies["auto"].way
    assert strategies["scope"].why == "refresh says auto; a scope is given"
    assert plans["first"].statements == (
        "lock table only public.bare in access exclusive mode",
        "alter table only public.bare drop constraint bare_pkey",
        "alter table only public.bare drop constraint bare_name_key",
        "drop index public.bare_lower",
        "truncate table only public.bare",
        "copy public.bare (id, name) from stdin (freeze)",
        "CREATE UNIQUE INDEX bare_pkey ON public.bare USING btree (id)",
        "alter table only public.bare add constraint bare_pkey ... using index bare_pkey",
        "CREATE UNIQUE INDEX bare_name_key ON public.bare USING btree (name)",
        "alter table only public.bare add constraint bare_name_key ... using index bare_name_key",
        "CREATE INDEX bare_lower ON public.bare USING btree (lower(name))",
    )
    assert plans["append"].statements == ("copy public.full_one (id, name) from stdin",)
    assert plans["made"].statements[0] == "copy sqlkit_stage.stage (id, name) from stdin"
    assert plans["raw"].estimate == RowCounts(read=1, inserted=1)
    assert plans["raw"].statements == (
        'copy sqlkit_stage.stage ("raw 1", "raw 2") from stdin',
        "insert into public.feed (raw_data) select ... from sqlkit_stage.stage",
    )
    for name in ("mirror", "truncate", "swap", "auto"):
        assert plans[name].statements == (
            "copy sqlkit_stage.stage (id, name) from stdin",
            f"select sqlkit.refresh_stage('sqlkit_stage.stage', '{name}', ...)",
        )
    assert plans["asked"].sql == "select 1 as id"
    assert plans["asked"].statements == (
        "call sqlkit.refresh('public.full_one', 'select 1 as id', 'swap', ...)",
    )
    shown = sqlkit("plan", "merge", "asked").stdout
    assert "  query     select 1 as id\n" in shown
    hooks = [line for line in shown.splitlines() if line.startswith(("  before", "  after"))]
    assert hooks == [
        "  before    select 7",
        "  before    $ curl -H 'x: ${TOKEN}'",
        "  after     analyze full_one",
    ]


def test_a_plan_of_a_refresh_says_what_it_would_take_and_meet(
    project: Path, connection: psycopg.Connection
) -> None:
    connection.execute(
        """
        create table held (id int primary key, name text);
        insert into held select i, 'n' || i from generate_series(1, 100) as i;
        create view seen as select * from held;
        create table other (id int references held);
        create table free (id int, name text);
        insert into free select * from held;
        analyze held, free;
        create view kept as select * from free;
        create materialized view rows as select * from held;
        """
    )
    each = "source: held.csv, refresh:"
    write(
        project,
        f"""\
tables:
  auto: {{target: held, {each} {{strategy: auto}}}}
  swap: {{target: held, {each} {{strategy: swap}}}}
  truncate: {{target: held, {each} {{strategy: truncate}}}}
  scope: {{target: held, {each} {{strategy: swap, scope: name}}}}
  keyless: {{target: free, {each} {{strategy: auto}}}}
  moved: {{target: free, {each} {{strategy: swap}}}}
  asked: {{target: held, query: 'select id + 1 as id, name from held', refresh: {{strategy: auto}}}}
""",
        held="id,name\n1,n1\n2,x\n101,n101\n",
    )
    plans = plan(project)
    strategies = {name: table.strategy for name, table in plans.items() if table.strategy}
    auto = plans["auto"]
    assert strategies["auto"].way.startswith("auto, as things are now mirror: ")
    assert strategies["auto"].why == "refresh says auto; neither of the others can be"
    assert str(strategies["auto"].lock).startswith("SHARE ROW EXCLUSIVE")
    assert auto.estimate == RowCounts(read=3, inserted=1, updated=1, unchanged=1)
    assert auto.notes[0].startswith("rows: 100 in the table, ")
    assert "no truncate: foreign key other_id_fkey of public.other points at it" in auto.notes
    assert auto.problems == ()

    [swap] = plans["swap"].problems
    assert swap.startswith("swap would be refused: ")
    assert "materialized view public.rows depends on it" in swap
    assert "constraint other_id_fkey on table public.other depends on it" in swap
    assert "seen" not in swap
    assert plans["truncate"].problems == (
        "truncate would be refused: foreign key other_id_fkey of public.other points at it",
    )
    assert "only mirror keeps what lies outside" in plans["scope"].problems[0]

    # Without a key there is no mirror, and the table is empty of what the view would keep.
    assert strategies["keyless"].way.startswith("auto, as things are now truncate: ")
    assert plans["keyless"].estimate == RowCounts(read=3, inserted=3)
    assert plans["moved"].notes == ("view public.kept is told of the new table",)
    assert plans["moved"].problems == ()

    asked = plans["asked"]
    assert asked.estimate == RowCounts(read=100, inserted=1, updated=99)
    assert "rows: 100 in the table, 100 in the new content; indexes: 1" in asked.notes


def test_a_plan_of_tables_that_are_to_be_made_changes_nothing(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    other = f"sqlite:///{project / 'there.db'}"  # with two slashes before the path, as some do
    there = sqlite3.connect(project / "there.db")
    there.execute("create table sale (id integer primary key, name varchar(9) not null)")
    there.execute("insert into sale values (1, 'a'), (2, 'b')")
    there.commit()
    there.close()
    write(
        project,
        f"""\
tables:
  fresh: {{source: item.csv, create: true, key: id}}
  taken: {{source: '{other}#sale', create: true, key: id}}
  keyless: {{source: item.csv, create: true}}
  nowhere.fresh: {{source: item.csv, create: true, key: id}}
  later.fresh: {{source: item.csv, create: true, key: id, before: {{sql: create schema later}}}}
  waiting: {{source: item.csv, depends_on: later.fresh}}
  alone: {{source: item.csv}}
""",
        item="id,name,price\n1,a,1.5\n2,b,2\n2,c,3\n",
    )
    seen = {
        "pg_class": "(t.oid, t.relname, t.relfilenode)",
        "pg_attribute": "(t.attrelid, t.attname, t.atttypid)",
        "pg_namespace": "t.nspname",
        **{f"sqlkit.{name}": "t" for name in ("run", "batch", "source", "stage", "watermark")},
    }
    # Sessions that begin have temporary tables here, and names that hide catalogs.
    lasting = {
        "pg_class": "t.relpersistence <> 't'",
        "pg_attribute": "t.attrelid in (select oid from pg_class where relpersistence <> 't')",
        "pg_namespace": "t.nspname !~ '^pg_(toast_)?temp'",
    }
    catalog = " union all ".join(
        f"(select '{name}', {what}::text from {name} as t where {lasting.get(name, 'true')})"
        for name, what in seen.items()
    ).encode()
    before = set(connection.execute(catalog).fetchall())
    plans = plan(project)
    assert set(connection.execute(catalog).fetchall()) == before

    fresh = plans["fresh"]
    assert fresh.ddl == (
        "create table fresh (\n    id bigint,\n    name text,\n    price numeric,\n"
        "    primary key (id)\n)"
    )
    assert fresh.estimate == RowCounts(read=3, inserted=2, duplicates=1)
    assert fresh.statements == (
        "copy sqlkit_stage.stage (id, name, price) from stdin",
        "insert into fresh (id, name, price) select id, name, price "
        "from only sqlkit_stage.stage order by id",
    )
    assert plans["taken"].ddl is not None
    assert "name text" in plans["taken"].ddl
    assert plans["taken"].estimate == RowCounts(read=2, inserted=2)
    assert plans["keyless"].problems == (
        "policy update needs a key, and keyless is yet to be made: say key",
    )
    assert plans["nowhere.fresh"].problems == (
        "there is no schema nowhere, in which to make nowhere.fresh",
    )
    assert plans["later.fresh"].problems == ()
    assert plans["later.fresh"].notes == (
        "there is no schema later: hooks that come first have to make it",
    )
    assert plans["waiting"].notes == (
        "there is no table waiting: hooks that come first have to make it",
    )
    assert plans["waiting"].problems == ()
    assert plans["alone"].problems == ("there is no table alone",)

    # What was planned is what is made.
    code, done = run(sqlkit, "fresh", "taken")
    assert code == 0
    assert done["fresh"]["result"]["rows"] == asdict(fresh.estimate)
    assert done["taken"]["result"]["rows"] == asdict(plans["taken"].estimate)


def test_the_memory_of_a_table_is_not_that_of_one_before_it(
    project: Path, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute("create table store (id int); create table price (id int)")
    each = "source: store.csv, policy: append"
    write(
        project,
        f"tables: {{store: {{{each}}}, price: {{{each}, depends_on: store}}}}",
        store="id\n1\n",
    )
    real = pipeline._do_table

    async def wasteful(found: Any, name: str, **how: Any) -> TableReport:
        if name == "store":
            b"x" * (256 << 20)
        return await real(found, name, **how)

    monkeypatch.setattr(pipeline, "_do_table", wasteful)
    report = asyncio.run(pipeline.run_project(read_project(project / "sqlkit.yml")))
    store, price = (table.speed.peak_bytes for table in report.tables if table.speed)
    assert store is not None
    assert price is not None
    assert store - price > 128 << 20


# After the rows ------------------------------------------------------------------------------


def test_maintenance_follows_the_rows_and_fails_no_table(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute(
        """
        create table price (id int primary key) with (autovacuum_enabled = off);
        create table late (id int primary key) with (autovacuum_enabled = off);
        create table bad (id int primary key) with (autovacuum_enabled = off);
        create table seen (vacuumed bigint);
        create function no_luck(n int) returns int language plpgsql immutable as $$
        begin
            if current_query() like 'analyze %' then raise 'no luck'; end if;
            return n;
        end $$;
        create index on bad (no_luck(id));
        """
    )
    write(
        project,
        """\
tables:
  price:
    source: price.csv
    maintenance: [vacuum, analyze]
    after: {sql: "insert into seen select pg_stat_get_vacuum_count('price'::regclass)"}
  late: {source: price.csv, maintenance: {actions: analyze, budget: 0.00001s}}
  bad: {source: price.csv, maintenance: analyze}
""",
        price="id\n" + "".join(f"{k}\n" for k in range(2000)),
    )
    planned = plan(project)
    assert planned["price"].maintenance == "vacuum, analyze, where the table needs it"
    done = sqlkit("run", "--json")
    assert done.returncode == 0, done.stderr
    tables = {table["table"]: table for table in json.loads(done.stdout)["tables"]}
    states = {
        name: [(step["step"]["statement"].split()[0], step["state"], step["reason"]) for step in
               table["maintenance"]]
        for name, table in tables.items()
    }  # fmt: skip
    assert states == {
        "price": [("vacuum", "done", None)],
        "late": [("analyze", "postponed", "the budget: it is used up")],
        "bad": [("analyze", "failed", "no luck")],
    }
    assert {table["state"] for table in tables.values()} == {"done"}
    assert "bad: maintenance failed: analyze public.bad (no luck)" in done.stderr
    ledger = "select relation, action, state from sqlkit.maintenance order by relation desc"
    assert connection.execute(ledger).fetchall() == [
        ("public.price", "vacuum", "done"),
        ("public.bad", "analyze", "failed"),
    ]
    assert connection.execute("select vacuumed from seen").fetchall() == [(1,)]
    # Nothing has changed, nothing is to be done.
    again = run(sqlkit, "price")[1]
    assert again["price"]["maintenance"] == []


def test_maintenance_that_cannot_be_is_told_and_the_rows_are_there(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    connection: psycopg.Connection,
    pooled_server: Server,
    database: Database,
    sqlkit: RunSqlkit,
) -> None:
    connection.execute("create table public.price (id int primary key)")
    monkeypatch.setenv("SQLKIT_DSN", pooled_server.dsn(database.name, user=database.user))
    text = "tables: {public.price: {source: price.csv, maintenance: analyze}}\n"
    write(project, text, price="id\n1\n")
    done = sqlkit("run", "--json")
    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    assert (table["state"], table["result"]["rows"]["inserted"]) == ("done", 1)
    assert "direct connection" in table["maintenance_error"]["message"]
    assert "warning: public.price: maintenance: " in done.stderr


def test_every_table_is_measured_against_its_baseline(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute("create table price (id int primary key)")
    connection.execute("create table late (id int primary key)")
    text = """\
tables:
  price: {source: price.csv}
  late: {source: price.csv, refresh: {}}
  by hand: {target: price, source: price.csv, performance: {strategy: stage}}
"""
    write(project, text, price="id\n1\n2\n3\n")
    code, first = run(sqlkit, "--baseline", "price", "late")
    assert code == 0
    for name in ("price", "late"):
        speed = first[name]["speed"]
        assert speed["rows"] == 3
        assert speed["rows_per_second"] == pytest.approx(3 / speed["seconds"])
        assert speed["peak_bytes"] > 1e6
        assert speed["baseline_run_id"] is None
    baselines = "select target, kind, strategy, run_id from sqlkit.baseline order by target"
    assert connection.execute(baselines).fetchall() == [
        ("public.late", "refresh", "mirror", first["late"]["result"]["run_id"]),
        ("public.price", "load", "auto", first["price"]["result"]["run_id"]),
    ]

    done = sqlkit("run", "--again")
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split()[-4:] == ["seconds", "rows/s", "memory", "baseline"]
    shown = {line.split("  ")[0]: line.split() for line in lines[:3]}
    assert [shown[name][-1] for name in ("price", "late")] == ["x", "x"]
    assert shown["by hand"][-1].endswith("B")  # another strategy, which has no baseline

    _, third = run(sqlkit, "--again", "price")
    speed = third["price"]["speed"]
    assert speed["baseline_run_id"] == first["price"]["result"]["run_id"]
    was = first["price"]["speed"]["rows_per_second"]
    assert speed["speed_ratio"] == pytest.approx(speed["rows_per_second"] / was)
    assert speed["memory_ratio"] > 0
    # A run that finds nothing to do has no speed, and is no baseline.
    _, idle = run(sqlkit, "--baseline", "price")
    assert idle["price"]["speed"]["rows_per_second"] is None
    assert idle["price"]["speed"]["baseline_run_id"] == speed["baseline_run_id"]

    page = project / "report.html"
    assert sqlkit("report", "--html", str(page)).returncode == 0
    cells = [
        tuple(re.findall("<td>(.*?)</td>", line))
        for line in re.findall("<tr><td>public.*?</tr>", page.read_text().replace("\n", ""))
    ]
    assert [line[:4] for line in cells] == [
        ("public.late", "refresh", "mirror", "2"),
        ("public.price", "load", "auto", "3"),
        ("public.price", "load", "stage", "1"),
    ]
    assert all(line[-2].endswith(" x") for line in cells[:2])
    assert cells[2][-1] == ""


# A new project -------------------------------------------------------------------------------


def test_what_init_makes_runs(tmp_path: Path, database: Database, sqlkit: RunSqlkit) -> None:
    made = sqlkit("init", "shop")
    assert made.returncode == 0, made.stderr
    assert "cd shop && sqlkit up && sqlkit run" in made.stdout
    folder, env = tmp_path / "shop", {"SQLKIT_DSN": in_public(database.dsn)}
    assert sqlkit("config", "check", cwd=folder).returncode == 0
    with database.preparing():  # its first step makes a schema
        done = sqlkit("run", "--project", "shop", "--json", env=env)
    assert done.returncode == 0, done.stderr
    counts = {t["table"]: t["result"]["rows"] for t in json.loads(done.stdout)["tables"]}
    assert counts["shop.product"]["inserted"] == 3
    # Two days that share a batch: of what both of them have, the newer is written.
    assert (counts["shop.price"]["inserted"], counts["shop.price"]["duplicates"]) == (4, 2)


def test_init_overwrites_nothing(tmp_path: Path, sqlkit: RunSqlkit) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    done = sqlkit("init")
    assert done.returncode == 2
    assert ".gitignore is there already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]


def test_a_query_that_fails_says_which_template_it_is_of(
    dsn: str, tmp_path: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    connection.execute("create table item (id int primary key)")
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "sqlkit.yml").write_text(
        "tables:\n  public.feed: {source: a.csv, raw: true, create: true}\n"
        "  public.item: {transform: {source: public.feed, sql: item.sql.j2}}\n"
    )
    for query in ("nope", "1 as nope"):
        (tmp_path / "item.sql.j2").write_text(f"select {query} from {{{{ stage }}}}")
        done = sqlkit("run", "--full-refresh", env={"SQLKIT_DSN": dsn})
        assert done.returncode == 1
        assert "The query of item.sql.j2: sqlkit sql render public.item" in done.stderr
