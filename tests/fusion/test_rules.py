from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from drawing import contains, fused, line_grid, target, voter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from medsegagent.engines.base import Prediction
from medsegagent.errors import UsageError
from medsegagent.fusion.rules import RULES
from medsegagent.fusion.tally import count
from medsegagent.fusion.vote import fuse

SHAPE = (3, 4, 5)
panels = st.lists(arrays(np.bool_, SHAPE), min_size=1, max_size=4)


def drawn(rule: str, *voters: Prediction) -> dict[str, str]:
    targets = tuple(target(name) for name in dict.fromkeys(name for item in voters for name in item.masks))
    width = next(iter(voters[0].masks.values())).shape[2]
    result = fuse(voters, targets, line_grid(width), contains, rule=rule)
    return {item.id: "".join("X" if yes else "." for yes in item.mask.ravel()) for item in result.structures}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("majority", "XXX..."), ("intersection", "XX...."), ("union", "XXXXX."), ("best", "XXXX..")],
)
def test_each_rule_does_what_its_name_says(rule: str, expected: str) -> None:
    ballots = voter(2, liver="XXX..."), voter(1, liver="XXXX.."), voter(3, liver="XX..X.")
    assert drawn(rule, *ballots) == {"liver": expected}


def test_the_best_one_is_the_best_that_gives_the_target() -> None:
    ballots = voter(1, spleen="...X"), voter(2, liver="XX.."), voter(3, liver="X...")
    assert drawn("best", *ballots) == {"spleen": "...X", "liver": "XX.."}


@pytest.mark.parametrize("rule", RULES)
def test_pairs_are_split_by_side_whatever_the_rule(rule: str) -> None:
    ballots = voter(1, kidney="LL..RR"), voter(2, kidney="XX..XX"), voter(3, kidney="LL..RR")
    assert drawn(rule, *ballots) == {"kidney_left": "XX....", "kidney_right": "....XX"}


@pytest.mark.parametrize("rule", RULES)
def test_what_nobody_found_stays_empty_whatever_the_rule(rule: str) -> None:
    assert drawn(rule, voter(1, liver="..."), voter(2, liver="..."), voter(3, liver="...")) == {"liver": "..."}


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no fusion rule.*majority, staple") as error:
        fuse([voter(1, liver="X")], [target("liver")], line_grid(1), contains, rule="mean")
    assert error.value.where == "fusion"


@settings(deadline=None)
@given(masks=panels)
def test_every_rule_stays_between_intersection_and_union(masks: Sequence[NDArray[np.bool_]]) -> None:
    votes = count(masks, [1.0] * len(masks))
    every, some = np.logical_and.reduce(masks), np.logical_or.reduce(masks)
    assert np.array_equal(RULES["intersection"](votes), every)
    assert np.array_equal(RULES["union"](votes), some)
    for name in ("majority", "best"):
        mask = RULES[name](votes)
        assert not (every & ~mask).any()
        assert not (mask & ~some).any()


@settings(deadline=None)
@given(masks=panels)
def test_staple_answers_any_votes_with_a_mask_and_agreement_with_itself(masks: Sequence[NDArray[np.bool_]]) -> None:
    mask = RULES["staple"](count(masks, [1.0] * len(masks)))
    assert mask.shape == SHAPE
    assert mask.dtype == np.bool_
    assert np.array_equal(RULES["staple"](count([masks[0]] * 3, [1.0] * 3)), masks[0])


def test_staple_trusts_those_who_agree_more_than_one_who_is_systematically_wrong() -> None:
    z, y, x = np.ogrid[:30, :30, :30]
    ball = (z - 15) ** 2 + (y - 15) ** 2 + (x - 15) ** 2 < 100
    noise = np.random.default_rng(0)
    near = [ball ^ (noise.random(ball.shape) < 0.02) for _ in range(3)]
    masks = [binary_dilation(ball, iterations=4), *near, binary_erosion(ball, iterations=4)]
    mask = RULES["staple"](count(masks, [1.0] * 5))
    assert 2 * (mask & ball).sum() / (mask.sum() + ball.sum()) > 0.99


def test_agreement_stays_the_share_of_votes_whatever_the_rule() -> None:
    result = fused(voter(1, liver="XX."), voter(2, liver="X.."))
    assert result.structures[0].agreement.ravel().tolist() == [100, 50, 0]
    other = fuse(
        [voter(1, liver="XX."), voter(2, liver="X..")], [target("liver")], line_grid(3), contains, rule="union"
    )
    assert other.structures[0].agreement.ravel().tolist() == [100, 50, 0]
    assert math.isclose(other.structures[0].mean_dice or 0, 2 / 3)
