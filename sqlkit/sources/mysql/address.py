"""Where rows of MySQL or MariaDB are: ``mysql://user@host:port/database#table``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from sqlkit.errors import UsageError

SCHEMES = ("mysql", "mariadb")
EXAMPLE = "mysql://user@host:3306/database#table"

_OPTIONS = {
    "unix_socket": "unix_socket",
    "connect_timeout": "connect_timeout",
    "option_file": "read_default_file",
    "option_group": "read_default_group",
    "ssl_mode": "ssl_mode",
}
_TLS = {"ssl_ca": "ca", "ssl_cert": "cert", "ssl_key": "key", "ssl_capath": "capath"}
CONNECT_TIMEOUT = 15


@dataclass(frozen=True)
class Address:
    """A server, a database of it, and perhaps a table."""

    scheme: str
    host: str | None
    port: int | None
    database: str
    table: str | None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The address as it is shown to people and kept in the ledger: without user and options."""
        host = self.host or "localhost"
        if ":" in host:
            host = f"[{host}]"
        port = f":{self.port}" if self.port else ""
        table = f"#{quote(self.table, safe='')}" if self.table else ""
        return f"{self.scheme}://{host}{port}/{quote(self.database, safe='')}{table}"

    def arguments(self) -> dict[str, object]:
        """What the driver is called with; the password comes from MYSQL_PWD if none is written."""
        parts = {"host": self.host, "port": self.port, "user": self.user}
        found: dict[str, object] = {
            "database": self.database,
            "connect_timeout": CONNECT_TIMEOUT,
            **{name: value for name, value in parts.items() if value is not None},
        }
        password = self.password if self.password is not None else os.environ.get("MYSQL_PWD")
        if password is not None:
            found["password"] = password
        tls: dict[str, str] = {}
        for name, text in self.options:
            if name in _TLS:
                tls[_TLS[name]] = text
            elif name == "connect_timeout":
                found[name] = int(text)
            else:
                found[_OPTIONS[name]] = text
        if tls:
            found["ssl"] = tls
        return found


def parse_address(text: str) -> Address:
    """Read an address; what is special in its parts is percent-encoded. Raises UsageError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError("an address of MySQL cannot be read", hint=f"Write {EXAMPLE}") from None
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in SCHEMES or not database:
        raise UsageError(
            "an address of MySQL names no database", hint=f"Write {EXAMPLE}"
        )  # without the text, which may hold a password
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    known = [*_OPTIONS, *_TLS]
    for name, value in options:
        if name not in known:
            raise UsageError(
                f"an address of MySQL has no option {name!r}", hint=f"One of {', '.join(known)}."
            )
        if name == "connect_timeout" and not value.isdecimal():
            raise UsageError("connect_timeout is a number of seconds")
    return Address(
        scheme=parts.scheme,
        host=None if parts.hostname is None else unquote(parts.hostname),
        port=port,
        database=database,
        table=unquote(parts.fragment) or None,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        options=options,
    )
