"""`medsegagent inspect` and `medsegagent convert`, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from dicom_builder import SECRETS, ball, header, save, set_pixels, slices

from medsegagent.errors import ExitCode


def study(folder: Path) -> Path:
    """Two series, a scout of one slice, a slice missing, and a NIfTI beside them."""
    case = slices(ball((20, 24, 20)), number=3)
    del case[9]
    save(case, folder / "ct")
    save(slices(ball((8, 6, 6)), number=4, description="AX T2 FLAIR", modality="MR"), folder / "mr")
    scout = header(number=1, description="Scout")
    set_pixels(scout, ball()[0])
    save([scout], folder / "scout")
    sitk.WriteImage(sitk.GetImageFromArray(ball()), str(folder / "prior.nii.gz"))
    return folder


def test_inspect_says_what_there_is_and_nothing_about_the_patient(cli: Callable[..., Any], tmp_path: Path) -> None:
    answer = cli("inspect", study(tmp_path / "study"))
    assert answer.code == ExitCode.OK
    assert "AX T2 FLAIR" in answer.out
    assert "20x24x20" in answer.out
    assert "series 3: missing slices were interpolated from their neighbours (number 10)" in answer.err
    assert "series 1 cannot be used" in answer.err
    assert not [secret for secret in SECRETS if secret in answer.out + answer.err]


def test_inspect_for_machines_is_json_and_nothing_else(cli: Callable[..., Any], tmp_path: Path) -> None:
    answer = cli("inspect", study(tmp_path / "study"), "--json")
    found = {item["name"]: item for item in json.loads(answer.out)["findings"]}
    assert set(found) == {"series 1", "series 3", "series 4", "prior.nii.gz"}
    assert found["series 4"]["modality"] == "MR"
    assert found["series 4"]["channel"] == "FLAIR"
    assert found["series 4"]["confidence"] == 1
    assert found["prior.nii.gz"]["confidence"] < 1
    assert found["series 3"]["spacing_mm"] == [0.7, 0.8, 2.5]
    assert found["series 3"]["low"] == ball((20, 24, 20)).min()
    assert found["series 1"]["problem"]


def test_inspect_of_nothing_is_bad_input(cli: Callable[..., Any], tmp_path: Path) -> None:
    assert cli("inspect", tmp_path / "none").code == ExitCode.BAD_INPUT
    (tmp_path / "notes.txt").write_text("x")
    answer = cli("inspect", tmp_path)
    assert answer.code == ExitCode.BAD_INPUT
    assert "no image" in answer.err


def test_inspect_of_what_cannot_be_used_fails_and_says_what_to_give(cli: Callable[..., Any], tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    folder = save(slices(ball()), tmp_path / "ct", lambda i: f"{i}.dcm")
    for path, words in (
        (bad, "not a NIfTI image"),
        (folder / "3.dcm", f"give the folder that holds the series: {folder}"),
    ):
        for more in ([], ["--json"]):
            answer = cli("inspect", path, *more)
            assert answer.code == ExitCode.BAD_INPUT
            assert words in answer.out + answer.err
    assert cli("inspect", folder).code == ExitCode.OK


def test_inspect_reads_a_series_without_identifiers(cli: Callable[..., Any], tmp_path: Path) -> None:
    case = slices(ball())
    for dataset in case:
        dataset.SOPClassUID = dataset.SOPInstanceUID = dataset.SeriesInstanceUID = dataset.StudyInstanceUID = None
        dataset.SeriesNumber = None
    (tmp_path / "ct").mkdir()
    for number, dataset in enumerate(case):
        dataset.save_as(tmp_path / "ct" / str(number), enforce_file_format=False)
    answer = cli("inspect", tmp_path / "ct", "--json")
    assert answer.code == ExitCode.OK
    assert [item["size"] for item in json.loads(answer.out)["findings"]] == [[20, 24, 12]]
    sitk.WriteImage(sitk.GetImageFromArray((ball() > 0).astype(np.uint8)), str(tmp_path / "liver.nii.gz"))
    answer = cli(
        *("convert", tmp_path / "liver.nii.gz", "--to", "dicom-seg"),
        "--reference",
        tmp_path / "ct",
        "-o",
        tmp_path / "o",
    )
    assert answer.code == ExitCode.BAD_INPUT
    assert "to which a DICOM result must refer" in answer.err
    answer = cli(
        *("convert", tmp_path / "liver.nii.gz", "--to", "nifti"), "--reference", tmp_path / "ct", "-o", tmp_path / "n"
    )
    assert answer.code == ExitCode.BAD_INPUT  # the mask was made without a place, so it lies elsewhere
    assert "no place in common" in answer.err


def test_convert_writes_each_format_asked_for_and_names_the_files(cli: Callable[..., Any], tmp_path: Path) -> None:
    source = save(slices(ball()), tmp_path / "ct")
    image = sitk.GetImageFromArray((ball() > 0).astype(np.uint8))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-80, -120, 300))
    sitk.WriteImage(image, str(tmp_path / "liver.nii.gz"))
    formats = [part for name in ("nrrd", "dicom-seg", "rtstruct", "stl") for part in ("--to", name)]
    answer = cli("convert", tmp_path / "liver.nii.gz", *formats, "--reference", source, "-o", tmp_path / "out")
    assert answer.code == ExitCode.OK
    listed = {Path(line) for line in answer.out.splitlines()}
    assert listed == {file for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert len(listed) == 4


def test_convert_to_dicom_without_a_series_says_what_is_missing(cli: Callable[..., Any], tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray((ball() > 0).astype(np.uint8)), str(tmp_path / "liver.nii.gz"))
    answer = cli("convert", tmp_path / "liver.nii.gz", "--to", "dicom-seg", "-o", tmp_path / "out")
    assert answer.code == ExitCode.BAD_INPUT
    assert "--reference" in answer.err
    assert not (tmp_path / "out").exists()
    assert cli("convert", tmp_path / "liver.nii.gz", "--to", "gif", "-o", tmp_path / "out").code == ExitCode.USAGE
