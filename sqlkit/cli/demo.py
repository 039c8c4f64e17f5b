"""sqlkit demo."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlkit.demo import Step
    from sqlkit.server import Status


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Load a year of real flights into an embedded server, four times.

    The server is always the embedded one of this directory (see sqlkit up), whichever is named.
    The tables lie in the schema nycflights, which is made anew each time.
    """
    from sqlkit import demo, migrate, server

    embedded = server.EmbeddedServer.here()
    dsn = embedded.start()
    migrate.up(dsn)
    if as_json:
        steps = demo.run(dsn)
        rounds = [
            {"title": step.title, "loads": [result.as_dict() for result in step.results]}
            for step in steps
        ]
        print(json.dumps({"dsn": server.hide_password(dsn), "rounds": rounds}, default=str))
        return
    _greet(server.ask(server.Named(dsn, "embedded")))
    demo.run(dsn, on_step=_show)
    _say_goodbye()


def _greet(status: Status) -> None:
    print(f"PostgreSQL {status.server_version} runs in {status.data_directory}")
    print(f"sqlkit {status.sqlkit_version} is deployed in its database {status.database}")


def _show(step: Step) -> None:
    print(f"\n{step.title}")
    print(
        f"{'table':<20}{'read':>9}{'inserted':>10}{'updated':>9}{'unchanged':>11}{'rejected':>10}"
        f"{'seconds':>9}{'rows/s':>11}"
    )
    for result in step.results:
        rows, seconds = result.rows, result.seconds.total
        rate = rows.read / max(seconds, 1e-9)
        print(
            f"{result.target:<20}{rows.read:>9,}{rows.inserted:>10,}{rows.updated:>9,}"
            f"{rows.unchanged:>11,}{rows.rejected:>10,}{seconds:>9.2f}{rate:>11,.0f}"
        )
    sys.stdout.flush()


QUERY = """\
select a.name, count(*) as flights, avg(f.arr_delay)::int as minutes_late
from nycflights.flight as f join nycflights.airline as a using (carrier)
group by a.name order by minutes_late;"""


def _say_goodbye() -> None:
    called = sys.argv[0]
    sqlkit = os.path.relpath(called) if os.sep in called else "sqlkit"
    print(f"\nWhat was loaded is in the ledger:  {sqlkit} runs")
    print(f"What was refused, and why:         {sqlkit} rejects")
    print(f"Stop the server; the data stays:   {sqlkit} down")
    print(f"Look around:                       {sqlkit} psql\n\n{QUERY}")
