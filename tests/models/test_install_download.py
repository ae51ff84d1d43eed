from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from archive_server import ArchiveServer, Handler, in_turn, redirect, running, serve

from medsegagent.errors import ModelError, NoModelError, OutputError
from medsegagent.models import download as module
from medsegagent.models.download import Patience, download

DATA = bytes(range(256)) * (3 * 2**20 // 256)
QUICK = Patience(attempts=3, timeout_s=20, pause_s=0.01)


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with running() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "model.zip"


def test_a_file_arrives_whole_and_progress_is_told(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA)
    told: list[tuple[int, int | None]] = []
    download(server.url("/m.zip"), target, progress=lambda done, total: told.append((done, total)))
    assert target.read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert [path.name for path in target.parent.iterdir()] == ["model.zip"]


def test_a_cut_connection_is_continued_where_it_broke(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA, cuts=(2**20, 2**20))
    download(server.url("/m.zip"), target, patience=QUICK)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, f"bytes={2**20}-", f"bytes={2 * 2**20}-"]


def test_after_giving_up_the_next_call_goes_on(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA, cuts=(5000, 0, 0))
    with pytest.raises(NoModelError, match=r"3 times in a row.*again"):
        download(server.url("/m.zip"), target, patience=QUICK)
    assert not target.exists()
    download(server.url("/m.zip"), target, patience=QUICK)
    assert target.read_bytes() == DATA
    assert server.ranges()[-1] == "bytes=5000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: ArchiveServer, target: Path) -> None:
    changed = DATA[::-1]
    server.routes["/m.zip"] = in_turn(serve(DATA, cuts=(70_000,)), serve(changed, tag='"v2"'))
    download(server.url("/m.zip"), target, patience=QUICK)
    assert target.read_bytes() == changed


def test_what_was_kept_from_another_address_is_not_continued(server: ArchiveServer, target: Path) -> None:
    server.routes |= {"/a.zip": serve(DATA, cuts=(5000,)), "/b.zip": serve(DATA[::-1])}
    with pytest.raises(NoModelError):
        download(server.url("/a.zip"), target, patience=Patience(attempts=1))
    download(server.url("/b.zip"), target, patience=QUICK)
    assert target.read_bytes() == DATA[::-1]


def test_without_a_way_to_tell_versions_apart_it_starts_anew(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA, tag="", cuts=(70_000,))
    download(server.url("/m.zip"), target, patience=QUICK)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None]


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {}), (206, {"Content_Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}), (416, {})],
    ids=["ranges ignored", "another range given", "range refused"],
)
def test_a_server_that_cannot_continue_gives_the_whole_file(
    server: ArchiveServer, target: Path, status: int, headers: dict[str, str]
) -> None:
    server.routes["/m.zip"] = in_turn(
        serve(DATA, cuts=(70_000,)), lambda handler: handler.answer(status, DATA, **headers), serve(DATA)
    )
    download(server.url("/m.zip"), target, patience=QUICK)
    assert target.read_bytes() == DATA


def test_another_length_than_the_card_says_is_an_error(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA)
    with pytest.raises(ModelError, match=rf"{len(DATA)} bytes where 17 are expected"):
        download(server.url("/m.zip"), target, size=17, patience=QUICK)
    assert not target.exists()


def test_a_file_beyond_the_limit_is_refused_before_it_is_fetched(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = lambda handler: handler.answer(200, b"", announced=module.SIZE_LIMIT + 1)
    with pytest.raises(ModelError, match="more than 32 GiB"):
        download(server.url("/m.zip"), target, patience=QUICK)


@pytest.mark.parametrize(
    "announced", ["-1", "9" * 400, "5, 6", "x", "\xb2"], ids=["negative", "huge", "two", "a letter", "a small 2"]
)
def test_an_announced_size_that_is_none_is_a_failed_download(
    server: ArchiveServer, target: Path, announced: str
) -> None:
    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", announced)
        handler.end_headers()
        handler.wfile.write(DATA)
        handler.close_connection = True

    server.routes["/m.zip"] = route
    with pytest.raises((NoModelError, ModelError)):
        download(server.url("/m.zip"), target, patience=QUICK)
    assert not target.exists()


def test_an_announced_size_that_never_comes_ends(server: ArchiveServer, target: Path) -> None:
    def route(handler: Handler) -> None:
        handler.close_connection = True
        handler.answer(200, DATA[:100], announced=len(DATA))

    server.routes["/m.zip"] = route
    with pytest.raises(NoModelError, match="3 times in a row"):
        download(server.url("/m.zip"), target, patience=QUICK)
    assert len(server.requests) == 3


def test_a_part_is_not_taken_for_the_rest(server: ArchiveServer, target: Path) -> None:
    """Asked to go on at a byte, the server gives a piece of the rest; and a piece of a file to who asked for it all."""

    def piece(handler: Handler) -> None:
        some = f"bytes 70000-70004/{len(DATA)}"
        handler.answer(206, DATA[70_000:70_005], Content_Range=some, ETag='"v1"')

    server.routes["/m.zip"] = in_turn(serve(DATA, cuts=(70_000,)), piece, serve(DATA))
    download(server.url("/m.zip"), target, patience=Patience(attempts=5, pause_s=0.01))
    assert target.read_bytes() == DATA
    unasked = lambda handler: handler.answer(206, DATA[:5], Content_Range=f"bytes 0-4/{len(DATA)}")  # noqa: E731
    server.routes["/n.zip"] = in_turn(unasked, serve(DATA))
    download(server.url("/n.zip"), target, patience=QUICK)
    assert target.read_bytes() == DATA


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(server: ArchiveServer, target: Path) -> None:
    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        with suppress(OSError):
            for at in range(10_000):
                handler.wfile.write(DATA[at : at + 1])
                handler.wfile.flush()
                time.sleep(0.01)

    server.routes["/m.zip"] = drip
    with pytest.raises(NoModelError, match="bytes per second"):
        download(server.url("/m.zip"), target, patience=Patience(attempts=2, timeout_s=0.3, pause_s=0.01, slowest=1e5))


def test_a_web_page_is_not_an_archive(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = lambda handler: handler.answer(200, b"<html>", Content_Type="text/html")
    with pytest.raises(NoModelError, match=r"a web page.*browser"):
        download(server.url("/m.zip"), target, patience=QUICK)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "private",
    [
        *("127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.64.0.1", "0.0.0.0"),
        *("[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:10.0.0.1]", "2130706433", "localhost"),
    ],
)
def test_a_redirect_from_the_internet_into_a_private_network_is_refused(private: str) -> None:
    check = module.refuse_private("https://8.8.8.8/m.zip")
    check(httpx.Request("GET", "https://8.8.8.8/elsewhere.zip"))
    check(httpx.Request("GET", "https://9.9.9.9/m.zip"))
    with pytest.raises(NoModelError, match="private network"):
        check(httpx.Request("GET", f"https://{private}/m.zip"))
    module.refuse_private("http://192.168.7.7/m.zip")(httpx.Request("GET", f"https://{private}/m.zip"))


def test_a_missing_file_is_not_asked_for_twice(server: ArchiveServer, target: Path) -> None:
    with pytest.raises(NoModelError, match=r"404 Not Found.*--from"):
        download(server.url("/gone.zip"), target, patience=QUICK)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server: ArchiveServer, target: Path) -> None:
    busy = lambda handler: handler.answer(503, b"")  # noqa: E731
    server.routes["/m.zip"] = in_turn(busy, lambda handler: handler.answer(429, b""), serve(DATA))
    download(server.url("/m.zip"), target, patience=QUICK)
    assert target.read_bytes() == DATA


def test_redirects_are_followed_but_not_for_ever_nor_to_anything(server: ArchiveServer, target: Path) -> None:
    server.routes |= {
        "/latest": redirect("/v1/m.zip"),
        "/v1/m.zip": serve(DATA),
        "/loop": redirect("/loop"),
        "/local": redirect("file:///etc/passwd"),
    }
    download(server.url("/latest"), target, patience=QUICK)
    assert target.read_bytes() == DATA
    for path in ("/loop", "/local"):
        with pytest.raises(NoModelError):
            download(server.url(path), target.with_name("other.zip"), patience=QUICK)


def test_a_redirect_from_a_protected_to_an_unprotected_address_is_refused() -> None:
    check = module.refuse_downgrade("https://example.org/m.zip")
    check(httpx.Request("GET", "https://mirror.example.org/m.zip"))
    with pytest.raises(NoModelError, match="unprotected"):
        check(httpx.Request("GET", "http://mirror.example.org/m.zip"))


def test_a_server_that_falls_silent_is_given_up(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA, pause_s=1)
    with pytest.raises(NoModelError, match="2 times in a row"):
        download(server.url("/m.zip"), target, patience=Patience(attempts=2, timeout_s=0.2, pause_s=0.01))


def test_a_slow_but_steady_server_is_waited_for(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA, pause_s=0.05)
    download(server.url("/m.zip"), target, patience=Patience(attempts=1, timeout_s=2))
    assert target.read_bytes() == DATA


def test_nobody_listening_is_a_clear_error(server: ArchiveServer, target: Path) -> None:
    url = server.url("/m.zip").replace(str(server.server_port), "1")
    with pytest.raises(NoModelError, match="failed 2 times"):
        download(url, target, patience=Patience(attempts=2, pause_s=0.01))


def test_a_disk_without_room_is_told_before_the_download(
    server: ArchiveServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/m.zip"] = serve(DATA)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match="not enough room to download it: 3 MiB needed"):
        download(server.url("/m.zip"), target, patience=QUICK)
    assert not target.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file size")
def test_a_disk_that_fills_up_meanwhile_keeps_what_came(server: ArchiveServer, target: Path) -> None:
    server.routes["/m.zip"] = serve(DATA)
    limited = (
        "import resource; from pathlib import Path; from medsegagent.models.download import download\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "from medsegagent.errors import OutputError\n"
        f"try: download({server.url('/m.zip')!r}, Path({str(target)!r}))\n"
        "except OutputError as error: raise SystemExit(f'as hoped: {error}')"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert "as hoped" in done.stderr, done.stderr
    assert not target.exists()
    download(server.url("/m.zip"), target)
    assert target.read_bytes() == DATA
