"""What holds for any votes at all."""

from __future__ import annotations

from itertools import combinations
from random import Random

import numpy as np
from drawing import contains, line_grid, target
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medsegagent.engines.base import Prediction
from medsegagent.fusion.overlap import label_map, overlapping
from medsegagent.fusion.vote import fuse
from medsegagent.images.boxed import Boxed

WIDTH = 9
TARGETS = ("liver", "tumor.liver", "spleen", "kidney")
WANTED = tuple(target(name) for name in TARGETS)
IMPLIED = {frozenset(("liver", "tumor.liver"))}

cells = st.integers(0, 2)
rows = st.lists(cells, min_size=WIDTH, max_size=WIDTH).map(lambda row: np.array(row, np.uint8).reshape(1, 1, -1))


@st.composite
def votes(draw: st.DrawFn, rank: int) -> Prediction:
    """One model: some of the targets, perhaps with sides for the kidneys."""
    names = draw(st.sets(st.sampled_from(TARGETS), min_size=1))
    drawings: dict[str, NDArray[np.uint8]] = {name: draw(rows) for name in sorted(names)}
    sided = "kidney" in names and draw(st.booleans())
    return Prediction(
        model=f"model{rank}",
        card="card",
        weight=draw(st.sampled_from([1, 2, 3, 0.1, 0.2, 0.3])),
        rank=draw(st.sampled_from([rank, 1])),
        masks={name: Boxed.of(row > 0) for name, row in drawings.items()},
        sides={"kidney": Boxed.of(drawings["kidney"])} if sided else {},
        seconds=0.0,
    )


panels = st.integers(1, 4).flatmap(lambda count: st.tuples(*(votes(rank) for rank in range(1, count + 1))))
GRID = line_grid(WIDTH)


@settings(deadline=None)
@given(panel=panels, order=st.randoms())
def test_the_order_of_predictions_changes_nothing(panel: tuple[Prediction, ...], order: Random) -> None:
    shuffled = list(panel)
    order.shuffle(shuffled)
    once, again = (fuse(some, WANTED, GRID, contains) for some in (panel, shuffled))
    assert [item.id for item in once.structures] == [item.id for item in again.structures]
    for first, second in zip(once.structures, again.structures, strict=True):
        assert np.array_equal(first.mask, second.mask)
        assert np.array_equal(first.agreement, second.agreement)


@settings(deadline=None)
@given(panel=panels)
def test_excluded_structures_share_no_voxel_and_every_voxel_has_half_the_votes(panel: tuple[Prediction, ...]) -> None:
    result = fuse(panel, WANTED, GRID, contains)
    for first, second in combinations(result.structures, 2):
        if frozenset((first.id, second.id)) not in IMPLIED:
            assert not (first.mask & second.mask).any()
    for item in result.structures:
        assert item.agreement.max() <= 100
        assert not item.mask.any() or item.agreement[item.mask].min() >= 50

    assert overlapping(result) <= {"liver", "tumor.liver"}
    painted = label_map(result)
    for item in result.structures:
        if item.id != "liver":
            assert np.array_equal(painted == item.value, item.mask)


@settings(deadline=None)
@given(row=rows, count=st.integers(1, 4))
def test_unanimous_models_get_their_own_mask(row: NDArray[np.uint8], count: int) -> None:
    panel = [Prediction(f"m{rank}", "card", 1.0, rank, {"liver": Boxed.of(row > 0)}, {}, 0.0) for rank in range(count)]
    liver = fuse(panel, WANTED[:1], GRID, contains).structures[0]
    assert np.array_equal(liver.mask, row > 0)
    assert set(np.unique(liver.agreement).tolist()) <= {0, 100}
    assert all(ballot.dice == 1 or not row.any() for ballot in liver.ballots)


@settings(deadline=None)
@given(panel=panels)
def test_the_sides_partition_the_union(panel: tuple[Prediction, ...]) -> None:
    unsided = tuple(Prediction(item.model, item.card, item.weight, item.rank, item.masks, {}, 0.0) for item in panel)
    kidney = (WANTED[-1],)
    whole = fuse(unsided, kidney, GRID, contains).structures
    halves = fuse(panel, kidney, GRID, contains).structures
    if len(halves) == 2:
        left, right = halves
        assert not (left.mask & right.mask).any()
        assert np.array_equal(left.mask | right.mask, whole[0].mask)
        assert np.array_equal(left.agreement + right.agreement, whole[0].agreement)
