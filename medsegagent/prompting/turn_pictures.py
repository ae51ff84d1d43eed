"""What a turn did, as a picture: the mask half-transparent, the prompt, and what was said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.prompting.episode import Episode, Turn
from medsegagent.prompting.prompts import Box, Point, Prompt, Scribble, Seed, Voxel, describe
from medsegagent.prompting.views import Letterbox, View, across, greys_for, overlay, view_of
from medsegagent.reporting.view import Plane

SIZE = 512
_BANNER = 44
_IN, _OUT, _BOX = (255, 0, 0), (0, 0, 255), (255, 200, 0)
_HIT, _TOO_MUCH, _MISSED = (0, 255, 0), (255, 0, 0), (0, 128, 255)


def write_turns(
    episode: Episode,
    array: NDArray[np.float32],
    grid: Grid,
    folder: Path,
    *,
    plane: Plane = "axial",
    truth: Boxed[np.bool_] | None = None,
) -> list[Path]:
    """Write one PNG per turn, `turn_0.png` the mask before the first prompt, each through its prompt.

    With a `truth`, what is right is green, what is too much red, what is missing blue; else the mask is green.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    given = [turn for turn in episode.turns if not isinstance(turn.prompt, Seed)]
    seed = next((turn.mask for turn in episode.turns if isinstance(turn.prompt, Seed)), None)
    first = _slice_of(given[0].prompt, grid, plane) if given else _middle(episode.mask, grid, plane)
    pictures = [_picture(array, grid, view_of(grid, plane, first), seed, truth, (), _caption(0, None, seed, episode))]
    done: list[Prompt] = []
    for number, turn in enumerate(given, 1):
        done.append(turn.prompt)
        view = view_of(grid, plane, _slice_of(turn.prompt, grid, plane))
        pictures.append(_picture(array, grid, view, turn.mask, truth, done, _caption(number, turn, turn.mask, episode)))
    for number, picture in enumerate(pictures):
        files.append(folder / f"turn_{number}.png")
        _save(picture, files[-1])
    return files


def _slice_of(prompt: Prompt, grid: Grid, plane: Plane) -> int:
    axis = 2 - across(grid, plane)
    match prompt:
        case Point(voxel=voxel):
            return voxel[axis]
        case Box(low=low, high=high):
            return (low[axis] + high[axis] - 1) // 2
        case Scribble(voxels=packed) | Seed(voxels=packed):
            return _middle(packed.mask(), grid, plane)


def _middle(mask: Boxed[np.bool_], grid: Grid, plane: Plane) -> int:
    axis = across(grid, plane)
    if not mask.any():
        return grid.shape[axis] // 2
    areas = np.count_nonzero(mask.inside, axis=tuple({0, 1, 2} - {axis}))
    return int(mask.box[axis].start + areas.argmax())


def _caption(number: int, turn: Turn | None, mask: Boxed[np.bool_] | None, episode: Episode) -> str:
    volume = f"{mask.count * episode.voxel_ml:.1f} mL" if mask is not None else "no mask"
    if turn is None:
        return f"before: {volume}"
    score = f", Dice {turn.dice:.2f}" if turn.dice is not None else ""
    return f"turn {number}: {describe(turn.prompt)}, {volume}{score}\n{turn.why}"


def _picture(
    array: NDArray[np.float32],
    grid: Grid,
    view: View,
    mask: Boxed[np.bool_] | None,
    truth: Boxed[np.bool_] | None,
    prompts: Sequence[Prompt],
    caption: str,
) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    grey = greys_for(array)(view.picture(array))
    shown = _section(mask, view, grid)
    if truth is None:
        picture = overlay(grey, shown)
    else:
        right = _section(truth, view, grid)
        picture = overlay(grey, shown & right, _HIT)
        for wrong, colour in ((shown & ~right, _TOO_MUCH), (right & ~shown, _MISSED)):
            picture[wrong] = (picture[wrong] * 0.5 + np.asarray(colour) * 0.5).astype(np.uint8)
    box = Letterbox(SIZE, view.pixels)
    canvas = np.zeros((SIZE + _BANNER, SIZE, 3), np.uint8)
    canvas[_BANNER:] = box.fit(picture)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    draw.multiline_text((6, 4), f"{caption}"[:200], fill=(230, 237, 243), font_size=14)

    def place(voxel: Voxel) -> tuple[float, float]:
        x, y = view.pixel(voxel)
        return box.start[0] + x * box.scale, box.start[1] + y * box.scale + _BANNER

    for prompt in prompts:
        match prompt:
            case Point(voxel=voxel, positive=positive) if voxel[2 - view.across] == view.index:
                x, y = place(voxel)
                draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=_IN if positive else _OUT, outline=(255, 255, 255))
            case Box(low=low, high=high) if low[2 - view.across] <= view.index < high[2 - view.across]:
                (x0, y0), (x1, y1) = place(low), place((high[0] - 1, high[1] - 1, high[2] - 1))
                draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=_BOX, width=2)
    return np.asarray(image)


def _section(mask: Boxed[np.bool_] | None, view: View, grid: Grid) -> NDArray[np.bool_]:
    """A mask's slice as a picture, without spreading the mask over the volume."""
    if mask is None:
        return np.zeros(view.pixels, np.bool_)
    part = [slice(0, n) for n in grid.shape]
    part[view.across] = slice(view.index, view.index + 1)
    thin = mask.at((part[0], part[1], part[2]))
    here = np.moveaxis(thin, view.across, 0)[0]
    if view.down > view.along:
        here = here.T
    down, along = (slice(None, None, -1 if flip else 1) for flip in view.flips)
    return view.stretch(here[down, along])


def _save(picture: NDArray[np.uint8], file: Path) -> None:
    from medsegagent.prompting.pictures import to_png

    file.write_bytes(to_png(picture))
