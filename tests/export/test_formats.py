"""Every format, written here and read back by a library that is not ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import slicerio
import trimesh
from dicom_builder import AXIAL, CORONAL, OBLIQUE, SAGITTAL, ball, enhanced, pet, positions, save, slices
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray

from medsegagent.errors import ImageError, UsageError
from medsegagent.export.formats import check_formats, export
from medsegagent.export.segment import Coding, Segment, Segments
from medsegagent.images.dicom import read_dicom, read_source
from medsegagent.images.volume import Grid

FLIPPED = (1.0, 0, 0, 0, -1, 0)
"""Axial, its rows from back to front, as some anonymisers and reconstructions store it."""
TURNS = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE, "flipped": FLIPPED}
SHAPE = (16, 40, 36)


def direction(turn: tuple[float, ...], handedness: int = 1) -> tuple[float, ...]:
    row, column = np.array(turn[:3]), np.array(turn[3:])
    return tuple(np.stack([row, column, handedness * np.cross(row, column)], axis=1).ravel())


GRIDS = {
    name: Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (-80.0, -120.0, 300.0), direction(turn)) for name, turn in TURNS.items()
}
GRIDS["left-handed"] = Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (-80.0, -120.0, 300.0), direction(OBLIQUE, -1))
GRIDS["RAS"] = Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (80.0, 120.0, 300.0), (-1.0, 0, 0, 0, -1, 0, 0, 0, 1))


def masks(shape: tuple[int, int, int] = SHAPE) -> dict[str, NDArray[np.bool_]]:
    """A shell with a hole, the core in it, two islands, and one that overlaps the shell."""
    z, y, x = (i - n / 2 for i, n in zip(np.indices(shape), shape, strict=True))
    radius = (z / (shape[0] * 0.4)) ** 2 + (y / (shape[1] * 0.4)) ** 2 + (x / (shape[2] * 0.35)) ** 2
    islands = ((z + 3) ** 2 + (y + 16) ** 2 + (x + 14) ** 2 < 8) | (z**2 + (y - 16) ** 2 + (x - 14) ** 2 < 14)
    return {
        "liver": (radius < 1) & (radius > 0.2) & ~islands,
        "tumor": radius < 0.1,
        "kidney_left": islands,
        "odd": (radius < 1.1) & (x > 8) & (y < 0),
    }


def segments(grid: Grid) -> Segments:
    names = {"liver": "Liver", "tumor": 'tumour ("core")', "kidney_left": "left kidney", "odd": "no ~ such | thing"}
    codings = {
        "liver": Coding("10200004", "liver"),
        "tumor": Coding("126851005", "liver tumour", lesion=True),
        "kidney_left": Coding("64033007", "kidney", "left"),
    }
    items = [
        Segment(id_, names[id_], mask, value, (40 * value, 200 - 30 * value, 99), codings.get(id_))
        for value, (id_, mask) in enumerate(masks(grid.shape).items(), 1)
    ]
    return Segments(grid, tuple(items))


def points(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """Centres of a mask's voxels, LPS mm, in a fixed order."""
    found = np.round(grid.points(np.argwhere(mask)[:, ::-1]), 3) + 0.0
    return found[np.lexsort(found.T)]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


@pytest.mark.parametrize("name", GRIDS)
class TestVoxelFormats:
    def test_nifti_read_by_nibabel_has_the_same_voxels_in_patient_space(self, name: str, tmp_path: Path) -> None:
        grid = GRIDS[name]
        export(segments(grid), tmp_path, ["nifti"])
        image = nib.load(tmp_path / "segmentation.nii.gz")
        values = np.asarray(image.dataobj)
        expected = masks()
        for value, id_ in ((2, "tumor"), (3, "kidney_left"), (4, "odd")):
            ras = nib.affines.apply_affine(image.affine, np.argwhere(values == value))
            found = np.round(ras * (-1, -1, 1), 3) + 0.0
            truth = expected[id_] if id_ == "odd" else expected[id_] & ~expected["odd"]
            np.testing.assert_allclose(found[np.lexsort(found.T)], points(truth, grid), atol=2e-3)
        whole = nib.load(tmp_path / "targets" / "liver.nii.gz")
        assert np.array_equal(np.asarray(whole.dataobj).T.astype(bool), expected["liver"])

    def test_seg_nrrd_read_by_slicers_own_library_has_the_same_voxels_in_patient_space(
        self, name: str, tmp_path: Path
    ) -> None:
        grid = GRIDS[name]
        export(segments(grid), tmp_path, ["nrrd"])
        read = slicerio.read_segmentation(str(tmp_path / "segmentation.seg.nrrd"))
        to_lps = np.array(read["ijkToLPS"])
        names = {segment["name"] for segment in read["segments"]}
        assert names == {"Liver", 'tumour ("core")', "left kidney", "no such thing"}
        for segment in read["segments"]:
            voxels = read["voxels"]
            layer = voxels if voxels.ndim == 3 else voxels[segment["layer"]]
            indices = np.argwhere(layer == segment["labelValue"])
            lps = np.round(indices @ to_lps[:3, :3].T + to_lps[:3, 3], 3) + 0.0
            truth = masks()[segment["id"]]
            np.testing.assert_allclose(lps[np.lexsort(lps.T)], points(truth, grid), atol=2e-3)

    @pytest.mark.parametrize("suffix", [".stl", ".obj"])
    def test_meshes_read_by_trimesh_enclose_the_same_volume_at_the_same_place(
        self, name: str, suffix: str, tmp_path: Path
    ) -> None:
        grid = GRIDS[name]
        export(segments(grid), tmp_path, [suffix[1:]])
        for id_, mask in masks().items():
            mesh = trimesh.load_mesh(tmp_path / "meshes" / f"{id_}{suffix}")
            mesh.merge_vertices()
            assert mesh.is_watertight
            assert mesh.volume == pytest.approx(mask.sum() * np.prod(grid.spacing), rel=0.02)
            centre = grid.points(np.argwhere(mask)[:, ::-1]).mean(axis=0)
            np.testing.assert_allclose(mesh.center_mass, centre, atol=0.1)


class TestNames:
    def test_seg_nrrd_carries_colour_and_terminology(self, tmp_path: Path) -> None:
        export(segments(GRIDS["axial"]), tmp_path, ["nrrd"])
        read = {s["id"]: s for s in slicerio.read_segmentation(str(tmp_path / "segmentation.seg.nrrd"))["segments"]}
        kidney = read["kidney_left"]["terminology"]
        assert kidney["type"][:2] == ["SCT", "64033007"]
        assert kidney["typeModifier"] == ["SCT", "7771000", "Left"]
        assert read["tumor"]["terminology"]["category"][1] == "49755003"
        assert "terminology" not in read["odd"]
        np.testing.assert_allclose(read["liver"]["color"], [40 / 255, 170 / 255, 99 / 255], atol=1e-5)

    def test_segments_that_do_not_overlap_are_one_plain_label_map(self, tmp_path: Path) -> None:
        apart = Segments(GRIDS["axial"], segments(GRIDS["axial"]).items[:3])
        export(apart, tmp_path, ["nrrd"])
        image = sitk.ReadImage(str(tmp_path / "segmentation.seg.nrrd"))
        assert image.GetNumberOfComponentsPerPixel() == 1
        assert np.array_equal(sitk.GetArrayFromImage(image) == 2, masks()["tumor"])

    def test_the_itksnap_file_has_one_line_per_label(self, tmp_path: Path) -> None:
        export(segments(GRIDS["axial"]), tmp_path, ["nifti"])
        lines = [line for line in (tmp_path / "segmentation_itksnap.txt").read_text().splitlines() if line[0] != "#"]
        assert [line.split(maxsplit=7)[0] for line in lines] == ["0", "1", "2", "3", "4"]
        assert lines[2].split(maxsplit=7)[1:4] == ["80", "140", "99"]
        assert lines[2].split(maxsplit=7)[7] == "\"tumour ('core')\""


def series(turn: str, folder: Path) -> Path:
    return save(slices(ball(SHAPE), TURNS[turn]), folder)


def seg_masks(file: Path, source: Path) -> dict[str, NDArray[np.bool_]]:
    """Read DICOM SEG with pydicom alone: each frame goes to the source slice that it refers to."""
    dataset = pydicom.dcmread(file)
    uids = {}
    for one in source.rglob("*"):
        image = pydicom.dcmread(one)
        uids[image.SOPInstanceUID] = float(
            np.dot(
                np.cross(image.ImageOrientationPatient[:3], image.ImageOrientationPatient[3:]),
                image.ImagePositionPatient,
            )
        )
    order = {uid: slot for slot, uid in enumerate(sorted(uids, key=lambda uid: uids[uid]))}
    names = {segment.SegmentNumber: segment.SegmentLabel for segment in dataset.SegmentSequence}
    found = {name: np.zeros((len(order), dataset.Rows, dataset.Columns), bool) for name in names.values()}
    frames = dataset.pixel_array
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        own = group if "SegmentIdentificationSequence" in group else dataset.SharedFunctionalGroupsSequence[0]
        name = names[own.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        found[name][order[uid]] = frame
    return found


def rt_masks(file: Path, grid: Grid) -> dict[str, NDArray[np.bool_]]:
    """Rasterise contours by matplotlib: a pixel is in when its centre is."""
    dataset = pydicom.dcmread(file)
    names = {roi.ROINumber: roi.ROIName for roi in dataset.StructureSetROISequence}
    to_index = np.linalg.inv(np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing))
    y, x = np.indices(grid.shape[1:])
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    found = {}
    for roi in dataset.ROIContourSequence:
        mask = found[names[roi.ReferencedROINumber]] = np.zeros(grid.shape, bool)
        for contour in roi.ContourSequence:
            index = (np.array(contour.ContourData, float).reshape(-1, 3) - grid.origin) @ to_index.T
            slot = round(float(index[:, 2].mean()))
            assert np.abs(index[:, 2] - slot).max() < 1e-3
            mask[slot] ^= Polygon(index[:, :2]).contains_points(centres).reshape(y.shape)
    return found


@pytest.fixture
def valid(tmp_path: Path) -> Callable[[Path], None]:
    """Check with David Clunie's dciodvfy where it is installed (Debian: dicom3tools)."""

    def check(file: Path) -> None:
        if which("dciodvfy"):
            done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
            assert "Error" not in done.stderr, done.stderr

    return check


@pytest.mark.parametrize("turn", TURNS)
class TestDicom:
    def test_seg_has_the_masks_on_the_slices_it_refers_to(
        self, turn: str, tmp_path: Path, valid: Callable[[Path], None]
    ) -> None:
        folder = series(turn, tmp_path / "source")
        grid = read_dicom(folder).grid
        export(segments(grid), tmp_path, ["dicom-seg"], read_source(folder))
        valid(tmp_path / "segmentation_seg.dcm")
        found = seg_masks(tmp_path / "segmentation_seg.dcm", folder)
        for segment in segments(grid).items:
            assert np.array_equal(found[segment.name], segment.mask)

    def test_rtstruct_rasterises_to_the_masks(self, turn: str, tmp_path: Path, valid: Callable[[Path], None]) -> None:
        folder = series(turn, tmp_path / "source")
        grid = read_dicom(folder).grid
        export(segments(grid), tmp_path, ["rtstruct"], read_source(folder))
        valid(tmp_path / "segmentation_rtstruct.dcm")
        found = rt_masks(tmp_path / "segmentation_rtstruct.dcm", grid)
        for segment in segments(grid).items:
            assert dice(found[segment.name], segment.mask) >= 0.98

    def test_a_mask_on_a_left_handed_grid_lands_at_the_same_place(self, turn: str, tmp_path: Path) -> None:
        """The same patient space, stored by another tool with z downwards and x mirrored."""
        folder = series(turn, tmp_path / "source")
        grid = read_dicom(folder).grid
        matrix = np.array(grid.direction).reshape(3, 3)
        corner = grid.points(np.array([[0, 0, SHAPE[0] - 1]]))[0]
        flipped = Grid(grid.size, grid.spacing, tuple(corner), tuple((matrix * (1, 1, -1)).ravel()))
        items = tuple(
            Segment(s.id, s.name, np.ascontiguousarray(s.mask[::-1]), s.value, s.colour, s.coding)
            for s in segments(grid).items
        )
        export(Segments(flipped, items), tmp_path, ["dicom-seg", "rtstruct"], read_source(folder))
        seg = seg_masks(tmp_path / "segmentation_seg.dcm", folder)
        rt = rt_masks(tmp_path / "segmentation_rtstruct.dcm", grid)
        for segment in segments(grid).items:
            assert np.array_equal(seg[segment.name], segment.mask)
            assert dice(rt[segment.name], segment.mask) >= 0.98


class TestOtherReaders:
    def test_dcmqi_reads_the_seg_as_written(self, tmp_path: Path) -> None:
        tool = which("segimage2itkimage")
        if tool is None:
            pytest.skip("dcmqi (segimage2itkimage) is not installed")
        folder = series("oblique", tmp_path / "source")
        grid = read_dicom(folder).grid
        export(segments(grid), tmp_path, ["dicom-seg"], read_source(folder))
        command = [tool, "--inputDICOM", "segmentation_seg.dcm", "--outputDirectory", ".", "--outputType", "nrrd"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        for number, segment in enumerate(segments(grid).items, 1):
            image = sitk.ReadImage(str(tmp_path / f"{number}.nrrd"))
            read = sitk.GetArrayFromImage(image) > 0
            where = [image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in np.argwhere(read)]
            found = np.round(np.array(where), 3) + 0.0
            np.testing.assert_allclose(found[np.lexsort(found.T)], points(segment.mask, grid), atol=5e-3)

    def test_plastimatch_reads_the_rtstruct_as_written(self, tmp_path: Path) -> None:
        if which("plastimatch") is None:
            pytest.skip("plastimatch is not installed")
        folder = series("axial", tmp_path / "source")
        grid = read_dicom(folder).grid
        export(segments(grid), tmp_path, ["rtstruct"], read_source(folder))
        command = ["plastimatch", "convert", "--input", "segmentation_rtstruct.dcm", "--referenced-ct", str(folder)]
        subprocess.run(
            [*command, "--output-prefix", "out", "--prefix-format", "nrrd"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "Liver.nrrd"))) > 0
        assert dice(read, masks()["liver"]) >= 0.98


class TestDicomSource:
    def test_seg_keeps_the_patient_the_study_and_the_frame_of_reference(self, tmp_path: Path) -> None:
        folder = series("axial", tmp_path / "source")
        export(segments(GRIDS["axial"]), tmp_path, ["dicom-seg", "rtstruct"], read_source(folder))
        original = pydicom.dcmread(next(folder.iterdir()))
        for name in ("segmentation_seg.dcm", "segmentation_rtstruct.dcm"):
            result = pydicom.dcmread(tmp_path / name)
            for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
                assert result[keyword].value == original[keyword].value
            assert result.SeriesInstanceUID != original.SeriesInstanceUID

    def test_seg_says_what_each_segment_is_and_who_made_it(self, tmp_path: Path) -> None:
        folder = series("axial", tmp_path / "source")
        export(segments(GRIDS["axial"]), tmp_path, ["dicom-seg"], read_source(folder))
        items = {item.SegmentLabel: item for item in pydicom.dcmread(tmp_path / "segmentation_seg.dcm").SegmentSequence}
        kidney = items["left kidney"]
        assert kidney.SegmentedPropertyTypeCodeSequence[0].CodeValue == "64033007"
        modifier = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
        assert modifier.CodeValue == "7771000"
        assert items['tumour ("core")'].SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        odd = items["no ~ such | thing"].SegmentedPropertyTypeCodeSequence[0]
        assert odd.CodingSchemeDesignator.startswith("99")
        assert kidney.SegmentAlgorithmType == "AUTOMATIC"
        assert kidney.SegmentAlgorithmName == "medsegagent"

    def test_a_multi_frame_source_is_referred_to_by_frame(self, tmp_path: Path, valid: Callable[[Path], None]) -> None:
        """The source stores its last slice first, and so must the references."""
        folder = save([enhanced(ball(SHAPE))], tmp_path / "source")
        grid = read_dicom(folder).grid
        export(segments(grid), tmp_path, ["dicom-seg", "rtstruct"], read_source(folder))
        valid(tmp_path / "segmentation_seg.dcm")
        dataset = pydicom.dcmread(tmp_path / "segmentation_seg.dcm")
        rebuilt = np.zeros(SHAPE, bool)
        for frame, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
            reference = group.DerivationImageSequence[0].SourceImageSequence[0]
            if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1:
                rebuilt[SHAPE[0] - int(np.atleast_1d(reference.ReferencedFrameNumber)[0])] = frame
        assert np.array_equal(rebuilt, masks()["liver"])
        assert dice(rt_masks(tmp_path / "segmentation_rtstruct.dcm", grid)["Liver"], masks()["liver"]) >= 0.98

    def test_results_on_a_tilted_series_go_back_to_its_own_slices(self, tmp_path: Path) -> None:
        """A mask made on the straightened volume; on the scanned slices it must cover what is bright there."""
        where = positions(12) + np.arange(12)[:, None] * (0, 2.5 * np.tan(np.radians(15)), 0)
        scanned = np.where(ball((12, 48, 40)) > 0, 1000, 0).astype(np.int16)
        folder = save(slices(scanned, where=where), tmp_path / "source")
        volume = read_dicom(folder)
        straight = Segments(volume.grid, (Segment("x", "x", volume.array > 500, 1, (1, 2, 3)),))
        export(straight, tmp_path, ["dicom-seg"], read_source(folder))
        assert dice(seg_masks(tmp_path / "segmentation_seg.dcm", folder)["x"], scanned > 0) > 0.97

    def test_pet_is_a_source_too(self, tmp_path: Path) -> None:
        folder = save(pet(ball(SHAPE, low=0, high=20_000)), tmp_path / "source")
        export(segments(GRIDS["axial"]), tmp_path, ["dicom-seg"], read_source(folder))
        assert np.array_equal(seg_masks(tmp_path / "segmentation_seg.dcm", folder)["Liver"], masks()["liver"])

    def test_a_series_of_another_place_is_refused(self, tmp_path: Path) -> None:
        folder = save(slices(ball(SHAPE), where=positions(SHAPE[0], origin=(500, 500, 2000))), tmp_path / "source")
        with pytest.raises(ImageError, match="no place in common"):
            export(segments(GRIDS["axial"]), tmp_path, ["dicom-seg"], read_source(folder))

    def test_a_series_without_a_frame_of_reference_is_refused(self, tmp_path: Path) -> None:
        case = slices(ball(SHAPE))
        for dataset in case:
            del dataset.FrameOfReferenceUID
        with pytest.raises(ImageError, match="no FrameOfReferenceUID"):
            read_source(save(case, tmp_path))

    def test_an_anonymised_source_without_patient_elements_will_do(self, tmp_path: Path) -> None:
        case = slices(ball(SHAPE))
        for dataset in case:
            for keyword in (
                "PatientID",
                "PatientName",
                "PatientBirthDate",
                "PatientSex",
                "StudyDate",
                "AccessionNumber",
            ):
                delattr(dataset, keyword)
        folder = save(case, tmp_path / "source")
        exported = export(segments(GRIDS["axial"]), tmp_path, ["dicom-seg", "rtstruct"], read_source(folder))
        assert [file.name for file in exported.files] == ["segmentation_seg.dcm", "segmentation_rtstruct.dcm"]


class TestRefusals:
    @pytest.mark.parametrize("name", ["dicom-seg", "rtstruct"])
    def test_dicom_results_without_a_dicom_source_are_refused_before_any_work(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "ct.nii.gz").write_bytes(b"")
        with pytest.raises(ImageError, match="refers to the images of a DICOM series"):
            check_formats(["nifti", name], tmp_path / "ct.nii.gz")
        with pytest.raises(ImageError, match="--reference"):
            export(segments(GRIDS["axial"]), tmp_path, [name])

    def test_an_unknown_format_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UsageError, match="nifti, nrrd, dicom-seg, rtstruct, stl, obj"):
            check_formats(["jpeg"], None)

    def test_an_empty_mask_is_left_out_and_said(self, tmp_path: Path) -> None:
        grid = GRIDS["axial"]
        nothing = Segment("none", "nothing", np.zeros(SHAPE, bool), 9, (1, 2, 3))
        folder = series("axial", tmp_path / "source")
        exported = export(
            Segments(grid, (*segments(grid).items, nothing)), tmp_path, ["dicom-seg", "stl"], read_source(folder)
        )
        assert exported.warnings == ("not in dicom-seg, stl, being empty: nothing",)
        assert not (tmp_path / "meshes" / "none.stl").exists()
        alone = export(Segments(grid, (nothing,)), tmp_path, ["rtstruct", "obj"], read_source(folder))
        assert alone.files == ()
