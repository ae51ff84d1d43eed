"""The road as an AutoGen team: thin seats, the same conversation, the same folder, a run per task."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from autogen_agentchat.messages import StructuredMessage

from medsegagent import Options, Segmenter
from medsegagent.agents import build_team
from medsegagent.errors import OutputError
from medsegagent.phantom import CARDS, MODELS
from medsegagent.road.messages import Content, Refused, Reported


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(CARDS, models_dir=MODELS, device="cpu")


ONE = Options(max_models=1)


def talk(team: object, *tasks: str) -> list[list[Content]]:
    async def main() -> list[list[Content]]:
        said = []
        for task in tasks:
            messages = [message async for message in team.run_stream(task=task)]  # type: ignore[attr-defined]
            said.append([message.content for message in messages if isinstance(message, StructuredMessage)])
        return said

    return asyncio.run(main())


def test_it_leaves_the_folder_that_segment_leaves(segmenter: Segmenter, ct_file: Path, tmp_path: Path) -> None:
    talk(build_team(segmenter, ct_file, tmp_path / "team", ONE), "the spleen in this CT")
    segmenter.segment("the spleen in this CT", ct_file, tmp_path / "segment", ONE)
    files = [sorted(file.name for file in (tmp_path / name).rglob("*")) for name in ("team", "segment")]
    assert files[0] == files[1]
    lines = [(tmp_path / name / "transcript.jsonl").read_text().splitlines() for name in ("team", "segment")]
    said = [[(line["source"], line["type"]) for line in map(json.loads, own)] for own in lines]
    assert said[0] == said[1]
    label_maps = [(tmp_path / name / "segmentation.nii.gz").read_bytes() for name in ("team", "segment")]
    assert label_maps[0] == label_maps[1]


def test_a_second_task_answers_with_its_own_masks_in_a_folder_of_its_own(
    segmenter: Segmenter, ct_file: Path, tmp_path: Path
) -> None:
    team = build_team(segmenter, ct_file, tmp_path / "out", ONE)
    first, second = talk(team, "the spleen in this CT", "the liver in this CT")
    assert isinstance(first[-1], Reported)
    assert isinstance(second[-1], Reported)
    assert (first[-1].folder, second[-1].folder) == (str(tmp_path / "out"), str(tmp_path / "out-2"))
    for folder, structure in (("out", "spleen"), ("out-2", "liver")):
        record = json.loads((tmp_path / folder / "run.json").read_text())
        assert [item["id"] for item in record["structures"]] == [structure]


def test_what_cannot_be_answered_is_refused_and_leaves_nothing(
    segmenter: Segmenter, ct_file: Path, tmp_path: Path
) -> None:
    (said,) = talk(build_team(segmenter, ct_file, tmp_path / "out"), "the spinal cord in this CT")
    assert isinstance(said[-1], Refused)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_writing_rights_is_refused_before_the_team_talks(
    segmenter: Segmenter, ct_file: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        build_team(segmenter, ct_file, tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_refused_before_the_team_talks(segmenter: Segmenter, ct_file: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        build_team(segmenter, ct_file, Path("/proc/nowhere/out"))
