"""`lookups:` of a project: natural keys of the input become ids, in the transaction that merges."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest

from sqlkit.config import ConfigError, read_project
from sqlkit.pipeline import choose, find_needs
from sqlkit.plan import LookupPlan
from tests.conftest import Database, RunSqlkit, in_public

TABLES = """
    create table shop.product (
        product_id bigint generated always as identity primary key, code text not null,
        maker text not null, name text, is_late boolean not null default false, unique (maker, code)
    );
    create table shop.land (land_id integer primary key, name text unique);
    insert into shop.land values (1, 'fr'), (2, 'at'), (0, null);
    create table shop.sale (
        sale_id integer primary key, product_id bigint not null references shop.product,
        land_id integer references shop.land, quantity integer
    );
"""
SALES = """\
tables:
  sale:
    source: 'sale*.csv'
    target: shop.sale
    reject_limit: 5
    lookups:
      product_id:
        table: shop.product
        key: [maker, code]
        from: [brand, code]
        defaults: {is_late: true}
      land_id: {table: shop.land, key: name, from: land, create: false, placeholder: 0}
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    database: Database,
    connection: psycopg.Connection,
) -> Path:
    """The folder of a project with sales, whose products have ids."""
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    monkeypatch.chdir(tmp_path)
    with database.preparing():
        connection.execute("create schema shop; create schema raw")
    connection.execute(TABLES)
    (tmp_path / "sqlkit.yml").write_text(SALES)
    return tmp_path


def sold(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "select s.sale_id, p.maker, p.code, p.is_late, s.land_id, s.quantity from shop.sale as s "
        "join shop.product as p using (product_id) order by s.sale_id"
    ).fetchall()


def test_ids_are_found_or_made_as_planned(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    connection.execute("insert into shop.product (maker, code) values ('x', 'a')")
    (project / "sale.csv").write_text(
        "sale_id,code,brand,quantity,land\n1,a,x,1,fr\n2,b,x,2,xx\n3,b,x,3,\n1,a,x,4,at\n"
    )
    planned = sqlkit("plan")
    assert "  lookup    product_id: by maker, code in shop.product: 1 known, 1 not: made" in (
        planned.stdout
    )
    assert "land_id: by name in shop.land: 2 known, 1 not: 0\n" in planned.stdout
    assert "inserted, of the first 2 rows" in planned.stdout
    [table] = json.loads(sqlkit("plan", "--json").stdout)["tables"]
    assert table["drift"] == []
    assert LookupPlan(**{**table["lookups"][0], "key": ("maker", "code")}) == LookupPlan(
        "product_id", "shop.product", ("maker", "code"), "made", 1, 1
    )
    assert connection.execute("select count(*) from shop.product").fetchone() == (1,)

    done = sqlkit("run", "--json")
    assert done.returncode == 0, done.stderr
    made = [(1, "x", "a", False, 2, 4), (2, "x", "b", True, 0, 2), (3, "x", "b", True, 0, 3)]
    assert sold(connection) == made
    # It is what its source says, and looking makes nothing.
    assert sqlkit("verify").returncode == 0
    connection.execute("update shop.sale set product_id = 1 where sale_id = 2")
    assert "column product_id: differs in 1 row" in sqlkit("verify").stdout

    # The dimension comes: its row takes the place of what was made.
    connection.execute("update shop.product set is_late = false, name = 'B' where code = 'b'")
    (project / "sale-2.csv").write_text("brand,sale_id,quantity,land,code\nx,2,9,fr,b\n")
    assert sqlkit("run").returncode == 0
    assert sold(connection)[1:] == [(2, "x", "b", False, 1, 9), (3, "x", "b", False, 0, 3)]


def test_rows_without_a_key_are_rejects_and_make_none(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    (project / "sale.csv").write_text(
        "sale_id,code,brand,quantity,land\n1,a,x,1,fr\ntwo,b,x,2,fr\n3,,x,3,at\n4,c,x,4,\n"
    )
    assert sqlkit("run").returncode == 3
    assert sold(connection) == [(1, "x", "a", True, 1, 1), (4, "x", "c", True, 0, 4)]
    assert connection.execute("select count(*) from shop.product").fetchone() == (2,)
    told = connection.execute("select first_line, column_name from sqlkit.reject order by 1")
    assert told.fetchall() == [(3, "sale_id"), (4, "product_id")]
    # Replayed as they were loaded.
    run_id = connection.execute("select max(run_id) from sqlkit.run").fetchone()
    assert run_id is not None
    edit = "case when raw like 'two%' then replace(raw, 'two', '2') end"
    done = sqlkit("rejects", "replay", str(run_id[0]), "--edit-sql", edit)
    assert done.returncode == 0, done.stderr
    assert sold(connection)[1] == (2, "x", "b", True, 1, 2)


def test_from_the_shell(project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit) -> None:
    (project / "sale.csv").write_text("sale_id,code,brand,quantity,land\n1,a,x,1,fr\n2,b,x,2,xx\n")
    product = "product_id=shop.product(maker, code) from (brand, code)"
    load = ("load", "sale.csv", "--into", "shop.sale")
    land = ("--lookup", "land_id = shop.land (name) from (land)", "--no-create-keys")
    # Whatever is not there: nothing is made, and rows that need it are told.
    refused = sqlkit(*load, "--lookup", product, *land, "--reject-limit", "2")
    assert refused.returncode == 3, refused.stderr
    told = connection.execute("select distinct message from sqlkit.reject order by 1").fetchall()
    assert told == [
        ("no row in shop.product for (maker, code)=('x', 'a')",),
        ("no row in shop.product for (maker, code)=('x', 'b')",),
    ]
    done = sqlkit(*load, "--again", "--leave-out", "land,land_id", "--lookup", product)
    assert done.returncode == 0, done.stderr
    assert sold(connection) == [(1, "x", "a", False, None, 1), (2, "x", "b", False, None, 2)]
    done = sqlkit(*load, "--again", "--lookup", product, *land)
    assert done.returncode == 0, done.stderr
    assert [row[4] for row in sold(connection)] == [1, None]
    wrong = sqlkit(*load, "--lookup", "product_id=shop.product")
    assert wrong.returncode == 2
    assert "--lookup 'store_id=public.store(code)'" in wrong.stderr


def test_two_runs_at_once_make_each_key_once(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit, dsn: str
) -> None:
    text = SALES.replace("'sale*.csv'", "a.csv") + SALES.removeprefix("tables:\n").replace(
        "sale:", "other:", 1
    ).replace("'sale*.csv'", "b.csv").replace("target: shop.sale", "target: shop.other")
    connection.execute("create table shop.other (like shop.sale including all)")
    (project / "sqlkit.yml").write_text(text)
    for name, order in (("a", range(400)), ("b", range(399, -1, -1))):
        rows = "".join(f"{number},c{number % 50},x,1,fr\n" for number in order)
        (project / f"{name}.csv").write_text("sale_id,code,brand,quantity,land\n" + rows)

    async def both() -> list[int]:
        # The first key is held back, so that the two do meet.
        async with await psycopg.AsyncConnection.connect(dsn) as holder:
            await holder.execute("insert into shop.product (maker, code) values ('x', 'c7')")
            runs = [
                asyncio.create_task(asyncio.to_thread(lambda: sqlkit("run").returncode))
                for _ in range(2)
            ]
            for _ in range(600):
                found = connection.execute(
                    "select count(distinct pid) from pg_locks "
                    "where not granted and locktype = 'transactionid'"
                ).fetchone()
                if found is not None and found[0] >= 1:
                    break
                await asyncio.sleep(0.05)
            await holder.rollback()
            return list(await asyncio.gather(*runs))

    assert asyncio.run(both()) == [0, 0]
    found = connection.execute("select count(*), count(distinct code) from shop.product")
    assert found.fetchone() == (50, 50)
    for table in ("sale", "other"):
        right = connection.execute(
            f"select count(*) from shop.{table} as s join shop.product as p using (product_id) "
            "where p.code = 'c' || s.sale_id % 50"
        )
        assert right.fetchone() == (400,)


def test_a_transform_and_a_refresh_look_up(
    project: Path, connection: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    (project / "sale.jsonl").write_text('{"n": 1, "sku": "a"}\n{"n": 2, "sku": null}\n')
    (project / "sale.sql.j2").write_text(
        "select (r.raw_data ->> 'n')::integer as sale_id, r.raw_data ->> 'sku' as code, "
        "'x' as maker from {{ stage }} as r where r.raw_data ->> 'sku' is not null"
    )
    (project / "stock.csv").write_text("stock_id,code,maker\n1,a,x\n2,z,x\n")
    connection.execute("create table shop.stock (stock_id integer primary key, product_id bigint)")
    lookup = "lookups: {product_id: {table: shop.product, key: [maker, code]}}"
    (project / "sqlkit.yml").write_text(
        f"""\
tables:
  raw.sale: {{source: sale.jsonl, raw: true, create: true}}
  shop.sale:
    transform: {{source: raw.sale, sql: sale.sql.j2}}
    {lookup}
  shop.stock:
    source: stock.csv
    refresh: {{}}
    {lookup}
"""
    )
    tests = project / "tests"
    tests.mkdir()
    (tests / "shop.sale.yml").write_text(
        "- {name: keys, given: [{n: 1, sku: q}], expect: [{sale_id: 1, code: q}]}"
    )
    done = sqlkit("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sold(connection) == [(1, "x", "a", False, None, None)]
    stock = connection.execute(
        "select t.stock_id, p.code from shop.stock as t join shop.product as p using (product_id) "
        "order by 1"
    )
    assert stock.fetchall() == [(1, "a"), (2, "z")]
    assert sqlkit("verify").returncode == 0
    assert sqlkit("sql", "test").returncode == 0
    (project / "sale.jsonl").write_text('{"n": 3, "sku": "a"}\n{"n": 4, "sku": "new"}\n')
    assert sqlkit("run", "raw.sale").returncode == 0
    planned = sqlkit("plan", "shop.sale")
    assert "product_id: by maker, code in shop.product: 1 known, 1 not: made" in planned.stdout
    assert "1 inserted, of the first 1 row" in planned.stdout


def test_a_table_waits_for_the_dimensions_that_it_asks(project: Path) -> None:
    (project / "sqlkit.yml").write_text(SALES + "  shop.product: {source: product.csv}\n")
    found = read_project(project / "sqlkit.yml")
    needs = asyncio.run(find_needs(found, choose(found, ())))
    assert needs == {"sale": {"shop.product"}, "shop.product": set()}


def test_what_is_wrong_with_a_lookup_is_told(project: Path) -> None:
    file = project / "sqlkit.yml"
    file.write_text(
        """\
tables:
  a.sale:
    source: a.csv
    raw: true
    lookups:
      product_id: {table: a.product, kye: code}
  a.other:
    source: a.csv
    lookups:
      product_id: {table: product, key: [a, b], from: c, create: false, defaults: {x: 1}}
  a.query:
    query: select 1
    refresh: {}
    lookups: {product_id: {table: a.product, key: code}}
"""
    )
    with pytest.raises(ConfigError) as raised:
        read_project(file)
    found = [(p.line, p.path.partition("].")[2], p.suggestion) for p in raised.value.problems]
    assert found == [
        (5, "lookups", None),
        (6, "lookups.product_id.key", None),
        (6, "lookups.product_id.kye", "key"),
        (10, "lookups.product_id.from", None),
        (10, "lookups.product_id.defaults", None),
        (14, "lookups", None),
    ]


def test_a_column_that_is_not_there_is_named(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    (project / "sale.csv").write_text("sale_id,code,quantity,land\n1,a,1,fr\n")
    done = sqlkit("run")
    assert "has no column brand, by which ids are looked up" in done.stdout + done.stderr
    done = sqlkit("plan")
    assert "has no column brand, by which ids are looked up" in done.stdout
    assert connection.execute("select count(*) from shop.product").fetchone() == (0,)
