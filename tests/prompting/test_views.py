from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medsegagent.images.geometry import orientation
from medsegagent.images.volume import Grid
from medsegagent.phantom.patient import ORIENTATIONS
from medsegagent.prompting.views import Letterbox, across, greys_for, overlay, view_of
from medsegagent.reporting.view import PLANES


def grid(letters: str, spacing: tuple[float, float, float] = (1.0, 2.0, 3.0), lean: float = 0.0) -> Grid:
    """A grid whose axes run towards `letters`, leaning by some degrees."""
    towards = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    matrix = (
        Rotation.from_euler("xyz", [lean, lean / 2, lean], degrees=True).as_matrix()
        @ np.array([towards[letter] for letter in letters], float).T
    )
    return Grid((7, 9, 11), spacing, (0.0, 0.0, 0.0), tuple(matrix.ravel()))


@pytest.mark.parametrize("plane", PLANES)
@given(letters=st.sampled_from(ORIENTATIONS), lean=st.floats(-20, 20), seed=st.integers(0, 10**6))
def test_a_voxel_found_in_a_picture_is_the_voxel_it_was(plane: str, letters: str, lean: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spacing = tuple(float(mm) for mm in rng.choice([0.7, 1.0, 5.0, 10.0], 3))
    case = grid(letters, spacing, lean)  # type: ignore[arg-type]
    voxel = tuple(int(rng.integers(n)) for n in case.size)
    view = view_of(case, plane, voxel[2 - across(case, plane)])  # type: ignore[arg-type]
    x, y = view.pixel(voxel)  # type: ignore[arg-type]
    assert view.voxel(x, y) == voxel
    array = np.zeros(case.shape)
    array[voxel[::-1]] = 1
    assert view.picture(array)[int(y), int(x)] == 1
    assert np.array_equal(view.shrink(view.picture(array)), view.cut(array))


@pytest.mark.parametrize("letters", ["LPS", "RAS", "SAL", "IRP"])
def test_pictures_show_the_patient_as_radiologists_expect(letters: str) -> None:
    """The nose is up on axial slices, the head on the others, and the patient's left is at the right."""
    case = grid(letters, (1.0, 1.0, 1.0))
    array = np.zeros(case.shape)
    inverse = np.linalg.inv(np.array(case.direction).reshape(3, 3))
    middle = case.points((np.array([case.size]) - 1) / 2)[0]

    def mark(lps: tuple[float, float, float], value: float) -> None:
        i, j, k = np.round(inverse @ (middle + np.array(lps))).astype(int)
        array[k, j, i] = value

    mark((2, 0, 0), 1.0)  # left
    mark((0, -2, 0), 2.0)  # front
    mark((0, 0, 2), 3.0)  # head
    k, j, i = (n // 2 for n in case.shape)
    shown = {plane: view_of(case, plane, (k, j, i)[across(case, plane)]).picture(array) for plane in PLANES}
    middle_of = {plane: np.array(picture.shape) // 2 for plane, picture in shown.items()}
    for plane, value, step in (
        ("axial", 1.0, (0, 2)),
        ("axial", 2.0, (-2, 0)),
        ("coronal", 1.0, (0, 2)),
        ("coronal", 3.0, (-2, 0)),
        ("sagittal", 2.0, (0, -2)),
        ("sagittal", 3.0, (-2, 0)),
    ):
        assert shown[plane][tuple(middle_of[plane] + step)] == value, (plane, value, orientation(case))  # type: ignore[index]


def test_pixels_are_square_in_mm_and_a_slice_out_of_range_is_refused() -> None:
    view = view_of(grid("LPS", (1.0, 2.0, 10.0)), "coronal", 4)
    assert view.pixels == (110, 7)
    with pytest.raises(IndexError):
        view_of(grid("LPS"), "axial", 11)


def test_a_slice_is_written_back_where_it_was_cut() -> None:
    case = grid("SAL")
    array = np.zeros(case.shape, np.uint8)
    view = view_of(case, "sagittal", 3)
    slice_ = np.arange(np.prod(view.voxels), dtype=np.uint8).reshape(view.voxels)
    view.write(array, slice_)
    assert np.array_equal(view.cut(array), slice_)
    assert array.any(axis=tuple({0, 1, 2} - {view.across})).sum() == 1


@given(st.integers(1, 700), st.integers(1, 700), st.floats(0, 1), st.floats(0, 1))
def test_the_letterbox_is_undone_exactly(height: int, width: int, right: float, down: float) -> None:
    box = Letterbox(512, (height, width))
    x, y = right * width, down * height
    square = box.start[0] + x * box.scale, box.start[1] + y * box.scale
    assert box.inside(*square) == pytest.approx((x, y), abs=1e-6)
    assert all(-1e-6 <= edge <= 512 + 1e-6 for edge in square)


def test_the_overlay_is_half_green_and_the_window_suits_the_image() -> None:
    grey = np.full((2, 2), 100, np.uint8)
    drawn = overlay(grey, np.array([[True, False], [False, False]]))
    assert drawn[0, 0].tolist() == [50, 177, 50]
    assert drawn[1, 1].tolist() == [100, 100, 100]
    ct = greys_for(np.linspace(-1000, 1000, 4000, dtype=np.float32).reshape(10, 20, 20))
    assert (ct.low, ct.high) == (-160, 240)
    mr = greys_for(np.linspace(0, 500, 4000, dtype=np.float32).reshape(10, 20, 20))
    assert 0 < mr.low < 20
    assert mr(np.array([-5.0, 1e9])).tolist() == [0, 255]
