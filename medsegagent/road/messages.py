"""What the steps say to each other: typed content, never prose that someone must parse.

`summary` is the line that people see with `-v`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import BaseModel, ConfigDict

from medsegagent.errors import (
    AllModelsFailedError,
    AnswerNeededError,
    CardError,
    ConfigError,
    EndpointError,
    ExitCode,
    ImageError,
    Lacking,
    MedSegAgentError,
    ModelError,
    NoMatchError,
    NoModelError,
    OutputError,
    UsageError,
)
from medsegagent.language.request import Question, Request
from medsegagent.matching.selection import Dropped, Selection, Stage
from medsegagent.planning.plan import Plan, Skipped
from medsegagent.reporting.record import StructureResult
from medsegagent.wording import some


class Content(BaseModel):
    """Base of every content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line for people."""


class Task(Content):
    """The user's words, and what the images say about themselves."""

    instruction: str
    modality: str | None = None
    """What the user fixed with `--modality`."""
    image_modality: str | None = None
    """Family that the images show, "PET/CT" for both together; None if they do not say."""
    image_reason: str = ""
    image_is_sure: bool = False
    """True where a conflict with the instruction must stop the run."""

    @property
    def summary(self) -> str:
        """The instruction itself."""
        seen = f"  [image: {self.image_modality}, {self.image_reason}]" if self.image_modality else ""
        return f"{self.instruction}{seen}"


class Parsed(Content):
    """Parser -> matchers."""

    request: Request
    note: str = ""

    @property
    def summary(self) -> str:
        """Targets, exclusions, modality."""
        wanted = ", ".join(target.name for target in self.request.targets)
        without = "".join(f", without {target.name}" for target in self.request.exclusions)
        families = ("/" if self.request.modality.combined else " or ").join(self.request.modality.families)
        where = " ".join([families, *self.request.modality.subtypes]).strip() or "any modality"
        return f"wanted: {wanted}{without}; in: {where}" + (f" ({self.note})" if self.note else "")


class CardsLeft(Content):
    """A matcher -> the next one."""

    request: Request
    stage: Stage
    cards: tuple[str, ...]
    dropped: tuple[Dropped, ...]

    @property
    def summary(self) -> str:
        """Who stays and who goes."""
        return f"{len(self.cards)} cards pass {self.stage}, {len(self.dropped)} dropped: {some(self.cards)}"


class NothingLeft(Content):
    """A matcher -> Parser: is it a typo, or really unknown?"""

    request: Request
    stage: Stage
    reason: str

    @property
    def summary(self) -> str:
        """The reason."""
        return f"nothing passes {self.stage}: {self.reason}"


class Selected(Content):
    """LabelMatcher -> Executor."""

    selection: Selection
    dropped: tuple[Dropped, ...]
    note: str = ""

    @property
    def summary(self) -> str:
        """Cards and label values."""
        chosen = "; ".join(f"{card} {values}" for card, values in self.selection.labels.items())
        return chosen + (f" ({self.note})" if self.note else "")


class CardsUnusable(Content):
    """Executor -> LabelMatcher: go on without these."""

    skipped: tuple[Skipped, ...]

    @property
    def summary(self) -> str:
        """Each card or model and its reason."""
        return "; ".join(f"{item.model or item.card}: {item.reason}" for item in self.skipped)


class Planned(Content):
    """Executor -> the user, when only the plan was asked for."""

    selection: Selection
    plan: Plan

    @property
    def summary(self) -> str:
        """The models to run."""
        return f"would run {some([item.model.id for item in self.plan.models])} on {self.plan.device}"


class Executed(Content):
    """Executor -> Reporter."""

    selection: Selection
    plan: Plan
    structures: tuple[StructureResult, ...]
    failed: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def summary(self) -> str:
        """The structures."""
        return "; ".join(structure.summary for structure in self.structures)


class Refined(Content):
    """Refiner, for the record: one turn on one structure."""

    structure: str
    turn: int
    prompt: str
    why: str
    added: int
    removed: int
    volume_ml: float

    @property
    def summary(self) -> str:
        """What was done and what came of it."""
        change = f"+{self.added:,} -{self.removed:,} voxels, {self.volume_ml:.1f} mL"
        return f"{self.structure}, turn {self.turn}: {self.prompt} ({self.why}): {change}"


class Reported(Content):
    """Reporter -> the user: the end."""

    paragraph: str
    warnings: tuple[str, ...] = ()
    """About the files written."""
    folder: str = ""
    """Where they are; empty where none were wanted."""

    @property
    def summary(self) -> str:
        """The paragraph."""
        return self.paragraph


class Consulted(Content):
    """One exchange with a language model, whole, so that a run can be audited and replayed."""

    prompt: str
    version: int
    model: str
    question: str
    """The user's turn: the question as JSON, or the complaint about the first answer."""
    reply: str
    complaint: str = ""
    """Why the reply was not accepted; empty if it was."""
    form: Literal["structured", "tools", "json", "text"]
    """How the endpoint was asked for JSON, best first."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    cached: bool

    @property
    def summary(self) -> str:
        """What was said, what it cost, and what was wrong with it."""
        cost = "from the cache" if self.cached else f"{self.prompt_tokens} + {self.completion_tokens} tokens"
        verdict = f"; not accepted: {self.complaint}" if self.complaint else ""
        return f"the LLM ({cost}) says: {' '.join(self.reply.split())[:300]}{verdict}"


class Warned(Content):
    """Something that the user must know, although the run goes on."""

    text: str

    @property
    def summary(self) -> str:
        """The warning."""
        return f"warning: {self.text}"


class Refused(Content):
    """Any agent -> the user: an expected end without a result."""

    exit_code: ExitCode
    what: str
    remedy: str
    where: str = ""
    kind: str = ""
    """Name of the error's class, where several have the code."""
    question: Question | None = None
    lacking: tuple[Lacking, ...] = ()
    others_run: bool = False

    @property
    def summary(self) -> str:
        """What happened and what to do."""
        return f"{self.what} {self.remedy}"

    @property
    def error(self) -> MedSegAgentError:
        """The same as an exception of our family, for those who called a function."""
        if self.question:
            return AnswerNeededError(self.what, self.remedy, self.where, self.question.readings)
        if self.exit_code == ExitCode.NO_MODEL:
            return NoModelError(self.what, self.remedy, self.where, self.lacking, self.others_run)
        kind = _BY_NAME.get(self.kind) or _BY_CODE.get(self.exit_code, MedSegAgentError)
        return kind(self.what, self.remedy, self.where)

    @classmethod
    def of(cls, error: MedSegAgentError) -> Refused:
        """An error as a message: a team would turn it into a RuntimeError with its text."""
        return cls(
            exit_code=error.exit_code,
            what=error.what,
            remedy=error.remedy,
            where=error.where,
            kind=type(error).__name__,
            lacking=getattr(error, "lacking", ()),
        )


_BY_CODE: dict[ExitCode, type[MedSegAgentError]] = {
    kind.exit_code: kind for kind in (UsageError, NoMatchError, AllModelsFailedError, AnswerNeededError, ImageError)
}
_BY_NAME: dict[str, type[MedSegAgentError]] = {
    kind.__name__: kind
    for kind in (*_BY_CODE.values(), CardError, ConfigError, EndpointError, ImageError, ModelError, OutputError)
}
