"""The parsed instruction: what is wanted, in which modality, and the words that say so."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Side(StrEnum):
    """The patient's side."""

    LEFT = "left"
    RIGHT = "right"


class Span(_Frozen):
    """A piece of the instruction, `instruction[start:end] == text`."""

    start: int
    end: int
    text: str


class Modality(_Frozen):
    """What the instruction says about the imaging.

    `families` are the acceptable families ("CT", "MR", "PET", or one that no card has: "US", "XR", ...); empty
    means that none is named. `combined` asks for all families in one study (PET/CT), otherwise any will do.
    `subtypes` ("contrast", "non-contrast", "T1", "T1ce", "T2", "FLAIR", "DWI", "ADC", "cine", ...) must all be
    accepted, or any one of them if `any_subtype` ("T1 or T2").
    """

    families: tuple[str, ...] = ()
    combined: bool = False
    subtypes: tuple[str, ...] = ()
    any_subtype: bool = False
    spans: tuple[Span, ...] = ()


class Target(_Frozen):
    """One concept (or a range or group of them) with its laterality, as requested.

    Attributes:
        id: Safe as a file name and unique in the request, e.g. `kidney`, `kidney_left`, `vertebra_L2-L4`.
        name: For people: "left kidney".
        concepts: Vocabulary ids; more than one for a range ("ribs 3-5") or an ad-hoc group. Their union is meant.
        side: None is "unsided" for a midline structure and "both" for a paired one.
        lesions: Concept ids of lesions asked for together with the organ as one combined target
            ("liver and its tumours"); only a card that labels both answers.
        spans: The words behind it.
    """

    id: str
    name: str
    concepts: tuple[str, ...]
    side: Side | None = None
    lesions: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()


class Question(_Frozen):
    """Two readings that give different results; the user decides."""

    text: str
    readings: tuple[str, ...]
    """Each is an instruction that would be clear."""


class Unresolved(_Frozen):
    """Words that look like a target and are in no vocabulary, with the nearest known terms."""

    span: Span
    suggestions: tuple[str, ...] = ()


Intent = Literal["segment", "measure", "ask", "none"]


class Request(_Frozen):
    """The parsed instruction. `refusal` says why there is nothing to do, if there is nothing to do."""

    instruction: str
    intent: Intent = "segment"
    targets: tuple[Target, ...] = ()
    modality: Modality = Modality()
    exclusions: tuple[Target, ...] = ()
    """Structures that the user does not want ("without the tumour")."""
    context: tuple[str, ...] = ()
    """Concept ids or body regions that only narrow the meaning ("in this head CT")."""
    unresolved: tuple[Unresolved, ...] = ()
    """What looks like a target and is not understood; nothing broader is taken for it."""
    unread: tuple[Span, ...] = ()
    """Further words that nothing was made of."""
    question: Question | None = None
    refusal: str | None = None
