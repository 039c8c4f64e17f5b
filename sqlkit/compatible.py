"""Whether this package and the schema in a database fit together."""

from __future__ import annotations

from sqlkit._release import OLDEST_SCHEMA, VERSION
from sqlkit.errors import SqlkitError


class IncompatibleError(SqlkitError):
    """The schema in the database and this package do not fit together."""

    default_code = "SK905"


def version_key(version: str) -> tuple[int, ...]:
    """Sort key of a version: its numbers."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def check_compatible(version: str | None, oldest_client: str | None = None) -> None:
    """Refuses a schema that this package cannot work with, naming the command that mends it.

    `version` is what ``sqlkit.version()`` returned, None where there is no such function;
    `oldest_client` what ``sqlkit.oldest_client()`` returned, if it was asked. A newer schema of
    the same major version is fine unless it says otherwise, since functions are only added
    within one. Raises IncompatibleError.
    """
    if version is None:
        raise IncompatibleError(
            "sqlkit is not deployed in this database",
            hint="Deploy it: sqlkit migrate up",
        )
    here, shipped = version_key(version), version_key(VERSION)
    if here < version_key(OLDEST_SCHEMA):
        raise IncompatibleError(
            f"the schema sqlkit {version} of this database is too old for this package",
            detail=f"sqlkit {VERSION} needs schema {OLDEST_SCHEMA} or later",
            hint="Upgrade the schema, as its owner: sqlkit migrate up (or, if it is an extension: "
            "alter extension sqlkit update). Until that is done use the package of that schema, "
            f"sqlkit {version}, from where this one came.",
        )
    if here[0] > shipped[0] or (oldest_client and version_key(oldest_client) > shipped):
        needed = oldest_client or f"{here[0]}.0.0"
        raise IncompatibleError(
            f"the schema sqlkit {version} of this database is too new for this package",
            detail=f"it needs sqlkit {needed} or later, and this is {VERSION}",
            hint=f"Upgrade the package to sqlkit {needed} or later, from where this one came.",
        )
