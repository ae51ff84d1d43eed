"""Which promptable model is wanted, and whether a run's masks are refined: plain values, cheap to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from medsegagent.errors import UsageError
from medsegagent.prompting.policies.vision import VisionEndpoint

RefineKind = Literal["off", "disagreement", "llm"]
KINDS: tuple[RefineKind, ...] = get_args(RefineKind)
BUDGET = 5
"""Turns, as published."""


@dataclass(frozen=True)
class Wanted:
    """Which promptable model, and how.

    Attributes:
        name: One of `medsegagent.prompting.catalogue.ADAPTERS`.
        folder: Its weights; None: what `models install` has put there, where it can.
        url: Of its server.
        device: As `--device`.
        plane: Of models that work slice by slice.
        licence_accepted: The licence of its weights is accepted.
        send_images: Images may be sent to another machine.
    """

    name: str = "walker"
    folder: Path | None = None
    url: str = ""
    device: str = "auto"
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    licence_accepted: bool = False
    send_images: bool = False


@dataclass(frozen=True)
class Refinement:
    """How masks are refined within a run.

    Attributes:
        kind: "off"; "disagreement": where the models differ; "llm": a vision model chooses the prompts.
        wanted: Which promptable model.
        budget: Most turns per structure.
        endpoint: The vision model, for "llm".

    Raises:
        UsageError: If there is no such kind, or "llm" has no endpoint.
    """

    kind: RefineKind = "off"
    wanted: Wanted = field(default_factory=Wanted)
    budget: int = BUDGET
    endpoint: VisionEndpoint | None = None

    def __post_init__(self) -> None:
        """Check what can be checked at once."""
        if self.kind not in KINDS:
            raise UsageError(f"there is no refinement {self.kind!r}", f"Known: {', '.join(KINDS)}.", "--refine")
        if self.kind == "llm" and self.endpoint is None:
            raise UsageError("llm needs a vision model", "Give --config, or set OAI_CONFIG_LIST.", "--refine")

    def record(self) -> dict[str, str | int | None]:
        """What decides the result, as plain values; no key and no path of this machine."""
        if self.kind == "off":
            return {"kind": self.kind}
        return {
            "kind": self.kind,
            "with": self.wanted.name,
            "weights": self.wanted.folder.name if self.wanted.folder else None,
            "plane": self.wanted.plane,
            "budget": self.budget,
            "vision_model": self.endpoint.model if self.endpoint else None,
        }
