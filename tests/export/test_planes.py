"""Nearest-voxel look-up against ITK's."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medsegagent.errors import ImageError
from medsegagent.export.convert import on_grid
from medsegagent.export.segment import Segment, Segments
from medsegagent.images.volume import Grid

MASK = np.random.default_rng(0).random((9, 12, 15)) < 0.4


def grid(size: tuple[int, int, int], spacing: tuple[float, float, float], turn: np.ndarray, origin: np.ndarray) -> Grid:
    return Grid(size, spacing, tuple(origin), tuple(turn.ravel()))


def image(where: Grid) -> sitk.Image:
    found = sitk.Image(where.size, sitk.sitkUInt8)
    found.SetSpacing(where.spacing)
    found.SetOrigin(where.origin)
    found.SetDirection(where.direction)
    return found


@given(
    turns=st.lists(st.sampled_from([0, 90, 180, 270, 17.3]), min_size=3, max_size=3),
    mirrored=st.booleans(),
    shift=st.tuples(*[st.floats(-2, 2).map(lambda mm: round(mm, 2) + 0.0037)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_masks_on_another_grid_are_those_that_itk_resamples(
    turns: list[float], mirrored: bool, shift: tuple[float, float, float]
) -> None:
    source = grid((15, 12, 9), (1.0, 1.1, 1.9), np.eye(3), np.array([-7.0, -6, -8]))
    matrix = Rotation.from_euler("xyz", turns, degrees=True).as_matrix() * (1, 1, -1 if mirrored else 1)
    size, spacing = (10, 11, 12), (1.3, 0.9, 1.1)
    middle = matrix @ (np.array(spacing) * (np.array(size) - 1) / 2)
    target = grid(size, spacing, matrix, np.array(shift) - middle)
    ours = on_grid(Segments(source, (Segment("a", "a", MASK, 1, (1, 2, 3)),)), target).items[0].mask

    lent = image(source)
    values = sitk.GetImageFromArray(MASK.astype(np.uint8))
    values.CopyInformation(lent)
    theirs = sitk.GetArrayFromImage(sitk.Resample(values, image(target), sitk.Transform(), sitk.sitkNearestNeighbor))
    assert np.mean(ours != theirs.astype(bool)) < 0.004  # points midway between two voxels may fall either way


def test_grids_with_no_place_in_common_are_refused() -> None:
    here = grid((15, 12, 9), (1, 1, 1), np.eye(3), np.zeros(3))
    there = grid((15, 12, 9), (1, 1, 1), np.eye(3), np.full(3, 100.0))
    with pytest.raises(ImageError, match="no place in common"):
        on_grid(Segments(here, (Segment("a", "a", MASK, 1, (1, 2, 3)),)), there)
