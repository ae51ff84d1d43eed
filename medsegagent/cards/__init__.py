from medsegagent.cards.card import DatasetCard, ModelEntry, ModelPart, Source
from medsegagent.cards.library import Library, load_card

__all__ = ["DatasetCard", "Library", "ModelEntry", "ModelPart", "Source", "load_card"]
