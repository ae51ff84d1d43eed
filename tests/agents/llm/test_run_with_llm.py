"""Whole runs with a language model: what is written, what is not, and thinking them through again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from loopback import KEY, Asked, Fails, Loopback, always
from oracle import Oracle

from medsegagent import Library, match, segment
from medsegagent.agents.llm import prompts
from medsegagent.agents.llm.config import Endpoint
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.replay import replay
from medsegagent.cli.app import run_app
from medsegagent.errors import OutputError
from medsegagent.phantom import CARDS, MODELS

Serve = Callable[..., Loopback]
ROOT = Path(__file__).resolve().parents[3]
SPLEEN = "segment the spleen in this CT"
CODED = "segment the wobbling frobnicator in this CT"
MEANT = {CODED: [("wobbling frobnicator", "spleen")]}


def whole(folder: Path) -> str:
    """Everything in a folder, as text."""
    return "\n".join(
        file.read_bytes().decode("utf-8", "replace") for file in sorted(folder.rglob("*")) if file.is_file()
    )


def run(server: Loopback, kind: str, instruction: str, image: Path, out: Path, **mind: Any) -> dict[str, Any]:
    thinker = Mind(kind, Endpoint.model_validate(server.entry()), use_cache=False, **mind)
    segment(instruction, image, out, library=CARDS, models_dir=MODELS, mind=thinker)
    return json.loads((out / "run.json").read_text())


class Made(NamedTuple):
    """A finished run, and what its server was asked; the server is gone."""

    out: Path
    asked: list[Asked]

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.out / "run.json").read_text())


@pytest.fixture(scope="module")
def made(ct_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """Runs by name; read them, don't change them."""
    behaviours = {
        "llm": ("llm", SPLEEN, Oracle(Library.load(CARDS)).about(SPLEEN)),
        "hybrid": ("hybrid", CODED, Oracle(Library.load(CARDS), MEANT).about(CODED)),
        "resolved": ("hybrid", SPLEEN, always("boom")),
        "erred": ("llm", SPLEEN, always("certainly!")),
        "unheard": ("llm", SPLEEN, lambda asked: Fails(500)),
    }
    runs = {}
    for name, (kind, instruction, behaviour) in behaviours.items():
        out = tmp_path_factory.mktemp("runs") / name
        with Loopback(behaviour) as server:
            run(server, kind, instruction, ct_file, out)
            runs[name] = Made(out, list(server.asked))
    return runs


class TestARun:
    def test_it_records_who_thought_and_what_it_cost(self, made: dict[str, Made]) -> None:
        asked = made["llm"].asked
        mind = made["llm"].record["mind"]
        assert (mind["kind"], mind["model"]) == ("llm", "scripted")
        assert mind["prompts"]["parser"] == prompts.load("parser").version
        assert mind["usage"]["total"]["calls"] == len(asked)
        assert mind["usage"]["total"]["prompt_tokens"] == sum(item.prompt_tokens for item in asked)
        assert set(mind["usage"]["agents"]) <= {"Parser", "ModalityMatcher", "AnatomyMatcher", "LabelMatcher"}
        assert all(item.authorization == f"Bearer {KEY}" for item in asked)
        assert asked

    def test_the_transcript_holds_question_and_answer_word_for_word(self, made: dict[str, Made]) -> None:
        out, asked = made["hybrid"]
        lines = [json.loads(line) for line in (out / "transcript.jsonl").read_text().splitlines()]
        (said,) = [line["content"] for line in lines if line["type"] == "Consulted"]
        assert said["question"] == asked[0].turns[0]
        assert json.loads(said["reply"])["targets"] == [{"words": "wobbling frobnicator", "name": "spleen"}]
        assert [structure["id"] for structure in made["hybrid"].record["structures"]] == ["spleen"]

    def test_a_warning_of_the_thinking_reaches_run_json(self, made: dict[str, Made]) -> None:
        assert any("not usable" in warning for warning in made["erred"].record["warnings"])
        assert any("500" in warning for warning in made["unheard"].record["warnings"])

    def test_what_the_rules_resolve_is_asked_of_nobody(self, made: dict[str, Made]) -> None:
        assert made["resolved"].asked == []
        assert made["resolved"].record["mind"]["usage"]["total"]["calls"] == 0

    @pytest.mark.parametrize("name", ["llm", "hybrid", "erred", "unheard"])
    def test_the_key_is_in_no_file(self, made: dict[str, Made], name: str) -> None:
        assert KEY not in whole(made[name].out)


class TestReplay:
    @pytest.mark.parametrize("name", ["llm", "hybrid", "resolved", "erred", "unheard"])
    def test_a_run_is_thought_through_again_without_its_server(self, made: dict[str, Made], name: str) -> None:
        again = replay(made[name].out)
        assert again.same
        assert again.changed == ()
        assert again.asked == (0 if name == "unheard" else len(made[name].asked))
        assert run_app(["replay", str(made[name].out)]) == 0

    def test_an_edited_transcript_is_noticed(
        self, made: dict[str, Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = (made["hybrid"].out / "transcript.jsonl").read_text()
        file = tmp_path / "transcript.jsonl"
        file.write_text(text.replace('\\"spleen\\"', '\\"liver\\"'))
        assert not replay(file, Library.load(CARDS)).same
        assert run_app(["replay", str(file), "--library", str(CARDS)]) == 5
        assert "another selection" in capsys.readouterr().err

    def test_a_question_that_is_another_one_today_is_named(self, made: dict[str, Made], tmp_path: Path) -> None:
        text = (made["hybrid"].out / "transcript.jsonl").read_text()
        file = tmp_path / "transcript.jsonl"
        file.write_text(text.replace("available", "on offer"))
        assert replay(file, Library.load(CARDS)).changed == ("Parser",)

    @pytest.mark.parametrize("text", ["", "{", "[1]", '{"type": "Task", "content": 3}'])
    def test_what_is_no_transcript_is_an_error(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "transcript.jsonl").write_text(text)
        with pytest.raises(OutputError, match=r"transcript\.jsonl"):
            replay(tmp_path)


class TestTheCommandLine:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Callable[..., Path]:
        def write(server: Loopback, **more: Any) -> Path:
            file = tmp_path / "llm.json"
            file.write_text(json.dumps([server.entry(tags=["test"], **more)]))
            return file

        return write

    def test_match_says_what_the_model_cost_and_never_the_key(
        self, serve: Serve, config: Callable[..., Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        library = Library.load("benchmark")
        server = serve(Oracle(library, MEANT).about(CODED))
        options = ["--config", str(config(server)), "--library", "benchmark"]
        assert run_app(["match", CODED, *options, "--json"]) == 0
        plain = capfd.readouterr()
        assert json.loads(plain.out)["labels"] == match("spleen in CT", library).labels
        assert run_app(["match", CODED, *options, "-v", "--no-cache", "--debug"]) == 0
        verbose = capfd.readouterr()
        assert "language model, Parser: 1 call(s)" in verbose.err
        assert len(server.asked) == 2
        assert KEY not in plain.out + plain.err + verbose.out + verbose.err

    def test_a_refused_key_is_exit_code_5_without_the_key_even_with_debug(
        self, serve: Serve, config: Callable[..., Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        server = serve(lambda asked: Fails(401, f"bad key {KEY}"))
        file = config(server)
        assert run_app(["match", SPLEEN, "--config", str(file), "--mind", "llm", "--debug"]) == 5
        said = capfd.readouterr()
        assert "refuses the key" in said.err
        assert KEY not in said.out + said.err

    @pytest.mark.parametrize(
        ("options", "code", "complaint"),
        [
            (["--mind", "magic"], 2, "magic"),
            (["--mind", "llm", "--config", "/nowhere/list.json"], 5, "/nowhere/list.json"),
            (["--model", "other"], 5, "scripted [test]"),
            (["--tag", "other"], 5, "scripted [test]"),
        ],
    )
    def test_bad_options_are_named(
        self,
        serve: Serve,
        config: Callable[..., Path],
        capfd: pytest.CaptureFixture[str],
        options: list[str],
        code: int,
        complaint: str,
    ) -> None:
        file = config(serve(always("{}")))
        given = options if "--config" in options else [*options, "--config", str(file)]
        assert run_app(["match", SPLEEN, *given]) == code
        assert complaint in capfd.readouterr().err.replace("\n", "")

    def test_a_remote_llm_without_anyone_to_ask_is_exit_code_6(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "remote.json"
        file.write_text(json.dumps([{"model": "m", "base_url": "https://8.8.8.8/v1"}]))
        assert run_app(["match", SPLEEN, "--config", str(file), "--mind", "llm"]) == 6
        assert "--allow-remote" in capfd.readouterr().err
        assert run_app(["match", CODED, "--config", str(file)]) == 3
        assert "--allow-remote" in capfd.readouterr().err

    def test_segment_takes_the_same_options(
        self,
        serve: Serve,
        config: Callable[..., Path],
        ct_file: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        server = serve(Oracle(Library.load(CARDS)).about(SPLEEN))
        where = ["-i", str(ct_file), "-o", str(tmp_path / "out"), "--library", str(CARDS), "--models-dir", str(MODELS)]
        think = ["--mind", "llm", "--config", str(config(server)), "--max-calls", "9", "--no-input", "-v"]
        assert run_app(["segment", SPLEEN, *where, *think]) == 0
        said = capfd.readouterr()
        assert "the LLM (" in said.err
        assert "language model, in all:" in said.err
        assert KEY not in said.out + said.err + whole(tmp_path / "out")
        assert server.asked

    def test_without_a_model_configured_nothing_changes(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run_app(["match", SPLEEN, "--library", "benchmark"]) == 0
        assert "warning" not in capfd.readouterr().err


def test_what_the_rules_resolve_imports_no_autogen_though_a_model_is_configured() -> None:
    probe = (
        "import sys; from medsegagent.cli.app import run_app; code = run_app(['match', 'liver in CT']); "
        "print('heavy:', sorted({'autogen_core', 'autogen_agentchat', 'openai', 'torch'} & set(sys.modules)), code)"
    )
    configured = json.dumps([{"model": "m", "base_url": "http://127.0.0.1:9/v1"}])
    out = subprocess.check_output(
        [sys.executable, "-c", probe], text=True, cwd=ROOT, env={**os.environ, "OAI_CONFIG_LIST": configured}
    )
    assert out.strip().endswith("heavy: [] 0")


def test_doctor_says_what_is_configured_but_no_key(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv(
        "OAI_CONFIG_LIST", json.dumps([{"model": "m", "base_url": "http://10.0.0.1/v1", "api_key": KEY}])
    )
    assert run_app(["doctor"]) == 0
    said = capfd.readouterr()
    assert "m at 10.0.0.1 (key set)" in said.out
    monkeypatch.setenv("OAI_CONFIG_LIST", json.dumps([{"model": "m", "api_kee": KEY}]))
    assert run_app(["doctor"]) == 0
    broken = capfd.readouterr()
    assert "api_kee" in broken.out
    assert KEY not in said.out + said.err + broken.out + broken.err


def test_every_prompt_has_a_version_and_names_its_input_as_data() -> None:
    for name in ("parser", "resolver", "modality_matcher", "anatomy_matcher", "label_matcher"):
        prompt = prompts.load(name)
        assert prompt.version >= 1
        assert "data" in prompt.text
        assert "never" in prompt.text
