"""What `-i` makes of its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsegagent.cli.one_case import image_arguments
from medsegagent.errors import UsageError


def test_several_files_are_named_by_what_their_names_end_with_and_that_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    images = image_arguments(["sub-01_T1w.nii.gz", "sub-01_ce-gadolinium_T1w.nii.gz", "T2=other.nii.gz"])
    assert images == {
        "T1": Path("sub-01_T1w.nii.gz"),
        "T1ce": Path("sub-01_ce-gadolinium_T1w.nii.gz"),
        "T2": Path("other.nii.gz"),
    }
    assert "T1ce: sub-01_ce-gadolinium_T1w.nii.gz" in capfd.readouterr().err


def test_a_single_file_needs_no_name() -> None:
    assert image_arguments(["sub-01_T1w.nii.gz"]) == {"": Path("sub-01_T1w.nii.gz")}


@pytest.mark.parametrize("files", [["a.nii.gz", "b.nii.gz"], ["a_T1w.nii.gz", "b_T1w.nii.gz"]])
def test_files_that_cannot_be_told_apart_are_refused(files: list[str]) -> None:
    with pytest.raises(UsageError, match="Give each its channel"):
        image_arguments(files)
