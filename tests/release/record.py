"""Records what the release in the making looks like in a database of every supported major.

    python -m tests.release.record

writes ``sqlkit/dist/fingerprint--VERSION.json``, which ``sqlkit migrate verify`` compares with.
It deploys the plain script into a new database of a new server of each version, so all of them
have to be on the machine.
"""

from __future__ import annotations

import sys

import psycopg

from sqlkit import migrate
from sqlkit._release import VERSION
from sqlkit.build import fingerprint_name, migration_name, read_frozen
from sqlkit.fingerprint import Fingerprint, pack, take
from tests.servers import MAJORS, Missing, Server, Session


def record(server: Server) -> Fingerprint:
    """The fingerprint of this release in a new database that has the optional roles."""
    server.drop_database("fingerprint")
    server.create_database("fingerprint")
    dsn = server.dsn("fingerprint")
    migrate.make_roles(dsn)
    migrate.up(dsn, way="script")
    with psycopg.connect(dsn) as connection:
        return take(connection)


def main() -> int:
    """Writes the file; 1 where a version is missing or the release is frozen."""
    path = migrate.DIST / fingerprint_name(VERSION)
    if any(name.endswith(path.name) for name in read_frozen()):
        print(f"{VERSION} is released: its fingerprint does not change", file=sys.stderr)
        return 1
    session = Session.open()
    try:
        fingerprints = {major: record(session.shared(major)) for major in MAJORS}
    except Missing as reason:
        print(reason, file=sys.stderr)
        return 1
    finally:
        session.close()
    script = migrate.read_script(migration_name(None, VERSION))
    path.write_text(pack(VERSION, script, fingerprints), encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
