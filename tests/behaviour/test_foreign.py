"""Foreign servers: made without a trace of the password; their tables are sources as others are."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import sqlkit as api
from sqlkit import migrate
from sqlkit.errors import SqlkitError, UsageError
from sqlkit.foreign import KINDS, NOT_RUN, ForeignServer
from sqlkit.server import SUPERUSER
from tests.conftest import Database, OpenServer, RunSqlkit, missing
from tests.servers import MariaServer, Missing, Session

PASSWORD = "s3cret and 'quoted' \\ of bob"


@pytest.fixture
def database(database: Database) -> Database:
    """As a superuser, who alone makes wrappers and reads files."""
    return replace(database, user=SUPERUSER)


@pytest.fixture
def remote(database: Database) -> Iterator[psycopg.Connection]:
    """Another database on the same server, with 20,000 visits."""
    name = f"{database.name}_remote"
    database.server.create_database(name)
    with psycopg.connect(database.server.dsn(name), autocommit=True) as connection:
        connection.execute(
            """
            create table visit (
                id integer primary key, carer integer not null, starts timestamptz,
                ends timestamptz, secret text default 'x', updated_at timestamptz not null
            );
            insert into visit
            select g, g % 1000, timestamptz '2026-01-01Z' + g / 1000 * interval '2 hours',
                timestamptz '2026-01-01Z' + g / 1000 * interval '2 hours' + interval '1 hour', 'x',
                timestamptz '2026-01-01Z' + g * interval '1 minute'
            from generate_series(1, 20000) as g;
            create index on visit (carer);
            analyze visit;
            create view other as select 1 as id;
            """
        )
        yield connection
    database.server.drop_database(name)


@pytest.fixture
def foreign(database: Database, remote: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection to a database that has the remote visits as far.visit."""
    with api.connect(database.dsn) as client:
        client.add_foreign_server(server_of(database, remote))
    with database.connect() as connection:
        yield connection


def server_of(database: Database, remote: psycopg.Connection, **more: object) -> ForeignServer:
    info = remote.info
    return ForeignServer(
        "far",
        "postgres",
        host=info.host,
        port=info.port,
        database=info.dbname,
        user=info.user,
        **{"tables": ("visit",), **more},  # type: ignore[arg-type]
    )


@pytest.mark.oldest_and_newest
def test_from_the_shell(database: Database, remote: psycopg.Connection, sqlkit: RunSqlkit) -> None:
    """All statements are logged, and one fails; the password is in no log and in no ledger."""
    log = database.server.cluster
    assert log is not None
    before = log.log.stat().st_size
    dsn = psycopg.conninfo.make_conninfo(database.dsn, options="-c log_statement=all")
    env = {"SQLKIT_DSN": dsn, "FAR_PASSWORD": PASSWORD}
    info = remote.info
    where = (
        "--kind", "postgres", "--host", str(info.host), "--port", str(info.port),
        "--database", str(info.dbname), "--user", str(info.user),
    )  # fmt: skip

    def run(*arguments: str, code: int = 0) -> str:
        done = sqlkit("fdw", *arguments, env=env)
        assert done.returncode == code, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "FAR_PASSWORT is not set" in run(
        "add", "far", *where, "--password-env", "FAR_PASSWORT", code=2
    )
    shown = run("add", "far", *where, "--password-env", "FAR_PASSWORD", "--show")
    for option in ("fetch_size '10000'", "batch_size '1000'", "use_remote_estimate 'true'"):
        assert option in shown.replace('"', "")
    assert run("list") == "no foreign servers: make one with sqlkit fdw add\n"
    add = ("add", "far", *where, "--password-env", "FAR_PASSWORD", "--option", "fetch_size=500")
    # Something is wrong with the mapping itself: a statement with the password fails.
    failed = run(*add, "--template", str(broken_template(shown, log.log.parent)), code=1)
    assert "HV00D" in failed or "invalid option" in failed
    assert run(*add) == "far.other\nfar.visit\n"
    listed = json.loads(run("list", "--json"))
    assert [server["name"] for server in listed] == ["far"]
    assert listed[0]["options"]["fetch_size"] == "500"
    assert listed[0]["options"]["async_capable"] == "true"
    assert "already exists" in run(*add, code=1)
    assert run("check", "far").count(" s\n") == 2
    remote.execute("alter table visit rename column starts to begins")
    assert "far.visit: 42703: " in run("check", "far", code=1)
    assert "SK807" in run("check", "near", "--json", code=1)
    with database.connect() as connection:
        kept = connection.execute(
            "select option_value from pg_user_mappings, pg_options_to_table(umoptions)"
            " where option_name = 'password'"
        ).fetchall()
        assert kept == [(PASSWORD,)]
        # It is changed there, and told here the same way.
        assert "NO_PASSWORD is not set" in run(
            "password", "far", "--password-env", "NO_PASSWORD", code=2
        )
        assert "no foreign server near" in run(
            "password", "near", "--password-env", "FAR_PASSWORD", code=2
        )
        env["FAR_PASSWORD"] = PASSWORD * 2
        assert (
            run("password", "far", "--password-env", "FAR_PASSWORD") == "far has another password\n"
        )
        kept = connection.execute(
            "select option_name, option_value"
            " from pg_user_mappings, pg_options_to_table(umoptions) order by 1"
        ).fetchall()
        assert kept == [("password", PASSWORD * 2), ("user", info.user)]
        connection.execute("create view uses as select id from far.visit")
        assert "view public.uses depends on foreign table" in run("drop", "far", code=1)
        connection.execute("drop view uses")
    assert run("drop", "far") == "far is dropped, with 2 tables\n"
    assert run("list") == "no foreign servers: make one with sqlkit fdw add\n"
    logged = log.log.read_bytes()[before:].decode(errors="replace")
    assert "_map_user" in logged
    assert "s3cret" not in logged
    with database.connect() as connection:
        tables = connection.execute(
            "select oid::regclass::text from pg_class"
            " where relnamespace = 'sqlkit'::regnamespace and relkind = 'r'"
        ).fetchall()
        assert len(tables) > 10
        for (table,) in tables:
            query = f"select string_agg(t::text, ' ') from {table} as t".encode()
            assert "s3cret" not in str(connection.execute(query).fetchone())


def test_statistics_of_statements_do_not_keep_the_password(own_server: OpenServer) -> None:
    """Not even where they hold what functions run; who cannot have that stopped is refused."""
    server = own_server(
        settings={
            "shared_preload_libraries": "pg_stat_statements",
            "pg_stat_statements.track": "all",
        }
    )
    migrate.up(server.dsn())
    with (
        psycopg.connect(server.dsn(), autocommit=True) as connection,
        api.connect(server.dsn()) as client,
    ):
        connection.execute("create extension pg_stat_statements")
        connection.execute("create table other (id integer)")
        far = ForeignServer(
            "far", "postgres", host=server.host, port=server.port, database="postgres",
            user=SUPERUSER, tables=("other",),
        )  # fmt: skip
        assert client.add_foreign_server(far, PASSWORD) == ["far.other"]
        kept = "select query from pg_stat_statements where query like %s"
        assert connection.execute(kept, ["%_map_user%"]).rowcount > 0
        assert connection.execute(kept, ["%s3cret%"]).fetchall() == []
        connection.execute("begin; create role plain; grant usage on schema sqlkit to plain")
        connection.execute("create temporary table sqlkit_secret (option_name text, secret text)")
        connection.execute("grant execute on function sqlkit._map_user to plain")
        connection.execute("grant select on sqlkit_secret to plain")
        connection.execute("grant usage on foreign server far to plain; savepoint before")
        connection.execute("set local role plain")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            connection.execute("select sqlkit._map_user('far', '{}')")
        remedy = "grant set on parameter pg_stat_statements.track to plain"
        assert remedy in (refused.value.diag.message_hint or "")
        connection.execute("rollback to before")
        connection.execute(remedy.encode())
        connection.execute("set local role plain")
        connection.execute("""select sqlkit._map_user('far', '{"user": "plain"}')""")
        assert connection.execute("show pg_stat_statements.track").fetchone() == ("all",)
        connection.execute("rollback")


def broken_template(shown: str, folder: Path) -> Path:
    path = folder / "broken.sql.j2"
    path.write_text(shown.replace('{"user"', '{"no_such_option": "1", "user"'))
    path.chmod(0o644)
    return path


@pytest.mark.oldest_and_newest
def test_refreshed_and_merged_without_a_row_through_python(
    foreign: psycopg.Connection, remote: psycopg.Connection, database: Database
) -> None:
    foreign.execute(
        "create table visit (id integer primary key, carer integer, updated_at timestamptz)"
    )
    with api.connect(database.dsn) as client:
        refreshed = client.refresh(
            "public.visit", query="select id, carer, updated_at from far.visit"
        )
        assert refreshed.rows.inserted == 20_000
        remote.execute("update visit set carer = 5, updated_at = '2027-01-01' where id <= 3")
        remote.execute("insert into visit values (30000, 1, null, null, 'x', '2027-01-02')")
        rows = client.merge_source("public.visit", "far.visit", watermark="updated_at")
        # The newest row there was is read again: another one might have its moment.
        assert (rows.read, rows.inserted, rows.updated, rows.unchanged) == (5, 1, 3, 1)
        assert client.merge_source("public.visit", "far.visit", watermark="updated_at").read == 1
        assert client.merge_source("public.visit", "far.visit").unchanged == 20_001
        with pytest.raises(SqlkitError) as raised:
            client.merge_source("public.visit", "far.visit", watermark="ends")
        assert raised.value.code == "SK204"

    # The same, said in SQL.
    remote.execute("update visit set carer = 6 where id = 30000; delete from visit where id = 4")
    merge = (
        "select rows_read, rows_updated from sqlkit.merge_source("
        "'public.visit', 'far.visit', p_watermark => 'updated_at')"
    )
    assert foreign.execute(merge.encode()).fetchone() == (1, 1)
    foreign.execute(
        "call sqlkit.refresh('public.visit', 'select id, carer, updated_at from far.visit')"
    )
    assert (
        foreign.execute("table visit except select id, carer, updated_at from far.visit").rowcount
        == 0
    )
    assert foreign.execute("select from visit").rowcount == 20_000

    def plan(*arguments: str | None) -> str:
        row = foreign.execute(
            "select sqlkit._source_query('public.visit', 'far.visit', %s, %s)", arguments
        ).fetchone()
        assert row is not None
        lines = foreign.execute(f"explain (verbose) {row[0]}".encode()).fetchall()
        return "\n".join(line for (line,) in lines)

    # What was really asked: only the columns that the target has, only rows from the watermark on.
    with asked(foreign) as queries:
        foreign.execute(merge.encode())
        assert queries() == [
            "SELECT id, carer, updated_at FROM public.visit"
            " WHERE ((updated_at >= '2027-01-02 00:00:00+00'))"
        ]
        foreign.execute(
            "call sqlkit.refresh('public.visit', 'select id, carer, updated_at from far.visit')"
        )
        assert queries() == ["SELECT id, carer, updated_at FROM public.visit"]

    # And as EXPLAIN shows it.
    assert plan("updated_at", None).endswith(
        "Remote SQL: SELECT id, carer, updated_at FROM public.visit"
        " WHERE ((updated_at >= '2027-01-02 00:00:00+00'))"
    )
    assert plan(None, None).endswith("Remote SQL: SELECT id, carer, updated_at FROM public.visit")


@contextmanager
def asked(connection: psycopg.Connection) -> Iterator[Callable[[], list[str]]]:
    """What the other server was asked, by all statements, those inside of functions too."""
    with fetched(connection) as count:
        connection.execute("set auto_explain.log_verbose = on")
        plans: list[str] = []

        def note(diagnostic: psycopg.errors.Diagnostic) -> None:
            plans.append(diagnostic.message_primary or "")

        connection.add_notice_handler(note)

        def queries() -> list[str]:
            text = "\n".join(plans)
            plans.clear()
            return re.findall(r"Remote SQL: (.*)", text)

        try:
            yield queries
        finally:
            connection.remove_notice_handler(note)
            connection.execute("set auto_explain.log_verbose = off")
            count()


@contextmanager
def fetched(connection: psycopg.Connection) -> Iterator[Callable[[], int]]:
    """How many rows foreign scans gave, of all statements, those inside of functions too."""
    plans: list[str] = []
    connection.execute("load 'auto_explain'")
    for name, value in {
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_analyze": "on",
        "auto_explain.log_timing": "off",
        "auto_explain.log_nested_statements": "on",
        "auto_explain.log_level": "notice",
    }.items():
        connection.execute(sql.SQL("set {} = {}").format(sql.SQL(name), sql.Literal(value)))

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        plans.append(diagnostic.message_primary or "")

    connection.add_notice_handler(note)

    def count() -> int:
        text = "\n".join(plans)
        plans.clear()
        return sum(
            round(float(rows) * int(loops))
            for rows, loops in re.findall(
                r"Foreign Scan.*\(actual rows=([\d.]+) loops=(\d+)\)", text
            )
        )

    try:
        yield count
    finally:
        connection.remove_notice_handler(note)
        connection.execute("set auto_explain.log_min_duration = -1")


def detect(connection: psycopg.Connection, rule: str, full: bool = False) -> tuple[object, ...]:
    row = connection.execute(
        "select * from sqlkit.detect_conflicts(%s, %s)", [rule, full]
    ).fetchone()
    assert row is not None
    return row


@pytest.mark.oldest_and_newest
def test_only_rows_that_matter_are_fetched_for_a_disagreement(
    foreign: psycopg.Connection, remote: psycopg.Connection
) -> None:
    """200 of 20,000 rows are here: as many are asked for."""
    foreign.execute("create table visit (like far.visit); alter table visit add primary key (id)")
    foreign.execute("insert into visit select * from far.visit where id % 100 = 0")
    foreign.execute("update visit set carer = -1 where id = 700; analyze visit")
    foreign.execute(
        "select sqlkit.define_disagreement("
        "'same', 'public.visit', 'far.visit', p_missing => false),"
        " sqlkit.define_disagreement('whole', 'public.visit', 'far.visit')"
    )
    with fetched(foreign) as rows:
        assert detect(foreign, "same")[0] == 1
        assert rows() == 200
        # Where rows may be missing here, all that are there matter.
        assert detect(foreign, "whole")[0] == 19_801
        assert rows() == 20_000
    remote.execute("update visit set carer = -1 where id = 700")
    assert detect(foreign, "same")[2] == 1


@pytest.mark.oldest_and_newest
def test_only_resources_that_were_touched_are_fetched_for_an_overlap(
    foreign: psycopg.Connection, remote: psycopg.Connection
) -> None:
    """A rule over a view of a table here and one there: of 1,000 carers two are touched."""
    foreign.execute(
        """
        create table visit (like far.visit);
        alter table visit add primary key (id);
        create view visits as
        select 'here' as agency, * from visit union all select 'there', * from far.visit;
        select sqlkit.define_overlap(
            'carer', 'visits', array['carer'], 'starts', 'ends', p_across => array['agency'],
            p_key => array['agency', 'id'], p_changed_by => 'updated_at'
        );
        """
    )
    assert detect(foreign, "carer") == (0, 0, 0, 0, True)
    now = "timestamptz '2026-02-01Z'"
    first, last = "timestamptz '2026-01-01 00:30Z'", "timestamptz '2026-01-01 02:30Z'"
    foreign.execute(f"insert into visit values (1, 7, {first}, {last}, 'x', {now})".encode())
    remote.execute(f"update visit set ends = {last}, updated_at = {now} where id = 8".encode())
    with fetched(foreign) as rows:
        # Carer 7 is here and there twice in that time, carer 8 only there.
        assert detect(foreign, "carer") == (2, 0, 0, 2, False)
        # Of 20,000: 20 visits of each; and a few times what has changed, or stood at the watermark.
        assert rows() < 100
        foreign.execute(f"update visit set ends = {first}, updated_at = {now}".encode())
        assert detect(foreign, "carer") == (0, 0, 2, 0, False)
        assert rows() < 100
        assert detect(foreign, "carer", full=True) == (0, 0, 0, 0, True)
        assert rows() >= 20_000


@pytest.mark.oldest_and_newest
def test_files_on_the_server_packed_and_not(database: Database, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder.name.startswith(("pytest", "popen", "test")):
            folder.chmod(0o755)
    plain, packed = tmp_path / "it's prices.csv", tmp_path / "it's prices.csv.gz"
    text = 'id,price,"odd ""name"\n1,1.50,a\n2,2.25,\n'
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    with database.connect() as connection, api.connect(database.dsn) as client:
        connection.execute(
            'create table price (id integer primary key, price numeric(10, 2), "odd ""name" text)'
        )
        for number, path in enumerate((plain, packed)):
            server = ForeignServer(
                f"files {number}", "file", schema="feed", path=str(path), like="price",
                tables=(f"Price {number}",),
            )  # fmt: skip
            assert client.add_foreign_server(server) == [f'feed."Price {number}"']
            assert ("gzip -dc" in client.render_foreign_server(server)) is bool(number)
            assert client.check_foreign_server(f"files {number}")[0]["error_code"] is None
        assert client.merge_source("public.price", 'feed."Price 1"').inserted == 2
        assert client.merge_source("public.price", 'feed."Price 0"').unchanged == 2
        packed.write_bytes(b"nonsense")
        assert client.check_foreign_server("files 1")[0]["error_code"] == "38000"
        assert client.drop_foreign_server("files 0") == 1


@pytest.fixture
def debian(test_session: Session) -> Iterator[Database]:
    """A database with sqlkit on Debian's PostgreSQL, for which Debian has mysql_fdw."""
    try:
        server = test_session.shared(15)
    except Missing as reason:
        missing(str(reason))
    with psycopg.connect(server.dsn()) as connection:
        query = "select from pg_available_extensions where name = 'mysql_fdw'"
        if not connection.execute(query.encode()).rowcount:
            missing("mysql_fdw is not installed: tests/install-services.sh installs it on Debian")
    made = Database(f"mysql_fdw_{os.getpid()}", server)
    server.create_database(made.name)
    migrate.up(made.dsn)
    yield made
    server.drop_database(made.name)


@pytest.fixture
def on_mariadb(mariadb: MariaServer) -> Iterator[str]:
    """A database on MariaDB with 100 rows."""
    name = f"far_{os.getpid()}"
    rows = ", ".join(
        f"({n}, 'Nr. {n} é', '2026-01-01 00:00:00' + interval {n} minute)" for n in range(100)
    )
    mariadb.run(
        f"drop database if exists {name}; create database {name} character set utf8mb4; use {name};"
        "create table visit (id int primary key, name varchar(20), updated_at datetime, more text);"
        f"insert into visit (id, name, updated_at) values {rows};"
    )
    yield name
    mariadb.run(f"drop database {name}")


def test_mysql(debian: Database, on_mariadb: str, mariadb: MariaServer, sqlkit: RunSqlkit) -> None:
    env = {"SQLKIT_DSN": debian.dsn, "FAR": mariadb.password}
    done = sqlkit(
        "fdw", "add", "far", "--kind", "mysql", "--host", mariadb.host, "--port", str(mariadb.port),
        "--database", on_mariadb, "--user", mariadb.user, "--password-env", "FAR", env=env,
    )  # fmt: skip
    assert done.stdout == "far.visit\n", done.stderr
    with debian.connect() as connection, api.connect(debian.dsn) as client:
        assert client.check_foreign_server("far")[0]["error_code"] is None
        connection.execute(
            "create table visit (id integer primary key, name text, updated_at timestamp)"
        )
        query = "select id, name, updated_at from far.visit where id < 90"
        assert client.refresh("public.visit", query=query).rows.inserted == 90
        mariadb.run(
            "update visit set name = 'x', updated_at = '2027-01-01' where id = 3", on_mariadb
        )
        merged = sqlkit(
            "fdw",
            "merge",
            "far.visit",
            "--into",
            "public.visit",
            "--watermark",
            "updated_at",
            env=env,
        )
        assert merged.stdout == "public.visit: 12 rows read: 10 inserted, 1 updated, 1 unchanged\n"
        row = connection.execute(
            "select sqlkit._source_query('public.visit', 'far.visit', 'updated_at', null)"
        ).fetchone()
        assert row is not None
        plan = "\n".join(
            line for (line,) in connection.execute(f"explain (verbose) {row[0]}".encode())
        )
        assert re.search(
            r"SELECT `id`, `name`, `updated_at` FROM .*visit` WHERE .*`updated_at` >= .*2027-01-01",
            plan,
        ), plan
        # A disagreement asks for the keys that are here, and no others.
        connection.execute("delete from visit where id >= 10")
        connection.execute(
            "select sqlkit.define_disagreement("
            "'same', 'public.visit', 'far.visit', p_missing => false)"
        )
        with fetched(connection) as rows:
            assert detect(connection, "same")[0] == 0
            assert rows() == 10
        assert client.drop_foreign_server("far") == 1


def test_templates_of_other_kinds_and_of_ones_own(tmp_path: Path) -> None:
    for kind in NOT_RUN:
        server = ForeignServer(
            'na"me', kind, host="h'ost", database="d", user="u", tables=("T",), options={"x": "1"}
        )
        server.check()
        script = server.render()
        assert 'create server "na""me" foreign data wrapper' in script
        assert "h''ost" in script
        assert "\"x\" '1'" in script
        assert 'limit to ("T")' in script
    assert set(NOT_RUN) < set(KINDS)
    own = tmp_path / "own.sql.j2"
    own.write_text('{% import "_macros.sql.j2" as make %}{{ make.server(name, "w", kind, {}) }}')
    assert ForeignServer("n", "mine", template=own).render().startswith("create extension")
    own.write_text("{{ nonsense }}")
    with pytest.raises(UsageError, match="nonsense"):
        ForeignServer("n", "mine", template=own).render()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (ForeignServer("n", "db2"), "no kind 'db2'"),
        (ForeignServer("n", "mysql", host="h"), "--database"),
        (ForeignServer("n", "file", like="t"), "--path or --program"),
        (ForeignServer("n", "postgres", database="d", options={"password": "x"}), "everybody"),
        (ForeignServer("é" * 32, "postgres", database="d"), "1 to 63 bytes"),
        (ForeignServer("n", "postgres", database="d", schema=""), "1 to 63 bytes"),
        (ForeignServer("sqlkit", "postgres", database="d"), "sqlkit's own"),
    ],
)
def test_what_is_missing_is_told(wanted: ForeignServer, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wanted.check()


def test_what_cannot_be_made_is_told_with_a_way_out(
    database: Database, remote: psycopg.Connection, sqlkit: RunSqlkit
) -> None:
    info = remote.info
    where = (
        "--kind", "postgres", "--host", str(info.host), "--database", str(info.dbname),
        "--user", str(info.user), "--dsn", database.dsn,
    )  # fmt: skip

    def add(name: str, *more: str, port: object = info.port) -> str:
        done = sqlkit("fdw", "add", name, *where, "--port", str(port), *more)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    told = add("far", "--table", "visit", "--table", "vist")
    assert "there is no table vist in public of server far" in told
    assert "Nothing was made" in told
    with database.connect() as connection:
        connection.execute("create schema far; create table far.visit (id int)")
        assert "--schema" in add("far", "--table", "visit")
        assert "Another server" in add("gone", "--table", "visit", port=1)
        connection.execute("create extension postgres_fdw")
        connection.execute("create server far foreign data wrapper postgres_fdw")
        assert "sqlkit fdw drop far" in add("far", "--table", "visit", "--schema", "other")
