"""Which mind thinks, and who may be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsegagent.agents.llm.config import Endpoint
from medsegagent.agents.llm.mind import Mind, choose_mind
from medsegagent.errors import ConfigError, UsageError

LOCAL = {"model": "small", "base_url": "http://localhost:11434/v1", "tags": ["local"]}
HOSTED = {"model": "big", "base_url": "https://8.8.8.8/v1", "api_key": "BIG_MODEL_KEY", "tags": ["hosted"]}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIG_MODEL_KEY", raising=False)


def configure(monkeypatch: pytest.MonkeyPatch, *entries: object) -> None:
    monkeypatch.setenv("OAI_CONFIG_LIST", json.dumps(entries))


class TestChoosing:
    def test_without_configuration_the_rules(self) -> None:
        assert choose_mind() == ("rules", None)

    def test_with_a_usable_one_hybrid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configure(monkeypatch, LOCAL)
        kind, endpoint = choose_mind()
        assert kind == "hybrid"
        assert endpoint is not None
        assert endpoint.model == "small"

    def test_a_key_that_is_not_there_leaves_the_default_with_the_rules(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configure(monkeypatch, HOSTED)
        assert choose_mind() == ("rules", None)
        monkeypatch.setenv("BIG_MODEL_KEY", "sk-1")
        assert choose_mind()[0] == "hybrid"

    @pytest.mark.parametrize("asked", [{"kind": "llm"}, {"kind": "hybrid"}, {"model": "big"}, {"tag": "hosted"}])
    def test_but_is_an_error_where_the_model_was_asked_for(
        self, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
    ) -> None:
        configure(monkeypatch, HOSTED)
        with pytest.raises(ConfigError, match="BIG_MODEL_KEY"):
            choose_mind(**asked)

    def test_rules_need_and_read_no_configuration(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OAI_CONFIG_LIST", "[broken")
        assert choose_mind("rules") == ("rules", None)
        with pytest.raises(ConfigError, match="--mind rules"):
            choose_mind()

    def test_an_llm_without_configuration_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="no LLM is configured"):
            choose_mind("llm")

    def test_an_unknown_mind_is_an_error(self) -> None:
        with pytest.raises(UsageError, match=r"^mind: "):
            choose_mind("magic")


class TestPermission:
    def test_a_local_endpoint_needs_none(self) -> None:
        assert Mind("hybrid", Endpoint.model_validate(LOCAL)).permit()

    def test_a_remote_one_needs_the_option_or_the_users_word(self) -> None:
        remote = Endpoint.model_validate(HOSTED)
        questions: list[str] = []

        def say(word: bool) -> Mind:
            return Mind("llm", remote, confirm=lambda text: questions.append(text) or word)

        assert not Mind("llm", remote).permit()
        assert Mind("llm", remote, allow_remote=True).permit()
        assert say(True).permit()
        assert not say(False).permit()
        assert "whole instruction" in questions[0]
        assert "8.8.8.8" in questions[0]
