from medsegagent.language.imaging import with_modality
from medsegagent.language.parser import parse
from medsegagent.language.request import Modality, Question, Request, Side, Span, Target, Unresolved

__all__ = ["Modality", "Question", "Request", "Side", "Span", "Target", "Unresolved", "parse", "with_modality"]
