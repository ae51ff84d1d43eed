"""Whether the instruction asks for something we do, and whether it tries to give orders of another kind."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.request import Intent
from medsegagent.vocabulary.text import fold

_ANY = r"\W+(?:\w+\W+)"  # then some words
_ALL_OF = r"(?:every|all|any|each)\W+(?:\w+\W+){0,3}?(?:datasets?|labels?|models?|cards?|ids?|values?)\b"
_ORDERS = (
    # drop what you were told
    rf"(?:ignor\w*|disregard\w*|forget|override|bypass|overlook|discard|skip){_ANY}{{0,5}}?"
    r"(?:instructions?|prompts?|rules?|guidelines?|conventions?|directives?|constraints?|system message|training"
    r"|everything (?:above|before|you)|what you were told|checks?|anweisungen|regeln|instrucciones|reglas|consignes"
    r"|regles)\b",
    r"system\s*prompt|jailbreak|developer mode|do anything now|you are now|from now on you|new instructions?",
    r"act as (?:an?|if)\b|pretend (?:to|you|that|the)\b|i order you",
    r"</?(?:system|assistant|user|instruction)|\[/?inst\]|^\s*(?:system|assistant|developer)\s*:|#+\s*(?:system|instruction)",
    # dictate the answer
    r"expected_datasets|(?:your|the) (?:correct|right|final|expected) answer (?:is|must|should)",
    r"the answer (?:is|must be|should be)\b",
    r"\{\s*[\"'][\w .-]+[\"']\s*:\s*[\[\d{]|(?:dataset|label|class|card)s?\s*(?:=|:)\s*[\[\d\"']",
    rf"(?:return|output|answer|reply|print){_ANY}{{0,3}}?\w+\W+\[\d",
    # secrets and code
    rf"(?:reveal|show|print|repeat|leak|tell me|display|dump){_ANY}{{0,3}}?"
    r"(?:prompt|instructions|system message|api key|password|secret|configuration)",
    r"rm -rf|drop table|os\.system|import os|<script|\$\(|eval\(",
    # the same in other languages
    r"(?:忽略|无视|忘记).{0,8}(?:指令|指示|规则|提示|要求)|系统提示",
    r"(?:指示|命令|ルール|プロンプト|指令).{0,6}(?:無視|忘れ)",
    r"(?:ignorier|vergiss|missacht)\w*.{0,30}(?:anweisung|regel|vorgabe)",
    r"(?:ignor|oubli)\w*.{0,30}(?:instructions|consignes|regles)",
    r"(?:ignora|olvida)\w*.{0,30}(?:instrucciones|reglas|indicaciones)",
    r"(?:ignor|desconsider|esquec)\w*.{0,30}(?:instrucoes|regras)",
    r"(?:ignora|dimentica)\w*.{0,30}(?:istruzioni|regole)",
    r"(?:negeer|vergeet)\w*.{0,30}(?:instructies|regels)",
    r"(?:ignoruj|pomin|zapomnij)\w*.{0,30}(?:instrukcj|polece|regul|zasad)",
    r"(?:игнорир|забуд)\w*.{0,30}(?:инструкц|правил)",
)
"""Texts that change the instructions or dictate an answer: they ask for nothing, whatever else they name."""
_SUSPICIOUS = (
    rf"(?:return|output|answer|respond|reply|print|say|select|choose|give|list|include|emit|use|pick)\w*"
    rf"{_ANY}{{0,4}}?{_ALL_OF}",
    rf"(?:return|output|answer|respond|reply|print|emit)\w*{_ANY}{{0,5}}?"
    r"(?:json|\{|exactly|verbatim|only the (?:word|number)|empty dict)",
    r"(?:返回|输出|选择)(?:所有|全部).{0,6}(?:数据集|标签|模型)",
    r"(?:gib|nenne) (?:alle|jede)\w* (?:daten|label|modelle)",
    r"(?:renvoie|retourne|affiche)\w* (?:tous|toutes) .{0,10}(?:jeux de donnees|datasets|labels)",
    r"(?:devuelve|muestra)\w* (?:todos|todas) .{0,10}(?:conjuntos|datasets|etiquetas)",
)
"""Harmless to rules, which read anatomy and nothing else ("all labels of the heart"); a language model might obey."""
_GIVES_ORDERS = re.compile("|".join(_ORDERS), re.MULTILINE)
_MAY_MISLEAD = re.compile("|".join((*_ORDERS, *_SUSPICIOUS)), re.MULTILINE)
_SCAN_LIMIT = 20_000


def gives_orders(instruction: str) -> bool:
    """Whether the text tries to change our instructions or to dictate the answer, instead of naming anatomy."""
    return _GIVES_ORDERS.search(_plain(instruction[:_SCAN_LIMIT])) is not None


def may_mislead(instruction: str) -> bool:
    """Whether the text is better not shown to a language model: it could be taken for orders."""
    return _MAY_MISLEAD.search(_plain(instruction[:_SCAN_LIMIT])) is not None


def _plain(text: str) -> str:
    folded, _ = fold(text)
    return folded.replace("aeh", "ah") if folded.isascii() else folded


def find_intent(items: Sequence[Item], loose: Sequence[Item], named: bool) -> Intent:
    """segment, measure, ask (a question about the world or about us), or none (small talk, other images).

    Args:
        items: The whole instruction.
        loose: The items that name no structure.
        named: Whether a structure is named that can be wanted.
    """
    imaging = any(is_imaging(item) for item in loose)
    wants = _wants(loose)
    measures = any(item.has("measure") for item in loose)
    asks = _asks(items, loose) or _yes_or_no(items)
    if any(item.has("object") for item in loose) and not imaging:
        return "none"
    commands = (wants and _commands(items)) or any(item.has("possible", "respond") for item in items)
    if asks and not (measures and not _about_the_world(loose)) and not commands and not _polite(items, wants):
        return "ask"
    if any(item.has("chat") for item in loose) or (
        any(item.has("smalltalk") for item in loose) and not imaging and not wants
    ):
        return "none"
    if wants or measures:
        return (
            "measure" if measures and not any(i.has("segment") and not i.has("measure") for i in loose) else "segment"
        )
    return "segment" if imaging or ((named or _is_terse(loose)) and not _is_sentence(loose)) else "none"


def _wants(loose: Sequence[Item]) -> bool:
    return any(item.has("segment") for item in loose)


def _asks(items: Sequence[Item], loose: Sequence[Item]) -> bool:
    return any(item.has("ask") for item in loose)


def _yes_or_no(items: Sequence[Item]) -> bool:
    """As in "Is the spleen enlarged?": a question to be answered, not an image to be segmented."""
    first = next((item.word for item in items if not item.mark), "")
    starts = ("is", "are", "does", "do", "did", "was", "were", "has", "have", "ist", "sind", "hat", "est", "sont")
    return first in starts and any(item.mark in ("?", "？") for item in items)


def _about_the_world(loose: Sequence[Item]) -> bool:
    return any(
        item.key in ("function of", "what does", "what do", "why", "definition", "explain", "normal", "is it normal")
        for item in loose
    )


def _polite(items: Sequence[Item], wants: bool) -> bool:
    """As in "Can you segment ...?" asks for work; "How do I segment ...?" asks about it."""
    first_ask = next((i for i, item in enumerate(items) if item.has("ask")), None)
    first_want = next((i for i, item in enumerate(items) if item.has("segment") and not item.has("ask")), None)
    return wants and first_ask is not None and first_want is not None and first_want < first_ask


def _commands(items: Sequence[Item]) -> bool:
    """As in "Which is the windpipe, segment it": after what is asked, a clause that begins with what to do."""
    for position, item in enumerate(items):
        if not item.has("segment") or item.has("ask", "neutral"):
            continue
        before = position
        while before and items[before - 1].has("filler", "but") and not items[before - 1].meanings:
            before -= 1
        if before and items[before - 1].mark:
            return True
    return False


def _is_sentence(loose: Sequence[Item]) -> bool:
    """Somebody tells something ("my heart is broken") instead of naming what is wanted."""
    verbs = (
        "is",
        "are",
        "am",
        "was",
        "were",
        "has",
        "have",
        "had",
        "does",
        "do",
        "ist",
        "sind",
        "est",
        "sont",
        "es",
        "son",
    )
    subjects = (
        "i",
        "my",
        "you",
        "your",
        "he",
        "she",
        "his",
        "her",
        "we",
        "they",
        "mein",
        "meine",
        "ich",
        "mon",
        "mi",
        "je",
        "yo",
    )
    words = {item.word for item in loose}
    return not words.isdisjoint(verbs) and not words.isdisjoint(subjects)


def _is_terse(loose: Sequence[Item]) -> bool:
    """Hardly anything but the names of structures: a request by telegram. A strange word makes it something else."""
    if any(not item.known and len(item.key) > 2 for item in loose):
        return False
    content = [
        item
        for item in loose
        if not item.mark
        and not item.has(
            "filler",
            "and",
            "or",
            "of",
            "in",
            "side",
            "with",
            "all",
            "its",
            "not",
            "but",
            "to",
            "neutral",
            "thing",
            "num",
            "ord",
        )
        and item.number is None
    ]
    return len(content) <= 2
