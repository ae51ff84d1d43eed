"""Which installed model finds the box that another one was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medsegagent.cards.card import Crop
from medsegagent.images.volume import Volume
from medsegagent.matching.selection import LabelExpression
from medsegagent.models.installed import InstalledModel
from medsegagent.models.store import Store
from medsegagent.planning.channel_assignment import assign_channels
from medsegagent.planning.choice import Choice
from medsegagent.planning.label_values import part_values
from medsegagent.planning.plan import Locator
from medsegagent.wording import some

_LONGEST_CHAIN = 3


@dataclass(frozen=True)
class Helpers:
    """The installed models that may run first, to find a box.

    Attributes:
        store: What is installed.
        volumes: The images.
        families: What the instruction says the images are.
        without: Model ids not to use.
        choice: What it excludes does not help; `only` is about who votes.
    """

    store: Store
    volumes: Sequence[Volume]
    families: tuple[str, ...]
    without: frozenset[str]
    choice: Choice

    def locator_of(self, model: InstalledModel, links: int = _LONGEST_CHAIN) -> tuple[Locator | None, tuple[str, ...]]:
        """The model that the crop names, else the coarsest other one of its card; and what the user should know.

        Args:
            model: The model that is to run.
            links: A locator may need one itself; at most so many are strung.
        """
        if (crop := model.crop) is None:
            return None, ()
        for helper in self._usable(crop) if links else ():
            inputs = assign_channels(self.store.cards[helper.card].channel_names, self.volumes, self.families)
            found = part_values(helper, LabelExpression(plus=crop.labels, values=()))
            if isinstance(inputs, str) or not found or helper.id == model.id:
                continue
            before, told = self.locator_of(helper, links - 1)
            channels = tuple(inputs[key] for key in helper.channels)
            return Locator(model=helper, inputs=channels, found=found, margin_mm=crop.margin_mm, locator=before), told
        return None, (
            f"{model.id} was trained on the box around {some(crop.labels)}, which no installed model finds: "
            f"it saw the whole image. `medsegagent models install {crop.model}` gets one that does.",
        )

    def _usable(self, crop: Crop) -> Iterator[InstalledModel]:
        cards = [card.name for card in self.store.cards.values() if any(e.id == crop.model for e in card.models)]
        models = [model for card in cards for model in self.store.of_card(card)]
        for model in sorted(models, key=lambda model: (model.id != crop.model, -math.prod(model.spacing_mm or (0,)))):
            if model.id not in self.without and not self.choice.excludes(model.id, model.card):
                yield model
