"""Real databases of MySQL, from ``../shared/data/mysql``, in the tests' MariaDB."""

from __future__ import annotations

import fcntl
import gzip
import re
from pathlib import Path

from tests.servers import MariaServer, Session

EMPLOYEES = ("department", "employee", "dept_emp", "dept_manager", "title", "salary")


def load_employees(server: MariaServer, session: Session, folder: Path) -> None:
    """Fill database `employee`, unless somebody has."""
    parts = [gzip.decompress((folder / "employee.sql.gz").read_bytes())]
    # The client's own commands: `source` names files that are compressed here.
    parts[0] = re.sub(rb"(?m)^(source|flush) .*$", b"", parts[0])
    parts += [
        gzip.decompress((folder / f"load_{name}.sql.gz").read_bytes())
        for name in ("department", "employee", "dept_emp", "dept_manager", "title", "salary1")
    ]
    _once(server, session, "employee", b"\n".join(parts))


def load_sakila(server: MariaServer, session: Session, folder: Path) -> None:
    """Fill database `sakila`, unless somebody has."""
    script = (folder / "sakila-mv-schema.sql").read_bytes()
    script += gzip.decompress((folder / "sakila-mv-data.sql.gz").read_bytes())
    # What is for MySQL 5.7, geometry, MariaDB has too but skips under that number.
    _once(server, session, "sakila", script.replace(b"/*!50705", b"/*!40000"))


def _once(server: MariaServer, session: Session, name: str, script: bytes) -> None:
    ready = session.root / f"mariadb.{name}.ready"
    with ready.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            server.run(script)
            ready.touch()
