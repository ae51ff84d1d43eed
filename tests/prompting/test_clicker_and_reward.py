"""The clicker and the reward agree with the published ones; the numbers below were measured on their code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsegagent.prompting.clicker import next_click
from medsegagent.prompting.reward import overlaps, reward

REFERENCE = Path(os.environ.get("MEDSEGAGENT_REFERENCE", Path(__file__).parents[3] / "shared" / "facts" / "reference"))
"""Figures measured on the published systems; larger than what is kept here."""
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "clicker.json").is_file(), reason="MEDSEGAGENT_REFERENCE names no folder with clicker.json"
)


def disc(row: int, column: int, radius: int, size: int = 64) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


@needs_reference
def test_clicks_are_the_published_clickers() -> None:
    packed = np.load(REFERENCE / "clicker_masks.npz")
    expected = json.loads((REFERENCE / "clicker.json").read_text())["clicks_row_column_positive"]
    truths, masks = (np.unpackbits(packed[name], axis=-1).astype(bool) for name in ("gt", "prediction"))
    for truth, mask, clicks in zip(truths, masks, expected, strict=True):
        clicked: list[tuple[int, ...]] = []
        for row, column, positive in clicks:
            click = next_click(truth, mask, clicked)
            if click is None:  # nothing is wrong; the published one then gives its array's first element
                assert (row, column, positive) == (0, 0, False)
                assert np.array_equal(truth, mask)
                continue
            assert (*click.at, click.positive) == (row, column, positive)
            clicked.append(click.at)


@needs_reference
def test_rewards_are_the_published_ones() -> None:
    packed = np.load(REFERENCE / "reward_masks.npz")
    truths, turns = (np.unpackbits(packed[name], axis=-1).astype(bool) for name in ("gt", "turns"))
    for truth, masks, wanted in zip(truths, turns, json.loads((REFERENCE / "reward.json").read_text()), strict=True):
        calls = wanted["calls"].split(",")
        scores = [overlaps(truth, mask) for mask in masks[: wanted["turns"]]]
        got = reward(scores, prompted="box" in calls or "point" in calls, stopped=calls[-1] == "stop")
        assert got.score == pytest.approx(wanted["score"], abs=1e-12)
        assert got.kept_format == wanted["format_reward"]
        assert got.penalty == pytest.approx(wanted["progression_penalty"], abs=1e-12)
        assert got.bonus == pytest.approx(wanted["improvement_bonus"], abs=1e-12)
        assert [score[0] for score in scores] == pytest.approx(wanted["iou_per_turn"], abs=1e-12)


@pytest.mark.parametrize(
    ("ious", "score"),
    [([0.70], 0.8094), ([0.60, 0.75, 0.80], 0.8676), ([0.60, 0.80, 0.75], 0.7949), ([0.9] * 5, 0.8989)],
)
def test_the_published_rewards_of_four_episodes(ious: list[float], score: float) -> None:
    scores = [(iou, 2 * iou / (1 + iou)) for iou in ious]
    assert reward(scores, prompted=True, stopped=True).score == pytest.approx(score, abs=5e-5)


def test_rules_that_were_not_kept_cost_a_tenth_each() -> None:
    full, half, none = (
        reward([(1.0, 1.0)], prompted=a, stopped=b).score for a, b in ((True, True), (True, False), (False, False))
    )
    assert (full, half, none) == pytest.approx((1.0, 0.9, 0.8))


def test_the_first_click_is_in_the_middle_of_the_structure() -> None:
    click = next_click(disc(30, 20, 9), np.zeros((64, 64), bool))
    assert click == ((30, 20), True)


def test_a_tie_between_missing_and_too_much_is_negative() -> None:
    click = next_click(disc(20, 20, 5), disc(20, 45, 5))
    assert click is not None
    assert click == ((20, 45), False)


def test_the_images_edge_counts_as_an_edge_of_the_error() -> None:
    truth = np.zeros((64, 64), bool)
    truth[:11, :] = True
    click = next_click(truth, np.zeros_like(truth))
    assert click is not None
    assert click.at[0] == 5


def test_depth_is_in_mm_where_voxels_are_long() -> None:
    truth = np.zeros((9, 9, 40), bool)
    truth[3:6, 1:8, 1:8] = True  # 30 mm deep at 10 mm a slice, but only 7 voxels wide
    truth[4:5, 1:8, 20:39] = True  # one slice, but wide
    in_voxels, in_mm = next_click(truth, np.zeros_like(truth)), next_click(truth, np.zeros_like(truth), (), (10, 1, 1))
    assert in_voxels is not None
    assert in_mm is not None
    assert in_voxels.at[2] < 8
    assert in_mm.at == (3, 4, 4)  # 4 voxels to the sides bound it, not the slices


def test_a_clicked_voxel_is_not_clicked_again_and_nothing_wrong_is_no_click() -> None:
    truth = np.zeros((3, 3, 3), bool)
    truth[1, 1, 1] = True
    assert next_click(truth, np.zeros_like(truth), [(1, 1, 1)]) is None
    assert next_click(truth, truth) is None
    assert overlaps(np.zeros_like(truth), np.zeros_like(truth)) == (1.0, 1.0)


@given(st.integers(0, 2**32 - 1))
def test_a_click_always_lies_in_an_error_of_its_own_sign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, mask = rng.random((2, 6, 7, 8)) < rng.random((2, 1, 1, 1))
    click = next_click(truth, mask, spacing=(3.0, 1.0, 0.5))
    assert (click is None) == np.array_equal(truth, mask)
    if click is not None:
        assert truth[click.at] == click.positive
        assert mask[click.at] != click.positive
