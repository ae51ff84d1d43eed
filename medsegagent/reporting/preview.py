"""`preview.png`: what was found, in three planes."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.volume import Volume
from medsegagent.reporting.panel import GROUND, INK, MUTED, draw_bar, draw_panel, scene_of
from medsegagent.reporting.view import PLANES, choose_planes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESEARCH_USE = "Research use only. Not for diagnosis."

_WIDTH, _MARGIN, _GAP, _TALLEST = 11.0, 0.35, 0.12, 5.0  # inches
_LINE, _COLUMNS, _MOST_NAMES = 0.27, 4, 48
_FONTS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Arial Unicode MS", "SimHei"]


def write_preview(segmentation: Segmentation, volume: Volume, path: Path, title: str) -> None:
    """Draw the structures on the volume in axial, coronal and sagittal slices and save a PNG.

    Slices are chosen so that every structure is seen (at most three rows of them), to scale, in radiological
    orientation whatever the file's, windowed by modality. Colours stay with the structure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scene = scene_of(segmentation, volume)
    scene = scene.around(scene.masks)
    planes = choose_planes(scene.masks) if scene.masks else []
    extents = {plane: scene.extent(plane) for plane in PLANES}
    scale = min(
        (_WIDTH - 2 * _MARGIN - 2 * _GAP) / sum(width for _, width in extents.values()),
        _TALLEST / max(height for height, _ in extents.values()),
    )
    row_height = max(height for height, _ in extents.values()) * scale
    row_width = sum(width for _, width in extents.values()) * scale + 2 * _GAP
    words = textwrap.wrap(title, 95, max_lines=2, placeholder=" …")
    entries = _entries(segmentation)
    head = 0.45 + _LINE * len(words)
    foot = 0.5 + _LINE * -(-len(entries) // _COLUMNS)
    height = head + foot + len(planes) * (row_height + _GAP)

    figure = Figure(figsize=(_WIDTH, height), facecolor=GROUND)
    FigureCanvasAgg(figure)
    for number, row in enumerate(planes):
        left = (_WIDTH - row_width) / 2
        top = height - head - number * (row_height + _GAP)
        for plane in PLANES:
            tall, wide = (mm * scale for mm in extents[plane])
            frame = left / _WIDTH, (top - (row_height + tall) / 2) / height, wide / _WIDTH, tall / height
            axes = figure.add_axes(frame)
            draw_panel(axes, scene, plane, row[plane])
            if plane == "axial":
                draw_bar(axes, scene, plane)
            left += wide + _GAP
    _write_words(figure, words, f"{volume.evidence.family or 'Image'}, {scene.window.text}", height)
    _draw_legend(figure, entries, scene.colours, height, foot)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a title in a script that no font here has
        figure.savefig(path, dpi=150, facecolor=GROUND)


def _write_words(figure: Figure, title: list[str], about: str, height: float) -> None:
    y = 1 - 0.28 / height
    for line in title:
        figure.text(
            _MARGIN / _WIDTH, y, line, color=INK, fontsize=13, va="center", fontfamily=_fonts(), parse_math=False
        )
        y -= _LINE / height
    side = "Radiological view: the patient's right (R) is on the left."
    figure.text(_MARGIN / _WIDTH, 0.2 / height, f"{about}. {side}", color=MUTED, fontsize=8, va="center")
    figure.text(1 - _MARGIN / _WIDTH, 0.2 / height, RESEARCH_USE, color=MUTED, fontsize=8, va="center", ha="right")


def _fonts() -> list[str]:
    """Those of the wanted families that this machine has; matplotlib falls back from one to the next by character."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FONTS if name in installed]


def _entries(segmentation: Segmentation) -> list[tuple[str, str, bool]]:
    """Return id, text and whether it was found, for the legend."""
    entries = []
    for item in segmentation.structures:
        volume_ml = item.where.count * segmentation.grid.voxel_ml
        amount = f"{volume_ml:,.0f} mL" if volume_ml >= 10 else f"{volume_ml:.2g} mL"
        entries.append((item.id, f"{item.name}, {amount}" if volume_ml else f"{item.name}: not found", volume_ml > 0))
    if len(entries) > _MOST_NAMES:
        more = len(entries) - _MOST_NAMES + 1
        entries = [*entries[: _MOST_NAMES - 1], ("", f"and {more} more, see statistics.json", False)]
    return entries


def _draw_legend(
    figure: Figure, entries: list[tuple[str, str, bool]], colours: Mapping[str, str], height: float, foot: float
) -> None:
    from matplotlib.patches import Rectangle

    width = (_WIDTH - 2 * _MARGIN) / _COLUMNS
    for number, (name, text, found) in enumerate(entries):
        x = _MARGIN + (number % _COLUMNS) * width
        y = foot - 0.2 - (number // _COLUMNS) * _LINE
        if name:
            box = Rectangle(
                (x / _WIDTH, (y - 0.065) / height),
                0.2 / _WIDTH,
                0.13 / height,
                facecolor=colours[name] if found else "none",
                edgecolor=colours[name],
                transform=figure.transFigure,
            )
            figure.add_artist(box)
        text = textwrap.shorten(text, 38, placeholder=" …")
        figure.text((x + 0.3) / _WIDTH, y / height, text, color=INK if found else MUTED, fontsize=9.5, va="center")
