"""sqlkit.yml: what is wrong is told at once, each with its place and a way out."""

from __future__ import annotations

import importlib.resources
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from psycopg.conninfo import conninfo_to_dict

from sqlkit.cli.project import EXAMPLES
from sqlkit.client import Client
from sqlkit.config import ConfigError, Problem, Project, Table, json_schema, read_project
from tests.conftest import RunSqlkit

TABLE = "tables:\n  shop.price:\n    source: price.csv\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sqlkit.yml"


def read(file: Path, text: str, **environment: str) -> Project:
    file.write_text(text, encoding="utf-8")
    return read_project(file, environment)


def problems(file: Path, text: str, **environment: str) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        read(file, text, **environment)
    assert raised.value.code == "SK501"
    for problem in raised.value.problems:
        assert str(problem) in (raised.value.detail or "")
    return list(raised.value.problems)


def only(file: Path, text: str, **environment: str) -> Problem:
    [problem] = problems(file, text, **environment)
    return problem


def test_everything_that_is_wrong_is_told_at_once_with_its_line(file: Path) -> None:
    found = problems(
        file,
        """\
tables:
  shop.price:
    sourse: price.csv
    policy: updat
    workers: many
    reject_limit: some
  shop.store:
    source: store.csv
    depends_on: [shop.prise]
    before: {sq: vacuum}
max_conections: 3
""",
    )
    assert [(p.line, p.path, p.suggestion) for p in found if p.suggestion] == [
        (3, 'tables["shop.price"].sourse', "source"),
        (4, 'tables["shop.price"].policy', "update"),
        (9, 'tables["shop.store"].depends_on[0]', "shop.price"),
        (10, 'tables["shop.store"].before.sq', "sql"),
        (11, "max_conections", "max_connections"),
    ]
    by_line = {p.line: p for p in found}
    assert by_line[4].allowed == ("append", "ignore", "update", "newer", "fill", "error", "history")
    assert (by_line[5].value, by_line[6].value) == ("many", "some")
    assert "Write a number of rows, or 1%." in by_line[6].message


TRANSFORM = """\
tables:
  s:
    transform: {source: t, sql: a.sql.j2}
  t: {source: a.csv}
"""


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "is missing"),
        ("tables: {}", 1, "must not be empty"),
        ("- a", 1, "must have keys of its own"),
        ("tables: [", 1, "is no YAML"),
        ("tables: &a {x: *a}", 1, "alias within itself"),
        (TABLE + "    key: a\n    key: b\n", 5, "is there already, on line 4"),
        (TABLE + "    columns: [no]\n", 4, "'no' must be text"),
        (TABLE + "    query: select 1\n", 4, "needs the address of one database"),
        (TRANSFORM.replace("  t:", "    source: a\n  t:"), 4, "has no meaning with transform"),
        ("tables:\n  t: {policy: fill}\n", 2, "needs source, query or transform"),
        (TRANSFORM, 3, "there is no such file"),
        ("tables:\n\tt: {source: a}\n", 2, "indent with spaces"),
        ("tables:\n  t:\n    query: select 1\n", 3, "needs from, a connection, or refresh"),
        (TABLE + "    order_by: at\n", 4, "is for policies newer and history"),
        (TABLE + "    policy: newer\n", 4, "needs order_by"),
        (TABLE + "    refresh: {}\n    policy: fill\n", 5, "has no meaning with refresh"),
        (TABLE + "    refresh: {max_delete: 101%}\n", 4, "is not understood"),
        (TABLE + "    raw: true\n    policy: fill\n", 5, "has no meaning with raw"),
        (TRANSFORM.replace("  t:", "    workers: 2\n  t:"), 4, "has no meaning with transform"),
        (TRANSFORM.replace("}", ", sq: b}"), 3, "is no key here"),
        (TRANSFORM.replace("source: t", "source: u"), 3, "is none of the tables"),
        (TRANSFORM.replace("source: t", "source: s"), 3, "goes in a circle"),
        (TRANSFORM.replace("a.sql.j2", "a.sql"), 3, "is no template"),
        (TRANSFORM + "variables: {stage: 1}\n", 5, "is the name of something else"),
        (TRANSFORM + "variables: {a-b: 1}\n", 5, "is no name that a template could use"),
        (
            "connections: {a: {host: a}, b: {host: b}}\n"
            + TRANSFORM.replace("  t:", "    connection: b\n  t:"),
            4,
            "has another connection",
        ),
        (TABLE + "    connection: main\n", 4, "is none of the connections"),
        (TABLE + "    depends_on: shop.price\n", 4, "goes in a circle"),
        (TABLE + "    after: [{}]\n", 4, "needs sql or command"),
        ("tables: {'Shop Price': {source: a}}", 1, "is not the name of a table"),
        (TABLE + "    source: ${DATA}/x.csv\n", 4, "the variable DATA is not set"),
        (TABLE + "    map: ${file:/nowhere}\n", 4, "the file /nowhere cannot be read"),
    ],
)
def test_what_is_wrong_says_so(file: Path, text: str, line: int, words: str) -> None:
    assert any(p.line == line and words in p.message for p in problems(file, text))


@pytest.mark.parametrize(
    "connection",
    [
        "{dsn: 'postgresql://me:hunter2@host/db'}",
        "{dsn: 'postgresql://me:hunter2@host:${PORT}/db'}",
        "{dsn: 'host=db password=hunter2'}",
        "{dsn: '${DSN:-host=db password=hunter2}'}",
        "{host: db, password: hunter2}",
        "{host: db, password: 'hunter2${PORT}'}",
    ],
)
def test_a_secret_in_the_text_is_refused_and_not_repeated(file: Path, connection: str) -> None:
    problem = only(file, f"connections:\n  main: {connection}\n{TABLE}", PORT="5432", DSN="")
    assert problem.line == 2
    assert "a secret must not stand in the text" in problem.message
    assert "${MAIN_" in problem.message
    assert "hunter2" not in json.dumps(problem.as_dict())


@pytest.mark.parametrize(
    "text",
    [
        "on_failure: {webhook: 'https://me:hunter2@example.com'}",
        "on_failure: {webhook: 'https://example.com/x?token=hunter2'}",
        "on_failure: {webhook: 'https://example.com/x?api_key=hunter2&token=${TOKEN}'}",
        "    from: a\n    cache: {for: 1h, in: 'redis://:hunter2@h/0'}\nconnections: {a: {}}",
        "    from: a\n    cache: {for: 1h, in: 'redis://h?password=hunter2'}\nconnections: {a: {}}",
        "variables: {a: {token: hunter2}}",
    ],
)
def test_no_secret_is_taken_or_repeated(file: Path, text: str) -> None:
    found = only(file, TABLE + text, TOKEN="x")
    assert "hunter2" not in json.dumps(found.as_dict())
    assert text.startswith("variables") or "${" in found.message


def test_a_file_that_is_not_there_is_told_once(file: Path) -> None:
    assert "cannot be read" in only(file, TABLE + "    before: {sql: '${file:no.sql}'}").message


def test_secrets_of_a_webhook_and_a_cache_come_from_elsewhere(file: Path) -> None:
    project = read(
        file,
        TABLE.replace("price.csv", "'postgresql://host/db#price'")
        + "    cache: {for: 1h, in: 'redis://:${SECRET}@host/0'}\n"
        "on_failure: {webhook: 'https://example.com/x?token=${SECRET}'}",
        SECRET="hunter2",
    )
    assert project.on_failure.webhook == "https://example.com/x?token=hunter2"
    cache = project.tables["shop.price"].cache
    assert cache is not None
    assert cache.in_ == "redis://:hunter2@host/0"


def test_a_value_of_no_allowed_type_is_one_problem_at_its_own_key(file: Path) -> None:
    found = problems(
        file,
        """\
variables:
  a: {x: 1}
  b: [1, [2]]
tables:
  t:
    source: x.csv
    reject_limit: [1]
    lookups:
      c: {table: d, key: k, placeholder: [1], defaults: {z: [1]}}
rules:
  r: {kind: distance, table: t, resource: a, gap: [1]}
""",
    )
    assert [str(problem).removeprefix(f"{file}, ") for problem in found] == [
        "line 2: variables.a: '{x: 1}' must be text, true or false, a number, a date "
        "or a list of them",
        "line 3: variables.b[1]: '[2]' must be text, true or false, a number or a date",
        "line 7: tables.t.reject_limit: '[1]' must be a number or text",
        "line 9: tables.t.lookups.c.defaults.z: '[1]' must be text, true or false or a number",
        "line 9: tables.t.lookups.c.placeholder: '[1]' must be text or a whole number",
        "line 11: rules.r.gap: '[1]' must be text or a number",
    ]
    told = str(only(file, TABLE + "    policy: updat\n"))
    assert told == (
        f"{file}, line 4: tables[\"shop.price\"].policy: 'updat' is not known; "
        "did you mean update? Allowed: append, ignore, update, newer, fill, error, history."
    )


def test_references_bring_in_variables_and_files(file: Path) -> None:
    (secret := file.with_name("secret")).write_text("hunter2\n")
    project = read(
        file,
        f"""\
connections:
  main:
    dsn: postgresql://${{USER_NAME}}@${{HOST:-localhost}}/shop
    password: ${{file:{secret}}}
    port: ${{PORT}}
tables:
  shop.price: {{source: 'data/$${{day}}-$$.csv'}}
""",
        USER_NAME="loader",
        PORT="6543",
    )
    assert conninfo_to_dict(project.connections["main"].conninfo()) == {
        "user": "loader",
        "host": "localhost",
        "dbname": "shop",
        "password": "hunter2",
        "port": "6543",
    }
    assert project.tables["shop.price"].source == ("data/${day}-$$.csv",)


def test_keys_are_text_whatever_yaml_takes_them_for(file: Path) -> None:
    project = read(file, TABLE + "    dialect: {null: NA}\n    map: {yes: confirmed, 1: first}\n")
    table = project.tables["shop.price"]
    assert table.dialect.as_dialect().null == "NA"
    assert table.map == {"yes": "confirmed", "1": "first"}


def test_anchors_and_merges_are_understood(file: Path) -> None:
    project = read(
        file,
        "tables:\n  a: &base {source: a.csv, policy: fill}\n  b: {<<: *base, source: b.csv}\n",
    )
    assert project.tables["b"].policy == "fill"
    assert project.tables["b"].source == ("b.csv",)


def test_what_a_load_can_be_told_a_table_can_be_told() -> None:
    called = {"into", "sources", "self", "return", "progress", "on_wait"}
    reports = {"use_copy", "dry_run", "again", "reject_share"}
    options = set(Client.load.__annotations__) - called - reports
    # A project says it below performance, beside another word.
    options = options - {"strategy", "since", "since_overlap"} | {"performance", "watermark"}
    options = options - {"schema", "discard"} | {"schema_"}
    assert options <= set(Table.model_fields) | {"format"}


def test_the_schema_knows_every_key_and_what_is_allowed() -> None:
    schema = json_schema()
    table = schema["$defs"]["Table"]
    assert table["additionalProperties"] is False
    assert table["properties"].keys() == {
        field.alias or name for name, field in Table.model_fields.items()
    }
    assert "update" in table["properties"]["policy"]["anyOf"][0]["enum"]
    assert {"type": "string"} in table["properties"]["key"]["anyOf"]
    lookup = schema["$defs"]["TableLookup"]
    assert lookup["properties"].keys() == {
        *("table", "key", "from", "id", "create", "defaults", "placeholder")
    }
    assert lookup["required"] == ["table", "key"]
    assert table["properties"]["lookups"]["additionalProperties"] == {"$ref": "#/$defs/TableLookup"}


def wrong_by_schema(text: str) -> list[str]:
    """What an editor says of a file."""
    data = json.loads(json.dumps(yaml.safe_load(text), default=str))  # keys are text
    return [error.message for error in Draft202012Validator(json_schema()).iter_errors(data)]


def examples() -> Iterator[Any]:
    for name in EXAMPLES:
        file = importlib.resources.files("sqlkit") / "template" / name / "sqlkit.yml"
        yield pytest.param(file.read_text(encoding="utf-8"), id=name)
    docs = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text(encoding="utf-8")
    for at, block in enumerate(re.findall(r"(?m)(?:^(?: {4}.*)?\n)+", docs)):
        if re.search(r"(?m)^ {4}tables:", block):
            yield pytest.param(textwrap.dedent(block), id=f"pipelines.md {at}")


@pytest.mark.parametrize("text", list(examples()))
def test_examples_are_valid_under_the_schema(text: str) -> None:
    assert wrong_by_schema(text) == []


SHORT = """\
connections: {main: {host: a, port: '${PORT}'}, lite: {url: 'sqlite://a'}}
max_connections: ${BUDGET:-8}
variables: {a: [1, x, 2026-01-01], b: true, c: null}
tables:
  a: {source: a.csv, workers: '${N:-2}', tune: '${TUNE:-false}', schema: evolve}
  b: {source: b.csv, policy: '${POLICY:-fill}', maintenance: vacuum, before: {sql: select 1}}
  c: {source: c.csv, reject_limit: '${MOST:-1%}', maintenance: [vacuum, analyze], retry_for: 1.5}
  d: {from: lite, source: d, cache: 90}
  e: {from: lite, source: e, cache: 1h, after: [{command: [a, b]}, {command: a b}]}
  f: {from: lite, source: f, watermark: at}
  g: {from: lite, source: g, watermark: {column: at, overlap: 10m}}
"""


def test_what_is_read_is_valid_under_the_schema_and_what_is_refused_is_not(file: Path) -> None:
    read(file, SHORT, PORT="6543")
    assert wrong_by_schema(SHORT) == []
    for right, wrong in (
        ("workers: '${N:-2}'", "workers: many"),
        ("maintenance: vacuum", "maintenance: vacum"),
        ("schema: evolve", "schema: evlve"),
        ("before: {sql: select 1}", "before: {sq: select 1}"),
        ("'${POLICY:-fill}'", "filll"),
        ("tune: '${TUNE:-false}'", "tune: perhaps"),
        ("watermark: at", "watermark: [at]"),
    ):
        text = SHORT.replace(right, wrong)
        assert text != SHORT
        assert wrong_by_schema(text), wrong
        problems(file, text, PORT="6543")


def test_defaults_of_the_schema_are_valid_under_it() -> None:
    schema = json_schema()

    def check(part: Any) -> int:
        number = 0
        for inner in part.values() if isinstance(part, dict) else part:
            number += check(inner) if isinstance(inner, dict | list) else 0
        if isinstance(part, dict) and "$defs" not in part and "default" in part:
            whole = {**part, "$defs": schema["$defs"]}
            if "type" in part or "anyOf" in part or "$ref" in part:
                Draft202012Validator(whole).validate(part["default"])
                number += 1
        return number

    assert check(schema) > 50
    assert schema["$defs"]["Table"]["properties"]["reject_limit"]["default"] == "0"


def test_check_exits_2_with_the_problems(file: Path, sqlkit: RunSqlkit) -> None:
    file.write_text(TABLE)
    good = sqlkit("config", "check")
    assert (good.returncode, good.stdout) == (0, "1 table, nothing is wrong\n")
    file.write_text(TABLE + "    polcy: fill\n")
    bad = sqlkit("config", "check")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert 'line 4: tables["shop.price"].polcy: is no key here; did you mean policy?' in bad.stderr
    told = json.loads(sqlkit("config", "check", "--json", "--project", file.parent).stdout)
    assert told["problems"][0]["suggestion"] == "policy"


def test_without_a_file_it_says_how_to_make_one(sqlkit: RunSqlkit) -> None:
    done = sqlkit("run")
    assert done.returncode == 2
    assert "sqlkit init" in done.stderr


def test_schema_is_printed(sqlkit: RunSqlkit) -> None:
    assert json.loads(sqlkit("config", "schema").stdout) == json.loads(json.dumps(json_schema()))


def test_a_rule_has_the_keys_of_its_kind(file: Path) -> None:
    rule = "rules:\n  twice: {kind: overlap, table: shop.price, resource: id, starts: a, ends: b}\n"
    project = read(file, TABLE + rule)
    assert project.rules["twice"].arguments() == {"resource": ["id"], "starts": "a", "ends": "b"}
    found = problems(
        file,
        TABLE
        + """\
rules:
  a: {kind: overlap, table: shop.price, gap: 3}
  b: {kind: overlaps, table: shop.price, connection: far}
  c: {table: shop.price}
""",
    )
    assert [(p.line, p.path, p.message, p.suggestion) for p in found] == [
        (5, "rules.a", "needs resource, of kind overlap", None),
        (5, "rules.a.gap", "has no meaning with kind overlap", None),
        (6, "rules.b.kind", "'overlaps' is not known", "overlap"),
        (6, "rules.b.connection", "'far' is none of the connections", None),
        (7, "rules.c.kind", "is missing", None),
    ]
    assert "'far' is none of the connections" in str(found[3])
    other = only(file, TABLE + "    performance: {strategy: fastest}\n")
    assert "'fastest' is not known. Allowed: auto, " in str(other)


def test_where_rows_come_from_is_held_together(file: Path) -> None:
    found = problems(
        file,
        """\
connections:
  main: {service: x}
  shop: {url: mysq://a@b/c, dbname: x}
  open: {url: 'mysql://a:hunter2@b/c'}
  snow: {url: 'snowflake://a@b/c?warehouse=w&token=hunter4'}
  flight: {url: 'adbc://flightsql?uri=grpc://h:1', password: '${SHOP:-x}'}
tables:
  a: {source: x.csv, query: select 1}
  b: {from: shp, query: select 1}
  c: {query: select 1}
  d: {from: shop, source: item, query: select 1}
  e: {source: x.csv, watermark: at}
  f: {source: 'mysql://a@b/c#d', policy: append, watermark: {column: at, overlap: 10m}}
  g: {source: 'mysql://a:hunter3@b/c#d'}
  h: {source: x.csv, performance: {strategy: copy, rules: [{strategy: stage, byte: 1}]}}
  i: {source: x.csv, connection: shop}
  l: {source: x.csv, schema: discard}
  m: {source: x.csv, schema: evolve, leave_out: '*'}
  n: {source: x.csv, schema: evlve}
  j: {source: x.csv, partitions: {query: select 1}, cache: 1h}
  k: {from: snow, query: select 1, policy: append, partitions: {query: select 1}, watermark: at}
""",
    )
    told = {problem.path: problem for problem in found}
    assert told.keys() == {
        *("connections.shop.url", "connections.shop.dbname", "connections.open.url"),
        *("tables.a.query", "tables.b.from", "tables.c.query", "tables.d.query"),
        *("tables.e.watermark", "tables.f.watermark.overlap", "tables.g.source"),
        *("tables.h.performance.rules", "tables.h.performance.rules[0].byte"),
        *("tables.i.connection", "tables.l.schema", "tables.m.leave_out", "tables.n.schema"),
        *("tables.j.partitions", "tables.j.cache", "tables.k.partitions"),
        *("tables.k.watermark", "connections.snow.url", "connections.flight.password"),
    }
    assert told["connections.shop.url"].suggestion == "mysql"
    assert told["tables.b.from"].suggestion == "shop"
    assert told["tables.h.performance.rules[0].byte"].suggestion == "bytes"
    assert not any("hunter" in str(problem) for problem in found)


def test_connections_are_addresses_of_sources(file: Path) -> None:
    project = read(
        file,
        """\
connections:
  shop: {url: 'mysql://me@host:3307/shop', password: '${SECRET}'}
  main: {host: here, dbname: 'a b', user: me, password: '${SECRET}'}
tables:
  a: {from: shop, source: [item, 'odd #1']}
  b: {from: shop, query: select 1, watermark: {column: at, overlap: 10m}}
  c: {from: main, source: shop.item}
  d: {source: x.csv, performance: {rules: [{bytes: 1kB, strategy: insert}, {strategy: stage}]}}
""",
        SECRET="p@ss/#1",
    )
    assert project.sources_of("a") == (
        "mysql://me:p%40ss%2F%231@host:3307/shop#item",
        "mysql://me:p%40ss%2F%231@host:3307/shop#odd%20%231",
    )
    assert project.sources_of("b") == ("mysql://me:p%40ss%2F%231@host:3307/shop",)
    (address,) = project.sources_of("c")
    assert conninfo_to_dict(address.partition("#")[0]) == {
        "host": "here", "dbname": "a b", "user": "me", "password": "p@ss/#1",
    }  # fmt: skip
    assert address.endswith("#shop.item")
    assert [project.connection_of(name) for name in project.tables] == ["main"] * 4
    rules = project.tables["d"].performance.rules
    assert [rule.fits(1025, None) for rule in rules] == [False, True]
    assert [rule.fits(1024, None) for rule in rules] == [True, True]
    assert [rule.fits(None, 5) for rule in rules] == [False, True]


def test_what_keys_say_together_is_taken_by_its_value(file: Path) -> None:
    text = """\
tables:
  a: {source: a.csv, raw: '${RAW:-false}', policy: append}
  b:
    source: b.csv
    performance: {enabled: '${PLAIN:-yes}', rules: [{strategy: copy}]}
    lookups: {c_id: {table: c, key: d, create: '${CREATE:-1}', defaults: {e: 1}}}
"""
    assert not read(file, text).tables["a"].raw
    found = problems(file, text, RAW="true", PLAIN="off", CREATE="0")
    assert [problem.path for problem in found] == [
        "tables.a.policy",
        "tables.b.performance.rules",
        "tables.b.lookups.c_id.defaults",
    ]
    # A key without a value says nothing.
    assert "needs source" in only(file, "tables: {a: {source: null}}").message
    assert (
        "order_by" in only(file, "tables: {a: {source: a.csv, policy: newer, order_by: }}").message
    )
    read(file, "tables: {a: {source: a.csv, query: null, order_by: null, refresh: null}}")
    read(file, "tables: {a: {source: a.csv, lookups: {b: {table: c, key: d, defaults: {}}}}}")
