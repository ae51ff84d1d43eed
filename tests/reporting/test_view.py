from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from phantoms import volume

from medsegagent.images.boxed import Boxed
from medsegagent.images.geometry import grid_of
from medsegagent.images.volume import Grid, ModalityEvidence
from medsegagent.reporting.view import PLANES, boxed_section, choose_planes, display_of, region, section, window_for

SHAPE = (4, 5, 6)


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAI", "PSR", "SAL", "IRP", "ASR", "RPI"])
def test_any_stored_orientation_is_turned_the_same_way(code: str) -> None:
    stored = sitk.GetImageFromArray(np.arange(120, dtype=np.float32).reshape(SHAPE))
    stored.SetSpacing((1, 2, 3))
    turned = sitk.DICOMOrient(stored, code)
    display = display_of(grid_of(turned))
    assert np.array_equal(display.turn(sitk.GetArrayFromImage(turned)), sitk.GetArrayFromImage(stored))
    assert display.spacing == (3, 2, 1)


def test_an_oblique_grid_is_turned_to_the_nearest_axes() -> None:
    angle = np.radians(40)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    grid = Grid((6, 5, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(tilt.ravel().tolist()))
    array = np.arange(120).reshape(SHAPE)
    assert np.array_equal(display_of(grid).turn(array), array)


def test_sections_have_the_head_up_and_the_patients_right_and_front_at_the_left() -> None:
    turned = np.zeros(SHAPE, dtype=np.uint8)
    turned[-1, 0, 0] = 1  # most superior, most anterior, most right
    assert section(turned, "axial", 3)[0, 0] == 1
    assert section(turned, "coronal", 0)[0, 0] == 1
    assert section(turned, "sagittal", 0)[0, 0] == 1


@pytest.mark.parametrize("code", ["LPS", "RAI", "SAL", "IRP"])
def test_what_is_kept_of_a_volume_is_turned_and_cut_like_the_whole(code: str) -> None:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[1:3, 1:3, 2] = [[1, 2], [3, 4]]
    stored = sitk.GetImageFromArray(array)
    display = display_of(grid_of(sitk.DICOMOrient(stored, code)))
    array = sitk.GetArrayFromImage(sitk.DICOMOrient(stored, code))
    turned = display.turn_boxed(Boxed.of(array))
    assert np.array_equal(turned.dense(), display.turn(array))
    for plane in PLANES:
        assert np.array_equal(boxed_section(turned, plane, 2), section(display.turn(array), plane, 2))


def spot(shape: tuple[int, int, int], *centre: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(c - 1, c + 2) for c in centre)] = True
    return mask


class TestPlanes:
    def test_one_row_is_enough_for_what_lies_together(self) -> None:
        masks = {"a": spot((20, 20, 20), 5, 5, 5), "b": spot((20, 20, 20), 5, 15, 15)}
        assert len(rows := choose_planes({name: Boxed.of(mask) for name, mask in masks.items()})) == 1
        assert rows[0]["axial"] in (4, 5, 6)

    def test_what_lies_apart_gets_its_own_row_and_none_is_left_unseen(self) -> None:
        masks = {name: spot((30, 30, 30), at, at, at) for name, at in (("a", 5), ("b", 15), ("c", 25))}
        rows = choose_planes({name: Boxed.of(mask) for name, mask in masks.items()})
        assert len(rows) == 3
        for mask in masks.values():
            assert any(mask[row["axial"]].any() for row in rows)

    def test_are_the_middle_ones_if_nothing_was_found(self) -> None:
        assert choose_planes({"a": Boxed.of(np.zeros((4, 6, 8), dtype=bool))}) == [
            {"axial": 2, "coronal": 3, "sagittal": 4}
        ]


def test_a_long_scan_is_cropped_around_what_is_shown() -> None:
    box = region([Boxed.of(spot((400, 40, 40), 100, 20, 20))], spacing=(2.0, 2.0, 2.0), margin=80)
    assert box == (slice(59, 142), slice(0, 40), slice(0, 40))


class TestWindow:
    def test_of_ct_depends_on_what_is_shown(self) -> None:
        ct = volume()
        assert window_for(ct, ["liver", "lung"]).text == "W 400 L 40 HU"
        assert window_for(ct, ["lung_lobe_upper"]).low == -1250
        assert window_for(ct, ["vertebra_L1", "rib_3"]).high == 1300

    def test_of_mr_follows_its_values(self) -> None:
        mr = replace(volume(), evidence=ModalityEvidence("MR", 0.8, ""))
        window = window_for(replace(mr, array=np.linspace(0, 700, 960, dtype=np.float32).reshape(8, 10, 12)), [])
        assert 0 <= window.low < 20
        assert 680 < window.high <= 700

    def test_of_pet_is_inverted(self) -> None:
        pet = replace(volume(), array=volume().array + 1000, evidence=ModalityEvidence("PET", 1.0, "tag"))
        assert window_for(pet, []).inverted
        assert window_for(replace(pet, unit="SUVbw"), []).text == "0 to 10 SUVbw, inverted"
