"""`medsegagent segment` on what users and archives really have."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import slices

from medsegagent.errors import ExitCode
from medsegagent.phantom import CARDS, MODELS

IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "PatientID")


@pytest.fixture
def emptied(ct_file: Path, tmp_path: Path) -> Path:
    """The phantom's CT as a de-identified series, stored without its intercept."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(ct_file)), "LPS")
    turn = np.array(image.GetDirection()).reshape(3, 3)
    where = np.array([image.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(image.GetDepth())])
    voxels = np.clip(sitk.GetArrayFromImage(image).round() + 1024, 0, 4095).astype(np.int16)
    spacing = image.GetSpacing()[1], image.GetSpacing()[0]
    folder = tmp_path / "series"
    folder.mkdir()
    for number, dataset in enumerate(slices(voxels, (*turn[:, 0], *turn[:, 1]), where, spacing)):
        for keyword in IDENTIFIERS:
            setattr(dataset, keyword, None)
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.save_as(folder / f"{number}", enforce_file_format=False)
    return folder


def test_a_de_identified_series_without_its_intercept_is_read_and_what_to_add_is_said(
    segment_phantom: Callable[..., Any], emptied: Path, tmp_path: Path
) -> None:
    answer = segment_phantom("Segment the liver in this CT", emptied)
    assert answer.code == ExitCode.OK, answer.err
    record = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    assert any("subtract 1024" in warning for warning in record["warnings"])
    assert "subtract 1024" in answer.err


def test_a_dicom_result_that_could_refer_to_nothing_is_refused_before_any_work(
    segment_phantom: Callable[..., Any], emptied: Path, tmp_path: Path
) -> None:
    answer = segment_phantom("Segment the liver in this CT", emptied, "--format", "rtstruct")
    assert answer.code == ExitCode.BAD_INPUT
    assert "to which a DICOM result must refer" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_file_whose_name_is_not_utf_8_is_segmented(
    segment_phantom: Callable[..., Any], ct_file: Path, tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9\x1b[2J.nii.gz")
    shutil.copy(ct_file, odd)
    answer = segment_phantom("Segment the liver in this CT", odd)
    assert answer.code == ExitCode.OK, answer.err
    assert "\x1b[2J" not in answer.out + answer.err
    assert json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["inputs"][0]["file"].startswith("caf")
    assert "\x1b" not in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_of_several_cases_an_odd_name_is_done_and_a_pipe_fails_alone(
    cli: Callable[..., Any], ct_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    shutil.copy(ct_file, folder / os.fsdecode(b"caf\xe9.nii.gz"))
    os.mkfifo(folder / "pipe.nii.gz")
    given = ("--library", CARDS, "--models-dir", MODELS, "-o", tmp_path / "out", "--device", "cpu", "--no-input")
    answer = cli("segment", "Segment the liver in this CT", "--cases", folder, *given)
    assert answer.code == ExitCode.CASES_FAILED, answer.err
    assert (tmp_path / "out" / "caf_" / "segmentation.nii.gz").is_file()
    assert "no regular file" in answer.out + answer.err
