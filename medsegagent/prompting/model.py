"""Promptable models: what each adapter offers, and what it must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import PromptError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.prompting.prompts import Box, Point, Prompt, Scribble, Seed


@dataclass(frozen=True)
class Capabilities:
    """What a promptable model takes, and whose it is.

    Attributes:
        adapter: The adapter's name, as in `--with`.
        model: Which weights, for people and for the record; what an adapter without weights is.
        licence: Of the weights, for people.
        points: Takes points.
        box2d: Takes boxes in one slice.
        box3d: Takes boxes in space.
        scribbles: Takes scribbles.
        negative_boxes: Takes boxes around what is not part of the structure.
        seed: Can start from a mask.
        undo: Can take back its last prompt itself; without, the session replays all others.
        flat: Works on one slice at a time.
    """

    adapter: str
    model: str
    licence: str
    points: bool = True
    box2d: bool = True
    box3d: bool = True
    scribbles: bool = True
    negative_boxes: bool = True
    seed: bool = True
    undo: bool = False
    flat: bool = False


class PromptableModel(Protocol):
    """A model that makes a mask from prompts.

    It is only given prompts that lie on the image and that it says it takes (see `PromptSession`, which checks), a
    seed before all others.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it takes."""

    def open(self, array: NDArray[np.float32], grid: Grid) -> None:
        """Take an image `(Z, Y, X)`, as stored, and forget the last one. The array must not be changed."""

    def apply(self, prompt: Prompt) -> None:
        """Take one more prompt and predict.

        Raises:
            SessionLostError: If a server forgot the session.
        """

    def mask(self) -> Boxed[np.bool_]:
        """Return the current mask; it does not change later."""

    def undo(self) -> bool:
        """Take back the last prompt; False if that cannot be done."""

    def close(self) -> None:
        """Let go of memory, device and server."""


def check_taken(prompt: Prompt, offered: Capabilities) -> None:
    """Refuse a prompt of a kind that the model does not take.

    Raises:
        PromptError: Which says what it does take.
    """
    match prompt:
        case Point():
            taken = offered.points
        case Box(positive=False) if not offered.negative_boxes:
            taken = False
        case Box():
            taken = offered.box2d if prompt.flat else offered.box3d
        case Scribble():
            taken = offered.scribbles
        case Seed():
            taken = offered.seed
    if taken:
        return
    kinds = {
        "points": offered.points,
        "boxes in one slice (one axis of length 1)": offered.box2d,
        "boxes in space": offered.box3d,
        "scribbles": offered.scribbles,
        "a mask to start from": offered.seed,
    }
    what = f"a {'2D ' if isinstance(prompt, Box) and prompt.flat else ''}{prompt.kind}"
    if isinstance(prompt, Box):
        what = f"a {'negative ' if not prompt.positive else ''}box in {'one slice' if prompt.flat else 'space'}"
    raise PromptError(
        f"{offered.adapter} ({offered.model}) does not take {what}",
        f"It takes {', '.join(kind for kind, does in kinds.items() if does)}.",
    )
