"""Mentions to targets: names for people, ids for files, doubles merged."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medsegagent.language.items import Item, span_of
from medsegagent.language.mentions import Mention
from medsegagent.language.request import Side, Target
from medsegagent.vocabulary import Vocabulary


def merged_targets(
    instruction: str, wanted: Sequence[tuple[Sequence[Item], Mention]], vocabulary: Vocabulary
) -> tuple[Target, ...]:
    """One target per thing asked for, in the order of the instruction; what is said twice counts once.

    Args:
        instruction: The text.
        wanted: Mentions, each with the items that its positions count.
        vocabulary: The vocabulary.
    """
    found: dict[str, list[Target]] = {}
    for items, mention in wanted:
        target = _target(instruction, items, mention, vocabulary)
        found.setdefault(target.id, []).append(target)
    return tuple(_merged(same) if len(same) > 1 else same[0] for same in found.values())


def _merged(same: Sequence[Target]) -> Target:
    spans = tuple(span for target in same for span in target.spans)
    lesions = tuple(dict.fromkeys(lesion for target in same for lesion in target.lesions))
    return same[0].model_copy(update={"spans": spans, "lesions": lesions})


def _target(instruction: str, items: Sequence[Item], mention: Mention, vocabulary: Vocabulary) -> Target:
    side = _side(mention, vocabulary)
    name = target_name(mention.ids, side, vocabulary)
    lesions = tuple(dict.fromkeys(mention.lesions))
    if lesions:
        name += " with " + " and ".join(
            vocabulary.concept(id_).name.removeprefix(f"{vocabulary.concept(mention.id).name} ") for id_ in lesions
        )
    slug = re.sub(r"[^A-Za-z0-9]+", "_", "_".join([_short(mention.ids), side or ""])).strip("_")
    return Target(
        id=slug, name=name, concepts=mention.ids, side=Side(side) if side else None, lesions=lesions,
        spans=(span_of(instruction, items[mention.first : mention.last]),),
    )  # fmt: skip


def _side(mention: Mention, vocabulary: Vocabulary) -> str:
    """The side asked for; none where the concept is on that side anyway."""
    if mention.side not in ("left", "right"):
        return ""
    sides = {vocabulary.concept(id_).side for id_ in mention.ids}
    return "" if sides == {mention.side} else mention.side


def _short(ids: tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]}_to_{ids[-1]}" if len(ids) > 2 else "_".join(ids)


def target_name(ids: tuple[str, ...], side: str, vocabulary: Vocabulary) -> str:
    """As in "left kidney", "vertebrae L2 to L4", "ribs 3 and 5, left"."""
    names = [vocabulary.concept(id_).name for id_ in ids]
    if len(names) == 1:
        return f"{side} {names[0]}".strip()
    vertebrae = all(id_.startswith("vertebra_") for id_ in ids)
    short = [name.replace(" vertebra", "").replace("rib ", "") for name in names]
    joined = f"{short[0]} to {short[-1]}" if _consecutive(ids, vocabulary) and len(ids) > 2 else ", ".join(short)
    head = "vertebrae " if vertebrae else "ribs " if ids[0].startswith("rib_") else ""
    return f"{side} {head}{joined}".strip()


def _consecutive(ids: tuple[str, ...], vocabulary: Vocabulary) -> bool:
    from medsegagent.language.levels import ORDER

    if all(id_ in ORDER for id_ in ids):
        places = [ORDER.index(id_) for id_ in ids]
    else:
        places = [vocabulary.concept(id_).number or 0 for id_ in ids]
    return places == list(range(places[0], places[0] + len(places)))
