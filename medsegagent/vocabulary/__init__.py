from medsegagent.vocabulary.concept import Concept
from medsegagent.vocabulary.vocabulary import Meaning, Sided, Vocabulary, load

__all__ = ["Concept", "Meaning", "Sided", "Vocabulary", "load"]
