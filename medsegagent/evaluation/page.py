"""One evaluation as a self-contained HTML page: figures, a breakdown by kind, and every wrong answer explained."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from medsegagent.cards.library import Library
from medsegagent.evaluation.metrics import difference
from medsegagent.evaluation.results import Evaluation, Scored, summary_lines, verdict

Names = Mapping[tuple[str, int], str]
"""(card, value) -> the name of the card's narrowest label with that value."""

_WRONG = ("missing", "too much", "error")
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6b7b;--line:#d9e0e7;--back:#fff;--tile:#f4f7fa;--good:#1b7f4d;
--bad:#b3261e;--warn:#8a5a00;--bar:#2f6fb2}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa9b8;--line:#33404d;--back:#12181f;--tile:#1b242e;
--good:#5fd39a;--bad:#ff8a80;--warn:#ffc663;--bar:#6aa9e9}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:1080px;margin:2rem auto;
padding:0 1.2rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}.soft{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7rem;margin:1.2rem 0}
.tile{background:var(--tile);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}
.tile b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);
vertical-align:top}th{font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{background:var(--line);border-radius:4px;height:.7rem;min-width:120px;margin-top:.4rem}
.bar i{display:block;height:100%;border-radius:4px;background:var(--bar)}
.case{border:1px solid var(--line);border-left:4px solid var(--bad);border-radius:6px;padding:.6rem .9rem;
margin:.7rem 0}
.case.part{border-left-color:var(--warn)}.case p{margin:.2rem 0}.query{font-weight:600;white-space:pre-wrap}
.case dl{display:grid;grid-template-columns:6.5rem 1fr;gap:.1rem .6rem;margin:.4rem 0}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}.good{color:var(--good)}.bad{color:var(--bad)}
pre{background:var(--tile);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem;overflow-x:auto}
summary{cursor:pointer;font-weight:600}td.q{overflow-wrap:anywhere;white-space:pre-wrap}
"""


def html_page(found: Evaluation, library: Library) -> str:
    """Return the page; it needs no other file and no network, and all text from outside is escaped.

    Args:
        found: What to show.
        library: The cards of the run, for the names of the labels.
    """
    names = _names(library)
    failures = found.failures
    cases = "".join(_case(item, names) for item in failures) or "<p class=good>None: every answer is right.</p>"
    title = f"Model selection: {found.bench.file.name}"
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>{_origin(found)}{_tiles(found)}"
        f"<h2>By kind of query</h2>{_kinds(found)}"
        f"<h2>All figures</h2><pre>{escape(chr(10).join(summary_lines(found)))}</pre>"
        f"<h2>Wrong answers ({len(failures)})</h2>{cases}"
        f"<h2>Every query</h2><details><summary>Show all {len(found.rows)}</summary>{_all(found)}</details>"
        "</body></html>\n"
    )


def _names(library: Library) -> Names:
    names: dict[tuple[str, int], str] = {}
    for card in library:
        for name, values in sorted(card.labels.items(), key=lambda item: -len(item[1])):
            names |= {(card.name, value): name for value in values}  # narrower labels overwrite wider ones
    return names


def _origin(found: Evaluation) -> str:
    if found.header is None:
        return "<p class=soft>Answers read from a result file.</p>"
    head = found.header
    text = (
        f"Pattern {head.pattern}, model {head.model}; code {head.code_version}; "
        f"bench {head.bench_sha256[:12]}, library {head.library_sha256[:12]}"
    )
    return f"<p class=soft>{escape(text)}</p>"


def _tiles(found: Evaluation) -> str:
    figures, refusals = found.accuracy, found.accuracy.refusals
    tiles = [
        (
            "All found",
            _percent(figures.rates.all_found),
            f"{figures.queries - len(found.failures)} of {figures.queries}",
        ),
        ("Dataset hit rate", _percent(figures.rates.hit_rate), f"legacy {_percent(figures.legacy.hit_rate)}"),
        ("Any found", _percent(figures.rates.any_found), f"legacy {_percent(figures.legacy.any_found)}"),
        ("Label F1", f"{figures.micro.f1:.4f}", f"micro; macro {figures.macro.f1:.4f}"),
    ]
    if refusals.rate is not None:
        tiles.append(("Correct refusals", _percent(refusals.rate), f"{refusals.correct} of {refusals.negatives}"))
    if found.cost.p50_s is not None and found.cost.p99_s is not None:
        tiles.append(("Time per query", f"{found.cost.p50_s * 1000:.2f} ms", f"p99 {found.cost.p99_s * 1000:.2f} ms"))
    return (
        "<div class=tiles>"
        + "".join(
            f"<div class=tile><span class=soft>{name}</span><b>{value}</b><span class=soft>{note}</span></div>"
            for name, value, note in tiles
        )
        + "</div>"
    )


def _kinds(found: Evaluation) -> str:
    rows = "".join(
        f"<tr><td>{escape(kind)}</td><td class=n>{item.queries}</td><td class=n>{_percent(item.rates.all_found)}</td>"
        f"<td class=n>{_percent(item.rates.hit_rate)}</td><td class=n>{_percent(item.rates.any_found)}</td>"
        f'<td><div class=bar><i style="width:{item.rates.all_found * 100:.1f}%"></i></div></td></tr>'
        for kind, item in found.accuracy.by_kind.items()
    )
    head = "<th>Kind</th><th class=n>Queries</th><th class=n>All found</th><th class=n>Hit rate</th>"
    return f"<table><tr>{head}<th class=n>Any found</th><th></th></tr>{rows}</table>"


def _case(item: Scored, names: Names) -> str:
    record, row = item.record, item.row
    answered = {} if record is None or record.error is not None else record.labels
    missing, extra = difference(row.expected, answered)
    expected = {card: sorted(values) for card, values in row.expected.items()}
    problem = "not answered" if record is None else record.error or ""
    entries = [
        ("expected", _labels(expected, names) or "nothing: to be refused"),
        ("answered", _labels(answered, names) or "nothing"),
        ("missing", _labels(missing, names)),
        ("too much", _labels(extra, names)),
        ("error", escape(problem)),
        ("because", escape(record.explanation) if record else ""),
        ("bench says", escape(row.why)),
    ]
    listed = "".join(
        f"<dt>{name}</dt><dd{' class=bad' * (name in _WRONG)}>{text}</dd>" for name, text in entries if text
    )
    kind = "case part" if item.score.any_found else "case"
    return (
        f"<div class='{kind}'><p class=query>{escape(row.query)}</p>"
        f"<p class=soft>{escape(row.id)}, {escape(row.kind)}, hit rate {item.score.hit_rate:.2f}</p>"
        f"<dl>{listed}</dl></div>"
    )


def _labels(labels: Mapping[str, list[int]], names: Names) -> str:
    return "<br>".join(
        f"{escape(card)}: "
        + ", ".join(f"{value} {escape(names.get((card, value), '(no such label)'))}" for value in values)
        for card, values in labels.items()
    )


def _all(found: Evaluation) -> str:
    rows = "".join(
        f"<tr><td>{escape(item.row.id)}</td><td class=q>{escape(item.row.query)}</td><td>{escape(item.row.kind)}</td>"
        + ("<td class=good>right</td>" if item.score.all_found else f"<td class=bad>{escape(verdict(item))}</td>")
        + "</tr>"
        for item in found.rows
    )
    return f"<table><tr><th>Id</th><th>Query</th><th>Kind</th><th>Verdict</th></tr>{rows}</table>"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"
