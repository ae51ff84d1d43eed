"""What a language model may answer. Every field is required and nothing else is allowed, as strict schemas demand."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Named(Answer):
    """One structure: the instruction's own words for it, and its plain English name."""

    words: str
    name: str


class Reading(Answer):
    """What the instruction asks for."""

    targets: list[Named]
    without: list[Named]
    modality: str


class Cards(Answer):
    """Datasets that stay."""

    cards: list[str]


class CardLabels(Answer):
    """Label names of one dataset."""

    card: str
    labels: list[str]


class Labels(Answer):
    """Labels per dataset."""

    cards: list[CardLabels]
