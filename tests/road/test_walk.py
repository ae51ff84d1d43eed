"""The conversation: who speaks, in which order, and the ways back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsegagent import Options, Said, segment
from medsegagent.errors import AnswerNeededError, NoMatchError, NoModelError
from medsegagent.phantom import CARDS, MODELS
from medsegagent.road.messages import CardsUnusable, Content, NothingLeft, Parsed, Refused, Selected


class Chat:
    """Runs a case and keeps what was said."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.said: list[tuple[str, Content]] = []

    def hear(self, event: object) -> None:
        if isinstance(event, Said):
            self.said.append((event.agent, event.content))

    def run(self, instruction: str, image: Path, models: Path = MODELS, **how: object):
        return segment(
            instruction,
            image,
            self.out,
            library=CARDS,
            models_dir=models,
            on_event=self.hear,
            **how,
        )

    @property
    def speakers(self) -> list[str]:
        return [source for source, _ in self.said]

    def of_type(self, kind: type[Content]) -> list[Content]:
        return [content for _, content in self.said if isinstance(content, kind)]


@pytest.fixture
def chat(tmp_path: Path) -> Chat:
    return Chat(tmp_path / "out")


ROAD = ["user", "Parser", "ModalityMatcher", "AnatomyMatcher", "LabelMatcher", "Executor", "Reporter"]


class TestTheRoad:
    def test_each_agent_speaks_once_when_nothing_goes_wrong(self, chat: Chat, ct_file: Path) -> None:
        result = chat.run("segment the spleen in this CT", ct_file)
        assert chat.speakers == ROAD
        assert [structure.id for structure in result.structures] == ["spleen"]

    def test_the_transcript_holds_what_was_said(self, chat: Chat, ct_file: Path) -> None:
        chat.run("segment the spleen in this CT", ct_file)
        lines = [json.loads(line) for line in (chat.out / "transcript.jsonl").read_text().splitlines()]
        assert [line["source"] for line in lines] == ROAD
        assert lines[0]["content"]["instruction"] == "segment the spleen in this CT"
        assert [line["summary"] for line in lines] == [content.summary for _, content in chat.said]

    def test_the_image_gives_the_modality_that_the_instruction_leaves_out(self, chat: Chat, mr_file: Path) -> None:
        result = chat.run("segment the spleen", mr_file)
        (parsed,) = chat.of_type(Parsed)
        assert parsed.request.modality.families == ("MR",)
        assert all("MR" in card for card in result.selection.labels)

    def test_a_dry_run_stops_after_the_plan_and_writes_nothing(self, chat: Chat, ct_file: Path) -> None:
        result = chat.run("segment the spleen in this CT", ct_file, options=Options(dry_run=True))
        assert chat.speakers == ROAD[:-1]
        assert result.plan.models
        assert not chat.out.exists()


class TestAsking:
    def test_the_parser_asks_where_two_readings_differ_and_nobody_else_speaks(self, chat: Chat, ct_file: Path) -> None:
        with pytest.raises(AnswerNeededError) as asked:
            chat.run("spleen or liver", ct_file)
        assert asked.value.choices == ("spleen and liver", "spleen", "liver")
        assert chat.speakers == ["user", "Parser"]
        assert not chat.out.exists()

    def test_each_choice_is_an_instruction_that_runs(self, chat: Chat, ct_file: Path) -> None:
        with pytest.raises(AnswerNeededError) as asked:
            chat.run("spleen or liver", ct_file)
        result = chat.run(asked.value.choices[2], ct_file, options=Options(dry_run=True))
        assert [target.id for target in result.selection.request.targets] == ["liver"]


class TestTheWaysBack:
    def test_nothing_matched_goes_back_to_the_parser(self, chat: Chat, ct_file: Path) -> None:
        with pytest.raises(NoMatchError):
            chat.run("segment the spinal cord in this CT", ct_file)
        assert chat.speakers[-1] == "Parser"
        assert isinstance(chat.said[-2][1], NothingLeft)
        assert isinstance(chat.said[-1][1], Refused)
        assert not chat.out.exists()

    def test_a_broken_model_goes_back_to_the_label_matcher_and_the_others_go_on(
        self, chat: Chat, ct_file: Path, models_copy: Path
    ) -> None:
        victim = sorted(file for file in models_copy.rglob("checkpoint_final.pth") if "_CT" in str(file))[0]
        victim.write_bytes(victim.read_bytes()[:5000])
        result = chat.run("segment the spleen and the liver in this CT", ct_file, models_copy)
        assert chat.of_type(CardsUnusable)
        assert len(chat.of_type(Selected)) >= 2
        assert chat.speakers[-1] == "Reporter"
        assert any("failed" in warning for warning in result.warnings)
        record = json.loads((chat.out / "run.json").read_text())
        assert [item["model"] for item in record["failed"]]

    def test_a_card_without_an_installed_model_is_taken_out_and_named(
        self, chat: Chat, ct_file: Path, models_copy: Path
    ) -> None:
        victim = sorted(file for file in models_copy.rglob("checkpoint_final.pth") if "_CT" in str(file))[0]
        victim.unlink()
        result = chat.run("segment the spleen and the liver in this CT", ct_file, models_copy)
        (unusable,) = chat.of_type(CardsUnusable)
        assert len(result.selection.labels) == 1
        assert {item.card for item in unusable.skipped}.isdisjoint(result.selection.labels)

    def test_no_model_at_all_is_said_and_nothing_is_written(self, chat: Chat, ct_file: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(NoModelError):
            chat.run("segment the spleen in this CT", ct_file, tmp_path / "empty")
        assert not chat.out.exists()
