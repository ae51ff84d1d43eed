"""What every room's tests share: the phantom's real models and patients, and the command line run in-process."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from medsegagent.cli.app import run_app
from medsegagent.phantom import CARDS, MODELS, make_patient, write_patient

TEST_SEED = 4242
"""A patient that no demo model has seen."""


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def children_hear_ctrl_c() -> Iterator[None]:
    """A shell starts what it puts in the background deaf to Ctrl-C, and children inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def ct_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic CT on disk; read it, don't change it."""
    file = tmp_path_factory.mktemp("patient") / "ct.nii.gz"
    write_patient(make_patient(TEST_SEED, contrast="CT"), file)
    return file


@pytest.fixture(scope="session")
def mr_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic MR on disk; read it, don't change it."""
    file = tmp_path_factory.mktemp("patient") / "mr.nii.gz"
    write_patient(make_patient(TEST_SEED, contrast="MR"), file)
    return file


@pytest.fixture
def models_copy(tmp_path: Path) -> Path:
    """The phantom's models in a folder that a test may break."""
    return Path(shutil.copytree(MODELS, tmp_path / "nnUNet_results"))


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Answer]:
    """Run the command line in-process, with nothing installed: exit code, stdout, stderr."""
    monkeypatch.delenv("nnUNet_results", raising=False)
    monkeypatch.setenv("MEDSEGAGENT_MODELS", str(tmp_path / "model_store"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        code = run_app([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def segment_phantom(cli: Callable[..., Answer], tmp_path: Path) -> Callable[..., Answer]:
    """`medsegagent segment` with the phantom's cards and models, into `tmp_path / "out"`."""

    def run(instruction: str, image: object, *more: object, models: Path = MODELS) -> Answer:
        given = ("--library", CARDS, "--models-dir", models, "-o", tmp_path / "out", "--device", "cpu", "--no-input")
        return cli("segment", instruction, "-i", image, *given, *more)

    return run
