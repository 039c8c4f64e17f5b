"""Raw to core: rows land as they came, and a SELECT makes typed rows of those that changed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest

import sqlkit as package
from sqlkit.errors import DatabaseError, RejectLimitError, UsageError
from tests.conftest import Database, RunSqlkit, in_public


@pytest.fixture
def raw(connection: psycopg.Connection) -> psycopg.Connection:
    """A database with an empty raw table, public.feed."""
    connection.execute("select sqlkit.create_raw_table('public.feed')")
    return connection


def landed(connection: psycopg.Connection) -> list[Any]:
    return [row[0] for row in connection.execute("select raw_data from feed order by ctid")]


# Landing -------------------------------------------------------------------------------------


def test_rows_of_csv_land_as_objects_of_text(
    raw: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text('Item Code,"pr""ice",שם\n1,2.50,"a ""b"", c"\n,"x\ny",\\N\n')
    with package.connect(dsn) as client:
        result = client.load(file, into="public.feed", raw=True)
        assert (result.policy, result.rows.read, result.rows.inserted) == ("append", 2, 2)
        assert client.load(file, into="public.feed", raw=True).rows.read == 0
    assert landed(raw) == [
        {"Item Code": "1", 'pr"ice': "2.50", "שם": 'a "b", c'},
        {"Item Code": None, 'pr"ice': "x\ny", "שם": "\\N"},
    ]
    told = raw.execute("select source_file, run_id, loaded_at = updated_at from feed").fetchall()
    assert told == [(str(file), result.run_id, True)] * 2


def test_rows_of_json_land_whole(raw: psycopg.Connection, dsn: str, tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text(
        '{"updated_at": 1.10, "b": {"c": [1, 12345678901234567890.123]}}\n{"d": null}\n'
    )
    array = tmp_path / "b.json"
    array.write_text('[{"raw_data": "x"}, {}]')
    with package.connect(dsn) as client:
        client.load([lines, array], into="public.feed", raw=True)
        client.load([{"e": 5}], into="public.feed", raw=True)
    texts = [row[0] for row in raw.execute("select raw_data::text from feed order by ctid")]
    assert texts == [
        '{"b": {"c": [1, 12345678901234567890.123]}, "updated_at": 1.10}',
        '{"d": null}',
        '{"raw_data": "x"}',
        "{}",
        '{"e": 5}',
    ]


def test_rows_of_xml_and_parquet_land_too(
    raw: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    xml = tmp_path / "a.xml"
    xml.write_text("<root><i><code>1</code><name>a</name></i><i><code>2</code></i></root>")
    pa.parquet.write_table(
        pa.table({"code": [1, None], "name": ["b", "c"]}), tmp_path / "b.parquet"
    )
    with package.connect(dsn) as client:
        client.load(xml, into="public.feed", raw=True, record="i")
        client.load(tmp_path / "b.parquet", into="public.feed", raw=True)
    assert landed(raw) == [
        {"code": "1", "name": "a"},
        {"code": "2", "name": None},
        {"code": "1", "name": "b"},
        {"code": None, "name": "c"},
    ]


def test_records_that_are_no_rows_are_rejects(
    raw: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,b\n1,2\n3\n4,5\n")
    with package.connect(dsn) as client:
        with pytest.raises(RejectLimitError, match="1 row was refused"):
            client.load(file, into="public.feed", raw=True)
        result = client.load(file, into="public.feed", raw=True, reject_limit=1)
    assert (result.rows.inserted, result.rows.rejected) == (2, 1)
    assert landed(raw) == [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}]


def test_a_raw_table_is_made_by_the_load(
    connection: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    connection.execute("create table other (a text)")
    with package.connect(dsn) as client:
        result = client.load([{"a": 1}], into="public.feed", raw=True, create=True)
        assert result.ddl == "select sqlkit.create_raw_table('public.feed')"
        with pytest.raises(UsageError, match="no column raw_data"):
            client.load([{"a": 1}], into="public.other", raw=True)
        with pytest.raises(DatabaseError, match="schema and a name"):
            client.load([{"a": 1}], into="another", raw=True, create=True)
    assert landed(connection) == [{"a": 1}]


# Transforms ----------------------------------------------------------------------------------

QUERY = (
    "select raw_data ->> 'item' as item, (raw_data ->> 'price')::numeric as price "
    "from pg_temp.sqlkit_changed order by updated_at"
)


@pytest.fixture
def core(raw: psycopg.Connection) -> psycopg.Connection:
    """A raw table, and one with typed rows."""
    raw.execute("create table price (item text primary key, price numeric(10, 2))")
    return raw


def add(connection: psycopg.Connection, item: str, price: object) -> None:
    data = json.dumps({"item": item, "price": price})
    connection.execute("insert into feed (raw_data) values (%s)", [data])


def prices(connection: psycopg.Connection) -> dict[str, float]:
    rows = connection.execute("select item, price from price")
    return {item: float(price) for item, price in rows}


@pytest.mark.every_version
def test_rows_of_transactions_that_were_open_are_not_missed(
    core: psycopg.Connection, database: Database
) -> None:
    with package.connect(database.dsn) as client, database.connect() as other:
        add(core, "first", 1)
        with other.transaction():
            # Begins before the transform, with a savepoint, and commits after the next one.
            add(other, "late", 2)
            with other.transaction():
                add(other, "later", 3)
            one = client.transform("public.feed", "public.price", QUERY)
            assert (one.rows_source, one.rows.read, one.rows.inserted) == (1, 1, 1)
            add(core, "second", 4)
            two = client.transform("public.feed", "public.price", QUERY)
            assert (two.rows_source, two.rows.inserted) == (1, 1)
        three = client.transform("public.feed", "public.price", QUERY)
        assert (three.rows_source, three.rows.inserted) == (2, 2)
        assert client.transform("public.feed", "public.price", QUERY).rows_source == 0
        core.execute(
            "update feed set raw_data = raw_data || '{\"price\": 9}' "
            "where raw_data ->> 'item' = 'late'"
        )
        core.execute("update feed set raw_data = raw_data")  # nothing differs
        four = client.transform("public.feed", "public.price", QUERY)
        assert (four.rows_source, four.rows.updated) == (1, 1)
        assert prices(core) == {"first": 1, "second": 4, "late": 9, "later": 3}
        full = client.transform("public.feed", "public.price", QUERY, full_refresh=True)
        assert (full.rows_source, full.rows.unchanged) == (4, 4)
        kinds = {(run["kind"], run["state"], run["rows_read"]) for run in client.runs()}
        assert kinds == {("transform", "done", number) for number in (0, 1, 2, 4)}


def test_what_fails_is_seen_again(core: psycopg.Connection, dsn: str) -> None:
    add(core, "a", "much")
    with package.connect(dsn) as client:
        with pytest.raises(DatabaseError, match="numeric"):
            client.transform("public.feed", "public.price", QUERY)
        assert client.runs()[0]["state"] == "failed"
        core.execute("update feed set raw_data = raw_data || '{\"price\": 1}'")
        assert client.transform("public.feed", "public.price", QUERY).rows.inserted == 1
    assert core.execute("select count(*) from sqlkit.stage").fetchall() == [(0,)]


def test_on_the_callers_connection_nothing_is_committed(
    core: psycopg.Connection, database: Database
) -> None:
    add(core, "a", 1)
    with database.connect() as mine:
        with package.connect(mine) as client, mine.transaction(force_rollback=True):
            add(mine, "b", 2)
            result = client.transform("public.feed", "public.price", QUERY)
            # Its own row is left for the next time.
            assert (result.rows_source, result.rows.inserted) == (1, 1)
        assert prices(core) == {}
    with package.connect(database.dsn) as client:
        assert client.transform("public.feed", "public.price", QUERY).rows_source == 1


def test_a_table_that_is_not_followed_is_refused(core: psycopg.Connection, dsn: str) -> None:
    with package.connect(dsn) as client, pytest.raises(DatabaseError) as told:
        client.transform("public.price", "public.feed", "select 1")
    assert told.value.code == "SK220"
    assert told.value.hint == "select sqlkit.follow_changes('public.price');"


@pytest.mark.oldest_and_newest
def test_rows_that_fail_become_rejects_within_the_limit(core: psycopg.Connection, dsn: str) -> None:
    for number in range(50):
        add(core, f"i{number}", number + 1)
    add(core, "much", "much")
    add(core, "big", 10**9)
    with package.connect(dsn) as client:
        with pytest.raises(RejectLimitError) as told:
            client.transform("public.feed", "public.price", QUERY, reject_limit=1)
        assert told.value.code == "SK301"
        assert told.value.message.startswith("2 rows were refused and the limit is 1")
        assert 'invalid input syntax for type numeric: "much"' in str(told.value.detail)
        assert client.runs()[0]["state"] == "failed"
        assert prices(core) == {}

        result = client.transform(
            "public.feed", "public.price", QUERY, reject_limit=None, reject_share=0.5
        )
        assert (result.rows.read, result.rows.inserted, result.rows.rejected) == (52, 50, 2)
        assert len(prices(core)) == 50
        kept = [(row["column_name"], row["sqlstate"]) for row in client.rejects(result.run_id)]
        assert sorted(kept, key=str) == [("price", "22003"), (None, "22P02")]
        with pytest.raises(package.SqlkitError, match="of no file") as refused:
            client.replay_rejects(result.run_id)
        assert refused.value.code == "SK406"
        assert refused.value.hint is not None
        assert "full_refresh" in refused.value.hint
        # Mended, they come again.
        core.execute(
            "update feed set raw_data = raw_data || '{\"price\": 5}' "
            "where raw_data ->> 'item' in ('much', 'big')"
        )
        again = client.transform("public.feed", "public.price", QUERY)
        assert (again.rows_source, again.rows.inserted) == (2, 2)
        assert client.dismiss_rejects(result.run_id) == 2
    assert core.execute("select count(*) from sqlkit.stage").fetchall() == [(0,)]


def test_a_look_at_all_rows_settles_what_was_refused_before(
    core: psycopg.Connection, dsn: str
) -> None:
    add(core, "much", "much")
    add(core, "dear", "dear")
    add(core, "good", 1)
    mended = QUERY.replace("(raw_data ->> 'price')", "replace(raw_data ->> 'price', 'dear', '9')")
    assert mended != QUERY
    with package.connect(dsn) as client:
        other = client.transform("public.feed", "public.price", QUERY, name="b", reject_limit=2)
        first = client.transform("public.feed", "public.price", QUERY, reject_limit=2)
        assert first.rows.rejected == 2
        # Nothing has changed, so that what was refused is not looked at.
        client.transform("public.feed", "public.price", mended, reject_limit=2)
        assert len(client.rejects(first.run_id)) == 2

        again = client.transform(
            "public.feed", "public.price", mended, full_refresh=True, reject_limit=2
        )
        assert (again.rows.inserted, again.rows.rejected) == (1, 1)
        [reject] = client.rejects(again.run_id)
        assert "much" in reject["raw"]
        states = {row["state"] for row in client.rejects(first.run_id, state=None)}
        assert states == {"replayed"}
        assert len(client.rejects(other.run_id)) == 2  # of another transform


# In a project --------------------------------------------------------------------------------

PROJECT = """\
variables:
  item: Item Code
  dear: 5
tables:
  public.feed:
    source: day-*.csv
    raw: true
    create: true
  price:
    transform: {source: public.feed, sql: sql/price.sql.j2}
"""
TEMPLATE = """\
select
    r.raw_data ->> {{ item | literal }} as item,
    (r.raw_data ->> 'price')::numeric as price
from {{ stage }} as r
where (r.raw_data ->> 'price')::numeric < {{ dear }}::numeric
order by r.loaded_at
"""


@pytest.fixture
def project(
    connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> Path:
    """A folder with a project that transforms."""
    monkeypatch.setenv("SQLKIT_DSN", in_public(dsn))
    connection.execute("create table price (item text primary key, price numeric(10, 2))")
    (tmp_path / "sqlkit.yml").write_text(PROJECT)
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "price.sql.j2").write_text(TEMPLATE)
    (tmp_path / "day-1.csv").write_text("Item Code,price\na,1\nb,2\nc,9\n")
    return tmp_path


def ran(sqlkit: RunSqlkit, *arguments: str) -> dict[str, Any]:
    done = sqlkit("run", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    tables = {table["table"]: table["result"] for table in json.loads(done.stdout)["tables"]}
    assert list(tables) == ["public.feed", "price"]
    result: dict[str, Any] = tables["price"]
    return {name: number for name, number in result["rows"].items() if number} | {
        "source": result["rows_source"]
    }


def test_a_project_takes_raw_rows_to_core(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    plan = sqlkit("plan")
    assert "creates   select sqlkit.create_raw_table('public.feed')" in plan.stdout
    assert "public.feed, is not there yet" in plan.stdout
    assert ran(sqlkit) == {"source": 3, "read": 2, "inserted": 2}
    assert ran(sqlkit) == {"source": 0}
    (project / "day-2.csv").write_text("Item Code,price\na,1\nb,3\nd,4\n")
    done = sqlkit("run", "public.feed")
    assert done.returncode == 0, done.stderr
    plan = sqlkit("plan", "price", "--json")
    (table,) = json.loads(plan.stdout)["tables"]
    assert table["sources"][0]["state"].startswith("3 changed rows, since 20")
    assert "r.raw_data ->> 'Item Code' as item" in table["sql"]
    assert (table["problems"], table["notes"]) == ([], [])
    assert {name: number for name, number in table["estimate"].items() if number} == {
        "read": 3,
        "inserted": 1,
        "updated": 1,
        "unchanged": 1,
    }
    assert ran(sqlkit) == {"source": 3, "read": 3, "inserted": 1, "updated": 1, "unchanged": 1}
    assert prices(connection) == {"a": 1, "b": 3, "d": 4}
    # Another template is for what comes, and with --full-refresh for all.
    (project / "sql" / "price.sql.j2").write_text(TEMPLATE.replace("< {{ dear }}", "> 0"))
    assert "note      the template has changed since" in sqlkit("plan", "price").stdout
    assert ran(sqlkit) == {"source": 0}
    found = ran(sqlkit, "--full-refresh")
    assert found == {"source": 6, "read": 6, "inserted": 1, "unchanged": 3, "duplicates": 2}
    assert prices(connection) == {"a": 1, "b": 3, "c": 9, "d": 4}


def test_a_template_is_told_of_its_run(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    connection.execute("alter table price add n bigint, add run bigint, add since timestamptz")
    (project / "sql" / "price.sql.j2").write_text(
        "select r.raw_data ->> 'Item Code' as item, {{ batch.rows }} as n, {{ run.id }} as run, "
        "{{ watermark }} as since from {{ stage }} as r order by r.loaded_at\n"
    )

    def tables(*arguments: str) -> dict[str, dict[str, Any]]:
        done = sqlkit("run", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return {table["table"]: table for table in json.loads(done.stdout)["tables"]}

    def stored(*items: str) -> set[tuple[Any, ...]]:
        query = "select n, run, since from price where item = any(%s)"
        return set(connection.execute(query, [list(items)]).fetchall())

    def applied() -> Any:
        query = "select finished_at from sqlkit.run where kind = 'transform' order by run_id desc"
        (found,) = connection.execute(query.encode() + b" limit 1").fetchone() or (None,)
        return found

    first = tables("--baseline")
    assert stored("a", "b", "c") == {(3, first["price"]["result"]["run_id"], None)}
    began = applied()
    (project / "day-2.csv").write_text("Item Code,price\nd,1\na,3\n")
    second = tables()["price"]
    [(n, run, since)] = stored("a", "d")
    assert (n, run) == (2, second["result"]["run_id"])
    assert began - timedelta(seconds=30) < since <= began
    assert stored("b") == {(3, first["price"]["result"]["run_id"], None)}
    # What the ledger measured of a transform is held against its baseline.
    speed = second["speed"]
    assert speed["baseline_run_id"] == first["price"]["result"]["run_id"]
    assert (speed["rows"], speed["peak_bytes"] > 0, speed["speed_ratio"] > 0) == (2, True, True)
    full = tables("--full-refresh")["price"]["result"]["run_id"]
    assert stored("a", "b", "c", "d") == {(5, full, None)}


def test_what_a_template_becomes_is_shown_and_linted(project: Path, sqlkit: RunSqlkit) -> None:
    shown = sqlkit("sql", "render")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[:3] == [
        "-- price",
        "select",
        "    r.raw_data ->> 'Item Code' as item,",
    ]
    assert "from pg_temp.sqlkit_changed as r" in shown.stdout
    done = sqlkit("sql", "lint")
    assert (done.returncode, done.stdout) == (0, "0 violations\n"), done.stdout
    (project / "sql" / "price.sql.j2").write_text("select r.a  FROM {{ stage }} as r\n")
    done = sqlkit("sql", "lint", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)["violations"]
    assert ("price", 1, "CP01") in {(v["table"], v["line"], v["code"]) for v in found}
    (project / "sql" / "price.sql.j2").write_text("\nselect {{ itme | literal }}\n")
    done = sqlkit("sql", "render")
    assert done.returncode == 1
    assert "price.sql.j2, line 2: 'itme' is undefined" in done.stderr
    done = sqlkit("sql", "render", "public.feed")
    assert (done.returncode, "public.feed has no template" in done.stderr) == (2, True)


def test_a_transform_is_tried_on_sample_rows(
    project: Path, sqlkit: RunSqlkit, connection: psycopg.Connection
) -> None:
    done = sqlkit("sql", "test")
    assert done.returncode == 2
    assert "tests/price.yml" in done.stderr
    (project / "tests").mkdir()
    (project / "tests" / "price.yml").write_text(
        """\
- name: dear ones are left out
  given:
    - {Item Code: a, price: 1.5}
    - {Item Code: b, price: 5}
  expect:
    - {item: a, price: 1.50}
- name: it is wrong
  given:
    - {Item Code: a, price: 1}
  expect:
    - {item: a, price: 2}
- name: it fails
  given:
    - {Item Code: a, price: x}
  expect: []
"""
    )
    done = sqlkit("sql", "test")
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        "ok  price: dear ones are left out",
        "not ok  price: it is wrong",
        "    missing:    item='a', price='2.00'",
        "    unexpected: item='a', price='1.00'",
        "not ok  price: it fails",
        '    error: invalid input syntax for type numeric: "x"',
        "3 cases, 2 not ok",
    ]
    assert connection.execute("select count(*) from sqlkit.stage").fetchall() == [(0,)]
