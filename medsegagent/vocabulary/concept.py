"""What the vocabulary says about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "organ", "bone", "vessel", "muscle", "gland", "nerve", "joint", "cavity", "tissue", "group", "lesion", "part",
    "device", "region",
]  # fmt: skip
KINDS: frozenset[str] = frozenset(get_args(Kind))

BODY_REGIONS = frozenset(
    [
        "brain",
        "head_and_neck",
        "chest",
        "heart",
        "abdomen",
        "pelvis",
        "spine",
        "limbs",
        "skeleton",
        "whole_body",
        "none",
    ]
)


@dataclass(frozen=True, slots=True)
class Concept:
    """One anatomical or pathological thing.

    Attributes:
        id: `liver`; a lesion at a site is `tumor.liver`, a part of an organ without an entry of its own `wall.bladder`.
        name: Preferred term, for people.
        kind: What it is.
        region: Body region, one of `BODY_REGIONS`.
        paired: There is a left and a right one.
        side: The side that a one-sided structure is on ("left" for the spleen), empty for the midline.
        part_of: Wholes that this is a part of; a part never stands in for its whole.
        members: Concepts whose union is this one (lobes of a lung, the ribs); `id:left` names one side of a pair.
        needs: Members that a card must have for its members to stand for the group: at least one of each tuple.
        set_mates: Further concepts that belong to the group in a card that is dedicated to it.
        is_a: More general lesions.
        same_label: Lesions whose label answers for this one where a card has none of its own.
        default_site: Where a lesion family is if nothing says where.
        number: Ordinal in its group (rib 4).
        code: SNOMED CT.
        generic: Its noun may stand for something named elsewhere ("the bone"), or end another name ("frontal bone").
        sex: "male" or "female" where only they have it.
        exam_of: Body regions that an image named after it is taken to see ("skull CT": the brain).
        volume: A tumour volume as radiotherapy plans name them, at whatever place.
        synonyms: Other terms, in all languages, as written in the data files.
    """

    id: str
    name: str
    kind: Kind = "organ"
    region: str = "none"
    paired: bool = False
    side: str = ""
    part_of: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()
    set_mates: tuple[str, ...] = ()
    is_a: tuple[str, ...] = ()
    same_label: tuple[str, ...] = ()
    default_site: str = ""
    number: int | None = None
    code: str = ""
    synonyms: tuple[str, ...] = ()
    generic: bool = False
    sex: str = ""
    exam_of: tuple[str, ...] = ()
    volume: bool = False
