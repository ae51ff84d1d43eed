from medsegagent.vocabulary.closures import Sided
from medsegagent.vocabulary.concept import Concept
from medsegagent.vocabulary.vocabulary import Meaning, Vocabulary, load

__all__ = ["Concept", "Meaning", "Sided", "Vocabulary", "load"]
