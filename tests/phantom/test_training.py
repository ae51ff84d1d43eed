"""Training in small: a few iterations by nnU-Net's own code leave a model that can be run, and nothing else changed."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from medsegagent.engines.nnunet.label_map import label
from medsegagent.engines.nnunet.network import load_network
from medsegagent.engines.nnunet.prepare import prepare
from medsegagent.images.volume import ModalityEvidence, Volume
from medsegagent.models.installed import NnunetFolder
from medsegagent.phantom.train import CT_TUMOUR, cases_of
from medsegagent.phantom.training import train


def test_labels_are_written_from_containing_to_contained() -> None:
    case = next(cases_of(CT_TUMOUR))
    assert set(np.unique(case.labels)) == set(range(10))
    liver, tumour = (case.labels == 1).sum(), (case.labels == 2).sum()
    assert liver > tumour > 0


def test_a_few_iterations_give_a_model_and_leave_the_environment_alone(tmp_path: Path) -> None:
    before = dict(os.environ)
    recipe = replace(CT_TUMOUR, iterations=1, patch=(32, 32, 32), features=(4, 8, 8), spacing=(8.0, 8.0, 8.0))
    cases = list(islice(cases_of(recipe), 2))
    folder = train(recipe, cases, tmp_path)
    assert dict(os.environ) == before
    part = NnunetFolder(folder=folder, folds=("all",), checkpoint="checkpoint_final.pth", labels={})
    volume = Volume(
        array=cases[0].image.astype(np.float32),
        grid=cases[0].grid,
        channel="",
        path=Path("case"),
        sha256="",
        evidence=ModalityEvidence("CT", 1.0, ""),
    )
    network = load_network(part)
    values = label(network, prepare(network, [volume], reorient=True), "cpu").labels
    assert values.shape == cases[0].labels.shape
    assert values.max() <= 9
