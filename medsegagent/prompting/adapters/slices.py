"""Models of single pictures made to work on volumes: from a prompted slice outward, slice by slice."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import PromptError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.prompting.adapters.nni_session import current_mask
from medsegagent.prompting.model import Capabilities
from medsegagent.prompting.prompts import Box, Point, Prompt, Scribble, Seed, Voxel
from medsegagent.prompting.reward import overlaps
from medsegagent.prompting.views import Greys, View, greys_for, view_of
from medsegagent.reporting.view import Plane

_VANISHED = 0.2
"""IoU with the slice before under which a structure is taken to have ended."""
_SAME = 0.9
"""IoU with what is there already above which going on would change nothing."""


class PictureModel(Protocol):
    """Answers prompts on pictures, each known by a number. Pixel (0, 0) reaches from 0 to 1 along x and y."""

    @property
    def capabilities(self) -> Capabilities:
        """What it takes."""

    def show(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Take a grey picture `(H, W)`; does nothing if it has that number already."""

    def prime(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Take a mask as the answer so far, where the model can."""

    def click(self, number: int, x: float, y: float, positive: bool) -> NDArray[np.bool_]:
        """Answer one more click."""

    def box(self, number: int, low: tuple[float, float], high: tuple[float, float]) -> NDArray[np.bool_]:
        """Answer a box, x and y of its corners."""

    def forget(self) -> None:
        """Forget all pictures."""

    def close(self) -> None:
        """Let go of everything."""


class SliceBySlice:
    """The adapter of any `PictureModel`: in one plane, the mask of a slice prompts the next one, until it vanishes."""

    def __init__(self, model: PictureModel, plane: Plane = "axial") -> None:
        self._model, self._plane = model, plane
        self._array: NDArray[np.float32] | None = None
        self._grid: Grid | None = None
        self._greys = Greys(0, 1)
        self._buffer = np.zeros((0, 0, 0), np.uint8)
        self._prompted: set[int] = set()

    @property
    def capabilities(self) -> Capabilities:
        """What the model takes."""
        return self._model.capabilities

    def open(self, array: NDArray[np.float32], grid: Grid) -> None:
        """Keep the volume; slices are drawn as they are needed."""
        self._array, self._grid, self._greys = array, grid, greys_for(array)
        self._buffer = np.zeros(grid.shape, np.uint8)
        self._prompted = set()
        self._model.forget()

    def apply(self, prompt: Prompt) -> None:
        """Answer in the prompt's slice, then go both ways.

        Raises:
            PromptError: If a box does not lie in one slice of the plane that is worked in.
        """
        match prompt:
            case Seed(voxels=packed):
                self._buffer = packed.mask().dense().astype(np.uint8)
                return
            case Scribble():
                raise PromptError("scribbles are not taken", "Give points or boxes.")
            case Point(voxel=voxel, positive=positive):
                view = self._begin(voxel)
                answer = self._model.click(view.index, *view.pixel(voxel), positive)
            case Box(low=low, high=high):
                view = self._begin(low)
                if high[2 - view.across] - low[2 - view.across] != 1:
                    name = "zyx"[view.across]
                    what = f"the box must lie in one {self._plane} slice, that is, be 1 voxel long along {name}"
                    raise PromptError(what, "Give such a box, or another --plane.")
                answer = self._model.box(view.index, *_corners(view, low, high))
        self._prompted.add(view.index)
        here = view.shrink(answer)
        view.write(self._buffer, here.astype(np.uint8))
        for step in (1, -1):
            self._follow(view.index, here, step)

    def mask(self) -> Boxed[np.bool_]:
        """Return the current mask."""
        return current_mask(self._buffer)

    def undo(self) -> bool:
        """Leave it to the session to replay."""
        return False

    def close(self) -> None:
        """Let go of the volume."""
        self._model.close()
        self._array = None

    def _view(self, index: int) -> View:
        assert self._grid is not None
        return view_of(self._grid, self._plane, index)

    def _begin(self, voxel: Voxel) -> View:
        """Show the slice of a voxel; a mask on it that no prompt made (a seed, its neighbours') is the start."""
        view = self._view(voxel[2 - self._view(0).across])
        self._show(view)
        if view.index not in self._prompted and view.cut(self._buffer).any():
            self._model.prime(view.index, view.picture(self._buffer) > 0)
        return view

    def _show(self, view: View) -> None:
        assert self._array is not None
        self._model.show(view.index, self._greys(view.picture(self._array)))

    def _follow(self, start: int, mask: NDArray[np.bool_], step: int) -> None:
        """Prompt one slice after the other with what was found in the one before."""
        assert self._grid is not None
        last = self._grid.shape[self._view(0).across]
        index, found = start + step, bool(mask.any())
        while 0 <= index < last and index not in self._prompted:
            view = self._view(index)
            there = view.cut(self._buffer) > 0
            if found:
                guess = self._guess(view, mask)
                found = overlaps(mask, guess)[0] >= _VANISHED
            if not found:
                if not there.any():
                    return
                guess = np.zeros_like(there)  # what hung on the slices before goes with them
            view.write(self._buffer, guess.astype(np.uint8))
            if found and there.any() and overlaps(there, guess)[0] >= _SAME:
                return
            mask, index = guess, index + step

    def _guess(self, view: View, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        self._show(view)
        before = view.stretch(mask)
        rows, columns = (np.flatnonzero(before.any(axis=axis)) for axis in (1, 0))
        self._model.prime(view.index, before)
        low, high = (float(columns[0]), float(rows[0])), (float(columns[-1] + 1), float(rows[-1] + 1))
        return view.shrink(self._model.box(view.index, low, high))


def _corners(view: View, low: Voxel, high: Voxel) -> tuple[tuple[float, float], tuple[float, float]]:
    """The upper left and lower right corner, pixels, of a half-open box of voxels."""
    last: Voxel = (high[0] - 1, high[1] - 1, high[2] - 1)
    (x0, y0), (x1, y1) = view.pixel(low), view.pixel(last)
    half_x, half_y = view.pixels[1] / view.voxels[1] / 2, view.pixels[0] / view.voxels[0] / 2
    return (min(x0, x1) - half_x, min(y0, y1) - half_y), (max(x0, x1) + half_x, max(y0, y1) + half_y)
