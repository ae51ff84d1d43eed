"""One slice on the screen: the image in its window, contours over it, the patient's directions at its edges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Volume
from medsegagent.reporting.colours import colours_of, hex_of
from medsegagent.reporting.view import (
    MARKS,
    Plane,
    Window,
    boxed_section,
    display_of,
    pixel_size,
    region,
    section,
    window_for,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect

GROUND, INK, MUTED = "#0d1117", "#e6edf3", "#9aa4af"
AGREEMENT_MAP = "cividis"


@dataclass(frozen=True)
class Scene:
    """What panels show: volumes turned to the patient (see `Display.turn`), mm per voxel along their axes.

    `masks`, `agreement` and `colours` are by structure id.
    """

    image: NDArray[np.float32]
    masks: Mapping[str, Boxed[np.bool_]]
    agreement: Mapping[str, Boxed[np.uint8]]
    colours: Mapping[str, str]
    spacing: tuple[float, float, float]
    window: Window

    def extent(self, plane: Plane) -> tuple[float, float]:
        """Height and width of a panel, mm."""
        rows, columns = pixel_size(self.spacing, plane)
        shape = section(self.image, plane, 0).shape
        return shape[0] * rows, shape[1] * columns

    def around(self, names: Collection[str], margin: float = 80.0) -> Scene:
        """Crop to some structures and a margin in mm; all of the volume if they are empty or there are none."""
        if not names:
            return self
        box = region([self.masks[name] for name in names], self.spacing, margin)
        return replace(
            self,
            image=self.image[box],
            masks={name: mask.cropped(box) for name, mask in self.masks.items()},
            agreement={name: share.cropped(box) for name, share in self.agreement.items()},
        )


def scene_of(segmentation: Segmentation, volume: Volume) -> Scene:
    """Turn a volume and its structures to the patient and choose window and colours; nothing is copied."""
    display = display_of(volume.grid)
    found = [concept for item in segmentation.structures if item.where.any() for concept in item.concepts]
    return Scene(
        image=display.turn(volume.array),
        masks={item.id: display.turn_boxed(item.where) for item in segmentation.structures},
        agreement={item.id: display.turn_boxed(item.support) for item in segmentation.structures},
        colours={
            name: hex_of(colour) for name, colour in colours_of([item.id for item in segmentation.structures]).items()
        },
        spacing=display.spacing,
        window=window_for(volume, found),
    )


def draw_panel(axes: Axes, scene: Scene, plane: Plane, index: int, focus: Collection[str] | None = None) -> None:
    """Fill `axes` with a slice and the structures on it; with a `focus`, all others are only hinted at."""
    _draw_image(axes, scene, plane, index)
    for name, mask in scene.masks.items():
        hint = focus is not None and name not in focus
        _outline(axes, scene, plane, boxed_section(mask, plane, index), scene.colours[name], hint=hint)
    _mark(axes, plane)


def draw_agreement(axes: Axes, scene: Scene, plane: Plane, index: int, name: str) -> None:
    """Fill `axes` with a slice and, over it, the percentage of votes for one structure, outlined where it is in."""
    _draw_image(axes, scene, plane, index)
    share = boxed_section(scene.agreement[name], plane, index)
    height, width = scene.extent(plane)
    axes.imshow(
        np.ma.masked_equal(share, 0),
        cmap=AGREEMENT_MAP,
        vmin=0,
        vmax=100,
        alpha=0.75,
        extent=(0.0, width, height, 0.0),
        interpolation="nearest",
        aspect="auto",
    )
    _outline(axes, scene, plane, boxed_section(scene.masks[name], plane, index), INK, hint=True)
    _mark(axes, plane)


def _draw_image(axes: Axes, scene: Scene, plane: Plane, index: int) -> None:
    height, width = scene.extent(plane)
    axes.imshow(
        section(scene.image, plane, index),
        cmap="gray_r" if scene.window.inverted else "gray",
        vmin=scene.window.low,
        vmax=scene.window.high,
        extent=(0.0, width, height, 0.0),
        interpolation="bilinear",
        aspect="auto",
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()


def _outline(axes: Axes, scene: Scene, plane: Plane, shown: NDArray[np.bool_], colour: str, *, hint: bool) -> None:
    if not shown.any():
        return
    rows, columns = pixel_size(scene.spacing, plane)
    # Contours keep their whole field, of a hundred structures gigabytes: give each its own corner of the slice.
    top, left = (int(np.flatnonzero(shown.any(axis=axis))[0]) for axis in (1, 0))
    bottom, right = (int(np.flatnonzero(shown.any(axis=axis))[-1]) + 1 for axis in (1, 0))
    padded = np.pad(shown[top:bottom, left:right].astype(np.float32), 1)  # so that a contour closes at the edge
    across = (np.arange(left, left + padded.shape[1]) - 0.5) * columns
    down = (np.arange(top, top + padded.shape[0]) - 0.5) * rows
    if not hint:
        axes.contourf(across, down, padded, levels=[0.5, 1.5], colors=[colour], alpha=0.22)
    axes.contour(across, down, padded, levels=[0.5], colors=[colour], linewidths=0.8 if hint else 1.4)


def draw_bar(axes: Axes, scene: Scene, plane: Plane) -> None:
    """Draw a scale bar, 5 cm or 1 cm, at the lower right."""
    height, width = scene.extent(plane)
    length = 50 if width >= 120 else 10
    right, base, lift = width * 0.96, height * 0.965, height * 0.015
    (bar,) = axes.plot([right - length, right], [base, base], color=INK, linewidth=2, solid_capstyle="butt")
    bar.set_path_effects(_halo(4.0))
    axes.annotate(
        f"{length // 10} cm",
        (right - length / 2, base - lift),
        color=INK,
        fontsize=7,
        ha="center",
        va="bottom",
        path_effects=_halo(2.0),
    )


def _halo(width: float) -> list[AbstractPathEffect]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground=GROUND)]


def _mark(axes: Axes, plane: Plane) -> None:
    """Write the patient's directions at the panel's edges."""
    inset = 0.02
    places = (
        (inset, 0.5, "left", "center"),
        (1 - inset, 0.5, "right", "center"),
        (0.5, 1 - inset, "center", "top"),
        (0.5, inset, "center", "bottom"),
    )
    for text, (x, y, horizontal, vertical) in zip(MARKS[plane], places, strict=True):
        axes.annotate(
            text,
            (x, y),
            xycoords="axes fraction",
            color=INK,
            fontsize=9,
            fontweight="bold",
            ha=horizontal,
            va=vertical,
            path_effects=_halo(2.5),
        )
