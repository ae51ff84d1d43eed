from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from drawing import contains
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medsegagent import match
from medsegagent.cards.library import Library
from medsegagent.engines.base import Prediction
from medsegagent.engines.installed import find_installed
from medsegagent.engines.run import predict
from medsegagent.fusion.outliers import find_outliers
from medsegagent.fusion.segmentation import Structure
from medsegagent.fusion.vote import fuse
from medsegagent.images.boxed import Boxed
from medsegagent.images.geometry import patient_axes
from medsegagent.images.read import read_volume
from medsegagent.images.volume import Grid
from medsegagent.language.request import Target
from medsegagent.phantom import CARDS, MODELS
from medsegagent.planning.planner import plan

SHAPE = (3, 4, 5)
LIVER = Target(id="liver", name="liver", concepts=("liver",))
masks = arrays(np.bool_, SHAPE)


def named(panel: Sequence[NDArray[np.bool_]]) -> dict[str, Boxed[np.bool_]]:
    return {f"m{number}": Boxed.of(mask) for number, mask in enumerate(panel)}


def outliers(panel: Sequence[NDArray[np.bool_]], weights: Sequence[float] = ()) -> set[str]:
    given_weights = weights or [1.0] * len(panel)
    return set(find_outliers(named(panel), {f"m{number}": weight for number, weight in enumerate(given_weights)}))


def ball(centre: tuple[int, int, int], radius: float) -> NDArray[np.bool_]:
    z, y, x = np.ogrid[:24, :24, :24]
    inside: NDArray[np.bool_] = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
    return inside


HERE, NEARLY, ELSEWHERE = ball((12, 12, 7), 6), ball((12, 12, 8), 6), ball((12, 12, 18), 5)
EMPTY = np.zeros_like(HERE)


class TestTheRule:
    @settings(deadline=None)
    @given(mask=masks, count=st.integers(1, 5))
    def test_flags_nobody_when_all_agree(self, mask: NDArray[np.bool_], count: int) -> None:
        assert outliers([mask] * count) == set()

    @settings(deadline=None)
    @given(panel=st.lists(masks, min_size=1, max_size=6), weights=st.lists(st.sampled_from([0.1, 1, 3]), min_size=6))
    def test_leaves_at_least_two_that_found_something_and_most_of_the_weight(
        self, panel: list[NDArray[np.bool_]], weights: list[float]
    ) -> None:
        flagged = outliers(panel, weights[: len(panel)])
        found = {name: mask for name, mask in named(panel).items() if mask.any()}
        assert flagged <= set(found)
        if flagged:
            left = [weights[int(name[1:])] for name in found if name not in flagged]
            assert len(left) >= 2
            assert sum(left) > sum(weights[int(name[1:])] for name in flagged)

    def test_does_not_depend_on_order(self) -> None:
        for panel in permutations([HERE, NEARLY, ELSEWHERE]):
            assert outliers(panel) == {f"m{next(i for i, mask in enumerate(panel) if mask is ELSEWHERE)}"}

    def test_needs_three_that_found_something(self) -> None:
        assert outliers([HERE, ELSEWHERE]) == set()
        assert outliers([HERE, NEARLY, EMPTY]) == set()
        assert outliers([HERE, ELSEWHERE, EMPTY]) == set()

    def test_does_not_silence_the_only_one_that_finds_something(self) -> None:
        assert outliers([EMPTY, EMPTY, HERE]) == set()

    def test_needs_a_consensus(self) -> None:
        assert outliers([ball((12, 12, at), 4) for at in (4, 12, 20)]) == set()
        assert outliers([HERE, NEARLY, ELSEWHERE, ELSEWHERE]) == set()

    def test_two_wrong_ones_of_five_do_not_hide_each_other(self) -> None:
        assert outliers([HERE, ELSEWHERE, NEARLY, ELSEWHERE, HERE]) == {"m1", "m3"}

    def test_takes_a_model_that_the_user_gives_the_say_for_the_consensus(self) -> None:
        assert outliers([ELSEWHERE, HERE, NEARLY], [3, 1, 1]) == set()

    def test_leaves_models_alone_that_only_differ_in_size(self) -> None:
        assert outliers([HERE, NEARLY, ball((12, 12, 7), 4.5)]) == set()


@pytest.fixture(scope="module")
def livers(ct_file: Path) -> tuple[Grid, list[Boxed[np.bool_]]]:
    """What the demo's CT models say of a liver, and a third opinion made from them: the better one, one voxel off."""
    library = Library.load(CARDS)
    volume = read_volume(ct_file)
    selection = match("the liver in this CT", library)
    todo = plan(selection, find_installed(library, MODELS), [volume], "cpu")
    answers = [item for item in predict(todo, [volume]) if isinstance(item, Prediction)]
    assert len(answers) >= 2
    found = [answer.masks["liver"] for answer in answers]
    third = np.roll(found[0].dense(), 1, axis=2)
    return volume.grid, [*found[:2], Boxed.of(third)]


def voted(grid: Grid, panel: Sequence[Boxed[np.bool_]], keep: bool = False) -> tuple[Structure, tuple[str, ...]]:
    answers = [Prediction(f"m{i}", "card", 1.0, i, {"liver": mask}, {}, 0.0) for i, mask in enumerate(panel)]
    result = fuse(answers, [LIVER], grid, contains, keep_outliers=keep)
    return result.structures[0], result.warnings


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("wrong", ["mirrored", "shifted"])
def test_a_misplaced_liver_is_named_and_left_out_wherever_it_ranks(
    livers: tuple[Grid, list[Boxed[np.bool_]]], wrong: str, place: int
) -> None:
    grid, panel = livers
    liver = panel[0].dense()
    across = 2 - patient_axes(grid).index(0)
    spoilt = np.flip(liver, across) if wrong == "mirrored" else np.roll(liver, liver.shape[0] // 3, axis=0)
    panel = [Boxed.of(spoilt) if i == place else mask for i, mask in enumerate(panel)]
    structure, warnings = voted(grid, panel)
    assert [ballot.model for ballot in structure.ballots if ballot.outlier] == [f"m{place}"]
    assert [ballot.model for ballot in structure.ballots if not ballot.counted] == [f"m{place}"]
    assert f"m{place} disagrees" in warnings[0]
    assert "--keep-outliers" in warnings[0]
    assert structure.agreement[spoilt & ~panel[place - 1].dense() & ~panel[place - 2].dense()].max() == 0
    assert (structure.mean_dice or 0) > 0.7

    kept, warnings = voted(grid, panel, keep=True)
    assert [ballot.model for ballot in kept.ballots if ballot.outlier] == [f"m{place}"]
    assert all(ballot.counted for ballot in kept.ballots)
    assert "votes all the same" in warnings[0]
    assert set(np.unique(kept.agreement)) == {0, 33, 67, 100}


def test_honest_differences_and_an_empty_answer_keep_their_votes(livers: tuple[Grid, list[Boxed[np.bool_]]]) -> None:
    grid, panel = livers
    assert voted(grid, panel)[1] == ()
    structure, warnings = voted(grid, [*panel[:2], Boxed.of(np.zeros(grid.shape, dtype=np.bool_))])
    assert warnings == ()
    assert structure.agreement.max() == 67
