"""Our label maps against nnU-Net's own command on the same image and model folder, voxel by voxel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from tiny_models import REGIONS, make_volume, write_image, write_model

from medsegagent.engines.nnunet.label_map import label
from medsegagent.engines.nnunet.network import load_network
from medsegagent.engines.nnunet.prepare import prepare
from medsegagent.images.volume import Volume
from medsegagent.models.installed import NnunetFolder

OBLIQUE = (0.0, 0.936293363584199, 0.350823187, -1.0, 0.0, 0.0, 0.0, -0.350823187, 0.936293363584199)
FLIPPED = (-1, 0, 0, 0, -1, 0, 0, 0, 1)


def nnunet_command(folder: Path, volumes: Sequence[Volume], work: Path, *options: str) -> np.ndarray:
    """Run `nnUNetv2_predict_from_modelfolder` on CPU; the labels it wrote."""
    (work / "in").mkdir()
    for index, volume in enumerate(volumes):
        write_image(volume, work / "in" / f"case_{index:04d}.nii.gz")
    command = str(Path(sys.executable).with_name("nnUNetv2_predict_from_modelfolder"))
    folders = ("-i", str(work / "in"), "-o", str(work / "out"), "-m", str(folder), "-device", "cpu")
    workers = ("-npp", "1", "-nps", "1", "--disable_progress_bar", *options)
    subprocess.run([command, *folders, *workers], check=True, capture_output=True, timeout=300)
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(work / "out" / "case.nii.gz")))


def ours(
    folder: Path, volumes: Sequence[Volume], folds: tuple[int, ...] = (0,), *, reorient: bool = False, **options: Any
) -> np.ndarray:
    part = NnunetFolder(folder=folder, folds=folds, checkpoint="checkpoint_final.pth", labels={})
    trained = load_network(part)
    return label(trained, prepare(trained, volumes, reorient=reorient), "cpu", **options).labels


def as_read_back(volume: Volume, work: Path) -> Volume:
    """The volume with the grid that SimpleITK reads from the file: NIfTI keeps spacing in single precision."""
    write_image(volume, work / "image.nii.gz")
    image = SimpleITK.ReadImage(str(work / "image.nii.gz"))
    grid = type(volume.grid)(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return type(volume)(volume.array, grid, volume.channel, volume.path, volume.sha256, volume.evidence)


def assert_same_and_telling(own: np.ndarray, reference: np.ndarray, labels: int) -> None:
    assert own.shape == reference.shape
    assert len(np.unique(reference)) == labels, "the toy model's labels must all occur, or the test shows little"
    assert int((own != reference).sum()) == 0


def test_plain_labels_of_two_mirrored_folds_are_nnunets_own(tmp_path: Path) -> None:
    folder = write_model(tmp_path, folds=(0, 1))
    volume = as_read_back(make_volume(), tmp_path)
    reference = nnunet_command(folder, [volume], tmp_path, "-f", "0", "1")
    assert_same_and_telling(ours(folder, [volume], (0, 1)), reference, labels=4)


def test_regions_transposed_axes_and_thick_slices_are_nnunets_own(tmp_path: Path) -> None:
    folder = write_model(tmp_path, REGIONS, transpose=(2, 0, 1), spacing=(6.0, 1.5, 1.8), patch=(8, 16, 16))
    volume = as_read_back(make_volume((31, 33, 18), (7.0, 1.2, 1.3)), tmp_path)
    reference = nnunet_command(folder, [volume], tmp_path, "-f", "0", "-step_size", "0.8")
    assert_same_and_telling(ours(folder, [volume], tile_step=0.8), reference, labels=3)


def test_a_2d_two_channel_model_without_mirroring_is_nnunets_own(tmp_path: Path) -> None:
    folder = write_model(tmp_path, configuration="2d", channels=("CT", "PET"), spacing=(2.0, 2.0), patch=(16, 24))
    volumes = [as_read_back(make_volume((37, 32, 7), seed=seed), tmp_path) for seed in (1, 2)]
    reference = nnunet_command(folder, volumes, tmp_path, "-f", "0", "--disable_tta")
    assert_same_and_telling(ours(folder, volumes, mirror=False), reference, labels=4)


@pytest.mark.parametrize("reader", ["SimpleITKIOWithReorient", "NibabelIOWithReorient"])
def test_readers_that_reorient_are_followed_on_an_oblique_scan_and_back(tmp_path: Path, reader: str) -> None:
    folder = write_model(tmp_path, reader=reader, mirror_axes=None)
    volume = as_read_back(make_volume(direction=OBLIQUE), tmp_path)
    reference = nnunet_command(folder, [volume], tmp_path, "-f", "0")
    assert_same_and_telling(ours(folder, [volume]), reference, labels=4)


def test_a_model_that_wants_ras_gives_the_same_anatomy_however_the_scan_is_stored(tmp_path: Path) -> None:
    folder = write_model(tmp_path, mirror_axes=None)
    stored_ras = make_volume(direction=FLIPPED)
    stored_lps = make_volume()
    stored_lps = type(stored_lps)(
        np.ascontiguousarray(stored_ras.array[:, ::-1, ::-1]),
        stored_lps.grid,
        "",
        stored_lps.path,
        "",
        stored_lps.evidence,
    )
    expected = ours(folder, [stored_ras])
    assert len(np.unique(expected)) == 4
    assert np.array_equal(ours(folder, [stored_ras], reorient=True), expected)
    assert np.array_equal(ours(folder, [stored_lps], reorient=True), expected[:, ::-1, ::-1])
    assert not np.array_equal(ours(folder, [stored_lps]), expected[:, ::-1, ::-1])
