"""sqlkit tune: advice that changes nothing, what is applied when asked for, sizes of a load."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

import sqlkit as api
from sqlkit import UsageError, migrate, tuning
from tests.conftest import OpenServer, RunSqlkit

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
