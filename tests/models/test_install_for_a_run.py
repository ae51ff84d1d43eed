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
from terminal import typed
from trained import write_zip

from medsegagent.errors import ExitCode
from medsegagent.phantom import CARDS, MODELS, make_patient, write_patient

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the skill's lines are for a POSIX shell")
SKILL = Path(__file__).resolve().parents[2] / "skills" / "medsegagent-nnunet-runner"
DATASET = "Dataset901_Phantom_CT_Organs"
TUMOUR = "Dataset902_Phantom_CT_Tumour"


@pytest.fixture(scope="module")
def server() -> Iterator[ArchiveServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, server: ArchiveServer) -> Path:
    """A folder with a CT, and a library whose models are to be had from the server."""
    place = tmp_path_factory.mktemp("place")
    (place / "cards").mkdir()
    for dataset in (DATASET, TUMOUR):
        files = {path.relative_to(MODELS).as_posix(): path.read_bytes() for path in (MODELS / dataset).rglob("*.*")}
        server.routes[f"/{dataset}.zip"] = serve(write_zip(place / f"{dataset}.zip", files).read_bytes())
        card = json.loads((CARDS / f"{dataset.partition('_')[2]}.json").read_text())
        source = {"url": server.url(f"/{dataset}.zip"), "archive": f"{dataset}.zip", "licence": "Apache-2.0"}
        card["models"][0]["parts"][0]["source"] = source
        (place / "cards" / f"{dataset}.json").write_text(json.dumps(card))
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

    def call(line: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        # The console script and the bare `python` may not be on the path of a test run; the module is.
        line = re.sub(r"^medsegagent ", f"{sys.executable} -m medsegagent ", line)
        line = re.sub(r"^python ", f"{sys.executable} ", line)
        command = ["sh", "-c", line]
        return subprocess.run(
            command, cwd=SKILL, env=environment, capture_output=True, text=True, check=False, stdin=stdin
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


class TestSegmentInstallsForTargetsThatNoInstalledModelGives:
    LINE = f"{TestSegmentInstallsWhatItLacks.LINE} --max-models 1".replace("$INSTRUCTION", "spleen and liver tumour")

    @pytest.fixture(autouse=True)
    def organs(self, run: Callable[[str], subprocess.CompletedProcess[str]], place: Path) -> None:
        """Only the organs are installed."""
        line = f'medsegagent models install phantom/ct_organs --from {place / DATASET}.zip --library "$LIBRARY"'
        assert run(line).returncode == 0

    @staticmethod
    def written(tmp_path: Path) -> tuple[set[str], str]:
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        return {item["name"] for item in record["structures"]}, " ".join(record["warnings"])

    def test_with_consent_given_beforehand(
        self, run: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
    ) -> None:
        done = run(f"{self.LINE} --yes")
        assert done.returncode == 0, done.stderr
        assert "no installed model gives liver tumor" in done.stderr
        assert "phantom/ct_tumour; licence: Apache-2.0" in done.stderr
        names, warnings = self.written(tmp_path)
        assert names == {"spleen", "liver tumor"}
        assert "not segmented" not in warnings

    def test_where_nobody_can_be_asked_it_goes_on_and_names_the_command(
        self, run: Callable[[str], subprocess.CompletedProcess[str]], server: ArchiveServer, tmp_path: Path
    ) -> None:
        before = len(server.requests)
        done = run(f"{self.LINE} --no-input")
        assert done.returncode == 0, done.stderr
        names, warnings = self.written(tmp_path)
        assert names == {"spleen"}
        assert "liver tumor: not segmented" in warnings
        assert "`medsegagent models install phantom/ct_tumour`" in warnings
        assert len(server.requests) == before

    def test_a_no_in_the_terminal_goes_on_with_the_others(
        self, run: Callable[..., subprocess.CompletedProcess[str]], server: ArchiveServer, tmp_path: Path
    ) -> None:
        before = len(server.requests)
        with typed("n\n") as terminal:
            done = run(self.LINE, stdin=terminal)
        assert done.returncode == 0, done.stderr
        assert "Install?" in done.stderr
        assert self.written(tmp_path)[0] == {"spleen"}
        assert len(server.requests) == before

    def test_what_cannot_be_fetched_does_not_stop_the_others(
        self, run: Callable[[str], subprocess.CompletedProcess[str]], server: ArchiveServer, tmp_path: Path
    ) -> None:
        kept = server.routes.pop(f"/{TUMOUR}.zip")
        try:
            done = run(f"{self.LINE} --yes")
        finally:
            server.routes[f"/{TUMOUR}.zip"] = kept
        assert done.returncode == 0, done.stderr
        assert "404" in done.stderr
        assert self.written(tmp_path)[0] == {"spleen"}
