from __future__ import annotations

from typing import Any

import pytest
from test_planner import card, model, run, selected

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library
from medsegagent.errors import UsageError
from medsegagent.language.request import Request
from medsegagent.matching.selection import CardSelection, LabelExpression, Partial, Selection, TargetLabels
from medsegagent.planning.choice import Choice, weights_named
from medsegagent.planning.downloads import wanted
from medsegagent.planning.ranking import rank

NAMES = ("A", "B", "C", "D")


def ran(choice: Choice, *models: Any) -> list[str]:
    cards = [card(name) for name in NAMES]
    installed = models or tuple(model(name, id=f"{name.lower()}/model") for name in NAMES)
    return [item.model.id for item in run(selected(*NAMES), cards, *installed, choice=choice).models]


def public(name: str, *entries: dict[str, Any], **fields: Any) -> DatasetCard:
    models = []
    for entry in entries:
        source = {"url": "https://example.org/m.zip", "archive": "m.zip"} | entry.pop("source", {})
        part = {"dataset_folder": f"Dataset001_{name}", "source": source}
        models.append({"parts": [part]} | entry)
    given = {"name": name, "channel_names": {"0": "CT"}, "labels": {"liver": 1, "spleen": 2}, "models": models}
    return DatasetCard.model_validate(given | fields)


def asked(**targets: tuple[str, ...]) -> Selection:
    """Card name -> labels, one target per label."""
    chosen = [
        CardSelection(
            card=name,
            targets=tuple(
                TargetLabels(target=label, whole=LabelExpression(plus=(label,), values=(1,))) for label in labels
            ),
        )
        for name, labels in targets.items()
    ]
    return Selection(request=Request(instruction="x"), cards=tuple(chosen))


class TestWhichModelsRun:
    def test_three_for_each_target_unless_the_user_says_otherwise(self) -> None:
        assert ran(Choice()) == ["a/model", "b/model", "c/model"]
        assert ran(Choice(per_target=1)) == ["a/model"]

    def test_what_did_not_run_has_a_reason(self) -> None:
        cards = [card(name) for name in NAMES]
        planned = run(selected(*NAMES), cards, *(model(name) for name in NAMES), choice=Choice(per_target=2))
        assert {item.card: item.reason for item in planned.skipped} == dict.fromkeys(
            ("C", "D"), "2 models that rank higher answer already (--max-models)"
        )

    def test_versions_of_one_task_count_once(self) -> None:
        models = [model("A", id=f"a/model:{speed}", voter="a/model") for speed in ("x", "y", "z")]
        assert ran(Choice(per_target=2), *models, model("B", id="b/model")) == ["a/model:x", "b/model"]

    def test_preferred_models_come_first_in_the_order_given(self) -> None:
        assert ran(Choice(per_target=2, prefer=("d/model", "C"))) == ["d/model", "c/model"]

    def test_only_and_exclude_name_models_cards_or_publishers(self) -> None:
        assert ran(Choice(only=("b", "D"))) == ["b/model", "d/model"]
        assert ran(Choice(exclude=("a/model", "B"))) == ["c/model", "d/model"]
        assert ran(Choice(only=("a", "b"), exclude=("a",))) == ["b/model"]


class TestAnswersThatHaveOnlyAPart:
    """Of what was asked for: two of the heart's chambers."""

    @staticmethod
    def selection(**held: int) -> Selection:
        """Card name -> how many of eight parts it has."""
        names = tuple(f"part {number}" for number in range(8))
        chosen = [
            CardSelection(
                card=name,
                targets=(
                    TargetLabels(
                        target="thing",
                        whole=LabelExpression(plus=("label_1",), values=(1,)),
                        partial=Partial(held=names[:count], of=8) if count < 8 else None,
                    ),
                ),
            )
            for name, count in held.items()
        ]
        return Selection(request=Request(instruction="x"), cards=tuple(chosen))

    @staticmethod
    def models(*names: str) -> list[Any]:
        return [model(name, id=f"{name.lower()}/model") for name in names]

    def test_do_not_vote_where_another_has_all_whatever_their_rank(self) -> None:
        cards = [card("A", 2), card("B", 2), card("C", 9)]
        planned = run(self.selection(A=2, B=3, C=8), cards, *self.models("A", "B", "C"))
        assert [item.model.card for item in planned.models] == ["C"]
        assert planned.models[0].warnings == ()
        assert "only 2 of 8 parts (part 0, part 1) of thing" in planned.skipped[0].reason

    def test_run_where_nothing_usable_has_more_and_say_so(self) -> None:
        cards = [card("A", 2), card("B", 9), card("C", 9), card("D", 9)]
        planned = run(self.selection(A=2, B=3, C=8, D=3), cards, *self.models("A", "B", "D"))
        assert [item.model.card for item in planned.models] == ["B", "D"]
        assert "b/model has only 3 of 8 parts" in planned.models[0].warnings[0]
        excluded = run(self.selection(A=2, C=8), cards, *self.models("A", "C"), choice=Choice(exclude=("C",)))
        assert [item.model.card for item in excluded.models] == ["A"]

    def test_are_not_installed_where_one_with_all_can_be(self) -> None:
        labels = {"label_1": 1}
        library = Library(
            {
                "A": public("A", {"id": "a/part"}, labels=labels),
                "B": public("B", {"id": "b/whole"}, labels=labels | {f"x{n}": n for n in range(2, 20)}),
                "C": public("C", {"id": "c/bound", "source": {"licence_required": True}}, labels=labels),
            }
        )
        (offer,) = wanted(self.selection(A=2, B=8), library)
        assert offer.entry.id == "b/whole"
        (offer,) = wanted(self.selection(A=2, B=8), library, installed={"a/part": ["label_1"]})
        assert offer.entry.id == "b/whole"
        (offer,) = wanted(self.selection(A=2, C=8), library)
        assert offer.entry.id == "a/part"


class TestWhichModelsToInstall:
    def test_one_for_each_target_and_only_the_labels_it_needs(self) -> None:
        library = Library({"A": public("A", {"id": "a/both"}), "B": public("B", {"id": "b/both"})})
        (offer,) = wanted(asked(A=("liver",), B=("liver",)), library)
        assert (offer.entry.id, offer.labels) == ("a/both", frozenset({"liver"}))
        assert offer.reason.startswith("for liver: specialist")

    def test_what_an_installed_model_answers_needs_no_other(self) -> None:
        library = Library({"A": public("A", {"id": "a/both"}), "B": public("B", {"id": "b/both"})})
        selection = asked(A=("liver",), B=("liver", "spleen"))
        assert [offer.labels for offer in wanted(selection, library, installed={"a/both": ["liver", "spleen"]})] == [
            frozenset({"spleen"})
        ]
        assert wanted(selection, library, installed={"b/both": ["liver", "spleen"]}) == ()

    def test_a_part_that_is_not_there_yet_is_fetched(self) -> None:
        library = Library({"A": public("A", {"id": "a/both"})})
        (offer,) = wanted(asked(A=("liver", "spleen")), library, installed={"a/both": ["liver"]})
        assert offer.labels == frozenset({"spleen"})

    def test_one_model_for_all_targets_comes_before_several_for_one_each(self) -> None:
        cards = [public(name, {"id": f"{name.lower()}/one"}) for name in "AB"]
        large = public("C", {"id": "c/all"}, labels={f"label_{n}": n for n in range(3, 20)} | {"liver": 1, "spleen": 2})
        library = Library({card.name: card for card in (*cards, large)})
        (offer,) = wanted(asked(A=("liver",), B=("spleen",), C=("liver", "spleen")), library)
        assert (offer.entry.id, offer.labels) == ("c/all", frozenset({"liver", "spleen"}))

    def test_more_voters_are_other_tasks_not_other_speeds(self) -> None:
        fast = [{"id": f"a/task{speed}", "voter": "a/task"} for speed in ("", ":fast")]
        library = Library({"A": public("A", *fast), "B": public("B", {"id": "b/one"})})
        chosen = wanted(asked(A=("liver",), B=("liver",)), library, per_target=2)
        assert [offer.entry.id for offer in chosen] == ["a/task", "b/one"]

    def test_nothing_is_offered_that_cannot_be_downloaded(self) -> None:
        bound = {"id": "a/bound", "source": {"licence_required": True}}
        page = {"id": "a/page", "source": {"archive": ""}}
        library = Library({"A": public("A", bound, page)})
        assert wanted(asked(A=("liver",)), library) == ()

    def test_what_finds_the_box_that_a_model_was_trained_on_comes_with_it(self) -> None:
        crop = {"model": "b/whole:fast", "labels": ["spleen"]}
        library = Library({"A": public("A", {"id": "a/boxed", "crop": crop}), "B": public("B", {"id": "b/whole:fast"})})
        offers = wanted(asked(A=("liver",)), library)
        assert [(offer.entry.id, offer.labels) for offer in offers] == [
            ("a/boxed", {"liver"}),
            ("b/whole:fast", {"spleen"}),
        ]
        there = wanted(asked(A=("liver",)), library, installed={"b/whole:fast": ["liver", "spleen"]})
        assert [offer.entry.id for offer in there] == ["a/boxed"]

    def test_among_equals_a_free_licence_comes_first(self) -> None:
        terms = {"a/nc": "CC BY-NC-SA 4.0", "b/unknown": None, "c/free": "CC BY 4.0"}
        shown = public("A", *({"id": name, "source": {"licence": licence}} for name, licence in terms.items()))
        assert sorted(terms, key=lambda name: rank(_entry(shown, name), shown, (1.0, 1.0, 1.0))) == [
            "c/free",
            "b/unknown",
            "a/nc",
        ]


def _entry(shown: DatasetCard, name: str) -> Any:
    return next(entry for entry in shown.models if entry.id == name)


class TestWeights:
    def test_are_one_each_and_say_so(self) -> None:
        assert Choice().weight("org/m", "A") == (1.0, "every model's vote weighs 1")

    def test_may_be_given_by_publisher_card_or_model_the_closest_counts(self) -> None:
        choice = Choice(weights=weights_named(["org=2", "A=3", "org/m=4.5", "org/m:fast=0.5"]))
        assert choice.weight("org/other", "B") == (2, "--weight org=2")
        assert choice.weight("org/other", "A") == (3, "--weight A=3")
        assert choice.weight("org/m", "A") == (4.5, "--weight org/m=4.5")
        assert choice.weight("org/m:fast", "B") == (0.5, "--weight org/m:fast=0.5")

    def test_are_in_the_plan_with_their_reason(self) -> None:
        planned = run(selected("A"), [card("A")], model("A"), choice=Choice(weights=(("A", 2.5),))).models[0]
        assert (planned.weight, planned.weight_reason) == (2.5, "--weight A=2.5")

    @pytest.mark.parametrize("text", ["A=0", "A=-1", "A=nan", "A=inf", "A=1e9", "A=", "A", "=2", "A=two"])
    def test_that_are_none_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError) as error:
            Choice(weights=weights_named([text]))
        assert error.value.where == "weights"

    def test_given_twice_for_one_name_are_refused(self) -> None:
        with pytest.raises(UsageError, match="2 weights"):
            Choice(weights=(("A", 1), ("A", 2)))

    @pytest.mark.parametrize(
        "choice", [Choice(weights=(("orh", 2),)), Choice(prefer=("orh",)), Choice(exclude=("orh",))]
    )
    def test_names_that_mean_nothing_are_refused_with_the_nearest(self, choice: Choice) -> None:
        choice.check([("orh/m", "A")])
        with pytest.raises(UsageError, match="Did you mean 'org'"):
            choice.check([("org/m", "A")])
