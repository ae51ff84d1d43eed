from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.reporting.shape import measure_shape, surface_area

GRID = Grid((40, 50, 30), (1.0, 2.0, 3.0), (-10.0, 20.0, 100.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def box(z: slice, y: slice, x: slice) -> np.ndarray:
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[z, y, x] = True
    return mask


def ball(spacing: tuple[float, float, float], radius: float = 30.0) -> np.ndarray:
    half = [int(radius / mm) + 2 for mm in spacing[::-1]]
    z, y, x = (np.arange(-n, n + 1) * mm for n, mm in zip(half, spacing[::-1], strict=True))
    return z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2


def test_a_box_lies_where_its_voxels_lie() -> None:
    shape = measure_shape(Boxed.of(box(slice(5, 7), slice(10, 13), slice(20, 24))), GRID)
    assert shape is not None
    assert shape.centroid_mm == pytest.approx((-10 + 21.5, 20 + 22, 100 + 16.5))
    assert shape.box_min_mm == pytest.approx((-10 + 19.5, 20 + 19, 100 + 13.5))
    assert shape.box_max_mm == pytest.approx((-10 + 23.5, 20 + 25, 100 + 19.5))


def test_a_row_of_voxels_is_as_long_as_the_voxels_together() -> None:
    along_x = measure_shape(Boxed.of(box(slice(5, 6), slice(9, 10), slice(3, 8))), GRID)
    along_z = measure_shape(Boxed.of(box(slice(5, 9), slice(9, 10), slice(3, 4))), GRID)
    assert along_x is not None
    assert along_z is not None
    assert along_x.largest_axial_diameter_mm == along_x.largest_diameter_mm == 5
    assert along_z.largest_diameter_mm == 12
    assert along_z.largest_axial_diameter_mm == 2


def test_the_axial_diameter_follows_the_patient_not_the_file() -> None:
    sagittal = replace(GRID, direction=(0.0, 0, 1.0, 1.0, 0, 0, 0, -1.0, 0))  # z runs to the left, y to the feet
    shape = measure_shape(Boxed.of(box(slice(5, 9), slice(9, 11), slice(3, 4))), sagittal)
    assert shape is not None
    assert shape.largest_axial_diameter_mm == 12


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 1.5), (0.7, 0.7, 3.0)])
def test_a_ball_has_the_surface_and_the_diameter_of_a_ball(spacing: tuple[float, float, float]) -> None:
    mask = ball(spacing)
    assert surface_area(mask, spacing) == pytest.approx(4 * np.pi * 900, rel=0.04)
    shape = measure_shape(Boxed.of(mask), replace(GRID, size=mask.shape[::-1], spacing=spacing))
    assert shape is not None
    assert shape.largest_diameter_mm == pytest.approx(60, abs=max(spacing))
    assert shape.largest_axial_diameter_mm == pytest.approx(60, abs=max(spacing))


def test_turning_the_patient_changes_no_size() -> None:
    mask = ball((1.0, 2.0, 3.0), 15)
    grid = replace(GRID, size=mask.shape[::-1])
    turn = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
    straight = measure_shape(Boxed.of(mask), grid)
    oblique = measure_shape(Boxed.of(mask), replace(grid, direction=tuple(turn.ravel().tolist())))
    assert straight is not None
    assert oblique is not None
    assert oblique.largest_diameter_mm == pytest.approx(straight.largest_diameter_mm)
    assert oblique.surface_cm2 == pytest.approx(straight.surface_cm2)


def test_components_touching_by_a_corner_are_one() -> None:
    mask = box(slice(2, 3), slice(2, 3), slice(2, 3)) | box(slice(3, 4), slice(3, 4), slice(3, 6))
    mask |= box(slice(20, 21), slice(20, 21), slice(20, 21))
    shape = measure_shape(Boxed.of(mask), GRID)
    assert shape is not None
    assert shape.components == 2
    assert shape.largest_share == 0.8


def test_an_empty_mask_has_no_shape() -> None:
    assert measure_shape(Boxed.of(np.zeros(GRID.shape, dtype=bool)), GRID) is None
