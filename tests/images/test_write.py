from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medsegagent.images.geometry import corner_distance, grid_of
from medsegagent.images.read import read_volume
from medsegagent.images.volume import Grid
from medsegagent.images.write import Label, write_label_map, write_mask

mm = st.floats(0.25, 6, width=32)
far = st.floats(-500, 500, width=32)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any orientation: oblique, permuted, left-handed."""
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True).as_matrix()
    turn = turn[:, draw(st.permutations(range(3)))] * draw(st.sampled_from([1, -1]))
    return Grid((3, 4, 5), draw(st.tuples(mm, mm, mm)), draw(st.tuples(far, far, far)), tuple(turn.ravel().tolist()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids(), seed=st.integers(0, 99))
def test_a_mask_comes_back_at_the_same_place_in_the_patient(tmp_path: Path, grid: Grid, seed: int) -> None:
    mask = np.random.default_rng(seed).random(grid.shape) < 0.5
    write_mask(mask, grid, tmp_path / "mask.nii.gz")
    image = sitk.ReadImage(tmp_path / "mask.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(image), mask)
    assert corner_distance(grid_of(image), grid) < 1e-3
    affine = nib.load(tmp_path / "mask.nii.gz").affine
    index = np.array([2, 3, 4])
    assert np.allclose(affine[:3, :3] @ index + affine[:3, 3], grid.points(index[None])[0] * [-1, -1, 1], atol=1e-3)


@pytest.mark.parametrize("name", ["ct_abdomen.nii.gz", "mr_slab.nii.gz"])
def test_a_mask_has_the_affine_of_the_real_scan_it_was_made_on(
    tmp_path: Path, shared: Callable[[str], Path], name: str
) -> None:
    volume = read_volume(shared(name))
    write_mask(volume.array > 0, volume.grid, tmp_path / "mask.nii.gz")
    assert np.allclose(nib.load(tmp_path / "mask.nii.gz").affine, nib.load(volume.path).affine, atol=1e-5)


GRID = Grid((3, 4, 5), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def test_names_are_in_the_header_and_in_the_sidecar(tmp_path: Path) -> None:
    labels = [Label(1, "liver", "liver", (255, 0, 16)), Label(2, "kidney_left", "left kidney <&>", (0, 1, 2))]
    write_label_map(np.ones(GRID.shape, np.uint8), GRID, labels, tmp_path / "segmentation.nii.gz")
    header = nib.load(tmp_path / "segmentation.nii.gz").header
    assert header.get_intent()[0] == "label"
    table = ElementTree.fromstring(header.extensions[0].get_content())
    assert {item.get("Key"): item.text for item in table.iter("Label")} == {"1": "liver", "2": "left kidney <&>"}
    sidecar = json.loads((tmp_path / "segmentation.json").read_text())
    assert sidecar["1"] == {"id": "liver", "name": "liver", "colour": "#ff0010"}
    assert read_values(tmp_path / "segmentation.nii.gz") == {1}


@pytest.mark.parametrize(("top", "kind"), [(255, np.uint8), (256, np.uint16)])
def test_the_stored_type_grows_with_the_number_of_labels(tmp_path: Path, top: int, kind: type) -> None:
    array = np.zeros(GRID.shape, np.uint16)
    array[0, 0, 0] = top
    labels = [Label(value, f"s{value}", f"s{value}", (0, 0, 0)) for value in range(1, top + 1)]
    write_label_map(array, GRID, labels, tmp_path / "many.nii.gz")
    assert nib.load(tmp_path / "many.nii.gz").get_data_dtype() == kind
    assert read_values(tmp_path / "many.nii.gz") == {0, top}


def test_an_array_off_its_grid_is_a_bug_and_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its grid"):
        write_mask(np.zeros(GRID.size, bool), GRID, tmp_path / "mask.nii.gz")
    assert not list(tmp_path.iterdir())


def read_values(path: Path) -> set[int]:
    return set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(path))).tolist())
