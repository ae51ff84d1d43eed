"""Masks and segmentations as other programs write them: every label, each at its place, none merged or lost."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import AXIAL, OBLIQUE, ball, positions, save, slices
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from medsegagent.errors import ImageError
from medsegagent.export.convert import convert, on_grid
from medsegagent.export.formats import export
from medsegagent.export.reading import read_segments
from medsegagent.export.segment import Coding, Segment, Segments
from medsegagent.images.dicom import read_dicom, read_source

SHAPE = (12, 24, 20)


def nifti(path: Path, array: NDArray[np.generic]) -> Path:
    nib.save(nib.Nifti1Image(array.T, np.diag([1.5, 2, 3, 1]), dtype=array.dtype), path)
    return path


def values(segments: Segments) -> list[int]:
    return [item.value for item in segments.items]


class TestLabelMaps:
    def test_an_all_zero_map_holds_no_label_and_converts_to_an_all_zero_map(self, tmp_path: Path) -> None:
        file = nifti(tmp_path / "empty.nii.gz", np.zeros((4, 5, 6), np.uint8))
        assert read_segments(file).items == ()
        done = convert(file, tmp_path / "out", ["nifti", "nrrd"])
        assert "empty" in done.warnings[0]
        assert not np.asarray(nib.load(tmp_path / "out" / "segmentation.nii.gz").dataobj).any()
        with pytest.raises(ImageError, match="segmentation is empty, and stl cannot hold an empty one"):
            convert(file, tmp_path / "meshes", ["stl"])

    def test_an_all_one_map_is_one_label(self, tmp_path: Path) -> None:
        (item,) = read_segments(nifti(tmp_path / "full.nii.gz", np.ones((4, 5, 6), np.uint8))).items
        assert item.mask.all()

    @pytest.mark.parametrize("big", [65_536, 70_001, 2**24 + 1, 614_454_277, 2**40 + 1])
    def test_large_values_stay_apart_and_survive_conversion(self, tmp_path: Path, big: int) -> None:
        array = np.zeros((4, 5, 6), np.int64)
        array[1, 1, 1], array[2, 2, 2], array[3, 3, 3] = 1, big, big - 1
        file = nifti(tmp_path / "a.nii.gz", array)
        assert values(read_segments(file)) == [1, big - 1, big]
        convert(file, tmp_path / "out", ["nifti", "nrrd"])
        assert values(read_segments(tmp_path / "out" / "segmentation.nii.gz")) == [1, big - 1, big]
        assert np.array_equal(np.asarray(nib.load(tmp_path / "out" / "segmentation.nii.gz").dataobj).T, array)
        found = read_segments(tmp_path / "out" / "segmentation.seg.nrrd")
        assert [int(item.mask.sum()) for item in found.items] == [1, 1, 1]

    @pytest.mark.parametrize("value", [1.0000001, 3.00005, 2.9999, 7.0])
    def test_values_that_floating_point_bent_are_labels(self, tmp_path: Path, value: float) -> None:
        array = np.zeros((4, 5, 6), np.float64)
        array[1:3, 1:3, 1:3] = value
        assert values(read_segments(nifti(tmp_path / "a.nii.gz", array))) == [round(value)]

    @pytest.mark.parametrize("value", [0.5, 1.3, -1.0])
    def test_values_that_are_no_labels_are_refused(self, tmp_path: Path, value: float) -> None:
        array = np.zeros((4, 5, 6), np.float32)
        array[1:3, 1:3, 1:3] = value
        with pytest.raises(ImageError, match="this is an image"):
            read_segments(nifti(tmp_path / "a.nii.gz", array))


def seg_nrrd(path: Path, data: NDArray[np.generic], *pairs: str, listed: bool | None = None) -> Path:
    """By hand, as Slicer's versions have written it: the list axis, if any, is the fastest."""
    listed = data.ndim == 4 if listed is None else listed
    first = "none " if listed else ""
    fields = [
        "NRRD0004",
        "type: uint8",
        f"dimension: {data.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, data.shape[::-1]))}",
        f"space directions: {first}(1.5,0,0) (0,2,0) (0,0,3)",
        f"kinds: {'list ' if listed else ''}domain domain domain",
        "encoding: raw",
        "space origin: (1,2,3)",
        *pairs,
    ]
    path.write_bytes(("\n".join(fields) + "\n\n").encode() + data.astype(np.uint8).tobytes())
    return path


@pytest.fixture
def parts() -> list[NDArray[np.bool_]]:
    """Three masks, the second within the first."""
    z, y, x = np.indices(SHAPE)
    ball_ = (z - 6) ** 2 + (y - 12) ** 2 + (x - 8) ** 2
    return [ball_ < 25, ball_ < 5, (y > 20) & (x > 12)]


class TestSegNrrd:
    def test_without_layer_and_value_the_nth_segment_is_the_nth_layer(
        self, tmp_path: Path, parts: list[NDArray[np.bool_]]
    ) -> None:
        data = np.stack(parts, axis=-1)
        names = [f"Segment{i}_ID:=s{i}\nSegment{i}_Name:=part {i}" for i in range(3)]
        found = read_segments(seg_nrrd(tmp_path / "a.seg.nrrd", data, *names))
        assert [item.name for item in found.items] == ["part 0", "part 1", "part 2"]
        for item, part in zip(found.items, parts, strict=True):
            assert np.array_equal(item.mask, part)

    def test_segments_that_share_a_layer_and_a_gap_in_their_numbers(
        self, tmp_path: Path, parts: list[NDArray[np.bool_]]
    ) -> None:
        shared = np.where(parts[2], 3, np.where(parts[0], 7, 0))
        data = np.stack([shared, parts[1]], axis=-1)
        fields = [
            "Segment0_Name:=big\nSegment0_Layer:=0\nSegment0_LabelValue:=7",
            "Segment2_Name:=corner\nSegment2_Layer:=0\nSegment2_LabelValue:=3",
            "Segment5_Name:=core\nSegment5_Layer:=1\nSegment5_LabelValue:=1",
        ]
        found = read_segments(seg_nrrd(tmp_path / "a.seg.nrrd", data, *fields))
        assert [item.name for item in found.items] == ["big", "corner", "core"]
        for item, part in zip(found.items, (parts[0] & ~parts[2], parts[2], parts[1]), strict=True):
            assert np.array_equal(item.mask, part)

    @pytest.mark.parametrize("numbers", [(1, 2), (4, 9)])
    def test_three_dimensional_with_names_but_no_values(
        self, tmp_path: Path, parts: list[NDArray[np.bool_]], numbers: tuple[int, int]
    ) -> None:
        data = np.where(parts[2], numbers[1], np.where(parts[0], numbers[0], 0))
        names = ["Segment0_Name:=big", "Segment1_Name:=corner"]
        found = read_segments(seg_nrrd(tmp_path / "a.seg.nrrd", data, *names))
        assert [item.name for item in found.items] == ["big", "corner"]
        assert np.array_equal(found.items[0].mask, parts[0] & ~parts[2])
        assert np.array_equal(found.items[1].mask, parts[2])

    def test_a_plain_label_map_under_that_name(self, tmp_path: Path, parts: list[NDArray[np.bool_]]) -> None:
        data = np.where(parts[2], 9, np.where(parts[0], 4, 0))
        assert values(read_segments(seg_nrrd(tmp_path / "a.seg.nrrd", data))) == [4, 9]

    def test_values_that_no_segment_names_are_kept(self, tmp_path: Path, parts: list[NDArray[np.bool_]]) -> None:
        data = np.where(parts[2], 9, np.where(parts[0], 4, 0))
        found = read_segments(seg_nrrd(tmp_path / "a.seg.nrrd", data, "Segment0_Name:=big\nSegment0_LabelValue:=4"))
        assert [(item.name, item.value) for item in found.items] == [("big", 4), ("label 9", 9)]
        assert "no segment's header names" in found.warnings[0]

    def test_one_that_is_not_named_so_is_read_and_the_name_is_given(
        self, tmp_path: Path, parts: list[NDArray[np.bool_]]
    ) -> None:
        data = np.stack(parts, axis=-1)
        names = [f"Segment{i}_Name:=part {i}" for i in range(3)]
        found = read_segments(seg_nrrd(tmp_path / "Segmentation.nrrd", data, *names))
        assert len(found.items) == 3
        assert "renamed to Segmentation.seg.nrrd" in found.warnings[0]

    def test_a_layer_that_is_not_there(self, tmp_path: Path, parts: list[NDArray[np.bool_]]) -> None:
        data = np.stack(parts, axis=-1)
        for layer in ("3", "-1", "x", "1e9"):
            with pytest.raises(ImageError, match="layer"):
                read_segments(seg_nrrd(tmp_path / "a.seg.nrrd", data, f"Segment0_ID:=a\nSegment0_Layer:={layer}"))

    def test_an_empty_one(self, tmp_path: Path) -> None:
        found = read_segments(seg_nrrd(tmp_path / "a.seg.nrrd", np.zeros(SHAPE), "Segment0_Name:=big"))
        assert [int(item.mask.sum()) for item in found.items] == [0]


def segments(shape: tuple[int, int, int], source: Path) -> Segments:
    z, y, x = np.indices(shape)
    radius = (z - shape[0] / 2) ** 2 + (y - 12) ** 2 + (x - 8) ** 2
    items = (
        Segment("liver", "Liver", radius < 25, 1, (200, 0, 0), Coding("10200004", "liver")),
        Segment("core", "core", radius < 6, 2, (0, 200, 0)),
    )
    return Segments(read_dicom(source).grid, items)


def spots(segment: Segment, owner: Segments) -> NDArray[np.float64]:
    found = np.round(owner.grid.points(np.argwhere(segment.mask)[:, ::-1]), 1) + 0.0
    return found[np.lexsort(found.T)]


def seg(
    source: Path,
    mask: NDArray[np.generic],
    kind: hd.seg.SegmentationTypeValues,
    path: Path,
    numbers: tuple[int, ...] = (1,),
    **more: object,
) -> Path:
    """A SEG of another program."""
    code = hd.sr.CodedConcept("10200004", "SCT", "Liver")
    algorithm = hd.AlgorithmIdentificationSequence("a", hd.sr.CodedConcept("123109", "DCM", "Artificial"), "1")
    descriptions = [
        hd.seg.SegmentDescription(
            number, f"part {number}", code, code, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm
        )
        for number in numbers
    ]
    found = hd.seg.Segmentation(
        list(read_source(source).headers),
        mask,
        kind,
        descriptions,
        generate_uid(),
        9,
        generate_uid(),
        1,
        "x",
        "x",
        "1",
        "1",
        **more,  # type: ignore[arg-type]
    )
    found.save_as(path)
    return path


class TestDicomSeg:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return save(slices(ball(SHAPE), OBLIQUE), tmp_path / "source")

    def test_a_fractional_one_holds_what_is_at_least_half_and_it_is_said(self, source: Path, tmp_path: Path) -> None:
        share = np.zeros(SHAPE, np.float32)
        share[4:8, 4:12, 4:12], share[4:8, 6:9, 6:9], share[9, 3, 3] = 0.3, 0.8, 0.52
        file = seg(source, share, hd.seg.SegmentationTypeValues.FRACTIONAL, tmp_path / "a.dcm")
        found = on_grid(read_segments(file, read_dicom(source).grid), read_dicom(source).grid)
        assert np.array_equal(found.items[0].mask, share >= 0.5)
        assert any("at least half" in warning for warning in found.warnings)

    def test_a_label_map_without_its_background(self, source: Path, tmp_path: Path) -> None:
        labels = np.zeros(SHAPE, np.uint8)
        labels[4:8, 4:12, 4:12], labels[5, 6:9, 6:9] = 1, 2
        file = seg(source, labels, hd.seg.SegmentationTypeValues.LABELMAP, tmp_path / "a.dcm", (1, 2))
        dataset = pydicom.dcmread(file)
        background = pydicom.Dataset()
        background.update(dataset.SegmentSequence[0])
        background.SegmentNumber, background.SegmentLabel = 0, "Background"
        if dataset.SegmentSequence[0].SegmentNumber != 0:
            dataset.SegmentSequence.insert(0, background)
        dataset.save_as(file)
        grid = read_dicom(source).grid
        found = on_grid(read_segments(file, grid), grid)
        assert [item.value for item in found.items] == [1, 2]
        for item in found.items:
            assert np.array_equal(item.mask, labels == item.value)

    @pytest.mark.parametrize("thickness", [None, 2.5, 5.0])
    def test_sparse_slices_without_a_stated_spacing_are_the_references_slices(
        self, source: Path, tmp_path: Path, thickness: float | None
    ) -> None:
        """Slices 2, 5 and 8 hold something: three gaps of three slices, which look like a spacing of 7.5 mm."""
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:9:3, 5:9, 5:9] = 1
        file = seg(source, mask, hd.seg.SegmentationTypeValues.BINARY, tmp_path / "a.dcm")
        dataset = pydicom.dcmread(file)
        for group in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
            for measures in group.get("PixelMeasuresSequence", []):
                measures.pop("SpacingBetweenSlices", None)
                measures.pop("SliceThickness", None)
                if thickness:
                    measures.SliceThickness = thickness
        dataset.save_as(file)
        grid = read_dicom(source).grid
        assert np.array_equal(on_grid(read_segments(file, grid), grid).items[0].mask, mask > 0)
        convert(file, tmp_path / "out", ["nifti"], reference=source)
        written = np.asarray(nib.load(tmp_path / "out" / "segmentation.nii.gz").dataobj).T
        assert np.array_equal(written, mask)

    def test_our_own_of_an_uneven_series_reads_back(self, tmp_path: Path) -> None:
        heights = np.concatenate([np.arange(10) * 2.0, 18 + np.arange(1, 8) * 3.0])
        where = np.array((-10, -20, 0)) + heights[:, None] * (0, 0, 1)
        source = save(slices(ball((17, 24, 20)), where=where), tmp_path / "source")
        own = segments(read_dicom(source).grid.shape, source)
        export(own, tmp_path, ["dicom-seg"], read_source(source))
        for like in (None, own.grid):
            found = on_grid(read_segments(tmp_path / "segmentation_seg.dcm", like), own.grid)
            for before, after in zip(own.items, found.items, strict=True):
                both = 2 * (before.mask & after.mask).sum() / (before.mask.sum() + after.mask.sum())
                assert both > 0.8  # laid on another spacing twice, nearest slice

    def test_our_own_of_a_tilted_series_reads_back(self, tmp_path: Path) -> None:
        where = positions(12) + np.arange(12)[:, None] * (0, 2.5 * np.tan(np.radians(15)), 0)
        source = save(slices(ball(SHAPE), where=where), tmp_path / "source")
        own = segments(read_dicom(source).grid.shape, source)
        export(own, tmp_path, ["dicom-seg"], read_source(source))
        found = on_grid(read_segments(tmp_path / "segmentation_seg.dcm", own.grid), own.grid)
        for before, after in zip(own.items, found.items, strict=True):
            both = 2 * (before.mask & after.mask).sum() / (before.mask.sum() + after.mask.sum())
            assert both > 0.85

    @pytest.mark.parametrize(
        "turn", [AXIAL, (1.0, 0, 0, 0, -1, 0), (-1.0, 0, 0, 0, 1, 0), (-1.0, 0, 0, 0, -1, 0), (0, 1.0, 0, 1, 0, 0)]
    )
    def test_a_flipped_series_gets_its_own_back_at_the_same_place(
        self, tmp_path: Path, turn: tuple[float, ...]
    ) -> None:
        source = save(slices(ball(SHAPE), turn), tmp_path / "source")
        own = segments(SHAPE, source)
        export(own, tmp_path, ["dicom-seg"], read_source(source))
        found = read_segments(tmp_path / "segmentation_seg.dcm")
        for before, after in zip(own.items, found.items, strict=True):
            np.testing.assert_allclose(spots(before, own), spots(after, found), atol=0.11)

    def test_a_damaged_one_is_refused(self, source: Path, tmp_path: Path) -> None:
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:6, 5:9, 5:9] = 1
        file = seg(source, mask, hd.seg.SegmentationTypeValues.BINARY, tmp_path / "a.dcm")
        data = file.read_bytes()
        for length in (200, 1000, len(data) // 2, len(data) - 60):
            file.write_bytes(data[:length])
            with pytest.raises(ImageError):
                read_segments(file)


def test_a_mask_of_several_formats_is_the_same(tmp_path: Path) -> None:
    array = (ball(SHAPE) > 0).astype(np.uint8)
    for name in ("a.nrrd", "a.mha", "a.nii.gz", "a.nii"):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
        assert np.array_equal(read_segments(tmp_path / name).items[0].mask, array > 0)


def test_a_name_of_any_characters_is_one_line_and_can_be_written_to_every_format(tmp_path: Path) -> None:
    source = save(slices(ball(SHAPE)), tmp_path / "source")
    array = (ball(SHAPE) > 0).astype(np.uint8)
    name = "a\\b^c~d|e\x1b[2J\u202e f=\x00g" + "x" * 300
    file = seg_nrrd(tmp_path / "a.seg.nrrd", array, "Segment0_LabelValue:=1", f"Segment0_Name:={name}")
    text = file.read_bytes().replace(
        b"space directions: (1.5,0,0) (0,2,0) (0,0,3)", b"space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)"
    )
    file.write_bytes(text.replace(b"space origin: (1,2,3)", b"space origin: (-80,-120,300)"))
    (item,) = read_segments(file).items
    assert item.name.isprintable()
    formats = ["nifti", "nrrd", "dicom-seg", "rtstruct", "stl", "obj"]
    convert(file, tmp_path / "out", formats, reference=source)
    assert len(read_segments(tmp_path / "out" / "segmentation_seg.dcm").items) == 1


@pytest.mark.parametrize("absent", [True, False])
def test_results_refer_to_a_series_that_keeps_its_identifiers_and_nothing_else(tmp_path: Path, absent: bool) -> None:
    case = slices(ball(SHAPE))
    kept = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    needed = ("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
    (tmp_path / "source").mkdir()
    for number, dataset in enumerate(case):
        for element in list(dataset):
            if element.keyword not in (*kept, *needed):
                if absent:
                    del dataset[element.tag]
                else:
                    element.value = None
        dataset.save_as(tmp_path / "source" / str(number), enforce_file_format=False)
    own = segments(SHAPE, tmp_path / "source")
    export(own, tmp_path, ["dicom-seg", "rtstruct"], read_source(tmp_path / "source"))
    found = read_segments(tmp_path / "segmentation_seg.dcm")
    for before, after in zip(own.items, found.items, strict=True):
        np.testing.assert_allclose(spots(before, own), spots(after, found), atol=0.11)
    assert len(pydicom.dcmread(tmp_path / "segmentation_rtstruct.dcm").ROIContourSequence) == 2
