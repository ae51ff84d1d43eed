from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsegagent.evaluation.metrics import Agreement, accuracy, difference, percentile, score

cards = st.sampled_from(["KiTS23", "LiTS", "WORD", "MM-WHS"])
labels = st.dictionaries(cards, st.frozensets(st.integers(1, 5), min_size=1), max_size=4)
kinds = st.sampled_from(["upstream", "negative", "multi"])
answers = st.lists(st.tuples(kinds, labels, st.none() | labels), min_size=1, max_size=12)


def figures(rows: list[tuple[str, dict, dict | None]]):
    return accuracy([(kind, score(expected, answered)) for kind, expected, answered in rows])


class TestScore:
    def test_a_card_counts_only_with_exactly_its_values(self) -> None:
        expected = {"KiTS23": {1}, "WORD": {3, 4}, "LiTS": {1}, "AMOS22_Task2": {2, 3}}
        got = score(expected, {"KiTS23": [1], "WORD": [3], "LiTS": [1, 2], "CT-ORG": [4]})
        assert got.hit_rate == pytest.approx(1 / 5)
        assert (got.all_found, got.any_found) == (False, True)

    def test_order_and_repetition_of_values_do_not_matter(self) -> None:
        assert score({"WORD": {3, 4}}, {"WORD": [4, 3, 4]}).all_found

    def test_an_extra_card_lowers_the_hit_rate(self) -> None:
        assert score({"LiTS": {1}}, {"LiTS": [1], "WORD": [1]}).hit_rate == 0.5

    def test_nothing_for_nothing_is_right_but_scores_zero_in_the_legacy_count(self) -> None:
        refusal = score({}, {})
        assert (refusal.hit_rate, refusal.all_found, refusal.any_found, refusal.legacy_hit_rate) == (1, True, True, 0)

    def test_a_card_without_values_selects_nothing(self) -> None:
        assert score({}, {"WORD": []}).all_found

    def test_a_failed_query_is_wrong_even_where_nothing_is_expected(self) -> None:
        failed = score({}, None)
        assert (failed.hit_rate, failed.all_found, failed.any_found) == (0, False, False)

    @given(labels, labels)
    def test_the_hit_rate_is_a_share_and_one_exactly_for_equal_labels(self, expected: dict, answered: dict) -> None:
        got = score(expected, answered)
        assert 0 <= got.hit_rate <= 1
        assert got.all_found == (expected == answered)
        assert got.all_found <= got.any_found

    @given(labels, labels)
    def test_the_difference_leads_from_the_answer_to_the_expectation(self, expected: dict, answered: dict) -> None:
        missing, extra = difference(expected, answered)
        pairs = {(card, v) for card, values in answered.items() for v in values}
        pairs |= {(card, v) for card, values in missing.items() for v in values}
        pairs -= {(card, v) for card, values in extra.items() for v in values}
        assert pairs == {(card, v) for card, values in expected.items() for v in values}


class TestAccuracy:
    @given(st.lists(st.tuples(kinds, labels), min_size=1, max_size=12))
    def test_a_perfect_run_scores_one_everywhere(self, rows: list) -> None:
        got = figures([(kind, expected, expected) for kind, expected in rows])
        assert got.rates.hit_rate == got.rates.all_found == got.rates.any_found == 1
        assert got.micro == got.macro == Agreement(1, 1, 1)
        assert got.refusals.rate in (None, 1)
        assert (got.refusals.wrong, got.failed) == (0, 0)

    @given(answers)
    def test_every_figure_is_a_share_and_the_measures_are_ordered(self, rows: list) -> None:
        got = figures(rows)
        shares = [got.micro, got.macro]
        for item in shares:
            assert all(0 <= share <= 1 for share in (item.precision, item.recall, item.f1))
        for rates in (got.rates, got.legacy, *(kind.rates for kind in got.by_kind.values())):
            assert 0 <= rates.all_found <= rates.hit_rate + 1e-12
            assert rates.hit_rate <= rates.any_found + 1e-12 <= 1 + 1e-12
        assert got.legacy.hit_rate <= got.rates.hit_rate

    @given(answers, st.randoms(use_true_random=False))
    def test_the_order_of_the_queries_does_not_matter(self, rows: list, random: Random) -> None:
        shuffled = list(rows)
        random.shuffle(shuffled)
        assert figures(rows) == figures(shuffled)

    @given(answers)
    def test_the_kinds_add_up_to_the_whole(self, rows: list) -> None:
        got = figures(rows)
        assert sum(kind.queries for kind in got.by_kind.values()) == got.queries == len(rows)
        right = sum(kind.rates.all_found * kind.queries for kind in got.by_kind.values())
        assert right == pytest.approx(got.rates.all_found * got.queries)

    def test_micro_counts_pairs_and_macro_counts_labels_once_each(self) -> None:
        # spleen (WORD 2) right three times; KiTS23's tumour (2) missed once; LiTS 1 answered where it is not expected
        rows = [("a", {"WORD": {2}}, {"WORD": [2]})] * 3
        rows += [("a", {"KiTS23": {2}}, {}), ("a", {}, {"LiTS": [1]})]
        got = figures(rows)
        assert got.micro == Agreement(3 / 4, 3 / 4, 3 / 4)
        assert got.macro == Agreement(1 / 3, 1 / 3, 1 / 3)

    def test_refusals_count_right_ones_wrong_ones_and_never_errors(self) -> None:
        rows = [
            ("n", {}, {}),
            ("n", {}, {"LiTS": [1]}),
            ("n", {}, None),
            ("p", {"LiTS": {1}}, {}),
            ("p", {"LiTS": {1}}, None),
        ]
        got = figures(rows)
        assert (got.refusals.negatives, got.refusals.correct, got.refusals.wrong, got.failed) == (3, 1, 1, 2)
        assert got.refusals.rate == pytest.approx(1 / 3)

    def test_without_negatives_there_is_no_refusal_rate(self) -> None:
        assert figures([("p", {"LiTS": {1}}, {"LiTS": [1]})]).refusals.rate is None


class TestPercentile:
    def test_it_is_the_nearest_rank(self) -> None:
        values = list(range(1, 101))
        assert [percentile(values, p) for p in (50, 90, 99, 100)] == [50, 90, 99, 100]
        assert percentile([7.0], 99) == 7.0

    @given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.1, 100))
    def test_it_is_one_of_the_values_with_enough_of_them_below(self, values: list[float], percent: float) -> None:
        got = percentile(values, percent)
        assert got in values
        assert sum(value <= got for value in values) >= percent / 100 * len(values) - 1e-9
