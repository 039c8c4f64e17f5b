"""sqlkit tune: advice that changes nothing, what is applied when asked for, sizes of a load."""

from __future__ import annotations

import json

import psycopg
import pytest

import sqlkit as api
from sqlkit import UsageError, migrate
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


def test_what_cannot_be_is_told(dsn: str, sqlkit: RunSqlkit) -> None:
    with api.connect(dsn) as client, pytest.raises(UsageError) as refused:
        client.apply_settings(client.advise_settings(storage="ssd"), ["search_path"])
    assert "random_page_cost" in (refused.value.hint or "")
    assert sqlkit("tune", "--storage", "tape", "--dsn", dsn).returncode == 1
    assert sqlkit("tune", "--rows", "many", "--dsn", dsn).returncode == 2


def test_a_planned_load_is_sized(dsn: str, sqlkit: RunSqlkit) -> None:
    done = sqlkit(
        *("tune", "--rows", "130M", "--row-bytes", "400", "--indexes", "2", "--dsn", dsn, "--json")
    )
    sizes = {size["what"]: size for size in json.loads(done.stdout)["size"]}
    assert 130e6 * 428 < sizes["table"]["bytes"] < 130e6 * 500
    assert sizes["storage"]["bytes"] > sizes["table"]["bytes"] + sizes["indexes"]["bytes"]
    assert sizes["time"]["amount"] == "unknown"
