from medsegagent.cards.card import DatasetCard, ModelEntry, ModelPart, NnunetEntry, NnunetPart, Source
from medsegagent.cards.library import Library, load_card

__all__ = ["DatasetCard", "Library", "ModelEntry", "ModelPart", "NnunetEntry", "NnunetPart", "Source", "load_card"]
