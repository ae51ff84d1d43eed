from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from phantoms import GRID, segmentation, volume

from medsegagent.fusion.segmentation import Segmentation
from medsegagent.reporting.colours import PALETTE, colours_of
from medsegagent.reporting.preview import write_preview


def pixels(path: Path) -> np.ndarray:
    return np.rint(matplotlib.image.imread(path)[..., :3] * 255).astype(int)


def test_every_structure_is_drawn_in_its_colour_within_the_slices(tmp_path: Path) -> None:
    result = segmentation()
    write_preview(result, volume(), tmp_path / "preview.png", "liver, its tumour and $both$ kidneys {\\frac")
    picture = pixels(tmp_path / "preview.png")
    slices = picture[: int(picture.shape[0] * 0.75)]
    for name, colour in colours_of([item.id for item in result.structures]).items():
        near = np.abs(slices - np.array(colour)).max(axis=-1) < 12
        assert near.sum() > 30, name


@pytest.mark.filterwarnings("error")
def test_a_title_in_any_script_and_no_structures_at_all_are_no_problem(tmp_path: Path) -> None:
    write_preview(Segmentation(GRID, ()), volume(), tmp_path / "preview.png", "肝臓をセグメントして " * 40)
    assert pixels(tmp_path / "preview.png").shape[1] == 1650


class TestColours:
    def test_stay_with_the_structure_whatever_else_is_shown(self) -> None:
        alone = colours_of(["liver"])["liver"]
        assert colours_of(["spleen", "aorta", "liver"])["liver"] == alone

    def test_are_all_different_far_beyond_the_palette(self) -> None:
        names = [f"rib_{number}" for number in range(3 * len(PALETTE))]
        assert len(set(colours_of(names).values())) == len(names)
