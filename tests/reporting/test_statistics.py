from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantoms import GRID, LEFT, LIVER, RIGHT, box, predictions, segmentation, volume

from medsegagent.engines.base import Prediction
from medsegagent.fusion.vote import fuse
from medsegagent.images.boxed import Boxed
from medsegagent.language.request import Side, Target
from medsegagent.reporting.statistics import measure, structure_statistics, write_csv


def test_the_fused_mask_is_measured_in_ml_and_in_the_images_unit() -> None:
    liver = structure_statistics(segmentation(), [volume()], predictions())["liver"].fused
    values = volume().array[LIVER]
    assert liver.voxels == LIVER.sum()
    assert liver.volume_ml == pytest.approx(LIVER.sum() * 1.0 * 2.0 * 5.0 / 1000)
    figures = liver.intensity["scan.nii.gz"]
    assert figures.mean == pytest.approx(values.mean())
    assert figures.sd == pytest.approx(values.std())
    assert (figures.min, figures.median, figures.max) == (20, 60, 60)
    assert figures.p5 == np.percentile(values, 5)
    assert figures.unit == "HU"


def test_every_channel_is_measured() -> None:
    figures = structure_statistics(segmentation(), [volume("T1"), volume("T2")], predictions())["liver"].fused
    assert set(figures.intensity) == {"T1", "T2"}


def test_each_model_is_measured_by_its_own_mask_and_its_own_half_of_a_pair() -> None:
    figures = structure_statistics(segmentation(), [volume()], predictions())
    assert {name: item.voxels for name, item in figures["liver"].models.items()} == {
        "org/first": 6 * 6 * 7,
        "org/second": 6 * 6 * 5,
    }
    assert figures["kidney_left"].models["org/second"].voxels == 3 * 4 * 4
    assert list(figures["tumor.liver"].models) == ["org/first"]


def test_border_contact_is_seen_on_any_face() -> None:
    figures = structure_statistics(segmentation(), [volume()], predictions())
    assert figures["kidney_left"].fused.touches_border
    assert not figures["liver"].fused.touches_border


def test_agreement_is_the_mean_pairwise_dice_and_unknown_for_a_single_voter() -> None:
    figures = structure_statistics(segmentation(), [volume()], predictions())
    assert figures["liver"].agreement == pytest.approx(2 * 5 / (7 + 5))
    assert figures["tumor.liver"].agreement is None


def test_an_empty_mask_has_no_intensity() -> None:
    empty = np.zeros(LIVER.shape, dtype=bool)

    figures = measure(Boxed.of(empty), [volume()])
    assert (figures.voxels, figures.volume_ml, figures.intensity) == (0, 0, {})


def test_the_unit_of_the_tags_goes_before_the_guess() -> None:
    figures = measure(Boxed.of(LIVER), [replace(volume(), unit="SUVbw")])
    assert figures.intensity["scan.nii.gz"].unit == "SUVbw"


def test_the_two_sides_are_compared() -> None:
    figures = structure_statistics(segmentation(), [volume()], predictions())
    left, right = figures["kidney_left"], figures["kidney_right"]
    assert left.other_side is not None
    assert right.other_side is not None
    assert left.other_side.structure == "kidney_right"
    assert left.other_side.ratio == pytest.approx(left.fused.volume_ml / right.fused.volume_ml)
    assert left.other_side.difference_ml == pytest.approx(left.fused.volume_ml - right.fused.volume_ml)
    assert right.other_side.ratio == pytest.approx(1 / left.other_side.ratio)
    assert figures["liver"].other_side is None


def test_two_sides_asked_for_one_by_one_are_compared_and_an_empty_one_is_not() -> None:
    small = RIGHT & box((0, 2), (0, 16), (0, 20))
    for right, expected in ((small, LEFT.sum() / small.sum()), (RIGHT & False, None)):
        masks = {"lung_left": Boxed.of(LEFT), "lung_right": Boxed.of(right)}
        targets = [
            Target(id=f"lung_{side}", name=f"{side} lung", concepts=("lung",), side=Side(side))
            for side in ("left", "right")
        ]
        voter = Prediction("org/one", "A", 1.0, 1, masks, {}, 1.0)
        figures = structure_statistics(fuse([voter], targets, GRID, lambda *_: False), [volume()], [voter])
        other = figures["lung_left"].other_side
        assert (other and other.ratio) == expected


def test_the_table_has_a_row_for_each_structure_and_each_models_own_mask(tmp_path: Path) -> None:
    figures = structure_statistics(segmentation(), [volume("T1")], predictions())
    write_csv(tmp_path / "statistics.csv", figures)
    with (tmp_path / "statistics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["structure"], row["source"]) for row in rows[:3]] == [
        ("liver", "fused"),
        ("liver", "org/first"),
        ("liver", "org/second"),
    ]
    assert float(rows[0]["T1_mean"]) == figures["liver"].fused.intensity["T1"].mean
    assert figures["liver"].shape is not None
    left = next(row for row in rows if row["structure"] == "kidney_left")
    assert (left["other_side_structure"], float(left["other_side_difference_ml"])) == ("kidney_right", 0)
    assert float(rows[0]["centroid_mm_x"]) == figures["liver"].shape.centroid_mm[0]
    assert rows[1]["centroid_mm_x"] == ""
