"""Fetch one file over HTTP: continued after a cut, retried, never longer than announced or allowed."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medsegagent.errors import ModelError, NoModelError, OutputError

if TYPE_CHECKING:
    import httpx

Progress = Callable[[int, int | None], None]
"""Told the bytes there so far, and in all where that is known."""

SIZE_LIMIT = 32 * 2**30
"""Bytes; the largest public archives have a few GB."""

_CHUNK = 2**20
_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
_HEADROOM = 64 * 2**20


@dataclass(frozen=True)
class Patience:
    """How long to keep trying.

    Attributes:
        attempts: In a row without at least one MiB gained.
        timeout_s: Without a sign of life, while connecting and while reading.
        pause_s: Before the second attempt; doubled each time.
        slowest: Bytes per second, over each `timeout_s`; who sends less is as good as silent.
    """

    attempts: int = 5
    timeout_s: float = 60.0
    pause_s: float = 1.0
    slowest: float = 1024.0


class _Cut(Exception):
    """The transfer ended early or the server is busy; another attempt may do."""


def download(
    url: str, file: Path, *, size: int | None = None, progress: Progress | None = None, patience: Patience | None = None
) -> None:
    """Fetch `url` into `file`.

    What has come before a cut (or Ctrl-C) stays beside it as `FILE.part`, and the next call goes on from there if the
    server still has the same file.

    Args:
        url: http or https; a redirect from https to http, or from the internet into a private network, is refused.
        file: Target; its folder is made. Appears only when complete.
        size: Bytes expected, if known.
        progress: Called as bytes arrive.
        patience: How long to keep trying.

    Raises:
        NoModelError: If the server refuses, or does not deliver in spite of retries.
        ModelError: If the length is not the one expected, or beyond `SIZE_LIMIT`.
        OutputError: If the disk is full or cannot be written.
    """
    import httpx

    patience = patience or Patience()
    partial = _Partial(file, url)
    failures = 0
    with httpx.Client(timeout=patience.timeout_s, follow_redirects=True, max_redirects=5) as client:
        client.event_hooks["request"] = [refuse_downgrade(url), refuse_private(url)]
        while True:
            before = partial.size
            try:
                _fetch(client, url, partial, size, _Pace(patience, progress))
                partial.finish()
                return
            except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
                raise NoModelError(f"the download failed ({error})", "Check the address.", url) from error
            except (httpx.HTTPError, _Cut) as error:
                failures = 1 if partial.size - before >= _CHUNK else failures + 1
                if failures >= patience.attempts:
                    kept = f"; {partial.size >> 20} MiB are kept" if partial.size else ""
                    what = f"the download failed {failures} times in a row ({str(error) or type(error).__name__}){kept}"
                    raise NoModelError(what, "Run the command again to go on from there.", url) from error
                time.sleep(patience.pause_s * 2 ** (failures - 1))
            except OSError as error:
                what = f"cannot write the download ({error.strerror})"
                raise OutputError(what, "Make room and run the command again.", str(file.parent)) from error


def require_space(folder: Path, wanted: int, purpose: str) -> None:
    """Check that a disk has room.

    Raises:
        OutputError: If it has not; says how much is missing.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted + _HEADROOM:
        missing = (wanted + _HEADROOM - free) / 2**20
        what = f"not enough room to {purpose}: {wanted / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free"
        raise OutputError(what, f"Free {missing:.0f} MiB, or set MEDSEGAGENT_MODELS to another disk.", str(folder))


class _Partial:
    """The part of a file that is there, and what the server said of the whole when it came."""

    def __init__(self, file: Path, url: str) -> None:
        self._file = file
        self._url = url
        self.data = file.with_name(f"{file.name}.part")
        self._about = file.with_name(f"{file.name}.part.json")
        file.parent.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        return self.data.stat().st_size if self.data.exists() else 0

    @property
    def validator(self) -> str:
        """What a resumed request must find unchanged; empty if the file cannot be told from another version."""
        try:
            about = json.loads(self._about.read_text())
        except (OSError, ValueError):
            return ""
        same = isinstance(about, dict) and about.get("url") == self._url
        return str(about.get("validator", "")) if same else ""

    def start(self, validator: str) -> None:
        self.data.write_bytes(b"")
        self._about.write_text(json.dumps({"url": self._url, "validator": validator}))

    def finish(self) -> None:
        self.data.replace(self._file)
        self._about.unlink(missing_ok=True)


class _Pace:
    """Tells of progress, and counts who sends too slowly as cut off."""

    def __init__(self, patience: Patience, progress: Progress | None) -> None:
        self._patience, self._progress = patience, progress
        self._since = time.monotonic()
        self._bytes = 0

    def __call__(self, arrived: int, have: int, total: int | None) -> None:
        self._bytes += arrived
        seconds = time.monotonic() - self._since
        if seconds >= self._patience.timeout_s:
            if self._bytes < self._patience.slowest * seconds:
                raise _Cut(f"the server sends only {self._bytes / seconds:.0f} bytes per second")
            self._since, self._bytes = time.monotonic(), 0
        if self._progress:
            self._progress(have, total)


def _fetch(client: httpx.Client, url: str, partial: _Partial, size: int | None, pace: _Pace) -> None:
    start = partial.size if partial.validator else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": partial.validator}
    with client.stream("GET", url, headers=headers) as response:
        _check_status(response, url)
        given = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        resumed = bool(start and response.status_code == 206 and given and int(given[1]) == start)
        if response.status_code in (206, 416) and not resumed:
            partial.start("")
            raise _Cut(f"the server cannot go on at byte {start}")
        _refuse_page(response, url)
        if not resumed:
            start = 0
            partial.start(_validator(response))
        announced = re.fullmatch(r"[0-9]{1,15}", response.headers.get("Content-Length", ""))
        total = start + int(announced[0]) if announced else None
        if resumed and given and given[2] != "*":
            total = int(given[2])
        _check_length(total, size, url)
        if total is not None:
            require_space(partial.data.parent, total - start, "download it")
        _write(response, partial, start, total, pace)
    if (whole := size if total is None else total) is not None and partial.size < whole:
        raise _Cut(f"it ended after {partial.size} of {whole} bytes")
    _check_length(partial.size, size, url)


def _write(response: httpx.Response, partial: _Partial, have: int, total: int | None, pace: _Pace) -> None:
    with partial.data.open("ab") as data:
        for chunk in response.iter_raw():  # as it comes: a chunk size would lose what is gathered when the line is cut
            data.write(chunk)
            have += len(chunk)
            if have > SIZE_LIMIT:
                _check_length(have, None, str(response.url))
            pace(len(chunk), have, total)


def _check_status(response: Any, url: str) -> None:
    status = response.status_code
    if status == 429 or status >= 500:
        raise _Cut(f"the server answered {status}")
    if status not in (200, 206, 416):
        raise NoModelError(
            f"the server answered {status} {response.reason_phrase}",
            "Look for the archive at its publisher and install it with --from, or name a --mirror.",
            url,
        )


def _refuse_page(response: httpx.Response, url: str) -> None:
    """No archive is a page of HTML; what answers with one is a network's login, or a publisher that moved."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().casefold()
    if kind in ("text/html", "application/xhtml+xml"):
        what = "the server sent a web page where the archive should be"
        raise NoModelError(what, "Open the address in a browser: perhaps the network wants a login first.", url)


def _check_length(length: int | None, wanted: int | None, url: str) -> None:
    if length is not None and length > SIZE_LIMIT:
        raise ModelError(f"the archive has more than {SIZE_LIMIT >> 30} GiB", "This is no model of ours.", url)
    if length is not None and wanted is not None and length != wanted:
        raise ModelError(
            f"the archive has {length} bytes where {wanted} are expected", "Do not use it; tell its publisher.", url
        )


def _validator(response: httpx.Response) -> str:
    tag = str(response.headers.get("ETag", ""))
    return str(response.headers.get("Last-Modified", "")) if not tag or tag.startswith("W/") else tag


def refuse_downgrade(url: str) -> Callable[[httpx.Request], None]:
    """A check of each request: from an https address no redirect may lead to another scheme."""
    secure = url.casefold().startswith("https:")

    def check(request: httpx.Request) -> None:
        if secure and request.url.scheme != "https":
            what = f"it is redirected to an unprotected address ({request.url.host})"
            raise NoModelError(what, "Get the archive from its publisher and install it with --from.", url)

    return check


def refuse_private(url: str) -> Callable[[httpx.Request], None]:
    """A check of each request: from an address on the internet no redirect may lead into a private network."""
    source = urlsplit(url).hostname or ""

    def check(request: httpx.Request) -> None:
        host = request.url.host
        if host != source and _is_private(host) and not _is_private(source):
            what = f"it is redirected into a private network ({host})"
            raise NoModelError(what, "Get the archive from its publisher and install it with --from.", url)

    return check


def _is_private(host: str) -> bool:
    """Whether a name or address leads to this machine or its own networks; a name that nobody knows does not."""
    try:
        found = [str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return False  # behind a proxy names are often not known; then the proxy decides
    addresses = [ipaddress.ip_address(address.partition("%")[0]) for address in found]
    return any(not (getattr(address, "ipv4_mapped", None) or address).is_global for address in addresses)
