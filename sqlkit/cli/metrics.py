"""sqlkit metrics: numbers for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sqlkit.errors import SqlkitError, UsageError

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(
    serve: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="Serve them at http://127.0.0.1:PORT/metrics instead; 0 takes a free port.",
        ),
    ] = None,
    dsn: Annotated[str | None, typer.Option(help="The database. See sqlkit --help.")] = None,
) -> None:
    """Print runs, rows, timings, rejects, locks, dead rows, storage and bloat as Prometheus text.

    With --serve they are read anew for each request, on the loopback address only.
    """
    if serve is None:
        print(read_metrics(dsn), end="")
        return
    try:
        made = make_server(serve, dsn)
    except OSError as error:
        raise UsageError(f"port {serve} of 127.0.0.1 cannot be had: {error.strerror}") from None
    with made as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/metrics", flush=True)
        server.serve_forever()


def read_metrics(dsn: str | None) -> str:
    """The metrics of a database as text."""
    from sqlkit.client import connect

    with connect(dsn) as client:
        return as_text(client.metrics())


def as_text(samples: list[dict[str, Any]]) -> str:
    """Samples in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    known: set[str] = set()
    for sample in sorted(samples, key=lambda sample: str(sample["name"])):
        name = sample["name"]
        if name not in known:
            known.add(name)
            lines += [f"# HELP {name} {sample['help']}", f"# TYPE {name} {sample['kind']}"]
        labels = ",".join(f'{key}="{_escape(value)}"' for key, value in sample["labels"].items())
        lines.append(f"{name}{{{labels}}} {float(sample['value'])!r}")
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return str(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def make_server(port: int, dsn: str | None) -> ThreadingHTTPServer:
    """A server on the loopback address; port 0 takes a free one."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/", "/metrics"):
                self.send_error(404)
                return
            try:
                body = read_metrics(dsn).encode()
            except SqlkitError as error:
                # The reason may hold an address or a name: it goes to our log alone.
                self.log_error("%s", error.message)
                self.send_error(503, "the database cannot be read")
                return
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass  # a line for each scrape says nothing

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
