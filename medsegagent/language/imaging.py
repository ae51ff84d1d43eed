"""What the instruction says about the imaging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medsegagent.errors import UsageError
from medsegagent.language.items import Item, read_items, span_of
from medsegagent.language.request import Modality, Request
from medsegagent.vocabulary import Vocabulary

_BESIDE_TC = frozenset({"tumor.brain", "enhancing_tumor", "edema.brain"})
FOREIGN = frozenset(["US", "XR", "SPECT", "endoscopy", "photo", "histology", "OCT", "ECG"])


def is_imaging(item: Item) -> bool:
    """Whether an item names a modality, a sub-type or a sequence."""
    return item.has("modality", "subtype", "sequence_or_level", "french_ct") and not item.meanings


def read_modality(instruction: str, items: Sequence[Item], sequences: Sequence[Item]) -> Modality:
    """Collect families and sub-types.

    Args:
        instruction: The text.
        items: All items.
        sequences: Those of the items "T1" and "T2" that mean a sequence and not a vertebra.
    """
    told = {id(item) for item in sequences}
    families: list[str] = []
    subtypes: list[str] = []
    used: list[Item] = []
    combined = False
    for position, item in enumerate(items):
        values = [value for cls, value in item.words if cls in ("modality", "subtype")]
        if id(item) in told:
            values = [f"MR/{item.value('sequence_or_level')}"]
        if item.has("french_ct") and _is_french(items):
            values = ["CT"]
        if not values or item.meanings or _is_denied(items, position):
            continue
        used.append(item)
        for value in values:
            family, _, subtype = (
                value.partition("/")
                if item.has("modality") or id(item) in told or item.has("french_ct")
                else ("", "/", value)
            )
            combined = combined or "+" in family
            families += [f for f in family.split("+") if f and f not in families]
            subtypes += [s for s in subtype.split("+") if s and s not in subtypes]
    if not used:
        return Modality()
    if not families:
        families = ["CT"]
    real = [family for family in families if family not in FOREIGN]
    if real and set(families) - set(real) <= {"photo", "histology", "ECG"}:
        families = real
    if "SPECT" in families:
        combined = False
        families = ["SPECT"]
    if combined and {"PET", "CT"} <= set(families):
        families = [family for family in families if family in ("PET", "CT")]
    any_subtype = len(subtypes) > 1 and any(item.has("or") for item in _between(items, used))
    order = ("PET", "CT", "MR")
    families.sort(key=lambda family: order.index(family) if family in order else len(order))
    return Modality(
        families=tuple(families), combined=combined, subtypes=tuple(subtypes), any_subtype=any_subtype,
        spans=tuple(span_of(instruction, [item]) for item in used),
    )  # fmt: skip


def _between(items: Sequence[Item], used: Sequence[Item]) -> Sequence[Item]:
    first, last = items.index(used[0]), items.index(used[-1])
    return [item for item in items[first:last] if item.has("or", "and") or is_imaging(item)]


def _is_denied(items: Sequence[Item], position: int) -> bool:
    """As in "not the CT", "no MRI"."""
    for item in reversed(items[max(0, position - 2) : position]):
        if item.has("not"):
            return True
        if not item.has("filler"):
            return False
    return False


def settle_homonyms(items: list[Item]) -> list[Item]:
    """As in "TC" is Spanish for CT, unless another modality or "WT" stands beside it: then it is the tumour core."""
    named = [item for item in items if item.has("modality", "sequence_or_level")]
    named += [item for item in items if any(m.flag in "bo" and m.id in _BESIDE_TC for m in item.meanings)]
    return [
        item
        if not (item.meanings and item.has("modality"))
        else replace(item, meanings=())
        if named == [item]
        else replace(item, words=())
        for item in items
    ]


def _is_french(items: Sequence[Item]) -> bool:
    """As in "scanner" is the French CT, and in English a machine."""
    english = ("the", "our", "my", "from", "please", "in", "on", "with", "siemens", "ge", "philips", "tesla")
    return not any(item.has("modality") or item.word in english for item in items)


def with_modality(request: Request, text: str, vocabulary: Vocabulary) -> Request:
    """The same request for the modality that `text` names: "CT", "MR T1", "PET/CT".

    Raises:
        UsageError: If the text names no modality.
    """
    items = read_items(text, vocabulary)
    modality = read_modality(text, items, [item for item in items if item.has("sequence_or_level")])
    if not modality.families:
        raise UsageError(f"{text!r} is no modality", "Say for example CT, MR, MR T1, PET or PET/CT.", "modality")
    return request.model_copy(update={"modality": modality.model_copy(update={"spans": ()})})
