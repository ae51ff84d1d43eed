from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from archive_server import ArchiveServer, in_turn, redirect, running, serve

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
