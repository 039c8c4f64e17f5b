"""A TCP proxy that cuts connections: at once, or right before, during or after a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

COMMIT = b"COMMIT\0"


class Cut(Enum):
    """When a connection is cut."""

    BEFORE = "before COMMIT"  # the server never hears of it
    DURING = "during COMMIT"  # the server hears of it, and the client does not know what came of it
    AFTER = "after COMMIT"  # the server has answered, the client does not hear it
    ORPHAN = "the client's side only"  # the server does not even know that the client is gone


class _Messages:
    """Tells the messages of a client apart, whatever pieces they come in."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self._is_start = True

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Each message that is complete with this data: where it begins in it, type and body.

        Only what a query may hold is kept; the body of anything long is left out.
        """
        position = 0
        while position < len(data):
            if self._left:
                taken = min(self._left, len(data) - position)
                self._left -= taken
                position += taken
                continue
            need = 4 if self._is_start else 5
            begins = position
            taken = need - len(self._head)
            self._head += data[position : position + taken]
            position += taken
            if len(self._head) < need:
                return
            length = struct.unpack("!i", self._head[-4:])[0] - 4
            kind = b"" if self._is_start else bytes(self._head[:1])
            self._is_start = False
            self._head.clear()
            self._left = length
            if kind == b"Q" and length == len(COMMIT):
                yield begins, data[position : position + length]


@dataclass
class _Pair:
    client: socket.socket
    server: socket.socket
    answer_is_lost: bool = False
    keeps_server: bool = False
    is_cut: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Listens on a port of its own, in front of a server."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self._kept: list[socket.socket] = []  # ends of the server that do not know of a cut
        self._armed: tuple[Cut, int] | None = None
        self.fired = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more, and cut what there is."""
        self._listener.close()
        self.cut_all()
        self.let_go()

    def arm(self, cut: Cut, commits: int) -> None:
        """Cut the connection that sends the COMMIT after so many others, over all connections."""
        with self._lock:
            self.fired.clear()
            self._armed = (cut, commits)

    def disarm(self) -> None:
        """No COMMIT is waited for any more."""
        with self._lock:
            self._armed = None

    def cut_all(self, *, keeps_server: bool = False) -> int:
        """Cut all connections now; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.keeps_server = keeps_server
            self._cut(pair)
        return len(pairs)

    def let_go(self) -> bool:
        """Now the server notices, too, what was cut on the client's side only; whether it was."""
        with self._lock:
            kept, self._kept = self._kept, []
        for end in kept:
            _shut(end)
        return bool(kept)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = _Pair(client, server)
            with self._lock:
                self._pairs.append(pair)
            threading.Thread(target=self._forward, args=(pair,), daemon=True).start()
            threading.Thread(target=self._return, args=(pair,), daemon=True).start()

    def _due(self) -> Cut | None:
        """What is to be done about the COMMIT that has just come."""
        with self._lock:
            if self._armed is None:
                return None
            cut, left = self._armed
            if left > 0:
                self._armed = (cut, left - 1)
                return None
            self._armed = None
            self.fired.set()
            return cut

    def _forward(self, pair: _Pair) -> None:
        messages = _Messages()
        with contextlib.suppress(OSError):
            while data := pair.client.recv(65536):
                for begins, body in messages.feed(data):
                    if body != COMMIT or (cut := self._due()) is None:
                        continue
                    if cut is Cut.BEFORE:
                        pair.server.sendall(data[:begins])
                        self._cut(pair)
                        return
                    if cut is Cut.ORPHAN:
                        pair.server.sendall(data[:begins])
                        pair.keeps_server = True
                        self._cut(pair)
                        return
                    if cut is Cut.DURING:
                        pair.server.sendall(data)
                        self._cut(pair)
                        return
                    pair.answer_is_lost = True
                pair.server.sendall(data)
        self._end(pair)

    def _return(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while data := pair.server.recv(65536):
                if pair.answer_is_lost:
                    self._cut(pair)
                    return
                if not pair.is_cut.is_set():
                    pair.client.sendall(data)
        if not pair.is_cut.is_set():
            self._end(pair)

    def _cut(self, pair: _Pair) -> None:
        pair.is_cut.set()
        # A reset, as a firewall sends it: no waiting, no goodbye.
        with contextlib.suppress(OSError):
            pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _shut(pair.client)
        if pair.keeps_server:
            with self._lock:
                self._kept.append(pair.server)
            threading.Timer(20.0, _shut, (pair.server,)).start()
        else:
            _shut(pair.server)

    def _end(self, pair: _Pair) -> None:
        if pair.is_cut.is_set():
            return
        _shut(pair.client)
        _shut(pair.server)
        with self._lock, contextlib.suppress(ValueError):
            self._pairs.remove(pair)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
