"""Files of the web: whatever a connection or server does, all bytes once, or a clear error."""

from __future__ import annotations

import base64
import email.utils
import gzip
import hashlib
import io
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources import remote, stores
from sqlkit.sources.addresses import shown
from sqlkit.sources.base import Source, WantedColumn
from sqlkit.sources.find import find_sources
from sqlkit.sources.stored import StoredFile
from tests.web import Resource, WebServer, web_server

CONTENT = b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(200_000))
SECRET = "?sig=hunter2&expires=1"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.005)
    monkeypatch.setenv("NO_PROXY", "*")
    with web_server() as server:
        yield server


def source(address: str) -> Source:
    (found,) = find_sources([address])
    return found


def read(found: Source) -> bytes:
    """The decoded content, without its header."""
    reader = found.open(database_encoding="UTF8")
    try:
        wanted = [WantedColumn(name) for name in reader.columns]
        return b"".join(piece.data for piece in reader.pieces(wanted, 1 << 16))
    finally:
        reader.close()


def refused(address: str) -> SourceError:
    """The error of finding or fetching it; nothing in it is a secret."""
    with pytest.raises(SourceError) as caught:
        source(address + SECRET).fingerprint()
    error = caught.value
    assert "hunter2" not in f"{error.message} {error.detail} {error.hint} {error.source}"
    assert error.__cause__ is None
    return error


def test_a_file_is_fetched_once_and_known_by_its_content(web: WebServer) -> None:
    address = web.put("/a.csv.gz", gzip.compress(CONTENT, 1))
    found = source(address + SECRET)
    asked = web.resources["/a.csv.gz"].asked
    assert (found.name, found.format, found.can_reopen) == (address, "csv", True)
    assert found.size == len(web.resources["/a.csv.gz"].content)
    assert found.fingerprint() == hashlib.sha256(web.resources["/a.csv.gz"].content).hexdigest()
    assert len(asked) == 3  # to see it, to fetch it, to see whether it is the same still
    assert read(found) == CONTENT.partition(b"\n")[2]
    assert read(found) == CONTENT.partition(b"\n")[2]
    assert len(asked) == 3


@pytest.mark.parametrize("length", ["known", "chunked"])
@pytest.mark.parametrize("tag", ['"one"', 'W/"weak"', None])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_goes_on_where_it_broke(
    web: WebServer, ranges: bool, tag: str | None, length: str
) -> None:
    resource = Resource(CONTENT, tag=tag, ranges=ranges, length=length)
    found = source(web.put("/a.csv", resource))
    resource.breaks = [100_000, 0, 1_000_000, 5]
    assert found.fingerprint() == hashlib.sha256(CONTENT).hexdigest()
    assert read(found) == CONTENT.partition(b"\n")[2]
    # Only of what is known to be the same a part is asked for.
    assert len(resource.asked) == 7
    ranged = [range_ for range_ in resource.asked if range_]
    if tag == '"one"' and ranges:
        assert ranged == ["bytes=100000-", "bytes=100000-", "bytes=1100000-", "bytes=1100005-"]
    elif tag != '"one"':
        assert ranged == []


def test_connections_that_are_reset(web: WebServer) -> None:
    web.resets = True
    resource = Resource(CONTENT)
    found = source(web.put("/a.csv", resource))
    resource.breaks = [100_000, 0, 1_000_000, 5]
    assert found.fingerprint() == hashlib.sha256(CONTENT).hexdigest()
    assert read(found) == CONTENT.partition(b"\n")[2]


@pytest.mark.parametrize(
    ("modified", "is_old"),
    [
        ("Sat, 01 Jan 2000 00:00:00 GMT", True),
        ("now", False),
        ("yesterday", False),
    ],
)
def test_a_time_long_past_tells_what_is_the_same(
    web: WebServer, modified: str, is_old: bool
) -> None:
    now = email.utils.formatdate(usegmt=True)
    resource = Resource(CONTENT, tag=None, modified=now if modified == "now" else modified)
    found = source(web.put("/a.csv", resource))
    resource.breaks = [100_000]
    assert found.fingerprint() == hashlib.sha256(CONTENT).hexdigest()
    assert ("bytes=100000-" in resource.asked) == is_old
    assert (found.version() is not None) == is_old


def test_without_a_version_what_comes_again_is_compared(web: WebServer) -> None:
    """A server that has ranges and no versions is not asked to go on blindly."""
    resource = Resource(CONTENT, tag=None, ranges=True)
    found = source(web.put("/a.csv", resource))
    resource.breaks = [100_000]
    resource.then = Resource(CONTENT[::-1], tag=None)
    with pytest.raises(SourceError, match="changed while it was read") as caught:
        found.fingerprint()
    assert caught.value.code == "SK122"


@pytest.mark.parametrize(
    ("tag", "ranges", "content"),
    [
        ('"two"', True, CONTENT),
        ('"two"', False, CONTENT),
        ('"one"', True, CONTENT + b"9,more\n"),
        ('"one"', False, b"9" + CONTENT[1:]),
        ('W/"two"', False, b"9" + CONTENT[1:]),
        (None, False, b"9" + CONTENT[1:]),
        (None, False, CONTENT[:50_000]),
    ],
)
def test_what_changes_while_it_is_read_is_an_error(
    web: WebServer, tag: str | None, ranges: bool, content: bytes
) -> None:
    resource = Resource(CONTENT, tag='"one"' if tag else None, ranges=ranges)
    found = source(web.put("/a.csv", resource))
    resource.breaks = [100_000]
    resource.then = Resource(content, tag=tag, ranges=ranges)
    with pytest.raises(SourceError) as caught:
        found.fingerprint()
    assert caught.value.code in ("SK120", "SK122")
    if len(content) == len(CONTENT) or ranges:
        assert caught.value.code == "SK122"


def test_what_changes_without_a_break_is_seen_at_the_end(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = source(web.put("/a.csv", CONTENT))
    real = stores.WebStream.read

    def replaced(stream: stores.WebStream, size: int) -> bytes:
        web.resources["/a.csv"].tag = '"two"'
        return real(stream, size)

    monkeypatch.setattr(stores.WebStream, "read", replaced)
    with pytest.raises(SourceError) as caught:
        found.fingerprint()
    assert caught.value.code == "SK122"


def test_an_error_that_passes_is_waited_for_and_what_came_is_kept(web: WebServer) -> None:
    resource = Resource(CONTENT, statuses=[503, 429])
    found = source(web.put("/a.csv", resource))
    resource.breaks = [1_000_000]
    down = Resource(CONTENT, statuses=[500] * remote.TRIES)
    resource.then = down
    with pytest.raises(SourceError) as caught:
        found.fingerprint()
    assert caught.value.code == "SK120"
    assert "500" in caught.value.message
    # Whoever comes again finds what had come.
    assert found.fingerprint() == hashlib.sha256(CONTENT).hexdigest()
    assert down.asked[-2] == "bytes=1000000-"


def test_errors_say_what_is_the_matter_and_no_secret(web: WebServer) -> None:
    for status, code, message in (
        (404, "SK102", "no such object"),
        (410, "SK102", "no such object"),
        (401, "SK121", "access is denied"),
        (403, "SK121", "access is denied"),
        (400, "SK101", "400 Bad Request"),
        (500, "SK120", "500 Internal Server Error"),
        (503, "SK120", "503 Service Unavailable"),
    ):
        resource = Resource(CONTENT, statuses=[status] * remote.TRIES)
        address = web.put(f"/{status}.csv", resource)
        error = refused(address)
        assert (error.code, error.source) == (code, address), status
        assert message in error.message
        assert len(resource.asked) == (remote.TRIES if code == "SK120" else 1)
    nothing = web.put("/none.csv", b"").replace(str(web.server_port), "1")
    assert refused(nothing).code == "SK120"
    assert (
        "does not say how long"
        in refused(web.put("/endless.csv", Resource(CONTENT, length="none"))).message
    )
    assert (
        "comes as gzip"
        in refused(web.put("/a.csv", Resource(gzip.compress(CONTENT), encoding="gzip"))).message
    )


def test_addresses_that_are_none() -> None:
    for address, message in (
        ("ftp://host/file.csv", "ftp://"),
        ("https://host/*.csv", "cannot be listed"),
        ("http://[::1/a.csv", "no address"),
    ):
        with pytest.raises(UsageError, match=message):
            source(address)


def test_a_login_is_sent_and_never_shown(web: WebServer) -> None:
    login = "Basic " + base64.b64encode(b"me:hunter 2").decode()
    address = web.put("/a.csv", Resource(CONTENT, login=login))
    with_login = address.replace("//", "//me:hunter%202@")
    found = source(with_login)
    assert found.fingerprint() == hashlib.sha256(CONTENT).hexdigest()
    assert found.name == address
    assert refused(address).code == "SK121"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://me:pw@host/a.csv?sig=1#part", "https://host/a.csv"),
        ("https://host?sig=1", "https://host"),
        ("https://token@host/a", "https://host/a"),
        ("abfs://box@account.dfs.core.windows.net/a b.csv", None),
        ("s3://key:secret@box/a?b.csv", "s3://box/a?b.csv"),
        ("s3://box/a.csv", None),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, told: str | None) -> None:
    assert shown(address) == (told or address)


def test_archives_and_parquet_are_read_from_what_was_kept(web: WebServer) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("part10.csv", CONTENT)
        archive.writestr("part2.csv", b"id,name\n1,one\n")
    address = web.put("/a.zip", packed.getvalue())
    found = find_sources([address])
    assert [one.name for one in found] == [f"{address}!part2.csv", f"{address}!part10.csv"]
    assert [read(one) for one in found] == [b"1,one\n", CONTENT.partition(b"\n")[2]]
    for one in found:
        one.release()
    # What was released is fetched again, if it is asked for again.
    assert read(found[0]) == b"1,one\n"

    file = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2], "name": ["one", "two"]}), file)
    found = find_sources([web.put("/a.parquet", file.getvalue())])
    assert found[0].row_count is None
    assert b"one" in read(found[0])


def test_the_format_is_found_out_from_the_first_bytes(web: WebServer) -> None:
    resource = Resource(b'{"id": 1}\n' + b'{"id": 2}\n' * 500_000)
    found = source(web.put("/export", resource))
    assert found.format == "jsonl"


def test_without_room_it_is_fetched_twice(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 1000}))
    resource = Resource(CONTENT)
    found = source(web.put("/a.csv", resource))
    resource.breaks = [100_000]
    fingerprint = found.fingerprint()
    assert fingerprint == hashlib.sha256(CONTENT).hexdigest()
    resource.breaks = [200_000]
    assert read(found) == CONTENT.partition(b"\n")[2]
    # It is not what it was when its digest was made.
    web.put("/a.csv", Resource(CONTENT[:-3] + b"9\n0"[:3], tag=None))
    with pytest.raises(SourceError) as caught:
        read(found)
    assert caught.value.code == "SK122"
    with pytest.raises(SourceError, match="no room"):
        read(source(web.put("/a.parquet", b"PAR1" * 1000)))


def test_memory_does_not_grow_with_what_is_fetched(web: WebServer) -> None:
    found = source(web.put("/a.csv", CONTENT * 10))
    tracemalloc.start()
    try:
        found.fingerprint()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_is_kept_has_no_name_and_goes(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = source(web.put("/a.csv", CONTENT))
    found.fingerprint()
    assert list(tmp_path.iterdir()) == []
    asked = web.resources["/a.csv"].asked
    before = len(asked)
    found.release()
    assert read(found) == CONTENT.partition(b"\n")[2]
    assert len(asked) > before


def test_local_files_know_no_versions(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CONTENT)
    assert StoredFile(str(path)).remote is None
    assert source(str(path)).version() is None
