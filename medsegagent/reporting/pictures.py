"""Panels as pictures inside a page: JPEG in a data URI, one per slice, so that a page can arrange them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from medsegagent.reporting.panel import AGREEMENT_MAP, GROUND, Scene, draw_agreement, draw_bar, draw_panel
from medsegagent.reporting.view import PLANES, Plane, choose_planes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST = 3.4  # inches
_DPI = 160
_QUALITY = 88


@dataclass(frozen=True)
class Picture:
    """An image for a page: its data URI, what to say in its place, a caption, width over height."""

    uri: str
    alt: str
    caption: str
    aspect: float


def overview(scene: Scene) -> list[Picture]:
    """Draw all structures, up to three rows of three planes."""
    near = scene.around(scene.masks)
    rows = choose_planes(near.masks) if near.masks else []
    return [
        _panel(near, plane, partial(draw_panel, scene=near, plane=plane, index=row[plane]), "all structures")
        for row in rows
        for plane in PLANES
    ]


def of_structure(scene: Scene, name: str, known_as: str, voters: int) -> list[Picture]:
    """Draw one structure in three planes, and where its voters disagree most; nothing if it is empty."""
    if not scene.masks[name].any():
        return []
    near = scene.around([name], margin=50.0)
    row = choose_planes({name: near.masks[name]}, most=1)[0]
    pictures = [
        _panel(near, plane, partial(draw_panel, scene=near, plane=plane, index=row[plane], focus=(name,)), known_as)
        for plane in PLANES
    ]
    if voters > 1:
        share = near.agreement[name].dense()
        disputed = np.count_nonzero((share > 0) & (share < 100), axis=(1, 2))
        index = int(disputed.argmax()) if disputed.any() else row["axial"]
        draw = partial(draw_agreement, scene=near, plane="axial", index=index, name=name)
        picture = _panel(near, "axial", draw, f"the models' votes for {known_as}")
        caption = "Share of votes, where they differ most" if disputed.any() else "Share of votes: all agree"
        pictures.append(replace(picture, caption=caption))
    return pictures


def agreement_scale() -> str:
    """Return the colours of the agreement overlay as a CSS gradient, from no votes to all."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return ", ".join(to_hex(colormaps[AGREEMENT_MAP](part / 8)) for part in range(9))


def _panel(scene: Scene, plane: Plane, draw: Callable[[Axes], None], what: str) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = scene.extent(plane)
    scale = _LONGEST / max(height, width)
    figure = Figure(figsize=(width * scale, height * scale), facecolor=GROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    draw(axes)
    draw_bar(axes, scene, plane)
    file = io.BytesIO()
    figure.savefig(file, format="jpg", dpi=_DPI, pil_kwargs={"quality": _QUALITY})
    data = base64.b64encode(file.getvalue()).decode("ascii")
    caption = plane.capitalize()
    return Picture(f"data:image/jpeg;base64,{data}", f"{caption} slice: {what}", caption, width / height)
