"""The real nnInteractive package on the phantom's weights: in this process, and behind its own server on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest

from medsegagent.errors import (
    AnswerNeededError,
    ModelError,
    PromptableError,
    PromptError,
    SessionLostError,
    UsageError,
)
from medsegagent.images.boxed import Boxed
from medsegagent.models.own_store import ModelHome
from medsegagent.phantom import make_patient
from medsegagent.prompting.catalogue import PHANTOM, Wanted, open_model, overview
from medsegagent.prompting.demo import spoil
from medsegagent.prompting.episode import read_episode, replay, same_mask, write_episode
from medsegagent.prompting.policies.oracle import Oracle, box_of
from medsegagent.prompting.prompts import Box, Packed, Point, Scribble, Seed
from medsegagent.prompting.refine import refine
from medsegagent.prompting.session import PromptSession
from medsegagent.prompting.weights import install_nninteractive

pytestmark = pytest.mark.skipif(find_spec("nnInteractive") is None, reason="the extra [interactive] is not installed")

PATIENT = make_patient(4242, "CT")
LOCAL = Wanted("nninteractive", PHANTOM, device="cpu")


def truth_of(name: str) -> Boxed[np.bool_]:
    return Boxed.of(PATIENT.mask(*(("liver", "liver_lesion") if name == "liver" else (name,))))


@pytest.fixture
def session() -> Iterator[PromptSession]:
    with PromptSession(open_model(LOCAL)) as opened:
        opened.open(PATIENT.image, PATIENT.grid)
        yield opened


def test_the_shipped_weights_are_small_and_say_whose_they_are() -> None:
    assert sum(file.stat().st_size for file in PHANTOM.rglob("*") if file.is_file()) < 300_000
    offered = open_model(LOCAL).capabilities
    assert (offered.adapter, offered.licence, offered.box3d, offered.undo) == (
        "nninteractive",
        "Apache-2.0",
        False,
        True,
    )


FLOORS = {
    "lung_left": 0.8,
    "lung_right": 0.8,
    "liver": 0.8,
    "spleen": 0.8,
    "kidney_left": 0.8,
    "kidney_right": 0.8,
    "bladder": 0.7,
    "stomach": 0.6,
}
"""Dice after one click that the tiny weights must reach; the aorta, thin and long, they do not learn."""


@pytest.mark.parametrize("organ", FLOORS)
def test_a_click_makes_an_organ_and_two_corrections_better_it(organ: str) -> None:
    truth = truth_of(organ)
    episode = refine(open_model(LOCAL), Oracle(truth), PATIENT.image, PATIENT.grid, target=organ, truth=truth, budget=3)
    scores = [turn.dice or 0.0 for turn in episode.turns]
    assert scores[0] > FLOORS[organ]
    assert scores[-1] > scores[0] - 0.06


def test_a_flat_box_and_a_scribble_start_a_mask_and_a_box_in_space_is_refused(session: PromptSession) -> None:
    truth = truth_of("spleen")
    session.apply(box_of(truth, flat=True))
    assert session.mask.any()
    line = np.zeros(truth.shape, bool)
    k, j, _ = (int(index) for index in np.median(np.argwhere(truth.dense()), axis=0))
    line[k, j] = truth.dense()[k, j]
    session.apply(Scribble(voxels=Packed.of(Boxed.of(line))))
    with pytest.raises(PromptError, match="does not take a box in space"):
        session.apply(Box(low=(1, 1, 1), high=(9, 9, 9)))


def test_undo_is_the_packages_own_and_older_prompts_are_replayed(session: PromptSession) -> None:
    truth = truth_of("kidney_left").dense()
    at = np.argwhere(truth)
    voxels = [tuple(int(index) for index in at[len(at) * part // 5][::-1]) for part in (2, 3, 4)]
    masks = [session.mask]
    for voxel in voxels:
        masks.append(session.apply(Point(voxel=voxel)).mask)
    for before in masks[-2::-1]:
        assert session.undo()
        assert same_mask(session.mask, before)


def test_a_seed_is_kept_as_it_is_until_it_is_corrected(session: PromptSession) -> None:
    seed = Boxed.of(PATIENT.mask("spleen"))
    session.apply(Seed(voxels=Packed.of(seed)))
    assert same_mask(session.mask, seed)


def test_a_point_outside_never_reaches_the_package_and_the_session_goes_on(session: PromptSession) -> None:
    inside = Point(voxel=(40, 40, 30))
    session.apply(inside)
    before = session.mask
    with pytest.raises(PromptError, match="outside the image"):
        session.apply(Point(voxel=(0, 0, 500)))
    assert same_mask(session.mask, before)
    session.apply(Point(voxel=(41, 40, 30)))


def test_an_episode_is_replayed_to_the_same_mask(tmp_path: Path) -> None:
    truth = truth_of("bladder")
    episode = refine(open_model(LOCAL), Oracle(truth), PATIENT.image, PATIENT.grid, target="bladder", budget=3)
    write_episode(episode, tmp_path / "e.jsonl")
    with PromptSession(open_model(LOCAL)) as session:
        session.open(PATIENT.image, PATIENT.grid)
        assert same_mask(replay(read_episode(tmp_path / "e.jsonl"), session), episode.mask)


class Pickled:
    """Unpickling it would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_weights_that_would_run_code_are_never_unpickled(tmp_path: Path) -> None:
    import torch

    folder = Path(shutil.copytree(PHANTOM, tmp_path / "weights"))
    torch.save({"network_weights": Pickled(tmp_path / "ran")}, folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(ModelError, match="would run code"):
        open_model(Wanted("nninteractive", folder, device="cpu"))
    assert not (tmp_path / "ran").exists()


def edit(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        (
            "plans.json",
            lambda plans: plans["configurations"]["3d_fullres"]["architecture"].update(network_class_name="os.system"),
            "not allowed",
        ),
        ("inference_info.json", lambda info: info.update(inference_class="Mine"), "inference_class"),
        ("inference_info.json", lambda info: info.update(point_radius=10**9), "point_radius"),
        ("inference_info.json", lambda info: info.update(interaction_channels=5), "do not fit"),
        ("dataset.json", lambda dataset: dataset.update(channel_names={"0": "a", "1": "b"}), "exactly one image"),
    ],
)
def test_json_that_asks_for_more_is_refused(
    name: str, change: Callable[[dict[str, object]], object], complaint: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(PHANTOM, tmp_path / "weights"))
    edit(folder / name, change)
    with pytest.raises(ModelError, match=complaint):
        open_model(Wanted("nninteractive", folder, device="cpu"))


def test_a_folder_without_weights_or_with_several_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptableError, match="not a folder of nnInteractive weights"):
        open_model(Wanted("nninteractive", tmp_path, device="cpu"))
    folder = Path(shutil.copytree(PHANTOM, tmp_path / "weights"))
    (folder / "fold_1").mkdir()
    with pytest.raises(PromptableError, match="2 fold_"):
        open_model(Wanted("nninteractive", folder, device="cpu"))


def test_a_licence_that_restricts_is_asked_for_and_recorded(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PHANTOM, tmp_path / "weights"))
    (folder / "LICENSE").write_text("CC BY-NC-SA 4.0\n")
    with pytest.raises(PromptableError, match="CC BY-NC-SA") as caught:
        open_model(Wanted("nninteractive", folder, device="cpu"))
    assert caught.value.reason == "licence"
    model = open_model(Wanted("nninteractive", folder, device="cpu", licence_accepted=True))
    assert model.capabilities.licence == "CC BY-NC-SA 4.0"


def test_public_weights_are_installed_only_as_published_and_with_the_licence_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEGAGENT_MODELS", str(tmp_path / "store"))
    home = ModelHome(tmp_path / "store")
    with pytest.raises(AnswerNeededError, match="CC BY-NC-SA"):
        install_nninteractive(home, accepted=False)
    with pytest.raises(ModelError, match="not the published one"):
        install_nninteractive(home, accepted=True, source=str(PHANTOM))
    with pytest.raises(PromptableError, match="models install nninteractive"):
        open_model(Wanted("nninteractive", device="cpu"))
    folder, new = install_nninteractive(home, accepted=True, source=str(PHANTOM), checksum="")
    assert new
    assert not install_nninteractive(home, accepted=True)[1]
    record = json.loads((folder / "medsegagent.json").read_text())
    assert record["licence"] == "CC BY-NC-SA 4.0"
    assert len(record["files"]["fold_0/checkpoint_final.pth"]) == 64
    assert open_model(Wanted("nninteractive", device="cpu")).capabilities.points
    assert {row[0]: row[3] for row in overview()}["nninteractive"] == "ready"


class RealServer:
    """`nninteractive-server` in a process of its own."""

    def __init__(self, *options: str, port: int = 0) -> None:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            sys.executable,
            "-c",
            "from nnInteractive.inference.server.main import main; raise SystemExit(main())",
        ]
        command += ["--model-dir", str(PHANTOM), "--fold", "0", "--device", "cpu", "--torch-n-threads", "1"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1200):
            try:
                if httpx.get(f"{self.url}/healthz", trust_env=False).status_code < 500:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError("the server did not start")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    running = RealServer("--idle-timeout-seconds", "3", "--max-sessions", "1")
    yield running
    running.stop()


def test_the_server_gives_the_masks_of_this_process(server: RealServer, session: PromptSession) -> None:
    k, j, i = (int(index) for index in np.median(np.argwhere(PATIENT.mask("spleen")), axis=0))
    prompts = [Seed(voxels=Packed.of(Boxed.of(PATIENT.mask("spleen")))), Point(voxel=(i, j, k))]
    with PromptSession(open_model(Wanted("nninteractive-remote", url=server.url))) as remote:
        remote.open(PATIENT.image, PATIENT.grid)
        for prompt in prompts:
            remote.apply(prompt)
            session.apply(prompt)
            assert same_mask(remote.mask, session.mask)
        assert remote.undo()
        assert same_mask(remote.mask, Boxed.of(PATIENT.mask("spleen")))
        assert remote.capabilities.licence == "Apache-2.0"
        with pytest.raises(PromptableError, match="no session free"):
            open_model(Wanted("nninteractive-remote", url=server.url))


def test_a_lease_that_expires_mid_episode_is_claimed_again_and_nothing_is_lost(server: RealServer) -> None:
    with PromptSession(open_model(Wanted("nninteractive-remote", url=server.url))) as remote:
        remote.open(PATIENT.image, PATIENT.grid)
        first = remote.apply(Point(voxel=(40, 40, 30)))
        assert not first.reconnected
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # the server looks for idle sessions now and then
            time.sleep(1)
            if httpx.get(f"{server.url}/lease_status", headers=_lease(remote), trust_env=False).status_code == 410:
                break
        second = remote.apply(Point(voxel=(42, 40, 30)))
        assert second.reconnected
        with PromptSession(open_model(LOCAL)) as local:
            local.open(PATIENT.image, PATIENT.grid)
            for prompt in remote.prompts:
                local.apply(prompt)
            assert same_mask(local.mask, remote.mask)


def _lease(session: PromptSession) -> dict[str, str]:
    headers = session._model._session._http.headers  # type: ignore[attr-defined]
    return {name: headers[name] for name in headers if "lease" in name.lower()}


def test_a_server_that_is_gone_ends_the_episode_with_what_was_reached() -> None:
    running = RealServer()
    session = PromptSession(open_model(Wanted("nninteractive-remote", url=running.url)))
    session.open(PATIENT.image, PATIENT.grid)
    session.apply(Point(voxel=(40, 40, 30)))
    running.stop()
    with pytest.raises(SessionLostError):
        session.apply(Point(voxel=(41, 40, 30)))
    assert len(session.prompts) == 1
    with pytest.raises(PromptableError, match="cannot be reached"):
        open_model(Wanted("nninteractive-remote", url=running.url))


def test_a_server_with_a_key_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    running = RealServer("--api-key", "secret-key")
    try:
        with pytest.raises(PromptableError, match=r"401|403") as caught:
            open_model(Wanted("nninteractive-remote", url=running.url))
        assert "secret-key" not in str(caught.value)
        monkeypatch.setenv("NN_INTERACTIVE_API_KEY", "secret-key")
        open_model(Wanted("nninteractive-remote", url=running.url)).close()
    finally:
        running.stop()


def test_a_remote_model_needs_an_address_on_this_machine_or_consent() -> None:
    with pytest.raises(UsageError, match="--url"):
        open_model(Wanted("nninteractive-remote"))
    with pytest.raises(UsageError, match="--send-images"):
        open_model(Wanted("nninteractive-remote", url="http://203.0.113.5:1527"))


def test_what_is_spoilt_for_the_demo_is_wrong_at_both_ends() -> None:
    from types import SimpleNamespace

    truth = truth_of("spleen")
    run = SimpleNamespace(volume=SimpleNamespace(grid=PATIENT.grid))
    wrong = spoil(truth, run)  # type: ignore[arg-type]
    assert (truth.dense() & ~wrong.dense()).sum() > 100
    assert (wrong.dense() & ~truth.dense()).sum() > 10
