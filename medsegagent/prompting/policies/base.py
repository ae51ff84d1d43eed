"""What a policy sees, and what it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.prompting.episode import Turn
from medsegagent.prompting.model import Capabilities
from medsegagent.prompting.prompts import Prompt


@dataclass(frozen=True)
class State:
    """All that there is to decide on.

    Attributes:
        target: What is to be segmented, in words.
        array: The image `(Z, Y, X)`, as stored; not to be changed.
        grid: Where it lies.
        mask: The current mask.
        turns: What was done so far; a seed first.
        offered: What the promptable model takes.
        left: Turns left in the budget.
        complaint: Why the last answer could not be used; empty if it could.
    """

    target: str
    array: NDArray[np.float32]
    grid: Grid
    mask: Boxed[np.bool_]
    turns: tuple[Turn, ...]
    offered: Capabilities
    left: int
    complaint: str = ""


@dataclass(frozen=True)
class Act:
    """Give this prompt."""

    prompt: Prompt
    why: str = ""


@dataclass(frozen=True)
class Undo:
    """Take the last prompt back."""

    why: str = ""


@dataclass(frozen=True)
class Stop:
    """The mask is right, or nothing more can be done."""

    why: str = ""


@dataclass(frozen=True)
class Unusable:
    """The policy gave an answer that is none; the driver asks once more, then ends."""

    complaint: str


Answer = Act | Undo | Stop | Unusable


class Policy(Protocol):
    """Chooses one action a turn."""

    name: str

    def decide(self, state: State) -> Answer:
        """Choose the next action."""
