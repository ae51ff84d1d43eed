"""Sides, exclusions and corrections that stand apart from the thing they belong to."""

from __future__ import annotations

import pytest

from medsegagent.language import parse
from medsegagent.vocabulary import load

VOCABULARY = load()


def wanted(instruction: str) -> set[tuple[str, str]]:
    """The concepts and sides that an instruction asks for."""
    return {(id_, target.side or "") for target in parse(instruction, VOCABULARY).targets for id_ in target.concepts}


class TestSides:
    @pytest.mark.parametrize(
        "instruction",
        [
            "Parotid gland on CT, only the right side",
            "Parotid, CT, R",
            "Parotid, MRI, right-hand side",
            "CT, right side: parotid",
            "Parotid CT right",
        ],
    )
    def test_a_side_apart_from_the_only_paired_thing_is_its_side(self, instruction: str) -> None:
        assert wanted(instruction) == {("parotid_gland", "right")}

    def test_a_question_mark_after_right_makes_it_no_side(self) -> None:
        assert ("kidney", "right") not in wanted("kidneys on CT, right?")

    def test_a_side_after_a_comma_at_the_end_holds_for_the_list(self) -> None:
        sides = {side for _, side in wanted("thigh MRI: hamstrings and quads, right")}
        assert sides == {"right"}


class TestWithoutTheTumour:
    @pytest.mark.parametrize(
        ("instruction", "organ"),
        [
            ("Páncreas sin el tumor, TC", "pancreas"),
            ("Hígado sin metástasis, TAC", "liver"),
            ("不含肿瘤的肝脏,CT", "liver"),
        ],
    )
    def test_only_the_organ_is_wanted(self, instruction: str, organ: str) -> None:
        assert wanted(instruction) == {(organ, "")}

    def test_latin_sin_is_left(self) -> None:
        assert wanted("ren sin., CT") == {("kidney", "left")}
