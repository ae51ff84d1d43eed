"""What becomes of words that nothing is made of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsegagent import Library, match
from medsegagent.language import parse
from medsegagent.vocabulary import load

VOCABULARY = load()
WORDS = ["left", "right", "liver", "kidney", "and", ",", "of", "zorb", "T1", "L2", "not", "the"]
BENCHMARK = Library.load("benchmark")


def names(text: str) -> list[str]:
    return [target.name for target in parse(text, VOCABULARY).targets]


class TestAPhraseWithAStrangeWord:
    @pytest.mark.parametrize(
        "text",
        [
            "frobnicator lobe of the liver",
            "Luschka duct",
            "the frobnicator of the spleen",
            "frobnicator in the brain",
            "liver frobnicator",
            "femoral nerve",
            "frontal bone",
            "submandibular lymph nodes",
            "left foot skeleton",
            "lower esophagus",
            "first molars",
            "rib 13",
            "What is the volume of the rib 13?",
            "vertebra C8",
            "tip of the spleen",
        ],
    )
    def test_is_not_answered_with_something_broader(self, text: str) -> None:
        assert match(text, BENCHMARK).labels == {}
        assert match(text, BENCHMARK).refusal

    def test_is_told_with_what_was_known_of_it(self) -> None:
        (phrase,) = parse("the frobnicator of the spleen", VOCABULARY).unresolved
        assert phrase.span.text == "frobnicator of the spleen"
        assert phrase.suggestions[0] == "spleen"

    def test_does_not_take_the_rest_of_the_list_along(self) -> None:
        request = parse("liver, quuxoid duct and left kidney", VOCABULARY)
        assert [target.name for target in request.targets] == ["liver", "left kidney"]
        assert request.unresolved or request.unread


class TestWordsThatChangeNothing:
    @pytest.mark.parametrize(
        "text",
        [
            "small spleen",
            "mildly heterogeneous spleen",
            "calcified spleen",
            "enlarged, dilated spleen",
            "residual spleen",
        ],
    )
    def test_looks_never_matter(self, text: str) -> None:
        assert names(text) == ["spleen"]

    def test_other_strange_words_are_told(self) -> None:
        request = parse("Grzegorz asks: please segment the spleen", VOCABULARY)
        assert [target.name for target in request.targets] == ["spleen"]
        assert [span.text for span in request.unread] == ["Grzegorz"]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_spans_are_the_text_and_the_reading_is_always_the_same(text: str) -> None:
    if not text.strip():
        return
    request = parse(text, VOCABULARY)
    spans = [*request.unread, *(item.span for item in request.unresolved)]
    spans += [span for target in (*request.targets, *request.exclusions) for span in target.spans]
    assert all(text[span.start : span.end] == span.text for span in spans)
    assert parse(text, VOCABULARY) == request
    told = [(item.span.start, item.span.end) for item in request.unresolved]
    assert not any(start <= span.start < end for span in request.unread for start, end in told)
