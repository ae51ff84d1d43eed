"""A picture of where a prediction and its reference differ most."""
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medsegagent.evaluation.mask_cases import Evaluation, read_pair
from medsegagent.evaluation.masks import Pair, Score, pair_up
from medsegagent.images.boxed import Boxed
from medsegagent.images.geometry import differences, same_grid
from medsegagent.images.read import read_volume
from medsegagent.images.volume import Grid, Volume
from medsegagent.reporting.view import MARKS, PLANES, Plane, display_of, pixel_size, region, section, window_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BOTH, _ONLY_PREDICTED, _ONLY_REFERENCE = "#00bc8b", "#e69f00", "#56b4e9"
_GROUND, _INK = "#0d1117", "#e6edf3"
_PANEL_INCHES = 4.0


def write_worst(
    evaluation: Evaluation, path: Path, mapping: Mapping[str, str], image: Path | None = None
) -> tuple[str, ...]:
    """Draw the worst score of an evaluation; nothing if there is none.

    Args:
        evaluation: The scores.
        path: The PNG.
        mapping: The one that the evaluation was made with.
        image: The image of the only case, or a folder of images named like the cases.

    Returns:
        Warnings: an image that cannot lie below.
    """
    worst = evaluation.worst
    if worst is None:
        return ()
    case = next(item for item in evaluation.cases if item.name == worst.case)
    prediction, truth = read_pair(case)
    pairs, _ = pair_up(prediction, truth, mapping)
    pair = next(item for item in pairs if item.target == worst.target)
    below, warnings = _image_of(worst.case, image, truth.grid)
    write_picture(worst, pair, truth.grid, path, below)
    return warnings


def _image_of(case: str, image: Path | None, grid: Grid) -> tuple[Volume | None, tuple[str, ...]]:
    if image is not None and image.is_dir():
        image = next((file for file in sorted(image.iterdir()) if file.name.startswith(f"{case}.")), image)
    if image is None:
        return None, ()
    volume = read_volume(image)
    if same_grid(volume.grid, grid):
        return volume, ()
    differ = differences(volume.grid, grid)
    return None, (f"{image.name} is not on the reference's grid ({differ}) and was left out of the picture",)


def write_picture(score: Score, pair: Pair, grid: Grid, path: Path, image: Volume | None = None) -> None:
    """Draw three planes through the largest differences, in radiological orientation, and save a PNG.

    Agreement is green, what only the prediction has orange, what only the reference has blue (Okabe and Ito, told
    apart by colour-blind readers). With an image on the same grid, it lies below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    display = display_of(grid)
    predicted, truth = display.turn(pair.prediction), display.turn(pair.reference)
    box = region([Boxed.of(predicted | truth)], display.spacing, margin=30.0)
    predicted, truth = predicted[box], truth[box]
    below = display.turn(image.array)[box] if image else None
    window = window_for(image, ()) if image else None

    figure = Figure(figsize=(3 * _PANEL_INCHES, _PANEL_INCHES + 1.1), facecolor=_GROUND)
    FigureCanvasAgg(figure)
    for number, plane in enumerate(PLANES):
        axes = figure.add_axes((number / 3 + 0.005, 0.11, 1 / 3 - 0.01, 0.78))
        index = _slice(predicted ^ truth, predicted | truth, plane)
        rows, columns = pixel_size(display.spacing, plane)
        if below is not None and window is not None:
            shades = "gray_r" if window.inverted else "gray"
            axes.imshow(
                section(below, plane, index), cmap=shades, vmin=window.low, vmax=window.high, aspect=rows / columns
            )
        colours = _colours(section(predicted, plane, index), section(truth, plane, index), solid=below is None)
        axes.imshow(colours, aspect=rows / columns, interpolation="nearest")
        _mark(axes, plane)
    figures = f"Dice {score.dice:.3f}, surface Dice {score.nsd:.3f}, HD95 {score.hd95_mm:.1f} mm"
    figure.text(
        0.01, 0.95, f"{score.case}, {score.target}: {figures}", color=_INK, fontsize=12, va="center", parse_math=False
    )
    handles = [Patch(color=_BOTH), Patch(color=_ONLY_PREDICTED), Patch(color=_ONLY_REFERENCE)]
    legend = figure.legend(
        handles, ["both", "only predicted", "only in the reference"], loc="lower left", ncols=3, frameon=False
    )
    for text in legend.get_texts():
        text.set_color(_INK)
    figure.savefig(path, dpi=110, facecolor=_GROUND)


def _slice(differs: NDArray[np.bool_], either: NDArray[np.bool_], plane: Plane) -> int:
    """The slice with the largest difference; without any, the one with the largest area."""
    axis = PLANES.index(plane)
    others = tuple({0, 1, 2} - {axis})
    return int(np.argmax((differs if differs.any() else either).sum(axis=others)))


def _colours(predicted: NDArray[np.bool_], truth: NDArray[np.bool_], solid: bool) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    rgba = np.zeros((*predicted.shape, 4))
    strength = 1.0 if solid else 0.55
    for where, colour in (
        (predicted & truth, _BOTH),
        (predicted & ~truth, _ONLY_PREDICTED),
        (~predicted & truth, _ONLY_REFERENCE),
    ):
        rgba[where] = (*to_rgb(colour), strength if colour != _BOTH or solid else 0.3)
    return rgba


def _mark(axes: Axes, plane: Plane) -> None:
    axes.set_axis_off()
    axes.set_facecolor(_GROUND)
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.98, "center", "top"))
    for text, (x, y, horizontal, vertical) in zip(MARKS[plane], places, strict=False):
        axes.text(x, y, text, color=_INK, fontsize=9, ha=horizontal, va=vertical, transform=axes.transAxes)
