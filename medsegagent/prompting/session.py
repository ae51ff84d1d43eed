"""One image being worked on with one promptable model: prompts are checked, counted, undone and replayed here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError, ModelError, PromptableError, PromptError, SessionLostError
from medsegagent.images.boxed import Boxed, shared
from medsegagent.images.volume import Grid
from medsegagent.prompting.model import Capabilities, PromptableModel, check_taken
from medsegagent.prompting.prompts import Prompt, Seed, check


@dataclass(frozen=True)
class Update:
    """What a prompt did.

    Attributes:
        mask: After it.
        added: Voxels that came in.
        removed: Voxels that went out.
        seconds: Wall time of the model.
        reconnected: The server had let the session go; it was opened again and all prompts given anew.
    """

    mask: Boxed[np.bool_]
    added: int
    removed: int
    seconds: float
    reconnected: bool = False


class PromptSession:
    """A promptable model and an image. Use as a context, so that memory, device or lease are given back.

    Not safe to share between threads; one session per image.
    """

    def __init__(self, model: PromptableModel) -> None:
        self._model = model
        self._image: tuple[NDArray[np.float32], Grid] | None = None
        self._prompts: list[Prompt] = []
        self._mask: Boxed[np.bool_] | None = None
        self._astray = False
        """The model failed half-way, so what it holds is not what it was given."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model.close()

    @property
    def capabilities(self) -> Capabilities:
        """What the model takes."""
        return self._model.capabilities

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """What was given since the image was opened, without what was undone."""
        return tuple(self._prompts)

    @property
    def grid(self) -> Grid:
        """The image's."""
        return self._opened()[1]

    @property
    def mask(self) -> Boxed[np.bool_]:
        """The current mask, empty before the first prompt."""
        self._opened()
        assert self._mask is not None
        return self._mask

    def open(self, array: NDArray[np.float32], grid: Grid) -> None:
        """Take an image `(Z, Y, X)`; prompts and mask of the last one are forgotten.

        Raises:
            ImageError: If it is not three-dimensional, or holds nothing to see (all voxels the same, or not finite).
        """
        if array.ndim != 3 or array.shape != grid.shape:
            raise ImageError(
                f"an array of shape {array.shape} on a grid of {grid.shape}: a 3D image is needed",
                "Give one 3D image, or one slice as an image one voxel deep.",
            )
        low, high = float(array.min()), float(array.max())
        if not np.isfinite(low) or not np.isfinite(high) or low == high:
            raise ImageError(
                f"there is nothing to see: the voxels reach from {low:g} to {high:g}",
                "Check that this is the right file.",
            )
        self._model.open(array, grid)
        self._image = array, grid
        self._prompts = []
        self._mask = Boxed.of(np.zeros(grid.shape, np.bool_))

    def apply(self, prompt: Prompt) -> Update:
        """Check a prompt, give it to the model, and say what changed.

        A session that its server let go is opened once more with all prompts so far.

        Raises:
            PromptError: Before the model is asked: no image, outside, empty, of a kind it does not take, or a seed
                after other prompts.
            SessionLostError: If the server does not come back; the prompts are kept.
            ModelError: If the model fails; the prompts and the mask before are kept, and others may be tried.
        """
        grid = self._opened()[1]
        check(prompt, grid.size)
        check_taken(prompt, self._model.capabilities)
        if isinstance(prompt, Seed) and self._prompts:
            raise PromptError("a mask to start from comes before all other prompts", "Start over with it.")
        before, start, reconnected = self.mask, time.perf_counter(), False
        try:
            if self._astray:
                self._replay(self._prompts)
            self._model.apply(prompt)
        except SessionLostError:
            reconnected = True
            self._replay([*self._prompts, prompt])
        except ModelError:
            self._astray = True
            raise
        after = self._model.mask()
        self._prompts.append(prompt)
        self._mask = after
        common = shared(before, after)
        return Update(
            after, after.count - common, before.count - common, time.perf_counter() - start, reconnected=reconnected
        )

    def undo(self) -> bool:
        """Take back the last prompt; False if there is none."""
        if not self._prompts:
            return False
        kept = self._prompts[:-1]
        try:
            undone = self._model.undo()
        except SessionLostError:
            undone = False
        if not undone:
            self._replay(kept)
        self._prompts = kept
        self._mask = self._model.mask()
        return True

    def _replay(self, prompts: list[Prompt]) -> None:
        """Begin anew on the same image; what is thrown leaves the session to be replayed again."""
        self._astray = True
        try:
            self._model.open(*self._opened())
        except PromptableError as error:  # a server that was there before
            raise SessionLostError(error.what, "The prompts given so far are kept: try again.", error.where) from error
        for prompt in prompts:
            self._model.apply(prompt)
        self._astray = False

    def _opened(self) -> tuple[NDArray[np.float32], Grid]:
        if self._image is None:
            raise PromptError("no image is open", "Open an image before the first prompt.")
        return self._image
