"""Every format, written from a real scan's segmentation and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import trimesh
from dicom_builder import save, slices
from numpy.typing import NDArray
from test_formats import dice, rt_masks

from medsegagent.export.convert import convert, on_grid
from medsegagent.export.reading import read_segments
from medsegagent.images.dicom import read_dicom
from medsegagent.images.read import read_volume

DATA = Path(__file__).parents[3] / "shared" / "data"
CASES = {"ct_slab": ("ct_slab_reference_3mm", "CT"), "mr_slab": ("mr_slab_reference", "MR")}
ORGANS = {1: "spleen", 2: "right kidney", 3: "left kidney", 5: "liver"}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path]:
    """The scan, a label map of four organs, and the scan as a DICOM series."""
    reference, modality = CASES[request.param]
    scan = DATA / f"{request.param}.nii.gz"
    if not scan.is_file():
        pytest.skip(f"{scan.name} is not in shared/data")
    image = sitk.DICOMOrient(sitk.ReadImage(str(scan)), "LPS")
    turn = np.array(image.GetDirection()).reshape(3, 3)
    where = np.array([image.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(image.GetDepth())])
    voxels: NDArray[np.int16] = sitk.GetArrayFromImage(image).astype(np.int16)
    spacing = image.GetSpacing()[1], image.GetSpacing()[0]
    series = slices(voxels, (*turn[:, 0], *turn[:, 1]), where, spacing, modality=modality)
    labels = sitk.ReadImage(str(DATA / f"{reference}.nii.gz"))
    wanted = sitk.Cast(labels, sitk.sitkUInt8)
    wanted = sitk.ChangeLabel(wanted, {value: 0 for value in range(256) if value not in ORGANS})
    sitk.WriteImage(wanted, str(tmp_path / "organs.nii.gz"))
    names = ", ".join(f'"{value}": {{"id": "{name}", "name": "{name}"}}' for value, name in ORGANS.items())
    (tmp_path / "organs.json").write_text(f"{{{names}}}")
    return scan, tmp_path / "organs.nii.gz", save(series, tmp_path / "dicom")


def test_a_real_scan_is_the_same_volume_as_dicom(case: tuple[Path, Path, Path]) -> None:
    scan, _, series = case
    ours = read_dicom(series)
    image = sitk.DICOMOrient(sitk.ReadImage(str(scan)), "LPS")
    assert np.array_equal(ours.array, sitk.GetArrayFromImage(image).astype(np.int16))
    np.testing.assert_allclose(ours.grid.origin, image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(ours.grid.spacing, image.GetSpacing(), atol=1e-4)


def test_every_format_brings_the_organs_back_to_their_place(case: tuple[Path, Path, Path], tmp_path: Path) -> None:
    scan, organs, series = case
    grid = read_volume(scan).grid
    truth = {item.name: item.mask for item in read_segments(organs).items}
    convert(organs, tmp_path / "out", ["nifti", "nrrd", "dicom-seg", "rtstruct", "stl", "obj"], reference=series)
    for name in ("segmentation.nii.gz", "segmentation.seg.nrrd", "segmentation_seg.dcm"):
        back = on_grid(read_segments(tmp_path / "out" / name), grid)
        found = {item.name: item.mask for item in back.items}
        for organ, mask in truth.items():
            assert np.array_equal(found.get(organ, np.zeros_like(mask)), mask), (name, organ)
    for organ, mask in truth.items():
        if mask.any():
            centre = grid.points(np.argwhere(mask)[:, ::-1]).mean(axis=0)
            for suffix in ("stl", "obj"):
                mesh = trimesh.load_mesh(tmp_path / "out" / "meshes" / f"{organ.replace(' ', '_')}.{suffix}")
                mesh.merge_vertices()
                assert mesh.volume == pytest.approx(mask.sum() * np.prod(grid.spacing), rel=0.02)
                np.testing.assert_allclose(mesh.center_mass, centre, atol=1.0)
    source = read_dicom(series).grid
    contours = rt_masks(tmp_path / "out" / "segmentation_rtstruct.dcm", source)
    for item in on_grid(read_segments(organs), source).items:
        if item.mask.any():
            assert dice(contours[item.name], item.mask) >= 0.98
