"""Segmentations from one format to another, names and places kept."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import AXIAL, OBLIQUE, ball, save, slices
from numpy.typing import NDArray

from medsegagent.errors import ImageError, OutputError, UsageError
from medsegagent.export.convert import convert
from medsegagent.export.formats import export
from medsegagent.export.reading import read_segments
from medsegagent.export.segment import Coding, Segment, Segments
from medsegagent.images.dicom import read_dicom, read_source

SHAPE = (12, 24, 20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(slices(ball(SHAPE), OBLIQUE), tmp_path / "source")


@pytest.fixture
def segments(source: Path) -> Segments:
    grid = read_dicom(source).grid
    z, y, x = np.indices(SHAPE)
    liver, kidney = (z - 6) ** 2 + (y - 12) ** 2 + (x - 8) ** 2 < 25, (y > 20) & (x > 12)
    tumor = (z - 6) ** 2 + (y - 12) ** 2 + (x - 8) ** 2 < 5
    return Segments(
        grid,
        (
            Segment("liver", "Liver", liver, 1, (200, 0, 0), Coding("10200004", "liver")),
            Segment("left_kidney", "left kidney", kidney, 2, (0, 200, 0), Coding("64033007", "kidney", "left")),
            Segment(
                "liver_tumor", "liver tumor", tumor, 5, (0, 0, 200), Coding("126851005", "liver tumor", lesion=True)
            ),
        ),
    )


def spots(segment: Segment, segments: Segments) -> NDArray[np.float64]:
    found = np.round(segments.grid.points(np.argwhere(segment.mask)[:, ::-1]), 2) + 0.0
    return found[np.lexsort(found.T)]


def same(first: Segments, second: Segments) -> None:
    by_name = {item.name: item for item in second.items}
    assert {item.name for item in first.items} == set(by_name)
    for item in first.items:
        np.testing.assert_allclose(spots(item, first), spots(by_name[item.name], second), atol=0.03)


def test_a_tour_through_every_voxel_format_keeps_masks_names_and_codes(
    segments: Segments, source: Path, tmp_path: Path
) -> None:
    """Overlaps included: the tumour lies in the liver, and each format brings the whole liver back."""
    export(segments, tmp_path, ["nrrd"])
    tour = {"nrrd": "segmentation.seg.nrrd", "dicom-seg": "segmentation_seg.dcm", "nifti": ""}
    file = tmp_path / "segmentation.seg.nrrd"
    for number, (before, after) in enumerate(pairwise(["nrrd", "dicom-seg", "nrrd", "nifti", "dicom-seg", "nifti"])):
        assert before in tour
        convert(file, tmp_path / str(number), [after], reference=source)
        file = tmp_path / str(number) / tour[after]
        read = read_segments(file)
        same(segments, read)
        codings = {item.name: item.coding for item in read.items}
        assert codings["left kidney"] == Coding("64033007", "kidney", "left")
        assert codings["liver tumor"] is not None
        assert codings["liver tumor"].lesion


def test_names_survive_in_the_nifti_alone_without_its_sidecar(segments: Segments, tmp_path: Path) -> None:
    export(segments, tmp_path, ["nifti"])
    (tmp_path / "segmentation.json").unlink()
    names = [(item.value, item.name) for item in read_segments(tmp_path / "segmentation.nii.gz").items]
    assert names == [(1, "Liver"), (2, "left kidney"), (5, "liver tumor")]


def test_a_label_map_without_names_is_numbered(tmp_path: Path) -> None:
    array = np.zeros((6, 7, 8), np.uint8)
    array[2:4, 2:4, 2:4], array[0, 0, 0] = 7, 3
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "map.mha"))
    found = read_segments(tmp_path / "map.mha")
    assert [(item.id, item.name, item.value, item.coding) for item in found.items] == [
        ("label_3", "label 3", 3, None),
        ("label_7", "label 7", 7, None),
    ]


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    array = np.zeros((6, 7, 8), np.uint8)
    array[2:5, 2:5, 2:5] = 1
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "map.nii.gz")
    (tmp_path / "map.json").write_text('{"1": {"id": "../../evil", "name": "../../evil"}}')
    convert(tmp_path / "map.nii.gz", tmp_path / "a" / "b" / "out", ["stl"])
    assert [file.relative_to(tmp_path / "a").as_posix() for file in (tmp_path / "a").rglob("*.stl")] == [
        "b/out/meshes/evil.stl"
    ]


def test_a_reference_image_puts_the_result_on_its_grid(segments: Segments, source: Path, tmp_path: Path) -> None:
    """A DICOM SEG holds only the slices with something in it; on the series' grid it has them all again."""
    export(segments, tmp_path, ["dicom-seg"], read_source(source))
    convert(tmp_path / "segmentation_seg.dcm", tmp_path / "out", ["nifti"], reference=source)
    image = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    assert image.shape == SHAPE[::-1]
    assert np.array_equal(np.asarray(image.dataobj).T == 2, segments.items[1].mask)


def test_an_image_is_not_taken_for_a_segmentation(source: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "ct.nii.gz"))
    with pytest.raises(ImageError, match="this is an image"):
        convert(tmp_path / "ct.nii.gz", tmp_path / "out", ["stl"])
    with pytest.raises(ImageError, match="not a DICOM SEG"):
        convert(next(source.iterdir()), tmp_path / "out", ["stl"])
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_refused_and_nothing_is_left(segments: Segments, tmp_path: Path) -> None:
    export(segments, tmp_path, ["nrrd"])
    file = tmp_path / "segmentation.seg.nrrd"
    with pytest.raises(ImageError, match="--reference"):
        convert(file, tmp_path / "out", ["dicom-seg"])
    with pytest.raises(UsageError, match="is no format"):
        convert(file, tmp_path / "out", ["gif"])
    elsewhere = save(slices(ball(SHAPE), AXIAL, where=np.arange(12)[:, None] * (0, 0, 2.0) + 5000), tmp_path / "else")
    with pytest.raises(ImageError, match="no place in common"):
        convert(file, tmp_path / "out", ["rtstruct"], reference=elsewhere)
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError):
        convert(file, tmp_path, ["stl"])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_a_truncated_seg_nrrd_is_refused(share: float, segments: Segments, tmp_path: Path) -> None:
    export(segments, tmp_path, ["nrrd"])
    file = tmp_path / "segmentation.seg.nrrd"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError):
        read_segments(file)


def test_a_seg_nrrd_that_points_at_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "evil.seg.nrrd"
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nspace: left-posterior-superior\n"
    file.write_text(
        header + "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\ndata file: /etc/passwd\n\n"
    )
    with pytest.raises(ImageError, match="outside its folder"):
        read_segments(file)
