"""One slice as a picture, and the exact way back: pixels to voxels of the case's own grid.

A picture is turned as radiologists expect (see `reporting.view`) and its pixels are square in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.volume import Grid
from medsegagent.prompting.prompts import Voxel
from medsegagent.reporting.view import Plane, display_of

Kind = TypeVar("Kind", bound=np.generic)

_TURNED: dict[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
"""Turned axes (from feet, from front, from right): across the slice, down its rows, along its columns."""


@dataclass(frozen=True)
class View:
    """A slice of a grid.

    Attributes:
        plane: Which plane, in the patient, is nearest.
        index: Voxel index along the array axis `across`; it is the file's own, whatever the orientation.
        across: Array axis (0 is z) that the slice is taken from.
        down: Array axis that goes down the picture.
        along: Array axis that goes to the picture's right.
        flips: Whether `down` and `along` run backwards.
        voxels: Voxels down and along.
        pixels: Height and width of the picture.
    """

    plane: Plane
    index: int
    across: int
    down: int
    along: int
    flips: tuple[bool, bool]
    voxels: tuple[int, int]
    pixels: tuple[int, int]

    def cut(self, array: NDArray[Kind]) -> NDArray[Kind]:
        """Take the slice out of `(Z, Y, X)`, as a view, turned: one element a voxel."""
        here = np.moveaxis(array, self.across, 0)[self.index]
        if self.down > self.along:
            here = here.T
        down, along = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        turned: NDArray[Kind] = here[down, along]
        return turned

    def picture(self, array: NDArray[Kind]) -> NDArray[Kind]:
        """The slice with square pixels, nearest voxel each: what was cut out, stretched."""
        return self.stretch(self.cut(array))

    def stretch(self, slice_: NDArray[Kind]) -> NDArray[Kind]:
        """One element a voxel to one element a pixel."""
        rows, columns = (
            np.minimum(((np.arange(pixels) + 0.5) * voxels / pixels).astype(int), voxels - 1)
            for pixels, voxels in zip(self.pixels, self.voxels, strict=True)
        )
        return slice_[np.ix_(rows, columns)]

    def shrink(self, picture: NDArray[Kind]) -> NDArray[Kind]:
        """One element a pixel to one element a voxel: the pixel at the voxel's centre."""
        rows, columns = (
            np.minimum(((np.arange(voxels) + 0.5) * pixels / voxels).astype(int), pixels - 1)
            for pixels, voxels in zip(self.pixels, self.voxels, strict=True)
        )
        return picture[np.ix_(rows, columns)]

    def pixel(self, voxel: Voxel) -> tuple[float, float]:
        """Column and row, in pixels, of a voxel's centre; pixel (0, 0) reaches from 0 to 1."""
        at = voxel[::-1]
        y, x = (
            ((n - 1 - at[axis] if flip else at[axis]) + 0.5) * pixels / n
            for axis, flip, n, pixels in zip((self.down, self.along), self.flips, self.voxels, self.pixels, strict=True)
        )
        return x, y

    def voxel(self, x: float, y: float) -> Voxel:
        """The voxel under a place in the picture; outside, its index is outside as well."""
        at = [0, 0, 0]
        at[self.across] = self.index
        for place, axis, flip, n, pixels in zip(
            (y, x), (self.down, self.along), self.flips, self.voxels, self.pixels, strict=True
        ):
            index = int(np.floor(place * n / pixels))
            at[axis] = n - 1 - index if flip else index
        return at[2], at[1], at[0]

    def write(self, array: NDArray[Kind], slice_: NDArray[Kind]) -> None:
        """Put a slice, one element a voxel, turned as by `cut`, into `(Z, Y, X)`."""
        self.cut(array)[...] = slice_


def view_of(grid: Grid, plane: Plane, index: int) -> View:
    """The slice of `plane` whose voxel index along the axis nearest to the plane's normal is `index`.

    Raises:
        IndexError: If there is no such slice.
    """
    display = display_of(grid)
    across, down, along = (display.order[turned] for turned in _TURNED[plane])
    if not 0 <= index < grid.shape[across]:
        raise IndexError(f"slice {index} of {grid.shape[across]}")
    flip_down = display.flips[_TURNED[plane][1]] != (plane != "axial")  # the head is up
    flips = flip_down, display.flips[_TURNED[plane][2]]
    spacing = grid.spacing[::-1]
    voxels = grid.shape[down], grid.shape[along]
    fine = min(spacing[down], spacing[along])
    height, width = (
        max(1, round(n * mm / fine)) for n, mm in zip(voxels, (spacing[down], spacing[along]), strict=True)
    )
    return View(plane, index, across, down, along, flips, voxels, (height, width))


def across(grid: Grid, plane: Plane) -> int:
    """The array axis that a plane's slices are taken along."""
    return display_of(grid).order[_TURNED[plane][0]]


@dataclass(frozen=True)
class Greys:
    """Intensities shown from black to white."""

    low: float
    high: float

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Map to 0 to 255."""
        scaled = (np.asarray(values, np.float32) - self.low) * (255 / (self.high - self.low))
        shown: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
        return shown


def greys_for(array: NDArray[np.float32]) -> Greys:
    """Soft tissue where there is air at -1000 or so, as in CT; else from the first to the 99th percentile.

    Only a sample of the volume is read.
    """
    sample: NDArray[np.float32] = array.reshape(-1)[:: max(1, array.size // 200_000)]
    if float(sample.min()) < -500:
        return Greys(-160.0, 240.0)
    shown = sample[sample > sample.min()]
    low, high = (float(value) for value in np.percentile(shown if shown.size else sample, [1, 99]))
    return Greys(low, high if high > low else low + 1)


@dataclass(frozen=True)
class Letterbox:
    """A picture fitted into a square, in the middle, and the way back.

    Attributes:
        size: Of the square, pixels.
        pixels: Height and width of the picture.
    """

    size: int
    pixels: tuple[int, int]

    @property
    def scale(self) -> float:
        """Pixels of the square per pixel of the picture."""
        return self.size / max(self.pixels)

    @property
    def start(self) -> tuple[float, float]:
        """Column and row of the picture's corner in the square."""
        height, width = self.pixels
        return (self.size - width * self.scale) / 2, (self.size - height * self.scale) / 2

    def inside(self, x: float, y: float) -> tuple[float, float]:
        """From the square to the picture, pixels."""
        return (x - self.start[0]) / self.scale, (y - self.start[1]) / self.scale

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw a picture `(H, W, 3)` into the square; the rest is black."""
        from PIL import Image

        left, top = (round(edge) for edge in self.start)
        height, width = (max(1, round(n * self.scale)) for n in self.pixels)
        canvas = np.zeros((self.size, self.size, 3), np.uint8)
        drawn = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
        height, width = min(height, self.size - top), min(width, self.size - left)
        canvas[top : top + height, left : left + width] = drawn[:height, :width]
        return canvas


def overlay(
    grey: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Sequence[int] = (0, 255, 0), alpha: float = 0.5
) -> NDArray[np.uint8]:
    """Draw a mask, half transparent, over a grey picture `(H, W)`; gives `(H, W, 3)`."""
    picture = np.repeat(grey[..., None], 3, axis=2)
    mixed = picture[mask] * (1 - alpha) + np.asarray(colour) * alpha
    picture[mask] = mixed.astype(np.uint8)
    return picture
