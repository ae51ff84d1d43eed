"""`medsegagent segment` on DICOM: the phantom's patient as a CT series, with the phantom's own models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import SECRETS, save, slices
from terminal import typed

from medsegagent.errors import ExitCode
from medsegagent.images.dicom import read_dicom
from medsegagent.phantom import CARDS, MODELS


@pytest.fixture(scope="module")
def study(ct_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The patient's CT, and the same once more as an "arterial" series."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(ct_file)), "LPS")
    turn = np.array(image.GetDirection()).reshape(3, 3)
    where = np.array([image.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(image.GetDepth())])
    voxels = sitk.GetArrayFromImage(image).round().astype(np.int16)
    spacing = image.GetSpacing()[1], image.GetSpacing()[0]
    folder = tmp_path_factory.mktemp("study")
    for number, text in ((3, "venous"), (4, "arterial")):
        case = slices(voxels, (*turn[:, 0], *turn[:, 1]), where, spacing, number=number, description=text)
        save(case, folder / text)
    return folder


def test_dicom_in_dicom_seg_out_and_no_secret_in_any_other_file(
    segment_phantom: Callable[..., Any], study: Path, tmp_path: Path
) -> None:
    answer = segment_phantom("Segment the liver in this CT", study, "--series", "venous", "--format", "dicom-seg", "-v")
    assert answer.code == ExitCode.OK, answer.err
    assert (tmp_path / "out" / "segmentation_seg.dcm").is_file()
    texts = [answer.out, answer.err]
    for file in (tmp_path / "out").rglob("*"):
        if file.suffix in (".json", ".jsonl", ".html", ".csv", ".txt"):
            texts.append(re.sub(r"base64,[\w+/=]+", "", file.read_text("utf-8")))  # pictures may spell anything
    assert not [secret for secret in SECRETS if any(secret in text for text in texts)]


def test_two_series_that_could_be_meant_are_a_question(segment_phantom: Callable[..., Any], study: Path) -> None:
    answer = segment_phantom("Segment the liver in this CT", study)
    assert answer.code == ExitCode.ANSWER_NEEDED
    assert "series 3: CT, venous" in answer.err
    assert "--series" in answer.err


def test_in_a_terminal_the_series_is_asked_for(study: Path, tmp_path: Path) -> None:
    given = ["--library", str(CARDS), "--models-dir", str(MODELS), "-o", str(tmp_path / "out"), "--device", "cpu"]
    command = [sys.executable, "-m", "medsegagent", "segment", "liver in this CT", "-i", str(study), *given]
    with typed("7\n4\n") as terminal:  # no such series, then the arterial one
        done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "Which series?" in done.stderr
    assert "venous" in done.stderr
    structures = json.loads((tmp_path / "out" / "run.json").read_text())["structures"]
    assert [item["name"] for item in structures] == ["liver"]
    (read,) = json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]
    assert read["sha256"] == read_dicom(study, series="4").sha256


def test_dicom_out_without_dicom_in_is_refused_before_any_model_runs(
    segment_phantom: Callable[..., Any], ct_file: Path, tmp_path: Path
) -> None:
    answer = segment_phantom("Segment the liver", ct_file, "--format", "rtstruct")
    assert answer.code == ExitCode.BAD_INPUT
    assert "DICOM series" in answer.err
    assert not (tmp_path / "out").exists()
