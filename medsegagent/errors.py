"""The one family of errors. Code reads the fields; people read `str(error)`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Literal, NamedTuple


class ExitCode(IntEnum):
    """What the process answers to the shell; the table is in the README."""

    OK = 0
    BUG = 1
    USAGE = 2
    NO_MATCH = 3
    NO_MODEL = 4
    BAD_INPUT = 5
    ANSWER_NEEDED = 6
    ALL_FAILED = 7
    CASES_FAILED = 8
    INTERRUPTED = 130


@dataclass(eq=False)
class MedSegAgentError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        what: What happened, one sentence, no trailing full stop needed.
        remedy: What to do next, one sentence.
        where: The file, card, model or option concerned; empty if there is none.
    """

    what: str
    remedy: str
    where: str = ""
    exit_code: ClassVar[ExitCode] = ExitCode.BAD_INPUT

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what.rstrip('.')}. {self.remedy}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception pickles only positional arguments; errors must survive the way back from a worker process.
        return type(self), (self.what, self.remedy, self.where)


class UsageError(MedSegAgentError, ValueError):
    """An argument or the instruction itself cannot be used. `where` begins with the argument's name."""

    exit_code = ExitCode.USAGE


class ArgumentTypeError(UsageError, TypeError):
    """An argument is of a kind that cannot be used."""


class NoMatchError(MedSegAgentError):
    """No card answers the instruction (unknown target, wrong modality, or not a request)."""

    exit_code = ExitCode.NO_MATCH


class Lacking(NamedTuple):
    """A public model that would help: its id, the labels of its card that are wanted of it, and why this one."""

    model: str
    labels: frozenset[str]
    reason: str


@dataclass(eq=False)
class NoModelError(MedSegAgentError):
    """Cards match, but none of their models is installed and usable."""

    exit_code = ExitCode.NO_MODEL
    lacking: tuple[Lacking, ...] = ()
    others_run: bool = False
    """Some targets have a model; only for the rest none is installed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.remedy, self.where, self.lacking, self.others_run)


class CardError(MedSegAgentError):
    """A dataset card does not fit the schema."""


class VocabularyError(MedSegAgentError):
    """A vocabulary data file does not fit the schema."""


class ImageError(MedSegAgentError):
    """An image cannot be read or used."""


class MissingFileError(ImageError, FileNotFoundError):
    """There is no file or folder at the path given."""


class CaseListError(MedSegAgentError):
    """A list of cases cannot be used: unreadable, or with rows or names that are not safe."""


class ModelError(MedSegAgentError):
    """A model folder cannot be used: incomplete, truncated, or asking for code we do not run."""


class PromptError(MedSegAgentError):
    """A prompt cannot be used: outside the image, empty, drawn on another grid, or of a kind that is not taken."""

    exit_code = ExitCode.USAGE


@dataclass(eq=False)
class PromptableError(MedSegAgentError):
    """A promptable model cannot be had. Code reads `reason`."""

    reason: Literal["not_installed", "no_weights", "no_device", "licence", "unreachable"] = "no_weights"
    exit_code = ExitCode.NO_MODEL

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.remedy, self.where, self.reason)


class SessionLostError(MedSegAgentError):
    """A promptable model's server went away or let the session expire. The prompts given so far are kept."""

    exit_code = ExitCode.ALL_FAILED


class OutputError(MedSegAgentError):
    """The output folder cannot be written."""


class ConfigError(MedSegAgentError):
    """The LLM configuration cannot be used, or the endpoint refuses it (key, model name)."""


class EndpointError(MedSegAgentError):
    """An LLM endpoint gives no answer: unreachable, failing, too slow, or the run's budget is spent."""


@dataclass(eq=False)
class AnswerNeededError(MedSegAgentError):
    """Only the user can decide, and nobody can be asked. Each of `choices` is an instruction that would be clear."""

    choices: tuple[str, ...] = ()
    exit_code = ExitCode.ANSWER_NEEDED

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.remedy, self.where, self.choices)


class SeriesNeededError(AnswerNeededError):
    """Several DICOM series could be meant. Each of `choices` is the key of one, for `--series`."""


class AllModelsFailedError(MedSegAgentError):
    """Every planned model failed."""

    exit_code = ExitCode.ALL_FAILED
