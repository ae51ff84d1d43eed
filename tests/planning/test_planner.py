from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library
from medsegagent.errors import ExitCode
from medsegagent.images.channels import channel_families, channel_kind
from medsegagent.images.volume import Grid, ModalityEvidence, Volume
from medsegagent.language.request import Modality, Request
from medsegagent.matching.selection import CardSelection, LabelExpression, Selection, TargetLabels
from medsegagent.models.installed import NnunetFolder, NnunetModel
from medsegagent.models.store import Store
from medsegagent.planning.choice import Choice
from medsegagent.planning.plan import PartValues, Plan
from medsegagent.planning.planner import plan, refusal

CHANNELS = {"KiTS23": ["CT"], "PETCT": ["CT", "PET"], "BraTS": ["MR T1 Weighted", "T1 with gadolinium", "T2", "FLAIR"]}


def card(name: str, labels: int = 3, region: str = "abdomen", channels: list[str] | None = None) -> DatasetCard:
    names = dict(enumerate(channels or ["CT"]))
    given = {f"label_{value}": value for value in range(1, labels + 1)}
    fields = {"name": name, "channel_names": {str(k): v for k, v in names.items()}, "labels": given}
    return DatasetCard.model_validate(fields | {"body_region": region})


def model(card: str, *maps: dict[str, tuple[int, ...]], id: str = "", **fields: Any) -> NnunetModel:
    parts = tuple(
        NnunetFolder(folder=Path(f"part{i}"), folds=(0,), checkpoint="c.pth", labels=labels)
        for i, labels in enumerate(maps or ({"label_1": (1,)},))
    )
    identity = id or f"{card}/model"
    given = {"channels": ("0",), "voter": identity} | fields
    return NnunetModel(id=identity, card=card, parts=parts, **given)


def expression(*plus: str, minus: tuple[str, ...] = ()) -> LabelExpression:
    return LabelExpression(plus=plus, minus=minus, values=(1,))


def selected(
    *cards: str, whole: LabelExpression | None = None, families: tuple[str, ...] = (), **sides: Any
) -> Selection:
    labels = TargetLabels(target="thing", whole=whole or expression("label_1"), **sides)
    request = Request(instruction="x", modality=Modality(families=families))
    return Selection(request=request, cards=tuple(CardSelection(card=name, targets=(labels,)) for name in cards))


def volume(channel: str = "", family: str | None = None, *, size: int = 9, mm: float = 1.0) -> Volume:
    import numpy as np

    grid = Grid((size, 9, 9), (mm, mm, mm), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    evidence = ModalityEvidence(family, 0.9, "")
    return Volume(np.zeros(grid.shape, np.float32), grid, channel, Path(f"{channel or 'image'}.nii.gz"), "", evidence)


def store(cards: list[DatasetCard], *models: NnunetModel) -> Store:
    return Store(models, {one.name: one for one in cards})


def run(
    selection: Selection, cards: list[DatasetCard], *models: NnunetModel, volumes: Any = None, **options: Any
) -> Plan:
    return plan(selection, store(cards, *models), volumes or [volume()], "cpu", **options)


def only_target(planned: Plan) -> Any:
    return planned.models[0].targets[0]


def test_a_models_own_values_are_used_and_differences_taken_on_them() -> None:
    kits = {"label_1": (4, 5, 6), "label_2": (5, 6)}
    planned = run(selected("A", whole=expression("label_1", minus=("label_2",))), [card("A")], model("A", kits))
    assert only_target(planned).whole == (PartValues(part=0, values=(4,)),)


def test_only_the_parts_that_hold_the_target_are_named() -> None:
    parts = ({"label_3": (1,)}, {"label_1": (7,)}, {"label_2": (2,)})
    planned = run(selected("A", whole=expression("label_1", "label_2")), [card("A")], model("A", *parts))
    assert only_target(planned).whole == (PartValues(part=1, values=(7,)), PartValues(part=2, values=(2,)))


@pytest.mark.parametrize(
    "wanted", [expression("label_1", "label_2"), expression("label_1", minus=("label_2",)), expression("label_3")]
)
def test_a_target_that_a_model_cannot_give_whole_is_left_out(wanted: LabelExpression) -> None:
    planned = run(selected("A", whole=wanted), [card("A")], model("A", {"label_1": (1,)}))
    assert planned.models == ()
    assert "does not give thing" in planned.skipped[0].reason


def test_sides_need_both_sides() -> None:
    sides = {"left": expression("label_1"), "right": expression("label_2")}
    both = {"label_1": (1,), "label_2": (2,)}
    whole = expression("label_1")
    assert only_target(run(selected("A", whole=whole, **sides), [card("A")], model("A", both))).right
    assert not only_target(run(selected("A", whole=whole, **sides), [card("A")], model("A", {"label_1": (1,)}))).left


def test_specialists_rank_before_whole_body_then_resolution_then_cases() -> None:
    cards = [
        card("Lesion", 2, "whole body"),
        card("Regional", 9),
        card("Fine", 9),
        card("Many", 9),
        card("Body", 99, "whole body"),
    ]
    models = [
        model("Body", spacing_mm=(0.5, 0.5, 0.5), num_training=5000),
        model("Many", spacing_mm=(0.8, 0.8, 0.8), num_training=300),
        model("Fine", spacing_mm=(0.5, 0.5, 0.5), num_training=200),
        model("Regional", spacing_mm=(3.0, 3.0, 3.0), num_training=900),
        model("Lesion", spacing_mm=None),
    ]
    planned = run(selected(*(one.name for one in cards)), cards, *models, choice=Choice(per_target=9))
    assert [(item.model.card, item.rank) for item in planned.models] == [
        ("Lesion", 1),
        ("Many", 2),  # both are finer than the scan's 1 mm, so the cases decide
        ("Fine", 3),
        ("Regional", 4),
        ("Body", 5),
    ]
    assert [item.weight for item in planned.models] == [1.0] * 5
    assert planned.models[4].reason == "whole-body model, 1 mm grid, 5000 training cases"


def test_versions_of_one_task_are_one_voter_per_target_and_the_next_steps_in_for_a_failed_one() -> None:
    fine = model("A", id="a:fine", voter="a", spacing_mm=(1.0, 1.0, 1.0))
    fast = model("A", id="a:fast", voter="a", spacing_mm=(3.0, 3.0, 3.0))
    planned = run(selected("A"), [card("A")], fast, fine)
    assert [item.model.id for item in planned.models] == ["a:fine"]
    assert planned.skipped[0].reason == "another version of a:fine, which ranks higher"
    again = run(selected("A"), [card("A")], fast, fine, without=frozenset({"a:fine"}))
    assert [item.model.id for item in again.models] == ["a:fast"]


def test_channels_are_found_by_name_in_any_order_and_follow_the_models_own() -> None:
    brats = card("B", channels=CHANNELS["BraTS"])
    given = [volume(name) for name in ("FLAIR", "t1", "T1ce", "T2w")]
    planned = run(selected("B"), [brats], model("B", channels=("3", "0", "1", "2")), volumes=given)
    assert planned.models[0].inputs == (0, 1, 2, 3)
    by_number = [volume(name) for name in ("3", "2", "1", "0")]
    planned = run(selected("B"), [brats], model("B", channels=("0", "1", "2", "3")), volumes=by_number)
    assert planned.models[0].inputs == (3, 2, 1, 0)


def test_a_single_channel_card_takes_the_volume_of_its_family() -> None:
    planned = run(selected("A"), [card("A")], model("A"), volumes=[volume("PET"), volume("CT")])
    assert planned.models[0].inputs == (1,)
    assert run(selected("A"), [card("A")], model("A"), volumes=[volume(family="CT")]).models


def test_an_image_of_another_family_is_not_fed_unless_the_instruction_says_so() -> None:
    mr = [volume(family="MR")]
    assert run(selected("A"), [card("A")], model("A"), volumes=mr).models == ()
    assert run(selected("A", families=("CT",)), [card("A")], model("A"), volumes=mr).models


@pytest.mark.parametrize("given", [["T2"], ["FLAIR"], ["PET"]])
def test_a_sequence_is_never_taken_for_another(given: list[str]) -> None:
    t1 = card("A", channels=["MR T1 weighted"])
    planned = run(selected("A"), [t1], model("A"), volumes=[volume(name, "MR") for name in given])
    assert planned.models == ()


def test_missing_channels_are_a_bad_input_that_names_what_each_card_wants() -> None:
    cards = [card("B", channels=CHANNELS["BraTS"]), card("P", channels=CHANNELS["PETCT"])]
    selection = selected("B", "P")
    planned = run(selection, cards, model("B"), model("P"), volumes=[volume(family="CT")])
    error = refusal(planned, selection, Library({one.name: one for one in cards}))
    assert error.exit_code == ExitCode.BAD_INPUT
    assert "P needs CT and PET" in error.what
    assert "T1 with gadolinium" in error.what
    assert "-i NAME=IMAGE" in error.remedy


def test_no_installed_model_lists_the_cards_and_says_how_to_get_one() -> None:
    cards = [card("A"), card("P", channels=CHANNELS["PETCT"])]
    selection = selected("A", "P")
    error = refusal(run(selection, cards), selection, Library({one.name: one for one in cards}))
    assert error.exit_code == ExitCode.NO_MODEL
    assert "A: no model is installed" in error.what
    assert "P needs CT and PET" in error.what
    assert "nnUNet_results" in error.remedy
    assert "DatasetNNN_A" in error.remedy


def test_volumes_on_different_grids_are_not_mixed() -> None:
    petct = card("P", channels=CHANNELS["PETCT"])
    other = [volume("CT"), volume("PET", size=8)]
    planned = run(selected("P"), [petct], model("P", channels=("0", "1")), volumes=other)
    assert "not on the grid" in planned.skipped[0].reason


@pytest.mark.parametrize(
    ("name", "kind", "family"),
    [
        ("MR T1 Weighted", "T1", "MR"),
        ("MR T1 weighted imaging with gadolinium", "T1ce", "MR"),
        ("t1c", "T1ce", "MR"),
        ("T1gd", "T1ce", "MR"),
        ("MR T2 FLAIR", "FLAIR", "MR"),
        ("T2", "T2", "MR"),
        ("MR adc", "ADC", "MR"),
        ("MR dwi", "DWI", "MR"),
        ("non_contrast_CT", "CT native", "CT"),
        ("contrast_CT", "CT contrast", "CT"),
        ("Non-Contrast head CT", "CT native", "CT"),
        ("PET", "PET", "PET"),
        ("SUV", "PET", "PET"),
        ("CT", "", "CT"),
        ("MRI", "", "MR"),
        ("SWI", "SWI", "MR"),
        ("T2*", "T2star", "MR"),
        ("t2_star", "T2star", "MR"),
        ("t1_mprage_tra_km", "T1ce", "MR"),
        ("ep2d_diff_b1000_TRACEW", "DWI", "MR"),
    ],
)
def test_channel_names_are_understood(name: str, kind: str, family: str) -> None:
    assert channel_kind(name) == kind
    assert channel_families(name) == {family}
