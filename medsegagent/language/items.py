"""The instruction as a row of items: known terms with all that they may mean, numbers, marks, unknown words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from medsegagent.language.identifiers import split_names
from medsegagent.language.languages import is_spoken, languages_of, words_of
from medsegagent.language.request import Span
from medsegagent.language.typos import corrections, split_compound
from medsegagent.vocabulary import Meaning, Vocabulary
from medsegagent.vocabulary.phrases import Phrase, longest_term
from medsegagent.vocabulary.text import Token, tokenize

BREAKS = frozenset(".;!?。；！？\n")
LIST_MARKS = frozenset(",/+&、")


@dataclass(frozen=True)
class Item:
    """One piece of the instruction.

    Attributes:
        key: Its normal form.
        start: Offset in the instruction.
        end: Offset after its last character.
        meanings: The concepts that it may mean.
        words: Function word classes -> value.
        side: A side word inside the term ("upper lobe of the left lung").
        number: Its value, if it is a number.
        mark: The punctuation mark, if it is one.
        known: Whether any meaning was found.
        word: Lower case, as typed.
        capital: Written in capitals, while the instruction is not.
        joins: A mark that ends no sentence: the point of an abbreviation or of a file name.
    """

    key: str
    start: int
    end: int
    meanings: tuple[Meaning, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    side: str = ""
    number: int | None = None
    mark: str = ""
    known: bool = True
    word: str = ""
    capital: bool = False
    joins: bool = False

    def has(self, *classes: str) -> bool:
        """Whether it belongs to one of these word classes."""
        return bool(self.words) and not self._classes.isdisjoint(classes)

    def value(self, name: str) -> str:
        """Its value in a word class; empty if it is not in it."""
        return next((value for cls, value in self.words if cls == name), "")

    @cached_property
    def _classes(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.words)

    @property
    def is_break(self) -> bool:
        """Whether a sentence ends here."""
        return self.mark in BREAKS and not self.joins


SHORTEST = 4


def is_strange(item: Item, vocabulary: Vocabulary) -> bool:
    """Whether a word is in no vocabulary, and no ordinary word either."""
    unknown = not item.known and not item.mark and len(item.key) >= SHORTEST
    ordinary = item.key in vocabulary.stem_set or item.key in vocabulary.everyday or item.word in vocabulary.everyday
    return unknown and not ordinary


def span_of(instruction: str, items: Sequence[Item]) -> Span:
    """The text from the first item to the last."""
    start, end = min(item.start for item in items), max(item.end for item in items)
    return Span(start=start, end=end, text=instruction[start:end])


def read_items(instruction: str, vocabulary: Vocabulary) -> list[Item]:
    """Tokens to items: the longest known term wins, misspelt words are corrected, compounds are taken apart."""
    tokens = _repaired(split_names(instruction, tokenize(instruction), vocabulary), vocabulary)
    spoken = languages_of(instruction, tokens, vocabulary)
    shouted = instruction.isupper()
    sides = {i: side for i, token in enumerate(tokens) if (side := _side(token, vocabulary, spoken))}
    items: list[Item] = []
    position = 0
    while position < len(tokens):
        phrase = _best_phrase(tokens, position, vocabulary, sides, spoken)
        item = _item(tokens, phrase, vocabulary, spoken, sides, shouted) if phrase else None
        if item is None or phrase is None:
            item = _single(tokens[position])
            position += 1
        else:
            position = phrase.last
        items.append(item)
    return _with_line_breaks(instruction, items)


def _best_phrase(
    tokens: list[Token], first: int, vocabulary: Vocabulary, sides: dict[int, str], spoken: frozenset[str]
) -> Phrase | None:
    heard = partial(is_spoken, spoken=spoken)
    plain = longest_term(tokens, first, vocabulary, heard=heard)
    if not sides or first in sides:
        return plain
    stepping = longest_term(tokens, first, vocabulary, sides, heard)
    if stepping and stepping.inside and (plain is None or stepping.last > plain.last):
        return stepping
    return plain


def _side(token: Token, vocabulary: Vocabulary, spoken: frozenset[str]) -> str:
    """The side that this word always means: of a word that also means something else only the sentence can tell."""
    words = words_of(vocabulary.meanings(token.stem), spoken)
    return words[0][1] if len(words) == 1 and words[0] in (("side", "left"), ("side", "right")) else ""


def _item(
    tokens: list[Token],
    phrase: Phrase,
    vocabulary: Vocabulary,
    spoken: frozenset[str],
    sides: dict[int, str],
    shouted: bool,
) -> Item | None:
    first, last = tokens[phrase.first], tokens[phrase.last - 1]
    words = words_of(phrase.meanings, spoken)
    capital = first.capital and not shouted
    own = vocabulary.languages_of(phrase.key)
    foreign = bool(own) and own.isdisjoint(spoken) and phrase.key in vocabulary.everyday  # Dutch "long" in English
    meanings = tuple(
        m
        for m in phrase.meanings
        if m.flag != "w"
        and not foreign
        and (m.flag not in "bo" or capital or not words)
        and _long_enough(m, phrase, capital)
    )
    if any(m.flag == "b" for m in meanings) and capital and not any(cls == "modality" for cls, _ in words):
        words = ()
    if not capital and len(phrase.key) < 3 and any(cls == "modality" for cls, _ in words) and len(words) > 1:
        words = tuple(pair for pair in words if pair[0] != "modality")
    if capital and phrase.key == "us":
        words = (("modality", "US"),)
    if not meanings and not words:
        return None
    inside = {sides[position] for position in phrase.inside}
    return Item(
        key=phrase.key, start=first.start, end=last.end, meanings=meanings, words=words,
        side=inside.pop() if len(inside) == 1 else "",
        number=int(phrase.key) if phrase.key.isdecimal() and len(phrase.key) < 4 else None,
        word=first.word, capital=capital,
    )  # fmt: skip


def _long_enough(meaning: Meaning, phrase: Phrase, capital: bool) -> bool:
    """One Latin letter is no abbreviation."""
    return meaning.flag != "b" or len(phrase.key) > 1 or not phrase.key.isascii()


def _single(token: Token) -> Item:
    if token.kind == "number":
        number = int(token.stem) if len(token.stem) < 4 else None
        return Item(token.stem, token.start, token.end, number=number, word=token.word)
    if token.kind == "mark":
        return Item(token.stem, token.start, token.end, mark=token.stem)
    return Item(token.stem, token.start, token.end, known=False, word=token.word, capital=token.capital)


def _with_line_breaks(instruction: str, items: list[Item]) -> list[Item]:
    out: list[Item] = []
    for index, item in enumerate(items):
        following = items[index + 1] if index + 1 < len(items) else None
        glued = following is not None and following.start == item.end and not following.mark
        if item.mark == "." and (glued or (out and len(out[-1].word) == 1 and out[-1].end == item.start)):
            item = replace(item, joins=True)
        if out and "\n" in instruction[out[-1].end : item.start]:
            out.append(Item("\n", out[-1].end, item.start, mark="\n"))
        out.append(item)
    return out


def _repaired(tokens: list[Token], vocabulary: Vocabulary) -> list[Token]:
    out: list[Token] = []
    likely = [_likeliest(token, vocabulary) for token in tokens]
    for index, token in enumerate(tokens):
        if token.kind != "word" or len(token.stem) < 4 or token.stem in vocabulary.stem_set:
            out.append(token)
        elif pieces := split_compound(token, vocabulary):
            out += pieces
        else:
            out.append(_best_correction(token, out[-2:], likely[index + 1 : index + 3], vocabulary))
    return out


def _likeliest(token: Token, vocabulary: Vocabulary) -> Token:
    """A misspelt word by itself, as a neighbour of another one: "urinery blader"."""
    if token.kind != "word" or len(token.stem) < 4 or token.stem in vocabulary.stem_set:
        return token
    likely = corrections(token.stem, vocabulary)
    return replace(token, stem=likely[0]) if likely else token


def _best_correction(token: Token, before: list[Token], after: list[Token], vocabulary: Vocabulary) -> Token:
    """Of the words that it may have been, the one that makes the longest term with its neighbours."""
    best, longest = token, 0
    for candidate in corrections(token.stem, vocabulary):
        tried = replace(token, stem=candidate)
        length = 0
        for start in range(len(before) + 1):
            run = [*before[start:], tried, *after]
            phrase = longest_term(run, 0, vocabulary)
            if phrase and phrase.last > len(before) - start:
                length = max(length, phrase.last - phrase.first)
        if length > longest:
            best, longest = tried, length
    return best
