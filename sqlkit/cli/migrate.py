"""sqlkit migrate: deploy, upgrade, review, verify and remove sqlkit's SQL."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from sqlkit.errors import UsageError


class Way(StrEnum):
    """How a database is deployed; it stays with the one it began with."""

    alembic = "alembic"
    extension = "extension"
    script = "script"


Dsn = Annotated[
    str | None,
    typer.Option(
        help="Connection string of the server; else SQLKIT_DSN, the PG* variables, "
        "or the embedded server of this directory.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LockTimeout = Annotated[
    str, typer.Option(help="How long to wait for a lock before stepping back; then it tries again.")
]
Patience = Annotated[
    float, typer.Option(help="Seconds after which to give up trying to get the locks.")
]
To = Annotated[
    str | None,
    typer.Option(help="The release to deploy; the newest by default.", metavar="VERSION"),
]
WayOption = Annotated[Way, typer.Option(help="The way this database is deployed.")]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Deploy, upgrade, verify and remove sqlkit's SQL.",
)


def _find(dsn: str | None) -> str:
    from sqlkit.server import find_dsn

    return find_dsn(dsn)


def _print(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, default=str))


@app.command()
def up(
    dsn: Dsn = None,
    to: To = None,
    way: WayOption = Way.alembic,
    role: Annotated[
        str | None,
        typer.Option(
            help="Act as this role, which then owns what is made; by default the owner of what "
            "is there, else the user.",
            show_default=False,
        ),
    ] = None,
    lock_timeout: LockTimeout = "5s",
    patience: Patience = 300.0,
    as_json: Json = False,
) -> None:
    """Install sqlkit in a database, or bring it to this release. In one transaction.

    Any number of these may run at once: one does the work, all succeed.
    """
    from sqlkit import migrate

    version = migrate.up(
        _find(dsn),
        lock_timeout=lock_timeout,
        to=to,
        way=way.value,
        role=role,
        patience=patience,
    )
    if as_json:
        _print({"version": version})
    else:
        print(f"sqlkit {version}")


@app.command()
def status(dsn: Dsn = None, as_json: Json = False) -> None:
    """Say what is deployed, which way, and what an upgrade would apply."""
    from sqlkit import migrate

    found = migrate.status(_find(dsn))
    if as_json:
        _print(asdict(found))
        return
    if found.version is None:
        print("sqlkit is not deployed here")
    else:
        print(f"sqlkit {found.version}, deployed by {found.channel}, owned by {found.owner}")
    print(f"this package brings {found.shipped}")
    if found.pending:
        print("an upgrade applies " + ", ".join(found.pending))
    if found.version is not None and not found.compatible:
        print("this package does not work with that schema")


@app.command()
def history(dsn: Dsn = None, as_json: Json = False) -> None:
    """List every deployment into this database, oldest first."""
    from sqlkit import migrate

    rows = migrate.history(_find(dsn))
    if as_json:
        _print([asdict(row) for row in rows])
        return
    for row in rows:
        came = f" from {row.previous_version}" if row.previous_version else ""
        at = row.deployed_at.isoformat(sep=" ", timespec="seconds")
        print(f"{at}  {row.version}{came}  {row.channel}  {row.database_user}")
    if not rows:
        print("sqlkit is not deployed here")


@app.command()
def sql(
    dsn: Annotated[
        str | None,
        typer.Option(
            help="Print what this database lacks; without it, and without --from, a whole "
            "installation is printed and no server asked.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="The release to start from.", metavar="VERSION"),
    ] = None,
    to: To = None,
    way: WayOption = Way.alembic,
    lock_timeout: LockTimeout = "5s",
) -> None:
    """Print the script that `up` would run, for review.

    psql -v ON_ERROR_STOP=1 -f runs it; it begins and commits its own transaction.
    """
    from sqlkit import migrate

    if dsn is not None and start is not None:
        raise UsageError("--dsn and --from contradict each other", hint="Give one of them.")
    if dsn is not None:
        start = migrate.status(dsn).version
    sys.stdout.write(migrate.sql(start, to=to, way=way.value, lock_timeout=lock_timeout))


@app.command()
def verify(dsn: Dsn = None, as_json: Json = False) -> None:
    """Compare what is deployed with what the release ships, and name every difference.

    Exit code 1 if there is one.
    """
    from sqlkit import migrate

    found = migrate.verify(_find(dsn))
    if as_json:
        _print({"equal": not found, "differences": [asdict(one) for one in found]})
    else:
        ungranted, others = migrate.without_grants(found)
        for role in ungranted:
            print(f"role {role}: has no rights here: sqlkit migrate roles")
        for one in others:
            print(one)
        if not found:
            print("as released")
    if found:
        raise typer.Exit(1)


@app.command()
def uninstall(
    dsn: Dsn = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Really remove it: the ledger is lost.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Remove it although a run seems to be under way.")
    ] = False,
    lock_timeout: LockTimeout = "5s",
    as_json: Json = False,
) -> None:
    """Remove sqlkit from a database: schemas, ledger, stages. Loaded tables stay.

    It refuses where anything that is not sqlkit's depends on it.
    """
    from sqlkit import migrate

    target = _find(dsn)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError(
                "uninstalling loses the record of everything that was loaded",
                hint="Say --yes if that is meant.",
            )
        typer.confirm("Remove sqlkit and the record of everything it loaded?", abort=True)
    dropped = migrate.uninstall(target, force=force, lock_timeout=lock_timeout)
    if as_json:
        _print({"dropped": dropped})
    elif dropped:
        print(f"removed sqlkit: {len(dropped)} objects. The roles stay, as other databases may")
        print("use them; drop role sqlkit_reader, sqlkit_loader, sqlkit_admin removes them.")
    else:
        print("sqlkit is not deployed here")


@app.command()
def roles(
    dsn: Dsn = None,
    print_sql: Annotated[
        bool, typer.Option("--sql", help="Print the script and do nothing.")
    ] = False,
    lock_timeout: LockTimeout = "5s",
) -> None:
    """Make the roles sqlkit_reader, sqlkit_loader and sqlkit_admin, and grant them their rights."""
    from sqlkit import migrate

    if print_sql:
        sys.stdout.write(migrate.roles_sql())
        return
    migrate.make_roles(_find(dsn), lock_timeout=lock_timeout)
    print("roles sqlkit_reader, sqlkit_loader, sqlkit_admin: grant them to users")


@app.command()
def location() -> None:
    """Print the directory of the revisions, for version_locations of an Alembic of your own."""
    from sqlkit import migrate

    print(migrate.location() / "versions")


migrate = app
