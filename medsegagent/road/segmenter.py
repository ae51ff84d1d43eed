"""Run the team on one case and leave a run folder behind."""

from __future__ import annotations

import asyncio
import platform
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medsegagent.agents.llm.consulting import Warned
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.llm.opening import open_counsel
from medsegagent.agents.llm.usage import Ledger
from medsegagent.agents.seats import content_of, envelope
from medsegagent.agents.team import build_team
from medsegagent.cards.library import Library
from medsegagent.engines.cache import WarmNetworks
from medsegagent.engines.nnunet.runner import Progress
from medsegagent.errors import UsageError
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.language import parse, with_modality
from medsegagent.matching import explain
from medsegagent.matching.selection import Selection
from medsegagent.planning.plan import Plan
from medsegagent.prompting.correcting import corrected, corrections_of, pictures_of
from medsegagent.prompting.versions import History
from medsegagent.reporting.report import write_report
from medsegagent.reporting.run_folder import RunFolder, write_json, writing
from medsegagent.road.case import open_case, task_for
from medsegagent.road.messages import Content, Executed, Planned, Refused, Reported, StructureResult, Task
from medsegagent.road.record import library_name, what_was_asked
from medsegagent.road.run import Options, Workspace
from medsegagent.road.transcript import Transcript
from medsegagent.vocabulary import load as load_vocabulary

Listener = Callable[[str, Content], None]
"""Told each message as it is said: the agent's name, the content."""

_PACKAGES = ("medsegagent", "nnunetv2", "torch", "SimpleITK", "numpy", "autogen-agentchat")


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    `folder`, `segmentation` and `structures` are empty for a dry run.
    """

    selection: Selection
    plan: Plan
    folder: Path | None = None
    segmentation: Segmentation | None = None
    structures: tuple[StructureResult, ...] = ()
    warnings: tuple[str, ...] = ()
    paragraph: str = ""
    files: tuple[Path, ...] = ()
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Calls and tokens of the language model, in all and per agent; empty figures where none was asked."""


def segment(
    instruction: str,
    images: Path | str | Mapping[str, Path | str],
    out: Path | str | None,
    *,
    library: Library | str | Path = "all",
    modality: str | None = None,
    models_dir: Path | str | None = None,
    options: Options | None = None,
    overwrite: bool = False,
    mind: Mind | None = None,
    listener: Listener | None = None,
    progress: Progress | None = None,
    networks: WarmNetworks | None = None,
) -> RunResult:
    """Segment one case as the instruction asks.

    Args:
        instruction: What to segment, in plain words, at most 20,000 characters.
        images: One image file, or channel name -> file (`{"T1": ..., "FLAIR": ...}`).
        out: The run folder to write; may be None only with `options.dry_run`.
        library: Cards to choose from, see `Library.load`.
        modality: "CT", "MR T1", "PET/CT", ...; overrides the instruction and the image.
        models_dir: nnU-Net results folder; default the environment variable `nnUNet_results` and the model store.
        options: How to run.
        overwrite: Replace an earlier run in `out`.
        mind: Who thinks; default the rules.
        listener: Told each message of the conversation.
        progress: Told of each tile.
        networks: Keeps networks in memory from one call to the next; None: they are dropped at the end.

    Raises:
        MedSegAgentError: One of its family; `exit_code` says which kind. Nothing is left in `out` then.
    """
    options, mind = options or Options(), mind or Mind()
    if out is None and not options.dry_run:
        raise UsageError("no output folder given", "Name one with -o DIR.", "-o")
    target = None if options.dry_run or out is None else RunFolder(Path(out), overwrite=overwrite)
    with target or nullcontext() as folder:
        started = time.perf_counter()
        stop = threading.Event()
        workspace = open_case(
            images,
            folder if folder is not None else Path(),
            library=library,
            models_dir=models_dir,
            options=options,
            progress=_interruptible(progress, stop),
            family=family_of(instruction, modality),
            networks=networks,
        )
        workspace.add_seconds("reading", time.perf_counter() - started)
        transcript = Transcript()

        def hear(source: str, content: Content) -> None:
            transcript.add(source, content)
            if listener:
                listener(source, content)

        talk = _Talk(workspace, mind, Ledger(mind.max_calls, mind.max_tokens), hear, stop)
        last = asyncio.run(talk.run(task_for(instruction, workspace.volumes, modality)))
        executed = talk.executed
        if isinstance(last, Refused):
            raise last.error
        if isinstance(last, Planned):
            warnings = tuple(talk.warnings)
            return RunResult(selection=last.selection, plan=last.plan, warnings=warnings, usage=talk.usage)
        if executed is None or not isinstance(last, Reported) or folder is None:
            raise RuntimeError(f"the conversation ended with {type(last).__name__}")
        workspace.add_seconds("total", time.perf_counter() - started)
        warnings = (*talk.warnings, *executed.warnings, *last.warnings)
        asked = what_was_asked(instruction, modality=modality, options=options, mind=mind, library=library)
        record = _record(executed, workspace, warnings) | talk.record(library) | {"asked": asked}
        assert workspace.segmentation is not None  # the Executor has executed
        dropped = explain(executed.selection.request, workspace.library)
        with writing(folder):
            transcript.write(folder / "transcript.jsonl")
            page = folder / "report.html"
            history = workspace.refined.history if workspace.refined else History()
            corrections = corrections_of(history, pictures_of(folder, history))
            volume = workspace.volumes[0]
            write_report(page, record, workspace.segmentation, volume, workspace.figures, dropped, corrections)
            write_json(folder / "run.json", record)
        files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    run_folder = Path(out) if out is not None else None
    return RunResult(
        selection=executed.selection,
        plan=executed.plan,
        folder=run_folder,
        segmentation=workspace.segmentation,
        structures=executed.structures,
        warnings=warnings,
        paragraph=last.paragraph,
        files=tuple(run_folder / file for file in files) if run_folder else (),
        usage=talk.usage,
    )


def family_of(instruction: str, modality: str | None) -> str | None:
    """The one family that the instruction, or who overrides it, names."""
    try:
        request = parse(instruction, load_vocabulary())
        families = (with_modality(request, modality) if modality else request).modality.families
    except UsageError:
        return None  # the team refuses it, with the reason
    return families[0] if len(families) == 1 else None


class _Talk:
    """One conversation, and what is kept of it besides the transcript."""

    def __init__(self, workspace: Workspace, mind: Mind, ledger: Ledger, hear: Listener, stop: threading.Event) -> None:
        self.executed: Executed | None = None
        self.warnings: list[str] = []
        self._workspace, self._mind, self._ledger, self._hear, self._stop = workspace, mind, ledger, hear, stop
        self._prompts: dict[str, int] = {}

    async def run(self, task: Task) -> Content | None:
        """Let the team talk; return the last content."""
        last: Content | None = None
        try:
            async with open_counsel(self._mind, self._ledger) as counsel:
                async for message in build_team(self._workspace, counsel).run_stream(task=envelope(task, "user")):
                    content = content_of(message)
                    if content is None:
                        continue
                    self._hear(getattr(message, "source", "team"), content)
                    last = content
                    if isinstance(content, Executed):
                        self.executed = content
                    if isinstance(content, Warned):
                        self.warnings.append(content.text)
                self._prompts = counsel.asked if counsel else {}
        except asyncio.CancelledError:
            self._stop.set()
            raise
        return last

    @property
    def usage(self) -> dict[str, Any]:
        """Calls and tokens."""
        return self._ledger.record()

    def record(self, library: Library | str | Path) -> dict[str, Any]:
        """Who thought, about which cards, and what that cost, for `run.json`."""
        endpoint = self._mind.endpoint
        asked = {"model": endpoint.model, "host": endpoint.host, "prompts": self._prompts} if endpoint else {}
        return {"library": library_name(library), "mind": {"kind": self._mind.kind, **asked, "usage": self.usage}}


def _interruptible(progress: Progress | None, stop: threading.Event) -> Progress:
    """Ctrl-C cancels the conversation, but not the thread that computes: that one looks here, tile by tile."""

    def tick(model: str, done: int, total: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        if progress:
            progress(model, done, total)

    return tick


def _record(executed: Executed, workspace: Workspace, warnings: tuple[str, ...]) -> dict[str, Any]:
    """`run.json`: everything that is needed to say what was and was not done."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "inputs": [
            {
                "channel": volume.channel,
                "file": volume.path.name,
                "sha256": volume.sha256,
                "size": volume.grid.size,
                "spacing_mm": volume.grid.spacing,
                "modality": volume.evidence.family,
                "modality_reason": volume.evidence.reason,
            }
            for volume in workspace.volumes
        ],
        "request": executed.selection.request.model_dump(mode="json"),
        "selection": [card.model_dump(mode="json") for card in executed.selection.cards],
        "plan": executed.plan.model_dump(mode="json"),
        "structures": [structure.model_dump(mode="json") for structure in executed.structures],
        "failed": [item.model_dump(mode="json") for item in executed.failed],
        "corrections": corrected(workspace.refined.history) if workspace.refined else [],
        "promptable": workspace.refined.licence if workspace.refined else "",
        "warnings": warnings,
        "seconds": workspace.seconds,
        "research_use": "Research software, not a medical device.",
    }
