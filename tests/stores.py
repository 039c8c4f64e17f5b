"""Object stores on loopback, each in its own process: moto for S3, Azurite, an emulator of GCS."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers import Missing

AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""Of Azurite's own account, the same for everybody."""
AWS_SECRET = "the-secret-of-aws"


@dataclass(frozen=True)
class StoreServer:
    """A store that runs: where its bucket is, and the environment that leads there."""

    root: str  # s3://bucket
    environment: Mapping[str, str]
    secret: str

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Put objects into the bucket, which is made if need be.

        In a process of its own: what the stores' libraries leave open is none of the tests'.
        """
        text = json.dumps({name: base64.b64encode(data).decode() for name, data in objects.items()})
        subprocess.run(
            [sys.executable, "-c", _PUT, self.root],
            input=text.encode(),
            env=os.environ | dict(self.environment),
            check=True,
            capture_output=True,
            timeout=60,
        )


_PUT = """
import base64, contextlib, json, sys
from fsspec.core import url_to_fs
files, _ = url_to_fs(sys.argv[1])
with contextlib.suppress(Exception):
    files.mkdir(sys.argv[1])
for name, data in json.load(sys.stdin).items():
    files.pipe_file(f"{sys.argv[1]}/{name}", base64.b64decode(data))
"""


def azurite() -> str | None:
    """The command that starts Azurite, where it is installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    ours = cache / "sqlkit-tests" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    return shutil.which("azurite-blob") or (str(ours) if ours.exists() else None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """A server that answers on a port while the block runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(
                            f"{command[0]} did not start:\n{log.read_text()}"
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[StoreServer]:
    """moto's server."""
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "*",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, folder / "moto.log"):
        yield StoreServer("s3://box", environment, AWS_SECRET)


@contextlib.contextmanager
def azure(folder: Path) -> Iterator[StoreServer]:
    """Azurite. Raises Missing."""
    command = azurite()
    if command is None:
        raise Missing("Azurite is not installed: tests/install-services.sh does that, with npm")
    port = free_port()
    environment = {
        "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;"
        f"AccountName=devstoreaccount1;AccountKey={AZURITE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;",
        "NO_PROXY": "*",
    }
    arguments = ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    arguments += ["--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    with running([command, *arguments], port, folder / "azurite.log"):
        yield StoreServer("abfs://box", environment, AZURITE_KEY)


@contextlib.contextmanager
def gcs(folder: Path) -> Iterator[StoreServer]:
    """gcp-storage-emulator."""
    port = free_port()
    environment = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "GOOGLE_CLOUD_PROJECT": "test",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # the emulator knows no such buckets
        "NO_PROXY": "*",
    }
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--in-memory", "--default-bucket", "box"]
    with running(command, port, folder / "gcs.log"):
        yield StoreServer("gs://box", environment, "no-secret-is-asked-for")


STORES = {"s3": s3, "azure": azure, "gcs": gcs}


class Dropping:
    """A proxy on a port of its own that cuts a connection after so many bytes of all answers.

    `after` has a number for each cut that is left to be made; `on_cut` is called at each.
    """

    def __init__(self, port: int, after: list[int]) -> None:
        self.after = after
        self.on_cut: list[Callable[[], object]] = []
        self.cuts = 0
        self._told = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for job in (self._ask, self._answer):
                    threading.Thread(target=job, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                self._told += len(data)
                if self.after and self._told >= self.after[0]:
                    self.after.pop(0)
                    self._told = 0
                    self.cuts += 1
                    for act in self.on_cut:
                        act()
                    break
                client.sendall(data)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Nobody is let in any more."""
        self._listener.close()
