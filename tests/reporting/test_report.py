from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from phantoms import predictions, segmentation, volume

from medsegagent.matching.selection import Dropped
from medsegagent.reporting.html import Figure, Raw, table, tag
from medsegagent.reporting.record import RunRecord
from medsegagent.reporting.report import write_report
from medsegagent.reporting.statistics import structure_statistics

INSTRUCTION = "liver & its tumour, <script>alert(1)</script> both kidneys on CT, no flurb"


def span(words: str) -> dict[str, Any]:
    start = INSTRUCTION.index(words)
    return {"start": start, "end": start + len(words), "text": words}


def record(**changes: Any) -> RunRecord:
    targets = [
        {"id": name, "name": name, "concepts": ["liver"], "spans": [span(name)]}
        for name in ("liver", "tumour", "both kidneys")
    ]
    modality = {"families": ["CT"], "combined": False, "subtypes": ["contrast"], "spans": [span("CT")]}
    models = [
        {
            "model": {"id": item.model, "card": item.card, "parts": [], "channels": [], "voter": item.model},
            "inputs": [],
            "rank": item.rank,
            "weight": item.weight,
            "targets": [{"target": name, "whole": []} for name in item.masks],
            "reason": "finer resolution",
        }
        for item in predictions()
    ]
    fields = {
        "asked": {"instruction": INSTRUCTION},
        "selection": [],
        "structures": [],
        "failed": [],
        "created": "2026-11-22T17:00:00+00:00",
        "versions": {"medsegagent": "0.1.0", "torch": "2.8"},
        "inputs": [
            {
                "channel": "",
                "file": "scan.nii.gz",
                "sha256": "ab" * 32,
                "size": (20, 16, 12),
                "spacing_mm": (1.0, 2.0, 5.0),
                "modality": "CT",
                "modality_reason": "air",
            }
        ],
        "request": {
            "instruction": INSTRUCTION,
            "targets": targets,
            "exclusions": [],
            "modality": modality,
            "unresolved": [{"span": span("flurb"), "suggestions": []}],
        },
        "plan": {
            "device": "cpu",
            "device_reason": "no GPU",
            "models": models,
            "skipped": [{"card": "AMOS", "model": "", "reason": "not installed"}],
        },
        "warnings": ["org/second: fold 3 is truncated <sic>"],
        "seconds": {"total": 12.3},
    }
    return RunRecord.model_validate(fields | changes)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    figures = structure_statistics(segmentation(), [volume()], predictions())
    dropped = [Dropped(card="BraTS", stage="modality", reason="it takes MR only")]
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, record(), segmentation(), volume(), figures, dropped)
    return path.read_text("utf-8")


class Outline(HTMLParser):
    """Checks that elements nest, and collects what a reader and a browser would get."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.unseen_pictures = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[key] or "" for key in ("src", "href") if key in given]
        self.unseen_pictures += tag == "img" and not given.get("alt")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def test_the_page_is_whole_and_needs_nothing_from_outside(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert "script" not in outline.tags
    assert all(address.startswith("data:image/jpeg;base64,") for address in outline.addresses)
    assert not re.search(r"url\(|@import|https?://", page)


def test_every_picture_has_words_for_those_who_cannot_see_it(page: str) -> None:
    outline = Outline(page)
    assert outline.tags.count("img") >= 3 + 4 * 3
    assert outline.unseen_pictures == 0


def test_the_instruction_is_shown_as_written_with_its_words_marked(page: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert '<mark class="target" title="target">both kidneys</mark>' in page
    assert '<mark class="modality" title="modality">CT</mark>' in page
    assert '<mark class="unresolved" title="unresolved">flurb</mark>' in page


def test_warnings_come_before_figures_and_all_reasons_are_there(page: str) -> None:
    words = "".join(Outline(page).words)
    assert words.index("fold 3 is truncated <sic>") < words.index("Measurements")
    for reason in ("not installed", "it takes MR only", "finer resolution", "Research use only", "no GPU"):
        assert reason in words


def test_each_structure_is_measured_and_the_agreement_of_its_models_shown(page: str) -> None:
    liver = page[page.index("</span>liver</h3>") : page.index("</span>liver tumour</h3>")]
    assert "Dice between the models" in liver
    assert liver.count("0.83") >= 2
    assert "the models&#x27; votes for liver" in liver
    tumour = page[page.index("</span>liver tumour</h3>") : page.index("</span>left kidney</h3>")]
    assert "Dice between the models" not in tumour


def test_sides_are_compared_where_there_are_two(page: str) -> None:
    assert page.count("1.00 × (+0.0 mL)") == 2


def test_a_command_in_a_warning_is_set_as_one(tmp_path: Path) -> None:
    given = record(warnings=["`medsegagent models install x` gets <it>."])
    figures = structure_statistics(segmentation(), [volume()], predictions())
    write_report(tmp_path / "report.html", given, segmentation(), volume(), figures)
    assert "<code>medsegagent models install x</code> gets &lt;it&gt;." in (tmp_path / "report.html").read_text()


def test_a_run_without_warnings_shows_no_box_for_them(tmp_path: Path) -> None:
    figures = structure_statistics(segmentation(), [volume()], predictions())
    write_report(tmp_path / "report.html", record(warnings=[]), segmentation(), volume(), figures)
    assert 'class="warnings"' not in (tmp_path / "report.html").read_text("utf-8")


class TestHtml:
    def test_text_is_escaped_and_markup_is_not(self) -> None:
        assert tag("p", "<&>", Raw("<br>"), class_='"x') == '<p class="&quot;x">&lt;&amp;&gt;<br></p>'

    def test_columns_of_numbers_are_set_to_the_right(self) -> None:
        html = table(["a", "b", "c"], [["x", 1, "no"], ["y", None, 2], ["z", Figure("1 ± 2"), None]])
        assert html.count('<td class="number">') == 3
        assert html.count('<th scope="col" class="number">') == 1
