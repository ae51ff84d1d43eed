from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medsegagent.cards.library import Library
from medsegagent.cli.app import run_app
from medsegagent.errors import ExitCode
from medsegagent.models.targets import Target, search, targets
from medsegagent.vocabulary import load

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rows() -> tuple[Target, ...]:
    return targets(Library.load("all"))


def named(rows: tuple[Target, ...], name: str) -> Target:
    (row,) = (row for row in rows if row.id == name)
    return row


def test_a_target_lists_every_card_that_has_it_by_kind_of_image(rows: tuple[Target, ...]) -> None:
    hippocampus = named(rows, "hippocampus")
    assert hippocampus.sides == ("left", "right")
    assert dict(hippocampus.cards) == {"CT": ("SegRap2023_Task1",), "PET": ("MOOSE_FDG_brain",)}
    assert "LiTS" in named(rows, "tumor.liver").cards["CT"]
    assert "TotalSegmentator_liver_lesions_mr" in named(rows, "lesion.liver").cards["MR"]


def test_a_search_finds_the_thing_its_parts_and_what_begins_like_it(rows: tuple[Target, ...]) -> None:
    vocabulary = load()

    def found(text: str) -> set[str]:
        return {row.id for row in search(rows, text, vocabulary)}

    assert {"lung", "lung_upper_lobe"} <= found("lungs")
    assert "liver" not in found("lungs")
    assert "hippocampus" in found("hippoc")
    assert found("Leber") >= {"liver", "liver_segment_4", "tumor.liver"}
    assert found("xyzzy") == set()


def test_the_command_answers_by_modality_and_search(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_app(["targets", "--modality", "mr", "--search", "hippocampus"]) == ExitCode.NO_MATCH
    capfd.readouterr()
    assert run_app(["targets", "--modality", "PET", "--search", "left hippocampi", "--json"]) == ExitCode.NO_MATCH
    assert run_app(["targets", "--modality", "PET", "--search", "hippocampus", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row["cards"]["PET"] == ["MOOSE_FDG_brain"]


def test_the_page_of_models_is_up_to_date(tmp_path: Path) -> None:
    script = REPOSITORY / "tools" / "make_models_page.py"
    subprocess.run([sys.executable, script, tmp_path / "page.md"], check=True, env={"PYTHONPATH": str(REPOSITORY)})
    made, kept = (tmp_path / "page.md").read_text(), (REPOSITORY / "docs" / "models.md").read_text()
    assert made == kept, "run: python tools/make_models_page.py"
