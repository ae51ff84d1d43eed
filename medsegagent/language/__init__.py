from medsegagent.language.imaging import with_modality
from medsegagent.language.parser import check_instruction, check_text, parse
from medsegagent.language.request import Modality, Question, Request, Side, Span, Target, Unresolved

__all__ = [
    "Modality",
    "Question",
    "Request",
    "Side",
    "Span",
    "Target",
    "Unresolved",
    "check_instruction",
    "check_text",
    "parse",
    "with_modality",
]
