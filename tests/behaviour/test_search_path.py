"""Every command under a search_path that is empty, and one that leads to what only looks like
PostgreSQL's own.

With --role=loader schema `hostile` is there, with better matches for what sqlkit calls; see
tests/loader_role.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import sqlkit as api
from sqlkit._release import VERSION
from sqlkit.results import RowCounts
from tests import loader_role
from tests.conftest import Database, RunSqlkit

PATHS = ["", "hostile, pg_temp, pg_catalog"]

CREATE = """
    create table public.item (
        id integer primary key, name varchar(10) not null, tags text[], price numeric(10, 2)
    )
"""


def _dsn(dsn: str, search_path: str) -> str:
    escaped = search_path.replace(" ", "\\ ")
    return make_conninfo(dsn, options=f"-c search_path={escaped}")


@pytest.mark.parametrize("search_path", PATHS)
def test_the_command_line(
    sqlkit: RunSqlkit,
    connection: psycopg.Connection,
    database: Database,
    dsn: str,
    tmp_path: Path,
    search_path: str,
) -> None:
    connection.execute(CREATE.encode())
    address = ("--dsn", _dsn(dsn, search_path))

    def run(*arguments: str, exit_code: int = 0) -> Any:
        done = sqlkit(*arguments, *address, "--json")
        assert done.returncode == exit_code, done.stderr + done.stdout
        return json.loads(done.stdout)

    file = tmp_path / "items.csv"
    file.write_text('id,name,tags,price\n1,one,"{a,b}",1.5\n2,two,{},2\n3,three,,\n')
    load = ("load", "items.csv", "--into", "public.item")
    assert run(*load)["rows"]["inserted"] == 3
    # Over rows that are there, and with rows of every kind that is refused.
    file.write_text(
        'id,name,tags,price\n1,one,"{a,b}",1.50\n2,zwei,{},2\nx,no id,,\n4,,{},\n'
        "5,far too long a name,,\n6,six,{,1\n7,seven,,7\n7,seven,,8\n"
    )
    counts = run(*load, "--reject-limit", "4", exit_code=3)["rows"]
    assert {name: number for name, number in counts.items() if number} == {
        "read": 8,
        "inserted": 1,
        "updated": 1,
        "unchanged": 1,
        "duplicates": 1,
        "rejected": 4,
    }
    file.write_text("id,name,tags,price\n8,eight,,\n8,acht,{x},8\n")
    for policy in ("ignore", "fill", "newer", "error"):
        order_by = ("--order-by", "price") if policy == "newer" else ()
        failed = int(policy == "error")
        run(*load, "--policy", policy, *order_by, "--again", exit_code=failed)

    refused = sorted(shown["run_id"] for shown in run("runs"))[1]
    assert len(run("rejects", "list", str(refused))) > 0
    assert len(run("rejects", "list", str(refused), "--rows")) == 4
    assert sqlkit("rejects", "dismiss", str(refused), *address).returncode == 0
    run("runs", str(refused))
    run("repair")
    assert run("status")["sqlkit_version"] == VERSION
    run("migrate", "status")
    if database.user == loader_role.NAME:
        # Else other tests make the roles of the server and drop them, and verify looks for their
        # grants as soon as they are there.
        run("migrate", "verify")


@pytest.mark.parametrize("search_path", PATHS)
def test_the_commands_beside_loads(
    sqlkit: RunSqlkit, connection: psycopg.Connection, dsn: str, tmp_path: Path, search_path: str
) -> None:
    connection.execute(CREATE.encode())
    connection.execute(
        """
        create table public.visit (
            id integer primary key, carer integer, starts integer, ends integer, is_bad boolean
        );
        insert into public.visit values (1, 1, 0, 4), (2, 1, 2, 6), (3, 1, 5, 7), (4, 2, 0, 9);
        select sqlkit.define_overlap('twice', 'public.visit', array['carer'], 'starts', 'ends')
        """
    )
    address = _dsn(dsn, search_path)

    def run(*arguments: str, exit_code: int = 0) -> str:
        done = sqlkit(*arguments, cwd=tmp_path, env={"SQLKIT_DSN": address})
        assert done.returncode == exit_code, done.stderr + done.stdout
        return done.stdout

    def read(*arguments: str, exit_code: int = 0) -> Any:
        return json.loads(run(*arguments, "--json", exit_code=exit_code))

    # A whole new content, by each strategy, from a file and from a query.
    file = tmp_path / "items.csv"
    file.write_text("id,name,tags,price\n1,one,{},1\n2,two,,2\n")
    for strategy in ("auto", "mirror", "truncate", "swap"):
        from_file = ("refresh", "public.item", "--from", "items.csv", "--max-delete", "50%")
        assert read(*from_file, "--strategy", strategy)["rows"]["read"] == 2
    query = "select i.id, i.name from public.item as i"
    read("refresh", "public.item", "--from", query, "--explain")
    assert read("refresh", "public.item", "--from", query)["rows"]["unchanged"] == 2

    # Conflicts.
    assert read("conflicts", "detect", exit_code=3)["twice"]["pairs_open"] == 2
    first, second = (str(found["conflict_id"]) for found in read("conflicts", "list"))
    run("conflicts", "flag", "twice", "is_bad")
    run("conflicts", "resolve", first)
    run("conflicts", "ignore", second, "--note", "as agreed")
    run("conflicts", "reopen", first)
    assert "as agreed" in run("conflicts", "history", second)
    read("conflicts", "rules")
    read("conflicts", "detect", "--full", exit_code=3)

    # A project.
    (tmp_path / "sqlkit.yml").write_text(
        """\
tables:
  public.item: {source: items.csv}
  public.made: {source: items.csv, create: true, key: id, depends_on: public.item}
"""
    )
    run("config", "check")
    read("plan")
    assert [done["state"] for done in read("run")["tables"]] == ["done", "done"]

    # Maintenance and monitoring.
    problems = read("doctor")
    assert all("hostile" not in str(problem) for problem in problems)
    read("optimize", "--tables", "public.item", "--plan")
    read("optimize", "--tables", "public.item", "--analyze", "--vacuum", "--reindex")
    run("watch", "--once")
    assert "sqlkit_" in run("metrics")
    run("report", "--html", "report.html")
    assert "public.item" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("search_path", PATHS)
def test_the_api(
    connection: psycopg.Connection, dsn: str, tmp_path: Path, search_path: str
) -> None:
    connection.execute(CREATE.encode())
    (tmp_path / "items.csv").write_text("id,name,tags,price\n1,one,{},1\n2,two,,2\n")
    with psycopg.connect(_dsn(dsn, search_path), autocommit=True) as callers:
        with api.connect(callers) as client:
            for policy in ("append", "update"):
                result = client.load(
                    tmp_path / "items.csv", into="public.item", policy=policy, again=True
                )
            assert result.rows == RowCounts(read=2, unchanged=2)
        found = callers.execute("select pg_catalog.current_setting('search_path')").fetchone()
        assert found == (search_path,)
