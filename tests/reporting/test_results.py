from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from phantoms import GRID, predictions, segmentation, volume

from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.boxed import Boxed
from medsegagent.reporting.results import paragraph, write_results
from medsegagent.reporting.statistics import structure_statistics


def test_all_files_are_named_and_the_statistics_are_plain_json_and_csv(tmp_path: Path) -> None:
    measured = structure_statistics(segmentation(), [volume()], predictions())
    write_results(
        tmp_path,
        segmentation(),
        [volume()],
        predictions(),
        measured,
        instruction="liver",
        separate=False,
        keep_predictions=True,
    )
    for name in ("statistics.csv", "preview.png", "segmentation.nii.gz", "predictions/org__first/liver.nii.gz"):
        assert (tmp_path / name).stat().st_size > 0
    figures = json.loads((tmp_path / "statistics.json").read_text())
    assert figures["liver"]["fused"]["volume_ml"] == 2.52
    assert figures["tumor.liver"]["agreement"] is None


def test_the_paragraph_says_what_was_found_who_disagrees_and_what_nothing_checks() -> None:
    words = paragraph(segmentation(), ["one"])
    assert "liver 2.5 mL" in words
    assert "Only one model gave liver tumour" in words
    assert "1 warning(s)" in words
    assert "Research use only" in words


def test_the_paragraph_does_not_say_found_of_what_was_not() -> None:
    empty = tuple(replace(item, where=Boxed.of(item.mask & False)) for item in segmentation().structures)
    words = paragraph(Segmentation(GRID, empty), [])
    assert "Found" not in words
    assert "Not found by the models that ran: liver" in words
