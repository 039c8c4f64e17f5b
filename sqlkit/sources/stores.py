"""Object stores and the web: what is there, what it is now, and its bytes from any place on.

`WebStore` speaks HTTP itself, since only whoever sees each answer can tell whether a range was
ignored, and whether what comes still is what came before. All other stores are those of fsspec:
each is imported where it is used, and finds its credentials as its own tools do.

Errors (`SourceError`): SK102 not there, SK104 a folder, SK120 the store does not answer (this may
pass, and is waited for), SK121 access denied, SK122 it changed while it was read, SK101 all else.
What a library says is shown without addresses' query strings, which may hold signatures.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from sqlkit.errors import SourceError, UsageError
from sqlkit.sources.addresses import SCHEMES, scheme_of, shown

BLOCK = 8 << 20
"""Bytes asked of an object store at a time."""

TIMEOUT = 60.0
"""Seconds without a single byte, or an answer, after which a connection counts as lost."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "sqlkit"}
_QUERY = re.compile(r"\?[^\s'\"<>]+")
_SECRET = re.compile(
    r"(?i)\b(AccountKey|sig|signature|password|secret|token|X-Amz-\w+)(=|:\s*)[^\s&;'\"]+"
)
_CREDENTIALS = {
    "s3": "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket "
    "FSSPEC_S3_ANON=true.",
    "azure": "Set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and "
    "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN.",
    "gcs": "Set GOOGLE_APPLICATION_CREDENTIALS, or log in: gcloud auth application-default login.",
    "http": "Is the address signed, and has the signature expired? A name and a password go into "
    "it: https://NAME:PASSWORD@HOST/",
}


class TransientError(Exception):
    """A store or the way to it fails for the moment. The text holds no secret."""


@dataclass(frozen=True)
class Seen:
    """What a store says of an object: `version` is another whenever the content is."""

    size: int | None
    version: str | None
    is_exact: bool = True
    """False: other contents may have the same version, or the same content another one."""


class Stream(Protocol):
    """The bytes of an object from `start` on, as it was `seen` when they were asked for."""

    start: int
    seen: Seen
    requests: int  # that were made for what was read

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Store(Protocol):
    """Where objects lie."""

    extra: str
    answers_whole: bool
    """True: what one request brings is of one version."""

    def look(self, address: str) -> Seen:
        """What an object is now. Raises SourceError or TransientError."""

    def open(self, address: str, start: int) -> Stream:
        """Its bytes from `start` on, or from 0 where the store cannot do that."""


def without_secrets(error: BaseException) -> str:
    """What a library says of an error, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _SECRET.sub(r"\1\2...", _QUERY.sub("?...", text))[:300]


def denied(address: str, extra: str) -> SourceError:
    """The error for what may not be read with the rights that there are."""
    return SourceError(
        "access is denied", source=shown(address), code="SK121", hint=_CREDENTIALS[extra]
    )


def missing(address: str) -> SourceError:
    """The error for what is not there."""
    return SourceError("there is no such object", source=shown(address), code="SK102")


# The web ----------------------------------------------------------------------------------------


class WebStore:
    """HTTP and HTTPS, by the standard library: proxies of the environment, certificates checked."""

    extra = "http"
    answers_whole = False  # a file may be written while a server sends it

    def look(self, address: str) -> Seen:
        """By GET, whose answer is not read: many signed addresses refuse HEAD."""
        with contextlib.closing(self.open(address, 0)) as stream:
            return stream.seen

    def open(self, address: str, start: int) -> WebStream:
        """See `Store`."""
        bare, login = _without_login(address)
        try:
            request = urllib.request.Request(bare, headers=_HEADERS)
            if start:
                request.add_header("Range", f"bytes={start}-")
            if login is not None:
                # Not for whoever it sends us to.
                request.add_unredirected_header("Authorization", login)
            answer = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and start:
                raise changed(address) from None
            raise _by_status(address, error.code, "http") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise SourceError(
                    f"its certificate is not trusted: {error.reason.verify_message}",
                    source=shown(address),
                    hint="Name your own authorities: SSL_CERT_FILE=FILE",
                ) from None
            why = getattr(error.reason, "strerror", None) or without_secrets(error)
            raise TransientError(f"cannot be reached: {why}") from None
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(without_secrets(error)) from None
        except ValueError as error:
            raise UsageError(f"{shown(address)}: is no address: {without_secrets(error)}") from None
        try:
            return WebStream(address, answer)
        except BaseException:
            answer.close()
            raise


class WebStream:
    """An answer of a server."""

    requests = 1

    def __init__(self, address: str, answer: Any) -> None:
        self._answer = answer
        headers: Message = answer.headers
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity":
            raise SourceError(
                f"comes as {encoding} although it was not asked for",
                source=shown(address),
                code="SK109",
                hint="curl --compressed -fsSL ADDRESS | sqlkit load -",
            )
        self.start = 0
        size: int | None = None
        length = headers.get("Content-Length")
        if answer.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
            if found is None:
                raise SourceError(
                    "answers with a range that it does not name", source=shown(address)
                )
            self.start, size = int(found[1]), int(found[2])
        elif length is not None and length.isdecimal():
            size = int(length)
        elif "chunked" not in headers.get("Transfer-Encoding", "").lower():
            raise SourceError(
                "does not say how long it is, so that nobody could tell whether all of it came",
                source=shown(address),
                hint="curl -fsSL ADDRESS | sqlkit load -",
            )
        tag, written = headers.get("ETag"), headers.get("Last-Modified")
        if tag is not None:
            self.seen = Seen(size, tag, is_exact=not tag.startswith("W/"))
        else:
            self.seen = Seen(size, written, is_exact=_is_past(written, headers.get("Date")))

    def read(self, size: int, /) -> bytes:
        """The next bytes; empty at the end. Raises TransientError where the connection is lost."""
        try:
            # What came before the connection was lost is handed out: `read` would keep it.
            return self._answer.read1(size)  # type: ignore[no-any-return]
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(without_secrets(error)) from None

    def close(self) -> None:
        """Hang up."""
        self._answer.close()


def _is_past(written: str | None, now: str | None) -> bool:
    """Whether a time is so long ago that whatever changes gets another one (RFC 9110, 8.8.2.2)."""
    if written is None or now is None:
        return False
    try:
        apart = parsedate_to_datetime(now) - parsedate_to_datetime(written)
    except (TypeError, ValueError):
        return False
    return apart.total_seconds() >= 60


def _without_login(address: str) -> tuple[str, str | None]:
    """An address without name and password, and the header that they go into."""
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        raise UsageError(f"{shown(address)}: is no address") from None
    login, at, host = parts.netloc.rpartition("@")
    # What is not ASCII or printable is written as browsers do.
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    bare = urllib.parse.urlunsplit((parts.scheme, host, path, parts.query.replace(" ", "%20"), ""))
    if not at:
        return bare, None
    text = urllib.parse.unquote(login).encode()
    return bare, "Basic " + base64.b64encode(text).decode()


def changed(address: str) -> SourceError:
    """The error for an object that is not any more what it was when its first bytes came."""
    return SourceError(
        "it changed while it was read",
        source=shown(address),
        code="SK122",
        hint="Try again when nobody writes it.",
    )


def _by_status(address: str, status: int, extra: str) -> SourceError | TransientError:
    if status in _PASSING:
        return TransientError(f"the server answers {status} {_phrase(status)}")
    if status in (401, 403, 407):
        return denied(address, extra)
    if status in (404, 410):
        return missing(address)
    return SourceError(f"the server answers {status} {_phrase(status)}", source=shown(address))


def _phrase(status: int) -> str:
    return http.client.responses.get(status, "")


# Object stores ----------------------------------------------------------------------------------


class ObjectStore:
    """A store that fsspec knows, for one scheme and authority."""

    answers_whole = True

    def __init__(self, address: str) -> None:
        self.scheme = scheme_of(address) or ""
        self.extra = SCHEMES[self.scheme]
        self._authority = address.partition("://")[2].partition("/")[0]
        needs = UsageError(
            f"{self.scheme}:// needs packages that are not installed",
            hint=f"pip install 'sqlkit[{self.extra}]'",
        )
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise needs from None
        try:
            # What is there is asked for anew each time: a list of yesterday would hide a change.
            self._fs, _ = url_to_fs(address, use_listings_cache=False, skip_instance_cache=True)
        except ImportError:
            raise needs from None
        except Exception as error:  # noqa: BLE001  (every library has its own)
            raise self._known(error, address) from None

    def find(self, pattern: str) -> list[tuple[str, Seen]]:
        """The objects that match a pattern, in no order."""
        with self.telling(pattern):
            found: dict[str, dict[str, Any]] = self._fs.glob(self._path(pattern), detail=True)
        return [
            (self._address(path), _seen(facts))
            for path, facts in found.items()
            if facts.get("type") != "directory"
        ]

    def look(self, address: str) -> Seen:
        """See `Store`."""
        with self.telling(address):
            facts = self._fs.info(self._path(address))
        if facts.get("type") == "directory":
            raise SourceError(
                "is a folder",
                source=shown(address),
                code="SK104",
                hint=f"Name its objects by a pattern: '{shown(address).rstrip('/')}/*.csv'",
            )
        return _seen(facts)

    def open(self, address: str, start: int) -> ObjectStream:
        """See `Store`."""
        with self.telling(address):
            file = self._fs.open(
                self._path(address), "rb", block_size=BLOCK, cache_type="none", cache_options={}
            )
            file.seek(start)
        return ObjectStream(self, address, file, start)

    def _path(self, address: str) -> str:
        path: str = self._fs._strip_protocol(address)
        return path

    def _address(self, path: str) -> str:
        return f"{self.scheme}://{self._authority}/{path.partition('/')[2]}"

    @contextlib.contextmanager
    def telling(self, address: str) -> Iterator[None]:
        """Errors in it are told as ours."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001  (every library has its own)
            raise self._known(error, address) from None

    def _known(self, error: Exception, address: str) -> SourceError | TransientError:
        """An error of one of many libraries as ours, told by what they have in common."""
        name = type(error).__name__
        if isinstance(error, FileNotFoundError):
            return missing(address)
        if name == "FileExpired":
            return changed(address)
        if isinstance(error, PermissionError) or re.search(
            "Credential|Authentication|Forbidden|Unauthorized|DefaultCredentials", name
        ):
            return denied(address, self.extra)
        status = _status_of(error)
        if status is not None:
            return _by_status(address, status, self.extra)
        if isinstance(error, ValueError | TypeError | NotImplementedError):
            return SourceError(
                f"cannot be read: {without_secrets(error)}",
                source=shown(address),
                hint=_CREDENTIALS[self.extra],
            )
        return TransientError(f"{name}: {without_secrets(error)}")


class ObjectStream:
    """An object, read by ranges that the store is asked for one by one."""

    def __init__(self, store: ObjectStore, address: str, file: Any, start: int) -> None:
        self.start = start
        self._store = store
        self.requests = 0
        self._address = address
        self._file = file
        self._ahead = b""
        with store.telling(address):
            self.seen = _seen(file.details)

    def read(self, size: int, /) -> bytes:
        """The next bytes; empty at the end. Raises TransientError where the connection is lost."""
        if not self._ahead:
            self.requests += 1
            with self._store.telling(self._address):
                self._ahead = self._file.read(BLOCK)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def close(self) -> None:
        """Nothing more is asked for."""
        self._file.close()


def _seen(facts: dict[str, Any]) -> Seen:
    version = next(
        (str(facts[key]) for key in ("generation", "ETag", "etag") if facts.get(key)), None
    )
    return Seen(facts.get("size"), version, is_exact=version is not None)


def _status_of(error: BaseException | None) -> int | None:
    """The status of the answer that an error, or its cause, tells of."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(found, int):
                return found
        for attribute in ("status_code", "status", "code"):
            found = getattr(error, attribute, None)
            if isinstance(found, int) and 400 <= found < 600:
                return found
        error = error.__cause__
    return None
