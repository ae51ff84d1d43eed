"""What the agents say to each other: typed content, never prose that someone must parse.

Each class is the content of an AutoGen `StructuredMessage`; `summary` is the line that people see with `-v`.
"""

from __future__ import annotations

from abc import abstractmethod

from pydantic import BaseModel, ConfigDict

from medsegagent.errors import (
    AllModelsFailedError,
    AnswerNeededError,
    ExitCode,
    Lacking,
    MedSegAgentError,
    NoMatchError,
    NoModelError,
    UsageError,
)
from medsegagent.language.request import Question, Request
from medsegagent.matching.selection import Dropped, Selection, Stage
from medsegagent.planning.plan import Plan, Skipped
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


class StructureResult(Content):
    """One fused structure in figures."""

    id: str
    name: str
    volume_ml: float
    voxels: int
    voters: tuple[str, ...]
    """Whose votes count."""
    outliers: tuple[str, ...] = ()
    """Who disagrees far beyond the others; among the voters only if the user wants it."""
    agreement: float | None
    """Mean pairwise Dice between the voters; None with fewer than two."""

    @property
    def summary(self) -> str:
        """Volume and voters."""
        return f"{self.name} {self.volume_ml:.1f} mL by {len(self.voters)} model(s)"


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

    @property
    def summary(self) -> str:
        """The paragraph."""
        return self.paragraph


class Refused(Content):
    """Any agent -> the user: an expected end without a result."""

    exit_code: ExitCode
    what: str
    remedy: str
    where: str = ""
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
        return _ERRORS.get(self.exit_code, MedSegAgentError)(self.what, self.remedy, self.where)


_ERRORS: dict[ExitCode, type[MedSegAgentError]] = {
    kind.exit_code: kind for kind in (UsageError, NoMatchError, AllModelsFailedError, AnswerNeededError)
}
