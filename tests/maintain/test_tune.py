"""sqlkit tune: advice that changes nothing, what is applied when asked for, sizes of a load."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit import UsageError, migrate, tuning
from tests.conftest import Database, OpenServer, RunSqlkit, missing
from tests.servers import Server

LOOK = "select name, setting from pg_settings where source = 'configuration file' order by 1"


def test_nothing_is_set_that_was_not_asked_for(own_server: OpenServer, sqlkit: RunSqlkit) -> None:
    server = own_server()
    dsn = server.dsn()
    migrate.up(dsn)

    def settings() -> dict[str, str]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            return dict(connection.execute(LOOK.encode()).fetchall())

    before = settings()
    done = sqlkit("tune", "--memory", "64GB", "--cores", "16", "--storage", "ssd", "--dsn", dsn)
    assert done.returncode == 0, done.stderr
    assert "shared_buffers: 128MB, advised: 16384MB (restart)" in done.stdout
    assert "PostgreSQL documentation, shared_buffers" in done.stdout
    assert settings() == before

    done = sqlkit(
        "tune", "--apply", "random_page_cost", "--storage", "ssd", "--memory", "64GB", "--dsn", dsn
    )
    assert done.stdout == "random_page_cost = 1.1; it was 4\n", done.stderr
    after = settings()
    assert after.pop("random_page_cost") == "1.1"
    before.pop("random_page_cost", None)
    assert after == before
    done = sqlkit("tune", "--apply", "random_page_cost", "--storage", "ssd", "--dsn", dsn)
    assert done.stdout == "nothing to change\n"

    # The machine is this one: what it has is looked up.
    told = json.loads(sqlkit("tune", "--json", "--dsn", dsn).stdout)
    assert {"shared_buffers", "max_parallel_workers"} <= {line["name"] for line in told["advice"]}
    assert told["changed"] == []
    # Without names: what needs no restart.
    machine = ("--memory", "4GB", "--cores", "2", "--storage", "ssd", "--dsn", dsn)
    done = sqlkit("tune", "--apply", *machine)
    assert done.returncode == 0, done.stderr
    assert "work_mem = " in done.stdout
    assert "restart" not in done.stdout
    assert settings()["shared_buffers"] == before["shared_buffers"]
    assert "shared_buffers: 128MB, advised: 1024MB" in sqlkit("tune", *machine).stdout
    assert "work_mem" not in sqlkit("tune", "shared_buffers", *machine).stdout
    done = sqlkit(
        "tune",
        "--apply",
        "all",
        "--memory",
        "4GB",
        "--cores",
        "2",
        "--storage",
        "ssd",
        "--dsn",
        dsn,
    )
    assert done.returncode == 0, done.stderr
    assert "shared_buffers = 1024MB: after a restart; it was 128MB" in done.stdout
    assert server.cluster is not None
    server.cluster.stop()
    server.cluster.start(server.port)
    with api.connect(dsn) as client:
        advice = client.advise_settings(memory_bytes=4 << 30, cores=2, storage="ssd")
        # The tests' servers are started without care for their data.
        assert {line["name"] for line in advice if not line["is_met"]} <= {
            "fsync",
            "full_page_writes",
        }


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_the_memory_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tuning, "_CGROUPS", tmp_path)
    whole = tuning._this_machine(None).memory_bytes
    assert whole is not None
    (tmp_path / name).parent.mkdir(exist_ok=True)
    for told, seen in (("268435456\n", 1 << 28), ("max\n", whole), (str(1 << 62), whole)):
        (tmp_path / name).write_text(told)
        assert tuning._this_machine(None).memory_bytes == seen


def test_what_cannot_be_is_told(dsn: str, sqlkit: RunSqlkit) -> None:
    with api.connect(dsn) as client, pytest.raises(UsageError) as refused:
        client.apply_settings(client.advise_settings(storage="ssd"), ["search_path"])
    assert "random_page_cost" in (refused.value.hint or "")
    assert sqlkit("tune", "--storage", "tape", "--dsn", dsn).returncode == 1
    assert sqlkit("tune", "search_path", "--dsn", dsn).returncode == 2
    assert sqlkit("tune", "--rows", "many", "--dsn", dsn).returncode == 2


def test_a_planned_load_is_sized(dsn: str, sqlkit: RunSqlkit) -> None:
    done = sqlkit(
        *("tune", "--rows", "130M", "--row-bytes", "400", "--indexes", "2", "--dsn", dsn, "--json")
    )
    sizes = {size["what"]: size for size in json.loads(done.stdout)["size"]}
    assert 130e6 * 428 < sizes["table"]["bytes"] < 130e6 * 500
    assert sizes["storage"]["bytes"] > sizes["table"]["bytes"] + sizes["indexes"]["bytes"]
    assert sizes["time"]["amount"] == "unknown"
    shown = sqlkit("tune", "--rows", "130M", "--row-bytes", "400", "--dsn", dsn).stdout
    lines = {line.split()[0]: line for line in shown.splitlines()}
    assert list(lines) == list(sizes)
    assert {"storage", "memory", "cores", "WAL"} < set(lines)
    assert re.search(r" 52 GB +130000000 rows of 400 bytes with their headers$", lines["table"])
    assert re.search(r"cores +2 to 4 +one that decodes, ", lines["cores"])


def test_a_tuned_run_says_what_it_did_and_leaves_nothing(
    connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    connection.execute("create table price (id integer primary key, amount integer)")
    connection.execute("create index price_amount on price (amount)")
    connection.execute("insert into price select n, n from generate_series(1, 5000) as n")
    file = tmp_path / "a.csv"
    for change in (1, 2):  # of a fifth of the rows
        file.write_text("id,amount\n" + "".join(f"{n},{-n * change}\n" for n in range(1, 1001)))
        done = sqlkit("load", file, "--into", "public.price", "--tune", "--dsn", dsn)
        assert done.returncode == 0, done.stderr
        assert "- tune: autovacuum of public.price is off until the run ends" in done.stdout
        connection.execute("select pg_stat_force_next_flush()")
    file.write_text("id,amount\n" + "".join(f"{n},{n * 3}\n" for n in range(1, 1001)))
    with api.connect(dsn) as client:
        result = client.load(file, into="public.price", tune=True)
        advice = [note for note in result.notes if note.startswith("advice")]
        assert len(advice) == 1
        assert "alter table public.price set (fillfactor = 80) (now 100)" in advice[0]
        refreshed = client.refresh(
            "public.price",
            query="select 1 as id, 1 as amount",
            strategy="swap",
            delete_share=1,
            tune=True,
        )
        assert any("is off until the run ends" in reason for reason in refreshed.reasons)
        with pytest.raises(api.SqlkitError) as refused:
            client.load(tmp_path / "a.csv", into="public.price", again=True, warm=True)
        assert refused.value.code == "SK701"
    options = "select reloptions from pg_class where oid = 'price'::regclass"
    assert connection.execute(options).fetchone() == (None,)
    # What was decided about indexes is in the ledger.
    shown = sqlkit("runs", str(result.run_id), "--dsn", dsn)
    assert "kept: 1000 rows are fewer than 20000 (rebuild_rows)" in shown.stdout


LOOKING = """
create table seen (by text, work_mem text, maintenance_work_mem text, synchronous_commit text);
create function look() returns trigger language plpgsql as $$
begin
    insert into public.seen values (
        tg_argv[0], current_setting('work_mem'), current_setting('maintenance_work_mem'),
        current_setting('synchronous_commit')
    );
    return null;
end $$;
create trigger look after insert or update on price
for each statement execute function look('price')
"""


def test_a_tuned_run_has_what_it_says(
    connection: psycopg.Connection, dsn: str, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    connection.execute("create table price (id integer primary key, amount integer)")
    connection.execute(LOOKING)
    (tmp_path / "a.csv").write_text("id,amount\n1,1\n2,2\n")
    memory = connection.execute(
        "select current_setting(name), "
        "pg_size_bytes(current_setting(name)) < pg_size_bytes(sqlkit._memory_for_load(name)), "
        "pg_size_bytes(sqlkit._memory_for_load(name)) "
        "from unnest(array['work_mem', 'maintenance_work_mem']) as name"
    ).fetchall()
    assert memory[0][1], "the tests' servers have more to give"
    plain = tuple(usual for usual, _, _ in memory)
    given = [size for _, _, size in memory]
    seen = (
        "with gone as (delete from seen returning *) select distinct work_mem, "
        "maintenance_work_mem, pg_size_bytes(work_mem), pg_size_bytes(maintenance_work_mem), "
        "synchronous_commit from gone"
    )
    usual = connection.execute("show synchronous_commit").fetchone()
    assert usual is not None
    commands = {
        # What a load commits may be lost in a crash with its ledger, tuned or not.
        "off": ("load", "a.csv", "--again", "--into", "public.price"),
        usual[0]: ("refresh", "public.price", "--from", "select 3 as id, 3 as amount"),
    }
    assert set(commands) == {"off", "on"}
    for commits, command in commands.items():
        more = ("--max-delete", "100%") if command[0] == "refresh" else ()
        for tuned in (False, True):
            connection.execute("delete from price")
            connection.execute("delete from seen")
            options = (*more, *(["--tune"] if tuned else []))
            done = sqlkit(*command, *options, "--dsn", dsn)
            assert done.returncode == 0, done.stderr
            found = connection.execute(seen).fetchall()
            assert len(found) == 1
            if tuned:
                assert [*found[0][2:]] == [*given, "off"], command
            else:
                assert (*found[0][:2], found[0][4]) == (*plain, commits), command


def test_an_index_is_warmed_where_it_can_be(
    connection: psycopg.Connection,
    superuser: psycopg.Connection,
    dsn: str,
    sqlkit: RunSqlkit,
    tmp_path: Path,
) -> None:
    offered = "select from pg_available_extensions where name = 'pg_prewarm'"
    if superuser.execute(offered.encode()).rowcount == 0:
        missing("this server comes without pg_prewarm")
    superuser.execute("create extension pg_prewarm schema public")
    connection.execute("create table price (id integer primary key, amount integer)")
    connection.execute("insert into price select n, n from generate_series(1, 60000) as n")
    (tmp_path / "a.csv").write_text("id,amount\n1,-1\n")
    load = ("load", "a.csv", "--into", "public.price", "--again", "--dsn", dsn)
    told = sqlkit(*load, "--tune").stdout
    assert "- offer: --warm reads the index of the key, 1328 kB, into memory" in told, told
    told = sqlkit(*load, "--warm").stdout
    assert re.search(r"- warm: 1,359,872 bytes of \S*price_pkey read into memory in ", told), told


def test_the_workload_is_a_reason(server: Server, database: Database) -> None:
    """What the server has written in the way of temporary files, and why it checkpointed."""
    with database.connect() as connection:
        connection.execute("set work_mem = '64kB'")
        connection.execute("select count(*) from (select n from generate_series(1, 99999) as n "
                           "order by n % 7) as s")  # fmt: skip
        connection.execute("select pg_stat_force_next_flush()")
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        for _ in range(30):
            admin.execute("checkpoint")
        requested = admin.execute(
            "select 100.0 * num_requested / (num_timed + num_requested) from pg_stat_checkpointer"
        ).fetchone()
        assert requested is not None
        present = admin.execute(
            "select setting::integer from pg_settings where name = 'max_wal_size'"
        ).fetchone()
        assert present is not None
    with api.connect(database.dsn) as client:
        advice = {
            line["name"]: line for line in client.advise_settings(memory_bytes=1 << 34, cores=8)
        }
    why = advice["work_mem"]["why"]
    assert re.search(r"; [1-9]\d* temporary files with \d+ [kM]B were written so far$", why), why
    why = advice["max_wal_size"]["why"]
    assert requested[0] > 10
    assert why.startswith(f"{requested[0]:.0f}% of the checkpoints came before their time"), why
    assert advice["max_wal_size"]["advised"] == f"{4 * present[0]}MB"
