"""How right a selection is: pure functions over `{card: values}`.

Hit rate, all-found and any-found are the measures of MedSegAgent (doi 10.1109/JBHI.2026.3677444) with one change: an
empty answer to an empty expectation is right, where the published code scores it 0. The `legacy` figures keep that 0,
so that runs can be compared with published ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

Labels = Mapping[str, Collection[int]]
Pair = tuple[str, int]


@dataclass(frozen=True)
class RowScore:
    """How right one answer is. `expected` and `answered` are (card, value) pairs."""

    hit_rate: float
    """Cards answered with exactly the expected values, over all cards expected or answered."""
    expected: frozenset[Pair]
    answered: frozenset[Pair]
    failed: bool = False
    """The query raised an error: wrong, whatever was expected."""

    @property
    def all_found(self) -> bool:
        """Every card right, and no other card."""
        return self.hit_rate == 1

    @property
    def any_found(self) -> bool:
        """At least one card right."""
        return self.hit_rate > 0

    @property
    def legacy_hit_rate(self) -> float:
        """The hit rate with 0 for nothing answered where nothing is expected."""
        return self.hit_rate if self.expected or self.answered else 0.0


@dataclass(frozen=True)
class Rates:
    """Means over queries, in [0, 1]."""

    hit_rate: float
    all_found: float
    any_found: float


@dataclass(frozen=True)
class Agreement:
    """Precision, recall and their harmonic mean on (card, value) pairs, in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Refusals:
    """Queries that nothing answers (`negatives`), and answers that are empty although something is expected."""

    negatives: int
    correct: int
    wrong: int
    rate: float | None
    """`correct / negatives`; None without negatives."""


@dataclass(frozen=True)
class Accuracy:
    """The figures of one run that depend on the answers alone."""

    queries: int
    failed: int
    rates: Rates
    legacy: Rates
    micro: Agreement
    """Over all pairs of all queries."""
    macro: Agreement
    """Each pair that is expected or answered anywhere is a class; the classes' plain mean."""
    refusals: Refusals
    by_kind: Mapping[str, KindRates]


@dataclass(frozen=True)
class KindRates:
    """The rates of one kind of query."""

    queries: int
    rates: Rates


def score(expected: Labels, answered: Labels | None) -> RowScore:
    """Compare one answer with its expectation; values are compared as sets.

    Args:
        expected: Card -> values; empty if nothing answers the query.
        answered: Card -> values; None if the query failed. A card without values counts as not answered.
    """
    wanted = _pairs(expected)
    if answered is None:
        return RowScore(0.0, wanted, frozenset(), failed=True)
    got = _pairs(answered)
    cards = {card for card, _ in wanted | got}
    off = {card for card, _ in wanted ^ got}
    return RowScore((len(cards) - len(off)) / len(cards) if cards else 1.0, wanted, got)


def accuracy(scores: Sequence[tuple[str, RowScore]]) -> Accuracy:
    """Sum up the scores of a run.

    Args:
        scores: Kind and score of every query; their order does not matter. At least one.
    """
    rows = [row for _, row in scores]
    kinds: dict[str, list[RowScore]] = {}
    for kind, row in scores:
        kinds.setdefault(kind, []).append(row)
    return Accuracy(
        queries=len(rows),
        failed=sum(row.failed for row in rows),
        rates=_rates([row.hit_rate for row in rows]),
        legacy=_rates([row.legacy_hit_rate for row in rows]),
        micro=_micro(rows),
        macro=_macro(rows),
        refusals=_refusals(rows),
        by_kind={k: KindRates(len(g), _rates([row.hit_rate for row in g])) for k, g in sorted(kinds.items())},
    )


def percentile(values: Collection[float], percent: float) -> float:
    """Nearest-rank percentile, so always one of the values (Hyndman and Fan 1996, definition 1).

    Args:
        values: At least one.
        percent: In (0, 100].
    """
    return sorted(values)[max(ceil(percent / 100 * len(values)), 1) - 1]


def difference(expected: Labels, answered: Labels) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return what is missing from an answer and what it has too much, each as card -> sorted values."""
    wanted, got = _pairs(expected), _pairs(answered)
    return _by_card(wanted - got), _by_card(got - wanted)


def _pairs(labels: Labels) -> frozenset[Pair]:
    return frozenset((card, value) for card, values in labels.items() for value in values)


def _by_card(pairs: Iterable[Pair]) -> dict[str, list[int]]:
    cards: dict[str, list[int]] = {}
    for card, value in sorted(pairs):
        cards.setdefault(card, []).append(value)
    return cards


def _rates(hit_rates: Sequence[float]) -> Rates:
    n = len(hit_rates)
    return Rates(
        hit_rate=sum(sorted(hit_rates)) / n,  # sorted: a float sum that does not depend on the rows' order
        all_found=sum(rate == 1 for rate in hit_rates) / n,
        any_found=sum(rate > 0 for rate in hit_rates) / n,
    )


def _agreement(hits: int, expected: int, answered: int) -> Agreement:
    if expected == answered == 0:
        return Agreement(1.0, 1.0, 1.0)
    precision = hits / answered if answered else 0.0
    recall = hits / expected if expected else 0.0
    return Agreement(precision, recall, 2 * hits / (expected + answered))


def _micro(rows: Sequence[RowScore]) -> Agreement:
    hits = sum(len(row.expected & row.answered) for row in rows)
    return _agreement(hits, sum(len(row.expected) for row in rows), sum(len(row.answered) for row in rows))


def _macro(rows: Sequence[RowScore]) -> Agreement:
    expected = Counter(pair for row in rows for pair in row.expected)
    answered = Counter(pair for row in rows for pair in row.answered)
    hits = Counter(pair for row in rows for pair in row.expected & row.answered)
    classes = [_agreement(hits[pair], expected[pair], answered[pair]) for pair in sorted(expected | answered)]
    if not classes:
        return Agreement(1.0, 1.0, 1.0)
    n = len(classes)
    return Agreement(
        sum(item.precision for item in classes) / n, sum(item.recall for item in classes) / n,
        sum(item.f1 for item in classes) / n,
    )  # fmt: skip


def _refusals(rows: Sequence[RowScore]) -> Refusals:
    negatives = [row for row in rows if not row.expected]
    correct = sum(row.all_found for row in negatives)
    wrong = sum(not row.answered and not row.failed for row in rows if row.expected)
    return Refusals(len(negatives), correct, wrong, correct / len(negatives) if negatives else None)
