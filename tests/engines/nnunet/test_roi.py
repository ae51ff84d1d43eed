"""`--roi auto`: a coarse model says where to look, the fine one answers as if it had seen everything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library
from medsegagent.engines.base import Prediction
from medsegagent.engines.installed import discover
from medsegagent.engines.nnunet.crop import grown
from medsegagent.engines.run import predict
from medsegagent.images.boxed import Box
from medsegagent.images.read import read_volume
from medsegagent.images.volume import Grid, Volume
from medsegagent.language.request import Modality, Request
from medsegagent.matching.selection import CardSelection, LabelExpression, Selection, TargetLabels
from medsegagent.models.effort import Effort
from medsegagent.models.store import Store
from medsegagent.phantom import CARDS, MODELS
from medsegagent.planning.plan import Locator, PartValues, Plan
from medsegagent.planning.planner import plan


@pytest.fixture(scope="module")
def scan(ct_file: Path) -> Volume:
    return read_volume(ct_file)


def store(coarse_mm: int) -> Store:
    """The phantom's model twice: as a fine one, and as a version of it on a coarser grid."""
    card = json.loads((CARDS / "Phantom_CT_Organs.json").read_text())
    (model,) = card["models"]
    grids = {"toy/whole": 2, "toy/whole:fast": coarse_mm}
    card["models"] = [model | {"id": name, "spacing_mm": [mm] * 3, "voter": "toy"} for name, mm in grids.items()]
    return discover(Library({card["name"]: DatasetCard.model_validate(card)}), [MODELS])


def planned(scan: Volume, *, roi: bool, coarse_mm: int = 4) -> Plan:
    expression = LabelExpression(plus=("spleen",), values=(2,))
    chosen = CardSelection(card="Phantom_CT_Organs", targets=(TargetLabels(target="spleen", whole=expression),))
    selection = Selection(request=Request(instruction="x", modality=Modality()), cards=(chosen,))
    return plan(selection, store(coarse_mm), [scan], "cpu", effort=Effort(roi=roi))


def ran(todo: Plan, scan: Volume) -> Prediction:
    (outcome,) = predict(todo, [scan])
    assert isinstance(outcome, Prediction)
    return outcome


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_the_coarser_model_of_the_same_targets_locates_and_the_fine_one_answers_as_before(scan: Volume) -> None:
    everything = planned(scan, roi=False)
    assert everything.models[0].locator is None
    todo = planned(scan, roi=True)
    (model,) = todo.models
    assert model.locator is not None
    assert (model.model.id, model.locator.model.id) == ("toy/whole", "toy/whole:fast")
    outcome = ran(todo, scan)
    assert "of the image, around what toy/whole:fast finds" in outcome.notes[-1]
    mask, whole = (prediction.masks["spleen"].dense() for prediction in (outcome, ran(everything, scan)))
    assert dice(mask, whole) > 0.95


def test_a_model_that_is_hardly_coarser_spares_nothing(scan: Volume) -> None:
    assert planned(scan, roi=True, coarse_mm=2).models[0].locator is None


def with_locator(todo: Plan, values: tuple[int, ...]) -> Plan:
    (model,) = todo.models
    part = PartValues(part=0, values=values)
    locator = Locator(model=model.model, inputs=(0,), found=(part,), margin_mm=0.0, grows=True)
    return todo.model_copy(update={"models": (model.model_copy(update={"locator": locator}),)})


def test_a_box_that_cuts_the_target_grows_until_it_holds_it(scan: Volume) -> None:
    """Without a margin the box of what was found touches it on every side."""
    everything = ran(planned(scan, roi=False), scan).masks["spleen"].dense()
    (target,) = planned(scan, roi=False).models[0].targets
    cut = with_locator(planned(scan, roi=False), target.whole[0].values)
    assert dice(ran(cut, scan).masks["spleen"].dense(), everything) > 0.95


def test_where_nothing_is_found_the_fine_model_sees_everything(scan: Volume) -> None:
    outcome = ran(with_locator(planned(scan, roi=False), (250,)), scan)
    everything = ran(planned(scan, roi=False), scan)
    assert np.array_equal(outcome.masks["spleen"].dense(), everything.masks["spleen"].dense())
    assert "saw 100% of the image" in outcome.notes[-1]


side = st.integers(1, 30)


@given(st.lists(st.tuples(side, side, side, side, side), min_size=3, max_size=3), st.floats(0, 50))
def test_a_box_grows_only_where_it_is_touched_and_never_over_the_edge(
    axes: list[tuple[int, int, int, int, int]], margin: float
) -> None:
    shape, box, held = [], [], []
    for before, inside_low, inner, inside_high, after in axes:
        length = (inside_low - 1) + inner + (inside_high - 1)
        shape.append(before - 1 + length + after - 1)
        box.append(slice(before - 1, before - 1 + length))
        held.append(slice(inside_low - 1, inside_low - 1 + inner))
    grid = Grid((shape[2], shape[1], shape[0]), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    result = grown(as_box(box), as_box(held), grid, margin)
    for old, new, inner, size in zip(box, result, held, shape, strict=True):
        assert 0 <= new.start <= old.start < old.stop <= new.stop <= size
        touches_low = inner.start == 0 and old.start > 0
        touches_high = inner.stop == old.stop - old.start and old.stop < size
        assert (new.start < old.start) == touches_low
        assert (new.stop > old.stop) == touches_high


def as_box(sides: list[slice]) -> Box:
    return sides[0], sides[1], sides[2]
