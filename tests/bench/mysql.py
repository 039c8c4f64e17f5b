"""A table of MariaDB, 2.8 million rows: sqlkit against pgloader, on the same servers by turns.

The rows are employees' salaries, thirty times, each time with other numbers of employees. Both make
the table from MariaDB's catalog, with its key, and load it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from tests.bench.measure import CommandError, Sample, run
from tests.bench.server import BenchServer
from tests.mysql_data import load_employees
from tests.servers import MariaServer, Missing, Session

HERE = Path(__file__).resolve().parent
TIMES = 30
DATABASE = "bench_mysql"
TITLE = f"2,847,510 salaries of MariaDB (employees, {TIMES} times)"


def measure(
    server: BenchServer, rounds: int, sqlkit: Sequence[str]
) -> tuple[list[Sample], list[Sample]]:
    """What pgloader and what sqlkit took, round by round. Raises Missing and CommandError."""
    pgloader = shutil.which("pgloader")
    if pgloader is None:
        raise Missing("pgloader is not installed: apt-get install pgloader")
    data = HERE.parents[2] / "shared" / "data" / "mysql" / "employees"
    if not data.exists():
        raise Missing(f"the employees database is not there: {data}")
    session = Session.open()
    try:
        mariadb = session.mariadb()
        load_employees(mariadb, session, data)
        mariadb.run(
            "create table large like salary; insert into large "
            f"select emp_no + 1000000 * seq, amount, from_date, to_date "
            f"from seq_0_to_{TIMES - 1} straight_join salary",
            "employee",
        )
        theirs: list[Sample] = []
        mine: list[Sample] = []
        for round_ in range(rounds):
            server.create(DATABASE)
            with tempfile.TemporaryDirectory() as folder:
                script = Path(folder) / "load"
                script.write_text(_script(server, mariadb))
                theirs.append(_sample([pgloader, str(script)], {}))
            expected = _digest(server, "employee.large")
            server.create(DATABASE)
            environment = server.environment(DATABASE) | {"MYSQL_PWD": mariadb.password}
            run([*sqlkit, "migrate", "up"], environment)
            command = [*sqlkit, "load", mariadb.url("employee", "large"), "--into", "large"]
            mine.append(_sample([*command, "--create"], environment))
            if _digest(server, "large") != expected:
                raise CommandError(f"round {round_ + 1}: the tables differ")
        return theirs, mine
    finally:
        server.drop(DATABASE)
        session.close()


def _sample(command: Sequence[str], environment: dict[str, str]) -> Sample:
    seconds, peak = run(command, environment)
    return Sample(seconds, peak_bytes=peak)


def _script(server: BenchServer, mariadb: MariaServer) -> str:
    target = conninfo_to_dict(server.dsn_of(DATABASE))
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**target)
    return f"""
        load database
            from mysql://{mariadb.user}:{mariadb.password}@{mariadb.host}:{mariadb.port}/employee
            into {url}
            including only table names matching 'large'
        ;
    """


def _digest(server: BenchServer, table: str) -> tuple[int, int]:
    """Rows, and the sum of the beginnings of their MD5."""
    with server.connect(DATABASE) as connection:
        row = connection.execute(
            "select count(*), sum(('x' || left(md5(concat_ws(',', emp_no, amount, from_date, "
            f"to_date)), 8))::bit(32)::bigint) from {table}".encode()
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
