"""sqlkit verify and bench: what differs from the source is found, whatever kind of table it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import RunSqlkit, in_public
from tests.servers import MariaServer

FILE = """\
tables:
  shop.price:
    source: 'price-*.csv'
    policy: update
    map: {Amount: amount}
    reject_limit: 1
  log: {source: log.jsonl, policy: append}
  raw.item: {source: price-1.csv, raw: true}
  core: {transform: {source: raw.item, sql: core.sql.j2}}
  more: {target: core, transform: {source: raw.item, sql: more.sql.j2}}
  gone: {query: select id from shop.price, refresh: {strategy: mirror}}
"""


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, connection: psycopg.Connection,
    superuser: psycopg.Connection,
) -> Path:  # fmt: skip
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    monkeypatch.chdir(tmp_path)
    user = connection.info.user
    for schema in ("shop", "raw"):
        superuser.execute(f'create schema {schema} authorization "{user}"'.encode())
    connection.execute(
        """
        create table shop.price (
            id int primary key, name text, amount numeric(8, 2), seen timestamptz default now(),
            n serial
        );
        create table log (at int, what text, extra jsonb);
        create table core (
            id int primary key, name text, twice int generated always as (id * 2) stored
        );
        create table gone (id int primary key);
        select sqlkit.create_raw_table('raw.item');
        """
    )
    (tmp_path / "sqlkit.yml").write_text(FILE)
    (tmp_path / "price-1.csv").write_text("id,name,Amount\n1,a,1\n2,b,2\n3,c,3\n")
    (tmp_path / "price-2.csv").write_text("id,name,Amount\n3,cc,3.5\n4,d,4\nx,e,5\n")
    (tmp_path / "log.jsonl").write_text('{"at": 1, "what": "x"}\n{"at": 1, "what": "x"}\n')
    item = "(r.raw_data ->> 'id')::int + {} as id, r.raw_data ->> 'name' as name"
    for name, offset in (("core", 0), ("more", 10)):
        text = f"select {item.format(offset)} from {{{{ stage }}}} as r\n"
        (tmp_path / f"{name}.sql.j2").write_text(text)
    return tmp_path


def verified(sqlkit: RunSqlkit, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = sqlkit("verify", *arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, {t["target"]: t for t in json.loads(done.stdout)["tables"]}


def test_tables_are_what_their_sources_say_or_what_differs_is_told(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    assert sqlkit("run").returncode == 3  # one reject, within the limit
    code, found = verified(sqlkit)
    assert {name: table["state"] for name, table in found.items()} == dict.fromkeys(
        ("shop.price", "log", "raw.item", "core", "gone"), "same"
    ), found
    assert code == 0
    assert (found["core"]["entries"], found["core"]["rows_target"]) == (["core", "more"], 6)
    # Nothing is left: no stage, no reject to mend, and the table's sequence has not moved.
    left = """
        select (select count(*) from sqlkit.stage),
            (select count(*) from sqlkit.reject where state = 'open'),
            (select last_value from shop.price_n_seq), (select count(*) from shop.price)
    """
    assert connection.execute(left).fetchone() == (0, 1, 4, 4)
    state = "select count(*) from sqlkit.transform where target like 'sqlkit_stage%'"
    assert connection.execute(state).fetchone() == (0,)
    kinds = "select distinct state from sqlkit.run where kind = 'compare'"
    assert connection.execute(kinds).fetchall() == [("done",)]

    connection.execute(
        """
        update shop.price set amount = 9 where id = 3;
        update shop.price set name = null where id = 1;
        delete from shop.price where id = 2;
        insert into shop.price values (7, 'more');
        insert into log values (1, 'x');
        delete from core where id = 11;
        """
    )
    code, found = verified(sqlkit, "--limit", "2", "shop.price", "log", "more")
    price = found["shop.price"]
    assert code == 1
    assert (price["only_source"], price["only_target"], price["different"]) == (1, 1, 2)
    assert price["columns"] == {"amount": 1, "name": 1}
    assert price["examples"] == [
        {"where": "both", "key": {"id": "1"}, "source": {"name": "a"}, "target": {"name": None}},
        {"where": "source", "key": {"id": "2"}},
    ]
    assert (found["log"]["only_source"], found["log"]["only_target"]) == (0, 1)
    assert (found["core"]["state"], found["core"]["only_source"]) == ("different", 1)
    # What only the table has may be allowed.
    code, found = verified(sqlkit, "log", "--allow-extra")
    assert (code, found["log"]["state"]) == (0, "same")
    done = sqlkit("verify", "shop.price")
    assert done.returncode == 1
    assert "id=1: name: 'a' in the source, null in the table" in done.stdout
    assert "column amount: differs in 1 row" in done.stdout


def test_a_table_that_cannot_be_verified_says_why_beside_the_others(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    (project / "log.jsonl").unlink()
    connection.execute("drop table gone")
    code, found = verified(sqlkit, "log", "gone", "shop.price")
    assert (found["log"]["state"], found["log"]["error"]["code"]) == ("failed", "SK102")
    assert (found["gone"]["state"], found["gone"]["error"]["code"]) == ("failed", "42P01")
    assert (found["shop.price"]["state"], found["shop.price"]["only_source"]) == ("different", 4)
    assert code == 1
    assert sqlkit("verify", "nothing").returncode == 2


def test_strategies_are_tried_on_copies_and_end_alike(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    sqlkit("run", "shop.price")
    connection.execute("update shop.price set name = 'other', seen = '2001-01-01'")
    before = connection.execute("select xmin, * from shop.price").fetchall()
    for arguments, copies in (((), "as the table"), (("--empty",), "empty")):
        done = sqlkit("bench", "shop.price", "--json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        assert found["rows_before"] == copies
        trials = {trial["strategy"]: trial for trial in found["trials"]}
        assert list(trials) == ["insert", "copy", "stage", "parallel"]
        assert trials["insert"]["gain"] == 1
        assert [trial["is_same"] for trial in found["trials"]] == [None, True, True, True]
        assert all(trial["rows"] == 6 and trial["peak_bytes"] > 0 for trial in found["trials"])
    done = sqlkit("bench", "gone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == [
        "mirror", "truncate", "swap",
    ]  # fmt: skip
    for line in done.stdout.splitlines()[2:4]:
        assert re.search(r" the same .* [0-9]+\.[0-9]{2}x$", line), line
    assert re.search(r"^mirror +reference .* 1\.00x$", done.stdout, re.MULTILINE)
    assert connection.execute("select xmin, * from shop.price").fetchall() == before
    assert connection.execute("select count(*) from sqlkit.stage").fetchone() == (0,)
    assert sqlkit("bench", "core").returncode == 2
    done = sqlkit("bench", "shop.price", "--strategy", "swap")
    assert (done.returncode, "Strategies are insert, copy" in done.stderr) == (2, True)


def test_a_strategy_that_ends_otherwise_is_found(
    project: Path,
    sqlkit: RunSqlkit,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncio

    from sqlkit import comparing
    from sqlkit.config import read_project

    told = read_project(project / "sqlkit.yml")
    real = comparing._try

    async def lossy(project: Any, name: str, copy: str, strategy: str) -> comparing.Trial:
        trial = await real(project, name, copy, strategy)
        if strategy == "stage":
            connection.execute(f"delete from {copy} where id = 4".encode())
        return trial

    monkeypatch.setattr(comparing, "_try", lossy)
    found = asyncio.run(comparing.bench_table(told, "shop.price", ["copy", "stage"]))
    assert [trial.is_same for trial in found.trials] == [None, True, False]
    assert (found.exit_code, found.trials[2].differs["only_left"]) == (1, 1)


def test_a_table_of_mysql_is_compared_by_checksums_and_then_by_rows(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection, mariadb: MariaServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name = "verify_" + connection.info.dbname
    mariadb.run(f"create database {name} character set utf8mb4")
    try:
        mariadb.run(
            f"create table {name}.item (id int primary key, name text, at datetime);"
            f"insert into {name}.item values (1, 'a', '2026-01-01'), (2, null, null);"
        )
        (project / "sqlkit.yml").write_text(
            "tables:\n  item: {source: '${SHOP}#item', create: true}\n"
        )
        monkeypatch.setenv("SHOP", mariadb.url(name))
        monkeypatch.setenv("MYSQL_PWD", mariadb.password)
        assert sqlkit("run").returncode == 0
        code, found = verified(sqlkit)
        assert (code, found["item"]["state"], found["item"]["way"]) == (0, "same", "checksums")
        mariadb.run(f"update {name}.item set name = 'b' where id = 2")
        code, found = verified(sqlkit)
        assert (code, found["item"]["way"], found["item"]["columns"]) == (1, "copy", {"name": 1})
        # Where the types are others, rows are compared.
        connection.execute("alter table item alter name type varchar(9), add more int default 1")
        connection.execute("update item set name = 'b' where id = 2")
        code, found = verified(sqlkit)
        assert (code, found["item"]["state"]) == (0, "same")
    finally:
        mariadb.run(f"drop database {name}")
