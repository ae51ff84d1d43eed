"""From nothing installed to a mask: `segment` and the coding agents' skill install the phantom's real model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archive_server import ArchiveServer, running, serve
from trained import write_zip

from medsegagent.errors import ExitCode
from medsegagent.phantom import CARDS, MODELS, make_patient, write_patient

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the skill's lines are for a POSIX shell")
SKILL = Path(__file__).resolve().parents[2] / "skills" / "medsegagent-nnunet-runner"
DATASET = "Dataset901_Phantom_CT_Organs"


@pytest.fixture(scope="module")
def server() -> Iterator[ArchiveServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, server: ArchiveServer) -> Path:
    """A folder with a CT, and a library whose one model is to be had from the server."""
    place = tmp_path_factory.mktemp("place")
    files = {path.relative_to(MODELS).as_posix(): path.read_bytes() for path in (MODELS / DATASET).rglob("*.*")}
    server.routes[f"/{DATASET}.zip"] = serve(write_zip(place / "made.zip", files).read_bytes())
    card = json.loads((CARDS / "Phantom_CT_Organs.json").read_text())
    source = {"url": server.url(f"/{DATASET}.zip"), "archive": f"{DATASET}.zip", "licence": "Apache-2.0"}
    card["models"][0]["parts"][0]["source"] = source
    (place / "cards").mkdir()
    (place / "cards" / "card.json").write_text(json.dumps(card))
    write_patient(make_patient(4242, contrast="CT"), place / "ct.nii.gz")
    return place


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a shell line as the skill has it, with an empty model store."""
    variables = {
        "MEDSEGAGENT_MODELS": str(tmp_path / "store"),
        "INSTRUCTION": "the liver and the spleen in this CT",
        "IMAGE": str(place / "ct.nii.gz"),
        "OUT": str(tmp_path / "out"),
        "LIBRARY": str(place / "cards"),
        "COLUMNS": "200",
        "PYTHONPATH": str(SKILL.parents[1]),
    }
    environment = {key: value for key, value in os.environ.items() if key != "nnUNet_results"} | variables

    def call(line: str) -> subprocess.CompletedProcess[str]:
        # The console script and the bare `python` may not be on the path of a test run; the module is.
        line = re.sub(r"^medsegagent ", f"{sys.executable} -m medsegagent ", line)
        line = re.sub(r"^python ", f"{sys.executable} ", line)
        command = ["sh", "-c", line]
        return subprocess.run(
            command, cwd=SKILL, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    return call


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (SKILL / "SKILL.md").read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_every_command_that_the_skill_names_runs_in_its_order(
    run: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    answers = {line: run(line) for line in commands()}
    assert len(answers) >= 9
    assert {line: done.stderr for line, done in answers.items() if done.returncode} == {}
    deployed = next(done.stdout for line, done in answers.items() if "deployed.py" in line)
    assert "Phantom_CT_Organs, values [1, 4]: not installed" in deployed
    assert "phantom/ct_organs (download, licence: Apache-2.0)" in deployed
    report = next(done.stdout for line, done in answers.items() if "report.py" in line)
    assert "Planned: phantom/ct_organs (card Phantom_CT_Organs), rank 1" in report
    assert re.search(r"^liver: \d+\.\d mL \(models: phantom/ct_organs", report, flags=re.MULTILINE)
    for line, done in answers.items():
        if "--json" in line:
            json.loads(done.stdout)


def test_what_the_skill_says_of_json_is_what_the_commands_print(
    run: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    text = (SKILL / "references" / "json.md").read_text()
    for line in ("medsegagent targets --json", 'medsegagent models search "" --library "$LIBRARY" --json'):
        (row, *_) = json.loads(run(line).stdout)
        documented = next(told for told in text.splitlines() if line.split(" --")[0].split(' ""')[0] in told)
        assert [key for key in row if f"`{key}`" not in documented and key != "model"] == []


class TestSegmentInstallsWhatItLacks:
    LINE = 'medsegagent segment "$INSTRUCTION" -i "$IMAGE" -o "$OUT" --library "$LIBRARY" --device cpu'

    def test_with_consent_given_beforehand(
        self, run: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        done = run(f"{self.LINE} --yes")
        assert done.returncode == 0, done.stderr
        assert "phantom/ct_organs; licence: Apache-2.0" in done.stderr
        assert (tmp_path / "out" / "segmentation.nii.gz").exists()

    @pytest.mark.parametrize("option", ["", "--offline", "--offline --yes", "--no-input"])
    def test_never_without(
        self,
        run: Callable[[str], subprocess.CompletedProcess[str]],
        server: ArchiveServer,
        tmp_path: Path,
        option: str,
    ) -> None:
        before = len(server.requests)
        done = run(f"{self.LINE} {option}")
        assert done.returncode == ExitCode.NO_MODEL, done.stderr
        assert "medsegagent models install" in done.stderr
        assert len(server.requests) == before
        assert not (tmp_path / "out").exists()
