from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from drawing import drawn, fused, picture, target, voter

from medsegagent.fusion.agreement import own_mask
from medsegagent.fusion.sides import assign_sides
from medsegagent.images.boxed import Boxed
from medsegagent.language.request import Side


class TestOneTarget:
    def test_is_in_where_the_yes_weight_exceeds_half(self) -> None:
        assert picture(voter(1, liver="XX."), voter(2, liver="X.X"), voter(3, liver="X..")) == {"liver": "X.."}

    def test_of_two_models_follows_the_better_ranked_one_so_it_is_no_intersection(self) -> None:
        assert picture(voter(2, liver="X.X"), voter(1, liver="XX.")) == {"liver": "XX."}

    def test_respects_weights(self) -> None:
        assert picture(voter(3, 3, liver="X."), voter(1, liver=".X"), voter(2, liver=".X")) == {"liver": "X."}

    def test_is_tied_exactly_even_if_the_weights_are_no_binary_fractions(self) -> None:
        ballots = voter(1, 0.3, liver="X."), voter(2, 0.1, liver=".X"), voter(3, 0.2, liver=".X")
        assert picture(*ballots) == {"liver": "X."}

    def test_counts_an_empty_answer_as_a_vote_against(self) -> None:
        assert picture(voter(1, liver=".."), voter(2, liver="X."), voter(3, liver="..")) == {"liver": ".."}

    def test_is_voted_on_only_by_the_models_that_have_it(self) -> None:
        assert picture(voter(1, liver="X."), voter(2, spleen=".X")) == {"liver": "X.", "spleen": ".X"}

    def test_that_no_model_has_is_a_warning(self) -> None:
        result = fused(voter(1, liver="X."), targets=(target("liver"), target("ureter")))
        assert [item.id for item in result.structures] == ["liver"]
        assert result.warnings == ("ureter: no model voted on it.",)

    def test_off_the_grid_is_a_bug(self) -> None:
        with pytest.raises(ValueError, match="model2: mask of liver"):
            fused(voter(1, liver="X."), voter(2, liver="X.."))

    def test_with_a_weight_of_zero_is_a_bug(self) -> None:
        with pytest.raises(ValueError, match="weights must be positive"):
            fused(voter(1, 0, liver="X."))

    def test_has_the_percentage_of_yes_weight_as_agreement(self) -> None:
        result = fused(voter(1, liver="XXX."), voter(2, liver="XX.."), voter(3, liver="X..."))
        assert result.structures[0].agreement.ravel().tolist() == [100, 67, 33, 0]

    def test_is_never_rounded_to_full_or_no_agreement(self) -> None:
        result = fused(voter(1, 999, liver="X."), voter(2, 1, liver=".X"))
        assert result.structures[0].agreement.ravel().tolist() == [99, 1]

    def test_reports_each_ballot_and_each_pair(self) -> None:
        liver = fused(voter(2, liver="XX.."), voter(1, liver=".XX."), voter(3, liver="....")).structures[0]
        assert [(item.model, item.voxels) for item in liver.ballots] == [("model1", 2), ("model2", 2), ("model3", 0)]
        assert liver.ballots[0].dice == pytest.approx(2 / 3)
        assert liver.pairwise_dice[("model1", "model2")] == 0.5
        assert liver.pairwise_dice[("model2", "model3")] == 0

    def test_that_nobody_found_is_an_empty_structure_without_a_dice(self) -> None:
        liver = fused(voter(1, liver=".."), voter(2, liver="..")).structures[0]
        assert not liver.mask.any()
        assert math.isnan(liver.pairwise_dice[("model1", "model2")])


class TestPair:
    def test_is_voted_as_a_union_and_written_as_two_sides(self) -> None:
        ballots = voter(1, kidney="LL..RR"), voter(2, kidney="XX..XX"), voter(3, kidney="XXX..X")
        assert picture(*ballots) == {"kidney_left": "XX....", "kidney_right": "....XX"}

    def test_stays_one_structure_where_nobody_tells_the_sides(self) -> None:
        assert picture(voter(1, kidney="XX..XX")) == {"kidney": "XX..XX"}

    def test_gives_voxels_on_which_sided_models_are_silent_to_the_nearest_side(self) -> None:
        ballots = voter(2, kidney="L......R"), voter(1, 3, kidney="XXX..XXX")
        assert picture(*ballots) == {"kidney_left": "XXX.....", "kidney_right": ".....XXX"}

    def test_measures_nearness_in_mm(self) -> None:
        sides = np.zeros((4, 1, 4), np.uint8)
        sides[0, 0, 0], sides[3, 0, 3] = 1, 2
        voted = sides > 0
        voted[0, 0, 3] = True  # 3 steps in x from the left, 3 steps in z from the right
        for spacing, side in (((1.0, 1.0, 5.0), 1), ((5.0, 1.0, 1.0), 2)):
            assigned = assign_sides(voted, [sides], [1.0], spacing)
            assert assigned is not None
            assert assigned[0, 0, 3] == side

    def test_sides_go_by_weight_then_by_rank(self) -> None:
        ballots = voter(1, kidney="LLR"), voter(2, kidney="LRR"), voter(3, kidney="RRR")
        assert picture(*ballots) == {"kidney_left": "X..", "kidney_right": ".XX"}
        assert picture(*ballots[:2]) == {"kidney_left": "XX.", "kidney_right": "..X"}

    def test_is_left_whole_with_a_warning_if_the_sided_models_found_nothing(self) -> None:
        sided = replace(voter(1, kidney="..."), sides={"kidney": Boxed.of(drawn("..."))})
        result = fused(sided, voter(2, kidney="X.X"), voter(3, kidney="X.X"))
        assert [item.id for item in result.structures] == ["kidney"]
        assert "left unsplit" in result.warnings[0]

    def test_names_the_model_that_swaps_the_sides(self) -> None:
        result = fused(voter(1, kidney="L.R"), voter(2, kidney="L.R"), voter(3, kidney="R.L"))
        assert result.warnings == ("kidney: model3 calls left what the result calls right; one of them is mirrored.",)

    def test_compares_each_model_by_its_own_half(self) -> None:
        ballots = voter(1, kidney="LL..RR"), voter(2, kidney="XX..X.")
        right = fused(*ballots).structures[1]
        assert right.name == "right kidney"
        assert right.ballots[1].voxels == 1
        assert own_mask(ballots[1], right).dense().ravel().tolist() == [False] * 4 + [True, False]

    def test_asked_for_beside_one_of_its_sides_gets_ids_of_its_own(self) -> None:
        wanted = target("kidney_left", "kidney"), target("kidney")
        result = fused(voter(1, kidney_left="X..", kidney="L.R"), targets=wanted)
        assert [item.id for item in result.structures] == ["kidney_left", "kidney_left_2", "kidney_right"]


class TestOverlap:
    def test_of_a_lesion_with_its_organ_is_kept_and_painted_above(self) -> None:
        ballot = voter(1, **{"tumor.liver": ".XX.", "liver": "XXX."})
        assert picture(ballot) == {"tumor.liver": ".XX.", "liver": "XXX."}
        tumor, liver = fused(ballot).structures
        assert (tumor.layer, liver.layer) == (1, 0)

    def test_layers_follow_the_whole_chain(self) -> None:
        result = fused(voter(1, **{"necrosis": "X", "tumor.liver": "X", "liver": "X"}))
        assert [item.layer for item in result.structures] == [2, 1, 0]

    def test_that_anatomy_excludes_goes_to_the_better_supported(self) -> None:
        ballots = [voter(rank, liver="XX.", spleen=".X." if rank == 1 else "..X") for rank in (1, 2, 3)]
        assert picture(*ballots, voter(4, 3, spleen=".X.")) == {"liver": "XX.", "spleen": "..."}

    def test_at_equal_support_goes_to_the_best_ranked_model_there(self) -> None:
        assert picture(voter(2, liver="XX."), voter(1, spleen=".XX")) == {"liver": "X..", "spleen": ".XX"}

    def test_of_opposite_sides_is_settled_even_for_one_concept(self) -> None:
        left = target("kidney_left", "kidney").model_copy(update={"side": Side.LEFT})
        right = target("kidney_right", "kidney").model_copy(update={"side": Side.RIGHT})
        assert picture(voter(1, kidney_left="XX.", kidney_right=".XX"), targets=(left, right)) == {
            "kidney_left": "XX.",
            "kidney_right": "..X",
        }

    def test_of_groups_that_share_a_member_is_kept(self) -> None:
        wanted = target("ribs_3-5", "rib_3", "rib_4", "rib_5"), target("ribs_5-7", "rib_5", "rib_6", "rib_7")
        votes = {"ribs_3-5": "XX.", "ribs_5-7": ".XX"}
        assert picture(voter(1, **votes), targets=wanted) == votes
