"""`walker`: a random walker between what was marked as in and as out. No weights, no knowledge of anatomy.

It follows edges in the grey values near the prompts (Grady, IEEE TPAMI 28(11):1768-1783, 2006; scikit-image's code) and
is there so that a mask can be corrected on any machine. Organs that look like their neighbours need several prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medsegagent.images.boxed import Box as Slices
from medsegagent.images.boxed import Boxed, hull, intersection, relative, shared
from medsegagent.images.volume import Grid
from medsegagent.prompting.model import Capabilities
from medsegagent.prompting.prompts import Box, Point, Prompt, Scribble, Seed, ball

MOST_VOXELS = 150_000
"""Beyond it the region is walked on a coarser grid: the equations' memory and time grow with each voxel."""

_TOUCH = 4.0
"""Radius in mm of what a click marks."""
_REACH = 80.0
"""How far from the first clicks a structure may go, mm, while nothing else bounds it."""
_NEAR = (15.0, 60.0)
"""Least and largest radius in mm within which a correction may change a given mask."""
_LIKE = 4.0
"""Standard deviations from the marked grey values beyond which a voxel is out."""

Kind = TypeVar("Kind", bound=np.generic)

_FREE, _IN, _OUT, _BARRED = 0, 1, 2, -1


class Walker:
    """The adapter. All prompts so far are solved together, so their order does not matter."""

    def __init__(self) -> None:
        self._prompts: list[Prompt] = []
        self._mask: Boxed[np.bool_] | None = None
        self._array: NDArray[np.float32] | None = None
        self._grid: Grid | None = None

    @property
    def capabilities(self) -> Capabilities:
        """It takes everything; negative boxes too."""
        return Capabilities("walker", "random walker: follows grey values, knows no anatomy", "no weights")

    def open(self, array: NDArray[np.float32], grid: Grid) -> None:
        """Keep the image; it is read where prompts are, never copied as a whole."""
        self._array, self._grid = array, grid
        self._forget()

    def apply(self, prompt: Prompt) -> None:
        """Solve anew with one more prompt."""
        assert self._array is not None
        assert self._grid is not None
        self._prompts.append(prompt)
        if isinstance(prompt, Seed):  # as it is, until something is said against it
            self._mask = prompt.voxels.mask()
            return
        self._mask = _solve(self._array, self._grid, self._prompts)

    def mask(self) -> Boxed[np.bool_]:
        """Return the current mask."""
        assert self._mask is not None
        return self._mask

    def undo(self) -> bool:
        """Leave it to the session to replay."""
        return False

    def close(self) -> None:
        """Let go of the image."""
        self._array = self._grid = self._mask = None

    def _forget(self) -> None:
        assert self._grid is not None
        self._prompts = []
        self._mask = Boxed.within(self._grid.shape, (slice(0, 0),) * 3, np.zeros((0, 0, 0), np.bool_))


@dataclass(frozen=True)
class _Marks:
    """What the prompts say, as masks."""

    inside: tuple[Boxed[np.bool_], ...]
    outside: tuple[Boxed[np.bool_], ...]
    around: tuple[Slices, ...]
    """Positive boxes: nothing outside them, if there are any, and no point that asks for more."""
    seed: Boxed[np.bool_] | None


@dataclass(frozen=True)
class _Frame:
    """A region and the coarser grid on it that is worked on, so that time and memory have a bound.

    `steps` are voxels per step along z, y, x; `spacing` is that of the coarser grid, mm.
    """

    region: Slices
    steps: tuple[int, int, int]
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]

    @classmethod
    def on(cls, region: Slices, spacing: Sequence[float]) -> _Frame:
        """The finest grid, as near to cubes as can be, with no more than `MOST_VOXELS`."""
        sizes, steps = [part.stop - part.start for part in region], [1, 1, 1]
        while np.prod([-(-size // step) for size, step in zip(sizes, steps, strict=True)]) > MOST_VOXELS:
            open_axes = [axis for axis in range(3) if sizes[axis] > steps[axis]]
            steps[min(open_axes, key=lambda axis: steps[axis] * spacing[axis])] += 1
        z, y, x = (-(-size // step) for size, step in zip(sizes, steps, strict=True))
        mm = [step * each for step, each in zip(steps, spacing, strict=True)]
        return cls(region, (steps[0], steps[1], steps[2]), (mm[0], mm[1], mm[2]), (z, y, x))

    def sample(self, array: NDArray[Kind]) -> NDArray[Kind]:
        """Every n-th voxel of the region, out of a whole volume."""
        z, y, x = (slice(part.start, part.stop, step) for part, step in zip(self.region, self.steps, strict=True))
        return array[z, y, x]

    def mark(self, mask: Boxed[np.bool_]) -> NDArray[np.bool_]:
        """A mask in which no voxel is lost: a step is in if any of its voxels is."""
        here = np.zeros(self.shape, np.bool_)
        start = [part.start - outer.start for part, outer in zip(mask.box, self.region, strict=True)]
        at = (np.argwhere(mask.inside) + start) // self.steps
        kept = at[((at >= 0) & (at < self.shape)).all(axis=1)]
        here[tuple(kept.T)] = True
        return here

    def whole(self, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Back to one element a voxel, surfaces smooth between the steps."""
        sizes = [part.stop - part.start for part in self.region]
        if self.steps == (1, 1, 1):
            return values
        fine = values.astype(np.float32)
        for axis, (size, step) in enumerate(zip(sizes, self.steps, strict=True)):
            places = np.arange(size) / step
            low = np.minimum(places.astype(int), fine.shape[axis] - 1)
            high = np.minimum(low + 1, fine.shape[axis] - 1)
            share = (places - low).astype(np.float32).reshape([-1 if here == axis else 1 for here in range(3)])
            fine = fine.take(low, axis) * (1 - share) + fine.take(high, axis) * share
        smooth: NDArray[np.bool_] = fine >= 0.5
        return smooth


def _solve(array: NDArray[np.float32], grid: Grid, prompts: Sequence[Prompt]) -> Boxed[np.bool_]:
    marks = _marks(grid, prompts)
    spacing = grid.spacing[::-1]
    if marks.seed is not None and marks.seed.any():
        return _corrected(array, grid, marks, marks.seed)
    if not marks.inside:  # only told what it is not
        return Boxed.of(np.zeros(grid.shape, np.bool_))
    frame = _Frame.on(_region(marks, spacing, grid), spacing)
    inside = frame.whole(_walk(frame.sample(array), _first(marks, frame, grid.shape), marks, frame))
    return _exactly(Boxed.within(grid.shape, frame.region, inside), marks)


def _corrected(array: NDArray[np.float32], grid: Grid, marks: _Marks, seed: Boxed[np.bool_]) -> Boxed[np.bool_]:
    """Change a given mask only around the marks that contradict it."""
    against = [mark for mark in marks.inside if shared(mark, seed) < mark.count]
    against += [mark for mark in marks.outside if shared(mark, seed)]
    if not against:
        return seed
    frame = _Frame.on(_grow(hull(mark.box for mark in against), _NEAR[1], grid.spacing[::-1], grid), grid.spacing[::-1])
    labels = _corrections(marks, seed, frame)
    free = labels == _FREE
    answer = _walk(frame.sample(array), labels, marks, frame)
    box = hull([seed.box, frame.region])
    values = seed.at(box)
    part = values[relative(frame.region, box)]
    part[...] = np.where(frame.whole(free), frame.whole(answer), part)
    return _exactly(Boxed.within(grid.shape, box, values), marks)


def _exactly(mask: Boxed[np.bool_], marks: _Marks) -> Boxed[np.bool_]:
    """Obey every mark to the voxel."""
    box = hull([mask.box, *(mark.box for mark in marks.inside)])
    values = mask.at(box)
    for mark, value in (*((mark, True) for mark in marks.inside), *((mark, False) for mark in marks.outside)):
        if (common := intersection(mark.box, box)) is not None:
            values[relative(common, box)][mark.inside[relative(common, mark.box)]] = value
    return Boxed.within(mask.shape, box, values)


def _marks(grid: Grid, prompts: Sequence[Prompt]) -> _Marks:
    inside: list[Boxed[np.bool_]] = []
    outside: list[Boxed[np.bool_]] = []
    around: list[Slices] = []
    seed = None
    for prompt in prompts:
        match prompt:
            case Point(voxel=voxel, positive=positive):
                (inside if positive else outside).append(ball(voxel, _TOUCH, grid.spacing, grid.size))
            case Scribble(voxels=packed, positive=positive):
                (inside if positive else outside).append(packed.mask())
            case Box(low=low, high=high, positive=positive):
                z, y, x = (slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
                if positive:
                    around.append((z, y, x))
                else:
                    full = np.ones([part.stop - part.start for part in (z, y, x)], np.bool_)
                    outside.append(Boxed.within(grid.shape, (z, y, x), full))
            case Seed(voxels=packed):
                seed = packed.mask()
    if around and not inside:  # a box alone: the middle of each is in
        inside = [Boxed.within(grid.shape, _middle(box), np.ones((1, 1, 1), np.bool_)) for box in around]
    return _Marks(tuple(inside), tuple(outside), tuple(around), seed)


def _middle(box: Slices) -> Slices:
    z, y, x = (slice((part.start + part.stop - 1) // 2, (part.start + part.stop - 1) // 2 + 1) for part in box)
    return z, y, x


def _grow(box: Slices, mm: float, spacing: Sequence[float], grid: Grid) -> Slices:
    z, y, x = (
        slice(max(0, part.start - round(mm / step)), min(size, part.stop + round(mm / step)))
        for part, step, size in zip(box, spacing, grid.shape, strict=True)
    )
    return z, y, x


def _region(marks: _Marks, spacing: Sequence[float], grid: Grid) -> Slices:
    """Where to look: just around the boxes and clicks if there is a box in space, else as far as a structure may go."""
    held = hull([*marks.around, *(mark.box for mark in marks.inside)])
    if not marks.around:
        return _grow(held, _REACH, spacing, grid)
    loose = [part.stop - part.start == 1 for part in hull(marks.around)]  # a flat box says nothing across its slice
    near, far = _grow(held, 2 * max(spacing), spacing, grid), _grow(held, _REACH / 2, spacing, grid)
    z, y, x = (b if free else a for a, b, free in zip(near, far, loose, strict=True))
    return z, y, x


def _first(marks: _Marks, frame: _Frame, shape: tuple[int, int, int]) -> NDArray[np.int8]:
    """Nothing is known but the marks; the structure ends before the region does, if not at the image's edge."""
    labels = np.zeros(frame.shape, np.int8)
    for axis, (part, size) in enumerate(zip(frame.region, shape, strict=True)):
        edge = np.moveaxis(labels, axis, 0)
        if part.start > 0:
            edge[0] = _OUT
        if part.stop < size:
            edge[-1] = _OUT
    return _mark(labels, marks, frame)


def _corrections(marks: _Marks, seed: Boxed[np.bool_], frame: _Frame) -> NDArray[np.int8]:
    """A given mask holds, but near marks that contradict it: the farther they are from its surface, the wider."""
    z, y, x = (slice(part.start, part.stop) for part in frame.region)
    given = seed.at((z, y, x))[:: frame.steps[0], :: frame.steps[1], :: frame.steps[2]]
    labels = np.where(given, _IN, _OUT).astype(np.int8)
    for marked, wrong in ((marks.inside, ~given), (marks.outside, given)):
        off = ndimage.distance_transform_edt(np.pad(wrong, 1, mode="edge"), sampling=frame.spacing)[1:-1, 1:-1, 1:-1]
        for mark in marked:
            here = frame.mark(mark)
            if (how_far := float(off[here].max(initial=0.0))) > 0:
                radius = min(_NEAR[1], max(_NEAR[0], 1.5 * how_far))
                near = ndimage.distance_transform_edt(~here, sampling=frame.spacing) <= radius
                labels[near & wrong] = _FREE  # a click for more takes nothing away, and one for less adds nothing
    return _mark(labels, marks, frame)


def _mark(labels: NDArray[np.int8], marks: _Marks, frame: _Frame) -> NDArray[np.int8]:
    """Write what was marked over what was concluded."""
    for mark in marks.inside:
        labels[frame.mark(mark)] = _IN
    for mark in marks.outside:
        labels[frame.mark(mark)] = _OUT
    return labels


def _walk(values: NDArray[np.float32], labels: NDArray[np.int8], marks: _Marks, frame: _Frame) -> NDArray[np.bool_]:
    """Solve, on the frame's grid."""
    return _walk_fully(values, _bar(values, labels, marks, frame), frame.spacing)


def _bar(values: NDArray[np.float32], labels: NDArray[np.int8], marks: _Marks, frame: _Frame) -> NDArray[np.int8]:
    """Keep the walker out of free voxels whose grey value is like nothing that was marked as in.

    Each mark grows to the largest ball of its own grey values (not past half the way to a mark of the other sign): a
    lone voxel would lose every walker to its surroundings.
    """
    noise = 1.4826 / 2**0.5 * float(np.median(np.abs(np.diff(values, axis=2)))) if values.shape[2] > 1 else 0.0
    smooth = ndimage.gaussian_filter(values, [0.7 if size > 1 else 0 for size in values.shape])
    like = np.zeros(values.shape, np.bool_)
    if not marks.inside and (core := labels == _IN).any():
        like = _like(values, smooth, core, noise)
    fixed = labels.copy()
    for value, own, others in ((_IN, marks.inside, marks.outside), (_OUT, marks.outside, marks.inside)):
        for mark in own:
            if not (here := frame.mark(mark)).any():
                continue
            alike = _like(values, smooth, ndimage.binary_dilation(here, np.ones((3, 3, 3))), noise)
            like |= alike if value == _IN else False
            away = ndimage.distance_transform_edt(~here, sampling=frame.spacing)
            room = float(
                ndimage.distance_transform_edt(np.pad(alike, 1), sampling=frame.spacing)[1:-1, 1:-1, 1:-1][here].max()
            )
            room = min([0.8 * room, *(away[frame.mark(other)].min(initial=np.inf) / 2 for other in others)])
            labels[(away <= room) & alike & (fixed == _FREE)] = value
    labels[(labels == _FREE) & ~like] = _BARRED
    return _mark(labels, marks, frame)


def _like(
    values: NDArray[np.float32], smooth: NDArray[np.float32], sample: NDArray[np.bool_], noise: float
) -> NDArray[np.bool_]:
    """Where the smoothed grey value is within a few deviations of a sample's; specks of noise are filled."""
    middle = float(np.median(values[sample]))
    spread = max(min(1.4826 * float(np.median(np.abs(values[sample] - middle))), 2 * noise), noise, 1e-6)
    like = np.abs(smooth - middle) <= _LIKE * spread
    filled: NDArray[np.bool_] = (
        ndimage.binary_closing(np.pad(like, 1))[1:-1, 1:-1, 1:-1] if min(like.shape) > 1 else like
    )
    return filled


def _walk_fully(values: NDArray[np.float32], labels: NDArray[np.int8], spacing: Sequence[float]) -> NDArray[np.bool_]:
    from skimage.segmentation import random_walker

    inside: NDArray[np.bool_] = labels == _IN
    if not inside.any() or not (labels == _FREE).any():
        return inside
    if not (labels == _OUT).any():  # nothing but other grey values bounds it
        return _tidy(inside | (labels == _FREE), labels)
    marked = values[inside]
    middle, spread = float(np.median(marked)), max(float(np.std(marked)), 1e-6)
    data = np.clip((values - middle) / spread, -8, 8)
    # A free island that no mark touches has no equation; scikit-image gives it -1, which is out.
    answer = random_walker(data, labels.astype(np.int32), beta=130, mode="cg_j", tol=1e-3, prob_tol=1, spacing=spacing)
    return _tidy(answer == _IN, labels)


def _tidy(walked: NDArray[np.bool_], labels: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Cut threads, keep what hangs together with a mark, close noise; no mark is overruled."""
    marked: NDArray[np.bool_] = labels == _IN
    core = ndimage.binary_opening(walked) | marked if min(labels.shape) > 1 else walked
    parts, _ = ndimage.label(core)
    kept = np.isin(parts, np.unique(parts[marked & (parts > 0)]))
    closed = ndimage.binary_closing(np.pad(kept, 1))[1:-1, 1:-1, 1:-1] if min(labels.shape) > 1 else kept
    inside: NDArray[np.bool_] = ((closed | kept) & (labels != _OUT)) | marked
    return inside
