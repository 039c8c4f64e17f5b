"""What --tune changes is put back, whatever becomes of the program."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Database, RunSqlkit
from tests.crash.conftest import StartLoad, held_up, value, wait_until, waiting_for_target

OPTIONS = "select reloptions::text from pg_class where oid = 'public.target'::regclass"


@pytest.mark.parametrize("by", ["the next run", "repair"])
def test_a_killed_load_is_put_back(
    by: str,
    database: Database,
    connection: psycopg.Connection,
    files: list[str],
    start_load: StartLoad,
    sqlkit: RunSqlkit,
) -> None:
    connection.execute("alter table target set (fillfactor = 90)")
    with held_up(database):
        load = start_load(database.dsn, *files, "--tune")
        wait_until(lambda: waiting_for_target(connection))
        assert value(connection, OPTIONS) == "{fillfactor=90,autovacuum_enabled=off}"
        load.kill()
    wait_until(
        lambda: (
            value(
                connection,
                "select count(*) from pg_stat_activity "
                "where application_name = 'sqlkit' and datname = current_database()",
            )
            == 0
        )
    )
    assert value(connection, OPTIONS) == "{fillfactor=90,autovacuum_enabled=off}"
    if by == "repair":
        done = sqlkit("repair", "--dsn", database.dsn)
        assert "(public.target): autovacuum put back" in done.stdout, done.stderr
    else:
        assert start_load(database.dsn, *files).result()["rows"]["inserted"] > 0
    assert value(connection, OPTIONS) == "{fillfactor=90}"
    assert value(connection, "select count(*) from sqlkit.tuned_table") == 0
