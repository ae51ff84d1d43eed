"""Properties that any reader of instructions must have, as generators of cases: what is asked, and what must come out.

Nothing here knows how the parser works: names are those of card labels and of the vocabulary, and what a sentence must
select is put together from what its names select alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import medsegagent
from medsegagent import Library

Labels = Mapping[str, frozenset[int]]


@dataclass(frozen=True)
class Case:
    """One sentence; `holds` says of what it selects whether that is right."""

    text: str
    holds: Callable[[Labels], bool]


class World:
    """A library with its names, and what each name selects alone."""

    def __init__(self, library: Library, seed: int) -> None:
        self.library = library
        self.draw = random.Random(seed)
        self._known: dict[str, Labels] = {}
        self.concepts = list(map(library.vocabulary.concept, sorted({i.id for i in library.cards_with})))
        plain = [c for c in self.concepts if c.kind not in ("lesion", "region") and "." not in c.id and not c.members]
        self.names = [c.name for c in plain if self.selects(c.name)]
        self.paired = [c.name for c in plain if c.paired and self.selects(f"left {c.name}")]
        self.single = [c.name for c in plain if not c.paired and self.selects(c.name)]

    def selects(self, text: str) -> Labels:
        """What a sentence selects, remembered."""
        if text not in self._known:
            self._known[text] = self.asked(text)
        return self._known[text]

    def asked(self, text: str) -> Labels:
        """What a sentence selects."""
        chosen = medsegagent.match(text, self.library).labels
        return {card: frozenset(values) for card, values in chosen.items()}

    def union(self, *texts: str) -> Labels:
        """What several sentences select together."""
        out: dict[str, frozenset[int]] = {}
        for text in texts:
            for card, values in self.selects(text).items():
                out[card] = out.get(card, frozenset()) | values
        return out

    def thing(self) -> tuple[str, str]:
        """A name and the side that is asked for, "" for none."""
        if self.draw.random() < 0.6:
            return self.draw.choice(self.paired), self.draw.choice(("left", "right", "left", "right", ""))
        return self.draw.choice(self.single), ""

    def apart(self, *names: str) -> bool:
        """Whether none is a part of another, so that asking for both is more than asking for one."""
        ids = [c.id for name in names for c in self.concepts if c.name == name]
        contains = self.library.vocabulary.contains
        return len(set(ids)) == len(names) and not any(contains(a, b) for a in ids for b in ids if a != b)


Family = Callable[[World], Iterator[Case]]

LISTS = (
    "{a}, {b}", "{a} and {b}", "{a} & {b}", "{a} + {b}", "{a}; {b}", "{a}\n{b}", "- {a}\n- {b}", "1. {a}\n2. {b}",
    "{a} as well as {b}", "{a} plus {b}", "{a} along with {b}", "{a} / {b}", "segment {a}, {b}",
    "Please segment the {a} and the {b} in this scan.", "{a} and also {b}",
)  # fmt: skip
TRIPLES = (
    "{a}, {b}, {c}", "{a}, {b} and {c}", "{a}, {b}, and {c}", "{a} and {b} and {c}", "{a}; {b}; {c}", "{a}\n{b}\n{c}",
    "I need {a}, {b} and {c}.", "{a} + {b} + {c}", "({a}, {b}, {c})", "structures: {a}, {b}, {c}",
)  # fmt: skip
SIDED = (
    "{s} {n}", "{n} {s}", "{n} ({s})", "{n}, {s}", "{S} {n}", "{n} on the {s}", "{s}-sided {n}", "{n} {l}", "{l} {n}",
    "{n} ({L})", "the {s} {n}",
)  # fmt: skip
POSITIONS = ("{s} {n}", "{n} {s}", "{n} ({s})", "{n} {L}", "{L} {n}", "{n} ({L})", "{S} {n}")


def written(name: str, side: str, style: str) -> str:
    if not side:
        return name
    short = {"left": "lt", "right": "rt"}[side]
    return style.format(n=name, s=side, S=side.capitalize(), l=short, L=side[0].upper())


def unions(world: World) -> Iterator[Case]:
    """Two or three things in one sentence select what each selects; all sides of one list stand in one place."""
    while True:
        count = world.draw.choice((2, 2, 3))
        things = [world.thing() for _ in range(count)]
        sides = {side for name, side in things if name in world.paired}
        if not world.apart(*(name for name, _ in things)) or (count == 2 and "" in sides and len(sides) > 1):
            continue  # "left kidney and lung" may well be the left lung
        style = world.draw.choice(POSITIONS)
        plain = [f"{side} {name}".strip() for name, side in things]
        said = [written(name, side, style) for name, side in things]
        form = world.draw.choice(LISTS if count == 2 else TRIPLES)
        text = form.format(**dict(zip("abc", said, strict=False)))
        expected = world.union(*plain)
        yield Case(text, lambda got, expected=expected: got == expected)


def mixed_sides(world: World) -> Iterator[Case]:
    """A side belongs to the thing beside it, wherever the others of the list have theirs."""
    while True:
        (a, b) = world.draw.sample(world.paired, 2)
        if not world.apart(a, b):
            continue
        one, other = world.draw.choice((("left", "right"), ("right", "left"), ("left", "left"), ("right", "right")))
        said = [written(n, s, world.draw.choice(SIDED[:3])) for n, s in ((a, one), (b, other))]
        text = world.draw.choice(("{a}, {b}", "{a} and {b}", "{a}; {b}")).format(a=said[0], b=said[1])
        expected = world.union(f"{one} {a}", f"{other} {b}")
        yield Case(text, lambda got, expected=expected: got == expected)


CARRIERS = (
    "segment {x}", "Segment the {x}.", "Please segment the {x}", "please outline {x}", "Could you segment the {x}?",
    "can you contour the {x} for me", "I need the {x}", "I want a mask of the {x}", "give me the {x}",
    "show me the {x}", "delineate {x} please", "{x} please", "{x}, please.", "{x}", "{x}!", "the {x}",
    "need {x} asap", "mask: {x}", "Where is the {x}? Respond with a segmentation mask.",
    "Is it possible to segment the {x}?", "Is there a model for the {x}?",
    "Would it be possible to get the {x} segmented?", "Contour of the {x}", "segmentation of the {x}",
    "Automatic segmentation of {x}", "volume of the {x}", "How big is the {x}?", "What is the volume of the {x}?",
    "Measure the {x}.", "Hi, I would like to have the {x} segmented, thanks!", "ROI: {x}", "OAR: {x}", "only the {x}",
    "just the {x}, nothing else", "Extract the {x} from this image", "Highlight the {x} in the attached scan",
    "Label the {x}", "Find the {x}", "Locate the {x} and segment it", "I'm looking for the {x}",
    "We are interested in the {x}", "the {x} should be segmented", "the {x} has to be outlined",
    "My task is to annotate the {x}.", "let's do the {x}", "Draw the {x}", "target structure: {x}", "structure = {x}",
    "Dear colleague, kindly contour the {x}. Best regards", "{x} only", "all voxels of the {x}",
    "72-year-old man. Segment the {x}.", "45F, follow-up. {x} please", "History: fall from ladder. Outline the {x}.",
    "as accurately as possible: {x}", "use all models for the {x}", "return the {x} as a mask",
    "output the {x} mask as NIfTI", "for my thesis I need the {x}", "{x} (whole)", "\"{x}\"",
)  # fmt: skip


def carriers(world: World) -> Iterator[Case]:
    """A sentence around a name selects what the name selects."""
    while True:
        name, side = world.thing()
        plain = f"{side} {name}".strip()
        text = world.draw.choice(CARRIERS).format(x=plain)
        expected = world.selects(plain)
        yield Case(text, lambda got, expected=expected: got == expected)


BUT = (
    "{a} without {b}", "{a} but not {b}", "{a} except {b}", "{a}, not {b}", "{a} excluding {b}",
    "{a}, don't touch the {b}", "{a}, leave the {b} alone", "{a}; ignore the {b}", "everything of {a} but {b}",
    "only {a}, no {b}", "{a} - leave out the {b}",
)  # fmt: skip


def inverses(world: World) -> Iterator[Case]:
    """What is left out is left out, and takes nothing else with it."""
    while True:
        (a, left), (b, right) = world.thing(), world.thing()
        if not world.apart(a, b):
            continue
        kept, dropped = f"{left} {a}".strip(), f"{right} {b}".strip()
        text = world.draw.choice(BUT).format(a=f"the {kept}", b=dropped)
        expected = world.selects(kept)
        yield Case(text, lambda got, expected=expected: got == expected)


def members_left_out(world: World) -> Iterator[Case]:
    """All of a group but one member is the group's values without the member's."""
    vocabulary = world.library.vocabulary
    groups = [c for c in world.concepts if c.members and c.kind != "lesion" and "." not in c.id]
    while True:
        group = world.draw.choice(groups)
        member = vocabulary.concept(world.draw.choice(group.members).partition(":")[0])
        whole, part = world.selects(group.name), world.selects(member.name)
        if not whole or not part or member.kind == "lesion":
            continue
        text = world.draw.choice(("{a} except {b}", "{a} without {b}", "all {a} but {b}")).format(
            a=group.name, b=member.name
        )

        def holds(got: Labels, whole: Labels = whole, part: Labels = part) -> bool:
            return (
                all(
                    got.get(card, frozenset()) <= values - part.get(card, frozenset()) for card, values in whole.items()
                )
                and got.keys() <= whole.keys()
            )

        yield Case(text, holds)


def orders(world: World) -> Iterator[Case]:
    """The order of a list changes nothing."""
    while True:
        things = [f"{side} {name}".strip() for name, side in (world.thing() for _ in range(3))]
        form = world.draw.choice(TRIPLES[:5])
        first = world.asked(form.format(**dict(zip("abc", things, strict=True))))
        world.draw.shuffle(things)
        yield Case(form.format(**dict(zip("abc", things, strict=True))), lambda got, first=first: got == first)


LOOKS = ("small", "mildly enlarged", "calcified", "heterogeneous", "residual", "unremarkable", "flurbish", "dilated")
MADE_UP = ("frobnicator", "zorblax", "quuxoid", "blarfum", "Luschka", "Vandelay", "snorkelus")
STRANGE = (
    "{m} lobe of the {x}", "{m} of the {x}", "{x} {m}", "{m} duct", "{m} in the {x}", "the {m} near the {x}",
    "{m} bone", "{m} nerve", "{m}", "segment the {m} of the {x}", "{m} process of the {x}", "left {m}",
)  # fmt: skip


def looks(world: World) -> Iterator[Case]:
    """How a thing looks changes nothing."""
    while True:
        name, side = world.thing()
        look = world.draw.choice(LOOKS)
        text = world.draw.choice(("{s} {l} {n}", "{l} {s} {n}", "segment the {l} {s} {n}")).format(
            s=side, l=look, n=name
        )
        expected = world.selects(f"{side} {name}".strip())
        yield Case(re.sub(" +", " ", text).strip(), lambda got, expected=expected: got == expected)


def strangers(world: World) -> Iterator[Case]:
    """What nobody knows is never answered with something else."""
    while True:
        name, side = world.thing()
        made_up = world.draw.choice(MADE_UP)
        text = world.draw.choice(STRANGE).format(m=made_up, x=f"{side} {name}".strip())
        yield Case(text, lambda got: not got)


def strangers_listed(world: World) -> Iterator[Case]:
    """What nobody knows takes nothing away from the others of its list."""
    while True:
        name, side = world.thing()
        plain = f"{side} {name}".strip()
        text = world.draw.choice(("{x}, {m}", "{m}, {x}", "{x} and {m}", "segment {x}, {m}")).format(
            x=plain, m=world.draw.choice(MADE_UP)
        )
        expected = world.selects(plain)
        yield Case(text, lambda got, expected=expected: got == expected)


def styles(name: str) -> Iterator[str]:
    words = name.split(" ")
    yield "_".join(words)
    yield "".join(word[:1].upper() + word[1:] for word in words)
    yield words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])
    yield name.upper()
    yield "_".join(word[:1].upper() + word[1:] for word in words)
    yield "-".join(words)
    yield f"{'_'.join(words)}.nii.gz"


def names(world: World) -> Iterator[Case]:
    """A name is the same in every style of writing, with its side before, behind, or as a letter."""
    while True:
        name, side = world.thing()
        plain = f"{side} {name}".strip()
        letter = side[:1].upper()
        forms = [f"{side} {name}", f"{name} {side}", f"{name} {letter}"] if side else [name]
        style = world.draw.choice(list(styles(world.draw.choice(forms))))
        expected = world.selects(plain)
        yield Case(style, lambda got, expected=expected: got == expected)


def refusals(world: World) -> Iterator[Case]:
    """What no card has stays refused, whatever is said around it."""
    vocabulary = world.library.vocabulary
    known = [c for c in map(vocabulary.concept, vocabulary.ids) if c.kind != "region" and "." not in c.id]
    absent = [c.name for c in known if not world.selects(c.name) and c.kind != "part"]
    while True:
        name = world.draw.choice(absent)
        yield Case(world.draw.choice(CARRIERS).format(x=name), lambda got: not got)


def synonyms(world: World) -> Iterator[Case]:
    """A term selects what the preferred term selects."""
    plain = [c for c in world.concepts if c.kind not in ("lesion", "region") and "." not in c.id and c.synonyms]
    vocabulary = world.library.vocabulary
    from medsegagent.vocabulary.text import term_key

    while True:
        concept = world.draw.choice(plain)
        term = world.draw.choice(concept.synonyms)
        meanings = vocabulary.meanings(term_key(term))
        if [m.id for m in meanings if m.flag != "w"] != [concept.id] or meanings[0].side or len(term) < 4:
            continue
        expected = world.selects(concept.name)
        yield Case(term, lambda got, expected=expected: got == expected)


FAMILIES: dict[str, Family] = {
    family.__name__: family
    for family in (
        unions, mixed_sides, carriers, inverses, members_left_out, orders, looks, strangers, strangers_listed, names,
        refusals, synonyms,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """How often a property held, and where it did not."""

    share: float
    failed: tuple[tuple[str, Labels], ...]


def rate(family: Family, world: World, count: int) -> Rate:
    """Draw `count` cases and see how many hold."""
    failed = []
    for case in islice(family(world), count):
        got = world.asked(case.text)
        if not case.holds(got):
            failed.append((case.text, got))
    return Rate(1 - len(failed) / count, tuple(failed))
