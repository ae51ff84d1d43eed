"""Names put together with underscores ("Kidney_R", "A_Aorta_Asc", "kidney_cyst_left"), read as cards' labels are."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.cards.binding import Binding, bind_label
from medsegagent.language.items import Item
from medsegagent.vocabulary import Sided, Vocabulary

LONGEST_NAME = 24
"""Items; a name is short, a text may be one long row of underscores."""
_GLUE = frozenset("_^~")
_SIDES = frozenset(["l", "r", "left", "right"])
_KINDS = {
    "bone": frozenset({"bone", "part", "group", "joint"}),
    "muscle": frozenset({"muscle", "group"}),
    "gland": frozenset({"gland", "organ"}),
    "artery": frozenset({"vessel", "part"}),
    "nerve": frozenset({"nerve", "organ", "part"}),
    "lobe": frozenset({"organ", "part"}),
}
"""What a category of a plan's names may be, by kind of concept."""
FILE_ENDINGS = frozenset(["nii", "gz", "nrrd", "mha", "mhd", "dcm", "seg", "stl"])


def name_at(items: Sequence[Item], position: int) -> int:
    """Where the written name that starts at this position ends (exclusive); `position` if none does."""
    if items[position].mark not in ("", "~") or (position and _glued(items, position - 1)):
        return position
    last, has_glue = position, items[position].mark == "~"
    while last + 1 < min(len(items), position + LONGEST_NAME) and _glued(items, last):
        last += 1
        has_glue = has_glue or items[last].mark == "_" or items[last].mark == "^"
    while last > position and items[last].mark and items[last].mark not in _GLUE:
        last -= 1
    return last + 1 if has_glue and last > position else position


def _glued(items: Sequence[Item], position: int) -> bool:
    """Whether this item and the next one are pieces of one written name."""
    one, other = items[position], items[position + 1]
    if one.end != other.start:
        return False
    pieces = (not item.mark or item.mark in _GLUE or item.joins for item in (one, other))
    return all(pieces)


def bound(items: Sequence[Item], vocabulary: Vocabulary) -> Binding | None:
    """What the written name in these items means; None where it has no one meaning."""
    plain = [piece for group in _groups(items) for piece in _joined(group)]
    category, written = _expanded(items, vocabulary)
    for name in (plain, [*category, *written], [*written, *category]):
        binding = bind_label("_".join(name), "", vocabulary)
        if len(binding.concepts) == 1 and not binding.lesions:
            return binding
    if category and written:  # "Bone_Mandible": the category only says what the thing is
        binding = bind_label("_".join(written), "", vocabulary)
        kinds = {vocabulary.concept(item.id).kind for item in binding.concepts}
        if len(binding.concepts) == 1 and kinds <= _KINDS.get("_".join(category), frozenset()):
            return binding
    return _part_of_whole(plain, vocabulary)


def _part_of_whole(pieces: Sequence[str], vocabulary: Vocabulary) -> Binding | None:
    """As in "Lung_LUL": a whole, and the part of it that is meant."""
    if len(pieces) != 2:
        return None
    wholes, parts = (vocabulary.meanings(piece) for piece in pieces)
    for part in parts:
        if part.flag in "nb" and any(w.flag == "n" and vocabulary.contains(w.id, part.id) for w in wholes):
            return Binding("_".join(pieces), (Sided(part.id, part.side),))
    return None


def is_other_volume(items: Sequence[Item], vocabulary: Vocabulary) -> bool:
    """As in "SpinalCord_PRV05", "~Brain", "Trachea_NAdj": a margin around the structure, or a part of it."""
    margins = vocabulary.rt_names.get("margins", {})
    pieces = ["".join(item.word for item in group).rstrip("x") for group in _groups(items)]
    volumes = any(piece.rstrip("0123456789") in margins for piece in pieces[1:])
    return items[0].mark == "~" or volumes


def _groups(items: Sequence[Item]) -> list[list[Item]]:
    """The pieces between the underscores, up to a suffix that only its clinic knows ("^")."""
    groups: list[list[Item]] = [[]]
    for item in items:
        if item.mark == "^":
            break
        if item.mark:
            groups.append([])
        elif item.word not in FILE_ENDINGS:
            groups[-1].append(item)
    return [group for group in groups if group]


def _joined(group: Sequence[Item]) -> list[str]:
    """The words of a piece; a number stays with its letter ("L5")."""
    out: list[str] = []
    for item in group:
        if out and item.number is not None and len(out[-1]) == 1:
            out[-1] += str(item.number)
        else:
            out.append(item.key.replace(" ", "_"))
    return out


def _expanded(items: Sequence[Item], vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """The words of the category that the name begins with, and the other words, abbreviations written out."""
    names, groups = vocabulary.rt_names, _groups(items)
    named = [i for i, group in enumerate(groups) if len(group) > 1 or group[0].word not in _SIDES]
    category: list[str] = []
    out: list[str] = []
    for index, group in enumerate(groups):
        glued = "".join(item.word for item in group)
        if index == 0 and glued in names["first"] and len(groups) > 1:
            category = names["first"][glued].split()
        elif named and index == named[-1] and glued in names["last"] and len(named) > 1:
            out += names["last"][glued].split()
        elif glued in names["words"]:
            out += names["words"][glued].split()
        else:
            for word in _joined(group):
                out += names["words"].get(word, word).split()
    return category, out
