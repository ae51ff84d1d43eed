"""Scores against arithmetic, against ITK, and through the command line."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from numpy.typing import NDArray

from medsegagent.errors import ExitCode, ImageError, UsageError
from medsegagent.evaluation.mask_cases import evaluate, means
from medsegagent.evaluation.masks import Pair, score

SPACING = (1.0, 1.5, 2.5)


def box(
    *low: int, size: tuple[int, int, int] = (8, 10, 12), shape: tuple[int, int, int] = (30, 34, 38)
) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + length) for start, length in zip(low, size, strict=True))] = True
    return mask


def measured(prediction: NDArray[np.bool_], reference: NDArray[np.bool_], tolerance: float = 2.0) -> Any:
    return score("case", Pair("liver", prediction, reference), SPACING, tolerance)


class TestScore:
    @given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
    @settings(max_examples=25, deadline=None)
    def test_dice_and_volumes_are_those_that_itk_gives(self, z: int, y: int, x: int) -> None:
        ours = measured(box(5 + z, 5 + y, 5 + x), box(8, 8, 8))
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (box(5 + z, 5 + y, 5 + x), box(8, 8, 8))]
        overlap.Execute(images[1], images[0])
        assert ours.dice == pytest.approx(overlap.GetDiceCoefficient())
        assert ours.volume_ml == pytest.approx(8 * 10 * 12 * 3.75 / 1000)

    @pytest.mark.parametrize(("axis", "mm"), [(0, 2.5), (1, 1.5), (2, 1.0)])
    def test_a_slab_moved_along_an_axis_is_that_many_mm_away(self, axis: int, mm: float) -> None:
        """Both faces of a slab through the whole volume are `mm` off; its rim at the volume's border is not."""
        low, size = [0, 0, 0], [30, 34, 38]
        low[axis], size[axis] = 10, 8
        slab = box(*low, size=(size[0], size[1], size[2]))
        ours = measured(np.roll(slab, 1, axis), slab, tolerance=mm - 0.1)
        assert ours.hd95_mm == pytest.approx(mm)
        assert ours.nsd < 0.6
        assert measured(np.roll(slab, 1, axis), slab, tolerance=mm).nsd == 1

    def test_a_mask_equals_itself(self) -> None:
        ours = measured(box(5, 5, 5), box(5, 5, 5), tolerance=0)
        assert (ours.dice, ours.nsd, ours.hd95_mm, ours.difference_ml) == (1, 1, 0, 0)

    def test_one_empty_mask_is_the_worst_and_two_say_nothing(self) -> None:
        nothing = np.zeros((30, 34, 38), bool)
        missed = measured(nothing, box(5, 5, 5))
        assert (missed.dice, missed.nsd, missed.hd95_mm, missed.difference_percent) == (0, 0, math.inf, -100)
        invented = measured(box(5, 5, 5), nothing)
        assert (invented.dice, invented.difference_percent) == (0, math.inf)
        assert math.isnan(measured(nothing, nothing).dice)

    def test_masks_at_the_border_and_of_one_voxel_are_measured(self) -> None:
        first, second = box(0, 0, 0, size=(1, 1, 1)), box(0, 0, 3, size=(1, 1, 1))
        assert measured(first, second).hd95_mm == pytest.approx(3.0)


def write(path: Path, names: dict[int, str], **masks: NDArray[np.bool_]) -> Path:
    """A label map with a sidecar as this package writes it."""
    array = np.zeros((30, 34, 38), np.uint8)
    for key, mask in masks.items():
        array[mask] = int(key.removeprefix("v"))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    if names:
        sidecar = {str(value): {"id": name, "name": name, "colour": "#ffffff"} for value, name in names.items()}
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    names = {1: "liver", 2: "kidney left", 3: "kidney right"}
    return write(tmp_path / "ref.nii.gz", names, v1=box(2, 2, 2), v2=box(15, 2, 2), v3=box(15, 20, 20))


def scored(prediction: Path, reference: Path, **mapping: str) -> dict[str, float]:
    pairs = {key.removeprefix("v"): value for key, value in mapping.items()}
    found = evaluate(prediction, reference, mapping=pairs, tolerance_mm=2.0)
    return {item.target: round(item.dice, 3) for item in found.scores}


class TestEmptyMasks:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        """Case a is right, b is empty in the prediction, c in the reference, d in both, e is damaged."""
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        for name, mine, truth in (("a", 1, 1), ("b", 0, 1), ("c", 1, 0), ("d", 0, 0), ("e", 1, 1)):
            write(ours / f"{name}.nii.gz", {}, **({"v1": box(2, 2, 2)} if mine else {}))
            write(theirs / f"{name}.nii.gz", {}, **({"v1": box(2, 2, 2)} if truth else {}))
        (ours / "e.nii.gz").write_bytes(b"no image")
        return ours, theirs

    def test_are_scored_and_end_nothing(self, folders: tuple[Path, Path]) -> None:
        found = evaluate(*folders, mapping={}, tolerance_mm=2)
        scores = {item.case: (item.target, item.dice) for item in found.scores}
        assert scores["a"] == ("label 1", 1)
        assert scores["b"] == ("label 1", 0)
        assert scores["c"] == ("label 1", 0)
        assert scores["d"][0] == "label 1"
        assert math.isnan(scores["d"][1])
        assert found.failed == ("e",)
        assert any(text.startswith("e: not compared") for text in found.warnings)
        assert any("prediction and reference are empty" in text for text in found.warnings)

    def test_through_the_command_line(
        self, cli: Callable[..., Any], folders: tuple[Path, Path], tmp_path: Path
    ) -> None:
        answer = cli("evaluate", "masks", *folders, "-o", tmp_path / "out")
        assert answer.code == ExitCode.CASES_FAILED
        assert "not a NIfTI image" in answer.err
        assert (tmp_path / "out" / "scores.csv").is_file()
        alone = [folder / "d.nii.gz" for folder in folders]
        assert cli("evaluate", "masks", *alone).code == ExitCode.OK

    def test_a_full_mask_is_a_mask(self, tmp_path: Path) -> None:
        full = write(tmp_path / "a.nii.gz", {}, v1=np.ones((30, 34, 38), bool))
        assert scored(full, full) == {"label 1": 1}


def test_grids_that_differ_say_how(truth: Path, tmp_path: Path) -> None:
    image = sitk.Flip(sitk.ReadImage(str(truth))[:, :, 2:], [True, False, False])
    sitk.WriteImage(image, str(tmp_path / "pred.nii.gz"))
    found = evaluate(tmp_path / "pred.nii.gz", truth, mapping={"1": "liver"}, tolerance_mm=2)
    said = found.warnings[0]
    assert "size 38x34x28 against 38x34x30" in said
    assert "orientation RPS against LPS" in said
    assert "origin" in said
    assert "spacing" not in said


class TestPairing:
    def test_targets_meet_by_meaning_whatever_they_are_called_and_numbered(self, truth: Path, tmp_path: Path) -> None:
        names = {7: "Left_Kidney", 5: "right kidney", 9: "Liver"}
        ours = write(tmp_path / "pred.nii.gz", names, v9=box(2, 2, 2), v7=box(15, 2, 2), v5=box(16, 20, 20))
        assert scored(ours, truth) == {"liver": 1, "kidney left": 1, "kidney right": 0.875}

    def test_a_map_settles_what_names_do_not(self, truth: Path, tmp_path: Path) -> None:
        ours = write(tmp_path / "pred.nii.gz", {}, v4=box(2, 2, 2), v6=box(15, 2, 2))
        with pytest.raises(ImageError, match="--map"):
            scored(ours, truth)
        assert scored(ours, truth, v4="liver", v6="2") == {"liver": 1, "kidney left": 1}
        with pytest.raises(UsageError, match="no target 'spleen'"):
            scored(ours, truth, v4="spleen")

    def test_without_any_names_equal_values_meet(self, tmp_path: Path) -> None:
        ours = write(tmp_path / "a.nii.gz", {}, v1=box(2, 2, 2), v3=box(15, 2, 2))
        theirs = write(tmp_path / "b.nii.gz", {}, v1=box(2, 2, 2), v4=box(15, 2, 2))
        assert scored(ours, theirs) == {"label 1": 1}

    def test_a_target_looked_for_and_not_found_scores_zero_one_not_looked_for_is_only_named(
        self, truth: Path, tmp_path: Path
    ) -> None:
        ours = write(tmp_path / "pred.nii.gz", {1: "liver", 2: "left kidney"}, v1=box(2, 2, 2))
        found = evaluate(ours, truth, mapping={}, tolerance_mm=2)
        assert {item.target: item.dice for item in found.scores} == {"liver": 1, "kidney left": 0}
        assert found.warnings == ("ref: only in the reference: kidney right",)

    def test_a_prediction_on_a_finer_flipped_grid_is_compared_in_patient_space(
        self, truth: Path, tmp_path: Path
    ) -> None:
        image = sitk.ReadImage(str(truth))
        fine = sitk.Flip(sitk.Expand(image, [2, 2, 2], sitk.sitkNearestNeighbor), [True, False, True])
        sitk.WriteImage(fine, str(tmp_path / "pred.nii.gz"))
        assert scored(tmp_path / "pred.nii.gz", truth, v1="liver") == {"liver": 1}

    def test_folders_are_paired_by_name_and_what_is_alone_is_said(self, tmp_path: Path) -> None:
        for case, shift in (("a", 0), ("b", 2)):
            write(tmp_path / "ours" / f"{case}.nii.gz", {1: "liver"}, v1=box(2 + shift, 2, 2))
            write(tmp_path / "theirs" / f"{case}.nii.gz", {1: "Liver"}, v1=box(2, 2, 2))
        write(tmp_path / "ours" / "c.nii.gz", {1: "liver"}, v1=box(2, 2, 2))
        found = evaluate(tmp_path / "ours", tmp_path / "theirs", mapping={}, tolerance_mm=2)
        assert [(item.case, item.dice) for item in found.scores] == [("a", 1), ("b", 0.75)]
        assert found.warnings == ("without a partner: c",)
        assert means(found.scores)[0].dice == pytest.approx(0.875)
        assert found.worst is not None
        assert found.worst.case == "b"

    def test_a_folder_against_a_file_is_refused(self, truth: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="Give two files or two folders"):
            evaluate(tmp_path, truth, mapping={}, tolerance_mm=2)


class TestCommand:
    def test_table_files_and_picture(self, cli: Callable[..., Any], truth: Path, tmp_path: Path) -> None:
        names = {1: "liver", 2: "left kidney", 3: "right kidney"}
        ours = write(tmp_path / "pred.nii.gz", names, v1=box(2, 2, 2), v2=box(17, 2, 2))
        answer = cli("evaluate", "masks", ours, truth, "-o", tmp_path / "out")
        assert answer.code == ExitCode.OK
        assert "0.750" in answer.out
        rows = {row["target"]: row for row in csv.DictReader((tmp_path / "out" / "scores.csv").open())}
        assert float(rows["kidney left"]["dice"]) == 0.75
        assert rows["kidney right"]["hd95_mm"] == ""
        assert float(rows["kidney right"]["difference_percent"]) == -100
        picture = imread(tmp_path / "out" / "worst.png")[..., :3]
        blue = np.abs(picture - np.array([0x56, 0xB4, 0xE9]) / 255).max(axis=-1) < 0.02
        assert blue.sum() > 5000  # the missed kidney, only in the reference

    def test_json_and_map(self, cli: Callable[..., Any], truth: Path, tmp_path: Path) -> None:
        ours = write(tmp_path / "pred.nii.gz", {}, v4=box(2, 2, 2))
        answer = cli("evaluate", "masks", ours, truth, "--map", "4=liver", "--tolerance", 1, "--json")
        data = json.loads(answer.out)
        assert data["tolerance_mm"] == 1
        assert [(item["target"], item["dice"]) for item in data["scores"]] == [("liver", 1.0)]

    @pytest.mark.parametrize("wrong", [("--map", "liver"), ("--tolerance", "-1")])
    def test_bad_options_are_usage_errors(self, cli: Callable[..., Any], truth: Path, wrong: tuple[str, str]) -> None:
        assert cli("evaluate", "masks", truth, truth, *wrong).code == ExitCode.USAGE

    def test_a_missing_file_is_bad_input(self, cli: Callable[..., Any], truth: Path, tmp_path: Path) -> None:
        assert cli("evaluate", "masks", tmp_path / "none.nii.gz", truth).code == ExitCode.BAD_INPUT
