from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_server import ArchiveServer, running, serve
from trained import INNER, LABELS, model_files, write_zip

from medsegagent.cli.app import run_app
from medsegagent.errors import ExitCode

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with running() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDSEGAGENT_MODELS", str(tmp_path / "store"))
    monkeypatch.delenv("nnUNet_results", raising=False)
    monkeypatch.delenv("MEDSEGAGENT_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "store"


@pytest.fixture
def run(store: Path, library: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `medsegagent models ...` in-process: exit code, stdout, stderr."""

    def call(command: str, *arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        libraried = command in ("install", "search", "show", "list")
        code = run_app(["models", command, *map(str, arguments), *(["--library", str(library)] if libraried else [])])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def library(tmp_path: Path, server: ArchiveServer) -> Path:
    """Two cards: one with an open model in two speeds, one with a licence-bound model."""
    folder = tmp_path / "cards"
    folder.mkdir()
    open_models = [model("toy/liver", server, licence="CC BY 4.0"), model("toy/liver:fast", server)]
    bound = model("toy/bound", server, licence="by number", licence_required=True, archive="")
    for name, models in (("ToyLiver", open_models), ("ToyBound", [bound])):
        card = {"name": name, "channel_names": {"0": "CT"}, "labels": LABELS, "models": models}
        (folder / f"{name}.json").write_text(json.dumps(card))
    return folder


def model(name: str, server: ArchiveServer, **source: Any) -> dict[str, Any]:
    given = {"url": server.url("/toy.zip"), "archive": "toy.zip"} | source
    return {"id": name, "voter": name.split(":")[0], "parts": [{"dataset_folder": "Dataset900_Toy", "source": given}]}


def toy_archive(tmp_path: Path, size: int = 1000) -> bytes:
    return write_zip(tmp_path / "made.zip", model_files(weights=os.urandom(size))).read_bytes()


def process(library: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "medsegagent", "models", "install", *arguments, "--library", str(library)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_model_is_installed_listed_verified_and_removed(
    run: Run, server: ArchiveServer, store: Path, tmp_path: Path
) -> None:
    server.routes["/toy.zip"] = serve(toy_archive(tmp_path))
    code, out, err = run("install", "toy/liver")
    folder = store / "toy+liver" / "Dataset900_Toy" / INNER
    assert (code, out) == (0, f"toy/liver: installed, {folder}\n")
    assert "licence: CC BY 4.0" in err
    assert run("where", "toy/liver") == (0, f"{store / 'toy+liver'}\n", "")
    (listed,) = json.loads(run("list", "--json")[1])["models"]
    assert (listed["id"], listed["card"]) == ("toy/liver", "ToyLiver")
    assert json.loads(run("verify", "--json")[1]) == [{"model": "toy/liver", "folder": str(folder), "faults": []}]
    (folder / "plans.json").write_text("{}")
    code, out, _ = run("verify", "toy/liver")
    assert code == ExitCode.BAD_INPUT
    assert "plans.json has changed" in out
    assert run("remove", "toy/liver")[0] == 0
    assert json.loads(run("list", "--json")[1])["models"] == []


def test_a_card_gives_its_first_model(run: Run, server: ArchiveServer, store: Path, tmp_path: Path) -> None:
    server.routes["/toy.zip"] = serve(toy_archive(tmp_path))
    assert run("install", "--card", "ToyLiver")[0] == 0
    assert [path.name for path in store.iterdir() if path.name[0] not in ".h"] == ["toy+liver"]


def test_unknown_or_unclear_wishes_are_usage_errors_with_a_hint(run: Run, tmp_path: Path) -> None:
    code, _, err = run("install", "toy/lver")
    assert code == ExitCode.USAGE
    assert "Did you mean toy/liver" in err
    assert run("install")[0] == ExitCode.USAGE
    assert run("install", "toy/liver", "--card", "ToyLiver")[0] == ExitCode.USAGE
    assert run("install", "toy/liver", "toy/bound", "--from", tmp_path)[0] == ExitCode.USAGE
    assert run("show", "nothing")[0] == ExitCode.USAGE
    assert run("remove", "toy/liver")[0] == ExitCode.USAGE


def test_a_licence_bound_model_needs_acceptance_and_its_archive(
    run: Run, server: ArchiveServer, tmp_path: Path
) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files())
    code, _, err = run("install", "toy/bound", "--from", archive)
    assert code == ExitCode.ANSWER_NEEDED
    assert "licence: by number" in err
    assert run("install", "toy/bound", "--accept-licence")[0] == ExitCode.NO_MODEL
    assert run("install", "toy/bound", "--from", archive, "--accept-licence")[0] == 0
    assert server.requests == []


def test_search_and_show_say_what_can_be_had_and_under_which_licence(run: Run) -> None:
    found = {item["id"]: item for item in json.loads(run("search", "liv", "--json")[1])}
    assert {name: (item["access"], item["licence"]) for name, item in found.items()} == {
        "toy/liver": ("download", "CC BY 4.0"),
        "toy/liver:fast": ("download", "unknown"),
        "toy/bound": ("licence", "by number"),
    }
    assert json.loads(run("search", "kidney", "--json")[1]) == []
    shown = run("show", "toy/liver")[1]
    assert "CC BY 4.0" in shown
    assert "toy.zip" in shown
    bound = run("show", "toy/bound")[1]
    assert "by number" in bound
    assert "--from ARCHIVE --accept-licence" in bound


def test_a_mirror_can_be_named_in_the_environment(
    run: Run, server: ArchiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/mirror/toy+liver/toy.zip"] = serve(toy_archive(tmp_path))
    monkeypatch.setenv("MEDSEGAGENT_MIRROR", server.url("/mirror"))
    assert run("install", "toy/liver")[0] == 0


def test_two_processes_that_install_the_same_model_fetch_it_once(
    server: ArchiveServer, library: Path, store: Path, tmp_path: Path
) -> None:
    server.routes["/toy.zip"] = serve(toy_archive(tmp_path, 2**20), pause_s=0.05)
    both = [process(library, "toy/liver") for _ in range(2)]
    answers = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    assert sorted(out.split(",")[0] for out, _ in answers) == ["toy/liver: already there", "toy/liver: installed"]
    assert len(server.requests) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_keeps_what_came_and_the_next_call_goes_on(
    server: ArchiveServer, library: Path, store: Path, tmp_path: Path
) -> None:
    data = toy_archive(tmp_path, 4 * 2**20)
    server.routes["/toy.zip"] = serve(data, pause_s=0.05)
    interrupted = process(library, "toy/liver")
    until = time.monotonic() + 120
    while not any(path.stat().st_size > 2**19 for path in store.glob(".downloads/*.part")):
        assert time.monotonic() < until
        time.sleep(0.02)
    interrupted.send_signal(signal.SIGINT)
    _, err = interrupted.communicate(timeout=120)
    assert interrupted.returncode == ExitCode.INTERRUPTED, err
    assert not (store / "toy+liver").exists()
    server.routes["/toy.zip"] = serve(data)
    resumed = process(library, "toy/liver")
    assert "installed" in resumed.communicate(timeout=120)[0]
    ranges = server.ranges()
    assert ranges[0] is None
    assert int(str(ranges[1]).removeprefix("bytes=").removesuffix("-")) > 2**19


def test_what_an_instruction_needs_is_installed_after_consent(
    run: Run, server: ArchiveServer, store: Path, tmp_path: Path
) -> None:
    server.routes["/toy.zip"] = serve(toy_archive(tmp_path))
    code, _, err = run("install", "--for", "the liver in CT")
    assert code == ExitCode.ANSWER_NEEDED
    assert "toy/liver; licence: CC BY 4.0 (for liver" in err
    assert server.requests == []
    assert run("install", "--for", "the liver in CT", "--yes")[0] == 0
    assert (store / "toy+liver").is_dir()
    code, out, err = run("install", "--for", "liver in CT", "--yes")
    assert (code, out) == (0, "")
    assert "all that it needs is installed" in err
    assert run("install", "--for", "the pancreas in CT", "--yes")[0] == ExitCode.NO_MATCH
