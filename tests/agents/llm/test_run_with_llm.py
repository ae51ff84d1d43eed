"""Whole runs with a language model: what is written, what is not, and thinking them through again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from loopback import KEY, Answer, Asked, Behaviour, Fails, Loopback, Raw, Says, always
from oracle import Oracle

from medsegagent import Library, match
from medsegagent.agents.llm import prompts
from medsegagent.agents.llm.config import Endpoint
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.replay import replay
from medsegagent.cli.app import run_app
from medsegagent.errors import OutputError
from medsegagent.phantom import CARDS, MODELS
from medsegagent.road.run import Run
from medsegagent.road.select import converse
from medsegagent.road.transcript import write_transcript

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


class Made(NamedTuple):
    """A finished run: its folder, what its server was asked, what the terminal showed."""

    out: Path
    asked: list[Asked]
    shown: str

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.out / "run.json").read_text())


@pytest.fixture(scope="module")
def real(ct_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A whole run in which the matchers' answers are right and the Parser's never are; with the command line."""
    folder = tmp_path_factory.mktemp("real")
    oracle = Oracle(Library.load(CARDS)).about(SPLEEN)
    with Loopback(lambda asked: Says("certainly!") if "instruction" in asked.turns[0] else oracle(asked)) as server:
        (folder / "llm.json").write_text(json.dumps([server.entry()]))
        where = ["-i", str(ct_file), "-o", str(folder / "out"), "--library", str(CARDS), "--models-dir", str(MODELS)]
        think = ["--mind", "llm", "--config", str(folder / "llm.json"), "--max-calls", "9", "--no-cache", "--no-input"]
        command = [sys.executable, "-m", "medsegagent", "segment", SPLEEN, *where, *think, "-v"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return Made(folder / "out", list(server.asked), done.stdout + done.stderr)


class TestARun:
    def test_it_records_who_thought_and_what_it_cost(self, real: Made) -> None:
        mind = real.record["mind"]
        assert (mind["kind"], mind["model"]) == ("llm", "scripted")
        assert mind["prompts"]["parser"] == prompts.load("parser").version
        assert mind["usage"]["total"]["calls"] == len(real.asked)
        assert mind["usage"]["total"]["prompt_tokens"] == sum(item.prompt_tokens for item in real.asked)
        assert set(mind["usage"]["agents"]) <= {"Parser", "ModalityMatcher", "AnatomyMatcher", "LabelMatcher"}
        assert all(item.authorization == f"Bearer {KEY}" for item in real.asked)

    def test_it_shows_the_exchange_and_its_cost(self, real: Made) -> None:
        assert "the LLM (" in real.shown
        assert "language model, Parser: 2 call(s)" in real.shown
        assert "language model, in all:" in real.shown

    def test_a_warning_of_the_thinking_reaches_run_json(self, real: Made) -> None:
        assert any("not usable" in warning for warning in real.record["warnings"])
        assert [structure["id"] for structure in real.record["structures"]] == ["spleen"]

    def test_the_transcript_holds_question_and_answer_word_for_word(self, real: Made) -> None:
        lines = [json.loads(line) for line in (real.out / "transcript.jsonl").read_text().splitlines()]
        said = [line["content"] for line in lines if line["type"] == "Consulted"]
        assert [item["question"] for item in said] == [item.turns[-1] for item in real.asked]
        assert said[0]["reply"] == "certainly!"

    def test_the_key_is_nowhere(self, real: Made) -> None:
        assert KEY not in real.shown + whole(real.out)

    def test_it_is_thought_through_again_without_its_server(self, real: Made) -> None:
        again = replay(real.out)  # run.json names the library
        assert again.same
        assert again.asked == len(real.asked)


class TestReplay:
    @pytest.fixture
    def record(self, tmp_path: Path) -> Callable[..., Path]:
        """Write the transcript of a conversation, without the models."""

        def write(kind: str, instruction: str, behaviour: Behaviour) -> Path:
            run = Run(Library.load(CARDS))
            with Loopback(behaviour) as server:
                mind = Mind(kind, Endpoint.model_validate(server.entry(max_retries=0)), use_cache=False)
                asyncio.run(converse(instruction, run, mind))
            file = tmp_path / "transcript.jsonl"
            write_transcript(file, run.said)
            return file

        return write

    @pytest.mark.parametrize(
        ("kind", "instruction", "behaviour", "asked"),
        [
            ("llm", SPLEEN, None, 2),
            ("hybrid", CODED, None, 1),
            ("hybrid", SPLEEN, None, 0),
            ("llm", SPLEEN, lambda asked: Says("no idea"), 4),
            ("llm", SPLEEN, lambda asked: Fails(500), 0),
        ],
    )
    def test_every_kind_of_conversation_gives_the_same_selection(
        self, record: Callable[..., Path], kind: str, instruction: str, behaviour: Behaviour | None, asked: int
    ) -> None:
        file = record(kind, instruction, behaviour or Oracle(Library.load(CARDS), MEANT).about(instruction))
        again = replay(file, Library.load(CARDS))
        assert again.same
        assert again.now.labels
        assert again.changed == ()
        assert again.asked >= asked
        assert run_app(["replay", str(file), "--library", str(CARDS)]) == 0

    def test_an_edited_transcript_is_noticed(
        self, record: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = record("hybrid", CODED, Oracle(Library.load(CARDS), MEANT).about(CODED))
        file.write_text(file.read_text().replace('\\"spleen\\"', '\\"liver\\"'))
        assert not replay(file, Library.load(CARDS)).same
        assert run_app(["replay", str(file), "--library", str(CARDS)]) == 5
        assert "another selection" in capsys.readouterr().err

    def test_a_question_that_is_another_one_today_is_named(self, record: Callable[..., Path]) -> None:
        file = record("hybrid", CODED, Oracle(Library.load(CARDS), MEANT).about(CODED))
        file.write_text(file.read_text().replace("available", "on offer"))
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
        "echo",
        [
            Says(f'{KEY} {{"targets": [], "without": [], "modality": "{KEY}"}}'),
            Fails(500, KEY),
            Fails(402, KEY),
            Raw(json.dumps({"choices": [{"message": KEY}]}).encode()),
            Raw(json.dumps({"error": {"message": KEY}}).encode()),
        ],
    )
    def test_an_endpoint_that_echoes_the_key_shows_it_nowhere(
        self, serve: Serve, config: Callable[..., Path], tmp_path: Path, echo: Answer
    ) -> None:
        file = config(serve(lambda asked: echo), max_retries=0)
        command = [sys.executable, "-m", "medsegagent", "match", "spleen and the wobbling frobnicator in CT"]
        surroundings = {**os.environ, "MEDSEGAGENT_CACHE": str(tmp_path / "cache"), "OPENAI_LOG": "debug"}
        done = subprocess.run(
            [*command, "--config", str(file), "-v", "--debug"],
            cwd=ROOT,
            env=surroundings,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "openai._base_client" in done.stderr
        assert KEY not in done.stdout + done.stderr
        if (tmp_path / "cache").exists():
            assert KEY not in whole(tmp_path / "cache")

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

    def test_the_question_whether_a_remote_llm_may_be_asked_stays_on_the_screen(
        self, tmp_path: Path, ct_file: Path
    ) -> None:
        file = tmp_path / "remote.json"
        file.write_text(json.dumps([{"model": "m", "base_url": "https://8.8.8.8/v1"}]))
        where = ["-i", str(ct_file), "--library", str(CARDS), "--models-dir", str(MODELS), "--config", str(file)]
        command = ["-m", "medsegagent", "segment", "spleen and the wobbling frobnicator in CT", *where, "--dry-run"]
        controller, terminal = pty.openpty()
        run = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal ends on Linux
            while not shown.endswith(b": ") or b"(n)" not in shown:
                more = os.read(controller, 4096)
                assert more, shown
                shown += more
            asked = len(shown)
            time.sleep(0.5)
            os.write(controller, b"n\n")
            while more := os.read(controller, 4096):
                shown += more
        os.close(controller)
        assert run.wait(60) == 0
        assert b"No image is ever sent" in shown[:asked]
        assert b"--allow-remote" in shown[asked:]
        assert b"\x1b[2K" not in shown[: shown.index(b"--allow-remote")]  # no line was wiped

    def test_a_dry_run_says_that_the_rules_went_on_alone(
        self, tmp_path: Path, ct_file: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "remote.json"
        file.write_text(json.dumps([{"model": "m", "base_url": "https://8.8.8.8/v1"}]))
        where = ["-i", str(ct_file), "--library", str(CARDS), "--models-dir", str(MODELS), "--config", str(file)]
        assert run_app(["segment", "spleen and the wobbling frobnicator in CT", *where, "--dry-run"]) == 0
        assert "--allow-remote" in capfd.readouterr().err

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
