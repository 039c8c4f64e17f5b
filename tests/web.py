"""A small web server on loopback that fails in the ways that servers and networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Resource:
    """What stands at a path, and how it is answered.

    `breaks` says after how many bytes of the body the connection is dropped, request by request;
    `statuses` what is answered in place of the content. Both are used up.
    """

    content: bytes
    tag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    length: str = "known"  # known | chunked | none
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    then: Resource | None = None  # what stands there after the first break
    login: str | None = None
    encoding: str | None = None
    asked: list[str | None] = field(default_factory=list)  # the Range of each request


class WebServer(ThreadingHTTPServer):
    """Serves `resources`, by path without query."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.resources: dict[str, Resource] = {}
        self.resets = False

    def put(self, path: str, resource: Resource | bytes) -> str:
        """Put something there; its address."""
        made = Resource(resource) if isinstance(resource, bytes) else resource
        self.resources[path] = made
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        resource = self.server.resources.get(path)
        if resource is None:
            self._status(404)
            return
        resource.asked.append(self.headers.get("Range"))
        if resource.statuses:
            self._status(resource.statuses.pop(0))
            return
        if resource.login is not None and self.headers.get("Authorization") != resource.login:
            self._status(401)
            return
        start = 0
        if resource.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = resource.content[start:]
        breaks = resource.breaks.pop(0) if resource.breaks else None
        self.send_response(206 if start else 200)
        for name, value in (
            ("ETag", resource.tag),
            ("Last-Modified", resource.modified),
            ("Content-Encoding", resource.encoding),
        ):
            if value is not None:
                self.send_header(name, value)
        whole = len(resource.content)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if resource.length == "known":
            self.send_header("Content-Length", str(len(body)))
        elif resource.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        sent = body if breaks is None else body[:breaks]
        with contextlib.suppress(OSError):
            for piece in (sent[at : at + 65536] for at in range(0, len(sent), 65536)):
                if resource.length == "chunked":
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                else:
                    self.wfile.write(piece)
            self.wfile.flush()
            if breaks is not None:
                if resource.then is not None:
                    resource.then.asked = resource.asked
                    self.server.resources[path] = resource.then
                self._hang_up()
            elif resource.length == "chunked":
                self.wfile.write(b"0\r\n\r\n")

    def _status(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _hang_up(self) -> None:
        """Without any last word; with a reset, which may overtake what was sent, if so wanted."""
        self.close_connection = True
        if self.server.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    """A server that runs while the block does."""
    with WebServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
